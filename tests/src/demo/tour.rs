//! The scripted tour: what the README promises, step by step, each verified in the clusters by their API servers.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures::future::try_join_all;
use serde_json::json;

use super::CLUSTERS;
use super::steps::Steps;
use crate::fleet::{Fleet, SOON, ready};
use crate::git::{BRANCH, file, remove};
use crate::manifests::unit_id;
use crate::objects::ObjectRef;
use crate::wait::eventually;

const WEB_OVERLAY: &str = "apps/web/overlays/staging/kustomization.yaml";
const WEB_BASE: &str = "apps/web/base/kustomization.yaml";
const WEB_DEPLOYMENT: &str = "apps/web/base/deployment.yaml";
const MEMORY: &str = "/spec/template/spec/containers/0/resources/limits/memory";
const PORT: &str = "/spec/template/spec/containers/0/ports/0/containerPort";

fn deployment(namespace: &str, name: &str) -> ObjectRef {
    ObjectRef::new("apps/v1", "Deployment", namespace, name)
}

/// Deployments with their replicas, as the overlays of `fleet-example/` say.
const REPLICAS: [(&str, &str, &str, u32); 10] = [
    ("staging", "voting", "vote", 2),
    ("staging", "voting", "result", 1),
    ("staging", "voting", "worker", 1),
    ("staging", "voting", "redis", 1),
    ("staging", "web", "web", 2),
    ("production", "voting", "vote", 3),
    ("production", "voting", "result", 2),
    ("production", "voting", "worker", 2),
    ("production", "voting", "redis", 1),
    ("production", "web", "web", 3),
];

/// Takes the tour.
pub(super) async fn take(fleet: &mut Fleet, steps: &mut Steps) -> Result<()> {
    let (before, begun) = (steps.done(), Instant::now());
    println!("The tour: each step is verified in the clusters.\n");
    steps.run("both clusters run what the repository says", in_sync(fleet)).await?;
    steps.run("a commit that scales a deployment arrives, where it should", scale(fleet)).await?;
    steps.run("what a removed file declared is pruned from both clusters", prune(fleet)).await?;
    steps.run("an object deleted by hand returns", deleted_by_hand(fleet)).await?;
    steps.run("a field changed, and one added, by hand are put back", changed_by_hand(fleet)).await?;
    steps.run("the hub is stopped, and drift is still corrected", without_hub(fleet)).await?;
    steps.run("the hub is back, its view right, a commit made meanwhile arrives", hub_back(fleet)).await?;
    let what = "a change is in staging first, and in production once it proved itself";
    steps.run(what, promoted(fleet)).await?;
    steps.run("a broken change is held in staging, and production says why it waits", held(fleet)).await?;
    let what = "staging is rolled back; once released it gets the mended change, and then production";
    steps.run(what, rolled_back(fleet)).await?;
    let count = steps.done() - before;
    println!("\nAll {count} steps verified in {:.1} s.", begun.elapsed().as_secs_f64());
    Ok(())
}

async fn in_sync(fleet: &Fleet) -> Result<()> {
    let replicas = REPLICAS.map(|(cluster, namespace, name, replicas)| async move {
        let object = deployment(namespace, name);
        fleet.field_becomes(cluster, &object, "/spec/replicas", replicas).await?;
        fleet.field_becomes(cluster, &object, "/status/readyReplicas", replicas).await
    });
    try_join_all(replicas).await?;
    for (cluster, schedule) in [("staging", "0 3 * * 2"), ("production", "0 3 * * 0")] {
        let window = ObjectRef::new("ops.example.com/v1", "MaintenanceWindow", "web", "web");
        fleet.field_becomes(cluster, &window, "/spec/schedule", schedule).await?;
        let deny = ObjectRef::new("networking.k8s.io/v1", "NetworkPolicy", "voting", "default-deny");
        fleet.appears(cluster, &deny).await?;
    }
    Ok(())
}

async fn scale(fleet: &Fleet) -> Result<()> {
    edit(fleet, WEB_OVERLAY, "count: 2", "count: 4", "Scale web in staging").await?;
    fleet.reconcile().await?;
    let web = deployment("web", "web");
    fleet.field_becomes("staging", &web, "/spec/replicas", 4).await?;
    fleet.field_becomes("staging", &web, "/status/readyReplicas", 4).await?;
    fleet.in_sync(&CLUSTERS).await?;
    let replicas = web.field(&fleet.client("production"), "/spec/replicas").await?;
    ensure!(replicas == 3, "production was to keep 3 replicas and has {replicas}");
    Ok(())
}

async fn prune(fleet: &Fleet) -> Result<()> {
    let policy = ObjectRef::new("networking.k8s.io/v1", "NetworkPolicy", "web", "web");
    let service = ObjectRef::new("v1", "Service", "web", "web");
    let mut services = Vec::new();
    for cluster in CLUSTERS {
        fleet.appears(cluster, &policy).await?;
        services.push(fleet.appears(cluster, &service).await?);
    }
    let base = fleet.repo().read(BRANCH, WEB_BASE)?;
    let without = base.replace("  - network-policy.yaml\n", "");
    ensure!(base != without, "{WEB_BASE} does not list network-policy.yaml");
    let changes = [file(WEB_BASE, without), remove("apps/web/base/network-policy.yaml")];
    fleet.commit("Drop web's network policy", &changes).await?;
    for (cluster, uid) in CLUSTERS.iter().zip(services) {
        fleet.vanishes(cluster, &policy).await?;
        let now = fleet.uid(cluster, &service).await?;
        ensure!(now.as_deref() == Some(&*uid), "{service} of {cluster} was {uid} and is {now:?}");
    }
    fleet.in_sync(&CLUSTERS).await
}

async fn deleted_by_hand(fleet: &Fleet) -> Result<()> {
    let service = ObjectRef::new("v1", "Service", "voting", "vote");
    for cluster in CLUSTERS {
        let uid = fleet.appears(cluster, &service).await?;
        service.delete(&fleet.client(cluster)).await?;
        fleet.appears_anew(cluster, &service, &uid).await?;
    }
    Ok(())
}

async fn changed_by_hand(fleet: &Fleet) -> Result<()> {
    let vote = deployment("voting", "vote");
    let by_hand = json!({
        "metadata": {"annotations": {"added-by": "hand"}},
        "spec": {"replicas": 9, "template": {"spec": {"terminationGracePeriodSeconds": 7}}},
    });
    vote.edit(&fleet.client("production"), by_hand).await?;
    fleet.field_becomes("production", &vote, "/spec/replicas", 3).await?;
    fleet.field_becomes("production", &vote, "/metadata/annotations/added-by", json!(null)).await?;
    // What nobody sets has the API server's default again.
    let grace = "/spec/template/spec/terminationGracePeriodSeconds";
    fleet.field_becomes("production", &vote, grace, 30).await
}

async fn without_hub(fleet: &mut Fleet) -> Result<()> {
    fleet.hub().process().stop(Duration::from_secs(30)).await.context("stop the hub")?;
    let redis = deployment("voting", "redis");
    let service = ObjectRef::new("v1", "Service", "voting", "redis");
    for cluster in CLUSTERS {
        redis.edit(&fleet.client(cluster), json!({"spec": {"replicas": 0}})).await?;
        fleet.field_becomes(cluster, &redis, "/spec/replicas", 1).await?;
        let uid = fleet.appears(cluster, &service).await?;
        service.delete(&fleet.client(cluster)).await?;
        fleet.appears_anew(cluster, &service, &uid).await?;
    }
    Ok(())
}

async fn hub_back(fleet: &mut Fleet) -> Result<()> {
    let commit = edit(fleet, WEB_OVERLAY, "count: 4", "count: 3", "Scale web down again").await?;
    fleet.hub().restart().await?;
    let web = deployment("web", "web");
    fleet.field_becomes("staging", &web, "/spec/replicas", 3).await?;
    fleet.in_sync(&CLUSTERS).await?;
    for cluster in CLUSTERS {
        let units = fleet.units_ready(cluster).await?;
        for name in ["crds", "namespaces", "voting", "web"] {
            let unit = units.get(&unit_id(name));
            ensure!(unit.is_some_and(ready), "the hub shows {name} of {cluster} as {unit:?}");
        }
    }
    let shown = fleet.status().await?.commit.unwrap_or_default().id;
    ensure!(shown == commit, "the hub shows the commit {shown}, not {commit}");
    Ok(())
}

async fn promoted(fleet: &Fleet) -> Result<()> {
    edit(fleet, WEB_DEPLOYMENT, "memory: 128Mi", "memory: 160Mi", "Give web more memory").await?;
    fleet.reconcile().await?;
    let web = deployment("web", "web");
    let mut applied = Vec::new();
    for cluster in CLUSTERS {
        fleet.field_becomes(cluster, &web, MEMORY, "160Mi").await?;
        let managers = web.field(&fleet.client(cluster), "/metadata/managedFields").await?;
        let ours = managers.as_array().and_then(|all| all.iter().find(|one| one["manager"] == "flotilla"));
        let time = ours.and_then(|ours| ours["time"].as_str()).context("flotilla applied it")?;
        applied.push(time.to_owned());
    }
    ensure!(applied[0] < applied[1], "staging got it at {}, and production at {}", applied[0], applied[1]);
    Ok(())
}

async fn held(fleet: &Fleet) -> Result<()> {
    let (right, wrong) = ("containerPort: 9898", "containerPort: 98980");
    edit(fleet, WEB_DEPLOYMENT, right, wrong, "Listen on a port that there is not").await?;
    fleet.reconcile().await?;
    fleet.phase_becomes("staging", &unit_id("web"), "Failed").await?;
    let waits = eventually(SOON, || async {
        let waiting = fleet.cluster("production").await?.waiting;
        ensure!(waiting.iter().any(|one| one.message.contains("staging")), "it waits for {waiting:?}");
        anyhow::Ok(())
    });
    waits.await?;
    let port = deployment("web", "web").field(&fleet.client("production"), PORT).await?;
    ensure!(port == 9898, "production was to keep its port and has {port}");
    Ok(())
}

async fn rolled_back(fleet: &Fleet) -> Result<()> {
    let staging = ["apps", "--stage", "staging"];
    let back = [&["rollout", "rollback"], &staging[..], &["--reason", "web does not start"]];
    fleet.cli(&back.concat()).await?;
    fleet.phase_becomes("staging", &unit_id("web"), "Ready").await?;
    let before = fleet.repo().read(BRANCH, WEB_DEPLOYMENT)?;
    let mended = before.replacen("containerPort: 98980", "containerPort: 9898", 1);
    let mended = mended.replacen("memory: 160Mi", "memory: 192Mi", 1);
    fleet.commit("Listen on the right port again", &[file(WEB_DEPLOYMENT, mended)]).await?;
    fleet.cli(&[&["rollout", "release"], &staging[..]].concat()).await?;
    for cluster in CLUSTERS {
        fleet.field_becomes(cluster, &deployment("web", "web"), MEMORY, "192Mi").await?;
    }
    at_the_newest(fleet).await
}

/// Waits until the pipeline holds neither cluster back.
pub(super) async fn at_the_newest(fleet: &Fleet) -> Result<()> {
    let reached = eventually(SOON, || async {
        let mut waiting = fleet.status().await?.waiting;
        // Those of the edge have no agent.
        waiting.retain(|one| CLUSTERS.contains(&one.cluster.as_str()));
        ensure!(waiting.is_empty(), "{waiting:?}");
        anyhow::Ok(())
    });
    reached.await.context("wait until each cluster runs the newest")
}

/// Commits a change of one text in one file.
async fn edit(fleet: &Fleet, path: &str, from: &str, to: &str, message: &str) -> Result<String> {
    let before = fleet.repo().read(BRANCH, path)?;
    ensure!(before.contains(from), "{path} does not say {from:?}:\n{before}");
    fleet.repo().commit(message, &[file(path, before.replacen(from, to, 1))])
}
