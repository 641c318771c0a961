use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::*;
use crate::desired::{Hold, Removal, UnitEntry};
use crate::object::{ObjectId, ObjectRef};
use crate::unit::{ObjectEntry, UnitId, UnitManifest, UnitSpec};
use crate::{Authority, ClusterName, Digest};

pub(super) fn object(text: &str) -> ObjectId {
    let (kind, name) = text.split_once('/').unwrap_or(("ConfigMap", text));
    let kind: KindName = kind.parse().unwrap();
    ObjectId::new(kind.group, kind.kind, "web", name)
}

pub(super) fn id(name: &str) -> UnitId {
    UnitId::kustomization("web", name)
}

pub(super) fn present(name: &str, spec: UnitSpec, objects: &[&str]) -> UnitEntry {
    let entry = |text: &&str| ObjectEntry {
        object: ObjectRef { id: object(text), version: "v1".into() },
        digest: Digest::of(b""),
        size: 2,
        template: false,
    };
    UnitEntry::Present(Arc::new(UnitManifest::new(id(name), spec, objects.iter().map(entry).collect())))
}

/// Units as `a: x y`; `a held`, `a removed`, `a orphaned`, `a moved`; `a suspended: x`, `a keeping: x`, `a may-be-empty:`.
pub(super) fn units(text: &str) -> BTreeMap<UnitId, UnitEntry> {
    let unit = |text: &str| {
        let (head, objects) = text.split_once(':').unwrap_or((text, ""));
        let objects: Vec<&str> = objects.split_whitespace().collect();
        let (name, how) = head.trim().split_once(' ').unwrap_or((head.trim(), ""));
        let removal = Removal { prune: true, ..Removal::default() };
        let spec = UnitSpec::default();
        let entry = match how {
            "" => present(name, spec, &objects),
            "suspended" => present(name, UnitSpec { suspend: true, ..spec }, &objects),
            "keeping" => present(name, UnitSpec { prune: false, ..spec }, &objects),
            "may-be-empty" => present(name, UnitSpec { allow_empty: true, ..spec }, &objects),
            "held" => UnitEntry::Hold(Hold::from("broken")),
            "removed" => UnitEntry::Removed(removal),
            "orphaned" => UnitEntry::Removed(Removal { prune: false, ..removal }),
            "moved" => UnitEntry::Removed(Removal { moved: true, ..removal }),
            "left-suspended" => UnitEntry::Removed(Removal { suspended: true, ..removal }),
            how => panic!("{how}"),
        };
        (id(name), entry)
    };
    text.split(';').filter(|text| !text.trim().is_empty()).map(unit).collect()
}

fn shown(loss: &Loss) -> String {
    let unit = |(id, loss): (&UnitId, &UnitLoss)| {
        let objects: Vec<&str> = loss.objects.iter().map(|object| object.name.as_str()).collect();
        let how = match (loss.removed, loss.emptied) {
            (true, _) => " removed",
            (_, true) => " emptied",
            _ => "",
        };
        format!("{}{how}: {}", id.name, objects.join(" ")).trim_end().to_owned()
    };
    loss.units.iter().map(unit).collect::<Vec<_>>().join("; ")
}

pub(super) fn declared(text: &str) -> Arc<Declared> {
    Arc::<Declared>::default().after(&units(text), "git main clusters/x")
}

fn listed(declared: &Declared) -> String {
    let unit = |(id, objects): (&UnitId, &[ObjectId])| {
        let mut names: Vec<&str> = objects.iter().map(|object| object.name.as_str()).collect();
        names.sort_unstable();
        format!("{}: {}", id.name, names.join(" "))
    };
    declared.units().map(unit).collect::<Vec<_>>().join("; ")
}

#[test]
fn what_no_unit_declares_any_more_is_lost() {
    for (before, after, lost, then) in [
        ("a: x y; b: z", "a: x y; b: z", "", "a: x y; b: z"),
        ("a: x y; b: z", "a: x; b: z", "a: y", "a: x; b: z"),
        ("a: x y; b: z", "a: x; b: y z", "", "a: x; b: y z"),
        // The unit has another name.
        ("a: x y", "a removed; b: x y", "a removed:", "b: x y"),
        ("a: x y", "a removed; b: x", "a removed: y", "b: x"),
        ("a: x y", "a:", "a emptied: x y", ""),
        ("a: x y", "a may-be-empty:", "a: x y", ""),
        ("a: x y; b: z", "a:; b: x y z", "", "b: x y z"),
        // Two had it, and one has it still.
        ("a: x; b: x", "a:; b: x", "", "b: x"),
        ("a: x; b: x", "a:; b:", "a emptied: x; b emptied: x", ""),
        // Nothing is deleted.
        ("a: x y", "a keeping: x", "", "a: x"),
        ("a: x y", "a orphaned", "", ""),
        ("a: x y", "a moved", "", ""),
        ("a: x y", "a suspended: x", "", "a: x y"),
        ("a: x y", "a left-suspended", "", "a: x y"),
        ("a: x y", "a held", "", "a: x y"),
        ("a: x y; b: z", "b: z", "", "a: x y; b: z"),
        // What others no longer have is still there while a unit is held.
        ("a: x y; b: z", "a: x; b held", "a: y", "a: x y; b: z"),
        ("a: x y; b: z", "a removed; b held", "a removed: x y", "a: x y; b: z"),
        ("a: x y; b: z", "a: x; b suspended: y z", "", "a: x; b: z"),
    ] {
        let before = declared(before);
        let next = units(after);
        let loss = before.lost(&next, "git main clusters/x", &Going::default());
        assert_eq!(shown(&loss), lost, "{after}");
        assert_eq!(listed(&before.after(&next, "git main clusters/x")), then, "{after}");
        for root in ["git main clusters/x", "git other clusters/x"] {
            assert_eq!(*before.after(&next, root), before.counted_after(&next, root), "{after}");
        }
        assert!(!loss.moved);
    }
}

#[test]
fn what_may_go_is_not_lost_again() {
    let before = declared("a: x y; b: z");
    let mut going = Going::default();
    let next = units("a: x; b held");
    let loss = before.lost(&next, "", &going);
    going.add(&loss.units);
    let then = before.after(&next, "");
    then.settle(&next, &mut going);
    assert_eq!(going.objects.len(), 1, "it is not pruned while b is held");
    assert!(then.lost(&next, "", &going).is_empty());
    assert_eq!(shown(&then.lost(&units("a:; b held"), "", &going)), "a emptied: x");
    // It is back, and goes again.
    let back = units("a: x y; b held");
    then.after(&back, "").settle(&back, &mut going);
    assert_eq!(shown(&then.after(&back, "").lost(&next, "", &going)), "a: y");
}

#[test]
fn another_root_is_noted_until_nothing_is_held() {
    let before = declared("a: x y");
    let next = units("a: x");
    assert!(before.lost(&next, "git other clusters/x", &Going::default()).moved);
    assert_eq!(before.after(&units("a held"), "git other clusters/x").root(), "git main clusters/x");
    assert_eq!(before.after(&next, "git other clusters/x").root(), "git other clusters/x");
    assert!(!Declared::default().lost(&next, "git main clusters/x", &Going::default()).moved);
}

pub(super) fn cluster(n: usize) -> ClusterName {
    format!("c{n}").parse().unwrap()
}

/// Whose account has that namespace.
pub(super) fn of(namespace: &str) -> Authority {
    Authority::Namespaces([namespace.to_owned()].into())
}

/// Clusters that lose, each of so many objects.
pub(super) fn losses(each: &[(usize, &str)]) -> Losses {
    let one = |(n, (of, text)): (usize, &(usize, &str))| {
        let mut loss = Loss { of: *of, ..Loss::default() };
        for text in text.split(';').filter(|text| !text.trim().is_empty()) {
            let (head, objects) = text.split_once(':').unwrap_or((text, ""));
            let (name, how) = head.trim().split_once(' ').unwrap_or((head.trim(), ""));
            let objects = objects.split_whitespace().flat_map(|text| match text.split_once('*') {
                Some((kind, count)) => {
                    (0..count.parse().unwrap()).map(|n| object(&format!("{kind}/{name}-{n}"))).collect()
                }
                None => vec![object(text)],
            });
            loss.moved |= how == "moved";
            let tenant = how.strip_prefix("of ");
            let word = tenant.map_or(Authority::Fleet, self::of);
            let (removed, emptied) = (how == "removed", how == "emptied");
            let unit = UnitLoss { removed, emptied, word, objects: objects.collect() };
            loss.units.insert(id(name), unit);
        }
        (cluster(n), loss)
    };
    each.iter().enumerate().map(one).collect()
}

pub(super) fn found(judged: &Judged) -> Vec<String> {
    judged.findings.iter().map(|found| format!("{} {found}", found.severity.as_str())).collect()
}

/// How many units must stay as they are.
fn waiting(judged: &Judged) -> usize {
    (0..600).map(|n| judged.held(&cluster(n)).len()).sum()
}

#[test]
fn severity_is_by_kind_and_by_number() {
    let of = FleetSize { units: 100, objects: 400 };
    for (each, expected, held) in [
        (
            &[(100, "a: ConfigMap*2"), (100, "a: ConfigMap*2")][..],
            &["info 4 of 400 objects are removed"][..],
            0,
        ),
        (&[(100, "a: ConfigMap*49"), (100, "a: ConfigMap*48")], &["stop 97 of 400 objects are removed"], 2),
        (&[(100, "a: ConfigMap*45"), (0, "")], &["info 45 of 400 objects are removed"], 0),
        (
            &[(100, "a: ConfigMap*60"), (0, "")],
            &["warning 1 cluster loses most of its objects", "info 60 of 400 objects are removed"],
            0,
        ),
        (
            &[(20, "a: ConfigMap*11"), (20, "a: ConfigMap*11; b: x")],
            &["stop 2 clusters lose most of their objects", "info 23 of 400 objects are removed"],
            3,
        ),
        (
            &[(100, "a: Namespace/n"), (100, "a: Namespace/n; b: x")],
            &[
                "stop 2 objects of the protected kind Namespace are removed",
                "info 3 of 400 objects are removed",
            ],
            2,
        ),
        (
            &[(100, "a: StatefulSet.apps/n"), (100, "b: x")],
            &[
                "warning 1 object of the protected kind StatefulSet.apps is removed",
                "info 2 of 400 objects are removed",
            ],
            0,
        ),
        (
            &[
                (100, "a: APIService.apiregistration.k8s.io/n"),
                (100, "a: APIService.apiregistration.k8s.io/n"),
            ],
            &[
                "warning 2 objects of kind APIService.apiregistration.k8s.io are removed",
                "info 2 of 400 objects are removed",
            ],
            0,
        ),
        (
            &[(100, "a emptied: x"), (100, "a emptied: x; b: y")],
            &["stop 2 units become empty", "info 3 of 400 objects are removed"],
            2,
        ),
        (
            &[(100, "a moved: x"), (100, "a moved: x; b: y")],
            &[
                "stop 2 clusters lose objects with another root, branch or repository",
                "info 3 of 400 objects are removed",
            ],
            3,
        ),
        (&[(100, "a removed; b removed"), (100, "a removed")], &["info 3 of 100 units are removed"], 0),
    ] {
        let judged = judge(&losses(each), &Taken::default(), &Sizes::default(), of, &Policy::default());
        assert_eq!(found(&judged), expected, "{each:?}");
        assert_eq!(waiting(&judged), held, "{each:?}");
    }
}

#[test]
fn what_is_much_of_the_fleets_units_needs_an_approval() {
    let removed = |n: usize| (0..n).map(|n| format!("u{n} removed")).collect::<Vec<_>>().join(";");
    for (each, of, is_beyond) in [
        (&[11, 10][..], 40, true),
        (&[11, 10], 105, false),
        (&[10, 10], 40, false),
        (&[1; 500], 25_000, false),
        (&[20; 500], 25_000, true),
        // One cluster that is given up, and the others go on.
        (&[50], 60, false),
        (&[50, 0, 0], 60, false),
        (&[], 0, false),
    ] {
        let texts: Vec<String> = each.iter().map(|n| removed(*n)).collect();
        let each: Vec<(usize, &str)> = texts.iter().map(|text| (100, text.as_str())).collect();
        let of = FleetSize { units: of, objects: 0 };
        let judged = judge(&losses(&each), &Taken::default(), &Sizes::default(), of, &Policy::default());
        assert_eq!(waiting(&judged) > 0, is_beyond, "{} of {of:?}", each.len());
    }
}

#[test]
fn exempt_clusters_neither_count_nor_wait() {
    let of = FleetSize { units: 10, objects: 10 };
    let each = losses(&[(10, "a: Namespace/n"), (10, "a: Namespace/n")]);
    let policy = Policy { exempt: [cluster(1)].into(), ..Policy::default() };
    let judged = judge(&each, &Taken::default(), &Sizes::default(), of, &policy);
    assert_eq!(waiting(&judged), 0, "{judged:?}");
    assert_eq!(judged.findings[0].clusters, [cluster(0)].into());
}

#[test]
fn a_finding_names_the_first() {
    let of = FleetSize { units: 10, objects: 10 };
    let each = losses(&[(10, "a: ConfigMap*4 Namespace/n"), (10, "b: Namespace/n")]);
    let judged = judge(&each, &Taken::default(), &Sizes::default(), of, &Policy::default());
    let names: Vec<&[String]> = judged.findings.iter().map(|finding| &*finding.names).collect();
    assert_eq!(names[0], ["c0: Namespace web/n", "c1: Namespace web/n"]);
    assert_eq!(names[1].len(), 5);
}

#[test]
fn a_digest_names_clusters_units_objects_and_what_becomes_of_the_unit() {
    let all = [
        losses(&[(9, "a: x"), (9, "a: x y")]),
        losses(&[(9, "a: x y"), (9, "a: x")]),
        losses(&[(9, "a: x y x"), (9, "b: x")]),
        losses(&[(9, "a removed: x"), (9, "a: x y")]),
        losses(&[(9, "a: x"), (9, "a: Secret/x y")]),
        losses(&[(9, "a: x"), (9, "a: x; b: y")]),
        losses(&[(9, "a: x")]),
    ];
    let digests: BTreeSet<Digest> = all.iter().map(digest).collect();
    assert_eq!(digests.len(), all.len());
    assert_eq!(digest(&losses(&[(9, "a: x")])), digest(&losses(&[(20, "a: x")])), "of what is lost alone");
}

#[test]
fn a_kind_has_one_text() {
    for text in ["Namespace", "StatefulSet.apps", "CustomResourceDefinition.apiextensions.k8s.io"] {
        assert_eq!(text.parse::<KindName>().unwrap().to_string(), text);
    }
    for text in ["", "namespace", "Stateful Set", "Namespace.", "A.B", ".apps", "A/b"] {
        assert!(text.parse::<KindName>().is_err(), "{text}");
    }
}

fn policy(max: usize) -> Policy {
    Policy { units: Limit { max, share: 20 }, ..Policy::default() }
}

#[test]
fn a_looser_policy_counts_from_the_next_commit_on() {
    let mut force = InForce::new(policy(10));
    // Stricter at once; looser only for a later commit, and not while something waits.
    for (commit, read, waits, judged_by) in [
        ("1", Some(5), false, 5),
        ("2", Some(5), false, 5),
        ("3", Some(90), true, 5),
        ("3", Some(90), false, 5),
        ("4", Some(90), false, 90),
        ("5", Some(95), false, 90),
        ("6", None, false, 95),
        ("7", Some(99), true, 95),
        ("8", Some(99), true, 95),
        ("9", Some(99), false, 95),
        ("9", Some(99), false, 95),
        ("10", Some(99), false, 99),
    ] {
        let read = read.map(policy);
        assert_eq!(force.judging(commit, read.as_ref()).units.max, judged_by, "{commit}");
        force.settle(commit, read.as_ref(), waits);
    }
}

#[test]
fn the_stricter_of_two_policies_is_so_in_each_field() {
    let name = |kind: &str| kind.parse::<KindName>().unwrap();
    let one = Policy {
        units: Limit { max: 1, share: 50 },
        protected: [(name("A"), 3), (name("B"), 1)].into(),
        exempt: [cluster(1), cluster(2)].into(),
        ..Policy::default()
    };
    let other = Policy {
        units: Limit { max: 5, share: 10 },
        protected: [(name("A"), 2), (name("C"), 4)].into(),
        exempt: [cluster(2), cluster(3)].into(),
        ..Policy::default()
    };
    let both = one.stricter(&other);
    assert_eq!(both.units, Limit { max: 1, share: 10 });
    assert_eq!(both.protected, [(name("A"), 2), (name("B"), 1), (name("C"), 4)].into());
    assert_eq!(both.exempt, [cluster(2)].into());
    assert_eq!(both, other.stricter(&one));
}
