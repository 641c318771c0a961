//! How healthy an object is, as kstatus and Flux's reader of Jobs compute it: what its `status` says about its `spec`.
//!
//! ```text
//!   deletionTimestamp set ─────────────► Terminating
//!   observedGeneration ≠ generation ───► InProgress (the controller has not seen the change)
//!   a rule of expressions, the unit's or ours for some kinds ─► what it says
//!   a status of another shape ─────────► InProgress (nobody can tell)
//!   condition Stalled=True ────────────► Failed       ┐ whichever comes first
//!   condition Reconciling=True ────────► InProgress   ┘
//!   then by kind; kinds without a rule of their own by their Ready condition, or Current without one
//! ```
//!
//! kstatus: <https://github.com/kubernetes-sigs/cli-utils/tree/master/pkg/kstatus>. `compare/tests/health.rs` compares
//! every kind with it. One thing differs: kstatus fails a pod that was not scheduled within 15 s, though an
//! autoscaler may be about to add the node; here it is in progress until the unit's timeout.

use serde_json::Value;

use crate::live::Live;
use crate::text::shorten;

mod kinds;
pub mod reason;
mod rules;
#[cfg(test)]
mod tests;

use kinds::{claim, daemon_set, definition, deployment, job, pod, replica_set, service, stateful_set};
pub use rules::{HealthExprs, Rule};

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

    /// How a Job ended, be it that it is being deleted by now; none for one that has not, and for other kinds.
    pub fn of_ended_job(live: &Live) -> Option<Self> {
        let is_job = live.group() == "batch" && live.kind == "Job";
        is_job.then(|| kinds::end(&live.status)).flatten()
    }

    pub fn is_current(&self) -> bool {
        self.status == Status::Current
    }

    /// Takes an object's health by its kind.
    pub fn of(live: &Live) -> Self {
        Self::by(live, None)
    }

    /// Takes an object's health, by this rule if there is one.
    pub fn by(live: &Live, rule: Option<&Rule>) -> Self {
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
        if live.metadata.generation != 0
            && let Some(seen) = status.get("observedGeneration")
        {
            match seen.as_i64() {
                Some(seen) if seen == live.metadata.generation => {}
                Some(_) => return Self::progress("its controller has not seen the last change yet"),
                None => return Self::progress("its status.observedGeneration is not a whole number"),
            }
        }
        if let Some(rule) = rule.or_else(|| rules::built_in(live.group(), &live.kind)) {
            return rule.judge(live);
        }
        if !has_shape(status) {
            return Self::progress("its status cannot be read: the conditions are not a list of conditions");
        }
        for condition in conditions(status).filter(|condition| condition.is("True")) {
            match condition.kind {
                "Reconciling" => return Self::progress(condition.text()),
                "Stalled" => return Self::failed(condition.text()),
                _ => {}
            }
        }
        match (live.group(), live.kind.as_str()) {
            ("apps" | "extensions", "Deployment") => deployment(live),
            ("apps", "StatefulSet") => stateful_set(live),
            ("apps" | "extensions", "DaemonSet") => daemon_set(live),
            ("apps" | "extensions", "ReplicaSet") => replica_set(live),
            ("batch", "Job") => job(live),
            ("", "Pod") => pod(live),
            ("", "Service") => service(live),
            ("", "PersistentVolumeClaim") => claim(live),
            ("apiextensions.k8s.io", "CustomResourceDefinition") => definition(live),
            // A budget is well once its controller has seen it, whether there are pods or not; the jobs of a CronJob
            // fail and succeed by themselves.
            ("policy", "PodDisruptionBudget") | ("batch", "CronJob") | ("", "ConfigMap" | "Secret") => {
                Self::current()
            }
            _ => by_ready_condition(status),
        }
    }
}

struct Condition<'a> {
    kind: &'a str,
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
    shorten(text.lines().next().unwrap_or_default(), 300)
}

/// Whether the conditions, if there are any, are a list of objects whose fields are texts.
fn has_shape(status: &Value) -> bool {
    let is_text = |value: Option<&Value>| value.is_none_or(|value| value.is_string() || value.is_null());
    let is_condition = |value: &Value| match value {
        Value::Object(fields) => {
            ["type", "status", "reason", "message"].iter().all(|name| is_text(fields.get(*name)))
        }
        other => other.is_null(),
    };
    match status {
        Value::Null => true,
        Value::Object(fields) => match fields.get("conditions") {
            None | Some(Value::Null) => true,
            Some(Value::Array(all)) => all.iter().all(is_condition),
            Some(_) => false,
        },
        _ => false,
    }
}

fn conditions(status: &Value) -> impl Iterator<Item = Condition<'_>> {
    let all = status.get("conditions").and_then(Value::as_array);
    all.into_iter().flatten().map(|condition| {
        let text = |field: &str| condition.get(field).and_then(Value::as_str).unwrap_or_default();
        Condition {
            kind: text("type"),
            status: text("status"),
            reason: text("reason"),
            message: text("message"),
        }
    })
}

fn condition<'a>(status: &'a Value, wanted: &str) -> Option<Condition<'a>> {
    conditions(status).find(|condition| condition.kind == wanted)
}

fn number(status: &Value, field: &str) -> Option<i64> {
    status.get(field)?.as_i64()
}

fn count(status: &Value, field: &str) -> i64 {
    number(status, field).unwrap_or_default()
}

fn by_ready_condition(status: &Value) -> Health {
    let ready = conditions(status).filter(|condition| condition.kind == "Ready");
    match ready.into_iter().find(|ready| ["True", "False", "Unknown"].contains(&ready.status)) {
        Some(ready) if !ready.is("True") => Health::progress(ready.text()),
        _ => Health::current(),
    }
}
