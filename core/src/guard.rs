//! Guards: the last look at what a plan would delete. What was found in the cluster is given as facts; what must not go
//! by itself is kept, with the digest under which a person lets it go.

use std::collections::{BTreeMap, BTreeSet};

use crate::digest::Digest;
use crate::inventory::{Member, Uid};
use crate::object::ObjectId;
use crate::report::Kept;
use crate::unit::UnitId;

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
    /// How many objects the unit lists in all, those that leave included.
    pub members: usize,
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
    /// More than this share of a unit's members needs one …
    pub share: f64,
    /// … if it is at least so many.
    pub floor: usize,
}

/// What an approval is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    pub unit: UnitId,
    /// All that leaves at once, or one object by itself.
    pub many: bool,
    pub objects: BTreeSet<ObjectId>,
}

/// What people let go, by the digest that they were shown.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Approvals {
    /// None while it is not known yet what it is about.
    given: BTreeMap<Digest, Option<Subject>>,
}

impl Approvals {
    /// Takes an approval. One that is known already keeps what is known of it.
    pub fn give(&mut self, digest: Digest, subject: Option<Subject>) {
        let known = self.given.entry(digest).or_default();
        if subject.is_some() {
            *known = subject;
        }
    }

    pub fn contains(&self, digest: Digest) -> bool {
        self.given.contains_key(&digest)
    }

    /// What it is about, if it was given and that is known.
    pub fn subject(&self, digest: Digest) -> Option<&Subject> {
        self.given.get(&digest)?.as_ref()
    }

    /// Learns what approvals are about; those for which that is new.
    pub fn learn(&mut self, asked: &[(Digest, Subject)]) -> Vec<Digest> {
        let mut learnt = Vec::new();
        for (digest, subject) in asked {
            if let Some(known @ None) = self.given.get_mut(digest) {
                *known = Some(subject.clone());
                learnt.push(*digest);
            }
        }
        learnt
    }

    /// Drops the approvals for a unit of which no object is about to leave any more: they were used, or what they
    /// were given for is wanted again. Those that were dropped.
    pub fn settle(&mut self, unit: &UnitId, leaving: &BTreeSet<ObjectId>) -> Vec<Digest> {
        let is_over = |subject: &Subject| subject.unit == *unit && subject.objects.is_disjoint(leaving);
        let over: Vec<Digest> = self
            .given
            .iter()
            .filter(|(_, subject)| subject.as_ref().is_some_and(is_over))
            .map(|(digest, _)| *digest)
            .collect();
        for digest in &over {
            self.given.remove(digest);
        }
        over
    }

    /// Whether this may go: it was approved by its digest, or is what is left of more that was approved together.
    fn allow(&self, digest: Digest, subject: &Subject) -> bool {
        let covers = |given: &Subject| {
            given.many
                && subject.many
                && given.unit == subject.unit
                && subject.objects.is_subset(&given.objects)
        };
        self.contains(digest) || self.given.values().flatten().any(covers)
    }
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
pub fn judge(
    scope: &Scope,
    candidates: &[(Member, Found)],
    approvals: &Approvals,
    limits: Limits,
) -> Judgement {
    let mut asked = Vec::new();
    let mut verdicts: Vec<Verdict> = candidates
        .iter()
        .map(|(member, found)| judge_one(scope.unit, member, found, approvals, &mut asked))
        .collect();
    let leaving: BTreeSet<ObjectId> = candidates
        .iter()
        .zip(&verdicts)
        .filter(|(_, verdict)| matches!(verdict, Verdict::Delete(_) | Verdict::Keep(_) | Verdict::Later(_)))
        .map(|((member, _), _)| member.object.id.clone())
        .collect();
    let Some(why) = too_many(scope, leaving.len(), limits) else { return Judgement { verdicts, asked } };
    let approval = approval("many", scope.unit, leaving.iter().map(|id| id.to_string()));
    let subject = Subject { unit: scope.unit.clone(), many: true, objects: leaving };
    if !approvals.allow(approval, &subject) {
        for (verdict, (member, _)) in verdicts.iter_mut().zip(candidates) {
            if matches!(verdict, Verdict::Delete(_)) {
                let object = member.object.id.clone();
                *verdict = Verdict::Keep(Kept { object, why: why.clone(), approval });
            }
        }
    }
    asked.push((approval, subject));
    Judgement { verdicts, asked }
}

fn too_many(scope: &Scope, leaving: usize, limits: Limits) -> Option<String> {
    if leaving == 0 {
        return None;
    }
    if scope.cluster_empties {
        return Some("the whole cluster would fall to zero objects".into());
    }
    if scope.removal {
        return None;
    }
    if scope.wanted == 0 {
        let hint = "the annotation flotilla.dev/allow-empty allows it";
        return (!scope.allow_empty).then(|| format!("the unit would fall to zero objects; {hint}"));
    }
    let share = leaving as f64 / scope.members.max(1) as f64;
    (leaving >= limits.floor && share > limits.share).then(|| {
        let percent = |share: f64| (share * 100.0).round();
        format!(
            "{leaving} of the unit's {} objects would go, more than {} % in one change",
            scope.members,
            percent(limits.share)
        )
    })
}

fn judge_one(
    unit: &UnitId,
    member: &Member,
    found: &Found,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object::ObjectRef;

    fn member(kind: &str, name: &str, uid: Option<&str>) -> Member {
        let id = ObjectId::new("", kind, "n", name);
        Member { object: ObjectRef { id, version: "v1".into() }, uid: uid.map(Uid::from) }
    }

    fn there() -> There {
        There {
            uid: Uid::from("u"),
            applied_by_us: true,
            controlled: false,
            opted_out: None,
            inside: Inside::NoContainer,
        }
    }

    fn given(digest: Digest) -> Approvals {
        let mut approvals = Approvals::default();
        approvals.give(digest, None);
        approvals
    }

    const LIMITS: Limits = Limits { share: 0.5, floor: 5 };

    fn scope(unit: &UnitId) -> Scope<'_> {
        Scope { unit, members: 10, wanted: 9, removal: false, allow_empty: false, cluster_empties: false }
    }

    #[test]
    fn one_object_at_a_time() {
        let unit = UnitId::kustomization("f", "x");
        let foreign = || Inside::Foreign(vec!["Pod web/x".into()]);
        let keep = |why: &str| format!("keep {why}");
        for (kind, uid, found, expected) in [
            ("ConfigMap", Some("u"), Found::There(there()), "delete".to_owned()),
            (
                "ConfigMap",
                Some("u"),
                Found::There(There { applied_by_us: false, ..there() }),
                "forget was never applied by us".into(),
            ),
            (
                "ConfigMap",
                Some("other"),
                Found::There(there()),
                "forget was made anew by somebody else".into(),
            ),
            ("ConfigMap", None, Found::There(there()), "delete".into()),
            (
                "ConfigMap",
                None,
                Found::There(There { applied_by_us: false, ..there() }),
                "forget was never applied by us".into(),
            ),
            ("ConfigMap", Some("u"), Found::Gone, "forget is gone".into()),
            ("ConfigMap", Some("u"), Found::Unknown("timeout".into()), "later timeout".into()),
            (
                "ConfigMap",
                Some("u"),
                Found::There(There { controlled: true, ..there() }),
                "forget belongs to a controller now".into(),
            ),
            (
                "ConfigMap",
                Some("u"),
                Found::There(There { opted_out: Some("a".into()), ..there() }),
                "forget is to stay, by a".into(),
            ),
            ("PersistentVolumeClaim", Some("u"), Found::There(there()), keep("its data would be lost")),
            (
                "Namespace",
                Some("u"),
                Found::There(There { inside: Inside::Foreign(vec![]), ..there() }),
                "delete".into(),
            ),
            (
                "Namespace",
                Some("u"),
                Found::There(There { inside: Inside::Unknown("403".into()), ..there() }),
                "later 403".into(),
            ),
            (
                "Namespace",
                Some("u"),
                Found::There(There { inside: foreign(), ..there() }),
                keep("holds objects that are not of this unit: Pod web/x"),
            ),
        ] {
            let candidates = [(member(kind, "a", uid), found)];
            let verdicts = judge(&scope(&unit), &candidates, &Approvals::default(), LIMITS).verdicts;
            let said = match &verdicts[0] {
                Verdict::Delete(_) => "delete".to_owned(),
                Verdict::Forget(why) => format!("forget {why}"),
                Verdict::Later(why) => format!("later {why}"),
                Verdict::Keep(kept) => format!("keep {}", kept.why),
            };
            assert_eq!(said, expected, "{candidates:?}");
            if let Verdict::Keep(kept) = &verdicts[0] {
                let approved = judge(&scope(&unit), &candidates, &given(kept.approval), LIMITS).verdicts;
                assert_eq!(approved, [Verdict::Delete(Uid::from("u"))]);
            }
        }
    }

    #[test]
    fn many_at_once_need_one_approval_for_exactly_those() {
        let unit = UnitId::kustomization("f", "x");
        let leaving = |count: usize| -> Vec<(Member, Found)> {
            (0..count)
                .map(|i| (member("ConfigMap", &format!("c{i}"), Some("u")), Found::There(there())))
                .collect()
        };
        let kept = |scope: &Scope, count, approvals: &Approvals| -> BTreeSet<Digest> {
            judge(scope, &leaving(count), approvals, LIMITS)
                .verdicts
                .into_iter()
                .filter_map(
                    |verdict| if let Verdict::Keep(kept) = verdict { Some(kept.approval) } else { None },
                )
                .collect()
        };
        let none = Approvals::default();
        let base = scope(&unit);
        assert!(
            kept(&Scope { wanted: 5, ..base.clone() }, 5, &none).is_empty(),
            "half is not more than half"
        );
        assert!(
            kept(&Scope { members: 5, wanted: 1, ..base.clone() }, 4, &none).is_empty(),
            "few are no share"
        );
        let six = kept(&Scope { wanted: 4, ..base.clone() }, 6, &none);
        assert_eq!(six.len(), 1);
        let six = given(*six.first().unwrap());
        assert!(kept(&Scope { wanted: 4, ..base.clone() }, 6, &six).is_empty());
        assert!(!kept(&Scope { wanted: 3, ..base.clone() }, 7, &six).is_empty(), "the approval was for six");
        assert!(kept(&Scope { wanted: 4, removal: true, ..base.clone() }, 6, &none).is_empty());
        assert!(!kept(&Scope { members: 1, wanted: 0, ..base.clone() }, 1, &none).is_empty());
        assert!(
            kept(&Scope { members: 1, wanted: 0, allow_empty: true, ..base.clone() }, 1, &none).is_empty()
        );
        assert!(!kept(&Scope { removal: true, cluster_empties: true, ..base }, 1, &none).is_empty());
    }

    #[test]
    fn an_approval_holds_for_what_is_left_of_it_and_ends_with_it() {
        let unit = UnitId::kustomization("f", "x");
        let scope = Scope { wanted: 0, ..scope(&unit) };
        let leaving = |range: std::ops::Range<u32>| -> Vec<(Member, Found)> {
            range.map(|i| (member("ConfigMap", &format!("c{i}"), Some("u")), Found::There(there()))).collect()
        };
        let goes = |range: std::ops::Range<u32>, approvals: &Approvals| {
            let judged = judge(&scope, &leaving(range), approvals, LIMITS);
            (judged.verdicts.iter().all(|verdict| matches!(verdict, Verdict::Delete(_))), judged.asked)
        };
        let mut approvals = Approvals::default();
        let (free, asked) = goes(0..6, &approvals);
        assert!(!free);
        approvals.give(asked[0].0, None);
        assert!(goes(0..6, &approvals).0);
        assert!(!goes(0..5, &approvals).0, "nobody knows yet what it was about");
        assert_eq!(approvals.learn(&asked), [asked[0].0]);
        assert!(approvals.learn(&asked).is_empty());
        assert!(goes(0..5, &approvals).0, "the rest of what was approved, after a part of it is gone");
        assert!(!goes(0..7, &approvals).0, "more than was approved");
        let other = UnitId::kustomization("f", "other");
        assert!(approvals.settle(&other, &BTreeSet::new()).is_empty());
        let left = BTreeSet::from([member("ConfigMap", "c3", None).object.id]);
        assert!(approvals.settle(&unit, &left).is_empty());
        assert_eq!(approvals.settle(&unit, &BTreeSet::new()), [asked[0].0]);
        assert!(!goes(0..6, &approvals).0, "used");
    }
}
