//! Sources besides the fleet repo: a team's own repository behind a password, fetched by the hub for the agents.

use anyhow::{Context, ensure};
use flotilla_api as api;
use flotilla_tests::fleet::{Fleet, HubOptions, SOON};
use flotilla_tests::git::{Repo, file};
use flotilla_tests::git_http::GitServer;
use flotilla_tests::manifests::{config_map, unit, unit_id};
use flotilla_tests::wait::eventually;
use flotilla_tests::{ClusterOptions, Clusters};

use crate::{VALUE, config};

const TEAM: (&str, &str) = ("jo", "s3cret");

/// The source `name` as people see it.
async fn source(fleet: &Fleet, name: &str) -> anyhow::Result<api::Source> {
    let sources: Vec<api::Source> = fleet.json(&["get", "sources", "-o", "json"]).await?;
    sources.into_iter().find(|source| source.name == name).with_context(|| format!("there is no {name}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_team_brings_its_own_repository() {
    let team = Repo::new().unwrap();
    team.commit("one", &[file("deploy/config.yaml", config_map("team", "1"))]).unwrap();
    let mut server = GitServer::start(&team, Some(TEAM)).await.unwrap();
    let secrets = tempfile::tempdir().unwrap();

    let repo = Repo::new().unwrap();
    let git = format!(
        "apiVersion: source.toolkit.fluxcd.io/v1\nkind: GitRepository\nmetadata:\n  name: team\n  namespace: \
         flux-system\nspec:\n  interval: 1s\n  url: {}\n  ref:\n    branch: main\n  secretRef:\n    name: team\n",
        server.url()
    );
    let kustomization = unit("team", "deploy", &[]).replace("name: flux-system", "name: team");
    repo.commit(
        "a team",
        &[file("clusters/one/source.yaml", git), file("clusters/one/team.yaml", kustomization)],
    )
    .unwrap();
    let mounted = secrets.path().join("mounted");
    let args = ["--allow-source", "127.0.0.1", "--secrets", mounted.to_str().unwrap()];
    let options = HubOptions { args: args.map(str::to_owned).to_vec(), ..HubOptions::default() };
    let url = repo.url();
    let mut fleet = Fleet::new(repo, &url, &options).await.unwrap();
    let clusters = Clusters::new().await.unwrap();
    for cluster in clusters.start(["one"], &ClusterOptions::bare()).await.unwrap() {
        fleet.join("one", cluster).await.unwrap();
    }

    // Without its secret nothing is fetched, and the unit waits.
    eventually(SOON, || async {
        let source = source(&fleet, "flux-system/team").await?;
        ensure!(!source.ready && source.message.contains("secret flux-system/team"), "{source:?}");
        anyhow::Ok(())
    })
    .await
    .unwrap();
    let password = secrets.path().join("password");
    std::fs::write(&password, format!("{}\n", TEAM.1)).unwrap();
    let password = password.to_str().unwrap();
    let create = ["secret", "create", "git", "team", "--username", TEAM.0, "--password-file", password];
    fleet.cli(&create).await.unwrap();
    let listed = fleet.cli(&["secret", "list", "-o", "json"]).await.unwrap();
    assert!(listed.contains("\"username\"") && !listed.contains(TEAM.1), "{listed}");
    fleet.field_becomes("one", &config("team"), VALUE, "1").await.unwrap();
    let shown = source(&fleet, "flux-system/team").await.unwrap();
    assert!(
        shown.ready && shown.revision.starts_with("main@sha1:") && shown.clusters == ["one"],
        "{shown:?}"
    );

    // A push of the team arrives without anybody touching the fleet repo.
    team.commit("two", &[file("deploy/config.yaml", config_map("team", "2"))]).unwrap();
    fleet.field_becomes("one", &config("team"), VALUE, "2").await.unwrap();

    // While its server is away, what it was at is kept right, and nothing goes.
    server.stop();
    eventually(SOON, || async {
        let source = source(&fleet, "flux-system/team").await?;
        ensure!(!source.ready && source.message.contains("cannot reach"), "{source:?}");
        anyhow::Ok(())
    })
    .await
    .unwrap();
    fleet.hub().process().kill();
    fleet.hub().restart().await.unwrap();
    let edit = serde_json::json!({"data": {"value": "by hand"}});
    config("team").edit(&fleet.client("one"), edit).await.unwrap();
    fleet.field_becomes("one", &config("team"), VALUE, "2").await.unwrap();
    fleet.reconcile().await.unwrap();
    fleet.in_sync(&["one"]).await.unwrap();
    let units = fleet.units("one").await.unwrap();
    assert_eq!(units[&unit_id("team")].objects, 1, "{units:?}");

    // What is mounted wins over what the hub keeps.
    server.listen().await.unwrap();
    let folder = mounted.join("cluster.one/flux-system/team");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("username"), TEAM.0).unwrap();
    std::fs::write(folder.join("password"), "wrong").unwrap();
    fleet.reconcile().await.unwrap();
    eventually(SOON, || async {
        let source = source(&fleet, "flux-system/team").await?;
        ensure!(source.message.contains("refused the credentials"), "{source:?}");
        anyhow::Ok(())
    })
    .await
    .unwrap();
    std::fs::write(folder.join("password"), TEAM.1).unwrap();
    fleet.reconcile().await.unwrap();
    team.commit("three", &[file("deploy/config.yaml", config_map("team", "3"))]).unwrap();
    fleet.field_becomes("one", &config("team"), VALUE, "3").await.unwrap();
    let log = std::fs::read_to_string(fleet.folder().join("hub.log")).unwrap();
    assert!(!log.contains(TEAM.1), "the hub's log holds the password");
}
