//! What is applied: units of four objects each, as a repository holds them and as a client sends them.

use anyhow::Result;
use flotilla_tests::git::{Change, file};
use flotilla_tests::manifests;
use flotilla_yaml::Node;
use serde_json::{Value, json};

/// Where all objects are.
pub(crate) const NAMESPACE: &str = "bench";

/// The objects of a unit.
pub(crate) const OBJECTS: usize = 4;

/// The unit's name, which is that of its objects too.
pub(crate) fn name(unit: usize) -> String {
    format!("app-{unit:04}")
}

/// A unit's ServiceAccount, ConfigMap, Service and Deployment of one pod. `value` is in the ConfigMap.
pub(crate) fn objects(unit: usize, value: &str) -> [Value; OBJECTS] {
    let name = name(unit);
    let metadata = json!({"name": name, "namespace": NAMESPACE, "labels": {"app": name, "part-of": "bench"}});
    [
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata}),
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {
            "value": value,
            "settings.yaml": "log:\n  level: info\n  format: json\nlisten: 0.0.0.0:8080\nworkers: 4\n",
        }}),
        json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {
            "selector": {"app": name},
            "ports": [{"name": "http", "port": 80, "targetPort": 8080}],
        }}),
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": {
            "replicas": 1,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name, "part-of": "bench"}},
                "spec": {"serviceAccountName": name, "containers": [{
                    "name": "main",
                    "image": "example.com/app:1.2.3",
                    "ports": [{"name": "http", "containerPort": 8080}],
                    "env": [{"name": "VALUE", "valueFrom": {"configMapKeyRef": {"name": name, "key": "value"}}}],
                    "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"memory": "64Mi"}},
                }]},
            },
        }}),
    ]
}

/// The namespace of all objects.
pub(crate) fn namespace() -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
}

/// What a cluster begins with: the namespace, in its root unit.
pub(crate) fn root(cluster: &str) -> Change {
    file(&format!("clusters/{cluster}/namespace.yaml"), manifests::namespace(NAMESPACE))
}

/// The file that makes a unit one of a cluster's. `more` are further lines of its spec.
pub(crate) fn definition(cluster: &str, unit: usize, more: &[&str]) -> Change {
    manifests::app(cluster, &name(unit), more)
}

/// The files of a unit's content: a kustomization of two files.
///
/// # Errors
/// Never, with these objects.
pub(crate) fn content(unit: usize, value: &str) -> Result<[Change; 3]> {
    let [account, config, service, deployment] = objects(unit, value);
    let name = name(unit);
    let yaml = |objects: &[Value]| {
        let nodes: Vec<Node> = objects.iter().map(Node::from_json).collect();
        flotilla_yaml::write_canonical_documents(&nodes)
    };
    Ok([
        file(&format!("apps/{name}/kustomization.yaml"), "resources:\n  - app.yaml\n  - config.yaml\n"),
        file(&format!("apps/{name}/app.yaml"), yaml(&[account, service, deployment])?),
        file(&format!("apps/{name}/config.yaml"), yaml(&[config])?),
    ])
}

/// Definitions and contents of `units` units, numbered from 0, in each of the clusters.
///
/// # Errors
/// As [`content`].
pub(crate) fn units(clusters: &[&str], units: usize, more: &[&str]) -> Result<Vec<Change>> {
    let mut changes = Vec::new();
    for unit in 0..units {
        changes.extend(clusters.iter().map(|cluster| definition(cluster, unit, more)));
        changes.extend(content(unit, "first")?);
    }
    Ok(changes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_value_changes_one_line_of_one_file() {
        let (old, new) = (content(7, "old").unwrap(), content(7, "new").unwrap());
        let changed: Vec<_> = old.iter().zip(&new).filter(|(old, new)| old != new).collect();
        let [(Change::File(path, old), Change::File(_, new))] = changed[..] else { panic!("{changed:?}") };
        assert_eq!(path, "apps/app-0007/config.yaml");
        let lines = |text: &[u8]| {
            String::from_utf8(text.to_vec()).unwrap().lines().map(str::to_owned).collect::<Vec<_>>()
        };
        let differing = lines(old).iter().zip(lines(new)).filter(|(old, new)| *old != new).count();
        assert_eq!((lines(old).len(), differing), (lines(new).len(), 1));
    }
}
