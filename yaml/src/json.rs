//! JSON in and out.

use crate::node::{Node, Pos};
use crate::scalar::Schema;

/// Why a node has no JSON meaning, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {}, column {}: {message}", pos.line, pos.column)]
pub struct JsonError {
    pub pos: Pos,
    pub message: String,
}

impl Node {
    /// The JSON that kubectl and other users of `sigs.k8s.io/yaml` would send: [`Schema::Kubernetes`].
    ///
    /// # Errors
    /// See [`to_json_as`](Self::to_json_as).
    pub fn to_json(&self) -> Result<serde_json::Value, JsonError> {
        self.to_json_as(Schema::Kubernetes)
    }

    /// The JSON meaning under a schema. Keys that are numbers or booleans become strings where the schema's tools
    /// do so.
    ///
    /// # Errors
    /// A number that JSON cannot hold (`.inf`, `.nan`), a key that is null or a collection (any key but a
    /// string inside an object for [`Schema::Kustomize`]), two keys that become the same string.
    pub fn to_json_as(&self, schema: Schema) -> Result<serde_json::Value, JsonError> {
        let _ = schema;
        unimplemented!("follows")
    }

    /// The node for a JSON value, keys in its order, without positions.
    pub fn from_json(value: &serde_json::Value) -> Node {
        let _ = value;
        unimplemented!("follows")
    }
}
