//! What is asked of helm, and under which key the answer is kept.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use flotilla_core::{ClusterName, Digest, UnitId};
use flotilla_kustomize::files::{Files, TreePath};
use serde_json::{Map, Value, json};

use super::names::{ApiVersion, KubeVersion, Namespace, ReleaseName};
use super::said;

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
    pub kube_version: KubeVersion,
    /// Beside those of Kubernetes itself.
    pub api_versions: Vec<ApiVersion>,
}

/// Whose release it is. What a chart draws at random, a password or a key, is nobody else's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    pub cluster: ClusterName,
    pub unit: UnitId,
}

/// One run of `helm template`.
#[derive(Clone, PartialEq)]
pub struct TemplateRequest {
    pub owner: Owner,
    pub chart: ChartFiles,
    /// The release's name.
    pub name: ReleaseName,
    /// The release's namespace.
    pub namespace: Namespace,
    /// Over the chart's own.
    pub values: Map<String, Value>,
    pub capabilities: Capabilities,
    /// Whether the objects of the chart's `crds/` are put out.
    pub crds: bool,
    pub no_hooks: bool,
    pub skip_schema: bool,
    /// A text of the author's: another one renders anew though nothing else is other than before.
    pub again: Option<String>,
    /// What comes before the release and has put out nothing yet: its APIs are not among the capabilities.
    pub without: BTreeSet<UnitId>,
    /// Whether some of the values come from Secrets: then nobody is told helm's own words.
    pub from_secrets: bool,
}

/// A request, and the HelmRelease that makes it.
#[derive(Debug, Clone, PartialEq)]
pub struct Asked {
    pub unit: UnitId,
    pub request: TemplateRequest,
}

impl fmt::Debug for TemplateRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { chart, name, namespace, .. } = self;
        f.debug_struct("TemplateRequest")
            .field("chart", chart)
            .field("name", name)
            .field("namespace", namespace)
            .finish()
    }
}

impl TemplateRequest {
    /// What the answer is kept under: whose it is, and everything that may change it but the capabilities. A new API in
    /// the cluster must not render a release anew, nor with it the passwords that its templates draw.
    pub fn key(&self) -> Digest {
        let Owner { cluster, unit } = &self.owner;
        let mut owner = json!({ "cluster": cluster.as_str(), "unit": unit.to_string() });
        if !self.without.is_empty() {
            owner["without"] = self.without.iter().map(ToString::to_string).collect();
        }
        Digest::of_parts([self.key_of_all().as_bytes().as_slice(), owner.to_string().as_bytes()])
    }

    /// The key that an answer had before keys named an owner. What runs under it stays what it is.
    pub fn key_of_all(&self) -> Digest {
        // Keys of mappings come out sorted, so equal values are equal text.
        let mut said = json!({
            "name": self.name.as_str(),
            "namespace": self.namespace.as_str(),
            "values": self.values,
            "defaults": self.chart.default_values,
            "crds": self.crds,
            "noHooks": self.no_hooks,
            "skipSchema": self.skip_schema,
        });
        if let Some(again) = &self.again {
            said["again"] = again.as_str().into();
        }
        Digest::of_parts([self.chart.digest.as_bytes().as_slice(), said.to_string().as_bytes()])
    }

    /// The same for all clusters in which helm answers this unit alike, if the chart draws nothing at random. Other units that
    /// ask the same may be another tenant's, and nobody sees all ways in which a chart may draw.
    pub fn question(&self) -> Digest {
        let Capabilities { kube_version, api_versions } = &self.capabilities;
        let apis: Vec<&str> = api_versions.iter().map(ApiVersion::as_str).collect();
        let unit = self.owner.unit.to_string();
        let told = json!({ "kubernetes": kube_version.as_str(), "apis": apis, "unit": unit }).to_string();
        Digest::of_parts([self.key_of_all().as_bytes().as_slice(), told.as_bytes()])
    }
}

/// What helm gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifests {
    /// As `helm template` prints them, hooks among them.
    pub text: String,
    /// Whether another run with the same question could give something else: a password, a key, the time.
    pub draws: bool,
}

/// Why helm gave no manifests.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HelmError {
    /// The templates, the values or the schema: helm's own words.
    #[error("helm: {0}")]
    Template(String),
    /// It asks for objects of a cluster.
    #[error("{0}")]
    Lookup(String),
    #[error("helm was ended: it {0}")]
    Limit(String),
    #[error("the chart cannot be read: {0}")]
    Chart(String),
    /// Nothing is wrong with the release: worth another try.
    #[error("{0}")]
    Machine(String),
}

impl HelmError {
    /// The same without helm's own words: charts may say the values that they refuse, in any form.
    pub(super) fn without_values(self) -> Self {
        match self {
            Self::Template(said) => Self::Template(said::without_values(&said)),
            other => other,
        }
    }

    /// Whether the same request may do better later.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Machine(_))
    }
}

/// Renders charts.
pub trait Helm: Send + Sync {
    /// The manifests of a chart.
    ///
    /// # Errors
    /// What helm refuses, and what the machine lacks.
    fn template(&self, request: &TemplateRequest) -> Result<Manifests, HelmError>;

    /// Nothing more is asked for now: lets go of what was kept for the next run.
    fn rest(&self) {}

    /// Ends what is running; what is asked from now on fails.
    fn stop(&self) {}
}

/// Manifests that helm has given, by [`TemplateRequest::key`].
pub trait Renders: Send + Sync {
    /// `None`: helm has to be run. An error says why there is nothing to be used.
    fn get(&self, key: Digest) -> Option<Result<Arc<str>, String>>;

    /// Whether a unit runs what is kept under a key.
    fn runs(&self, _unit: &UnitId, _key: Digest) -> bool {
        false
    }

    /// Whether helm is at work on the answer.
    fn is_pending(&self, _key: Digest) -> bool {
        false
    }

    /// The digest of what [`Renders::get`] gives, for less where it is known; and whether it may be used at all.
    fn content(&self, key: Digest) -> Option<Result<Digest, String>> {
        Some(self.get(key)?.map(|text| Digest::of(text.as_bytes())))
    }
}

/// Where helm never runs.
#[derive(Debug, Clone, Copy)]
pub struct NothingRendered;

impl Renders for NothingRendered {
    fn get(&self, _: Digest) -> Option<Result<Arc<str>, String>> {
        None
    }
}
