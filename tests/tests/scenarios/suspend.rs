//! Suspension, by hand and by Git: nothing is touched, nothing is forgotten.

use anyhow::ensure;
use flotilla_api::{ConnectionState, SyncState, Unit};
use flotilla_tests::fleet::Fleet;
use flotilla_tests::git::{BRANCH, file};
use flotilla_tests::manifests::{app, config_map, unit_id};
use flotilla_tests::wait::always;
use serde_json::json;

use crate::{VALUE, WHILE, config};

async fn stays(fleet: &Fleet, name: &str, value: &str) {
    always(WHILE, || async {
        let found = config(name).field(&fleet.client("one"), VALUE).await?;
        ensure!(found == value, "{name} holds {found}, not {value}");
        anyhow::Ok(())
    })
    .await
    .unwrap();
}

/// Commits a value for all three units.
async fn commit(fleet: &Fleet, value: &str) {
    let file = |name: &str| file(&format!("apps/{name}/config.yaml"), config_map(name, value));
    fleet.commit(value, &["hand", "git", "goes-on"].map(file)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_suspended_is_left_alone_until_it_is_resumed() {
    let names = ["hand", "git", "goes-on"];
    let mut files = names.map(|name| app("one", name, &[])).to_vec();
    files.extend(names.map(|name| file(&format!("apps/{name}/config.yaml"), config_map(name, "1"))));
    let mut fleet = Fleet::start(["one"], &files).await.unwrap();
    fleet.in_sync(&["one"]).await.unwrap();

    let (hand, git) = (unit_id("hand"), unit_id("git"));
    fleet.cli(&["suspend", "one", &hand, "--reason", "a test"]).await.unwrap();
    fleet.repo().commit("Suspend", &[app("one", "git", &["suspend: true"])]).unwrap();
    fleet.reconcile().await.unwrap();
    fleet.phase_becomes("one", &hand, "Suspended").await.unwrap();
    fleet.phase_becomes("one", &git, "Suspended").await.unwrap();
    let suspended = fleet.units("one").await.unwrap()[&hand].suspended.clone().unwrap();
    assert_eq!(suspended.reason, "a test");
    // It is where people look, in words, with who and why.
    let says = format!("one {hand} is suspended: by admin: a test");
    let status = fleet.cli(&["status"]).await.unwrap();
    assert!(status.contains(&says) && status.contains("2 Suspended"), "{status}");
    assert_eq!(fleet.cluster("one").await.unwrap().sync, SyncState::Suspended);
    let checked = fleet.cli(&["check"]).await.unwrap();
    assert!(checked.contains(&says) && checked.contains("by spec.suspend in Git"), "{checked}");
    let events = fleet.cli(&["get", "events", "--cluster", "one"]).await.unwrap();
    assert!(events.contains("suspended by admin: a test"), "{events}");
    let metrics = fleet.cli(&["metrics", "flotilla_attention"]).await.unwrap();
    assert!(metrics.contains("{reason=\"Suspended\",problem=\"false\"} 2\n"), "{metrics}");
    let still = fleet.cli_output(&["resume", "one", &git]).await.unwrap();
    assert!(String::from_utf8_lossy(&still.stderr).contains("stays suspended"), "{still:?}");
    let before = fleet.repo().head(BRANCH).unwrap().unwrap();

    // Neither commits nor drift are acted on; the unit beside them goes on.
    commit(&fleet, "2").await;
    fleet.field_becomes("one", &config("goes-on"), VALUE, "2").await.unwrap();
    stays(&fleet, "hand", "1").await;
    stays(&fleet, "git", "1").await;
    // What is shown as its commit is what runs.
    let head = fleet.repo().head(BRANCH).unwrap().unwrap();
    let goes_on = |unit: &Unit| match unit.commit == head {
        true => Ok(()),
        false => Err(format!("{} runs {:?}, not {head}", unit.unit, unit.commit)),
    };
    fleet.unit_becomes("one", &unit_id("goes-on"), goes_on).await.unwrap();
    for unit in [&hand, &git] {
        let shown = fleet.units("one").await.unwrap()[unit].clone();
        assert!(shown.commit != head && !shown.revision.contains(&head), "{shown:?}");
    }
    assert!(before != head);
    config("hand").edit(&fleet.client("one"), json!({"data": {"value": "by hand"}})).await.unwrap();
    stays(&fleet, "hand", "by hand").await;

    // Acknowledged is kept: the hub comes back with it, the agent too.
    fleet.hub().process().kill();
    fleet.member("one").agent().restart().unwrap();
    fleet.hub().restart().await.unwrap();
    commit(&fleet, "3").await;
    fleet.field_becomes("one", &config("goes-on"), VALUE, "3").await.unwrap();
    stays(&fleet, "hand", "by hand").await;
    fleet.phase_becomes("one", &hand, "Suspended").await.unwrap();

    fleet.cli(&["resume", "one", &hand]).await.unwrap();
    fleet.field_becomes("one", &config("hand"), VALUE, "3").await.unwrap();
    stays(&fleet, "git", "1").await;
    fleet.commit("Resume", &[app("one", "git", &[])]).await.unwrap();
    fleet.field_becomes("one", &config("git"), VALUE, "3").await.unwrap();
    fleet.in_sync(&["one"]).await.unwrap();

    // The whole cluster at once.
    fleet.cli(&["suspend", "one", "--reason", "all of it"]).await.unwrap();
    fleet.phase_becomes("one", &unit_id("goes-on"), "Suspended").await.unwrap();
    commit(&fleet, "4").await;
    stays(&fleet, "goes-on", "3").await;
    fleet.cli(&["resume", "one"]).await.unwrap();
    for name in names {
        fleet.field_becomes("one", &config(name), VALUE, "4").await.unwrap();
    }
    fleet.in_sync(&["one"]).await.unwrap();

    // An agent that is away speaks for nothing any more, and that is a problem.
    fleet.member("one").agent().process().kill();
    fleet.connection_becomes("one", ConnectionState::Disconnected).await.unwrap();
    assert_eq!(fleet.cluster("one").await.unwrap().sync, SyncState::Stale);
    let away = fleet.units("one").await.unwrap()[&hand].clone();
    assert_eq!((away.phase.as_str(), away.live), ("Unknown", false), "{away:?}");
    let table = fleet.cli(&["get", "ks"]).await.unwrap();
    assert!(!table.contains(" True "), "{table}");
    let checked = fleet.cli_output(&["check"]).await.unwrap();
    let said = String::from_utf8_lossy(&checked.stdout);
    assert!(checked.status.code() == Some(1) && said.contains("one is disconnected"), "{said}");
}
