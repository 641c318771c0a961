//! All clusters: those with the same plan together, and what the guard says of them.

use std::collections::{BTreeMap, BTreeSet};

use flotilla_core::change::{Finding, FleetSize, Losses, Policy, Sizes, Taken, judge};
use flotilla_core::{ClusterName, Digest};

use super::fit::Misfit;
use super::stages::{Schedule, ScheduleBuilder, Whens};
use super::{ClusterPlan, ObjectChange, Planned, UnitChange};
use crate::pipeline::Pipelines;
use crate::policy::PolicyRead;

/// Clusters with one plan.
#[derive(Debug, Clone)]
pub struct Group {
    pub plan: ClusterPlan,
    pub clusters: BTreeSet<ClusterName>,
}

/// What becomes of the fleet.
#[derive(Debug, Clone, Default)]
pub struct FleetPlan {
    /// How many clusters were compared.
    pub clusters: usize,
    /// What takes something away comes first, then what most clusters have.
    pub groups: Vec<Group>,
    /// What the guard of the hub will say: see [`flotilla_core::change`].
    pub guard: Vec<Finding>,
    /// Units that are known on neither side, by the reason: how many, in which clusters.
    pub unknown: BTreeMap<String, (usize, BTreeSet<ClusterName>)>,
    /// What does not fit its cluster, and did before if that is set.
    pub misfits: BTreeMap<(Misfit, bool), BTreeSet<ClusterName>>,
    /// When each diff reaches its clusters.
    pub schedule: Schedule,
}

/// Takes one cluster after the other.
#[derive(Debug, Default)]
pub struct PlanBuilder {
    plan: FleetPlan,
    groups: BTreeMap<Digest, Group>,
    losses: Losses,
    sizes: BTreeMap<ClusterName, FleetSize>,
    schedule: ScheduleBuilder,
    /// Clusters of which some units are known on neither side.
    in_part: BTreeSet<ClusterName>,
}

/// The policy that a change is judged by: as long as one of the two commits has a stricter word, that counts. One that cannot be
/// read leaves the other, as it leaves the one in force at a hub.
pub fn guard_policy(from: &PolicyRead, to: &PolicyRead, defaults: &Policy) -> Policy {
    match (from.over(defaults), to.over(defaults)) {
        (Some(from), Some(to)) => from.stricter(&to),
        (Some(policy), None) | (None, Some(policy)) => policy,
        (None, None) => defaults.clone(),
    }
}

impl PlanBuilder {
    pub fn add(&mut self, name: ClusterName, planned: Planned, misfits: Misfits, whens: Whens) {
        let Planned { plan, loss, units, objects, unknown } = planned;
        self.plan.clusters += 1;
        if !unknown.is_empty() {
            self.in_part.insert(name.clone());
        }
        self.schedule.add(&name, plan.digest(), whens);
        for reason in unknown.into_values() {
            let (count, clusters) = self.plan.unknown.entry(reason).or_default();
            *count += 1;
            clusters.insert(name.clone());
        }
        for misfit in misfits.after {
            let was = misfits.before.contains(&misfit);
            self.plan.misfits.entry((misfit, was)).or_default().insert(name.clone());
        }
        self.sizes.insert(name.clone(), FleetSize { units, objects });
        self.losses.insert(name.clone(), loss);
        if !plan.is_empty() {
            let group = || Group { plan: plan.clone(), clusters: BTreeSet::new() };
            self.groups.entry(plan.digest()).or_insert_with(group).clusters.insert(name);
        }
    }

    /// All together, judged by a policy, and promoted by the pipelines of the commit after.
    pub fn finish(self, policy: &Policy, pipelines: &Pipelines) -> FleetPlan {
        let is_whole = |name: &ClusterName| self.sizes.contains_key(name) && !self.in_part.contains(name);
        let schedule = self.schedule.finish(pipelines, is_whole);
        let mut size = FleetSize::default();
        for (_, of) in self.sizes.iter().filter(|(name, _)| !policy.exempt.contains(*name)) {
            size.units += of.units;
            size.objects += of.objects;
        }
        let guard = judge(&self.losses, &Taken::default(), &Sizes::default(), size, policy).findings;
        let mut groups: Vec<Group> = self.groups.into_values().collect();
        groups.sort_by_key(|group| (!takes_away(&group.plan), std::cmp::Reverse(group.clusters.len())));
        FleetPlan { groups, guard, schedule, ..self.plan }
    }
}

fn takes_away(plan: &ClusterPlan) -> bool {
    let goes = |change: UnitChange| matches!(change, UnitChange::Removed | UnitChange::Orphaned);
    plan.count(ObjectChange::Pruned) > 0 || plan.units.values().any(|unit| goes(unit.change))
}

/// What does not fit a cluster, on both sides.
#[derive(Debug, Default)]
pub struct Misfits {
    pub before: BTreeSet<Misfit>,
    pub after: BTreeSet<Misfit>,
}
