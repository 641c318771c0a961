//! What became of the work, noted in the state.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use flotilla_core::guard;
use flotilla_core::plan::{Access, Claim, Target, UnitPlan};
use flotilla_core::report::{Finding, Kept};
use flotilla_core::{ObjectId, UnitId};
use flotilla_runtime::chain;
use tokio::time::Instant;

use super::{Coordinator, Outcome, RBAC, Work, reporter};
use crate::cluster::request::Failure;
use crate::sync::RELEASED;
use crate::sync::apply::ApplyOutcome;
use crate::sync::failure::FailureReason;
use crate::sync::prune::PruneOutcome;
use crate::sync::unit_state::Asked;

impl Coordinator {
    pub(super) fn finish(&mut self, outcome: Outcome) {
        let Outcome { unit, plan, started, mut result } = outcome;
        self.running.remove(&unit);
        self.dirty.insert(unit.clone());
        if let (Work::Apply(done), Some(back)) = (&mut result, self.back_since)
            && started < back
        {
            // It began before the API server was back, so it is tried again at once: only that says how the server is now.
            done.away = None;
        }
        match result {
            Work::Apply(done) => self.finish_apply(&unit, &plan, done),
            Work::Prune(done) => self.finish_prune(&unit, done),
            Work::Access(claims, answer) => self.finish_access(&unit, claims, answer),
        }
        self.released(&unit);
    }

    pub(super) fn finish_apply(&mut self, unit: &UnitId, plan: &UnitPlan, done: ApplyOutcome) {
        let spec = match &plan.target {
            Target::Desired(manifest) | Target::Last(manifest, _) => Some(&manifest.spec),
            _ => None,
        };
        if done.last_applied.iter().any(|(id, _)| id.group == RBAC) {
            self.rights_changed();
        }
        let applied_ids: HashSet<ObjectId> = done.last_applied.iter().map(|(id, _)| id.clone()).collect();
        for (id, last_applied) in done.last_applied {
            // Others may share it and wait for this.
            self.dirty.extend(self.state.by_object.get(&id).into_iter().flatten().cloned());
            self.state.note_applied(unit, id, last_applied);
        }
        self.note_ends(&applied_ids);
        match &done.away {
            Some(why) => self.is_away(why),
            None if !applied_ids.is_empty() || !done.failed.is_empty() => self.is_back(),
            None => {}
        }
        self.drop_relinquished(&plan.apply);
        let failed: BTreeMap<_, _> = done.failed.into_iter().collect();
        // Who waited for them to move there waits no longer.
        let forbidden = failed.iter().filter(|(_, failed)| failed.reason == FailureReason::Forbidden);
        for (id, _) in forbidden {
            let owners = self
                .state
                .tools
                .inventory
                .view(|inventory| inventory.owners(id).cloned().collect::<Vec<_>>());
            self.dirty.extend(owners.into_iter().filter(|owner| owner != unit));
        }
        let state = self.state.units.entry(unit.clone()).or_default();
        state.corrected += done.corrected.len() as u64;
        let fights: Vec<_> = done
            .corrected
            .iter()
            .filter_map(|drift| Some((drift.object.clone(), state.fights.corrected(drift)?)))
            .collect();
        if let Some(found) = done.inspected {
            state.drift = found;
        }
        let news: Vec<Finding> = failed
            .iter()
            .filter(|(id, failed)| !state.has_failed_so(id, &failed.finding))
            .map(|(_, failed)| failed.finding.clone())
            .take(20)
            .collect();
        state.withheld = done.withheld;
        state.failed(failed, done.blocked, done.away, spec.and_then(|spec| spec.retry_interval));
        for drift in done.corrected {
            let message = match drift.fields.as_slice() {
                [] => "was deleted and is back".to_owned(),
                fields => fields.iter().take(5).map(reporter::describe).collect::<Vec<_>>().join("; "),
            };
            self.reporter.event(&self.state, unit, Some(drift.object), false, "DriftCorrected", message);
        }
        for finding in news {
            self.reporter.event(
                &self.state,
                unit,
                Some(finding.object),
                true,
                &finding.reason,
                finding.message,
            );
        }
        for (id, words) in fights {
            self.reporter.event(&self.state, unit, Some(id), true, "Fought", words);
        }
        for (id, conflicts) in done.conflicts {
            let taken: Vec<String> = conflicts
                .iter()
                .take(5)
                .map(|conflict| format!("{} was set by {}", conflict.field, conflict.manager))
                .collect();
            let more = conflicts.len() - taken.len();
            let and = if more > 0 { format!(" and {more} more") } else { String::new() };
            let message = format!("{}{and}, and is as in Git now", taken.join(", "));
            self.reporter.event(&self.state, unit, Some(id), true, "Conflict", message);
        }
        if done.defined {
            for (id, state) in
                self.state.units.iter_mut().filter(|(id, state)| *id != unit && state.has_failed())
            {
                state.reset();
                self.dirty.insert(id.clone());
            }
        }
        self.store(unit);
    }

    fn is_away(&mut self, why: &str) {
        if !std::mem::replace(&mut self.away, true) {
            self.shared.away.send_replace(Some(why.to_owned()));
            let message = format!("{why}; nothing is changed until it answers again");
            self.reporter.event(&self.state, &UnitId::root(), None, true, "ClusterAway", message);
        }
    }

    /// The API server answers: whoever waited for it goes on at once.
    pub(super) fn is_back(&mut self) {
        if !std::mem::take(&mut self.away) {
            return;
        }
        self.back_since = Some(Instant::now());
        self.shared.away.send_replace(None);
        self.reporter.event(
            &self.state,
            &UnitId::root(),
            None,
            false,
            "ClusterBack",
            "the API server answers again".into(),
        );
        for (id, state) in self.state.units.iter_mut().filter(|(_, state)| state.away.is_some()) {
            state.reset();
            self.dirty.insert(id.clone());
        }
    }

    /// Any answer is asked for again after a while, as RBAC tells nobody that it changed. A question that failed has none:
    /// that is neither a yes nor a no.
    fn finish_access(&mut self, unit: &UnitId, claims: Vec<Claim>, answer: Result<Access, Failure>) {
        let (access, pause) = match answer {
            Ok(Access::Denied(why)) => (Access::Denied(why), 30),
            Ok(access) => (access, 300),
            Err(failure) => {
                tracing::warn!(%unit, error = chain(&failure), "cannot ask what its account may create");
                (Access::Unknown, 5)
            }
        };
        let again = Some(Instant::now() + Duration::from_secs(pause));
        self.state.units.entry(unit.clone()).or_default().access = Some(Asked { claims, access, again });
    }

    /// Roles or their bindings changed: what accounts may do is asked again, once the API server has noticed too.
    pub(super) fn rights_changed(&mut self) {
        let soon = Instant::now() + Duration::from_secs(1);
        for asked in self.state.units.values_mut().filter_map(|state| state.access.as_mut()) {
            asked.again = asked.again.map(|again| again.min(soon));
        }
    }

    pub(super) fn finish_prune(&mut self, unit: &UnitId, done: PruneOutcome) {
        self.learn_approvals(&done.asked);
        self.close_approvals(unit, &done.left);
        if done.deleted.iter().any(|id| id.group == RBAC) {
            self.rights_changed();
        }
        for id in done.deleted {
            self.reporter.event(
                &self.state,
                unit,
                Some(id),
                false,
                "Pruned",
                "deleted, because no unit names it any more".into(),
            );
        }
        for (id, why) in done.forgotten {
            let reason = if why == guard::GONE { "Gone" } else { RELEASED };
            self.reporter.event(&self.state, unit, Some(id), false, reason, why);
        }
        let state = self.state.units.entry(unit.clone()).or_default();
        let known: HashSet<_> = state.kept.iter().map(|kept| (&kept.object, kept.approval)).collect();
        let mut news: BTreeMap<_, Vec<Kept>> = BTreeMap::new();
        for kept in done.kept.iter().filter(|kept| !known.contains(&(&kept.object, kept.approval))) {
            news.entry(kept.approval).or_default().push(kept.clone());
        }
        let pause = if done.findings.is_empty() { Duration::from_secs(600) } else { Duration::from_secs(5) };
        if !done.findings.is_empty() || !done.kept.is_empty() {
            state.next_prune_at = Some(Instant::now() + pause);
        }
        state.kept = done.kept;
        state.asked = done.asked;
        state.prune_findings = done.findings;
        for kept in news.into_values() {
            self.reporter.kept(&self.state, unit, kept);
        }
    }

    /// Tells how a unit is.
    pub(super) fn report(&mut self, plan: &UnitPlan, running: bool) {
        if self.reporter.report(&mut self.state, plan, running) {
            self.store(&plan.unit);
        }
    }
}
