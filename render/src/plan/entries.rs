//! The units of both sides as desired states would name them: present, held or removed.

use std::collections::BTreeMap;

use flotilla_core::desired::{Hold, HoldCode, Removal};
use flotilla_core::{UnitEntry, UnitId};

use crate::cluster::{ClusterRender, RenderedUnit};

pub(super) type Entries = BTreeMap<UnitId, UnitEntry>;

/// Parents above each other that are looked at.
const GENERATIONS: usize = 64;

/// What the cluster runs by the commit before.
pub(super) fn before(from: &ClusterRender) -> Entries {
    from.units.iter().map(|(id, unit)| (id.clone(), entry(unit))).collect()
}

/// What it is told by the commit after, with the fate of each unit that it had. `moved`: its root is another folder.
pub(super) fn after(from: &ClusterRender, to: &ClusterRender, moved: bool) -> Entries {
    let mut entries: Entries = to.units.iter().map(|(id, unit)| (id.clone(), entry(unit))).collect();
    for (id, had) in &from.units {
        if to.units.contains_key(id) {
            continue;
        }
        let fate = match fate(from, to, id, GENERATIONS) {
            Ok(suspended) => {
                let removal =
                    had.unit.as_ref().map(|unit| Removal::of(&unit.manifest.spec)).unwrap_or_default();
                UnitEntry::Removed(Removal { moved, suspended: suspended || removal.suspended, ..removal })
            }
            Err(reason) => UnitEntry::Hold(Hold {
                code: HoldCode::ParentHeld,
                authority: had.authority.clone(),
                ..Hold::from(reason)
            }),
        };
        entries.insert(id.clone(), fate);
    }
    entries
}

fn entry(unit: &RenderedUnit) -> UnitEntry {
    match &unit.unit {
        Some(unit) => UnitEntry::Present(unit.manifest.clone()),
        None => {
            let reasons = unit.problems.iter().find(|problem| !problem.notice).map(ToString::to_string);
            let reason = reasons.unwrap_or_else(|| "it does not render".to_owned());
            UnitEntry::Hold(Hold { authority: unit.authority.clone(), ..Hold::from(reason) })
        }
    }
}

/// Whether a unit that nothing defines any more goes, and whether something above it was suspended; or why it stays.
fn fate(from: &ClusterRender, to: &ClusterRender, id: &UnitId, steps: usize) -> Result<bool, String> {
    let parent = from.units.get(id).and_then(|unit| unit.parent.as_ref());
    let Some(parent) = parent else { return Err("nothing says which unit defined it".to_owned()) };
    if to.units.contains_key(parent) {
        return if to.dropped(parent, id) {
            Ok(false)
        } else {
            Err(format!("{parent}, which defined it, does not render or is suspended"))
        };
    }
    if steps == 0 {
        return Err("its parents are too many".to_owned());
    }
    let above =
        fate(from, to, parent, steps - 1).map_err(|_| format!("{parent}, which defined it, is held"))?;
    Ok(above || from.units.get(parent).is_some_and(|parent| parent.suspended))
}
