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
mod tests {
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use flotilla_kustomize::files::Kind;

    use super::*;

    fn tar(files: &[(&str, &str)]) -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        for (path, content) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            // By hand: the builder refuses names that lead out.
            header.as_gnu_mut().unwrap().name[..path.len()].copy_from_slice(path.as_bytes());
            header.set_cksum();
            tar.append(&header, content.as_bytes()).unwrap();
        }
        let mut link = tar::Header::new_gnu();
        link.set_entry_type(tar::EntryType::Symlink);
        link.set_size(0);
        tar.append_link(&mut link, "link", "/etc/passwd").unwrap();
        tar.into_inner().unwrap()
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    /// One file with a name in an entry of its own.
    fn long_named(name: &str) -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::GNULongName);
        header.set_size(name.len() as u64 + 1);
        header.set_cksum();
        tar.append(&header, [name.as_bytes(), &[0]].concat().as_slice()).unwrap();
        let mut header = tar::Header::new_gnu();
        header.set_size(1);
        header.set_cksum();
        tar.append(&header, &b"x"[..]).unwrap();
        tar.into_inner().unwrap()
    }

    /// Files of which each stands at the end of folders of its own: the inodes are many times the files.
    #[test]
    fn folders_are_counted_as_well() {
        let dir = tempfile::tempdir().unwrap();
        let limits = SourceLimits::default();
        let mut tree = Tree { root: dir.path().into(), limits, files: 0, bytes: 0, folders: HashSet::new() };
        // As if they had been made: the disk has better to do.
        for n in 0..MAX_FOLDERS - 10 {
            tree.folders.insert(TreePath::from_root(&format!("{n}")).unwrap());
        }
        let deep = |name: &str| format!("{name}/{}f", "d/".repeat(8));
        tree.add(&deep("a"), &mut &b"x"[..]).unwrap();
        let error = tree.add(&deep("b"), &mut &b"x"[..]).unwrap_err();
        assert!(matches!(error, SourceError::TooManyFolders(MAX_FOLDERS)), "{error}");
    }

    #[test]
    fn long_names_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::new(dir.path().join("s"), SourceLimits::default());
        let name = format!("{}/{}", "d".repeat(200), "f".repeat(200));
        let mut pax = tar::Builder::new(Vec::new());
        pax.append_pax_extensions([("mtime", &b"1"[..]), ("path", name.as_bytes())]).unwrap();
        let mut header = tar::Header::new_ustar();
        header.set_path("short").unwrap();
        header.set_size(1);
        header.set_cksum();
        pax.append(&header, &b"x"[..]).unwrap();
        for (n, archive) in [long_named(&name), pax.into_inner().unwrap()].iter().enumerate() {
            let (_, files) =
                store.put(n.to_string(), "".into(), |tree| tree.unpack(archive, &Untold)).unwrap();
            assert_eq!(&*files.read(&TreePath::from_root(&name).unwrap()).unwrap(), b"x");
        }
    }

    /// A header of this kind before a file `short`, with what is noted of it.
    fn noted(kind: tar::EntryType, notes: &[u8]) -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        for (kind, content) in [(kind, notes), (tar::EntryType::Regular, &b"x"[..])] {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(kind);
            header.set_path("short").unwrap();
            header.set_size(content.len() as u64);
            header.set_cksum();
            tar.append(&header, content).unwrap();
        }
        tar.into_inner().unwrap()
    }

    /// A tree with less in it than the archive has would prune what is left out.
    #[test]
    fn no_part_of_an_archive_is_passed_over_in_silence() {
        let dir = tempfile::tempdir().unwrap();
        let limits = SourceLimits { file_bytes: 100, bytes: 256, files: 2 };
        let store = Store::new(dir.path().join("s"), limits);
        let put = |archive: &[u8]| {
            let put = store.put("1".into(), "".into(), |tree| tree.unpack(archive, &Untold));
            let names = put.map(|(_, files)| files.list(&TreePath::root()).unwrap());
            names.map(|names| names.into_iter().map(|(name, _)| name).collect::<Vec<_>>())
        };
        let two = tar(&[("a", "a"), ("b", "b")]);
        let (first, second) = two.split_at(1024);
        assert_eq!(put(&[gzip(first), gzip(second)].concat()).unwrap(), ["a", "b"], "in two members of gzip");
        assert_eq!(put(&noted(tar::EntryType::Continuous, b"")).unwrap(), ["short"]);
        let mut links = tar::Builder::new(Vec::new());
        for _ in 0..2100 {
            let mut link = tar::Header::new_gnu();
            link.set_entry_type(tar::EntryType::Symlink);
            link.set_size(0);
            links.append_link(&mut link, "link", "a").unwrap();
        }
        let links = [links.into_inner().unwrap().split_off(0)[..2100 * 512].to_vec(), two.clone()].concat();
        for (archive, reason) in [
            (gzip(&links), "limit of 256 bytes"),
            (noted(tar::EntryType::GNUSparse, b""), "sparse"),
            (noted(tar::EntryType::XHeader, b"22 GNU.sparse.major=1\n"), "sparse"),
            (noted(tar::EntryType::XHeader, b"10 size=0\n"), "size"),
            ([gzip(first), b"rest".to_vec()].concat(), "cannot be read"),
        ] {
            let error = put(&archive).unwrap_err().to_string();
            assert!(error.contains(reason), "{reason}: {error}");
        }
        let twice = noted(tar::EntryType::XHeader, b"10 path=a\n10 path=b\n");
        assert_eq!(put(&twice).unwrap(), ["b"], "as Flux reads it");
    }

    #[test]
    fn archives_become_trees_within_limits() {
        let dir = tempfile::tempdir().unwrap();
        let limits = SourceLimits { file_bytes: 100, bytes: 20, files: 2 };
        let mut store = Store::new(dir.path().join("s"), limits);
        store.keep(&BTreeSet::new()).unwrap();
        let store = store;
        let put = |revision: &str, archive: &[u8]| {
            store
                .put(revision.into(), "known".into(), |tree| tree.unpack(archive, &Untold))
                .map(|(_, files)| files)
        };
        let good = tar(&[("./a/b.yaml", "b"), ("/c.yaml", "c")]);
        for archive in [good.clone(), gzip(&good)] {
            let files = put("1", &archive).unwrap();
            let names: Vec<_> =
                files.list(&TreePath::root()).unwrap().into_iter().map(|(n, e)| (n, e.kind)).collect();
            assert_eq!(names, [("a".to_owned(), Kind::Folder), ("c.yaml".to_owned(), Kind::File)]);
        }
        for (archive, reason) in [
            (tar(&[("../x", "x")]), "leads out"),
            (tar(&[("a", "x"), ("b", "x"), ("c", "x")]), "more than 2 files"),
            (gzip(&long_named(&"d/".repeat(1900))), "deeper than 64 folders"),
            (gzip(&long_named(&"x".repeat(5000))), "deeper than 64 folders, or longer"),
            (gzip(&long_named(&"x/".repeat(100_000))), "what is noted of a file has 200001 bytes"),
            (tar(&[("a", "0123456789"), ("b", "01234567890")]), "limit of 20 bytes"),
            (b"no archive at all, but longer than a header".repeat(20), "cannot be read"),
            (gzip(&good)[..30].to_vec(), "cannot be read"),
        ] {
            let error = put("2", &archive).map(|_| ()).unwrap_err();
            assert!(error.to_string().contains(reason), "{reason}: {error}");
        }
        // What failed changed nothing; a newer revision leaves the one before for its readers.
        let (state, before) = store.recall().unwrap();
        assert_eq!((state.revision.as_str(), state.known.as_str()), ("1", "known"));
        put("3", &tar(&[("a/b.yaml", "new")])).unwrap();
        let path = TreePath::from_root("a/b.yaml").unwrap();
        assert_eq!(&*before.read(&path).unwrap(), b"b");
        assert_eq!(&*store.recall().unwrap().1.read(&path).unwrap(), b"new");
        put("4", &good).unwrap();
        assert!(before.read(&path).is_err(), "two revisions are kept");
    }

    #[test]
    fn what_is_used_stays_and_what_nobody_knows_of_too() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::new(dir.path().join("s"), SourceLimits::default());
        let put = |store: &Store, revision: &str| {
            let tree = tar(&[("a", revision)]);
            store.put(revision.into(), "".into(), |to| to.unpack(&tree, &Untold)).map(|_| ()).unwrap();
        };
        let there = |store: &Store| -> String {
            let is_there = |revision: &&str| store.at(revision).is_some();
            ["1", "2", "3", "4", "5"].into_iter().filter(is_there).collect()
        };
        ["1", "2", "3"].into_iter().for_each(|revision| put(&store, revision));
        assert_eq!(there(&store), "123", "as after a start: nobody has said yet what is used");
        store.keep(&["1".to_owned()].into()).unwrap();
        assert_eq!(there(&store), "13");
        ["4", "5"].into_iter().for_each(|revision| put(&store, revision));
        assert_eq!(there(&store), "145", "and the one before");
        let path = TreePath::from_root("a").unwrap();
        assert_eq!(&*store.at("1").unwrap().read(&path).unwrap(), b"1");
        store.keep(&BTreeSet::new()).unwrap();
        assert_eq!(there(&store), "5");
    }
}
