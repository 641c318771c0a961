//! The units of a cluster and their objects, with what is wrong with them.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::{Cluster, Desired, Suspension};

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
        let flotilla_core::report::Problem { file, line, column, field, message, notice, waiting: _ } =
            problem.clone();
        Self { file, line, column, field, message, notice }
    }
}

/// `FILE:LINE:COLUMN: FIELD: MESSAGE`, as far as each is known.
impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { file, line, column, field, message, notice } = self.clone();
        flotilla_core::report::Problem { file, line, column, field, message, notice, waiting: false }.fmt(f)
    }
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
    /// As the agent reports it, `Held` where the hub holds it, `Pending` where no agent has reported, `Unknown` where an agent
    /// reported and is away now.
    pub phase: String,
    pub message: String,
    /// When the phase last changed.
    pub since: Option<i64>,
    /// The agent that says so is connected now.
    pub live: bool,
    /// Path of its content in the source.
    pub path: String,
    /// The commit of the fleet repo that its agent has applied; empty where that is not known.
    pub commit: String,
    /// Where its files are, as `KIND/NAMESPACE/NAME`.
    pub source: String,
    /// The revision of the source that its agent has applied, as Flux writes it; empty where that is not known.
    pub revision: String,
    /// The commit that the hub wants: older than the fleet's newest where the unit is held or suspended.
    pub wanted_commit: String,
    /// The revision that the hub wants; empty where the source cannot be used.
    pub wanted_revision: String,
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
    /// It is held, and only until something is there that somebody is at work on: a fetch, a run of helm, a first round.
    pub waiting: bool,
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

impl From<flotilla_core::report::FieldDrift> for FieldDrift {
    fn from(drift: flotilla_core::report::FieldDrift) -> Self {
        let flotilla_core::report::FieldDrift { field, wanted, found, manager } = drift;
        Self { field, wanted, found, manager }
    }
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

/// Something that happened in a cluster, or at the hub with a source.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Event {
    /// Its place in the journal: a cursor, from which a reader goes on after it.
    pub id: String,
    /// Empty for what happened at the hub.
    pub cluster: String,
    pub at: i64,
    pub unit: String,
    pub object: Option<ObjectId>,
    pub warning: bool,
    pub reason: String,
    pub message: String,
}

/// A part of the journal of events.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct EventPage {
    pub items: Vec<Event>,
    /// There are older ones: ask again with `continue` set to this. Only without a cursor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    /// Ask with it for what comes after all that was looked at.
    pub cursor: String,
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
    /// The unit that defines it; empty for the root, and where that is not known.
    pub parent: String,
    /// What it says of itself, as Git has it: policy, dependencies, health checks. Of a present one.
    #[schema(value_type = Option<Object>)]
    pub policy: Option<Value>,
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
