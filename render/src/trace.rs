//! What a build looked at, so that it need not be done again while that is the same: files of its source, and what it names
//! outside of it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use flotilla_core::Digest;
use flotilla_kustomize::Answer;
use flotilla_kustomize::files::{ContentId, Entry, Files, ReadError, TreePath};

use crate::source::{RemoteBase, Unavailable};

/// Remote bases and files by their addresses.
pub(crate) type Remotes<'a> = &'a (dyn Fn(&str) -> Result<RemoteBase, Unavailable> + Sync);

/// What a build saw.
#[derive(Debug)]
pub(crate) struct Trace {
    /// Each path it asked for, and the id of what stood there (`None`: nothing did). A folder that was listed counts with
    /// everything below it.
    paths: Vec<(TreePath, Option<ContentId>)>,
    remotes: Vec<(String, Digest)>,
}

/// Files that remember what was asked of them.
pub(crate) struct Traced<'a> {
    files: &'a dyn Files,
    remotes: Remotes<'a>,
    seen: Mutex<BTreeMap<TreePath, Option<ContentId>>>,
    fetched: Mutex<BTreeMap<String, Digest>>,
    failed: AtomicBool,
}

impl<'a> Traced<'a> {
    pub(crate) fn new(files: &'a dyn Files, remotes: Remotes<'a>) -> Self {
        let (seen, fetched) = (Mutex::default(), Mutex::default());
        Self { files, remotes, seen, fetched, failed: AtomicBool::new(false) }
    }

    /// What was seen; `None` if something could not be read or had, for then the build did not see all.
    pub(crate) fn into_trace(self) -> Option<Trace> {
        let seen = self.seen.into_inner().unwrap_or_else(PoisonError::into_inner);
        let fetched = self.fetched.into_inner().unwrap_or_else(PoisonError::into_inner);
        let trace = Trace { paths: seen.into_iter().collect(), remotes: fetched.into_iter().collect() };
        (!self.failed.into_inner()).then_some(trace)
    }

    /// What stands at an address outside of the files.
    pub(crate) fn remote(&self, address: &str) -> Result<Answer, Unavailable> {
        let found = (self.remotes)(address);
        self.failed.fetch_or(found.is_err(), Ordering::Relaxed);
        let RemoteBase { answer, id } = found?;
        self.fetched.lock().unwrap_or_else(PoisonError::into_inner).insert(address.to_owned(), id);
        Ok(answer)
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

impl Trace {
    /// Whether a build that saw this would see the same files. Asking for nothing else tells most.
    pub(crate) fn holds_in(&self, files: &dyn Files) -> Result<bool, ReadError> {
        for (path, id) in &self.paths {
            if files.entry(path)?.map(|entry| entry.id) != *id {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether what stands outside of the files is the same too. All of it is asked for: whoever fetches has to know that
    /// it is still wanted.
    pub(crate) fn holds_outside(&self, remotes: Remotes<'_>) -> bool {
        let same = |(address, id): &(String, Digest)| remotes(address).is_ok_and(|found| found.id == *id);
        self.remotes.iter().filter(|remote| !same(remote)).count() == 0
    }
}
