//! When a diff reaches clusters: with the commit, or stage by stage as the pipelines of the commit after say.

use std::collections::{BTreeMap, BTreeSet};

use flotilla_core::{ClusterName, Digest, UnitId};
use flotilla_rollout::Pipeline;

use super::{ClusterChange, ClusterPlan, Side};
use crate::cluster::ClusterRender;
use crate::pipeline::{Claim, Pipelines};

/// When what changes of a unit reaches a cluster.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum When {
    /// With the commit.
    AtOnce,
    /// In this stage, by its place, of the pipeline with this name.
    Stage(String, usize),
    /// Not by itself, and why.
    Stays(String),
}

/// The units of one cluster of which anything changes, by when they do.
pub type Whens = BTreeMap<When, BTreeSet<UnitId>>;

/// A distinct diff, or the units of it that these clusters get together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Of the diff: [`ClusterPlan::digest`].
    pub diff: Digest,
    pub units: BTreeSet<UnitId>,
    pub clusters: BTreeSet<ClusterName>,
}

/// Where everything goes, and when.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Schedule {
    pub at_once: Vec<Part>,
    /// Those that promote anything of what changes.
    pub pipelines: Vec<PipelineSchedule>,
    /// By the reason.
    pub stays: BTreeMap<String, Vec<Part>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PipelineSchedule {
    pub pipeline: Pipeline,
    /// As many as the pipeline has, in its order.
    pub stages: Vec<StageSchedule>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StageSchedule {
    /// How many clusters are in it.
    pub clusters: usize,
    /// Empty: none of them gets anything new, as far as that is known.
    pub parts: Vec<Part>,
    /// Some of its clusters were not compared, or not in full.
    pub in_part: bool,
}

/// When each unit of a cluster changes that its plan speaks of.
pub fn whens(
    cluster: &ClusterName,
    (from, old): (Side<'_>, &Pipelines),
    (to, new): (Side<'_>, &Pipelines),
    plan: &ClusterPlan,
) -> Whens {
    let render = |side| match side {
        Side::Defined { render, .. } => Some(render),
        Side::Absent | Side::Unclear(_) => None,
    };
    let (from, to) = (render(from), render(to));
    let parent = |unit: &UnitId| {
        let unit = [to, from].into_iter().flatten().find_map(|render| render.units.get(unit))?;
        unit.parent.as_ref()
    };
    let mut whens = Whens::new();
    for unit in touched(from, to, plan) {
        let before = || match old.claim(cluster, unit, parent) {
            Claim::Stage(definition, _) => Some(definition.pipeline.name.as_str()),
            Claim::Nobody | Claim::NoStage(_) | Claim::Clash(_) | Claim::Unread(_) => None,
        };
        let gone = before().filter(|name| !new.read.contains_key(*name));
        let when = match (new.claim(cluster, unit, parent), gone) {
            (Claim::Unread(unread), _) => {
                When::Stays(format!("a pipeline that may promote it cannot be read: {}", unread.problem))
            }
            (_, Some(name)) => When::Stays(format!(
                "the pipeline '{name}' is not defined any more, and keeps what it promoted as it runs until `flotilla rollout \
                 forget {name}`"
            )),
            (Claim::Nobody, None) => When::AtOnce,
            (Claim::NoStage(definition), None) if before() == Some(&definition.pipeline.name) => {
                When::Stays(format!(
                    "no stage of the pipeline '{}' selects the cluster any more: it keeps what it runs",
                    definition.pipeline.name
                ))
            }
            (Claim::NoStage(_), None) => When::AtOnce,
            (Claim::Stage(definition, stage), None) => When::Stage(definition.pipeline.name.clone(), stage),
            (Claim::Clash(all), None) => {
                let names: Vec<&str> = all.iter().map(|one| one.pipeline.name.as_str()).collect();
                When::Stays(format!("the pipelines '{}' all promote it", names.join("', '")))
            }
        };
        whens.entry(when).or_default().insert(unit.clone());
    }
    whens
}

/// The units of which a plan says anything.
fn touched<'a>(
    from: Option<&'a ClusterRender>,
    to: Option<&'a ClusterRender>,
    plan: &'a ClusterPlan,
) -> BTreeSet<&'a UnitId> {
    let mut touched: BTreeSet<&UnitId> = plan.units.keys().collect();
    touched.extend(plan.objects.iter().flat_map(|object| [&object.from, &object.to]).flatten());
    for render in [from, to].into_iter().flatten() {
        let sources = plan.sources.keys().filter_map(|id| render.sources.get(id));
        touched.extend(sources.map(|source| &source.defined_by));
        if matches!(plan.cluster, ClusterChange::RootMoved { .. }) {
            touched.extend(render.units.iter().filter(|(_, unit)| unit.parent.is_none()).map(|(id, _)| id));
        }
    }
    touched
}

/// Collects what clusters get when.
#[derive(Debug, Default)]
pub(super) struct ScheduleBuilder {
    parts: BTreeMap<(When, Digest, BTreeSet<UnitId>), BTreeSet<ClusterName>>,
}

impl ScheduleBuilder {
    pub(super) fn add(&mut self, cluster: &ClusterName, diff: Digest, whens: Whens) {
        for (when, units) in whens {
            self.parts.entry((when, diff, units)).or_default().insert(cluster.clone());
        }
    }

    /// `is_whole` says of a cluster whether all that changes in it is known.
    pub(super) fn finish(self, pipelines: &Pipelines, is_whole: impl Fn(&ClusterName) -> bool) -> Schedule {
        let mut schedule = Schedule::default();
        let mut staged: BTreeMap<(String, usize), Vec<Part>> = BTreeMap::new();
        let part = |((when, diff, units), clusters)| (when, Part { diff, units, clusters });
        let mut parts: Vec<(When, Part)> = self.parts.into_iter().map(part).collect();
        // What most clusters have comes first.
        parts.sort_by(|(_, a), (_, b)| {
            b.clusters.len().cmp(&a.clusters.len()).then_with(|| a.clusters.cmp(&b.clusters))
        });
        for (when, part) in parts {
            match when {
                When::AtOnce => schedule.at_once.push(part),
                When::Stage(pipeline, stage) => staged.entry((pipeline, stage)).or_default().push(part),
                When::Stays(why) => schedule.stays.entry(why).or_default().push(part),
            }
        }
        let names: BTreeSet<String> = staged.keys().map(|(name, _)| name.clone()).collect();
        for definition in names.iter().filter_map(|name| pipelines.read.get(name)) {
            let name = &definition.pipeline.name;
            let stages = definition.stages.iter().enumerate().map(|(stage, clusters)| StageSchedule {
                clusters: clusters.len(),
                parts: staged.remove(&(name.clone(), stage)).unwrap_or_default(),
                in_part: !clusters.iter().all(&is_whole),
            });
            let stages = stages.collect();
            schedule.pipelines.push(PipelineSchedule { pipeline: definition.pipeline.clone(), stages });
        }
        schedule
    }
}
