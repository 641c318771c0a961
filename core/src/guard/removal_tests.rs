use super::tests::{LIMITS, departure, leaving, member, scope, there};
use super::*;
use crate::desired::{DesiredState, Removal, UnitEntry};
use crate::inventory::Inventory;

fn unit(name: &str) -> UnitId {
    UnitId::kustomization("f", name)
}

fn unit_departure(objects: usize, of: usize) -> UnitDeparture {
    UnitDeparture { approval: Digest::of(b"together"), objects, of, moved: false }
}

fn one(kind: &str, found: Found) -> Candidate {
    let group = if kind == "StatefulSet" { "apps" } else { "" };
    let mut member = member(kind, "data", Some("u"));
    member.object.id = ObjectId::new(group, kind, "n", "data");
    Candidate { member, departure: departure(1, 0), found }
}

fn holding(kind: &str, inside: Inside) -> Candidate {
    one(kind, Found::There(There { inside, ..there() }))
}

/// What the guards say of all candidates together: deleted, or kept for this reason.
fn said(scope: &Scope, candidates: &[Candidate], approvals: &Approvals) -> String {
    let verdicts = judge(scope, candidates, approvals, LIMITS).verdicts;
    let words: BTreeSet<String> = verdicts
        .iter()
        .map(|verdict| match verdict {
            Verdict::Delete(_) => "delete".to_owned(),
            Verdict::Forget(why) => format!("forget: {why}"),
            Verdict::Keep(kept) => format!("keep: {}", kept.why),
            Verdict::Later(why) => format!("later: {why}"),
        })
        .collect();
    words.into_iter().collect::<Vec<_>>().join(" | ")
}

#[test]
fn a_small_unit_is_removed_and_one_with_data_or_much_waits_whole() {
    let id = unit("x");
    let claims = || Inside::Claims(vec!["data".into()]);
    for (more, count, removed, allow_empty, expected) in [
        (None, 3, unit_departure(3, 100), false, "delete"),
        (None, 10, unit_departure(10, 100), false, "delete"),
        // Half of a small cluster is small.
        (None, 4, unit_departure(4, 4), false, "delete"),
        (None, 5, unit_departure(5, 10), false, "delete"),
        (None, 11, unit_departure(11, 100), false, "removed with 11 objects; up to 10 need no approval"),
        (None, 11, unit_departure(11, 100), true, "delete"),
        (
            None,
            3,
            unit_departure(6, 10),
            false,
            "6 of the cluster's 10 objects would be deleted, more than 50 %",
        ),
        (None, 3, unit_departure(60, 100), true, "60 of the cluster's 100 objects"),
        (
            None,
            1,
            UnitDeparture { moved: true, ..unit_departure(1, 100) },
            true,
            "a change of the cluster's root",
        ),
        (
            Some(one("PersistentVolumeClaim", Found::There(there()))),
            3,
            unit_departure(4, 100),
            true,
            "its data would be lost",
        ),
        (
            Some(one("PersistentVolume", Found::There(there()))),
            0,
            unit_departure(1, 100),
            false,
            "its data would be lost",
        ),
        (
            Some(holding("StatefulSet", claims())),
            3,
            unit_departure(4, 100),
            true,
            "the data on its volumes would be lost: data",
        ),
        (Some(holding("StatefulSet", Inside::NoContainer)), 3, unit_departure(4, 100), false, "delete"),
        (
            Some(holding("Namespace", Inside::Foreign(vec!["Pod n/x".into()]))),
            3,
            unit_departure(4, 100),
            false,
            "holds objects that are not of this unit: Pod n/x",
        ),
        (Some(holding("Namespace", Inside::Foreign(vec![]))), 3, unit_departure(4, 100), false, "delete"),
    ] {
        let scope =
            Scope { wanted: 0, extent: PruneExtent::Unit(removed.clone()), allow_empty, ..scope(&id) };
        let mut candidates = leaving(0..count, departure(1, 0));
        candidates.extend(more.clone());
        let found = said(&scope, &candidates, &Approvals::default());
        assert!(found.contains(expected), "{found} is not {expected}");
        if expected == "delete" {
            assert_eq!(found, "delete");
            continue;
        }
        // All of it waits, for one reason and one approval, and that lets all of it go.
        assert!(found.starts_with("keep: ") && !found.contains('|'), "{found}");
        let asked = judge(&scope, &candidates, &Approvals::default(), LIMITS).asked;
        let mut approvals = Approvals::default();
        approvals.give(asked[0].0, None);
        approvals.learn(&asked);
        assert_eq!(said(&scope, &candidates, &approvals), "delete", "{expected}");
        // The rest of a unit of which a part is gone by now.
        let rest = &candidates[candidates.len() - 1..];
        assert_eq!(said(&scope, rest, &approvals), "delete", "{expected}");
        // The operator asked for all of it; a volume's own claim is asked for as ever.
        let everything = Scope { extent: PruneExtent::Everything, ..scope };
        let found = said(&everything, &candidates[..candidates.len().min(3)], &Approvals::default());
        assert!(more.is_some() || found == "delete", "{found}");
    }
}

#[test]
fn an_approval_of_many_does_not_let_data_go() {
    let id = unit("x");
    let claim = one("PersistentVolumeClaim", Found::There(there()));
    let candidates = [leaving(0..3, departure(1, 0)), vec![claim.clone()]].concat();
    let scope = Scope { wanted: 0, extent: PruneExtent::Unit(unit_departure(60, 100)), ..scope(&id) };
    let mut approvals = Approvals::default();
    approvals.give(Digest::of(b"together"), None);
    assert!(said(&scope, &candidates, &approvals).starts_with("keep: the unit would be removed with"));
    // Nor does what was given for objects that leave a unit that stays.
    let objects = candidates.iter().map(|candidate| candidate.member.object.id.clone()).collect();
    approvals.give(Digest::of(b"some"), Some(Subject { unit: id.clone(), what: What::Objects, objects }));
    assert!(said(&scope, &candidates, &approvals).starts_with("keep: "));
    // Another object under the same name is another removal.
    let [(digest, _)] = &judge(&scope, &candidates, &approvals, LIMITS).asked[1..] else { panic!() };
    let mut other = candidates.clone();
    other[3].member.uid = Some(Uid::from("w"));
    other[3].found = Found::There(There { uid: Uid::from("w"), ..there() });
    approvals.give(*digest, None);
    assert_eq!(said(&scope, &candidates, &approvals), "delete");
    assert!(said(&scope, &other, &approvals).starts_with("keep: "));
}

/// What cannot be looked at may hold data: then nobody begins.
#[test]
fn a_unit_of_which_nobody_knows_what_it_holds_waits_whole() {
    let id = unit("x");
    let scope = Scope { wanted: 0, extent: PruneExtent::Unit(unit_departure(4, 100)), ..scope(&id) };
    let unknown = || Found::Unknown("cannot be looked at: 403".into());
    for (candidate, waits) in [
        (one("StatefulSet", unknown()), true),
        (one("Namespace", unknown()), true),
        (holding("Namespace", Inside::Unknown("cannot list pods in it: 500".into())), true),
        (one("ConfigMap", unknown()), false),
    ] {
        let candidates = [leaving(0..3, departure(1, 0)), vec![candidate]].concat();
        let found = said(&scope, &candidates, &Approvals::default());
        assert_eq!(found.contains("delete"), !waits, "{found}");
        assert!(!waits || found.contains("it is not known what the unit holds"), "{found}");
    }
}

fn inventory(units: &[(&str, std::ops::Range<u32>)]) -> Inventory {
    let mut inventory = Inventory::default();
    for (name, objects) in units {
        let listed = inventory.units.entry(unit(name)).or_default();
        objects
            .clone()
            .for_each(|number| listed.list(&member("ConfigMap", &format!("c{number}"), Some("u"))));
    }
    inventory
}

fn state(removed: &[&str], removal: Removal) -> DesiredState {
    let removed = removed.iter().map(|name| (unit(name), UnitEntry::Removed(removal)));
    DesiredState::new("c".parse().unwrap(), Generation(1), "", removed.collect())
}

#[test]
fn units_that_left_together_are_told_when_their_state_is_taken() {
    let all = inventory(&[("a", 0..8), ("b", 8..16), ("c", 14..24), ("d", 24..40), ("e", 0..0)]);
    let prune = Removal { prune: true, ..Removal::default() };
    let mut noted = BTreeMap::new();
    let nobody = |_: &ObjectId| false;
    let note = |state: &DesiredState, noted: &mut BTreeMap<_, _>| {
        note_removals(state, false, &all, &nobody, noted).len()
    };
    // Of `e` nothing is left.
    assert_eq!(note(&state(&["a", "b", "e"], prune), &mut noted), 2);
    let first = noted[&unit("a")].clone();
    assert_eq!((first.objects, first.of, first.moved), (16, 40, false));
    assert_eq!(noted[&unit("b")], first);
    // A later state removes another: that is another change, and those before it stay what they were.
    assert_eq!(note(&state(&["a", "b", "c"], prune), &mut noted), 1);
    assert_eq!((&noted[&unit("b")], noted[&unit("c")].objects), (&first, 10));
    assert_ne!(noted[&unit("c")].approval, first.approval);
    // Back in Git, kept by its policy, or suspended: it does not leave.
    assert_eq!(note(&state(&["a"], prune), &mut noted), 2);
    assert_eq!(note(&state(&["a"], Removal { suspended: true, ..prune }), &mut noted), 1);
    assert_eq!(note(&state(&["a"], Removal::default()), &mut noted), 0);
    assert!(noted.is_empty());
    // What others declare does not leave with its unit.
    let declared = |id: &ObjectId| id.name != "c0";
    assert_eq!(note_removals(&state(&["a"], prune), false, &all, &declared, &mut noted).len(), 1);
    assert_eq!(noted[&unit("a")].objects, 1);
    // A change of the root may be known later.
    assert_eq!(note(&state(&["a"], Removal { moved: true, ..prune }), &mut noted), 1);
    assert!(noted[&unit("a")].moved);
}

/// Units are let go one by one or all together; the rest of a change does not become small by what was let go.
#[test]
fn an_approval_for_units_holds_until_the_last_of_them_is_gone() {
    let (a, b) = (unit("a"), unit("b"));
    let left_together = unit_departure(60, 100);
    let scope = |unit| Scope { wanted: 0, extent: PruneExtent::Unit(left_together.clone()), ..scope(unit) };
    let candidates = leaving(0..3, departure(1, 0));
    let asked = judge(&scope(&a), &candidates, &Approvals::default(), LIMITS).asked;
    assert_eq!((asked.len(), asked[0].0, asked[0].1.what), (1, left_together.approval, What::Units));
    let mut approvals = Approvals::default();
    approvals.give(asked[0].0, None);
    approvals.learn(&asked);
    assert_eq!(said(&scope(&a), &candidates, &approvals), "delete");
    assert!(approvals.close(&a, &BTreeSet::new()).is_empty(), "the other one needs it");
    assert_eq!(said(&scope(&b), &candidates, &approvals), "delete");
    assert!(approvals.close_units(|digest| digest == left_together.approval).is_empty());
    assert_eq!(approvals.close_units(|_| false), [left_together.approval]);
    assert!(said(&scope(&b), &candidates, &approvals).starts_with("keep: "));
}
