//! The engine on a real API server: contents that it refuses for what is there, and those that would be fought over.

mod engine_common;

use engine_common::{Bench, LIMIT, at, config};
use flotilla_core::UnitSpec;
use flotilla_core::report::Phase;
use flotilla_tests::objects::{ObjectRef, api, apply};
use flotilla_tests::wait::eventually;
use flotilla_tests::{ClusterOptions, ControllerManager};
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

/// Controllers act on objects, and no node takes pods.
fn with_controllers() -> ClusterOptions {
    ClusterOptions {
        controller_manager: Some(ControllerManager::default()),
        fake_kubelet: false,
        ..ClusterOptions::default()
    }
}

/// An object of any kind; `rest` are its fields beside metadata.
fn object(api_version: &str, kind: &str, namespace: Option<&str>, name: &str, rest: Value) -> Value {
    let mut object = rest;
    object["apiVersion"] = api_version.into();
    object["kind"] = kind.into();
    object["metadata"]["name"] = name.into();
    if let Some(namespace) = namespace {
        object["metadata"]["namespace"] = namespace.into();
    }
    object
}

async fn json_of(bench: &Bench, object: &Value) -> Value {
    ObjectRef::of(object).unwrap().json(&bench.client()).await.unwrap()
}

/// Kind, its version, whether it is in a namespace, and two contents of which the second cannot replace the first. Names
/// stand for `NAME`, addresses that nobody else has for `IP`.
fn changes() -> Vec<(&'static str, &'static str, bool, Value, Value)> {
    let pod = |value: &str| json!({"containers": [{"name": "c", "image": "i", "env": [{"name": "V", "value": value}]}]});
    let template = |label: &str| json!({"metadata": {"labels": {"l": label}}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let selects = |label: &str| json!({"spec": {"replicas": 1, "selector": {"matchLabels": {"l": label}}, "template": template(label)}});
    let set = |service: &str| {
        let mut set = selects("a");
        set["spec"]["serviceName"] = service.into();
        set
    };
    let job = |image: &str| json!({"spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": image}]}}}});
    let role = |name: &str| json!({"roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name}, "subjects": []});
    let service = |last: u8| {
        json!({"spec": {"type": "NodePort", "clusterIP": format!("IP{last}"), "selector": {"a": "b"},
            "ports": [{"port": 80, "nodePort": "PORT"}]}})
    };
    let slice = |kind: &str| json!({"addressType": kind, "endpoints": [], "ports": []});
    vec![
        ("apps/v1", "Deployment", true, selects("a"), selects("b")),
        ("apps/v1", "StatefulSet", true, set("a"), set("b")),
        ("batch/v1", "Job", true, job("a"), job("b")),
        ("v1", "Pod", true, json!({"spec": pod("a")}), json!({"spec": pod("b")})),
        ("v1", "Service", true, service(1), service(2)),
        ("v1", "Secret", true, json!({"type": "example.com/a"}), json!({"type": "example.com/b"})),
        (
            "v1",
            "ConfigMap",
            true,
            json!({"immutable": true, "data": {"v": "a"}}),
            json!({"immutable": true, "data": {"v": "b"}}),
        ),
        (
            "v1",
            "ResourceQuota",
            true,
            json!({"spec": {"scopes": ["BestEffort"]}}),
            json!({"spec": {"scopes": ["NotBestEffort"]}}),
        ),
        (
            "apps/v1",
            "ControllerRevision",
            true,
            json!({"revision": 1, "data": {"v": 1}}),
            json!({"revision": 1, "data": {"v": 2}}),
        ),
        ("discovery.k8s.io/v1", "EndpointSlice", true, slice("IPv4"), slice("IPv6")),
        ("rbac.authorization.k8s.io/v1", "RoleBinding", true, role("a"), role("b")),
        ("rbac.authorization.k8s.io/v1", "ClusterRoleBinding", false, role("a"), role("b")),
        (
            "storage.k8s.io/v1",
            "StorageClass",
            false,
            json!({"provisioner": "example.com/a"}),
            json!({"provisioner": "example.com/b"}),
        ),
        (
            "storage.k8s.io/v1",
            "StorageClass",
            false,
            json!({"provisioner": "example.com/a", "parameters": {"a": "1"}}),
            json!({"provisioner": "example.com/a", "parameters": {"a": "2"}}),
        ),
        (
            "storage.k8s.io/v1",
            "CSIDriver",
            false,
            json!({"spec": {"attachRequired": true}}),
            json!({"spec": {"attachRequired": false}}),
        ),
        ("scheduling.k8s.io/v1", "PriorityClass", false, json!({"value": 1000}), json!({"value": 2000})),
        (
            "scheduling.k8s.io/v1",
            "PriorityClass",
            false,
            json!({"value": 1, "preemptionPolicy": "Never"}),
            json!({"value": 1, "preemptionPolicy": "PreemptLowerPriority"}),
        ),
        ("node.k8s.io/v1", "RuntimeClass", false, json!({"handler": "a"}), json!({"handler": "b"})),
        (
            "networking.k8s.io/v1",
            "IngressClass",
            false,
            json!({"spec": {"controller": "example.com/a"}}),
            json!({"spec": {"controller": "example.com/b"}}),
        ),
        ("example.com/v1", "Ruled", true, json!({"spec": {"size": 1}}), json!({"spec": {"size": 2}})),
    ]
}

/// Fills in what differs from object to object: of unit `side` and row `row`.
fn placed(value: &Value, row: usize, side: u8) -> Value {
    let number = row * 2 + usize::from(side);
    let text = value.to_string();
    let text = text.replace("IP1", &format!("10.96.200.{}", 2 + number));
    let text = text.replace("IP2", &format!("10.96.201.{}", 2 + number));
    serde_json::from_str(&text.replace("\"PORT\"", &(30100 + number).to_string())).unwrap()
}

/// Whether all that is wanted stands in what was found, lists as a whole.
fn holds(found: &Value, wanted: &Value) -> bool {
    match (found, wanted) {
        (Value::Object(found), Value::Object(wanted)) => {
            wanted.iter().all(|(key, wanted)| found.get(key).is_some_and(|found| holds(found, wanted)))
        }
        (Value::Array(found), Value::Array(wanted)) => {
            found.len() == wanted.len()
                && found.iter().zip(wanted).all(|(found, wanted)| holds(found, wanted))
        }
        // The API server leaves an empty list out.
        (found, wanted) => found == wanted,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_cannot_be_changed_is_made_anew_by_force_and_else_leaves_its_unit_whole() {
    let mut bench = Bench::start(&with_controllers()).await;
    let client = bench.client();
    let rule = json!([{"rule": "self.size == oldSelf.size", "message": "a size is for ever"}]);
    let ruled = object(
        "apiextensions.k8s.io/v1",
        "CustomResourceDefinition",
        None,
        "ruleds.example.com",
        json!({
        "spec": {"group": "example.com", "scope": "Namespaced", "names": {"kind": "Ruled", "plural": "ruleds"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object",
                "properties": {"spec": {"type": "object", "x-kubernetes-validations": rule,
                    "properties": {"size": {"type": "integer"}}}}}}}]}}),
    );
    bench.present("ruled", UnitSpec::default(), &[ruled]);
    bench.publish();
    bench.until_ready().await;

    let rows = changes();
    let make = |row: usize, side: u8, revision: usize| {
        let (version, kind, namespaced, old, new) = &rows[row];
        let name = format!("r{row}-{side}");
        let rest = placed(if revision == 1 { old } else { new }, row, side);
        object(version, kind, namespaced.then_some("default"), &name, rest)
    };
    let spec = |side: u8| UnitSpec { force: side == 1, ..UnitSpec::default() };
    let unit = |row: usize, side: u8| format!("u{row}-{side}");
    let companion =
        |row: usize, side: u8, revision: usize| config(&format!("with-{row}-{side}"), &revision.to_string());
    let each = || (0..rows.len()).flat_map(|row| [(row, 0), (row, 1)]);
    for revision in [1, 2] {
        for (row, side) in each() {
            // In both orders.
            let mut objects = vec![make(row, side, revision), companion(row, side, revision)];
            if row % 2 == 1 {
                objects.reverse();
            }
            bench.present(&unit(row, side), spec(side), &objects);
        }
        if revision == 1 {
            bench.publish();
            bench.until_ready().await;
        }
    }
    let mut before = Vec::new();
    for (row, side) in each() {
        before.push(json_of(&bench, &make(row, side, 1)).await["metadata"]["uid"].clone());
    }
    bench.publish();
    for ((row, side), uid) in each().zip(before) {
        let (_, kind, _, old, new) = &rows[row];
        let with = at("ConfigMap", "default", &format!("with-{row}-{side}"));
        let (changed, revision, other) = if side == 1 {
            bench.until_phase(&unit(row, side), Phase::Ready).await;
            (new, "2", true)
        } else {
            let report = bench.until_phase(&unit(row, side), Phase::Failed).await;
            let finding = &report.findings[0];
            assert_eq!((report.findings.len(), finding.reason.as_str()), (1, "Immutable"), "{report:?}");
            assert_eq!(finding.object.kind, *kind);
            assert!(finding.message.contains("spec.force would recreate it"), "{}", finding.message);
            assert!(report.message.ends_with("nothing of the unit was changed"), "{}", report.message);
            (old, "1", false)
        };
        let found = json_of(&bench, &make(row, side, 1)).await;
        let mut wanted = placed(changed, row, side);
        if let Some(subjects) = wanted.get_mut("subjects") {
            *subjects = Value::Null;
            wanted.as_object_mut().unwrap().remove("subjects");
        }
        wanted.as_object_mut().unwrap().retain(|_, value| *value != json!([]));
        assert!(holds(&found, &wanted), "{kind} {side}: {found} is not as {wanted}");
        assert_eq!(found["metadata"]["uid"] != uid, other, "{kind} {side}");
        let data = with.field(&client, "/data/value").await.unwrap();
        // A unit by force is ready when all of it is applied.
        assert_eq!(data, revision, "{kind} {side}");
    }
}

#[tokio::test]
async fn what_could_not_be_made_again_is_not_deleted_for_it() {
    let mut bench = Bench::start(&with_controllers()).await;
    let force = UnitSpec { force: true, ..UnitSpec::default() };
    let job = |image: &str, policy: &str| {
        object(
            "batch/v1",
            "Job",
            Some("default"),
            "job",
            json!({"spec": {"template": {"spec":
            {"restartPolicy": policy, "containers": [{"name": "c", "image": image}]}}}}),
        )
    };
    let claim = |class: &str| {
        object(
            "v1",
            "PersistentVolumeClaim",
            Some("default"),
            "claim",
            json!({"spec": {"accessModes": ["ReadWriteOnce"],
            "storageClassName": class, "resources": {"requests": {"storage": "1Gi"}}}}),
        )
    };
    bench.present("job", force.clone(), &[job("a", "Never")]);
    bench.present("claim", force.clone(), &[claim("a")]);
    bench.publish();
    bench.until_ready().await;
    let uids = [json_of(&bench, &job("", "")).await, json_of(&bench, &claim("")).await];
    bench.present("job", force.clone(), &[job("b", "Always")]);
    bench.present("claim", force.clone(), &[claim("b")]);
    bench.publish();
    let report = bench.until_phase("job", Phase::Failed).await;
    assert_eq!(report.findings[0].reason, "ApplyFailed", "{report:?}");
    assert!(report.message.contains("restartPolicy"), "{}", report.message);
    let report = bench.until_phase("claim", Phase::Failed).await;
    assert_eq!(report.findings[0].reason, "Immutable", "{report:?}");
    assert!(report.message.contains("its data would be lost"), "{}", report.message);
    for (object, before) in [job("", ""), claim("")].iter().zip(uids) {
        let now = json_of(&bench, object).await;
        assert_eq!(now["metadata"]["uid"], before["metadata"]["uid"]);
        assert!(now["metadata"].get("deletionTimestamp").is_none(), "{now}");
    }
    // With content that can be made, it is.
    bench.present("job", force, &[job("b", "Never")]);
    bench.publish();
    bench.until_phase("job", Phase::Ready).await;
}

#[tokio::test]
async fn a_definition_that_changes_with_its_objects_is_not_waited_for_by_them() {
    let mut bench = Bench::start(&ClusterOptions::bare()).await;
    let definition = |field: &str| {
        object(
            "apiextensions.k8s.io/v1",
            "CustomResourceDefinition",
            None,
            "gears.example.com",
            json!({
            "spec": {"group": "example.com", "scope": "Namespaced", "names": {"kind": "Gear", "plural": "gears"},
                "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object",
                    "properties": {"spec": {"type": "object", "properties": {field: {"type": "integer"}}}}}}}]}}),
        )
    };
    let gear =
        |field: &str| object("example.com/v1", "Gear", Some("default"), "gear", json!({"spec": {field: 1}}));
    bench.present("a", UnitSpec::default(), &[definition("old"), gear("old"), config("x", "1")]);
    bench.publish();
    bench.until_ready().await;
    // A field that nobody knows is refused, and what was refused is asked about before the next attempt.
    bench.present("a", UnitSpec::default(), &[definition("old"), gear("new"), config("x", "2")]);
    bench.publish();
    let report = bench.until_phase("a", Phase::Failed).await;
    assert!(report.message.contains("spec.new"), "{}", report.message);
    assert!(report.message.ends_with("nothing of the unit was changed"), "{}", report.message);
    let x = at("ConfigMap", "default", "x");
    assert_eq!(x.field(&bench.client(), "/data/value").await.unwrap(), "1");
    bench.present("a", UnitSpec::default(), &[definition("new"), gear("new"), config("x", "2")]);
    bench.publish();
    bench.until_ready().await;
    assert_eq!(json_of(&bench, &gear("")).await["spec"], json!({"new": 1}));
    assert_eq!(x.field(&bench.client(), "/data/value").await.unwrap(), "2");
}

async fn edit(bench: &Bench, object: &Value, manager: &str, patch: Value) {
    let object = ObjectRef::of(object).unwrap();
    let api = api(&bench.client(), &object.api_version, &object.kind, object.namespace.as_deref());
    let params = PatchParams { field_manager: Some(manager.into()), ..PatchParams::default() };
    api.patch(&object.name, &params, &Patch::Merge(patch)).await.unwrap();
}

/// Waits until the specs are as they were.
async fn as_before(bench: &Bench, all: &[Value], wanted: &[Value]) {
    let same = eventually(LIMIT, || async {
        for (object, before) in all.iter().zip(wanted) {
            let now = json_of(bench, object).await;
            if now["spec"] != *before {
                return Err(format!("{}: {}", object["metadata"]["name"], now["spec"]));
            }
        }
        Ok(())
    });
    same.await.unwrap_or_else(|error| panic!("{error}\n{:#?}", bench.report("a")));
}

#[tokio::test]
async fn an_edit_that_cannot_be_merged_with_is_put_back() {
    let mut bench = Bench::start(&ClusterOptions::bare()).await;
    let service = |name: &str, label: &str, port: Value| {
        object(
            "v1",
            "Service",
            Some("default"),
            name,
            json!({"metadata": {"labels": {"l": label}},
            "spec": {"selector": {"a": "b"}, "ports": [port]}}),
        )
    };
    let deployment = |name: &str, label: &str| {
        object(
            "apps/v1",
            "Deployment",
            Some("default"),
            name,
            json!({"metadata": {"labels": {"l": label}}, "spec": {
            "selector": {"matchLabels": {"a": "b"}}, "template": {"metadata": {"labels": {"a": "b"}}, "spec": {
                "containers": [{"name": "c", "image": "i", "ports": [{"name": "http", "containerPort": 80}],
                    "env": [{"name": "V", "value": "1"}]}],
                "volumes": [{"name": "v", "emptyDir": {}}]}}}}),
        )
    };
    // Each by kubectl, whose fields are ours by agreement, and by a tool that nobody agreed with.
    let managers = ["kubectl-edit", "k9s"];
    let named = json!({"name": "http", "port": 80});
    let bare = json!({"port": 80});
    let objects = |label: &str| {
        managers
            .iter()
            .flat_map(|manager| {
                [
                    service(&format!("named-{manager}"), label, named.clone()),
                    service(&format!("bare-{manager}"), label, bare.clone()),
                    deployment(&format!("port-{manager}"), label),
                    deployment(&format!("env-{manager}"), label),
                    deployment(&format!("volume-{manager}"), label),
                ]
            })
            .collect::<Vec<_>>()
    };
    let edits = || {
        let pod = |pod: Value| json!({"spec": {"template": {"spec": pod}}});
        let container = |field: &str, value: Value| {
            let mut container = json!({"name": "c", "image": "i",
                "ports": [{"name": "http", "containerPort": 80, "protocol": "TCP"}], "env": [{"name": "V", "value": "1"}]});
            container[field] = value;
            pod(json!({"containers": [container]}))
        };
        [
            json!({"spec": {"ports": [{"name": "http", "port": 8080}]}}),
            json!({"spec": {"ports": [{"port": 8080}]}}),
            container("ports", json!([{"name": "http", "containerPort": 8080, "protocol": "TCP"}])),
            container(
                "env",
                json!([{"name": "V", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]),
            ),
            pod(json!({"volumes": [{"name": "v", "hostPath": {"path": "/tmp"}}]})),
        ]
    };
    bench.present("a", UnitSpec::default(), &objects("1"));
    bench.publish();
    bench.until_ready().await;
    let all = objects("1");
    let mut before = Vec::new();
    for object in &all {
        before.push(json_of(&bench, object).await["spec"].clone());
    }
    for (object, (manager, patch)) in
        all.iter().zip(managers.iter().flat_map(|manager| edits().map(|patch| (*manager, patch))))
    {
        edit(&bench, object, manager, patch).await;
    }
    as_before(&bench, &all, &before).await;
    // While nobody corrects, and with a change of ours on top.
    bench.stop_engine().await;
    for (object, (manager, patch)) in
        all.iter().zip(managers.iter().flat_map(|manager| edits().map(|patch| (*manager, patch))))
    {
        edit(&bench, object, manager, patch).await;
    }
    bench.present("a", UnitSpec::default(), &objects("2"));
    bench.start_engine();
    bench.until_ready().await;
    as_before(&bench, &all, &before).await;
    for object in &all {
        assert_eq!(json_of(&bench, object).await["metadata"]["labels"]["l"], "2");
    }
    assert!(bench.has_event("Conflict", "was set by k9s"), "{:#?}", bench.events());
}

#[tokio::test]
async fn a_key_that_leaves_string_data_is_gone() {
    let mut bench = Bench::start(&ClusterOptions::bare()).await;
    let secret = |data: Value| object("v1", "Secret", Some("default"), "s", data);
    let client = bench.client();
    // What kubectl applied before it was ours is taken over with all of it.
    let theirs =
        object("v1", "Secret", Some("default"), "t", json!({"stringData": {"a": "one", "old": "x"}}));
    apply(&client, "kubectl", &theirs).await.unwrap();
    let taken = object("v1", "Secret", Some("default"), "t", json!({"stringData": {"a": "one"}}));
    bench.present(
        "a",
        UnitSpec::default(),
        &[secret(json!({"stringData": {"a": "one", "b": "two"}})), taken.clone()],
    );
    bench.publish();
    bench.until_ready().await;
    assert_eq!(json_of(&bench, &secret(json!({}))).await["data"], json!({"a": "b25l", "b": "dHdv"}));
    assert_eq!(json_of(&bench, &taken).await["data"], json!({"a": "b25l"}));
    for (content, left) in [
        (json!({"stringData": {"a": "one"}}), json!({"a": "b25l"})),
        (
            json!({"stringData": {"a": "one"}, "data": {"c": "dHdv", "a": "dHdv"}}),
            json!({"a": "b25l", "c": "dHdv"}),
        ),
        (json!({"data": {"c": "dHdv"}}), json!({"c": "dHdv"})),
        (json!({"stringData": {"c": "one"}}), json!({"c": "b25l"})),
    ] {
        bench.present("a", UnitSpec::default(), &[secret(content.clone()), taken.clone()]);
        bench.publish();
        bench.until_ready().await;
        assert_eq!(json_of(&bench, &secret(json!({}))).await["data"], left, "{content}");
    }
    // Drift is put back and shown without its value.
    edit(&bench, &secret(json!({})), "kubectl-edit", json!({"stringData": {"c": "hunter2"}})).await;
    bench.until_field(&at("Secret", "default", "s"), "/data/c", json!("b25l")).await;
    bench.until("a", |report| report.corrected == 1).await;
    let told = format!("{:?} {:?}", bench.events(), bench.report("a"));
    assert!(told.contains("/data/c was set to digest "), "{told}");
    for text in ["hunter2", "aHVudGVyMg", "b25l", "one\""] {
        assert!(!told.contains(text), "{text} in {told}");
    }
}

#[tokio::test]
async fn what_controllers_fill_in_is_not_fought_over() {
    let mut bench = Bench::start(&with_controllers()).await;
    let client = bench.client();
    let rbac = "rbac.authorization.k8s.io/v1";
    let rules = json!([{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]);
    let role = |name: &str, rest: Value| object(rbac, "ClusterRole", None, name, rest);
    let from = json!({"clusterRoleSelectors": [{"matchLabels": {"part": "yes"}}]});
    let roles = [
        role("part", json!({"metadata": {"labels": {"part": "yes"}}, "rules": rules})),
        role("empty", json!({"aggregationRule": from, "rules": []})),
        role("null", json!({"aggregationRule": from, "rules": null})),
        role("none", json!({"aggregationRule": from})),
        role(
            "other",
            json!({"aggregationRule": from, "rules": [{"apiGroups": ["x"], "resources": ["y"], "verbs": ["z"]}]}),
        ),
    ];
    let hook = |bundle: Option<&str>| {
        let mut config = json!({"service": {"name": "s", "namespace": "nowhere", "path": "/x"}});
        if let Some(bundle) = bundle {
            config["caBundle"] = bundle.into();
        }
        config
    };
    let webhook = |label: &str| {
        object(
            "admissionregistration.k8s.io/v1",
            "ValidatingWebhookConfiguration",
            None,
            "hooks",
            json!({
            "metadata": {"labels": {"l": label}},
            "webhooks": [{"name": "w.example.com", "failurePolicy": "Ignore", "sideEffects": "None",
                "admissionReviewVersions": ["v1"], "clientConfig": hook(Some("Cg==")),
                "rules": [{"apiGroups": ["nope.example.com"], "apiVersions": ["*"], "operations": ["*"], "resources": ["nopes"]}]}]}),
        )
    };
    let version = |name: &str, storage: bool| json!({"name": name, "served": true, "storage": storage, "schema": {"openAPIV3Schema": {"type": "object"}}});
    let crd = |label: &str| {
        object(
            "apiextensions.k8s.io/v1",
            "CustomResourceDefinition",
            None,
            "peers.example.com",
            json!({
            "metadata": {"labels": {"l": label}},
            "spec": {"group": "example.com", "scope": "Namespaced", "names": {"kind": "Peer", "plural": "peers"},
                "conversion": {"strategy": "Webhook", "webhook": {"conversionReviewVersions": ["v1"], "clientConfig": hook(Some("Cg=="))}},
                "versions": [version("v1", true), version("v2", false)]},
            "status": {"acceptedNames": {"kind": "", "plural": ""}, "conditions": [], "storedVersions": []}}),
        )
    };
    let plain = object(
        "apps/v1",
        "Deployment",
        Some("default"),
        "d",
        json!({
        "metadata": {"creationTimestamp": null, "generation": 7},
        "spec": {"replicas": 0, "selector": {"matchLabels": {"a": "b"}}, "strategy": {},
            "template": {"metadata": {"creationTimestamp": null, "labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i", "resources": {}}]}}},
        "status": {"availableReplicas": 7, "unknownOfOld": 1}}),
    );
    let objects = |label: &str| {
        let mut objects = roles.to_vec();
        objects.extend([webhook(label), crd(label), plain.clone(), config("x", label)]);
        objects
    };
    bench.present("a", UnitSpec::default(), &objects("1"));
    bench.publish();
    bench.until_ready().await;
    // What injects bundles does so by its own apply.
    let pem = "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0tCk1BTUNBUUE9Ci0tLS0tRU5EIENFUlRJRklDQVRFLS0tLS0K";
    edit(&bench, &webhook(""), "cainjector", json!({"webhooks": [{"name": "w.example.com", "failurePolicy": "Ignore",
        "sideEffects": "None", "admissionReviewVersions": ["v1"], "clientConfig": hook(Some(pem)),
        "rules": [{"apiGroups": ["nope.example.com"], "apiVersions": ["*"], "operations": ["*"], "resources": ["nopes"]}]}]})).await;
    let aggregated = async || {
        for name in ["empty", "null", "none", "other"] {
            let role = ObjectRef::global(rbac, "ClusterRole", name);
            eventually(LIMIT, || async {
                let found = role.field(&client, "/rules").await.map_err(|error| format!("{error:#}"))?;
                if found == rules { Ok(()) } else { Err(format!("{name}: {found}")) }
            })
            .await
            .unwrap();
        }
    };
    aggregated().await;
    bench.present("a", UnitSpec::default(), &objects("2"));
    bench.publish();
    bench.until_ready().await;
    aggregated().await;
    let bundle = json_of(&bench, &webhook("")).await["webhooks"][0]["clientConfig"]["caBundle"].clone();
    assert_eq!(bundle, pem, "the injected bundle stays");
    // Something of the same unit is put back later: what came before it was seen, and nothing of it was put back.
    edit(&bench, &config("x", ""), "kubectl-edit", json!({"data": {"value": "drift"}})).await;
    bench.until_field(&at("ConfigMap", "default", "x"), "/data/value", json!("2")).await;
    let report = bench.until("a", |report| report.corrected > 0).await;
    assert_eq!(report.corrected, 1, "{:#?}", bench.events());
}
