//! People: tokens and roles, route by route; errors; changes and who made them; backups.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flotilla_api::Role;
use flotilla_core::change::{self, FleetSize, Going, Limit, Loss, Losses, Policy, Sizes, Taken, UnitLoss};
use flotilla_core::selector::Selector;
use flotilla_core::{Authority, ObjectId, UnitId};
use flotilla_hub::rollout::Definitions;
use flotilla_hub::store::backup;
use flotilla_hub::view::{Change, FleetView, HeldChange};
use flotilla_rollout::spec;
use flotilla_runtime::tls::Clock;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::{LIMIT, TestHub};

/// Routes that answer without an end, which have tests of their own.
const STREAMS: [&str; 2] = ["/api/v1/watch", "/api/v1/events/watch"];

/// Every other route, and the role that it needs.
pub(crate) const ROUTES: &[(&str, &str, Option<Role>)] = &[
    ("GET", "/healthz", None),
    ("GET", "/readyz", None),
    ("GET", "/openapi.json", None),
    ("GET", "/metrics", Some(Role::View)),
    ("GET", "/api/v1/whoami", Some(Role::View)),
    ("GET", "/api/v1/status", Some(Role::View)),
    ("GET", "/api/v1/sources", Some(Role::View)),
    ("GET", "/api/v1/events", Some(Role::View)),
    ("GET", "/api/v1/units", Some(Role::View)),
    ("GET", "/api/v1/clusters", Some(Role::View)),
    ("GET", "/api/v1/clusters/staging", Some(Role::View)),
    ("GET", "/api/v1/clusters/staging/units/root", Some(Role::View)),
    ("GET", "/api/v1/clusters/staging/tree", Some(Role::View)),
    ("GET", "/api/v1/clusters/staging/manifests", Some(Role::View)),
    ("GET", "/api/v1/clusters/staging/history", Some(Role::View)),
    ("GET", "/api/v1/clusters/staging/definitions", Some(Role::View)),
    ("POST", "/api/v1/clusters/staging/hide-secrets", Some(Role::Operate)),
    ("POST", "/api/v1/clusters/staging/suspend", Some(Role::Operate)),
    ("POST", "/api/v1/clusters/staging/resume", Some(Role::Operate)),
    ("POST", "/api/v1/reconcile", Some(Role::Operate)),
    ("POST", "/api/v1/sources/reconcile", Some(Role::Operate)),
    ("POST", "/api/v1/clusters/staging/approve", Some(Role::Approve)),
    ("GET", "/api/v1/changes", Some(Role::View)),
    ("POST", "/api/v1/changes/00112233/approve", Some(Role::Approve)),
    ("GET", "/api/v1/pipelines", Some(Role::View)),
    ("POST", "/api/v1/pipelines/apps/rollout", Some(Role::Operate)),
    ("POST", "/api/v1/pipelines/apps/approval", Some(Role::Approve)),
    ("POST", "/api/v1/pipelines/apps/forget", Some(Role::Admin)),
    ("POST", "/api/v1/join-tokens", Some(Role::Admin)),
    ("GET", "/api/v1/join-tokens", Some(Role::Admin)),
    ("DELETE", "/api/v1/join-tokens/00112233", Some(Role::Admin)),
    ("POST", "/api/v1/clusters/staging/revoke", Some(Role::Admin)),
    ("POST", "/api/v1/clusters/staging/prune", Some(Role::Admin)),
    ("POST", "/api/v1/clusters/staging/adopt", Some(Role::Admin)),
    ("DELETE", "/api/v1/clusters/staging", Some(Role::Admin)),
    ("GET", "/api/v1/tokens", Some(Role::Admin)),
    ("POST", "/api/v1/tokens", Some(Role::Admin)),
    ("DELETE", "/api/v1/tokens/none", Some(Role::Admin)),
    ("GET", "/api/v1/secrets", Some(Role::Admin)),
    ("GET", "/api/v1/secret-uses/none", Some(Role::View)),
    ("POST", "/api/v1/secrets", Some(Role::Admin)),
    ("DELETE", "/api/v1/secrets/fleet/apps/none", Some(Role::Admin)),
    ("GET", "/api/v1/audit", Some(Role::Admin)),
    ("GET", "/api/v1/backup", Some(Role::Admin)),
    ("GET", "/api/v1/ca", Some(Role::Admin)),
    ("POST", "/api/v1/ca/rotate", Some(Role::Admin)),
    ("POST", "/api/v1/ca/finish", Some(Role::Admin)),
];

#[tokio::test(flavor = "multi_thread")]
async fn a_change_is_approved_by_its_digest_and_nothing_else_is() {
    let hub = TestHub::start().await;
    let unit = UnitId::kustomization("web", "app");
    let object = ObjectId::new("", "ConfigMap", "web", "settings");
    let loss = UnitLoss { removed: true, objects: [object.clone()].into(), ..UnitLoss::unsaid() };
    let loss = Loss { units: [(unit.clone(), loss)].into(), of: 2, ..Loss::default() };
    let losses: Losses = ["production", "staging"].map(|name| (name.parse().unwrap(), loss.clone())).into();
    let policy = Policy { units: Limit { max: 0, share: 0 }, ..Policy::default() };
    let of = FleetSize { units: 4, objects: 4 };
    let findings = change::judge(&losses, &Taken::default(), &Sizes::default(), of, &policy).findings;
    let held = HeldChange {
        word: Authority::Fleet,
        digest: change::digest(&losses),
        losses,
        why: "half of the fleet".into(),
    };
    let digest = held.digest.to_string();
    let change = Change { commit: "c0ffee".into(), findings, held: vec![held] };
    let view = || FleetView { change: Some(change.clone()), ..FleetView::default() };
    hub.hub().fleet.publish(view());
    let shown = &hub.get("/api/v1/changes").await["items"];
    assert_eq!((&shown[0]["severity"], &shown[0]["digest"]), (&json!("stop"), &json!(digest)));
    assert_eq!((&shown[0]["count"], &shown[0]["of"]), (&json!(2), &json!(4)));
    assert_eq!(
        shown[0]["names"],
        json!(["production: kustomization/web/app", "staging: kustomization/web/app"])
    );
    let waits = |cluster: &str| {
        json!({
            "cluster": cluster, "unit": "kustomization/web/app", "removed": true, "objects": 1,
            "first": ["ConfigMap web/settings"],
        })
    };
    assert_eq!(shown[0]["held"], json!([waits("production"), waits("staging")]));
    assert_eq!((&shown[1]["severity"], &shown[1]["digest"]), (&json!("info"), &json!("")));
    let metrics = hub.ask_bytes(Some(&hub.admin()), Method::GET, "/metrics", Value::Null).await.1;
    let metrics = String::from_utf8_lossy(&metrics);
    assert!(metrics.contains("flotilla_change_held_objects 2"), "{metrics}");
    let going = |cluster: &str| hub.hub().records.going(&cluster.parse().unwrap()).unwrap();
    let approve = async |digest: &str| {
        let path = format!("/api/v1/changes/{digest}/approve");
        hub.ask(Some(&hub.admin()), Method::POST, &path, Value::Null).await.0
    };
    assert_eq!(approve("0011223344").await, StatusCode::NOT_FOUND);
    assert_eq!(approve("root").await, StatusCode::BAD_REQUEST);
    assert_eq!(going("staging"), Going::default());
    assert_eq!(approve(&digest[..12]).await, StatusCode::OK);
    let may_go = Going { units: [unit].into(), objects: [object].into() };
    assert_eq!((going("staging"), going("production")), (may_go.clone(), may_go));
    let audit = hub.get("/api/v1/audit").await.to_string();
    assert!(audit.contains("change.approve") && audit.contains(&digest), "{audit}");
    hub.hub().fleet.publish(FleetView::default());
    assert_eq!(approve(&digest).await, StatusCode::NOT_FOUND, "it waits no more");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_route_takes_its_role_and_those_above() {
    let hub = TestHub::start().await;
    hub.publish("staging", "x");
    let mut tokens = Vec::new();
    for role in Role::ALL {
        let made =
            hub.post("/api/v1/tokens", json!({"name": role.as_str().to_owned() + "-1", "role": role})).await;
        tokens.push((role, made["secret"].as_str().unwrap().to_owned()));
    }
    for (method, path, needed) in ROUTES {
        let method: Method = method.parse().unwrap();
        // A body that every handler refuses, or does not look at: what matters here is who gets as far as that.
        let body = if method == Method::POST { json!("x") } else { Value::Null };
        let ask = |token: Option<String>| {
            let (hub, method, body) = (&hub, method.clone(), body.clone());
            async move { hub.ask(token.as_deref(), method, path, body).await }
        };
        let (anonymous, _) = ask(None).await;
        let wrong = format!("{}x", tokens[0].1);
        let (unknown, _) = ask(Some(wrong)).await;
        let Some(needed) = needed else {
            assert_ne!(anonymous, StatusCode::UNAUTHORIZED, "{path}");
            continue;
        };
        assert_eq!((anonymous, unknown), (StatusCode::UNAUTHORIZED, StatusCode::UNAUTHORIZED), "{path}");
        for (role, token) in &tokens {
            let (status, answer) = ask(Some(token.clone())).await;
            let denied = status == StatusCode::FORBIDDEN;
            assert_eq!(denied, *role < *needed, "{method} {path} as {role}: {status} {answer}");
            assert!(status.is_success() || answer["error"].is_string(), "{method} {path}: {status} {answer}");
            assert!(status != StatusCode::INTERNAL_SERVER_ERROR, "{method} {path}: {answer}");
        }
    }
    let (_, description) = hub.ask(None, Method::GET, "/openapi.json", Value::Null).await;
    let schemas = &description["components"]["schemas"];
    let references = description.to_string();
    for reference in references.split("#/components/schemas/").skip(1) {
        let name = reference.split('"').next().unwrap();
        assert!(schemas[name].is_object(), "{name} is referred to and not described");
    }
    let described: Vec<(String, String)> = description["paths"]
        .as_object()
        .unwrap()
        .iter()
        .flat_map(|(path, methods)| {
            let path =
                path.replace("{cluster}", "staging").replace("{unit}", "root").replace("{name}", "none");
            let path = path
                .replace("{scope}", "fleet")
                .replace("{namespace}", "apps")
                .replace("{pipeline}", "apps")
                .replace("{digest}", "00112233");
            let methods = methods.as_object().unwrap().keys().map(|method| method.to_uppercase());
            methods.map(move |method| (method, path.clone())).collect::<Vec<_>>()
        })
        .collect();
    assert_eq!(described.len(), ROUTES.len() + STREAMS.len());
    for (method, path) in described {
        let tested = ROUTES.iter().any(|(m, p, _)| (*m, *p) == (&method, &path));
        assert!(tested || STREAMS.contains(&&*path), "{method} {path} is not tested");
    }
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_secrets_hold_is_never_given_out() {
    let hub = TestHub::start().await;
    hub.publish("staging", "x");
    let (value, kept) = ("hunter2-of-people", STANDARD.encode("hunter2-of-people"));
    for scope in ["fleet", "group.prod", "cluster.staging"] {
        let secret = json!({"scope": scope, "namespace": "apps", "name": "values", "kind": "generic",
            "data": {"values.yaml": kept.as_str()}});
        hub.post("/api/v1/secrets", secret).await;
    }
    let admin = hub.admin();
    for (scope, data, says) in [
        ("group.Prod", kept.as_str(), "not a valid ClusterGroup name"),
        ("tenant.x", kept.as_str(), "expected fleet, group.NAME or cluster.NAME"),
        ("fleet", value, "values.yaml"),
    ] {
        let secret = json!({"scope": scope, "namespace": "apps", "name": "values", "kind": "generic",
            "data": {"values.yaml": data}});
        let (status, answer) = hub.ask(Some(&admin), Method::POST, "/api/v1/secrets", secret).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{answer}");
        let answer = answer.to_string();
        assert!(answer.contains(says) && !answer.contains(value) && !answer.contains(&kept), "{answer}");
    }
    let listed = hub.get("/api/v1/secrets").await;
    assert_eq!(listed["items"].as_array().map(Vec::len), Some(3), "{listed}");
    assert_eq!(listed["items"][1]["keys"], json!(["values.yaml"]), "{listed}");
    for (_, path, _) in ROUTES.iter().filter(|(method, ..)| *method == "GET") {
        let (_, answer) = hub.ask_bytes(Some(&admin), Method::GET, path, Value::Null).await;
        let unpacked = zstd::decode_all(&answer[..]).unwrap_or(answer);
        let answer = String::from_utf8_lossy(&unpacked);
        assert!(!answer.contains(value) && !answer.contains(&kept), "{path}");
    }
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_said_with_what_to_do() {
    let hub = TestHub::start().await;
    hub.publish("staging", "x");
    for (method, path, body, status, error) in [
        ("GET", "/api/v1/clusters/nope", Value::Null, 404, "no cluster is called nope"),
        ("GET", "/api/v1/clusters/NOPE", Value::Null, 400, "'NOPE' cannot name a cluster"),
        ("GET", "/api/v1/clusters/staging/units/x%2Fy", Value::Null, 404, "has no unit kustomization/x/y"),
        ("GET", "/api/v1/units?limit=many", Value::Null, 400, "query"),
        ("GET", "/api/v1/nothing", Value::Null, 404, "nothing at this path"),
        ("PUT", "/api/v1/status", Value::Null, 405, "does not take that method"),
        ("POST", "/api/v1/tokens", json!({"name": "Bad Name"}), 400, "cannot name a token"),
        ("POST", "/api/v1/tokens", json!({"name": "x", "role": "king"}), 422, "king"),
        ("POST", "/api/v1/tokens", json!({"name": "admin"}), 409, "already"),
        ("POST", "/api/v1/join-tokens", json!({"cluster": "a", "expiresIn": 0}), 400, "lives"),
        ("POST", "/api/v1/reconcile", json!({"unit": "root"}), 400, "without its cluster"),
        ("POST", "/api/v1/clusters/staging/revoke", Value::Null, 409, "not enrolled"),
        (
            "POST",
            "/api/v1/clusters/staging/prune",
            json!({"confirm": "x"}),
            400,
            "must be the cluster's name",
        ),
        ("POST", "/api/v1/clusters/staging/adopt", json!({"from": "flux"}), 409, "not enrolled"),
        ("POST", "/api/v1/clusters/staging/adopt", json!({"from": "argo"}), 422, "argo"),
        (
            "POST",
            "/api/v1/clusters/staging/adopt",
            json!({"action": "undo", "plan": "x"}),
            400,
            "`apply` only",
        ),
        ("POST", "/api/v1/clusters/staging/adopt", json!({"action": "apply", "plan": "x"}), 400, "digest"),
        ("POST", "/api/v1/clusters/staging/suspend", json!({"unit": "a/b"}), 404, "no unit"),
        ("DELETE", "/api/v1/tokens/nope", Value::Null, 404, "no token is called"),
        ("POST", "/api/v1/ca/finish", json!({}), 409, "no rotation"),
    ] {
        let (found, answer) = hub.ask(Some(&hub.admin()), method.parse().unwrap(), path, body).await;
        let text = answer["error"].as_str().unwrap_or_default();
        assert!(found.as_u16() == status && text.contains(error), "{method} {path}: {found} {answer}");
    }
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_are_stored_and_audited_with_the_tokens_name() {
    let hub = TestHub::start().await;
    hub.publish("staging", "x");
    let made = hub.post("/api/v1/tokens", json!({"name": "ann", "role": "operate", "expiresIn": 3600})).await;
    let ann = made["secret"].as_str().unwrap();
    let (status, _) = hub
        .ask(
            Some(ann),
            Method::POST,
            "/api/v1/clusters/staging/suspend",
            json!({"unit": "root", "reason": "repair"}),
        )
        .await;
    assert_eq!(status, StatusCode::OK);
    let unit = hub.get("/api/v1/clusters/staging/units/root").await;
    assert_eq!((&unit["suspended"]["by"], &unit["suspended"]["reason"]), (&json!("ann"), &json!("repair")));
    hub.ask(Some(&hub.admin()), Method::DELETE, "/api/v1/tokens/ann", Value::Null).await;
    let (status, _) = hub.ask(Some(ann), Method::GET, "/api/v1/status", Value::Null).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);

    let log = hub.get("/api/v1/audit?limit=2").await;
    let line =
        |n: usize| (log["items"][n]["who"].as_str().unwrap(), log["items"][n]["action"].as_str().unwrap());
    assert_eq!((line(0), line(1)), (("admin", "token.revoke"), ("ann", "unit.suspend")));
    let after = log["next"].as_str().unwrap();
    let rest = hub.get(&format!("/api/v1/audit?limit=10&after={after}")).await;
    let actions: Vec<&str> =
        rest["items"].as_array().unwrap().iter().map(|l| l["action"].as_str().unwrap()).collect();
    assert_eq!(actions, ["token.create", "token.create"]);
    assert!(!log.to_string().contains(ann) && !rest.to_string().contains(ann), "no secret in the log");
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_of_a_running_hub_restores_to_one_that_knows_its_agents() {
    let hub = TestHub::start().await;
    let early = hub.join("early").await;
    let (status, bytes) = hub.ask_bytes(Some(&hub.admin()), Method::GET, "/api/v1/backup", Value::Null).await;
    assert_eq!(status, StatusCode::OK);
    // Joined after the backup, and ahead of it.
    let late = hub.join("late").await;
    let admin = hub.admin();
    let now = hub.hub().now();
    let old = hub.stop().await.unwrap();

    let folder = tempfile::tempdir().unwrap();
    let mut agents = [early, late];
    let (file, data) = (folder.path().join("backup"), folder.path().join("data"));
    std::fs::write(&file, bytes).unwrap();
    backup::restore(&file, &data, now + 1).unwrap();
    let again = TestHub::start_in(&data, Clock::system()).await;
    assert_ne!(again.admin(), admin, "a backup has no token's text: there is a new one");
    let (status, _) = again.ask(Some(&admin), Method::GET, "/api/v1/audit", Value::Null).await;
    assert_eq!(status, StatusCode::OK, "the one that people hold stays good");
    for agent in &mut agents {
        agent.token.hubs = vec![again.serving.grpc.to_string().parse().unwrap()];
        agent.sync().await.unwrap().welcome().await;
    }
    let actions = again.get("/api/v1/audit").await.to_string();
    assert!(actions.contains("cluster.adopt"), "{actions}");
    // Deleted now, it is not taken in a second time.
    again.ask(Some(&again.admin()), Method::DELETE, "/api/v1/clusters/late", Value::Null).await;
    assert!(agents[1].refused().await.message().contains("was deleted at the hub"));
    drop(old);
    again.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_is_in_use_or_only_half_there_is_not_served() {
    let hub = TestHub::start().await;
    let data = hub.hub().data.clone();
    let start = || async {
        let (tasks, options) = (flotilla_runtime::Tasks::new(), flotilla_hub::serve::Options::local());
        match flotilla_hub::serve::start(&data, options, tasks, Clock::system()).await {
            Ok(_) => panic!("it starts"),
            Err(error) => error.to_string(),
        }
    };
    assert!(start().await.contains("in use by another process"));
    hub.join("staging").await;
    let _folder = hub.stop().await;
    std::fs::remove_dir_all(data.join("ca")).unwrap();
    assert!(start().await.contains("not a whole hub's"));
}

#[tokio::test(flavor = "multi_thread")]
async fn watchers_are_told_of_changes_after_a_first_notice_of_everything() {
    let hub = TestHub::start().await;
    hub.join("staging").await;
    let (status, mut events) = hub.events("/api/v1/watch", None).await;
    assert_eq!((status, events.next().await), (StatusCode::UNAUTHORIZED, None));
    let (status, mut events) = hub.events("/api/v1/watch", Some(&hub.admin())).await;
    assert_eq!(status, StatusCode::OK);
    let first = events.next().await.unwrap();
    assert_eq!(first["fleet"], true);
    hub.post("/api/v1/clusters/staging/suspend", json!({})).await;
    hub.post("/api/v1/clusters/staging/resume", json!({})).await;
    assert_eq!(events.next().await.unwrap(), json!({"clusters": ["staging"], "fleet": false}));
    // A watcher does not keep the hub from ending.
    hub.stop().await;
    assert_eq!(events.next().await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_again_and_again_is_one_line_and_pushes_none_out() {
    let hub = TestHub::start().await;
    hub.publish("staging", "x");
    let made = hub.post("/api/v1/tokens", json!({"name": "ci", "role": "operate"})).await;
    let ci = made["secret"].as_str().unwrap();
    // No fleet loop runs here, so that each times out; what matters is the line before.
    for _ in 0..3 {
        let body = json!({"kind": "GitRepository", "namespace": "x", "name": "y"});
        let (status, _) = hub.ask(Some(ci), Method::POST, "/api/v1/sources/reconcile", body).await;
        assert_eq!(status, StatusCode::NOT_FOUND, "what is not there is no line at all");
    }
    let change = async |n: u32| {
        let verb = if n.is_multiple_of(2) { "suspend" } else { "resume" };
        hub.ask(Some(ci), Method::POST, &format!("/api/v1/clusters/staging/{verb}"), json!({})).await.0
    };
    // At once, so that a slow machine does not give back as much as is taken.
    let refused = tokio::time::timeout(LIMIT, async {
        loop {
            let answers = futures::future::join_all((0..120).map(change)).await;
            if answers.contains(&StatusCode::TOO_MANY_REQUESTS) {
                break;
            }
        }
    });
    refused.await.expect("it may change so much a second");
    let log = hub.get("/api/v1/audit?limit=5000").await;
    let actions: Vec<&str> =
        log["items"].as_array().unwrap().iter().map(|line| line["action"].as_str().unwrap()).collect();
    assert_eq!(actions[actions.len() - 2..], ["token.create", "token.create"]);
    assert_eq!(actions.iter().filter(|action| **action == "source.reconcile").count(), 0);
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_audit_log_is_copied_to_a_file_and_to_a_collector_and_goes_on_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("audit.jsonl");
    let collector = crate::support::Collector::start().await;
    let options = || flotilla_hub::serve::Options {
        audit: flotilla_hub::audit::export::ExportOptions {
            file: Some(file.clone()),
            otlp: Some(collector.address.clone()),
            otlp_headers: vec![("authorization".into(), "Bearer collector".into())],
        },
        ..flotilla_hub::serve::Options::local()
    };
    // A line may come twice where the hub stops between a copy and its cursor.
    let in_file = || {
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        let mut lines: Vec<(u64, String)> = text
            .split_inclusive('\n')
            .filter(|line| line.ends_with('\n'))
            .map(|line| serde_json::from_str::<Value>(line).unwrap())
            .map(|line| (line["sequence"].as_u64().unwrap(), line["action"].as_str().unwrap().to_owned()))
            .collect();
        lines.sort_unstable();
        lines.dedup();
        lines
    };
    let collected = || {
        let mut bodies: Vec<Value> = Vec::new();
        for mut record in collector.records() {
            let body = record["body"].take();
            if !bodies.contains(&body) {
                bodies.push(body);
            }
        }
        bodies
    };
    let copied = async |count: usize| {
        let all = async {
            while in_file().len() < count || collected().len() < count {
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(LIMIT, all).await.expect("lines are copied");
    };
    let data = folder.path().join("hub");
    let hub = TestHub::start_with(&data, Clock::system(), options()).await;
    hub.post("/api/v1/tokens", json!({"name": "ann", "role": "view"})).await;
    copied(2).await;
    hub.stop().await;
    let hub = TestHub::start_with(&data, Clock::system(), options()).await;
    hub.ask(Some(&hub.admin()), Method::DELETE, "/api/v1/tokens/ann", Value::Null).await;
    copied(3).await;
    let actions = [(0, "token.create"), (1, "token.create"), (2, "token.revoke")];
    assert_eq!(in_file(), actions.map(|(sequence, action)| (sequence, action.to_owned())));
    let bodies = collected();
    assert_eq!(bodies.len(), 3);
    assert_eq!(bodies[2]["stringValue"], "admin token.revoke ann");
    hub.stop().await;
}

/// Nothing is published where a stage only waits for something else than before.
#[tokio::test(flavor = "multi_thread")]
async fn a_watcher_hears_of_where_stages_stand() {
    let hub = TestHub::start().await;
    let selector = flotilla_yaml::parse("matchLabels: {stage: staging}\n").unwrap();
    let stage = spec::Stage {
        name: "staging".into(),
        clusters: Selector::read(&selector[0]).unwrap(),
        strategy: spec::Strategy::default(),
        before: spec::Gates::default(),
        after: spec::Gates::default(),
        windows: Vec::new(),
    };
    let units = spec::UnitSelection { include: vec!["root".parse().unwrap()], except: Vec::new() };
    let pipeline = spec::Pipeline {
        name: "all".into(),
        units,
        stages: vec![stage],
        windows: Vec::new(),
        on_change: spec::OnChange::default(),
    };
    let hub = hub.hub();
    let mut reader = hub.changes.reader();
    let read = [("all".to_owned(), std::sync::Arc::new(pipeline))].into();
    let definitions = Definitions { read, unread: Vec::new() };
    assert!(hub.rollouts.begin(definitions, &[], false, hub.now()).unwrap());
    let heard = tokio::time::timeout(Duration::from_secs(20), hub.changes.next(&mut reader)).await;
    assert!(heard.is_ok_and(|changed| changed.fleet));
}
