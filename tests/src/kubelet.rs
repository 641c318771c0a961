//! A kubelet that runs nothing: pods become ready as soon as they are seen, pods of jobs succeed, deleted pods go.
//!
//! ```text
//!   watch of pods ──► step(pod): what is its next step, if any ──► one request, 32 at a time
//! ```
//!
//! Everything follows from the pod as it stands, so that annotations work at any time in a pod's life.

use std::fmt::Write as _;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::{Container, Node, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Error, ResourceExt};
use serde_json::{Value, json};

/// A pod with this annotation (any value) runs but does not become ready; a job's pod does not finish.
pub const NOT_READY_ANNOTATION: &str = "test.flotilla.dev/not-ready";
/// A pod with this annotation (any value) fails: exit code 1.
pub const FAIL_ANNOTATION: &str = "test.flotilla.dev/fail";

/// DaemonSets get a pod on each node: on this one.
const NODE: &str = "node-0";
const NODE_ADDRESS: &str = "127.0.0.1";
const AT_ONCE: usize = 32;

/// Works until it is dropped. What fails is tried again when the watch brings the pod again.
pub(crate) async fn run(client: Client) {
    while let Err(error) = add_node(&client).await {
        eprintln!("fake kubelet: add the node {NODE}: {error}");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let pods: Api<Pod> = Api::all(client.clone());
    watcher(pods, watcher::Config::default())
        .default_backoff()
        .applied_objects()
        .for_each_concurrent(AT_ONCE, |pod| {
            let client = client.clone();
            async move {
                // A failed watch has its own backoff and starts anew.
                let Ok(pod) = pod else { return };
                let name = format!("{}/{}", pod.namespace().unwrap_or_default(), pod.name_any());
                let mut pause = Duration::from_millis(100);
                loop {
                    match execute(&client, &pod).await {
                        Ok(()) => return,
                        // The pod changed, or is gone: the watch tells, this attempt is void.
                        Err(Error::Api(status)) if matches!(status.code, 404 | 409) => return,
                        Err(Error::Api(status)) if status.code != 429 && status.code < 500 => {
                            eprintln!("fake kubelet: {name}: {status}");
                            return;
                        }
                        // Away or overloaded.
                        Err(_) => tokio::time::sleep(pause).await,
                    }
                    pause = (pause * 2).min(Duration::from_secs(2));
                }
            }
        })
        .await;
}

async fn add_node(client: &Client) -> kube::Result<()> {
    let nodes: Api<Node> = Api::all(client.clone());
    let node = serde_json::from_value(json!({
        "metadata": {"name": NODE, "labels": {"kubernetes.io/hostname": NODE, "kubernetes.io/os": "linux"}},
    }))
    .map_err(Error::SerdeError)?;
    match nodes.create(&PostParams::default(), &node).await {
        Err(Error::Api(status)) if status.is_already_exists() => {}
        result => drop(result?),
    }
    // Admission taints new nodes as not ready; who would lift that (the node lifecycle controller) is not here.
    let untainted = json!({"spec": {"taints": null}});
    nodes.patch(NODE, &PatchParams::default(), &Patch::Merge(untainted)).await?;
    let status = json!({"status": {
        "capacity": {"cpu": "64", "memory": "256Gi", "pods": "10000"},
        "allocatable": {"cpu": "64", "memory": "256Gi", "pods": "10000"},
        "addresses": [{"type": "InternalIP", "address": NODE_ADDRESS}],
        "conditions": [condition("Ready", true, &Timestamp::now())],
    }});
    nodes.patch_status(NODE, &PatchParams::default(), &Patch::Merge(status)).await.map(drop)
}

/// What a pod needs from its kubelet next.
#[derive(Debug, PartialEq)]
enum Step {
    Nothing,
    /// It is being deleted and nothing of it runs any more.
    Remove,
    /// A new status.
    Report(Value),
}

async fn execute(client: &Client, pod: &Pod) -> kube::Result<()> {
    let api: Api<Pod> = Api::namespaced(client.clone(), &pod.namespace().unwrap_or_default());
    let name = pod.name_any();
    match step(pod, Timestamp::now()) {
        Step::Nothing => Ok(()),
        Step::Remove => {
            let of_this_pod = Preconditions { uid: pod.uid(), resource_version: None };
            api.delete(&name, &DeleteParams::default().grace_period(0).preconditions(of_this_pod))
                .await
                .map(drop)
        }
        Step::Report(status) => {
            // Bound to the version looked at: a late answer to an old state must not replace a newer one.
            let patch = json!({"metadata": {"resourceVersion": pod.resource_version()}, "status": status});
            api.patch_status(&name, &PatchParams::default(), &Patch::Merge(patch)).await.map(drop)
        }
    }
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    Ready,
    NotReady,
    Succeeded,
    Failed,
}

fn step(pod: &Pod, now: Timestamp) -> Step {
    if pod.metadata.deletion_timestamp.is_some() {
        // Without a grace period the API server removes it by itself once its finalizers are gone.
        return if pod.metadata.deletion_grace_period_seconds == Some(0) {
            Step::Nothing
        } else {
            Step::Remove
        };
    }
    let state = wanted(pod);
    if current(pod) == Some(state) { Step::Nothing } else { Step::Report(status(pod, state, now)) }
}

fn wanted(pod: &Pod) -> State {
    let owned_by_job = pod.owner_references().iter().any(|owner| owner.kind == "Job");
    if pod.annotations().contains_key(FAIL_ANNOTATION) {
        State::Failed
    } else if pod.annotations().contains_key(NOT_READY_ANNOTATION) {
        State::NotReady
    } else if owned_by_job {
        State::Succeeded
    } else {
        State::Ready
    }
}

/// The state that the pod's status tells; `None` before its first report. An end is final.
fn current(pod: &Pod) -> Option<State> {
    let status = pod.status.as_ref()?;
    match status.phase.as_deref() {
        Some("Succeeded" | "Failed") => Some(wanted(pod)),
        Some("Running") => {
            let conditions = status.conditions.iter().flatten();
            let ready = conditions.clone().any(|each| each.type_ == "Ready" && each.status == "True");
            Some(if ready { State::Ready } else { State::NotReady })
        }
        _ => None,
    }
}

fn status(pod: &Pod, state: State, now: Timestamp) -> Value {
    let started = pod.status.as_ref().and_then(|status| status.start_time.clone()).unwrap_or(Time(now));
    let ready = state == State::Ready;
    let phase = match state {
        State::Ready | State::NotReady => "Running",
        State::Succeeded => "Succeeded",
        State::Failed => "Failed",
    };
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    let containers: Vec<Value> =
        containers.map(|container| container_status(container, state, &started, now)).collect();
    let address = pod_address(&pod.uid().unwrap_or_default());
    json!({
        "phase": phase,
        "startTime": started,
        "hostIP": NODE_ADDRESS,
        "hostIPs": [{"ip": NODE_ADDRESS}],
        "podIP": address,
        "podIPs": [{"ip": address}],
        "conditions": [
            condition("PodScheduled", true, &started.0),
            condition("Initialized", true, &started.0),
            condition("ContainersReady", ready, &now),
            condition("Ready", ready, &now),
        ],
        "containerStatuses": containers,
    })
}

fn container_status(container: &Container, state: State, started: &Time, now: Timestamp) -> Value {
    let ended = |code: i32, reason: &str| json!({"terminated": {"exitCode": code, "reason": reason, "startedAt": started, "finishedAt": Time(now)}});
    let (ready, state) = match state {
        State::Ready => (true, json!({"running": {"startedAt": started}})),
        State::NotReady => (false, json!({"running": {"startedAt": started}})),
        State::Succeeded => (false, ended(0, "Completed")),
        State::Failed => (false, ended(1, "Error")),
    };
    json!({
        "name": container.name,
        "image": container.image,
        "imageID": format!("fake://{}", container.image.as_deref().unwrap_or_default()),
        "containerID": format!("fake://{}", container.name),
        "ready": ready,
        "started": state.get("running").is_some(),
        "restartCount": 0,
        "state": state,
    })
}

fn condition(kind: &str, holds: bool, since: &Timestamp) -> Value {
    let mut condition = json!({
        "type": kind,
        "status": if holds { "True" } else { "False" },
        "lastTransitionTime": Time(*since),
    });
    if !holds {
        condition["reason"] = json!("ContainersNotReady");
    }
    condition
}

/// An address in 10.0.0.0/9 that is the same for the whole life of a pod. Two pods may share one: nothing dials it.
fn pod_address(uid: &str) -> String {
    let digest = blake3::hash(uid.as_bytes());
    let [a, b, c, ..] = digest.as_bytes();
    let mut address = String::from("10");
    for part in [a & 0x7f, *b, *c] {
        let _ = write!(address, ".{part}");
    }
    address
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(changes: Value) -> Pod {
        let mut pod = json!({
            "metadata": {"name": "web-1", "namespace": "shop", "uid": "u1"},
            "spec": {"containers": [{"name": "web", "image": "web:1"}]},
        });
        json_merge(&mut pod, changes);
        serde_json::from_value(pod).unwrap()
    }

    fn json_merge(into: &mut Value, from: Value) {
        match (into, from) {
            (Value::Object(into), Value::Object(from)) => {
                for (key, value) in from {
                    json_merge(into.entry(key).or_insert(Value::Null), value);
                }
            }
            (into, from) => *into = from,
        }
    }

    fn phase_and_ready(step: &Step) -> (String, bool) {
        let Step::Report(status) = step else { panic!("{step:?}") };
        let ready = status["conditions"]
            .as_array()
            .unwrap()
            .iter()
            .any(|it| it["type"] == "Ready" && it["status"] == "True");
        (status["phase"].as_str().unwrap().to_owned(), ready)
    }

    #[test]
    fn a_pod_is_reported_once_for_each_state() {
        let of_job = json!([{"apiVersion": "batch/v1", "kind": "Job", "name": "j", "uid": "u2"}]);
        let cases = [
            (json!({}), "Running", true),
            (json!({"metadata": {"annotations": {NOT_READY_ANNOTATION: ""}}}), "Running", false),
            (json!({"metadata": {"annotations": {FAIL_ANNOTATION: ""}}}), "Failed", false),
            (json!({"metadata": {"ownerReferences": of_job}}), "Succeeded", false),
            (
                json!({"metadata": {"ownerReferences": of_job, "annotations": {FAIL_ANNOTATION: ""}}}),
                "Failed",
                false,
            ),
        ];
        for (changes, phase, ready) in cases {
            let before = pod(changes.clone());
            let first = step(&before, Timestamp::now());
            assert_eq!(phase_and_ready(&first), (phase.to_owned(), ready), "{changes}");
            let Step::Report(status) = first else { unreachable!() };
            let mut after = changes.clone();
            json_merge(&mut after, json!({"status": status}));
            assert_eq!(step(&pod(after), Timestamp::now()), Step::Nothing, "{changes}");
        }
    }

    #[test]
    fn an_annotation_counts_at_any_time() {
        let mut running = pod(json!({}));
        let Step::Report(status) = step(&running, Timestamp::now()) else { panic!() };
        running.status = Some(serde_json::from_value(status).unwrap());
        running.annotations_mut().insert(NOT_READY_ANNOTATION.into(), String::new());
        let unready = step(&running, Timestamp::now());
        assert_eq!(phase_and_ready(&unready), ("Running".to_owned(), false));
        let Step::Report(status) = unready else { unreachable!() };
        running.status = Some(serde_json::from_value(status).unwrap());
        running.annotations_mut().clear();
        assert_eq!(phase_and_ready(&step(&running, Timestamp::now())), ("Running".to_owned(), true));
    }

    #[test]
    fn a_deleted_pod_is_removed_once() {
        let going = |grace: i64| json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z", "deletionGracePeriodSeconds": grace}});
        assert_eq!(step(&pod(going(30)), Timestamp::now()), Step::Remove);
        assert_eq!(step(&pod(going(0)), Timestamp::now()), Step::Nothing);
    }
}
