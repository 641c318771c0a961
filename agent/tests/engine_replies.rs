//! What the agent answers about its cluster where the API server fails in each of its ways: what could not be read is
//! never absent.
#![allow(unreachable_pub, reason = "the parts of this one test")]

mod engine_common;
mod fake;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use engine_common::{Disk, Running, run};
use fake::{FakeApi, Faults, Key, Trouble};
use flotilla_agent::sync::Engine;
use flotilla_core::question::{MAX_DATA, Question, Reply, Subject};
use flotilla_core::reported::Nodes;
use flotilla_core::template::ValuesKind::{ConfigMap, Secret};
use flotilla_core::{DesiredState, Generation};
use serde_json::{Value, json};

fn object(kind: &str, name: &str, data: &Value) -> Value {
    json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": name, "namespace": "default"}, "data": data})
}

fn map(name: &str) -> Key {
    Key::new("configmaps", "default", name)
}

fn secret(name: &str) -> Key {
    Key::new("secrets", "default", name)
}

fn data(pairs: &[(&str, &str)]) -> Reply {
    Reply::Data(pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect())
}

/// An engine with nothing to apply, which has looked at its cluster.
async fn start(api: &FakeApi) -> Running {
    let running = run(api.client(), &Arc::<Disk>::default());
    let desired = DesiredState::new("x".parse().unwrap(), Generation(1), "commit", BTreeMap::new());
    running.0.set_desired(Arc::new(desired));
    running.0.looked().wait_for(|looked| *looked).await.unwrap();
    running
}

async fn stop((_, stop, task): Running) {
    stop.cancel();
    task.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_is_there_is_told_and_what_could_not_be_read_is_never_absent() {
    let api = FakeApi::new(|_, _| None);
    api.put("someone", &map("vars"), object("ConfigMap", "vars", &json!({"region": "eu"})));
    api.put(
        "someone",
        &map("empty"),
        json!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "empty", "namespace": "default"}}),
    );
    api.put("someone", &map("large"), object("ConfigMap", "large", &json!({"a": "x".repeat(MAX_DATA)})));
    api.put(
        "someone",
        &secret("access"),
        object("Secret", "access", &json!({"password": "aHVudGVyMg==", "user": "eA=="})),
    );
    let running = start(&api).await;
    let engine = &running.0;
    let ask = |kind, name: &str| Question::of(kind, "default", name, None);

    for (question, reply) in [
        (ask(ConfigMap, "vars"), data(&[("region", "eu")])),
        (ask(ConfigMap, "empty"), data(&[])),
        (ask(ConfigMap, "access"), Reply::Absent),
        (ask(Secret, "access"), Reply::Keys(["password".to_owned(), "user".to_owned()].into())),
        (ask(Secret, "vars"), Reply::Absent),
        (Question::of(Secret, "nowhere", "access", None), Reply::Absent),
        (Question::of(Secret, "..", "access", None), Reply::Absent),
        (
            ask(ConfigMap, "large"),
            Reply::Refused("has 524289 bytes, more than the 524288 that are told".into()),
        ),
    ] {
        let told = engine.reply(&question).await;
        assert_eq!(told, reply, "{question:?}");
        assert!(!format!("{told:?}").contains("aHVu"), "no value of a Secret");
    }

    for (trouble, why) in [
        (Trouble::Refused(403), "a fault on demand"),
        (Trouble::Refused(401), "a fault on demand"),
        (Trouble::Refused(404), "a fault on demand"),
        (Trouble::Refused(500), "a fault on demand"),
        (Trouble::Refused(503), "a fault on demand"),
        (Trouble::NoPage, "404"),
        (Trouble::Hangs, "did not answer within"),
        (Trouble::Cut, ""),
        (Trouble::Elsewhere, "a proxy in between"),
    ] {
        api.fail(Faults::reads(trouble));
        for question in [ask(ConfigMap, "vars"), ask(Secret, "access"), ask(Secret, "nothing")] {
            match (engine.reply(&question).await, trouble) {
                (Reply::Refused(said), Trouble::Refused(403)) | (Reply::Failed(said), _) => {
                    assert!(said.contains(why), "{trouble:?}: {said}");
                }
                (other, _) => panic!("{trouble:?} is told as {other:?}"),
            }
        }
    }
    api.fail(Faults::reads(Trouble::Slow));
    assert_eq!(engine.reply(&ask(ConfigMap, "vars")).await, data(&[("region", "eu")]), "slow is no failure");
    stop(running).await;
}

#[tokio::test(start_paused = true)]
async fn what_is_served_is_told_and_what_is_away_is_said_to_be() {
    let api = FakeApi::new(|_, _| None);
    let running = start(&api).await;
    let served = |reply: Reply| match reply {
        Reply::Apis(apis) => (apis.names().collect::<BTreeSet<String>>(), apis.stale),
        other => panic!("{other:?}"),
    };
    let (names, stale) = served(running.0.reply(&Question::apis()).await);
    for name in
        ["v1", "v1/Secret", "example.com/v1/Widget", "apiextensions.k8s.io/v1/CustomResourceDefinition"]
    {
        assert!(names.contains(name), "{names:?}");
    }
    assert!(stale.is_empty());
    api.widgets_are_away(true);
    let (_, stale) = served(running.0.reply(&Question::apis()).await);
    assert_eq!(stale, ["example.com".to_owned()].into());
    stop(running).await;
}

#[tokio::test(start_paused = true)]
async fn what_the_nodes_are_is_told_of_all_of_them_or_not_at_all() {
    let api = FakeApi::new(|_, _| None);
    let running = start(&api).await;
    let question = Question::nodes();
    let ask = || running.0.reply(&question);
    assert_eq!(ask().await, Reply::Nodes(Nodes::default()));
    // More than the API server gives at once.
    for (n, architecture) in ["amd64", "amd64", "amd64", "amd64", "arm64"].iter().enumerate() {
        let name = format!("node-{n}");
        let labels = json!({"topology.kubernetes.io/region": "eu-1"});
        let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels},
            "status": {"nodeInfo": {"architecture": architecture, "machineID": "x"}}});
        api.put("kubelet", &Key::new("nodes", "", &name), node);
    }
    let (architectures, regions) = (["amd64", "arm64"].map(str::to_owned).into(), ["eu-1".to_owned()].into());
    assert_eq!(ask().await, Reply::Nodes(Nodes { count: 5, architectures, regions }));
    for (trouble, is_refused) in [
        (Trouble::Refused(403), true),
        (Trouble::Refused(500), false),
        (Trouble::NoPage, false),
        (Trouble::Cut, false),
    ] {
        api.fail(Faults::reads(trouble));
        let reply = ask().await;
        assert!(
            matches!((&reply, is_refused), (Reply::Refused(_), true) | (Reply::Failed(_), false)),
            "{reply:?}"
        );
    }
    stop(running).await;
}

/// Waits for news of this object.
async fn news(engine: &Engine, question: &Question) {
    let Subject::Values(reference) = &question.subject else { unreachable!() };
    let mut ticks = engine.followed();
    ticks.mark_changed();
    let wait = async {
        loop {
            ticks.changed().await.unwrap();
            if engine.news().changed.contains(reference) {
                return;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(120), wait).await.expect("news");
}

#[tokio::test(start_paused = true)]
async fn what_is_asked_about_is_watched_until_nobody_asks_any_more() {
    let api = FakeApi::new(|_, _| None);
    let running = start(&api).await;
    let engine = &running.0;
    let question = Question::of(Secret, "default", "access", None);
    let Subject::Values(reference) = question.subject.clone() else { unreachable!() };
    engine.follow([reference].into());
    news(engine, &question).await;
    assert_eq!(engine.reply(&question).await, Reply::Absent);
    api.put("someone", &secret("access"), object("Secret", "access", &json!({"a": "MQ=="})));
    news(engine, &question).await;
    assert_eq!(engine.reply(&question).await, Reply::Keys(["a".to_owned()].into()));
    api.take_away(&secret("access"));
    news(engine, &question).await;
    assert_eq!(engine.reply(&question).await, Reply::Absent);

    engine.follow(BTreeSet::new());
    tokio::time::sleep(Duration::from_secs(1)).await;
    let _ = engine.news();
    api.put("someone", &secret("access"), object("Secret", "access", &json!({"a": "MQ=="})));
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert!(engine.news().changed.is_empty());
    stop(running).await;
}
