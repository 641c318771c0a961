//! Fleets to measure, and waiting that does not show in what is measured.

use std::future::Future;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use flotilla_api as api;
use flotilla_tests::fleet::{Fleet, HubOptions};
use flotilla_tests::git::{Change, Repo};
use flotilla_tests::{ClusterOptions, Clusters};

/// Longer than any benchmark takes for one thing.
pub(crate) const LIMIT: Duration = Duration::from_secs(600);

/// A hub with an agent in each of some new clusters, directly, and this first commit in sync.
///
/// # Errors
/// If one of them does not come up.
pub(crate) async fn fleet<const N: usize>(
    clusters: &Clusters,
    names: [&str; N],
    files: &[Change],
    options: &ClusterOptions,
    hub: &HubOptions,
) -> Result<Fleet> {
    let repo = Repo::new()?;
    repo.commit("begin", files)?;
    let url = repo.url();
    let started = clusters.start(names, options).await?;
    let mut fleet = Fleet::new(repo, &url, hub).await?;
    for (name, cluster) in names.into_iter().zip(started) {
        fleet.join(name, cluster).await?;
    }
    fleet.in_sync(&names).await?;
    Ok(fleet)
}

/// Looks every few milliseconds until `check` finds what it looks for, and says when.
///
/// # Errors
/// That of `check`, or that it did not within [`LIMIT`].
pub(crate) async fn until<Checking>(what: &str, mut check: impl FnMut() -> Checking) -> Result<Instant>
where
    Checking: Future<Output = Result<bool>>,
{
    let end = Instant::now() + LIMIT;
    while Instant::now() < end {
        if check().await? {
            return Ok(Instant::now());
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    anyhow::bail!("not within {LIMIT:?}: {what}")
}

/// How far an agent is with what the hub wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Level {
    Applied,
    Healthy,
}

/// Waits until the hub has heard of a cluster that it is so far with this commit.
///
/// # Errors
/// If the CLI fails, or it never is.
pub(crate) async fn acknowledged(fleet: &Fleet, name: &str, commit: &str, level: Level) -> Result<Instant> {
    until(&format!("{name} is {level:?} at {commit}"), async || {
        let cluster: api::Cluster = fleet.cluster(name).await?;
        let Some(desired) = cluster.desired else { return Ok(false) };
        let reached = match level {
            Level::Applied => cluster.applied,
            Level::Healthy => cluster.healthy,
        };
        Ok(desired.commit == commit && reached.as_ref() == Some(&desired.digest))
    })
    .await
    .with_context(|| format!("wait for {name}"))
}
