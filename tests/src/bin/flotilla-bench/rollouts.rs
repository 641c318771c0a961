//! When the Deployments of the benchmark are there, and when all their pods are available: as a cluster tells by a
//! watch, the same way whoever applied them.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use futures::StreamExt;
use k8s_openapi::api::apps::v1::Deployment;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::load::NAMESPACE;

/// How many Deployments there are, and how many of them are available.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Counts {
    there: usize,
    available: usize,
}

/// A watch on the Deployments. Ends on drop.
#[derive(Debug)]
pub(crate) struct Rollouts {
    counts: watch::Receiver<Counts>,
    task: JoinHandle<()>,
}

impl Drop for Rollouts {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Rollouts {
    pub(crate) fn watch(client: Client) -> Self {
        let (sender, counts) = watch::channel(Counts { there: 0, available: 0 });
        let deployments: Api<Deployment> = Api::namespaced(client, NAMESPACE);
        // It ends when it is aborted, or with the receiver, which is dropped at the same time.
        let task = tokio::spawn(async move {
            let events = watcher(deployments, watcher::Config::default()).default_backoff().applied_objects();
            let mut events = std::pin::pin!(events);
            let mut known = HashMap::new();
            let mut available = 0;
            while let Some(event) = events.next().await {
                // A watch that fails begins anew by itself.
                let Ok(deployment) = event else { continue };
                let now = is_available(&deployment);
                let before = known.insert(deployment.name_any(), now).unwrap_or(false);
                available = available + usize::from(now) - usize::from(before);
                if sender.send(Counts { there: known.len(), available }).is_err() {
                    return;
                }
            }
        });
        Self { counts, task }
    }

    /// Waits until there are so many, available or not.
    ///
    /// # Errors
    /// The last count, if they are not within `limit`.
    pub(crate) async fn there(&mut self, number: usize, limit: Duration) -> Result<Instant> {
        self.reach(|counts| counts.there >= number, limit).await
    }

    /// Waits until so many are available.
    ///
    /// # Errors
    /// As [`Rollouts::there`].
    pub(crate) async fn available(&mut self, number: usize, limit: Duration) -> Result<Instant> {
        self.reach(|counts| counts.available >= number, limit).await
    }

    async fn reach(&mut self, level: impl Fn(&Counts) -> bool, limit: Duration) -> Result<Instant> {
        let reached = tokio::time::timeout(limit, self.counts.wait_for(level)).await.map(|it| it.map(drop));
        let last = *self.counts.borrow();
        reached
            .with_context(|| format!("not within {limit:?}, last seen: {last:?}"))?
            .context("the watch on Deployments ended")?;
        Ok(Instant::now())
    }
}

/// As `kubectl rollout status` says that it is done.
fn is_available(deployment: &Deployment) -> bool {
    let wanted = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
    deployment.status.as_ref().is_some_and(|status| {
        status.observed_generation >= deployment.metadata.generation
            && status.updated_replicas.unwrap_or(0) == wanted
            && status.available_replicas.unwrap_or(0) == wanted
    })
}
