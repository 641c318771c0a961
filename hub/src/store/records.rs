//! Typed access to the store: JSON values that carry a version, and an audit line with every change.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use flotilla_core::ClusterName;
use flotilla_runtime::lock;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::audit::{AUDIT_LINES, audit_key, audit_range};
use super::generations::Block;
use super::lease::Lease;
use super::published::FACTS;
use super::{
    AuditRecord, Outcome, RECORD_BYTES, RestoreRecord, Store, StoreError, Touched, Txn, VERSION, Write,
};

/// How often a change is tried again when somebody else wrote the same record.
pub(super) const ATTEMPTS: usize = 100;

/// The hub's records. All functions block; those that write return once it is on disk.
#[derive(Debug)]
pub struct Records {
    pub(super) store: Arc<dyn Store>,
    lease: Lease,
    pub(super) generations: Mutex<Block>,
    /// The sequence number of the next audit line.
    pub(super) next_audit: Mutex<u64>,
    /// No line before this one is kept.
    pub(super) oldest_audit: Mutex<u64>,
    /// Of clusters, for the fleet loop.
    pub(super) facts: Touched,
}

/// A change that was not made.
#[derive(Debug, thiserror::Error)]
pub enum UpdateError<E: std::error::Error + 'static> {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Refused(E),
}

#[derive(Serialize, Deserialize)]
struct Versioned<T> {
    v: u32,
    #[serde(flatten)]
    record: T,
}

#[derive(Deserialize)]
struct OnlyVersion {
    v: u32,
}

/// Reads a record.
pub(super) fn decode<T: DeserializeOwned>(key: &str, bytes: &[u8]) -> Result<T, StoreError> {
    let broken = |source| StoreError::Record { key: key.to_owned(), source };
    let OnlyVersion { v } = serde_json::from_slice(bytes).map_err(broken)?;
    if v > VERSION {
        return Err(StoreError::Newer { key: key.to_owned(), version: v, known: VERSION });
    }
    serde_json::from_slice::<Versioned<T>>(bytes).map(|versioned| versioned.record).map_err(broken)
}

/// Writes a record.
pub(super) fn encode<T: Serialize>(record: &T) -> Vec<u8> {
    serde_json::to_vec(&Versioned { v: VERSION, record }).expect("records are JSON objects")
}

pub(super) fn by_cluster<T>(records: Vec<(String, T)>) -> Result<BTreeMap<ClusterName, T>, StoreError> {
    let named = |(name, record): (String, T)| {
        name.parse().map(|name| (name, record)).map_err(|_| StoreError::Key(name.into_bytes()))
    };
    records.into_iter().map(named).collect()
}

impl Records {
    /// Over a store, at its first use or a later one. Takes its lease: records of it that were opened before write no more.
    pub fn open(store: Arc<dyn Store>) -> Result<Self, StoreError> {
        let lease = Lease::take(&*store)?;
        let (oldest, next) = audit_range(&*store)?;
        let (oldest_audit, next_audit) = (Mutex::new(oldest), Mutex::new(next));
        let generations = Mutex::new(Block::load(&*store)?);
        let facts = store.touched(FACTS);
        Ok(Self { store, lease, generations, next_audit, oldest_audit, facts })
    }

    /// Waits until another hub has the lease: this one writes nothing any more, and is to end.
    pub async fn lease_lost(&self) -> StoreError {
        self.lease.clone().lost(self.store.clone()).await
    }

    /// The store below, for backups and watches.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    pub(super) fn read<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, StoreError> {
        self.store.get(key)?.map(|bytes| decode(key, &bytes)).transpose()
    }

    /// All records under `prefix`, by what follows it in the key.
    pub(super) fn list<T: DeserializeOwned>(&self, prefix: &str) -> Result<Vec<(String, T)>, StoreError> {
        let entries = self.store.scan(prefix)?;
        entries
            .into_iter()
            .map(|(key, bytes)| Ok((key[prefix.len()..].to_owned(), decode(&key, &bytes)?)))
            .collect()
    }

    /// Makes a transaction, while this hub has the lease. A conflict is then about the transaction's own comparisons.
    ///
    /// # Errors
    /// [`StoreError::TooLong`], before anything is written: what grows is kept in parts, or has bounds of its own.
    pub(super) fn write(&self, txn: Txn) -> Result<Outcome, StoreError> {
        self.write_by(txn, None)
    }

    /// As [`Records::write`]; `writer` is as in [`Store::txn_by`].
    pub(super) fn write_by(&self, mut txn: Txn, writer: Option<&Touched>) -> Result<Outcome, StoreError> {
        for Write { key, value } in &txn.writes {
            let bytes = key.len() + value.as_ref().map_or(0, Vec::len);
            if bytes > RECORD_BYTES {
                return Err(StoreError::TooLong { key: key.clone(), bytes });
            }
        }
        self.lease.guard(&mut txn);
        let outcome = self.store.txn_by(&txn, writer)?;
        if outcome == Outcome::Conflict {
            self.lease.check(&*self.store)?;
        }
        Ok(outcome)
    }

    /// Commits, with a line in the audit log.
    pub(super) fn commit(&self, txn: Txn, audit: Option<&AuditRecord>) -> Result<Outcome, StoreError> {
        let Some(audit) = audit else { return self.write(txn) };
        // Held across the commit: lines are numbered without gaps, in the order in which they are written.
        let mut next = lock(&self.next_audit);
        let change = txn;
        for _ in 0..ATTEMPTS {
            let (mut txn, key) = (change.clone(), audit_key(*next));
            // Nothing ever writes over a line, whatever became of the count.
            txn.expect(&key, None);
            txn.put(&key, encode(audit));
            if let Some(old) = next.checked_sub(AUDIT_LINES) {
                txn.remove(audit_key(old));
            }
            if self.write(txn)? == Outcome::Committed {
                *next += 1;
                tracing::info!(
                    who = audit.who,
                    action = audit.action,
                    target = audit.target,
                    detail = audit.detail,
                    "audit"
                );
                return Ok(Outcome::Committed);
            }
            if self.store.get(&key)?.is_none() {
                return Ok(Outcome::Conflict);
            }
            *next = audit_range(&*self.store)?.1;
        }
        Err(StoreError::Contended("the audit log".to_owned()))
    }

    /// Reads, changes and writes one record; `None` from `change` removes it. Nothing is written, nor noted in
    /// the audit log, where the record stays as it is.
    pub(super) fn update<T, E>(
        &self,
        key: &str,
        audit: Option<&AuditRecord>,
        mut change: impl FnMut(Option<T>) -> Result<Option<T>, E>,
    ) -> Result<Option<T>, UpdateError<E>>
    where
        T: Serialize + DeserializeOwned,
        E: std::error::Error + 'static,
    {
        for _ in 0..ATTEMPTS {
            let old = self.store.get(key)?;
            let record = old.as_ref().map(|bytes| decode(key, bytes)).transpose()?;
            let new = change(record).map_err(UpdateError::Refused)?;
            let bytes = new.as_ref().map(encode);
            if bytes == old {
                return Ok(new);
            }
            let mut txn = Txn::default();
            txn.expect(key, old);
            match bytes {
                Some(bytes) => txn.put(key, bytes),
                None => txn.remove(key),
            }
            if self.commit(txn, audit)? == Outcome::Committed {
                return Ok(new);
            }
        }
        Err(StoreError::Contended(key.to_owned()).into())
    }

    /// As [`Records::update`], for changes that cannot be refused.
    pub(super) fn set<T: Serialize + DeserializeOwned>(
        &self,
        key: &str,
        audit: Option<&AuditRecord>,
        mut change: impl FnMut(Option<T>) -> Option<T>,
    ) -> Result<Option<T>, StoreError> {
        self.update(key, audit, |record| Ok::<_, std::convert::Infallible>(change(record))).map_err(|error| {
            match error {
                UpdateError::Store(error) => error,
                UpdateError::Refused(never) => match never {},
            }
        })
    }

    /// Notes from which backup this store was made.
    #[cfg(test)]
    pub(crate) fn note_restored(&self, restored: &RestoreRecord) -> Result<(), StoreError> {
        self.set("meta/restored", None, |_| Some(restored.clone())).map(|_| ())
    }

    /// From which backup this store was made, if it was.
    pub fn restored(&self) -> Result<Option<RestoreRecord>, StoreError> {
        self.read("meta/restored")
    }
}

#[cfg(test)]
#[path = "records_tests.rs"]
mod tests;
