//! Typed access to the store: JSON values that carry a version, and an audit line with every change.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use flotilla_core::report::Timestamp;
use flotilla_core::{ClusterName, Digest, UnitId};
use flotilla_runtime::lock;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::generations::Block;
use super::lease::Lease;
use super::published::FACTS;
use super::{
    ApprovalRecord, AuditRecord, ClusterRecord, DeletedRecord, History, HistoryRecord, Outcome, RECORD_BYTES,
    RestoreRecord, Store, StoreError, SuspensionRecord, Suspensions, Touched, Txn, VERSION, Write,
};

/// How many lines the audit log keeps.
const AUDIT_LINES: u64 = 200_000;
/// How many states the history of a cluster keeps.
const HISTORY_STATES: usize = 20;
/// Where agents of deleted clusters are kept, and for how long, in seconds: one that is away for longer is refused like a
/// stranger.
const DELETED: &str = "deleted/";
const DELETED_FOR: Timestamp = 400 * 24 * 3600;
/// How often a change is tried again when somebody else wrote the same record.
pub(super) const ATTEMPTS: usize = 100;

/// The hub's records. All functions block; those that write return once it is on disk.
#[derive(Debug)]
pub struct Records {
    pub(super) store: Arc<dyn Store>,
    lease: Lease,
    pub(super) generations: Mutex<Block>,
    /// The sequence number of the next audit line.
    next_audit: Mutex<u64>,
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

pub(super) fn cluster_key(name: &ClusterName) -> String {
    format!("cluster/{name}")
}

pub(super) fn deleted_key(public_key: &str) -> String {
    format!("{DELETED}{}", Digest::of(public_key.as_bytes()))
}

pub(super) fn audit_key(sequence: u64) -> String {
    format!("audit/{sequence:020}")
}

fn audit_sequence(key: &str) -> Result<u64, StoreError> {
    // Written with all its digits, so that keys are in the order of the numbers.
    let number = key.strip_prefix("audit/").filter(|number| number.len() == 20);
    number.and_then(|number| number.parse().ok()).ok_or_else(|| StoreError::Key(key.as_bytes().to_vec()))
}

/// The sequence numbers of the oldest audit line and of the next one. A line whose number cannot be read is an error: counting
/// from anywhere else could come to one that is taken.
fn audit_range(store: &dyn Store) -> Result<(u64, u64), StoreError> {
    let lines = store.scan("audit/")?;
    let (Some((first, _)), Some((last, _))) = (lines.first(), lines.last()) else { return Ok((0, 0)) };
    Ok((audit_sequence(first)?, audit_sequence(last)?.saturating_add(1)))
}

fn by_cluster<T>(records: Vec<(String, T)>) -> Result<BTreeMap<ClusterName, T>, StoreError> {
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

    // Clusters

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
            for prefix in ["kubernetes", "root", "history"] {
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

    // Suspensions by hand

    pub fn suspensions(&self) -> Result<BTreeMap<ClusterName, Suspensions>, StoreError> {
        by_cluster(self.list_large("suspended/")?)
    }

    pub fn suspensions_of(&self, cluster: &ClusterName) -> Result<Suspensions, StoreError> {
        Ok(self.read_large(&format!("suspended/{cluster}"))?.record.unwrap_or_default())
    }

    /// Suspends (`Some`) or resumes (`None`) a cluster, or one of its units.
    pub fn suspend(
        &self,
        cluster: &ClusterName,
        unit: Option<&UnitId>,
        suspension: Option<&SuspensionRecord>,
        audit: &AuditRecord,
    ) -> Result<(), StoreError> {
        if let (Some(unit), None) = (unit, suspension) {
            self.resume_known(cluster, unit)?;
        }
        self.set_large(&format!("suspended/{cluster}"), Some(audit), |record: Option<Suspensions>| {
            let mut all = record.unwrap_or_default();
            match (unit, suspension) {
                (None, suspension) => all.cluster = suspension.cloned(),
                (Some(unit), Some(suspension)) => {
                    all.units.insert(unit.clone(), suspension.clone());
                }
                (Some(unit), None) => {
                    all.units.remove(unit);
                }
            }
            (all != Suspensions::default()).then_some(all)
        })
    }

    // Approvals

    pub fn approve(
        &self,
        cluster: &ClusterName,
        digest: Digest,
        approval: &ApprovalRecord,
        audit: &AuditRecord,
    ) -> Result<(), StoreError> {
        let key = format!("approval/{cluster}/{digest}");
        self.set(&key, Some(audit), |_| Some(approval.clone())).map(|_| ())
    }

    /// Approvals that the agent has not taken yet.
    pub fn undelivered_approvals(&self, cluster: &ClusterName) -> Result<Vec<Digest>, StoreError> {
        let all: Vec<(String, ApprovalRecord)> = self.list(&format!("approval/{cluster}/"))?;
        let open = all.into_iter().filter(|(_, approval)| approval.delivered_at.is_none());
        open.map(|(digest, _)| digest.parse().map_err(|_| StoreError::Key(digest.into_bytes()))).collect()
    }

    pub fn approval_delivered(
        &self,
        cluster: &ClusterName,
        digest: Digest,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        self.set(&format!("approval/{cluster}/{digest}"), None, |approval: Option<ApprovalRecord>| {
            approval.map(|approval| ApprovalRecord { delivered_at: Some(at), ..approval })
        })
        .map(|_| ())
    }

    // History and audit

    pub fn history(&self, cluster: &ClusterName) -> Result<Vec<HistoryRecord>, StoreError> {
        let history: Option<History> = self.read(&format!("history/{cluster}"))?;
        Ok(history.unwrap_or_default().states)
    }

    /// Notes how far a cluster got with a state.
    pub fn note_history(
        &self,
        cluster: &ClusterName,
        state: &HistoryRecord,
        note: impl Fn(&mut HistoryRecord),
    ) -> Result<(), StoreError> {
        self.set(&format!("history/{cluster}"), None, |history: Option<History>| {
            let mut states = history.unwrap_or_default().states;
            if states.last().is_none_or(|last| last.digest != state.digest) {
                states.push(state.clone());
            }
            let excess = states.len().saturating_sub(HISTORY_STATES);
            states.drain(..excess);
            note(states.last_mut().expect("one was just pushed"));
            Some(History { states })
        })
        .map(|_| ())
    }

    /// Adds a line for something that changed no other record.
    pub fn audit(&self, line: &AuditRecord) -> Result<(), StoreError> {
        self.commit(Txn::default(), Some(line)).map(|_| ())
    }

    /// The number of the next audit line.
    pub(super) fn audit_end(&self) -> u64 {
        *lock(&self.next_audit)
    }

    /// The number of the oldest audit line that may be kept.
    pub(super) fn audit_begin(&self) -> u64 {
        let oldest = *lock(&self.oldest_audit);
        self.audit_end().saturating_sub(AUDIT_LINES).max(oldest)
    }

    /// The audit log, oldest first, with sequence numbers.
    pub fn audit_log(&self) -> Result<Vec<(u64, AuditRecord)>, StoreError> {
        let lines = self.store.scan("audit/")?;
        lines.iter().map(|(key, line)| Ok((audit_sequence(key)?, decode(key, line)?))).collect()
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
