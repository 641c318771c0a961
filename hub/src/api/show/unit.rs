//! One unit: what Git, the hub and the agent have of it.

use std::collections::BTreeSet;
use std::sync::Arc;

use flotilla_api::{self as api, Unit};
use flotilla_core::report::{Drift, Kept, Phase, UnitReport};
use flotilla_core::{ClusterName, UnitEntry, UnitId, UnitManifest};

use super::{Known, UNKNOWN, suspension};
use crate::view::UnitFacts;

/// What a summary needs of a unit; most need no more.
pub(in crate::api) struct Glance {
    pub(in crate::api) phase: &'static str,
    pub(super) objects: u32,
    pub(super) kept: usize,
    is_suspended: bool,
    is_wrong: bool,
}

impl Glance {
    pub(in crate::api) fn of(id: &UnitId, known: &Known) -> Self {
        let found = Found::of(id, known);
        let problems = found.facts.map(|facts| &facts.problems[..]);
        Self {
            phase: found.shown_phase(phase(found.entry, found.report, problems).0, known),
            objects: found.objects(),
            kept: found.report.map_or(0, |report| report.kept.len()),
            is_suspended: known.suspensions.of(id).is_some(),
            is_wrong: problems.unwrap_or_default().iter().any(|problem| !problem.notice),
        }
    }

    /// Whether [`super::super::attention`] may have something to say of it.
    pub(super) fn is_noteworthy(&self) -> bool {
        let phases = [Phase::Held, Phase::Failed, Phase::Suspended].map(Phase::as_str);
        self.kept > 0 || self.is_suspended || self.is_wrong || phases.contains(&self.phase)
    }

    /// A removal of which everything is kept waits for an approval, and the agent for nothing else.
    pub(super) fn is_kept_whole(&self) -> bool {
        let told = (self.objects as usize).min(UnitReport::MAX_DETAILS);
        self.phase == Phase::Removing.as_str() && told > 0 && self.kept == told
    }

    pub(super) fn is_settled(&self) -> bool {
        self.phase == Phase::Ready.as_str() || self.phase == Phase::Suspended.as_str() || self.is_kept_whole()
    }
}

/// What the unit is to be, where it is present.
pub(in crate::api) fn manifest<'a>(id: &UnitId, known: &'a Known) -> Option<&'a UnitManifest> {
    Found::of(id, known).manifest()
}

/// What Git, the hub and the agent have of one unit.
struct Found<'a> {
    facts: Option<&'a UnitFacts>,
    entry: Option<&'a UnitEntry>,
    report: Option<&'a UnitReport>,
}

impl<'a> Found<'a> {
    fn of(id: &UnitId, known: &'a Known) -> Self {
        Self {
            facts: known.facts.as_ref().and_then(|facts| facts.units.get(id)),
            entry: known.published.as_ref().and_then(|published| published.state.units().get(id)),
            report: known.view.as_ref().and_then(|view| view.units.get(id)).map(Arc::as_ref),
        }
    }

    fn manifest(&self) -> Option<&'a UnitManifest> {
        match self.entry {
            Some(UnitEntry::Present(manifest)) => Some(manifest),
            _ => None,
        }
    }

    fn objects(&self) -> u32 {
        let reported = || self.report.map_or(0, |report| report.objects);
        self.manifest().map_or_else(reported, |manifest| manifest.objects.len() as u32)
    }

    /// What the hub says itself, it says whether the agent is there or not.
    fn shown_phase(&self, phase: Phase, known: &Known) -> &'static str {
        let is_agents_word = self.report.is_some() && !matches!(phase, Phase::Held | Phase::Suspended);
        if is_agents_word && !known.is_live() { UNKNOWN } else { phase.as_str() }
    }
}

/// The units of a cluster that who asks may see: those that Git names, that are published, or that the agent has.
pub(in crate::api) fn unit_ids(known: &Known) -> BTreeSet<&UnitId> {
    let mut ids: BTreeSet<&UnitId> = BTreeSet::new();
    ids.extend(known.facts.iter().flat_map(|facts| facts.units.keys()));
    ids.extend(known.published.iter().flat_map(|published| published.state.units().keys()));
    ids.extend(known.view.iter().flat_map(|view| view.units.keys()));
    ids.retain(|id| known.sees(id) && !is_gone(id, known));
    ids
}

/// Whether the newest state removes the unit, and the agent that has applied that state has it no more.
fn is_gone(id: &UnitId, known: &Known) -> bool {
    let (Some(published), Some(view)) = (&known.published, &known.view) else { return false };
    matches!(published.state.units().get(id), Some(UnitEntry::Removed(_)))
        && view.applied == Some(published.state.digest())
        && !view.units.contains_key(id)
}

/// One unit of a cluster.
pub(crate) fn unit(name: &ClusterName, id: &UnitId, known: &Known) -> Unit {
    let found = Found::of(id, known);
    let (Found { facts, entry, report }, manifest) = (&found, found.manifest());
    let (facts, entry, report) = (*facts, *entry, *report);
    let problems = facts.map(|facts| &facts.problems[..]);
    let (phase, message) = phase(entry, report, problems);
    let mut shown = Unit {
        cluster: name.to_string(),
        unit: id.to_string(),
        phase: found.shown_phase(phase, known).to_owned(),
        message,
        live: known.is_live(),
        desired: manifest.map(|manifest| known.redactor.digest(&manifest.digest())),
        objects: found.objects(),
        suspended: known.suspensions.of(id).map(suspension),
        waiting: phase == Phase::Held && is_waiting(entry.is_some() || report.is_some(), problems),
        ..Unit::default()
    };
    if let Some(manifest) = manifest {
        shown.parent = manifest.spec.parent.as_ref().map(ToString::to_string);
        shown.depends_on = manifest.spec.depends_on.iter().map(ToString::to_string).collect();
    }
    if let Some(facts) = facts {
        shown.parent = facts.parent.as_ref().map(ToString::to_string).or(shown.parent);
        if !facts.depends_on.is_empty() {
            shown.depends_on = facts.depends_on.iter().map(ToString::to_string).collect();
        }
        shown.path = facts.path.clone();
        let wanted = facts.at.commit(&known.place.commit);
        let revision = facts.revision.text(&known.place.branch, wanted);
        shown.wanted_commit = wanted.to_owned();
        shown.source = facts.source.clone();
        if let Some(runs) = report.and_then(|report| report.applied) {
            let ran = facts.ran.at(Some(runs));
            // A unit that the hub holds runs what last rendered, if the agent had come to that.
            let is_last_good =
                manifest.is_none() && report.is_some_and(|report| report.desired == Some(runs));
            (shown.commit, shown.revision) = match ran {
                Some(ran) => {
                    let commit = ran.commit.as_deref().unwrap_or(wanted);
                    (commit.to_owned(), ran.revision.text(&known.place.branch, commit))
                }
                None if is_last_good => (wanted.to_owned(), revision.clone()),
                None => Default::default(),
            };
        }
        shown.wanted_revision = revision;
        shown.problems = facts.problems.iter().map(Into::into).collect();
    }
    if shown.phase == UNKNOWN {
        let said = std::mem::take(&mut shown.message);
        let said = if said.is_empty() { said } else { format!(": {said}") };
        shown.message = format!("the agent is not connected; it last reported {phase}{said}");
    }
    if let Some(report) = report {
        shown.since = Some(report.since);
        shown.applied = report.applied.map(|digest| known.redactor.digest(&digest));
        shown.healthy = report.healthy.map(|digest| known.redactor.digest(&digest));
        shown.corrected = report.corrected;
        shown.findings = report.findings.iter().map(finding).collect();
        shown.drift = report.drift.iter().map(drift).collect();
        shown.kept = report.kept.iter().map(kept).collect();
    }
    shown
}

/// Whether what holds a unit ends by itself: somebody is at work on all that is wrong with it, or it is not published yet.
fn is_waiting(is_known: bool, problems: Option<&[flotilla_core::report::Problem]>) -> bool {
    let mut wrong = problems.unwrap_or_default().iter().filter(|problem| !problem.notice).peekable();
    if wrong.peek().is_some() { wrong.all(|problem| problem.waiting) } else { !is_known }
}

/// The agent's word on the newest state counts; before that, the hub's.
fn phase(
    entry: Option<&UnitEntry>,
    report: Option<&UnitReport>,
    problems: Option<&[flotilla_core::report::Problem]>,
) -> (Phase, String) {
    let newest = |manifest: &UnitManifest| {
        report.filter(|report| report.desired == Some(manifest.digest()) || report.phase == Phase::Suspended)
    };
    match (entry, report) {
        (Some(UnitEntry::Hold(hold)), _) => (Phase::Held, hold.to_string()),
        (Some(UnitEntry::Removed(removal)), report) if removal.suspended => {
            let said = "suspended; left Git while it was suspended, so its objects stay";
            let said = report.map_or_else(|| said.to_owned(), |report| report.message.clone());
            (Phase::Suspended, said)
        }
        (Some(UnitEntry::Removed(_)), Some(report)) => (Phase::Removing, report.message.clone()),
        (Some(UnitEntry::Removed(_)), None) => (Phase::Removing, String::new()),
        (Some(UnitEntry::Present(manifest)), Some(report)) => match newest(manifest) {
            Some(report) => (report.phase, report.message.clone()),
            None => (
                Phase::Pending,
                format!("the agent has not taken the newest state yet (was {})", report.phase),
            ),
        },
        (Some(UnitEntry::Present(_)), None) => {
            (Phase::Pending, "no agent has reported this unit yet".to_owned())
        }
        (None, Some(report)) => (report.phase, report.message.clone()),
        (None, None) => {
            let problem = problems.unwrap_or_default().iter().find(|problem| !problem.notice);
            (Phase::Held, problem.map_or_else(|| "not published yet".to_owned(), ToString::to_string))
        }
    }
}

fn finding(finding: &flotilla_core::report::Finding) -> api::Finding {
    api::Finding {
        object: (&finding.object).into(),
        reason: finding.reason.clone(),
        message: finding.message.clone(),
    }
}

fn drift(drift: &Drift) -> api::Drift {
    let field = |field: &flotilla_core::report::FieldDrift| api::FieldDrift {
        field: field.field.clone(),
        wanted: field.wanted.clone(),
        found: field.found.clone(),
        manager: field.manager.clone(),
    };
    api::Drift {
        object: (&drift.object).into(),
        at: drift.at,
        fields: drift.fields.iter().map(field).collect(),
    }
}

fn kept(kept: &Kept) -> api::Kept {
    api::Kept { object: (&kept.object).into(), why: kept.why.clone(), approval: kept.approval.to_string() }
}

#[cfg(test)]
mod tests {
    use flotilla_core::report::Problem;

    use super::*;

    #[test]
    fn only_what_somebody_is_at_work_on_is_waited_for() {
        let wrong = |waiting: bool| Problem::error("a.yaml", 1, "is not fetched yet").waiting(waiting);
        let notice = || wrong(false).as_notice();
        for (is_known, problems, expected) in [
            (false, None, true),
            (false, Some(vec![notice()]), true),
            (true, None, false),
            (true, Some(vec![wrong(true)]), true),
            (true, Some(vec![wrong(true), notice(), wrong(true)]), true),
            (true, Some(vec![wrong(true), wrong(false)]), false),
            (false, Some(vec![wrong(false)]), false),
        ] {
            assert_eq!(is_waiting(is_known, problems.as_deref()), expected, "{is_known} {problems:?}");
        }
    }
}
