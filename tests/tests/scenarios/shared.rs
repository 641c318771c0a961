//! Repositories as people write them for Flux, from `shared` beside the repository.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result};
use flotilla_api as api;
use flotilla_tests::fleet::Fleet;
use flotilla_tests::git::{Change, file};
use flotilla_tests::objects::ObjectRef;
use serde_json::Value;

pub(crate) use flotilla_leftout::shared;

/// All files below a folder.
pub(crate) fn files(folder: &Path) -> Vec<Change> {
    let (mut found, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(&next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(folder).unwrap().to_str().unwrap();
                found.push(file(name, std::fs::read(&path).unwrap()));
            }
        }
    }
    found
}

/// Documents as Kubernetes' clients read them.
pub(crate) fn objects(text: &str) -> Vec<Value> {
    let documents = flotilla_yaml::parse(text).unwrap();
    let documents = documents.iter().filter(|document| !document.is_null());
    documents.map(|document| document.to_json_as(flotilla_yaml::Schema::Kustomize).unwrap()).collect()
}

/// `KIND.GROUP NAMESPACE/NAME` of an object.
pub(crate) fn name_of(object: &Value) -> String {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let group = text("/apiVersion").rsplit_once('/').map_or("", |(group, _)| group);
    named(text("/kind"), group, text("/metadata/namespace"), text("/metadata/name"))
}

fn named(kind: &str, group: &str, namespace: &str, name: &str) -> String {
    let kind = if group.is_empty() { kind.to_owned() } else { format!("{kind}.{group}") };
    if namespace.is_empty() { format!("{kind} {name}") } else { format!("{kind} {namespace}/{name}") }
}

/// What units of a cluster hold, as the hub's tree names it.
pub(crate) async fn held(
    fleet: &Fleet,
    cluster: &str,
    is_meant: impl Fn(&str) -> bool,
) -> Result<BTreeSet<String>> {
    let tree: api::Tree = fleet.json(&["tree", cluster, "-o", "json"]).await?;
    let units = tree.units.iter().filter(|unit| is_meant(&unit.unit.unit));
    let objects = units.flat_map(|unit| &unit.objects);
    Ok(objects
        .map(|object| {
            named(&object.object.kind, &object.object.group, &object.object.namespace, &object.object.name)
        })
        .collect())
}

/// The source `KIND NAMESPACE/NAME` as people see it.
pub(crate) async fn source(fleet: &Fleet, cluster: &str, kind: &str, name: &str) -> Result<api::Source> {
    let sources: Vec<api::Source> = fleet.json(&["get", "sources", "-o", "json"]).await?;
    let is_it = |source: &api::Source| {
        source.name == name && source.kind == kind && source.clusters.iter().any(|other| other == cluster)
    };
    sources
        .iter()
        .find(|source| is_it(source))
        .cloned()
        .with_context(|| format!("no {kind} {name}: {sources:?}"))
}

/// Where an object of a cluster lacks what it was to have, or has it otherwise; empty where it does not. What the API
/// server fills in beside is nobody's business.
pub(crate) async fn lacks(fleet: &Fleet, cluster: &str, wanted: &Value) -> Result<Vec<String>> {
    let live = ObjectRef::of(wanted)?.json(&fleet.client(cluster)).await?;
    let mut differences = Vec::new();
    compare(wanted, &live, name_of(wanted), &mut differences);
    Ok(differences)
}

fn compare(wanted: &Value, live: &Value, path: String, differences: &mut Vec<String>) {
    match (wanted, live) {
        (Value::Object(map), Value::Object(_)) => {
            map.iter()
                .for_each(|(key, value)| compare(value, &live[key], format!("{path} {key}"), differences));
        }
        (Value::Array(items), Value::Array(found)) if items.len() == found.len() => {
            let pairs = items.iter().zip(found).enumerate();
            pairs.for_each(|(n, (wanted, live))| compare(wanted, live, format!("{path}[{n}]"), differences));
        }
        // An empty mapping or text is the same as nothing.
        (Value::Object(map), Value::Null) if map.is_empty() => {}
        (wanted, live) if wanted == live => {}
        (wanted, live) => differences.push(format!("{path}: wanted {wanted}, there is {live}")),
    }
}

/// What `flux bootstrap` writes for a cluster: the real components, and the object that speaks of the cluster's own path.
pub(crate) fn bootstrapped(cluster: &str) -> Vec<Change> {
    let Some(repos) = shared("fleet-repos") else { return Vec::new() };
    let folder = format!("clusters/{cluster}/flux-system");
    let sync = format!(
        "apiVersion: source.toolkit.fluxcd.io/v1\nkind: GitRepository\nmetadata:\n  name: flux-system\n  namespace: \
         flux-system\nspec:\n  interval: 1m0s\n  ref:\n    branch: main\n  secretRef:\n    name: flux-system\n  url: \
         ssh://git@example.org/fleet\n---\napiVersion: kustomize.toolkit.fluxcd.io/v1\nkind: Kustomization\nmetadata:\n  \
         name: flux-system\n  namespace: flux-system\nspec:\n  interval: 10m0s\n  path: ./clusters/{cluster}\n  prune: \
         true\n  sourceRef:\n    kind: GitRepository\n    name: flux-system\n"
    );
    let components = std::fs::read(repos.join("gotk-components.yaml")).unwrap();
    vec![
        file(&format!("{folder}/gotk-components.yaml"), components),
        file(&format!("{folder}/gotk-sync.yaml"), sync),
    ]
}
