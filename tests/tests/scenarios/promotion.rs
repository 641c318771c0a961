//! Promotion: a change goes from stage to stage as it proves itself, and what does not stays where it is.

use anyhow::ensure;
use flotilla_tests::cluster::{ClusterOptions, Clusters};
use flotilla_tests::fleet::{Fleet, SOON};
use flotilla_tests::git::{Change, file};
use flotilla_tests::manifests::{app, config_map, unit_id};
use flotilla_tests::wait::{always, eventually};

use crate::{VALUE, WHILE, config};

pub(crate) const CLUSTERS: [&str; 2] = ["production", "staging"];

/// Staging has to be healthy for two seconds.
const SOAK: &str = "    after: {healthyFor: 2s}\n";

pub(crate) fn value(text: &str) -> Change {
    file("apps/web/config.yaml", config_map("web", text))
}

/// From staging to production, with these lines in the one stage and in the other.
pub(crate) fn pipeline(staging: &str, production: &str) -> Change {
    file("clusters/fleet.yaml", definitions(staging, production))
}

fn definitions(staging: &str, production: &str) -> String {
    let clusters = CLUSTERS.map(|name| {
        format!(
            "apiVersion: flotilla.dev/v1alpha1\nkind: Cluster\nmetadata: {{name: {name}}}\n\
             spec: {{path: clusters/{name}, labels: {{stage: {name}}}}}\n---\n"
        )
    });
    let pipeline = format!(
        "apiVersion: flotilla.dev/v1alpha1\nkind: Pipeline\nmetadata: {{name: web}}\nspec:\n  units: [flux-system/web, flux-system/api]\n  stages:\n  \
         - name: staging\n    clusters: {{matchLabels: {{stage: staging}}}}\n{staging}  \
         - name: production\n    clusters: {{matchLabels: {{stage: production}}}}\n{production}"
    );
    clusters.concat() + &pipeline
}

pub(crate) async fn becomes(fleet: &Fleet, cluster: &str, value: &str) {
    fleet.field_becomes(cluster, &config("web"), VALUE, value).await.unwrap();
}

pub(crate) async fn stays(fleet: &Fleet, cluster: &str, value: &str) {
    always(WHILE, || async {
        let found = config("web").field(&fleet.client(cluster), VALUE).await?;
        ensure!(found == value, "{cluster} holds {found}, not {value}");
        anyhow::Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_proves_itself_in_staging_goes_on_and_what_is_broken_stays_there() {
    let mut files = CLUSTERS.map(|name| app(name, "web", &[])).to_vec();
    files.extend([pipeline(SOAK, ""), value("1")]);
    let mut fleet = Fleet::start(CLUSTERS, &files).await.unwrap();
    becomes(&fleet, "staging", "1").await;
    becomes(&fleet, "production", "1").await;

    // The hub is killed while staging has a version and production has not.
    fleet.commit("Two", &[value("2")]).await.unwrap();
    becomes(&fleet, "staging", "2").await;
    fleet.hub().process().kill();
    fleet.hub().restart().await.unwrap();
    becomes(&fleet, "production", "2").await;
    stays(&fleet, "staging", "2").await;

    // What the API server refuses in staging is never seen in production.
    let broken = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: web, namespace: default}\ndata: {value: [broken]}\n";
    fleet.commit("Broken", &[file("apps/web/config.yaml", broken)]).await.unwrap();
    fleet.phase_becomes("staging", &unit_id("web"), "Failed").await.unwrap();
    stays(&fleet, "production", "2").await;
    assert!(fleet.units("production").await.unwrap()[&unit_id("web")].phase == "Ready");

    fleet.commit("Three", &[value("3")]).await.unwrap();
    becomes(&fleet, "staging", "3").await;
    becomes(&fleet, "production", "3").await;

    // What somebody holds stays until he releases it, and says why.
    let held = ["rollout", "hold", "web", "--cluster", "production", "--reason", "a test"];
    fleet.cli(&held).await.unwrap();
    fleet.commit("Four", &[value("4")]).await.unwrap();
    becomes(&fleet, "staging", "4").await;
    // It passes staging, and waits before production for him.
    eventually(SOON, || async {
        let pipelines = fleet.cli(&["get", "pipelines"]).await?;
        ensure!(pipelines.contains("staging passed, production rolling"), "{pipelines}");
        anyhow::Ok(())
    })
    .await
    .unwrap();
    let status = fleet.cli(&["rollout", "status", "web"]).await.unwrap();
    assert!(status.contains("production") && status.contains("a test"), "{status}");
    stays(&fleet, "production", "3").await;
    fleet.cli(&["rollout", "release", "web", "--cluster", "production"]).await.unwrap();
    becomes(&fleet, "production", "4").await;

    // A rollback stays, whatever comes.
    let back = ["rollout", "rollback", "web", "--cluster", "production", "--reason", "bad"];
    fleet.cli(&back).await.unwrap();
    becomes(&fleet, "production", "3").await;
    fleet.commit("Five", &[value("5")]).await.unwrap();
    becomes(&fleet, "staging", "5").await;
    stays(&fleet, "production", "3").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_is_away_is_waited_for_and_one_that_joins_gets_what_passed() {
    let mut files = CLUSTERS.map(|name| app(name, "web", &[])).to_vec();
    files.extend([pipeline("", ""), value("1")]);
    let mut fleet = Fleet::start(CLUSTERS, &files).await.unwrap();
    becomes(&fleet, "production", "1").await;

    fleet.member("staging").agent().process().kill();
    fleet.commit("Two", &[value("2")]).await.unwrap();
    stays(&fleet, "production", "1").await;
    fleet.member("staging").agent().restart().unwrap();
    becomes(&fleet, "staging", "2").await;
    becomes(&fleet, "production", "2").await;

    // It joins while the newest is broken, and was not defined when what passed was the newest.
    let broken = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: web, namespace: default}\ndata: {value: [broken]}\n";
    fleet.commit("Broken", &[file("apps/web/config.yaml", broken)]).await.unwrap();
    fleet.phase_becomes("staging", &unit_id("web"), "Failed").await.unwrap();
    let later = "apiVersion: flotilla.dev/v1alpha1\nkind: Cluster\nmetadata: {name: later}\n\
                 spec: {path: clusters/production, labels: {stage: production}}\n---\n";
    let joined = file("clusters/fleet.yaml", later.to_owned() + &definitions("", ""));
    fleet.commit("Join", &[joined]).await.unwrap();
    let cluster = Clusters::new().await.unwrap().start_one("later", &ClusterOptions::bare()).await.unwrap();
    fleet.join_through_proxy("later", cluster).await.unwrap();
    becomes(&fleet, "later", "2").await;
    stays(&fleet, "production", "2").await;
}
