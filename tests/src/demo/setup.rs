//! Brings up what the demo shows: clusters, a repository made from `fleet-example/`, a hub, agents.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use futures::future::try_join_all;

use super::steps::{Note, Steps};
use super::{CLUSTERS, Options, tour};
use crate::cluster::{Cluster, ClusterOptions, Clusters};
use crate::controlplane::Progress;
use crate::fleet::{Fleet, HubOptions};
use crate::git::{self, BRANCH, Repo, file};

/// Short, so that a push by hand is seen soon.
const POLL_INTERVAL: Duration = Duration::from_secs(5);

const PIPELINE: &str = "clusters/pipeline.yaml";
/// How long a stage has to be healthy here: nobody watches a demo for hours.
const PROVED: &str = "3s";

/// Leaves the fleet in `slot` as soon as there is one, so that it outlives an interruption of this.
pub(super) async fn bring_up(options: &Options, steps: &mut Steps, slot: &mut Option<Fleet>) -> Result<()> {
    let clusters = match &options.contexts {
        Some(contexts) => existing(contexts, steps).await?,
        None => of_our_own(steps).await?,
    };
    let repo = steps.run("make a Git repository from fleet-example", async { repository() }).await?;
    let url = repo.url();
    let hub_options = HubOptions { poll_interval: POLL_INTERVAL, ..HubOptions::default() };
    let fleet = steps.run("start the hub", Fleet::new(repo, &url, &hub_options)).await?;
    let fleet = slot.insert(fleet);
    for (name, cluster) in CLUSTERS.iter().zip(clusters) {
        steps.run(&format!("enrol an agent in {name}"), fleet.join(name, cluster)).await?;
    }
    let ready = async {
        fleet.in_sync(&CLUSTERS).await?;
        tour::at_the_newest(fleet).await?;
        try_join_all(CLUSTERS.map(|name| fleet.units_ready(name))).await
    };
    steps.run("apply the repository, until all units are ready", ready).await?;
    Ok(())
}

async fn existing(contexts: &[String; 2], steps: &mut Steps) -> Result<Vec<Cluster>> {
    let mut clusters = Vec::new();
    for (context, name) in contexts.iter().zip(CLUSTERS) {
        let what = format!("reach the cluster of the context {context}, as {name}");
        clusters.push(steps.run(&what, Cluster::existing(context)).await?);
    }
    Ok(clusters)
}

async fn of_our_own(steps: &mut Steps) -> Result<Vec<Cluster>> {
    let note = Note::default();
    let clusters = Clusters::with_progress({
        let note = note.clone();
        move |progress| note.set(tell(progress))
    });
    let what = "find or build a Kubernetes API server, start etcd";
    let clusters = steps.run_noted(what, &note, clusters).await?;
    let options = ClusterOptions::default();
    let started = clusters.start(CLUSTERS, &options);
    Ok(steps.run("start the clusters staging and production", started).await?.into())
}

fn tell(progress: Progress) -> String {
    match progress {
        Progress::Found(_) | Progress::Built { .. } => "there it is".into(),
        Progress::Waiting => "another process is building it".into(),
        Progress::Downloading => "fetching Go modules, the first time only".into(),
        Progress::Building { begun, all } => {
            format!("building {begun} of {all} packages, the first time only")
        }
    }
}

/// No cluster of the demo is in the stage canary, and nothing passes a stage of which no cluster has joined.
fn without_canary(pipeline: &str) -> Result<String> {
    let (before, rest) =
        pipeline.split_once("    # One site of the edge").context("there is no stage canary")?;
    let (_, after) = rest.split_once("    - name: production\n").context("there is no stage production")?;
    Ok(format!("{before}    - name: production\n{after}"))
}

fn repository() -> Result<Repo> {
    let repo = Repo::new()?;
    repo.commit("The example fleet", &git::folder(&example()?)?)?;
    let pipeline = without_canary(&repo.read(BRANCH, PIPELINE)?)?;
    let is_wait = |line: &str| line.trim_start().starts_with("healthyFor: ");
    let line = |line: &str| match line.split_once(':') {
        Some((field, _)) if is_wait(line) => format!("{field}: {PROVED}\n"),
        _ => format!("{line}\n"),
    };
    let pipeline: String = pipeline.lines().map(line).collect();
    repo.commit("Let stages prove themselves in seconds", &[file(PIPELINE, pipeline)])?;
    Ok(repo)
}

/// `fleet-example/`, in the workspace that this was built from or the folder that it runs in.
fn example() -> Result<PathBuf> {
    let built_from = Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("fleet-example");
    let candidates = [built_from, PathBuf::from("fleet-example")];
    let found = candidates.into_iter().find(|path| path.join("clusters").is_dir());
    found.context("there is no folder fleet-example: run the demo in the folder that has it")
}
