//! Records of clusters: who is enrolled, and whose agents are to hear that their cluster was deleted.

use std::collections::BTreeMap;

use flotilla_core::report::Timestamp;
use flotilla_core::{ClusterName, Digest};

use super::records::{Records, by_cluster, decode, encode};
use super::{AuditRecord, ClusterRecord, DeletedRecord, Outcome, StoreError, Txn};

/// Where agents of deleted clusters are kept, and for how long, in seconds: one that is away for longer is refused like a
/// stranger.
const DELETED: &str = "deleted/";
const DELETED_FOR: Timestamp = 400 * 24 * 3600;

pub(super) fn cluster_key(name: &ClusterName) -> String {
    format!("cluster/{name}")
}

pub(super) fn deleted_key(public_key: &str) -> String {
    format!("{DELETED}{}", Digest::of(public_key.as_bytes()))
}

impl Records {
    pub fn cluster(&self, name: &ClusterName) -> Result<Option<ClusterRecord>, StoreError> {
        self.read(&cluster_key(name))
    }

    pub fn clusters(&self) -> Result<BTreeMap<ClusterName, ClusterRecord>, StoreError> {
        by_cluster(self.list("cluster/")?)
    }

    /// Changes an enrolled cluster's record, if it is there; answers the new one.
    pub fn change_cluster(
        &self,
        name: &ClusterName,
        audit: Option<&AuditRecord>,
        change: impl Fn(&mut ClusterRecord),
    ) -> Result<Option<ClusterRecord>, StoreError> {
        self.set(&cluster_key(name), audit, |record: Option<ClusterRecord>| {
            record.map(|mut record| {
                change(&mut record);
                record
            })
        })
    }

    /// Adopts a cluster that the store has no record of; answers whether it had none.
    pub fn adopt_cluster(
        &self,
        name: &ClusterName,
        record: &ClusterRecord,
        audit: &AuditRecord,
    ) -> Result<bool, StoreError> {
        let mut txn = Txn::default();
        txn.expect(cluster_key(name), None);
        txn.put(cluster_key(name), encode(record));
        Ok(self.commit(txn, Some(audit))? == Outcome::Committed)
    }

    /// Forgets everything about a cluster, its join tokens too, but that its agent is to be told.
    pub fn forget_cluster(&self, name: &ClusterName, audit: &AuditRecord) -> Result<(), StoreError> {
        let key = cluster_key(name);
        loop {
            let mut txn = Txn::default();
            for (agent, record) in self.list::<DeletedRecord>(DELETED)? {
                if record.at < audit.at - DELETED_FOR {
                    txn.remove(format!("{DELETED}{agent}"));
                }
            }
            // Of the agent that is enrolled now, not of one whose place another takes in this moment.
            let old = self.store.get(&key)?;
            if let Some(bytes) = &old {
                let record: ClusterRecord = decode(&key, bytes)?;
                let deleted = DeletedRecord { cluster: name.to_string(), at: audit.at };
                txn.put(deleted_key(&record.public_key), encode(&deleted));
            }
            txn.expect(&key, old);
            txn.remove(&key);
            for prefix in ["kubernetes", "nodes", "root", "history"] {
                txn.remove(format!("{prefix}/{name}"));
            }
            for prefix in ["known", "suspended", "declared", "at", "going"] {
                self.remove_large(&format!("{prefix}/{name}"), &mut txn)?;
            }
            self.remove_replies(name, &mut txn)?;
            for (key, _) in self.store.scan(&format!("approval/{name}/"))? {
                txn.remove(key);
            }
            for (hash, token) in self.join_tokens()? {
                if token.cluster == name.as_str() {
                    txn.remove(format!("join/{hash}"));
                }
            }
            if self.commit(txn, Some(audit))? == Outcome::Committed {
                return Ok(());
            }
        }
    }

    /// The cluster whose deletion ended the work of the agent with this key, if there was one.
    pub fn deleted(&self, public_key: &str) -> Result<Option<DeletedRecord>, StoreError> {
        self.read(&deleted_key(public_key))
    }
}
