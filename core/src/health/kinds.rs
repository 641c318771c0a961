//! The rules of single kinds: how their status says that they are well. What counts, and in which order, is kstatus'
//! (`pkg/kstatus/status/core.go` of cli-utils); the words are ours.

use serde_json::Value;

use super::{Health, condition, conditions, count, first_line, number};
use crate::live::Live;

/// A Deployment without a deadline has this one, as its controller knows no other way to say so.
const NO_DEADLINE: i64 = i32::MAX as i64;

pub(super) fn deployment(live: &Live) -> Health {
    let status = &live.status;
    let wanted = live.spec.replicas.unwrap_or(1);
    let progressing = || conditions(status).filter(|condition| condition.kind == "Progressing");
    if let Some(late) = progressing().find(|it| it.reason == "ProgressDeadlineExceeded") {
        return Health::failed(late.text());
    }
    let (all, updated) = (count(status, "replicas"), count(status, "updatedReplicas"));
    let (ready, available) = (count(status, "readyReplicas"), count(status, "availableReplicas"));
    let short = |have: i64, of: i64, word: &str| {
        let failure = condition(status, "ReplicaFailure").filter(|it| it.is("True"));
        let why = failure.map(|it| format!(" ({})", it.text())).unwrap_or_default();
        Health::progress(format!("{have} of {of} replicas are {word}{why}"))
    };
    if all < wanted {
        return short(all, wanted, "there");
    }
    if updated < wanted {
        return short(updated, wanted, "updated");
    }
    if all > wanted {
        return Health::progress(format!("{} old replicas are still there", all - wanted));
    }
    if available < updated {
        return short(available, updated, "available");
    }
    if ready < wanted {
        return short(ready, wanted, "ready");
    }
    let has_deadline = live.spec.progress_deadline.is_some_and(|seconds| seconds != NO_DEADLINE);
    if has_deadline && !progressing().any(|it| it.is("True") && it.reason == "NewReplicaSetAvailable") {
        return Health::progress(told(status, "Progressing"));
    }
    if !conditions(status).any(|it| it.kind == "Available" && it.is("True")) {
        return Health::progress(told(status, "Available"));
    }
    Health::current()
}

/// What a condition says that is not as it should be.
fn told(status: &Value, wanted: &str) -> String {
    condition(status, wanted).map_or_else(
        || format!("its controller has not set the condition {wanted} yet"),
        |it| format!("{wanted} is {}: {}", it.status, it.text()),
    )
}

pub(super) fn stateful_set(live: &Live) -> Health {
    let status = &live.status;
    if live.spec.update_strategy.as_deref() == Some("OnDelete") {
        return Health::current();
    }
    let wanted = live.spec.replicas.unwrap_or(1);
    let (all, ready) = (count(status, "replicas"), count(status, "readyReplicas"));
    let (updated, current) = (count(status, "updatedReplicas"), count(status, "currentReplicas"));
    let short =
        |have: i64, of: i64, word: &str| Health::progress(format!("{have} of {of} replicas are {word}"));
    if all < wanted {
        return short(all, wanted, "there");
    }
    if ready < wanted {
        return short(ready, wanted, "ready");
    }
    if all > wanted {
        return Health::progress(format!("{} replicas too many", all - wanted));
    }
    // The API server sets it to 0 where the strategy is RollingUpdate.
    if let Some(partition) = live.spec.partition.filter(|partition| *partition != -1) {
        let wanted = wanted - partition;
        return if updated < wanted { short(updated, wanted, "updated") } else { Health::current() };
    }
    if current < wanted {
        return short(current, wanted, "of the current revision");
    }
    let revision = |field| status.get(field).and_then(Value::as_str).unwrap_or_default();
    if revision("currentRevision") != revision("updateRevision") {
        return short(updated, wanted, "updated");
    }
    Health::current()
}

pub(super) fn daemon_set(live: &Live) -> Health {
    let status = &live.status;
    if live.metadata.generation == 0 || number(status, "observedGeneration").is_none() {
        return Health::progress("its controller has not seen it yet");
    }
    let Some(wanted) = number(status, "desiredNumberScheduled").filter(|wanted| *wanted != -1) else {
        return Health::progress("its controller has not counted the nodes yet");
    };
    for (field, word) in [
        ("currentNumberScheduled", "scheduled"),
        ("updatedNumberScheduled", "updated"),
        ("numberAvailable", "available"),
        ("numberReady", "ready"),
    ] {
        let have = count(status, field);
        if have < wanted {
            return Health::progress(format!("{have} of {wanted} pods are {word}"));
        }
    }
    Health::current()
}

pub(super) fn replica_set(live: &Live) -> Health {
    let status = &live.status;
    if let Some(failure) = conditions(status).find(|it| it.kind == "ReplicaFailure" && it.is("True")) {
        return Health::progress(failure.text());
    }
    let wanted = live.spec.replicas.unwrap_or(1);
    for (field, word) in
        [("fullyLabeledReplicas", "labelled"), ("availableReplicas", "available"), ("readyReplicas", "ready")]
    {
        let have = count(status, field);
        if have < wanted {
            return Health::progress(format!("{have} of {wanted} replicas are {word}"));
        }
    }
    let all = count(status, "replicas");
    if all > wanted {
        Health::progress(format!("{} replicas too many", all - wanted))
    } else {
        Health::current()
    }
}

/// How a Job ended, if it did.
pub(super) fn end(status: &Value) -> Option<Health> {
    conditions(status).filter(|condition| condition.is("True")).find_map(|condition| match condition.kind {
        "Complete" => Some(Health::current()),
        "Failed" => Some(Health::failed(condition.text())),
        _ => None,
    })
}

/// Flux's reader of Jobs, not kstatus': one that runs is not done yet, and neither is one that is suspended.
pub(super) fn job(live: &Live) -> Health {
    let status = &live.status;
    if let Some(end) = end(status) {
        return end;
    }
    if live.spec.suspend {
        return Health::progress("is suspended");
    }
    let wanted = live.spec.completions.unwrap_or(1);
    Health::progress(format!(
        "{} of {wanted} completions; {} running",
        count(status, "succeeded"),
        count(status, "active")
    ))
}

/// Why a container waits, where that will hardly pass by itself.
fn stuck_container(status: &Value) -> Option<String> {
    ["initContainerStatuses", "containerStatuses"].iter().find_map(|list| {
        status.get(list)?.as_array()?.iter().find_map(|container| {
            let waiting = container.pointer("/state/waiting")?;
            let reason = waiting.get("reason")?.as_str()?;
            let name = container.get("name").and_then(Value::as_str).unwrap_or_default();
            let message = waiting.get("message").and_then(Value::as_str).unwrap_or_default();
            matches!(
                reason,
                "CrashLoopBackOff"
                    | "ImagePullBackOff"
                    | "ErrImagePull"
                    | "InvalidImageName"
                    | "CreateContainerConfigError"
            )
            .then(|| format!("container {name}: {reason} {}", first_line(message)).trim_end().to_owned())
        })
    })
}

fn crash_loops(status: &Value) -> bool {
    let containers = status.get("containerStatuses").and_then(Value::as_array);
    let reason = |container: &Value| {
        container.pointer("/state/waiting/reason").and_then(Value::as_str) == Some("CrashLoopBackOff")
    };
    containers.into_iter().flatten().any(reason)
}

/// A pod that ended is well, however it ended: nothing will change it any more.
pub(super) fn pod(live: &Live) -> Health {
    let status = &live.status;
    let phase = status.get("phase").and_then(Value::as_str).unwrap_or_default();
    match phase {
        "Succeeded" | "Failed" => return Health::current(),
        "Running" => {
            if conditions(status).any(|it| it.kind == "Ready" && it.is("True")) {
                return Health::current();
            }
            if crash_loops(status) {
                let why = stuck_container(status);
                return Health::failed(why.unwrap_or_else(|| "a container crashes again and again".into()));
            }
        }
        _ => {}
    }
    if let Some(why) = stuck_container(status) {
        return Health::progress(why);
    }
    if let Some(scheduled) = condition(status, "PodScheduled").filter(|it| it.is("False")) {
        return Health::progress(scheduled.text());
    }
    Health::progress(if phase.is_empty() {
        "is not scheduled yet".into()
    } else {
        format!("is {phase}, not ready")
    })
}

/// Whether there is an address outside of the cluster says nothing of a Service: without a load balancer there never is.
pub(super) fn service(live: &Live) -> Health {
    let has_address = live.spec.cluster_ip.as_deref().is_some_and(|ip| !ip.is_empty());
    if live.spec.type_.as_deref() == Some("LoadBalancer") && !has_address {
        return Health::progress("has no address in the cluster yet");
    }
    Health::current()
}

pub(super) fn claim(live: &Live) -> Health {
    match live.status.get("phase").and_then(Value::as_str) {
        Some("Bound") => Health::current(),
        Some("Lost") => Health::progress("is Lost: the volume that it was bound to is gone"),
        Some(found) => Health::progress(format!("is {found}, not Bound")),
        None => Health::progress("is not Bound yet"),
    }
}

pub(super) fn definition(live: &Live) -> Health {
    for condition in conditions(&live.status) {
        match (condition.kind, condition.status) {
            ("NamesAccepted", "False") => return Health::failed(condition.text()),
            ("Established", "False") if condition.reason != "Installing" => {
                return Health::failed(condition.text());
            }
            ("Established", "True") => return Health::current(),
            _ => {}
        }
    }
    let established = condition(&live.status, "Established");
    Health::progress(established.map_or_else(|| "is not established yet".into(), |it| it.text()))
}
