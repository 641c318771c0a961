//! What people ask for, and the answers.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Attention, Commit, Source};

/// Asks the hub to read the fleet repo now and, where a cluster is named, its agent to compare now.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Reconcile {
    /// All clusters if it is absent.
    pub cluster: Option<String>,
    /// All units of the cluster if it is absent.
    pub unit: Option<String>,
}

/// What came of it. That the agents have applied what is new shows in the clusters' digests.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Reconciled {
    /// The commit that is rendered after the repo was read.
    pub commit: Option<Commit>,
    /// The source could not be read; the last good state stays.
    pub error: Option<String>,
    pub agents: Vec<AgentAnswer>,
    /// What the hub found wrong in what was asked for, the worst first; of a long list the beginning.
    pub attention: Vec<Attention>,
    /// How many of all of it are problems, not notices.
    pub problem_count: u32,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct AgentAnswer {
    pub cluster: String,
    pub done: bool,
    pub message: String,
}

/// Asks the hub to fetch one source now.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ReconcileSource {
    /// Like `GitRepository`.
    pub kind: String,
    pub namespace: String,
    pub name: String,
    /// As this cluster defines it; as all do if it is absent.
    pub cluster: Option<String>,
}

/// What came of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ReconciledSource {
    /// More than one where clusters define it differently.
    pub sources: Vec<Source>,
}

/// Asks for Secrets as the hub shows them, to compare them with what it has published. At most [`DIGESTS_AT_ONCE`] values.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct HideSecrets {
    /// Whole objects.
    #[schema(value_type = Vec<Object>)]
    pub secrets: Vec<serde_json::Value>,
}

/// Values that one [`HideSecrets`] may have.
pub const DIGESTS_AT_ONCE: usize = 100;

/// The same Secrets in the same order, with digests in place of their values.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct HiddenSecrets {
    #[schema(value_type = Vec<Object>)]
    pub secrets: Vec<serde_json::Value>,
}

/// Suspends a cluster, or a unit of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Suspend {
    /// The whole cluster if it is absent.
    pub unit: Option<String>,
    pub reason: String,
}

/// Resumes a cluster, or a unit of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Resume {
    pub unit: Option<String>,
}

/// Allows what a guard kept to go.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Approve {
    /// As [`Kept::approval`] names it.
    pub approval: String,
}

/// Deletes every object that the agent manages. Irreversible.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Prune {
    /// The cluster's name once more.
    pub confirm: String,
}

/// A change was made; the answer to requests that have nothing else to say.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Done {
    pub message: String,
}

/// A notice of `GET /api/v1/watch`: what changed since the last one. Read it anew.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Change {
    pub clusters: Vec<String>,
    /// The fleet's commit, sources or problems.
    pub fleet: bool,
}
