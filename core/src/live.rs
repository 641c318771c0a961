//! An object as the API server holds it, reduced to what health, drift and guards read. Everything else is
//! skipped while parsing, so that a ConfigMap of a megabyte costs nothing to look at.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::drift;

/// The parts of a live object that we look at.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Live {
    #[serde(default)]
    pub api_version: String,
    #[serde(default)]
    pub kind: String,
    #[serde(default)]
    pub metadata: Metadata,
    #[serde(default, deserialize_with = "spec_view")]
    pub spec: SpecView,
    #[serde(default)]
    pub status: Value,
    /// All of it, where an expression reads more than metadata and status.
    #[serde(skip)]
    pub whole: Option<Box<Value>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Metadata {
    #[serde(default)]
    pub name: String,
    #[serde(default)]
    pub namespace: String,
    #[serde(default)]
    pub uid: String,
    #[serde(default)]
    pub resource_version: String,
    /// 0 for kinds without a generation.
    #[serde(default)]
    pub generation: i64,
    pub deletion_timestamp: Option<String>,
    #[serde(default)]
    pub finalizers: Vec<String>,
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
    #[serde(default)]
    pub owner_references: Vec<OwnerReference>,
    #[serde(default)]
    pub managed_fields: Vec<ManagedFields>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct OwnerReference {
    #[serde(default, rename = "apiVersion")]
    pub api_version: String,
    #[serde(default)]
    pub kind: String,
    #[serde(default)]
    pub name: String,
    #[serde(default)]
    pub uid: String,
    pub controller: Option<bool>,
}

/// An entry of `metadata.managedFields`: who set which fields, by which kind of request.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ManagedFields {
    #[serde(default)]
    pub manager: String,
    #[serde(default)]
    pub operation: String,
    #[serde(default)]
    pub api_version: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<String>,
    #[serde(default)]
    pub fields_type: String,
    #[serde(default)]
    pub fields_v1: Value,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub subresource: String,
}

/// The fields of `spec` that tell how healthy an object is. Values of the wrong type count as absent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SpecView {
    pub replicas: Option<i64>,
    /// A Service's type.
    pub type_: Option<String>,
    pub cluster_ip: Option<String>,
    /// A Deployment's `progressDeadlineSeconds`.
    pub progress_deadline: Option<i64>,
    pub suspend: bool,
    pub completions: Option<i64>,
    /// Of a StatefulSet or DaemonSet: `OnDelete` or `RollingUpdate`.
    pub update_strategy: Option<String>,
    pub partition: Option<i64>,
}

impl SpecView {
    pub fn of(spec: &Value) -> Self {
        let text = |pointer| spec.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
        let number = |pointer| spec.pointer(pointer).and_then(Value::as_i64);
        Self {
            replicas: number("/replicas"),
            type_: text("/type"),
            cluster_ip: text("/clusterIP"),
            progress_deadline: number("/progressDeadlineSeconds"),
            suspend: spec.pointer("/suspend").and_then(Value::as_bool).unwrap_or_default(),
            completions: number("/completions"),
            update_strategy: text("/updateStrategy/type"),
            partition: number("/updateStrategy/rollingUpdate/partition"),
        }
    }
}

fn spec_view<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SpecView, D::Error> {
    Value::deserialize(deserializer).map(|spec| SpecView::of(&spec))
}

impl Live {
    pub fn is_deleting(&self) -> bool {
        self.metadata.deletion_timestamp.is_some()
    }

    /// Whether a controller made it and takes care of it. An owner that we have from Git has done neither.
    pub fn is_controlled(&self) -> bool {
        let ours = self.metadata.managed_fields.iter().find(|entry| drift::is_ours(entry));
        let in_git = ours.and_then(|entry| entry.fields_v1.pointer("/f:metadata/f:ownerReferences"));
        let is_in_git = |owner: &OwnerReference| {
            in_git.is_some_and(|owners| owners.get(format!(r#"k:{{"uid":"{}"}}"#, owner.uid)).is_some())
        };
        let mut owners = self.metadata.owner_references.iter();
        owners.any(|owner| owner.controller == Some(true) && !is_in_git(owner))
    }

    /// `apps` of `apps/v1`; empty for the core group.
    pub fn group(&self) -> &str {
        self.api_version.rsplit_once('/').map_or("", |(group, _)| group)
    }
}

impl From<&Value> for Live {
    /// A value that has not an object's shape counts as one without any field.
    fn from(value: &Value) -> Self {
        Self::deserialize(value).unwrap_or_default()
    }
}
