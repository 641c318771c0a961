//! The gates of a unit: what it may be now, given where its parent and its dependencies stand.

use std::collections::{BTreeMap, BTreeSet};

use crate::desired::{Removal, UnitEntry};
use crate::expr::{Expr, Variables};
use crate::inventory::UnitInventory;
use crate::plan::{Access, Claim, Situation, Target, UnitMemory, Waiting};
use crate::unit::{DeletionPolicy, SourceKindIn, UnitId, UnitKind, UnitManifest};

/// What the unit is to be now.
pub(super) fn target(id: &UnitId, situation: &Situation) -> Target {
    if situation.remove_all {
        let everything = Removal { policy: DeletionPolicy::Delete, prune: true, ..Removal::default() };
        return removed(id, everything, situation);
    }
    let unit_memory = situation.unit_memories.get(id);
    let keep = |waiting: Waiting| match unit_memory.and_then(|unit_memory| unit_memory.last.clone()) {
        Some(last) => Target::Last(last, waiting),
        None => Target::Nothing(waiting),
    };
    // A unit that nothing says more of stays what it was, suspended too.
    let hold = |reason: &str| match unit_memory {
        Some(UnitMemory { suspended: true, .. }) => Target::Suspended(Some(reason.to_owned())),
        _ => keep(Waiting::Held(reason.to_owned())),
    };
    match situation.desired.units().get(id) {
        None => hold("the hub does not name it, so it is held"),
        Some(UnitEntry::Hold(held)) => hold(held.message()),
        Some(UnitEntry::Removed(Removal { suspended: true, .. })) => {
            let kept = "left Git while it was suspended, so its objects stay; \
                        `flotilla resume` removes the unit as Git says";
            Target::Suspended(Some(kept.to_owned()))
        }
        Some(UnitEntry::Removed(removal)) => match undecided(id, situation) {
            Some(waiting) if unit_memory.is_some_and(|unit_memory| unit_memory.last.is_some()) => {
                keep(waiting)
            }
            Some(waiting) => Target::Removed(*removal, Some(waiting)),
            None => removed(id, *removal, situation),
        },
        Some(UnitEntry::Present(unit)) if unit.spec.suspend => Target::Suspended(None),
        Some(UnitEntry::Present(unit)) => match closed(unit, situation) {
            Some(waiting) => keep(waiting),
            None => Target::Desired(unit.clone()),
        },
    }
}

/// What stands between a unit that left Git and its removal: the first unit above it that stays has to have applied,
/// completely, the revision that no longer defines what is below it. As in Flux, which prunes after a whole apply only.
fn undecided(id: &UnitId, situation: &Situation) -> Option<Waiting> {
    let (desired, inventory) = (situation.desired, situation.inventory);
    // Of what never ran nothing can be lost.
    if inventory.units.get(id).is_none_or(|unit| unit.members.is_empty()) {
        return None;
    }
    let mut seen = BTreeSet::from([id.clone()]);
    let mut at = id.clone();
    loop {
        let listed = inventory.units.get(&at).and_then(|unit| unit.links.parent.clone());
        let last = || situation.unit_memories.get(&at)?.last.as_ref()?.spec.parent.clone();
        // Whoever defined it, the root was above it.
        let parent =
            listed.or_else(last).filter(|parent| !seen.contains(parent)).unwrap_or_else(UnitId::root);
        match desired.units().get(&parent) {
            Some(UnitEntry::Present(above)) if above.spec.suspend => {
                return Some(Waiting::ParentSuspended(parent));
            }
            Some(UnitEntry::Present(above)) => {
                let last =
                    situation.unit_memories.get(&parent).and_then(|unit_memory| unit_memory.last.as_ref());
                let applied = last.is_some_and(|last| last.digest() == above.digest());
                return (!applied).then_some(Waiting::Departure(parent));
            }
            Some(UnitEntry::Removed(Removal { suspended: true, .. })) => {
                return Some(Waiting::ParentSuspended(parent));
            }
            Some(UnitEntry::Hold(_)) => return Some(Waiting::ParentHeld(parent)),
            // A state that names no root has nobody above its units.
            None | Some(UnitEntry::Removed(_)) if parent.kind == UnitKind::Root => return None,
            None => return Some(Waiting::ParentHeld(parent)),
            Some(UnitEntry::Removed(_)) => {
                seen.insert(parent.clone());
                at = parent;
            }
        }
    }
}

/// The gate that stands between the unit and its desired manifest, if any.
fn closed(unit: &UnitManifest, situation: &Situation) -> Option<Waiting> {
    if let Some(why) = situation.broken.get(&unit.id) {
        return Some(Waiting::Broken(why.clone()));
    }
    let unit_memory = situation.unit_memories.get(&unit.id);
    let is_admitted = unit_memory.and_then(|unit_memory| unit_memory.admitted) == Some(unit.spec_digest());
    if !is_admitted
        && let Some(parent) = &unit.spec.parent
        && let Some(waiting) = parent_closed(unit, parent, situation)
    {
        return Some(waiting);
    }
    // What is applied already is kept right whatever becomes of its dependencies.
    let is_applied = unit_memory
        .and_then(|unit_memory| unit_memory.last.as_ref())
        .is_some_and(|last| last.digest() == unit.digest());
    let claims = claims(unit, situation);
    if !claims.is_empty() {
        match (situation.access)(&unit.id, &claims) {
            Access::Allowed => {}
            // What was let through is no more than it was, and no less, while nobody knows.
            Access::Unknown if is_admitted && is_applied => {}
            Access::Unknown => return Some(Waiting::Access(claims)),
            Access::Denied(why) => return Some(Waiting::Denied(why)),
        }
    }
    if is_applied {
        return None;
    }
    unit.spec.depends_on.iter().find_map(|dependency| match unit.spec.ready_exprs.get(dependency) {
        Some(text) => by_expression(unit, dependency, text, situation),
        None => (!is_ready(dependency, situation)).then(|| Waiting::Dependency(dependency.clone())),
    })
}

/// Whether the expression for a dependency leaves the gate closed.
fn by_expression(
    unit: &UnitManifest,
    dependency: &UnitId,
    text: &str,
    situation: &Situation,
) -> Option<Waiting> {
    let shape = |unit: &UnitId| (situation.shape)(unit).unwrap_or_default();
    let variables = Variables::default().with("dep", &shape(dependency)).with("self", &shape(&unit.id));
    let holds = Expr::new(text).map_err(|error| error.to_string()).and_then(|expr| expr.holds(&variables));
    match holds {
        Ok(true) => None,
        Ok(false) => Some(Waiting::Dependency(dependency.clone())),
        Err(why) => Some(Waiting::Expression(dependency.clone(), why)),
    }
}

fn parent_closed(unit: &UnitManifest, parent: &UnitId, situation: &Situation) -> Option<Waiting> {
    // It ran before, and only the agent's memory of it is lost: its definition was let through once.
    let ran =
        !situation.unit_memories.contains_key(&unit.id) && situation.inventory.units.contains_key(&unit.id);
    match situation.desired.units().get(parent) {
        Some(UnitEntry::Present(manifest)) if manifest.spec.suspend => {
            (!ran).then(|| Waiting::ParentSuspended(parent.clone()))
        }
        Some(UnitEntry::Present(manifest)) => {
            let last = situation.unit_memories.get(parent).and_then(|unit_memory| unit_memory.last.as_ref());
            let applied = last.is_some_and(|last| last.digest() == manifest.digest());
            (!applied).then(|| Waiting::Parent(parent.clone()))
        }
        Some(UnitEntry::Removed(_)) => Some(Waiting::Broken(format!("its parent {parent} is being removed"))),
        Some(UnitEntry::Hold(_)) | None => (!ran).then(|| Waiting::ParentHeld(parent.clone())),
    }
}

/// All that has to be allowed for the unit to be, asked again as rights change: the unit itself, by who made it, and its
/// sources.
pub(super) fn claims(unit: &UnitManifest, situation: &Situation) -> Vec<Claim> {
    let of_unit = unit.spec.parent.as_ref().and_then(|parent| claim_of(unit, parent, situation));
    of_unit.into_iter().chain(claims_on_sources(unit)).collect()
}

/// What an account rendered becomes a unit only if that account may create the object that says so.
fn claim_of(unit: &UnitManifest, parent: &UnitId, situation: &Situation) -> Option<Claim> {
    let last = || situation.unit_memories.get(parent).and_then(|unit_memory| unit_memory.last.as_ref());
    let above = situation.desired.present(parent).or_else(last)?;
    let account = above.spec.service_account.clone()?;
    let (group, plural) = match unit.id.kind {
        UnitKind::HelmRelease => ("helm.toolkit.fluxcd.io", "helmreleases"),
        UnitKind::Kustomization | UnitKind::Root | UnitKind::Other => {
            ("kustomize.toolkit.fluxcd.io", "kustomizations")
        }
    };
    let (namespace, name) = (unit.id.namespace.clone(), unit.id.name.clone());
    Some(Claim { account, group, plural, namespace, name })
}

/// Its sources are made by its own account, as its other objects are.
fn claims_on_sources(unit: &UnitManifest) -> impl Iterator<Item = Claim> {
    unit.spec.defines.iter().filter_map(|SourceKindIn { kind, namespace }| {
        let account = unit.spec.service_account.clone()?;
        let (group, plural) = (kind.group(), kind.plural());
        Some(Claim { account, group, plural, namespace: namespace.clone(), name: String::new() })
    })
}

/// Whether a unit is ready at the digest that is desired of it.
pub(super) fn is_ready(id: &UnitId, situation: &Situation) -> bool {
    let desired = situation.desired.present(id).map(|unit| unit.digest());
    desired.is_some() && situation.unit_memories.get(id).and_then(|unit_memory| unit_memory.ready) == desired
}

fn removed(id: &UnitId, removal: Removal, situation: &Situation) -> Target {
    let units = &situation.inventory.units;
    let goes = |other: &UnitId| {
        let entry = situation.desired.units().get(other);
        situation.remove_all || matches!(entry, Some(UnitEntry::Removed(removal)) if !removal.suspended)
    };
    let first = units.iter().filter(|(other, unit)| {
        let above = unit.links.parent.as_ref() == Some(id) || unit.links.depends_on.contains(id);
        let waits = above && *other != id && !unit.members.is_empty() && goes(other);
        // Of units that hang on each other in a circle the first by name goes first.
        waits && (*other < id || !hangs_on(units, id, other))
    });
    let first: Vec<UnitId> = first.map(|(other, _)| other.clone()).collect();
    Target::Removed(removal, (!first.is_empty()).then_some(Waiting::Others(first)))
}

/// Whether `unit` must go before `other`, over however many steps.
fn hangs_on(units: &BTreeMap<UnitId, UnitInventory>, unit: &UnitId, other: &UnitId) -> bool {
    let mut seen = BTreeSet::from([unit]);
    let mut front = vec![unit];
    while let Some(at) = front.pop() {
        let Some(UnitInventory { links, .. }) = units.get(at) else { continue };
        for next in links.parent.iter().chain(&links.depends_on) {
            if next == other {
                return true;
            }
            if seen.insert(next) {
                front.push(next);
            }
        }
    }
    false
}
