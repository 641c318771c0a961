//! The inventories that Flux is given: what it may delete once Git drops it.

use std::collections::BTreeMap;

use flotilla_api::{Definition, Health, Tree, TreeObject};
use flotilla_core::adopt::inventory_entry;
use flotilla_core::{ObjectId, UnitId};
use serde_json::{Value, json};

/// What Flux is told that it applied, by unit.
pub(super) struct Inventories(BTreeMap<UnitId, Vec<Value>>);

impl Inventories {
    /// A unit that is held, or of which the hub does not know the objects, has none: Flux then deletes less, never more.
    pub(super) fn of(tree: &Tree, definitions: &[Definition], warnings: &mut Vec<String>) -> Self {
        let mut entries: BTreeMap<UnitId, Vec<Value>> = BTreeMap::new();
        for unit in &tree.units {
            let Ok(id) = unit.unit.unit.parse::<UnitId>() else { continue };
            if unit.unit.phase == "Held" || unit.unit.desired.is_none() {
                warnings.push(format!(
                    "{id} is held, so Flux is not told what it applied: what Git drops of it before Flux applies it stays"
                ));
                continue;
            }
            let kept = unit.objects.iter().filter(|object| object.health == Health::Kept).count();
            if kept > 0 {
                warnings.push(format!("{kept} objects of {id} were kept by a guard; Flux leaves them alone"));
            }
            let applied = unit.objects.iter().filter(|object| object.health != Health::Kept);
            entries.insert(id, applied.map(entry).collect());
        }
        for definition in definitions {
            let Ok(parent) = definition.defined_by.parse::<UnitId>() else { continue };
            let api_version = definition.object["apiVersion"].as_str().unwrap_or_default();
            if let (Some(entries), Some((group, version))) =
                (entries.get_mut(&parent), api_version.split_once('/'))
            {
                let id = ObjectId::new(group, &definition.kind, &definition.namespace, &definition.name);
                entries.push(json!({"id": inventory_entry(&id), "v": version}));
            }
        }
        Self(entries)
    }

    pub(super) fn put_into(&self, unit: &UnitId, object: &mut Value) {
        if let Some(entries) = self.0.get(unit) {
            object["status"] = json!({"inventory": {"entries": entries}});
        }
    }
}

fn entry(object: &TreeObject) -> Value {
    let flotilla_api::ObjectId { group, kind, namespace, name } = object.object.clone();
    json!({"id": inventory_entry(&ObjectId::new(group, kind, namespace, name)), "v": object.version})
}
