//! Changes that the API server may refuse on an object that is there. A guess, to be confirmed by a dry run: what is told for
//! nothing costs a request, and what is not told is refused when it is applied.

use serde_json::Value;

use crate::object::ObjectId;

/// Groups whose kinds are all known here: what the table does not name may change freely. Kinds of others are defined by
/// CRDs, whose rules nobody here knows.
const KNOWN_GROUPS: [&str; 19] = [
    "",
    "admissionregistration.k8s.io",
    "apiextensions.k8s.io",
    "apiregistration.k8s.io",
    "apps",
    "authentication.k8s.io",
    "authorization.k8s.io",
    "autoscaling",
    "batch",
    "certificates.k8s.io",
    "coordination.k8s.io",
    "discovery.k8s.io",
    "events.k8s.io",
    "flowcontrol.apiserver.k8s.io",
    "node.k8s.io",
    "policy",
    "rbac.authorization.k8s.io",
    "scheduling.k8s.io",
    "storage.k8s.io",
];

/// Which fields of a kind may not change.
enum Fixed {
    /// These, as JSON pointers.
    Only(&'static [&'static str]),
    /// Those below this pointer, but for these.
    But(&'static str, &'static [&'static str]),
    /// These, once the object says that it is immutable.
    Sealed(&'static [&'static str]),
}

/// By what the validation of updates in Kubernetes 1.36 says (`pkg/apis/*/validation`), and what versions of the two years
/// before it said otherwise.
fn fixed(group: &str, kind: &str) -> Option<Fixed> {
    use Fixed::{But, Only, Sealed};
    Some(match (group, kind) {
        ("", "Pod") => {
            But("/spec", &["activeDeadlineSeconds", "terminationGracePeriodSeconds", "tolerations"])
        }
        ("", "Service") => Only(&[
            "/spec/clusterIP",
            "/spec/clusterIPs",
            "/spec/healthCheckNodePort",
            "/spec/ipFamilies",
            "/spec/loadBalancerClass",
            "/spec/type",
        ]),
        ("", "PersistentVolumeClaim") => But("/spec", &["resources", "volumeAttributesClassName"]),
        ("", "PersistentVolume") => But(
            "/spec",
            &[
                "accessModes",
                "capacity",
                "claimRef",
                "mountOptions",
                "persistentVolumeReclaimPolicy",
                "storageClassName",
            ],
        ),
        ("", "Secret") => Sealed(&["/data", "/stringData", "/immutable"]),
        ("", "ConfigMap") => Sealed(&["/data", "/binaryData", "/immutable"]),
        ("", "ResourceQuota") => Only(&["/spec/scopes", "/spec/scopeSelector"]),
        ("apps", "Deployment" | "DaemonSet" | "ReplicaSet") => Only(&["/spec/selector"]),
        ("apps", "StatefulSet") => But(
            "/spec",
            &[
                "minReadySeconds",
                "ordinals",
                "persistentVolumeClaimRetentionPolicy",
                "replicas",
                "revisionHistoryLimit",
                "template",
                "updateStrategy",
            ],
        ),
        ("apps", "ControllerRevision") => Only(&["/data"]),
        ("batch", "Job") => But(
            "/spec",
            &["activeDeadlineSeconds", "backoffLimit", "parallelism", "suspend", "ttlSecondsAfterFinished"],
        ),
        ("discovery.k8s.io", "EndpointSlice") => Only(&["/addressType"]),
        ("networking.k8s.io", "IngressClass") => Only(&["/spec/controller"]),
        ("networking.k8s.io", "ServiceCIDR" | "IPAddress") => Only(&["/spec"]),
        ("networking.k8s.io", "Ingress" | "NetworkPolicy") => Only(&[]),
        ("node.k8s.io", "RuntimeClass") => Only(&["/handler"]),
        ("policy", "PodDisruptionBudget") => Only(&[]),
        ("rbac.authorization.k8s.io", "RoleBinding" | "ClusterRoleBinding") => Only(&["/roleRef"]),
        ("resource.k8s.io", _) => Only(&["/spec"]),
        ("scheduling.k8s.io", "PriorityClass") => Only(&["/value", "/preemptionPolicy"]),
        ("storage.k8s.io", "StorageClass") => {
            Only(&["/provisioner", "/parameters", "/reclaimPolicy", "/volumeBindingMode"])
        }
        ("storage.k8s.io", "VolumeAttributesClass") => Only(&["/driverName", "/parameters"]),
        ("storage.k8s.io", "CSIDriver" | "VolumeAttachment" | "CSIStorageCapacity") => {
            Only(&["/spec", "/storageClassName", "/nodeTopology"])
        }
        ("apiextensions.k8s.io", "CustomResourceDefinition") => {
            Only(&["/spec/group", "/spec/scope", "/spec/names/plural", "/spec/names/kind"])
        }
        ("certificates.k8s.io", "ClusterTrustBundle") => Only(&["/spec/signerName"]),
        _ if KNOWN_GROUPS.contains(&group) => return None,
        // Transition rules of a CRD may fix anything.
        _ => But("", &["apiVersion", "kind", "metadata", "status"]),
    })
}

/// Whether `new` changes a field of `old` that may be fixed.
pub fn changed(id: &ObjectId, old: &Value, new: &Value) -> bool {
    let any = |pointers: &[&str]| pointers.iter().any(|pointer| old.pointer(pointer) != new.pointer(pointer));
    let but = |pointer: &str, free: &[&str]| {
        let fields =
            |value: &Value| value.pointer(pointer).and_then(Value::as_object).cloned().unwrap_or_default();
        let (mut old, mut new) = (fields(old), fields(new));
        old.retain(|key, _| !free.contains(&key.as_str()));
        new.retain(|key, _| !free.contains(&key.as_str()));
        old != new
    };
    let sealed = old.get("immutable") == Some(&Value::Bool(true));
    match fixed(&id.group, &id.kind) {
        None => false,
        Some(Fixed::Only(pointers)) => any(pointers),
        Some(Fixed::But(pointer, free)) => but(pointer, free),
        Some(Fixed::Sealed(pointers)) => (sealed && any(pointers)) || any(&["/type"]),
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
            ("batch/v1", "Job", json!({"spec": {"suspend": true}}), json!({"spec": {}}), false),
            ("v1", "Pod", json!({"spec": {"containers": [1]}}), json!({"spec": {"containers": [2]}}), true),
            ("v1", "Service", json!({"spec": {"ports": [1]}}), json!({"spec": {"ports": [2]}}), false),
            ("v1", "Service", json!({"spec": {"clusterIP": "10.0.0.1"}}), json!({"spec": {}}), true),
            ("scheduling.k8s.io/v1", "PriorityClass", json!({"value": 1}), json!({"value": 2}), true),
            ("node.k8s.io/v1", "RuntimeClass", json!({"handler": "a"}), json!({"handler": "b"}), true),
            ("networking.k8s.io/v1", "NetworkPolicy", json!({"spec": 1}), json!({"spec": 2}), false),
            // Nobody here knows the rules of a CRD.
            ("example.com/v1", "Job", json!({"spec": {"size": 1}}), json!({"spec": {"size": 2}}), true),
            ("example.com/v1", "Job", json!({"data": 1}), json!({"data": 2}), true),
            (
                "example.com/v1",
                "Job",
                json!({"metadata": {"labels": {"a": "b"}}, "spec": 1}),
                json!({"metadata": {}, "spec": 1}),
                false,
            ),
        ] {
            let object = json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": "x"}});
            let id = crate::object::ObjectRef::of(&object).unwrap().id;
            assert_eq!(changed(&id, &old, &new), expected, "{kind} {old} {new}");
        }
    }
}
