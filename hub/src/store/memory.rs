//! A store without a disk, for tests and trials.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};

use flotilla_runtime::lock;
use tokio::sync::watch;

use super::{Outcome, Store, StoreError, Touched, Txn, Watchers};

/// Lives as long as the process.
#[derive(Debug, Default)]
pub struct MemoryStore {
    entries: Mutex<BTreeMap<String, Vec<u8>>>,
    watchers: Watchers,
}

impl MemoryStore {
    fn entries(&self) -> MutexGuard<'_, BTreeMap<String, Vec<u8>>> {
        lock(&self.entries)
    }
}

impl Store for MemoryStore {
    fn get(&self, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.entries().get(key).cloned())
    }

    fn scan(&self, prefix: &str) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        let entries = self.entries();
        let from = entries.range(prefix.to_owned()..);
        Ok(from.take_while(|(key, _)| key.starts_with(prefix)).map(|(k, v)| (k.clone(), v.clone())).collect())
    }

    fn txn_by(&self, txn: &Txn, writer: Option<&Touched>) -> Result<Outcome, StoreError> {
        let mut entries = self.entries();
        if !txn.compares.iter().all(|compare| entries.get(&compare.key) == compare.value.as_ref()) {
            return Ok(Outcome::Conflict);
        }
        for write in &txn.writes {
            match &write.value {
                Some(value) => entries.insert(write.key.clone(), value.clone()),
                None => entries.remove(&write.key),
            };
        }
        drop(entries);
        self.watchers.notify(&txn.writes, writer);
        Ok(Outcome::Committed)
    }

    fn watch(&self, prefix: &str) -> watch::Receiver<u64> {
        self.watchers.subscribe(prefix)
    }

    fn touched(&self, prefixes: &'static [&'static str]) -> Touched {
        self.watchers.gather(prefixes)
    }
}
