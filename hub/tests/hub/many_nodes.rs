//! Nodes that join by one token and name themselves.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use flotilla_hub::view::{ClusterFacts, FleetView};
use flotilla_runtime::token::JoinToken;
use http::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tonic::Code;

use crate::support::{TestAgent, TestHub};

/// Git defines two clusters of the group `edge` and one outside of it.
fn publish(hub: &TestHub) {
    publish_these(hub, &[("edge-a", "edge"), ("edge-b", "edge"), ("edge-core", "core")]);
}

fn publish_these(hub: &TestHub, defined: &[(&str, &str)]) {
    let mut clusters = BTreeMap::new();
    for &(name, group) in defined {
        let facts =
            ClusterFacts { assigned: true, groups: [group.to_owned()].into(), ..ClusterFacts::default() };
        clusters.insert(name.parse().unwrap(), Arc::new(facts));
    }
    hub.hub().fleet.publish(FleetView { clusters, ..FleetView::default() });
}

async fn token(hub: &TestHub, count: u32) -> JoinToken {
    let many = json!({"count": count, "group": "edge", "names": "edge-{hostname}"});
    let made = hub.post("/api/v1/join-tokens", json!({"many": many})).await;
    assert_eq!(made["many"], many);
    made["token"].as_str().unwrap().parse().unwrap()
}

fn node(hub: &TestHub, token: &JoinToken, hostname: &str) -> TestAgent {
    let mut agent = TestAgent::new(token, hub.clock.clone());
    (agent.hostname, agent.uid) = (hostname.to_owned(), format!("uid-of-{hostname}"));
    agent
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_of_a_group_join_by_one_token_as_the_clusters_that_git_defines() {
    let hub = TestHub::start().await;
    let token = token(&hub, 2).await;
    let mut a = node(&hub, &token, "A");
    let status = a.enrol().await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "which clusters are in the group is not known: {status}");

    publish(&hub);
    a.enrol().await.unwrap();
    a.enrol().await.expect("the same key may ask again: its answer was lost");
    a.sync().await.unwrap().welcome().await;
    assert!(hub.hub().records.cluster(&"edge-a".parse().unwrap()).unwrap().is_some());
    for (hostname, says) in [
        ("core", "Git does not say that edge-core is one of them"),
        ("unheard-of", "Git does not say that edge-unheard-of is one of them"),
        ("", "does not say it"),
        ("a", "takes nobody's place"),
    ] {
        let status = node(&hub, &token, hostname).enrol().await.unwrap_err();
        assert_eq!(status.code(), Code::PermissionDenied, "{hostname}: {status}");
        assert!(status.message().contains(says), "{hostname}: {status}");
    }
    // One Kubernetes cluster joins under one name.
    let mut again = node(&hub, &token, "b");
    again.uid = a.uid.clone();
    let status = again.enrol().await.unwrap_err();
    assert!(status.message().contains("has joined as edge-a already"), "{status}");

    let listed = hub.get("/api/v1/join-tokens").await;
    assert_eq!((&listed["items"][0]["joined"], &listed["items"][0]["many"]["count"]), (&json!(1), &json!(2)));
    let shown = listed.to_string();
    assert!(!shown.contains(&token.secret.encode()), "{shown}");
    node(&hub, &token, "b").enrol().await.unwrap();
    let listed = hub.get("/api/v1/join-tokens").await;
    assert_eq!(listed["items"], json!([]), "used up");
    hub.stop().await;
}

/// As many as there are nodes for one token, and some more, all in the same moment.
#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_nodes_join_at_once_by_one_token_and_not_one_more() {
    const NODES: usize = 200;
    const MORE: usize = 10;
    let hub = TestHub::start().await;
    let names: Vec<String> = (0..NODES + MORE).map(|number| format!("edge-n{number}")).collect();
    publish_these(&hub, &names.iter().map(|name| (name.as_str(), "edge")).collect::<Vec<_>>());
    let token = token(&hub, NODES as u32).await;
    let mut joining = JoinSet::new();
    for name in &names {
        let mut agent = node(&hub, &token, name.trim_start_matches("edge-"));
        joining.spawn(async move { (agent.enrol().await, agent) });
    }
    let (mut joined, mut refused) = (Vec::new(), Vec::new());
    for (outcome, agent) in joining.join_all().await {
        match outcome {
            Ok(()) => joined.push(agent),
            Err(status) => refused.push(status),
        }
    }
    assert_eq!((joined.len(), refused.len()), (NODES, MORE), "{refused:?}");
    // The token is used up, so it is unknown.
    assert!(refused.iter().all(|status| status.code() == Code::PermissionDenied), "{refused:?}");
    let known = hub.hub().records.clusters().unwrap();
    assert_eq!(known.len(), NODES);
    let uids: BTreeSet<&str> = known.values().map(|record| record.uid.as_str()).collect();
    assert_eq!(uids.len(), NODES, "each has a name of its own");
    for agent in &mut joined {
        agent.sync().await.unwrap().welcome().await;
    }
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_token_lets_nobody_in_and_puts_nobody_out() {
    let hub = TestHub::start().await;
    publish(&hub);
    let token = token(&hub, 10_000).await;
    let mut a = node(&hub, &token, "a");
    a.enrol().await.unwrap();
    let id = hub.get("/api/v1/join-tokens").await["items"][0]["id"].as_str().unwrap().to_owned();
    let revoke = async || {
        hub.ask(Some(&hub.admin()), Method::DELETE, &format!("/api/v1/join-tokens/{id}"), Value::Null).await
    };
    assert_eq!(revoke().await.0, StatusCode::OK);
    assert_eq!(revoke().await.0, StatusCode::NOT_FOUND);
    let status = node(&hub, &token, "b").enrol().await.unwrap_err();
    assert!(status.message().contains("does not know this join token"), "{status}");
    a.sync().await.unwrap().welcome().await;
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_token_for_many_cannot_be_is_refused() {
    let hub = TestHub::start().await;
    let many = json!({"count": 2, "group": "edge", "names": "edge-{hostname}"});
    let with = |key: &str, value: Value| {
        let mut many = many.clone();
        many[key] = value;
        json!({"many": many})
    };
    for (body, says) in [
        (json!({"many": many, "cluster": "edge-a"}), "names no cluster"),
        (json!({"many": many, "replace": true}), "replaces no agent"),
        (json!({"many": many, "labels": {"env": "production"}}), "has no labels"),
        (
            json!({"cluster": "edge", "labels": {"reported.flotilla.dev/region": "eu"}}),
            "is a label that the cluster's agent reports",
        ),
        (with("count", json!(0)), "1 to 10000 nodes"),
        (with("count", json!(10_001)), "1 to 10000 nodes"),
        (with("group", json!("")), "not the name of a ClusterGroup"),
        (with("names", json!("edge")), "cannot name nodes"),
        (json!({"many": {"count": 2, "group": "edge"}}), "names"),
    ] {
        let (status, answer) =
            hub.ask(Some(&hub.admin()), Method::POST, "/api/v1/join-tokens", body.clone()).await;
        assert!(status.is_client_error(), "{body}: {status} {answer}");
        assert!(answer["error"].as_str().unwrap().contains(says), "{body}: {answer}");
    }
    hub.stop().await;
}
