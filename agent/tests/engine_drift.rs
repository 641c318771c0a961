//! The engine on a real API server: what others change is put back, and what is nobody's drift is left alone.

mod engine_common;

use std::time::Duration;

use engine_common::{Bench, at, config, unit};
use flotilla_agent::sync::Request;
use flotilla_core::UnitSpec;
use flotilla_core::report::Phase;
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
        bench.has_event("DriftCorrected", "/data/value was set to 2 by kubectl-edit, is 1 again"),
        "{:#?}",
        bench.events()
    );
    assert!(bench.has_event("DriftCorrected", "/data/added was set to x by kubectl-edit, is removed again"));

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

/// What another agent, or somebody with `--field-manager=flotilla`, applies leaves our entry with the same fields.
#[tokio::test]
async fn what_is_applied_under_our_name_is_put_back() {
    let mut bench = Bench::start(&ClusterOptions::bare()).await;
    let client = bench.client();
    bench.present("a", UnitSpec::default(), &[config("one", "1"), config("two", "1")]);
    bench.publish();
    bench.until_ready().await;
    let theirs = async |name: &str, value: &str| {
        let mut object = at("ConfigMap", "default", name).json(&client).await.unwrap();
        object["data"] = json!({"value": value});
        let metadata = object["metadata"].as_object_mut().unwrap();
        metadata.retain(|field, _| ["name", "namespace", "labels"].contains(&field.as_str()));
        flotilla_tests::objects::apply(&client, "flotilla", &object).await.unwrap();
    };
    // In the second of our own apply the entry does not even differ by its time.
    theirs("one", "2").await;
    bench.until_field(&at("ConfigMap", "default", "one"), "/data/value", json!("1")).await;
    // Later nothing is.
    let later = flotilla_tests::wait::eventually(engine_common::LIMIT, || async {
        theirs("two", "2").await;
        let event = "/data/value was set to 2, is 1 again";
        if bench.has_event("DriftCorrected", event) && bench.has_event("DriftCorrected", "\"two\"") {
            Ok(())
        } else {
            Err("nothing was put back".to_owned())
        }
    });
    later.await.unwrap();
    bench.until_field(&at("ConfigMap", "default", "two"), "/data/value", json!("1")).await;
    // And while nobody looked.
    bench.stop_engine().await;
    theirs("one", "3").await;
    bench.start_engine();
    bench.until_field(&at("ConfigMap", "default", "one"), "/data/value", json!("1")).await;
}

fn job(name: &str, ttl: u32) -> Value {
    json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name, "namespace": "default"},
        "spec": {"ttlSecondsAfterFinished": ttl, "template": {"spec": {"restartPolicy": "Never",
            "containers": [{"name": "c", "image": "registry.example/c:1"}]}}}})
}

/// Ends a Job as its controller does, and deletes it as the controller of TTLs does.
async fn end_and_expire(bench: &Bench, job: &ObjectRef, condition: &str) -> Value {
    let uid = job.field(&bench.client(), "/metadata/uid").await.unwrap();
    let now = "2026-01-01T00:00:00Z";
    let target = if condition == "Complete" { "SuccessCriteriaMet" } else { "FailureTarget" };
    let conditions = [target, condition].map(|kind| {
        json!({"type": kind, "status": "True", "reason": "Because", "message": "it ended",
            "lastTransitionTime": now, "lastProbeTime": now})
    });
    let mut status = json!({"startTime": now, "conditions": conditions, "active": 0, "ready": 0, "terminating": 0,
        "uncountedTerminatedPods": {}});
    if condition == "Complete" {
        status["completionTime"] = now.into();
        status["succeeded"] = 1.into();
    }
    job.edit_status(&bench.client(), status).await.unwrap();
    job.delete(&bench.client()).await.unwrap();
    uid
}

#[tokio::test]
async fn a_job_that_ended_and_expired_is_not_run_again() {
    let mut bench = Bench::start(&ClusterOptions::bare()).await;
    let wait = UnitSpec { wait: true, interval: 10, ..UnitSpec::default() };
    let mut again = job("again", 0);
    again["metadata"]["annotations"] = json!({"flotilla.dev/rerun": "interval"});
    bench.present("good", wait.clone(), &[job("good", 0)]);
    bench.present("bad", wait.clone(), &[job("bad", 0)]);
    bench.present("again", wait.clone(), &[again]);
    bench.present("unended", wait.clone(), &[job("unended", 0)]);
    bench.publish();
    let of = |name: &str| ObjectRef::new("batch/v1", "Job", "default", name);
    for name in ["good", "bad", "again", "unended"] {
        bench.until(name, |report| report.phase == Phase::Progressing).await;
    }
    for (name, condition) in [("good", "Complete"), ("bad", "Failed")] {
        end_and_expire(&bench, &of(name), condition).await;
        bench.until_gone(&of(name)).await;
    }
    let good = bench.until_phase("good", Phase::Ready).await;
    assert_eq!(good.corrected, 0, "{good:?}");
    let bad = bench.until("bad", |report| report.message.contains("Because: it ended")).await;
    assert_eq!((bad.corrected, bad.findings.len()), (0, 1), "{bad:?}");

    // One that had not ended was deleted by somebody, and comes back at once.
    let uid = of("unended").field(&bench.client(), "/metadata/uid").await.unwrap();
    of("unended").delete(&bench.client()).await.unwrap();
    let back = bench.until("unended", |report| report.corrected == 1).await;
    assert_eq!(back.phase, Phase::Progressing, "{back:?}");
    assert_ne!(of("unended").field(&bench.client(), "/metadata/uid").await.unwrap(), uid);

    // Who wants it once in an interval says so.
    let uid = end_and_expire(&bench, &of("again"), "Complete").await;
    bench.until("again", |report| report.corrected == 1).await;
    assert_ne!(of("again").field(&bench.client(), "/metadata/uid").await.unwrap(), uid);

    // Neither a restart nor a request runs it again; another revision of it does.
    bench.restart().await;
    bench.engine.request(Request::Reconcile { unit: None }).unwrap();
    bench.until_phase("good", Phase::Ready).await;
    bench.until("unended", |report| report.phase == Phase::Progressing).await;
    assert!(!bench.is_there(&of("good")).await);
    let mut next = job("good", 0);
    next["metadata"]["annotations"] = json!({"run": "2"});
    bench.present("good", wait, &[next]);
    bench.publish();
    bench.until_phase("good", Phase::Progressing).await;
    assert!(bench.is_there(&of("good")).await);
    assert!(!bench.is_there(&of("bad")).await);
}
