//! Random live objects of every built-in kind: a well one, of which some fields are changed, removed or broken.

use serde_json::{Value, json};

use super::rng::Rng;

/// Every kind that Kubernetes 1.36 serves and keeps, those that it served before, and some of others.
const KINDS: &[(&str, &[&str])] = &[
    (
        "v1",
        &[
            "ConfigMap",
            "Endpoints",
            "Event",
            "LimitRange",
            "Namespace",
            "Node",
            "PersistentVolume",
            "PersistentVolumeClaim",
            "Pod",
            "PodTemplate",
            "ReplicationController",
            "ResourceQuota",
            "Secret",
            "Service",
            "ServiceAccount",
        ],
    ),
    ("apps/v1", &["ControllerRevision", "DaemonSet", "Deployment", "ReplicaSet", "StatefulSet"]),
    ("extensions/v1beta1", &["DaemonSet", "Deployment", "Ingress", "ReplicaSet", "StatefulSet"]),
    ("batch/v1", &["CronJob", "Job"]),
    ("policy/v1", &["PodDisruptionBudget"]),
    ("autoscaling/v2", &["HorizontalPodAutoscaler"]),
    ("networking.k8s.io/v1", &["IPAddress", "Ingress", "IngressClass", "NetworkPolicy", "ServiceCIDR"]),
    ("rbac.authorization.k8s.io/v1", &["ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"]),
    ("apiextensions.k8s.io/v1", &["CustomResourceDefinition"]),
    ("apiregistration.k8s.io/v1", &["APIService"]),
    (
        "admissionregistration.k8s.io/v1",
        &[
            "MutatingAdmissionPolicy",
            "MutatingAdmissionPolicyBinding",
            "MutatingWebhookConfiguration",
            "ValidatingAdmissionPolicy",
            "ValidatingAdmissionPolicyBinding",
            "ValidatingWebhookConfiguration",
        ],
    ),
    ("certificates.k8s.io/v1", &["CertificateSigningRequest", "ClusterTrustBundle"]),
    ("coordination.k8s.io/v1", &["Lease"]),
    ("discovery.k8s.io/v1", &["EndpointSlice"]),
    ("events.k8s.io/v1", &["Event"]),
    ("flowcontrol.apiserver.k8s.io/v1", &["FlowSchema", "PriorityLevelConfiguration"]),
    ("node.k8s.io/v1", &["RuntimeClass"]),
    ("resource.k8s.io/v1", &["DeviceClass", "ResourceClaim", "ResourceClaimTemplate", "ResourceSlice"]),
    ("scheduling.k8s.io/v1", &["PriorityClass"]),
    (
        "storage.k8s.io/v1",
        &[
            "CSIDriver",
            "CSINode",
            "CSIStorageCapacity",
            "StorageClass",
            "VolumeAttachment",
            "VolumeAttributesClass",
        ],
    ),
    ("example.com/v1", &["Deployment", "Job", "Pod", "Service", "Widget"]),
];

/// Fields that may be looked at, and some values for each; `null` removes the field.
const FIELDS: &[(&str, &[&str])] = &[
    ("/metadata/generation", &["1", "2", "2", "3", "null"]),
    ("/metadata/deletionTimestamp", &["null", "null", "null", "\"2026-01-01T00:00:00Z\""]),
    ("/spec/replicas", &["0", "1", "2", "3", "null"]),
    ("/spec/progressDeadlineSeconds", &["600", "2147483647", "null"]),
    ("/spec/updateStrategy", &["{}", "{\"type\":\"OnDelete\"}", "{\"type\":\"RollingUpdate\"}", "null"]),
    ("/spec/updateStrategy/rollingUpdate", &["{\"partition\":0}", "{\"partition\":1}", "{\"partition\":3}"]),
    ("/spec/type", &["\"ClusterIP\"", "\"LoadBalancer\"", "\"NodePort\"", "\"ExternalName\"", "null"]),
    ("/spec/clusterIP", &["\"10.0.0.1\"", "\"None\"", "\"\"", "null"]),
    ("/spec/suspend", &["true", "false", "null"]),
    ("/spec/parallelism", &["1", "3", "null"]),
    ("/spec/completions", &["1", "3", "null"]),
    ("/status/observedGeneration", &["1", "2", "2", "3", "null", "\"2\"", "2.5"]),
    ("/status/replicas", &["0", "1", "2", "3", "null", "\"2\""]),
    ("/status/readyReplicas", &["0", "1", "2", "3", "null"]),
    ("/status/updatedReplicas", &["0", "1", "2", "3", "null"]),
    ("/status/currentReplicas", &["0", "1", "2", "3", "null"]),
    ("/status/availableReplicas", &["0", "1", "2", "3", "null"]),
    ("/status/fullyLabeledReplicas", &["0", "1", "2", "3", "null"]),
    ("/status/currentRevision", &["\"a\"", "\"b\"", "null"]),
    ("/status/updateRevision", &["\"a\"", "\"b\"", "null"]),
    ("/status/desiredNumberScheduled", &["0", "1", "2", "3", "-1", "null"]),
    ("/status/currentNumberScheduled", &["0", "1", "2", "3", "null"]),
    ("/status/updatedNumberScheduled", &["0", "1", "2", "3", "null"]),
    ("/status/numberAvailable", &["0", "1", "2", "3", "null"]),
    ("/status/numberReady", &["0", "1", "2", "3", "null"]),
    ("/status/currentHealthy", &["0", "2", "null"]),
    ("/status/desiredHealthy", &["0", "2", "null"]),
    (
        "/status/phase",
        &[
            "\"Pending\"",
            "\"Running\"",
            "\"Succeeded\"",
            "\"Failed\"",
            "\"Bound\"",
            "\"Lost\"",
            "\"Active\"",
            "\"Terminating\"",
            "\"Unknown\"",
            "\"\"",
            "null",
        ],
    ),
    ("/status/startTime", &["\"2026-01-01T00:00:00Z\"", "null"]),
    ("/status/loadBalancer", &["{}", "{\"ingress\":[{\"ip\":\"10.0.0.1\"}]}", "null"]),
    (
        "/status/containerStatuses",
        &[
            "[{\"name\":\"a\",\"state\":{\"waiting\":{\"reason\":\"CrashLoopBackOff\"}}}]",
            "[{\"name\":\"a\",\"state\":{\"running\":{}}},{\"name\":\"b\",\"state\":{\"waiting\":{\"reason\":\"ImagePullBackOff\"}}}]",
            "null",
        ],
    ),
    (
        "/status/initContainerStatuses",
        &["[{\"name\":\"a\",\"state\":{\"waiting\":{\"reason\":\"CrashLoopBackOff\"}}}]", "null"],
    ),
    ("/status", &["{}", "null", "\"up\"", "[]"]),
    (
        "/status/conditions",
        &["[]", "{}", "\"Ready\"", "[\"Ready\"]", "[{\"type\":\"Ready\",\"status\":true}]", "[null]", "null"],
    ),
];

const CONDITIONS: &[(&str, &[&str])] = &[
    ("Ready", &["", "Wait"]),
    ("Stalled", &["", "Bad"]),
    ("Reconciling", &["", "Busy"]),
    (
        "Progressing",
        &["NewReplicaSetAvailable", "ProgressDeadlineExceeded", "ReplicaSetUpdated", "DeploymentPaused"],
    ),
    ("Available", &["MinimumReplicasAvailable", "MissingEndpoints"]),
    ("ReplicaFailure", &["FailedCreate"]),
    ("Complete", &["", "CompletionsReached"]),
    ("Failed", &["BackoffLimitExceeded", ""]),
    ("Suspended", &["JobSuspended"]),
    ("PodScheduled", &["Unschedulable", "SchedulerError", ""]),
    ("NamesAccepted", &["NoConflicts", "ListKindConflict"]),
    ("Established", &["InitialNamesAccepted", "Installing", "NotAccepted"]),
];

/// The object of a seed. Seeds in sequence go through all kinds.
pub fn object(seed: u64) -> Value {
    let all: Vec<(&str, &str)> = KINDS
        .iter()
        .flat_map(|(api_version, kinds)| kinds.iter().map(move |kind| (*api_version, *kind)))
        .collect();
    let mut rng = Rng::new(seed);
    let (api_version, kind) = all[(seed % all.len() as u64) as usize];
    let mut object = json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": "x", "generation": 2},
        "spec": {"replicas": 2, "clusterIP": "10.0.0.1"}, "status": well()});
    for _ in 0..rng.below(6) {
        let (pointer, values) = *rng.pick(FIELDS);
        let value = serde_json::from_str(rng.word(values)).unwrap_or_default();
        set(&mut object, pointer, value);
    }
    for _ in 0..rng.below(4) {
        let (kind, reasons) = *rng.pick(CONDITIONS);
        let status = rng.word(&["True", "True", "False", "Unknown", "Odd"]);
        let condition = json!({"type": kind, "status": status, "reason": rng.word(reasons), "message": "m"});
        if let Some(all) = object.pointer_mut("/status/conditions").and_then(Value::as_array_mut) {
            // A type stands in a list once, as a rule.
            if rng.chance(90) {
                all.retain(|old| old["type"] != kind);
            }
            let place = rng.between(0, all.len());
            all.insert(place, condition);
        }
    }
    object
}

/// A status that is well whatever the kind.
fn well() -> Value {
    let condition = |kind: &str, reason: &str| json!({"type": kind, "status": "True", "reason": reason});
    json!({"observedGeneration": 2, "replicas": 2, "readyReplicas": 2, "updatedReplicas": 2, "currentReplicas": 2,
        "availableReplicas": 2, "fullyLabeledReplicas": 2, "currentRevision": "a", "updateRevision": "a",
        "desiredNumberScheduled": 2, "currentNumberScheduled": 2, "updatedNumberScheduled": 2, "numberAvailable": 2,
        "numberReady": 2, "phase": "Running", "startTime": "2026-01-01T00:00:00Z", "conditions": [
            condition("Ready", ""), condition("Available", ""), condition("Progressing", "NewReplicaSetAvailable"),
            condition("Complete", ""), condition("Established", ""), condition("PodScheduled", "")]})
}

/// Sets a field, or removes it for null. Where there is no object to hold it nothing is done.
fn set(object: &mut Value, pointer: &str, value: Value) {
    let Some((above, name)) = pointer.rsplit_once('/') else { return };
    let Some(holder) = object.pointer_mut(above).and_then(Value::as_object_mut) else { return };
    if value.is_null() {
        holder.remove(name);
    } else {
        holder.insert(name.to_owned(), value);
    }
}
