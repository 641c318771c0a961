//! What is asked of helm, and under which key the answer is kept.

use std::fmt;
use std::sync::Arc;

use flotilla_core::Digest;
use flotilla_kustomize::files::{Files, TreePath};
use serde_json::{Map, Value, json};

/// A chart's folder in a tree.
#[derive(Clone)]
pub struct ChartFiles {
    pub files: Arc<dyn Files>,
    /// The folder with `Chart.yaml`.
    pub path: TreePath,
    /// Of everything in that folder.
    pub digest: Digest,
    /// What stands in for its `values.yaml`.
    pub default_values: Option<Map<String, Value>>,
}

impl PartialEq for ChartFiles {
    fn eq(&self, other: &Self) -> bool {
        (&self.path, self.digest, &self.default_values) == (&other.path, other.digest, &other.default_values)
    }
}

impl fmt::Debug for ChartFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChartFiles").field("path", &self.path).field("digest", &self.digest).finish()
    }
}

/// What templates are told of the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capabilities {
    /// As `v1.36.3`.
    pub kube_version: String,
    /// As `apps/v1` or `apps/v1/Deployment`, beside those of Kubernetes itself.
    pub api_versions: Vec<String>,
}

/// One run of `helm template`.
#[derive(Debug, Clone, PartialEq)]
pub struct TemplateRequest {
    pub chart: ChartFiles,
    /// The release's name.
    pub name: String,
    /// The release's namespace.
    pub namespace: String,
    /// Over the chart's own.
    pub values: Map<String, Value>,
    pub capabilities: Capabilities,
    /// Whether the objects of the chart's `crds/` are put out.
    pub crds: bool,
    pub no_hooks: bool,
    pub skip_schema: bool,
}

impl TemplateRequest {
    /// What the answer is kept under: everything that may change it but the capabilities. A new API in the cluster
    /// must not render a release anew, nor with it the passwords that its templates draw.
    pub fn key(&self) -> Digest {
        // Keys of mappings come out sorted, so equal values are equal text.
        let said = json!({
            "name": self.name,
            "namespace": self.namespace,
            "values": self.values,
            "defaults": self.chart.default_values,
            "crds": self.crds,
            "noHooks": self.no_hooks,
            "skipSchema": self.skip_schema,
        });
        Digest::of_parts([self.chart.digest.as_bytes().as_slice(), said.to_string().as_bytes()])
    }
}

/// Why helm gave no manifests.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HelmError {
    /// The templates, the values or the schema: helm's own words.
    #[error("helm: {0}")]
    Template(String),
    #[error("helm was ended: it {0}")]
    Limit(String),
    #[error("the chart cannot be read: {0}")]
    Chart(String),
    /// Nothing is wrong with the release: worth another try.
    #[error("{0}")]
    Machine(String),
}

impl HelmError {
    /// Whether the same request may do better later.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Machine(_))
    }
}

/// Renders charts.
pub trait Helm: Send + Sync {
    /// The manifests of a chart, hooks among them, as `helm template` prints them.
    ///
    /// # Errors
    /// What helm refuses, and what the machine lacks.
    fn template(&self, request: &TemplateRequest) -> Result<String, HelmError>;
}

/// Manifests that helm has given, by [`TemplateRequest::key`].
pub trait Renders: Send + Sync {
    /// `None`: helm has to be run. An error is what helm refused.
    fn get(&self, key: Digest) -> Option<Result<Arc<str>, String>>;
}

/// Where helm never runs.
#[derive(Debug, Clone, Copy)]
pub struct NothingRendered;

impl Renders for NothingRendered {
    fn get(&self, _: Digest) -> Option<Result<Arc<str>, String>> {
        None
    }
}
