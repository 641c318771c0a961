//! The loop: reads the state anew, plans each dirty unit, starts its work, takes what became of it. It alone changes the
//! state; whatever wakes it carries nothing.
//!
//! ```text
//!   input, watches ──► mod: what is dirty ──► core::plan ──► work: jobs ──► finish ──┐
//!                        ▲      state: what is known (index, health)  ◄──────────────┤
//!                        └───────────────────────────────────────────────────────────┴─► reporter
//! ```

mod departures;
mod finish;
mod health;
mod index;
mod parent;
mod relinquished;
mod remember;
mod reporter;
mod state;
mod work;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use flotilla_core::order::{Links, broken_links};
use flotilla_core::plan::{self, Access, Claim, Situation, UnitPlan};
use flotilla_core::template::ValuesRef;
use flotilla_core::{DesiredState, ServiceAccount, UnitEntry, UnitId};
use flotilla_runtime::lock;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::cluster::events::{self, Events};
use crate::cluster::request::Failure;
use crate::cluster::watch::Watches;
use crate::sync::api::Request;
use crate::sync::apply::ApplyOutcome;
use crate::sync::prune::PruneOutcome;
use crate::sync::shared::{EngineError, Shared};
use crate::sync::tools::Tools;

use self::reporter::Reporter;
use self::state::State;

/// Without anything to do the loop looks around this often.
const IDLE: Duration = Duration::from_secs(600);

pub(in crate::sync) struct Coordinator {
    pub(in crate::sync) shared: Arc<Shared>,
    state: State,
    watches: Watches,
    reporter: Reporter,
    dirty: BTreeSet<UnitId>,
    /// What is watched for whoever asked about it.
    followed: Arc<BTreeSet<ValuesRef>>,
    /// The API server is away, which is told once.
    away: bool,
    /// When it was back from having been away: what began before says nothing of it any more.
    back_since: Option<Instant>,
    /// Units that were at work when objects were given back, while it is waited for them.
    releasing: Option<BTreeSet<UnitId>>,
    /// What kubectl is to know of our objects.
    set: watch::Sender<BTreeMap<String, String>>,
    running: BTreeSet<UnitId>,
    work: JoinSet<Outcome>,
}

struct Outcome {
    unit: UnitId,
    plan: UnitPlan,
    started: Instant,
    result: Work,
}

enum Work {
    Apply(ApplyOutcome),
    Prune(PruneOutcome),
    Access(Vec<Claim>, Result<Access, Failure>),
}

impl Coordinator {
    fn new(shared: Arc<Shared>, tools: Arc<Tools>, events: Events) -> Self {
        let watches = Watches::new(
            tools.cluster.clone(),
            tools.members.clone(),
            tools.values.clone(),
            shared.wake.clone(),
        );
        Self {
            reporter: Reporter { shared: shared.clone(), events },
            shared,
            state: State::new(tools),
            watches,
            dirty: BTreeSet::new(),
            followed: Arc::default(),
            away: false,
            back_since: None,
            releasing: None,
            set: watch::Sender::default(),
            running: BTreeSet::new(),
            work: JoinSet::new(),
        }
    }

    /// Runs until `stop` is cancelled.
    pub(in crate::sync) async fn run(
        shared: Arc<Shared>,
        tools: Arc<Tools>,
        stop: CancellationToken,
    ) -> Result<(), EngineError> {
        let (events, writer) = events::channel();
        let mut this = Self::new(shared.clone(), tools.clone(), events);
        this.remember().await;
        // None of these ends by itself.
        let write = tools.inventory.write(&tools.cluster);
        let tell = writer.run(&tools.cluster);
        // The ApplySet's parent was deleted.
        let unset = Notify::new();
        let publish = parent::publish(&tools.cluster, this.set.subscribe(), &unset);
        let follow = tools.inventory.follow(&tools.cluster, &unset);
        let reasons = tools.reasons.look(&tools.cluster, &tools.members, &shared.wake);
        let persist = shared.persist.run();
        tokio::pin!(write, tell, publish, follow, reasons, persist);
        loop {
            this.take_input();
            this.take_news();
            this.complete_identities();
            this.plan_dirty();
            let due = this.due();
            tokio::select! {
                () = stop.cancelled() => break,
                () = &mut write => {}
                never = &mut reasons => match never {},
                never = &mut persist => match never {},
                () = &mut tell => {}
                () = &mut publish => {}
                () = &mut follow => {}
                () = shared.wake.notified() => {}
                Some(done) = this.work.join_next() => {
                    this.finish(done.map_err(EngineError::Panic)?);
                    while let Some(done) = this.work.try_join_next() {
                        this.finish(done.map_err(EngineError::Panic)?);
                    }
                }
                () = tokio::time::sleep_until(due) => this.pass(Instant::now()),
            }
        }
        // Work under way is dropped: its intents are in the inventory, and the next start takes the everyday path.
        this.work.shutdown().await;
        shared.persist.flush().await;
        Ok(())
    }

    fn take_input(&mut self) {
        let (desired, requests, relinquished) = {
            let mut input = lock(&self.shared.input);
            let desired = input.desired.clone();
            (desired, std::mem::take(&mut input.requests), input.relinquished.take())
        };
        if let Some(desired) = desired
            && self.state.desired.as_ref().is_none_or(|old| !Arc::ptr_eq(old, &desired))
        {
            self.take_desired(desired);
        }
        if let Some(relinquished) = relinquished {
            self.relinquish(relinquished);
        }
        let followed = self.shared.followed.wanted();
        if self.followed != followed {
            self.followed = followed;
            self.state.stale = true;
        }
        for request in requests {
            match request {
                Request::Reconcile { unit } => {
                    for id in self
                        .state
                        .all_units()
                        .into_iter()
                        .filter(|id| unit.as_ref().is_none_or(|unit| unit == id))
                    {
                        self.state.units.entry(id.clone()).or_default().reset();
                        self.state.doubt(&id);
                        self.dirty.insert(id);
                    }
                }
                Request::Approve { digest } => {
                    self.approved(digest);
                    for (id, state) in &mut self.state.units {
                        if state.kept.iter().any(|kept| kept.approval == digest) {
                            state.next_prune_at = None;
                            self.dirty.insert(id.clone());
                        }
                    }
                }
                Request::PruneAll { cluster } => {
                    if self.state.desired.as_ref().is_some_and(|desired| desired.cluster == cluster) {
                        self.state.remove_all = true;
                        for id in self.state.all_units() {
                            self.state.units.entry(id).or_default().reset();
                        }
                        self.dirty.extend(self.state.units.keys().cloned());
                    } else {
                        tracing::warn!(%cluster, "refused to prune everything: the name is not that of this cluster");
                    }
                }
            }
        }
    }

    fn take_desired(&mut self, desired: Arc<DesiredState>) {
        // What has left so far left with states before this one.
        self.complete_identities();
        let old = self.state.desired.replace(desired.clone());
        self.state.remove_all = false;
        for (id, entry) in desired.units() {
            let same =
                old.as_ref().and_then(|old| old.units().get(id)).is_some_and(|old| match (old, entry) {
                    (UnitEntry::Present(old), UnitEntry::Present(new)) => old.digest() == new.digest(),
                    (old, new) => old == new,
                });
            let state = self.state.units.entry(id.clone()).or_default();
            if !same {
                state.reset();
                state.inspected.clear();
            }
            // What others declare may decide what leaves this one.
            state.next_prune_at = None;
            self.share_manifest(id, entry);
        }
        let suspensions = self
            .state
            .tools
            .inventory
            .view(|inventory| plan::note_suspensions(&desired, inventory, &mut self.state.unit_memories));
        suspensions.iter().for_each(|unit| self.store(unit));
        let links: BTreeMap<UnitId, Links> =
            desired.all_present().map(|unit| (unit.id.clone(), links_of(unit, None))).collect();
        self.state.broken = broken_links(&links, |id| desired.units().contains_key(id));
        self.state.dependents.clear();
        for (id, links) in &links {
            for on in links.parent.iter().chain(&links.depends_on) {
                self.state.dependents.entry(on.clone()).or_default().insert(id.clone());
            }
            if let Some(parent) = &links.parent {
                // A parent that waits is ready when its children are.
                self.state.dependents.entry(id.clone()).or_default().insert(parent.clone());
            }
        }
        self.index();
        self.state.root_moved = false;
        self.note_departures(&desired, old.as_deref());
        self.note_removals(&desired);
        self.dirty.extend(self.state.all_units());
        // Of a unit that never ran nothing is left but what was said of it.
        self.dirty.extend(self.state.units.keys().cloned());
    }

    /// Keeps one copy of a manifest that is both desired and what runs, as after a restart.
    fn share_manifest(&mut self, id: &UnitId, entry: &UnitEntry) {
        if let (UnitEntry::Present(desired), Some(unit_memory)) =
            (entry, self.state.unit_memories.get_mut(id))
            && let Some(last) = &mut unit_memory.last
            && last.digest() == desired.digest()
            && !Arc::ptr_eq(last, desired)
        {
            *last = desired.clone();
            self.shared.runs(id, Some(unit_memory));
        }
    }

    fn take_news(&mut self) {
        let mut rights = false;
        let changed = self.state.tools.members.take_changed();
        self.note_ends(&changed);
        for object in changed {
            rights |= object.group == RBAC;
            self.dirty.extend(self.state.by_object.get(&object).into_iter().flatten().cloned());
        }
        if rights {
            self.rights_changed();
        }
        for reference in self.state.tools.values.take_changed() {
            self.shared.followed.changed(&reference);
            for unit in self.state.by_values.get(&reference).into_iter().flatten() {
                // What failed for want of it may do better now.
                self.state.units.entry(unit.clone()).or_default().reset();
                self.dirty.insert(unit.clone());
            }
        }
        if self.state.tools.inventory.take_contended() {
            let message = "somebody else writes this cluster's inventory; is there a second agent?";
            self.reporter.event(
                &self.state,
                &UnitId::root(),
                None,
                true,
                "InventoryContended",
                message.into(),
            );
        }
    }

    /// Plans what is dirty until nothing is: a plan that ends in readiness or removal may open the gates of others.
    /// Units at work are looked at when that is done.
    fn plan_dirty(&mut self) {
        let Some(desired) = self.state.desired.clone() else { return };
        let tools = self.state.tools.clone();
        let damage = tools.inventory.damage();
        // One look for all: what stops pruning is lifted by another desired state only.
        let stop = tools.inventory.view(|inventory| {
            plan::prune_stop(&desired, inventory, &self.state.unit_memories, damage.as_deref())
        });
        while let Some(id) = self.dirty.pop_first() {
            if self.running.contains(&id) {
                continue;
            }
            let plan = tools.inventory.view(|inventory| {
                let situation = Situation {
                    desired: &desired,
                    declared: &self.state.declared,
                    inventory,
                    unit_memories: &self.state.unit_memories,
                    resolve: &|id| tools.cluster.discovery().complete(id),
                    prune_stop: stop.clone(),
                    forbidden: &|unit, object| {
                        self.state.units.get(unit).is_some_and(|state| state.is_forbidden(object))
                    },
                    broken: &self.state.broken,
                    remove_all: self.state.remove_all,
                    access: &|unit, claims| self.state.access(unit, claims),
                    shape: &|unit| flotilla_core::flux::shape(&desired, &self.state.unit_memories, unit),
                };
                plan::plan(&id, &situation, &|object| self.state.look(object))
            });
            let opened = self.act(self.without_relinquished(plan));
            self.dirty.extend(opened);
        }
        // What waited for it is not to be done any more.
        if self.away && !self.state.units.values().any(|state| state.away.is_some()) {
            self.is_back();
        }
    }

    /// When anything is due though nothing happens.
    fn due(&self) -> Instant {
        let due = self.state.units.iter().filter(|(id, _)| !self.running.contains(*id));
        let due = due.filter_map(|(_, state)| state.due()).min();
        due.unwrap_or_else(|| Instant::now() + IDLE)
    }

    fn pass(&mut self, now: Instant) {
        let due: Vec<UnitId> = self
            .state
            .units
            .iter()
            .filter(|(id, state)| !self.running.contains(*id) && state.due().is_some_and(|at| at <= now))
            .map(|(id, _)| id.clone())
            .collect();
        for id in due {
            let compares =
                self.state.units.get(&id).is_some_and(|state| state.compare_at.is_some_and(|at| at <= now));
            if compares {
                self.state.doubt(&id);
            }
            if let Some(state) = self.state.units.get_mut(&id) {
                state.pass(now);
            }
            self.dirty.insert(id);
        }
    }
}

/// The API group of roles and their bindings.
pub(super) const RBAC: &str = "rbac.authorization.k8s.io";

pub(in crate::sync) fn links_of(
    unit: &flotilla_core::UnitManifest,
    account: Option<&ServiceAccount>,
) -> Links {
    let (parent, depends_on) = (unit.spec.parent.clone(), unit.spec.depends_on.clone());
    Links { parent, depends_on, account: account.cloned(), place: unit.spec.place }
}
