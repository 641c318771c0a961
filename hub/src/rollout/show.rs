//! What people see of pipelines: where each stage stands, why a cluster does not run the newest, and what happened.

use flotilla_core::ClusterName;
use flotilla_rollout::state::Standing;
use flotilla_rollout::{EventKind, StageStatus, state::Candidate};
use flotilla_runtime::lock;

use super::Rollouts;
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
            let waiting = inner.clusters.keys().zip(&step.decisions).filter_map(|(cluster, decision)| {
                let reason = decision.reason.as_ref()?;
                let stage = decision.stage.and_then(|at| Some(step.stages.get(at)?.name.clone()));
                let (text, next) = (reason.text.to_string(), reason.next);
                let reason = Reason { pipeline: name.clone(), text, next };
                Some(ClusterRollout { cluster: cluster.clone(), stage, reason })
            });
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
        let inner = lock(&self.inner);
        let Some(at) = inner.clusters.keys().position(|name| name == cluster) else { return Vec::new() };
        let reasons = inner.pipelines.iter().filter_map(|(name, kept)| {
            let Some(step) = &kept.last else {
                let text = format!("pipeline {name} is frozen: {}", inner.frozen(name));
                return Some(Reason { pipeline: name.clone(), text, next: None });
            };
            let reason = step.decisions.get(at)?.reason.as_ref()?;
            Some(Reason { pipeline: name.clone(), text: reason.text.to_string(), next: reason.next })
        });
        reasons.collect()
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
