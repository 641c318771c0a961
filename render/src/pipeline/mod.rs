//! `Pipeline` objects of the fleet repo: which there are, which clusters are in their stages, and which pipeline a unit belongs to.
//!
//! What cannot be read is not gone: what it may be about is frozen, which is never the newest and never nobody's.

mod gates;
mod read;
mod survey;
mod unread;
mod windows;

use std::collections::{BTreeMap, BTreeSet};

use flotilla_core::report::Problem;
use flotilla_core::{ClusterName, UnitId};
use flotilla_kustomize::files::TreePath;
use flotilla_rollout::Pipeline;
use flotilla_yaml::Node;

use crate::fleet::ClusterDefinition;
pub use read::{PIPELINE_FIELDS, STAGE_FIELDS, STRATEGY_FIELDS};
pub use survey::{Promoted, Survey};
pub use unread::UnreadPipeline;

/// The most pipelines that a fleet may have: each is a state machine of its own at the hub.
pub const MAX_PIPELINES: usize = 64;

/// A pipeline that could be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PipelineDefinition {
    pub pipeline: Pipeline,
    /// The clusters of each stage, in the pipeline's order. A cluster that several select is in the first.
    pub stages: Vec<BTreeSet<ClusterName>>,
    /// File and line.
    pub defined_at: (String, u32),
}

impl PipelineDefinition {
    /// The index of the stage that a cluster is in.
    pub fn stage_of(&self, cluster: &ClusterName) -> Option<usize> {
        self.stages.iter().position(|stage| stage.contains(cluster))
    }

    pub(crate) fn problem(&self, message: impl Into<String>) -> Problem {
        Problem::error(self.defined_at.0.clone(), self.defined_at.1, message)
    }
}

/// The pipelines of a commit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pipelines {
    /// By their names.
    pub read: BTreeMap<String, PipelineDefinition>,
    /// What is a pipeline, or may be one, and cannot be read.
    pub unread: Vec<UnreadPipeline>,
}

/// To which pipeline a unit of a cluster belongs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claim<'a> {
    /// No pipeline selects it: it runs as the newest commit has it, unless a stage gave it something before.
    Nobody,
    /// The cluster is in this stage of the pipeline.
    Stage(&'a PipelineDefinition, usize),
    /// This pipeline selects the unit, and none of its stages selects the cluster.
    NoStage(&'a PipelineDefinition),
    /// These all do, and each has the cluster in a stage: the unit stays as it runs.
    Clash(Vec<&'a PipelineDefinition>),
    /// One that cannot be read may: the unit stays as it runs.
    Unread(&'a UnreadPipeline),
}

impl Pipelines {
    /// To which pipeline a unit belongs. `parent` gives the unit that defines a unit.
    pub fn claim<'a>(
        &'a self,
        cluster: &ClusterName,
        unit: &'a UnitId,
        parent: impl Fn(&UnitId) -> Option<&'a UnitId>,
    ) -> Claim<'a> {
        if let Some(unread) = self.unread.iter().find(|unread| unread.may_claim(cluster, unit, &parent)) {
            return Claim::Unread(unread);
        }
        let selects = |definition: &&PipelineDefinition| definition.pipeline.units.selects(unit, &parent);
        let (mut staged, mut outside) = (Vec::new(), None);
        for definition in self.read.values().filter(selects) {
            match definition.stage_of(cluster) {
                Some(stage) => staged.push((definition, stage)),
                None => outside = outside.or(Some(definition)),
            }
        }
        match (staged.as_slice(), outside) {
            ([], None) => Claim::Nobody,
            ([], Some(definition)) => Claim::NoStage(definition),
            ([(definition, stage)], _) => Claim::Stage(definition, *stage),
            _ => Claim::Clash(staged.into_iter().map(|(definition, _)| definition).collect()),
        }
    }

    /// Takes a `Pipeline` object; what is wrong with it comes back.
    pub(crate) fn take(&mut self, file: &TreePath, document: &Node) -> Result<(), Problem> {
        let known = self.read.len() + self.unread.len();
        let problem = |message: String| {
            Problem::error(file.to_string(), document.pos.line, message).field("metadata.name")
        };
        let problem = match read::pipeline(file, document) {
            Err(problem) => problem,
            Ok(pipeline) if self.has(&pipeline.name) => {
                // Of two nobody knows which is meant.
                if let Some(first) = self.read.remove(&pipeline.name) {
                    let problem = first.problem("another pipeline has this name").field("metadata.name");
                    self.unread.push(UnreadPipeline::of(&first.pipeline, problem));
                }
                problem(format!("the pipeline '{}' is defined twice; keep one of them", pipeline.name))
            }
            Ok(_) if known >= MAX_PIPELINES => {
                problem(format!("the fleet has more than {MAX_PIPELINES} pipelines; leave some out"))
            }
            Ok(pipeline) => {
                let defined_at = (file.to_string(), document.pos.line);
                let definition = PipelineDefinition { stages: Vec::new(), defined_at, pipeline };
                self.read.insert(definition.pipeline.name.clone(), definition);
                return Ok(());
            }
        };
        let unread = UnreadPipeline::read(document, problem.clone());
        // One of this name that could be read may not be the one that is meant.
        if let Some(first) = unread.name.as_ref().and_then(|name| self.read.remove(name)) {
            let problem =
                first.problem("another pipeline has this name, and cannot be read").field("metadata.name");
            self.unread.push(UnreadPipeline::of(&first.pipeline, problem));
        }
        self.unread.push(unread);
        Err(problem)
    }

    fn has(&self, name: &str) -> bool {
        self.read.contains_key(name) || self.unread.iter().any(|unread| unread.name.as_deref() == Some(name))
    }

    /// Takes a file that cannot be read and may hold one.
    pub(crate) fn unreadable(&mut self, problem: &Problem) {
        self.unread.push(UnreadPipeline::unknown(problem.clone()));
    }

    /// Takes an object of ours whose kind or version nobody knows: it may have been meant as a pipeline.
    pub(crate) fn mistaken(&mut self, kind: &str, document: &Node, problem: &Problem) {
        const WRONG: usize = 3;
        let is_near = strsim::damerau_levenshtein(&kind.to_lowercase(), "pipeline") <= WRONG;
        if is_near || document.at(&["spec", "stages"]).is_some() {
            self.unread.push(UnreadPipeline::read(document, problem.clone()));
        }
    }

    /// Puts the clusters into stages; what people should know of that comes back.
    pub(crate) fn place(&mut self, clusters: &BTreeMap<ClusterName, ClusterDefinition>) -> Vec<Problem> {
        let labels = || clusters.iter().map(|(name, cluster)| (name, &cluster.policy.labels));
        self.unread.iter_mut().for_each(|unread| unread.place(labels()));
        let known: BTreeSet<&str> =
            labels().flat_map(|(_, labels)| labels.keys().map(String::as_str)).collect();
        let mut problems = Vec::new();
        for definition in self.read.values_mut() {
            let stages = &definition.pipeline.stages;
            let mut members = vec![BTreeSet::new(); stages.len()];
            for (name, labels) in labels() {
                if let Some(stage) = stages.iter().position(|stage| stage.clusters.matches(labels)) {
                    members[stage].insert(name.clone());
                }
            }
            definition.stages = members;
            let name = &definition.pipeline.name;
            for (n, stage) in definition.pipeline.stages.iter().enumerate() {
                let unknown: Vec<&str> =
                    stage.clusters.labels().filter(|label| !known.contains(label)).collect();
                let mut said = Vec::new();
                if !unknown.is_empty() {
                    said.push(format!("no cluster has the label '{}'", unknown.join("', '")));
                }
                if definition.stages[n].is_empty() {
                    let why = "the stage has no cluster: it passes at once, without its gates";
                    said.push(why.to_owned());
                }
                if !said.is_empty() {
                    let message =
                        format!("stage '{}' of the pipeline '{name}': {}", stage.name, said.join("; "));
                    let field = format!("spec.stages[{n}].clusters");
                    problems.push(definition.problem(message).field(field).as_notice());
                }
            }
        }
        problems
    }
}
