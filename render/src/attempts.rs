//! What is being worked on, told to whoever has to know it after the process has died over it: a stack that overflows
//! and memory that is not there end a process without a word.

use std::sync::Arc;

use flotilla_core::Digest;
use flotilla_kustomize::files::{ContentId, Entry, Files, ReadError, TreePath};
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

/// Files that tell an attempt what is looked at. Before it is: what is read may be what kills.
pub struct Told<'a> {
    files: &'a dyn Files,
    attempt: &'a dyn Attempt,
}

impl<'a> Told<'a> {
    pub fn new(files: &'a dyn Files, attempt: &'a dyn Attempt) -> Self {
        Self { files, attempt }
    }

    fn tell(&self, path: &TreePath) -> Result<Option<Entry>, ReadError> {
        let entry = self.files.entry(path)?;
        let id = entry.as_ref().map(|entry| digest(entry.id));
        self.attempt.saw(Seen::File { path: path.as_str().to_owned(), id });
        Ok(entry)
    }
}

impl Files for Told<'_> {
    fn entry(&self, path: &TreePath) -> Result<Option<Entry>, ReadError> {
        let entry = self.files.entry(path)?;
        // What is below a folder was not looked at yet.
        if !entry.as_ref().is_some_and(|entry| entry.kind == flotilla_kustomize::files::Kind::Folder) {
            let id = entry.as_ref().map(|entry| digest(entry.id));
            self.attempt.saw(Seen::File { path: path.as_str().to_owned(), id });
        }
        Ok(entry)
    }

    fn read(&self, path: &TreePath) -> Result<Arc<[u8]>, ReadError> {
        self.tell(path)?;
        self.files.read(path)
    }

    fn list(&self, folder: &TreePath) -> Result<Vec<(String, Entry)>, ReadError> {
        self.tell(folder)?;
        self.files.list(folder)
    }
}
