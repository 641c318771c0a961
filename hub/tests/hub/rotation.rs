//! A new CA, without an agent that has to join again.

use flotilla_proto::v1::{hub_message, request};
use flotilla_runtime::tls::TrustBundle;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::TestHub;

#[tokio::test(flavor = "multi_thread")]
async fn a_new_ca_takes_over_once_every_agent_has_its_certificate() {
    let hub = TestHub::start().await;
    let (mut here, mut away) = (hub.join("here").await, hub.join("away").await);
    let mut stream = here.sync().await.unwrap();
    let bundle = |message| match message {
        hub_message::Message::Trust(trust) => {
            Some(TrustBundle::from_pem(&trust.bundle).unwrap().hashes().len())
        }
        _ => None,
    };
    assert_eq!(stream.until(bundle).await, 1);

    let status = hub.post("/api/v1/ca/rotate", Value::Null).await;
    assert_eq!((status["cas"].as_array().unwrap().len(), &status["behind"]), (2, &json!(["away", "here"])));
    let again = hub.post("/api/v1/ca/rotate", Value::Null).await;
    assert_eq!(again["cas"], status["cas"], "one rotation at a time");
    assert_eq!(stream.until(bundle).await, 2);
    assert!(matches!(stream.request().await.kind, Some(request::Kind::RenewNow(_))));
    here.renew().await.unwrap();
    let (code, answer) = hub.ask(Some(&hub.admin()), Method::POST, "/api/v1/ca/finish", json!({})).await;
    assert_eq!(code, StatusCode::CONFLICT);
    assert!(answer["error"].as_str().unwrap().ends_with("away"), "{answer}");

    // An agent that knows only the old CA still finds the hub, and learns of the new one.
    assert_eq!(away.sync().await.unwrap().until(bundle).await, 2);
    let old = hub.join_token("late", false).await;
    assert_eq!(old.cas.len(), 2, "tokens of the overlap pin both");
    away.renew().await.unwrap();
    hub.post("/api/v1/ca/finish", json!({})).await;
    away.sync().await.unwrap().welcome().await;
    here.sync().await.unwrap().welcome().await;
    assert_eq!(hub.get("/api/v1/ca").await["cas"].as_array().unwrap().len(), 1);
    hub.stop().await;
}
