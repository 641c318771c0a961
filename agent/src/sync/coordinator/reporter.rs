//! What is told of units and their objects: reports and events, to the hub, the cluster and the log.

use std::sync::Arc;

use flotilla_core::plan::{Target, UnitPlan};
use flotilla_core::report::{Event, FieldDrift, Kept, Phase};
use flotilla_core::{ObjectId, UnitId};

use super::State;
use crate::cluster::events::Events;
use crate::sync::shared::{Shared, now};
use crate::sync::unit_state::ReportInput;

/// More objects than this, kept for one reason, are told of in one event.
const TOLD_SINGLY: usize = 10;

pub(super) struct Reporter {
    pub(super) shared: Arc<Shared>,
    /// Events in the cluster, beside its objects.
    pub(super) events: Events,
}

impl Reporter {
    /// Publishes how a unit is. True where the unit is gone, and its memory with it: that is to be stored.
    pub(super) fn report(&self, state: &mut State, plan: &UnitPlan, running: bool) -> bool {
        let id = &plan.unit;
        let unit_memory = state.unit_memories.get(id);
        let listed = state
            .tools
            .inventory
            .view(|inventory| inventory.units.get(id).map_or(0, |unit| unit.members.len()));
        let is_named = state.desired.as_ref().is_some_and(|desired| desired.units().contains_key(id));
        let ran = unit_memory.is_some_and(|unit_memory| unit_memory.last.is_some());
        let is_over =
            matches!(plan.target, Target::Removed(_, None)) && unit_memory.is_none() || !is_named && !ran;
        if is_over && listed == 0 {
            state.units.remove(id);
            self.shared.publish(id, None);
            return state.unit_memories.remove(id).is_some();
        }
        let desired = state.desired.as_ref().and_then(|desired| desired.present(id));
        let objects = desired.map_or(listed, |unit| unit.objects.len());
        let desired = desired.map(|unit| unit.digest());
        let applied = matches!(&plan.target, Target::Desired(manifest)
            if unit_memory.and_then(|s| s.last.as_ref()).map(|last| last.digest()) == Some(manifest.digest()));
        let health = applied.then(|| state.health_of(plan)).flatten();
        let Some(unit) = state.units.get_mut(id) else { return false };
        let input = ReportInput { running, health, now: now(), unit_memory, objects, desired };
        let report = unit.report(id, plan, input);
        let told = (report.phase, report.message.clone());
        let before = unit.reported.replace(told.clone());
        self.shared.publish(id, Some(report));
        if before.as_ref() != Some(&told) {
            let was = before.map(|(phase, _)| phase);
            match told.0 {
                Phase::Failed => self.event(state, id, None, true, "Failed", told.1),
                // After a restart everything is as it was.
                Phase::Ready if was.is_some_and(|was| ![Phase::Ready, Phase::Pending].contains(&was)) => {
                    self.event(state, id, None, false, "Ready", told.1)
                }
                _ => {}
            }
        }
        false
    }

    pub(super) fn event(
        &self,
        state: &State,
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
        let uid = object
            .as_ref()
            .and_then(|id| state.last_applied.get(id))
            .map(|last_applied| last_applied.uid.to_string());
        let event = Event { at: now(), unit: unit.clone(), object, warning, reason: reason.into(), message };
        if event.object.is_some() {
            self.events.tell(event.clone(), uid.unwrap_or_default());
        }
        self.shared.event(event);
    }

    /// What one approval would let go: each by itself, or in one line where a guard kept many at once.
    pub(super) fn kept(&self, state: &State, unit: &UnitId, kept: Vec<Kept>) {
        let words = |kept: &Kept| format!("{}; approve {} to delete it", kept.why, kept.approval.short());
        if let [first, .., _] = &kept[..]
            && kept.len() > TOLD_SINGLY
        {
            let names: Vec<String> = kept.iter().take(3).map(|kept| kept.object.to_string()).collect();
            let message =
                format!("{} and {} more: {}", names.join(", "), kept.len() - names.len(), words(first));
            return self.event(state, unit, None, true, "Kept", message);
        }
        for one in kept {
            let message = words(&one);
            self.event(state, unit, Some(one.object), true, "Kept", message);
        }
    }
}

/// What became of a field that drifted.
pub(super) fn describe(field: &FieldDrift) -> String {
    let FieldDrift { field, found, wanted, manager } = field;
    let by = manager.as_ref().map(|manager| format!(" by {manager}")).unwrap_or_default();
    let was = match found {
        Some(found) => format!("was set to {found}{by}"),
        None => format!("was removed{by}"),
    };
    match wanted {
        Some(wanted) => format!("{field} {was}, is {wanted} again"),
        None => format!("{field} {was}, is removed again"),
    }
}
