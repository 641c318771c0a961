//! Pipelines: where candidates stand, why clusters do not run the newest, and what people ask.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// One pipeline.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Pipeline {
    pub name: String,
    /// Why nothing of it goes on, where it cannot be read or is gone.
    pub frozen: Option<String>,
    /// In the order in which a candidate passes them.
    pub stages: Vec<Stage>,
    /// Those that the stages speak of, the newest last.
    pub candidates: Vec<Candidate>,
    /// Clusters that no stage selects, though they have units that it promotes.
    pub unmatched: Vec<String>,
    /// Its clusters that do not run the newest.
    pub waiting: Vec<WaitingCluster>,
    /// Holds, pauses, vetoes and overrides, as sentences.
    pub standing: Vec<String>,
    /// When something may change by itself.
    pub next: Option<i64>,
    /// Why the refs of its stages in the fleet repo may be behind, where they are pushed and that failed.
    pub refs_behind: Option<String>,
}

/// Where a stage stands.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Stage {
    pub name: String,
    /// `idle`, `waiting`, `rolling`, `soaking`, `passed`, `failed` or `aborted`.
    pub phase: String,
    /// The candidate that the phase is about.
    pub candidate: Option<String>,
    pub passed: Option<String>,
    pub clusters: u64,
    pub healthy: u64,
    pub in_flight: u64,
    pub failed: u64,
    /// What it waits for, or how it ended.
    pub message: String,
    pub next: Option<i64>,
    pub question: Option<StageQuestion>,
    /// Clusters that never connected, and count for nothing.
    pub never_enrolled: Vec<String>,
}

/// What people are asked before a stage goes on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct StageQuestion {
    /// What an approval names.
    pub digest: String,
    pub candidate: String,
    pub approved_by: Vec<String>,
    pub needs: u32,
}

/// A commit on its way.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Candidate {
    pub id: String,
    pub commit: String,
    pub subject: String,
    pub author: String,
}

/// Why a cluster does not run the newest of a pipeline.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct WaitingCluster {
    pub cluster: String,
    pub pipeline: String,
    pub stage: Option<String>,
    /// A sentence: what is awaited, or who holds it.
    pub message: String,
    /// When that may change by itself.
    pub next: Option<i64>,
}

/// What somebody asks of a pipeline.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct RolloutRequest {
    /// `hold`, `release`, `rollback`, `veto`, `unveto`, `promote`, `pause`, `resume`, `retry` or `abort`; of approvals: `approve`,
    /// `withdraw`, `override` or `override-window`.
    pub action: String,
    pub stage: Option<String>,
    pub cluster: Option<String>,
    /// `root` or `KIND/NAMESPACE/NAME`.
    pub unit: Option<String>,
    /// The first 8 digits of a candidate's id, or more.
    pub candidate: Option<String>,
    /// Of a veto: what clusters would run, or with `unit` the unit's. Of an approval: the question's.
    pub digest: Option<String>,
    pub window: Option<String>,
    pub reason: String,
    /// When it ends by itself: of holds, pauses, vetoes and overrides.
    pub until: Option<i64>,
}
