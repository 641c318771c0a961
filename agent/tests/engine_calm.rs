//! The engine on a real API server: what looks like drift and is none costs nothing, ignored fields are others' business,
//! and a fight is noticed.

mod engine_common;

use std::time::Duration;

use engine_common::{Bench, at, config, unit};
use flotilla_core::UnitSpec;
use flotilla_core::ignore::{IgnoreRule, Target};
use flotilla_core::unit::DriftMode;
use flotilla_tests::ClusterOptions;
use flotilla_tests::objects::{ObjectRef, api, apply};
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

async fn patch(bench: &Bench, object: &ObjectRef, manager: &str, subresource: Option<&str>, patch: Value) {
    let api = api(&bench.client(), &object.api_version, &object.kind, object.namespace.as_deref());
    let params = PatchParams { field_manager: Some(manager.into()), ..PatchParams::default() };
    match subresource {
        Some(name) => {
            drop(api.patch_subresource(name, &object.name, &params, &Patch::Merge(patch)).await.unwrap())
        }
        None => drop(api.patch(&object.name, &params, &Patch::Merge(patch)).await.unwrap()),
    }
}

fn deployment(replicas: Option<u32>) -> Value {
    let mut object = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": "default",
            // Null and empty things are as good as none.
            "annotations": null, "labels": {}},
        "spec": {"selector": {"matchLabels": {"app": "web"}}, "template": {
            "metadata": {"labels": {"app": "web"}, "creationTimestamp": null},
            "spec": {"nodeSelector": {}, "tolerations": [], "containers": [{"name": "web", "image": "web", "env": null,
                // The API server writes these as 1 and 64Mi.
                "resources": {"limits": {"cpu": "1000m", "memory": "65536Ki"}}}]}}}});
    if let Some(replicas) = replicas {
        object["spec"]["replicas"] = replicas.into();
    }
    object
}

fn webhook() -> Value {
    json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration", "metadata": {"name": "hook"},
        "webhooks": [{"name": "hook.example.com", "admissionReviewVersions": ["v1"], "sideEffects": "None", "failurePolicy": "Ignore",
            "clientConfig": {"service": {"name": "hook", "namespace": "default"}},
            "rules": [{"apiGroups": ["example.com"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["widgets"]}]}]})
}

#[tokio::test]
async fn what_defaults_normalises_or_belongs_to_others_is_no_drift() {
    let mut bench = Bench::start(&ClusterOptions::default()).await;
    let client = bench.client();
    let group = "admissionregistration.k8s.io/v1";
    // Mutates as a webhook would: an annotation on every ConfigMap of ours.
    for object in [
        json!({"apiVersion": group, "kind": "MutatingAdmissionPolicy", "metadata": {"name": "stamp"}, "spec": {
            "matchConstraints": {"resourceRules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"], "resources": ["configmaps"]}]},
            "matchConditions": [{"name": "ours", "expression": "object.metadata.name.startsWith('stamped')"}],
            "reinvocationPolicy": "Never", "failurePolicy": "Fail",
            "mutations": [{"patchType": "ApplyConfiguration", "applyConfiguration":
                {"expression": "Object{metadata: Object.metadata{annotations: {'stamped': 'yes'}}}"}}]}}),
        json!({"apiVersion": group, "kind": "MutatingAdmissionPolicyBinding", "metadata": {"name": "stamp"}, "spec": {"policyName": "stamp"}}),
    ] {
        apply(&client, "kubectl", &object).await.unwrap();
    }
    let probe = at("ConfigMap", "default", "stamped-probe");
    let enforced = flotilla_tests::wait::eventually(engine_common::LIMIT, || async {
        probe.delete(&client).await.map_err(|error| format!("{error:#}"))?;
        apply(&client, "kubectl", &config("stamped-probe", "x"))
            .await
            .map_err(|error| format!("{error:#}"))?;
        let found = probe.field(&client, "/metadata/annotations/stamped").await;
        if found.as_ref().is_ok_and(|found| found == "yes") { Ok(()) } else { Err(format!("{found:?}")) }
    });
    enforced.await.unwrap();

    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "default"},
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]}});
    // Kinds that controllers copy labels to are watched too.
    let slice = json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4", "endpoints": [],
        "metadata": {"name": "own", "namespace": "default"}});
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "namespace": "default"}, "stringData": {"p": "x"}});
    let objects = [deployment(None), service, slice, webhook(), config("stamped", "1"), secret];
    let spec = UnitSpec { wait: true, interval: 10, ..UnitSpec::default() };
    bench.present("a", spec.clone(), &objects);
    bench.publish();
    bench.until_ready().await;
    let web = at("Deployment", "default", "web");
    // An autoscaler's replicas, a CA that is injected, what a controller notes, the status: all theirs.
    patch(&bench, &web, "kube-controller-manager", Some("scale"), json!({"spec": {"replicas": 3}})).await;
    patch(&bench, &web, "some-operator", None, json!({"metadata": {"annotations": {"noted": "yes"}}})).await;
    let hook = ObjectRef::global(group, "ValidatingWebhookConfiguration", "hook");
    let mut injected = webhook()["webhooks"].clone();
    injected[0]["clientConfig"]["caBundle"] = "Y2E=".into();
    patch(&bench, &hook, "cainjector", None, json!({"webhooks": injected})).await;
    let slices = || async {
        let api = api(&client, "discovery.k8s.io/v1", "EndpointSlice", Some("default"));
        let list = api.list(&kube::api::ListParams::default()).await.unwrap();
        list.items
            .into_iter()
            .filter(|slice| {
                slice.metadata.labels.clone().unwrap_or_default().contains_key("flotilla.dev/unit")
            })
            .filter_map(|slice| slice.metadata.name)
            .collect::<Vec<_>>()
    };
    let copied = flotilla_tests::wait::eventually(engine_common::LIMIT, || async {
        let found = slices().await;
        if found.len() > 1 {
            Ok(found)
        } else {
            Err(format!("the controller copied no label yet: {found:?}"))
        }
    });
    let copied = copied.await.unwrap();
    // Long enough for a watch to tell and for the interval to pass.
    let calm = flotilla_tests::wait::always(Duration::from_secs(11), || async {
        let drift = bench.events().into_iter().find(|event| event.reason == "DriftCorrected");
        drift.map_or(Ok(()), |event| Err(format!("{event:?}")))
    });
    calm.await.unwrap();
    let versions = bench.versions("apps/v1", "Deployment").await;
    bench.engine.request(flotilla_agent::sync::Request::Reconcile { unit: None }).unwrap();
    bench.restart().await;
    bench.until_ready().await;
    let report = bench.report("a").unwrap();
    assert_eq!((report.corrected, report.drift.len()), (0, 0), "{report:?}");
    assert!(!bench.has_event("DriftCorrected", ""), "{:#?}", bench.events());
    assert_eq!(bench.versions("apps/v1", "Deployment").await, versions, "nobody wrote");
    assert_eq!(web.field(&client, "/spec/replicas").await.unwrap(), 3);
    assert_eq!(hook.field(&client, "/webhooks/0/clientConfig/caBundle").await.unwrap(), "Y2E=");
    assert_eq!(
        at("ConfigMap", "default", "stamped").field(&client, "/metadata/annotations/stamped").await.unwrap(),
        "yes"
    );

    // Copies of labels make no members: the unit may lose the kind, and theirs stay.
    bench.present("a", spec, &[&objects[..2], &objects[3..]].concat());
    bench.publish();
    bench.until_gone(&ObjectRef::new("discovery.k8s.io/v1", "EndpointSlice", "default", "own")).await;
    bench.until_ready().await;
    assert_eq!(slices().await.len(), copied.len() - 1);
}

#[tokio::test]
async fn a_certificate_with_a_copied_label_is_neither_member_nor_drift() {
    let mut bench = Bench::start(&ClusterOptions::bare()).await;
    let definition = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "certificates.cert-manager.io"},
        "spec": {"group": "cert-manager.io", "scope": "Namespaced", "names": {"kind": "Certificate", "plural": "certificates"},
            "versions": [{"name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}]}});
    let certificate = |name: &str| {
        json!({"apiVersion": "cert-manager.io/v1", "kind": "Certificate", "metadata": {"name": name, "namespace": "default"},
            "spec": {"secretName": name}})
    };
    let ingress = json!({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
        "metadata": {"name": "web", "namespace": "default", "annotations": {"cert-manager.io/cluster-issuer": "x"}},
        "spec": {"defaultBackend": {"service": {"name": "web", "port": {"number": 80}}}}});
    bench.present("crds", UnitSpec::default(), &[definition]);
    bench.present("a", UnitSpec::default(), &[ingress.clone(), certificate("own")]);
    bench.publish();
    bench.until_ready().await;
    // As cert-manager's ingress shim does: the Ingress's labels, and the Ingress as the owner.
    let ingress_ref = ObjectRef::new("networking.k8s.io/v1", "Ingress", "default", "web");
    let live = ingress_ref.json(&bench.client()).await.unwrap();
    let mut copy = certificate("web-tls");
    copy["metadata"]["labels"] = live["metadata"]["labels"].clone();
    copy["metadata"]["ownerReferences"] = json!([{"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "name": "web",
        "uid": live["metadata"]["uid"], "controller": true}]);
    apply(&bench.client(), "cert-manager-certificates", &copy).await.unwrap();
    bench.present("a", UnitSpec::default(), &[ingress, config("x", "1")]);
    bench.publish();
    let of = |name: &str| ObjectRef::new("cert-manager.io/v1", "Certificate", "default", name);
    bench.until_gone(&of("own")).await;
    bench.until_ready().await;
    assert!(bench.is_there(&of("web-tls")).await);
    let report = bench.report("a").unwrap();
    assert!(report.corrected == 0 && report.drift.is_empty() && report.kept.is_empty(), "{report:?}");
}

#[tokio::test]
async fn ignored_fields_are_set_once_and_left_to_others() {
    let mut bench = Bench::start(&ClusterOptions::bare()).await;
    let spec = UnitSpec {
        ignore: vec![
            IgnoreRule {
                paths: vec!["/spec/replicas".into()],
                target: Some(Target { kind: "Deployment".into(), name: "we.*".into(), ..Target::default() }),
            },
            IgnoreRule { paths: vec!["/data/theirs".into()], target: None },
        ],
        ..UnitSpec::default()
    };
    let mut map = config("map", "1");
    map["data"]["theirs"] = "first".into();
    bench.present("a", spec.clone(), &[deployment(Some(2)), map.clone()]);
    bench.publish();
    bench.until_ready().await;
    let web = at("Deployment", "default", "web");
    let maps = at("ConfigMap", "default", "map");
    assert_eq!(web.field(&bench.client(), "/spec/replicas").await.unwrap(), 2, "set when it is made");
    web.edit(&bench.client(), json!({"spec": {"replicas": 7}})).await.unwrap();
    maps.edit(&bench.client(), json!({"data": {"theirs": "second", "value": "drift"}})).await.unwrap();
    bench.until_field(&maps, "/data/value", json!("1")).await;
    // A change of ours takes nothing of it back.
    map["data"]["value"] = "2".into();
    let mut newer = deployment(Some(2));
    newer["spec"]["template"]["spec"]["containers"][0]["image"] = "newer".into();
    bench.present("a", spec, &[newer, map]);
    bench.publish();
    bench.until_field(&web, "/spec/template/spec/containers/0/image", json!("newer")).await;
    bench.until_ready().await;
    assert_eq!(web.field(&bench.client(), "/spec/replicas").await.unwrap(), 7);
    assert_eq!(
        maps.field(&bench.client(), "/data").await.unwrap(),
        json!({"theirs": "second", "value": "2"})
    );
    let corrected: Vec<_> =
        bench.events().into_iter().filter(|event| event.reason == "DriftCorrected").collect();
    assert_eq!(corrected.len(), 1, "{corrected:#?}");
    assert!(
        corrected[0].message.contains("/data/value") && !corrected[0].message.contains("theirs"),
        "{corrected:?}"
    );

    bench.present(
        "bad",
        UnitSpec {
            ignore: vec![IgnoreRule { paths: vec!["spec".into()], target: None }],
            ..UnitSpec::default()
        },
        &[config("z", "1")],
    );
    bench.publish();
    let report = bench.until_phase("bad", flotilla_core::report::Phase::Failed).await;
    assert!(report.message.contains("'spec' is not a JSON pointer"), "{}", report.message);
}

#[tokio::test]
async fn an_object_says_what_becomes_of_its_own_drift() {
    let mut bench = Bench::start(&ClusterOptions::bare()).await;
    let with = |name: &str, mode: &str| {
        let mut object = config(name, "1");
        object["metadata"]["annotations"] = json!({"flotilla.dev/drift": mode});
        object
    };
    bench.present(
        "a",
        UnitSpec::default(),
        &[with("told", "report"), with("left", "ignore"), config("back", "1")],
    );
    bench.present(
        "b",
        UnitSpec { drift: DriftMode::Ignore, ..UnitSpec::default() },
        &[with("kept", "correct")],
    );
    bench.publish();
    bench.until_ready().await;
    for name in ["told", "left", "back", "kept"] {
        at("ConfigMap", "default", name)
            .edit(&bench.client(), json!({"data": {"value": "2"}}))
            .await
            .unwrap();
    }
    bench.until_field(&at("ConfigMap", "default", "back"), "/data/value", json!("1")).await;
    bench.until_field(&at("ConfigMap", "default", "kept"), "/data/value", json!("1")).await;
    let report = bench.until("a", |report| !report.drift.is_empty()).await;
    assert_eq!(report.drift.len(), 1);
    assert_eq!(report.drift[0].object.name, "told");
    let field = &report.drift[0].fields[0];
    assert_eq!((field.field.as_str(), field.manager.as_deref()), ("/data/value", Some("kubectl-edit")));
    assert!(report.drift[0].at > 0);
    for name in ["told", "left"] {
        assert_eq!(
            at("ConfigMap", "default", name).field(&bench.client(), "/data/value").await.unwrap(),
            "2"
        );
    }
}

#[tokio::test]
async fn a_fight_is_noticed_and_slowed_down() {
    let mut bench = Bench::start(&ClusterOptions::bare()).await;
    bench.present("a", UnitSpec::default(), &[config("x", "1"), config("y", "1")]);
    bench.publish();
    bench.until_ready().await;
    let x = at("ConfigMap", "default", "x");
    for round in 0..10_u32 {
        patch(&bench, &x, "some-operator", None, json!({"data": {"value": format!("theirs {round}")}})).await;
        bench.until_field(&x, "/data/value", json!("1")).await;
        bench.until("a", |report| report.corrected == u64::from(round) + 1).await;
    }
    patch(&bench, &x, "some-operator", None, json!({"data": {"value": "theirs"}})).await;
    let report =
        bench.until("a", |report| report.findings.iter().any(|finding| finding.reason == "Fought")).await;
    let finding = &report.findings[0];
    assert!(
        finding.message.contains("/data/value") && finding.message.contains("some-operator"),
        "{finding:?}"
    );
    assert_eq!(x.field(&bench.client(), "/data/value").await.unwrap(), "theirs");
    assert!(bench.has_event("Fought", "some-operator"), "{:#?}", bench.events());
    // Others of the unit are put back as ever, and a change of ours goes through.
    let y = at("ConfigMap", "default", "y");
    patch(&bench, &y, "some-operator", None, json!({"data": {"value": "2"}})).await;
    bench.until_field(&y, "/data/value", json!("1")).await;
    bench.present("a", UnitSpec::default(), &[config("x", "3"), config("y", "1")]);
    bench.publish();
    bench.until_field(&x, "/data/value", json!("3")).await;
    assert_eq!(unit("a").to_string(), "kustomization/flux-system/a");
}
