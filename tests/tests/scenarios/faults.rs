//! An API server that fails, is away, or is deleting a namespace: tried again, reported, nothing else is held up.

use anyhow::ensure;
use flotilla_api::ConnectionState;
use flotilla_tests::ClusterOptions;
use flotilla_tests::fleet::{Fleet, SOON};
use flotilla_tests::git::{Change, file};
use flotilla_tests::manifests::{app, config_map, config_map_in, namespace, unit_id};
use flotilla_tests::objects::{ObjectRef, apply};
use flotilla_tests::proxy::Fault;
use flotilla_tests::wait::eventually;
use http::{Method, StatusCode};
use serde_json::json;

use crate::{VALUE, config};

fn values(value: &str) -> Vec<Change> {
    let set = |unit: &str, name: &str| file(&format!("apps/{unit}/{name}.yaml"), config_map(name, value));
    vec![set("faulty", "faulty"), set("faulty", "beside"), set("fine", "fine")]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refused_requests_are_tried_again_and_hold_up_nothing_else() {
    let mut files = vec![app("one", "faulty", &[]), app("one", "fine", &[])];
    files.extend(values("0"));
    let mut fleet = Fleet::start(["one"], &files).await.unwrap();
    fleet.in_sync(&["one"]).await.unwrap();
    for status in [409, 422, 429, 500] {
        let value = status.to_string();
        let fault = Fault {
            method: Some(Method::PATCH),
            path: "/configmaps/faulty".into(),
            status: StatusCode::from_u16(status).unwrap(),
            times: None,
        };
        fleet.member("one").proxy().fail(fault);
        fleet.commit(&value, &values(&value)).await.unwrap();
        // The unit beside it, and the object beside it.
        fleet.field_becomes("one", &config("fine"), VALUE, &*value).await.unwrap();
        fleet.field_becomes("one", &config("beside"), VALUE, &*value).await.unwrap();
        let says = |text: &str| text.contains("a fault on demand");
        fleet
            .unit_becomes("one", &unit_id("faulty"), |unit| {
                let told = says(&unit.message) || unit.findings.iter().any(|it| says(&it.message));
                let named = unit.findings.iter().any(|it| it.object.name == "faulty");
                if told && named && unit.phase != "Ready" {
                    Ok(())
                } else {
                    Err(format!("{status} is not told"))
                }
            })
            .await
            .unwrap();
        fleet.phase_becomes("one", &unit_id("fine"), "Ready").await.unwrap();
        let before = config("faulty").field(&fleet.client("one"), VALUE).await.unwrap();
        assert_ne!(before, json!(value));
        fleet.member("one").proxy().heal();
        fleet.field_becomes("one", &config("faulty"), VALUE, &*value).await.unwrap();
        fleet.in_sync(&["one"]).await.unwrap();
        fleet.units_ready("one").await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_server_that_was_away_gets_what_it_missed() {
    let mut files = vec![app("one", "faulty", &[]), app("one", "fine", &[])];
    files.extend(values("0"));
    let mut fleet = Fleet::start(["one"], &files).await.unwrap();
    fleet.in_sync(&["one"]).await.unwrap();
    let uid = fleet.appears("one", &config("fine")).await.unwrap();

    fleet.member("one").cluster().stop_apiserver().unwrap();
    fleet.commit("Meanwhile", &values("1")).await.unwrap();
    eventually(SOON, || async {
        let cluster = fleet.cluster("one").await?;
        let units = fleet.units("one").await?;
        let told = !cluster.agent_problems.is_empty() || units.values().any(|unit| unit.phase == "Failed");
        ensure!(told, "nobody says that the API server is away: {cluster:?}");
        anyhow::Ok(())
    })
    .await
    .unwrap();
    fleet.member("one").cluster().start_apiserver().await.unwrap();
    for name in ["fine", "faulty", "beside"] {
        fleet.field_becomes("one", &config(name), VALUE, "1").await.unwrap();
    }
    fleet.in_sync(&["one"]).await.unwrap();
    assert!(fleet.cluster("one").await.unwrap().agent_problems.is_empty());
    assert_eq!(fleet.uid("one", &config("fine")).await.unwrap(), Some(uid));

    // An agent that starts while it is away says so at once, and waits for it with what it has on disk.
    fleet.member("one").cluster().stop_apiserver().unwrap();
    fleet.member("one").agent().restart().unwrap();
    let away = async |says: bool| {
        eventually(SOON, || async {
            let cluster = fleet.cluster("one").await?;
            let told = cluster.agent_problems.iter().any(|it| it.contains("the cluster cannot be reached"));
            ensure!(told == says, "{cluster:?}");
            anyhow::Ok(cluster)
        })
        .await
        .unwrap()
    };
    assert_eq!(away(true).await.connection, ConnectionState::Connected);
    fleet
        .unit_becomes("one", &unit_id("fine"), |unit| {
            let told = unit.phase == "Pending" && unit.message.contains("cannot be reached");
            if told { Ok(()) } else { Err("it does not say what it waits for".into()) }
        })
        .await
        .unwrap();
    fleet.hub().process().kill();
    fleet.member("one").cluster().start_apiserver().await.unwrap();
    config("fine").delete(&fleet.client("one")).await.unwrap();
    fleet.appears("one", &config("fine")).await.unwrap();
    fleet.hub().restart().await.unwrap();
    fleet.in_sync(&["one"]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_namespace_that_is_being_deleted_comes_back_with_its_objects() {
    let files = |value: &str| {
        vec![
            app("one", "shop", &[]),
            file("apps/shop/namespace.yaml", namespace("shop")),
            file("apps/shop/config.yaml", config_map_in("shop", "inside", value)),
            app("one", "fine", &[]),
            file("apps/fine/config.yaml", config_map("fine", value)),
        ]
    };
    let fleet = Fleet::start_with(["one"], &files("1"), &ClusterOptions::default()).await.unwrap();
    fleet.in_sync(&["one"]).await.unwrap();
    let client = fleet.client("one");
    // Something that is slow to go keeps the namespace terminating.
    let slow = json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "slow", "namespace": "shop", "finalizers": ["test.flotilla.dev/slow"]},
    });
    apply(&client, "tester", &slow).await.unwrap();
    let shop = ObjectRef::global("v1", "Namespace", "shop");
    let inside = ObjectRef::new("v1", "ConfigMap", "shop", "inside");
    let uid = fleet.appears("one", &shop).await.unwrap();
    shop.delete(&client).await.unwrap();
    fleet.vanishes("one", &inside).await.unwrap();

    fleet.commit("Meanwhile", &files("2")).await.unwrap();
    fleet.field_becomes("one", &config("fine"), VALUE, "2").await.unwrap();
    fleet.phase_becomes("one", &unit_id("fine"), "Ready").await.unwrap();
    fleet
        .unit_becomes("one", &unit_id("shop"), |unit| {
            let text = format!("{} {:?}", unit.message, unit.findings);
            if unit.phase != "Ready" && text.contains("terminat") {
                Ok(())
            } else {
                Err("it does not say why".into())
            }
        })
        .await
        .unwrap();

    ObjectRef::new("v1", "ConfigMap", "shop", "slow")
        .edit(&client, json!({"metadata": {"finalizers": null}}))
        .await
        .unwrap();
    fleet.appears_anew("one", &shop, &uid).await.unwrap();
    fleet.field_becomes("one", &inside, VALUE, "2").await.unwrap();
    fleet.in_sync(&["one"]).await.unwrap();
    fleet.units_ready("one").await.unwrap();
}
