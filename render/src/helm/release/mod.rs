//! A Flux `HelmRelease`, read field by field. What only matters to a release's life in the cluster (remediation, rollback, tests) is
//! read by [`super::options`], and a notice where the release is applied as objects; a field that would change objects and is not
//! supported is a problem. Source of behaviour: the CRD of `helm.toolkit.fluxcd.io/v2` and helm-controller 1.6.

mod chart;
mod fields;
mod read;

use std::collections::BTreeSet;

use flotilla_core::UnitId;
use flotilla_core::names::is_dns_subdomain;
use flotilla_core::report::Problem;
use flotilla_core::source::Source;
use flotilla_core::unit::ReleaseSpec;
use flotilla_kustomize::files::TreePath;
use flotilla_yaml::Node;
use serde_json::{Map, Value};

use super::names::{Namespace, ReleaseName};
use super::options::Installed;
use crate::content::{Content, Definition};
use crate::field::{Field, Places, Wrong};
use crate::flux::{allowed_namespaces, own_drift};

use self::read::Reader;

type Read<T> = Result<T, Wrong>;

/// What a release renders, apart from its unit's policy.
#[derive(Debug, Clone, PartialEq)]
pub struct Release {
    /// Helm's name of the release.
    pub name: ReleaseName,
    /// The namespace that its objects go to.
    pub namespace: Namespace,
    /// `install.createNamespace`, where `targetNamespace` is set.
    pub create_namespace: bool,
    /// Where the chart is below its source; the root where the source is a chart.
    pub chart: TreePath,
    /// Files that are merged in place of the chart's own values.
    pub values_files: Vec<String>,
    pub ignore_missing_values_files: bool,
    /// In order, see [`super::values`].
    pub values_from: Vec<ValuesFrom>,
    /// The annotation [`ABSENT`].
    pub absent: BTreeSet<String>,
    pub values: Map<String, Value>,
    /// Values of Secrets stand in the definition itself.
    pub from_secrets: bool,
    pub crds: Crds,
    pub no_hooks: bool,
    pub skip_schema: bool,
    /// The annotation [`AGAIN`].
    pub again: Option<String>,
    /// Overlays that the manifests go through, one after the other, the common metadata last.
    pub post_renderers: Vec<Node>,
    /// It is installed as Helm does it; `None`: its objects are applied like others.
    pub installed: Option<Installed>,
}

/// This annotation of a HelmRelease says how the release is applied: `helm` installs it as Helm does, with records and hooks;
/// `objects`, what holds without it, applies the chart's objects like those of other units.
pub const RELEASE: &str = "flotilla.dev/release";

impl Release {
    /// What the agent installs of the content.
    pub(crate) fn spec(&self, content: &Content) -> Option<Box<ReleaseSpec>> {
        let (installed, packed) = (self.installed.as_ref()?, content.release.as_ref()?);
        Some(Box::new(ReleaseSpec {
            name: self.name.as_str().to_owned(),
            namespace: self.namespace.as_str().to_owned(),
            storage_namespace: installed.storage_namespace.as_str().to_owned(),
            content: packed.content.blob(),
            chart: packed.chart.blob(),
            options: installed.options.clone(),
        }))
    }
}

/// Another text in this annotation of a HelmRelease has helm render it anew.
pub const AGAIN: &str = "flotilla.dev/render";

/// This annotation of a HelmRelease names, as `Secret/NAME` or `ConfigMap/NAME` divided by commas, which of its optional
/// values no cluster has. Without that word they are not known to be absent.
pub const ABSENT: &str = "flotilla.dev/absent";

/// What becomes of the objects in a chart's `crds/`. They are never deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Crds {
    Skip,
    /// Made where they are not there, and left alone afterwards.
    #[default]
    Create,
    /// Kept as the chart has them.
    CreateReplace,
}

/// An entry of `valuesFrom`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValuesFrom {
    pub secret: bool,
    pub name: String,
    pub key: String,
    pub target_path: Option<String>,
    pub optional: bool,
    pub literal: bool,
}

/// What a HelmRelease object comes to.
pub(crate) struct ReadRelease {
    pub(crate) definition: Definition,
    /// The `HelmChart` that `spec.chart` stands for, where the chart comes from a HelmRepository.
    pub(crate) chart: Option<Source>,
    pub(crate) notices: Vec<Problem>,
}

/// Reads a `HelmRelease` that stands at `at` (file and line).
///
/// # Errors
/// The first thing that is wrong or that we don't support, with its place.
pub(crate) fn read(
    id: &UnitId,
    node: &Node,
    places: &Places<'_>,
    at: &(String, u32),
) -> Result<ReadRelease, Vec<Problem>> {
    let nothing = Node::map();
    let spec = Field::new(node.get("spec").unwrap_or(&nothing), "spec");
    let again =
        node.at(&["metadata", "annotations", AGAIN]).and_then(Node::text).map(|text| text.to_string());
    let absent = absent(node);
    let version = node.get("apiVersion").and_then(Node::text);
    let is_old =
        version.is_some_and(|version| version.ends_with("/v2beta1") || version.ends_with("/v2beta2"));
    let known = absent.clone().unwrap_or_default();
    let installs = installs(node);
    let mut reader = Reader {
        id,
        again,
        absent: known,
        is_old,
        installs: installs.clone().unwrap_or_default(),
        notices: Vec::new(),
    };
    let read =
        absent.and(installs).and_then(|_| reader.release(&spec, at)).and_then(|(definition, chart)| {
            let drift = own_drift(node)?.or(definition.drift);
            let namespaces = allowed_namespaces(node)?;
            Ok((Definition { drift, namespaces, ..definition }, chart))
        });
    let read = read.map_err(|wrong| vec![places.problem(wrong, at)]);
    let notices = reader.notices.into_iter().map(|wrong| places.problem(wrong, at).as_notice());
    read.map(|(definition, chart)| ReadRelease { definition, chart, notices: notices.collect() })
}

fn installs(node: &Node) -> Read<bool> {
    let Some(named) = node.at(&["metadata", "annotations", RELEASE]) else { return Ok(false) };
    let field = Field::new(named, format!("metadata.annotations.{RELEASE}"));
    field.choice(&[("helm", true), ("objects", false)])
}

fn absent(node: &Node) -> Read<BTreeSet<String>> {
    let Some(named) = node.at(&["metadata", "annotations", ABSENT]) else { return Ok(BTreeSet::new()) };
    let field = Field::new(named, format!("metadata.annotations.{ABSENT}"));
    let text = field.text()?;
    let name = |name: &str| match name.trim().split_once('/') {
        Some(("Secret" | "ConfigMap", object)) if is_dns_subdomain(object) => Ok(name.trim().to_owned()),
        _ => Err(field.wrong(format!("'{}' is not of the form Secret/NAME or ConfigMap/NAME", name.trim()))),
    };
    text.split(',').map(name).collect()
}
