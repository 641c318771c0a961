//! Archives, unpacked into a folder that is the content of a source at one revision.
//!
//! ```text
//! DIR/state.json    the revision, its folder, and what tells whether there is a newer one
//! DIR/tree-DIGEST   the files; the one before stays for whoever still reads it
//! ```

use std::collections::{BTreeSet, HashSet};
use std::fs;
use std::io::{self, Read, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use flate2::read::MultiGzDecoder;
use flotilla_core::Digest;
use flotilla_kustomize::files::{Files, MAX_FOLDERS, TreePath};
use serde::{Deserialize, Serialize};

use super::decode::{Decode, Untold, decoded};
use super::{Fetched, SourceError, SourceLimits};
use crate::folder::{self, FolderFiles};

/// What was fetched last into a folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct State {
    pub(super) revision: String,
    folder: String,
    /// An ETag, or a digest: whatever the server tells without sending the content.
    pub(super) known: String,
}

/// A source's folder with its revisions: the newest, the one before, and those that somebody still uses.
pub(super) struct Store {
    dir: PathBuf,
    limits: SourceLimits,
    /// Revisions that are used; `None`: nobody knows, and none goes.
    used: Option<BTreeSet<String>>,
}

impl Store {
    pub(super) fn new(dir: PathBuf, limits: SourceLimits) -> Self {
        Self { dir, limits, used: None }
    }

    /// What is there from before a restart; whatever cannot be read is fetched again.
    pub(super) fn recall(&self) -> Option<(State, Arc<dyn Files>)> {
        let text = fs::read(self.dir.join("state.json")).ok()?;
        let state: State = serde_json::from_slice(&text).ok()?;
        let files = self.open(&state.folder).ok()?;
        Some((state, files))
    }

    /// An older revision that is still there.
    pub(super) fn at(&self, revision: &str) -> Option<Arc<dyn Files>> {
        self.open(&folder_of(revision)).ok()
    }

    /// From now on these are used: others go.
    ///
    /// # Errors
    /// Where something that is to go cannot be removed.
    pub(super) fn keep(&mut self, used: &BTreeSet<String>) -> Result<(), SourceError> {
        self.used = Some(used.clone());
        let newest = self.recall().map(|(state, _)| state.folder);
        // The one before may still be read.
        if newest.is_some() { self.collect(|folder| Some(folder) == newest.as_deref()) } else { Ok(()) }
    }

    /// Removes what nobody uses, apart from what `stays`.
    fn collect(&self, stays: impl Fn(&str) -> bool) -> Result<(), SourceError> {
        let Some(used) = &self.used else { return Ok(()) };
        let used: HashSet<String> = used.iter().map(|revision| folder_of(revision)).collect();
        let disk = |path: PathBuf| move |source| SourceError::Disk { path, source };
        for entry in fs::read_dir(&self.dir).map_err(disk(self.dir.clone()))? {
            let entry = entry.map_err(disk(self.dir.clone()))?;
            let name = entry.file_name();
            let name = name.to_str().filter(|name| name.starts_with("tree-"));
            if name.is_some_and(|name| !used.contains(name) && !stays(name)) {
                fs::remove_dir_all(entry.path()).map_err(disk(entry.path()))?;
            }
        }
        Ok(())
    }

    fn open(&self, folder: &str) -> Result<Arc<dyn Files>, SourceError> {
        let path = self.dir.join(folder);
        let files = FolderFiles::open(&path, self.limits.file_bytes);
        Ok(Arc::new(files.map_err(|source| SourceError::Disk { path, source })?))
    }

    /// Makes a revision out of whatever `fill` writes, and forgets what nobody uses but the one before.
    pub(super) fn put(
        &self,
        revision: String,
        known: String,
        fill: impl FnOnce(&mut Tree) -> Result<(), SourceError>,
    ) -> Result<(State, Arc<dyn Files>), SourceError> {
        let disk = |path: &Path| {
            let path = path.to_owned();
            move |source| SourceError::Disk { path, source }
        };
        let new = self.dir.join("new");
        folder::remove(&new).map_err(disk(&new))?;
        fs::create_dir_all(&new).map_err(disk(&new))?;
        let mut tree =
            Tree { root: new.clone(), limits: self.limits, files: 0, bytes: 0, folders: HashSet::new() };
        fill(&mut tree)?;
        let before = self.recall().map(|(state, _)| state.folder);
        let folder = folder_of(&revision);
        self.collect(|name| Some(name) == before.as_deref())?;
        let place = self.dir.join(&folder);
        // The same revision again, whose content may differ where a server lies: what is new counts.
        folder::remove(&place).map_err(disk(&place))?;
        fs::rename(&new, &place).map_err(disk(&place))?;
        let state = State { revision, folder, known };
        self.write(&state)?;
        let files = self.open(&state.folder)?;
        Ok((state, files))
    }
}

impl Store {
    /// Notes what now tells whether there is something newer.
    pub(super) fn note(&self, state: &State, known: String) -> Result<State, SourceError> {
        let state = State { known, ..state.clone() };
        self.write(&state)?;
        Ok(state)
    }

    fn write(&self, state: &State) -> Result<(), SourceError> {
        let (temporary, path) = (self.dir.join("state.new"), self.dir.join("state.json"));
        let text = serde_json::to_vec(state).unwrap_or_default();
        let written = fs::write(&temporary, text).and_then(|()| fs::rename(&temporary, &path));
        written.map_err(|source| SourceError::Disk { path, source })
    }
}

fn folder_of(revision: &str) -> String {
    format!("tree-{}", Digest::of(revision.as_bytes()))
}

/// Unpacks an archive into a folder, which is there and empty.
///
/// # Errors
/// Where it is no archive, leads out of the folder, or is more than the limits allow. What was unpacked before stays.
pub fn unpack(folder: &Path, limits: SourceLimits, archive: &[u8]) -> Result<(), SourceError> {
    let mut tree = Tree { root: folder.to_owned(), limits, files: 0, bytes: 0, folders: HashSet::new() };
    tree.unpack(archive, &Untold)
}

/// A folder that is filled, within limits.
pub(super) struct Tree {
    root: PathBuf,
    limits: SourceLimits,
    files: usize,
    bytes: u64,
    /// Each is an inode, like a file.
    folders: HashSet<TreePath>,
}

impl Tree {
    /// Adds a file. One that leads out of the tree, or too deep into it, is an error.
    pub(super) fn add(&mut self, path: &str, content: &mut dyn Read) -> Result<(), SourceError> {
        let inner = TreePath::root()
            .join(path)
            .map_err(|error| SourceError::Wrong(format!("its archive: {error}")))?;
        if inner.is_root() {
            return Ok(());
        }
        self.files += 1;
        if self.files > self.limits.files {
            return Err(SourceError::TooManyFiles(self.limits.files));
        }
        let mut folder = inner.parent();
        while let Some(inner) = folder.filter(|inner| !inner.is_root() && !self.folders.contains(inner)) {
            folder = inner.parent();
            self.folders.insert(inner);
        }
        if self.folders.len() > MAX_FOLDERS {
            return Err(SourceError::TooManyFolders(MAX_FOLDERS));
        }
        let target = self.root.join(inner.as_str());
        let left = self.limits.bytes - self.bytes;
        let written =
            write(&target, content, left).map_err(|source| SourceError::Disk { path: target, source })?;
        match written {
            Some(bytes) => self.bytes += bytes,
            None => return Err(SourceError::TooLarge(self.limits.bytes)),
        }
        Ok(())
    }

    /// Adds what a tar archive holds, compressed by gzip or not. Links and devices are left out, as by Flux.
    pub(super) fn unpack(&mut self, archive: &[u8], told: &dyn Decode) -> Result<(), SourceError> {
        decoded(told, archive, || self.unpack_whole(archive))
    }

    fn unpack_whole(&mut self, archive: &[u8]) -> Result<(), SourceError> {
        let wrong = |error: io::Error| SourceError::Wrong(format!("its archive cannot be read: {error}"));
        let is_gzip = archive.starts_with(&[0x1f, 0x8b]);
        let reader: Box<dyn Read> =
            if is_gzip { Box::new(MultiGzDecoder::new(archive)) } else { Box::new(archive) };
        // What is unpacked and thrown away costs time as well: links, and the archive's own blocks for each file.
        let blocks = (self.limits.files as u64).saturating_mul(2048);
        let most = self.limits.bytes.saturating_mul(2).saturating_add(blocks).saturating_add(1 << 20);
        let mut reader = reader.take(most);
        flotilla_archive::each(&mut reader, wrong, |name, entry| {
            let kind = entry.header().entry_type();
            if kind.is_gnu_sparse() {
                return Err(wrong(flotilla_archive::sparse()));
            }
            if !kind.is_file() && !kind.is_contiguous() {
                return Ok(());
            }
            let path = String::from_utf8(name);
            let path = path.map_err(|_| SourceError::Wrong("a name in its archive is not UTF-8".into()))?;
            self.add(path.trim_start_matches('/'), entry)
        })?;
        // What was cut off there looks like its end.
        if reader.limit() == 0 { Err(SourceError::TooLarge(self.limits.bytes)) } else { Ok(()) }
    }
}

/// `None` where there is more than `limit`.
fn write(path: &Path, content: &mut dyn Read, limit: u64) -> io::Result<Option<u64>> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    let mut file = fs::File::create(path)?;
    let bytes = io::copy(&mut content.take(limit.saturating_add(1)), &mut file)?;
    file.flush()?;
    Ok((bytes <= limit).then_some(bytes))
}

/// A revision as a caller gets it.
pub(super) fn fetched((state, files): (State, Arc<dyn Files>)) -> Fetched {
    Fetched { files, revision: state.revision }
}

#[cfg(test)]
#[path = "archive_tests.rs"]
mod tests;
