//! What the coordinator keeps across restarts.

use std::collections::BTreeSet;

use flotilla_core::{ObjectId, UnitId};

use super::Coordinator;
use crate::cluster::request::chain;
use crate::sync::memory;

impl Coordinator {
    pub(super) fn remember(&mut self) {
        let stored = match self.shared.memory.load() {
            Ok(stored) => stored,
            Err(error) => {
                tracing::warn!(error = chain(&error), "starts without memory");
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

    pub(super) fn store(&self, unit: &UnitId) {
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
            tracing::warn!(%unit, error = chain(&error), "goes on without memory");
        }
    }
}
