//! An agent whose clock is in 1970 or decades ahead, or jumps there: it applies, corrects and renews.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::ensure;
use flotilla_api::ConnectionState;
use flotilla_tests::clock::FalseClock;
use flotilla_tests::fleet::{Fleet, HubOptions, SOON};
use flotilla_tests::git::{Change, Repo, file};
use flotilla_tests::manifests::{app, config_map};
use flotilla_tests::wait::{always, eventually};
use flotilla_tests::{ClusterOptions, Clusters};
use serde_json::json;

use crate::{VALUE, WHILE, config};

fn files(value: &str) -> Vec<Change> {
    vec![app("one", "app", &[]), file("apps/app/app.yaml", config_map("app", value))]
}

async fn corrects(fleet: &Fleet, value: &str) {
    config("app").edit(&fleet.client("one"), json!({"data": {"value": "by hand"}})).await.unwrap();
    fleet.field_becomes("one", &config("app"), VALUE, value).await.unwrap();
}

/// A commit arrives, a change by hand goes, and the certificate is renewed.
async fn works(fleet: &Fleet, value: &str) {
    let ends = async || fleet.cluster("one").await.map(|it| it.certificate_expires.unwrap_or(0));
    let before = ends().await.unwrap();
    fleet.commit(value, &files(value)).await.unwrap();
    fleet.field_becomes("one", &config("app"), VALUE, value).await.unwrap();
    corrects(fleet, value).await;
    eventually(SOON, || async {
        let now = ends().await?;
        ensure!(now > before, "the certificate still ends at {now}");
        anyhow::Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_is_wrong_or_jumps_holds_up_nothing() {
    let repo = Repo::new().unwrap();
    repo.commit("begin", &files("0")).unwrap();
    let url = repo.url();
    let life = HubOptions { args: vec!["--agent-cert-ttl".into(), "8".into()], ..HubOptions::default() };
    let mut fleet = Fleet::new(repo, &url, &life).await.unwrap();
    let clusters = Clusters::new().await.unwrap();
    let cluster = clusters.start_one("one", &ClusterOptions::bare()).await.unwrap();
    fleet.join_through_proxy("one", cluster).await.unwrap();
    fleet.in_sync(&["one"]).await.unwrap();
    let clock = FalseClock::new(fleet.folder()).await.unwrap();
    let past = UNIX_EPOCH + Duration::from_secs(60);
    let future = SystemTime::now() + Duration::from_secs(40 * 365 * 86_400);

    // It starts in 1970, as a node without a battery does.
    let process = fleet.member("one").agent().process();
    process.kill();
    process.change(|recipe| clock.worn(recipe));
    clock.set(past).unwrap();
    process.start().unwrap();
    fleet.connected("one").await.unwrap();
    works(&fleet, "1").await;
    let log = fleet.member("one").agent().log().unwrap();
    assert!(log.contains("1970-01-01T"), "its clock is right: {log}");

    // It jumps far ahead, back to 1970 and to now, each time past a hub that comes back.
    for (time, value) in [(Some(future), "2"), (Some(past), "3"), (None, "4")] {
        match time {
            Some(time) => clock.set(time).unwrap(),
            None => clock.set_right().unwrap(),
        }
        works(&fleet, value).await;
        fleet.hub().process().kill();
        fleet.hub().restart().await.unwrap();
        fleet.connected("one").await.unwrap();
        works(&fleet, &format!("{value}, later")).await;
    }

    // A start far ahead: to it all certificates have ended. The cluster is kept right until the clock is.
    let process = fleet.member("one").agent().process();
    process.kill();
    clock.set(future).unwrap();
    process.start().unwrap();
    corrects(&fleet, "4, later").await;
    always(WHILE, || async {
        let found = fleet.cluster("one").await?.connection;
        ensure!(found != ConnectionState::Connected, "it trusts a certificate that ended");
        anyhow::Ok(())
    })
    .await
    .unwrap();
    clock.set_right().unwrap();
    fleet.connected("one").await.unwrap();
    works(&fleet, "5").await;
}
