//! The engine on a real API server that refuses, changes hands or goes away.

mod engine_common;

use std::time::Instant;

use engine_common::{Bench, LIMIT, at, config, namespace, unit};
use flotilla_agent::sync::Request;
use flotilla_core::UnitSpec;
use flotilla_core::report::Phase;
use flotilla_tests::ClusterOptions;
use flotilla_tests::objects::apply;
use flotilla_tests::wait::eventually;
use serde_json::{Value, json};

fn deployment(label: &str) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d", "namespace": "default"},
        "spec": {"selector": {"matchLabels": {"a": label}}, "template": {"metadata": {"labels": {"a": label}},
            "spec": {"containers": [{"name": "c", "image": "registry.example/c:1"}]}}}})
}

#[tokio::test]
async fn a_wait_ends_what_fails_is_named_and_what_no_longer_fails_is_forgotten() {
    let mut bench = Bench::start(&ClusterOptions::bare()).await;
    let waits = UnitSpec { wait: true, timeout: 1, ..UnitSpec::default() };
    bench.present("waits", waits.clone(), &[deployment("1"), config("w", "1")]);
    let bad = json!({"apiVersion": "nowhere.example/v1", "kind": "Nothing", "metadata": {"name": "bad"}});
    bench.present("bad", UnitSpec::default(), &[bad, config("b", "1")]);
    bench.publish();
    let report = bench.until_phase("waits", Phase::Failed).await;
    assert!(
        report.message.starts_with("not healthy after 1 s: Deployment.apps default/d: "),
        "{}",
        report.message
    );
    let report = bench.until_phase("bad", Phase::Failed).await;
    assert_eq!(report.findings[0].reason, "UnknownKind");
    bench.present("bad", UnitSpec::default(), &[config("b", "1")]);
    bench.present("waits", waits, &[config("w", "1")]);
    bench.publish();
    bench.until_ready().await;
}

#[tokio::test]
async fn what_cannot_be_changed_is_made_anew_only_by_force() {
    let mut bench = Bench::start(&ClusterOptions::default()).await;
    bench.present("a", UnitSpec::default(), &[deployment("1")]);
    bench.publish();
    bench.until_ready().await;
    let object = at("Deployment", "default", "d");
    let uid = object.field(&bench.client(), "/metadata/uid").await.unwrap();
    bench.present("a", UnitSpec::default(), &[deployment("2")]);
    bench.publish();
    let report = bench.until_phase("a", Phase::Failed).await;
    assert_eq!(report.findings[0].reason, "Immutable", "{report:?}");
    assert_eq!(object.field(&bench.client(), "/metadata/uid").await.unwrap(), uid);
    bench.present("a", UnitSpec { force: true, ..UnitSpec::default() }, &[deployment("2")]);
    bench.publish();
    bench.until_ready().await;
    assert_ne!(object.field(&bench.client(), "/metadata/uid").await.unwrap(), uid);
}

#[tokio::test]
async fn a_flux_at_work_is_respected_and_everything_goes_only_under_the_right_name() {
    let mut bench = Bench::start(&ClusterOptions::bare()).await;
    let crd = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "kustomizations.kustomize.toolkit.fluxcd.io"},
        "spec": {"group": "kustomize.toolkit.fluxcd.io", "scope": "Namespaced", "names": {"kind": "Kustomization", "plural": "kustomizations"},
            "versions": [{"name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}]}});
    apply(&bench.client(), "flux", &crd).await.unwrap();
    let client = bench.client();
    let kustomization = flux_object(false);
    eventually(LIMIT, || apply(&client, "flux", &kustomization)).await.unwrap();
    let mut theirs = config("shared", "flux");
    theirs["metadata"]["labels"] = json!({"kustomize.toolkit.fluxcd.io/name": "apps", "kustomize.toolkit.fluxcd.io/namespace": "default"});
    apply(&client, "kustomize-controller", &theirs).await.unwrap();
    // The engine reads what the cluster serves at its start.
    bench.stop_engine().await;
    bench.present("a", UnitSpec::default(), &[config("shared", "ours"), config("own", "1")]);
    bench.start_engine();
    let report = bench.until_phase("a", Phase::Failed).await;
    assert_eq!(report.findings[0].reason, "OwnedByOther", "{report:?}");
    assert_eq!(at("ConfigMap", "default", "shared").field(&client, "/data/value").await.unwrap(), "flux");
    assert!(bench.is_there(&at("ConfigMap", "default", "own")).await);
    apply(&client, "flux", &flux_object(true)).await.unwrap();
    bench.until_ready().await;
    assert_eq!(at("ConfigMap", "default", "shared").field(&client, "/data/value").await.unwrap(), "ours");

    bench.engine.request(Request::PruneAll { cluster: "another".parse().unwrap() }).unwrap();
    bench.engine.request(Request::Reconcile { unit: Some(unit("a")) }).unwrap();
    bench.until_ready().await;
    assert!(bench.is_there(&at("ConfigMap", "default", "own")).await);
    bench.engine.request(Request::PruneAll { cluster: "engine".parse().unwrap() }).unwrap();
    bench.until_gone(&at("ConfigMap", "default", "own")).await;
    bench.until_gone(&at("ConfigMap", "default", "shared")).await;
}

/// Hundreds of objects that meet the same are one failure, of the cluster.
#[tokio::test]
async fn an_api_server_that_is_away_is_told_of_once() {
    let mut bench = Bench::start(&ClusterOptions::bare()).await;
    let objects =
        |value: &str| -> Vec<Value> { (0..60).map(|number| config(&format!("c{number}"), value)).collect() };
    bench.present("a", UnitSpec::default(), &objects("1"));
    bench.present("b", UnitSpec::default(), &[config("b", "1")]);
    bench.publish();
    bench.until_ready().await;
    bench.cluster.stop_apiserver().unwrap();
    bench.present("a", UnitSpec::default(), &objects("2"));
    bench.present("b", UnitSpec::default(), &[config("b", "2")]);
    bench.publish();
    let away = |report: &flotilla_core::report::UnitReport| {
        report.phase == Phase::Pending && report.message.contains("the API server does not answer")
    };
    for name in ["a", "b"] {
        let report = bench.until(name, away).await;
        assert!(report.findings.is_empty(), "{report:#?}");
    }
    let told =
        |bench: &Bench, reason: &str| bench.events().iter().filter(|event| event.reason == reason).count();
    for (reason, times) in [("ClusterAway", 1), ("ApplyFailed", 0), ("Failed", 0)] {
        assert_eq!(told(&bench, reason), times, "{reason}: {:#?}", bench.events());
    }
    bench.cluster.start_apiserver().await.unwrap();
    bench.until_ready().await;
    for reason in ["ClusterAway", "ClusterBack"] {
        assert_eq!(told(&bench, reason), 1, "{reason}: {:#?}", bench.events());
    }
}

fn flux_object(suspend: bool) -> Value {
    json!({"apiVersion": "kustomize.toolkit.fluxcd.io/v1", "kind": "Kustomization",
        "metadata": {"name": "apps", "namespace": "default"}, "spec": {"suspend": suspend}})
}

/// 500 units of 4 objects, while the API server is killed and started again.
#[tokio::test]
async fn two_thousand_objects_survive_an_api_server_that_dies() {
    let mut bench = Bench::start(&ClusterOptions::bare()).await;
    bench.present("root", UnitSpec::default(), &[namespace("web")]);
    let child = UnitSpec { parent: Some(unit("root")), ..UnitSpec::default() };
    let account = |name: &str| json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": "web"}});
    let service = |name: &str| json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "web"}, "spec": {"ports": [{"port": 80}], "clusterIP": "None"}});
    for number in 0..500 {
        let name = format!("u{number}");
        bench.present(
            &name,
            child.clone(),
            &[config(&name, "1"), config(&format!("{name}-b"), "1"), account(&name), service(&name)],
        );
    }
    let start = Instant::now();
    bench.publish();
    bench.until_phase("root", Phase::Ready).await;
    eventually(LIMIT, || async {
        let ready =
            bench.engine.changes(0).reports.iter().filter(|report| report.phase == Phase::Ready).count();
        if ready > 50 { Ok(()) } else { Err(format!("{ready} are ready")) }
    })
    .await
    .unwrap();
    bench.cluster.stop_apiserver().unwrap();
    bench.cluster.start_apiserver().await.unwrap();
    bench.until_all_applied().await;
    println!("2,000 objects with an API server that died: {:?}", start.elapsed());
    let before = bench.versions("v1", "Service").await;

    let start = Instant::now();
    bench.restart().await;
    bench.until_all_applied().await;
    println!("restart to in sync: {:?}", start.elapsed());
    assert_eq!(bench.versions("v1", "Service").await, before);

    // A change of every unit, undisturbed.
    for number in 0..500 {
        let name = format!("u{number}");
        bench.present(
            &name,
            child.clone(),
            &[config(&name, "2"), config(&format!("{name}-b"), "2"), account(&name), service(&name)],
        );
    }
    let start = Instant::now();
    bench.publish();
    bench.until_all_applied().await;
    println!("1,000 of 2,000 objects changed: {:?}", start.elapsed());
    assert_eq!(
        at("ConfigMap", "default", "u499-b").field(&bench.client(), "/data/value").await.unwrap(),
        "2"
    );
}

#[tokio::test]
async fn an_argo_cd_or_fleet_at_work_is_respected_too() {
    let mut bench = Bench::start(&ClusterOptions::bare()).await;
    let client = bench.client();
    let definition = |group: &str, kind: &str, plural: &str, version: &str| {
        json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": format!("{plural}.{group}")},
            "spec": {"group": group, "scope": "Namespaced", "names": {"kind": kind, "plural": plural},
                "versions": [{"name": version, "served": true, "storage": true,
                    "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}]}})
    };
    let application = json!({"apiVersion": "argoproj.io/v1alpha1", "kind": "Application",
        "metadata": {"name": "shop", "namespace": "default"}, "spec": {"syncPolicy": {"automated": {"prune": true}}}});
    let fleet = json!({"apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "fleet-agent", "namespace": "cattle-fleet-system"},
        "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "x"}}, "template": {
            "metadata": {"labels": {"app": "x"}}, "spec": {"containers": [{"name": "x", "image": "x"}]}}}});
    let mut tracked = config("tracked", "theirs");
    tracked["metadata"]["annotations"] =
        json!({"argocd.argoproj.io/tracking-id": "shop:/ConfigMap:default/tracked"});
    let mut bundled = config("bundled", "theirs");
    bundled["metadata"]["annotations"] = json!({"objectset.rio.cattle.io/id": "default-shop"});
    for object in [
        definition("argoproj.io", "Application", "applications", "v1alpha1"),
        definition("fleet.cattle.io", "BundleDeployment", "bundledeployments", "v1alpha1"),
        engine_common::namespace("cattle-fleet-system"),
        fleet,
        tracked,
        bundled,
    ] {
        flotilla_tests::objects::apply(&client, "kubectl", &object).await.unwrap();
    }
    let made = flotilla_tests::wait::eventually(engine_common::LIMIT, || async {
        let made = flotilla_tests::objects::apply(&client, "kubectl", &application).await;
        made.map(drop).map_err(|error| format!("{error:#}"))
    });
    made.await.unwrap();
    bench.restart().await;
    bench.present(
        "a",
        UnitSpec::default(),
        &[config("tracked", "ours"), config("bundled", "ours"), config("free", "ours")],
    );
    bench.publish();
    let report = bench.until("a", |report| report.findings.len() == 2).await;
    let told: Vec<&str> = report.findings.iter().map(|finding| finding.message.as_str()).collect();
    assert!(told[0].contains("Rancher Fleet's bundle default-shop"), "{told:?}");
    assert!(told[1].contains("Argo CD's Application shop"), "{told:?}");
    for name in ["tracked", "bundled"] {
        assert_eq!(at("ConfigMap", "default", name).field(&client, "/data/value").await.unwrap(), "theirs");
    }
    // Neither acts by itself any more.
    let app =
        flotilla_tests::objects::ObjectRef::new("argoproj.io/v1alpha1", "Application", "default", "shop");
    app.edit(&client, json!({"spec": {"syncPolicy": {"automated": null}}})).await.unwrap();
    at("Deployment", "cattle-fleet-system", "fleet-agent")
        .edit(&client, json!({"spec": {"replicas": 0}}))
        .await
        .unwrap();
    bench.until_ready().await;
    assert_eq!(at("ConfigMap", "default", "tracked").field(&client, "/data/value").await.unwrap(), "ours");
}
