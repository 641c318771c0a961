//! YAML for repositories made to order: units and small objects, as people would write them.

use std::fmt::Write;

use crate::git::{Change, file};

/// A Flux `Kustomization` in `flux-system` with `prune: true`; `more` are further lines of its spec, such as
/// `wait: true` or `dependsOn: [{name: base}]`.
#[must_use]
pub fn unit(name: &str, path: &str, more: &[&str]) -> String {
    let mut text = format!(
        "apiVersion: kustomize.toolkit.fluxcd.io/v1\n\
         kind: Kustomization\n\
         metadata:\n  name: {name}\n  namespace: flux-system\n\
         spec:\n  path: ./{path}\n  sourceRef:\n    kind: GitRepository\n    name: flux-system\n  \
         interval: 10m\n  prune: true\n"
    );
    for line in more {
        for line in line.lines() {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "  {line}");
        }
    }
    text
}

/// The unit's name in what hub and agent tell.
#[must_use]
pub fn unit_id(name: &str) -> String {
    format!("kustomization/flux-system/{name}")
}

/// A unit `name` of a cluster, defined in `clusters/CLUSTER/NAME.yaml`, with its content in `apps/NAME`.
pub fn app(cluster: &str, name: &str, more: &[&str]) -> Change {
    file(&format!("clusters/{cluster}/{name}.yaml"), unit(name, &format!("apps/{name}"), more))
}

/// A ConfigMap in `default` with one key, `value`.
#[must_use]
pub fn config_map(name: &str, value: &str) -> String {
    config_map_in("default", name, value)
}

/// As [`config_map`], in a namespace.
#[must_use]
pub fn config_map_in(namespace: &str, name: &str, value: &str) -> String {
    format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {name}\n  namespace: {namespace}\ndata:\n  value: {}\n",
        serde_json::Value::from(value)
    )
}

/// A namespace.
#[must_use]
pub fn namespace(name: &str) -> String {
    format!("apiVersion: v1\nkind: Namespace\nmetadata:\n  name: {name}\n")
}

/// A Deployment of one container.
#[must_use]
pub fn deployment(namespace: &str, name: &str, replicas: u32) -> String {
    format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: {name}\n  namespace: {namespace}\n\
         spec:\n  replicas: {replicas}\n  selector:\n    matchLabels:\n      app: {name}\n  template:\n    \
         metadata:\n      labels:\n        app: {name}\n    spec:\n      containers:\n        - name: main\n          \
         image: example.com/{name}:1\n"
    )
}

/// As [`deployment`], with an annotation on its pods.
#[must_use]
pub fn deployment_with_pods(namespace: &str, name: &str, replicas: u32, annotation: (&str, &str)) -> String {
    let (key, value) = annotation;
    let annotations = format!("      annotations:\n        {key}: \"{value}\"\n    spec:\n      containers:");
    deployment(namespace, name, replicas).replace("    spec:\n      containers:", &annotations)
}
