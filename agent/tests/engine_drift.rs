//! The engine on a real API server: what others change is put back, and what is nobody's drift is left alone.

mod engine_common;

use std::time::Duration;

use engine_common::{Bench, at, config, unit};
use flotilla_core::UnitSpec;
use flotilla_core::unit::DriftMode;
use flotilla_tests::ClusterOptions;
use flotilla_tests::objects::{ObjectRef, api};
use flotilla_tests::wait::always;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

/// As `kubectl edit` would.
async fn edit(bench: &Bench, object: &ObjectRef, manager: &str, patch: Value) {
    let api = api(&bench.client(), &object.api_version, &object.kind, object.namespace.as_deref());
    let params = PatchParams { field_manager: Some(manager.into()), ..PatchParams::default() };
    api.patch(&object.name, &params, &Patch::Merge(patch)).await.unwrap();
}

#[tokio::test]
async fn deleted_edited_and_added_to_by_kubectl() {
    let mut bench = Bench::start(&ClusterOptions::bare()).await;
    bench.present(
        "a",
        UnitSpec::default(),
        &[config("one", "1"), config("two", "1"), config("three", "1"), config("four", "1")],
    );
    bench.publish();
    bench.until_ready().await;

    at("ConfigMap", "default", "one").delete(&bench.client()).await.unwrap();
    bench.until_field(&at("ConfigMap", "default", "one"), "/data/value", json!("1")).await;

    let two = at("ConfigMap", "default", "two");
    edit(&bench, &two, "kubectl-edit", json!({"data": {"value": "2"}})).await;
    bench.until_field(&two, "/data/value", json!("1")).await;

    let three = at("ConfigMap", "default", "three");
    edit(&bench, &three, "kubectl-edit", json!({"data": {"added": "x"}})).await;
    bench.until_field(&three, "/data/added", Value::Null).await;

    // Without our label the object leaves the watch; it is no less ours.
    let four = at("ConfigMap", "default", "four");
    let uid = four.field(&bench.client(), "/metadata/uid").await.unwrap();
    edit(&bench, &four, "kubectl-label", json!({"metadata": {"labels": {"flotilla.dev/unit": null}}})).await;
    bench
        .until_field(&four, "/metadata/labels/flotilla.dev~1unit", json!("kustomization.flux-system.a"))
        .await;
    assert_eq!(four.field(&bench.client(), "/metadata/uid").await.unwrap(), uid);

    let report = bench.until("a", |report| report.corrected == 4).await;
    assert!(report.drift.is_empty(), "{:?}", report.drift);
    assert!(bench.has_event("DriftCorrected", "was deleted and is back"));
    assert!(
        bench.has_event("DriftCorrected", "/data/value was 2 by kubectl-edit, is 1 again"),
        "{:#?}",
        bench.events()
    );
    assert!(bench.has_event("DriftCorrected", "/data/added was x by kubectl-edit, is nothing again"));

    // Other managers' own fields are theirs.
    edit(&bench, &three, "some-controller", json!({"metadata": {"annotations": {"theirs": "x"}}})).await;
    let stays = always(Duration::from_millis(500), || async {
        let theirs = three.field(&bench.client(), "/metadata/annotations/theirs").await?;
        let corrected = bench.report("a").map(|report| report.corrected);
        anyhow::ensure!(theirs == "x" && corrected == Some(4), "{theirs}, {corrected:?} corrected");
        Ok::<_, anyhow::Error>(())
    });
    stays.await.unwrap();
}

#[tokio::test]
async fn what_kubectl_made_before_is_taken_over() {
    let mut bench = Bench::start(&ClusterOptions::bare()).await;
    let one = at("ConfigMap", "default", "one");
    flotilla_tests::objects::apply(
        &bench.client(),
        "kubectl",
        &json!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "one", "namespace": "default"}, "data": {"value": "0", "extra": "x"}}),
    )
    .await
    .unwrap();
    let uid = one.field(&bench.client(), "/metadata/uid").await.unwrap();
    bench.present("a", UnitSpec::default(), &[config("one", "1")]);
    bench.publish();
    bench.until_ready().await;
    let object = one.json(&bench.client()).await.unwrap();
    assert_eq!(object["data"], json!({"value": "1"}));
    assert_eq!(object["metadata"]["uid"], uid);
    let managers: Vec<&str> = object["metadata"]["managedFields"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|entry| entry["manager"].as_str())
        .collect();
    assert_eq!(managers, ["flotilla"]);
}

#[tokio::test]
async fn reported_or_ignored_drift_stays() {
    let mut bench = Bench::start(&ClusterOptions::bare()).await;
    let spec = |drift| UnitSpec { drift, ..UnitSpec::default() };
    let secret = |name: &str| json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": "default"}, "stringData": {"p": "hunter2"}});
    bench.present("report", spec(DriftMode::Report), &[config("r", "1"), secret("s")]);
    bench.present("ignore", spec(DriftMode::Ignore), &[config("i", "1")]);
    bench.publish();
    bench.until_ready().await;
    edit(&bench, &at("ConfigMap", "default", "r"), "kubectl-edit", json!({"data": {"value": "2"}})).await;
    edit(&bench, &at("ConfigMap", "default", "i"), "kubectl-edit", json!({"data": {"value": "2"}})).await;
    let report = bench.until("report", |report| !report.drift.is_empty()).await;
    let told = &report.drift[0].fields[0];
    assert_eq!(
        (told.field.as_str(), told.wanted.as_deref(), told.found.as_deref()),
        ("/data/value", Some("1"), Some("2"))
    );
    assert_eq!(told.manager.as_deref(), Some("kubectl-edit"));
    edit(&bench, &at("Secret", "default", "s"), "kubectl-edit", json!({"stringData": {"p": "changed"}}))
        .await;
    let report = bench.until("report", |report| report.drift.len() == 2).await;
    assert!(!format!("{report:?}").contains("hunter"), "{report:?}");
    assert_eq!(at("ConfigMap", "default", "r").field(&bench.client(), "/data/value").await.unwrap(), "2");
    assert_eq!(at("ConfigMap", "default", "i").field(&bench.client(), "/data/value").await.unwrap(), "2");
    assert!(bench.report("ignore").unwrap().drift.is_empty());

    // A change of ours goes through all the same.
    bench.present("ignore", spec(DriftMode::Ignore), &[config("i", "3")]);
    bench.publish();
    bench.until_field(&at("ConfigMap", "default", "i"), "/data/value", json!("3")).await;
}

#[tokio::test]
async fn what_is_held_is_kept_right() {
    let mut bench = Bench::start(&ClusterOptions::bare()).await;
    bench.present("a", UnitSpec::default(), &[config("x", "1"), config("y", "1")]);
    bench.present("b", UnitSpec::default(), &[config("z", "1")]);
    bench.publish();
    bench.until_ready().await;
    bench.present("a", UnitSpec::default(), &[config("x", "1")]);
    bench.hold("b");
    bench.publish();
    bench.until_phase("b", flotilla_core::report::Phase::Held).await;
    at("ConfigMap", "default", "z").delete(&bench.client()).await.unwrap();
    bench.until_field(&at("ConfigMap", "default", "z"), "/data/value", json!("1")).await;
    assert!(bench.is_there(&at("ConfigMap", "default", "y")).await, "nothing is pruned while a unit is held");
    assert_eq!(unit("b").to_string(), "kustomization/flux-system/b");

    bench.present("b", UnitSpec::default(), &[config("z", "1")]);
    bench.publish();
    bench.until_gone(&at("ConfigMap", "default", "y")).await;
}
