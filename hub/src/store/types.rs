//! The records of the store. Fields are only ever added, with defaults; a change that breaks old readers raises
//! [`VERSION`].

use std::collections::{BTreeMap, BTreeSet};

use flotilla_api::{AuditEntry, Role, Scope};
use flotilla_core::change::{self, Declared, InForce, Sizes, Taken};
use flotilla_core::desired::{KnownUnit, Removal};
use flotilla_core::nodes::NameTemplate;
use flotilla_core::report::Timestamp;
use flotilla_core::reported::Nodes;
use flotilla_core::unit::{DeletionPolicy, Render};
use flotilla_core::{Capabilities, Digest, ObjectId, UnitId};
use serde::{Deserialize, Serialize};

/// The version that every record carries.
pub const VERSION: u32 = 1;

/// An enrolled cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterRecord {
    /// The agent's public key, DER SubjectPublicKeyInfo in base64. Whoever holds its private key is this
    /// cluster's agent.
    pub public_key: String,
    /// X25519 key in base64, for secrets sealed to the agent; empty if it gave none.
    #[serde(default)]
    pub sealing_key: String,
    /// uid of the kube-system namespace, pinned at enrolment.
    pub uid: String,
    pub enrolled_at: Timestamp,
    pub enrolled_by: String,
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    #[serde(default)]
    pub revoked_at: Option<Timestamp>,
    /// The newest certificate.
    #[serde(default)]
    pub certificate: Certificate,
}

/// What is remembered of an agent's newest certificate.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Certificate {
    pub serial: String,
    pub issued_at: Timestamp,
    pub expires_at: Timestamp,
    /// Hash of the CA that signed it.
    pub ca: String,
}

/// An agent whose cluster somebody deleted, by the digest of its public key: it is told so when it calls.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeletedRecord {
    pub cluster: String,
    pub at: Timestamp,
}

/// A join token, by the hash of its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JoinTokenRecord {
    /// Empty where the nodes name themselves: a hub that does not know `many` lets nobody in by it.
    pub cluster: String,
    pub created_at: Timestamp,
    pub created_by: String,
    pub expires_at: Timestamp,
    /// May take the place of an enrolled agent.
    #[serde(default)]
    pub replace: bool,
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    #[serde(default)]
    pub used: Option<TokenUse>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub many: Option<ManyNodesRecord>,
}

/// The nodes that join by one token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ManyNodesRecord {
    pub group: String,
    pub names: NameTemplate,
    pub count: u32,
    pub joined: u32,
}

impl JoinTokenRecord {
    /// Whether somebody may still join by it.
    pub fn is_open(&self, now: Timestamp) -> bool {
        let left = match &self.many {
            Some(many) => many.joined < many.count,
            None => self.used.is_none(),
        };
        left && now < self.expires_at
    }
}

/// Who used a join token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TokenUse {
    pub at: Timestamp,
    pub public_key: String,
}

/// A token for the API, by the hash of its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ApiTokenRecord {
    pub name: String,
    pub role: Role,
    pub created_at: Timestamp,
    pub created_by: String,
    #[serde(default)]
    pub expires_at: Option<Timestamp>,
    #[serde(default)]
    pub scope: Scope,
}

/// When a token was last used, about.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenUsed {
    pub at: Timestamp,
}

/// A suspension by hand of a cluster or a unit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SuspensionRecord {
    pub by: String,
    pub at: Timestamp,
    #[serde(default)]
    pub reason: String,
}

/// The suspensions by hand of one cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Suspensions {
    #[serde(default)]
    pub cluster: Option<SuspensionRecord>,
    #[serde(default)]
    pub units: BTreeMap<UnitId, SuspensionRecord>,
}

impl Suspensions {
    /// Why this unit is suspended by hand, if it is.
    pub fn of(&self, unit: &UnitId) -> Option<&SuspensionRecord> {
        self.cluster.as_ref().or_else(|| self.units.get(unit))
    }
}

/// An approval, kept until the agent has taken it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApprovalRecord {
    pub by: String,
    pub at: Timestamp,
    #[serde(default)]
    pub delivered_at: Option<Timestamp>,
}

/// The units that a cluster's agent said it has.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownUnits {
    pub units: Vec<KnownUnitRecord>,
    /// When the agent last said so itself. What was published since is among them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub told_at: Option<Timestamp>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownUnitRecord {
    pub id: UnitId,
    #[serde(default)]
    pub parent: Option<UnitId>,
    pub policy: DeletionPolicy,
    pub prune: bool,
    /// Suspended when it was last defined, or moved away from: see [`Removal`].
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub suspended: bool,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub moved: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub render: Option<Render>,
}

impl From<&KnownUnit> for KnownUnitRecord {
    fn from(unit: &KnownUnit) -> Self {
        let KnownUnit { id, parent, removal: Removal { policy, prune, suspended, moved }, render } =
            unit.clone();
        Self { id, parent, policy, prune, suspended, moved, render }
    }
}

impl From<KnownUnitRecord> for KnownUnit {
    fn from(record: KnownUnitRecord) -> Self {
        let KnownUnitRecord { id, parent, policy, prune, suspended, moved, render } = record;
        Self { id, parent, removal: Removal { policy, prune, suspended, moved }, render }
    }
}

/// Where a cluster's root was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Root {
    pub at: String,
}

/// The units of a cluster whose removal was published or approved: it goes on whatever else is removed meanwhile.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Going {
    pub units: BTreeSet<UnitId>,
    /// Objects that units lose and that are still there, as [`object_text`].
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub objects: BTreeSet<String>,
}

impl From<&change::Going> for Going {
    fn from(going: &change::Going) -> Self {
        Self { units: going.units.clone(), objects: going.objects.iter().map(object_text).collect() }
    }
}

impl TryFrom<Going> for change::Going {
    type Error = InvalidText;

    fn try_from(record: Going) -> Result<Self, InvalidText> {
        let objects = record.objects.iter().map(|text| object_of(text));
        Ok(Self { units: record.units, objects: objects.collect::<Result<_, _>>()? })
    }
}

/// Which objects a cluster was told to run: identities alone, no content.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeclaredRecord {
    /// Where the cluster's root was.
    pub root: String,
    /// By unit, as [`object_text`].
    pub units: BTreeMap<UnitId, Vec<String>>,
}

impl From<&Declared> for DeclaredRecord {
    fn from(declared: &Declared) -> Self {
        let units = declared.units();
        let units = units.map(|(id, objects)| (id.clone(), objects.iter().map(object_text).collect()));
        Self { root: declared.root().to_owned(), units: units.collect() }
    }
}

impl TryFrom<DeclaredRecord> for Declared {
    type Error = InvalidText;

    fn try_from(DeclaredRecord { root, units }: DeclaredRecord) -> Result<Self, InvalidText> {
        let objects = |texts: Vec<String>| texts.iter().map(|text| object_of(text)).collect::<Result<_, _>>();
        let units = units.into_iter().map(|(id, texts)| Ok((id, objects(texts)?)));
        Ok(Self::new(root, units.collect::<Result<_, _>>()?))
    }
}

/// A text in a record that names no object.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' names no object: expected GROUP/KIND/NAMESPACE/NAME")]
pub struct InvalidText(String);

/// `GROUP/KIND/NAMESPACE/NAME`; none of them has a slash, but perhaps the last.
pub(crate) fn object_text(object: &ObjectId) -> String {
    [&object.group, &object.kind, &object.namespace, &object.name].map(String::as_str).join("/")
}

pub(crate) fn object_of(text: &str) -> Result<ObjectId, InvalidText> {
    let parts: Vec<&str> = text.splitn(4, '/').collect();
    let [group, kind, namespace, name] = parts[..] else { return Err(InvalidText(text.to_owned())) };
    Ok(ObjectId::new(group, kind, namespace, name))
}

/// What the guard on the change remembers: the policy, and what one commit took from clusters already.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ChangeRecord {
    pub in_force: InForce,
    #[serde(default)]
    pub commit: String,
    /// Since when that counts together.
    #[serde(default)]
    pub since: Timestamp,
    #[serde(default, skip_serializing_if = "Taken::is_empty")]
    pub taken: Taken,
    /// How large all was before it.
    #[serde(default, skip_serializing_if = "Sizes::is_empty")]
    pub sizes: Sizes,
}

/// The Kubernetes of a cluster and what its agent can do, as that last said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kubernetes {
    pub version: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capabilities: Option<Capabilities>,
}

/// What the nodes of a cluster are, as its agent last said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodesRecord {
    /// Of the reply.
    pub digest: Digest,
    pub nodes: Nodes,
}

/// The last states that a cluster was sent, newest last.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    pub states: Vec<HistoryRecord>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryRecord {
    pub digest: String,
    pub generation: u64,
    pub commit: String,
    #[serde(default)]
    pub received_at: Option<Timestamp>,
    #[serde(default)]
    pub applied_at: Option<Timestamp>,
    #[serde(default)]
    pub healthy_at: Option<Timestamp>,
}

/// A line of the audit log.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditRecord {
    pub at: Timestamp,
    pub who: String,
    pub action: String,
    pub target: String,
    #[serde(default)]
    pub detail: String,
}

impl AuditRecord {
    pub fn new(at: Timestamp, who: impl Into<String>, action: &str, target: impl ToString) -> Self {
        let (action, target) = (action.to_owned(), target.to_string());
        Self { at, who: who.into(), action, target, detail: String::new() }
    }

    /// As the API shows it.
    pub fn entry(self, sequence: u64) -> AuditEntry {
        let Self { at, who, action, target, detail } = self;
        AuditEntry { sequence, at, who, action, target, detail }
    }

    pub fn detail(self, detail: impl Into<String>) -> Self {
        Self { detail: detail.into(), ..self }
    }
}

/// When and from what this store was restored.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RestoreRecord {
    /// When the backup was made.
    pub backup_at: Timestamp,
    pub restored_at: Timestamp,
}
