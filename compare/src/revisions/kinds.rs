//! Objects of built-in kinds and one of a CRD, with fields of every way of merging.

use serde_json::{Value, json};

use super::{Draw, FLUX, PLACE, pod};
use crate::random::rng::Rng;

/// Kinds, those with much to merge several times.
pub(super) const KINDS: [&str; 26] = [
    "Deployment",
    "Deployment",
    "Deployment",
    "StatefulSet",
    "DaemonSet",
    "CronJob",
    "Job",
    "Service",
    "Service",
    "ConfigMap",
    "Secret",
    "Secret",
    "ServiceAccount",
    "Role",
    "RoleBinding",
    "ClusterRole",
    "Ingress",
    "NetworkPolicy",
    "HorizontalPodAutoscaler",
    "PodDisruptionBudget",
    "LimitRange",
    "StorageClass",
    "PriorityClass",
    "ValidatingWebhookConfiguration",
    "Widget",
    "Widget",
];

/// The CRD of the kind that is no built-in one, for a place.
pub fn definition(place: &str) -> Value {
    let text = json!({"type": "string"});
    let item = json!({"type": "object", "required": ["name"], "properties":
        {"name": text, "port": {"type": "integer", "default": 80}, "value": text}});
    let keyed = |keys: &[&str]| json!({"type": "array", "items": item, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": keys});
    let spec = json!({"type": "object", "properties": {
        "size": {"type": "integer"},
        "mode": {"type": "string", "default": "plain"},
        "named": keyed(&["name"]),
        "pairs": keyed(&["name", "port"]),
        "set": {"type": "array", "items": text, "x-kubernetes-list-type": "set"},
        "list": {"type": "array", "items": text},
        "map": {"type": "object", "additionalProperties": text},
        "whole": {"type": "object", "additionalProperties": text, "x-kubernetes-map-type": "atomic"},
        "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
    }});
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("widgets.{place}.example.com")},
        "spec": {"group": format!("{place}.example.com"), "scope": "Namespaced",
            "names": {"kind": "Widget", "plural": "widgets"},
            "versions": [{"name": "v1", "served": true, "storage": true, "subresources": {"status": {}}, "schema": {"openAPIV3Schema": {
                "type": "object", "properties": {"spec": spec,
                    "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}}}]}})
}

fn api_version(kind: &str) -> String {
    match kind {
        "Deployment" | "StatefulSet" | "DaemonSet" => "apps/v1",
        "CronJob" | "Job" => "batch/v1",
        "Role" | "RoleBinding" | "ClusterRole" => "rbac.authorization.k8s.io/v1",
        "Ingress" | "NetworkPolicy" => "networking.k8s.io/v1",
        "HorizontalPodAutoscaler" => "autoscaling/v2",
        "PodDisruptionBudget" => "policy/v1",
        "StorageClass" => "storage.k8s.io/v1",
        "PriorityClass" => "scheduling.k8s.io/v1",
        "ValidatingWebhookConfiguration" => "admissionregistration.k8s.io/v1",
        "Widget" => return format!("{PLACE}.example.com/v1"),
        _ => "v1",
    }
    .to_owned()
}

/// Whether another content of the object would be refused, if it is not made anew.
pub(super) fn fixed_in(kind: &str, object: &Value) -> bool {
    matches!(kind, "Job" | "StorageClass" | "PriorityClass") || object["immutable"] == true
}

/// A merge patch that somebody makes to any object of a kind; `/` in names is kept.
pub(super) fn edit(rng: &mut Rng, kind: &str) -> Value {
    let label = |rng: &mut Rng| {
        let value = rng.pick(&[json!("edited"), json!("1"), Value::Null]).clone();
        let key = rng.word(&["a", "b", "theirs"]);
        json!({"metadata": {rng.word(&["labels", "annotations"]): {key: value}}})
    };
    let value = |rng: &mut Rng| rng.pick(&[json!("edited"), json!("MQ=="), Value::Null]).clone();
    if rng.chance(12) {
        let (word, value) = *rng.pick(&[
            ("reconcile", "disabled"),
            ("prune", "Disabled"),
            ("ssa", "Merge"),
            ("ssa", "ignore"),
            ("ssa", "IfNotPresent"),
            ("force", "Enabled"),
        ]);
        let place = rng.word(&["labels", "annotations"]);
        return json!({"metadata": {place: {format!("{FLUX}/{word}"): value, "theirs": "1"}}});
    }
    match (kind, rng.below(3)) {
        ("ConfigMap" | "Secret", 0 | 1) => {
            let key = rng.word(&["a", "b", "theirs"]);
            let mut value = value(rng);
            if kind == "Secret" && value == "edited" {
                value = json!("ZWRpdGVk");
            }
            json!({"data": {key: value}})
        }
        ("Deployment", 0) => json!({"spec": {"replicas": 0, "paused": rng.chance(50)}}),
        ("Deployment" | "DaemonSet", 1) => {
            let container = json!({"name": "web", "image": "edited", "env": [{"name": "A", "value": "edited"}, {"name": "THEIRS", "value": "1"}]});
            json!({"spec": {"template": {"spec": {"containers": [container]}}}})
        }
        ("Service", 0) => json!({"spec": {"selector": {"a": "edited"}, "sessionAffinity": "ClientIP"}}),
        ("Widget", 0) => {
            json!({"spec": {"size": 99, "map": {"a": "edited", "theirs": "1"}, "set": ["theirs"]}})
        }
        ("Widget", 1) => {
            json!({"spec": {"named": [{"name": "x", "value": "edited"}, {"name": "theirs"}], "list": null}})
        }
        ("ServiceAccount", 0) => json!({"imagePullSecrets": [{"name": "theirs"}]}),
        ("Role" | "ClusterRole", 0) => {
            json!({"rules": [{"apiGroups": [""], "resources": ["theirs"], "verbs": ["get"]}]})
        }
        ("NetworkPolicy", 0) => json!({"spec": {"policyTypes": ["Ingress", "Egress"]}}),
        _ => label(rng),
    }
}

pub(super) fn object(draw: &mut Draw, kind: &str, name: &str) -> Value {
    let mut object = json!({"apiVersion": api_version(kind), "kind": kind, "metadata": {"name": name}});
    let cluster_wide =
        ["ClusterRole", "StorageClass", "PriorityClass", "ValidatingWebhookConfiguration"].contains(&kind);
    if !cluster_wide {
        object["metadata"]["namespace"] = PLACE.into();
    }
    metadata(draw, &mut object["metadata"]);
    draw.inside(kind, |draw| body(draw, kind, &mut object));
    object
}

fn metadata(draw: &mut Draw, metadata: &mut Value) {
    draw.maybe(metadata, "labels", 50, |draw, _| {
        let mut labels = draw.texts("labels", 3);
        if let Some(labels) = labels.as_object_mut() {
            labels.retain(|_, value| value.as_str().is_some_and(|text| !text.contains(' ')));
            if labels.is_empty() {
                // Flux drops an empty one before it applies: docs/flux.md.
                labels.insert("a".to_owned(), "1".into());
            }
        }
        labels
    });
    draw.maybe(metadata, "annotations", 50, |draw, _| draw.texts("annotations", 5));
    for (word, value, percent) in [
        ("ssa", "Merge", 8),
        ("ssa", "IfNotPresent", 5),
        ("ssa", "Ignore", 3),
        ("ssa", "Override", 3),
        ("force", "enabled", 6),
        ("prune", "disabled", 8),
        ("reconcile", "disabled", 4),
        ("reconcile", "enabled", 3),
    ] {
        let mut rng = draw.rng(&format!("{word}/{value}"));
        if rng.chance(percent) {
            let place = if rng.chance(75) { "annotations" } else { "labels" };
            let value = if rng.chance(25) { value.to_lowercase() } else { value.to_owned() };
            metadata[place][format!("{FLUX}/{word}")] = value.into();
        }
    }
    draw.one_of(metadata, "creationTimestamp", 10, &[Value::Null]);
}

/// A workload's labels never change, as its selector does not.
fn template(draw: &mut Draw, restart: Option<&str>) -> Value {
    let mut labels = json!({"app": "x"});
    draw.one_of(&mut labels, "tier", 40, &["a".into(), "b".into()]);
    let mut metadata = json!({"labels": labels});
    draw.maybe(&mut metadata, "annotations", 30, |draw, _| draw.texts("annotations", 3));
    let mut spec = pod::spec(draw, restart);
    pod::lively(draw, &mut spec);
    json!({"metadata": metadata, "spec": spec})
}

fn body(draw: &mut Draw, kind: &str, object: &mut Value) {
    match kind {
        "Deployment" => {
            let spec = workload(draw, object);
            draw.one_of(spec, "replicas", 50, &[0.into(), 1.into()]);
            draw.one_of(spec, "paused", 20, &[true.into(), false.into()]);
            draw.one_of(spec, "minReadySeconds", 20, &[0.into(), 5.into()]);
            draw.maybe(spec, "strategy", 30, |_, rng| match rng.below(3) {
                0 => json!({"type": "Recreate"}),
                1 => json!({}),
                _ => json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": "20%"}}),
            });
        }
        "StatefulSet" => {
            let spec = workload(draw, object);
            spec["serviceName"] = "x".into();
            spec["replicas"] = 0.into();
        }
        "DaemonSet" => {
            let spec = workload(draw, object);
            draw.one_of(
                spec,
                "updateStrategy",
                30,
                &[json!({"type": "OnDelete"}), json!({"type": "RollingUpdate"})],
            );
        }
        "Job" => {
            object["spec"] = json!({"suspend": true, "template": template(draw, Some("Never"))});
            draw.one_of(&mut object["spec"], "backoffLimit", 50, &[0.into(), 3.into()]);
        }
        "CronJob" => {
            let job = json!({"spec": {"template": template(draw, Some("OnFailure"))}});
            object["spec"] = json!({"schedule": "@yearly", "jobTemplate": job});
            draw.one_of(&mut object["spec"], "concurrencyPolicy", 40, &["Allow".into(), "Forbid".into()]);
            draw.one_of(&mut object["spec"], "suspend", 40, &[true.into(), false.into()]);
        }
        "Service" => service(draw, object),
        "ConfigMap" => {
            draw.maybe(object, "data", 80, |draw, _| draw.texts("data", 5));
            draw.maybe(object, "binaryData", 30, |_, _| json!({"bin": "AAE="}));
            draw.one_of(object, "immutable", 10, &[false.into(), true.into()]);
        }
        "Secret" => {
            draw.maybe(object, "stringData", 60, |draw, _| draw.texts("stringData", 4));
            draw.maybe(object, "data", 40, |_, rng| {
                rng.pick(&[json!({"a": "MQ=="}), json!({"x": "Mg==", "b": ""}), json!({})]).clone()
            });
            draw.one_of(object, "type", 30, &["Opaque".into()]);
        }
        "ServiceAccount" => {
            draw.maybe(object, "imagePullSecrets", 60, |draw, _| {
                draw.items("imagePullSecrets", &["one", "two", "three"], 0, |_, name| json!({"name": name}))
            });
            draw.maybe(object, "secrets", 40, |draw, _| {
                draw.items("secrets", &["one", "two", "three"], 0, |_, name| json!({"name": name}))
            });
            draw.one_of(object, "automountServiceAccountToken", 50, &[true.into(), false.into()]);
        }
        "Role" => object["rules"] = rules(draw),
        "ClusterRole" => {
            if draw.rng("aggregated").chance(30) {
                object["aggregationRule"] =
                    json!({"clusterRoleSelectors": [{"matchLabels": {"nobody": "has-this"}}]});
                draw.one_of(object, "rules", 60, &[json!([]), Value::Null]);
            } else {
                object["rules"] = rules(draw);
            }
        }
        "RoleBinding" => {
            object["roleRef"] =
                json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"});
            object["subjects"] = draw.items(
                "subjects",
                &["one", "two", "three"],
                0,
                |_, name| json!({"kind": "ServiceAccount", "name": name, "namespace": "default"}),
            );
        }
        "Ingress" => {
            object["spec"]["rules"] = draw.items("rules", &["a.example", "b.example"], 1, |draw, host| {
                let path = draw.rng("path").word(&["/", "/x"]);
                let backend = json!({"service": {"name": "web", "port": {"number": 80}}});
                json!({"host": host, "http": {"paths": [{"path": path, "pathType": "Prefix", "backend": backend}]}})
            });
            draw.one_of(&mut object["spec"], "ingressClassName", 40, &["a".into(), "b".into()]);
            draw.maybe(&mut object["spec"], "tls", 40, |draw, _| {
                draw.items(
                    "tls",
                    &["a.example", "b.example"],
                    1,
                    |_, host| json!({"hosts": [host], "secretName": "tls"}),
                )
            });
        }
        "NetworkPolicy" => {
            object["spec"] = json!({"podSelector": {}});
            draw.one_of(
                &mut object["spec"],
                "policyTypes",
                60,
                &[json!(["Ingress"]), json!(["Ingress", "Egress"])],
            );
            draw.maybe(&mut object["spec"], "ingress", 60, |draw, _| {
                draw.items(
                    "ingress",
                    &["80", "443"],
                    0,
                    |_, port| json!({"ports": [{"port": port.parse::<u16>().unwrap_or(1)}]}),
                )
            });
        }
        "HorizontalPodAutoscaler" => {
            object["spec"] = json!({"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "nobody"},
                "maxReplicas": draw.rng("max").between(2, 5)});
            draw.one_of(&mut object["spec"], "minReplicas", 50, &[1.into(), 2.into()]);
            draw.maybe(&mut object["spec"], "metrics", 60, |draw, _| {
                draw.items("metrics", &["cpu", "memory"], 1, |draw, name| {
                    let target = json!({"type": "Utilization", "averageUtilization": draw.rng("target").between(10, 90)});
                    json!({"type": "Resource", "resource": {"name": name, "target": target}})
                })
            });
        }
        "PodDisruptionBudget" => {
            object["spec"] = json!({"selector": {"matchLabels": {"app": draw.rng("app").word(&["a", "b"])}}});
            let field = draw.rng("bound").word(&["minAvailable", "maxUnavailable"]);
            object["spec"][field] = draw.rng("amount").pick(&[json!(1), json!("50%")]).clone();
        }
        "LimitRange" => {
            object["spec"]["limits"] = draw.items(
                "limits",
                &["Container", "Pod"],
                1,
                |draw, kind| json!({"type": kind, "max": {"cpu": draw.rng("cpu").word(&["8", "9"])}}),
            );
        }
        "StorageClass" => {
            object["provisioner"] = draw.rng("provisioner").word(&["example.com/a", "example.com/b"]).into();
            draw.maybe(object, "parameters", 50, |draw, _| draw.texts("parameters", 3));
            draw.one_of(object, "allowVolumeExpansion", 40, &[true.into(), false.into()]);
        }
        "PriorityClass" => {
            object["value"] = draw.rng("value").between(1, 3).into();
            draw.one_of(object, "description", 50, &["".into(), "x".into(), "y".into()]);
        }
        "ValidatingWebhookConfiguration" => {
            object["webhooks"] = draw.items("webhooks", &["a.w.example.com", "b.w.example.com"], 1, |draw, name| {
                let mut hook = json!({"name": name, "sideEffects": "None", "admissionReviewVersions": ["v1"], "failurePolicy": "Ignore",
                    "clientConfig": {"service": {"name": "s", "namespace": "nowhere", "path": "/x"}},
                    "rules": [{"apiGroups": ["nope.example.com"], "apiVersions": ["*"], "operations": ["*"], "resources": ["nopes"]}]});
                draw.one_of(&mut hook, "timeoutSeconds", 50, &[1.into(), 10.into()]);
                draw.maybe(&mut hook, "matchConditions", 30, |draw, _| {
                    draw.items("matchConditions", &["one", "two"], 1, |_, name| json!({"name": name, "expression": "true"}))
                });
                hook
            });
        }
        _ => widget(draw, object),
    }
}

fn workload<'a>(draw: &mut Draw, object: &'a mut Value) -> &'a mut Value {
    object["spec"] = json!({"selector": {"matchLabels": {"app": "x"}}, "template": template(draw, None)});
    draw.one_of(&mut object["spec"], "revisionHistoryLimit", 30, &[0.into(), 3.into()]);
    &mut object["spec"]
}

fn service(draw: &mut Draw, object: &mut Value) {
    let mut spec = json!({});
    spec["ports"] = draw.items("ports", &["80", "443", "53"], 1, |draw, port| {
        let mut entry = json!({"name": format!("p{port}"), "port": port.parse::<u16>().unwrap_or(1)});
        draw.one_of(&mut entry, "protocol", 50, &["TCP".into(), "UDP".into()]);
        draw.one_of(&mut entry, "targetPort", 50, &[8080.into(), "http".into()]);
        draw.one_of(&mut entry, "appProtocol", 20, &["http".into()]);
        entry
    });
    draw.maybe(&mut spec, "selector", 70, |draw, _| {
        let mut labels = draw.texts("selector", 3);
        if let Some(labels) = labels.as_object_mut() {
            labels.retain(|_, value| value.as_str().is_some_and(|text| !text.contains(' ')));
            if labels.is_empty() {
                // Flux drops an empty one before it applies: docs/flux.md.
                labels.insert("a".to_owned(), "1".into());
            }
        }
        labels
    });
    draw.one_of(&mut spec, "sessionAffinity", 30, &["None".into(), "ClientIP".into()]);
    draw.one_of(
        &mut spec,
        "externalIPs",
        30,
        &[json!(["1.2.3.4"]), json!(["1.2.3.4", "1.2.3.5"]), json!([])],
    );
    draw.one_of(&mut spec, "publishNotReadyAddresses", 30, &[true.into(), false.into()]);
    draw.one_of(&mut spec, "type", 20, &["ClusterIP".into()]);
    object["spec"] = spec;
}

fn rules(draw: &mut Draw) -> Value {
    draw.items("rules", &["pods", "secrets", "services"], 0, |draw, resource| {
        json!({"apiGroups": [""], "resources": [resource], "verbs": [draw.rng("verb").word(&["get", "list"])]})
    })
}

fn widget(draw: &mut Draw, object: &mut Value) {
    let mut spec = json!({});
    draw.one_of(&mut spec, "size", 60, &[0.into(), 1.into(), 2.into()]);
    draw.one_of(&mut spec, "mode", 40, &["plain".into(), "fancy".into()]);
    for field in ["named", "pairs"] {
        draw.maybe(&mut spec, field, 60, |draw, _| {
            draw.items(field, &["x", "y", "z"], 0, |draw, name| {
                let mut item = json!({"name": name});
                draw.one_of(&mut item, "port", 50, &[80.into(), 81.into()]);
                draw.one_of(&mut item, "value", 60, &["1".into(), "2".into()]);
                item
            })
        });
    }
    draw.one_of(&mut spec, "set", 60, &[json!(["a"]), json!(["b", "a"]), json!(["c"]), json!([])]);
    draw.one_of(&mut spec, "list", 60, &[json!(["a", "a"]), json!(["b", "a"]), json!([])]);
    draw.maybe(&mut spec, "map", 60, |draw, _| draw.texts("map", 4));
    draw.maybe(&mut spec, "whole", 40, |draw, _| draw.texts("whole", 3));
    draw.one_of(
        &mut spec,
        "free",
        40,
        &[json!({"a": {"b": 1}}), json!({"a": {"c": [1, {"d": null}]}}), json!({})],
    );
    object["spec"] = spec;
    draw.one_of(object, "status", 15, &[json!({}), json!({"ready": true})]);
}
