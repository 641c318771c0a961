//! Units that leave Git, on a real API server: what has to be certain, and what has to be approved, before they go.

mod engine_common;

use engine_common::{Bench, at, config, definition, unit};
use flotilla_agent::sync::Request;
use flotilla_core::UnitSpec;
use flotilla_core::report::Phase;
use flotilla_tests::ClusterOptions;
use flotilla_tests::objects::ObjectRef;
use serde_json::{Value, json};

fn below(parent: &str) -> UnitSpec {
    UnitSpec { parent: Some(unit(parent)), ..UnitSpec::default() }
}

async fn until_over(bench: &Bench, name: &str) {
    let over = flotilla_tests::wait::eventually(engine_common::LIMIT, || async {
        match bench.report(name) {
            None => Ok(()),
            Some(report) => Err(format!("{report:#?}")),
        }
    });
    over.await.unwrap();
}

#[tokio::test]
async fn a_unit_leaves_once_its_parent_applied_and_a_database_once_somebody_approved() {
    let mut bench = Bench::start(&ClusterOptions::bare()).await;
    let database = json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "db", "namespace": "default"},
        "spec": {"serviceName": "db", "selector": {"matchLabels": {"a": "db"}},
            "template": {"metadata": {"labels": {"a": "db"}}, "spec": {"containers": [{"name": "db", "image": "db"}]}},
            "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"],
                "resources": {"requests": {"storage": "1Gi"}}}}]}});
    bench.present("root", UnitSpec::default(), &[config("root", "1")]);
    let others: Vec<Value> = (0..9).map(|number| config(&format!("other{number}"), "1")).collect();
    bench.present("others", below("root"), &others);
    bench.present("app", below("root"), &[config("app", "1"), config("app2", "1")]);
    bench.present("db", below("root"), &[database, config("db", "1")]);
    bench.present("sus", below("root"), &[config("sus", "1")]);
    let nobody = UnitSpec { service_account: Some("default/nobody".parse().unwrap()), ..below("root") };
    bench.present("denied", nobody, &[config("denied", "1")]);
    bench.hold("ghost");
    bench.publish();
    for name in ["root", "others", "app", "db", "sus"] {
        bench.until_phase(name, Phase::Ready).await;
    }
    bench.until_phase("ghost", Phase::Held).await;
    bench.until_phase("denied", Phase::Failed).await;

    // The root of this commit defines only itself, and fails: nothing leaves but what never ran.
    let typo = json!({"apiVersion": "kustomize.toolkit.fluxcd.io/v1", "kind": "Kustomizaton",
        "metadata": {"name": "app", "namespace": "default"}});
    bench.present("root", UnitSpec::default(), &[config("root", "1"), typo]);
    bench.present("sus", UnitSpec { suspend: true, ..below("root") }, &[config("sus", "1")]);
    bench.publish();
    bench.until_phase("sus", Phase::Suspended).await;
    for name in ["app", "db", "denied"] {
        bench.remove(name);
    }
    bench.remove_suspended("sus");
    bench.forget("ghost");
    bench.publish();
    until_over(&bench, "ghost").await;
    bench.until_phase("root", Phase::Failed).await;
    let waits = |report: &flotilla_core::report::UnitReport| {
        report.message.contains("until its parent root has applied")
    };
    bench.until("app", waits).await;
    bench.until("db", waits).await;
    // What waits is kept right.
    at("ConfigMap", "default", "app").delete(&bench.client()).await.unwrap();
    bench.until_field(&at("ConfigMap", "default", "app"), "/data/value", json!("1")).await;

    bench.present("root", UnitSpec::default(), &[config("root", "2")]);
    bench.publish();
    bench.until_gone(&at("ConfigMap", "default", "app")).await;
    bench.until_gone(&at("ConfigMap", "default", "app2")).await;
    // Its account may not even look at what was never applied.
    until_over(&bench, "denied").await;
    let kept = bench.until("db", |report| report.kept.len() == 2).await.kept;
    assert_eq!(kept[0].approval, kept[1].approval);
    assert!(
        kept[0].why.contains("StatefulSet.apps default/db: what runs on its volumes would be gone: data"),
        "{kept:?}"
    );
    bench.restart().await;
    bench.until("db", |report| report.kept == kept).await;
    let suspended = bench.until_phase("sus", Phase::Suspended).await;
    assert!(suspended.message.contains("left Git while it was suspended"), "{suspended:?}");
    assert!(bench.is_there(&at("ConfigMap", "default", "db")).await);

    bench.engine.request(Request::Approve { digest: kept[0].approval }).unwrap();
    bench.until_gone(&ObjectRef::new("apps/v1", "StatefulSet", "default", "db")).await;
    until_over(&bench, "db").await;
    assert!(bench.is_there(&at("ConfigMap", "default", "sus")).await);
    bench.remove("sus");
    bench.publish();
    bench.until_gone(&at("ConfigMap", "default", "sus")).await;
}

/// The CRD drops a version behind the agent's back, and with it the one that objects are listed at.
#[tokio::test]
async fn an_object_is_found_at_a_version_that_is_served() {
    let mut bench = Bench::start(&ClusterOptions::bare()).await;
    let mut crd = definition();
    let mut older = crd["spec"]["versions"][0].clone();
    (older["name"], older["storage"]) = (json!("v1beta1"), json!(false));
    crd["spec"]["versions"].as_array_mut().unwrap().push(older);
    let widget = |version: &str, name: &str| {
        json!({"apiVersion": format!("example.com/{version}"), "kind": "Widget",
            "metadata": {"name": name, "namespace": "default"}, "spec": {"a": 1}})
    };
    bench.present("crds", UnitSpec::default(), &[crd.clone()]);
    let objects: Vec<Value> = ["a", "b"].iter().map(|name| widget("v1beta1", name)).collect();
    bench.present("crs", UnitSpec { depends_on: vec![unit("crds")], ..UnitSpec::default() }, &objects);
    bench.publish();
    bench.until_ready().await;
    crd["spec"]["versions"][1]["served"] = json!(false);
    let versions = json!({"spec": {"versions": crd["spec"]["versions"]}});
    let at_crd =
        ObjectRef::global("apiextensions.k8s.io/v1", "CustomResourceDefinition", "widgets.example.com");
    bench.present("crds", UnitSpec::default(), &[crd]);
    at_crd.edit(&bench.client(), versions).await.unwrap();
    let found = ObjectRef::new("example.com/v1", "Widget", "default", "a");
    bench.present(
        "crs",
        UnitSpec { depends_on: vec![unit("crds")], ..UnitSpec::default() },
        &[widget("v1", "b")],
    );
    bench.publish();
    bench.until_gone(&found).await;
    assert!(bench.is_there(&ObjectRef::new("example.com/v1", "Widget", "default", "b")).await);
}
