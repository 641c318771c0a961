//! Tokens for a part of the fleet: every route, asked by who may see some clusters or namespaces only. What is out of their
//! reach has names with `production` or `hidden` in them, which no answer may hold.

use std::collections::BTreeMap;
use std::sync::Arc;

use flotilla_api as api;
use flotilla_core::unit::{ObjectEntry, UnitSpec};
use flotilla_core::{DesiredState, Object, UnitEntry, UnitId, UnitManifest};
use flotilla_hub::desired::Published;
use flotilla_hub::view::{ClusterFacts, FleetView, UnitFacts};
use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::people::ROUTES;
use crate::support::TestHub;

/// Those about the whole fleet.
const FLEET: &[&str] = &[
    "/metrics",
    "/api/v1/changes",
    "/api/v1/changes/00112233/approve",
    "/api/v1/pipelines",
    "/api/v1/pipelines/apps/rollout",
    "/api/v1/pipelines/apps/approval",
    "/api/v1/pipelines/apps/forget",
    "/api/v1/tokens",
    "/api/v1/tokens/none",
    "/api/v1/audit",
    "/api/v1/backup",
    "/api/v1/ca",
];

fn unit(namespace: &str) -> UnitId {
    UnitId::kustomization(namespace, "app")
}

/// Two clusters, each with a unit in the namespaces `web` and `hidden`.
async fn fleet() -> TestHub {
    let hub = TestHub::start().await;
    let mut clusters = BTreeMap::new();
    for (name, group) in [("staging", "west"), ("production", "east")] {
        let mut units = BTreeMap::new();
        let mut facts = BTreeMap::new();
        let mut bodies = Vec::new();
        for namespace in ["web", "hidden"] {
            let object = json!({"apiVersion": "v1", "kind": "ConfigMap",
                "metadata": {"name": format!("of-{namespace}"), "namespace": namespace}});
            let object = Object::new(&object).unwrap();
            let manifest =
                UnitManifest::new(unit(namespace), UnitSpec::default(), vec![ObjectEntry::from(&object)]);
            units.insert(unit(namespace), UnitEntry::Present(Arc::new(manifest)));
            let problem =
                flotilla_core::report::Problem::error("", 0, format!("a problem of {name} {namespace}"));
            let of =
                UnitFacts { object: Some(object.clone()), problems: vec![problem], ..Default::default() };
            facts.insert(unit(namespace), of);
            bodies.push(object);
        }
        let generation = hub.hub().records.next_generation().unwrap();
        let state = DesiredState::new(name.parse().unwrap(), generation, "c0ffee", units);
        hub.hub()
            .board
            .publish(Published { state: Arc::new(state), bodies: Arc::new(bodies.into_iter().collect()) });
        let facts = ClusterFacts {
            assigned: true,
            units: facts,
            groups: [group.to_owned()].into(),
            ..Default::default()
        };
        clusters.insert(name.parse().unwrap(), Arc::new(facts));
    }
    let commit = api::Commit { id: "c0ffee".into(), subject: "hidden subject".into(), ..Default::default() };
    let source = |name: &str, clusters: &[&str]| api::Source {
        name: name.into(),
        kind: "GitRepository".into(),
        clusters: clusters.iter().map(|name| (*name).to_owned()).collect(),
        ..Default::default()
    };
    hub.hub().fleet.publish(FleetView {
        snapshot: Some(commit),
        clusters,
        sources: vec![
            source("hidden", &[]),
            source("web/shared", &["staging", "production"]),
            source("web/hidden", &["production"]),
        ],
        ..Default::default()
    });
    for (scope, name) in [("fleet", "hidden"), ("cluster.production", "hidden"), ("cluster.staging", "seen")]
    {
        let secret = json!({"scope": scope, "namespace": "web", "name": name, "kind": "generic",
            "data": {"key": "aGlkZGVu"}});
        hub.post("/api/v1/secrets", secret).await;
    }
    hub
}

async fn token(hub: &TestHub, name: &str, scope: Value) -> String {
    let made = hub.post("/api/v1/tokens", json!({"name": name, "role": "admin", "scope": scope})).await;
    made["secret"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_route_keeps_to_the_scope_of_its_token() {
    let hub = fleet().await;
    let tokens = [
        ("cluster", token(&hub, "by-cluster", json!({"clusters": ["staging"]})).await),
        ("group", token(&hub, "by-group", json!({"groups": ["west"]})).await),
        (
            "namespace",
            token(&hub, "by-namespace", json!({"clusters": ["staging"], "namespaces": ["web"]})).await,
        ),
    ];
    for (by, token) in &tokens {
        let ask = async |method: &str, path: &str, body: Value| {
            let method = method.parse().unwrap();
            let (status, bytes) = hub.ask_bytes(Some(token), method, path, body).await;
            (status.as_u16(), String::from_utf8_lossy(&bytes).into_owned())
        };
        for (method, path, role) in ROUTES.iter().filter(|(_, path, _)| *path != "/openapi.json") {
            if FLEET.contains(path) || path.contains("/ca/") {
                let (status, answer) = ask(method, path, json!({})).await;
                assert_eq!(status, 403, "{by} {method} {path}: {answer}");
                continue;
            }
            if *method == "GET" && role.is_some() {
                let path = path.replace("units/root", "units/kustomization%2Fweb%2Fapp");
                let (status, answer) = ask("GET", &path, Value::Null).await;
                assert_eq!(status, 200, "{by} {path}: {answer}");
                let answer = if *by == "namespace" {
                    answer
                } else {
                    answer
                        .replace("\"hidden\"", "")
                        .replace("of-hidden", "")
                        .replace("/hidden/app", "")
                        .replace("staging hidden", "")
                };
                assert!(
                    !answer.contains("production") && !answer.contains("hidden"),
                    "{by} {path}: {answer}"
                );
            }
            // A cluster out of reach is one that is not there.
            let other = path.replace("staging", "production");
            if other != *path {
                let (status, answer) = ask(method, &other, json!({})).await;
                assert_eq!(status, 404, "{by} {method} {other}: {answer}");
                assert!(
                    answer.contains("no cluster is called production"),
                    "{by} {method} {other}: {answer}"
                );
            }
        }
        let narrow = *by == "namespace";
        let many = |group: &str| json!({"many": {"count": 2, "group": group, "names": "edge-{hostname}"}});
        let whole = if narrow { 403 } else { 200 };
        for (path, body, expected) in [
            ("/api/v1/reconcile", json!({}), 403),
            ("/api/v1/reconcile", json!({"cluster": "production"}), 404),
            (
                "/api/v1/sources/reconcile",
                json!({"kind": "GitRepository", "namespace": "web", "name": "hidden"}),
                404,
            ),
            ("/api/v1/join-tokens", json!({"cluster": "production"}), 404),
            ("/api/v1/join-tokens", json!({"cluster": "staging"}), whole),
            ("/api/v1/join-tokens", many("east"), 403),
            ("/api/v1/join-tokens", many("west"), if *by == "group" { 200 } else { 403 }),
            ("/api/v1/clusters/staging/suspend", json!({}), whole),
            ("/api/v1/clusters/staging/suspend", json!({"unit": "kustomization/web/app"}), 200),
            (
                "/api/v1/clusters/staging/suspend",
                json!({"unit": "kustomization/hidden/app"}),
                if narrow { 404 } else { 200 },
            ),
            ("/api/v1/clusters/staging/resume", json!({}), whole),
            ("/api/v1/clusters/staging/revoke", Value::Null, if narrow { 403 } else { 409 }),
            ("/api/v1/clusters/staging/prune", json!({"confirm": "x"}), if narrow { 403 } else { 400 }),
        ] {
            let (status, answer) = ask("POST", path, body.clone()).await;
            assert_eq!(status, expected, "{by} {path} {body}: {answer}");
        }
        for (scope, namespace, expected) in [
            ("fleet", "web", 403),
            ("cluster.production", "web", 403),
            ("group.east", "web", 403),
            ("group.west", "web", if *by == "group" { 200 } else { 403 }),
            ("cluster.staging", "web", 200),
            ("cluster.staging", "hidden", if narrow { 403 } else { 200 }),
        ] {
            let secret = json!({"scope": scope, "namespace": namespace, "name": by, "kind": "generic",
                "data": {"key": "eA=="}});
            let (status, answer) = ask("POST", "/api/v1/secrets", secret).await;
            assert_eq!(status, expected, "{by} {scope} {namespace}: {answer}");
            let path = format!("/api/v1/secrets/{scope}/{namespace}/{by}");
            let (status, answer) = ask("DELETE", &path, Value::Null).await;
            assert_eq!(status, expected, "{by} {path}: {answer}");
        }
        let (status, mut events) = hub.events("/api/v1/watch", Some(token)).await;
        assert_eq!(status, StatusCode::OK);
        assert_eq!(events.next().await.unwrap(), json!({"clusters": ["staging"], "fleet": true}));
        hub.post("/api/v1/clusters/production/suspend", json!({})).await;
        hub.post("/api/v1/clusters/staging/suspend", json!({})).await;
        assert_eq!(events.next().await.unwrap(), json!({"clusters": ["staging"], "fleet": false}));
        for cluster in ["production", "staging"] {
            hub.post(&format!("/api/v1/clusters/{cluster}/resume"), json!({})).await;
        }
    }
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_has_an_end_by_default_and_its_streams_end_with_it() {
    let hub = fleet().await;
    let now = hub.hub().now();
    let made = hub.post("/api/v1/tokens", json!({"name": "ann", "role": "view"})).await;
    assert_eq!(made["token"]["expiresAt"], now + 90 * 24 * 3600);
    let ann = made["secret"].as_str().unwrap();
    let made = hub.post("/api/v1/tokens", json!({"name": "ci", "role": "view", "neverExpires": true})).await;
    assert_eq!(made["token"]["expiresAt"], Value::Null);
    let made = hub.post("/api/v1/tokens", json!({"name": "short", "role": "view", "expiresIn": 60})).await;
    let short = made["secret"].as_str().unwrap();
    for (body, says) in [
        (json!({"name": "x", "role": "view", "neverExpires": true, "expiresIn": 5}), "exclude each other"),
        (json!({"name": "x", "role": "view", "scope": {"clusters": ["Bad Name"]}}), "Bad Name"),
        (json!({"name": "x", "role": "view", "scope": {"namespaces": [""]}}), "cannot name a namespace"),
        // A bound that is misspelled must not be none.
        (json!({"name": "x", "role": "view", "scope": {"cluster": ["staging"]}}), "unknown field"),
        (json!({"name": "x", "role": "view", "scopes": {}}), "unknown field"),
    ] {
        let (status, answer) =
            hub.ask(Some(&hub.admin()), Method::POST, "/api/v1/tokens", body.clone()).await;
        assert!(
            status.is_client_error() && answer["error"].as_str().unwrap().contains(says),
            "{body}: {answer}"
        );
    }
    let (_, mut of_ann) = hub.events("/api/v1/watch", Some(ann)).await;
    let (_, mut of_short) = hub.events("/api/v1/watch", Some(short)).await;
    assert!(of_ann.next().await.is_some() && of_short.next().await.is_some());
    let listed = hub.get("/api/v1/tokens").await;
    let used = |name: &str| {
        let token = listed["items"].as_array().unwrap().iter().find(|token| token["name"] == name).unwrap();
        token["lastUsedAt"].clone()
    };
    assert_eq!((used("ann"), used("ci")), (json!(now), Value::Null));
    hub.ask(Some(&hub.admin()), Method::DELETE, "/api/v1/tokens/ann", Value::Null).await;
    assert_eq!(of_ann.next().await, None, "revoked");
    hub.clock.set(std::time::SystemTime::now() + std::time::Duration::from_secs(61));
    assert_eq!(of_short.next().await, None, "over");
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_has_the_headers_that_browsers_heed_and_a_post_says_what_it_is() {
    let hub = fleet().await;
    for (path, token) in
        [("/healthz", None), ("/api/v1/status", Some(hub.admin())), ("/api/v1/status", None), ("/x", None)]
    {
        let headers = hub.headers(path, token.as_deref()).await;
        for (name, value) in [
            ("content-security-policy", "frame-ancestors 'none'"),
            ("x-content-type-options", "nosniff"),
            ("x-frame-options", "DENY"),
            ("strict-transport-security", "max-age"),
            ("cache-control", "no-store"),
            ("referrer-policy", "no-referrer"),
        ] {
            let found = headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
            assert!(found.contains(value), "{path}: {name}: {found}");
        }
    }
    for kind in [None, Some("text/plain"), Some("application/x-www-form-urlencoded")] {
        let (status, answer) = hub.post_as(kind, "/api/v1/clusters/staging/suspend", "").await;
        assert_eq!(status, StatusCode::UNSUPPORTED_MEDIA_TYPE, "{kind:?}: {answer}");
    }
    let (status, answer) =
        hub.post_as(Some("application/json; charset=utf-8"), "/api/v1/clusters/staging/suspend", "{}").await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    let large = format!("{{\"reason\": \"{}\"}}", "x".repeat(70 << 10));
    let (status, _) = hub.post_as(Some("application/json"), "/api/v1/clusters/staging/suspend", &large).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
    hub.stop().await;
}
