use super::*;
use crate::Generation;
use crate::guard::{self, Approvals, Candidate, Departure, Found, Inside, Limits, Scope, There, Verdict};
use crate::order::{Links, broken_links};
use crate::unit::UnitSpec;
use proptest::prelude::*;
use std::collections::BTreeSet;

fn unit(name: &str) -> UnitId {
    UnitId::kustomization("f", name)
}

fn id(name: &str) -> ObjectId {
    ObjectId::new("", "ConfigMap", "n", name)
}

fn reference(name: &str) -> ObjectRef {
    ObjectRef { id: id(name), version: "v1".into() }
}

fn manifest(name: &str, spec: UnitSpec, objects: &[(&str, u8)]) -> Arc<UnitManifest> {
    let entry = |(name, content): &(&str, u8)| ObjectEntry {
        object: reference(name),
        digest: Digest::of(&[*content]),
        size: 1,
    };
    Arc::new(UnitManifest::new(unit(name), spec, objects.iter().map(entry).collect()))
}

/// A cluster in a few maps: what is there (object → uid, who made it), what the agent remembers.
#[derive(Default, Clone)]
struct World {
    entries: BTreeMap<UnitId, UnitEntry>,
    inventory: Inventory,
    standings: BTreeMap<UnitId, Standing>,
    there: BTreeMap<ObjectId, (String, bool)>,
    applied: BTreeMap<ObjectId, Digest>,
    uids: u64,
    deleted: Vec<ObjectId>,
    /// What RBAC says of a claim on this kind; everything else is allowed.
    access: BTreeMap<&'static str, Option<String>>,
}

impl World {
    fn present(&mut self, manifest: &Arc<UnitManifest>) {
        self.entries.insert(manifest.id.clone(), UnitEntry::Present(manifest.clone()));
    }

    fn desired(&self) -> DesiredState {
        DesiredState::new("c".parse().unwrap(), Generation(1), "x", self.entries.clone())
    }

    fn plan(&self, id: &UnitId) -> UnitPlan {
        let desired = self.desired();
        let resolve = ObjectId::clone;
        let declared = Declared::of(&desired, &self.standings, &resolve);
        let links = desired.all_present().map(|unit| {
            let UnitSpec { parent, depends_on, .. } = unit.spec.clone();
            (unit.id.clone(), Links { parent, depends_on, account: None })
        });
        let broken = broken_links(&links.collect(), |id| desired.units().contains_key(id));
        let situation = Situation {
            desired: &desired,
            declared: &declared,
            inventory: &self.inventory,
            standings: &self.standings,
            resolve: &resolve,
            prune_stop: prune_stop(&desired, &self.inventory, None),
            broken: &broken,
            remove_all: false,
            access: &|_, claims| {
                let said = claims.iter().filter_map(|claim| self.access.get(claim.plural));
                said.map(|why| why.clone().map_or(Access::Unknown, Access::Denied))
                    .next()
                    .unwrap_or(Access::Allowed)
            },
            shape: &|unit| crate::flux::shape(&desired, &self.standings, unit),
        };
        plan(id, &situation, &|object| Sight {
            applied: self.applied.get(object).copied(),
            drift: None,
            seen: match self.there.get(object) {
                Some((uid, touched)) => Seen::There { uid: Uid::from(uid.clone()), touched: *touched },
                None => Seen::Absent,
            },
        })
    }

    /// Does what the agent does with a plan. Applies of objects in `failing` fail.
    fn execute(&mut self, plan: &UnitPlan, failing: &BTreeSet<ObjectId>) -> bool {
        let mut changed = false;
        // As the agent: a unit is on the inventory from its first apply on, not because it waits for one.
        if !plan.apply.is_empty() {
            let entry = self.inventory.units.entry(plan.unit.clone()).or_default();
            for step in &plan.apply {
                entry.list(&Member { object: step.object.clone(), uid: None });
            }
        }
        let mut complete = plan.refused.is_empty() && plan.unseen == 0;
        for step in &plan.apply {
            if failing.contains(&step.object.id) {
                complete = false;
                continue;
            }
            changed = true;
            self.uids += 1;
            let (uid, touched) =
                self.there.entry(step.object.id.clone()).or_insert((format!("u{}", self.uids), false));
            *touched = false;
            let uid = Uid::from(uid.clone());
            self.applied.insert(step.object.id.clone(), step.stamp);
            let unit = self.inventory.units.get_mut(&plan.unit).unwrap();
            unit.list(&Member { object: step.object.clone(), uid: Some(uid) });
        }
        if let Target::Desired(manifest) = &plan.target {
            let standing = self.standings.entry(plan.unit.clone()).or_default();
            standing.admitted = Some(manifest.spec_digest());
            if complete {
                changed |= standing.last.as_ref() != Some(manifest);
                standing.last = Some(manifest.clone());
                standing.ready = Some(manifest.digest());
                let UnitSpec { parent, depends_on, .. } = manifest.spec.clone();
                self.inventory.units.entry(plan.unit.clone()).or_default().links =
                    Links { parent, depends_on, account: None };
            }
        }
        if complete {
            changed |= self.prune(plan);
        }
        if let Some(unit) = self.inventory.units.get(&plan.unit)
            && unit.members.is_empty()
            && matches!(plan.target, Target::Removed(..))
        {
            self.inventory.units.remove(&plan.unit);
        }
        changed
    }

    fn prune(&mut self, plan: &UnitPlan) -> bool {
        let mut gone = BTreeSet::new();
        let left = Departure { generation: Generation(1), wanted: 1 };
        let candidates: Vec<Candidate> = plan
            .leaving
            .iter()
            .filter(|(_, leaving)| *leaving == Leaving::Judge)
            .map(|(member, _)| {
                let found = match self.there.get(&member.object.id) {
                    None => Found::Gone,
                    Some((uid, _)) => Found::There(There {
                        uid: Uid::from(uid.clone()),
                        applied_by_us: self.applied.contains_key(&member.object.id),
                        controlled: false,
                        opted_out: None,
                        inside: Inside::NoContainer,
                    }),
                };
                Candidate { member: member.clone(), left, found }
            })
            .collect();
        let scope = Scope {
            unit: &plan.unit,
            wanted: 1,
            removal: matches!(plan.target, Target::Removed(..)),
            allow_empty: true,
            cluster_empties: false,
        };
        let verdicts =
            guard::judge(&scope, &candidates, &Approvals::default(), Limits { share: 1.0, floor: 1 })
                .verdicts;
        for (Candidate { member, .. }, verdict) in candidates.iter().zip(verdicts) {
            match verdict {
                Verdict::Delete(_) => {
                    self.there.remove(&member.object.id);
                    self.applied.remove(&member.object.id);
                    self.deleted.push(member.object.id.clone());
                    gone.insert(member.object.id.clone());
                }
                Verdict::Forget(_) => {
                    gone.insert(member.object.id.clone());
                }
                Verdict::Keep(_) | Verdict::Later(_) => {}
            }
        }
        for (member, leaving) in &plan.leaving {
            if matches!(leaving, Leaving::Forget(_) | Leaving::Shared(_)) {
                gone.insert(member.object.id.clone());
            }
        }
        if let Some(unit) = self.inventory.units.get_mut(&plan.unit) {
            unit.members.retain(|object, _| !gone.contains(object));
        }
        !gone.is_empty()
    }

    /// Plans and executes all units until nothing changes; panics if that does not end.
    fn settle(&mut self, failing: &BTreeSet<ObjectId>) {
        for _ in 0..50 {
            let ids: BTreeSet<UnitId> =
                self.entries.keys().chain(self.inventory.units.keys()).cloned().collect();
            let mut changed = false;
            for id in ids {
                let plan = self.plan(&id);
                changed |= self.execute(&plan, failing);
            }
            if !changed {
                return;
            }
        }
        panic!("plans do not end");
    }

    fn names(&self) -> Vec<&str> {
        self.there.keys().map(|id| id.name.as_str()).collect()
    }
}

fn none() -> BTreeSet<ObjectId> {
    BTreeSet::new()
}

#[test]
fn applied_then_idle_then_pruned() {
    let mut world = World::default();
    world.present(&manifest("a", UnitSpec::default(), &[("x", 1), ("y", 1)]));
    world.settle(&none());
    assert_eq!(world.names(), ["x", "y"]);
    assert!(world.plan(&unit("a")).apply.is_empty());
    world.present(&manifest("a", UnitSpec::default(), &[("y", 2)]));
    let plan = world.plan(&unit("a"));
    assert_eq!(plan.apply.iter().map(|step| step.cause).collect::<Vec<_>>(), [Cause::Change]);
    world.settle(&none());
    assert_eq!(world.names(), ["y"]);
}

#[test]
fn drift_is_corrected_reported_or_ignored() {
    for (mode, applied, tolerated) in
        [(DriftMode::Correct, 2, 0), (DriftMode::Report, 0, 2), (DriftMode::Ignore, 0, 0)]
    {
        let mut world = World::default();
        let spec = UnitSpec { drift: mode, ..UnitSpec::default() };
        world.present(&manifest("a", spec, &[("x", 1), ("y", 1)]));
        world.settle(&none());
        world.there.remove(&id("x"));
        world.there.get_mut(&id("y")).unwrap().1 = true;
        let plan = world.plan(&unit("a"));
        assert_eq!((plan.apply.len(), plan.tolerated.len()), (applied, tolerated), "{mode:?}");
    }
}

#[test]
fn a_child_waits_for_its_parents_apply_and_a_dependent_for_readiness() {
    let mut world = World::default();
    let child = |content| {
        manifest("c", UnitSpec { parent: Some(unit("p")), ..UnitSpec::default() }, &[("c", content)])
    };
    world.present(&manifest("p", UnitSpec::default(), &[("p", 1)]));
    world.present(&child(1));
    let waits = |world: &World, name: &str| match world.plan(&unit(name)).target {
        Target::Nothing(waiting) | Target::Last(_, waiting) => waiting.to_string(),
        other => format!("{other:?}").chars().take(7).collect(),
    };
    assert_eq!(
        waits(&world, "c"),
        "waits for its parent kustomization/f/p to apply the revision that defines it"
    );
    world.settle(&none());
    assert_eq!(world.names(), ["c", "p"]);

    // The parent's new revision fails: the child's content still goes on, its new definition does not.
    world.present(&manifest("p", UnitSpec::default(), &[("p", 2)]));
    world.present(&child(2));
    let failing = BTreeSet::from([id("p")]);
    world.settle(&failing);
    assert!(world.plan(&unit("c")).apply.is_empty());
    let redefined = UnitSpec { parent: Some(unit("p")), wait: true, ..UnitSpec::default() };
    world.present(&manifest("c", redefined, &[("c", 3)]));
    assert!(waits(&world, "c").starts_with("waits for its parent"));

    // A dependent is blocked at the new revision only, and its drift is still corrected.
    world.present(&manifest(
        "d",
        UnitSpec { depends_on: vec![unit("p")], ..UnitSpec::default() },
        &[("d", 1)],
    ));
    world.settle(&none());
    world.present(&manifest("p", UnitSpec::default(), &[("p", 9)]));
    world.present(&manifest(
        "d",
        UnitSpec { depends_on: vec![unit("p")], ..UnitSpec::default() },
        &[("d", 2)],
    ));
    assert_eq!(waits(&world, "d"), "waits for kustomization/f/p to be ready");
    world.there.remove(&id("d"));
    assert_eq!(world.plan(&unit("d")).apply[0].digest, Digest::of(&[1]));
}

#[test]
fn a_root_that_brings_its_account_is_begun_without_it() {
    let account: crate::ServiceAccount = "flux-system/kc".parse().unwrap();
    let object = |kind: &str, name: &str| ObjectEntry {
        object: ObjectRef { id: ObjectId::new("", kind, "flux-system", name), version: "v1".into() },
        digest: Digest::of(name.as_bytes()),
        size: 1,
    };
    let spec = UnitSpec { service_account: Some(account.clone()), ..UnitSpec::default() };
    let of = |id: UnitId, objects: &[(&str, &str)]| {
        let objects = objects.iter().map(|(kind, name)| object(kind, name)).collect();
        Arc::new(UnitManifest::new(id, spec.clone(), objects))
    };
    let acts = |world: &mut World, manifest: &Arc<UnitManifest>| {
        world.present(manifest);
        world.plan(&manifest.id).account
    };
    let root = of(UnitId::root(), &[("ServiceAccount", "kc"), ("ConfigMap", "c")]);
    let mut world = World::default();
    assert_eq!(acts(&mut world, &root), None);
    // Half of it does not count: what the account may do is still to come.
    let half = world.plan(&UnitId::root());
    world.execute(&half, &[ObjectId::new("", "ConfigMap", "flux-system", "c")].into());
    assert_eq!(acts(&mut world, &root), None);
    world.settle(&none());
    assert_eq!(acts(&mut world, &root), Some(account.clone()));
    // Once begun, another account has to be there already.
    let more = of(UnitId::root(), &[("ServiceAccount", "kc"), ("ConfigMap", "d")]);
    assert_eq!(acts(&mut world, &more), Some(account.clone()));
    // Nobody else brings an account to act as, nor does a root whose account is another's.
    for other in
        [of(unit("tenant"), &[("ServiceAccount", "kc")]), of(UnitId::root(), &[("ServiceAccount", "other")])]
    {
        assert_eq!(acts(&mut World::default(), &other), Some(account.clone()), "{}", other.id);
    }
}

#[test]
fn a_cycle_waits_and_says_so() {
    let mut world = World::default();
    for (name, on) in [("a", "b"), ("b", "a")] {
        world.present(&manifest(
            name,
            UnitSpec { depends_on: vec![unit(on)], ..UnitSpec::default() },
            &[(name, 1)],
        ));
    }
    world.settle(&none());
    assert!(world.names().is_empty());
    let Target::Nothing(waiting) = world.plan(&unit("a")).target else { panic!("it has no target") };
    assert!(
        waiting.to_string().contains("kustomization/f/a → kustomization/f/b → kustomization/f/a"),
        "{waiting}"
    );
}

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
        world.plan(&unit("c")).refused[0].1.starts_with("kustomization/f/a declares it with other content")
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

#[test]
fn an_expression_says_when_a_dependency_is_ready() {
    let mut world = World::default();
    let labelled = |version: &str| {
        let labels = [("version".to_owned(), version.to_owned())].into();
        UnitSpec { labels, ..UnitSpec::default() }
    };
    let expr = |text: &str| UnitSpec {
        depends_on: vec![unit("db")],
        ready_exprs: [(unit("db"), text.to_owned())].into(),
        ..labelled("2")
    };
    world.present(&manifest("db", labelled("1"), &[("db", 1)]));
    let same = "dep.metadata.labels['version'] == self.metadata.labels['version'] && \
                dep.status.conditions.exists(c, c.type == 'Ready' && c.status == 'True') && \
                dep.status.observedGeneration == dep.metadata.generation";
    world.present(&manifest("app", expr(same), &[("app", 1)]));
    world.settle(&BTreeSet::new());
    assert!(!world.there.contains_key(&id("app")));
    let waits = |world: &World| match world.plan(&unit("app")).target {
        Target::Nothing(waiting) => waiting.to_string(),
        other => format!("{other:?}"),
    };
    assert_eq!(waits(&world), "waits for kustomization/f/db to be ready");
    world.present(&manifest("db", labelled("2"), &[("db", 2)]));
    world.settle(&BTreeSet::new());
    assert!(world.there.contains_key(&id("app")));
    world.present(&manifest(
        "late",
        UnitSpec { ready_exprs: [(unit("db"), "dep.status.none == 1".into())].into(), ..expr("") },
        &[],
    ));
    let target = world.plan(&unit("late")).target;
    let Target::Nothing(waiting) = target else { panic!("{target:?}") };
    assert!(
        waiting
            .to_string()
            .contains("whose readyExpr cannot be told yet: 'dep.status.none == 1': No such key"),
        "{waiting}"
    );
}

/// One change of what is desired, or of the cluster behind our back.
#[derive(Debug, Clone)]
enum Change {
    Present(u8, Vec<(u8, u8)>, bool, Option<u8>),
    Hold(u8),
    Remove(u8),
    Unname(u8),
    Suspend(u8),
    Under(u8, u8),
    DeleteByHand(u8),
    Replace(u8),
    Touch(u8),
    Forget(u8),
    Foreign(u8),
}

fn change() -> impl Strategy<Value = Change> {
    let objects = proptest::collection::vec((0..6u8, 0..2u8), 0..4);
    prop_oneof![
        6 => (0..4u8, objects, any::<bool>(), proptest::option::of(0..4u8))
            .prop_map(|(unit, objects, prune, dep)| Change::Present(unit, objects, prune, dep)),
        1 => (0..4u8).prop_map(Change::Hold),
        2 => (0..4u8).prop_map(Change::Remove),
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

fn object_name(index: u8) -> String {
    format!("o{index}")
}

/// Changes the policy of a unit that is present.
fn respec(world: &mut World, id: &UnitId, change: impl Fn(&mut UnitSpec)) {
    if let Some(UnitEntry::Present(old)) = world.entries.get(id) {
        let mut spec = old.spec.clone();
        change(&mut spec);
        let new = UnitManifest::new(id.clone(), spec, old.objects.clone());
        world.present(&Arc::new(new));
    }
}

fn apply_change(world: &mut World, change: &Change) {
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
            let held = prune_stop(&world.desired(), &world.inventory, None);
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

#[test]
fn an_account_is_to_be_allowed_to_create_what_its_unit_stands_for() {
    let account = |name: &str| Some(crate::ServiceAccount { namespace: "f".into(), name: name.into() });
    let source = |namespace: &str| crate::unit::SourceKindIn {
        kind: crate::SourceKind::OciRepository,
        namespace: namespace.into(),
    };
    let parent =
        manifest("a", UnitSpec { service_account: account("tenant"), ..UnitSpec::default() }, &[("x", 1)]);
    let spec = UnitSpec {
        parent: Some(unit("a")),
        service_account: account("own"),
        defines: vec![source("f")],
        ..UnitSpec::default()
    };
    let child = manifest("b", spec.clone(), &[("y", 1)]);
    let mut world = World::default();
    world.present(&parent);
    world.present(&child);
    let apply = |world: &mut World, name: &str| {
        let plan = world.plan(&unit(name));
        world.execute(&plan, &BTreeSet::new());
    };
    apply(&mut world, "a");
    world.access.insert("ocirepositories", None);
    // Both are asked about at once: the unit by who made its parent, its sources by itself.
    let Target::Nothing(Waiting::Access(claims)) = world.plan(&unit("b")).target else { panic!() };
    let claims = claims.iter().map(|claim| format!("{} {} {}", claim.account.name, claim.plural, claim.name));
    assert_eq!(claims.collect::<Vec<_>>(), ["tenant kustomizations b", "own ocirepositories "]);
    world.access.insert("ocirepositories", Some("no".into()));
    assert_eq!(world.plan(&unit("b")).target, Target::Nothing(Waiting::Denied("no".into())));
    world.access.clear();
    apply(&mut world, "b");
    world.access.insert("ocirepositories", Some("no".into()));
    world.access.insert("kustomizations", Some("no".into()));
    assert_eq!(
        world.plan(&unit("b")).target,
        Target::Desired(child.clone()),
        "what is applied stays applied"
    );
    // Other content asks for the sources again, and not for the unit: its definition is the same.
    let more = UnitSpec { defines: vec![source("f"), source("g")], ..spec };
    let next = manifest("b", more, &[("y", 2)]);
    world.present(&next);
    world.access.remove("kustomizations");
    assert_eq!(world.plan(&unit("b")).target, Target::Last(child, Waiting::Denied("no".into())));
    world.access.clear();
    assert_eq!(world.plan(&unit("b")).target, Target::Desired(next));
}
