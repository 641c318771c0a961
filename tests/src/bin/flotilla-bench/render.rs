//! `render`: what a commit costs the hub. Which units it builds anew, how long its charts take against helm alone, and
//! what it keeps in memory.

use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use flotilla_api as api;
use flotilla_tests::fleet::{Fleet, HubOptions};
use flotilla_tests::git::{Change, Repo, file};
use flotilla_tests::helm::{self, CHART};
use flotilla_tests::{ClusterOptions, Clusters, manifests};
use serde_json::json;
use tokio::process::Command;
use tokio::sync::Semaphore;

use crate::count::{Counts, resident};
use crate::setup::LIMIT;
use crate::{figure, load};

/// What was allocated in passing is given back by then, if ever.
const SETTLED: Duration = Duration::from_secs(10);
const CLUSTERS: usize = 10;

pub(crate) async fn run(clusters: &Clusters, units: usize, repeats: usize) -> Result<()> {
    commits(units, repeats).await?;
    memory(units).await?;
    releases(clusters, units, repeats).await
}

/// A hub without agents, and when it has rendered the first commit.
async fn hub(files: &[Change], args: Vec<String>) -> Result<Fleet> {
    let repo = Repo::new()?;
    repo.commit("begin", files)?;
    let url = repo.url();
    Fleet::new(repo, &url, &HubOptions { args, ..HubOptions::default() }).await
}

/// One app of a monorepo is touched.
async fn commits(units: usize, repeats: usize) -> Result<()> {
    const NAME: &str = "one";
    let mut files = vec![load::root(NAME)];
    files.extend(load::units(&[NAME], units, &[])?);
    let fleet = hub(&files, Vec::new()).await?;
    fleet.reconcile().await?;
    let first = Counts::of(&fleet).await?;
    ensure!(first.builds == units as u64 + 1, "{} builds for {units} units and their root", first.builds);

    let (mut seconds, mut builds) = (Vec::new(), Vec::new());
    for repeat in 0..repeats {
        let before = Counts::of(&fleet).await?;
        fleet.repo().commit("touch", &load::content(repeat % units, &format!("change-{repeat}"))?)?;
        let start = Instant::now();
        fleet.reconcile().await?;
        seconds.push(start.elapsed().as_secs_f64());
        builds.push(figure::whole(Counts::of(&fleet).await?.since(before).builds));
    }
    figure::print_median("render_one_app_builds", &builds, "builds", json!({"units": units}));
    let about = json!({"units": units, "from": "flotilla reconcile, with the fetch by file://"});
    figure::print_median("render_one_app_seconds", &seconds, "s", about);
    let before = Counts::of(&fleet).await?;
    let start = Instant::now();
    fleet.reconcile().await?;
    let about = json!({"units": units, "builds": Counts::of(&fleet).await?.since(before).builds});
    figure::print("render_nothing_changed_seconds", start.elapsed().as_secs_f64(), "s", about);
    Ok(())
}

/// The same units in ten clusters.
async fn memory(units: usize) -> Result<()> {
    let names: Vec<String> = (0..CLUSTERS).map(|number| format!("cluster-{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut files: Vec<Change> = names.iter().map(|name| load::root(name)).collect();
    files.extend(load::units(&names, units, &[])?);
    let mut fleet = hub(&files, Vec::new()).await?;
    fleet.reconcile().await?;
    let first = resident(&mut fleet)?;
    for repeat in 0..5 {
        fleet.repo().commit("touch", &load::content(repeat % units, &format!("change-{repeat}"))?)?;
        fleet.reconcile().await?;
    }
    tokio::time::sleep(SETTLED).await;
    let memory = resident(&mut fleet)?;
    let counts = Counts::of(&fleet).await?;
    let about = json!({
        "units": units,
        "clusters": CLUSTERS,
        "objects_in_each": units * load::OBJECTS,
        "agents": 0,
        "after_first_render_mb": first.now,
        "peak_mb": memory.peak,
        "anonymous_mb": memory.anonymous,
        "file_mb": memory.file,
        "builds": counts.builds,
    });
    figure::print("hub_memory", memory.now, "MB", about);
    Ok(())
}

/// Many releases of one chart, each with its own values.
async fn releases(clusters: &Clusters, units: usize, repeats: usize) -> Result<()> {
    const NAME: &str = "one";
    let program = tokio::task::spawn_blocking(|| helm::find_or_build(&mut |_| {})).await??;
    let chart = CHART.iter().map(|(path, content)| file(&format!("charts/own/{path}"), *content));
    let mut files: Vec<Change> = chart.collect();
    files.push(file(&format!("clusters/{NAME}/config.yaml"), manifests::config_map("beside", "1")));
    let mut fleet = hub(&files, vec!["--helm".to_owned(), program.display().to_string()]).await?;
    let [cluster] = clusters.start([NAME], &ClusterOptions::bare()).await?;
    fleet.join(NAME, cluster).await?;
    fleet.in_sync(&[NAME]).await?;
    // It has told which Kubernetes it is; applying would share the processors with what is measured.
    fleet.member(NAME).agent().process().kill();
    let folder = tempfile::tempdir().context("make a folder for the chart")?;
    for (path, content) in CHART {
        let path = folder.path().join("own").join(path);
        std::fs::create_dir_all(path.parent().context("a file has a folder")?)?;
        std::fs::write(path, content)?;
    }

    let (mut ours, mut theirs, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for repeat in 0..repeats {
        // They take turns who is first.
        let value = |release: usize| repeat * units + release;
        let pair = if repeat % 2 == 0 {
            let bare = bare(&program, folder.path(), units, &value).await?;
            (hub_renders(&fleet, NAME, units, &value).await?, bare)
        } else {
            (
                hub_renders(&fleet, NAME, units, &value).await?,
                bare(&program, folder.path(), units, &value).await?,
            )
        };
        ours.push(pair.0);
        theirs.push(pair.1);
        ratios.push(pair.0 / pair.1);
    }
    let workers = workers();
    figure::print_median(
        "helm_releases_seconds",
        &ours,
        "s",
        json!({"releases": units, "parallel": workers}),
    );
    figure::print_median("helm_template_seconds", &theirs, "s", json!({"runs": units, "parallel": workers}));
    figure::print_median("helm_releases_ratio", &ratios, "ratio", json!({"releases": units}));

    let before = Counts::of(&fleet).await?;
    let start = Instant::now();
    let beside = file(&format!("clusters/{NAME}/config.yaml"), manifests::config_map("beside", "2"));
    fleet.commit("beside", &[beside]).await?;
    let seconds = start.elapsed().as_secs_f64();
    let runs = Counts::of(&fleet).await?.since(before).helm_runs;
    let about = json!({"releases": units, "seconds": (seconds * 1000.0).round() / 1000.0});
    figure::print("helm_runs_nothing_changed", figure::whole(runs), "runs", about);
    Ok(())
}

fn workers() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn release(number: usize) -> String {
    format!("web-{number:04}")
}

/// From the commit of all releases until the hub has what each of them comes to.
async fn hub_renders(
    fleet: &Fleet,
    name: &str,
    units: usize,
    value: &impl Fn(usize) -> usize,
) -> Result<f64> {
    let objects = (0..units).map(|number| {
        let text = format!(
            "apiVersion: helm.toolkit.fluxcd.io/v2\nkind: HelmRelease\nmetadata: {{name: {}, namespace: \
             default}}\nspec:\n  interval: 1h\n  chart:\n    spec:\n      chart: ./charts/own\n      sourceRef: {{kind: \
             GitRepository, name: flux-system, namespace: flux-system}}\n  values: {{replicas: {}}}\n  install: {{crds: \
             Skip}}\n",
            release(number),
            value(number)
        );
        file(&format!("clusters/{name}/{}.yaml", release(number)), text)
    });
    let commit = fleet.repo().commit("releases", &objects.collect::<Vec<_>>())?;
    let before = Counts::of(fleet).await?;
    let start = Instant::now();
    // It may take longer than the hub lets anybody wait.
    fleet.cli_output(&["reconcile"]).await?;
    let end = start + LIMIT;
    loop {
        let counts = Counts::of(fleet).await?.since(before);
        // Asking takes processor time from what is measured: only near the end it is asked often.
        let near = counts.helm_runs * 20 >= units as u64 * 19;
        if counts.helm_runs >= units as u64
            && fleet.status().await?.commit.is_some_and(|rendered| rendered.id == commit)
        {
            let all: Vec<api::Unit> = fleet.json(&["get", "units", "--cluster", name, "-o", "json"]).await?;
            let of_helm = all.iter().filter(|unit| unit.unit.starts_with("helmrelease/"));
            let there = of_helm.filter(|unit| unit.desired.is_some() && unit.wanted_commit == commit).count();
            if there == units {
                ensure!(
                    counts.helm_runs == units as u64,
                    "{} runs of helm for {units} releases",
                    counts.helm_runs
                );
                return Ok(start.elapsed().as_secs_f64());
            }
        }
        ensure!(Instant::now() < end, "not rendered within {LIMIT:?}: {counts:?}");
        tokio::time::sleep(Duration::from_millis(if near { 50 } else { 500 })).await;
    }
}

/// The same by helm alone, as many at once as the hub runs.
async fn bare(program: &Path, folder: &Path, units: usize, value: &impl Fn(usize) -> usize) -> Result<f64> {
    let permits = Arc::new(Semaphore::new(workers()));
    for number in 0..units {
        let values = format!("replicas: {}\n", value(number));
        std::fs::write(folder.join(format!("{}.yaml", release(number))), values)?;
    }
    let start = Instant::now();
    let runs = (0..units).map(|number| {
        let permits = permits.clone();
        async move {
            let _permit = permits.acquire().await?;
            let mut command = Command::new(program);
            command.arg("template").arg(release(number)).arg(folder.join("own"));
            command.args(["--namespace", "default", "--skip-tests", "--kube-version", "v1.36.3", "--values"]);
            command.arg(folder.join(format!("{}.yaml", release(number))));
            command.env("HOME", folder).stdin(Stdio::null()).kill_on_drop(true);
            let output = command.output().await.context("run helm")?;
            ensure!(output.status.success(), "helm: {}", String::from_utf8_lossy(&output.stderr));
            anyhow::Ok(())
        }
    });
    futures::future::try_join_all(runs).await?;
    Ok(start.elapsed().as_secs_f64())
}
