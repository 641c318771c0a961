//! The store on disk: sled, one tree, one writer at a time, flushed before anything is acknowledged.

use std::io;
use std::path::Path;
use std::sync::{PoisonError, RwLock};

use tokio::sync::watch;

use super::{Outcome, Store, StoreError, Txn, Watchers};

/// A sled database. Its folder belongs to one process at a time.
#[derive(Debug)]
pub struct DiskStore {
    db: sled::Db,
    /// Writers one at a time, so that comparisons hold until the batch is in; scans see whole transactions.
    gate: RwLock<()>,
    watchers: Watchers,
}

impl DiskStore {
    /// Opens the store, or makes it. Blocking.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let config = sled::Config::new().path(path).cache_capacity(16 << 20).mode(sled::Mode::LowSpace);
        let db = config.open().map_err(|source| {
            let locked = matches!(&source, sled::Error::Io(e) if is_lock_error(e));
            if locked {
                StoreError::InUse(path.to_owned())
            } else {
                StoreError::Open { path: path.to_owned(), source }
            }
        })?;
        Ok(Self { db, gate: RwLock::default(), watchers: Watchers::default() })
    }
}

/// sled wraps the lock's error in one of its own kind, so the text is all there is to tell it by.
fn is_lock_error(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock || error.to_string().contains("could not acquire lock")
}

fn io_error(attempt: &'static str) -> impl FnOnce(sled::Error) -> StoreError {
    move |source| StoreError::Io { attempt, source }
}

impl Store for DiskStore {
    fn get(&self, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.db.get(key).map_err(io_error("read"))?.map(|value| value.to_vec()))
    }

    fn scan(&self, prefix: &str) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        let _gate = self.gate.read().unwrap_or_else(PoisonError::into_inner);
        let entry = |entry: sled::Result<(sled::IVec, sled::IVec)>| {
            let (key, value) = entry.map_err(io_error("read"))?;
            let key = String::from_utf8(key.to_vec()).map_err(|e| StoreError::Key(e.into_bytes()))?;
            Ok((key, value.to_vec()))
        };
        self.db.scan_prefix(prefix).map(entry).collect()
    }

    fn txn(&self, txn: &Txn) -> Result<Outcome, StoreError> {
        {
            let _gate = self.gate.write().unwrap_or_else(PoisonError::into_inner);
            for compare in &txn.compares {
                if self.get(&compare.key)? != compare.value {
                    return Ok(Outcome::Conflict);
                }
            }
            let mut batch = sled::Batch::default();
            for write in &txn.writes {
                match &write.value {
                    Some(value) => batch.insert(write.key.as_bytes(), value.as_slice()),
                    None => batch.remove(write.key.as_bytes()),
                }
            }
            self.db.apply_batch(batch).map_err(io_error("write"))?;
        }
        // Outside the gate: one flush carries the writes of all who wait for it.
        self.db.flush().map_err(io_error("flush"))?;
        self.watchers.notify(&txn.writes);
        Ok(Outcome::Committed)
    }

    fn watch(&self, prefix: &str) -> watch::Receiver<u64> {
        self.watchers.subscribe(prefix)
    }
}

/// Opens a store that was closed a moment ago: a program that another test starts at that moment has the lock until it runs.
#[cfg(test)]
pub(super) fn open_again(path: &Path) -> DiskStore {
    let end = std::time::Instant::now() + std::time::Duration::from_secs(10);
    loop {
        match DiskStore::open(path) {
            Err(StoreError::InUse(_)) if std::time::Instant::now() < end => std::thread::yield_now(),
            opened => return opened.unwrap(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_committed_is_there_after_the_store_is_opened_again() {
        let folder = tempfile::tempdir().unwrap();
        {
            let store = DiskStore::open(folder.path()).unwrap();
            let mut txn = Txn::default();
            txn.put("a/1", b"x".to_vec());
            assert_eq!(store.txn(&txn).unwrap(), Outcome::Committed);
            assert!(matches!(DiskStore::open(folder.path()), Err(StoreError::InUse(_))));
        }
        let store = open_again(folder.path());
        assert_eq!(store.get("a/1").unwrap().as_deref(), Some(&b"x"[..]));
    }
}
