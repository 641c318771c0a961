//! From a plan to work: what is applied, what leaves, and what there is to note where nothing is to do.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use flotilla_core::guard::{Departure, Limits, PruneExtent};
use flotilla_core::ignore::Ignores;
use flotilla_core::inventory::{Inventory, Member};
use flotilla_core::plan::{self, Cause, Claim, Target, UnitMemory, UnitPlan};
use flotilla_core::{Digest, ObjectId, ObjectRef, UnitEntry, UnitId, UnitManifest};
use flotilla_runtime::lock;
use tokio::time::Instant;

use super::{Coordinator, Outcome, State, Work, links_of};
use crate::cluster::members::Presence;
use crate::sync::apply::ApplyJob;
use crate::sync::prune::PruneJob;
use crate::sync::shared::now;
use crate::sync::tools::Tools;
use crate::sync::unit_state::counted;

impl Coordinator {
    /// Starts what the plan says, or takes note that there is nothing to do. The units that this may set going.
    pub(super) fn act(&mut self, plan: UnitPlan) -> BTreeSet<UnitId> {
        let id = plan.unit.clone();
        let before = self.state.unit_memories.get(&id).cloned();
        let last = before.as_ref().and_then(|before| before.last.as_deref());
        match self.state.next(&plan, last) {
            Next::Apply(job) => {
                // Drift alone takes nothing from readiness, so others may go on meanwhile.
                self.state.assess(&plan);
                self.report(&plan, true);
                self.start(plan, move |tools| Box::pin(async move { Work::Apply(job.run(&tools).await) }));
            }
            Next::Ask(claims) => {
                self.report(&plan, true);
                self.start(plan, move |tools| {
                    Box::pin(async move {
                        let answer = tools.cluster.may_create(&claims).await;
                        Work::Access(claims, answer)
                    })
                });
            }
            Next::Blocked => self.report(&plan, false),
            Next::Nothing => self.nothing_to_apply(&plan, before.as_ref()),
        }
        let changed = before.as_ref() != self.state.unit_memories.get(&id);
        if changed { self.opened_by(&id) } else { BTreeSet::new() }
    }

    /// Everything is applied that can be now: notes what the unit runs and how it is, and sees to what leaves.
    fn nothing_to_apply(&mut self, plan: &UnitPlan, before: Option<&UnitMemory>) {
        let complete = plan.apply.is_empty() && plan.refused.is_empty() && plan.unseen == 0;
        if let (Target::Desired(manifest), true) = (&plan.target, complete) {
            self.note_complete(manifest);
            self.list_again(manifest);
        }
        let pruning = complete && self.prune(plan);
        self.state.assess(plan);
        let remembered = |unit_memory: &UnitMemory| {
            (unit_memory.admitted, unit_memory.last.as_ref().map(|last| last.digest()))
        };
        let after = self.state.unit_memories.get(&plan.unit);
        if before.map(remembered) != after.map(remembered) {
            self.store(&plan.unit);
        }
        self.report(plan, pruning);
    }

    /// The unit runs this manifest from now on.
    fn note_complete(&mut self, manifest: &Arc<UnitManifest>) {
        let id = &manifest.id;
        let unit_memory = self.state.unit_memories.entry(id.clone()).or_default();
        if unit_memory.last.as_ref().map(|last| last.digest()) == Some(manifest.digest()) {
            return;
        }
        unit_memory.last = Some(manifest.clone());
        let links = links_of(manifest, manifest.spec.service_account.as_ref());
        let change = self.state.tools.inventory.list(id, Some(&links), []);
        tracing::debug!(unit = %id, change, "applied");
        let message = format!("{} applied", counted(manifest.objects.len()));
        self.reporter.event(&self.state, id, None, false, "Applied", message);
        if let Some(state) = self.state.units.get_mut(id) {
            state.waiting_since = Some(Instant::now());
        }
    }

    /// Lists what is ours by our memory and in no unit's list: the inventory was deleted while this agent was away. And where
    /// the root is, of one that an agent of an older version applied.
    fn list_again(&self, manifest: &UnitManifest) {
        let discovery = self.state.tools.cluster.discovery();
        let ours = manifest.objects.iter().filter_map(|entry| {
            let id = discovery.complete(&entry.object.id);
            let last_applied =
                self.state.last_applied.get(&id).filter(|last_applied| last_applied.entry.is_some())?;
            let object = ObjectRef { id, version: entry.object.version.clone() };
            Some(Member { object, uid: Some(last_applied.uid.clone()) })
        });
        let is_unlisted = |inventory: &Inventory, Member { object: ObjectRef { id, .. }, .. }: &Member| {
            let own = inventory.units.get(&manifest.id).is_some_and(|unit| unit.members.contains_key(id));
            !own && !self.state.relinquished.contains(id) && inventory.owners(id).next().is_none()
        };
        let (lost, is_elsewhere): (Vec<Member>, bool) = self.state.tools.inventory.view(|inventory| {
            let listed = inventory.units.get(&manifest.id);
            let is_elsewhere = listed.is_some_and(|listed| listed.links.place != manifest.spec.place);
            (ours.filter(|member| is_unlisted(inventory, member)).collect(), is_elsewhere)
        });
        if is_elsewhere || !lost.is_empty() {
            tracing::info!(unit = %manifest.id, objects = lost.len(), "lists again what its inventory lost");
            let links = links_of(manifest, manifest.spec.service_account.as_ref());
            self.state.tools.inventory.list(&manifest.id, Some(&links), lost);
        }
    }

    /// Units whose gates hang on this one: those that name it, and those that leave, as they wait for what was above them.
    fn opened_by(&self, id: &UnitId) -> BTreeSet<UnitId> {
        let mut units = self.state.dependents.get(id).cloned().unwrap_or_default();
        let entries = self.state.desired.iter().flat_map(|desired| desired.units());
        units.extend(
            entries.filter(|(_, entry)| matches!(entry, UnitEntry::Removed(_))).map(|(id, _)| id.clone()),
        );
        units
    }

    /// Sees to the members that leave. True if that is work.
    pub(super) fn prune(&mut self, plan: &UnitPlan) -> bool {
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
                    if !self.state.tools.inventory.unlist_shared(id, &member.object.id) {
                        self.dirty.insert(id.clone());
                    }
                }
            }
        }
        self.state.tools.inventory.unlist(id, &forget, false);
        let state = self.state.units.entry(id.clone()).or_default();
        if judge.is_empty() {
            state.kept.clear();
            state.asked.clear();
            state.prune_findings.clear();
            let is_known = matches!(plan.target, Target::Desired(_) | Target::Removed(_, None));
            if is_known && plan.leaving.is_empty() {
                self.close_approvals(id, &BTreeSet::new());
            }
            if let Target::Removed(_, None) = plan.target {
                self.removed(id);
            }
            return false;
        }
        if state.next_prune_at.is_some_and(|at| at > Instant::now()) {
            return false;
        }
        let Some(desired) = self.state.desired.clone() else { return false };
        // It may have had nothing when the state was taken, and have got what was under way then.
        if matches!(plan.target, Target::Removed(..)) && !self.state.removals.contains_key(id) {
            self.note_removals(&desired);
        }
        let Some(state) = self.state.units.get(id) else { return false };
        let shared = self.shared.clone();
        let current = {
            let desired = desired.clone();
            move || lock(&shared.input).desired.as_ref().is_some_and(|now| Arc::ptr_eq(now, &desired))
        };
        let (wanted, allow_empty) = match &plan.target {
            Target::Desired(manifest) => (manifest.objects.len(), manifest.spec.allow_empty),
            // As its author last said.
            _ => {
                let last = self.state.unit_memories.get(id).and_then(|unit_memory| unit_memory.last.as_ref());
                (0, last.is_some_and(|last| last.spec.allow_empty))
            }
        };
        let extent = match &plan.target {
            _ if self.state.remove_all => PruneExtent::Everything,
            Target::Removed(..) => {
                let Some(departure) = self.state.removals.get(id).cloned() else { return false };
                PruneExtent::Unit(departure)
            }
            _ => PruneExtent::Objects,
        };
        let empties = !self.state.remove_all
            && desired.all_present().all(|unit| unit.objects.is_empty() && !unit.spec.allow_empty);
        let moved = self.state.root_moved && *id == UnitId::root();
        let now = Departure { generation: desired.generation, wanted, moved };
        let departure = |member: &Member| state.departures.get(&member.object.id).unwrap_or(now);
        let candidates = judge.into_iter().map(|member| (departure(&member), member));
        let candidates = candidates.map(|(departure, member)| (member, departure)).collect();
        let job = PruneJob {
            unit: id.clone(),
            account: plan.account.clone(),
            candidates,
            wanted,
            extent,
            allow_empty,
            cluster_empties: empties,
            approvals: lock(&self.shared.approvals).clone(),
            limits: Limits {
                share: self.shared.options.prune_share,
                floor: self.shared.options.prune_floor,
                unit: self.shared.options.prune_unit,
            },
            current: Arc::new(current),
        };
        self.start(plan.clone(), move |tools| Box::pin(async move { Work::Prune(job.run(&tools).await) }));
        true
    }

    /// A unit that was to go has nothing left, or leaves what it has.
    pub(super) fn removed(&mut self, id: &UnitId) {
        let listed = self
            .state
            .tools
            .inventory
            .view(|inventory| inventory.units.get(id).map_or(0, |unit| unit.members.len()));
        if listed > 0 {
            return;
        }
        let links = self
            .state
            .tools
            .inventory
            .view(|inventory| inventory.units.get(id).map(|unit| unit.links.clone()));
        self.state.tools.inventory.unlist(id, &BTreeSet::new(), true);
        // Units above it may go now.
        self.dirty
            .extend(links.into_iter().flat_map(|links| links.parent.into_iter().chain(links.depends_on)));
        self.state.removals.remove(id);
        self.close_unit_approvals();
        if self.state.unit_memories.remove(id).is_some() {
            self.store(id);
            self.reporter.event(&self.state, id, None, false, "Removed", "the unit is gone".into());
        }
    }

    pub(super) fn start(
        &mut self,
        plan: UnitPlan,
        work: impl FnOnce(Arc<Tools>) -> std::pin::Pin<Box<dyn Future<Output = Work> + Send>> + Send + 'static,
    ) {
        let unit = plan.unit.clone();
        self.running.insert(unit.clone());
        let tools = self.state.tools.clone();
        let started = Instant::now();
        self.work.spawn(async move { Outcome { unit, plan, started, result: work(tools).await } });
    }
}

/// What is to be done for a unit before it is complete.
enum Next {
    Apply(Box<ApplyJob>),
    /// Whether its account may create these is asked first.
    Ask(Vec<Claim>),
    /// Nothing can be tried; the unit's state says why.
    Blocked,
    Nothing,
}

impl State {
    /// What a plan asks for now, as far as the pauses after failures let it; `last` is what the unit ran when it was made.
    fn next(&mut self, plan: &UnitPlan, last: Option<&UnitManifest>) -> Next {
        let id = &plan.unit;
        let state = self.units.entry(id.clone()).or_default();
        state.forget_failures(plan);
        if let Target::Desired(manifest) = &plan.target {
            self.unit_memories.entry(id.clone()).or_default().admitted = Some(manifest.spec_digest());
        }
        let mut steps = plan.apply.clone();
        steps.retain(|step| state.may_try(&step.object.id, step.fingerprint, step.cause.is_drift()));
        let seen: BTreeMap<ObjectId, Option<Digest>> = plan
            .tolerated
            .iter()
            .map(|step| {
                let entry = match self.tools.members.get(&step.object.id) {
                    Presence::There(observed) => observed.entry,
                    Presence::Absent | Presence::Unknown => None,
                };
                (step.object.id.clone(), entry)
            })
            .collect();
        if plan.tolerated.is_empty() {
            state.drift.clear();
        }
        let inspect = if seen == state.inspected { Vec::new() } else { plan.tolerated.clone() };
        state.inspected = seen;
        if steps.is_empty() && inspect.is_empty() {
            let is_to_ask = state.is_to_ask(&plan.claims);
            return if is_to_ask { Next::Ask(plan.claims.clone()) } else { Next::Nothing };
        }
        let (Target::Desired(manifest) | Target::Last(manifest, _)) = &plan.target else {
            return Next::Nothing;
        };
        let ignores = match Ignores::new(&manifest.spec.ignore) {
            Ok(ignores) => ignores,
            Err(error) => {
                state.blocked = Some(format!("spec.ignore: {error}"));
                return Next::Blocked;
            }
        };
        let changed: BTreeSet<&ObjectId> =
            steps.iter().filter(|step| step.cause == Cause::Change).map(|step| &step.object.id).collect();
        let complete = |id: &ObjectId| self.tools.cluster.discovery().complete(id);
        let contents = last.into_iter().flat_map(|last| &last.objects);
        let contents = contents.map(|entry| (complete(&entry.object.id), entry.digest));
        let before = contents.filter(|(id, _)| changed.contains(id)).collect();
        Next::Apply(Box::new(ApplyJob {
            unit: id.clone(),
            links: links_of(manifest, manifest.spec.service_account.as_ref()),
            steps,
            inspect,
            force: manifest.spec.force,
            account: plan.account.clone(),
            ignores,
            before,
            rehearse: state.was_refused(),
            now: now(),
        }))
    }
}
