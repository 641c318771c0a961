//! A folder on disk as a tree of files, seen as a commit of it would be: for offline builds.

use std::collections::HashMap;
use std::fs::{self, Metadata};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use flotilla_kustomize::files::{ContentId, Entry, Files, Kind, ReadError, TreePath};
use flotilla_runtime::lock;

/// Removes a folder and what is in it; one that is not there is fine.
pub(crate) fn remove(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

/// The files below a folder as they are now, save `.git`. Symlinks are entries of their own kind and never
/// followed, sockets and the like are absent, as in a commit.
///
/// Content ids are remembered: make a new one for a new look at the folder.
pub struct FolderFiles {
    root: PathBuf,
    file_bytes: u64,
    ids: Mutex<HashMap<TreePath, ContentId>>,
}

impl FolderFiles {
    /// `root` is the folder; a file larger than `file_bytes` is not read. Fails where `root` is no folder.
    pub fn open(root: impl Into<PathBuf>, file_bytes: u64) -> io::Result<Self> {
        let root = root.into();
        if !fs::metadata(&root)?.is_dir() {
            return Err(io::Error::new(
                io::ErrorKind::NotADirectory,
                format!("{} is not a folder", root.display()),
            ));
        }
        Ok(Self { root, file_bytes, ids: Mutex::default() })
    }

    fn on_disk(&self, path: &TreePath) -> PathBuf {
        if path.is_root() { self.root.clone() } else { self.root.join(path.as_str()) }
    }

    /// Looks at each folder on the way, so that no symlink leads out of the tree.
    fn look(&self, path: &TreePath) -> Result<Option<(Metadata, Kind)>, ReadError> {
        if path.is_root() {
            let metadata = fs::metadata(&self.root).map_err(|e| failed(path, &e))?;
            return Ok(Some((metadata, Kind::Folder)));
        }
        if path.as_str().split('/').any(|part| part == ".git") {
            return Ok(None);
        }
        let parent = path.parent().unwrap_or_default();
        if !parent.is_root() && !matches!(self.look(&parent)?, Some((_, Kind::Folder))) {
            return Ok(None);
        }
        match fs::symlink_metadata(self.on_disk(path)) {
            Ok(metadata) => Ok(kind_of(&metadata).map(|kind| (metadata, kind))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed(path, &error)),
        }
    }

    fn names(&self, folder: &TreePath) -> Result<Vec<(String, Kind)>, ReadError> {
        let mut names = Vec::new();
        for entry in fs::read_dir(self.on_disk(folder)).map_err(|e| failed(folder, &e))? {
            let entry = entry.map_err(|e| failed(folder, &e))?;
            let metadata = entry.metadata().map_err(|e| failed(folder, &e))?;
            let Some(kind) = kind_of(&metadata) else { continue };
            let name = entry.file_name().into_string().map_err(|name| ReadError {
                path: folder.clone(),
                reason: format!("the name {name:?} in it is not UTF-8; rename it"),
            })?;
            if name != ".git" {
                names.push((name, kind));
            }
        }
        names.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        Ok(names)
    }

    /// The id of what stands at a path, with those of everything below it: paths bound how deep that goes, and what fills
    /// the folder, how much it is.
    fn id(&self, path: &TreePath, kind: Kind) -> Result<ContentId, ReadError> {
        if let Some(id) = self.known(path) {
            return Ok(id);
        }
        // Those above the innermost, which is apart.
        let (mut above, mut open) = (Vec::new(), Open::new(self, path.clone(), kind)?);
        loop {
            if let Some((name, kind)) = open.left.next() {
                // Where no path leads, nothing is read.
                let Ok(path) = open.path.join(&name) else { continue };
                match self.known(&path) {
                    Some(id) => open.add(&name, kind, id),
                    None => above.push(std::mem::replace(&mut open, Open::new(self, path, kind)?)),
                }
                continue;
            }
            let id = ContentId(*open.hasher.finalize().as_bytes());
            lock(&self.ids).insert(open.path.clone(), id);
            let Some(mut parent) = above.pop() else { return Ok(id) };
            parent.add(open.path.name(), open.kind, id);
            open = parent;
        }
    }

    fn known(&self, path: &TreePath) -> Option<ContentId> {
        lock(&self.ids).get(path).copied()
    }
}

/// A file or folder whose id is being made.
struct Open {
    path: TreePath,
    kind: Kind,
    /// On the heap: it is two kilobytes.
    hasher: Box<blake3::Hasher>,
    /// What of a folder is not in it yet.
    left: std::vec::IntoIter<(String, Kind)>,
}

impl Open {
    fn new(files: &FolderFiles, path: TreePath, kind: Kind) -> Result<Self, ReadError> {
        let mut hasher = Box::new(blake3::Hasher::new());
        let mut left = Vec::new();
        match kind {
            Kind::File => {
                let file = fs::File::open(files.on_disk(&path)).map_err(|e| failed(&path, &e))?;
                hasher.update_reader(file).map_err(|e| failed(&path, &e))?;
            }
            Kind::Symlink => {
                let target = fs::read_link(files.on_disk(&path)).map_err(|e| failed(&path, &e))?;
                hasher.update(target.as_os_str().as_encoded_bytes());
            }
            Kind::Folder => left = files.names(&path)?,
        }
        Ok(Self { path, kind, hasher, left: left.into_iter() })
    }

    fn add(&mut self, name: &str, kind: Kind, id: ContentId) {
        self.hasher.update(&(name.len() as u64).to_le_bytes()).update(name.as_bytes());
        self.hasher.update(&[kind as u8]).update(&id.0);
    }
}

fn child(folder: &TreePath, name: &str) -> Result<TreePath, ReadError> {
    folder.join(name).map_err(|error| ReadError::of_path(folder, &error))
}

fn kind_of(metadata: &Metadata) -> Option<Kind> {
    let kind = metadata.file_type();
    if kind.is_symlink() {
        Some(Kind::Symlink)
    } else if kind.is_dir() {
        Some(Kind::Folder)
    } else {
        kind.is_file().then_some(Kind::File)
    }
}

fn failed(path: &TreePath, error: &io::Error) -> ReadError {
    ReadError { path: path.clone(), reason: error.to_string() }
}

/// Reading stands for a rule of its own in each tree: what is no file is told apart from what is not there.
pub(crate) fn no_file(path: &TreePath, kind: Option<Kind>) -> ReadError {
    let reason = match kind {
        Some(Kind::Folder) => "it is a folder, not a file",
        Some(Kind::Symlink) => "it is a symbolic link; links are not followed, put a file there",
        _ => "no such file",
    };
    ReadError { path: path.clone(), reason: reason.to_owned() }
}

pub(crate) fn too_large(path: &TreePath, size: u64, limit: u64) -> ReadError {
    ReadError {
        path: path.clone(),
        reason: format!("the file has {size} bytes, the limit for one file is {limit}"),
    }
}

impl Files for FolderFiles {
    fn entry(&self, path: &TreePath) -> Result<Option<Entry>, ReadError> {
        let Some((_, kind)) = self.look(path)? else { return Ok(None) };
        Ok(Some(Entry { kind, id: self.id(path, kind)? }))
    }

    fn read(&self, path: &TreePath) -> Result<Arc<[u8]>, ReadError> {
        let found = self.look(path)?;
        let Some((metadata, Kind::File)) = found else {
            return Err(no_file(path, found.map(|(_, kind)| kind)));
        };
        if metadata.len() > self.file_bytes {
            return Err(too_large(path, metadata.len(), self.file_bytes));
        }
        read_up_to(&self.on_disk(path), self.file_bytes)
            .map_err(|e| failed(path, &e))?
            .ok_or_else(|| too_large(path, self.file_bytes + 1, self.file_bytes))
    }

    fn list(&self, folder: &TreePath) -> Result<Vec<(String, Entry)>, ReadError> {
        let found = self.look(folder)?;
        if !matches!(found, Some((_, Kind::Folder))) {
            return Err(ReadError { path: folder.clone(), reason: "no such folder".into() });
        }
        let named = |(name, kind): (String, Kind)| {
            let id = self.id(&child(folder, &name)?, kind)?;
            Ok((name, Entry { kind, id }))
        };
        self.names(folder)?.into_iter().map(named).collect()
    }
}

/// `None` where the file grew beyond `limit` since it was looked at.
fn read_up_to(path: &Path, limit: u64) -> io::Result<Option<Arc<[u8]>>> {
    let mut content = Vec::new();
    fs::File::open(path)?.take(limit.saturating_add(1)).read_to_end(&mut content)?;
    Ok((content.len() as u64 <= limit).then(|| content.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> TreePath {
        TreePath::from_root(text).unwrap()
    }

    #[test]
    fn a_folder_is_read_as_a_commit_of_it_would_be() -> anyhow::Result<()> {
        let outside = tempfile::tempdir()?;
        fs::write(outside.path().join("secret"), "x")?;
        let dir = tempfile::tempdir()?;
        fs::create_dir_all(dir.path().join("apps/web"))?;
        fs::create_dir_all(dir.path().join(".git"))?;
        fs::write(dir.path().join(".git/config"), "x")?;
        fs::write(dir.path().join("apps/web/a.yaml"), "a: 1\n")?;
        fs::write(dir.path().join("apps/big.yaml"), vec![b'x'; 101])?;
        std::os::unix::fs::symlink(outside.path(), dir.path().join("apps/out"))?;
        std::os::unix::fs::symlink("web/a.yaml", dir.path().join("apps/link.yaml"))?;
        let files = FolderFiles::open(dir.path(), 100)?;

        let names = |folder: &str| -> anyhow::Result<Vec<(String, Kind)>> {
            Ok(files.list(&path(folder))?.into_iter().map(|(name, entry)| (name, entry.kind)).collect())
        };
        assert_eq!(names("")?, [("apps".to_owned(), Kind::Folder)]);
        assert_eq!(
            names("apps")?,
            [
                ("big.yaml".to_owned(), Kind::File),
                ("link.yaml".into(), Kind::Symlink),
                ("out".into(), Kind::Symlink),
                ("web".into(), Kind::Folder)
            ]
        );
        assert_eq!(&*files.read(&path("apps/web/a.yaml"))?, b"a: 1\n");
        for (name, reason) in [
            ("apps/big.yaml", "101 bytes"),
            ("apps/link.yaml", "symbolic link"),
            ("apps", "folder"),
            ("apps/out/secret", "no such file"),
            (".git/config", "no such file"),
            ("nope", "no such file"),
        ] {
            assert!(files.read(&path(name)).unwrap_err().to_string().contains(reason), "{name}");
        }
        assert_eq!(files.entry(&path("apps/out/secret"))?, None);
        assert!(files.list(&path("apps/out")).is_err());
        assert!(FolderFiles::open(dir.path().join("apps/big.yaml"), 1).is_err());
        Ok(())
    }

    #[test]
    fn ids_follow_content_all_the_way_up() -> anyhow::Result<()> {
        let dir = tempfile::tempdir()?;
        fs::create_dir_all(dir.path().join("a/b"))?;
        fs::write(dir.path().join("a/b/c"), "1")?;
        fs::write(dir.path().join("a/d"), "1")?;
        let look =
            |name: &str| FolderFiles::open(dir.path(), 9).unwrap().entry(&path(name)).unwrap().unwrap().id;
        let before = (look(""), look("a/b/c"), look("a/d"));
        assert_eq!(before.1, before.2);
        fs::write(dir.path().join("a/b/c"), "2")?;
        assert_ne!((look(""), look("a/b/c")), (before.0, before.1));
        assert_eq!(look("a/d"), before.2);
        fs::write(dir.path().join("a/b/c"), "1")?;
        assert_eq!(look(""), before.0);
        Ok(())
    }
}
