//! What others delete of the inventory, or the whole namespace of it, is written again as soon as the cluster takes it: the
//! lines are all here.

use std::collections::BTreeSet;
use std::time::Duration;

use flotilla_core::live::{Live, Metadata};
use flotilla_runtime::Backoff;
use flotilla_runtime::chain;
use futures::TryStreamExt;
use http::Method;
use kube::api::WatchEvent;
use serde::Deserialize;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::super::Cluster;
use super::super::applyset;
use super::super::discovery::Resource;
use super::super::request::{Call, Failure};
use super::InventoryWriter;
use super::pages::name_of;

/// Names and versions are enough: contents are only ever ours.
const LISTED: &str = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
const WATCHED: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
/// A watch that is silent for so long is taken for dead: the API server sends a bookmark each minute.
const SILENCE: Duration = Duration::from_secs(150);

/// A watch that lasted so long went well.
const LASTED: Duration = Duration::from_secs(60);

#[derive(Deserialize)]
struct Item {
    metadata: Metadata,
}

impl InventoryWriter {
    /// Follows the ConfigMaps beside the inventory, for ever. `set` is woken when the ApplySet's parent is gone.
    pub(crate) async fn follow(&self, cluster: &Cluster, set: &Notify) {
        let mut backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(60));
        loop {
            let begun = Instant::now();
            match self.follow_once(cluster, set).await {
                Ok(()) if begun.elapsed() >= LASTED => backoff.reset(),
                // One that ends at once, again and again, must not make a busy loop.
                Ok(()) => backoff.wait().await,
                Err(failure) => {
                    tracing::debug!(error = chain(&failure), "cannot follow what becomes of the inventory");
                    backoff.wait().await;
                }
            }
        }
    }

    /// Until the watch ends.
    async fn follow_once(&self, cluster: &Cluster, set: &Notify) -> Result<(), Failure> {
        let path = Resource::inventory_path("").trim_end_matches('/').to_owned();
        let mut call = Call::new(Method::GET, path.clone());
        call.accept = LISTED;
        let list = cluster.ask_list::<Item>(call, "configmaps").await?;
        let version = list.resource_version;
        let there: BTreeSet<String> = list.items.into_iter().map(|item| item.metadata.name).collect();
        self.lost(&version, |name| !there.contains(name));
        if !there.contains(applyset::NAME) {
            set.notify_one();
        }
        let mut call = Call::new(
            Method::GET,
            format!("{path}?watch=1&allowWatchBookmarks=true&resourceVersion={version}&timeoutSeconds=290"),
        );
        call.accept = WATCHED;
        let events = cluster.watch_call::<Live>(&call).await?;
        futures::pin_mut!(events);
        loop {
            match tokio::time::timeout(SILENCE, events.try_next()).await {
                Ok(Ok(Some(WatchEvent::Deleted(gone)))) => {
                    self.lost(&gone.metadata.resource_version, |name| name == gone.metadata.name);
                    if gone.metadata.name == applyset::NAME {
                        set.notify_one();
                    }
                }
                // The next list starts over.
                Ok(Ok(Some(WatchEvent::Error(status)))) if status.code != 410 => {
                    return Err(Failure::of_watch(&status));
                }
                Ok(Ok(Some(WatchEvent::Error(_)) | None)) | Err(_) => return Ok(()),
                Ok(Ok(Some(_))) => {}
                Ok(Err(error)) => return Err(Failure::Transport(error)),
            }
        }
    }

    /// Parts are gone by this version, unless they were written again since.
    fn lost(&self, version: &str, is_gone: impl Fn(&str) -> bool) {
        let by: u64 = version.parse().unwrap_or(u64::MAX);
        let mut pages = self.pages();
        let mut any = false;
        for (key, part) in &mut pages.parts {
            let is_older = part.version.parse().unwrap_or(0) <= by;
            if !part.version.is_empty() && is_older && is_gone(&name_of(*key)) {
                part.version.clear();
                part.dirty = true;
                any = true;
            }
        }
        if any {
            pages.change += 1;
            drop(pages);
            self.asked.notify_one();
        }
    }
}
