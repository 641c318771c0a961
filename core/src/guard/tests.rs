use super::*;
use crate::object::ObjectRef;

pub(super) fn member(kind: &str, name: &str, uid: Option<&str>) -> Member {
    let id = ObjectId::new("", kind, "n", name);
    Member { object: ObjectRef { id, version: "v1".into() }, uid: uid.map(Uid::from) }
}

/// What left with the state of this generation, which wants so many objects.
pub(super) fn departure(generation: u64, wanted: usize) -> Departure {
    Departure { generation: Generation(generation), wanted, moved: false }
}

/// ConfigMaps that are there, by number, and left together.
pub(super) fn leaving(numbers: std::ops::Range<u32>, departure: Departure) -> Vec<Candidate> {
    let member = |number| member("ConfigMap", &format!("c{number}"), Some("u"));
    numbers
        .map(|number| Candidate { member: member(number), departure, found: Found::There(there()) })
        .collect()
}

/// What each candidate is kept for, if it is.
fn kept(scope: &Scope, candidates: &[Candidate], approvals: &Approvals) -> Vec<Option<Digest>> {
    let verdicts = judge(scope, candidates, approvals, LIMITS).verdicts.into_iter();
    let approval = |verdict| match verdict {
        Verdict::Keep(kept) => Some(kept.approval),
        _ => None,
    };
    verdicts.map(approval).collect()
}

pub(super) fn there() -> There {
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

pub(super) const LIMITS: Limits = Limits { share: 0.5, floor: 5, unit: 10 };

pub(super) fn scope(unit: &UnitId) -> Scope<'_> {
    Scope { unit, wanted: 9, extent: PruneExtent::Objects, allow_empty: false, cluster_empties: false }
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
        ("ConfigMap", Some("other"), Found::There(there()), "forget was recreated by somebody else".into()),
        ("ConfigMap", None, Found::There(there()), "delete".into()),
        (
            "ConfigMap",
            None,
            Found::There(There { applied_by_us: false, ..there() }),
            "forget was never applied by us".into(),
        ),
        ("ConfigMap", Some("u"), Found::Gone, "forget is gone".into()),
        (
            "ConfigMap",
            None,
            Found::Unconfirmed,
            "forget was never confirmed as applied, and the agent may not read it".into(),
        ),
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
            "forget is kept by a".into(),
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
        let candidates = [Candidate { member: member(kind, "a", uid), departure: departure(1, 9), found }];
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
    let none = Approvals::default();
    let base = scope(&unit);
    // Of a state that wants so many after so many left.
    let kept = |count, wanted, scope: &Scope, approvals: &Approvals| -> BTreeSet<Digest> {
        let scope = Scope { wanted, ..scope.clone() };
        kept(&scope, &leaving(0..count, departure(1, wanted)), approvals).into_iter().flatten().collect()
    };
    assert!(kept(5, 5, &base, &none).is_empty(), "half is not more than half");
    assert!(kept(4, 1, &base, &none).is_empty(), "few are no share");
    let six = kept(6, 4, &base, &none);
    assert_eq!(six.len(), 1);
    let six = given(*six.first().unwrap());
    assert!(kept(6, 4, &base, &six).is_empty());
    assert!(!kept(7, 3, &base, &six).is_empty(), "the approval was for six");
    assert!(!kept(1, 0, &base, &none).is_empty());
    assert!(kept(1, 0, &Scope { allow_empty: true, ..base.clone() }, &none).is_empty());
    assert!(!kept(1, 9, &Scope { cluster_empties: true, ..base }, &none).is_empty());
}

/// What left with a move of the root waits, however little it is; what left before or later does not wait with it.
#[test]
fn what_left_with_another_root_needs_an_approval() {
    let unit = UnitId::root();
    let moved = |departure| Departure { moved: true, ..departure };
    for (wanted, allow_empty) in [(9, false), (9, true), (0, true)] {
        let scope = Scope { wanted, allow_empty, ..scope(&unit) };
        let [before, with, after] = [departure(1, 9), moved(departure(2, 9)), departure(3, 9)];
        let all = [leaving(0..1, before), leaving(1..2, with), leaving(2..3, after)].concat();
        let said = judge(&scope, &all, &Approvals::default(), LIMITS);
        let [Verdict::Delete(_), Verdict::Keep(waits), Verdict::Delete(_)] = &said.verdicts[..] else {
            panic!("{:?}", said.verdicts)
        };
        assert_eq!(waits.why, "left with a change of the cluster's root, source or branch");
        assert!(kept(&scope, &all, &given(waits.approval)).iter().all(Option::is_none));
        let everything = Scope { extent: PruneExtent::Everything, ..scope };
        assert!(
            kept(&everything, &all, &Approvals::default()).iter().all(Option::is_none),
            "by the operator's word"
        );
    }
}

#[test]
fn each_change_is_judged_by_itself() {
    let unit = UnitId::kustomization("f", "x");
    // Of 30: ten, then six of 20, then eight of 14, and then one.
    let changes = [departure(1, 20), departure(2, 14), departure(3, 6), departure(4, 5)];
    let ranges = [0..10, 10..16, 16..24, 24..25];
    let all: Vec<Candidate> = ranges
        .clone()
        .into_iter()
        .zip(changes)
        .flat_map(|(range, departure)| leaving(range, departure))
        .collect();
    let now = Scope { wanted: 5, ..scope(&unit) };
    let judged = judge(&now, &all, &Approvals::default(), LIMITS);
    let waits = kept(&now, &all, &Approvals::default());
    assert!(
        waits[..16].iter().chain(&waits[24..]).all(Option::is_none),
        "small changes go, while another waits"
    );
    assert!(waits[16..24].iter().all(|approval| *approval == Some(judged.asked[0].0)));
    let Verdict::Keep(first) = &judged.verdicts[16] else { panic!("{:?}", judged.verdicts[16]) };
    assert_eq!(first.why, "8 of the unit's 14 objects would go, more than 50 % in one change");
    let [(digest, subject)] = &judged.asked[..] else { panic!("{:?}", judged.asked) };
    assert_eq!(subject.objects.len(), 8);
    assert!(kept(&now, &all, &given(*digest)).iter().all(Option::is_none));

    // Two that are too large are let go one by one, or both by what was approved when they were told apart by nobody.
    let two = [leaving(0..8, departure(1, 6)), leaving(8..13, departure(2, 1))].concat();
    let asked = judge(&now, &two, &Approvals::default(), LIMITS).asked;
    assert_eq!(asked.len(), 2);
    let first = kept(&now, &two, &given(asked[0].0));
    assert!(first[..8].iter().all(Option::is_none) && first[8..].iter().all(Option::is_some));
    let objects = asked.iter().flat_map(|(_, subject)| subject.objects.clone()).collect();
    let mut both = Approvals::default();
    both.give(Digest::of(b"both"), Some(Subject { unit: unit.clone(), what: What::Objects, objects }));
    assert!(kept(&now, &two, &both).iter().all(Option::is_none));

    // A unit that falls to nothing does so as a whole, in however many changes.
    let empty = Scope { wanted: 0, ..now };
    let asked = judge(&empty, &all, &Approvals::default(), LIMITS).asked;
    assert_eq!((asked.len(), asked[0].1.objects.len()), (1, 25));
}

#[test]
fn what_is_not_deleted_anyway_does_not_count() {
    let unit = UnitId::kustomization("f", "x");
    let scope = Scope { wanted: 4, ..scope(&unit) };
    let mut six = leaving(0..6, departure(1, 4));
    assert!(kept(&scope, &six, &Approvals::default()).iter().all(Option::is_some));
    six[0].found = Found::There(There { opted_out: Some("a".into()), ..there() });
    assert!(kept(&scope, &six, &Approvals::default()).iter().all(Option::is_none), "5 of 10 go");
    six[0].found = Found::Unknown("timeout".into());
    assert_eq!(kept(&scope, &six, &Approvals::default()).iter().flatten().count(), 5, "it may go yet");
}

#[test]
fn an_object_left_in_the_first_state_without_it() {
    let id = |name: &str| member("ConfigMap", name, None).object.id;
    let set = |names: &[&str]| names.iter().map(|name| id(name)).collect::<BTreeSet<ObjectId>>();
    let mut departures = Departures::default();
    for (generation, wanted, absent, changed, expected) in [
        (1, 5, &[][..], false, ""),
        (2, 4, &["a"], true, "a@2/4"),
        (3, 4, &["a"], false, "a@2/4"),
        (4, 2, &["a", "b", "c"], true, "a@2/4 b@4/2 c@4/2"),
        // Seen again at the same state, with one more that the agent had forgotten.
        (4, 2, &["a", "b", "c", "d"], true, "a@2/4 b@4/2 c@4/2 d@4/2"),
        // `a` is back and `c` is gone; what comes back and leaves again leaves anew.
        (6, 3, &["b", "d"], true, "b@4/2 d@4/2"),
        (7, 2, &["a", "b", "d"], true, "a@7/2 b@4/2 d@4/2"),
        (8, 9, &[], true, ""),
    ] {
        assert_eq!(departures.note(departure(generation, wanted), set(absent)), changed, "{generation}");
        let said = departures.iter();
        let said = said
            .map(|(id, Departure { generation, wanted, .. })| format!("{}@{generation}/{wanted}", id.name));
        assert_eq!(said.collect::<Vec<_>>().join(" "), expected, "{generation}");
        let again: Departures = departures.iter().map(|(id, departure)| (id.clone(), departure)).collect();
        assert_eq!(again, departures);
    }
}

#[test]
fn an_approval_holds_for_what_is_left_of_it_and_ends_with_it() {
    let unit = UnitId::kustomization("f", "x");
    let scope = Scope { wanted: 0, ..scope(&unit) };
    let goes = |range: std::ops::Range<u32>, approvals: &Approvals| {
        let judged = judge(&scope, &leaving(range, departure(1, 0)), approvals, LIMITS);
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
    assert!(approvals.close(&other, &BTreeSet::new()).is_empty());
    let third = BTreeSet::from([member("ConfigMap", "c3", None).object.id]);
    assert!(approvals.close(&unit, &third).is_empty());
    assert_eq!(approvals.close(&unit, &BTreeSet::new()), [asked[0].0]);
    assert!(!goes(0..6, &approvals).0, "used");
}
