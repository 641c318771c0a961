//! Faults in what the planner sees and in what its plans come to: whatever fails, nothing is deleted that Git still wants,
//! or of which nobody knows whether it does.

use proptest::prelude::*;

use super::properties::{apply_change, change, object_name};
use super::*;

/// What goes wrong in a round.
#[derive(Debug, Clone)]
enum Fault {
    /// The agent's memory of a unit, or all of it, is lost.
    Memory(Option<u8>),
    /// What was last seen of objects is lost or not listed yet.
    Blind,
    /// The inventory is damaged; it is not whole for this round.
    Damage,
    /// The inventory lost a unit's own line: its parent, its account.
    Links(u8),
    /// The state is an older one, or one of which a part was not understood.
    Unnamed(u8),
    /// These objects cannot be applied …
    Apply(u8),
    /// … cannot be looked at before they are deleted …
    Look(u8),
    /// … or are not found though they are there: a 404 of a path that is not served.
    NotServed(u8),
    /// The clock jumped: what was waited for is over, or is waited for anew. Plans know no time.
    Clock,
}

fn fault() -> impl Strategy<Value = Fault> {
    prop_oneof![
        proptest::option::of(0..4u8).prop_map(Fault::Memory),
        Just(Fault::Blind),
        Just(Fault::Damage),
        (0..4u8).prop_map(Fault::Links),
        (0..4u8).prop_map(Fault::Unnamed),
        (0..6u8).prop_map(Fault::Apply),
        (0..6u8).prop_map(Fault::Look),
        (0..6u8).prop_map(Fault::NotServed),
        Just(Fault::Clock),
    ]
}

/// The root that is above all units and defines them.
fn root(world: &mut World, content: u8) {
    let entry =
        ObjectEntry { object: reference("root"), digest: Digest::of(&[content]), size: 1, template: false };
    world.present(&Arc::new(UnitManifest::new(UnitId::root(), UnitSpec::default(), vec![entry])));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn whatever_fails_nothing_is_deleted_that_git_still_wants(
        rounds in proptest::collection::vec((
            proptest::collection::vec(change(), 1..5),
            proptest::collection::vec(fault(), 0..4),
            any::<bool>(),
        ), 1..10)
    ) {
        let mut world = World::default();
        root(&mut world, 0);
        world.settle(&none());
        for (number, (changes, faults, root_fails)) in rounds.into_iter().enumerate() {
            let before = world.clone();
            for change in &changes {
                apply_change(&mut world, change);
            }
            // Each commit changes the root, so that it has to be applied before units leave.
            root(&mut world, number as u8 + 1);
            let mut failing = none();
            if root_fails {
                failing.insert(id("root"));
            }
            let unit_of = |number: &u8| unit(&format!("u{number}"));
            for fault in &faults {
                match fault {
                    Fault::Memory(Some(number)) => {
                        world.unit_memories.remove(&unit_of(number));
                    }
                    Fault::Memory(None) => {
                        world.unit_memories.clear();
                        world.applied.clear();
                    }
                    Fault::Blind => world.blind = true,
                    Fault::Damage => world.damage = Some("a line does not parse".into()),
                    Fault::Links(number) => {
                        if let Some(listed) = world.inventory.units.get_mut(&unit_of(number)) {
                            listed.links = Links::default();
                        }
                    }
                    Fault::Unnamed(number) => _ = world.entries.remove(&unit_of(number)),
                    Fault::Apply(number) => _ = failing.insert(id(&object_name(*number))),
                    Fault::Look(number) => _ = world.hidden.insert(id(&object_name(*number))),
                    Fault::NotServed(number) => _ = world.hidden.insert(id(&object_name(*number))),
                    Fault::Clock => {}
                }
            }
            world.deleted.clear();
            let desired = world.desired();
            let stop = prune_stop(&desired, &world.inventory, &world.unit_memories, world.damage.as_deref());
            let listed = world.inventory.clone();
            let memories = world.unit_memories.clone();
            world.settle(&failing);
            for object in &world.deleted {
                let wanted = desired.all_present().any(|unit| unit.objects.iter().any(|entry| entry.object.id == *object));
                prop_assert!(!wanted, "{object} is wanted; {faults:?}");
                prop_assert!(stop.why(None).is_none(), "{object} was deleted though {stop:?}");
                prop_assert!(!world.hidden.contains(object), "{object} could not be looked at; {faults:?}");
                let owners: Vec<&UnitId> = listed.owners(object).collect();
                for owner in owners {
                    let entry = desired.units().get(owner);
                    prop_assert!(!matches!(entry, None | Some(UnitEntry::Hold(_))), "{owner} is held");
                    let suspended = match entry {
                        Some(UnitEntry::Present(unit)) => unit.spec.suspend,
                        Some(UnitEntry::Removed(removal)) => removal.suspended,
                        _ => false,
                    };
                    prop_assert!(!suspended, "{object} of {owner}, which is suspended");
                    let left = matches!(entry, Some(UnitEntry::Removed(_)));
                    let root_decides = left && stays_above(owner, &desired, &listed, &memories) == UnitId::root();
                    prop_assert!(!root_decides || !root_fails, "{owner} left while the root does not apply; {faults:?}");
                }
            }
            // What cannot be looked at stays listed, so that it can be pruned one day.
            for object in world.hidden.iter().filter(|object| world.there.contains_key(*object)) {
                let was = listed.owners(object).next().is_some();
                let forgotten = world.inventory.owners(object).next().is_none();
                let ours = before.applied.contains_key(object);
                let lost = was && forgotten && ours && all_delete(&desired, &listed, object);
                prop_assert!(!lost, "{object} was forgotten; {faults:?}");
            }
            world.hidden.clear();
            (world.blind, world.damage) = (false, None);
        }
    }
}

/// The first unit above one that left which stays: what it applied decides.
fn stays_above(
    id: &UnitId,
    desired: &DesiredState,
    listed: &Inventory,
    memories: &BTreeMap<UnitId, UnitMemory>,
) -> UnitId {
    let mut seen = vec![id.clone()];
    while let Some(at) = seen.last().filter(|at| at.kind != UnitKind::Root) {
        if seen.len() > 1 && !matches!(desired.units().get(at), Some(UnitEntry::Removed(_))) {
            return at.clone();
        }
        let of_listed = listed.units.get(at).and_then(|unit| unit.links.parent.clone());
        let of_memory = || memories.get(at)?.last.as_ref()?.spec.parent.clone();
        let parent = of_listed.or_else(of_memory).filter(|parent| !seen.contains(parent));
        seen.push(parent.unwrap_or_else(UnitId::root));
    }
    UnitId::root()
}

/// Whether each unit that lists the object deletes what leaves it. One that does not lets go without a look, and may be the
/// last that lists it: the others leave the object to it.
fn all_delete(desired: &DesiredState, listed: &Inventory, object: &ObjectId) -> bool {
    listed.owners(object).all(|owner| match desired.units().get(owner) {
        Some(UnitEntry::Present(unit)) => unit.spec.prune,
        Some(UnitEntry::Removed(removal)) => removal.deletes(),
        _ => true,
    })
}
