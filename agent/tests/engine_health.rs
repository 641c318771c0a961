//! The engine on a real API server: health by expressions, waits that end, dependencies by expression.

mod engine_common;

use engine_common::{Bench, at, config, unit};
use flotilla_core::UnitSpec;
use flotilla_core::authority::Authority;
use flotilla_core::health::HealthExprs;
use flotilla_core::report::Phase;
use flotilla_core::unit::HealthCheck;
use flotilla_tests::ClusterOptions;
use flotilla_tests::objects::{ObjectRef, apply};
use serde_json::{Value, json};

fn definition(group: &str, kind: &str, plural: &str) -> Value {
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.{group}")},
        "spec": {"group": group, "scope": "Namespaced", "names": {"kind": kind, "plural": plural},
            "versions": [{"name": "v1", "served": true, "storage": true, "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}]}})
}

fn custom(group: &str, kind: &str, name: &str, spec: &Value) -> Value {
    json!({"apiVersion": format!("{group}/v1"), "kind": kind, "metadata": {"name": name, "namespace": "default"}, "spec": spec})
}

fn by_size() -> HealthExprs {
    HealthExprs {
        api_version: "example.com/v1alpha1".into(),
        kind: "Widget".into(),
        in_progress: None,
        failed: Some("has(status.broken) && status.broken".into()),
        current: "has(status.size) && status.size == spec.size".into(),
    }
}

#[tokio::test]
async fn expressions_say_what_is_healthy() {
    let mut bench = Bench::start(&ClusterOptions::bare()).await;
    bench.present(
        "crds",
        UnitSpec::default(),
        &[definition("example.com", "Widget", "widgets"), definition("flagger.app", "Canary", "canaries")],
    );
    let spec = |exprs: Vec<HealthExprs>| UnitSpec {
        wait: true,
        depends_on: vec![unit("crds")],
        health_check_exprs: exprs,
        ..UnitSpec::default()
    };
    let objects = [
        custom("example.com", "Widget", "w", &json!({"size": 3})),
        custom("flagger.app", "Canary", "c", &json!({})),
    ];
    bench.present("a", spec(vec![by_size()]), &objects);
    bench.present(
        "after",
        UnitSpec { depends_on: vec![unit("a")], ..UnitSpec::default() },
        &[config("after", "1")],
    );
    bench.publish();
    // Both were Current by the conventions alone, as they have no status.
    let report =
        bench.until("a", |report| report.phase == Phase::Progressing && report.findings.len() == 2).await;
    assert!(
        report.findings.iter().all(|finding| finding.message.contains("does not say that it is ready")),
        "{report:?}"
    );
    let widget = ObjectRef::new("example.com/v1", "Widget", "default", "w");
    let canary = ObjectRef::new("flagger.app/v1", "Canary", "default", "c");
    widget.edit_status(&bench.client(), json!({"size": 2, "phase": "Growing"})).await.unwrap();
    canary.edit_status(&bench.client(), json!({"phase": "Succeeded"})).await.unwrap();
    let report =
        bench.until("a", |report| report.findings.len() == 1 && report.message.contains("is Growing")).await;
    assert!(report.message.contains("Widget.example.com default/w"), "{}", report.message);
    assert!(!bench.is_there(&at("ConfigMap", "default", "after")).await);
    widget.edit_status(&bench.client(), json!({"size": 3})).await.unwrap();
    bench.until_ready().await;
    assert!(bench.is_there(&at("ConfigMap", "default", "after")).await);
    widget.edit_status(&bench.client(), json!({"broken": true})).await.unwrap();
    bench
        .until("a", |report| report.findings.iter().any(|finding| finding.message.contains("is Growing")))
        .await;
    // Without its expressions the kind is as healthy as its status says, at once.
    bench.present("a", spec(vec![]), &objects);
    bench.publish();
    bench.until_ready().await;
}

#[tokio::test]
async fn a_new_revision_ends_a_wait_and_a_dependency_is_ready_by_expression() {
    let mut bench = Bench::start(&ClusterOptions::bare()).await;
    let check = |name: &str| HealthCheck {
        api_version: "v1".into(),
        kind: "ConfigMap".into(),
        namespace: "default".into(),
        name: name.into(),
    };
    let waiting = |version: &str, name: &str| UnitSpec {
        health_checks: vec![check(name)],
        timeout: 3600,
        labels: [("version".to_owned(), version.to_owned())].into(),
        ..UnitSpec::default()
    };
    let same = "dep.metadata.labels['version'] == self.metadata.labels['version'] && \
                dep.status.observedGeneration == dep.metadata.generation";
    let dependent = |version: &str| UnitSpec {
        depends_on: vec![unit("db")],
        ready_exprs: [(unit("db"), same.to_owned())].into(),
        labels: [("version".to_owned(), version.to_owned())].into(),
        ..UnitSpec::default()
    };
    bench.present("db", waiting("1", "foreign-one"), &[config("db", "1")]);
    bench.present("app", dependent("2"), &[config("app", "1")]);
    bench.publish();
    let waits =
        |report: &flotilla_core::report::UnitReport| report.message.contains("foreign-one: is not there");
    assert_eq!(bench.until("db", waits).await.phase, Phase::Progressing);
    let report = bench.until_phase("app", Phase::Pending).await;
    assert_eq!(report.message, "waits for kustomization/flux-system/db to be ready");
    // Nothing waits for the hour to end: the new revision is applied, and what hangs on it by its own word goes on.
    bench.present("db", waiting("2", "foreign-two"), &[config("db", "2")]);
    bench.publish();
    bench.until_field(&at("ConfigMap", "default", "db"), "/data/value", json!("2")).await;
    bench.until_field(&at("ConfigMap", "default", "app"), "/data/value", json!("1")).await;
    bench.until_phase("db", Phase::Progressing).await;
    apply(&bench.client(), "somebody", &config("foreign-two", "x")).await.unwrap();
    bench.until_ready().await;

    // A health check is looked at in the name of the unit's account, which may not see this one.
    let spec = UnitSpec {
        service_account: Some("default/nobody".parse().unwrap()),
        health_checks: vec![check("foreign-three")],
        ..UnitSpec::default()
    };
    apply(&bench.client(), "somebody", &config("foreign-three", "x")).await.unwrap();
    bench.present("spy", spec, &[]);
    bench.publish();
    let report = bench.until("spy", |report| report.message.contains("cannot")).await;
    assert!(report.message.contains("system:serviceaccount:default:nobody"), "{}", report.message);
}

/// Neither ever has what it waits for in a cluster without a load balancer, or before the pods that it is for.
#[tokio::test]
async fn a_service_without_an_address_and_a_budget_without_pods_are_ready() {
    let mut bench = Bench::start(&ClusterOptions::default()).await;
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "lb", "namespace": "default"},
        "spec": {"type": "LoadBalancer", "ports": [{"port": 80}], "selector": {"app": "web"}}});
    let budget = json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget",
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "web"}}}});
    let spec = UnitSpec { wait: true, ..UnitSpec::default() };
    bench.present("policies", spec, &[service, budget]);
    let after = UnitSpec { depends_on: vec![unit("policies")], ..UnitSpec::default() };
    bench.present("after", after, &[config("after", "1")]);
    bench.publish();
    bench.until_ready().await;
}

#[tokio::test]
async fn how_the_health_of_anothers_object_is_told_is_not_for_a_tenant_to_say() {
    let mut bench = Bench::start(&ClusterOptions::bare()).await;
    bench.present("crds", UnitSpec::default(), &[definition("example.com", "Widget", "widgets")]);
    let widget = |name: &str| custom("example.com", "Widget", name, &json!({}));
    let spec = || UnitSpec { wait: true, depends_on: vec![unit("crds")], ..UnitSpec::default() };
    // By the conventions all of them are healthy: they have no status.
    let never = HealthExprs { failed: None, current: "false".into(), ..by_size() };
    let of_tenant = |namespace: &str, checked: &str| UnitSpec {
        authority: Authority::Namespaces([namespace.to_owned()].into()),
        health_check_exprs: vec![never.clone()],
        health_checks: vec![HealthCheck {
            api_version: "example.com/v1".into(),
            kind: "Widget".into(),
            namespace: "default".into(),
            name: checked.into(),
        }],
        ..spec()
    };
    bench.present("fleet", spec(), &[widget("of-fleet")]);
    // First by name and by time: what it says of the other's object counts for neither of them.
    bench.present("a-tenant", of_tenant("team-a", "of-fleet"), &[config("a", "1")]);
    bench.present("own", of_tenant("default", "own"), &[widget("own")]);
    // The fleet repo may say of everybody's.
    let says = UnitSpec { health_check_exprs: vec![never.clone()], ..spec() };
    bench.present("says", says, &[widget("said")]);
    bench.publish();
    for name in ["own", "says"] {
        let report =
            bench.until(name, |report| report.message.contains("waits for Widget.example.com")).await;
        assert_eq!(report.findings.len(), 1, "said once: {report:?}");
    }
    for name in ["fleet", "a-tenant"] {
        bench.until_phase(name, Phase::Ready).await;
    }
}
