//! Health by expressions: those of a unit (Flux's `healthCheckExprs`), and our own for kinds whose status follows no
//! convention.

use std::sync::LazyLock;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Health, condition, first_line};
use crate::expr::{Expr, InvalidExpr, Variables};
use crate::live::Live;
use crate::object::ObjectId;

/// How the health of a kind is told, in CEL over the object's fields. Asked in this order; where none is true, it is
/// in progress.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HealthExprs {
    /// The version does not count.
    pub api_version: String,
    pub kind: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_progress: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
    pub current: String,
}

impl HealthExprs {
    /// Whether they are about this object's kind.
    pub fn is_for(&self, object: &ObjectId) -> bool {
        let group = self.api_version.rsplit_once('/').map_or("", |(group, _)| group);
        object.is(group, &self.kind)
    }
}

/// Expressions ready for use.
#[derive(Debug)]
pub struct Rule {
    in_progress: Option<Expr>,
    failed: Option<Expr>,
    current: Expr,
}

impl Rule {
    /// Reads expressions.
    ///
    /// # Errors
    /// The first that is none.
    pub fn new(exprs: &HealthExprs) -> Result<Self, InvalidExpr> {
        let read = |text: &Option<String>| text.as_deref().map(Expr::new).transpose();
        Ok(Self {
            in_progress: read(&exprs.in_progress)?,
            failed: read(&exprs.failed)?,
            current: Expr::new(&exprs.current)?,
        })
    }

    /// Whether more than metadata and status is read.
    pub fn needs_whole(&self) -> bool {
        let all = self.in_progress.iter().chain(&self.failed).chain([&self.current]);
        all.into_iter().any(|expr| expr.reads_beyond(&["apiVersion", "kind", "metadata", "status"]))
    }

    /// What the expressions say of an object that its controller has seen.
    pub(super) fn judge(&self, live: &Live) -> Health {
        let empty = json!({});
        let status = if live.status.is_null() { &empty } else { &live.status };
        let mut variables = Variables::default()
            .with("apiVersion", &json!(live.api_version))
            .with("kind", &json!(live.kind))
            .with("metadata", &metadata(live))
            .with("status", status);
        for (name, value) in live.whole.iter().filter_map(|whole| whole.as_object()).flatten() {
            if !["apiVersion", "kind", "metadata", "status"].contains(&name.as_str()) {
                variables = variables.with(name, value);
            }
        }
        let holds = |expr: &Option<Expr>| expr.as_ref().map_or(Ok(false), |expr| expr.holds(&variables));
        let judged = || -> Result<Health, String> {
            if holds(&self.in_progress)? {
                return Ok(Health::progress(why(&live.status)));
            }
            if holds(&self.failed)? {
                return Ok(Health::failed(why(&live.status)));
            }
            Ok(if self.current.holds(&variables)? {
                Health::current()
            } else {
                Health::progress(why(&live.status))
            })
        };
        judged()
            .unwrap_or_else(|error| Health::progress(format!("its health cannot be determined yet: {error}")))
    }
}

fn metadata(live: &Live) -> Value {
    let metadata = &live.metadata;
    json!({"name": metadata.name, "namespace": metadata.namespace, "uid": metadata.uid,
        "resourceVersion": metadata.resource_version, "generation": metadata.generation,
        "labels": metadata.labels, "annotations": metadata.annotations, "finalizers": metadata.finalizers})
}

/// In one line, by what most kinds have.
fn why(status: &Value) -> String {
    let of_kind = |kind: &str| condition(status, kind).filter(|condition| !condition.is("True"));
    if let Some(unmet) = of_kind("Ready").or_else(|| of_kind("Synced")) {
        return unmet.text();
    }
    let text = |field: &str| status.get(field).and_then(Value::as_str);
    match text("phase").or(text("state")) {
        Some(phase) => match text("reason").or(text("message")) {
            Some(reason) => format!("is {phase}: {}", first_line(reason)),
            None => format!("is {phase}"),
        },
        None => "its status does not say that it is ready".to_owned(),
    }
}

/// The rule for a kind that needs one of ours.
pub(super) fn built_in(group: &str, kind: &str) -> Option<&'static Rule> {
    static RULES: LazyLock<Vec<(&str, &str, Rule)>> = LazyLock::new(|| {
        let read = |(group, kind, failed, current): &(&'static str, &'static str, &str, &str)| {
            let failed = (!failed.is_empty()).then(|| Expr::new(failed)).transpose().ok()?;
            let rule = Rule { in_progress: None, failed, current: Expr::new(current).ok()? };
            Some((*group, *kind, rule))
        };
        BUILT_IN.iter().filter_map(read).collect()
    });
    if !BUILT_IN.iter().any(|(known, ..)| *known == group) {
        return None;
    }
    RULES.iter().find(|(g, k, _)| *g == group && *k == kind).map(|(_, _, rule)| rule)
}

const READY: &str =
    "has(status.conditions) && status.conditions.exists(c, c.type == 'Ready' && c.status == 'True')";

/// Group, kind, when it failed, when it is current.
const BUILT_IN: [(&str, &str, &str, &str); 8] = [
    // Its controller knows no condition Ready: without a rule one that does not open would count as well.
    (
        "bitnami.com",
        "SealedSecret",
        "has(status.conditions) && status.conditions.exists(c, c.type == 'Synced' && c.status == 'False')",
        "has(status.conditions) && status.conditions.exists(c, c.type == 'Synced' && c.status == 'True')",
    ),
    (
        "flagger.app",
        "Canary",
        "has(status.phase) && status.phase == 'Failed'",
        "has(status.phase) && status.phase in ['Initialized', 'Succeeded']",
    ),
    (
        "cert-manager.io",
        "Certificate",
        "has(status.conditions) && status.conditions.exists(c, c.type == 'Issuing' && c.status == 'False' && \
         has(c.reason) && c.reason == 'Failed')",
        READY,
    ),
    (
        "cert-manager.io",
        "CertificateRequest",
        "has(status.conditions) && (status.conditions.exists(c, c.type in ['InvalidRequest', 'Denied'] && c.status == \
         'True') || status.conditions.exists(c, c.type == 'Ready' && c.status == 'False' && has(c.reason) && c.reason \
         == 'Failed'))",
        READY,
    ),
    ("cert-manager.io", "Issuer", "", READY),
    ("cert-manager.io", "ClusterIssuer", "", READY),
    (
        "acme.cert-manager.io",
        "Order",
        "has(status.state) && status.state in ['invalid', 'expired', 'errored']",
        "has(status.state) && status.state == 'valid'",
    ),
    (
        "acme.cert-manager.io",
        "Challenge",
        "has(status.state) && status.state in ['invalid', 'expired', 'errored']",
        "has(status.state) && status.state == 'valid'",
    ),
];

#[cfg(test)]
mod tests {
    use super::super::Status;
    use super::*;

    fn object(api_version: &str, kind: &str, status: Value) -> Live {
        Live::from(
            &json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": "x", "generation": 2}, "status": status}),
        )
    }

    #[test]
    fn our_own_rules_are_all_read_and_tell() {
        for (group, kind, ..) in BUILT_IN {
            assert!(built_in(group, kind).is_some_and(|rule| !rule.needs_whole()), "{kind}");
        }
        let ready = |status: &str, reason: &str| json!({"conditions": [{"type": "Ready", "status": status, "reason": reason, "message": "m"}]});
        let synced = |status: &str| json!({"conditions": [{"type": "Synced", "status": status, "message": "no key could decrypt it"}]});
        for (api_version, kind, status, expected, message) in [
            (
                "bitnami.com/v1alpha1",
                "SealedSecret",
                json!({}),
                Status::InProgress,
                "its status does not say that it is ready",
            ),
            (
                "bitnami.com/v1alpha1",
                "SealedSecret",
                synced("False"),
                Status::Failed,
                "no key could decrypt it",
            ),
            ("bitnami.com/v1alpha1", "SealedSecret", synced("True"), Status::Current, ""),
            (
                "external-secrets.io/v1",
                "ExternalSecret",
                ready("False", "SecretSyncedError"),
                Status::InProgress,
                "SecretSyncedError: m",
            ),
            ("external-secrets.io/v1", "ExternalSecret", ready("True", "SecretSynced"), Status::Current, ""),
            (
                "flagger.app/v1beta1",
                "Canary",
                json!({}),
                Status::InProgress,
                "its status does not say that it is ready",
            ),
            (
                "flagger.app/v1beta1",
                "Canary",
                json!({"phase": "Progressing"}),
                Status::InProgress,
                "is Progressing",
            ),
            ("flagger.app/v1beta1", "Canary", json!({"phase": "Succeeded"}), Status::Current, ""),
            ("flagger.app/v1beta1", "Canary", json!({"phase": "Failed"}), Status::Failed, "is Failed"),
            (
                "cert-manager.io/v1",
                "Certificate",
                Value::Null,
                Status::InProgress,
                "its status does not say that it is ready",
            ),
            (
                "cert-manager.io/v1",
                "Certificate",
                ready("False", "DoesNotExist"),
                Status::InProgress,
                "DoesNotExist: m",
            ),
            ("cert-manager.io/v1", "Certificate", ready("True", "Ready"), Status::Current, ""),
            (
                "cert-manager.io/v1",
                "Certificate",
                json!({"conditions": [{"type": "Issuing", "status": "False", "reason": "Failed"}]}),
                Status::Failed,
                "its status does not say that it is ready",
            ),
            (
                "cert-manager.io/v1",
                "CertificateRequest",
                ready("False", "Failed"),
                Status::Failed,
                "Failed: m",
            ),
            ("cert-manager.io/v1", "ClusterIssuer", ready("True", ""), Status::Current, ""),
            (
                "acme.cert-manager.io/v1",
                "Order",
                json!({"state": "errored", "reason": "dns"}),
                Status::Failed,
                "is errored: dns",
            ),
            ("acme.cert-manager.io/v1", "Challenge", json!({"state": "valid"}), Status::Current, ""),
        ] {
            let health = Health::of(&object(api_version, kind, status));
            assert_eq!((health.status, health.message.as_str()), (expected, message), "{kind}");
        }
    }

    #[test]
    fn a_units_rule_is_asked_in_order_and_waits_where_it_cannot_tell() {
        let rule = Rule::new(&HealthExprs {
            api_version: "example.com/v1".into(),
            kind: "Widget".into(),
            in_progress: Some("has(status.busy) && status.busy".into()),
            failed: Some("has(status.bad) && status.bad".into()),
            current: "status.good && spec.size == status.size".into(),
        })
        .unwrap();
        assert!(rule.needs_whole());
        let check = |status: Value, expected: Status, message: &str| {
            let value = json!({"apiVersion": "example.com/v1", "kind": "Widget",
                "metadata": {"name": "x", "generation": 2}, "spec": {"size": 3}, "status": status});
            let mut live = Live::from(&value);
            live.whole = Some(Box::new(value));
            let health = Health::by(&live, Some(&rule));
            assert_eq!(health.status, expected, "{health:?}");
            assert!(health.message.contains(message), "{health:?}");
        };
        check(json!({"busy": true, "bad": true}), Status::InProgress, "");
        check(json!({"bad": true, "good": true, "phase": "Bad"}), Status::Failed, "is Bad");
        check(json!({"good": true, "size": 3}), Status::Current, "");
        check(json!({"good": true, "size": 2}), Status::InProgress, "does not say");
        check(json!({}), Status::InProgress, "cannot be determined yet: 'status.good");
        check(json!({"observedGeneration": 1, "good": true, "size": 3}), Status::InProgress, "last change");
    }
}
