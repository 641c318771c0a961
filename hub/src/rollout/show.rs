//! What people see of pipelines: where each stage stands, why a cluster does not run the newest, and what happened.

use std::collections::{BTreeMap, BTreeSet};

use flotilla_core::ClusterName;
use flotilla_rollout::state::Standing;
use flotilla_rollout::{EventKind, StageStatus, Step, state::Candidate};
use flotilla_runtime::lock;

use super::{Inner, Rollouts};
use crate::desired::choice::Take;
use crate::journal::Event;

/// One pipeline.
#[derive(Debug, Clone)]
pub struct PipelineView {
    pub name: String,
    /// Why it is not worked on, where it is not.
    pub frozen: Option<String>,
    pub stages: Vec<StageStatus>,
    /// Those that the stages speak of, the newest last.
    pub candidates: Vec<Candidate>,
    /// Clusters that no stage selects, though they have units that it promotes.
    pub unmatched: Vec<ClusterName>,
    pub standing: Vec<Standing>,
    /// Its clusters that do not run the newest.
    pub waiting: Vec<ClusterRollout>,
    /// When something may change by itself.
    pub next: Option<i64>,
}

/// Why a cluster does not run the newest of a pipeline.
#[derive(Debug, Clone)]
pub struct ClusterRollout {
    pub cluster: ClusterName,
    pub stage: Option<String>,
    pub reason: Reason,
}

/// A sentence, and when it may be over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    pub pipeline: String,
    pub text: String,
    pub next: Option<i64>,
}

impl Rollouts {
    /// All pipelines by name.
    pub fn view(&self) -> Vec<PipelineView> {
        let inner = lock(&self.inner);
        let views = inner.pipelines.iter().map(|(name, kept)| {
            let frozen = kept.read.is_none().then(|| inner.frozen(name));
            let Some(step) = &kept.last else {
                return PipelineView {
                    name: name.clone(),
                    frozen,
                    stages: Vec::new(),
                    candidates: Vec::new(),
                    unmatched: Vec::new(),
                    standing: kept.state.standing(),
                    waiting: Vec::new(),
                    next: None,
                };
            };
            let named = step.stages.iter().flat_map(|stage| [stage.candidate, stage.passed, stage.waiting]);
            let mut candidates: Vec<Candidate> =
                named.flatten().filter_map(|id| kept.state.candidate(id)).cloned().collect();
            candidates.sort_by_key(|candidate| candidate.seq);
            candidates.dedup();
            let waiting = inner.clusters.keys().enumerate();
            let waiting = waiting.filter_map(|(at, cluster)| inner.waits(name, step, at, cluster));
            PipelineView {
                name: name.clone(),
                frozen,
                stages: step.stages.clone(),
                candidates,
                unmatched: if inner.newest.is_some() { step.unmatched.clone() } else { Vec::new() },
                standing: kept.state.standing(),
                waiting: waiting.collect(),
                next: step.next,
            }
        });
        views.collect()
    }

    /// Why a cluster does not run the newest, by each pipeline that says so.
    pub fn reasons(&self, cluster: &ClusterName) -> Vec<Reason> {
        self.waiting_of(cluster).into_iter().map(|waiting| waiting.reason).collect()
    }

    /// As [`Rollouts::reasons`], with its stages.
    pub fn waiting_of(&self, cluster: &ClusterName) -> Vec<ClusterRollout> {
        let inner = lock(&self.inner);
        let at = inner.clusters.keys().position(|name| name == cluster);
        at.map(|at| inner.waiting(at, cluster)).unwrap_or_default()
    }

    /// As [`Rollouts::reasons`], of all clusters that do not run the newest.
    pub fn waiting(&self) -> BTreeMap<ClusterName, Vec<ClusterRollout>> {
        let inner = lock(&self.inner);
        let all = inner.clusters.keys().enumerate().map(|(at, name)| (name.clone(), inner.waiting(at, name)));
        all.filter(|(_, waiting)| !waiting.is_empty()).collect()
    }
}

impl Inner {
    /// Why the cluster in this place does not run the newest.
    fn waiting(&self, at: usize, cluster: &ClusterName) -> Vec<ClusterRollout> {
        let steps = self.pipelines.iter().filter_map(|(name, kept)| Some((name, kept.last.as_ref()?)));
        let mut all: Vec<_> = steps.filter_map(|(name, step)| self.waits(name, step, at, cluster)).collect();
        // What does not step holds what it may be about.
        let parts = self.choices.get(cluster).into_iter().flat_map(|choice| &choice.parts);
        let frozen = parts.filter(|part| {
            let steps = self.pipelines.get(&*part.by).is_some_and(|kept| kept.last.is_some());
            !steps && part.take != Take::Newest
        });
        // One slip may freeze several; it is said once.
        let mut said = BTreeSet::new();
        all.extend(frozen.filter_map(|part| {
            let (pipeline, why) = (part.by.to_string(), self.frozen(&part.by));
            let text = format!("pipeline {pipeline} is frozen: {why}");
            let reason = Reason { pipeline, text, next: None };
            said.insert(why).then(|| ClusterRollout { cluster: cluster.clone(), stage: None, reason })
        }));
        all
    }

    /// Why a cluster does not run the newest, as a step of one pipeline has it; with why what it is to get cannot be rendered.
    fn waits(&self, pipeline: &str, step: &Step, at: usize, cluster: &ClusterName) -> Option<ClusterRollout> {
        let decision = step.decisions.get(at)?;
        let reason = decision.reason.as_ref()?;
        let stage = decision.stage.and_then(|at| Some(step.stages.get(at)?.name.clone()));
        let of = self.clusters.get(cluster).and_then(|known| known.of.get(pipeline));
        let lacking = of.into_iter().flat_map(|of| &of.lacking);
        let text = lacking.fold(reason.text.to_string(), |text, (candidate, why)| {
            format!("{text}; {candidate} cannot be rendered for it: {why}")
        });
        let reason = Reason { pipeline: pipeline.to_owned(), text, next: reason.next };
        Some(ClusterRollout { cluster: cluster.clone(), stage, reason })
    }
}

/// Something that happened, as the journal has it.
pub(super) fn event(pipeline: &str, event: &flotilla_rollout::Event, at: i64) -> Event {
    let (reason, warning) = match event.kind {
        EventKind::Candidate => ("PromotionCandidate", false),
        EventKind::Superseded => ("PromotionSuperseded", false),
        EventKind::Started => ("PromotionStarted", false),
        EventKind::Passed => ("PromotionPassed", false),
        EventKind::Failed => ("PromotionFailed", true),
        EventKind::RolledBack => ("PromotionRolledBack", true),
        EventKind::Waiting => ("PromotionWaiting", false),
        EventKind::Request => ("PromotionRequest", false),
        EventKind::Cluster => ("PromotionCluster", true),
    };
    let stage = event.stage.as_ref().map(|stage| format!(" {stage}")).unwrap_or_default();
    Event {
        at,
        cluster: event.cluster.clone(),
        unit: None,
        object: None,
        source: None,
        warning,
        reason: reason.to_owned(),
        message: flotilla_proto::convert::cut(format!("pipeline {pipeline}{stage}: {}", event.text)),
    }
}
