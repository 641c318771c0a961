//! Guards: the last look at what a plan would delete. What was found in the cluster is given as facts; what must not go
//! by itself is kept, with the digest under which a person lets it go.
//!
//! ```text
//!   candidate, found ─► by itself: delete | forget | keep | later
//!                        └► with all that left in the same change: too many? ─► keep, unless approved
//! ```

mod approvals;
mod departures;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

pub use self::approvals::{Approvals, Subject};
pub use self::departures::{Departure, Departures};
use crate::desired::Generation;
use crate::digest::Digest;
use crate::inventory::{Member, Uid};
use crate::object::ObjectId;
use crate::report::Kept;
use crate::unit::UnitId;

/// An object that is to be deleted if the guards agree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    pub member: Member,
    pub left: Departure,
    pub found: Found,
}

/// What was found of a candidate just now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// The API server says that it is not there.
    Gone,
    /// It could not be looked at.
    Unknown(String),
    There(There),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct There {
    pub uid: Uid,
    /// Whether `managedFields` hold an apply of ours: without it the object was never ours, or is somebody else's now.
    pub applied_by_us: bool,
    /// A controller made it and takes care of it.
    pub controlled: bool,
    /// The annotation by which its author keeps it.
    pub opted_out: Option<String>,
    pub inside: Inside,
}

/// What is inside a Namespace or of a CRD's kind and is no member of the unit that goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Inside {
    /// Not an object that contains others.
    NoContainer,
    /// Names of some of them, for people; empty if there is nothing foreign.
    Foreign(Vec<String>),
    /// It could not be listed.
    Unknown(String),
}

/// What is to become of a candidate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Delete exactly this one.
    Delete(Uid),
    /// Take it off the inventory and leave it alone; the reason is for people.
    Forget(String),
    /// It stays, and on the inventory, until approved.
    Keep(Kept),
    /// Not now: something could not be looked at.
    Later(String),
}

/// The unit whose objects leave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope<'a> {
    pub unit: &'a UnitId,
    /// How many objects the unit is to have.
    pub wanted: usize,
    /// The unit itself goes: its deletion policy was followed, the share is not looked at.
    pub removal: bool,
    /// The author allows the unit to fall to zero objects.
    pub allow_empty: bool,
    /// The whole cluster falls to zero objects, and nobody allowed that.
    pub cluster_empties: bool,
}

/// How much may go without an approval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// More than this share of the objects that a unit had before one change needs one …
    pub share: f64,
    /// … if it is at least so many.
    pub floor: usize,
}

/// What the guards say of a unit's candidates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judgement {
    /// In the order of the candidates.
    pub verdicts: Vec<Verdict>,
    /// The approvals that were needed, given or not.
    pub asked: Vec<(Digest, Subject)>,
}

/// Judges all candidates of a unit together.
pub fn judge(scope: &Scope, candidates: &[Candidate], approvals: &Approvals, limits: Limits) -> Judgement {
    let mut asked = Vec::new();
    let mut verdicts: Vec<Verdict> =
        candidates.iter().map(|candidate| judge_one(scope.unit, candidate, approvals, &mut asked)).collect();
    for Stop { why, leaving } in stops(scope, candidates, &verdicts, limits) {
        let approval = approval("many", scope.unit, leaving.iter().map(|id| id.to_string()));
        let subject = Subject { unit: scope.unit.clone(), many: true, objects: leaving };
        if !approvals.allow(approval, &subject) {
            for (verdict, candidate) in verdicts.iter_mut().zip(candidates) {
                let object = &candidate.member.object.id;
                if matches!(verdict, Verdict::Delete(_)) && subject.objects.contains(object) {
                    *verdict = Verdict::Keep(Kept { object: object.clone(), why: why.clone(), approval });
                }
            }
        }
        asked.push((approval, subject));
    }
    Judgement { verdicts, asked }
}

/// Objects that may go together only, and why that needs an approval.
struct Stop {
    why: String,
    leaving: BTreeSet<ObjectId>,
}

fn stops(scope: &Scope, candidates: &[Candidate], verdicts: &[Verdict], limits: Limits) -> Vec<Stop> {
    // By change: how many objects the unit had before it, and what really goes of those that left.
    let mut changes: BTreeMap<Generation, (usize, BTreeSet<ObjectId>)> = BTreeMap::new();
    for (Candidate { member, left, .. }, verdict) in candidates.iter().zip(verdicts) {
        let (had, leaving) = changes.entry(left.generation).or_insert((left.wanted, BTreeSet::new()));
        *had += 1;
        if !matches!(verdict, Verdict::Forget(_)) {
            leaving.insert(member.object.id.clone());
        }
    }
    changes.retain(|_, (_, leaving)| !leaving.is_empty());
    let empties = if scope.cluster_empties {
        Some("the whole cluster would fall to zero objects".to_owned())
    } else if !scope.removal && scope.wanted == 0 && !scope.allow_empty {
        let hint = "the annotation flotilla.dev/allow-empty allows it";
        Some(format!("the unit would fall to zero objects; {hint}"))
    } else {
        None
    };
    if let Some(why) = empties {
        let leaving: BTreeSet<ObjectId> = changes.into_values().flat_map(|(_, leaving)| leaving).collect();
        return if leaving.is_empty() { Vec::new() } else { vec![Stop { why, leaving }] };
    }
    if scope.removal || scope.wanted == 0 {
        return Vec::new();
    }
    let too_many = |(had, leaving): (usize, BTreeSet<ObjectId>)| {
        let count = leaving.len();
        let is_much = count >= limits.floor && count as f64 > limits.share * had as f64;
        let percent = (limits.share * 100.0).round();
        let why =
            || format!("{count} of the unit's {had} objects would go, more than {percent} % in one change");
        is_much.then(|| Stop { why: why(), leaving })
    };
    changes.into_values().filter_map(too_many).collect()
}

fn judge_one(
    unit: &UnitId,
    Candidate { member, found, .. }: &Candidate,
    approvals: &Approvals,
    asked: &mut Vec<(Digest, Subject)>,
) -> Verdict {
    let there = match found {
        Found::Gone => return Verdict::Forget("is gone".into()),
        Found::Unknown(why) => return Verdict::Later(why.clone()),
        Found::There(there) => there,
    };
    let object = &member.object.id;
    match &member.uid {
        Some(uid) if *uid != there.uid => return Verdict::Forget("was made anew by somebody else".into()),
        _ if !there.applied_by_us => return Verdict::Forget("was never applied by us".into()),
        _ => {}
    }
    if there.controlled {
        return Verdict::Forget("belongs to a controller now".into());
    }
    if let Some(annotation) = &there.opted_out {
        return Verdict::Forget(format!("is to stay, by {annotation}"));
    }
    let why = match &there.inside {
        Inside::Unknown(why) => return Verdict::Later(why.clone()),
        Inside::Foreign(names) if !names.is_empty() => {
            Some(format!("holds objects that are not of this unit: {}", names.join(", ")))
        }
        _ if object.group.is_empty()
            && ["PersistentVolume", "PersistentVolumeClaim"].contains(&object.kind.as_str()) =>
        {
            Some("its data would be lost".into())
        }
        _ => None,
    };
    let Some(why) = why else { return Verdict::Delete(there.uid.clone()) };
    let approval = approval("object", unit, [object.to_string(), there.uid.to_string()]);
    let objects = BTreeSet::from([object.clone()]);
    asked.push((approval, Subject { unit: unit.clone(), many: false, objects }));
    if approvals.contains(approval) {
        Verdict::Delete(there.uid.clone())
    } else {
        Verdict::Keep(Kept { object: object.clone(), why, approval })
    }
}

fn approval(what: &str, unit: &UnitId, parts: impl IntoIterator<Item = String>) -> Digest {
    let all: Vec<String> = [what.to_owned(), unit.to_string()].into_iter().chain(parts).collect();
    Digest::of_parts(all.iter().map(String::as_bytes))
}
