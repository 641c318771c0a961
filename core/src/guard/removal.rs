//! The guard before the removal of a unit that left Git: a small one is removed without a question; one with data, with
//! many objects or as a part of a large change waits as a whole, under one approval.
//!
//! ```text
//!   state 7: root a b c d            state 8: root d
//!            40 objects                a, b and c left together, with 30 of 40 objects: one approval for the three
//! ```

use std::collections::{BTreeMap, BTreeSet};

use crate::desired::{DesiredState, UnitEntry};
use crate::digest::Digest;
use crate::guard::{Approvals, Candidate, Found, Inside, Limits, Scope, Stop, Subject, What, approval};
use crate::inventory::Inventory;
use crate::object::ObjectId;
use crate::unit::UnitId;

/// The change that a unit left in. Noted when the state is taken: by the time that the unit is judged, others of the same
/// change may be gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitDeparture {
    /// What lets all units go that left in this change, as far as their number is concerned.
    pub approval: Digest,
    /// How many objects the units had that left together …
    pub objects: usize,
    /// … of so many in the cluster.
    pub of: usize,
    /// The cluster's root, source or branch changed with it.
    pub moved: bool,
}

/// Notes which units a state removes with their objects, each with those that leave in the same state. What another unit
/// declares does not leave. `root_moved`: the root is not where it was before this state. The units for which that is new or
/// over.
pub fn note_removals(
    desired: &DesiredState,
    root_moved: bool,
    inventory: &Inventory,
    is_declared: &dyn Fn(&ObjectId) -> bool,
    noted: &mut BTreeMap<UnitId, UnitDeparture>,
) -> Vec<UnitId> {
    let removal = |id: &UnitId| match desired.units().get(id) {
        Some(UnitEntry::Removed(removal)) if removal.deletes() => Some(*removal),
        _ => None,
    };
    let mut changed: Vec<UnitId> = noted.keys().filter(|id| removal(id).is_none()).cloned().collect();
    noted.retain(|id, _| removal(id).is_some());
    for (id, departure) in noted.iter_mut() {
        if removal(id).is_some_and(|removal| removal.moved) && !departure.moved {
            departure.moved = true;
            changed.push(id.clone());
        }
    }
    let listed = |id: &UnitId| inventory.units.get(id).into_iter().flat_map(|unit| unit.members.keys());
    let new: Vec<UnitId> = desired
        .units()
        .keys()
        .filter(|id| removal(id).is_some() && !noted.contains_key(*id) && listed(id).next().is_some())
        .cloned()
        .collect();
    let leaving: BTreeSet<&ObjectId> = new.iter().flat_map(listed).filter(|id| !is_declared(id)).collect();
    let all: BTreeSet<&ObjectId> = inventory.units.values().flat_map(|unit| unit.members.keys()).collect();
    let names = new.iter().map(ToString::to_string).chain(leaving.iter().map(ToString::to_string));
    let approval = approval("units", &UnitId::root(), names);
    for id in new {
        let moved = root_moved || removal(&id).is_some_and(|removal| removal.moved);
        let departure = UnitDeparture { approval, objects: leaving.len(), of: all.len(), moved };
        noted.insert(id.clone(), departure);
        changed.push(id);
    }
    changed
}

/// What stands before the removal, of candidates that would really go (`leaving`) and of which some hold data, each with
/// the reason.
pub(super) fn stop(
    scope: &Scope,
    departure: &UnitDeparture,
    (candidates, leaving): (&[Candidate], &BTreeSet<ObjectId>),
    data: &[(ObjectId, String)],
    approvals: &Approvals,
    limits: Limits,
) -> Vec<Stop> {
    let UnitDeparture { objects, of, moved, .. } = *departure;
    let mut stops = Vec::new();
    let percent = (limits.share * 100.0).round();
    let wide = if moved {
        Some("the unit left with a change of the cluster's root, source or branch".to_owned())
    } else if scope.cluster_empties {
        Some("the whole cluster would fall to zero objects".to_owned())
    } else if objects >= limits.floor && objects as f64 > limits.share * of as f64 {
        Some(format!(
            "with the units that left together {objects} of the cluster's {of} objects would be deleted, more than \
             {percent} % in one change"
        ))
    } else {
        None
    };
    if let Some(why) = &wide {
        let subject = Subject { unit: scope.unit.clone(), what: What::Units, objects: BTreeSet::new() };
        stops.push(Stop {
            why: why.clone(),
            approval: departure.approval,
            subject,
            leaving: leaving.clone(),
        });
    }
    let is_let_go = wide.is_some() && approvals.contains(departure.approval);
    let why = if let Some((object, why)) = data.first() {
        let more = data.len() - 1;
        let and = if more > 0 { format!(" (and {more} more of the kind)") } else { String::new() };
        Some(format!("the unit would be removed with {object}: {why}{and}"))
    } else if leaving.len() > limits.unit && !scope.allow_empty && !is_let_go {
        let count = leaving.len();
        Some(format!(
            "the unit would be removed with {count} objects; up to {} need no approval",
            limits.unit
        ))
    } else {
        None
    };
    if let Some(why) = why {
        stops.push(Stop {
            why,
            approval: unit_approval(scope.unit, candidates, leaving),
            subject: subject(scope.unit, leaving),
            leaving: leaving.clone(),
        });
    }
    stops
}

/// Whether somebody let the unit go with all that is in it.
pub(super) fn is_approved(
    unit: &UnitId,
    candidates: &[Candidate],
    leaving: &BTreeSet<ObjectId>,
    approvals: &Approvals,
) -> bool {
    approvals.allow(unit_approval(unit, candidates, leaving), &subject(unit, leaving))
}

fn subject(unit: &UnitId, leaving: &BTreeSet<ObjectId>) -> Subject {
    Subject { unit: unit.clone(), what: What::Unit, objects: leaving.clone() }
}

/// Another object under the same name is another removal.
fn unit_approval(unit: &UnitId, candidates: &[Candidate], leaving: &BTreeSet<ObjectId>) -> Digest {
    let members = candidates.iter().filter(|candidate| leaving.contains(&candidate.member.object.id));
    let parts = members.flat_map(|Candidate { member, found, .. }| {
        let uid = match (&member.uid, found) {
            (Some(uid), _) => uid.to_string(),
            (None, Found::There(there)) => there.uid.to_string(),
            (None, Found::Gone | Found::Unknown(_) | Found::Unconfirmed) => String::new(),
        };
        [member.object.id.to_string(), uid]
    });
    approval("unit", unit, parts)
}

/// Why nobody can tell whether something of the unit holds data, if so.
pub(super) fn undecided(candidates: &[Candidate]) -> Option<String> {
    let decides = |object: &ObjectId| {
        object.is("", "Namespace")
            || object.is("apiextensions.k8s.io", "CustomResourceDefinition")
            || object.is("apps", "StatefulSet")
    };
    candidates.iter().find_map(|Candidate { member, found, .. }| {
        let object = &member.object.id;
        match found {
            Found::Unknown(why) if decides(object) => Some(format!("{object} {why}")),
            Found::There(there) => match &there.inside {
                Inside::Unknown(why) => Some(format!("{object}: {why}")),
                Inside::NoContainer | Inside::Foreign(_) | Inside::Claims(_) => None,
            },
            Found::Unknown(_) | Found::Unconfirmed | Found::Gone => None,
        }
    })
}
