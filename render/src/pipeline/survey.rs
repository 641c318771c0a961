//! What pipelines come to in clusters that were rendered: which units each promotes, and what is wrong that only that shows.

use std::collections::{BTreeMap, BTreeSet};

use flotilla_core::report::Problem;
use flotilla_core::{ClusterName, UnitId};

use super::{Claim, PipelineDefinition, Pipelines};

/// The most names in a message.
const SHOWN: usize = 10;

/// Collects clusters, then tells.
pub struct Survey<'a> {
    pipelines: &'a Pipelines,
    promoted: BTreeMap<&'a str, Promoted>,
    /// Two pipelines, with a unit that both promote and in how many clusters there is such a one.
    clashes: BTreeMap<(&'a str, &'a str), (UnitId, BTreeSet<ClusterName>)>,
    /// By the place of an unread pipeline.
    frozen: BTreeMap<usize, Frozen>,
    seen: BTreeSet<UnitId>,
    /// There may be units that were not seen.
    in_part: bool,
}

/// What a pipeline promotes.
#[derive(Debug, Clone, Default)]
pub struct Promoted {
    /// Each unit, with the number of clusters in stages that have it.
    pub units: BTreeMap<UnitId, usize>,
    /// Clusters that have such units, and are in no stage.
    pub no_stage: BTreeSet<ClusterName>,
}

#[derive(Debug, Default)]
struct Frozen {
    units: BTreeSet<UnitId>,
    clusters: BTreeSet<ClusterName>,
}

impl<'a> Survey<'a> {
    pub fn new(pipelines: &'a Pipelines) -> Self {
        let promoted = pipelines.read.keys().map(|name| (name.as_str(), Promoted::default())).collect();
        let (clashes, frozen, seen) = Default::default();
        Self { pipelines, promoted, clashes, frozen, seen, in_part: false }
    }

    /// Takes a cluster with its units, each with the one that defines it.
    pub fn add(&mut self, cluster: &ClusterName, units: &BTreeMap<UnitId, Option<UnitId>>) {
        let pipelines = self.pipelines;
        for unit in units.keys() {
            self.seen.insert(unit.clone());
            match pipelines.claim(cluster, unit, |unit| units.get(unit)?.as_ref()) {
                Claim::Nobody => {}
                Claim::Stage(PipelineDefinition { pipeline, .. }, _) => {
                    if let Some(of) = self.promoted.get_mut(pipeline.name.as_str()) {
                        *of.units.entry(unit.clone()).or_default() += 1;
                    }
                }
                Claim::NoStage(PipelineDefinition { pipeline, .. }) => {
                    if let Some(of) = self.promoted.get_mut(pipeline.name.as_str()) {
                        of.no_stage.insert(cluster.clone());
                    }
                }
                Claim::Clash(all) => {
                    let names = all.iter().map(|definition| definition.pipeline.name.as_str());
                    let names: Vec<&str> =
                        names.filter_map(|name| Some(*self.promoted.get_key_value(name)?.0)).collect();
                    for (first, second) in names.iter().zip(names.iter().skip(1)) {
                        let of_both = self.clashes.entry((first, second));
                        of_both.or_insert_with(|| (unit.clone(), BTreeSet::new())).1.insert(cluster.clone());
                    }
                }
                Claim::Unread(unread) => {
                    let at = pipelines.unread.iter().position(|one| one == unread).unwrap_or_default();
                    let frozen = self.frozen.entry(at).or_default();
                    frozen.units.insert(unit.clone());
                    frozen.clusters.insert(cluster.clone());
                }
            }
        }
    }

    /// There are clusters, or units of clusters, that were not taken: a pattern that selects nothing may select one of these.
    pub fn leave_out(&mut self) {
        self.in_part = true;
    }

    /// What a pipeline promotes, by its name.
    pub fn promoted(&self, pipeline: &str) -> Option<&Promoted> {
        self.promoted.get(pipeline)
    }

    /// What is wrong, and what people should know.
    pub fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        for ((first, second), (unit, clusters)) in &self.clashes {
            for (name, other) in [(first, second), (second, first)] {
                let message = format!(
                    "the pipelines '{name}' and '{other}' both promote {unit} of {}: what both promote stays as it runs, until \
                     one of them selects other units or clusters",
                    some(clusters)
                );
                let definition = self.pipelines.read.get(*name);
                problems.extend(definition.map(|definition| definition.problem(message).field("spec.units")));
            }
        }
        for (at, Frozen { units, clusters }) in &self.frozen {
            let Some(unread) = self.pipelines.unread.get(*at) else { continue };
            let message =
                format!("until this can be read, {} of {} stay as they run", some(units), some(clusters));
            problems.push(Problem { message, ..unread.problem.clone() });
        }
        for (name, definition) in &self.pipelines.read {
            let selection = &definition.pipeline.units;
            for (list, field) in [(&selection.include, "spec.units"), (&selection.except, "spec.except")] {
                for pattern in
                    list.iter().filter(|pattern| !self.seen.iter().any(|unit| pattern.matches(unit)))
                {
                    let message = format!("'{pattern}' selects no unit of any cluster");
                    let problem = definition.problem(message).field(field);
                    problems.push(if self.in_part { problem.as_notice() } else { problem });
                }
            }
            let Some(Promoted { no_stage, .. }) = self.promoted(name).filter(|of| !of.no_stage.is_empty())
            else {
                continue;
            };
            let message = format!(
                "no stage of the pipeline '{name}' selects {}: what it promotes is the newest commit's there, or what a stage \
                 that had the cluster gave it last",
                some(no_stage)
            );
            problems.push(definition.problem(message).field("spec.stages").as_notice());
        }
        problems
    }
}

/// As many as can be read.
fn some<T: ToString>(names: &BTreeSet<T>) -> String {
    let shown: Vec<String> = names.iter().take(SHOWN).map(T::to_string).collect();
    let more = names.len().saturating_sub(SHOWN);
    let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{rest}", shown.join(", "))
}
