//! The fleet, its clusters and its sources as they are.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::{Attention, Problem, WaitingCluster};

/// A commit of the fleet repo.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Commit {
    pub id: String,
    pub branch: String,
    pub author: String,
    /// First line of the message.
    pub subject: String,
    /// When it was committed.
    pub at: i64,
}

/// The fleet at a glance.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Status {
    pub hub_version: String,
    pub started_at: i64,
    /// Where agents call, in order of preference.
    pub addresses: Vec<String>,
    /// The commit that is rendered; none until the repo was read for the first time.
    pub commit: Option<Commit>,
    pub clusters: ClusterCounts,
    /// How many units are in each phase, over all clusters.
    pub units: BTreeMap<String, u32>,
    pub sources: Vec<Source>,
    /// Problems of no cluster in particular.
    pub problems: Vec<Problem>,
    /// How many of `attention` (all of it) are problems, not notices.
    pub problem_count: u32,
    /// What needs a person, the worst first; of a long list the beginning.
    pub attention: Vec<Attention>,
    /// How much of all of it there is of each reason.
    pub attention_counts: BTreeMap<String, u32>,
    /// Why clusters do not run the newest of their pipelines; of a long list the beginning.
    pub waiting: Vec<WaitingCluster>,
}

/// How many clusters are in which state. Each cluster counts in `total`; the others overlap.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ClusterCounts {
    pub total: u32,
    pub connected: u32,
    pub in_sync: u32,
    pub failing: u32,
    pub unassigned: u32,
    pub held: u32,
    pub kept: u32,
    pub suspended: u32,
    pub disconnected: u32,
    /// They do not run the newest, as a pipeline has it so.
    pub waiting: u32,
}

/// Whether an agent can be, and is, there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub enum ConnectionState {
    /// Named in Git; no agent has joined and no join token is out.
    #[default]
    NotEnrolled,
    /// A join token is out.
    Invited,
    Connected,
    Disconnected,
    Revoked,
}

impl ConnectionState {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotEnrolled => "NotEnrolled",
            Self::Invited => "Invited",
            Self::Connected => "Connected",
            Self::Disconnected => "Disconnected",
            Self::Revoked => "Revoked",
        }
    }
}

/// How a cluster stands against its desired state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub enum SyncState {
    /// The agent is away: this is how the cluster stood when it was last seen, if it still does.
    Stale,
    /// Git no longer defines this cluster; it keeps what it runs.
    Unassigned,
    /// The agent has not received the newest state.
    Pending,
    /// The agent is applying the newest state, or waits for it to become healthy.
    Progressing,
    /// A unit failed.
    Failing,
    /// A unit is held: the hub cannot say what it should be.
    Held,
    /// The newest state is applied and healthy, but for objects that a guard kept.
    Kept,
    /// The newest state is applied and healthy, but for what is suspended.
    Suspended,
    /// The newest state is applied and healthy.
    InSync,
    /// The hub does not know what the cluster runs, or should run; or it is a state of a newer hub.
    #[default]
    #[serde(other)]
    Unknown,
}

impl SyncState {
    /// Whether the cluster has come to all that it can without somebody doing something.
    pub fn is_reached(self) -> bool {
        matches!(self, Self::InSync | Self::Kept | Self::Suspended)
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "Unknown",
            Self::Stale => "Stale",
            Self::Unassigned => "Unassigned",
            Self::Pending => "Pending",
            Self::Progressing => "Progressing",
            Self::Failing => "Failing",
            Self::Held => "Held",
            Self::Kept => "Kept",
            Self::Suspended => "Suspended",
            Self::InSync => "InSync",
        }
    }
}

/// A cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Cluster {
    pub name: String,
    pub connection: ConnectionState,
    pub sync: SyncState,
    pub labels: BTreeMap<String, String>,
    pub variables: BTreeMap<String, String>,
    /// The variables are put into the root unit's own objects too, although no `postBuild` says so.
    pub substitute: bool,
    /// Its root path in the fleet repo; empty if Git does not define it.
    pub root: String,
    /// Git defines this cluster.
    pub assigned: bool,
    pub agent_version: String,
    pub kubernetes_version: String,
    /// uid of its kube-system namespace.
    pub uid: String,
    pub enrolled_at: Option<i64>,
    pub connected_since: Option<i64>,
    pub last_seen: Option<i64>,
    /// When the agent's certificate ends.
    pub certificate_expires: Option<i64>,
    pub revoked_at: Option<i64>,
    /// The newest commit whose content it runs, as far as its agent has said; empty where that is not known.
    pub commit: String,
    /// What it should run.
    pub desired: Option<Desired>,
    /// Digest of the newest state that the agent has on disk.
    pub received: Option<String>,
    pub applied: Option<String>,
    pub healthy: Option<String>,
    /// The agent refused what it was sent, for this reason.
    pub refused: Option<String>,
    /// How many units are in each phase.
    pub units: BTreeMap<String, u32>,
    pub objects: u32,
    pub suspended: Option<Suspension>,
    pub problems: Vec<Problem>,
    /// What the agent itself has trouble with.
    pub agent_problems: Vec<String>,
    /// What needs a person in the cluster and its units, the worst first; of a long list the beginning.
    pub attention: Vec<Attention>,
    /// How many of all of it are problems, not notices.
    pub problem_count: u32,
    /// Why it does not run the newest, by each pipeline that holds it back.
    pub waiting: Vec<WaitingCluster>,
}

/// A desired state.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Desired {
    pub digest: String,
    pub generation: u64,
    pub commit: String,
}

/// A suspension by hand.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Suspension {
    /// Name of the token.
    pub by: String,
    pub at: i64,
    pub reason: String,
}

/// Where content comes from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Source {
    pub name: String,
    /// `fleet` or a kind of Flux's.
    pub kind: String,
    /// Without credentials.
    pub url: String,
    /// Branch, tag or version.
    pub reference: String,
    /// The folder of it that is the fleet, for the fleet repo; empty for all of it.
    pub path: String,
    /// What it was resolved to.
    pub revision: String,
    pub ready: bool,
    /// What went wrong, or where it stands.
    pub message: String,
    /// When it was last asked.
    pub checked_at: Option<i64>,
    /// When the revision last changed.
    pub changed_at: Option<i64>,
    /// It is not asked any more; what there is of it stays in use.
    pub suspended: bool,
    /// It asks for verification, and the operator lets it be used without.
    pub unverified: bool,
    /// The clusters that define it so; empty for the fleet repo.
    pub clusters: Vec<String>,
}

/// A Flux object as the fleet defines it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Definition {
    pub kind: String,
    pub namespace: String,
    pub name: String,
    /// The unit whose output it is in.
    pub defined_by: String,
    /// Who defined it may name everything: the fleet repo, or a repository that is applied as the agent itself. Else it is a
    /// tenant's.
    pub of_fleet: bool,
    /// The account that a unit is applied as, as `NAMESPACE/NAME`, whether it names it or has it from its parent. Empty: the
    /// agent's own, or the unit is held.
    pub account: String,
    /// Texts of it are hidden, as they hold what the hub keeps secret.
    pub redacted: bool,
    /// The object, as it was rendered.
    #[schema(value_type = Object)]
    pub object: Value,
}

/// A state that a cluster was sent, and when it got how far.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct HistoryEntry {
    pub desired: Desired,
    pub received_at: Option<i64>,
    pub applied_at: Option<i64>,
    pub healthy_at: Option<i64>,
}

/// One thing that the newest commit takes away from all clusters together. What is beyond the fleet's policy is not published
/// until somebody approves it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ChangeFinding {
    /// `info`, `warning`, or `stop`: what it is about waits for an approval.
    pub severity: String,
    /// What an approval names: that exactly the units and objects of all findings with this digest may go. The fleet repo's word
    /// and that of each tenant have digests of their own. Empty where nothing of this one waits.
    pub digest: String,
    /// The commit of the fleet repo that makes the change.
    pub commit: String,
    /// `UnitsRemoved`, `ObjectsRemoved`, `KindRemoved`, `KindMissed`, `UnitsEmptied`, `ClustersEmptied`, `RootMoved`,
    /// `PruningBegun` or `Resumed`.
    pub finding: String,
    /// How many units, objects or clusters.
    pub count: u64,
    /// Of how many in the fleet, where that is judged.
    pub of: Option<u64>,
    pub clusters: Vec<String>,
    /// The first of what is not published yet, as `CLUSTER: NAME`.
    pub names: Vec<String>,
    /// The same in words.
    pub message: String,
    /// The units that wait because of it, 5,000 at most.
    pub held: Vec<HeldUnit>,
}

/// A unit that stays as it is until the change is approved.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct HeldUnit {
    pub cluster: String,
    pub unit: String,
    /// The unit itself would go.
    pub removed: bool,
    /// How many objects would go.
    pub objects: u64,
    /// The first of them, 100 at most.
    pub first: Vec<String>,
}
