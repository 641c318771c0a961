//! Flotilla's own parts in a cluster: the manifests that put them there, and the way into the cluster.

pub(crate) mod agent;
pub(crate) mod handover;
pub(crate) mod hub;
pub(crate) mod kubernetes;

use flotilla_yaml::Node;
use serde_json::{Value, json};

/// The objects of a file of `deploy/`.
fn documents(text: &str) -> Vec<Value> {
    let documents = flotilla_yaml::parse(text).expect("the files in deploy/ are YAML: a test reads them");
    let objects = documents.iter().map(Node::to_json);
    objects.collect::<Result<_, _>>().expect("the files in deploy/ are objects: a test reads them")
}

/// A Secret with one value.
fn secret(name: &str, namespace: &str, key: &str, value: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": namespace},
        "type": "Opaque",
        "stringData": {key: value},
    })
}

/// Gives a StatefulSet's pod another image, and the credentials to pull it.
fn set_image(stateful_set: &mut Value, image: Option<&str>, pull_secret: Option<&str>) {
    let pod = &mut stateful_set["spec"]["template"]["spec"];
    if let Some(image) = image {
        pod["containers"][0]["image"] = json!(image);
    }
    if let Some(name) = pull_secret {
        pod["imagePullSecrets"] = json!([{"name": name}]);
    }
}

/// Opens ports to the outside in a NetworkPolicy, where it has others only.
fn let_call(policy: &mut Value, wanted: impl IntoIterator<Item = u16>) {
    let rules = policy["spec"]["egress"].as_array_mut().into_iter().flatten();
    let outside = rules.filter(|rule| rule.get("to").is_some());
    let mut ports: Vec<_> = outside.filter_map(|rule| rule["ports"].as_array_mut()).collect();
    for port in wanted.into_iter().map(|port| json!({"port": port, "protocol": "TCP"})) {
        for ports in ports.iter_mut().filter(|ports| !ports.contains(&port)) {
            ports.push(port.clone());
        }
    }
}
