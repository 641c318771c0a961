//! The store on disk: redb, one file, every page checked when it is opened, synced before anything is acknowledged.
//!
//! ```text
//! txn ─┐                 ┌─ compare, write
//! txn ─┼─► waiting ─► one redb transaction ─► sync ─► each its answer
//! txn ─┘                 └─ compare, write
//! ```
//! Who comes while another syncs waits, and shares the next sync with all who wait. After an error of the disk the file is
//! opened anew, so that the hub goes on once the disk does.

use std::fs::{self, File, OpenOptions};
use std::ops::Bound;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use flotilla_runtime::files::PRIVATE;
use flotilla_runtime::lock;
use redb::backends::FileBackend;
use redb::{
    Builder, Database, DatabaseError, ReadableDatabase, ReadableTable, StorageError, TableDefinition,
};
use tokio::sync::watch;

use super::{Cause, Outcome, Store, StoreError, Touched, Txn, Watchers};

const RECORDS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("records");
const FILE: &str = "records.redb";
/// Being made: it takes its place when it is whole, so that an empty file there is always a damaged one.
const NEW_FILE: &str = "records.redb.new";
/// What the format before this one (sled's) always had in the folder.
const FORMER_FILE: &str = "conf";
const CACHE_BYTES: usize = 16 << 20;

type Opener = Box<dyn Fn() -> Result<Database, StoreError> + Send + Sync>;

/// A redb database. Its folder belongs to one process at a time.
pub struct DiskStore {
    path: PathBuf,
    open: Opener,
    /// None after an error, until the next use opens it anew.
    db: RwLock<Option<Database>>,
    waiting: Mutex<Vec<Arc<Waiting>>>,
    /// Held by who writes for all who wait.
    writing: Mutex<()>,
    watchers: Watchers,
}

impl std::fmt::Debug for DiskStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DiskStore").field("path", &self.path).finish_non_exhaustive()
    }
}

/// A transaction that waits for its turn.
struct Waiting {
    txn: Txn,
    answer: Mutex<Option<Result<Outcome, Cause>>>,
}

impl DiskStore {
    /// Opens the store, or makes it. Every page is checked, so that a file that was altered is an error now and not other
    /// records later. Blocking.
    ///
    /// # Errors
    /// Where it is in use, damaged, or of the format before this one.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let folder = path.to_owned();
        let opened =
            |source: redb::Error| StoreError::Open { path: folder.clone(), source: Arc::new(source) };
        fs::create_dir_all(path).map_err(|error| opened(redb::Error::Io(error)))?;
        let file = path.join(FILE);
        // What cannot be looked at is not absent: a new store would take its place.
        let is_there = |path: &Path| path.try_exists().map_err(|error| opened(redb::Error::Io(error)));
        if !is_there(&file)? {
            if is_there(&path.join(FORMER_FILE))? {
                return Err(StoreError::Former(path.to_owned()));
            }
            make(path).map_err(&opened)?;
        }
        let folder = path.to_owned();
        Self::with(path, Box::new(move || open_file(&folder)))
    }

    fn with(path: &Path, open: Opener) -> Result<Self, StoreError> {
        let db = RwLock::new(Some(open()?));
        let (waiting, writing, watchers) = (Mutex::default(), Mutex::default(), Watchers::default());
        Ok(Self { path: path.to_owned(), open, db, waiting, writing, watchers })
    }

    /// Does something with the database. After an error of the disk it is opened anew by the next use.
    fn using<T>(
        &self,
        attempt: &'static str,
        work: impl FnOnce(&Database) -> Result<T, redb::Error>,
    ) -> Result<T, StoreError> {
        let mut db = self.db.read().unwrap_or_else(PoisonError::into_inner);
        while db.is_none() {
            drop(db);
            let mut closed = self.db.write().unwrap_or_else(PoisonError::into_inner);
            if closed.is_none() {
                *closed = Some((self.open)()?);
                tracing::info!("the store in {} was opened again", self.path.display());
            }
            drop(closed);
            db = self.db.read().unwrap_or_else(PoisonError::into_inner);
        }
        let Some(open) = db.as_ref() else { return Err(StoreError::InUse(self.path.clone())) };
        let done = work(open);
        drop(db);
        done.map_err(|source| {
            *self.db.write().unwrap_or_else(PoisonError::into_inner) = None;
            StoreError::Io { attempt, source: Arc::new(source) }
        })
    }

    /// Makes all transactions that wait, with one sync.
    fn write_waiting(&self) {
        let batch = std::mem::take(&mut *lock(&self.waiting));
        if batch.is_empty() {
            return;
        }
        match self.using("write", |db| write(db, &batch)) {
            Ok(outcomes) => {
                for (waiting, outcome) in batch.iter().zip(outcomes) {
                    *lock(&waiting.answer) = Some(Ok(outcome));
                }
            }
            Err(error) => {
                let source = match error {
                    StoreError::Io { source, .. } | StoreError::Open { source, .. } => source,
                    other => Arc::new(std::io::Error::other(other.to_string())),
                };
                for waiting in &batch {
                    *lock(&waiting.answer) = Some(Err(source.clone()));
                }
            }
        }
    }
}

/// Makes an empty store beside its place, and puts it there.
fn make(folder: &Path) -> Result<(), redb::Error> {
    let new = folder.join(NEW_FILE);
    match fs::remove_file(&new) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    let file = OpenOptions::new().read(true).write(true).create_new(true).mode(PRIVATE).open(&new)?;
    let db = Builder::new().create_with_backend(FileBackend::new(file)?)?;
    let txn = db.begin_write()?;
    txn.open_table(RECORDS)?;
    txn.commit()?;
    db.close()?;
    fs::rename(&new, folder.join(FILE))?;
    File::open(folder)?.sync_all()?;
    Ok(())
}

fn open_file(folder: &Path) -> Result<Database, StoreError> {
    let path = || folder.to_owned();
    let damaged = |reason: String| StoreError::Damaged { path: folder.join(FILE), reason };
    let io = |error: std::io::Error| StoreError::Open { path: path(), source: Arc::new(error) };
    let file = OpenOptions::new().read(true).write(true).open(folder.join(FILE)).map_err(io)?;
    if file.metadata().map_err(io)?.len() == 0 {
        return Err(damaged("it is empty".to_owned()));
    }
    let opened = FileBackend::new(file).and_then(|file| {
        let mut builder = Builder::new();
        builder.set_cache_size(CACHE_BYTES).set_check_integrity_on_open(true);
        builder.create_with_backend(file)
    });
    opened.map_err(|error| match error {
        DatabaseError::DatabaseAlreadyOpen => StoreError::InUse(path()),
        DatabaseError::Storage(StorageError::Corrupted(reason)) => damaged(reason),
        DatabaseError::Storage(StorageError::Io(error))
            if error.kind() == std::io::ErrorKind::InvalidData =>
        {
            damaged(error.to_string())
        }
        error => StoreError::Open { path: path(), source: Arc::new(error) },
    })
}

fn write(db: &Database, batch: &[Arc<Waiting>]) -> Result<Vec<Outcome>, redb::Error> {
    let txn = db.begin_write()?;
    let mut outcomes = Vec::with_capacity(batch.len());
    {
        let mut table = txn.open_table(RECORDS)?;
        for Waiting { txn, .. } in batch.iter().map(|waiting| &**waiting) {
            let mut holds = true;
            for compare in &txn.compares {
                let found = table.get(compare.key.as_str())?;
                holds &= found.as_ref().map(redb::AccessGuard::value) == compare.value.as_deref();
            }
            outcomes.push(if holds { Outcome::Committed } else { Outcome::Conflict });
            for write in txn.writes.iter().filter(|_| holds) {
                match &write.value {
                    Some(value) => drop(table.insert(write.key.as_str(), value.as_slice())?),
                    None => drop(table.remove(write.key.as_str())?),
                }
            }
        }
    }
    txn.commit()?;
    Ok(outcomes)
}

impl Store for DiskStore {
    fn get(&self, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.using("read", |db| {
            let table = db.begin_read()?.open_table(RECORDS)?;
            Ok(table.get(key)?.map(|value| value.value().to_vec()))
        })
    }

    fn scan(&self, prefix: &str) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        self.using("read", |db| {
            let table = db.begin_read()?.open_table(RECORDS)?;
            let mut found = Vec::new();
            for entry in table.range::<&str>((Bound::Included(prefix), Bound::Unbounded))? {
                let (key, value) = entry?;
                if !key.value().starts_with(prefix) {
                    break;
                }
                found.push((key.value().to_owned(), value.value().to_vec()));
            }
            Ok(found)
        })
    }

    fn txn_by(&self, txn: &Txn, writer: Option<&Touched>) -> Result<Outcome, StoreError> {
        let waiting = Arc::new(Waiting { txn: txn.clone(), answer: Mutex::default() });
        lock(&self.waiting).push(waiting.clone());
        {
            let _writing = lock(&self.writing);
            // Whoever wrote meanwhile may have written this as well.
            if lock(&waiting.answer).is_none() {
                self.write_waiting();
            }
        }
        let answer = lock(&waiting.answer).take();
        let outcome = match answer {
            Some(Ok(outcome)) => outcome,
            Some(Err(source)) => {
                // It may be on disk all the same.
                self.watchers.notify(&txn.writes, None);
                return Err(StoreError::Io { attempt: "write", source });
            }
            // Whoever wrote for this one panicked: what became of it is not known.
            None => {
                self.watchers.notify(&txn.writes, None);
                let source = std::io::Error::other("the write was given up");
                return Err(StoreError::Io { attempt: "write", source: Arc::new(source) });
            }
        };
        if outcome == Outcome::Committed {
            self.watchers.notify(&txn.writes, writer);
        }
        Ok(outcome)
    }

    fn watch(&self, prefix: &str) -> watch::Receiver<u64> {
        self.watchers.subscribe(prefix)
    }

    fn touched(&self, prefixes: &'static [&'static str]) -> Touched {
        self.watchers.gather(prefixes)
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
#[path = "disk_tests.rs"]
mod tests;
