//! Where objects may move to, and whose holding stops whose pruning.

use super::*;
use crate::authority::Authority;
use crate::desired::Hold;

fn of(namespaces: &[&str]) -> Authority {
    Authority::Namespaces(namespaces.iter().map(|name| (*name).to_owned()).collect())
}

fn within(authority: &Authority) -> UnitSpec {
    UnitSpec { authority: authority.clone(), ..UnitSpec::default() }
}

/// The objects of these tests are in the namespace `n`.
#[test]
fn only_who_could_have_an_object_keeps_it_from_deletion() {
    let blocked = UnitSpec { depends_on: vec![unit("never")], ..UnitSpec::default() };
    for (what, from, to, spec, forbidden, stays) in [
        ("another unit of the fleet", Authority::Fleet, Authority::Fleet, blocked.clone(), false, true),
        ("the owner of the namespace", Authority::Fleet, of(&["n"]), blocked.clone(), false, true),
        ("a stranger who is being applied", Authority::Fleet, of(&["t"]), UnitSpec::default(), false, true),
        (
            "a stranger whom the cluster refused it",
            Authority::Fleet,
            of(&["t"]),
            UnitSpec::default(),
            true,
            false,
        ),
        ("a stranger who waits for something", Authority::Fleet, of(&["t"]), blocked.clone(), false, false),
        ("an equal of who had it", of(&["t"]), of(&["t"]), blocked.clone(), false, true),
        ("a stranger to another tenant", of(&["n"]), of(&["t"]), blocked, false, false),
    ] {
        let mut world = World::default();
        world.present(&manifest("a", within(&from), &[("x", 1), ("y", 1)]));
        world.settle(&none());
        world.present(&manifest("a", within(&from), &[("y", 1)]));
        world.present(&manifest("s", UnitSpec { authority: to, ..spec }, &[("x", 1)]));
        world.present(&manifest("never", UnitSpec::default(), &[("z", 1)]));
        if forbidden {
            world.forbidden.insert((unit("s"), id("x")));
        }
        // Everything of the others fails.
        world.settle(&BTreeSet::from([id("x"), id("z")]));
        assert_eq!(world.there.contains_key(&id("x")), stays, "{what}");
        let leaving = world.plan(&unit("a")).leaving;
        let told = leaving.first().map(|(_, leaving)| leaving.clone());
        assert_eq!(told, stays.then(|| Leaving::Stay("moves to kustomization/f/s".into())), "{what}");
    }
}

#[test]
fn a_stranger_that_has_applied_an_object_keeps_it() {
    let mut world = World::default();
    world.present(&manifest("a", UnitSpec::default(), &[("x", 1), ("y", 1)]));
    world.present(&manifest("s", within(&of(&["t"])), &[("x", 1)]));
    world.settle(&none());
    world.present(&manifest("a", UnitSpec::default(), &[("y", 1)]));
    world.settle(&none());
    assert!(world.there.contains_key(&id("x")) && world.deleted.is_empty());
    let x = id("x");
    assert_eq!(world.inventory.owners(&x).collect::<Vec<_>>(), [&unit("s")]);
}

#[test]
fn a_clash_is_the_strangers_problem_whatever_its_name() {
    for (authority, name) in [(of(&["t"]), "a"), (of(&["n"]), "a"), (Authority::Fleet, "z")] {
        let mut world = World::default();
        world.present(&manifest("m", UnitSpec::default(), &[("x", 1), ("own", 1)]));
        world.present(&manifest(name, within(&authority), &[("x", 2), ("theirs", 1)]));
        world.settle(&none());
        assert!(world.plan(&unit("m")).refused.is_empty(), "{name} of {authority}");
        assert_eq!(world.plan(&unit(name)).refused.len(), 1, "{name} of {authority}");
        assert_eq!(world.names(), ["own", "theirs", "x"]);
        // Nor does it end the repair of what is held.
        world.entries.insert(unit("m"), UnitEntry::Hold("bad".into()));
        world.there.remove(&id("own"));
        world.there.get_mut(&id("x")).unwrap().1 = true;
        let repaired = world.plan(&unit("m")).apply.len();
        assert_eq!(repaired, if authority.is_fleet() { 1 } else { 2 }, "{name} of {authority}");
    }
}

#[test]
fn what_is_held_stops_the_pruning_of_those_it_may_take_from() {
    for (held, mine, stops) in [
        (Authority::Fleet, Authority::Fleet, true),
        (Authority::Fleet, of(&["a"]), true),
        (of(&["a"]), Authority::Fleet, false),
        (of(&["a"]), of(&["a"]), true),
        (of(&["a"]), of(&["b"]), false),
    ] {
        let mut world = World::default();
        world.present(&manifest("m", within(&mine), &[("x", 1), ("y", 1)]));
        world.settle(&none());
        world.present(&manifest("m", within(&mine), &[("y", 1)]));
        let hold = Hold { authority: held.clone(), ..Hold::from("bad") };
        world.entries.insert(unit("h"), UnitEntry::Hold(hold));
        world.settle(&none());
        assert_eq!(world.there.contains_key(&id("x")), stops, "{held} held, {mine} prunes");
        let leaving = world.plan(&unit("m")).leaving;
        let why = "kustomization/f/h is held, and objects may have moved into it";
        assert_eq!(
            leaving.first().map(|(_, leaving)| leaving.clone()),
            stops.then(|| Leaving::Stay(why.into()))
        );
    }
    // An inventory that is not whole stops all of it.
    let world = World::default();
    let stop =
        prune_stop(&world.desired(), &world.inventory, &world.unit_memories, Some("a shard is damaged"));
    assert!(stop.why(Some(&of(&["a"]))).unwrap().contains("a shard is damaged"));
}
