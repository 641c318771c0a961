//! How healthy an object is, by the conventions of kstatus: what its `status` says about its `spec`.
//!
//! ```text
//!   deletionTimestamp set ─────────────► Terminating
//!   observedGeneration < generation ───► InProgress (the controller has not seen the change)
//!   a rule of expressions, the unit's or ours for some kinds ─► what it says
//!   condition Stalled=True ────────────► Failed
//!   condition Reconciling=True ────────► InProgress
//!   then by kind; kinds without a rule of their own by their Ready condition, or Current without one
//! ```

use serde_json::Value;

use crate::live::Live;

mod kinds;
pub mod reason;
mod rules;
#[cfg(test)]
mod tests;

use kinds::{
    daemon_set, definition, deployment, disruption_budget, job, phase, pod, replica_set, service,
    stateful_set,
};
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
        if number(status, "observedGeneration").is_some_and(|seen| seen < live.metadata.generation) {
            return Self::progress("its controller has not seen the last change yet");
        }
        if let Some(rule) = rule.or_else(|| rules::built_in(live.group(), &live.kind)) {
            return rule.judge(live);
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
