//! Which change each object left in, noted when a state is taken in: by the time that what left can be pruned, other changes
//! may have followed.

use std::collections::BTreeSet;

use flotilla_core::guard::{self, Departure};
use flotilla_core::{DesiredState, ObjectId};

use super::Coordinator;

impl Coordinator {
    /// Notes what a state has left behind, of units that it has; `before` is the one that it replaces.
    pub(super) fn note_departures(&mut self, desired: &DesiredState, before: Option<&DesiredState>) {
        let discovery = self.tools.cluster.discovery();
        let is_declared = |id: &ObjectId| self.declared.owner(id).is_some();
        let mut changed = Vec::new();
        for manifest in desired.all_present() {
            let id = &manifest.id;
            let state = self.units.entry(id.clone()).or_default();
            let mut absent: BTreeSet<ObjectId> = self.tools.inventory.view(|inventory| {
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
            let now = Departure { generation: desired.generation, wanted: manifest.objects.len() };
            if state.departures.note(now, absent) {
                changed.push(id.clone());
            }
        }
        // Lost, all that left would count as one change.
        for id in changed.iter().filter(|id| self.unit_memories.contains_key(*id)) {
            self.store(id);
        }
    }

    /// Notes the units that a state removes, each with those that leave with it.
    pub(super) fn note_removals(&mut self, desired: &DesiredState) {
        let is_declared = |id: &ObjectId| self.declared.owner(id).is_some();
        let removals = &mut self.removals;
        let changed = self
            .tools
            .inventory
            .view(|inventory| guard::note_removals(desired, inventory, &is_declared, removals));
        // Lost, the units that are still there by then would count as the whole change.
        for id in changed.iter().filter(|id| self.unit_memories.contains_key(*id)) {
            self.store(id);
        }
        self.settle_unit_approvals();
    }
}
