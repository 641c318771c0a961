//! An idle fleet writes nothing to its API servers.

use std::time::Instant;

use flotilla_tests::fleet::{Fleet, SOON};
use flotilla_tests::git::file;
use flotilla_tests::manifests::{app, config_map};
use flotilla_tests::proxy::Seen;
use flotilla_tests::wait::{always, eventually};

use crate::{VALUE, WHILE, config};

fn writes(seen: Vec<Seen>) -> Vec<Seen> {
    seen.into_iter().filter(Seen::is_write).collect()
}

async fn writes_nothing(fleet: &mut Fleet, when: &str) {
    let mut seen = Vec::new();
    always(WHILE, || {
        seen.extend(fleet.member("one").proxy().take_seen());
        async { anyhow::Ok(()) }
    })
    .await
    .unwrap();
    assert_eq!(writes(seen), [], "{when}");
}

async fn writes_end(fleet: &mut Fleet) {
    let mut quiet_since = Instant::now();
    eventually(SOON, || {
        if !writes(fleet.member("one").proxy().take_seen()).is_empty() {
            quiet_since = Instant::now();
        }
        let quiet = quiet_since.elapsed();
        async move { if quiet > WHILE { Ok(()) } else { Err(format!("quiet for {quiet:?} only")) } }
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_resync_and_a_restart_in_sync_write_nothing() {
    let mut files = vec![app("one", "many", &["wait: true"])];
    for number in 0..40 {
        let name = format!("config-{number}");
        files.push(file(&format!("apps/many/{name}.yaml"), config_map(&name, "1")));
    }
    let mut fleet = Fleet::start(["one"], &files).await.unwrap();
    fleet.in_sync(&["one"]).await.unwrap();
    fleet.units_ready("one").await.unwrap();
    let seen = fleet.member("one").proxy().take_seen();
    assert!(writes(seen).len() >= 40, "what was applied went through the proxy");
    // The last uids may be noted after the last object is known to be healthy.
    writes_end(&mut fleet).await;
    writes_nothing(&mut fleet, "in sync, after the first apply").await;

    fleet.cli(&["reconcile", "one"]).await.unwrap();
    writes_nothing(&mut fleet, "told to reconcile").await;

    // A commit that changes nothing of what the cluster runs.
    fleet.commit("Words", &[file("README.md", "Words.\n")]).await.unwrap();
    writes_nothing(&mut fleet, "after a commit of words").await;

    fleet.member("one").agent().restart().unwrap();
    fleet.in_sync(&["one"]).await.unwrap();
    fleet.units_ready("one").await.unwrap();
    writes_nothing(&mut fleet, "the agent restarted").await;

    fleet.hub().process().kill();
    fleet.hub().restart().await.unwrap();
    fleet.in_sync(&["one"]).await.unwrap();
    writes_nothing(&mut fleet, "the hub restarted").await;

    // It does look, though.
    fleet.commit("One", &[file("apps/many/config-7.yaml", config_map("config-7", "2"))]).await.unwrap();
    fleet.field_becomes("one", &config("config-7"), VALUE, "2").await.unwrap();
    fleet.in_sync(&["one"]).await.unwrap();
    let seen = writes(fleet.member("one").proxy().take_seen());
    let objects = seen.iter().filter(|it| it.path.contains("/namespaces/default/configmaps/")).count();
    assert_eq!(objects, 1, "one line, one write: {seen:?}");
}
