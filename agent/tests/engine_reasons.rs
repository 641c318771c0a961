//! Why objects are not healthy: from pods and events behind them, told with the unit.

mod engine_common;

use engine_common::{Bench, LIMIT, namespace};
use flotilla_core::UnitSpec;
use flotilla_core::report::Phase;
use flotilla_tests::objects::{ObjectRef, list};
use flotilla_tests::wait::eventually;
use flotilla_tests::{ClusterOptions, NOT_READY_ANNOTATION};
use kube::ResourceExt;
use serde_json::{Value, json};

fn deployment(name: &str) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "namespace": "web"},
        "spec": {"selector": {"matchLabels": {"app": name}}, "template": {
            "metadata": {"labels": {"app": name}, "annotations": {NOT_READY_ANNOTATION: "yes"}},
            "spec": {"containers": [{"name": "main", "image": "registry.example/main:1"}]}}}})
}

#[tokio::test]
async fn a_unit_that_waits_says_what_its_pods_and_events_say() {
    let mut bench = Bench::start(&ClusterOptions::default()).await;
    let waits = UnitSpec { wait: true, timeout: 600, ..UnitSpec::default() };
    let quota = json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "few", "namespace": "full"},
        "spec": {"hard": {"pods": "0"}}});
    let mut full = deployment("full");
    full["metadata"]["namespace"] = "full".into();
    bench.present("root", UnitSpec::default(), &[namespace("web"), namespace("full"), quota]);
    bench.publish();
    // A quota counts from when its controller has seen it.
    let quota = ObjectRef::new("v1", "ResourceQuota", "full", "few");
    bench.until_field(&quota, "/status/hard/pods", json!("0")).await;
    bench.present("probe", waits.clone(), &[deployment("probe")]);
    bench.present("full", waits, &[full]);
    bench.publish();
    bench.until_phase("probe", Phase::Progressing).await;

    let client = bench.client();
    let pod = eventually(LIMIT, || async {
        let mut pods =
            list(&client, "v1", "Pod", Some("web"), "app=probe").await.map_err(|error| error.to_string())?;
        pods.pop().ok_or_else(|| "no pod yet".to_owned())
    });
    let pod = pod.await.unwrap();
    let event = json!({"apiVersion": "v1", "kind": "Event", "metadata": {"name": "probe.1", "namespace": "web"},
        "type": "Warning", "reason": "Unhealthy", "message": "Readiness probe failed: connection refused",
        "involvedObject": {"apiVersion": "v1", "kind": "Pod", "namespace": "web", "name": pod.name_any(), "uid": pod.uid()}});
    flotilla_tests::objects::apply(&client, "kubelet", &event).await.unwrap();

    let says =
        |text: &'static str| move |report: &flotilla_core::report::UnitReport| report.message.contains(text);
    bench.until("probe", says("Unhealthy: Readiness probe failed: connection refused")).await;
    bench.until("full", says("exceeded quota")).await;

    // When all is well there is nothing to say.
    let object = ObjectRef::new("apps/v1", "Deployment", "web", "probe");
    object.edit(&client, json!({"spec": {"paused": false}})).await.unwrap();
    let mut well = deployment("probe");
    well["spec"]["template"]["metadata"]["annotations"] = json!({});
    let waits = UnitSpec { wait: true, timeout: 600, ..UnitSpec::default() };
    bench.present("probe", waits, &[well]);
    bench.publish();
    bench.until_phase("probe", Phase::Ready).await;
}
