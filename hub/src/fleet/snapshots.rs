//! The snapshots in use, each in memory once.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use flotilla_core::Digest;
use flotilla_runtime::lock;

use super::cluster::Shared;
use crate::desired::choice::Choice;
use crate::rollout::Wanted;
use crate::store::{Snapshot, StoreError};

impl Shared {
    /// One snapshot for all that are rendered from the same.
    pub(super) fn interned(&self, snapshot: Snapshot) -> Arc<Snapshot> {
        let mut known = lock(&self.snapshots);
        if let Some(known) = known.get(&snapshot.digest()).and_then(Weak::upgrade) {
            return known;
        }
        let snapshot = Arc::new(snapshot);
        known.insert(snapshot.digest(), Arc::downgrade(&snapshot));
        snapshot
    }

    /// Forgets the snapshots that nobody has any more.
    pub(super) fn drop_snapshots(&self) {
        let mut known = lock(&self.snapshots);
        known.retain(|_, snapshot| snapshot.strong_count() > 0);
    }

    /// What other clusters have of an older candidate, put together.
    pub(super) fn like(&self, wanted: &Wanted) -> Result<Arc<Snapshot>, StoreError> {
        let mut sources = BTreeMap::new();
        for digest in &wanted.like {
            sources.extend(self.snapshot(*digest)?.into_iter().flat_map(|found| found.sources().clone()));
        }
        Ok(self.interned(Snapshot::new(wanted.commit.clone(), sources)))
    }

    /// The snapshots that a choice names; those that are lost are left out.
    pub(super) fn snapshots_of(&self, choice: &Choice) -> Result<Vec<Arc<Snapshot>>, StoreError> {
        choice.snapshots().filter_map(|digest| self.snapshot(digest).transpose()).collect()
    }

    /// A snapshot that was noted; `None`: it is lost.
    pub(super) fn snapshot(&self, digest: Digest) -> Result<Option<Arc<Snapshot>>, StoreError> {
        let known = || lock(&self.snapshots);
        if let Some(snapshot) = known().get(&digest).and_then(Weak::upgrade) {
            return Ok(Some(snapshot));
        }
        let snapshot = self.ledger.snapshot(digest)?;
        match &snapshot {
            Some(snapshot) => drop(known().insert(digest, Arc::downgrade(snapshot))),
            None => tracing::warn!(%digest, "a snapshot that clusters were rendered from is lost"),
        }
        Ok(snapshot)
    }
}
