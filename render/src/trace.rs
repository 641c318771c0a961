//! Which files a build looked at, so that it need not be done again while they are the same.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use flotilla_kustomize::files::{ContentId, Entry, Files, ReadError, TreePath};

/// What a build saw: each path it asked for, and the id of what stood there (`None`: nothing did). A folder that
/// was listed counts with everything below it.
pub(crate) type Trace = Vec<(TreePath, Option<ContentId>)>;

/// Files that remember what was asked of them.
pub(crate) struct Traced<'a> {
    files: &'a dyn Files,
    seen: Mutex<BTreeMap<TreePath, Option<ContentId>>>,
    failed: AtomicBool,
}

impl<'a> Traced<'a> {
    pub(crate) fn new(files: &'a dyn Files) -> Self {
        Self { files, seen: Mutex::default(), failed: AtomicBool::new(false) }
    }

    /// What was seen; `None` if something could not be read, for then the build did not see the tree.
    pub(crate) fn into_trace(self) -> Option<Trace> {
        let seen = self.seen.into_inner().unwrap_or_else(PoisonError::into_inner);
        (!self.failed.into_inner()).then(|| seen.into_iter().collect())
    }

    fn watched<T>(&self, result: Result<T, ReadError>) -> Result<T, ReadError> {
        self.failed.fetch_or(result.is_err(), Ordering::Relaxed);
        result
    }

    fn note(&self, path: &TreePath, id: Option<ContentId>) {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).insert(path.clone(), id);
    }
}

impl Files for Traced<'_> {
    fn entry(&self, path: &TreePath) -> Result<Option<Entry>, ReadError> {
        let entry = self.watched(self.files.entry(path))?;
        // What is below a folder was not looked at yet: only that it is one.
        match entry {
            Some(entry) if entry.kind == flotilla_kustomize::files::Kind::Folder => {}
            other => self.note(path, other.map(|e| e.id)),
        }
        Ok(entry)
    }

    fn read(&self, path: &TreePath) -> Result<Arc<[u8]>, ReadError> {
        let content = self.watched(self.files.read(path))?;
        self.note(path, self.files.entry(path)?.map(|e| e.id));
        Ok(content)
    }

    fn list(&self, folder: &TreePath) -> Result<Vec<(String, Entry)>, ReadError> {
        let entries = self.watched(self.files.list(folder))?;
        self.note(folder, self.files.entry(folder)?.map(|e| e.id));
        Ok(entries)
    }
}

/// Whether a build that saw `trace` would see the same in `files`.
pub(crate) fn holds(trace: &Trace, files: &dyn Files) -> Result<bool, ReadError> {
    for (path, id) in trace {
        if files.entry(path)?.map(|entry| entry.id) != *id {
            return Ok(false);
        }
    }
    Ok(true)
}
