//! Units that leave Git, on a real API server: what has to be certain, and what has to be approved, before they go.

mod engine_common;

use engine_common::{Bench, at, config, definition, namespace, unit};
use flotilla_agent::sync::Request;
use flotilla_core::UnitSpec;
use flotilla_core::report::{Phase, UnitReport};
use flotilla_tests::ClusterOptions;
use flotilla_tests::objects::{ObjectRef, apply};
use flotilla_tests::proxy::{ApiProxy, Fault};
use flotilla_tests::wait::eventually;
use serde_json::{Value, json};

fn below(parent: &str) -> UnitSpec {
    UnitSpec { parent: Some(unit(parent)), ..UnitSpec::default() }
}

async fn until_over(bench: &Bench, name: &str) {
    let over = eventually(engine_common::LIMIT, || async {
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
        report.message.contains("until its parent root has completely applied")
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
        kept[0].why.contains("StatefulSet.apps default/db: the data on its volumes would be lost: data"),
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

fn says(report: &UnitReport, text: &str) -> bool {
    format!("{report:?}").contains(text)
}

/// What a group holds whose server does not answer, nobody knows.
#[tokio::test]
async fn a_namespace_stays_while_the_server_of_a_group_does_not_answer() {
    let mut bench = Bench::start(&ClusterOptions::default()).await;
    let client = bench.client();
    bench.present("ns", UnitSpec::default(), &[namespace("web"), config("k", "1")]);
    bench.publish();
    bench.until_ready().await;
    let away = json!({"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
        "metadata": {"name": "v1.away.example.com"},
        "spec": {"group": "away.example.com", "version": "v1", "groupPriorityMinimum": 1000, "versionPriority": 15,
            "insecureSkipTLSVerify": true, "service": {"name": "nowhere", "namespace": "default"}}});
    apply(&client, "somebody", &away).await.unwrap();
    let known = eventually(engine_common::LIMIT, || async {
        let groups = client.list_api_groups().await.map_err(|error| error.to_string())?;
        let is_there = groups.groups.iter().any(|group| group.name == "away.example.com");
        if is_there { Ok(()) } else { Err("the group is not listed".to_owned()) }
    });
    known.await.unwrap();
    bench.present("ns", UnitSpec::default(), &[config("k", "1")]);
    // It looks at the cluster's kinds anew.
    bench.restart().await;
    bench.until("ns", |report| says(report, "the server of away.example.com does not answer")).await;
    let web = at("Namespace", "", "web").json(&client).await.unwrap();
    assert!(web["metadata"]["deletionTimestamp"].is_null(), "{web}");

    let group = ObjectRef::global("apiregistration.k8s.io/v1", "APIService", "v1.away.example.com");
    group.delete(&client).await.unwrap();
    bench.until_gone(&at("Namespace", "", "web")).await;
}

/// One API server of several does not serve a kind yet, or not any more, that the definition says is served.
#[tokio::test]
async fn a_definition_stays_while_its_kind_is_said_to_be_served_and_is_not() {
    let mut bench = Bench::start(&ClusterOptions::bare()).await;
    let crd = ObjectRef::global("apiextensions.k8s.io/v1", "CustomResourceDefinition", "widgets.example.com");
    let theirs = json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "theirs", "namespace": "default"}});
    bench.present("crd", UnitSpec::default(), &[definition(), config("c", "1")]);
    bench.publish();
    bench.until_ready().await;
    apply(&bench.client(), "somebody", &theirs).await.unwrap();
    let proxy = ApiProxy::start(&bench.cluster).await.unwrap();
    let list = "/apis/example.com/v1/widgets".to_owned();
    proxy.fail(Fault { method: None, path: list, status: http::StatusCode::NOT_FOUND, times: None });
    bench.stop_engine().await;
    bench.present("crd", UnitSpec::default(), &[config("c", "1")]);
    bench.start_engine_as(engine_common::admin(&proxy).await);
    bench.until("crd", |report| says(report, "cannot list its objects")).await;
    assert!(bench.is_there(&crd).await);
    // What can be listed decides.
    proxy.heal();
    let kept = bench.until("crd", |report| report.kept.len() == 1).await.kept;
    assert!(kept[0].why.contains("Widget.example.com default/theirs"), "{kept:?}");
}
