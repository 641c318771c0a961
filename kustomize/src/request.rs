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

/// How `valuesInline` and the file of values meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum ValuesMerge {
    /// What is inline wins.
    #[default]
    Override,
    /// The file wins.
    Merge,
    /// Only what is inline counts.
    Replace,
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
    /// The text of the `valuesFile`; `None` for the chart's own `values.yaml`. See [`HelmRequest::values`].
    pub values_file: Option<String>,
    /// `valuesInline` as YAML, where there are any.
    pub values_inline: Option<String>,
    pub values_merge: ValuesMerge,
    /// The texts of the `additionalValuesFiles`.
    pub additional_values: Vec<String>,
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
            Request::Remote(url) => write!(f, "the remote base or file '{}'", without_secrets(url)),
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

/// A remote address without what may be a password: the user, and what `?` begins but for kustomize's own words.
pub fn without_secrets(address: &str) -> String {
    let (place, query) =
        address.split_once('?').map_or((address, None), |(place, query)| (place, Some(query)));
    let place = match place.split_once("://") {
        Some((scheme, rest)) if rest.contains('@') => {
            format!("{scheme}://***@{}", rest.rsplit('@').next().unwrap_or_default())
        }
        _ => place.to_owned(),
    };
    let Some(query) = query else { return place };
    let shown = query.split('&').map(|pair| match pair.split_once('=') {
        Some(("ref" | "version" | "submodules" | "timeout", _)) | None => pair.to_owned(),
        Some((key, _)) => format!("{key}=***"),
    });
    format!("{place}?{}", shown.collect::<Vec<_>>().join("&"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_show_no_secrets() {
        for (address, shown) in [
            ("https://h/o/r//a?ref=v1&timeout=5", "https://h/o/r//a?ref=v1&timeout=5"),
            ("https://u:p@ss@h/o/r?token=x&ref=v1", "https://***@h/o/r?token=***&ref=v1"),
            ("https://t0ken@h/o/r", "https://***@h/o/r"),
            ("git@h:o/r", "git@h:o/r"),
        ] {
            assert_eq!(without_secrets(address), shown);
            let request = Request::Remote(address.to_owned()).to_string();
            assert_eq!(request, format!("the remote base or file '{shown}'"));
        }
    }
}
