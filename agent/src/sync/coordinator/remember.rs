//! What the coordinator keeps across restarts.

use std::collections::BTreeSet;

use flotilla_core::guard::{Departures, Subject};
use flotilla_core::{Digest, ObjectId, UnitId};
use flotilla_runtime::chain;
use flotilla_runtime::lock;

use super::Coordinator;
use crate::sync::memory;

impl Coordinator {
    pub(super) async fn remember(&mut self) {
        let stored = match self.shared.persist.load().await {
            Ok(stored) => stored,
            Err(error) => {
                tracing::warn!(error = chain(&error), "starts without memory");
                return;
            }
        };
        for (key, text) in stored {
            if let Some((digest, subject)) = memory::read_approval(&key, &text) {
                lock(&self.shared.approvals).give(digest, subject);
                continue;
            }
            let Ok(unit) = key.parse::<UnitId>() else { continue };
            match memory::read(&unit, &text) {
                Some(memory::StoredUnit { unit_memory, last_applied, departures, removal }) => {
                    self.state.removals.extend(removal.map(|removal| (unit.clone(), removal)));
                    self.state.units.entry(unit.clone()).or_default().departures = departures;
                    self.shared.runs(&unit, Some(&unit_memory));
                    self.state.unit_memories.insert(unit, unit_memory);
                    // Somebody may have applied under our name while this agent was away.
                    let open = last_applied
                        .iter()
                        .filter(|(_, last_applied)| !last_applied.settled && last_applied.ended.is_none());
                    self.state.in_doubt.extend(open.map(|(id, _)| id.clone()));
                    self.state.last_applied.extend(last_applied);
                }
                None => tracing::warn!(%unit, "what was remembered of it cannot be read"),
            }
        }
    }

    pub(super) fn store(&self, unit: &UnitId) {
        let unit_memory = self.state.unit_memories.get(unit);
        self.shared.runs(unit, unit_memory);
        let record = unit_memory.map(|unit_memory| {
            let complete = |id: &ObjectId| self.state.tools.cluster.discovery().complete(id);
            let ids: BTreeSet<ObjectId> = self
                .state
                .manifests(unit)
                .flat_map(|manifest| manifest.objects.iter().map(|entry| complete(&entry.object.id)))
                .collect();
            let last_applied = ids.iter().filter_map(|id| self.state.last_applied.get_key_value(id));
            let none = Departures::default();
            let departures = self.state.units.get(unit).map(|state| &state.departures);
            let departures = departures.unwrap_or(&none);
            memory::write(unit_memory, last_applied, departures, self.state.removals.get(unit))
        });
        self.shared.persist.put(unit.to_string(), record);
    }

    /// An approval was given, and is remembered without what it is about.
    pub(super) fn approved(&self, digest: Digest) {
        let asked =
            self.state.units.values().flat_map(|state| &state.asked).find(|(asked, _)| *asked == digest);
        self.learn_approvals(asked.map_or(&[], std::slice::from_ref));
    }

    /// Remembers what approvals are about, so that they hold for what is left of it after a restart.
    pub(super) fn learn_approvals(&self, asked: &[(Digest, Subject)]) {
        let mut approvals = lock(&self.shared.approvals);
        for digest in approvals.learn(asked) {
            let text = memory::write_approval(approvals.subject(digest));
            self.shared.persist.put(memory::approval_key(digest), Some(text));
        }
    }

    /// Forgets approvals for a unit's objects that are gone, or wanted again.
    pub(super) fn close_approvals(&self, unit: &UnitId, leaving: &BTreeSet<ObjectId>) {
        let over = lock(&self.shared.approvals).close(unit, leaving);
        self.forget_approvals(over);
    }

    /// Forgets approvals for units of which the last is gone, or wanted again.
    pub(super) fn close_unit_approvals(&self) {
        let is_open = |digest| self.state.removals.values().any(|removal| removal.approval == digest);
        let over = lock(&self.shared.approvals).close_units(is_open);
        self.forget_approvals(over);
    }

    fn forget_approvals(&self, over: Vec<Digest>) {
        for digest in over {
            self.shared.persist.put(memory::approval_key(digest), None);
        }
    }
}
