//! The entries of a kustomization file's lists: patches, images, generators and the like. Plugins' configurations hold
//! the same ones.

use std::collections::BTreeMap;

use flotilla_yaml::{Node, Pos};

use crate::decode::{
    Text, Unknown, boolean, fields, int, list, nest, string, string_map, strings, text, texts,
};
use crate::error::Res;
use crate::fieldspec::FieldSpec;
use crate::gvk::{Gvk, ResId};

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
    pub(crate) fn read(node: &Node, u: Unknown) -> Res<Self> {
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
    pub(crate) fn read(node: &Node, u: Unknown) -> Res<Self> {
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
    pub(crate) fn read(node: &Node, u: Unknown) -> Res<Self> {
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
    pub(crate) fn read(node: &Node, u: Unknown) -> Res<Self> {
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
    pub(crate) fn read(node: &Node, u: Unknown) -> Res<Self> {
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
    pub(crate) fn read(node: &Node, u: Unknown) -> Res<Self> {
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
    pub(crate) fn read(node: &Node, u: Unknown) -> Res<Self> {
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
    pub(crate) fn read(node: &Node, u: Unknown) -> Res<Self> {
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
    pub(crate) fn read_old(node: &Node, u: Unknown) -> Res<Self> {
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
                "group" => gvk.group = string(n, u)?.into(),
                "version" => gvk.version = string(n, u)?.into(),
                "kind" => gvk.kind = string(n, u)?.into(),
                "path" => path = string(n, u)?,
                _ => create = boolean(n)?,
            }
            Ok(())
        })?;
        Ok(FieldSpec::new(gvk, &path, create))
    }
}
