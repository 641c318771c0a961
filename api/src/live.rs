//! What is asked of a cluster as it is now.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::FieldDrift;

/// One object as a cluster has it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct LiveObject {
    /// Without `managedFields`; values of Secrets, and annotations of theirs, are digests.
    pub object: Value,
    /// Why it is not healthy, from its status and the pods and events behind it; empty if it is.
    pub why: String,
}

/// What an apply would change.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Rehearsal {
    /// Those that would stay as they are are left out.
    pub objects: Vec<Rehearsed>,
    /// So many would stay as they are.
    pub same: u32,
}

/// What an apply would make of one object.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Rehearsed {
    pub object: String,
    /// `create`, `change`, `stays` (another owner's, or left alone) or `refused`.
    pub what: String,
    pub why: String,
    /// At most twenty; values of Secrets are digests.
    pub fields: Vec<FieldDrift>,
}
