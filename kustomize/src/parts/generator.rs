//! Entries of `configMapGenerator`, `secretGenerator`, `generatorOptions` and `helmCharts`.

use std::collections::BTreeMap;

use flotilla_yaml::{Node, Pos};

use super::each;
use crate::decode::{Text, Unknown, boolean, string, strings, text, text_map, texts};
use crate::error::{Res, fail};
use crate::request::ValuesMerge;

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
    pub(crate) labels: BTreeMap<String, Text>,
    pub(crate) annotations: BTreeMap<String, Text>,
    pub(crate) disable_name_suffix_hash: bool,
    pub(crate) immutable: bool,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct HelmChart {
    pub(crate) pos: Pos,
    pub(crate) request: crate::request::HelmRequest,
    pub(crate) values_file: Text,
    pub(crate) additional_values_files: Vec<Text>,
}

impl GeneratorOptions {
    pub(crate) fn read(node: &Node, u: Unknown) -> Res<Self> {
        let mut o = Self::default();
        each(node, &["labels", "annotations", "disableNameSuffixHash", "immutable"], u, |name, n| {
            match name {
                "labels" => o.labels = text_map(n, u)?,
                "annotations" => o.annotations = text_map(n, u)?,
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
        let is_plugin = u == Unknown::Ignore;
        let (kind_of_secret, u) = (u, u.embedded());
        each(node, &known[..if is_plugin { 10 } else { 9 }], u, |name, n| {
            match name {
                "name" => g.name = string(n, u)?,
                "namespace" => g.namespace = string(n, u)?,
                "behavior" => g.behavior = string(n, u)?,
                "type" => g.secret_type = string(n, kind_of_secret)?,
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
        // A generator that is a file of its own knows no `env`.
        g.envs.extend(env.filter(|e| !e.text.is_empty() && !is_plugin));
        if g.name.is_empty() {
            g.name = name_of_plugin;
        }
        if g.namespace.is_empty() {
            g.namespace = namespace_of_plugin;
        }
        Ok(g)
    }
}

/// Values as a text of their own; none where there are none.
fn inline(node: &Node) -> Res<Option<String>> {
    match node.as_map() {
        None => fail!("json: cannot unmarshal {} into a field of type map", crate::decode::kind_of(node)),
        Some(map) => Ok((!map.is_empty()).then(|| flotilla_yaml::write(node))),
    }
}

fn values_merge(text: &str) -> Res<ValuesMerge> {
    match text {
        "" | "override" => Ok(ValuesMerge::Override),
        "merge" => Ok(ValuesMerge::Merge),
        "replace" => Ok(ValuesMerge::Replace),
        _ => fail!("valuesMerge must be one of [merge override replace]"),
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
                "valuesInline" => r.values_inline = inline(n)?,
                "valuesMerge" => r.values_merge = values_merge(&string(n, u)?)?,
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

    /// The form of `helmChartInflationGenerator`, with its `chartHome`.
    pub(crate) fn read_old(node: &Node, u: Unknown) -> Res<(Self, String)> {
        let (mut h, mut home) = (Self { pos: node.pos, ..Self::default() }, String::new());
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
                "valuesLocal" => r.values_inline = inline(n)?,
                "valuesMerge" => r.values_merge = values_merge(&string(n, u)?)?,
                "releaseName" => r.release_name = string(n, u)?,
                "chartHome" => home = string(n, u)?,
                "extraArgs" => {
                    strings(n, u)?;
                }
                _ => {
                    string(n, u)?;
                }
            }
            Ok(())
        })?;
        Ok((h, home))
    }
}
