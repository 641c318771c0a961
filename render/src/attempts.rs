//! What is being worked on, told to whoever has to know it after the process has died over it: a stack that overflows
//! and memory that is not there end a process without a word.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::lock::lock;
use flotilla_core::Digest;
use flotilla_kustomize::files::{ContentId, Entry, Files, Kind, ReadError, TreePath};
use serde::{Deserialize, Serialize};

use crate::trace::Remotes;

/// Is told of each input that is worked on, before that begins.
pub trait Attempts {
    /// Work over an input begins. It lasts until what comes back is dropped.
    ///
    /// # Errors
    /// Why the input is set aside: nothing is done with it.
    fn begin<'a>(&'a self, input: &Input<'_>) -> Result<Box<dyn Attempt + 'a>, String>;
}

/// Work that is under way.
pub trait Attempt: Send + Sync {
    /// It looked at something.
    fn saw(&self, seen: Seen);
}

/// What is worked on.
pub struct Input<'a> {
    /// For people: the unit or source.
    pub what: String,
    /// Equal where the same is asked for, of whatever files.
    pub key: Digest,
    /// Whether something that an earlier attempt saw is still the same.
    pub is_same: &'a dyn Fn(&Seen) -> bool,
}

/// Something that an attempt looked at, as it was then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Seen {
    /// A path in the files, and the id of what stood there, if anything did.
    File { path: String, id: Option<Digest> },
    /// An address outside of the files, and the id of what stood there.
    Outside { address: String, id: Digest },
}

/// Nobody has to know.
#[derive(Debug, Clone, Copy)]
pub struct Untold;

impl Attempts for Untold {
    fn begin<'a>(&'a self, _: &Input<'_>) -> Result<Box<dyn Attempt + 'a>, String> {
        Ok(Box::new(Self))
    }
}

impl Attempt for Untold {
    fn saw(&self, _: Seen) {}
}

/// Whether what was seen is still the same in `files`, and outside of them. What cannot be read may be.
pub fn is_same(files: &dyn Files, remotes: Remotes<'_>, seen: &Seen) -> bool {
    match seen {
        Seen::File { path, id } => {
            let now = TreePath::from_root(path).map(|path| files.entry(&path));
            !matches!(now, Ok(Ok(entry)) if entry.map(|entry| digest(entry.id)) != *id)
        }
        Seen::Outside { address, id } => !remotes(address).is_ok_and(|found| found.id != *id),
    }
}

fn digest(id: ContentId) -> Digest {
    Digest::from(id.0)
}

/// Files that tell an attempt what is looked at, and remember it. Before it is: what is read may be what kills.
pub struct Told<'a> {
    files: &'a dyn Files,
    attempt: &'a dyn Attempt,
    seen: Mutex<BTreeMap<TreePath, Option<ContentId>>>,
    failed: AtomicBool,
}

impl<'a> Told<'a> {
    pub fn new(files: &'a dyn Files, attempt: &'a dyn Attempt) -> Self {
        Self { files, attempt, seen: Mutex::default(), failed: AtomicBool::new(false) }
    }

    /// Each path that was looked at, and the id of what stood there (`None`: nothing did). A folder that was listed counts
    /// with everything below it. `None` if something could not be read: then that is not all.
    pub(crate) fn into_seen(self) -> Option<Vec<(TreePath, Option<ContentId>)>> {
        let seen = self.seen.into_inner().unwrap_or_else(PoisonError::into_inner);
        (!self.failed.into_inner()).then(|| seen.into_iter().collect())
    }

    fn watched<T>(&self, result: Result<T, ReadError>) -> Result<T, ReadError> {
        self.failed.fetch_or(result.is_err(), Ordering::Relaxed);
        result
    }

    fn saw(&self, path: &TreePath, entry: Option<Entry>) {
        let id = entry.map(|entry| entry.id);
        self.attempt.saw(Seen::File { path: path.as_str().to_owned(), id: id.map(digest) });
        lock(&self.seen).insert(path.clone(), id);
    }

    /// What stands at a path, which is looked into next.
    fn look(&self, path: &TreePath) -> Result<(), ReadError> {
        let entry = self.watched(self.files.entry(path))?;
        self.saw(path, entry);
        Ok(())
    }
}

impl Files for Told<'_> {
    fn entry(&self, path: &TreePath) -> Result<Option<Entry>, ReadError> {
        let entry = self.watched(self.files.entry(path))?;
        // What is below a folder was not looked at yet: only that it is one.
        if !entry.as_ref().is_some_and(|entry| entry.kind == Kind::Folder) {
            self.saw(path, entry);
        }
        Ok(entry)
    }

    fn read(&self, path: &TreePath) -> Result<Arc<[u8]>, ReadError> {
        self.look(path)?;
        self.watched(self.files.read(path))
    }

    fn list(&self, folder: &TreePath) -> Result<Vec<(String, Entry)>, ReadError> {
        self.look(folder)?;
        self.watched(self.files.list(folder))
    }
}
