//! The loop: reads the state anew, plans each dirty unit, starts its work, takes what became of it. It alone holds the
//! state; whatever wakes it carries nothing.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use flotilla_core::order::{Links, broken_links};
use flotilla_core::plan::{self, Declared, Seen, Sight, Situation, Standing, Target, UnitPlan};
use flotilla_core::report::{Event, Phase, Timestamp};
use flotilla_core::{DesiredState, Digest, ObjectId, ObjectRef, UnitEntry, UnitId};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::api::Request;
use super::apply::{ApplyJob, ApplyOutcome, Tools};
use super::engine::{EngineError, Shared, lock};
use super::memory::{self, Manner, Mark};
use super::prune::{PruneJob, PruneOutcome};
use super::unit_state::{Facts, UnitState};
use crate::cluster::members::Known;
use crate::cluster::watch::{Subject, Watches};

/// Without anything to do the loop looks around this often.
const IDLE: Duration = Duration::from_secs(600);

pub(super) struct Coordinator {
    pub(super) shared: Arc<Shared>,
    pub(super) tools: Arc<Tools>,
    watches: Watches,
    pub(super) desired: Option<Arc<DesiredState>>,
    declared: Declared,
    broken: BTreeMap<UnitId, String>,
    /// What was known of the cluster's kinds when identities were last completed.
    discovery: u64,
    pub(super) standings: BTreeMap<UnitId, Standing>,
    marks: HashMap<ObjectId, Mark>,
    pub(super) units: BTreeMap<UnitId, UnitState>,
    by_object: HashMap<ObjectId, Vec<UnitId>>,
    /// Units whose plan or readiness hangs on the key.
    dependents: BTreeMap<UnitId, BTreeSet<UnitId>>,
    dirty: BTreeSet<UnitId>,
    approvals: BTreeSet<Digest>,
    remove_all: bool,
    running: BTreeSet<UnitId>,
    work: JoinSet<Outcome>,
}

struct Outcome {
    unit: UnitId,
    plan: UnitPlan,
    result: Work,
}

enum Work {
    Apply(ApplyOutcome),
    Prune(PruneOutcome),
}

impl Coordinator {
    pub(super) fn new(shared: Arc<Shared>, tools: Arc<Tools>) -> Self {
        let watches = Watches::new(tools.cluster.clone(), tools.members.clone(), shared.wake.clone());
        let mut coordinator = Self {
            shared,
            tools,
            watches,
            desired: None,
            declared: Declared::default(),
            broken: BTreeMap::new(),
            discovery: 0,
            standings: BTreeMap::new(),
            marks: HashMap::new(),
            units: BTreeMap::new(),
            by_object: HashMap::new(),
            dependents: BTreeMap::new(),
            dirty: BTreeSet::new(),
            approvals: BTreeSet::new(),
            remove_all: false,
            running: BTreeSet::new(),
            work: JoinSet::new(),
        };
        coordinator.remember();
        coordinator
    }

    pub(super) async fn run(mut self, stop: CancellationToken) -> Result<(), EngineError> {
        let tools = self.tools.clone();
        let write = tools.book.write(&tools.cluster);
        tokio::pin!(write);
        let shared = self.shared.clone();
        loop {
            self.take_input();
            self.take_news();
            self.complete_identities();
            self.plan_dirty();
            let due = self.due();
            tokio::select! {
                () = stop.cancelled() => break,
                () = &mut write => {}
                () = shared.wake.notified() => {}
                Some(done) = self.work.join_next() => {
                    self.finish(done.map_err(EngineError::Panic)?);
                    while let Some(done) = self.work.try_join_next() {
                        self.finish(done.map_err(EngineError::Panic)?);
                    }
                }
                () = tokio::time::sleep_until(due) => self.pass(Instant::now()),
            }
        }
        // Work under way is dropped: its intents are in the inventory, and the next start takes the everyday path.
        self.work.shutdown().await;
        Ok(())
    }

    fn remember(&mut self) {
        let stored = match self.shared.memory.load() {
            Ok(stored) => stored,
            Err(error) => {
                tracing::warn!(error = crate::cluster::request::chain(&error), "starts without memory");
                return;
            }
        };
        for (key, text) in stored {
            let Ok(unit) = key.parse::<UnitId>() else { continue };
            match memory::read(&unit, &text) {
                Some((standing, marks)) => {
                    self.shared.runs(&unit, standing.last.clone());
                    self.standings.insert(unit, standing);
                    self.marks.extend(marks);
                }
                None => tracing::warn!(%unit, "what was remembered of it cannot be read"),
            }
        }
    }

    fn store(&self, unit: &UnitId) {
        let standing = self.standings.get(unit);
        self.shared.runs(unit, standing.and_then(|standing| standing.last.clone()));
        let result = match standing {
            None => self.shared.memory.remove(&unit.to_string()),
            Some(standing) => {
                let complete = |id: &ObjectId| self.tools.cluster.discovery().complete(id);
                let ids: BTreeSet<ObjectId> = self
                    .manifests(unit)
                    .flat_map(|manifest| manifest.objects.iter().map(|entry| complete(&entry.object.id)))
                    .collect();
                let marks = ids.iter().filter_map(|id| self.marks.get_key_value(id));
                self.shared.memory.store(&unit.to_string(), memory::write(standing, marks))
            }
        };
        if let Err(error) = result {
            tracing::warn!(%unit, error = crate::cluster::request::chain(&error), "goes on without memory");
        }
    }

    /// The manifests that say what the unit's objects are: the desired one, and the last one while they differ.
    fn manifests<'a>(&'a self, unit: &UnitId) -> impl Iterator<Item = &'a Arc<flotilla_core::UnitManifest>> {
        let desired = self.desired.as_ref().and_then(|desired| desired.present(unit));
        let last = self.standings.get(unit).and_then(|standing| standing.last.as_ref());
        desired.into_iter().chain(last)
    }

    fn take_input(&mut self) {
        let (desired, requests) = {
            let mut input = lock(&self.shared.input);
            let desired = input.desired.clone();
            (desired, std::mem::take(&mut input.requests))
        };
        if let Some(desired) = desired
            && self.desired.as_ref().is_none_or(|old| !Arc::ptr_eq(old, &desired))
        {
            self.adopt(desired);
        }
        for request in requests {
            match request {
                Request::Reconcile { unit } => {
                    for id in
                        self.all_units().into_iter().filter(|id| unit.as_ref().is_none_or(|unit| unit == id))
                    {
                        self.units.entry(id.clone()).or_default().reset();
                        self.dirty.insert(id);
                    }
                }
                Request::Approve { digest } => {
                    self.approvals.insert(digest);
                    for (id, state) in &mut self.units {
                        if state.kept.iter().any(|kept| kept.approval == digest) {
                            state.prune_at = None;
                            self.dirty.insert(id.clone());
                        }
                    }
                }
                Request::PruneAll { cluster } => {
                    if self.desired.as_ref().is_some_and(|desired| desired.cluster == cluster) {
                        self.remove_all = true;
                        for id in self.all_units() {
                            self.units.entry(id.clone()).or_default().reset();
                            self.dirty.insert(id);
                        }
                    } else {
                        tracing::warn!(%cluster, "refused to prune everything: the name is not that of this cluster");
                    }
                }
            }
        }
    }

    fn adopt(&mut self, desired: Arc<DesiredState>) {
        let old = self.desired.replace(desired.clone());
        self.remove_all = false;
        for (id, entry) in desired.units() {
            let same =
                old.as_ref().and_then(|old| old.units().get(id)).is_some_and(|old| match (old, entry) {
                    (UnitEntry::Present(old), UnitEntry::Present(new)) => old.digest() == new.digest(),
                    (old, new) => old == new,
                });
            let state = self.units.entry(id.clone()).or_default();
            if !same {
                state.reset();
                state.inspected.clear();
            }
            // What others declare may decide what leaves this one.
            state.prune_at = None;
        }
        let links: BTreeMap<UnitId, Links> =
            desired.all_present().map(|unit| (unit.id.clone(), links_of(unit))).collect();
        self.broken = broken_links(&links, |id| desired.units().contains_key(id));
        self.dependents.clear();
        for (id, links) in &links {
            for on in links.parent.iter().chain(&links.depends_on) {
                self.dependents.entry(on.clone()).or_default().insert(id.clone());
            }
            if let Some(parent) = &links.parent {
                // A parent that waits is ready when its children are.
                self.dependents.entry(id.clone()).or_default().insert(parent.clone());
            }
        }
        self.index();
        self.dirty.extend(self.all_units());
    }

    /// Every unit that anybody knows of.
    fn all_units(&self) -> BTreeSet<UnitId> {
        let mut all: BTreeSet<UnitId> =
            self.tools.book.view(|inventory| inventory.units.keys().cloned().collect());
        all.extend(self.desired.iter().flat_map(|desired| desired.units().keys().cloned()));
        all.extend(self.standings.keys().cloned());
        all
    }

    /// After a change of the desired state or of the kinds known: whose objects are whose, and what to watch.
    fn index(&mut self) {
        let Some(desired) = self.desired.clone() else { return };
        let discovery = self.tools.cluster.discovery();
        self.discovery = discovery.generation();
        let complete = |id: &ObjectId| discovery.complete(id);
        self.declared = Declared::of(&desired, &self.standings, &complete);
        self.by_object.clear();
        let mut subjects = BTreeMap::new();
        let mut checks = Vec::new();
        for unit in self.all_units() {
            let mut objects: BTreeMap<ObjectId, ObjectRef> = BTreeMap::new();
            for manifest in self.manifests(&unit) {
                objects.extend(
                    manifest.objects.iter().map(|entry| (complete(&entry.object.id), entry.object.clone())),
                );
            }
            for (id, object) in objects {
                if let Some(resource) = discovery.any_version(&object) {
                    subjects.insert(Subject::Kind((id.group.clone(), id.kind.clone())), resource);
                }
                self.by_object.entry(id).or_default().push(unit.clone());
            }
            for check in desired.present(&unit).into_iter().flat_map(|unit| &unit.spec.health_checks) {
                let object = super::health::checked(check);
                checks.push((unit.clone(), complete(&object.id), object));
            }
        }
        let mut foreign = HashSet::new();
        for (unit, id, object) in checks {
            // Our own objects are seen by the watch of their kind.
            if (!self.by_object.contains_key(&id) || foreign.contains(&id))
                && let Some(resource) = discovery.any_version(&object)
            {
                subjects.insert(Subject::Object(id.clone()), resource);
                foreign.insert(id.clone());
            }
            self.by_object.entry(id).or_default().push(unit);
        }
        let wanted: HashSet<ObjectId> = self.by_object.keys().cloned().collect();
        self.marks.retain(|id, _| wanted.contains(id));
        self.tools.members.want(wanted, foreign);
        self.watches.set(subjects);
    }

    /// Kinds became known: identities may be complete now, and watches possible.
    fn complete_identities(&mut self) {
        if self.discovery != self.tools.cluster.discovery().generation() {
            self.index();
            let failed = self.units.iter_mut().filter(|(_, state)| state.has_failed());
            self.dirty.extend(failed.map(|(id, _)| id.clone()));
        }
    }

    fn take_news(&mut self) {
        for object in self.tools.members.take_changed() {
            self.dirty.extend(self.by_object.get(&object).into_iter().flatten().cloned());
        }
        if self.tools.book.take_contended() {
            let message = "somebody else writes this cluster's inventory; is there a second agent?";
            self.event(&UnitId::root(), None, true, "InventoryContended", message.into());
        }
    }

    fn look(&self, id: &ObjectId) -> Sight {
        let Some(mark) = self.marks.get(id) else { return Sight { applied: None, seen: Seen::Unknown } };
        let seen = match self.tools.members.get(id) {
            _ if mark.manner == Manner::Never => Seen::There { uid: mark.uid.clone(), touched: false },
            // What cannot be watched is applied once, and the answer shows how it is.
            Known::Unknown if self.tools.members.problem_of(id).is_some_and(|(_, lasting)| lasting) => {
                return Sight { applied: None, seen: Seen::Unknown };
            }
            Known::Unknown => Seen::Unknown,
            // Left alone since it was there, it may never have got our label.
            Known::Absent if mark.manner == Manner::Once && mark.entry.is_none() => {
                Seen::There { uid: mark.uid.clone(), touched: false }
            }
            Known::Absent => Seen::Absent,
            Known::There(observed) => {
                let as_left = observed.entry == mark.entry && observed.uid == mark.uid;
                let added = observed.folded && mark.manner == Manner::Override;
                Seen::There { uid: observed.uid, touched: mark.manner != Manner::Once && (!as_left || added) }
            }
        };
        Sight { applied: Some(mark.stamp), seen }
    }

    /// Plans what is dirty until nothing is: a plan that ends in readiness or removal may open the gates of others.
    /// Units at work are looked at when that is done.
    fn plan_dirty(&mut self) {
        let Some(desired) = self.desired.clone() else { return };
        let tools = self.tools.clone();
        let damage = tools.book.damage();
        // One look for all: what stops pruning is lifted by another desired state only.
        let stop = tools.book.view(|inventory| plan::prune_stop(&desired, inventory, damage.as_deref()));
        while let Some(id) = self.dirty.pop_first() {
            if self.running.contains(&id) {
                continue;
            }
            let plan = tools.book.view(|inventory| {
                let situation = Situation {
                    desired: &desired,
                    declared: &self.declared,
                    inventory,
                    standings: &self.standings,
                    resolve: &|id| tools.cluster.discovery().complete(id),
                    prune_stop: stop.clone(),
                    broken: &self.broken,
                    remove_all: self.remove_all,
                };
                plan::plan(&id, &situation, &|object| self.look(object))
            });
            let opened = self.act(plan);
            self.dirty.extend(opened);
        }
    }

    /// Starts what the plan says, or takes note that there is nothing to do. The units that this may set going.
    fn act(&mut self, plan: UnitPlan) -> BTreeSet<UnitId> {
        let id = plan.unit.clone();
        let state = self.units.entry(id.clone()).or_default();
        state.forget_failures(&plan);
        let before = self.standings.get(&id).cloned();
        if let Target::Desired(manifest) = &plan.target {
            let standing = self.standings.entry(id.clone()).or_default();
            standing.admitted = Some(manifest.spec_digest());
        }
        let mut steps = plan.apply.clone();
        steps.retain(|step| state.may_try(&step.object.id, step.stamp, step.cause.is_drift()));
        let seen: BTreeMap<ObjectId, Option<Digest>> = plan
            .tolerated
            .iter()
            .map(|step| {
                let entry = match self.tools.members.get(&step.object.id) {
                    Known::There(observed) => observed.entry,
                    Known::Absent | Known::Unknown => None,
                };
                (step.object.id.clone(), entry)
            })
            .collect();
        if plan.tolerated.is_empty() {
            state.drift.clear();
        }
        let inspect = if seen == state.inspected { Vec::new() } else { plan.tolerated.clone() };
        state.inspected = seen;
        if !steps.is_empty() || !inspect.is_empty() {
            let manifest = match &plan.target {
                Target::Desired(manifest) | Target::Last(manifest, _) => manifest.clone(),
                Target::Suspended | Target::Nothing(_) | Target::Removed(..) => return BTreeSet::new(),
            };
            let job = ApplyJob {
                unit: id.clone(),
                links: links_of(&manifest),
                steps,
                inspect,
                force: manifest.spec.force,
                now: now(),
            };
            // Drift alone takes nothing from readiness, so others may go on meanwhile.
            self.assess(&plan);
            self.report(&plan, true);
            self.start(plan, move |tools| Box::pin(async move { Work::Apply(job.run(&tools).await) }));
            let changed = before.as_ref() != self.standings.get(&id);
            return if changed {
                self.dependents.get(&id).cloned().unwrap_or_default()
            } else {
                BTreeSet::new()
            };
        }
        // Everything is applied that is to be.
        let complete = plan.apply.is_empty() && plan.refused.is_empty() && plan.unseen == 0;
        if let Target::Desired(manifest) = &plan.target
            && complete
        {
            let standing = self.standings.entry(id.clone()).or_default();
            if standing.last.as_ref().map(|last| last.digest()) != Some(manifest.digest()) {
                standing.last = Some(manifest.clone());
                let count = manifest.objects.len();
                let change = self.tools.book.list(&id, Some(&links_of(manifest)), []);
                tracing::debug!(unit = %id, change, "applied");
                self.event(&id, None, false, "Applied", format!("{count} objects applied"));
                if let Some(state) = self.units.get_mut(&id) {
                    state.waiting_since = Some(Instant::now());
                }
            }
        }
        let pruning = complete && self.prune(&plan);
        self.assess(&plan);
        let after = self.standings.get(&id);
        let changed = before.as_ref() != after;
        if changed {
            let remembered =
                |standing: &Standing| (standing.admitted, standing.last.as_ref().map(|last| last.digest()));
            if before.as_ref().map(remembered) != after.map(remembered) {
                self.store(&id);
            }
        }
        self.report(&plan, pruning);
        if changed { self.dependents.get(&id).cloned().unwrap_or_default() } else { BTreeSet::new() }
    }

    /// Sees to the members that leave. True if that is work.
    fn prune(&mut self, plan: &UnitPlan) -> bool {
        let id = &plan.unit;
        let mut judge = Vec::new();
        let mut forget = BTreeSet::new();
        for (member, leaving) in &plan.leaving {
            match leaving {
                plan::Leaving::Judge => judge.push(member.clone()),
                plan::Leaving::Stay(_) => {}
                plan::Leaving::Forget(_) => {
                    forget.insert(member.object.id.clone());
                }
                plan::Leaving::Shared(_) => {
                    // If the other let it go just now, this is the last, and the next plan says what becomes of it.
                    if !self.tools.book.unlist_shared(id, &member.object.id) {
                        self.dirty.insert(id.clone());
                    }
                }
            }
        }
        self.tools.book.unlist(id, &forget, false);
        let state = self.units.entry(id.clone()).or_default();
        if judge.is_empty() {
            state.kept.clear();
            state.prune_findings.clear();
            if let Target::Removed(_, None) = plan.target {
                self.removed(id);
            }
            return false;
        }
        if state.prune_at.is_some_and(|at| at > Instant::now()) {
            return false;
        }
        let Some(desired) = self.desired.clone() else { return false };
        let shared = self.shared.clone();
        let current = {
            let desired = desired.clone();
            move || lock(&shared.input).desired.as_ref().is_some_and(|now| Arc::ptr_eq(now, &desired))
        };
        let (wanted, allow_empty) = match &plan.target {
            Target::Desired(manifest) => (manifest.objects.len(), manifest.spec.allow_empty),
            _ => (0, false),
        };
        let empties = !self.remove_all
            && desired.all_present().all(|unit| unit.objects.is_empty() && !unit.spec.allow_empty);
        let job = PruneJob {
            unit: id.clone(),
            members: self
                .tools
                .book
                .view(|inventory| inventory.units.get(id).map_or(0, |unit| unit.members.len())),
            candidates: judge,
            wanted,
            removal: matches!(plan.target, Target::Removed(..)),
            allow_empty,
            cluster_empties: empties,
            approvals: self.approvals.clone(),
            limits: flotilla_core::guard::Limits {
                share: self.shared.options.prune_share,
                floor: self.shared.options.prune_floor,
            },
            current: Arc::new(current),
        };
        self.start(plan.clone(), move |tools| Box::pin(async move { Work::Prune(job.run(&tools).await) }));
        true
    }

    /// A unit that was to go has nothing left, or leaves what it has.
    fn removed(&mut self, id: &UnitId) {
        let left =
            self.tools.book.view(|inventory| inventory.units.get(id).map_or(0, |unit| unit.members.len()));
        if left > 0 {
            return;
        }
        let links = self.tools.book.view(|inventory| inventory.units.get(id).map(|unit| unit.links.clone()));
        self.tools.book.unlist(id, &BTreeSet::new(), true);
        // Units above it may go now.
        self.dirty
            .extend(links.into_iter().flat_map(|links| links.parent.into_iter().chain(links.depends_on)));
        if self.standings.remove(id).is_some() {
            self.store(id);
            self.event(id, None, false, "Removed", "the unit is gone".into());
        }
    }

    fn start(
        &mut self,
        plan: UnitPlan,
        work: impl FnOnce(Arc<Tools>) -> std::pin::Pin<Box<dyn Future<Output = Work> + Send>> + Send + 'static,
    ) {
        let unit = plan.unit.clone();
        self.running.insert(unit.clone());
        let tools = self.tools.clone();
        self.work.spawn(async move { Outcome { unit, plan, result: work(tools).await } });
    }

    fn finish(&mut self, outcome: Outcome) {
        let Outcome { unit, plan, result } = outcome;
        self.running.remove(&unit);
        self.dirty.insert(unit.clone());
        match result {
            Work::Apply(done) => self.finish_apply(&unit, &plan, done),
            Work::Prune(done) => self.finish_prune(&unit, done),
        }
    }

    fn finish_apply(&mut self, unit: &UnitId, plan: &UnitPlan, done: ApplyOutcome) {
        let spec = match &plan.target {
            Target::Desired(manifest) | Target::Last(manifest, _) => Some(&manifest.spec),
            _ => None,
        };
        for (id, mark) in done.marks {
            // Others may share it and wait for this.
            self.dirty.extend(self.by_object.get(&id).into_iter().flatten().cloned());
            self.marks.insert(id, mark);
        }
        let failed: BTreeMap<_, _> = done
            .failed
            .into_iter()
            .map(|(step, finding)| (step.object.id.clone(), (step.stamp, finding)))
            .collect();
        let state = self.units.entry(unit.clone()).or_default();
        for drift in &done.corrected {
            state.corrected(&drift.object);
        }
        if !plan.tolerated.is_empty() {
            state.drift = done.inspected;
        }
        state.failed(failed, done.blocked, spec.and_then(|spec| spec.retry_interval));
        for drift in done.corrected {
            let message = match drift.fields.as_slice() {
                [] => "was deleted and is back".to_owned(),
                fields => fields.iter().take(5).map(describe).collect::<Vec<_>>().join("; "),
            };
            self.event(unit, Some(drift.object), false, "DriftCorrected", message);
        }
        if done.defined {
            for (id, state) in self.units.iter_mut().filter(|(id, state)| *id != unit && state.has_failed()) {
                state.reset();
                self.dirty.insert(id.clone());
            }
        }
        self.store(unit);
    }

    fn finish_prune(&mut self, unit: &UnitId, done: PruneOutcome) {
        for id in done.deleted {
            self.event(unit, Some(id), false, "Pruned", "deleted, as nothing names it any more".into());
        }
        for (id, why) in done.forgotten {
            self.event(unit, Some(id), false, "Released", why);
        }
        let state = self.units.entry(unit.clone()).or_default();
        let news: Vec<_> = done.kept.iter().filter(|kept| !state.kept.contains(kept)).cloned().collect();
        let pause = if done.findings.is_empty() { Duration::from_secs(600) } else { Duration::from_secs(5) };
        if !done.findings.is_empty() || !done.kept.is_empty() {
            state.prune_at = Some(Instant::now() + pause);
        }
        state.kept = done.kept;
        state.prune_findings = done.findings;
        for kept in news {
            let message = format!("{}; approve {} to let it go", kept.why, kept.approval.short());
            self.event(unit, Some(kept.object), true, "Kept", message);
        }
    }

    fn report(&mut self, plan: &UnitPlan, running: bool) {
        let id = &plan.unit;
        let standing = self.standings.get(id);
        let listed =
            self.tools.book.view(|inventory| inventory.units.get(id).map_or(0, |unit| unit.members.len()));
        if matches!(plan.target, Target::Removed(_, None)) && listed == 0 && standing.is_none() {
            self.units.remove(id);
            self.shared.publish(id, None);
            return;
        }
        let desired = self.desired.as_ref().and_then(|desired| desired.present(id));
        let objects = desired.map_or(listed, |unit| unit.objects.len());
        let desired = desired.map(|unit| unit.digest());
        let applied = matches!(&plan.target, Target::Desired(manifest)
            if standing.and_then(|s| s.last.as_ref()).map(|last| last.digest()) == Some(manifest.digest()));
        let health = applied.then(|| self.health_of(plan)).flatten();
        let Some(state) = self.units.get(id) else { return };
        let facts = Facts { running, health, now: now(), standing, objects, desired };
        let report = state.report(id, plan, facts);
        let told = (report.phase, report.message.clone());
        let state = self.units.entry(id.clone()).or_default();
        let before = state.told.replace(told.clone());
        self.shared.publish(id, Some(report));
        if before.as_ref() != Some(&told) {
            let was = before.map(|(phase, _)| phase);
            match told.0 {
                Phase::Failed => self.event(id, None, true, "Failed", told.1),
                // After a restart everything is as it was.
                Phase::Ready if was.is_some_and(|was| ![Phase::Ready, Phase::Pending].contains(&was)) => {
                    self.event(id, None, false, "Ready", told.1)
                }
                _ => {}
            }
        }
    }

    /// When anything is due though nothing happens.
    fn due(&self) -> Instant {
        let due = self.units.iter().filter(|(id, _)| !self.running.contains(*id));
        let due = due.filter_map(|(_, state)| state.due()).min();
        due.unwrap_or_else(|| Instant::now() + IDLE)
    }

    fn pass(&mut self, now: Instant) {
        let due: Vec<UnitId> = self
            .units
            .iter()
            .filter(|(id, state)| !self.running.contains(*id) && state.due().is_some_and(|at| at <= now))
            .map(|(id, _)| id.clone())
            .collect();
        for id in due {
            if let Some(state) = self.units.get_mut(&id) {
                state.pass(now);
            }
            self.dirty.insert(id);
        }
    }

    pub(super) fn event(
        &self,
        unit: &UnitId,
        object: Option<ObjectId>,
        warning: bool,
        reason: &str,
        message: String,
    ) {
        if warning {
            tracing::warn!(%unit, object = object.as_ref().map(tracing::field::display), reason, message);
        } else {
            tracing::info!(%unit, object = object.as_ref().map(tracing::field::display), reason, message);
        }
        self.shared.event(Event {
            at: now(),
            unit: unit.clone(),
            object,
            warning,
            reason: reason.into(),
            message,
        });
    }
}

fn describe(field: &flotilla_core::report::FieldDrift) -> String {
    let value = |value: &Option<String>| value.clone().unwrap_or_else(|| "nothing".into());
    let by = field.manager.as_ref().map(|manager| format!(" by {manager}")).unwrap_or_default();
    format!("{} was {}{by}, is {} again", field.field, value(&field.found), value(&field.wanted))
}

pub(super) fn links_of(unit: &flotilla_core::UnitManifest) -> Links {
    Links { parent: unit.spec.parent.clone(), depends_on: unit.spec.depends_on.clone() }
}

/// Seconds since 1970; a clock before that counts as 1970.
pub(super) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
