//! How healthy an object is, by the conventions of kstatus: what its `status` says about its `spec`.
//!
//! ```text
//!   deletionTimestamp set ─────────────► Terminating
//!   observedGeneration < generation ───► InProgress (the controller has not seen the change)
//!   condition Stalled=True ────────────► Failed
//!   condition Reconciling=True ────────► InProgress
//!   then by kind; kinds without a rule of their own by their Ready condition, or Current without one
//! ```

use serde_json::Value;

use crate::live::Live;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Status {
    Current,
    InProgress,
    Failed,
    Terminating,
}

/// An object's health, with a line for people; empty when all is well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    pub status: Status,
    pub message: String,
}

impl Health {
    pub fn current() -> Self {
        Self { status: Status::Current, message: String::new() }
    }

    pub fn progress(message: impl Into<String>) -> Self {
        Self { status: Status::InProgress, message: message.into() }
    }

    pub fn failed(message: impl Into<String>) -> Self {
        Self { status: Status::Failed, message: message.into() }
    }

    pub fn is_current(&self) -> bool {
        self.status == Status::Current
    }

    /// Takes an object's health.
    pub fn of(live: &Live) -> Self {
        if live.is_deleting() {
            let blockers = live.metadata.finalizers.join(", ");
            let message = if blockers.is_empty() {
                "is being deleted".into()
            } else {
                format!("is being deleted; waits for {blockers}")
            };
            return Self { status: Status::Terminating, message };
        }
        let status = &live.status;
        if number(status, "observedGeneration").is_some_and(|seen| seen < live.metadata.generation) {
            return Self::progress("its controller has not seen the last change yet");
        }
        if let Some(condition) = condition(status, "Stalled").filter(|c| c.is("True")) {
            return Self::failed(condition.text());
        }
        if let Some(condition) = condition(status, "Reconciling").filter(|c| c.is("True")) {
            return Self::progress(condition.text());
        }
        match (live.group(), live.kind.as_str()) {
            ("apps", "Deployment") => deployment(live),
            ("apps", "StatefulSet") => stateful_set(live),
            ("apps", "DaemonSet") => daemon_set(live),
            ("apps", "ReplicaSet") => replica_set(live),
            ("batch", "Job") => job(live),
            ("", "Pod") => pod(live),
            ("", "Service") => service(live),
            ("", "PersistentVolumeClaim") => phase(live, "Bound"),
            ("", "Namespace") => phase(live, "Active"),
            ("policy", "PodDisruptionBudget") => disruption_budget(live),
            ("apiextensions.k8s.io", "CustomResourceDefinition") => definition(live),
            ("apiregistration.k8s.io", "APIService") => expect(status, "Available"),
            // Its jobs fail and succeed by themselves.
            ("batch", "CronJob") => Self::current(),
            _ => by_ready_condition(status),
        }
    }
}

struct Condition<'a> {
    status: &'a str,
    reason: &'a str,
    message: &'a str,
}

impl Condition<'_> {
    fn is(&self, status: &str) -> bool {
        self.status == status
    }

    fn text(&self) -> String {
        match (self.reason, self.message) {
            ("", "") => "no reason given".to_owned(),
            (reason, "") => reason.to_owned(),
            ("", message) => first_line(message),
            (reason, message) => format!("{reason}: {}", first_line(message)),
        }
    }
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().chars().take(300).collect()
}

fn condition<'a>(status: &'a Value, wanted: &str) -> Option<Condition<'a>> {
    let text =
        |condition: &'a Value, field: &str| condition.get(field).and_then(Value::as_str).unwrap_or_default();
    let all = status.get("conditions")?.as_array()?;
    let found = all.iter().find(|condition| text(condition, "type") == wanted)?;
    Some(Condition {
        status: text(found, "status"),
        reason: text(found, "reason"),
        message: text(found, "message"),
    })
}

fn number(status: &Value, field: &str) -> Option<i64> {
    status.get(field)?.as_i64()
}

fn count(status: &Value, field: &str) -> i64 {
    number(status, field).unwrap_or_default()
}

fn by_ready_condition(status: &Value) -> Health {
    match condition(status, "Ready") {
        Some(ready) if ready.is("True") => Health::current(),
        Some(ready) => Health::progress(ready.text()),
        None => Health::current(),
    }
}

fn expect(status: &Value, wanted: &str) -> Health {
    match condition(status, wanted) {
        Some(found) if found.is("True") => Health::current(),
        Some(found) => Health::progress(found.text()),
        None => Health::progress(format!("waits for {wanted}")),
    }
}

fn deployment(live: &Live) -> Health {
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

fn stateful_set(live: &Live) -> Health {
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

fn daemon_set(live: &Live) -> Health {
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

fn replica_set(live: &Live) -> Health {
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

fn job(live: &Live) -> Health {
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

fn pod(live: &Live) -> Health {
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

fn service(live: &Live) -> Health {
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

fn phase(live: &Live, wanted: &str) -> Health {
    match live.status.get("phase").and_then(Value::as_str) {
        Some(found) if found == wanted => Health::current(),
        Some("Lost") => Health::failed("is Lost: the volume that it was bound to is gone"),
        Some(found) => Health::progress(format!("is {found}, not {wanted}")),
        None => Health::progress(format!("is not {wanted} yet")),
    }
}

fn disruption_budget(live: &Live) -> Health {
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

fn definition(live: &Live) -> Health {
    if let Some(refused) = condition(&live.status, "NamesAccepted").filter(|c| c.is("False")) {
        return Health::failed(refused.text());
    }
    match condition(&live.status, "Established") {
        Some(established) if established.is("True") => Health::current(),
        Some(established) => Health::progress(established.text()),
        None => Health::progress("is not established yet"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(api_version: &str, kind: &str, spec: Value, status: Value, expected: Status, message: &str) {
        let object = json!({"apiVersion": api_version, "kind": kind,
            "metadata": {"name": "x", "generation": 2}, "spec": spec, "status": status});
        let health = Health::of(&Live::from(&object));
        assert_eq!((health.status, health.message.as_str()), (expected, message), "{object}");
    }

    fn conditions(list: &[(&str, &str, &str, &str)]) -> Value {
        let one = |(kind, status, reason, message): &(&str, &str, &str, &str)| json!({"type": kind, "status": status, "reason": reason, "message": message});
        Value::Array(list.iter().map(one).collect())
    }

    #[test]
    fn workloads() {
        use Status::*;
        let d =
            |spec, status, expected, message| check("apps/v1", "Deployment", spec, status, expected, message);
        let full = json!({"observedGeneration": 2, "replicas": 3, "updatedReplicas": 3, "readyReplicas": 3, "availableReplicas": 3});
        let three = json!({"replicas": 3});
        d(three.clone(), full, Current, "");
        d(three.clone(), json!({}), InProgress, "its controller has not seen it yet");
        d(
            three.clone(),
            json!({"observedGeneration": 1, "replicas": 3}),
            InProgress,
            "its controller has not seen the last change yet",
        );
        d(
            three.clone(),
            json!({"observedGeneration": 2, "replicas": 3, "updatedReplicas": 1}),
            InProgress,
            "1 of 3 replicas are updated",
        );
        d(
            three.clone(),
            json!({"observedGeneration": 2, "replicas": 4, "updatedReplicas": 3}),
            InProgress,
            "1 old replicas are still there",
        );
        d(
            three.clone(),
            json!({"observedGeneration": 2, "replicas": 3, "updatedReplicas": 3, "availableReplicas": 2}),
            InProgress,
            "2 of 3 replicas are available",
        );
        d(
            three.clone(),
            json!({"observedGeneration": 2, "conditions": conditions(&[("ReplicaFailure", "True", "FailedCreate", "exceeded quota: web")])}),
            InProgress,
            "0 of 3 replicas are updated (FailedCreate: exceeded quota: web)",
        );
        d(
            three.clone(),
            json!({"observedGeneration": 2, "conditions": conditions(&[("Progressing", "False", "ProgressDeadlineExceeded", "timed out")])}),
            Failed,
            "ProgressDeadlineExceeded: timed out",
        );
        d(json!({"replicas": 0}), json!({"observedGeneration": 2}), Current, "");

        let s = |spec, status, expected, message| {
            check("apps/v1", "StatefulSet", spec, status, expected, message)
        };
        let up = json!({"observedGeneration": 2, "replicas": 3, "readyReplicas": 3, "updatedReplicas": 3,
            "currentRevision": "a", "updateRevision": "a"});
        s(three.clone(), up, Current, "");
        s(
            three.clone(),
            json!({"observedGeneration": 2, "replicas": 2}),
            InProgress,
            "2 of 3 replicas are there",
        );
        let rolling = json!({"observedGeneration": 2, "replicas": 3, "readyReplicas": 3, "updatedReplicas": 1,
            "currentRevision": "a", "updateRevision": "b"});
        s(three.clone(), rolling.clone(), InProgress, "1 of 3 replicas are updated");
        let partition = json!({"replicas": 3, "updateStrategy": {"rollingUpdate": {"partition": 2}}});
        s(partition, rolling.clone(), Current, "");
        s(json!({"replicas": 3, "updateStrategy": {"type": "OnDelete"}}), rolling, Current, "");

        let n =
            |status, expected, message| check("apps/v1", "DaemonSet", json!({}), status, expected, message);
        n(json!({"observedGeneration": 2, "desiredNumberScheduled": 0}), Current, "");
        n(
            json!({"observedGeneration": 2, "desiredNumberScheduled": 2, "currentNumberScheduled": 2, "updatedNumberScheduled": 1}),
            InProgress,
            "1 of 2 pods are updated",
        );

        let r = |status, expected, message| {
            check("apps/v1", "ReplicaSet", json!({"replicas": 1}), status, expected, message)
        };
        r(
            json!({"replicas": 1, "fullyLabeledReplicas": 1, "availableReplicas": 1, "readyReplicas": 1}),
            Current,
            "",
        );
        r(json!({}), InProgress, "0 of 1 replicas are labelled");

        let j = |spec, status, expected, message| check("batch/v1", "Job", spec, status, expected, message);
        j(json!({}), json!({"active": 1}), InProgress, "0 of 1 completions; 1 running");
        j(json!({}), json!({"conditions": conditions(&[("Complete", "True", "", "")])}), Current, "");
        j(json!({"suspend": true}), json!({}), Current, "");
        j(
            json!({}),
            json!({"conditions": conditions(&[("Failed", "True", "BackoffLimitExceeded", "too many")])}),
            Failed,
            "BackoffLimitExceeded: too many",
        );
        check("batch/v1", "CronJob", json!({}), json!({}), Current, "");

        let p = |status, expected, message| check("v1", "Pod", json!({}), status, expected, message);
        p(json!({}), InProgress, "is not scheduled yet");
        p(json!({"phase": "Running", "conditions": conditions(&[("Ready", "True", "", "")])}), Current, "");
        p(json!({"phase": "Succeeded"}), Current, "");
        p(json!({"phase": "Failed", "message": "Evicted"}), Failed, "Evicted");
        p(
            json!({"phase": "Pending", "conditions": conditions(&[("PodScheduled", "False", "Unschedulable", "0/1 nodes")])}),
            InProgress,
            "Unschedulable: 0/1 nodes",
        );
        let waiting = |reason: &str| {
            json!({"phase": "Running",
            "containerStatuses": [{"name": "web", "state": {"waiting": {"reason": reason, "message": "no such image"}}}]})
        };
        p(waiting("ImagePullBackOff"), InProgress, "container web: ImagePullBackOff no such image");
        p(waiting("CrashLoopBackOff"), Failed, "container web: CrashLoopBackOff no such image");
    }

    #[test]
    fn everything_else() {
        use Status::*;
        let s = |spec, status, expected, message| check("v1", "Service", spec, status, expected, message);
        s(json!({"type": "ClusterIP"}), json!({}), Current, "");
        s(
            json!({"type": "LoadBalancer"}),
            json!({"loadBalancer": {}}),
            InProgress,
            "waits for an address from the load balancer",
        );
        s(
            json!({"type": "LoadBalancer"}),
            json!({"loadBalancer": {"ingress": [{"ip": "10.0.0.1"}]}}),
            Current,
            "",
        );

        let c = |status, expected, message| {
            check("v1", "PersistentVolumeClaim", json!({}), status, expected, message)
        };
        c(json!({"phase": "Bound"}), Current, "");
        c(json!({"phase": "Pending"}), InProgress, "is Pending, not Bound");
        c(json!({"phase": "Lost"}), Failed, "is Lost: the volume that it was bound to is gone");
        check("v1", "Namespace", json!({}), json!({"phase": "Active"}), Current, "");

        let b = |status, expected, message| {
            check("policy/v1", "PodDisruptionBudget", json!({}), status, expected, message)
        };
        b(
            json!({"observedGeneration": 2, "currentHealthy": 1, "desiredHealthy": 2}),
            InProgress,
            "1 of 2 pods that it wants are healthy",
        );
        b(json!({"observedGeneration": 2, "currentHealthy": 2, "desiredHealthy": 2}), Current, "");

        let d = |list: &[_], expected, message| {
            let status = json!({"conditions": conditions(list)});
            check(
                "apiextensions.k8s.io/v1",
                "CustomResourceDefinition",
                json!({}),
                status,
                expected,
                message,
            );
        };
        d(&[("Established", "True", "", "")], Current, "");
        d(&[], InProgress, "is not established yet");
        d(&[("NamesAccepted", "False", "ListKindConflict", "taken")], Failed, "ListKindConflict: taken");

        let x = |status, expected, message| {
            check("example.com/v1", "Widget", json!("text"), status, expected, message)
        };
        x(json!({}), Current, "");
        x(Value::Null, Current, "");
        x(json!({"observedGeneration": 1}), InProgress, "its controller has not seen the last change yet");
        x(json!({"conditions": conditions(&[("Ready", "True", "", "")])}), Current, "");
        x(
            json!({"conditions": conditions(&[("Ready", "False", "Wait", "soon\nlater")])}),
            InProgress,
            "Wait: soon",
        );
        x(
            json!({"conditions": conditions(&[("Ready", "True", "", ""), ("Stalled", "True", "Bad", "")])}),
            Failed,
            "Bad",
        );
        x(json!({"conditions": conditions(&[("Reconciling", "True", "Busy", "")])}), InProgress, "Busy");
        x(json!({"conditions": "none"}), Current, "");
    }

    #[test]
    fn what_is_being_deleted_says_what_it_waits_for() {
        let object = json!({"kind": "Namespace", "apiVersion": "v1", "metadata": {"name": "x",
            "deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["a/b", "c"]}, "status": {"phase": "Active"}});
        let health = Health::of(&Live::from(&object));
        assert_eq!(health.status, Status::Terminating);
        assert_eq!(health.message, "is being deleted; waits for a/b, c");
    }
}
