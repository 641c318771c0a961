//! The files a build reads: a tree that somebody else holds (a Git commit, a folder, a test's map).
//!
//! The build never opens anything itself. What it reads goes through [`Files`], so that the same build
//! runs on a bare repository's objects at the hub and on a folder at somebody's desk, and so that a
//! wrapper can record what a build depended on ([`Entry::id`] is the key for that).

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// A path inside a file tree: relative, `/`-separated, without `.`, `..`, or empty parts. The root is "".
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct TreePath(String);

/// Folders inside each other, the file included, that a path has at most. What walks a tree goes no deeper.
pub const MAX_DEPTH: usize = 64;
/// Bytes of a path at most, as Linux has it.
pub const MAX_PATH: usize = 4096;
/// Folders that one walk over a tree enters at most. A Git tree can name one folder many times, in folders that are named
/// many times, so that a few objects make more paths than anybody could walk.
pub const MAX_FOLDERS: usize = 100_000;

/// Why a text is no path of the tree.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    #[error("'{0}' is an absolute path; paths are relative to the root of the source")]
    Absolute(String),
    #[error("'{0}' leads out of the root of the source")]
    Escapes(String),
    #[error(
        "'{0}…' is deeper than {MAX_DEPTH} folders, or longer than {MAX_PATH} bytes; nothing is read from there"
    )]
    TooDeep(String),
}

impl TreePath {
    /// The root of the tree.
    pub fn root() -> Self {
        Self::default()
    }

    /// Reads a path relative to the root; a leading `./` is allowed, and so is a leading `/`, which means the
    /// root of the tree (as in Flux's `spec.path`).
    pub fn from_root(path: &str) -> Result<Self, PathError> {
        Self::root().join(path.trim_start_matches('/'))
    }

    /// Reads a path relative to the root that cannot lead out of it: `..` at the root stays there, as where Flux joins
    /// `spec.path` with the folder of an artifact.
    ///
    /// # Errors
    /// Where it is too deep or too long.
    pub fn clamped(path: &str) -> Result<Self, PathError> {
        let mut parts: Vec<&str> = Vec::new();
        for part in path.split('/') {
            match part {
                "" | "." => {}
                ".." => drop(parts.pop()),
                part => parts.push(part),
            }
        }
        Self::of(&parts)
    }

    fn of(parts: &[&str]) -> Result<Self, PathError> {
        let bytes: usize = parts.iter().map(|part| part.len() + 1).sum();
        if parts.len() > MAX_DEPTH || bytes > MAX_PATH {
            let start: String = parts.join("/").chars().take(40).collect();
            return Err(PathError::TooDeep(start));
        }
        Ok(Self(parts.join("/")))
    }

    /// Resolves `path` against this folder, lexically.
    pub fn join(&self, path: &str) -> Result<Self, PathError> {
        if path.starts_with('/') {
            return Err(PathError::Absolute(path.to_owned()));
        }
        let mut parts: Vec<&str> = self.0.split('/').filter(|p| !p.is_empty()).collect();
        for part in path.split('/') {
            match part {
                "" | "." => {}
                ".." => {
                    parts.pop().ok_or_else(|| PathError::Escapes(path.to_owned()))?;
                }
                part => parts.push(part),
            }
        }
        Self::of(&parts)
    }

    /// The path of something in the tree that has this as its root. Not bounded, as both parts are.
    pub fn below(&self, inner: &TreePath) -> Self {
        match (self.is_root(), inner.is_root()) {
            (true, _) => inner.clone(),
            (_, true) => self.clone(),
            _ => Self(format!("{}/{}", self.0, inner.0)),
        }
    }

    /// The folder that holds this; `None` for the root.
    pub fn parent(&self) -> Option<Self> {
        if self.0.is_empty() {
            return None;
        }
        Some(Self(self.0.rsplit_once('/').map_or(String::new(), |(folder, _)| folder.to_owned())))
    }

    /// The last part; "" for the root.
    pub fn name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or_default()
    }

    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether this is `folder` or lies below it.
    pub fn is_within(&self, folder: &TreePath) -> bool {
        folder.is_root()
            || self.0 == folder.0
            || (self.0.starts_with(&folder.0) && self.0.as_bytes()[folder.0.len()] == b'/')
    }

    /// "" for the root, else `a/b/c`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TreePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "." } else { &self.0 })
    }
}

impl fmt::Debug for TreePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// What stands at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    File,
    Folder,
    /// Flux leaves symlinks out of its artifacts; a build reports them by name and never follows them out.
    Symlink,
}

/// An entry of the tree and the id of its content: equal ids mean equal content, for a folder of everything
/// below it (Git's blob and tree ids are such).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    pub kind: Kind,
    pub id: ContentId,
}

/// The id of a file's or folder's content. Only ever compared, and only between trees of one source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContentId(pub [u8; 32]);

/// A file could not be read though it is there: never to be taken for an absent one.
#[derive(Debug, Clone, thiserror::Error)]
#[error("reading {path}: {reason}")]
pub struct ReadError {
    pub path: TreePath,
    pub reason: String,
}

impl ReadError {
    /// Of a folder with an entry whose path cannot be used.
    pub fn of_path(folder: &TreePath, error: &PathError) -> Self {
        Self { path: folder.clone(), reason: error.to_string() }
    }
}

/// Counts the folders that a walk enters.
#[derive(Debug, Default)]
pub struct Visits(usize);

impl Visits {
    /// Counts one more.
    ///
    /// # Errors
    /// Beyond [`MAX_FOLDERS`].
    pub fn enter(&mut self, folder: &TreePath) -> Result<(), ReadError> {
        self.0 += 1;
        if self.0 <= MAX_FOLDERS {
            return Ok(());
        }
        let reason = format!(
            "this is the {}th folder on the way through the tree; {MAX_FOLDERS} are the most. Name a smaller part of it",
            self.0
        );
        Err(ReadError { path: folder.clone(), reason })
    }
}

/// A tree of files.
pub trait Files: Send + Sync {
    /// What stands at `path`, `None` where nothing does.
    fn entry(&self, path: &TreePath) -> Result<Option<Entry>, ReadError>;
    /// The content of a file.
    fn read(&self, path: &TreePath) -> Result<Arc<[u8]>, ReadError>;
    /// The names in a folder with what they are, sorted by name.
    fn list(&self, folder: &TreePath) -> Result<Vec<(String, Entry)>, ReadError>;
    /// The path in the tree that an absolute path means, where the tree has a place that can be named so: a folder of
    /// this machine has, a commit has not.
    fn absolute(&self, _path: &str) -> Option<TreePath> {
        None
    }
    /// Bytes of files that are in memory because of this tree.
    fn held(&self) -> u64 {
        0
    }
    /// A path as messages name it. Where the tree is the whole of this machine's disk, that is with a slash in front.
    fn shown(&self, path: &TreePath) -> String {
        path.to_string()
    }
}

/// A tree in memory, for tests and for generated content. The ids of all files and folders are made with it.
#[derive(Debug, Clone)]
pub struct MemoryFiles {
    files: BTreeMap<String, Arc<[u8]>>,
    entries: BTreeMap<String, Entry>,
}

impl MemoryFiles {
    pub fn new<P: Into<String>, C: AsRef<[u8]>>(files: impl IntoIterator<Item = (P, C)>) -> Self {
        let files: BTreeMap<String, Arc<[u8]>> =
            files.into_iter().map(|(path, content)| (path.into(), Arc::from(content.as_ref()))).collect();
        let mut folders = BTreeMap::from([(String::new(), Id::default())]);
        let mut entries = BTreeMap::new();
        for (path, content) in &files {
            let id = Id::default().with(content).finish();
            for end in path.match_indices('/').map(|(at, _)| at).chain([0]) {
                let below = &path[if end == 0 { 0 } else { end + 1 }..];
                let folder: &mut Id = folders.entry(path[..end].to_owned()).or_default();
                *folder = folder.with(below.as_bytes()).with(&id.0);
            }
            entries.insert(path.clone(), Entry { kind: Kind::File, id });
        }
        for (path, id) in folders {
            entries.entry(path).or_insert(Entry { kind: Kind::Folder, id: id.finish() });
        }
        Self { files, entries }
    }
}

impl Default for MemoryFiles {
    fn default() -> Self {
        Self::new(std::iter::empty::<(String, Vec<u8>)>())
    }
}

/// FNV-1a in four lanes: an identity for tests, not a cryptographic one.
#[derive(Clone, Copy)]
struct Id([u64; 4]);

impl Default for Id {
    fn default() -> Self {
        Self([0xcbf2_9ce4_8422_2325, 1, 2, 3])
    }
}

impl Id {
    fn with(mut self, bytes: &[u8]) -> Self {
        for (n, lane) in (0_u8..).zip(&mut self.0) {
            // What ends here must not read on as the next.
            for byte in bytes.iter().copied().chain([n, 0xff]) {
                *lane = (*lane ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
            }
        }
        self
    }

    fn finish(self) -> ContentId {
        let mut id = [0; 32];
        for (slot, lane) in id.chunks_mut(8).zip(self.0) {
            slot.copy_from_slice(&lane.to_be_bytes());
        }
        ContentId(id)
    }
}

impl Files for MemoryFiles {
    fn entry(&self, path: &TreePath) -> Result<Option<Entry>, ReadError> {
        Ok(self.entries.get(path.as_str()).copied())
    }

    fn read(&self, path: &TreePath) -> Result<Arc<[u8]>, ReadError> {
        let content = self.files.get(path.as_str());
        content.cloned().ok_or_else(|| ReadError { path: path.clone(), reason: "no such file".into() })
    }

    fn list(&self, folder: &TreePath) -> Result<Vec<(String, Entry)>, ReadError> {
        let prefix = if folder.is_root() { String::new() } else { format!("{folder}/") };
        let below = self.entries.range(prefix.clone()..).take_while(|(path, _)| path.starts_with(&prefix));
        let names = below.filter_map(|(path, entry)| {
            let name = &path[prefix.len()..];
            (!name.is_empty() && !name.contains('/')).then(|| (name.to_owned(), *entry))
        });
        let mut names: Vec<_> = names.collect();
        names.sort_by(|(a, _), (b, _)| a.cmp(b));
        Ok(names)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_normalised_and_never_leave_the_root() {
        let base = TreePath::from_root("apps/web").unwrap();
        for (path, expected) in [
            ("../base", Ok("apps/base")),
            ("./x/./y", Ok("apps/web/x/y")),
            ("../..", Ok("")),
            ("../../..", Err(PathError::Escapes("../../..".into()))),
            ("/etc/passwd", Err(PathError::Absolute("/etc/passwd".into()))),
        ] {
            assert_eq!(base.join(path).map(|p| p.as_str().to_owned()), expected.map(str::to_owned), "{path}");
        }
        let deep = |parts: usize| TreePath::from_root(&vec!["d"; parts].join("/"));
        assert!(deep(MAX_DEPTH).is_ok() && deep(MAX_DEPTH).unwrap().join("x").is_err());
        assert!(matches!(deep(100_000), Err(PathError::TooDeep(start)) if start.len() == 40));
        assert!(TreePath::from_root(&"x".repeat(MAX_PATH)).is_err());
        assert_eq!(deep(60).unwrap().below(&deep(60).unwrap()).as_str().split('/').count(), 120);
        assert!(TreePath::clamped(&"x/".repeat(65)).is_err() && TreePath::clamped(&"../".repeat(65)).is_ok());
        // What is left of it counts.
        assert_eq!(base.join(&"x/../".repeat(1000)).unwrap(), base);
        assert!(TreePath::from_root("apps/web/x").unwrap().is_within(&base));
        assert!(!TreePath::from_root("apps/website").unwrap().is_within(&base));
    }

    #[test]
    fn memory_files_list_folders_and_change_their_id_with_content() {
        let tree = MemoryFiles::new([("a/b.yaml", "x"), ("a/c/d.yaml", "y"), ("e", "z")]);
        let names: Vec<_> = tree.list(&TreePath::root()).unwrap().into_iter().map(|(n, _)| n).collect();
        assert_eq!(names, ["a", "e"]);
        let folder = TreePath::from_root("a").unwrap();
        let changed = MemoryFiles::new([("a/b.yaml", "x"), ("a/c/d.yaml", "Y"), ("e", "z")]);
        assert_ne!(tree.entry(&folder).unwrap().unwrap().id, changed.entry(&folder).unwrap().unwrap().id);
        assert_eq!(tree.entry(&folder).unwrap().unwrap().kind, Kind::Folder);
        let below: Vec<_> = tree.list(&folder).unwrap().into_iter().map(|(n, e)| (n, e.kind)).collect();
        assert_eq!(below, [("b.yaml".to_owned(), Kind::File), ("c".to_owned(), Kind::Folder)]);
        assert!(tree.entry(&TreePath::from_root("nope").unwrap()).unwrap().is_none());
        let empty = MemoryFiles::default();
        assert_eq!(empty.list(&TreePath::root()).unwrap(), []);
        assert!(empty.entry(&TreePath::root()).unwrap().is_some());
    }
}
