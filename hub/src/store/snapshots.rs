//! Snapshots that something is published from, and which of them each cluster's units are from.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use flotilla_core::{ClusterName, Digest, UnitId};
use serde::{Deserialize, Serialize};

use super::{Outcome, Records, Snapshot, SourceAt, StoreError, Txn};

const SNAPSHOTS: &str = "snapshot/";
const AT: &str = "at/";

/// From which snapshots a cluster's units last rendered.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterAt {
    /// Of all units that are not named.
    pub snapshot: Option<Digest>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub units: BTreeMap<UnitId, Digest>,
    /// Those that were noted before, the latest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub before: Vec<Digest>,
}

impl ClusterAt {
    /// How many of those before are kept.
    pub const BEFORE: usize = 10;
}

#[derive(Serialize, Deserialize)]
struct SnapshotRecord {
    commit: String,
    renderer: String,
    sources: BTreeMap<Digest, SourceRecord>,
}

#[derive(Serialize, Deserialize)]
struct SourceRecord {
    key: Digest,
    revision: String,
    content: Digest,
}

fn key_of(snapshot: Digest) -> String {
    format!("{SNAPSHOTS}{snapshot}")
}

impl Records {
    /// Notes a snapshot. Its name is its digest: a second time changes nothing.
    pub fn note_snapshot(&self, snapshot: &Snapshot) -> Result<(), StoreError> {
        let sources = snapshot.sources().iter().map(|(name, at)| {
            let SourceAt { key, revision, content } = at.clone();
            (*name, SourceRecord { key, revision, content })
        });
        let (commit, renderer) = (snapshot.commit().to_string(), snapshot.renderer().to_owned());
        let record = SnapshotRecord { commit, renderer, sources: sources.collect() };
        let mut txn = Txn::default();
        self.put_large(&key_of(snapshot.digest()), &record, &mut txn)?;
        self.put_all(txn)
    }

    fn put_all(&self, txn: Txn) -> Result<(), StoreError> {
        // Without comparisons it cannot conflict.
        match self.write(txn)? {
            Outcome::Committed => Ok(()),
            Outcome::Conflict => Err(StoreError::Contended("a snapshot".to_owned())),
        }
    }

    /// A snapshot that was noted; `None`: there is no such, or it is not what its name says.
    pub fn snapshot(&self, digest: Digest) -> Result<Option<Arc<Snapshot>>, StoreError> {
        let record = match self.read_large::<SnapshotRecord>(&key_of(digest)) {
            Ok(read) => read.record,
            Err(StoreError::Parts(_)) => None,
            Err(error) => return Err(error),
        };
        let Some(SnapshotRecord { commit, renderer, sources }) = record else { return Ok(None) };
        let sources = sources.into_iter().map(|(name, SourceRecord { key, revision, content })| {
            (name, SourceAt { key, revision, content })
        });
        let snapshot = Snapshot::of(commit.into(), sources.collect(), renderer);
        Ok((snapshot.digest() == digest).then(|| Arc::new(snapshot)))
    }

    /// From which snapshots a cluster's units last rendered.
    pub fn cluster_at(&self, cluster: &ClusterName) -> Result<ClusterAt, StoreError> {
        Ok(self.read_large(&format!("{AT}{cluster}"))?.record.unwrap_or_default())
    }

    /// The snapshots that records of clusters name.
    pub fn snapshots_in_use(&self) -> Result<BTreeSet<Digest>, StoreError> {
        let mut used = BTreeSet::new();
        for (_, ClusterAt { snapshot, units, before }) in self.list_large(AT)? {
            used.extend(snapshot.into_iter().chain(units.into_values()).chain(before));
        }
        Ok(used)
    }

    /// Forgets all snapshots but these.
    pub fn keep_snapshots(&self, used: &BTreeSet<Digest>) -> Result<(), StoreError> {
        let of = |key: &str| key[SNAPSHOTS.len()..].split('/').next().and_then(|name| name.parse().ok());
        for (key, _) in self.store.scan(SNAPSHOTS)? {
            // What has no digest is of another version.
            if of(&key).is_some_and(|digest: Digest| !used.contains(&digest)) {
                let mut txn = Txn::default();
                txn.remove(key);
                self.put_all(txn)?;
            }
        }
        Ok(())
    }

    pub(super) fn put_cluster_at(
        &self,
        cluster: &ClusterName,
        at: &ClusterAt,
        txn: &mut Txn,
    ) -> Result<(), StoreError> {
        self.put_large(&format!("{AT}{cluster}"), at, txn)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{MemoryStore, Store as _};
    use super::*;

    fn snapshot(sources: usize) -> Snapshot {
        let digest = |n: usize| Digest::of(n.to_string().as_bytes());
        let at = |n| SourceAt { key: digest(n), revision: format!("main@sha1:{n}"), content: digest(n + 1) };
        Snapshot::new("c0ffee".into(), (0..sources).map(|n| (digest(n), at(n))).collect())
    }

    #[test]
    fn snapshots_are_read_back_whole_and_kept_while_they_are_used() {
        let store = Arc::new(MemoryStore::default());
        let records = Records::open(store.clone()).unwrap();
        let all: Vec<Snapshot> = [0, 1, 2_000, 4_001].map(snapshot).into();
        for one in &all {
            assert_eq!(records.snapshot(one.digest()).unwrap(), None);
            records.note_snapshot(one).unwrap();
            records.note_snapshot(one).unwrap();
            assert_eq!(records.snapshot(one.digest()).unwrap().as_deref(), Some(one));
        }
        let mut txn = Txn::default();
        txn.remove(format!("{}/0001", key_of(all[3].digest())));
        records.put_all(txn).unwrap();
        assert_eq!(records.snapshot(all[3].digest()).unwrap(), None, "a part of it is lost");
        let mut txn = Txn::default();
        let (snapshot, before) = (Some(all[1].digest()), vec![all[2].digest()]);
        let at = ClusterAt { snapshot, units: [(UnitId::root(), all[0].digest())].into(), before };
        records.put_cluster_at(&"edge".parse().unwrap(), &at, &mut txn).unwrap();
        records.put_all(txn).unwrap();
        assert_eq!(records.cluster_at(&"edge".parse().unwrap()).unwrap(), at);
        let used = all[..3].iter().map(Snapshot::digest).collect();
        assert_eq!(records.snapshots_in_use().unwrap(), used);
        records.keep_snapshots(&used).unwrap();
        assert!(records.snapshot(all[2].digest()).unwrap().is_some());
        records.keep_snapshots(&[all[1].digest()].into()).unwrap();
        assert!(records.snapshot(all[1].digest()).unwrap().is_some());
        let kept: Vec<String> = store.scan(SNAPSHOTS).unwrap().into_iter().map(|(key, _)| key).collect();
        assert_eq!(kept, [key_of(all[1].digest())]);
    }
}
