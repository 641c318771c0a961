//! The commands that people know from Flux, against a hub and an agent: what they write is what runs.

use anyhow::ensure;
use flotilla_api as api;
use flotilla_tests::fleet::{Fleet, HubOptions, SOON};
use flotilla_tests::git::{Repo, file};
use flotilla_tests::git_http::GitServer;
use flotilla_tests::manifests::config_map;
use flotilla_tests::wait::eventually;
use flotilla_tests::{ClusterOptions, Clusters};

use crate::{VALUE, config};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_cli_creates_runs_and_is_followed() {
    let team = Repo::new().unwrap();
    team.commit("one", &[file("deploy/config.yaml", config_map("team", "1"))]).unwrap();
    let server = GitServer::start(&team, None).await.unwrap();
    let work = tempfile::tempdir().unwrap();
    let tree = work.path().to_str().unwrap();

    let repo = Repo::new().unwrap();
    repo.commit("begin", &[file("clusters/one/config.yaml", config_map("own", "1"))]).unwrap();
    let url = repo.url();
    let args = ["--allow-source", "127.0.0.1"].map(str::to_owned).to_vec();
    let mut fleet = Fleet::new(repo, &url, &HubOptions { args, ..HubOptions::default() }).await.unwrap();
    let [cluster] = Clusters::new().await.unwrap().start(["one"], &ClusterOptions::bare()).await.unwrap();
    fleet.join("one", cluster).await.unwrap();

    // Its interval is an hour: nothing of what follows comes by itself.
    let url = server.url();
    let source = ["create", "source", "git", "team", "--url", &url, "--branch", "main", "--interval", "1h"];
    let printed = fleet.cli(&source).await.unwrap();
    fleet
        .cli(&[&source[..], &["--path", "clusters/one/source.yaml", "--repo", tree]].concat())
        .await
        .unwrap();
    let unit =
        ["create", "kustomization", "team", "--source", "team", "--path", "./deploy", "--prune", "--wait"];
    fleet.cli(&[&unit[..], &["--write", "clusters/one/team.yaml", "--repo", tree]].concat()).await.unwrap();
    let written: Vec<_> = ["clusters/one/source.yaml", "clusters/one/team.yaml"]
        .map(|path| file(path, std::fs::read(work.path().join(path)).unwrap()))
        .to_vec();
    fleet.commit("a team", &written).await.unwrap();
    fleet.field_becomes("one", &config("team"), VALUE, "1").await.unwrap();
    fleet.in_sync(&["one"]).await.unwrap();
    assert_eq!(fleet.cli(&["export", "source", "git", "team", "-c", "one"]).await.unwrap(), printed);
    let exported = fleet.cli(&["export", "ks", "--all", "-c", "one"]).await.unwrap();
    assert_eq!(exported, std::fs::read_to_string(work.path().join("clusters/one/team.yaml")).unwrap());

    // A push is fetched when somebody says so, by itself or with what is made of it.
    let two = team.commit("two", &[file("deploy/config.yaml", config_map("team", "2"))]).unwrap();
    let fetched = fleet.cli(&["reconcile", "source", "git", "team"]).await.unwrap();
    assert_eq!(fetched, format!("fetched revision main@sha1:{two}\n"));
    fleet.field_becomes("one", &config("team"), VALUE, "2").await.unwrap();
    let three = team.commit("three", &[file("deploy/config.yaml", config_map("team", "3"))]).unwrap();
    let line = ["reconcile", "kustomization", "team", "-c", "one", "--with-source", "--timeout", "60s"];
    assert_eq!(fleet.cli(&line).await.unwrap(), format!("applied revision main@sha1:{three}\n"));
    assert_eq!(config("team").field(&fleet.client("one"), VALUE).await.unwrap(), "3");
    let fleet_repo = fleet.cli(&["reconcile", "source", "git", "flux-system"]).await.unwrap();
    assert!(fleet_repo.starts_with("fetched revision "), "{fleet_repo}");
    let unknown = fleet.cli_output(&["reconcile", "source", "oci", "team"]).await.unwrap();
    assert_eq!(unknown.status.code(), Some(6), "{unknown:?}");

    let units: Vec<api::Unit> = fleet.json(&["get", "ks", "-o", "json"]).await.unwrap();
    assert_eq!(units.len(), 1, "{units:?}");
    assert_eq!(units[0].source, "GitRepository/flux-system/team");
    assert_eq!(units[0].revision, format!("main@sha1:{three}"));
    let all = fleet.cli(&["get", "all", "--cluster", "one"]).await.unwrap();
    assert!(all.contains("flux-system/team") && all.contains("SUSPENDED"), "{all}");

    // What happened to it at the hub and in the cluster.
    let of_source = ["logs", "--cluster", "one", "--kind", "GitRepository", "--name", "team"];
    let told = fleet.cli(&of_source).await.unwrap();
    assert!(told.contains(&format!("Fetched: fetched revision main@sha1:{three}")), "{told}");
    let of_unit = fleet.cli(&["logs", "--kind", "Kustomization", "--since", "10m"]).await.unwrap();
    assert!(of_unit.contains(" one Kustomization/team.flux-system - "), "{of_unit}");
    server.fail(Some(http::StatusCode::INTERNAL_SERVER_ERROR));
    let failed = fleet.cli_output(&["reconcile", "source", "git", "team"]).await.unwrap();
    assert_eq!(failed.status.code(), Some(9), "{failed:?}");
    eventually(SOON, || async {
        let told = fleet.cli(&[&of_source[..], &["--level", "error"]].concat()).await?;
        ensure!(told.lines().count() == 1 && told.contains("FetchFailed"), "{told}");
        anyhow::Ok(())
    })
    .await
    .unwrap();
    let audit = fleet.cli(&["audit"]).await.unwrap();
    assert!(
        audit.contains("source.reconcile") && audit.contains("GitRepository/flux-system/team"),
        "{audit}"
    );
    let metrics = fleet.cli(&["metrics", "flotilla_source_failures"]).await.unwrap();
    assert!(
        metrics.starts_with("flotilla_source_failures_total ") && !metrics.ends_with(" 0\n"),
        "{metrics}"
    );
}
