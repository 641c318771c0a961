//! The engine on a real API server: what is desired is applied, in order, and nothing else is done.

mod engine_common;

use std::collections::BTreeMap;
use std::time::Duration;

use engine_common::{Bench, LIMIT, at, config, definition, namespace, unit};
use flotilla_core::UnitSpec;
use flotilla_core::report::Phase;
use flotilla_core::unit::DriftMode;
use flotilla_tests::ClusterOptions;
use flotilla_tests::objects::{ObjectRef, list};
use flotilla_tests::wait::{always, eventually};
use kube::api::DynamicObject;
use serde_json::{Value, json};

#[tokio::test]
async fn one_unit_with_a_namespace_a_crd_and_an_object_of_its_kind() {
    let mut bench = Bench::start(&ClusterOptions::default()).await;
    let widget = json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "w", "namespace": "web"}, "spec": {"size": 1}});
    let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d", "namespace": "web"},
        "spec": {"replicas": 2, "selector": {"matchLabels": {"a": "d"}}, "template": {"metadata": {"labels": {"a": "d"}},
            "spec": {"containers": [{"name": "c", "image": "registry.example/c:1"}]}}}});
    let bad = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "bad", "namespace": "web"}, "spec": {"ports": [{"port": "text"}]}});
    let wait = UnitSpec { wait: true, ..UnitSpec::default() };
    bench.present("app", wait.clone(), &[widget.clone(), deployment.clone(), definition(), namespace("web")]);
    bench.publish();
    bench.until_ready().await;
    assert!(bench.is_there(&ObjectRef::new("example.com/v1", "Widget", "web", "w")).await);
    let ready = at("Deployment", "web", "d").field(&bench.client(), "/status/readyReplicas").await.unwrap();
    assert_eq!(ready, 2, "it waited for health");

    // One bad object is named, the others go on.
    bench.present(
        "app",
        wait,
        &[widget, deployment, definition(), namespace("web"), bad, config("new", "1")],
    );
    bench.publish();
    let report = bench.until_phase("app", Phase::Failed).await;
    assert!(report.message.starts_with("Service web/bad: "), "{}", report.message);
    assert_eq!(report.findings.len(), 1);
    assert!(bench.is_there(&at("ConfigMap", "default", "new")).await);
    assert_ne!(report.applied, report.desired);
}

#[tokio::test]
async fn children_wait_for_the_apply_dependents_for_readiness_and_a_broken_unit_stops_only_itself() {
    let mut bench = Bench::start(&ClusterOptions::default()).await;
    let root = || Some(unit("root"));
    bench.present("root", UnitSpec::default(), &[namespace("web")]);
    let child = UnitSpec { parent: root(), ..UnitSpec::default() };
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "web",
        "annotations": {flotilla_tests::NOT_READY_ANNOTATION: "true"}}, "spec": {"containers": [{"name": "c", "image": "x"}]}});
    // The annotation by which the pod becomes ready is taken away by hand below, and is to stay away.
    let slow = UnitSpec { parent: root(), wait: true, drift: DriftMode::Ignore, ..UnitSpec::default() };
    bench.present("slow", slow, &[pod]);
    let after = UnitSpec { parent: root(), depends_on: vec![unit("slow")], ..UnitSpec::default() };
    bench.present("after", after, &[config("after", "1")]);
    bench.present("free", child.clone(), &[config("free", "1")]);
    let cycle = |on: &str| UnitSpec { depends_on: vec![unit(on)], ..child.clone() };
    bench.present("a", cycle("b"), &[config("a", "1")]);
    bench.present("b", cycle("a"), &[config("b", "1")]);
    bench.present("lost", cycle("nowhere"), &[config("lost", "1")]);
    bench.publish();

    bench.until_phase("free", Phase::Ready).await;
    bench.until_phase("root", Phase::Ready).await;
    bench.until_phase("slow", Phase::Progressing).await;
    let report = bench.until_phase("after", Phase::Pending).await;
    assert_eq!(report.message, "waits for kustomization/flux-system/slow to be ready");
    assert!(bench.until_phase("a", Phase::Failed).await.message.contains("waits for itself"));
    assert!(
        bench.until_phase("lost", Phase::Failed).await.message.contains("kustomization/flux-system/nowhere")
    );
    for name in ["after", "a", "b", "lost"] {
        assert!(!bench.is_there(&at("ConfigMap", "default", name)).await, "{name}");
    }
    let ready = json!({"metadata": {"annotations": {flotilla_tests::NOT_READY_ANNOTATION: null}}});
    at("Pod", "web", "p").edit(&bench.client(), ready).await.unwrap();
    bench.until_phase("after", Phase::Ready).await;
}

/// The versions of all ConfigMaps once the inventory, whose uids come after readiness, is written.
async fn settled(bench: &Bench) -> BTreeMap<String, String> {
    let settled = eventually(engine_common::LIMIT, || async {
        let versions = bench.versions("v1", "ConfigMap").await;
        // Uids are written a second after they are known.
        stay(bench, &versions, Duration::from_millis(1500)).await.map(|()| versions)
    });
    settled.await.unwrap()
}

/// Nobody writes a ConfigMap for a while.
async fn stay(bench: &Bench, versions: &BTreeMap<String, String>, period: Duration) -> anyhow::Result<()> {
    always(period, || async {
        let now = bench.versions("v1", "ConfigMap").await;
        if now == *versions { Ok(()) } else { Err(format!("{now:?} instead of {versions:?}")) }
    })
    .await
}

#[tokio::test]
async fn a_restart_in_sync_writes_nothing_with_its_memory_and_loses_nothing_without() {
    let mut bench = Bench::start(&ClusterOptions::bare()).await;
    for number in 0..20 {
        let objects: Vec<Value> = (0..5).map(|i| config(&format!("c{number}-{i}"), "1")).collect();
        bench.present(&format!("u{number}"), UnitSpec::default(), &objects);
    }
    bench.publish();
    bench.until_ready().await;
    let before = settled(&bench).await;
    bench.restart().await;
    bench.until_ready().await;
    bench.engine.request(flotilla_agent::sync::Request::Reconcile { unit: None }).unwrap();
    bench.until_ready().await;
    stay(&bench, &before, Duration::from_secs(1)).await.unwrap();

    bench.stop_engine().await;
    bench.disk.forget_everything();
    let first =
        at("ConfigMap", "default", "c0-0").json(&bench.client()).await.unwrap()["metadata"]["uid"].clone();
    bench.start_engine();
    bench.until_ready().await;
    let again =
        at("ConfigMap", "default", "c0-0").json(&bench.client()).await.unwrap()["metadata"]["uid"].clone();
    assert_eq!(first, again);
}

fn role(name: &str, verb: &str) -> Value {
    json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": name},
        "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": [verb]}]})
}

/// The verbs of the ClusterRoles that are ours.
async fn verbs(bench: &Bench) -> BTreeMap<String, Value> {
    let client = bench.client();
    let found = list(&client, "rbac.authorization.k8s.io/v1", "ClusterRole", None, "flotilla.dev/unit").await;
    let name = |object: &DynamicObject| object.metadata.name.clone().unwrap_or_default();
    found.unwrap().iter().map(|object| (name(object), object.data["rules"][0]["verbs"][0].clone())).collect()
}

/// Names of roles may hold nearly anything. `admin` and `view` are the cluster's own.
#[tokio::test]
async fn a_name_addresses_its_own_object_whatever_is_in_it() {
    let mut bench = Bench::start(&ClusterOptions::bare()).await;
    let names = [
        "admin?fieldManager=x",
        "view#odd",
        "odd with space",
        "odd+x;y=1&z,",
        "odd:a:b@example.com",
        "odd-rôle-日本",
        "odd\\\"<>{}|^`",
    ];
    let expected = |verb: &str| names.map(|name| (name.to_owned(), json!(verb))).into();
    let roles = |verb: &str| names.map(|name| role(name, verb));
    // That a cluster loses more than half of what it has is guarded.
    let others: Vec<Value> = (0..12).map(|number| config(&format!("stays{number}"), "1")).collect();
    bench.present("b", UnitSpec::default(), &others);
    bench.present("a", UnitSpec::default(), &roles("get"));
    bench.publish();
    bench.until_ready().await;
    assert_eq!(verbs(&bench).await, expected("get"));
    // Looked for, changed and read back under the same names.
    bench.present("a", UnitSpec::default(), &roles("list"));
    bench.publish();
    bench.until_ready().await;
    assert_eq!(verbs(&bench).await, expected("list"));
    bench.restart().await;
    bench.until_ready().await;
    assert!(bench.report("a").unwrap().findings.is_empty());

    // No object can be called so, whatever the API server makes of the path.
    let impossible = ["view/status", "..", "a%2Fb"];
    let mut all: Vec<Value> = roles("list").to_vec();
    all.extend(impossible.map(|name| role(name, "get")));
    bench.present("a", UnitSpec::default(), &all);
    bench.publish();
    let report = bench.until("a", |report| report.findings.len() == impossible.len()).await;
    for finding in &report.findings {
        let words = format!("'{}' is not a valid name", finding.object.name);
        assert!(finding.message.contains(&words), "{finding:?}");
    }
    assert_eq!(verbs(&bench).await, expected("list"));
    bench.remove("a");
    bench.publish();
    let gone = eventually(LIMIT, || async {
        let (report, left) = (bench.report("a"), verbs(&bench).await);
        if report.is_none() && left.is_empty() { Ok(()) } else { Err(format!("{left:?} {report:#?}")) }
    });
    gone.await.unwrap();
    for name in ["admin", "view"] {
        let own = ObjectRef::global("rbac.authorization.k8s.io/v1", "ClusterRole", name);
        assert!(bench.is_there(&own).await, "{name}");
    }
}
