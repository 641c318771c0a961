//! The rules of single kinds: how their status says that they are well.

use serde_json::Value;

use super::{Health, condition, count, first_line, number};
use crate::live::Live;

pub(super) fn deployment(live: &Live) -> Health {
    let status = &live.status;
    let wanted = live.spec.replicas.unwrap_or(1);
    if let Some(progressing) = condition(status, "Progressing")
        && progressing.reason == "ProgressDeadlineExceeded"
    {
        return Health::failed(progressing.text());
    }
    if number(status, "observedGeneration").is_none() {
        return Health::progress("its controller has not seen it yet");
    }
    let (all, updated) = (count(status, "replicas"), count(status, "updatedReplicas"));
    let (ready, available) = (count(status, "readyReplicas"), count(status, "availableReplicas"));
    let failure =
        || condition(status, "ReplicaFailure").filter(|c| c.is("True")).map(|c| format!(" ({})", c.text()));
    if updated < wanted {
        return Health::progress(format!(
            "{updated} of {wanted} replicas are updated{}",
            failure().unwrap_or_default()
        ));
    }
    if all > wanted {
        return Health::progress(format!("{} old replicas are still there", all - wanted));
    }
    if available < wanted {
        return Health::progress(format!(
            "{available} of {wanted} replicas are available{}",
            failure().unwrap_or_default()
        ));
    }
    if ready < wanted {
        return Health::progress(format!("{ready} of {wanted} replicas are ready"));
    }
    Health::current()
}

pub(super) fn stateful_set(live: &Live) -> Health {
    let status = &live.status;
    if live.spec.update_strategy.as_deref() == Some("OnDelete") {
        return Health::current();
    }
    if number(status, "observedGeneration").is_none() {
        return Health::progress("its controller has not seen it yet");
    }
    let wanted = live.spec.replicas.unwrap_or(1);
    let (all, ready) = (count(status, "replicas"), count(status, "readyReplicas"));
    let updated = count(status, "updatedReplicas");
    if all < wanted {
        return Health::progress(format!("{all} of {wanted} replicas are there"));
    }
    if ready < wanted {
        return Health::progress(format!("{ready} of {wanted} replicas are ready"));
    }
    if all > wanted {
        return Health::progress(format!("{} replicas too many", all - wanted));
    }
    let partition = live.spec.partition.unwrap_or_default();
    if partition > 0 {
        let wanted = (wanted - partition).max(0);
        return if updated < wanted {
            Health::progress(format!("{updated} of {wanted} replicas above the partition are updated"))
        } else {
            Health::current()
        };
    }
    let revision = |field| status.get(field).and_then(Value::as_str).unwrap_or_default();
    if revision("currentRevision") != revision("updateRevision") {
        return Health::progress(format!("{updated} of {wanted} replicas are updated"));
    }
    Health::current()
}

pub(super) fn daemon_set(live: &Live) -> Health {
    let status = &live.status;
    if live.spec.update_strategy.as_deref() == Some("OnDelete") {
        return Health::current();
    }
    if number(status, "observedGeneration").is_none() {
        return Health::progress("its controller has not seen it yet");
    }
    let wanted = count(status, "desiredNumberScheduled");
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
    if let Some(failure) = condition(status, "ReplicaFailure").filter(|c| c.is("True")) {
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

pub(super) fn job(live: &Live) -> Health {
    let status = &live.status;
    if let Some(failed) = condition(status, "Failed").filter(|c| c.is("True")) {
        return Health::failed(failed.text());
    }
    if condition(status, "Complete").is_some_and(|c| c.is("True")) {
        return Health::current();
    }
    if live.spec.suspend || condition(status, "Suspended").is_some_and(|c| c.is("True")) {
        return Health::current();
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

pub(super) fn pod(live: &Live) -> Health {
    let status = &live.status;
    match status.get("phase").and_then(Value::as_str).unwrap_or_default() {
        "Succeeded" => Health::current(),
        "Failed" => {
            let message =
                status.get("message").and_then(Value::as_str).map_or("the pod failed".into(), first_line);
            Health::failed(message)
        }
        _ if condition(status, "Ready").is_some_and(|c| c.is("True")) => Health::current(),
        phase => {
            if let Some(why) = stuck_container(status) {
                return if why.contains("CrashLoopBackOff") {
                    Health::failed(why)
                } else {
                    Health::progress(why)
                };
            }
            if let Some(scheduled) = condition(status, "PodScheduled").filter(|c| c.is("False")) {
                return Health::progress(scheduled.text());
            }
            Health::progress(if phase.is_empty() {
                "is not scheduled yet".into()
            } else {
                format!("is {phase}, not ready")
            })
        }
    }
}

pub(super) fn service(live: &Live) -> Health {
    if live.spec.type_.as_deref() != Some("LoadBalancer") || live.spec.has_external_ips {
        return Health::current();
    }
    let ingress = live.status.pointer("/loadBalancer/ingress").and_then(Value::as_array);
    if ingress.is_some_and(|ingress| !ingress.is_empty()) {
        Health::current()
    } else {
        Health::progress("waits for an address from the load balancer")
    }
}

pub(super) fn phase(live: &Live, wanted: &str) -> Health {
    match live.status.get("phase").and_then(Value::as_str) {
        Some(found) if found == wanted => Health::current(),
        Some("Lost") => Health::failed("is Lost: the volume that it was bound to is gone"),
        Some(found) => Health::progress(format!("is {found}, not {wanted}")),
        None => Health::progress(format!("is not {wanted} yet")),
    }
}

pub(super) fn disruption_budget(live: &Live) -> Health {
    if number(&live.status, "observedGeneration").is_none() {
        return Health::progress("its controller has not seen it yet");
    }
    let (healthy, wanted) = (count(&live.status, "currentHealthy"), count(&live.status, "desiredHealthy"));
    if healthy < wanted {
        Health::progress(format!("{healthy} of {wanted} pods that it wants are healthy"))
    } else {
        Health::current()
    }
}

pub(super) fn definition(live: &Live) -> Health {
    if let Some(refused) = condition(&live.status, "NamesAccepted").filter(|c| c.is("False")) {
        return Health::failed(refused.text());
    }
    match condition(&live.status, "Established") {
        Some(established) if established.is("True") => Health::current(),
        Some(established) => Health::progress(established.text()),
        None => Health::progress("is not established yet"),
    }
}
