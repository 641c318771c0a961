//! Generators, transformers and validators: the built-in plugins, given as objects.

use super::generators;
use super::kustomization::Maker;
use super::patches::{operations, selecting};
use super::replacements;
use super::value::{Value, map, plain};
use super::words::strings;

/// The head of a plugin's configuration.
fn plugin(maker: &mut Maker, kind: &str) -> Value {
    let serial = maker.serial();
    let metadata = map([("name", format!("plugin-{serial}"))]);
    map([("apiVersion", "builtin".into()), ("kind", kind.into()), ("metadata", metadata)])
}

/// One of the generators.
pub(super) fn generator(maker: &mut Maker, folder: &str) -> Value {
    match maker.rng.below(5) {
        0 => {
            let mut config = plugin(maker, "IAMPolicyGenerator");
            let serial = maker.serial();
            config.set("cloud", "gke");
            let mut account = map([("name", format!("account-{serial}"))]);
            if maker.rng.chance(50) {
                account.set("namespace", "ns1");
            }
            config.set("kubernetesService", account);
            config.set("serviceAccount", map([("name", "gsa"), ("projectId", "project")]));
            config
        }
        n => {
            let kind = if n < 3 { "ConfigMap" } else { "Secret" };
            let mut config = plugin(maker, &format!("{kind}Generator"));
            for (key, value) in generators::one(maker, kind, folder).as_map() {
                if matches!(key.as_str(), "name" | "namespace") {
                    let Value::Map(entries) = &mut config else { continue };
                    if let Some((_, metadata)) = entries.iter_mut().find(|(key, _)| key == "metadata") {
                        metadata.set(key, value.clone());
                    }
                } else {
                    config.set(key, value.clone());
                }
            }
            config
        }
    }
}

fn specs(paths: &[&str]) -> Value {
    let spec = |path: &&str| map([("path", (*path).into()), ("create", plain("true"))]);
    paths.iter().map(spec).collect::<Vec<_>>().into()
}

/// One of the transformers.
pub(super) fn transformer(maker: &mut Maker) -> Value {
    const KINDS: [&str; 14] = [
        "AnnotationsTransformer",
        "HashTransformer",
        "ImageTagTransformer",
        "LabelTransformer",
        "NamespaceTransformer",
        "PatchJson6902Transformer",
        "PatchStrategicMergeTransformer",
        "PatchTransformer",
        "PrefixTransformer",
        "SuffixTransformer",
        "ReplicaCountTransformer",
        "ReplacementTransformer",
        "ValueAddTransformer",
        "LabelTransformer",
    ];
    let objects = maker.objects.clone();
    if objects.is_empty() {
        // The one before has deleted the last of them.
        return validator(maker);
    }
    let object = maker.rng.pick(&objects);
    let kind = maker.rng.word(&KINDS);
    let mut config = plugin(maker, kind);
    let rng = &mut *maker.rng;
    match kind {
        "AnnotationsTransformer" => {
            config.set("annotations", strings(rng));
            config.set(
                "fieldSpecs",
                specs(&["metadata/annotations", "spec/template/metadata/annotations"][..rng.between(1, 2)]),
            );
        }
        "LabelTransformer" => {
            config.set("labels", strings(rng));
            config.set("fieldSpecs", specs(&["metadata/labels", "spec/made/labels"][..rng.between(1, 2)]));
        }
        "ImageTagTransformer" => {
            config.set("imageTag", super::fields::image(rng));
            let spec = map([(
                "path",
                rng.word(&["spec/template/spec/containers/image", "spec/containers[]/image"]),
            )]);
            config.set("fieldSpecs", vec![spec]);
        }
        "NamespaceTransformer" => {
            let mut metadata = config.get("metadata").cloned().unwrap_or(Value::Map(Vec::new()));
            metadata.set("namespace", rng.word(&["ns1", "prod"]));
            config.set("metadata", metadata);
            if rng.chance(60) {
                config.set("fieldSpecs", specs(&["metadata/namespace"]));
            }
            if rng.chance(30) {
                config.set("unsetOnly", true);
            }
            if rng.chance(40) {
                config
                    .set("setRoleBindingSubjects", rng.word(&["none", "defaultOnly", "allServiceAccounts"]));
            }
        }
        "PatchJson6902Transformer" => {
            let (group, version) = object.group_version();
            let mut target = map([("kind", object.kind), ("name", object.name.as_str())]);
            target.set("group", group);
            target.set("version", version);
            if let Some(namespace) = object.namespace {
                target.set("namespace", namespace);
            }
            config.set("target", target);
            config.set("jsonOp", Value::Inline(vec![operations(rng, object)]));
        }
        "PatchStrategicMergeTransformer" => {
            config.set("patches", Value::Inline(vec![maker.strategic(object)]))
        }
        "PatchTransformer" => {
            let patch = maker.strategic(object);
            config.set("patch", Value::Inline(vec![patch]));
            if maker.rng.chance(60) {
                config.set("target", selecting(maker.rng, object));
            }
        }
        "PrefixTransformer" => {
            config.set("prefix", rng.word(&["pp-", "x-"]));
            config.set("fieldSpecs", vec![map([("path", "metadata/name")])]);
        }
        "SuffixTransformer" => {
            config.set("suffix", rng.word(&["-ss", "-x"]));
            config.set("fieldSpecs", vec![map([("path", "metadata/name")])]);
        }
        "ReplicaCountTransformer" => {
            let workloads: Vec<_> = objects.iter().filter(|object| object.is_workload()).collect();
            if workloads.is_empty() {
                return validator(maker);
            }
            let name = rng.pick(&workloads).name.as_str();
            config.set("replica", map([("name", name.into()), ("count", plain("4"))]));
            let spec = |kind: &str| map([("path", "spec/replicas"), ("kind", kind)]);
            let kinds = ["Deployment", "StatefulSet", "ReplicaSet", "ReplicationController"];
            config.set("fieldSpecs", kinds.map(spec).to_vec());
        }
        "ReplacementTransformer" => config.set("replacements", replacements::list(maker)),
        "ValueAddTransformer" => {
            config.set("value", rng.word(&["added", "5", "a/b"]));
            let scalars = object.scalars();
            let paths: Vec<String> = scalars.iter().filter_map(super::paths::Place::field_spec).collect();
            let path =
                if paths.is_empty() { "metadata/annotations/v".to_owned() } else { rng.pick(&paths).clone() };
            let mut target = map([("fieldPath", path)]);
            target.set("selector", selecting(rng, object));
            if rng.chance(30) {
                target.set("filePathPosition", plain(rng.word(&["1", "2"])));
            }
            config.set("targets", vec![target]);
        }
        _ => {}
    }
    config
}

/// A validator: a transformer that changes nothing.
pub(super) fn validator(maker: &mut Maker) -> Value {
    let mut config = plugin(maker, "AnnotationsTransformer");
    config.set("annotations", Value::Map(Vec::new()));
    config.set("fieldSpecs", specs(&["metadata/annotations"]));
    config
}
