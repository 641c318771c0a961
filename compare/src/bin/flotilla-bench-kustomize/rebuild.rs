//! `kustomize`, second part: a cluster of many units rendered again when one file has changed, with what the renderer
//! remembers.

use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use flotilla_kustomize::files::{MemoryFiles, TreePath};
use flotilla_render::{
    Artifact, ClusterRender, Inputs, NothingFetched, RenderCache, discover, render_cluster,
};
use serde_json::json;

use crate::figure::{print, print_median};

/// Units of the cluster: each an overlay of one base.
const UNITS: usize = 200;

/// Measures a first round, a round over the same commit, and rounds after one changed file.
pub(crate) fn run(repeats: usize) -> Result<()> {
    let cache = RenderCache::new();
    let first = commit(0);
    let start = Instant::now();
    let all = render(&first, &cache)?;
    let whole = start.elapsed().as_secs_f64();
    let details = json!({"units": all.units.len(), "builds": cache.builds()});
    print("kustomize_render_first", whole * 1000.0, "ms", details);

    let (mut same, mut changed, mut builds) = (Vec::new(), Vec::new(), Vec::new());
    for round in 1..=repeats {
        let commit = commit(round);
        let before = cache.builds();
        let start = Instant::now();
        render(&commit, &cache)?;
        changed.push(start.elapsed().as_secs_f64() * 1000.0);
        builds.push(cache.builds() - before);
        let start = Instant::now();
        render(&commit, &cache)?;
        same.push(start.elapsed().as_secs_f64() * 1000.0);
    }
    ensure!(builds.iter().all(|&count| count == 1), "one changed file is one build, not {builds:?}");
    let details = json!({"units": all.units.len(), "builds": 1});
    print_median("kustomize_render_one_file_changed", &changed, "ms", details.clone());
    print_median(
        "kustomize_render_nothing_changed",
        &same,
        "ms",
        json!({"units": all.units.len(), "builds": 0}),
    );
    Ok(())
}

fn render(commit: &Artifact, cache: &RenderCache) -> Result<ClusterRender> {
    let clusters = TreePath::from_root("clusters").context("a path")?;
    cache.begin_round();
    let fleet = discover(commit.files.as_ref(), &clusters).context("find clusters")?;
    let cluster = fleet.clusters.values().next().context("no cluster")?;
    let sources = NothingFetched("is not there");
    let inputs = Inputs::new(commit, &clusters, cache, &sources);
    let rendered = render_cluster(&inputs, cluster).context("render")?;
    let problems: Vec<String> =
        rendered.units.values().flat_map(|unit| &unit.problems).map(ToString::to_string).collect();
    ensure!(problems.is_empty(), "{}", problems.join("\n"));
    ensure!(rendered.units.len() > UNITS, "{} units", rendered.units.len());
    Ok(rendered)
}

/// The fleet as one commit has it, of which one unit's patch says `change`.
fn commit(change: usize) -> Artifact {
    let mut files = vec![
        ("base/kustomization.yaml".to_owned(), "resources: [app.yaml]\n".to_owned()),
        ("base/app.yaml".to_owned(), APP.to_owned()),
    ];
    for unit in 0..UNITS {
        let replicas = if unit == 0 { change } else { 2 };
        files.push((format!("clusters/one/unit-{unit}.yaml"), flux(unit)));
        files.push((format!("apps/{unit}/kustomization.yaml"), overlay(unit)));
        files.push((format!("apps/{unit}/patch.yaml"), patch(replicas)));
    }
    Artifact::new(Arc::new(MemoryFiles::new(files)), "main", "commit")
}

fn flux(unit: usize) -> String {
    format!(
        "apiVersion: kustomize.toolkit.fluxcd.io/v1
kind: Kustomization
metadata:
  name: unit-{unit}
  namespace: flux-system
spec:
  interval: 10m
  path: ./apps/{unit}
  prune: true
  sourceRef:
    kind: GitRepository
    name: flux-system
"
    )
}

fn overlay(unit: usize) -> String {
    format!(
        "resources: [../../base]\nnamespace: team-{unit}\nnamePrefix: u{unit}-\npatches:\n- path: patch.yaml\n"
    )
}

fn patch(replicas: usize) -> String {
    format!("apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: app\nspec:\n  replicas: {replicas}\n")
}

const APP: &str = "apiVersion: v1
kind: ServiceAccount
metadata:
  name: app
---
apiVersion: v1
kind: Service
metadata:
  name: app
spec:
  selector: {app: app}
  ports:
  - port: 80
---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: app
spec:
  selector:
    matchLabels: {app: app}
  template:
    metadata:
      labels: {app: app}
    spec:
      serviceAccountName: app
      containers:
      - name: main
        image: registry.example/app:1
";
