//! A Flux `HelmRelease`, read field by field. What only matters to a release's life in the cluster (remediation,
//! rollback, tests) is read by [`super::options`], and a notice where the release is applied as objects; a field that would change objects and is not supported is a
//! problem. Source of behaviour: the CRD of `helm.toolkit.fluxcd.io/v2` and helm-controller 1.6.

use std::collections::BTreeSet;

use flotilla_core::UnitId;
use flotilla_core::ignore::IgnoreRule;
use flotilla_core::names::is_dns_subdomain;
use flotilla_core::report::Problem;
use flotilla_core::source::{HelmChart, Source, SourceId, SourceKind, SourceSpec};
use flotilla_core::unit::{DriftMode, ReleaseSpec, UnitSpec};
use flotilla_kustomize::files::TreePath;
use flotilla_yaml::Node;
use serde_json::{Map, Value};

use super::names::{Namespace, ReleaseName};
use super::options::{self, Installed};
use crate::content::{Content, Definition};
use crate::field::{Field, Object, Places, Wrong};
use crate::flux::kustomization::{Dependencies, account, dependencies, health_exprs, ignore_rules};
use crate::flux::sources::{CHART_SOURCES, chart};
use crate::flux::{allowed_namespaces, own_drift};
use crate::overlay;

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

const KNOWN: &[&str] = &[
    "chart",
    "chartRef",
    "commonMetadata",
    "dependsOn",
    "driftDetection",
    "healthCheckExprs",
    "install",
    "interval",
    "kubeConfig",
    "maxHistory",
    "persistentClient",
    "postRenderStrategy",
    "postRenderers",
    "releaseName",
    "rollback",
    "serviceAccountName",
    "storageNamespace",
    "suspend",
    "targetNamespace",
    "test",
    "timeout",
    "uninstall",
    "upgrade",
    "values",
    "valuesFrom",
    "waitStrategy",
];

const INSTALL: &[&str] = &[
    "crds",
    "createNamespace",
    "disableHooks",
    "disableOpenAPIValidation",
    "disableSchemaValidation",
    "disableTakeOwnership",
    "disableWait",
    "disableWaitForJobs",
    "remediation",
    "replace",
    "serverSideApply",
    "skipCRDs",
    "strategy",
    "timeout",
];

const UPGRADE: &[&str] = &[
    "chartNameChangeStrategy",
    "cleanupOnFail",
    "crds",
    "disableHooks",
    "disableOpenAPIValidation",
    "disableSchemaValidation",
    "disableTakeOwnership",
    "disableWait",
    "disableWaitForJobs",
    "force",
    "preserveValues",
    "remediation",
    "serverSideApply",
    "strategy",
    "timeout",
];

struct Reader<'a> {
    id: &'a UnitId,
    again: Option<String>,
    absent: BTreeSet<String>,
    /// Of a version before v2, whose fields are read as they were.
    is_old: bool,
    /// What the annotation [`RELEASE`] says.
    installs: bool,
    notices: Vec<Wrong>,
}

impl Reader<'_> {
    fn release(&mut self, spec: &Field<'_>, at: &(String, u32)) -> Read<(Definition, Option<Source>)> {
        let object = spec.object(KNOWN)?;
        if let Some(field) = object.get("kubeConfig") {
            return Err(field.wrong("is not supported: each cluster has an agent of its own"));
        }
        let (install, upgrade) = (part(&object, "install", INSTALL)?, part(&object, "upgrade", UPGRADE)?);
        let interval = object.need("interval")?.seconds()?;
        let timeout = object.get("timeout").map_or(Ok(300), Field::seconds)?;
        let either = |name: &str| -> Read<bool> { Ok(install.bool(name)? || upgrade.bool(name)?) };
        let both = |name: &str| -> Read<bool> { Ok(install.bool(name)? && upgrade.bool(name)?) };
        let installed = match self.installs {
            true => {
                let home = object.field.so(self.id.namespace.parse::<Namespace>())?;
                let parts = (&install, &upgrade);
                Some(options::read(&object, parts, timeout, home, &mut self.notices)?)
            }
            false => {
                self.notices.extend(without_effect(&object, &install, &upgrade));
                None
            }
        };
        let (source, chart, implied) = self.chart(&object, interval)?;
        let target = object.get("targetNamespace");
        let namespace = match &target {
            Some(target) => target.so(target.text()?.parse::<Namespace>())?,
            None => object.field.so(self.id.namespace.parse::<Namespace>())?,
        };
        let mut post_renderers = Vec::new();
        for renderer in object.get("postRenderers").map(Field::items).transpose()?.unwrap_or_default() {
            if let Some(kustomize) = renderer.object(&["kustomize"])?.get("kustomize") {
                let old: &[&str] = &["patches", "images", "patchesStrategicMerge", "patchesJson6902"];
                let known = if self.is_old { old } else { &old[..2] };
                post_renderers.push(checked_overlay(kustomize, known)?);
            }
        }
        if let Some(common) = object.get("commonMetadata") {
            let mut only = Node::map();
            if let Some(map) = only.as_map_mut() {
                map.insert("commonMetadata", common.node.clone());
            }
            post_renderers.push(checked_overlay(&Field::new(&only, "spec"), &["commonMetadata"])?);
        }
        let release = Release {
            name: self.name(&object, target.is_some().then_some(&namespace))?,
            create_namespace: self.create_namespace(&install, target.is_some())?,
            namespace,
            chart: chart.path,
            values_files: chart.values_files,
            ignore_missing_values_files: chart.ignore_missing,
            values_from: object
                .get("valuesFrom")
                .map(Field::items)
                .transpose()?
                .unwrap_or_default()
                .iter()
                .map(values_from)
                .collect::<Read<_>>()?,
            absent: self.absent.clone(),
            values: object.get("values").map(values).transpose()?.unwrap_or_default(),
            from_secrets: false,
            crds: crds(&install, &upgrade)?,
            no_hooks: both("disableHooks")?,
            skip_schema: either("disableSchemaValidation")?,
            again: self.again.clone(),
            post_renderers,
            installed,
        };
        let (drift, ignore) = drift(&object)?;
        let (depends_on, ready_exprs) = self.depends_on(&object)?;
        let health_check_exprs = object.get("healthCheckExprs").map(health_exprs).transpose()?;
        let spec = UnitSpec {
            depends_on,
            ready_exprs,
            health_check_exprs: health_check_exprs.unwrap_or_default(),
            prune: true,
            wait: !both("disableWait")?,
            force: upgrade.bool("force")?,
            suspend: object.bool("suspend")?,
            timeout,
            interval,
            drift: DriftMode::Report,
            ignore,
            ..UnitSpec::default()
        };
        let definition = Definition {
            id: self.id.clone(),
            spec,
            drift,
            source,
            path: release.chart.clone(),
            overlay: Node::map(),
            post_build: None,
            release: Some(release.into()),
            service_account: object.get("serviceAccountName").map_or(Ok(None), account)?,
            namespaces: BTreeSet::new(),
            file: at.0.clone(),
            line: at.1,
            object: None,
        };
        Ok((definition, implied))
    }

    /// As helm-controller names a release whose object does not. A name that the object gives is never shortened: the
    /// API server takes none that is too long.
    fn name(&self, object: &Object<'_>, target: Option<&Namespace>) -> Read<ReleaseName> {
        if let Some(field) = object.get("releaseName") {
            return field.so(field.text()?.parse());
        }
        let name = match target {
            Some(target) => format!("{target}-{}", self.id.name),
            None => self.id.name.clone(),
        };
        let named = ReleaseName::shortened(&name);
        named.map_err(|error| object.field.wrong(format!("{error}; or set spec.releaseName")))
    }

    /// As helm-controller: without `targetNamespace` the release goes where its own object already is.
    fn create_namespace(&mut self, install: &Object<'_>, is_elsewhere: bool) -> Read<bool> {
        let create = install.bool("createNamespace")?;
        if let (true, false, Some(field)) = (create, is_elsewhere, install.get("createNamespace")) {
            self.notices.push(field.wrong("has no effect without targetNamespace"));
        }
        Ok(create && is_elsewhere)
    }

    /// The source of the chart, where it is in it, and the `HelmChart` that has to be made for it.
    fn chart(&mut self, object: &Object<'_>, interval: u32) -> Read<(SourceId, Place, Option<Source>)> {
        let (by_spec, by_ref) = (object.get("chart"), object.get("chartRef"));
        let by_spec = match (by_spec, by_ref) {
            (Some(chart), None) => chart,
            (None, Some(chart)) => {
                let kinds = [
                    ("OCIRepository", SourceKind::OciRepository),
                    ("HelmChart", SourceKind::HelmChart),
                    ("ExternalArtifact", SourceKind::ExternalArtifact),
                ];
                let chart = chart.object(&["apiVersion", "kind", "name", "namespace"])?;
                let namespace = chart.text("namespace")?.unwrap_or_else(|| self.id.namespace.clone());
                let kind = chart.need("kind")?.choice(&kinds)?;
                let source = SourceId::new(kind, namespace, chart.need("name")?.text()?);
                return Ok((source, Place::default(), None));
            }
            _ => return Err(object.field.wrong("needs one of spec.chart and spec.chartRef")),
        };
        let template = by_spec.object(&["metadata", "spec"])?;
        let known = [
            "chart",
            "ignoreMissingValuesFiles",
            "interval",
            "reconcileStrategy",
            "sourceRef",
            "valuesFile",
            "valuesFiles",
            "verify",
            "version",
        ];
        let fields = template.need("spec")?.object(&known)?;
        let first = fields.get("valuesFile");
        if let (Some(field), false) = (&first, self.is_old) {
            return Err(field.wrong("is a field of v2beta1 and v2beta2; name the file in valuesFiles"));
        }
        let from = fields.need("sourceRef")?.object(&["apiVersion", "kind", "name", "namespace"])?;
        let kind = from.need("kind")?.choice(&CHART_SOURCES)?;
        let namespace = from.text("namespace")?.unwrap_or_else(|| self.id.namespace.clone());
        let source = SourceId::new(kind, &namespace, from.need("name")?.text()?);
        let spec: HelmChart = chart(&fields, source.clone())?;
        // As source-controller merges it: before the others.
        let first = first.as_ref().map(|field| field.text()).transpose()?;
        let place = Place {
            path: TreePath::root(),
            values_files: first.into_iter().chain(spec.values_files.iter().cloned()).collect(),
            ignore_missing: spec.ignore_missing_values_files,
        };
        if kind != SourceKind::HelmRepository {
            let field = fields.need("chart")?;
            if let Some(verify) = fields.get("verify") {
                return Err(verify.wrong("signatures of charts are not verified yet"));
            }
            let path = field.so(TreePath::from_root(spec.chart.trim_start_matches("./")))?;
            return Ok((source, Place { path, ..place }, None));
        }
        let id = SourceId::new(
            SourceKind::HelmChart,
            namespace,
            format!("{}-{}", self.id.namespace, self.id.name),
        );
        let interval = fields.get("interval").map_or(Ok(interval), Field::seconds)?;
        // The values files are merged where the chart is rendered.
        let spec = HelmChart { values_files: Vec::new(), ignore_missing_values_files: false, ..spec };
        let spec = SourceSpec::HelmChart(spec);
        let implied = Source { id: id.clone(), interval, timeout: 60, suspend: false, spec };
        Ok((id, place, Some(implied)))
    }

    fn depends_on(&self, object: &Object<'_>) -> Read<Dependencies> {
        let Some(field) = object.get("dependsOn") else { return Ok(Dependencies::default()) };
        dependencies(field, &self.id.namespace, UnitId::helm_release)
    }
}

/// The fields that only matter to a release's life in the cluster.
fn without_effect(object: &Object<'_>, install: &Object<'_>, upgrade: &Object<'_>) -> Vec<Wrong> {
    let of_release = [
        "maxHistory",
        "persistentClient",
        "postRenderStrategy",
        "rollback",
        "storageNamespace",
        "test",
        "uninstall",
        "waitStrategy",
    ];
    let of_action = [
        "chartNameChangeStrategy",
        "cleanupOnFail",
        "disableOpenAPIValidation",
        "disableTakeOwnership",
        "disableWaitForJobs",
        "preserveValues",
        "remediation",
        "replace",
        "serverSideApply",
        "strategy",
        "timeout",
    ];
    let fields = of_release.iter().filter_map(|name| object.get(name));
    let parts = [install, upgrade].into_iter();
    let fields = fields.chain(parts.flat_map(|part| of_action.iter().filter_map(|name| part.get(name))));
    fields.map(|field| field.wrong("has no effect: the release is applied as objects")).collect()
}

/// Where a chart and its values are in a source.
struct Place {
    path: TreePath,
    values_files: Vec<String>,
    ignore_missing: bool,
}

impl Default for Place {
    fn default() -> Self {
        Self { path: TreePath::root(), values_files: Vec::new(), ignore_missing: false }
    }
}

fn part<'a>(object: &Object<'a>, name: &str, known: &[&str]) -> Read<Object<'a>> {
    match object.get(name) {
        Some(field) => field.object(known),
        None => Ok(Object::empty(name)),
    }
}

/// What drift detection asks for. `disabled` asks for nothing: drift is reported, unless the cluster ignores it.
fn drift(object: &Object<'_>) -> Read<(Option<DriftMode>, Vec<IgnoreRule>)> {
    let Some(field) = object.get("driftDetection") else { return Ok((None, Vec::new())) };
    let detection = field.object(&["ignore", "mode"])?;
    let modes =
        [("enabled", Some(DriftMode::Correct)), ("warn", Some(DriftMode::Report)), ("disabled", None)];
    let mode = detection.get("mode").map_or(Ok(None), |mode| mode.choice(&modes))?;
    Ok((mode, detection.get("ignore").map(ignore_rules).transpose()?.unwrap_or_default()))
}

/// One policy out of two: what an upgrade would do counts, and an install makes what is not there.
fn crds(install: &Object<'_>, upgrade: &Object<'_>) -> Read<Crds> {
    let choices = [("Skip", Crds::Skip), ("Create", Crds::Create), ("CreateReplace", Crds::CreateReplace)];
    let of = |part: &Object<'_>, default| part.get("crds").map_or(Ok(default), |f| f.choice(&choices));
    let skip = install.bool("skipCRDs")? && install.get("crds").is_none();
    let at_install = if skip { Crds::Skip } else { of(install, Crds::Create)? };
    Ok(match (at_install, of(upgrade, Crds::Skip)?) {
        (_, Crds::CreateReplace) => Crds::CreateReplace,
        (Crds::Skip, Crds::Skip) => Crds::Skip,
        _ => Crds::Create,
    })
}

fn values(field: &Field<'_>) -> Read<Map<String, Value>> {
    let json = field.node.to_json().map_err(|error| field.wrong(error.message))?;
    match json {
        Value::Object(map) => Ok(map),
        Value::Null => Ok(Map::new()),
        _ => Err(field.wrong("must be a mapping")),
    }
}

fn values_from(field: &Field<'_>) -> Read<ValuesFrom> {
    let object = field.object(&["kind", "literal", "name", "optional", "targetPath", "valuesKey"])?;
    Ok(ValuesFrom {
        secret: object.need("kind")?.choice(&[("Secret", true), ("ConfigMap", false)])?,
        name: object.need("name")?.text()?,
        key: object.text("valuesKey")?.unwrap_or_else(|| "values.yaml".to_owned()),
        target_path: object.text("targetPath")?,
        optional: object.bool("optional")?,
        literal: object.bool("literal")?,
    })
}

/// An overlay whose fields have been read once, so that what is wrong is said at its place.
fn checked_overlay(field: &Field<'_>, known: &[&str]) -> Read<Node> {
    field.object(known)?;
    let mut read = flotilla_kustomize::FluxOverlay::default();
    for (name, field) in field.entries()? {
        overlay::read(&mut read, name, &field).unwrap_or(Ok(()))?;
    }
    Ok(field.node.clone())
}
