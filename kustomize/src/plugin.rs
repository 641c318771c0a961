//! Generators, transformers and validators that are given as configuration, inline or by file. Only those that
//! kustomize has built in run; programs, containers and Go plugins are refused.

use flotilla_yaml::{Kind, Node};

use crate::decode::{Text, Unknown, boolean, fields, list, text, text_map, texts};
use crate::error::{Fail, Res, fail};
use crate::fieldspec::FieldSpec;
use crate::generate::{Made, add_hash};
use crate::load::Context;
use crate::node_ops::{map_of_strings, place_like, stamp, text_at};
use crate::parts::{GeneratorArgs, HelmChart, Image, Patch, ReplacementField, Replica, each};
use crate::resmap::{self, ResMap};
use crate::resource::{ORIGIN_ANNOTATION, Resource};
use crate::target::{Accumulator, Target, absorb, charge, charge_notes};
use crate::transform::names::{End, affix};
use crate::transform::namespace::{Namespace, Subjects};
use crate::transform::{images, patches, replacements, set_pairs, set_replicas, value_add};
use crate::{helm, metadata};

/// Runs the `generators`.
pub(crate) fn generate(cx: &mut Context, target: &mut Target, acc: &mut Accumulator) -> Res<()> {
    let entries = std::mem::take(&mut target.kustomization.generators);
    for config in configs(cx, target, &entries, "generators")? {
        let named = |e: Fail| e.at(config.pos);
        check_builtin(&config).map_err(named)?;
        let made = generate_one(cx, target, &config).map_err(named)?;
        absorb(acc, made, origin(&config).as_deref()).map_err(named)?;
    }
    Ok(())
}

/// Runs the `transformers`.
pub(crate) fn transform(cx: &mut Context, target: &mut Target, acc: &mut Accumulator) -> Res<()> {
    let entries = std::mem::take(&mut target.kustomization.transformers);
    for config in configs(cx, target, &entries, "transformers")? {
        transform_one(cx, target, &mut acc.resources, &config).map_err(|e| e.at(config.pos))?;
        if let Some(origin) = origin(&config) {
            charge_notes(&cx.work, &acc.resources)?;
            metadata::add_transformation(&mut acc.resources, &origin)?;
        }
        acc.resources.drop_empty();
    }
    Ok(())
}

/// Runs the `validators`: transformers that must not change anything.
pub(crate) fn validate(cx: &mut Context, target: &mut Target, acc: &mut Accumulator) -> Res<()> {
    let entries = std::mem::take(&mut target.kustomization.validators);
    for config in configs(cx, target, &entries, "validators")? {
        // All that there is is compared with what it was.
        acc.resources.0.iter().try_for_each(|r| cx.work.spend_value(&r.node, 0))?;
        let before: Vec<Node> = acc.resources.0.iter().map(|r| r.node.clone()).collect();
        transform_one(cx, target, &mut acc.resources, &config).map_err(|e| e.at(config.pos))?;
        let mut after = acc.resources.0.iter().map(|r| {
            let mut node = r.node.clone();
            if let Some(labels) = node.at_mut(&["metadata", "labels"]).and_then(Node::as_map_mut)
                && labels.remove("validated-by").is_some()
                && labels.is_empty()
                && let Some(metadata) = node.get_mut("metadata").and_then(Node::as_map_mut)
            {
                metadata.remove("labels");
            }
            node
        });
        let same =
            before.len() == acc.resources.0.len() && before.iter().all(|b| after.next().as_ref() == Some(b));
        if !same {
            return fail!("validator shouldn't modify the resource map").map_err(|e: Fail| {
                e.at(config.pos).hint("a transformer that is to change something is one of transformers")
            });
        }
    }
    Ok(())
}

/// The configuration objects of a field.
fn configs(cx: &mut Context, target: &mut Target, entries: &[Text], field: &str) -> Res<Vec<Resource>> {
    let mut acc = Accumulator::default();
    let mut paths = Vec::new();
    for entry in entries {
        let inline = patches::inline(cx, entry).and_then(|d| resmap::resources(cx, d));
        let Ok(mut inline) = inline else {
            paths.push(entry.clone());
            continue;
        };
        for config in &mut inline {
            if let Some(trace) = &target.trace {
                metadata::set_origin(config, &trace.append(&target.file_name).origin())?;
            }
        }
        acc.resources.append_all(inline)?;
    }
    target.accumulate_resources(cx, &mut acc, &paths, field)?;
    let mut configs = acc.resources.0;
    // kustomize hands them on as JSON.
    for config in &mut configs {
        let json = config.node.to_json_as(flotilla_yaml::Schema::Kustomize);
        let json =
            json.map_err(|e| Fail::new(format!("marshalling {}: {}", config.shown(), e.message)).at(e.pos))?;
        let mut node = Node::from_json(&json);
        place_like(&mut node, &config.node);
        config.node = node;
    }
    Ok(configs)
}

/// What the annotations of `buildMetadata` say about a plugin, if they are asked for.
fn origin(config: &Resource) -> Option<String> {
    let own = config.annotation(ORIGIN_ANNOTATION)?;
    let mut origin = String::new();
    for line in own.lines() {
        match line.strip_prefix("path: ") {
            Some(path) => origin.push_str(&format!("configuredIn: {path}\n")),
            None => origin.insert_str(0, &format!("{line}\n")),
        }
    }
    let api_version = text_at(&config.node, &["apiVersion"]);
    origin.push_str(&format!("configuredBy:\n  apiVersion: {api_version}\n  kind: {}\n", config.kind()));
    for (name, value) in [("name", config.name()), ("namespace", config.namespace())] {
        if !value.is_empty() {
            origin.push_str(&format!("  {name}: {value}\n"));
        }
    }
    Some(origin)
}

fn check_builtin(config: &Resource) -> Res<()> {
    let gvk = config.gvk();
    if gvk.group.is_empty() && gvk.version == "builtin" {
        return Ok(());
    }
    let kind = &gvk.kind;
    fail!("external plugins disabled; unable to load external plugin '{kind}'").map_err(|e: Fail| {
        e.field("apiVersion")
            .hint("only the built-in ones (apiVersion: builtin) run here, programs and containers do not")
    })
}

fn generate_one(cx: &mut Context, target: &Target, config: &Resource) -> Res<Vec<Resource>> {
    let loader = &target.loader;
    let made = match config.kind() {
        "ConfigMapGenerator" => Made::ConfigMap,
        "SecretGenerator" => Made::Secret,
        "IAMPolicyGenerator" => return iam_policy(&config.node),
        "HelmChartInflationGenerator" => {
            let chart = HelmChart::read(&config.node, Unknown::Ignore)?;
            let home = text_field(&config.node, "chartHome")?.text;
            return helm::generate(cx, loader, &chart, "", &home);
        }
        kind if is_transformer(kind) => return fail!("plugin {} not a generator", config.original_id()),
        _ => {
            return fail!("unable to load builtin {}", config.gvk())
                .map_err(|e: Fail| e.field("kind").hint("there is no such generator; is it spelled right?"));
        }
    };
    let args = GeneratorArgs::read(&config.node, Unknown::Ignore)?;
    let words = format!("plugin {} fails configuration", config.original_id());
    Ok(vec![crate::generate::generate(cx, loader, made, &args).map_err(|e| e.context(words))?])
}

fn is_transformer(kind: &str) -> bool {
    kind.ends_with("Transformer")
}

/// A service account for Google's workload identity.
fn iam_policy(config: &Node) -> Res<Vec<Resource>> {
    let cloud = text_at(config, &["cloud"]);
    if cloud != "gke" {
        return fail!("cloud provider {cloud} not supported yet");
    }
    let at = |path: &[&str]| text_at(config, path).to_owned();
    let account = at(&["serviceAccount", "name"]);
    let email = format!("{account}@{}.iam.gserviceaccount.com", at(&["serviceAccount", "projectId"]));
    let mut metadata = Node::map();
    let map = metadata.as_map_mut().expect("made above");
    map.insert("annotations", map_of_strings([("iam.gke.io/gcp-service-account", email.as_str())]));
    map.insert("name", Node::string(at(&["kubernetesService", "name"])));
    let namespace = at(&["kubernetesService", "namespace"]);
    if !namespace.is_empty() {
        map.insert("namespace", Node::string(namespace));
    }
    let mut node = map_of_strings([("apiVersion", "v1"), ("kind", "ServiceAccount")]);
    node.as_map_mut().expect("made above").insert("metadata", metadata);
    stamp(&mut node, config.pos);
    Ok(vec![Resource::new(node)])
}

/// What the transformers' configurations have in common.
#[derive(Default)]
struct Config {
    specs: Option<Vec<FieldSpec>>,
}

impl Config {
    fn read(node: &Node) -> Res<Self> {
        let mut config = Self::default();
        each(node, &["fieldSpecs"], Unknown::Ignore, |_, n| {
            config.specs = Some(list(n, |n| FieldSpec::read(n, Unknown::Ignore))?);
            Ok(())
        })?;
        Ok(config)
    }

    fn specs(&self) -> &[FieldSpec] {
        self.specs.as_deref().unwrap_or_default()
    }

    fn required(&self) -> Res<&[FieldSpec]> {
        match &self.specs {
            Some(specs) => Ok(specs),
            None => fail!("fieldSpecs is not expected to be nil"),
        }
    }
}

/// One field of a configuration.
fn field<'a>(node: &'a Node, name: &'static str) -> Res<Option<&'a Node>> {
    Ok(fields(node, &[name], Unknown::Ignore)?.first().map(|(_, n)| *n))
}

fn text_field(node: &Node, name: &'static str) -> Res<Text> {
    field(node, name)?.map(|n| text(n, Unknown::Ignore)).transpose().map(Option::unwrap_or_default)
}

/// A prefix or suffix, which kustomize reads by another library: a float keeps its digits.
fn affix_field(node: &Node, name: &'static str) -> Res<Text> {
    let read = |n: &Node| match n.as_scalar().filter(|s| s.kind() == Kind::Float) {
        Some(float) => Ok(Text::new(float.text(), n.pos)),
        None => text(n, Unknown::Ignore),
    };
    field(node, name)?.map(read).transpose().map(Option::unwrap_or_default)
}

fn transform_one(cx: &mut Context, target: &Target, map: &mut ResMap, resource: &Resource) -> Res<()> {
    check_builtin(resource)?;
    let node = &resource.node;
    let loader = &target.loader;
    let config = Config::read(node)?;
    let weight = charge(&cx.work, map, config.specs().len(), 1)?;
    match resource.kind() {
        "NamespaceTransformer" => {
            let subjects = Subjects::read(&text_field(node, "setRoleBindingSubjects")?.text)?;
            let unset_only = field(node, "unsetOnly")?.map(boolean).transpose()?.unwrap_or_default();
            let namespace = text_at(node, &["metadata", "namespace"]);
            let pos = node.at(&["metadata", "namespace"]).map_or(node.pos, |n| n.pos);
            Namespace { namespace, pos, specs: config.specs(), unset_only, subjects }.transform(map)
        }
        "PrefixTransformer" => affix(map, End::Prefix, &affix_field(node, "prefix")?, config.required()?),
        "SuffixTransformer" => affix(map, End::Suffix, &affix_field(node, "suffix")?, config.required()?),
        "PrefixSuffixTransformer" => {
            affix(map, End::Prefix, &affix_field(node, "prefix")?, config.required()?)?;
            affix(map, End::Suffix, &affix_field(node, "suffix")?, config.required()?)
        }
        "LabelTransformer" => {
            let labels =
                field(node, "labels")?.map(|n| text_map(n, Unknown::Ignore)).transpose()?.unwrap_or_default();
            charge(&cx.work, map, config.specs().len(), labels.len())?;
            set_pairs(map, &labels, config.specs())
        }
        "AnnotationsTransformer" => {
            let annotations = field(node, "annotations")?
                .map(|n| text_map(n, Unknown::Ignore))
                .transpose()?
                .unwrap_or_default();
            charge(&cx.work, map, config.specs().len(), annotations.len())?;
            set_pairs(map, &annotations, config.specs())
        }
        "ImageTagTransformer" => {
            let entry = field(node, "imageTag")?;
            let image = entry.map(|n| Image::read(n, Unknown::Ignore)).transpose()?.unwrap_or_default();
            let pos = entry.map_or(node.pos, |n| n.pos);
            images::set_image(map, &image, pos, config.specs(), &cx.work, weight)
        }
        "ReplicaCountTransformer" => {
            let replica = field(node, "replica")?.map(|n| Replica::read(n, Unknown::Ignore)).transpose()?;
            set_replicas(map, &replica.unwrap_or_default(), config.specs())
        }
        "PatchTransformer" => {
            let patch = Patch::read(node, Unknown::Ignore)?;
            patches::load(cx, loader, &patch)?.apply(cx, map)
        }
        "PatchStrategicMergeTransformer" => {
            let paths =
                field(node, "paths")?.map(|n| texts(n, Unknown::Ignore)).transpose()?.unwrap_or_default();
            let inline =
                field(node, "patches")?.map(|n| text(n, Unknown::Ignore)).transpose()?.unwrap_or_default();
            if paths.is_empty() && inline.text.is_empty() {
                return fail!("empty file path and empty patch content");
            }
            let mut loaded = Vec::new();
            for path in &paths {
                loaded.extend(patches::load_legacy(cx, loader, path)?);
            }
            if !inline.text.is_empty() {
                let documents = patches::inline(cx, &inline)?;
                loaded.extend(resmap::resources(cx, documents)?);
            }
            if loaded.is_empty() {
                return fail!("patch appears to be empty");
            }
            patches::apply_legacy(cx, map, &loaded)
        }
        "PatchJson6902Transformer" => {
            let mut patch = Patch::read(node, Unknown::Ignore)?;
            patch.patch =
                field(node, "jsonOp")?.map(|n| text(n, Unknown::Ignore)).transpose()?.unwrap_or_default();
            patches::apply_json6902(cx, loader, map, &patch)
        }
        "ReplacementTransformer" => {
            let read = |n: &Node| list(n, |n| ReplacementField::read(n, Unknown::Ignore));
            let replacements = field(node, "replacements")?.map(read).transpose()?.unwrap_or_default();
            let loaded = replacements::load(cx, loader, &replacements)?;
            replacements::apply(map, &loaded, &cx.work)
        }
        "HashTransformer" => map.0.iter_mut().try_for_each(add_hash),
        "ValueAddTransformer" => value_add::apply(cx, loader, map, node),
        kind if kind.ends_with("Generator") => fail!("plugin {} not a transformer", resource.original_id()),
        _ => fail!("unable to load builtin {}", resource.gvk())
            .map_err(|e: Fail| e.field("kind").hint("there is no such transformer; is it spelled right?")),
    }
}
