//! Random changes of what is desired and of the cluster, with applies that fail at random.

use proptest::prelude::*;

use super::*;

/// One change of what is desired, or of the cluster behind our back.
#[derive(Debug, Clone)]
pub(super) enum Change {
    Present(u8, Vec<(u8, u8)>, bool, Option<u8>),
    Hold(u8),
    Remove(u8),
    RemoveSuspended(u8),
    Unname(u8),
    Suspend(u8),
    Under(u8, u8),
    DeleteByHand(u8),
    Replace(u8),
    Touch(u8),
    Forget(u8),
    Foreign(u8),
}

pub(super) fn change() -> impl Strategy<Value = Change> {
    let objects = proptest::collection::vec((0..6u8, 0..2u8), 0..4);
    prop_oneof![
        6 => (0..4u8, objects, any::<bool>(), proptest::option::of(0..4u8))
            .prop_map(|(unit, objects, prune, dep)| Change::Present(unit, objects, prune, dep)),
        1 => (0..4u8).prop_map(Change::Hold),
        2 => (0..4u8).prop_map(Change::Remove),
        1 => (0..4u8).prop_map(Change::RemoveSuspended),
        1 => (0..4u8).prop_map(Change::Unname),
        1 => (0..4u8).prop_map(Change::Suspend),
        1 => (0..4u8, 0..4u8).prop_map(|(unit, parent)| Change::Under(unit, parent)),
        1 => (0..6u8).prop_map(Change::DeleteByHand),
        1 => (0..6u8).prop_map(Change::Replace),
        1 => (0..6u8).prop_map(Change::Touch),
        1 => (0..6u8).prop_map(Change::Forget),
        1 => (6..9u8).prop_map(Change::Foreign),
    ]
}

pub(super) fn object_name(index: u8) -> String {
    format!("o{index}")
}

pub(super) fn apply_change(world: &mut World, change: &Change) {
    let unit_name = |index: &u8| format!("u{index}");
    let object = |index: &u8| id(&object_name(*index));
    match change {
        Change::Present(u, objects, prune, dep) => {
            let unique: BTreeMap<String, u8> =
                objects.iter().map(|(o, content)| (object_name(*o), *content)).collect();
            let list: Vec<(&str, u8)> =
                unique.iter().map(|(name, content)| (name.as_str(), *content)).collect();
            let depends_on = dep.iter().map(|d| unit(&unit_name(d))).collect();
            let spec = UnitSpec { prune: *prune, depends_on, ..UnitSpec::default() };
            world.present(&manifest(&unit_name(u), spec, &list));
        }
        Change::Hold(u) => {
            world.entries.insert(unit(&unit_name(u)), UnitEntry::Hold("bad".into()));
        }
        Change::Remove(u) => {
            let removal = Removal { prune: true, ..Removal::default() };
            world.entries.insert(unit(&unit_name(u)), UnitEntry::Removed(removal));
        }
        Change::RemoveSuspended(u) => {
            let removal = Removal { prune: true, suspended: true, ..Removal::default() };
            world.entries.insert(unit(&unit_name(u)), UnitEntry::Removed(removal));
        }
        Change::Unname(u) => {
            world.entries.remove(&unit(&unit_name(u)));
        }
        Change::Suspend(u) => respec(world, &unit(&unit_name(u)), |spec| spec.suspend = !spec.suspend),
        Change::Under(u, parent) => {
            let parent = unit(&unit_name(parent));
            respec(world, &unit(&unit_name(u)), |spec| spec.parent = Some(parent.clone()));
        }
        Change::DeleteByHand(o) => {
            world.there.remove(&object(o));
        }
        Change::Replace(o) => {
            // Deleted and made anew by somebody else.
            if let Some(there) = world.there.get_mut(&object(o)) {
                *there = ("foreign".into(), true);
            }
        }
        Change::Touch(o) => {
            if let Some(there) = world.there.get_mut(&object(o)) {
                there.1 = true;
            }
        }
        Change::Forget(o) => {
            world.applied.remove(&object(o));
        }
        Change::Foreign(o) => {
            world.there.insert(object(o), ("foreign".into(), false));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn no_plan_deletes_what_is_desired_foreign_or_unknown(
        rounds in proptest::collection::vec((proptest::collection::vec(change(), 1..5), proptest::collection::btree_set(0..6u8, 0..3)), 1..8)
    ) {
        let mut world = World::default();
        for (changes, failing) in rounds {
            for change in &changes {
                apply_change(&mut world, change);
            }
            let failing: BTreeSet<ObjectId> = failing.iter().map(|o| id(&object_name(*o))).collect();
            world.deleted.clear();
            let listed: BTreeSet<ObjectId> = world.inventory.units.values()
                .flat_map(|unit| unit.members.keys().cloned()).collect();
            let foreign: Vec<ObjectId> = world.there.iter().filter(|(_, (uid, _))| uid == "foreign").map(|(id, _)| id.clone()).collect();
            let unlisted_foreign: Vec<ObjectId> = foreign.into_iter().filter(|id| !listed.contains(id)).collect();
            let held = prune_stop(&world.desired(), &world.inventory, &world.unit_memories, None).why(None);
            // Ends, whatever fails.
            world.settle(&failing);
            let desired: BTreeSet<ObjectId> = world.desired().all_present()
                .flat_map(|unit| unit.objects.iter().map(|entry| entry.object.id.clone()).collect::<Vec<_>>()).collect();
            for object in &world.deleted {
                prop_assert!(!desired.contains(object), "{object} is desired");
                prop_assert!(listed.contains(object), "{object} was never ours");
            }
            prop_assert!(held.is_none() || world.deleted.is_empty(), "deleted {:?} though {held:?}", world.deleted);
            for object in &unlisted_foreign {
                prop_assert!(world.there.contains_key(object), "foreign {object} is gone");
            }
            // Settled means settled: planning again has nothing to do but what fails.
            for id in world.entries.keys() {
                for step in world.plan(id).apply {
                    prop_assert!(failing.contains(&step.object.id), "{step:?} is left");
                }
            }
        }
    }
}
