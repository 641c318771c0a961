//! What the work on all units shares: the cluster, what is known of it, and how much may be under way.

use std::sync::Arc;

use tokio::sync::SemaphorePermit;

use super::api::Bodies;
use super::reasons::Reasons;
use crate::cluster::Cluster;
use crate::cluster::inventory::InventoryWriter;
use crate::cluster::members::Members;
use crate::cluster::owners::Owners;
use crate::cluster::values::SeenValues;

/// What all units' work shares.
pub(super) struct Tools {
    pub(super) cluster: Cluster,
    pub(super) inventory: InventoryWriter,
    pub(super) members: Arc<Members>,
    pub(super) values: Arc<SeenValues>,
    pub(super) owners: Owners,
    pub(super) bodies: Arc<dyn Bodies>,
    pub(super) reasons: Reasons,
    /// Seats for work on single objects: whoever waits for one holds no content and hardly any memory, so that
    /// thousands can.
    pub(super) seats: tokio::sync::Semaphore,
}

impl Tools {
    pub(super) async fn seat(&self) -> Option<SemaphorePermit<'_>> {
        // It is never closed; without a seat the work would go on all the same.
        self.seats.acquire().await.ok()
    }
}
