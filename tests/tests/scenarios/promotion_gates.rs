//! Gates of a pipeline: people, windows, metrics; and what goes past them by name.

use anyhow::ensure;
use flotilla_api as api;
use flotilla_tests::cluster::{ClusterOptions, Clusters};
use flotilla_tests::fleet::{Fleet, HubOptions, SOON};
use flotilla_tests::git::{Change, Repo, file};
use flotilla_tests::manifests::{app, config_map};
use flotilla_tests::prometheus::{METRIC, Prometheus};
use flotilla_tests::wait::eventually;

use crate::config;
use crate::promotion::{CLUSTERS, becomes, pipeline, stays, value};

async fn stage(fleet: &Fleet, name: &str) -> anyhow::Result<api::Stage> {
    let all: Vec<api::Pipeline> = fleet.json(&["rollout", "status", "web", "-o", "json"]).await?;
    let stages = all.into_iter().flat_map(|pipeline| pipeline.stages);
    stages.into_iter().find(|stage| stage.name == name).ok_or_else(|| anyhow::anyhow!("no stage {name}"))
}

/// Waits until a stage says this.
async fn says(fleet: &Fleet, name: &str, text: &str) -> api::Stage {
    eventually(SOON, || async {
        let stage = stage(fleet, name).await?;
        ensure!(stage.message.contains(text), "{name} says: {}", stage.message);
        anyhow::Ok(stage)
    })
    .await
    .unwrap()
}

fn api_app(text: &str) -> Change {
    file("apps/api/config.yaml", config_map("api", text))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn people_approve_override_and_send_a_hotfix_ahead() {
    let mut files = CLUSTERS.map(|name| app(name, "web", &[])).to_vec();
    files.extend(CLUSTERS.map(|name| app(name, "api", &[])));
    files.extend([pipeline("", ""), value("1"), api_app("1")]);
    let fleet = Fleet::start(CLUSTERS, &files).await.unwrap();
    becomes(&fleet, "production", "1").await;

    // Two people, and not who wrote the commit.
    let gate = "    before: {approval: {count: 2, notAuthor: true}}\n";
    fleet.commit("Two", &[pipeline("", gate), value("2")]).await.unwrap();
    becomes(&fleet, "staging", "2").await;
    let asked = says(&fleet, "production", "0 of 2").await.question.unwrap().digest;
    let mut tokens = Vec::new();
    for name in ["tester", "ann", "bo"] {
        tokens.push(
            fleet.cli(&["token", "create", name, "--role", "approve"]).await.unwrap().trim().to_owned(),
        );
    }
    let approve = |token: String| {
        let (fleet, asked) = (&fleet, asked.clone());
        async move {
            let args = ["--token", &token, "rollout", "approve", "web", "production", &asked];
            fleet.cli_output(&args).await.unwrap()
        }
    };
    let refused = approve(tokens[0].clone()).await;
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && said.contains("is the author"), "{said}");
    for _ in 0..2 {
        // Somebody who says it twice is one.
        assert!(approve(tokens[1].clone()).await.status.success());
    }
    says(&fleet, "production", "1 of 2").await;
    stays(&fleet, "production", "1").await;
    assert!(approve(tokens[2].clone()).await.status.success());
    becomes(&fleet, "production", "2").await;

    // A window that bars, until somebody who may says that it does not count.
    let freeze = "    windows: [{name: freeze, kind: deny, from: 2020-01-01T00:00, to: 2999-01-01T00:00}]\n";
    fleet.commit("Three", &[pipeline("", freeze), value("3")]).await.unwrap();
    becomes(&fleet, "staging", "3").await;
    says(&fleet, "production", "window freeze bars it").await;
    stays(&fleet, "production", "2").await;
    let past = ["rollout", "override", "web", "--window", "freeze", "--reason", "a test"];
    fleet.cli(&past).await.unwrap();
    becomes(&fleet, "production", "3").await;

    // While staging takes its time, one unit goes ahead, and no other.
    let soak = "    after: {healthyFor: 1h}\n";
    fleet.commit("Four", &[pipeline(soak, ""), value("4"), api_app("2")]).await.unwrap();
    becomes(&fleet, "staging", "4").await;
    let ahead = ["rollout", "promote", "web", "--only", "flux-system/api", "--to", "production"];
    fleet.cli(&ahead).await.unwrap();
    fleet.field_becomes("production", &config("api"), crate::VALUE, "2").await.unwrap();
    stays(&fleet, "production", "3").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_metric_lets_a_stage_pass_and_fails_it() {
    let Some(prometheus) = Prometheus::start().await.unwrap() else { return };
    let gate = format!(
        "    after: {{checks: [{{name: errors, every: 1s, successes: 2, metric: {{server: '{}', query: {METRIC}, is: '<= 0.01'}}}}]}}\n",
        prometheus.address()
    );
    let mut files = CLUSTERS.map(|name| app(name, "web", &[])).to_vec();
    files.extend([pipeline("", ""), value("1")]);
    let repo = Repo::new().unwrap();
    repo.commit("begin", &files).unwrap();
    let url = repo.url();
    let options =
        HubOptions { args: vec!["--allow-source".into(), "127.0.0.1".into()], ..HubOptions::default() };
    let mut fleet = Fleet::new(repo, &url, &options).await.unwrap();
    let clusters = Clusters::new().await.unwrap().start(CLUSTERS, &ClusterOptions::bare()).await.unwrap();
    for cluster in clusters {
        let name = cluster.name().to_owned();
        fleet.join_through_proxy(&name, cluster).await.unwrap();
    }
    becomes(&fleet, "production", "1").await;

    // No value is no answer.
    fleet.commit("Two", &[pipeline(&gate, ""), value("2")]).await.unwrap();
    becomes(&fleet, "staging", "2").await;
    says(&fleet, "staging", "the query gives no value").await;
    stays(&fleet, "production", "1").await;
    prometheus.becomes("0.001").await.unwrap();
    becomes(&fleet, "production", "2").await;

    prometheus.becomes("0.5").await.unwrap();
    fleet.commit("Three", &[value("3")]).await.unwrap();
    becomes(&fleet, "staging", "3").await;
    let failed = says(&fleet, "staging", "it is 0.5, and has to be <= 0.01").await;
    assert_eq!(failed.phase, "failed", "{failed:?}");
    stays(&fleet, "production", "2").await;
}
