//! `sources`: what a look at sources costs in which nothing is new, as the servers see it: Git by HTTP, and indexes of
//! charts.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use anyhow::{Context, Result, ensure};
use axum::Router;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use flotilla_api as api;
use flotilla_tests::fleet::{Fleet, HubOptions};
use flotilla_tests::git::{Change, Repo, file};
use flotilla_tests::git_http::GitServer;
use flotilla_tests::manifests;
use serde_json::json;
use tokio::net::TcpListener;

use crate::count::Counts;
use crate::figure;
use crate::front::{Front, Passed};
use crate::setup::until;

const CLUSTER: &str = "one";

/// One source of the benchmark.
struct Wanted {
    /// As `flotilla reconcile source` names it.
    kind: &'static str,
    name: String,
    object: String,
}

impl Wanted {
    fn new(word: &'static str, kind: &str, number: usize, spec: &str) -> Self {
        let name = format!("{word}-{number:03}");
        let object = format!(
            "apiVersion: source.toolkit.fluxcd.io/v1\nkind: {kind}\nmetadata: {{name: {name}, namespace: \
             flux-system}}\nspec: {{interval: 1h, {spec}}}\n"
        );
        Self { kind: word, name, object }
    }
}

pub(crate) async fn run(sources: usize) -> Result<()> {
    let git = sources / 2;
    let helm = sources - git;

    let team = Repo::new()?;
    for number in 0..git {
        let change = file("deploy/config.yaml", manifests::config_map(&format!("git-{number:03}"), "1"));
        team.commit_to(&format!("branch-{number:03}"), "one", &[change])?;
    }
    let server = GitServer::start(&team, None).await?;
    let url = server.url();
    let (host, path) =
        url.trim_start_matches("http://").split_once('/').context("the address of a repository")?;
    let git_front = Front::start(host).await?;
    let helm_front = Front::start(&indexes().await?).await?;

    let wanted: Vec<Wanted> = (0..git)
        .map(|n| {
            let spec = format!("url: 'http://{}/{path}', ref: {{branch: branch-{n:03}}}", git_front.host());
            Wanted::new("git", "GitRepository", n, &spec)
        })
        .chain((0..helm).map(|n| {
            let spec = format!("url: 'http://{}/charts-{n:03}'", helm_front.host());
            Wanted::new("helm", "HelmRepository", n, &spec)
        }))
        .collect();
    let fleet = fleet(&wanted).await?;
    until("all sources are fetched", async || {
        let all: Vec<api::Source> = fleet.json(&["get", "sources", "-o", "json"]).await?;
        Ok(all.iter().filter(|source| source.ready && !source.revision.is_empty()).count()
            == wanted.len() + 1)
    })
    .await?;
    fleet.reconcile().await?;
    let fronts = [("git", &git_front), ("helm", &helm_front)];
    let first: usize = fronts.iter().map(|(_, front)| front.take().len()).sum();

    // Nothing is new anywhere: each is asked once.
    let before = Counts::of(&fleet).await?;
    for source in &wanted {
        fleet.cli(&["reconcile", "source", source.kind, &source.name]).await?;
    }
    let counts = Counts::of(&fleet).await?.since(before);
    let passed: Vec<(&str, Vec<Passed>)> = fronts.iter().map(|(name, front)| (*name, front.take())).collect();
    let requests: usize = passed.iter().map(|(_, passed)| passed.len()).sum();
    ensure!(
        counts.fetches == wanted.len() as u64,
        "{} sources were asked, not {}",
        counts.fetches,
        wanted.len()
    );
    let by_kind: BTreeMap<&str, usize> = passed.iter().map(|(name, passed)| (*name, passed.len())).collect();
    let mut by_request: BTreeMap<String, usize> = BTreeMap::new();
    for (name, passed) in passed.iter().flat_map(|(name, all)| all.iter().map(move |one| (*name, one))) {
        let method = passed.request.split(' ').next().unwrap_or_default();
        *by_request.entry(format!("{name} {method} {}", passed.status)).or_default() += 1;
    }
    let about = json!({
        "sources": {"git": git, "helm": helm},
        "by_kind": by_kind,
        "by_request": by_request,
        "first_fetch_requests": first,
    });
    figure::print("sources_poll_requests", figure::whole(requests as u64), "requests", about);
    let about = json!({"sources": wanted.len(), "rounds": counts.rounds, "helm_runs": counts.helm_runs});
    figure::print("sources_poll_builds", figure::whole(counts.builds), "builds", about);
    Ok(())
}

/// A hub with a cluster that nobody has joined, whose units read some of the sources.
async fn fleet(wanted: &[Wanted]) -> Result<Fleet> {
    let mut files: Vec<Change> = wanted
        .iter()
        .map(|source| file(&format!("clusters/{CLUSTER}/{}.yaml", source.name), source.object.as_str()))
        .collect();
    for source in wanted.iter().filter(|source| source.kind != "helm") {
        let unit = manifests::unit(&source.name, "", &[])
            .replace("    name: flux-system", &format!("    name: {}", source.name));
        files.push(file(&format!("clusters/{CLUSTER}/unit-{}.yaml", source.name), unit));
    }
    let repo = Repo::new()?;
    repo.commit("begin", &files)?;
    let url = repo.url();
    let args = ["--allow-source", "127.0.0.1"].map(str::to_owned).to_vec();
    Fleet::new(repo, &url, &HubOptions { args, ..HubOptions::default() }).await
}

/// Serves an index at every path, as static files are served: with an ETag.
async fn indexes() -> Result<String> {
    const TAG: &str = "\"one\"";
    async fn index(headers: HeaderMap) -> Response {
        if headers.get(header::IF_NONE_MATCH).is_some_and(|known| known == TAG) {
            return StatusCode::NOT_MODIFIED.into_response();
        }
        let text = "apiVersion: v1\nentries:\n  app:\n  - name: app\n    version: 1.0.0\n    urls: [app-1.0.0.tgz]\n";
        ([(header::ETAG, TAG)], text).into_response()
    }
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("listen for indexes")?;
    let host = listener.local_addr().context("ask for the port")?.to_string();
    // It serves as long as the benchmark runs.
    tokio::spawn(async move { drop(axum::serve(listener, Router::new().fallback(index)).await) });
    Ok(host)
}
