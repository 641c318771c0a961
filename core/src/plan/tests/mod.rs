//! A cluster in memory, and the simplest cases in it.

mod doubt;
mod faults;
mod gates;
mod leaving;
mod moves;
mod properties;

use std::collections::BTreeSet;

use super::*;
use crate::Generation;
use crate::guard::{
    self, Approvals, Candidate, Departure, Found, Inside, Limits, PruneExtent, Scope, There, UnitDeparture,
    Verdict,
};
use crate::order::{Links, broken_links};
use crate::unit::UnitSpec;

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
        template: false,
    };
    Arc::new(UnitManifest::new(unit(name), spec, objects.iter().map(entry).collect()))
}

/// A cluster in a few maps: what is there (object → uid, who made it), what the agent remembers.
#[derive(Default, Clone)]
struct World {
    entries: BTreeMap<UnitId, UnitEntry>,
    inventory: Inventory,
    unit_memories: BTreeMap<UnitId, UnitMemory>,
    there: BTreeMap<ObjectId, (String, bool)>,
    applied: BTreeMap<ObjectId, Digest>,
    uids: u64,
    deleted: Vec<ObjectId>,
    /// What RBAC says of a claim on this kind; everything else is allowed.
    access: BTreeMap<&'static str, Option<String>>,
    /// Nothing is seen of objects for now.
    blind: bool,
    /// Why the inventory is not whole.
    damage: Option<String>,
    /// Objects that cannot be looked at before they are deleted.
    hidden: BTreeSet<ObjectId>,
    /// What the API server refused to whom.
    forbidden: BTreeSet<(UnitId, ObjectId)>,
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
        let declared = Declared::of(&desired, &self.unit_memories, &resolve);
        let links = desired.all_present().map(|unit| {
            let UnitSpec { parent, depends_on, .. } = unit.spec.clone();
            (unit.id.clone(), Links { parent, depends_on, ..Links::default() })
        });
        let broken = broken_links(&links.collect(), |id| desired.units().contains_key(id));
        let situation = Situation {
            desired: &desired,
            declared: &declared,
            inventory: &self.inventory,
            unit_memories: &self.unit_memories,
            resolve: &resolve,
            prune_stop: prune_stop(&desired, &self.inventory, &self.unit_memories, self.damage.as_deref()),
            forbidden: &|unit, object| self.forbidden.contains(&(unit.clone(), object.clone())),
            broken: &broken,
            remove_all: false,
            access: &|_, claims| {
                let said = claims.iter().filter_map(|claim| self.access.get(claim.plural));
                said.map(|why| why.clone().map_or(Access::Unknown, Access::Denied))
                    .next()
                    .unwrap_or(Access::Allowed)
            },
            shape: &|unit| crate::flux::shape(&desired, &self.unit_memories, unit),
        };
        plan(id, &situation, &|object| Observation {
            applied: self.applied.get(object).copied(),
            drift: None,
            state: match self.there.get(object) {
                _ if self.blind => ObservedState::Unknown,
                Some((uid, touched)) => {
                    ObservedState::There { uid: Uid::from(uid.clone()), touched: *touched }
                }
                None => ObservedState::Absent,
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
            self.applied.insert(step.object.id.clone(), step.fingerprint);
            let unit = self.inventory.units.get_mut(&plan.unit).unwrap();
            unit.list(&Member { object: step.object.clone(), uid: Some(uid) });
        }
        if let Target::Desired(manifest) = &plan.target {
            let unit_memory = self.unit_memories.entry(plan.unit.clone()).or_default();
            unit_memory.admitted = Some(manifest.spec_digest());
            if complete {
                changed |= unit_memory.last.as_ref() != Some(manifest);
                unit_memory.last = Some(manifest.clone());
                unit_memory.ready = Some(manifest.digest());
                let UnitSpec { parent, depends_on, .. } = manifest.spec.clone();
                self.inventory.units.entry(plan.unit.clone()).or_default().links =
                    Links { parent, depends_on, ..Links::default() };
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
        let departure = Departure { generation: Generation(1), wanted: 1, moved: false };
        let candidates: Vec<Candidate> = plan
            .leaving
            .iter()
            .filter(|(_, leaving)| *leaving == Leaving::Judge)
            .map(|(member, _)| {
                let found = match self.there.get(&member.object.id) {
                    _ if self.hidden.contains(&member.object.id) => Found::Unknown("500".into()),
                    None => Found::Gone,
                    Some((uid, _)) => Found::There(There {
                        uid: Uid::from(uid.clone()),
                        applied_by_us: self.applied.contains_key(&member.object.id),
                        controlled: false,
                        opted_out: None,
                        inside: Inside::NoContainer,
                    }),
                };
                Candidate { member: member.clone(), departure, found }
            })
            .collect();
        let scope = Scope {
            unit: &plan.unit,
            wanted: 1,
            extent: match plan.target {
                Target::Removed(..) => PruneExtent::Unit(UnitDeparture {
                    approval: Digest::of(b"units"),
                    objects: 1,
                    of: 100,
                    moved: false,
                }),
                _ => PruneExtent::Objects,
            },
            allow_empty: true,
            cluster_empties: false,
        };
        let verdicts = guard::judge(
            &scope,
            &candidates,
            &Approvals::default(),
            Limits { share: 1.0, floor: 1, unit: 10 },
        )
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
        note_suspensions(&self.desired(), &self.inventory, &mut self.unit_memories);
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

/// Changes the policy of a unit that is present.
fn respec(world: &mut World, id: &UnitId, change: impl Fn(&mut UnitSpec)) {
    if let Some(UnitEntry::Present(old)) = world.entries.get(id) {
        let mut spec = old.spec.clone();
        change(&mut spec);
        let new = UnitManifest::new(id.clone(), spec, old.objects.clone());
        world.present(&Arc::new(new));
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
