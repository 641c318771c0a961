//! What the hub must not lose, in an embedded store.
//!
//! ```text
//! API, sessions, fleet loop ──► Records (typed) ──► Store (keys, bytes, transactions) ──► redb | memory
//!                                   └─ audit line in the same transaction as the change
//! ```
//! A transaction that answered `Committed` is on disk. Git and the agents' reports rebuild everything that is
//! not here.

mod approvals;
mod audit;
pub mod backup;
mod clusters;
mod disk;
#[cfg(test)]
pub(crate) mod faulty;
mod generations;
mod history;
mod journal;
mod known;
mod lease;
mod memory;
mod parts;
mod published;
mod records;
mod replies;
mod reported;
mod rollouts;
pub mod secrets;
mod snapshot;
mod snapshots;
#[cfg(test)]
mod suite;
mod suspensions;
mod tokens;
mod types;

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use flotilla_runtime::lock;

use tokio::sync::watch;

pub use audit::AUDIT;
pub use disk::DiskStore;
pub use generations::MAX_RAISE;
pub use journal::{EventRecord, JournalHead};
pub use memory::MemoryStore;
pub use published::ClusterNotes;
pub use records::{Records, UpdateError};
pub use rollouts::Rollout;
pub use snapshot::{Snapshot, SourceAt};
pub use snapshots::ClusterAt;
pub use tokens::{API_TOKENS, EnrolError, FIRST_TOKEN_CLAIM};
pub use types::*;
pub(crate) use types::{object_of, object_text};

/// How long a record may be, with its key.
pub const RECORD_BYTES: usize = 1 << 20;

/// A condition that must hold for a transaction's writes to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compare {
    pub key: String,
    /// The value that the key must have; `None`: it must be absent.
    pub value: Option<Vec<u8>>,
}

/// A key's new value; `None` removes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    pub key: String,
    pub value: Option<Vec<u8>>,
}

/// All of the writes or none of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Txn {
    pub compares: Vec<Compare>,
    pub writes: Vec<Write>,
}

impl Txn {
    pub fn expect(&mut self, key: impl Into<String>, value: Option<Vec<u8>>) {
        self.compares.push(Compare { key: key.into(), value });
    }

    pub fn put(&mut self, key: impl Into<String>, value: Vec<u8>) {
        self.writes.push(Write { key: key.into(), value: Some(value) });
    }

    pub fn remove(&mut self, key: impl Into<String>) {
        self.writes.push(Write { key: key.into(), value: None });
    }
}

/// What came of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Outcome {
    /// All writes are on disk.
    Committed,
    /// A comparison did not hold; nothing was written.
    Conflict,
}

/// What a kind of store says of a failure; nobody above tells one kind from another.
pub type Cause = Arc<dyn std::error::Error + Send + Sync>;

/// The store failed, or holds what this build cannot read.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("cannot open the store in {}", path.display())]
    Open { path: PathBuf, source: Cause },
    #[error("the store {} is damaged ({reason}): restore a backup into another data folder with 'flotilla-hub restore'", path.display())]
    Damaged { path: PathBuf, reason: String },
    #[error(
        "the store in {} is of the format before this one: make a backup with the build that wrote it ('flotilla-hub backup'), \
         and restore that into another data folder with this one ('flotilla-hub restore')", .0.display()
    )]
    Former(PathBuf),
    #[error("the store in {} is in use by another process", .0.display())]
    InUse(PathBuf),
    #[error("cannot {attempt} the store")]
    Io { attempt: &'static str, source: Cause },
    #[error("the record {key} cannot be read")]
    Record { key: String, source: serde_json::Error },
    #[error("the record {key} cannot be read")]
    Text { key: String, source: InvalidText },
    #[error(
        "the record {key} would have {bytes} bytes, and a record has {RECORD_BYTES} at most: nothing was written"
    )]
    TooLong { key: String, bytes: usize },
    #[error("the parts of the record {0} are not those that were written together: restore a backup")]
    Parts(String),
    #[error("the record {key} has version {version}, and this hub knows version {known}: run a newer hub")]
    Newer { key: String, version: u32, known: u32 },
    #[error("the records of the pipeline {pipeline} cannot be read")]
    Rollout { pipeline: String, source: flotilla_rollout::state::UnknownVersion },
    #[error("the key {0:?} of the store is not text")]
    Key(Vec<u8>),
    #[cfg(test)]
    #[error("cannot {attempt} the store: this test says so")]
    Injected { attempt: &'static str },
    #[error(
        "another hub writes to the store now: this one had its lease as number {0} and may write no more; end one of the two"
    )]
    LeaseLost(u64),
    #[error("{0} was changed by others again and again; try once more")]
    Contended(String),
}

/// Keys and values with transactions. Keys are texts like `cluster/staging`. All functions block.
pub trait Store: Send + Sync + fmt::Debug {
    fn get(&self, key: &str) -> Result<Option<Vec<u8>>, StoreError>;

    /// Every key that begins with `prefix`, in order, as of one moment.
    fn scan(&self, prefix: &str) -> Result<Vec<(String, Vec<u8>)>, StoreError>;

    /// Makes all writes if all comparisons hold, durably before it returns.
    fn txn(&self, txn: &Txn) -> Result<Outcome, StoreError> {
        self.txn_by(txn, None)
    }

    /// As [`Store::txn`]. `writer` gathers keys and knows what it writes: those of a transaction that is committed are not
    /// gathered for it; those that others wrote, and those of which the answer is an error, are.
    fn txn_by(&self, txn: &Txn, writer: Option<&Touched>) -> Result<Outcome, StoreError>;

    /// Ticks after a transaction wrote a key that begins with `prefix`, or may have.
    fn watch(&self, prefix: &str) -> watch::Receiver<u64>;

    /// Gathers the keys with one of these prefixes that a transaction wrote, or may have.
    fn touched(&self, prefixes: &'static [&'static str]) -> Touched;
}

/// Keys that were written since they were last taken.
#[derive(Debug, Clone, Default)]
pub struct Touched {
    prefixes: &'static [&'static str],
    keys: Arc<Mutex<BTreeSet<String>>>,
}

impl Touched {
    /// Those since the last time.
    pub fn take(&self) -> BTreeSet<String> {
        std::mem::take(&mut *lock(&self.keys))
    }
}

/// Who watches which prefix.
#[derive(Debug, Default)]
struct Watchers {
    ticks: Mutex<Vec<(String, watch::Sender<u64>)>>,
    touched: Mutex<Vec<Touched>>,
}

impl Watchers {
    fn subscribe(&self, prefix: &str) -> watch::Receiver<u64> {
        let mut watchers = lock(&self.ticks);
        watchers.retain(|(_, sender)| sender.receiver_count() > 0);
        if let Some((_, sender)) = watchers.iter().find(|(watched, _)| watched == prefix) {
            return sender.subscribe();
        }
        let (sender, receiver) = watch::channel(0);
        watchers.push((prefix.to_owned(), sender));
        receiver
    }

    fn gather(&self, prefixes: &'static [&'static str]) -> Touched {
        let touched = Touched { prefixes, keys: Arc::default() };
        let mut gathering = lock(&self.touched);
        gathering.retain(|other| Arc::strong_count(&other.keys) > 1);
        gathering.push(touched.clone());
        touched
    }

    /// Tells everybody of writes but `writer`, which knows of them.
    fn notify(&self, writes: &[Write], writer: Option<&Touched>) {
        let is_writer = |keys| writer.is_some_and(|writer| Arc::ptr_eq(&writer.keys, keys));
        for Touched { prefixes, keys } in
            lock(&self.touched).iter().filter(|touched| !is_writer(&touched.keys))
        {
            let is_meant = |write: &&Write| prefixes.iter().any(|prefix| write.key.starts_with(prefix));
            let written = writes.iter().filter(is_meant).map(|write| write.key.clone());
            lock(keys).extend(written);
        }
        for (prefix, sender) in &*lock(&self.ticks) {
            if writes.iter().any(|write| write.key.starts_with(prefix.as_str())) {
                sender.send_modify(|count| *count += 1);
            }
        }
    }
}
