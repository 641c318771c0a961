//! JSON types of the HTTP API under `/api/v1`: what the CLI, the console and scripts see.
//!
//! Fields are only ever added. A reader ignores what it does not know and takes a missing field as its
//! default, so that a newer CLI reads an older hub and the other way round. Digests and hashes are texts of
//! 64 hexadecimal digits, times are seconds since 1970 (UTC), units are `root`, `kustomization/NS/NAME` or
//! `helmrelease/NS/NAME`.

mod adopt;
mod live;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

pub use adopt::{
    Adopt, AdoptAction, AdoptFrom, AdoptedObject, AdoptedOwner, Adoption, AdoptionCounts, AdoptionNote,
};
pub use live::{LiveObject, Rehearsal, Rehearsed};

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
    /// There is more: ask again with `after` set to this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// What a token allows. Each role may do what those before it may.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// See everything but secrets.
    #[default]
    View,
    /// Reconcile, suspend, resume.
    Operate,
    /// Let go what a guard kept.
    Approve,
    /// Clusters, tokens, backups, the CA.
    Admin,
}

impl Role {
    pub const ALL: [Self; 4] = [Self::View, Self::Operate, Self::Approve, Self::Admin];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::View => "view",
            Self::Operate => "operate",
            Self::Approve => "approve",
            Self::Admin => "admin",
        }
    }
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

impl std::str::FromStr for Role {
    type Err = InvalidRole;

    fn from_str(text: &str) -> Result<Self, InvalidRole> {
        Self::ALL.into_iter().find(|role| role.as_str() == text).ok_or_else(|| InvalidRole(text.to_owned()))
    }
}

/// A text that is no role.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no role: use view, operate, approve or admin")]
pub struct InvalidRole(String);

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

/// Something wrong with what Git says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Problem {
    /// Path in the source; empty if none is to blame.
    pub file: String,
    /// From 1; 0 where it is not known.
    pub line: u32,
    pub column: u32,
    /// Path of the field, like `spec.path`.
    pub field: String,
    pub message: String,
    /// For information: it holds nothing back.
    pub notice: bool,
}

impl From<&flotilla_core::report::Problem> for Problem {
    fn from(problem: &flotilla_core::report::Problem) -> Self {
        let flotilla_core::report::Problem { file, line, column, field, message, notice } = problem.clone();
        Self { file, line, column, field, message, notice }
    }
}

/// `FILE:LINE:COLUMN: FIELD: MESSAGE`, as far as each is known.
impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { file, line, column, field, message, notice } = self.clone();
        flotilla_core::report::Problem { file, line, column, field, message, notice }.fmt(f)
    }
}

/// The fleet at a glance.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Status {
    pub hub_version: String,
    pub started_at: i64,
    /// The commit that is rendered; none until the repo was read for the first time.
    pub commit: Option<Commit>,
    pub clusters: ClusterCounts,
    /// How many units are in each phase, over all clusters.
    pub units: BTreeMap<String, u32>,
    pub sources: Vec<Source>,
    /// Problems of no cluster in particular.
    pub problems: Vec<Problem>,
    /// How many problems (without notices) there are in all clusters and units.
    pub problem_count: u32,
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
    /// The hub does not know what the cluster runs, or should run.
    #[default]
    Unknown,
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
    /// The newest state is applied and healthy.
    InSync,
}

impl SyncState {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "Unknown",
            Self::Unassigned => "Unassigned",
            Self::Pending => "Pending",
            Self::Progressing => "Progressing",
            Self::Failing => "Failing",
            Self::Held => "Held",
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

/// A unit of one cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Unit {
    pub cluster: String,
    pub unit: String,
    /// The unit that defines it.
    pub parent: Option<String>,
    pub depends_on: Vec<String>,
    /// As the agent reports it, `Held` where the hub holds it, `Pending` where no agent has reported.
    pub phase: String,
    pub message: String,
    /// When the phase last changed.
    pub since: Option<i64>,
    /// The agent that says so is connected now.
    pub live: bool,
    /// Path of its content in the source.
    pub path: String,
    /// The commit that its content is from: older than the fleet's where the unit is held.
    pub commit: String,
    /// Where its files are, as `KIND/NAMESPACE/NAME`.
    pub source: String,
    /// What the source was resolved to, as Flux writes it; empty where the source cannot be used.
    pub revision: String,
    pub desired: Option<String>,
    pub applied: Option<String>,
    pub healthy: Option<String>,
    pub objects: u32,
    /// How many objects were put back since the agent started.
    pub corrected: u64,
    pub suspended: Option<Suspension>,
    pub findings: Vec<Finding>,
    pub drift: Vec<Drift>,
    pub kept: Vec<Kept>,
    pub problems: Vec<Problem>,
}

/// An object's identity.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ObjectId {
    pub group: String,
    pub kind: String,
    pub namespace: String,
    pub name: String,
}

impl From<&flotilla_core::ObjectId> for ObjectId {
    fn from(id: &flotilla_core::ObjectId) -> Self {
        let flotilla_core::ObjectName { group, kind, namespace, name } = (**id).clone();
        Self { group, kind, namespace, name }
    }
}

/// `Deployment.apps web/frontend`
impl std::fmt::Display for ObjectId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { group, kind, namespace, name } = self.clone();
        flotilla_core::ObjectId::new(group, kind, namespace, name).fmt(f)
    }
}

/// Something about one object.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Finding {
    pub object: ObjectId,
    pub reason: String,
    pub message: String,
}

/// A difference that stands between what is wanted and what is there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Drift {
    pub object: ObjectId,
    pub at: i64,
    /// Empty where the whole object is gone.
    pub fields: Vec<FieldDrift>,
}

/// One field that differs. Values of Secrets are digests.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct FieldDrift {
    /// JSON pointer.
    pub field: String,
    pub wanted: Option<String>,
    pub found: Option<String>,
    pub manager: Option<String>,
}

/// An object that a guard kept although Git no longer names it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Kept {
    pub object: ObjectId,
    pub why: String,
    /// What an approval has to name.
    pub approval: String,
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
    /// The object, as it was rendered.
    #[schema(value_type = Object)]
    pub object: Value,
}

/// Something that happened in a cluster, or at the hub with a source.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Event {
    /// Empty for what happened at the hub.
    pub cluster: String,
    pub at: i64,
    pub unit: String,
    pub object: Option<ObjectId>,
    pub warning: bool,
    pub reason: String,
    pub message: String,
}

/// A cluster's units with their objects. Units stand in the order parent before child; [`Unit::parent`] makes
/// the tree.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Tree {
    pub cluster: Cluster,
    pub units: Vec<TreeUnit>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct TreeUnit {
    pub unit: Unit,
    pub objects: Vec<TreeObject>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct TreeObject {
    pub object: ObjectId,
    pub version: String,
    pub health: Health,
    pub message: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub enum Health {
    /// Nobody has said.
    #[default]
    Unknown,
    /// Applied, as far as the agent reports no finding.
    Healthy,
    /// Being applied, or not healthy yet.
    Progressing,
    /// See the message.
    Failing,
    /// A guard keeps it although Git no longer names it.
    Kept,
}

impl Health {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "Unknown",
            Self::Healthy => "Healthy",
            Self::Progressing => "Progressing",
            Self::Failing => "Failing",
            Self::Kept => "Kept",
        }
    }
}

/// What the hub wants a cluster to run, object by object.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Manifests {
    pub cluster: String,
    pub desired: Desired,
    pub units: Vec<UnitManifests>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct UnitManifests {
    pub unit: String,
    pub state: UnitState,
    /// Why it is held.
    pub reason: String,
    /// In the order in which they are rendered. Values of Secrets are replaced by their digests.
    #[schema(value_type = Vec<Object>)]
    pub objects: Vec<Value>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub enum UnitState {
    Present,
    #[default]
    Held,
    Removed,
}

/// Asks for a token with which one agent may join.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct NewJoinToken {
    pub cluster: String,
    /// In seconds; 24 hours if it is absent.
    pub expires_in: Option<u64>,
    /// The cluster is enrolled already, and the agent that joins takes its place.
    pub replace: bool,
    /// Labels that the cluster has from its enrolment on.
    pub labels: BTreeMap<String, String>,
}

/// A join token, shown once.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct JoinToken {
    pub cluster: String,
    pub token: String,
    pub expires_at: i64,
    /// Hashes of the CAs that the agent pins.
    pub cas: Vec<String>,
    /// Where the agent will call.
    pub addresses: Vec<String>,
}

/// A token for the API, without its secret.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Token {
    pub name: String,
    pub role: Role,
    pub created_at: i64,
    pub created_by: String,
    pub expires_at: Option<i64>,
}

/// Asks for a token.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct NewToken {
    /// 1 to 63 lower-case letters, digits and `-`.
    pub name: String,
    pub role: Role,
    /// In seconds; never if it is absent.
    pub expires_in: Option<u64>,
}

/// A token, shown once.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct MadeToken {
    pub token: Token,
    pub secret: String,
}

/// Asks to keep a secret, in place of what may be there.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct NewSecret {
    /// `fleet`, `group.NAME` or `cluster.NAME`.
    pub scope: String,
    /// Of the sources that name it.
    pub namespace: String,
    pub name: String,
    /// What it is for; for people.
    pub kind: String,
    /// Values in base64, by key.
    pub data: BTreeMap<String, String>,
}

impl std::fmt::Debug for NewSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let keys: Vec<_> = self.data.keys().collect();
        f.debug_struct("NewSecret").field("name", &self.name).field("keys", &keys).finish_non_exhaustive()
    }
}

/// A secret, without what it holds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct SecretInfo {
    /// `fleet`, `group.NAME` or `cluster.NAME`.
    pub scope: String,
    pub namespace: String,
    pub name: String,
    pub kind: String,
    pub keys: Vec<String>,
    pub changed_at: i64,
    pub changed_by: String,
}

/// Who asks: the token that came with the request.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct WhoAmI {
    pub name: String,
    pub role: Role,
}

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

/// A line of the audit log.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct AuditEntry {
    pub sequence: u64,
    pub at: i64,
    /// The token's name; `hub` and `agent/CLUSTER` for what no person did.
    pub who: String,
    /// Like `cluster.revoke`.
    pub action: String,
    pub target: String,
    pub detail: String,
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

/// The CAs of the hub.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct CaStatus {
    /// The one that signs first.
    pub cas: Vec<CaInfo>,
    /// Clusters whose certificate is from a CA that does not sign any more.
    pub behind: Vec<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct CaInfo {
    pub hash: String,
    pub signs: bool,
    pub expires_at: i64,
}

/// Ends a rotation: the old CA is dropped.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct FinishRotation {
    /// Also if clusters are behind: they need a new join token.
    pub force: bool,
}

/// A notice of `GET /api/v1/watch`: what changed since the last one. Read it anew.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Change {
    pub clusters: Vec<String>,
    /// The fleet's commit, sources or problems.
    pub fleet: bool,
}
