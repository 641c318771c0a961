//! Guards: the last look at what a plan would delete. What was found in the cluster is given as facts; what must not go
//! by itself is kept, with the digest under which a person lets it go.
//!
//! ```text
//!   candidate, found ─► by itself: delete | forget | keep | later
//!                        ├► with all that left in the same change: too many? ─► keep, unless approved
//!                        └► with the unit that left Git: data, many, or a part of too much? ─► the same
//! ```

mod approvals;
mod departures;
#[cfg(test)]
mod properties;
mod removal;
#[cfg(test)]
mod removal_tests;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

pub use self::approvals::{Approvals, Subject, What};
pub use self::departures::{Departure, Departures};
pub use self::removal::{UnitDeparture, note_removals};
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
    pub departure: Departure,
    pub found: Found,
}

/// What was found of a candidate just now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// The API server says that it is not there.
    Gone,
    /// It could not be looked at.
    Unknown(String),
    /// Nobody may look at it, and no answer ever said that it was applied.
    Unconfirmed,
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
    /// Of a StatefulSet: the names of its volume claims' templates.
    Claims(Vec<String>),
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
    pub extent: PruneExtent,
    /// The author allows the unit to fall to zero objects.
    pub allow_empty: bool,
    /// The whole cluster falls to zero objects, and nobody allowed that.
    pub cluster_empties: bool,
}

/// What leaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PruneExtent {
    /// Objects, of a unit that stays.
    Objects,
    /// The unit itself, with all that it has.
    Unit(UnitDeparture),
    /// Everything in the cluster, as the operator asked for.
    Everything,
}

/// How much may go without an approval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// More than this share of the objects that a unit, or the cluster, had before one change needs one …
    pub share: f64,
    /// … if it is at least so many.
    pub floor: usize,
    /// So many objects of a unit that left Git need none.
    pub unit: usize,
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
    let mut data = Vec::new();
    let mut verdicts = Vec::with_capacity(candidates.len());
    for candidate in candidates {
        verdicts.push(match (judge_one(candidate), &scope.extent) {
            (Judged::Verdict(verdict), _) => verdict,
            // The operator said so; what nobody can make anew is asked for all the same.
            (Judged::Asks(uid, _), PruneExtent::Everything) if holds_claims(candidate) => {
                Verdict::Delete(uid)
            }
            (Judged::Asks(uid, why), PruneExtent::Unit(_)) => {
                data.push((candidate.member.object.id.clone(), why));
                Verdict::Delete(uid)
            }
            (Judged::Asks(uid, why), PruneExtent::Objects | PruneExtent::Everything) => {
                ask_for_one(scope.unit, candidate, (uid, why), approvals, &mut asked)
            }
        });
    }
    let stops = match &scope.extent {
        PruneExtent::Unit(departure) => {
            let leaving = leaving(candidates, &verdicts);
            if let Some(why) = removal::undecided(candidates)
                && !removal::is_approved(scope.unit, candidates, &leaving, approvals)
            {
                for verdict in verdicts.iter_mut().filter(|verdict| matches!(verdict, Verdict::Delete(_))) {
                    *verdict = Verdict::Later(format!("it is not known what the unit holds: {why}"));
                }
            }
            removal::stop(scope, departure, (candidates, &leaving), &data, approvals, limits)
        }
        PruneExtent::Objects | PruneExtent::Everything => stops(scope, candidates, &verdicts, limits),
    };
    for Stop { why, approval, subject, leaving } in stops {
        if !approvals.allow(approval, &subject) {
            for (verdict, candidate) in verdicts.iter_mut().zip(candidates) {
                let object = &candidate.member.object.id;
                if matches!(verdict, Verdict::Delete(_)) && leaving.contains(object) {
                    *verdict = Verdict::Keep(Kept { object: object.clone(), why: why.clone(), approval });
                }
            }
        }
        asked.push((approval, subject));
    }
    Judgement { verdicts, asked }
}

/// The candidates that would be gone, now or later.
fn leaving(candidates: &[Candidate], verdicts: &[Verdict]) -> BTreeSet<ObjectId> {
    let all = candidates.iter().zip(verdicts).filter(|(_, verdict)| !matches!(verdict, Verdict::Forget(_)));
    all.map(|(candidate, _)| candidate.member.object.id.clone()).collect()
}

/// Objects that may go together only, and why that needs an approval.
struct Stop {
    why: String,
    approval: Digest,
    subject: Subject,
    leaving: BTreeSet<ObjectId>,
}

impl Stop {
    /// Of objects of a unit that stays.
    fn many(unit: &UnitId, why: String, leaving: BTreeSet<ObjectId>) -> Self {
        let approval = approval("many", unit, leaving.iter().map(|id| id.to_string()));
        let subject = Subject { unit: unit.clone(), what: What::Objects, objects: leaving.clone() };
        Self { why, approval, subject, leaving }
    }
}

fn stops(scope: &Scope, candidates: &[Candidate], verdicts: &[Verdict], limits: Limits) -> Vec<Stop> {
    let is_removal = scope.extent != PruneExtent::Objects;
    // Of what left, what really goes.
    let mut changes: BTreeMap<Generation, Change> = BTreeMap::new();
    for (Candidate { member, departure, .. }, verdict) in candidates.iter().zip(verdicts) {
        let new = || Change { had: departure.wanted, moved: false, leaving: BTreeSet::new() };
        let change = changes.entry(departure.generation).or_insert_with(new);
        change.had += 1;
        change.moved |= departure.moved;
        if !matches!(verdict, Verdict::Forget(_)) {
            change.leaving.insert(member.object.id.clone());
        }
    }
    changes.retain(|_, change| !change.leaving.is_empty());
    let empties = if scope.cluster_empties {
        Some("the whole cluster would fall to zero objects".to_owned())
    } else if !is_removal && scope.wanted == 0 && !scope.allow_empty {
        let hint = "the annotation flotilla.dev/allow-empty allows it";
        Some(format!("the unit would fall to zero objects; {hint}"))
    } else {
        None
    };
    if let Some(why) = empties {
        let leaving: BTreeSet<ObjectId> = changes.into_values().flat_map(|change| change.leaving).collect();
        return if leaving.is_empty() { Vec::new() } else { vec![Stop::many(scope.unit, why, leaving)] };
    }
    if is_removal {
        return Vec::new();
    }
    let asks = |Change { had, moved, leaving }| {
        let count = leaving.len();
        let is_much = scope.wanted > 0 && count >= limits.floor && count as f64 > limits.share * had as f64;
        let why = if moved {
            "left with a change of the cluster's root, source or branch".to_owned()
        } else if is_much {
            let percent = (limits.share * 100.0).round();
            format!("{count} of the unit's {had} objects would go, more than {percent} % in one change")
        } else {
            return None;
        };
        Some(Stop::many(scope.unit, why, leaving))
    };
    changes.into_values().filter_map(asks).collect()
}

/// What left in one change.
struct Change {
    /// How many objects the unit had before it.
    had: usize,
    /// See [`Departure::moved`].
    moved: bool,
    leaving: BTreeSet<ObjectId>,
}

/// What is said of an object by itself.
enum Judged {
    Verdict(Verdict),
    /// This one may go, if somebody approves what would be lost with it.
    Asks(Uid, String),
}

/// Why an object that is no longer there leaves the inventory.
pub const GONE: &str = "is gone";

fn judge_one(Candidate { member, found, .. }: &Candidate) -> Judged {
    let forget = |why: &str| Judged::Verdict(Verdict::Forget(why.to_owned()));
    let later = |why: &String| Judged::Verdict(Verdict::Later(why.clone()));
    let there = match found {
        Found::Gone => return forget(GONE),
        Found::Unconfirmed => return forget("was never confirmed as applied, and the agent may not read it"),
        Found::Unknown(why) => return later(why),
        Found::There(there) => there,
    };
    let object = &member.object.id;
    match &member.uid {
        Some(uid) if *uid != there.uid => return forget("was recreated by somebody else"),
        _ if !there.applied_by_us => return forget("was never applied by us"),
        _ => {}
    }
    if there.controlled {
        return forget("belongs to a controller now");
    }
    if let Some(annotation) = &there.opted_out {
        return forget(&format!("is kept by {annotation}"));
    }
    let why = match &there.inside {
        Inside::Unknown(why) => return later(why),
        Inside::Foreign(names) if !names.is_empty() => {
            format!("holds objects that are not of this unit: {}", names.join(", "))
        }
        Inside::Claims(names) if !names.is_empty() => {
            format!("the data on its volumes would be lost: {}", names.join(", "))
        }
        _ if object.group.is_empty()
            && ["PersistentVolume", "PersistentVolumeClaim"].contains(&object.kind.as_str()) =>
        {
            "its data would be lost".to_owned()
        }
        _ => return Judged::Verdict(Verdict::Delete(there.uid.clone())),
    };
    Judged::Asks(there.uid.clone(), why)
}

fn holds_claims(candidate: &Candidate) -> bool {
    matches!(&candidate.found, Found::There(There { inside: Inside::Claims(_), .. }))
}

/// An object that is asked for by itself.
fn ask_for_one(
    unit: &UnitId,
    Candidate { member, .. }: &Candidate,
    (uid, why): (Uid, String),
    approvals: &Approvals,
    asked: &mut Vec<(Digest, Subject)>,
) -> Verdict {
    let object = &member.object.id;
    let approval = approval("object", unit, [object.to_string(), uid.to_string()]);
    let objects = BTreeSet::from([object.clone()]);
    asked.push((approval, Subject { unit: unit.clone(), what: What::Object, objects }));
    if approvals.contains(approval) {
        Verdict::Delete(uid)
    } else {
        Verdict::Keep(Kept { object: object.clone(), why, approval })
    }
}

fn approval(what: &str, unit: &UnitId, parts: impl IntoIterator<Item = String>) -> Digest {
    let all: Vec<String> = [what.to_owned(), unit.to_string()].into_iter().chain(parts).collect();
    Digest::of_parts(all.iter().map(String::as_bytes))
}
