//! What a build needs from outside, and how the caller gives it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::files::{Files, TreePath};

/// Something that only the caller can fetch.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Request {
    /// A remote base or file, as written in the kustomization: a Git URL with an optional path and
    /// `?ref=`, or the address of a file.
    Remote(String),
    /// A Helm chart to render.
    Helm(Box<HelmRequest>),
}

/// An entry of `helmCharts`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct HelmRequest {
    pub name: String,
    pub version: String,
    pub repo: String,
    pub release_name: String,
    pub namespace: String,
    pub name_template: String,
    /// Values as YAML texts, in the order in which Helm takes them: later ones win.
    pub values: Vec<String>,
    /// As written: `values` are in its order already.
    pub values_merge: String,
    pub include_crds: bool,
    pub skip_hooks: bool,
    pub skip_tests: bool,
    pub devel: bool,
    pub api_versions: Vec<String>,
    pub kube_version: String,
    /// The folder of charts in the tree; a chart that is there needs no download.
    pub chart_home: String,
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Request::Remote(url) => write!(f, "the remote base or file '{url}'"),
            Request::Helm(chart) => write!(f, "the Helm chart '{}' rendered", chart.name),
        }
    }
}

/// The answer to a [`Request`].
#[derive(Clone)]
pub enum Answer {
    /// A folder in a tree: `root` is built with what is in `files`.
    Tree { files: Arc<dyn Files>, root: TreePath },
    /// The text of a file, or the manifests that Helm rendered.
    Text(Arc<str>),
}

/// Answers by request.
pub type Answers = BTreeMap<Request, Answer>;
