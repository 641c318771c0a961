//! What the work on all units shares: the cluster, what is known of it, and how much may be under way.

use std::sync::Arc;

use bytes::Bytes;
use flotilla_core::Digest;
use flotilla_runtime::blocking;
use tokio::sync::SemaphorePermit;

use super::api::{Bodies, BodyError};
use super::key_services::KeyServices;
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
    /// One read of a body at a time: a disk that stalls has one thread of ours waiting for it.
    pub(super) reads: tokio::sync::Semaphore,
    pub(super) reasons: Reasons,
    pub(super) key_services: KeyServices,
    /// Seats for work on single objects: whoever waits for one holds no content and hardly any memory, so that
    /// thousands can.
    pub(super) seats: tokio::sync::Semaphore,
}

impl Tools {
    pub(super) async fn seat(&self) -> Option<SemaphorePermit<'_>> {
        // It is never closed; without a seat the work would go on all the same.
        self.seats.acquire().await.ok()
    }

    /// An object's body, read on a thread that may block.
    pub(super) async fn body(&self, digest: Digest) -> Result<Bytes, BodyError> {
        let _turn = self.reads.acquire().await;
        let bodies = self.bodies.clone();
        blocking(move || bodies.body(digest)).await
    }
}
