//! The kustomization file, as typed values with positions.

use std::collections::BTreeMap;

use flotilla_yaml::{Node, Pos};

use crate::decode::{
    self, Text, Unknown, boolean, fields, int, list, nest, string, string_map, strings, text, texts,
};
use crate::error::{Fail, Res};
use crate::fieldspec::FieldSpec;
use crate::gvk::{Gvk, ResId};

/// A kustomization or component; deprecated fields are folded into their successors, as kustomize does.
#[derive(Debug, Clone, Default)]
pub(crate) struct Kustomization {
    pub(crate) api_version: Text,
    pub(crate) kind: Text,
    pub(crate) openapi: BTreeMap<String, Text>,
    pub(crate) name_prefix: Text,
    pub(crate) name_suffix: Text,
    pub(crate) namespace: Text,
    pub(crate) common_labels: BTreeMap<String, String>,
    pub(crate) labels: Vec<Label>,
    pub(crate) common_annotations: BTreeMap<String, String>,
    pub(crate) patches_strategic_merge: Vec<Text>,
    pub(crate) patches_json6902: Vec<Patch>,
    pub(crate) patches: Vec<Patch>,
    pub(crate) images: Vec<Image>,
    pub(crate) replacements: Vec<ReplacementField>,
    pub(crate) replicas: Vec<Replica>,
    pub(crate) vars: Vec<Var>,
    pub(crate) sort_options: Option<SortOptions>,
    pub(crate) resources: Vec<Text>,
    pub(crate) components: Vec<Text>,
    pub(crate) crds: Vec<Text>,
    pub(crate) config_map_generator: Vec<GeneratorArgs>,
    pub(crate) secret_generator: Vec<GeneratorArgs>,
    pub(crate) generator_options: Option<GeneratorOptions>,
    pub(crate) helm_charts: Vec<HelmChart>,
    pub(crate) helm_chart_home: String,
    pub(crate) configurations: Vec<Text>,
    pub(crate) generators: Vec<Text>,
    pub(crate) transformers: Vec<Text>,
    pub(crate) validators: Vec<Text>,
    pub(crate) build_metadata: Vec<String>,
    /// What `kustomize` would print to stderr about fields that have a successor.
    pub(crate) deprecated: Vec<&'static str>,
    /// Whether nothing but apiVersion and kind was there.
    pub(crate) empty: bool,
}

pub(crate) const COMPONENT: &str = "Component";
const KUSTOMIZATION: &str = "Kustomization";
const VERSION: &str = "kustomize.config.k8s.io/v1beta1";
const COMPONENT_VERSION: &str = "kustomize.config.k8s.io/v1alpha1";

#[derive(Debug, Clone, Default)]
pub(crate) struct Label {
    pub(crate) pairs: BTreeMap<String, String>,
    pub(crate) include_selectors: bool,
    pub(crate) include_templates: bool,
    /// Newer than 5.8: without it, what `includeTemplates` says holds for claim templates too.
    pub(crate) include_volume_claim_templates: Option<bool>,
    pub(crate) fields: Vec<FieldSpec>,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Patch {
    pub(crate) pos: Pos,
    pub(crate) path: Text,
    pub(crate) patch: Text,
    pub(crate) target: Option<Selector>,
    pub(crate) allow_name_change: bool,
    pub(crate) allow_kind_change: bool,
}

/// Which resources something applies to. Names, namespaces, groups, versions and kinds are anchored regexes
/// in patches and replacement targets.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Selector {
    pub group: String,
    pub version: String,
    pub kind: String,
    pub name: String,
    pub namespace: String,
    pub annotation_selector: String,
    pub label_selector: String,
}

/// What to make of an image.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Image {
    pub name: String,
    pub new_name: String,
    pub tag_suffix: String,
    pub new_tag: String,
    pub digest: String,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Replica {
    pub(crate) name: String,
    pub(crate) count: i64,
    pub(crate) pos: Pos,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct ReplacementField {
    pub(crate) path: Text,
    pub(crate) replacement: Replacement,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Replacement {
    pub(crate) pos: Pos,
    pub(crate) source: Option<Source>,
    pub(crate) source_value: Option<Node>,
    pub(crate) targets: Option<Vec<Target>>,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Source {
    pub(crate) id: ResId,
    pub(crate) field_path: String,
    pub(crate) options: Option<FieldOptions>,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Target {
    pub(crate) select: Option<Selector>,
    pub(crate) reject: Vec<Selector>,
    pub(crate) field_paths: Vec<String>,
    pub(crate) options: Option<FieldOptions>,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct FieldOptions {
    pub(crate) delimiter: String,
    pub(crate) index: i64,
    pub(crate) create: bool,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Var {
    pub(crate) name: String,
    pub(crate) object: ResId,
    pub(crate) field_path: String,
    pub(crate) pos: Pos,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct SortOptions {
    pub(crate) order: String,
    /// `orderFirst` and `orderLast`.
    pub(crate) legacy: Option<(Vec<String>, Vec<String>)>,
    pub(crate) pos: Pos,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct GeneratorArgs {
    pub(crate) pos: Pos,
    pub(crate) name: String,
    pub(crate) namespace: String,
    pub(crate) behavior: String,
    pub(crate) secret_type: String,
    pub(crate) literals: Vec<Text>,
    pub(crate) files: Vec<Text>,
    pub(crate) envs: Vec<Text>,
    pub(crate) options: Option<GeneratorOptions>,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct GeneratorOptions {
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) annotations: BTreeMap<String, String>,
    pub(crate) disable_name_suffix_hash: bool,
    pub(crate) immutable: bool,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct HelmChart {
    pub(crate) pos: Pos,
    pub(crate) request: crate::request::HelmRequest,
    pub(crate) values_file: Text,
    pub(crate) additional_values_files: Vec<Text>,
    pub(crate) values_inline: Option<Node>,
}

const FIELDS: [&str; 37] = [
    "apiVersion",
    "kind",
    "metadata",
    "openapi",
    "namePrefix",
    "nameSuffix",
    "namespace",
    "commonLabels",
    "labels",
    "commonAnnotations",
    "patchesStrategicMerge",
    "patchesJson6902",
    "patches",
    "images",
    "imageTags",
    "replacements",
    "replicas",
    "vars",
    "sortOptions",
    "resources",
    "components",
    "crds",
    "bases",
    "configMapGenerator",
    "secretGenerator",
    "helmGlobals",
    "helmCharts",
    "helmChartInflationGenerator",
    "generatorOptions",
    "configurations",
    "generators",
    "transformers",
    "validators",
    "buildMetadata",
    "inventory",
    "commonMetadata",
    "$schema",
];

impl Kustomization {
    /// Reads a kustomization file's document.
    pub(crate) fn read(document: &Node) -> Res<Self> {
        let mut k = Kustomization { empty: true, ..Self::default() };
        let strict = Unknown::Refuse;
        let (mut bases, mut image_tags) = (Vec::new(), Vec::new());
        let known = &FIELDS[..34];
        for (name, node) in fields(document, known, strict).map_err(|e| e.context("invalid Kustomization"))? {
            let mut read = |k: &mut Kustomization| -> Res<()> {
                match name {
                    "apiVersion" => k.api_version = text(node, strict)?,
                    "kind" => k.kind = text(node, strict)?,
                    "metadata" => {
                        let known = ["name", "namespace", "labels", "annotations"];
                        fields(node, &known, strict)?;
                    }
                    "openapi" => {
                        for (key, value) in string_map(node, strict)? {
                            let pos = node.get(&key).map_or(node.pos, |n| n.pos);
                            k.openapi.insert(key, Text { text: value, pos });
                        }
                    }
                    "namePrefix" => k.name_prefix = text(node, strict)?,
                    "nameSuffix" => k.name_suffix = text(node, strict)?,
                    "namespace" => k.namespace = text(node, strict)?,
                    "commonLabels" => k.common_labels = string_map(node, strict)?,
                    "labels" => k.labels = list(node, |n| Label::read(n, strict))?,
                    "commonAnnotations" => k.common_annotations = string_map(node, strict)?,
                    "patchesStrategicMerge" => k.patches_strategic_merge = texts(node, strict)?,
                    "patchesJson6902" => k.patches_json6902 = list(node, |n| Patch::read(n, strict))?,
                    "patches" => k.patches = list(node, |n| Patch::read(n, strict))?,
                    "images" => k.images = list(node, |n| Image::read(n, strict))?,
                    "imageTags" => image_tags = list(node, |n| Image::read(n, strict))?,
                    "replacements" => k.replacements = list(node, |n| ReplacementField::read(n, strict))?,
                    "replicas" => k.replicas = list(node, |n| Replica::read(n, strict))?,
                    "vars" => k.vars = list(node, |n| Var::read(n, strict))?,
                    "sortOptions" => k.sort_options = Some(SortOptions::read(node, strict)?),
                    "resources" => k.resources = texts(node, strict)?,
                    "components" => k.components = texts(node, strict)?,
                    "crds" => k.crds = texts(node, strict)?,
                    "bases" => bases = texts(node, strict)?,
                    "configMapGenerator" => {
                        k.config_map_generator = list(node, |n| GeneratorArgs::read(n, strict))?
                    }
                    "secretGenerator" => k.secret_generator = list(node, |n| GeneratorArgs::read(n, strict))?,
                    "helmGlobals" => {
                        for (name, node) in fields(node, &["chartHome", "configHome"], strict)? {
                            if name == "chartHome" {
                                k.helm_chart_home = string(node, strict)?;
                            }
                        }
                    }
                    "helmCharts" => k.helm_charts.extend(list(node, |n| HelmChart::read(n, strict))?),
                    "helmChartInflationGenerator" => {
                        k.helm_charts.extend(list(node, |n| HelmChart::read_old(n, strict))?);
                    }
                    "generatorOptions" => k.generator_options = Some(GeneratorOptions::read(node, strict)?),
                    "configurations" => k.configurations = texts(node, strict)?,
                    "generators" => k.generators = texts(node, strict)?,
                    "transformers" => k.transformers = texts(node, strict)?,
                    "validators" => k.validators = texts(node, strict)?,
                    "buildMetadata" => k.build_metadata = strings(node, strict)?,
                    _ => unreachable!("not in the list of fields"),
                }
                Ok(())
            };
            read(&mut k).map_err(|e| nest(e, name).at(node.pos).context("invalid Kustomization"))?;
            if !matches!(name, "apiVersion" | "kind") && node.text() != Some("") {
                k.empty = false;
            }
            k.deprecated.extend(deprecation(name));
        }
        k.resources.append(&mut bases);
        k.images.append(&mut image_tags);
        if k.kind.text.is_empty() {
            k.kind.text = KUSTOMIZATION.into();
        }
        Ok(k)
    }

    pub(crate) fn is_component(&self) -> bool {
        self.kind.text == COMPONENT
    }

    /// Checks kind and apiVersion.
    pub(crate) fn check(&self, folder: &str) -> Res<()> {
        let mut errors = Vec::new();
        let (kind, version) = (&self.kind, &self.api_version);
        if kind.text != KUSTOMIZATION && kind.text != COMPONENT {
            errors.push(format!("kind should be {KUSTOMIZATION} or {COMPONENT}"));
        }
        let required = if self.is_component() { COMPONENT_VERSION } else { VERSION };
        if !version.text.is_empty() && version.text != required {
            errors.push(format!("apiVersion for {} should be {required}", kind.text));
        }
        if errors.is_empty() {
            return Ok(());
        }
        let list = errors.join("\n");
        let message = format!("Failed to read kustomization file under {folder}:\n{list}");
        Err(Fail::new(message).at(if version.text.is_empty() { kind.pos } else { version.pos }))
    }
}

/// kustomize's warning for a field that has a successor.
fn deprecation(name: &str) -> Option<&'static str> {
    Some(match name {
        "bases" => "'bases' is deprecated. Please use 'resources' instead.",
        "commonLabels" => "'commonLabels' is deprecated. Please use 'labels' instead.",
        "imageTags" => "'imageTags' is deprecated. Please use 'images' instead.",
        "patchesJson6902" => "'patchesJson6902' is deprecated. Please use 'patches' instead.",
        "patchesStrategicMerge" => "'patchesStrategicMerge' is deprecated. Please use 'patches' instead.",
        "vars" => "'vars' is deprecated. Please use 'replacements' instead.",
        _ => return None,
    })
}

/// Reads the fields of an object one by one; an error says which field it was.
pub(crate) fn each(
    node: &Node,
    known: &[&'static str],
    unknown: Unknown,
    mut read: impl FnMut(&'static str, &Node) -> Res<()>,
) -> Res<()> {
    for (name, value) in fields(node, known, unknown)? {
        read(name, value).map_err(|e| nest(e, name).at(value.pos))?;
    }
    Ok(())
}

impl Label {
    fn read(node: &Node, u: Unknown) -> Res<Self> {
        let mut label = Self::default();
        let known =
            ["pairs", "includeSelectors", "includeTemplates", "includeVolumeClaimTemplates", "fields"];
        each(node, &known, u, |name, n| {
            match name {
                "pairs" => label.pairs = string_map(n, u)?,
                "includeSelectors" => label.include_selectors = boolean(n)?,
                "includeTemplates" => label.include_templates = boolean(n)?,
                "includeVolumeClaimTemplates" => label.include_volume_claim_templates = Some(boolean(n)?),
                _ => label.fields = list(n, |n| FieldSpec::read(n, u))?,
            }
            Ok(())
        })?;
        Ok(label)
    }
}

impl Patch {
    pub(crate) fn read(node: &Node, u: Unknown) -> Res<Self> {
        let mut patch = Self { pos: node.pos, ..Self::default() };
        each(node, &["path", "patch", "target", "options"], u, |name, n| {
            match name {
                "path" => patch.path = text(n, u)?,
                "patch" => patch.patch = text(n, u)?,
                "target" => patch.target = Some(Selector::read(n, u)?),
                _ => {
                    each(n, &["allowNameChange", "allowKindChange"], u, |name, n| {
                        let value = boolean(n)?;
                        if name == "allowNameChange" {
                            patch.allow_name_change = value;
                        } else {
                            patch.allow_kind_change = value;
                        }
                        Ok(())
                    })?;
                }
            }
            Ok(())
        })?;
        Ok(patch)
    }
}

impl Selector {
    pub(crate) fn read(node: &Node, u: Unknown) -> Res<Self> {
        let mut s = Self::default();
        let known = ["group", "version", "kind", "name", "namespace", "annotationSelector", "labelSelector"];
        each(node, &known, u, |name, n| {
            let value = string(n, u)?;
            *match name {
                "group" => &mut s.group,
                "version" => &mut s.version,
                "kind" => &mut s.kind,
                "name" => &mut s.name,
                "namespace" => &mut s.namespace,
                "annotationSelector" => &mut s.annotation_selector,
                _ => &mut s.label_selector,
            } = value;
            Ok(())
        })?;
        Ok(s)
    }

    /// The selector's kind, name and namespace as an id.
    pub(crate) fn id(&self) -> ResId {
        let gvk = Gvk {
            group: self.group.as_str().into(),
            version: self.version.as_str().into(),
            kind: self.kind.as_str().into(),
        };
        ResId { gvk, name: self.name.as_str().into(), namespace: self.namespace.as_str().into() }
    }
}

impl Image {
    pub(crate) fn read(node: &Node, u: Unknown) -> Res<Self> {
        let mut image = Self::default();
        each(node, &["name", "newName", "tagSuffix", "newTag", "digest"], u, |name, n| {
            let value = string(n, u)?;
            *match name {
                "name" => &mut image.name,
                "newName" => &mut image.new_name,
                "tagSuffix" => &mut image.tag_suffix,
                "newTag" => &mut image.new_tag,
                _ => &mut image.digest,
            } = value;
            Ok(())
        })?;
        Ok(image)
    }
}

impl Replica {
    pub(crate) fn read(node: &Node, u: Unknown) -> Res<Self> {
        let mut replica = Self { pos: node.pos, ..Self::default() };
        each(node, &["name", "count"], u, |name, n| {
            match name {
                "name" => replica.name = string(n, u)?,
                _ => replica.count = int(n)?,
            }
            Ok(())
        })?;
        Ok(replica)
    }
}

impl ReplacementField {
    pub(crate) fn read(node: &Node, u: Unknown) -> Res<Self> {
        let mut r = Self::default();
        r.replacement.pos = node.pos;
        each(node, &["path", "source", "sourceValue", "targets"], u, |name, n| {
            match name {
                "path" => r.path = text(n, u)?,
                "source" => r.replacement.source = Some(Source::read(n, u)?),
                "sourceValue" => {
                    string(n, Unknown::Ignore)?;
                    r.replacement.source_value = Some(n.clone());
                }
                _ => r.replacement.targets = Some(list(n, |n| Target::read(n, u))?),
            }
            Ok(())
        })?;
        Ok(r)
    }
}

impl Source {
    fn read(node: &Node, u: Unknown) -> Res<Self> {
        let mut s = Self::default();
        let known = ["group", "version", "kind", "name", "namespace", "fieldPath", "options"];
        each(node, &known, u, |name, n| {
            match name {
                "group" => s.id.gvk.group = string(n, u)?.into(),
                "version" => s.id.gvk.version = string(n, u)?.into(),
                "kind" => s.id.gvk.kind = string(n, u)?.into(),
                "name" => s.id.name = string(n, u)?.into(),
                "namespace" => s.id.namespace = string(n, u)?.into(),
                "fieldPath" => s.field_path = string(n, u)?,
                _ => s.options = Some(FieldOptions::read(n, u)?),
            }
            Ok(())
        })?;
        Ok(s)
    }
}

impl Target {
    fn read(node: &Node, u: Unknown) -> Res<Self> {
        let mut t = Self::default();
        each(node, &["select", "reject", "fieldPaths", "options"], u, |name, n| {
            match name {
                "select" => t.select = Some(Selector::read(n, u)?),
                "reject" => t.reject = list(n, |n| Selector::read(n, u))?,
                "fieldPaths" => t.field_paths = strings(n, u)?,
                _ => t.options = Some(FieldOptions::read(n, u)?),
            }
            Ok(())
        })?;
        Ok(t)
    }
}

impl FieldOptions {
    fn read(node: &Node, u: Unknown) -> Res<Self> {
        let mut o = Self::default();
        each(node, &["delimiter", "index", "encoding", "create"], u, |name, n| {
            match name {
                "delimiter" => o.delimiter = string(n, u)?,
                "index" => o.index = int(n)?,
                "create" => o.create = boolean(n)?,
                _ => {
                    string(n, u)?;
                }
            }
            Ok(())
        })?;
        Ok(o)
    }
}

impl Var {
    fn read(node: &Node, u: Unknown) -> Res<Self> {
        let mut var = Self { pos: node.pos, field_path: "metadata.name".into(), ..Self::default() };
        each(node, &["name", "objref", "fieldref"], u, |name, n| {
            match name {
                "name" => var.name = string(n, u)?,
                "objref" => {
                    let known = ["apiVersion", "group", "version", "kind", "name", "namespace"];
                    let (id, mut api_version) = (&mut var.object, String::new());
                    each(n, &known, u, |name, n| {
                        let value = string(n, u)?;
                        match name {
                            "apiVersion" => api_version = value,
                            "group" => id.gvk.group = value.into(),
                            "version" => id.gvk.version = value.into(),
                            "kind" => id.gvk.kind = value.into(),
                            "name" => id.name = value.into(),
                            _ => id.namespace = value.into(),
                        }
                        Ok(())
                    })?;
                    if !api_version.is_empty() {
                        let kind = id.gvk.kind.clone();
                        let group = id.gvk.group.clone();
                        id.gvk = Gvk::new(&api_version, &kind);
                        if id.gvk.group.is_empty() {
                            id.gvk.group = group;
                        }
                    }
                }
                _ => each(n, &["fieldPath"], u, |_, n| {
                    let path = string(n, u)?;
                    if !path.is_empty() {
                        var.field_path = path;
                    }
                    Ok(())
                })?,
            }
            Ok(())
        })?;
        Ok(var)
    }
}

impl SortOptions {
    fn read(node: &Node, u: Unknown) -> Res<Self> {
        let mut s = Self { pos: node.pos, ..Self::default() };
        each(node, &["order", "legacySortOptions"], u, |name, n| {
            match name {
                "order" => s.order = string(n, u)?,
                _ => {
                    let (mut first, mut last) = (Vec::new(), Vec::new());
                    each(n, &["orderFirst", "orderLast"], u, |name, n| {
                        *(if name == "orderFirst" { &mut first } else { &mut last }) = strings(n, u)?;
                        Ok(())
                    })?;
                    s.legacy = Some((first, last));
                }
            }
            Ok(())
        })?;
        Ok(s)
    }
}

impl GeneratorOptions {
    fn read(node: &Node, u: Unknown) -> Res<Self> {
        let mut o = Self::default();
        each(node, &["labels", "annotations", "disableNameSuffixHash", "immutable"], u, |name, n| {
            match name {
                "labels" => o.labels = string_map(n, u)?,
                "annotations" => o.annotations = string_map(n, u)?,
                "disableNameSuffixHash" => o.disable_name_suffix_hash = boolean(n)?,
                _ => o.immutable = boolean(n)?,
            }
            Ok(())
        })?;
        Ok(o)
    }

    /// The generator's own options with the kustomization's below them.
    pub(crate) fn merged(own: Option<&Self>, global: Option<&Self>) -> Option<Self> {
        let (Some(global), own) = (global, own.cloned().unwrap_or_default()) else {
            return own.cloned();
        };
        let mut merged = own;
        for (key, value) in &global.labels {
            merged.labels.entry(key.clone()).or_insert_with(|| value.clone());
        }
        for (key, value) in &global.annotations {
            merged.annotations.entry(key.clone()).or_insert_with(|| value.clone());
        }
        merged.disable_name_suffix_hash |= global.disable_name_suffix_hash;
        merged.immutable |= global.immutable;
        Some(merged)
    }
}

impl GeneratorArgs {
    pub(crate) fn read(node: &Node, u: Unknown) -> Res<Self> {
        let mut g = Self { pos: node.pos, ..Self::default() };
        let known = [
            "name",
            "namespace",
            "behavior",
            "type",
            "literals",
            "files",
            "envs",
            "env",
            "options",
            "metadata",
        ];
        let (mut env, mut name_of_plugin, mut namespace_of_plugin) = (None, String::new(), String::new());
        each(node, &known[..if u == Unknown::Refuse { 9 } else { 10 }], u, |name, n| {
            match name {
                "name" => g.name = string(n, u)?,
                "namespace" => g.namespace = string(n, u)?,
                "behavior" => g.behavior = string(n, u)?,
                "type" => g.secret_type = string(n, u)?,
                "literals" => g.literals = texts(n, u)?,
                "files" => g.files = texts(n, u)?,
                "envs" => g.envs = texts(n, u)?,
                "env" => env = Some(text(n, u)?),
                "options" => g.options = Some(GeneratorOptions::read(n, u)?),
                _ => {
                    // As a resource of its own, the generator's name stands in its metadata.
                    name_of_plugin = n.get("name").map(|n| string(n, u)).transpose()?.unwrap_or_default();
                    namespace_of_plugin =
                        n.get("namespace").map(|n| string(n, u)).transpose()?.unwrap_or_default();
                }
            }
            Ok(())
        })?;
        g.envs.extend(env.filter(|e| !e.text.is_empty()));
        if g.name.is_empty() {
            g.name = name_of_plugin;
        }
        if g.namespace.is_empty() {
            g.namespace = namespace_of_plugin;
        }
        Ok(g)
    }
}

impl HelmChart {
    fn read(node: &Node, u: Unknown) -> Res<Self> {
        let mut h = Self { pos: node.pos, ..Self::default() };
        let known = [
            "name",
            "version",
            "repo",
            "releaseName",
            "namespace",
            "additionalValuesFiles",
            "valuesFile",
            "valuesInline",
            "valuesMerge",
            "includeCRDs",
            "skipHooks",
            "apiVersions",
            "kubeVersion",
            "nameTemplate",
            "skipTests",
            "debug",
            "devel",
        ];
        each(node, &known, u, |name, n| {
            let r = &mut h.request;
            match name {
                "name" => r.name = string(n, u)?,
                "version" => r.version = string(n, u)?,
                "repo" => r.repo = string(n, u)?,
                "releaseName" => r.release_name = string(n, u)?,
                "namespace" => r.namespace = string(n, u)?,
                "additionalValuesFiles" => h.additional_values_files = texts(n, u)?,
                "valuesFile" => h.values_file = text(n, u)?,
                "valuesInline" => h.values_inline = Some(n.clone()),
                "valuesMerge" => r.values_merge = string(n, u)?,
                "includeCRDs" => r.include_crds = boolean(n)?,
                "skipHooks" => r.skip_hooks = boolean(n)?,
                "apiVersions" => r.api_versions = strings(n, u)?,
                "kubeVersion" => r.kube_version = string(n, u)?,
                "nameTemplate" => r.name_template = string(n, u)?,
                "skipTests" => r.skip_tests = boolean(n)?,
                "devel" => r.devel = boolean(n)?,
                _ => {
                    boolean(n)?;
                }
            }
            Ok(())
        })?;
        Ok(h)
    }

    /// The form of `helmChartInflationGenerator`.
    fn read_old(node: &Node, u: Unknown) -> Res<Self> {
        let mut h = Self { pos: node.pos, ..Self::default() };
        let known = [
            "chartName",
            "chartVersion",
            "chartRepoUrl",
            "values",
            "valuesLocal",
            "valuesMerge",
            "releaseName",
            "releaseNamespace",
            "chartHome",
            "chartRepoName",
            "helmBin",
            "helmHome",
            "extraArgs",
        ];
        each(node, &known, u, |name, n| {
            let r = &mut h.request;
            match name {
                "chartName" => r.name = string(n, u)?,
                "chartVersion" => r.version = string(n, u)?,
                "chartRepoUrl" => r.repo = string(n, u)?,
                "values" => h.values_file = text(n, u)?,
                "valuesLocal" => h.values_inline = Some(n.clone()),
                "valuesMerge" => r.values_merge = string(n, u)?,
                "releaseName" => r.release_name = string(n, u)?,
                "releaseNamespace" => r.namespace = string(n, u)?,
                "chartHome" => r.chart_home = string(n, u)?,
                "extraArgs" => {
                    strings(n, u)?;
                }
                _ => {
                    string(n, u)?;
                }
            }
            Ok(())
        })?;
        Ok(h)
    }
}

impl FieldSpec {
    /// `{path, group, version, kind, create}`
    pub(crate) fn read(node: &Node, u: Unknown) -> Res<Self> {
        let (mut gvk, mut path, mut create) = (Gvk::default(), String::new(), false);
        each(node, &["group", "version", "kind", "path", "create"], u, |name, n| {
            match name {
                "group" => gvk.group = decode::string(n, u)?.into(),
                "version" => gvk.version = decode::string(n, u)?.into(),
                "kind" => gvk.kind = decode::string(n, u)?.into(),
                "path" => path = decode::string(n, u)?,
                _ => create = boolean(n)?,
            }
            Ok(())
        })?;
        Ok(FieldSpec::new(gvk, &path, create))
    }
}
