//! The contract between the hub and people: JSON types of the HTTP API under `/api/v1`: what the CLI, the console and scripts see.
//!
//! Fields are only ever added. A reader ignores what it does not know and takes a missing field as its
//! default, so that a newer CLI reads an older hub and the other way round. Digests and hashes are texts of
//! 64 hexadecimal digits, times are seconds since 1970 (UTC), units are `root`, `kustomization/NS/NAME` or
//! `helmrelease/NS/NAME`.

mod access;
mod adopt;
mod attention;
mod cluster;
mod pipeline;
pub mod redact;
mod request;
mod unit;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

pub use access::{
    AuditEntry, CaInfo, CaStatus, FinishRotation, InvalidRole, JoinToken, MadeToken, ManyNodes, NewJoinToken,
    NewSecret, NewToken, OpenJoinToken, Role, Scope, SecretInfo, SecretRole, SecretUse, Token, WhoAmI,
};
pub use adopt::{
    Adopt, AdoptAction, AdoptFrom, AdoptedObject, AdoptedOwner, Adoption, AdoptionCounts, AdoptionNote,
};
pub use attention::{Attention, AttentionReason};
pub use cluster::{
    ChangeFinding, Cluster, ClusterCounts, Commit, ConnectionState, Definition, Desired, HeldUnit,
    HistoryEntry, Source, Status, Suspension, SyncState,
};
pub use pipeline::{Candidate, Pipeline, RolloutRequest, Stage, StageQuestion, WaitingCluster};
pub use request::{
    AgentAnswer, Approve, Change, DIGESTS_AT_ONCE, Done, HiddenSecrets, HideSecrets, Prune, Reconcile,
    ReconcileSource, Reconciled, ReconciledSource, Resume, Suspend,
};
pub use unit::{
    Drift, Event, EventPage, FieldDrift, Finding, Health, Kept, Manifests, ObjectId, Problem, Tree,
    TreeObject, TreeUnit, Unit, UnitManifests, UnitState,
};

/// What an answer that is no success holds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ErrorBody {
    /// What was attempted and why it did not work.
    pub error: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// A part of a list.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Page<T> {
    pub items: Vec<T>,
    /// There is more: ask again with `continue` set to this, and all else as it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}
