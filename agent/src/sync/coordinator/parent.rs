//! The ApplySet's parent: what kubectl is to know of our objects.

use std::collections::BTreeMap;
use std::time::Duration;

use flotilla_runtime::{Backoff, chain};
use tokio::sync::{Notify, watch};

use crate::cluster::Cluster;

/// Keeps the ApplySet's parent as it was last said to be.
pub(super) async fn publish(
    cluster: &Cluster,
    mut wanted: watch::Receiver<BTreeMap<String, String>>,
    unset: &Notify,
) {
    let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(300));
    loop {
        tokio::select! {
            changed = wanted.changed() => if changed.is_err() { break },
            // Before anything was applied there is nothing to say.
            () = unset.notified() => if wanted.borrow().is_empty() { continue },
        }
        loop {
            let annotations = wanted.borrow_and_update().clone();
            let Err(failure) = cluster.publish_set(&annotations).await else { break };
            tracing::debug!(error = chain(&failure), "the ApplySet's labels for kubectl are not written");
            if failure.is_not_found() || failure.is_terminating() {
                // The namespace is on its way: the inventory makes it.
                tokio::time::sleep(Duration::from_millis(500)).await;
            } else {
                backoff.wait().await;
            }
        }
        backoff.reset();
    }
    std::future::pending::<()>().await;
}
