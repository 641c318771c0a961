//! What the coordinator knows: what is desired, what is remembered of units and objects, and whose objects are whose. Reads the
//! cluster through what is watched; starts nothing and tells nobody.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use flotilla_core::guard::UnitDeparture;
use flotilla_core::plan::{Access, Claim, Declared, Observation, ObservedState, UnitMemory};
use flotilla_core::template::ValuesRef;
use flotilla_core::{DesiredState, Digest, ObjectId, UnitId, UnitManifest};

use crate::cluster::members::Presence;
use crate::sync::memory::{ApplyMode, Expiry, LastApplied};
use crate::sync::tools::Tools;
use crate::sync::unit_state::UnitState;

pub(super) struct State {
    pub(super) tools: Arc<Tools>,
    pub(super) desired: Option<Arc<DesiredState>>,
    pub(super) declared: Declared,
    pub(super) broken: BTreeMap<UnitId, String>,
    /// What was known of the cluster's kinds when identities were last completed.
    pub(super) discovery: u64,
    pub(super) unit_memories: BTreeMap<UnitId, UnitMemory>,
    pub(super) last_applied: HashMap<ObjectId, LastApplied>,
    pub(super) units: BTreeMap<UnitId, UnitState>,
    pub(super) by_object: HashMap<ObjectId, Vec<UnitId>>,
    /// Units with templates that take values from there.
    pub(super) by_values: BTreeMap<ValuesRef, BTreeSet<UnitId>>,
    /// Values are taken from elsewhere than was indexed.
    pub(super) stale: bool,
    /// Objects to be compared by their content at the next occasion: see [`LastApplied::follow`].
    pub(super) in_doubt: HashSet<ObjectId>,
    /// Units whose plan or readiness hangs on the key.
    pub(super) dependents: BTreeMap<UnitId, BTreeSet<UnitId>>,
    /// Units that left Git, with the change that they left in.
    pub(super) removals: BTreeMap<UnitId, UnitDeparture>,
    /// The root that is desired is not where the one was that was applied before.
    pub(super) root_moved: bool,
    pub(super) remove_all: bool,
    /// Objects that were given back to others: not touched, not listed.
    pub(super) relinquished: Arc<HashSet<ObjectId>>,
}

impl State {
    pub(super) fn new(tools: Arc<Tools>) -> Self {
        Self {
            tools,
            desired: None,
            declared: Declared::default(),
            broken: BTreeMap::new(),
            discovery: 0,
            unit_memories: BTreeMap::new(),
            last_applied: HashMap::new(),
            units: BTreeMap::new(),
            by_object: HashMap::new(),
            by_values: BTreeMap::new(),
            stale: false,
            in_doubt: HashSet::new(),
            dependents: BTreeMap::new(),
            removals: BTreeMap::new(),
            root_moved: false,
            remove_all: false,
            relinquished: Arc::default(),
        }
    }

    /// The manifests that say what the unit's objects are: the desired one, and the last one while they differ.
    pub(super) fn manifests<'a>(&'a self, unit: &UnitId) -> impl Iterator<Item = &'a Arc<UnitManifest>> {
        let desired = self.desired.as_ref().and_then(|desired| desired.present(unit));
        let last = self.unit_memories.get(unit).and_then(|unit_memory| unit_memory.last.as_ref());
        desired.into_iter().chain(last)
    }

    /// Every unit that anybody knows of.
    pub(super) fn all_units(&self) -> BTreeSet<UnitId> {
        let mut all: BTreeSet<UnitId> =
            self.tools.inventory.view(|inventory| inventory.units.keys().cloned().collect());
        all.extend(self.desired.iter().flat_map(|desired| desired.units().keys().cloned()));
        all.extend(self.unit_memories.keys().cloned());
        all
    }

    /// Notes an apply. Values that its template took are followed from now on.
    pub(super) fn note_applied(&mut self, unit: &UnitId, id: ObjectId, mut last_applied: LastApplied) {
        if let Some(before) = self.last_applied.get(&id) {
            last_applied.follow(before);
        }
        self.in_doubt.remove(&id);
        let is_followed = |reference| self.by_values.get(reference).is_some_and(|units| units.contains(unit));
        let old = self.last_applied.get(&id).map_or(&[][..], |old| &old.taken);
        let is_same =
            old.len() == last_applied.taken.len() && last_applied.taken.iter().all(|(at, _)| is_followed(at));
        self.stale |= !is_same;
        self.last_applied.insert(id, last_applied);
    }

    pub(super) fn look(&self, id: &ObjectId) -> Observation {
        let Some(last_applied) = self.last_applied.get(id) else {
            return Observation { applied: None, state: ObservedState::Unknown, drift: None };
        };
        let state = match self.tools.members.get(id) {
            _ if last_applied.apply_mode == ApplyMode::Never => {
                ObservedState::There { uid: last_applied.uid.clone(), touched: false }
            }
            // What cannot be watched is applied once, and the answer shows how it is.
            Presence::Unknown if self.tools.members.problem_of(id).is_some_and(|(_, lasting)| lasting) => {
                return Observation {
                    applied: None,
                    state: ObservedState::Unknown,
                    drift: last_applied.drift,
                };
            }
            Presence::Unknown => ObservedState::Unknown,
            // Left alone since it was there, it may never have got our label.
            Presence::Absent
                if last_applied.apply_mode == ApplyMode::Once && last_applied.entry.is_none() =>
            {
                ObservedState::There { uid: last_applied.uid.clone(), touched: false }
            }
            // It did its work; the cluster tidied up.
            Presence::Absent if last_applied.expiry == Expiry::Once && last_applied.ended.is_some() => {
                ObservedState::There { uid: last_applied.uid.clone(), touched: false }
            }
            Presence::Absent
                if last_applied.expiry == Expiry::Again
                    && last_applied.ended.is_some()
                    && !self.in_doubt.contains(id) =>
            {
                ObservedState::There { uid: last_applied.uid.clone(), touched: false }
            }
            Presence::Absent => ObservedState::Absent,
            Presence::There(observed) => {
                let as_left = observed.entry == last_applied.entry && observed.uid == last_applied.uid;
                let added = observed.folded && last_applied.apply_mode == ApplyMode::Override;
                let free = observed.paused || last_applied.apply_mode == ApplyMode::Once;
                let doubt = last_applied.is_in_doubt(&observed, self.in_doubt.contains(id));
                ObservedState::There { uid: observed.uid, touched: !free && (!as_left || added || doubt) }
            }
        };
        // The values of a template are part of what was applied.
        let seen_values = |at: &ValuesRef| self.tools.values.get(at);
        let is_other = |(at, taken): &(ValuesRef, Digest)| seen_values(at).is_some_and(|seen| seen != *taken);
        let is_stale = last_applied.apply_mode != ApplyMode::Never && last_applied.taken.iter().any(is_other);
        let applied = if is_stale { Digest::of(b"other values") } else { last_applied.fingerprint };
        Observation { applied: Some(applied), state, drift: last_applied.drift }
    }

    /// Has the contents of a unit's objects compared, as far as they may differ though nothing tells so.
    pub(super) fn doubt(&mut self, unit: &UnitId) {
        let complete = |id: &ObjectId| self.tools.cluster.discovery().complete(id);
        let objects: BTreeSet<ObjectId> = self
            .manifests(unit)
            .flat_map(|manifest| manifest.objects.iter().map(|entry| complete(&entry.object.id)))
            .collect();
        let is_open =
            |last_applied: &LastApplied| !last_applied.settled || last_applied.expiry == Expiry::Again;
        self.in_doubt.extend(objects.into_iter().filter(|id| self.last_applied.get(id).is_some_and(is_open)));
    }

    /// What is known of the claims that stand before a unit.
    pub(super) fn access(&self, unit: &UnitId, claims: &[Claim]) -> Access {
        let known = self.units.get(unit).and_then(|state| state.access.as_ref());
        match known {
            Some(asked) if asked.claims == claims => asked.access.clone(),
            _ => Access::Unknown,
        }
    }
}
