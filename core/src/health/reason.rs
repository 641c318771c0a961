//! Why an object is not well, in one line, from the pods and events behind it.
//!
//! ```text
//!   object ─ behind() ─► selector of its pods ─► worst pod: of_pod() ─┬─ says why
//!                │                                                    └─ only that it is not ready ─► its events
//!                └─ no pods ─► the object's own events: of_events()
//! ```

use serde::Deserialize;
use serde_json::Value;

use super::{condition, first_line};
use crate::object::ObjectId;

/// Where to look for what keeps an object from being well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Behind {
    /// Pods with these labels, as a selector; then the object's own events.
    Pods(String),
    /// It is a pod itself.
    Pod,
    /// Only events can tell.
    Events,
}

/// What stands behind an object; none for kinds whose status says all there is.
pub fn behind(id: &ObjectId, object: &Value) -> Option<Behind> {
    match (id.group.as_str(), id.kind.as_str()) {
        ("apps", "Deployment" | "ReplicaSet" | "StatefulSet" | "DaemonSet") | ("batch", "Job") => {
            let labels = object.pointer("/spec/selector/matchLabels").and_then(Value::as_object)?;
            let labels: Vec<String> =
                labels.iter().filter_map(|(key, value)| Some(format!("{key}={}", value.as_str()?))).collect();
            Some(if labels.is_empty() { Behind::Events } else { Behind::Pods(labels.join(",")) })
        }
        ("", "Pod") => Some(Behind::Pod),
        ("", "PersistentVolumeClaim" | "Service") | ("networking.k8s.io", "Ingress") => Some(Behind::Events),
        _ => None,
    }
}

/// A pod, as far as it tells why it is not ready.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Pod {
    #[serde(default)]
    pub metadata: PodName,
    #[serde(default)]
    pub status: Value,
}

#[derive(Debug, Clone, Default, Deserialize)]
pub struct PodName {
    #[serde(default)]
    pub name: String,
    #[serde(default)]
    pub uid: String,
    #[serde(default, rename = "deletionTimestamp")]
    pub deletion_timestamp: Option<String>,
}

/// What a pod says of itself.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Says {
    /// This is why.
    Why(String),
    /// It runs, or is about to, and is not ready: its events may say why.
    NotReady(String),
    Well,
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn with(reason: &str, message: &str) -> String {
    match (reason, first_line(message)) {
        (reason, message) if message.is_empty() => reason.to_owned(),
        ("", message) => message,
        (reason, message) => format!("{reason}: {message}"),
    }
}

fn containers(status: &Value) -> impl Iterator<Item = &Value> {
    let lists = ["initContainerStatuses", "containerStatuses"];
    lists.into_iter().filter_map(|list| status.get(list)?.as_array()).flatten()
}

/// How a container ended: `exit code 137 (OOMKilled)`.
fn exit(terminated: &Value) -> Option<String> {
    let code = terminated.get("exitCode")?.as_i64()?;
    let reason = text(terminated, "/reason");
    Some(match reason {
        "" | "Error" | "Completed" => format!("exit code {code}"),
        reason => format!("exit code {code} ({reason})"),
    })
}

/// Why a pod is not ready.
pub fn of_pod(pod: &Pod) -> Says {
    let Pod { metadata, status } = pod;
    if metadata.deletion_timestamp.is_some() || text(status, "/phase") == "Succeeded" {
        return Says::Well;
    }
    let of = |why: String| format!("pod {}: {why}", metadata.name);
    if text(status, "/phase") == "Failed" {
        let why = with(text(status, "/reason"), text(status, "/message"));
        let ended = || containers(status).find_map(|it| exit(it.pointer("/state/terminated")?));
        return Says::Why(of(if why.is_empty() {
            ended().unwrap_or_else(|| "it failed".into())
        } else {
            why
        }));
    }
    for container in containers(status) {
        let name = text(container, "/name");
        let reason = text(container, "/state/waiting/reason");
        if reason == "CrashLoopBackOff" {
            let restarts = container.get("restartCount").and_then(Value::as_i64).unwrap_or_default();
            let last = container.pointer("/lastState/terminated").and_then(exit);
            let last = last.map(|last| format!(", last {last}")).unwrap_or_default();
            return Says::Why(of(format!(
                "container {name} crashes again and again ({restarts} restarts{last})"
            )));
        }
        if !["", "ContainerCreating", "PodInitializing"].contains(&reason) {
            let why = with(reason, text(container, "/state/waiting/message"));
            return Says::Why(of(format!("container {name}: {why}")));
        }
        if let Some(ended) = container.pointer("/state/terminated").and_then(exit)
            && !ended.starts_with("exit code 0")
        {
            return Says::Why(of(format!("container {name} ended with {ended}")));
        }
    }
    if let Some(scheduled) = condition(status, "PodScheduled").filter(|it| it.is("False")) {
        return Says::Why(of(format!("cannot be scheduled: {}", first_line(scheduled.message))));
    }
    match condition(status, "Ready") {
        Some(ready) if ready.is("True") => Says::Well,
        _ => {
            let waits = containers(status).find(|it| it.get("ready") == Some(&Value::Bool(false)));
            let what = waits.map_or("is not ready".to_owned(), |it| {
                format!("container {} is not ready", text(it, "/name"))
            });
            Says::NotReady(of(what))
        }
    }
}

/// An event, of the core group.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Event {
    #[serde(default)]
    pub reason: String,
    #[serde(default)]
    pub message: String,
    #[serde(default, rename = "type")]
    pub kind: String,
    #[serde(default, rename = "lastTimestamp")]
    pub last: Option<String>,
    #[serde(default, rename = "eventTime")]
    pub time: Option<String>,
}

/// The newest warning.
pub fn of_events(events: &[Event]) -> Option<String> {
    let at = |event: &&Event| event.last.clone().or(event.time.clone()).unwrap_or_default();
    let newest = events.iter().filter(|event| event.kind == "Warning").max_by_key(at)?;
    Some(with(&newest.reason, &newest.message))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn says(status: Value) -> Says {
        let metadata = PodName { name: "web-1".into(), ..PodName::default() };
        of_pod(&Pod { metadata, status })
    }

    #[test]
    fn a_pod_says_in_one_line_why_it_is_not_ready() {
        let container = |state: Value| {
            json!({"phase": "Pending", "containerStatuses": [
                {"name": "ok", "ready": true, "state": {"running": {}}},
                {"name": "main", "ready": false, "state": state, "restartCount": 4,
                    "lastState": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}}]})
        };
        let waiting = |reason: &str, message: &str| {
            container(json!({"waiting": {"reason": reason, "message": message}}))
        };
        let scheduled = json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False",
            "reason": "Unschedulable", "message": "0/3 nodes are available: 3 Insufficient cpu."}]});
        for (status, wanted) in [
            (
                waiting("ImagePullBackOff", "Back-off pulling image \"x\"\nmore"),
                "container main: ImagePullBackOff: Back-off pulling image \"x\"",
            ),
            (
                waiting("CreateContainerConfigError", "secret \"s\" not found"),
                "container main: CreateContainerConfigError: secret \"s\" not found",
            ),
            (
                waiting("CrashLoopBackOff", "back-off"),
                "container main crashes again and again (4 restarts, last exit code 137 (OOMKilled))",
            ),
            (
                container(json!({"terminated": {"exitCode": 2, "reason": "Error"}})),
                "container main ended with exit code 2",
            ),
            (scheduled, "cannot be scheduled: 0/3 nodes are available: 3 Insufficient cpu."),
            (
                json!({"phase": "Failed", "reason": "Evicted", "message": "low on memory"}),
                "Evicted: low on memory",
            ),
            (
                json!({"phase": "Failed", "containerStatuses": [{"name": "m", "state": {"terminated": {"exitCode": 1}}}]}),
                "exit code 1",
            ),
        ] {
            assert_eq!(says(status), Says::Why(format!("pod web-1: {wanted}")));
        }
        for status in [waiting("ContainerCreating", ""), container(json!({"running": {}}))] {
            assert_eq!(says(status), Says::NotReady("pod web-1: container main is not ready".into()));
        }
        for well in [
            json!({"phase": "Succeeded"}),
            json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}),
        ] {
            assert_eq!(says(well), Says::Well);
        }
    }

    #[test]
    fn the_newest_warning_counts() {
        let event = |kind: &str, reason: &str, last: Option<&str>, time: Option<&str>| Event {
            reason: reason.into(),
            message: "Readiness probe failed: 503\nbody".into(),
            kind: kind.into(),
            last: last.map(Into::into),
            time: time.map(Into::into),
        };
        let events = [
            event("Warning", "FailedMount", Some("2026-01-01T00:00:01Z"), None),
            event("Warning", "Unhealthy", None, Some("2026-01-01T00:00:02.5Z")),
            event("Normal", "Pulled", Some("2026-01-01T00:00:09Z"), None),
        ];
        assert_eq!(of_events(&events).as_deref(), Some("Unhealthy: Readiness probe failed: 503"));
        assert_eq!(of_events(&events[2..]), None);
    }

    #[test]
    fn kinds_say_what_stands_behind_them() {
        let selects = json!({"spec": {"selector": {"matchLabels": {"app": "web", "example.com/part": "a"}}}});
        for (group, kind, object, wanted) in [
            ("apps", "Deployment", &selects, Some(Behind::Pods("app=web,example.com/part=a".into()))),
            ("batch", "Job", &json!({"spec": {"selector": {"matchLabels": {}}}}), Some(Behind::Events)),
            ("", "Pod", &json!({}), Some(Behind::Pod)),
            ("", "PersistentVolumeClaim", &json!({}), Some(Behind::Events)),
            ("", "ConfigMap", &json!({}), None),
            ("example.com", "Deployment", &selects, None),
        ] {
            assert_eq!(behind(&ObjectId::new(group, kind, "n", "x"), object), wanted, "{group} {kind}");
        }
    }
}
