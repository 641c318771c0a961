//! The kustomization file, as typed values with positions.

use std::collections::BTreeMap;

use flotilla_yaml::{Node, Pos};

use crate::decode::{Text, Unknown, fields, is_near, list, nest, string, text, text_map, texts};
use crate::error::{Fail, Res};
use crate::parts::{
    GeneratorArgs, GeneratorOptions, HelmChart, Image, Label, Patch, ReplacementField, Replica, SortOptions,
    Var,
};

/// A kustomization or component; deprecated fields are folded into their successors, as kustomize does.
#[derive(Debug, Clone, Default)]
pub(crate) struct Kustomization {
    pub(crate) api_version: Text,
    pub(crate) kind: Text,
    pub(crate) openapi: BTreeMap<String, Text>,
    pub(crate) name_prefix: Text,
    pub(crate) name_suffix: Text,
    pub(crate) namespace: Text,
    pub(crate) common_labels: BTreeMap<String, Text>,
    pub(crate) labels: Vec<Label>,
    pub(crate) common_annotations: BTreeMap<String, Text>,
    pub(crate) patches_strategic_merge: Vec<Text>,
    pub(crate) patches_json6902: Vec<Patch>,
    pub(crate) patches: Vec<Patch>,
    /// Each with the place of its entry.
    pub(crate) images: Vec<(Image, Pos)>,
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
    pub(crate) build_metadata: Vec<Text>,
    /// What `kustomize` would print to stderr about fields that have a successor.
    pub(crate) deprecated: Vec<&'static str>,
    /// Whether nothing but apiVersion and kind was there.
    pub(crate) empty: bool,
}

pub(crate) const COMPONENT: &str = "Component";
const KUSTOMIZATION: &str = "Kustomization";
const VERSION: &str = "kustomize.config.k8s.io/v1beta1";
const COMPONENT_VERSION: &str = "kustomize.config.k8s.io/v1alpha1";

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
    /// Reads a kustomization file's document, as kustomize does.
    pub(crate) fn read(document: &Node) -> Res<Self> {
        Self::read_as(document, Unknown::Refuse)
    }

    /// Reads a kustomization file's document.
    pub(crate) fn read_as(document: &Node, unknown: Unknown) -> Res<Self> {
        let mut k = Kustomization { empty: true, ..Self::default() };
        let (mut bases, mut image_tags, mut old_charts) = (Vec::new(), Vec::new(), Vec::new());
        let mut has_helm_globals = false;
        let known = &FIELDS[..34];
        for (name, node) in
            fields(document, known, unknown).map_err(|e| e.context("invalid Kustomization"))?
        {
            let mut read = |k: &mut Kustomization| -> Res<()> {
                match name {
                    "apiVersion" => k.api_version = text(node, unknown)?,
                    "kind" => k.kind = text(node, unknown)?,
                    "metadata" => {
                        let known = ["name", "namespace", "labels", "annotations"];
                        fields(node, &known, unknown)?;
                    }
                    "openapi" => k.openapi = text_map(node, unknown)?,
                    "namePrefix" => k.name_prefix = text(node, unknown)?,
                    "nameSuffix" => k.name_suffix = text(node, unknown)?,
                    "namespace" => k.namespace = text(node, unknown)?,
                    "commonLabels" => k.common_labels = text_map(node, unknown)?,
                    "labels" => k.labels = list(node, |n| Label::read(n, unknown))?,
                    "commonAnnotations" => k.common_annotations = text_map(node, unknown)?,
                    "patchesStrategicMerge" => k.patches_strategic_merge = texts(node, unknown)?,
                    "patchesJson6902" => k.patches_json6902 = list(node, |n| Patch::read(n, unknown))?,
                    "patches" => k.patches = list(node, |n| Patch::read(n, unknown))?,
                    "images" => k.images = list(node, |n| Ok((Image::read(n, unknown)?, Image::place(n))))?,
                    "imageTags" => image_tags = list(node, |n| Ok((Image::read(n, unknown)?, n.pos)))?,
                    "replacements" => k.replacements = list(node, |n| ReplacementField::read(n, unknown))?,
                    "replicas" => k.replicas = list(node, |n| Replica::read(n, unknown))?,
                    "vars" => k.vars = list(node, |n| Var::read(n, unknown))?,
                    "sortOptions" => k.sort_options = Some(SortOptions::read(node, unknown)?),
                    "resources" => k.resources = texts(node, unknown)?,
                    "components" => k.components = texts(node, unknown)?,
                    "crds" => k.crds = texts(node, unknown)?,
                    "bases" => bases = texts(node, unknown)?,
                    "configMapGenerator" => {
                        k.config_map_generator = list(node, |n| GeneratorArgs::read(n, unknown))?
                    }
                    "secretGenerator" => {
                        k.secret_generator = list(node, |n| GeneratorArgs::read(n, unknown))?
                    }
                    "helmGlobals" => {
                        has_helm_globals = true;
                        for (name, node) in fields(node, &["chartHome", "configHome"], unknown)? {
                            if name == "chartHome" {
                                k.helm_chart_home = string(node, unknown)?;
                            }
                        }
                    }
                    "helmCharts" => k.helm_charts.extend(list(node, |n| HelmChart::read(n, unknown))?),
                    "helmChartInflationGenerator" => {
                        old_charts = list(node, |n| HelmChart::read_old(n, unknown))?
                    }
                    "generatorOptions" => k.generator_options = Some(GeneratorOptions::read(node, unknown)?),
                    "configurations" => k.configurations = texts(node, unknown)?,
                    "generators" => k.generators = texts(node, unknown)?,
                    "transformers" => k.transformers = texts(node, unknown)?,
                    "validators" => k.validators = texts(node, unknown)?,
                    "buildMetadata" => k.build_metadata = texts(node, unknown)?,
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
        for (_, home) in old_charts.iter_mut().filter(|(_, home)| !home.is_empty() && !has_helm_globals) {
            // One for all charts of the kustomization: the last one that is named.
            k.helm_chart_home = std::mem::take(home);
        }
        k.helm_charts.extend(old_charts.into_iter().map(|(chart, _)| chart));
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
        let fail = Fail::new(message).at(if version.text.is_empty() { kind.pos } else { version.pos });
        match [KUSTOMIZATION, COMPONENT]
            .iter()
            .find(|known| is_near(&kind.text, known) && kind.text != **known)
        {
            Some(known) => Err(fail.hint(format!("it is '{}'; is '{known}' meant?", kind.text))),
            None if version.text.is_empty() => Err(fail),
            None => Err(fail.hint(format!("it is '{}'", version.text))),
        }
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
