//! The repository away, empty, without its branch, with another history: known states stay, known changes arrive.

use anyhow::ensure;
use flotilla_tests::ClusterOptions;
use flotilla_tests::Clusters;
use flotilla_tests::fleet::{Fleet, HubOptions, SOON};
use flotilla_tests::git::{BRANCH, Change, Repo, file};
use flotilla_tests::git_http::GitServer;
use flotilla_tests::manifests::{app, config_map};
use flotilla_tests::wait::eventually;
use http::{Method, StatusCode};

use crate::{VALUE, config};

fn files(value: &str) -> [Change; 2] {
    [app("one", "app", &[]), file("apps/app/config.yaml", config_map("app", value))]
}

/// The hub says why it cannot read the repository, the CLI fails with that, and what runs is kept right.
async fn away(fleet: &mut Fleet, what: &str, says: &str) {
    let reconciled = fleet.cli_output(&["reconcile"]).await.unwrap();
    assert!(!reconciled.status.success(), "{what}: reconcile says that all is well");
    eventually(SOON, || async {
        let sources = fleet.status().await?.sources;
        let source = sources.first().ok_or_else(|| anyhow::anyhow!("no source is shown"))?;
        ensure!(!source.ready && source.message.contains(says), "{what}: {source:?}");
        anyhow::Ok(())
    })
    .await
    .unwrap();
    kept(fleet, what).await;
}

async fn kept(fleet: &mut Fleet, what: &str) {
    let app = config("app");
    let uid = fleet.uid("one", &app).await.unwrap().unwrap_or_else(|| panic!("{what}: {app} is gone"));
    app.delete(&fleet.client("one")).await.unwrap();
    fleet.appears_anew("one", &app, &uid).await.unwrap();
    let seen = fleet.member("one").proxy().take_seen();
    assert!(seen.iter().all(|it| it.method != Method::DELETE), "{what}: {seen:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repository_that_is_away_or_rewritten_loses_nothing() {
    let repo = Repo::new().unwrap();
    let first = repo.commit("begin", &files("1")).unwrap();
    let mut server = GitServer::start(&repo, None).await.unwrap();
    let options = HubOptions::default();
    let mut fleet = Fleet::new(repo, &server.url(), &options).await.unwrap();
    let clusters = Clusters::new().await.unwrap();
    let cluster = clusters.start_one("one", &ClusterOptions::bare()).await.unwrap();
    fleet.join_through_proxy("one", cluster).await.unwrap();
    fleet.in_sync(&["one"]).await.unwrap();

    server.fail(Some(StatusCode::SERVICE_UNAVAILABLE));
    away(&mut fleet, "the server fails", "503").await;
    server.fail(None);

    server.stop();
    away(&mut fleet, "the server is away", "").await;
    // Restarted meanwhile, the hub has its clone to go by.
    fleet.hub().process().kill();
    fleet.hub().restart().await.unwrap();
    away(&mut fleet, "the server is away, the hub anew", "").await;
    server.listen().await.unwrap();

    fleet.repo().remove_branch(BRANCH).unwrap();
    away(&mut fleet, "no branch, so an empty repository", "empty").await;
    fleet.repo().commit_to("other", "elsewhere", &files("9")).unwrap();
    away(&mut fleet, "no branch", BRANCH).await;

    // A commit without anything in it says nothing of clusters: they keep what they run.
    fleet.repo().force(BRANCH, None, "nothing", &[file("README.md", "Nothing.\n")]).unwrap();
    fleet.reconcile().await.unwrap();
    let cluster = fleet.cluster("one").await.unwrap();
    assert!(!cluster.assigned, "{cluster:?}");
    assert!(!fleet.status().await.unwrap().problems.is_empty());
    kept(&mut fleet, "an empty commit").await;

    // Another history: followed like any commit, objects stay the same ones.
    let uid = fleet.appears("one", &config("app")).await.unwrap();
    fleet.repo().force(BRANCH, None, "another history", &files("2")).unwrap();
    fleet.reconcile().await.unwrap();
    fleet.field_becomes("one", &config("app"), VALUE, "2").await.unwrap();
    fleet.in_sync(&["one"]).await.unwrap();
    fleet.repo().reset(BRANCH, &first).unwrap();
    fleet.reconcile().await.unwrap();
    fleet.field_becomes("one", &config("app"), VALUE, "1").await.unwrap();
    fleet.in_sync(&["one"]).await.unwrap();
    assert_eq!(fleet.uid("one", &config("app")).await.unwrap(), Some(uid));
}
