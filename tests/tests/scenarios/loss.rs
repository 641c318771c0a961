//! The hub loses what it has: the clusters do not.

use flotilla_tests::fleet::{Fleet, HubOptions};
use flotilla_tests::git::{Change, Repo, file, remove};
use flotilla_tests::git_http::GitServer;
use flotilla_tests::manifests::{app, config_map};
use flotilla_tests::wait::always;
use flotilla_tests::{ClusterOptions, Clusters};
use http::{Method, StatusCode};

use crate::{VALUE, WHILE, config};

fn files(value: &str) -> Vec<Change> {
    vec![
        app("one", "app", &[]),
        file("apps/app/app.yaml", config_map("app", value)),
        app("one", "other", &[]),
        file("apps/other/other.yaml", config_map("other", value)),
    ]
}

async fn start(server: &GitServer, repo: Repo) -> Fleet {
    let options = HubOptions::default();
    let mut fleet = Fleet::new(repo, &server.url(), &options).await.unwrap();
    let clusters = Clusters::new().await.unwrap();
    let cluster = clusters.start_one("one", &ClusterOptions::bare()).await.unwrap();
    fleet.join_through_proxy("one", cluster).await.unwrap();
    fleet.in_sync(&["one"]).await.unwrap();
    fleet
}

async fn deletes_nothing(fleet: &mut Fleet, when: &str) {
    always(WHILE, || {
        let seen = fleet.member("one").proxy().take_seen();
        async move {
            match seen.into_iter().find(|it| it.method == Method::DELETE) {
                Some(delete) => Err(format!("{delete:?}")),
                None => Ok(()),
            }
        }
    })
    .await
    .unwrap_or_else(|error| panic!("{when}: {error:#}"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn store_wiped_head_broken_and_source_away_delete_nothing() {
    let repo = Repo::new().unwrap();
    repo.commit("begin", &files("1")).unwrap();
    let server = GitServer::start(&repo, None).await.unwrap();
    let mut fleet = start(&server, repo).await;
    let uids = [
        fleet.appears("one", &config("app")).await.unwrap(),
        fleet.appears("one", &config("other")).await.unwrap(),
    ];
    drop(fleet.member("one").proxy().take_seen());

    // All at once: everything that the hub had is gone, HEAD does not parse, and nobody can fetch it.
    let data = fleet.data().to_owned();
    fleet.hub().process().kill();
    std::fs::remove_dir_all(&data).unwrap();
    server.fail(Some(StatusCode::SERVICE_UNAVAILABLE));
    fleet
        .repo()
        .commit("Broken", &[file("clusters/one/broken.yaml", "kind: [\n"), remove("apps/app")])
        .unwrap();
    fleet.hub().restart().await.unwrap();
    deletes_nothing(&mut fleet, "a new hub that knows nothing").await;

    // The agent joins the new hub, which still knows nothing.
    let token = fleet.join_token("one", &[]).await.unwrap();
    fleet.member("one").agent().rejoin(&token).unwrap();
    fleet.connected("one").await.unwrap();
    deletes_nothing(&mut fleet, "joined, source away").await;

    // The source is back, HEAD is not.
    server.fail(None);
    fleet.reconcile().await.unwrap();
    deletes_nothing(&mut fleet, "HEAD broken").await;

    // Half mended: the root is read, one unit's folder is not there.
    fleet.commit("Mend the root", &[remove("clusters/one/broken.yaml")]).await.unwrap();
    deletes_nothing(&mut fleet, "one unit broken").await;
    for (name, uid) in ["app", "other"].iter().zip(&uids) {
        assert_eq!(fleet.uid("one", &config(name)).await.unwrap().as_ref(), Some(uid), "{name}");
    }

    fleet.commit("Mend all", &files("2")).await.unwrap();
    for (name, uid) in ["app", "other"].iter().zip(&uids) {
        fleet.field_becomes("one", &config(name), VALUE, "2").await.unwrap();
        assert_eq!(fleet.uid("one", &config(name)).await.unwrap().as_ref(), Some(uid), "{name}");
    }
    fleet.in_sync(&["one"]).await.unwrap();
    deletes_nothing(&mut fleet, "all mended").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hub_from_an_old_backup_strands_no_agent_and_takes_none_back() {
    let repo = Repo::new().unwrap();
    repo.commit("begin", &files("1")).unwrap();
    let server = GitServer::start(&repo, None).await.unwrap();
    let mut fleet = start(&server, repo).await;
    let data = fleet.data().to_owned();
    let backup = fleet.folder().join("backup");
    let backup = backup.to_str().unwrap();
    fleet.hub().command("backup", backup).await.unwrap();

    for value in 2..30 {
        fleet.commit(&value.to_string(), &files(&value.to_string())).await.unwrap();
    }
    fleet.field_becomes("one", &config("app"), VALUE, "29").await.unwrap();
    fleet.in_sync(&["one"]).await.unwrap();
    let ahead = fleet.cluster("one").await.unwrap().desired.unwrap().generation;

    let token = std::fs::read(data.join("admin-token")).unwrap();
    fleet.hub().process().kill();
    std::fs::remove_dir_all(&data).unwrap();
    fleet.hub().command("restore", backup).await.unwrap();
    // At first it cannot read what is newest.
    server.fail(Some(StatusCode::SERVICE_UNAVAILABLE));
    fleet.hub().restart().await.unwrap();
    let anew = std::fs::read(data.join("admin-token")).unwrap();
    assert_ne!(anew, token, "a backup holds no token's text");
    fleet.connected("one").await.unwrap();
    always(WHILE, || async {
        let value = config("app").field(&fleet.client("one"), VALUE).await?;
        anyhow::ensure!(value == "29", "taken back to {value}");
        Ok(())
    })
    .await
    .unwrap();

    server.fail(None);
    fleet.reconcile().await.unwrap();
    fleet.in_sync(&["one"]).await.unwrap();
    fleet.commit("30", &files("30")).await.unwrap();
    fleet.field_becomes("one", &config("app"), VALUE, "30").await.unwrap();
    fleet.in_sync(&["one"]).await.unwrap();
    let now = fleet.cluster("one").await.unwrap().desired.unwrap().generation;
    assert!(now > ahead, "the generation was {ahead} and is {now}");
}
