//! Who gets in, who does not, and who is put out.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use flotilla_api::{CaStatus, ConnectionState};
use flotilla_tests::fleet::{Agent, Fleet, HubOptions, SOON};
use flotilla_tests::git::{Change, Repo, file};
use flotilla_tests::manifests::{app, config_map};
use flotilla_tests::objects::list;
use flotilla_tests::wait::{always, eventually};
use flotilla_tests::{ClusterOptions, Clusters, Port};

use crate::{VALUE, WHILE, config};

fn files(value: &str) -> Vec<Change> {
    vec![app("one", "app", &[]), file("apps/app/config.yaml", config_map("app", value))]
}

async fn says(agent: &Agent, wanted: &[&str]) -> Result<()> {
    let said = eventually(SOON, || async {
        let log = agent.log()?.to_lowercase();
        ensure!(wanted.iter().any(|it| log.contains(it)), "none of {wanted:?} is in its log:\n{log}");
        anyhow::Ok(())
    });
    Ok(said.await?)
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// A value of the app in the cluster stays while this is watched.
async fn stays(fleet: &Fleet, value: &str) {
    always(WHILE, || async {
        let found = config("app").field(&fleet.client("one"), VALUE).await?;
        ensure!(found == value, "the cluster got {found}");
        anyhow::Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_lets_one_agent_in_and_a_disk_belongs_to_one_cluster() {
    let mut fleet = Fleet::start(["one"], &files("1")).await.unwrap();
    let clusters = Clusters::new().await.unwrap();
    let second = clusters.start_one("second", &ClusterOptions::bare()).await.unwrap();
    let folder = |name: &str| -> PathBuf { fleet.folder().join(name) };
    let (stranger_folder, clone_folder) = (folder("agent-stranger"), folder("agent-clone"));
    let token = fleet.join_token("other", &[]).await.unwrap();
    fleet.in_sync(&["one"]).await.unwrap();
    let kubeconfig = second.kubeconfig_path().to_owned();

    // The token of another cluster, used by one agent, and then by another.
    let mut first = Agent::start(&folder("agent-other"), &kubeconfig, Some(&token)).unwrap();
    fleet.connected("other").await.unwrap();
    first.process().kill();
    fleet.connection_becomes("other", ConnectionState::Disconnected).await.unwrap();
    let stranger = Agent::start(&stranger_folder, &kubeconfig, Some(&token)).unwrap();
    says(&stranger, &["used", "refused"]).await.unwrap();
    drop(stranger);
    first.process().start().unwrap();
    fleet.connected("other").await.unwrap();
    drop(first);

    // The disk of the agent of one, in another cluster: it changes nothing there, and is not let in.
    let state = fleet.member("one").agent().state().to_owned();
    fleet.member("one").agent().process().kill();
    copy(&state, &clone_folder);
    fleet.member("one").agent().process().start().unwrap();
    fleet.connected("one").await.unwrap();
    let clone = Agent::start(&clone_folder, &kubeconfig, None).unwrap();
    says(&clone, &["another cluster", "other cluster", "different cluster", "uid"]).await.unwrap();
    fleet.commit("2", &files("2")).await.unwrap();
    fleet.field_becomes("one", &config("app"), VALUE, "2").await.unwrap();
    let client = second.client();
    always(WHILE, || async {
        let found = list(&client, "v1", "ConfigMap", Some("default"), "").await?;
        let ours: Vec<_> =
            found.iter().filter_map(|it| it.metadata.name.as_deref()).filter(|it| *it == "app").collect();
        ensure!(ours.is_empty(), "the clone applied {ours:?}");
        anyhow::Ok(())
    })
    .await
    .unwrap();
    drop(clone);
    fleet.in_sync(&["one"]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_revoked_is_cut_off_at_once_and_keeps_its_cluster() {
    let mut fleet = Fleet::start(["one"], &files("1")).await.unwrap();
    fleet.in_sync(&["one"]).await.unwrap();
    fleet.cli(&["cluster", "revoke", "one"]).await.unwrap();
    let cluster = fleet.cluster("one").await.unwrap();
    assert_eq!(cluster.connection, ConnectionState::Revoked, "at once: {cluster:?}");
    says(fleet.member("one").agent(), &["revoked"]).await.unwrap();

    fleet.commit("2", &files("2")).await.unwrap();
    stays(&fleet, "1").await;
    // Nor after a restart of either.
    fleet.hub().process().kill();
    fleet.hub().restart().await.unwrap();
    fleet.member("one").agent().restart().unwrap();
    let uid = fleet.appears("one", &config("app")).await.unwrap();
    config("app").delete(&fleet.client("one")).await.unwrap();
    fleet.appears_anew("one", &config("app"), &uid).await.unwrap();
    stays(&fleet, "1").await;
    assert_eq!(fleet.cluster("one").await.unwrap().connection, ConnectionState::Revoked);

    // A new token lets it in again.
    let token = fleet.join_token("one", &["--replace"]).await.unwrap();
    fleet.member("one").agent().rejoin(&token).unwrap();
    fleet.field_becomes("one", &config("app"), VALUE, "2").await.unwrap();
    fleet.in_sync(&["one"]).await.unwrap();
}

/// What `flotilla-hub ca` says of the CAs.
async fn ca(fleet: &mut Fleet, command: &str) -> Result<CaStatus> {
    Ok(serde_json::from_str(&fleet.hub().command("ca", command).await?)?)
}

/// A commit gets through to the cluster.
async fn works(fleet: &Fleet, value: &str) {
    fleet.commit(value, &files(value)).await.unwrap();
    fleet.field_becomes("one", &config("app"), VALUE, value).await.unwrap();
    fleet.in_sync(&["one"]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_ca_and_a_new_address_reach_the_agents() {
    let mut fleet = Fleet::start(["one"], &files("1")).await.unwrap();
    fleet.in_sync(&["one"]).await.unwrap();

    // A CA begins to replace the other: both are trusted until every agent has a certificate of the new one.
    let rotating = ca(&mut fleet, "rotate").await.unwrap();
    assert_eq!(rotating.cas.len(), 2, "{rotating:?}");
    let hub = fleet.hub();
    eventually(SOON, || async {
        let status: CaStatus = serde_json::from_str(&hub.command("ca", "status").await?)?;
        ensure!(status.behind.is_empty(), "behind: {:?}", status.behind);
        anyhow::Ok(())
    })
    .await
    .unwrap();
    works(&fleet, "2").await;
    let finished = ca(&mut fleet, "finish").await.unwrap();
    assert_eq!(finished.cas.len(), 1, "{finished:?}");
    works(&fleet, "3").await;
    // Only the new CA is left to connect by.
    fleet.member("one").agent().restart().unwrap();
    fleet.hub().process().kill();
    fleet.hub().restart().await.unwrap();
    fleet.connected("one").await.unwrap();
    works(&fleet, "4").await;

    // The hub names an address that it is not at yet, and then moves there.
    let port = Port::reserve().unwrap();
    fleet.hub().announce(&port).await.unwrap();
    fleet.connected("one").await.unwrap();
    works(&fleet, "5").await;
    fleet.hub().move_to(port).await.unwrap();
    fleet.connected("one").await.unwrap();
    works(&fleet, "6").await;
    fleet.member("one").agent().restart().unwrap();
    works(&fleet, "7").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_are_renewed_before_they_end_and_after() {
    let repo = Repo::new().unwrap();
    repo.commit("begin", &files("1")).unwrap();
    let url = repo.url();
    let life = HubOptions { args: vec!["--agent-cert-ttl".into(), "12".into()], ..HubOptions::default() };
    let mut fleet = Fleet::new(repo, &url, &life).await.unwrap();
    let clusters = Clusters::new().await.unwrap();
    let cluster = clusters.start_one("one", &ClusterOptions::bare()).await.unwrap();
    fleet.join_through_proxy("one", cluster).await.unwrap();
    fleet.in_sync(&["one"]).await.unwrap();

    let expires =
        async |fleet: &Fleet| fleet.cluster("one").await.map(|it| it.certificate_expires.unwrap_or(0));
    let mut last = expires(&fleet).await.unwrap();
    for value in ["2", "3"] {
        eventually(SOON, || async {
            let cluster = fleet.cluster("one").await?;
            ensure!(cluster.connection == ConnectionState::Connected, "it is {:?}", cluster.connection);
            let now = cluster.certificate_expires.unwrap_or(0);
            ensure!(now > last, "the certificate still ends at {now}");
            anyhow::Ok(())
        })
        .await
        .unwrap();
        last = expires(&fleet).await.unwrap();
        works(&fleet, value).await;
    }

    // Away past the end of its certificate, it comes back by its key.
    fleet.member("one").agent().process().kill();
    let end = std::time::UNIX_EPOCH + std::time::Duration::from_secs(last.unsigned_abs() + 2);
    eventually(SOON, || async {
        ensure!(std::time::SystemTime::now() > end, "the certificate has not ended");
        anyhow::Ok(())
    })
    .await
    .unwrap();
    fleet.member("one").agent().process().start().unwrap();
    fleet.connected("one").await.unwrap();
    works(&fleet, "4").await;
    assert!(expires(&fleet).await.unwrap() > last);
}
