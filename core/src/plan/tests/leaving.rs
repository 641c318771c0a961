//! What becomes of objects that leave a unit, and of units that go.

use super::*;

#[test]
fn moving_is_no_deletion_even_if_the_new_unit_is_late() {
    let mut world = World::default();
    world.present(&manifest("a", UnitSpec::default(), &[("x", 1), ("y", 1)]));
    world.settle(&none());
    let uid = world.there[&id("x")].0.clone();
    world.present(&manifest("a", UnitSpec::default(), &[("y", 1)]));
    world.present(&manifest(
        "b",
        UnitSpec { depends_on: vec![unit("late")], ..UnitSpec::default() },
        &[("x", 1)],
    ));
    world.present(&manifest("late", UnitSpec::default(), &[("z", 1)]));
    world.settle(&BTreeSet::from([id("z")]));
    let stays = &world.plan(&unit("a")).leaving[0].1;
    assert_eq!(*stays, Leaving::Stay("moves to kustomization/f/b".into()));
    world.settle(&none());
    assert_eq!(world.there[&id("x")].0, uid);
    let x = id("x");
    let owners: Vec<_> = world.inventory.owners(&x).collect();
    assert_eq!(owners, [&unit("b")]);
    assert!(world.deleted.is_empty());
}

#[test]
fn a_shared_object_goes_with_the_last_and_a_differing_one_is_the_later_units_problem() {
    let mut world = World::default();
    world.present(&manifest("a", UnitSpec::default(), &[("x", 1), ("k", 1)]));
    world.present(&manifest("b", UnitSpec::default(), &[("x", 1)]));
    world.present(&manifest("c", UnitSpec::default(), &[("x", 2), ("own", 1)]));
    world.settle(&none());
    assert_eq!(world.names(), ["k", "own", "x"]);
    assert!(
        world.plan(&unit("c")).refused[0]
            .1
            .starts_with("kustomization/f/a declares it with different content")
    );
    world.present(&manifest("a", UnitSpec::default(), &[("k", 1)]));
    world.present(&manifest("c", UnitSpec::default(), &[("own", 1)]));
    world.settle(&none());
    assert!(world.there.contains_key(&id("x")));
    world.present(&manifest("b", UnitSpec::default(), &[]));
    world.settle(&none());
    assert_eq!(world.names(), ["k", "own"]);
    assert_eq!(world.deleted, [id("x")]);
}

#[test]
fn a_hold_or_an_unnamed_unit_stops_all_pruning() {
    let mut world = World::default();
    world.present(&manifest("a", UnitSpec::default(), &[("x", 1), ("y", 1)]));
    world.present(&manifest("b", UnitSpec::default(), &[("z", 1)]));
    world.settle(&none());
    let before = world.clone();
    world.present(&manifest("a", UnitSpec::default(), &[("y", 1)]));
    world.entries.insert(unit("b"), UnitEntry::Hold("b.yaml:3: bad".into()));
    world.settle(&none());
    assert_eq!(world.names(), ["x", "y", "z"]);
    world.there.remove(&id("z"));
    world.settle(&none());
    assert_eq!(world.names(), ["x", "y", "z"], "what is held is kept right");

    let mut unnamed = before;
    unnamed.entries.clear();
    unnamed.entries.insert(unit("a"), UnitEntry::Removed(Removal::default()));
    unnamed.entries.insert(unit("a"), UnitEntry::Removed(Removal { prune: true, ..Removal::default() }));
    unnamed.settle(&none());
    assert_eq!(unnamed.names(), ["x", "y", "z"]);
}

#[test]
fn removal_goes_children_first() {
    let mut world = World::default();
    world.present(&manifest("p", UnitSpec::default(), &[("p", 1)]));
    world.present(&manifest("c", UnitSpec { parent: Some(unit("p")), ..UnitSpec::default() }, &[("c", 1)]));
    let on = UnitSpec { parent: Some(unit("p")), depends_on: vec![unit("c")], ..UnitSpec::default() };
    world.present(&manifest("d", on, &[("d", 1)]));
    world.settle(&none());
    for name in ["p", "c", "d"] {
        let removal = Removal { prune: true, ..Removal::default() };
        world.entries.insert(unit(name), UnitEntry::Removed(removal));
    }
    world.settle(&none());
    assert_eq!(world.deleted, [id("d"), id("c"), id("p")]);
    assert!(world.inventory.units.is_empty());
}
