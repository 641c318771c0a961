//! Who may do what: tokens, secrets, the CA and the audit log.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

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
    /// Approve the deletion of what a guard kept.
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

/// A text that is not a role.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a role: use view, operate, approve or admin")]
pub struct InvalidRole(String);

/// Asks for a token with which one agent may join, or as many as `many` says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct NewJoinToken {
    /// Empty where the nodes name themselves.
    pub cluster: String,
    /// In seconds; 24 hours if it is absent.
    pub expires_in: Option<u64>,
    /// The cluster is enrolled already, and the agent that joins takes its place.
    pub replace: bool,
    /// Labels that the cluster has from its enrolment on.
    pub labels: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub many: Option<ManyNodes>,
}

/// Nodes that join by one token and name themselves.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ManyNodes {
    /// How many may join.
    pub count: u32,
    /// The `ClusterGroup` whose clusters they are.
    pub group: String,
    /// How they are called: letters, digits, `-` and `{hostname}`, `{machine-id}` or `{uid}`.
    pub names: String,
}

/// A join token, shown once.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct JoinToken {
    /// Empty where the nodes name themselves.
    pub cluster: String,
    pub token: String,
    pub expires_at: i64,
    /// Hashes of the CAs that the agent pins.
    pub cas: Vec<String>,
    /// Where the agent will call.
    pub addresses: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub many: Option<ManyNodes>,
}

/// A join token that is good still, without its secret.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct OpenJoinToken {
    /// By which it is revoked; says nothing of the secret.
    pub id: String,
    /// Empty where the nodes name themselves.
    pub cluster: String,
    pub many: Option<ManyNodes>,
    /// How many have joined by it.
    pub joined: u32,
    pub created_at: i64,
    pub created_by: String,
    pub expires_at: i64,
}

/// What of the fleet a token reaches. An empty list sets no bound; three empty ones are the whole fleet. Clusters that are
/// named and those of the groups count together; namespaces narrow that down to units, sources and secrets in them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Scope {
    pub clusters: Vec<String>,
    /// Names of `ClusterGroup`s.
    pub groups: Vec<String>,
    pub namespaces: Vec<String>,
}

impl Scope {
    /// Whether it is the whole fleet.
    pub fn is_fleet(&self) -> bool {
        self.clusters.is_empty() && self.groups.is_empty() && self.namespaces.is_empty()
    }
}

/// `fleet`, or what it is bound to: `cluster a,b; namespace web`.
impl std::fmt::Display for Scope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.is_fleet() {
            return f.pad("fleet");
        }
        let parts = [("cluster", &self.clusters), ("group", &self.groups), ("namespace", &self.namespaces)];
        let parts = parts.into_iter().filter(|(_, names)| !names.is_empty());
        let parts: Vec<String> = parts.map(|(what, names)| format!("{what} {}", names.join(","))).collect();
        f.pad(&parts.join("; "))
    }
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
    pub scope: Scope,
    /// When it was last used, give or take ten minutes.
    pub last_used_at: Option<i64>,
}

/// Asks for a token. A field that is not known is refused: a bound that is misspelled would be none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct NewToken {
    /// 1 to 63 lower-case letters, digits and `-`.
    pub name: String,
    pub role: Role,
    /// In seconds; 90 days if it is absent.
    pub expires_in: Option<u64>,
    /// It stays good until it is revoked.
    pub never_expires: bool,
    pub scope: Scope,
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

/// How something has to do with a Secret.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum SecretRole {
    #[default]
    Uses,
    /// It is the Secret, or something in the cluster makes the Secret of it.
    Makes,
    /// The hub cannot tell whether it does, for `reason`.
    Unknown,
}

/// A place in what the fleet runs that names a Secret.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct SecretUse {
    pub cluster: String,
    /// Empty where nothing is known of the whole cluster.
    pub unit: String,
    pub role: SecretRole,
    /// That of the Secret; empty where the object is in none and does not say which.
    pub namespace: String,
    /// As `Deployment.apps web/frontend`.
    pub object: String,
    /// As `spec.tls[0].secretName`.
    pub field: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

/// Who asks: the token that came with the request.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct WhoAmI {
    pub name: String,
    pub role: Role,
    pub scope: Scope,
    pub expires_at: Option<i64>,
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
