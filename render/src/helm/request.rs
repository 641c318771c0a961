//! What is asked of helm, and under which key the answer is kept.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use flotilla_core::{Digest, UnitId};
use flotilla_kustomize::files::{Files, TreePath};
use serde_json::{Map, Value, json};

use super::names::{ApiVersion, KubeVersion, Namespace, ReleaseName};

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

/// One run of `helm template`.
#[derive(Clone, PartialEq)]
pub struct TemplateRequest {
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
    /// What of the values comes from Secrets: nobody is told.
    pub hidden: Hidden,
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

/// Texts that stand in Secrets.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Hidden(BTreeSet<String>);

/// What is shorter stands in texts that tell nothing of it.
const HIDDEN_FROM: usize = 4;

impl Hidden {
    /// Hides every scalar of a value, and every line of one.
    pub fn add(&mut self, value: &Value) {
        match value {
            Value::Object(map) => map.values().for_each(|value| self.add(value)),
            Value::Array(list) => list.iter().for_each(|value| self.add(value)),
            Value::String(text) => self.add_text(text),
            Value::Number(number) => self.add_text(&number.to_string()),
            Value::Bool(_) | Value::Null => {}
        }
    }

    /// Hides a text, and every line of it.
    pub fn add_text(&mut self, text: &str) {
        for part in text.lines().map(str::trim).chain([text]) {
            // As programs quote it, too.
            let quoted = Value::from(part).to_string();
            for form in [part, &quoted[1..quoted.len() - 1]] {
                if form.chars().count() >= HIDDEN_FROM {
                    self.0.insert(form.to_owned());
                }
            }
        }
    }

    /// A text without them.
    pub fn out_of(&self, text: String) -> String {
        let mut parts: Vec<&String> = self.0.iter().collect();
        // One may be a part of another.
        parts.sort_by_key(|part| std::cmp::Reverse(part.len()));
        parts.into_iter().fold(text, |text, part| text.replace(part.as_str(), "(hidden)"))
    }
}

impl TemplateRequest {
    /// What the answer is kept under: everything that may change it but the capabilities. A new API in the cluster
    /// must not render a release anew, nor with it the passwords that its templates draw.
    pub fn key(&self) -> Digest {
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
    /// The same without what stands in Secrets: charts may say the values that they refuse.
    pub(super) fn without(self, hidden: &Hidden) -> Self {
        match self {
            Self::Template(said) => Self::Template(hidden.out_of(said)),
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
    /// The manifests of a chart, hooks among them, as `helm template` prints them.
    ///
    /// # Errors
    /// What helm refuses, and what the machine lacks.
    fn template(&self, request: &TemplateRequest) -> Result<String, HelmError>;

    /// Nothing more is asked for now: lets go of what was kept for the next run.
    fn rest(&self) {}

    /// Ends what is running; what is asked from now on fails.
    fn stop(&self) {}
}

/// Manifests that helm has given, by [`TemplateRequest::key`].
pub trait Renders: Send + Sync {
    /// `None`: helm has to be run. An error says why there is nothing to be used.
    fn get(&self, key: Digest) -> Option<Result<Arc<str>, String>>;

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_in_secrets_is_not_told() {
        let mut hidden = Hidden::default();
        hidden.add(&json!({"auth": {"password": "hunter2", "pin": 123456, "on": true}, "keys": ["a\nsecond line", "ab"]}));
        hidden.add_text("hunter2-long\"");
        for (said, told) in [
            ("auth.password: hunter2 does not match", "auth.password: (hidden) does not match"),
            ("123456 is too large, true too", "(hidden) is too large, true too"),
            ("at \"second line\": ab", "at \"(hidden)\": ab"),
            (r#"fail "hunter2-long\"""#, r#"fail "(hidden)""#),
            ("nothing of it", "nothing of it"),
        ] {
            assert_eq!(hidden.out_of(said.to_owned()), told);
        }
    }
}
