//! The built-in table of field specs: what kustomize 5.8 changes without being told.

use crate::config::{BackReference, Config};
use crate::fieldspec::FieldSpec;
use crate::gvk::Gvk;

/// Kinds with a pod template in `spec/template`.
const WORKLOADS: [&str; 5] = ["Deployment", "ReplicaSet", "DaemonSet", "StatefulSet", "Job"];
const CRON_POD: &str = "spec/jobTemplate/spec/template/spec";

fn gvk(group: &str, version: &str, kind: &str) -> Gvk {
    Gvk { group: group.into(), version: version.into(), kind: kind.into() }
}

fn spec(group: &str, kind: &str, path: &str, create: bool) -> FieldSpec {
    FieldSpec::new(gvk(group, "", kind), path, create)
}

fn versioned(kind: &str, path: &str, create: bool) -> FieldSpec {
    FieldSpec::new(gvk("", "v1", kind), path, create)
}

/// Field specs for a path inside the pod spec of every kind that has one.
fn in_pods(paths: &[&str]) -> Vec<FieldSpec> {
    let mut specs = Vec::new();
    for path in paths {
        specs.push(versioned("Pod", &format!("spec/{path}"), false));
        specs.push(spec("", "PodTemplate", &format!("template/spec/{path}"), false));
        specs.extend(WORKLOADS.map(|kind| spec("", kind, &format!("spec/template/spec/{path}"), false)));
        specs.push(spec("", "CronJob", &format!("{CRON_POD}/{path}"), false));
    }
    specs
}

/// As [`in_pods`], for the shorter list of kinds that kustomize has for service accounts, claims and priorities.
fn in_fewer_pods(path: &str) -> Vec<FieldSpec> {
    let mut specs = vec![spec("", "Pod", &format!("spec/{path}"), false)];
    for kind in ["StatefulSet", "Deployment", "ReplicationController", "Job", "DaemonSet"] {
        specs.push(spec("", kind, &format!("spec/template/spec/{path}"), false));
    }
    specs.push(spec("", "CronJob", &format!("{CRON_POD}/{path}"), false));
    specs
}

/// The whole table.
pub(crate) fn table() -> Config {
    let mut common_labels = selectors();
    common_labels.extend(template_labels());
    Config {
        name_prefix: vec![FieldSpec::any("metadata/name", false)],
        name_suffix: vec![FieldSpec::any("metadata/name", false)],
        namespace: vec![
            spec("", "Namespace", "metadata/name", true),
            spec("apiregistration.k8s.io", "APIService", "spec/service/namespace", true),
            spec(
                "apiextensions.k8s.io",
                "CustomResourceDefinition",
                "spec/conversion/webhook/clientConfig/service/namespace",
                false,
            ),
        ],
        common_labels,
        labels: Vec::new(),
        template_labels: template_labels(),
        volume_claim_template_labels: Vec::new(),
        common_annotations: annotations(),
        name_reference: name_references(),
        var_reference: var_references(),
        images: ["", "template/spec/"]
            .iter()
            .flat_map(|at| {
                ["containers[]/image", "initContainers[]/image", "volumes[]/image/reference"]
                    .map(|path| FieldSpec::any(&format!("spec/{at}{path}"), true))
            })
            .collect(),
        replicas: ["Deployment", "ReplicationController", "ReplicaSet", "StatefulSet"]
            .map(|kind| spec("", kind, "spec/replicas", true))
            .to_vec(),
    }
    .sorted()
}

/// Selectors, which `commonLabels` and `includeSelectors` change.
fn selectors() -> Vec<FieldSpec> {
    let mut specs = vec![
        versioned("Service", "spec/selector", true),
        versioned("ReplicationController", "spec/selector", true),
    ];
    for (group, kind) in [("", "Deployment"), ("", "ReplicaSet"), ("", "DaemonSet"), ("apps", "StatefulSet")]
    {
        specs.push(spec(group, kind, "spec/selector/matchLabels", true));
    }
    for kind in ["Deployment", "StatefulSet"] {
        for affinity in ["podAffinity", "podAntiAffinity"] {
            for rule in [
                "preferredDuringSchedulingIgnoredDuringExecution/podAffinityTerm",
                "requiredDuringSchedulingIgnoredDuringExecution",
            ] {
                let path = format!("spec/template/spec/affinity/{affinity}/{rule}/labelSelector/matchLabels");
                specs.push(spec("apps", kind, &path, false));
            }
        }
        specs.push(spec(
            "apps",
            kind,
            "spec/template/spec/topologySpreadConstraints/labelSelector/matchLabels",
            false,
        ));
    }
    specs.push(spec("batch", "Job", "spec/selector/matchLabels", false));
    specs.push(spec("batch", "CronJob", "spec/jobTemplate/spec/selector/matchLabels", false));
    specs.push(spec("policy", "PodDisruptionBudget", "spec/selector/matchLabels", false));
    for path in ["podSelector", "ingress/from/podSelector", "egress/to/podSelector"] {
        specs.push(spec("networking.k8s.io", "NetworkPolicy", &format!("spec/{path}/matchLabels"), false));
    }
    specs
}

/// Labels of objects and of the templates in them.
fn template_labels() -> Vec<FieldSpec> {
    vec![
        FieldSpec::any("metadata/labels", true),
        versioned("ReplicationController", "spec/template/metadata/labels", true),
        spec("", "Deployment", "spec/template/metadata/labels", true),
        spec("", "ReplicaSet", "spec/template/metadata/labels", true),
        spec("", "DaemonSet", "spec/template/metadata/labels", true),
        spec("apps", "StatefulSet", "spec/template/metadata/labels", true),
        spec("apps", "StatefulSet", "spec/volumeClaimTemplates[]/metadata/labels", true),
        spec("batch", "Job", "spec/template/metadata/labels", true),
        spec("batch", "CronJob", "spec/jobTemplate/metadata/labels", true),
        spec("batch", "CronJob", "spec/jobTemplate/spec/template/metadata/labels", true),
    ]
}

fn annotations() -> Vec<FieldSpec> {
    let mut specs = vec![
        FieldSpec::any("metadata/annotations", true),
        versioned("ReplicationController", "spec/template/metadata/annotations", true),
    ];
    for kind in ["Deployment", "ReplicaSet", "DaemonSet", "StatefulSet"] {
        specs.push(spec("", kind, "spec/template/metadata/annotations", true));
    }
    specs.push(spec("batch", "Job", "spec/template/metadata/annotations", true));
    specs.push(spec("batch", "CronJob", "spec/jobTemplate/metadata/annotations", true));
    specs.push(spec("batch", "CronJob", "spec/jobTemplate/spec/template/metadata/annotations", true));
    specs
}

fn name_references() -> Vec<BackReference> {
    let to = |group: &str, version: &str, kind: &str, referrers: Vec<FieldSpec>| BackReference {
        gvk: gvk(group, version, kind),
        referrers,
    };
    let rbac = "rbac.authorization.k8s.io";
    let mut list = Vec::new();
    for kind in ["Deployment", "ReplicationController", "ReplicaSet", "StatefulSet"] {
        list.push(to(
            "",
            "",
            kind,
            vec![spec("", "HorizontalPodAutoscaler", "spec/scaleTargetRef/name", false)],
        ));
    }
    let mut config_map = in_pods(&[
        "volumes/configMap/name",
        "containers/env/valueFrom/configMapKeyRef/name",
        "initContainers/env/valueFrom/configMapKeyRef/name",
        "containers/envFrom/configMapRef/name",
        "initContainers/envFrom/configMapRef/name",
        "volumes/projected/sources/configMap/name",
    ]);
    config_map.push(spec("", "Node", "spec/configSource/configMap", false));
    config_map.push(spec("", "Role", "rules/resourceNames", false));
    config_map.push(spec("", "ClusterRole", "rules/resourceNames", false));
    let fastcgi = r"metadata/annotations/nginx.ingress.kubernetes.io\/fastcgi-params-configmap";
    config_map.push(spec("", "Ingress", fastcgi, false));
    list.push(to("", "v1", "ConfigMap", config_map));
    list.push(to("", "v1", "Secret", secret_referrers()));

    let admission = "admissionregistration.k8s.io";
    let mut service = vec![spec("apps", "StatefulSet", "spec/serviceName", false)];
    for path in [
        "spec/rules/http/paths/backend/serviceName",
        "spec/backend/serviceName",
        "spec/rules/http/paths/backend/service/name",
        "spec/defaultBackend/service/name",
    ] {
        service.push(spec("", "Ingress", path, false));
    }
    service.push(spec("apiregistration.k8s.io", "APIService", "spec/service/name", false));
    for kind in ["ValidatingWebhookConfiguration", "MutatingWebhookConfiguration"] {
        service.push(spec(admission, kind, "webhooks/clientConfig/service", false));
    }
    list.push(to("", "v1", "Service", service));
    list.push(to(rbac, "", "Role", vec![spec(rbac, "RoleBinding", "roleRef/name", false)]));
    let bindings = ["RoleBinding", "ClusterRoleBinding"];
    list.push(to(
        rbac,
        "",
        "ClusterRole",
        bindings.map(|kind| spec(rbac, kind, "roleRef/name", false)).to_vec(),
    ));
    let mut account = bindings.map(|kind| spec(rbac, kind, "subjects", false)).to_vec();
    account.extend(in_fewer_pods("serviceAccountName"));
    list.push(to("", "v1", "ServiceAccount", account));
    list.push(to(
        "",
        "v1",
        "PersistentVolumeClaim",
        in_fewer_pods("volumes/persistentVolumeClaim/claimName"),
    ));
    list.push(to(
        "",
        "v1",
        "PersistentVolume",
        vec![
            spec("", "PersistentVolumeClaim", "spec/volumeName", false),
            spec("", "ClusterRole", "rules/resourceNames", false),
        ],
    ));
    list.push(to(
        "storage.k8s.io",
        "v1",
        "StorageClass",
        vec![
            spec("", "PersistentVolume", "spec/storageClassName", false),
            spec("", "PersistentVolumeClaim", "spec/storageClassName", false),
            spec("", "StatefulSet", "spec/volumeClaimTemplates/spec/storageClassName", false),
        ],
    ));
    list.push(to("scheduling.k8s.io", "v1", "PriorityClass", in_fewer_pods("priorityClassName")));
    // The group is kustomize's own slip: it matches no IngressClass, and people's output depends on it.
    list.push(to(
        "networking.k8s.io/v1",
        "v1",
        "IngressClass",
        vec![spec("", "Ingress", "spec/ingressClassName", false)],
    ));
    list.push(to(
        admission,
        "",
        "ValidatingAdmissionPolicy",
        vec![spec(admission, "ValidatingAdmissionPolicyBinding", "spec/policyName", false)],
    ));
    list
}

fn secret_referrers() -> Vec<FieldSpec> {
    let mut secret = in_pods(&[
        "volumes/secret/secretName",
        "containers/env/valueFrom/secretKeyRef/name",
        "initContainers/env/valueFrom/secretKeyRef/name",
        "containers/envFrom/secretRef/name",
        "initContainers/envFrom/secretRef/name",
        "imagePullSecrets/name",
        "volumes/projected/sources/secret/name",
    ]);
    secret.push(spec("", "Ingress", "spec/tls/secretName", false));
    for annotation in [
        r"ingress.kubernetes.io\/auth-secret",
        r"nginx.ingress.kubernetes.io\/auth-secret",
        r"nginx.ingress.kubernetes.io\/auth-tls-secret",
    ] {
        secret.push(spec("", "Ingress", &format!("metadata/annotations/{annotation}"), false));
    }
    secret.push(spec("", "ServiceAccount", "imagePullSecrets/name", false));
    for parameter in ["secretName", "adminSecretName", "userSecretName", "secretRef"] {
        secret.push(spec("", "StorageClass", &format!("parameters/{parameter}"), false));
    }
    secret.push(spec("", "Role", "rules/resourceNames", false));
    secret.push(spec("", "ClusterRole", "rules/resourceNames", false));
    let knative = gvk("serving.knative.dev", "v1", "Service");
    secret.push(FieldSpec::new(
        knative,
        "spec/template/spec/containers/env/valueFrom/secretKeyRef/name",
        false,
    ));
    secret.push(spec("", "PersistentVolume", "spec/azureFile/secretName", false));
    secret
}

fn var_references() -> Vec<FieldSpec> {
    let mut specs = Vec::new();
    let containers = ["args", "command", "env/value", "volumeMounts/mountPath"];
    let pods = [("Pod", "spec")].into_iter().chain(WORKLOADS.map(|k| (k, "spec/template/spec")));
    for (kind, at) in pods.chain([("CronJob", CRON_POD)]) {
        for list in ["containers", "initContainers"] {
            specs.extend(containers.map(|field| spec("", kind, &format!("{at}/{list}/{field}"), false)));
        }
        match kind {
            // As it stands in kustomize, without `spec`.
            "CronJob" => {
                specs.push(spec("", kind, "spec/jobTemplate/spec/template/volumes/nfs/server", false))
            }
            "StatefulSet" => specs.push(spec("", kind, "spec/volumeClaimTemplates/spec/nfs/server", false)),
            _ => specs.push(spec("", kind, &format!("{at}/volumes/nfs/server"), false)),
        }
    }
    for (kind, path) in [
        ("Deployment", "spec/template/metadata/annotations"),
        ("Ingress", "spec/rules/host"),
        ("Ingress", "spec/tls/hosts"),
        ("Ingress", "spec/tls/secretName"),
        ("Service", "spec/ports/port"),
        ("Service", "spec/ports/targetPort"),
        ("PersistentVolume", "spec/nfs/server"),
    ] {
        specs.push(spec("", kind, path, false));
    }
    specs.push(FieldSpec::any("metadata/labels", false));
    specs.push(FieldSpec::any("metadata/annotations", false));
    specs
}
