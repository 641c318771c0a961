//! Changes that the API server is known to refuse on an object that is there. A guess to be confirmed by a dry run: what
//! is not known here costs nothing and is refused when it is applied.

use serde_json::Value;

use crate::object::ObjectId;

/// Whether `new` changes a field of `old` that the built-in kinds let nobody change.
pub fn changed(id: &ObjectId, old: &Value, new: &Value) -> bool {
    let differs = |pointer: &str| old.pointer(pointer) != new.pointer(pointer);
    let any = |pointers: &[&str]| pointers.iter().any(|pointer| differs(pointer));
    let but = |pointer: &str, free: &[&str]| {
        let fields =
            |value: &Value| value.pointer(pointer).and_then(Value::as_object).cloned().unwrap_or_default();
        let (mut old, mut new) = (fields(old), fields(new));
        old.retain(|key, _| !free.contains(&key.as_str()));
        new.retain(|key, _| !free.contains(&key.as_str()));
        old != new
    };
    let sealed = || old.get("immutable") == Some(&Value::Bool(true));
    match (id.group.as_str(), id.kind.as_str()) {
        ("apps", "Deployment" | "DaemonSet" | "ReplicaSet") => differs("/spec/selector"),
        ("apps", "StatefulSet") => but(
            "/spec",
            &[
                "replicas",
                "ordinals",
                "template",
                "updateStrategy",
                "revisionHistoryLimit",
                "persistentVolumeClaimRetentionPolicy",
                "minReadySeconds",
            ],
        ),
        ("batch", "Job") => any(&["/spec/selector", "/spec/template", "/spec/completionMode"]),
        ("", "Service") => any(&["/spec/clusterIP", "/spec/clusterIPs"]),
        ("", "PersistentVolumeClaim") => but("/spec", &["resources", "volumeAttributesClassName"]),
        ("", "Secret") => differs("/type") || (sealed() && any(&["/data", "/stringData", "/immutable"])),
        ("", "ConfigMap") => sealed() && any(&["/data", "/binaryData", "/immutable"]),
        ("rbac.authorization.k8s.io", "RoleBinding" | "ClusterRoleBinding") => differs("/roleRef"),
        ("storage.k8s.io", "StorageClass") => {
            any(&["/provisioner", "/parameters", "/reclaimPolicy", "/volumeBindingMode"])
        }
        ("scheduling.k8s.io", "PriorityClass") => any(&["/value", "/preemptionPolicy"]),
        ("apiextensions.k8s.io", "CustomResourceDefinition") => {
            any(&["/spec/group", "/spec/scope", "/spec/names/plural"])
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn known_changes_are_told() {
        for (api_version, kind, old, new, expected) in [
            (
                "apps/v1",
                "Deployment",
                json!({"spec": {"selector": {"a": "b"}}}),
                json!({"spec": {"selector": {}}}),
                true,
            ),
            (
                "apps/v1",
                "Deployment",
                json!({"spec": {"replicas": 1}}),
                json!({"spec": {"replicas": 2}}),
                false,
            ),
            (
                "apps/v1",
                "StatefulSet",
                json!({"spec": {"replicas": 1}}),
                json!({"spec": {"replicas": 2}}),
                false,
            ),
            (
                "apps/v1",
                "StatefulSet",
                json!({"spec": {"serviceName": "a"}}),
                json!({"spec": {"serviceName": "b"}}),
                true,
            ),
            ("v1", "ConfigMap", json!({"data": {"a": "1"}}), json!({"data": {"a": "2"}}), false),
            (
                "v1",
                "ConfigMap",
                json!({"immutable": true, "data": {"a": "1"}}),
                json!({"immutable": true, "data": {}}),
                true,
            ),
            ("v1", "Secret", json!({"type": "Opaque"}), json!({"type": "x/y"}), true),
            (
                "v1",
                "PersistentVolumeClaim",
                json!({"spec": {"resources": 1}}),
                json!({"spec": {"resources": 2}}),
                false,
            ),
            ("batch/v1", "Job", json!({"spec": {"template": 1}}), json!({"spec": {"template": 2}}), true),
            (
                "example.com/v1",
                "Job",
                json!({"spec": {"template": 1}}),
                json!({"spec": {"template": 2}}),
                false,
            ),
        ] {
            let object = json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": "x"}});
            let id = crate::object::ObjectRef::of(&object).unwrap().id;
            assert_eq!(changed(&id, &old, &new), expected, "{kind} {old} {new}");
        }
    }
}
