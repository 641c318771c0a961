//! Objects that were given back to those who had them: off the inventory, and not touched again until they are adopted anew.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use flotilla_core::plan::{ApplyStep, UnitPlan};
use flotilla_core::{ObjectId, UnitId};

use super::Coordinator;

const WHY: &str = "was given back by `flotilla cluster adopt --undo` and is left alone; adopt the cluster again to take it over";

impl Coordinator {
    /// Lets go of objects, and takes up those that were let go before and are not named any more.
    pub(super) fn relinquish(&mut self, relinquished: Arc<HashSet<ObjectId>>) {
        let new: Vec<ObjectId> = relinquished.difference(&self.state.relinquished).cloned().collect();
        let changed = new.len() != relinquished.len() || relinquished.len() != self.state.relinquished.len();
        self.state.relinquished = relinquished;
        self.forget(new.iter());
        if changed {
            for id in self.state.all_units() {
                self.state.units.entry(id.clone()).or_default().reset();
                self.dirty.insert(id);
            }
        }
        self.releasing = Some(self.running.clone());
        self.tell_released();
    }

    /// Takes what was given back out of a plan, and says so.
    pub(super) fn without_relinquished(&self, mut plan: UnitPlan) -> UnitPlan {
        if self.state.relinquished.is_empty() {
            return plan;
        }
        let (relinquished, apply) =
            plan.apply.into_iter().partition(|step| self.state.relinquished.contains(&step.object.id));
        plan.apply = apply;
        plan.tolerated.retain(|step| !self.state.relinquished.contains(&step.object.id));
        let relinquished: Vec<ApplyStep> = relinquished;
        plan.refused.extend(relinquished.into_iter().map(|step| (step.object.id, WHY.to_owned())));
        plan
    }

    /// Work that was under way may have touched them once more.
    pub(super) fn drop_relinquished(&mut self, steps: &[ApplyStep]) {
        if !self.state.relinquished.is_empty() {
            let relinquished = self.state.relinquished.clone();
            self.forget(steps.iter().map(|step| &step.object.id).filter(|id| relinquished.contains(*id)));
        }
    }

    fn forget<'a>(&mut self, ids: impl Iterator<Item = &'a ObjectId>) {
        let mut units = BTreeSet::new();
        for id in ids {
            self.state.last_applied.remove(id);
            let owners: Vec<UnitId> =
                self.state.tools.inventory.view(|inventory| inventory.owners(id).cloned().collect());
            for unit in owners {
                self.state.tools.inventory.unlist(&unit, &[id.clone()].into(), false);
                units.insert(unit);
            }
        }
        units.iter().for_each(|unit| self.store(unit));
    }

    /// A unit's work ended.
    pub(super) fn released(&mut self, unit: &UnitId) {
        if let Some(units) = &mut self.releasing {
            units.remove(unit);
            self.tell_released();
        }
    }

    fn tell_released(&mut self) {
        if self.releasing.take_if(|units| units.is_empty()).is_some() {
            self.shared.released.send_modify(|()| {});
        }
    }
}
