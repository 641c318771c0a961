//! The units of both sides as desired states would name them: present, held or removed.

use std::collections::BTreeMap;

use flotilla_core::desired::{Hold, Removal};
use flotilla_core::{UnitEntry, UnitId};

use crate::cluster::{ClusterRender, RenderedUnit};
use crate::fate::{Fate, Past, fate};

pub(super) type Entries = BTreeMap<UnitId, UnitEntry>;

/// What the cluster runs by the commit before.
pub(super) fn before(from: &ClusterRender) -> Entries {
    from.units.iter().map(|(id, unit)| (id.clone(), entry(unit))).collect()
}

/// What it is told by the commit after, with the fate of each unit that it had. `moved`: its root is another folder.
pub(super) fn after(from: &ClusterRender, to: &ClusterRender, moved: bool) -> Entries {
    let mut entries: Entries = to.units.iter().map(|(id, unit)| (id.clone(), entry(unit))).collect();
    let past = |id: &UnitId| {
        from.units.get(id).map(|unit| {
            let suspend = unit.unit.as_ref().is_some_and(|unit| unit.manifest.spec.suspend);
            Past { parent: unit.parent.as_ref(), suspended: unit.suspended || suspend }
        })
    };
    for (id, had) in &from.units {
        if to.units.contains_key(id) {
            continue;
        }
        let fate = match fate(to, &past, &|_| false, id) {
            Fate::Goes { suspended } => {
                let removal =
                    had.unit.as_ref().map(|unit| Removal::of(&unit.manifest.spec)).unwrap_or_default();
                UnitEntry::Removed(Removal { moved, suspended, ..removal })
            }
            Fate::Stays(code, text) => {
                UnitEntry::Hold(Hold { code, authority: had.authority.clone(), ..Hold::from(text) })
            }
        };
        entries.insert(id.clone(), fate);
    }
    entries
}

fn entry(unit: &RenderedUnit) -> UnitEntry {
    match &unit.unit {
        Some(unit) => UnitEntry::Present(unit.manifest.clone()),
        None => UnitEntry::Hold(Hold { authority: unit.authority.clone(), ..Hold::from(unit.hold_reason()) }),
    }
}
