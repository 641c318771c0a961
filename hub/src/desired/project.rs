//! What a render means for a cluster: which units are present, which are held, which go. Pure.
//!
//! Nothing is removed because something is missing: a unit is removed only if its parent rendered completely, is not
//! suspended, and no longer defines it. Everything else that is not present is held. A unit that was suspended when it
//! left Git, or whose parent was, is told to the agent as such, and not touched.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use flotilla_core::capability::PLACE;
use flotilla_core::desired::{Hold, HoldCode, KnownUnit, Removal};
use flotilla_core::{Authority, Capabilities, Digest, UnitEntry, UnitId, UnitManifest, UnitSpec};
use flotilla_proto::convert::cut;
use flotilla_render::{ClusterRender, Fate, Past, fate};

use super::Bodies;
use super::choice::Taken;

/// What people suspended by hand in one cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Suspended {
    pub whole: bool,
    pub units: BTreeSet<UnitId>,
}

impl Suspended {
    pub fn covers(&self, unit: &UnitId) -> bool {
        self.whole || self.units.contains(unit)
    }
}

/// The units of a cluster's desired state, and the bodies of all objects in it.
pub type Projection = (BTreeMap<UnitId, UnitEntry>, Bodies);

/// A render whose units are from one snapshot or several.
#[derive(Clone, Copy)]
pub struct Source<'a> {
    pub render: &'a ClusterRender,
    /// The units that are not of the newest snapshot.
    pub taken: &'a BTreeMap<UnitId, Taken>,
    /// The renders of the others.
    pub older: &'a BTreeMap<Digest, Result<ClusterRender, String>>,
}

impl<'a> Source<'a> {
    /// The render that decides what becomes of a unit.
    fn of(self, id: &UnitId) -> Result<&'a ClusterRender, &'a str> {
        match self.taken.get(id) {
            None => Ok(self.render),
            Some(Taken::Unknown(why)) => Err(why),
            Some(Taken::At(snapshot)) => match self.older.get(snapshot) {
                Some(render) => render.as_ref().map_err(String::as_str),
                None => Err("the snapshot that it is to be taken from is lost"),
            },
        }
    }
}

/// Projects a cluster's render. `known` are the units that the cluster has, or may have; `place` is where its root is.
pub fn project(
    source: Source<'_>,
    known: &BTreeMap<UnitId, KnownUnit>,
    suspended: &Suspended,
    place: Digest,
) -> Projection {
    let render = source.render;
    let mut units = BTreeMap::new();
    let mut bodies = Vec::new();
    for (id, rendered) in &render.units {
        let entry = match &rendered.unit {
            None => {
                let authority = rendered.authority.clone();
                UnitEntry::Hold(Hold { authority, ..Hold::from(cut(rendered.hold_reason())) })
            }
            Some(unit) => {
                bodies.push(unit.content.clone());
                let is_root = *id == UnitId::root();
                let suspend = suspended.covers(id) || unit.manifest.spec.suspend;
                UnitEntry::Present(if is_root || suspend != unit.manifest.spec.suspend {
                    let place = is_root.then_some(place);
                    let spec = UnitSpec { suspend, place, ..unit.manifest.spec.clone() };
                    Arc::new(UnitManifest::new(id.clone(), spec, unit.manifest.objects.clone()))
                } else {
                    unit.manifest.clone()
                })
            }
        };
        units.insert(id.clone(), entry);
    }
    let past = |id: &UnitId| {
        let unit = known.get(id)?;
        Some(Past { parent: unit.parent.as_ref(), suspended: unit.removal.suspended })
    };
    for (id, unit) in known {
        if !render.units.contains_key(id) {
            let of = match source.of(id) {
                Ok(of) => of,
                Err(why) => {
                    let authority = authority_above(render, known, id);
                    let hold = Hold { authority, ..Hold::from(cut(why.to_owned())) };
                    units.insert(id.clone(), UnitEntry::Hold(hold));
                    continue;
                }
            };
            let entry = match fate(of, &past, &|id| suspended.covers(id), id) {
                Fate::Goes { suspended } => UnitEntry::Removed(Removal { suspended, ..unit.removal }),
                Fate::Stays(code, text) => {
                    let authority = authority_above(of, known, id);
                    UnitEntry::Hold(Hold { code, authority, ..Hold::from(text) })
                }
            };
            units.insert(id.clone(), entry);
        }
    }
    (units, Bodies::of(bodies))
}

/// Holds what the cluster's agent must not be sent, as it would pass over a part of it that forbids something.
/// `root_moved`: so does a root that is not where it was.
pub fn withhold(units: &mut BTreeMap<UnitId, UnitEntry>, agent: &Capabilities, root_moved: bool) {
    for (id, entry) in units {
        let of_root = (root_moved && *id == UnitId::root()).then_some(PLACE);
        let lacking: Vec<&str> = agent.lacks(entry.requires().chain(of_root)).into_iter().collect();
        if lacking.is_empty() {
            continue;
        }
        let text = format!(
            "the cluster's agent does not know '{}', which this needs: upgrade the agent to {} or newer",
            lacking.join("', '"),
            env!("CARGO_PKG_VERSION")
        );
        let authority = match entry {
            UnitEntry::Present(unit) => unit.spec.authority.clone(),
            UnitEntry::Hold(_) | UnitEntry::Removed(_) => Authority::Fleet,
        };
        *entry = UnitEntry::Hold(Hold { code: HoldCode::AgentTooOld, authority, ..Hold::from(text) });
    }
}

/// How far a unit that nothing defines any more may reach: at most as far as the first unit above it that is defined.
fn authority_above(render: &ClusterRender, known: &BTreeMap<UnitId, KnownUnit>, id: &UnitId) -> Authority {
    let mut at = id;
    for _ in 0..known.len() {
        let Some(parent) = known.get(at).and_then(|unit| unit.parent.as_ref()) else { break };
        if let Some(rendered) = render.units.get(parent) {
            return rendered.authority.clone();
        }
        at = parent;
    }
    Authority::Fleet
}

/// What has to be known of units when the cluster's root was moved: what the new root does not define waits for an approval.
pub fn moved(known: &mut BTreeMap<UnitId, KnownUnit>, render: &ClusterRender) -> Vec<KnownUnit> {
    let mut changed = Vec::new();
    let renders = |id: &UnitId| render.units.get(id).is_some_and(|rendered| rendered.unit.is_some());
    for (id, unit) in known.iter_mut().filter(|(id, unit)| !unit.removal.moved && !renders(id)) {
        tracing::debug!(unit = %id, "is not defined at the cluster's new root");
        unit.removal.moved = true;
        changed.push(unit.clone());
    }
    changed
}

/// The units of a projection as the hub will know them. Suspended are those that Git suspends: the store has those that
/// people suspend.
pub fn known_of<'a>(
    render: &'a ClusterRender,
    units: &'a BTreeMap<UnitId, UnitEntry>,
) -> impl Iterator<Item = KnownUnit> + 'a {
    known_units(units).map(|mut known| {
        if let Some(unit) = render.units.get(&known.id).and_then(|rendered| rendered.unit.as_ref()) {
            known.removal.suspended = unit.manifest.spec.suspend;
        }
        known
    })
}

/// The units of a state as the hub will know them: what a later state may have to remove.
pub fn known_units(units: &BTreeMap<UnitId, UnitEntry>) -> impl Iterator<Item = KnownUnit> {
    units.iter().filter_map(|(id, entry)| match entry {
        UnitEntry::Present(unit) => {
            let (parent, removal) = (unit.spec.parent.clone(), Removal::of(&unit.spec));
            Some(KnownUnit { id: id.clone(), parent, removal, render: unit.spec.render })
        }
        UnitEntry::Hold(_) | UnitEntry::Removed(_) => None,
    })
}

#[cfg(test)]
#[path = "project_tests.rs"]
mod tests;
