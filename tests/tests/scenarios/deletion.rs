//! A cluster that is deleted at the hub: its agent ends its work, its objects stay, and people are told which.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::ensure;
use axum::http::{Method, StatusCode};
use flotilla_api::ConnectionState;
use flotilla_tests::fleet::{Fleet, HubOptions, SOON};
use flotilla_tests::git::{Change, Repo, file, remove};
use flotilla_tests::manifests::{app, config_map, unit_id};
use flotilla_tests::objects::ObjectRef;
use flotilla_tests::process::Recipe;
use flotilla_tests::proxy::Fault;
use flotilla_tests::wait::{always, eventually};
use flotilla_tests::{ClusterOptions, Clusters};
use serde_json::json;

use crate::{VALUE, WHILE, config};

/// Where the agent's inventory is read.
const INVENTORY: &str = "/api/v1/namespaces/flotilla-system/configmaps";

fn files() -> Vec<Change> {
    vec![app("one", "app", &[]), app("two", "app", &[]), file("apps/app/app.yaml", config_map("app", "1"))]
}

/// The agent has said in its log that its work is over, so many times.
async fn ends(fleet: &mut Fleet, times: usize) {
    let agent = fleet.member("one").agent();
    eventually(SOON, || async {
        let log = agent.log()?;
        let found = log.matches("was deleted at the hub").count();
        ensure!(found >= times, "{found} times, not {times}: {log}");
        anyhow::Ok(())
    })
    .await
    .unwrap();
}

/// Nothing puts back what somebody changes, and no agent is connected.
async fn is_left_alone(fleet: &Fleet, value: &str) {
    let client = fleet.client("one");
    config("app").edit(&client, json!({"data": {"value": value}})).await.unwrap();
    always(WHILE, || async {
        let found = config("app").field(&client, VALUE).await?;
        ensure!(found == value, "it is {found} again");
        let connection = fleet.cluster("one").await?.connection;
        ensure!(connection == ConnectionState::NotEnrolled, "{connection:?}");
        anyhow::Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_agent_of_a_deleted_cluster_ends_its_work_until_it_has_another_token() {
    let mut fleet = Fleet::start(["one"], &files()).await.unwrap();
    fleet.in_sync(&["one"]).await.unwrap();
    let deleted = fleet.cli_output(&["cluster", "delete", "one", "-o", "wide"]).await.unwrap();
    let (stdout, stderr) =
        (String::from_utf8_lossy(&deleted.stdout), String::from_utf8_lossy(&deleted.stderr));
    assert!(deleted.status.success(), "{stderr}");
    let listed = format!("  {}: 1 object\n    ConfigMap default/app\n", unit_id("app"));
    assert!(stdout.starts_with("what stays in cluster one:\n") && stdout.contains(&listed), "{stdout}");
    assert!(stderr.contains("its agent ends its work now; Git still defines it"), "{stderr}");
    ends(&mut fleet, 1).await;
    is_left_alone(&fleet, "by hand").await;

    // Its old certificate does not bring it back, a restart neither; Git goes on without it.
    fleet.member("one").agent().restart().unwrap();
    ends(&mut fleet, 2).await;
    fleet.commit("2", &[file("apps/app/app.yaml", config_map("app", "2"))]).await.unwrap();
    is_left_alone(&fleet, "by hand again").await;

    // Without a cluster in Git nothing of it is left in the list.
    let token = fleet.join_token("one", &[]).await.unwrap();
    fleet.member("one").agent().rejoin(&token).unwrap();
    fleet.field_becomes("one", &config("app"), VALUE, "2").await.unwrap();
    fleet.in_sync(&["one"]).await.unwrap();
    fleet.commit("No cluster", &[remove("clusters/one/app.yaml")]).await.unwrap();
    fleet.cli(&["cluster", "delete", "one"]).await.unwrap();
    eventually(SOON, || async {
        let clusters = fleet.clusters().await?;
        ensure!(!clusters.contains_key("one"), "{clusters:?}");
        anyhow::Ok(())
    })
    .await
    .unwrap();
    assert!(fleet.uid("one", &config("app")).await.unwrap().is_some(), "what runs stays");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_was_away_hears_of_the_deletion_when_it_is_back_even_after_its_certificate_ended() {
    let repo = Repo::new().unwrap();
    repo.commit("begin", &files()).unwrap();
    let life = HubOptions { args: vec!["--agent-cert-ttl".into(), "10".into()], ..HubOptions::default() };
    let url = repo.url();
    let mut fleet = Fleet::new(repo, &url, &life).await.unwrap();
    let clusters = Clusters::new().await.unwrap();
    let cluster = clusters.start_one("one", &ClusterOptions::bare()).await.unwrap();
    fleet.join_through_proxy("one", cluster).await.unwrap();
    fleet.in_sync(&["one"]).await.unwrap();

    for (times, ended) in [(1, false), (2, true)] {
        fleet.member("one").agent().process().kill();
        let end = fleet.cluster("one").await.unwrap().certificate_expires.unwrap();
        fleet.connection_becomes("one", ConnectionState::Disconnected).await.unwrap();
        let deleted = fleet.cli_output(&["cluster", "delete", "one"]).await.unwrap();
        let stderr = String::from_utf8_lossy(&deleted.stderr);
        assert!(deleted.status.success() && stderr.contains("its agent is not connected"), "{stderr}");
        eventually(SOON, || async {
            let over = SystemTime::now() > UNIX_EPOCH + Duration::from_secs(end.unsigned_abs() + 2);
            ensure!(over || !ended, "the certificate has not ended");
            anyhow::Ok(())
        })
        .await
        .unwrap();
        fleet.member("one").agent().process().start().unwrap();
        ends(&mut fleet, times).await;
        is_left_alone(&fleet, "by hand").await;
        let token = fleet.join_token("one", &[]).await.unwrap();
        fleet.member("one").agent().rejoin(&token).unwrap();
        fleet.field_becomes("one", &config("app"), VALUE, "1").await.unwrap();
        fleet.in_sync(&["one"]).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_prunes_a_cluster_is_told_what_stays_and_what_waits_for_an_approval() {
    let claim = json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim",
        "metadata": {"name": "data", "namespace": "default"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}},
    });
    let opted_out = json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {
            "name": "stays", "namespace": "default",
            "annotations": {"kustomize.toolkit.fluxcd.io/prune": "disabled"},
        },
    });
    let mut files = files();
    files.push(file("apps/app/claim.yaml", claim.to_string()));
    files.push(file("apps/app/stays.yaml", opted_out.to_string()));
    let fleet = Fleet::start(["one"], &files).await.unwrap();
    fleet.in_sync(&["one"]).await.unwrap();

    let prune = ["cluster", "delete", "one", "--prune", "--confirm", "one"];
    let waits = fleet.cli_output(&prune).await.unwrap();
    let stderr = String::from_utf8_lossy(&waits.stderr);
    assert!(!waits.status.success(), "{stderr}");
    let says = "PersistentVolumeClaim default/data (its data would be lost; approval ";
    let (_, approval) = stderr.split_once(says).unwrap_or_else(|| panic!("{stderr}"));
    let (approval, _) = approval.split_once(')').unwrap();
    assert!(stderr.contains("`flotilla approve one APPROVAL`"), "{stderr}");
    // The claim is there still, and the agent is no ghost: the person decides.
    let claim = ObjectRef::new("v1", "PersistentVolumeClaim", "default", "data");
    assert!(fleet.uid("one", &claim).await.unwrap().is_some());
    // No controller of volumes runs here.
    claim.edit(&fleet.client("one"), json!({"metadata": {"finalizers": null}})).await.unwrap();
    fleet.cli(&["approve", "one", approval]).await.unwrap();
    let done = fleet.cli_output(&prune).await.unwrap();
    let stderr = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{stderr}");
    assert!(fleet.uid("one", &config("app")).await.unwrap().is_none());
    assert!(fleet.uid("one", &config("stays")).await.unwrap().is_some());
}

/// Only an agent that knows what there is can say that all is gone: until then the cluster stays at the hub.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_is_not_pruned_and_deleted_while_nobody_knows_what_it_has() {
    let repo = Repo::new().unwrap();
    repo.commit("begin", &files()).unwrap();
    let url = repo.url();
    let mut fleet = Fleet::new(repo, &url, &HubOptions::default()).await.unwrap();
    let clusters = Clusters::new().await.unwrap();
    let cluster = clusters.start_one("one", &ClusterOptions::bare()).await.unwrap();
    fleet.join_through_proxy("one", cluster).await.unwrap();
    fleet.in_sync(&["one"]).await.unwrap();
    let prune = ["cluster", "delete", "one", "--prune", "--confirm", "one"];

    // The agent is away: nothing is deleted at either end, nor when it is back.
    fleet.member("one").agent().process().kill();
    fleet.connection_becomes("one", ConnectionState::Disconnected).await.unwrap();
    let refused = fleet.cli_output(&prune).await.unwrap();
    let stderr = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && stderr.contains("its agent is Disconnected"), "{stderr}");
    assert!(fleet.cluster("one").await.unwrap().enrolled_at.is_some());

    // It is back, and cannot read its inventory.
    let unread = Fault {
        method: Some(Method::GET),
        path: INVENTORY.to_owned(),
        status: StatusCode::FORBIDDEN,
        times: None,
    };
    fleet.member("one").proxy().fail(unread);
    fleet.member("one").agent().process().start().unwrap();
    fleet.connected("one").await.unwrap();
    let cli = Recipe::own("flotilla").unwrap().arg("--data").arg(fleet.data()).args(prune);
    let asked = cli.output(Duration::from_secs(6)).await;
    assert!(asked.is_err(), "it waits until it is known what there is: {asked:?}");
    assert!(fleet.cluster("one").await.unwrap().enrolled_at.is_some());
    assert!(fleet.uid("one", &config("app")).await.unwrap().is_some());

    // It was asked for, so it goes once that is known.
    fleet.member("one").proxy().heal();
    fleet.vanishes("one", &config("app")).await.unwrap();
    fleet.cli(&prune).await.unwrap();
    ends(&mut fleet, 1).await;

    // The cluster comes back as a new one: with what Git has by then, and nothing of what was.
    fleet.commit("2", &[file("apps/app/app.yaml", config_map("app", "2"))]).await.unwrap();
    let token = fleet.join_token("one", &[]).await.unwrap();
    fleet.member("one").agent().rejoin(&token).unwrap();
    fleet.field_becomes("one", &config("app"), VALUE, "2").await.unwrap();
    fleet.in_sync(&["one"]).await.unwrap();
}
