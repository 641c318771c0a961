//! Events as people read them: by cursor, over a restart, of deleted clusters, within a scope, and as they happen.

use flotilla_core::UnitId;
use flotilla_core::report::Event;
use flotilla_proto::v1;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::TestHub;

/// Cluster and reason of each event.
fn reasons(page: &Value) -> Vec<(&str, &str)> {
    let events = page["items"].as_array().unwrap().iter();
    events.map(|event| (event["cluster"].as_str().unwrap(), event["reason"].as_str().unwrap())).collect()
}

async fn suspend(hub: &TestHub, verb: &str, unit: Option<&str>) {
    hub.post(&format!("/api/v1/clusters/staging/{verb}"), json!({"unit": unit})).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_goes_on_by_its_cursor_after_a_restart_and_of_a_deleted_cluster() {
    let hub = TestHub::start().await;
    hub.publish("staging", "x");
    hub.join_token("staging", false).await;
    let begin = hub.get("/api/v1/events").await["cursor"].as_str().unwrap().to_owned();
    suspend(&hub, "suspend", None).await;
    suspend(&hub, "resume", None).await;
    let page = hub.get("/api/v1/events?cluster=staging&limit=1").await;
    assert_eq!(reasons(&page), [("staging", "Resumed")]);
    let next = page["next"].as_str().unwrap();
    let older = hub.get(&format!("/api/v1/events?cluster=staging&continue={next}")).await;
    assert_eq!(reasons(&older), [("staging", "Suspended")]);

    let clock = hub.clock.clone();
    let folder = hub.stop().await.unwrap();
    let hub = TestHub::start_in(folder.path(), clock).await;
    hub.publish("staging", "x");
    let (_, answer) =
        hub.ask(Some(&hub.admin()), Method::DELETE, "/api/v1/clusters/staging", Value::Null).await;
    assert!(answer["message"].as_str().unwrap().contains("is deleted"), "{answer}");
    let page = hub.get(&format!("/api/v1/events?cursor={begin}")).await;
    assert_eq!(reasons(&page), [("staging", "Suspended"), ("staging", "Resumed"), ("staging", "Deleted")]);
    let end = page["cursor"].as_str().unwrap();
    assert_eq!(hub.get(&format!("/api/v1/events?cursor={end}")).await["items"], json!([]));
    for (path, status, error) in [
        ("events?cursor=0-1", StatusCode::GONE, "belongs to another journal"),
        ("events/watch?cursor=0-1", StatusCode::GONE, "belongs to another journal"),
        ("events?cursor=x", StatusCode::BAD_REQUEST, "`cursor` in the query: 'x' is not a cursor"),
        ("events?since=now", StatusCode::BAD_REQUEST, "`since` in the query: it is a time"),
        ("events?warnings=1", StatusCode::BAD_REQUEST, "`warnings` in the query: it is `true` or `false`"),
        ("events?clutser=a", StatusCode::BAD_REQUEST, "unknown field `clutser`"),
    ] {
        let (got, answer) =
            hub.ask(Some(&hub.admin()), Method::GET, &format!("/api/v1/{path}"), Value::Null).await;
        assert_eq!(got, status, "{path}: {answer}");
        assert!(answer["error"].as_str().unwrap().contains(error), "{path}: {answer}");
    }
    drop(folder);
}

#[tokio::test(flavor = "multi_thread")]
async fn events_come_as_they_happen_from_a_cursor_on_and_within_the_scope() {
    let hub = TestHub::start().await;
    hub.publish("staging", "x");
    let agent = hub.join("staging").await;
    let mut stream = agent.sync().await.unwrap();
    stream.welcome().await;
    let scope = json!({"name": "web", "role": "view", "scope": {"namespaces": ["web"]}});
    let narrow = hub.post("/api/v1/tokens", scope).await["secret"].as_str().unwrap().to_owned();
    let (status, mut all) = hub.events("/api/v1/events/watch", Some(&hub.admin())).await;
    assert_eq!((status, all.next().await), (StatusCode::OK, Some(json!({}))), "where it begins");
    let (_, mut of_web) = hub.events("/api/v1/events/watch", Some(&narrow)).await;
    of_web.next().await;
    let event = |namespace: &str| Event {
        at: 7,
        unit: UnitId::kustomization(namespace, "app"),
        object: None,
        warning: true,
        reason: "ApplyFailed".into(),
        message: format!("of {namespace}"),
    };
    let events = ["hidden", "web"].map(|namespace| v1::Event::from(&event(namespace))).to_vec();
    stream
        .send(v1::agent_message::Message::Report(v1::Report { complete: true, events, ..Default::default() }))
        .await;
    let first = all.next().await.unwrap();
    assert_eq!((first["message"].as_str(), first["cluster"].as_str()), (Some("of hidden"), Some("staging")));
    let second = all.next().await.unwrap();
    assert_eq!(second["message"], "of web");
    let told = of_web.next().await.unwrap();
    assert_eq!(told, second, "and nothing of another namespace before it");
    // Another reader goes on after the first event.
    let path = format!("/api/v1/events/watch?cursor={}", first["id"].as_str().unwrap());
    let (_, mut again) = hub.events(&path, Some(&hub.admin())).await;
    again.next().await;
    assert_eq!(again.next().await.unwrap(), second);
    let (_, page) = hub.ask(Some(&narrow), Method::GET, "/api/v1/events", Value::Null).await;
    assert_eq!(page["items"], json!([second]));
}
