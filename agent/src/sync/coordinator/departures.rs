//! Which change each object left in, noted when a state is taken in: by the time that what left can be pruned, other changes
//! may have followed.

use std::collections::BTreeSet;

use flotilla_core::guard::{self, Departure};
use flotilla_core::inventory::Inventory;
use flotilla_core::{DesiredState, ObjectId, UnitId};

use super::Coordinator;

impl Coordinator {
    /// Notes what a state has left behind, of units that it has; `before` is the one that it replaces.
    pub(super) fn note_departures(&mut self, desired: &DesiredState, before: Option<&DesiredState>) {
        let discovery = self.state.tools.cluster.discovery();
        let is_declared = |id: &ObjectId| self.state.declared.owner(id).is_some();
        let mut changed = Vec::new();
        // For as long as the state is desired: once it is applied, the inventory says where the new root is.
        self.state.root_moved |= self.state.tools.inventory.view(|inventory| root_moved(desired, inventory));
        for manifest in desired.all_present() {
            let id = &manifest.id;
            let state = self.state.units.entry(id.clone()).or_default();
            let mut absent: BTreeSet<ObjectId> = self.state.tools.inventory.view(|inventory| {
                let listed = inventory.units.get(id).into_iter().flat_map(|unit| unit.members.keys());
                listed.filter(|id| !is_declared(id)).cloned().collect()
            });
            if self.running.contains(id) {
                // Work on a state before may be about to list more.
                let wanted = before.and_then(|before| before.present(id));
                let wanted = wanted.into_iter().flat_map(|before| &before.objects);
                let more = wanted.map(|entry| discovery.complete(&entry.object.id));
                let known = state.departures.iter().map(|(id, _)| id.clone());
                absent.extend(more.chain(known).filter(|id| !is_declared(id)));
            }
            // Another root says nothing of what left a unit that it defines all the same.
            let moved = self.state.root_moved && *id == UnitId::root();
            let now = Departure { generation: desired.generation, wanted: manifest.objects.len(), moved };
            if state.departures.note(now, absent) {
                changed.push(id.clone());
            }
        }
        // Lost, all that left would count as one change.
        for id in changed {
            let has_left =
                self.state.units.get(&id).is_some_and(|state| state.departures.iter().next().is_some());
            self.keep_note(&id, has_left);
        }
    }

    /// Notes the units that a state removes, each with those that leave with it.
    pub(super) fn note_removals(&mut self, desired: &DesiredState) {
        let is_declared = |id: &ObjectId| self.state.declared.owner(id).is_some();
        let removals = &mut self.state.removals;
        let changed = self.state.tools.inventory.view(|inventory| {
            guard::note_removals(desired, self.state.root_moved, inventory, &is_declared, removals)
        });
        // Lost, the units that are still there by then would count as the whole change.
        for id in changed {
            let is_noted = self.state.removals.contains_key(&id);
            self.keep_note(&id, is_noted);
        }
        self.close_unit_approvals();
    }

    /// Has what was noted of a unit remembered, also of one of which nothing else is, as after a loss of the disk.
    fn keep_note(&mut self, unit: &UnitId, is_noted: bool) {
        if is_noted {
            self.state.unit_memories.entry(unit.clone()).or_default();
        }
        if self.state.unit_memories.contains_key(unit) {
            self.store(unit);
        }
    }
}

/// Whether the root is another one than the one that was last applied here, or may be: nobody knows where one was that an
/// agent of an older version applied.
fn root_moved(desired: &DesiredState, inventory: &Inventory) -> bool {
    let place = desired.present(&UnitId::root()).and_then(|root| root.spec.place);
    let listed = inventory.units.get(&UnitId::root());
    place.is_some() && listed.is_some_and(|listed| listed.links.place != place)
}
