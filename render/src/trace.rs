//! What a build looked at, so that it need not be done again while that is the same: files of its source, and what it names
//! outside of it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::lock::lock;
use flotilla_core::Digest;
use flotilla_kustomize::Answer;
use flotilla_kustomize::files::{ContentId, Entry, Files, ReadError, TreePath};

use crate::attempts::{Attempt, Seen, Told};
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

/// Files that remember what was asked of them, and what stands outside of them.
pub(crate) struct Traced<'a> {
    files: Told<'a>,
    attempt: &'a dyn Attempt,
    remotes: Remotes<'a>,
    fetched: Mutex<BTreeMap<String, Digest>>,
    lacks: AtomicBool,
}

impl<'a> Traced<'a> {
    pub(crate) fn new(files: &'a dyn Files, remotes: Remotes<'a>, attempt: &'a dyn Attempt) -> Self {
        let (files, fetched) = (Told::new(files, attempt), Mutex::default());
        Self { files, attempt, remotes, fetched, lacks: AtomicBool::new(false) }
    }

    /// What was seen; `None` if something could not be read or had, for then the build did not see all.
    pub(crate) fn into_trace(self) -> Option<Trace> {
        let fetched = self.fetched.into_inner().unwrap_or_else(PoisonError::into_inner);
        let paths = self.files.into_seen()?;
        (!self.lacks.into_inner()).then(|| Trace { paths, remotes: fetched.into_iter().collect() })
    }

    /// Something could not be had: what comes of it is not to be remembered.
    pub(crate) fn lacks(&self) {
        self.lacks.store(true, Ordering::Relaxed);
    }

    /// What stands at an address outside of the files.
    pub(crate) fn remote(&self, address: &str) -> Result<Answer, Unavailable> {
        let found = (self.remotes)(address);
        self.lacks.fetch_or(found.is_err(), Ordering::Relaxed);
        let RemoteBase { answer, id } = found?;
        self.attempt.saw(Seen::Outside { address: address.to_owned(), id });
        lock(&self.fetched).insert(address.to_owned(), id);
        Ok(answer)
    }
}

impl Files for Traced<'_> {
    fn entry(&self, path: &TreePath) -> Result<Option<Entry>, ReadError> {
        self.files.entry(path)
    }

    fn read(&self, path: &TreePath) -> Result<Arc<[u8]>, ReadError> {
        self.files.read(path)
    }

    fn list(&self, folder: &TreePath) -> Result<Vec<(String, Entry)>, ReadError> {
        self.files.list(folder)
    }
}

impl Trace {
    /// Whether another one saw the same.
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        self.paths == other.paths && self.remotes == other.remotes
    }

    /// Whether it saw anything outside of the files.
    pub(crate) fn has_outside(&self) -> bool {
        !self.remotes.is_empty()
    }

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
