//! A unit that left Git, and what stands above it: nothing is deleted before it is certain that Git lacks it.

use super::*;

/// How a unit above the one that leaves stands.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Above {
    Applied,
    /// Its new revision was not tried yet.
    Pending,
    /// An object of its new revision is refused.
    Failed,
    /// Another unit declares one of its objects with other content.
    Clashing,
    Held,
    Unnamed,
    /// In Git or by hand.
    Suspended,
    NeverApplied,
    /// Leaves as well.
    Removed,
    RemovedSuspended,
}

fn removed_now(suspended: bool) -> UnitEntry {
    UnitEntry::Removed(Removal { prune: true, suspended, ..Removal::default() })
}

fn root(content: u8, suspend: bool) -> Arc<UnitManifest> {
    let entry =
        ObjectEntry { object: reference("root"), digest: Digest::of(&[content]), size: 1, template: false };
    let spec = UnitSpec { suspend, ..UnitSpec::default() };
    Arc::new(UnitManifest::new(UnitId::root(), spec, vec![entry]))
}

/// The root, a unit `p` and below that `c`: a Kustomization or a release.
fn three(kind: UnitKind) -> (World, UnitId) {
    let leaf = UnitId::new(kind, "f", "c");
    let below = |parent: &UnitId| UnitSpec { parent: Some(parent.clone()), ..UnitSpec::default() };
    let mut world = World::default();
    world.present(&root(1, false));
    world.present(&manifest("p", below(&UnitId::root()), &[("p", 1)]));
    let entry = ObjectEntry { object: reference("c"), digest: Digest::of(&[1]), size: 1, template: false };
    world.present(&Arc::new(UnitManifest::new(leaf.clone(), below(&unit("p")), vec![entry])));
    world.settle(&none());
    assert_eq!(world.names(), ["c", "p", "root"]);
    (world, leaf)
}

#[test]
fn a_unit_is_removed_once_its_parent_has_applied_the_revision_without_it() {
    for kind in [UnitKind::Kustomization, UnitKind::HelmRelease] {
        for (above, goes, said) in [
            (Above::Applied, true, ""),
            (Above::Pending, false, "kept until its parent kustomization/f/p has completely applied"),
            (Above::Failed, false, "kept until its parent kustomization/f/p has completely applied"),
            (Above::Clashing, false, "kept until its parent kustomization/f/p has completely applied"),
            (Above::NeverApplied, false, "kept until its parent kustomization/f/p has completely applied"),
            (Above::Held, false, "kustomization/f/p, which is held"),
            (Above::Unnamed, false, "kustomization/f/p, which is held"),
            (Above::Suspended, false, "kustomization/f/p, which is suspended"),
            (Above::RemovedSuspended, false, "kustomization/f/p, which is suspended"),
            (Above::Removed, true, ""),
        ] {
            let (mut world, leaf) = three(kind);
            let below =
                |depends_on| UnitSpec { parent: Some(UnitId::root()), depends_on, ..UnitSpec::default() };
            let mut failing = none();
            match above {
                Above::Applied => world.present(&manifest("p", below(vec![]), &[("p", 2)])),
                Above::Pending => {
                    let late = |content| manifest("late", UnitSpec::default(), &[("late", content)]);
                    world.present(&late(1));
                    failing.insert(id("late"));
                    world.present(&manifest("p", below(vec![unit("late")]), &[("p", 2)]));
                }
                Above::Failed => {
                    failing.insert(id("new"));
                    world.present(&manifest("p", below(vec![]), &[("p", 1), ("new", 1)]));
                }
                Above::Clashing => {
                    world.present(&manifest("a", UnitSpec::default(), &[("x", 1)]));
                    world.present(&manifest("p", below(vec![]), &[("p", 1), ("x", 2)]));
                }
                Above::NeverApplied => _ = world.unit_memories.remove(&unit("p")),
                Above::Held => {
                    world.entries.insert(unit("p"), UnitEntry::Hold("bad".into()));
                }
                Above::Unnamed => _ = world.entries.remove(&unit("p")),
                Above::Suspended => {
                    let spec = UnitSpec { suspend: true, ..below(vec![]) };
                    world.present(&manifest("p", spec, &[("p", 1)]));
                }
                Above::Removed => {
                    world.entries.insert(unit("p"), removed_now(false));
                }
                Above::RemovedSuspended => {
                    world.entries.insert(unit("p"), removed_now(true));
                }
            }
            world.entries.insert(leaf.clone(), removed_now(false));
            let before = world.plan(&leaf);
            if above == Above::NeverApplied {
                // Nothing but the first attempt of the parent may be wanting here.
                failing.insert(id("p"));
                world.applied.remove(&id("p"));
            }
            world.settle(&failing);
            let case = format!("{kind:?} below {above:?}");
            assert_eq!(!world.there.contains_key(&id("c")), goes, "{case}: {:?}", world.plan(&leaf).target);
            if !goes {
                let Target::Last(_, waiting) = &before.target else { panic!("{case}: {:?}", before.target) };
                assert!(waiting.to_string().contains(said), "{case}: {waiting}");
                // What waits is kept right meanwhile.
                world.there.remove(&id("c"));
                assert_eq!(world.plan(&leaf).apply.len(), 1, "{case}");
            }
        }
    }
}

/// The same for what is above the parent: that leaves too, and only the root stays.
#[test]
fn a_whole_branch_waits_for_the_unit_above_it() {
    for memory in [true, false] {
        let (mut world, leaf) = three(UnitKind::Kustomization);
        for id in [&unit("p"), &leaf] {
            world.entries.insert(id.clone(), removed_now(false));
        }
        world.present(&root(2, false));
        if !memory {
            // An agent that lost its memory knows from the inventory who was above.
            world.unit_memories.retain(|id, _| id.kind == UnitKind::Root);
        }
        let refused = BTreeSet::from([id("root")]);
        world.settle(&refused);
        assert_eq!(world.names(), ["c", "p", "root"], "the root does not apply");
        world.present(&root(2, true));
        world.settle(&none());
        assert_eq!(world.names(), ["c", "p", "root"], "the root is suspended");
        world.present(&root(2, false));
        world.settle(&none());
        assert_eq!((world.names(), &world.deleted[..]), (vec!["root"], &[id("c"), id("p")][..]));
    }
}

#[test]
fn what_never_ran_waits_for_nobody() {
    let (mut world, _) = three(UnitKind::Kustomization);
    world.present(&root(2, false));
    world.entries.insert(unit("ghost"), removed_now(false));
    let plan = world.plan(&unit("ghost"));
    assert!(matches!(plan.target, Target::Removed(_, None)) && plan.leaving.is_empty(), "{:?}", plan.target);
}

/// A suspended unit is not touched, whatever a later state says of it.
#[test]
fn a_suspended_unit_stays_as_it_is() {
    for kind in [UnitKind::Kustomization, UnitKind::HelmRelease] {
        for (then, suspended) in [
            (Some(removed_now(true)), true),
            (Some(UnitEntry::Hold("bad".into())), true),
            (None, true),
            // Resumed: what Git says is done.
            (Some(removed_now(false)), false),
        ] {
            let (mut world, leaf) = three(kind);
            respec(&mut world, &leaf, |spec| spec.suspend = true);
            world.settle(&none());
            match &then {
                Some(entry) => _ = world.entries.insert(leaf.clone(), entry.clone()),
                None => _ = world.entries.remove(&leaf),
            }
            let drifted = then != Some(removed_now(false));
            if drifted {
                world.there.get_mut(&id("c")).unwrap().1 = true;
            }
            world.settle(&none());
            let target = world.plan(&leaf).target;
            assert_eq!(matches!(target, Target::Suspended(Some(_))), suspended, "{then:?}: {target:?}");
            assert_eq!(world.there.contains_key(&id("c")), suspended, "{then:?}");
            assert!(!suspended || world.there[&id("c")].1, "{then:?}: it was put back");
        }
    }
}

/// What a suspended unit was last applied with stays, though another unit that has it too goes, and its own next definition has
/// left it out.
#[test]
fn what_a_suspended_unit_runs_goes_with_nobody_else() {
    let (mut world, leaf) = three(UnitKind::Kustomization);
    world.present(&manifest("a", UnitSpec::default(), &[("c", 1)]));
    world.settle(&none());
    let spec = UnitSpec { suspend: true, ..UnitSpec::default() };
    let parent = world.entries.get(&leaf).and_then(|entry| match entry {
        UnitEntry::Present(unit) => unit.spec.parent.clone(),
        _ => None,
    });
    let other = UnitManifest::new(leaf.clone(), UnitSpec { parent, ..spec }, Vec::new());
    world.entries.insert(leaf.clone(), UnitEntry::Present(Arc::new(other)));
    // Its list does not say so any more.
    if let Some(unit) = world.inventory.units.get_mut(&leaf) {
        unit.members.remove(&id("c"));
    }
    world.entries.insert(unit("a"), removed_now(false));
    world.settle(&none());
    assert!(world.there.contains_key(&id("c")), "it was deleted under a suspended unit");
}

/// Other units go on, and what is below a suspended unit may leave by itself.
#[test]
fn a_suspended_unit_that_left_stops_nobody_else() {
    let (mut world, leaf) = three(UnitKind::Kustomization);
    world.present(&manifest("a", UnitSpec::default(), &[("x", 1), ("y", 1)]));
    respec(&mut world, &leaf, |spec| spec.suspend = true);
    world.settle(&none());
    world.entries.insert(leaf.clone(), removed_now(true));
    world.entries.insert(unit("p"), removed_now(false));
    world.present(&manifest("a", UnitSpec::default(), &[("y", 1)]));
    world.settle(&none());
    assert_eq!(world.names(), ["c", "root", "y"]);
    assert!(world.inventory.units[&leaf].members.contains_key(&id("c")), "it is still on the list");
}
