//! Agents, honest and not: who gets in, and what each gets to see.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use flotilla_core::UnitId;
use flotilla_core::desired::{KnownUnit, Removal};
use flotilla_hub::view::{ClusterFacts, FleetView};
use flotilla_proto::v1::{self, agent_message, hub_message};
use flotilla_runtime::tls::{Ca, Csr, Identity, Validity};
use http::{Method, StatusCode};
use serde_json::{Value, json};
use tonic::Code;

use crate::support::{TestAgent, TestHub};

/// What an agent says of a state that it was given.
fn ack(manifest: &v1::Manifest, level: v1::ack::Level) -> agent_message::Message {
    agent_message::Message::Ack(v1::Ack {
        level: level.into(),
        root_digest: manifest.root_digest.clone(),
        generation: manifest.generation,
        ..Default::default()
    })
}

const DAY: Duration = Duration::from_secs(24 * 3600);

fn digest(bytes: &Bytes) -> String {
    flotilla_core::Digest::try_from(&bytes[..]).unwrap().to_string()
}

/// The client's side of TLS 1.3 is done before the server has seen the certificate, so the refusal reaches gRPC at any
/// point of its own beginning; what it never is, is an answer of the service.
fn assert_ended_by_tls(hub: &TestHub, status: &tonic::Status) {
    assert!(
        !matches!(status.code(), Code::Ok | Code::Unauthenticated | Code::PermissionDenied),
        "{status:?}"
    );
    assert_eq!(hub.hub().sessions.connected(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_joins_and_gets_its_own_state_and_nobody_elses() {
    let hub = TestHub::start().await;
    let (staging, production) = (hub.join("staging").await, hub.join("production").await);
    let own = hub.publish("staging", "for staging");
    let other = hub.publish("production", "for production");
    let mut stream = staging.sync().await.unwrap();
    let manifest = stream.manifest().await;
    assert_eq!(digest(&manifest.root_digest), own.state.digest().to_string());
    assert!(manifest.last && manifest.base_root_digest.is_empty());
    let is_heard = |cluster: &str| hub.hub().records.is_heard(&cluster.parse().unwrap()).unwrap();
    assert!(is_heard("staging") && !is_heard("production"), "who has no state has nothing to say");

    let first =
        |published: &flotilla_hub::desired::Published| published.bodies.objects().next().unwrap().digest();
    let (own_body, other_body) = (first(&own), first(&other));
    let need =
        |digest: flotilla_core::Digest| v1::NeedBody { digest: digest.to_vec().into(), base: Bytes::new() };
    let bodies = vec![need(own_body), need(other_body)];
    stream.send(agent_message::Message::Need(v1::Need { bodies })).await;
    let body = |message| match message {
        hub_message::Message::Body(body) => Some(body),
        _ => None,
    };
    assert_eq!(&stream.until(body).await.data[..], &own.bodies.get(&own_body).unwrap().body()[..]);
    let foreign = stream.until(body).await;
    assert!(foreign.gone && foreign.data.is_empty(), "the other cluster's content stays with it");
    // The certificate says who somebody is, whatever else they say.
    let mut stream = production.sync().await.unwrap();
    assert_eq!(digest(&stream.manifest().await.root_digest), other.state.digest().to_string());
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn join_tokens_work_once_and_in_time() {
    let hub = TestHub::start().await;
    let token = hub.join_token("staging", false).await;
    let mut agent = TestAgent::new(&token, hub.clock.clone());
    for bytes in [0, 31, 1 << 10] {
        let key = std::mem::replace(&mut agent.sealing_key, vec![7; bytes]);
        let status = agent.enrol().await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{status}");
        assert!(status.message().contains(&format!("has {bytes} bytes instead of 32")), "{status}");
        agent.sealing_key = key;
    }
    agent.enrol().await.unwrap();
    agent.enrol().await.expect("the same key may ask again: its answer was lost");
    let uid = std::mem::replace(&mut agent.uid, "another-cluster".into());
    let status = agent.enrol().await.unwrap_err();
    assert!(status.message().contains("another Kubernetes cluster"), "{status}");
    agent.uid = uid;
    agent.sync().await.unwrap().welcome().await;
    let mut thief = TestAgent::new(&token, hub.clock.clone());
    let status = thief.enrol().await.unwrap_err();
    assert_eq!(
        (status.code(), status.message()),
        (Code::PermissionDenied, "the join token was used already; make a new one")
    );

    let (status, answer) =
        hub.ask(Some(&hub.admin()), Method::POST, "/api/v1/join-tokens", json!({"cluster": "staging"})).await;
    assert_eq!(status, StatusCode::CONFLICT);
    assert!(answer["hint"].as_str().unwrap().contains("--replace"), "{answer}");

    let late = hub.join_token("late", false).await;
    hub.clock.set(SystemTime::now() + 2 * DAY);
    let status = TestAgent::new(&late, hub.clock.clone()).enrol().await.unwrap_err();
    assert!(status.message().contains("expired"), "{status}");
    let mut invented = hub.join_token("other", false).await;
    invented.secret = flotilla_runtime::token::TokenSecret::generate();
    let status = TestAgent::new(&invented, hub.clock.clone()).enrol().await.unwrap_err();
    assert!(status.message().contains("does not know"), "{status}");
    // A deleted cluster takes its open tokens with it.
    let (status, _) =
        hub.ask(Some(&hub.admin()), Method::DELETE, "/api/v1/clusters/other", Value::Null).await;
    assert_eq!(status, StatusCode::OK);
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_certificate_of_the_hubs_ca_there_is_no_stream() {
    let hub = TestHub::start().await;
    let mut agent = hub.join("staging").await;
    let own = agent.identity.take().unwrap();
    let status = agent.refused().await;
    assert_eq!(status.code(), Code::Unauthenticated, "{status}");

    // Of another CA, for the same cluster; and one that the agent made itself.
    let forged = Ca::create(SystemTime::now()).unwrap();
    let csr = Csr::parse(&agent.key.request().unwrap()).unwrap();
    let validity = Validity { now: SystemTime::now(), life: DAY };
    let (pem, _) = forged.issue_agent(&csr, "staging", validity).unwrap();
    agent.identity = Some(Identity::from_pem(&pem, &agent.key).unwrap());
    let status = agent.refused().await;
    assert_ended_by_tls(&hub, &status);

    agent.identity = Some(own);
    // One whose words this hub would misread.
    for protocol in [0, 1] {
        agent.protocol = protocol;
        let status = agent.refused().await;
        assert_eq!(status.code(), Code::FailedPrecondition, "{status}");
        assert!(status.message().contains("upgrade the agent"), "{status}");
    }
    agent.protocol = flotilla_proto::PROTOCOL_MINOR;
    agent.sync().await.unwrap().welcome().await;
    // A hub whose CA the token does not pin is not joined.
    let other = TestHub::start().await;
    let mut token = hub.join_token("new", false).await;
    token.hubs = other.join_token("new", false).await.hubs;
    let error = TestAgent::new(&token, hub.clock.clone()).channel(None).await.unwrap_err();
    let text = flotilla_runtime::chain(&error);
    assert!(text.contains("pins"), "{text}");
    other.stop().await;
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_certificate_opens_nothing_and_is_renewed_by_key_within_the_grace() {
    let hub = TestHub::start().await;
    let mut agent = hub.join("staging").await;
    hub.clock.set(SystemTime::now() + 60 * DAY);
    let status = agent.refused().await;
    assert_ended_by_tls(&hub, &status);
    agent.renew().await.unwrap();
    agent.sync().await.unwrap().welcome().await;

    // Somebody else's key renews nothing.
    let mut thief = TestAgent::new(&agent.token, hub.clock.clone());
    let status = thief.renew().await.unwrap_err();
    let (code, text) = (status.code(), status.message().to_owned());
    assert!(code == Code::PermissionDenied && text.contains("is renewed for this key"), "{status}");
    // Nor does the answer tell which clusters there are.
    thief.token.cluster = "unheard-of".into();
    let status = thief.renew().await.unwrap_err();
    assert_eq!((status.code(), status.message()), (code, &*text.replace("staging", "unheard-of")));
    hub.clock.set(SystemTime::now() + 300 * DAY);
    hub.hub().authority.renew_hub().unwrap();
    let status = agent.renew().await.unwrap_err();
    assert!(status.message().contains("more than 180 days ago"), "{status}");
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_of_the_disk_in_another_cluster_is_turned_away() {
    let hub = TestHub::start().await;
    let mut agent = hub.join("staging").await;
    agent.uid = "another-uid".into();
    let status = agent.refused().await;
    assert_eq!(status.code(), Code::PermissionDenied);
    assert!(status.message().contains("another Kubernetes cluster"), "{status}");
    let status = agent.renew().await.unwrap_err();
    assert!(status.message().contains("another Kubernetes cluster"), "{status}");
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn revocation_and_deletion_cut_the_stream_at_once() {
    let hub = TestHub::start().await;
    let mut agent = hub.join("staging").await;
    let mut stream = agent.sync().await.unwrap();
    stream.welcome().await;
    let replacing = hub.join_token("staging", true).await;
    hub.post("/api/v1/clusters/staging/revoke", Value::Null).await;
    let status = stream.end().await;
    assert_eq!(
        (status.code(), status.message()),
        (
            Code::PermissionDenied,
            "this cluster was revoked; a new join token (with --replace) lets its agent come back"
        )
    );
    assert_eq!(agent.refused().await.code(), Code::PermissionDenied);
    let status = agent.renew().await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
    assert!(status.message().contains("is renewed for this key"), "as for any other key: {status}");
    let status = TestAgent::new(&replacing, hub.clock.clone()).enrol().await.unwrap_err();
    assert!(status.message().contains("does not know this join token"), "void with the revocation: {status}");
    assert_eq!(hub.get("/api/v1/clusters/staging").await["connection"], "revoked");

    let other = hub.join("production").await;
    let mut stream = other.sync().await.unwrap();
    stream.welcome().await;
    hub.ask(Some(&hub.admin()), Method::DELETE, "/api/v1/clusters/production", Value::Null).await;
    assert_eq!(stream.end().await.message(), "this cluster was deleted at the hub");
    assert!(other.refused().await.message().contains("was deleted at the hub"));
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_ends_with_its_certificate_and_with_its_ca() {
    let hub = TestHub::start().await;
    let agent = hub.join("staging").await;
    let mut stream = agent.sync().await.unwrap();
    stream.welcome().await;
    hub.clock.set(SystemTime::now() + 2 * DAY);
    let status = stream.end().await;
    assert!(status.code() == Code::Aborted && status.message().contains("has ended"), "{status}");

    let agent = hub.join("production").await;
    let mut stream = agent.sync().await.unwrap();
    stream.welcome().await;
    hub.post("/api/v1/ca/rotate", Value::Null).await;
    hub.post("/api/v1/ca/finish", json!({"force": true})).await;
    let status = stream.end().await;
    assert!(status.code() == Code::Aborted && status.message().contains("CA was removed"), "{status}");
    assert_ended_by_tls(&hub, &agent.refused().await);
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newer_of_two_streams_stays_and_a_replacement_takes_the_place() {
    let hub = TestHub::start().await;
    let agent = hub.join("staging").await;
    let mut first = agent.sync().await.unwrap();
    first.welcome().await;
    let mut second = agent.sync().await.unwrap();
    second.welcome().await;
    assert_eq!(first.end().await.code(), Code::Aborted);

    let mut replacement = TestAgent::new(&hub.join_token("staging", true).await, hub.clock.clone());
    replacement.enrol().await.unwrap();
    assert_eq!(second.end().await.code(), Code::Aborted);
    assert!(agent.refused().await.message().contains("another agent took its place"));
    replacement.sync().await.unwrap().welcome().await;
    hub.stop().await;
}

/// A copied state folder, or a Deployment with two replicas.
#[tokio::test(flavor = "multi_thread")]
async fn two_agents_with_one_identity_are_told_apart() {
    let hub = TestHub::start().await;
    let mut agent = hub.join("staging").await;
    let mut first = agent.sync().await.unwrap();
    first.welcome().await;
    // One that was started anew takes the place: the session of before may be half open.
    agent.instance = "second".into();
    let mut second = agent.sync().await.unwrap();
    second.welcome().await;
    assert_eq!(first.end().await.code(), Code::Aborted);
    // Which the first would be no more, and so it lives.
    agent.instance = "first".into();
    let status = agent.refused().await;
    assert_eq!(status.code(), Code::FailedPrecondition, "{status}");
    assert!(status.message().contains("another agent with this cluster's identity is connected"), "{status}");
    let (_, shown) = hub.ask(Some(&hub.admin()), Method::GET, "/api/v1/clusters/staging", Value::Null).await;
    assert_eq!(shown["connection"], "connected", "{shown}");
    let problems = shown["agentProblems"].to_string();
    assert!(problems.contains("a second agent with this cluster's identity"), "{shown}");
    // The one that has the place may lose its connection and come back.
    agent.instance = "second".into();
    let mut again = agent.sync().await.unwrap();
    again.welcome().await;
    assert_eq!(second.end().await.code(), Code::Aborted);
    // When it ends, the other comes in.
    drop(again);
    agent.instance = "first".into();
    let left = async {
        while hub.hub().sessions.connected() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(crate::support::LIMIT, left).await.expect("the hub sees that the stream ended");
    agent.sync().await.unwrap().welcome().await;
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_kubernetes_cluster_joins_under_one_name() {
    let hub = TestHub::start().await;
    let staging = hub.join("staging").await;
    let mut other = TestAgent::new(&hub.join_token("other", false).await, hub.clock.clone());
    other.uid = staging.uid.clone();
    let status = other.enrol().await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied, "{status}");
    for words in ["has joined as staging already", "`flotilla cluster delete staging`", "may join as other"] {
        assert!(status.message().contains(words), "{status}");
    }
    // The token is not spent by that, and a deleted cluster is none.
    let (status, _) =
        hub.ask(Some(&hub.admin()), Method::DELETE, "/api/v1/clusters/staging", Value::Null).await;
    assert_eq!(status, StatusCode::OK);
    other.enrol().await.unwrap();
    let mut back = TestAgent::new(&hub.join_token("staging", false).await, hub.clock.clone());
    back.uid = staging.uid;
    let status = back.enrol().await.unwrap_err();
    assert!(status.message().contains("has joined as other already"), "{status}");
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_hub_knows_its_agents_and_its_used_tokens() {
    let hub = TestHub::start().await;
    let mut agent = hub.join("staging").await;
    let clock = hub.clock.clone();
    let folder = hub.stop().await.unwrap();
    let again = TestHub::start_in(folder.path(), clock.clone()).await;
    let mut thief = TestAgent::new(&agent.token, clock);
    thief.token.hubs = vec![again.serving.grpc.to_string().parse().unwrap()];
    assert!(thief.enrol().await.unwrap_err().message().contains("used already"));
    agent.token.hubs = thief.token.hubs;
    agent.sync().await.unwrap().welcome().await;
    again.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_agents_report_is_shown_and_what_is_asked_of_them_is_answered() {
    let hub = TestHub::start().await;
    let agent = hub.join("staging").await;
    let published = hub.publish("staging", "hunter2");
    let mut stream = agent.sync().await.unwrap();
    let manifest = stream.manifest().await;
    let unit = published.state.all_present().next().unwrap().digest();
    for level in [v1::ack::Level::Received, v1::ack::Level::Applied, v1::ack::Level::Healthy] {
        stream.send(ack(&manifest, level)).await;
    }
    let object = v1::ObjectId {
        kind: "Secret".into(),
        namespace: "web".into(),
        name: "x".into(),
        ..Default::default()
    };
    let approval = flotilla_core::Digest::of(b"approval");
    let report = v1::Report {
        complete: true,
        units: vec![v1::UnitReport {
            unit: "root".into(),
            phase: "Ready".into(),
            desired: unit.to_vec().into(),
            healthy: unit.to_vec().into(),
            objects: 1,
            kept: vec![v1::Kept {
                object: Some(object),
                why: "a volume".into(),
                approval: approval.to_vec().into(),
            }],
            ..Default::default()
        }],
        ..Default::default()
    };
    stream.send(agent_message::Message::Report(report)).await;
    stream.send(agent_message::Message::Heartbeat(v1::Heartbeat { now: 1 })).await;
    stream.until(|m| matches!(m, hub_message::Message::Heartbeat(_)).then_some(())).await;
    let cluster = hub.get("/api/v1/clusters/staging").await;
    assert_eq!(cluster["connection"], "connected");
    assert_eq!(
        (&cluster["healthy"], &cluster["received"]),
        (&cluster["desired"]["digest"], &cluster["healthy"])
    );
    // Nor can a guess of what a state holds be tried on its digest.
    let raw = [published.state.digest(), published.state.all_present().next().unwrap().digest()];
    for path in ["", "/history", "/tree", "/manifests", "/units/root"] {
        let answer = hub.get(&format!("/api/v1/clusters/staging{path}")).await.to_string();
        assert!(raw.iter().all(|digest| !answer.contains(&digest.to_string())), "{path}: {answer}");
    }
    let units = hub.get("/api/v1/units?cluster=staging").await;
    assert_eq!(units["items"][0]["phase"], "Ready", "{units}");
    assert_eq!(units["items"][0]["kept"][0]["approval"], approval.to_string());
    let history = hub.get("/api/v1/clusters/staging/history").await;
    assert!(history["items"][0]["healthyAt"].is_i64(), "{history}");
    let manifests = hub.get("/api/v1/clusters/staging/manifests").await;
    assert!(manifests["units"][0]["policy"]["timeout"].is_number(), "{manifests}");
    let manifests = manifests.to_string();
    assert!(!manifests.contains("hunter2") && manifests.contains("digest "), "{manifests}");

    let body = json!({"approval": approval.to_string()});
    let approved = hub.post("/api/v1/clusters/staging/approve", body);
    let answered = async {
        let request = stream.request().await;
        assert!(matches!(request.kind, Some(v1::request::Kind::Approve(_))));
        let outcome = v1::answer::Outcome::Done.into();
        let done = v1::Answer { request: request.id, outcome, ..Default::default() };
        stream.send(agent_message::Message::Answer(done)).await;
    };
    let (answer, ()) = tokio::join!(approved, answered);
    assert_eq!(answer["message"], "approved; the agent has it");

    // What was approved while the agent was away reaches it with its next stream.
    drop(stream);
    let away = async {
        loop {
            let cluster = hub.get("/api/v1/clusters/staging").await;
            if cluster["connection"] == "disconnected" {
                return;
            }
        }
    };
    tokio::time::timeout(crate::support::LIMIT, away).await.expect("the hub notices");
    let answer =
        hub.post("/api/v1/clusters/staging/approve", json!({"approval": approval.to_string()})).await;
    assert!(answer["message"].as_str().unwrap().contains("later"), "{answer}");
    let mut stream = agent.sync().await.unwrap();
    assert!(matches!(stream.request().await.kind, Some(v1::request::Kind::Approve(_))));
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_agent_says_is_gone_is_forgotten_where_nothing_brings_it_back() {
    let hub = TestHub::start().await;
    let agent = hub.join("staging").await;
    let (cluster, records) = ("staging".parse().unwrap(), hub.hub().records.clone());
    let ids = ["a", "b", "c"].map(|name| UnitId::kustomization("x", name));
    let known =
        ids.clone().map(|id| KnownUnit { id, parent: None, removal: Removal::default(), render: None });
    records.set_known_units(&cluster, &known, Some(1)).unwrap();
    let first = hub.publish_without("staging", "1", &ids[..2]);
    let mut stream = agent.sync().await.unwrap();
    let manifest = stream.manifest().await;
    hub.publish_without("staging", "2", &ids[..1]);
    stream.send(ack(&manifest, v1::ack::Level::Received)).await;
    stream.manifest().await;
    let report = v1::Report {
        complete: true,
        root_digest: first.state.digest().to_vec().into(),
        gone: ids.iter().map(ToString::to_string).collect(),
        ..Default::default()
    };
    stream.send(agent_message::Message::Report(report)).await;
    stream.send(agent_message::Message::Heartbeat(v1::Heartbeat { now: 1 })).await;
    stream.until(|m| matches!(m, hub_message::Message::Heartbeat(_)).then_some(())).await;
    assert_eq!(records.known_units(&cluster).unwrap().unwrap(), known[1..], "the second state has b again");
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removal_that_waits_for_an_approval_alone_leaves_the_cluster_kept() {
    let hub = TestHub::start().await;
    let agent = hub.join("staging").await;
    let published = hub.publish_without("staging", "1", &[UnitId::kustomization("x", "a")]);
    let facts = ClusterFacts { assigned: true, ..Default::default() };
    let clusters = [("staging".parse().unwrap(), Arc::new(facts))].into();
    hub.hub().fleet.publish(FleetView { clusters, ..Default::default() });
    let mut stream = agent.sync().await.unwrap();
    let manifest = stream.manifest().await;
    stream.send(ack(&manifest, v1::ack::Level::Received)).await;
    let root = published.state.all_present().next().unwrap().digest().to_vec();
    let object =
        |name: &str| v1::ObjectId { kind: "ConfigMap".into(), name: name.into(), ..Default::default() };
    for (objects, kept, sync) in [(2, 1, "progressing"), (2, 2, "kept"), (0, 0, "progressing")] {
        let kept = (0..kept).map(|n| v1::Kept {
            object: Some(object(&n.to_string())),
            why: "most of the cluster".into(),
            approval: flotilla_core::Digest::of(b"approval").to_vec().into(),
        });
        let unit = |unit: &str, phase: &str| v1::UnitReport {
            unit: unit.into(),
            phase: phase.into(),
            ..Default::default()
        };
        let ready = v1::UnitReport {
            desired: root.clone().into(),
            healthy: root.clone().into(),
            ..unit("root", "Ready")
        };
        let removing =
            v1::UnitReport { objects, kept: kept.collect(), ..unit("kustomization/x/a", "Removing") };
        let report = v1::Report { complete: true, units: vec![ready, removing], ..Default::default() };
        stream.send(agent_message::Message::Report(report)).await;
        stream.send(agent_message::Message::Heartbeat(v1::Heartbeat { now: 1 })).await;
        stream.until(|m| matches!(m, hub_message::Message::Heartbeat(_)).then_some(())).await;
        let cluster = hub.get("/api/v1/clusters/staging").await;
        assert_eq!(cluster["sync"], sync, "{objects} objects: {cluster}");
    }
    hub.stop().await;
}
