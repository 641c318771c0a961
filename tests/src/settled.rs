//! What two tools leave of the same object, compared.

use std::collections::BTreeSet;

use serde_json::Value;

/// What is left of an object without what differs from one cluster to the next, what says whose it is, and what
/// controllers write: `noted` are the annotations that they do.
pub fn settled(object: &Value, noted: &[&str]) -> Value {
    let mut object = object.clone();
    let root = object.as_object_mut().expect("an object");
    root.remove("status");
    let metadata = root["metadata"].as_object_mut().expect("metadata");
    for field in ["uid", "resourceVersion", "creationTimestamp", "generation", "managedFields"] {
        metadata.remove(field);
    }
    let owner = |key: &String| {
        let flux = ["kustomize.toolkit.fluxcd.io/name", "kustomize.toolkit.fluxcd.io/namespace"];
        flux.contains(&key.as_str()) || key.starts_with("flotilla.dev/") || key.starts_with("applyset.")
    };
    let controllers = |key: &String| noted.contains(&key.as_str());
    for (field, is_theirs) in [("labels", &owner as &dyn Fn(&String) -> bool), ("annotations", &controllers)]
    {
        if let Some(map) = metadata.get_mut(field).and_then(Value::as_object_mut) {
            map.retain(|key, _| !is_theirs(key));
            if map.is_empty() {
                metadata.remove(field);
            }
        }
    }
    if object["kind"] == "Service" && object["spec"]["clusterIP"] != "None" {
        let spec = object["spec"].as_object_mut().expect("the spec of a Service");
        spec.remove("clusterIP");
        spec.remove("clusterIPs");
    }
    object
}

/// Adds what differs below `path`, by field; `is_same` says of two values whether they count as one.
pub fn differences(
    ours: &Value,
    theirs: &Value,
    path: &str,
    is_same: &dyn Fn(&Value, &Value) -> bool,
    found: &mut Vec<String>,
) {
    match (ours, theirs) {
        (Value::Object(a), Value::Object(b)) => {
            for key in a.keys().chain(b.keys()).collect::<BTreeSet<_>>() {
                differences(&ours[key], &theirs[key], &format!("{path} {key}"), is_same, found);
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (index, (a, b)) in a.iter().zip(b).enumerate() {
                differences(a, b, &format!("{path}[{index}]"), is_same, found);
            }
        }
        (ours, theirs) if is_same(ours, theirs) => {}
        (ours, theirs) => found.push(format!("{path}: ours {ours}, Flux's {theirs}")),
    }
}
