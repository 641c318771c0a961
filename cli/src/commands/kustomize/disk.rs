//! The disk of this machine as a tree that a build reads.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use flotilla_kustomize::files::{ContentId, Entry, Files, Kind, ReadError, TreePath};

/// Where a path of the tree is.
pub(super) fn absolute(path: &TreePath) -> PathBuf {
    Path::new("/").join(path.as_str())
}

/// The whole disk as a tree: bases may be anywhere. Symlinks are not followed below the folder that is built.
pub(super) struct Disk;

/// A file larger than this is no manifest.
const LARGEST: u64 = 50 << 20;

impl Files for Disk {
    fn shown(&self, path: &TreePath) -> String {
        absolute(path).display().to_string()
    }

    fn entry(&self, path: &TreePath) -> Result<Option<Entry>, ReadError> {
        let path_on_disk = absolute(path);
        let metadata = match std::fs::symlink_metadata(&path_on_disk) {
            Ok(metadata) => metadata,
            Err(error)
                if matches!(
                    error.kind(),
                    std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory
                ) =>
            {
                return Ok(None);
            }
            Err(error) => return Err(unread(path, &error)),
        };
        let real = std::fs::canonicalize(&path_on_disk).map_err(|error| unread(path, &error));
        let kind = if metadata.is_symlink() || real? != path_on_disk {
            Kind::Symlink
        } else if metadata.is_dir() {
            Kind::Folder
        } else {
            Kind::File
        };
        // Nothing is remembered between builds, so nobody compares.
        Ok(Some(Entry { kind, id: ContentId([0; 32]) }))
    }

    fn read(&self, path: &TreePath) -> Result<Arc<[u8]>, ReadError> {
        let refuse = |reason: &str| ReadError { path: path.clone(), reason: reason.to_owned() };
        match self.entry(path)?.map(|entry| entry.kind) {
            Some(Kind::File) => {}
            Some(Kind::Folder) => return Err(refuse("it is a folder, not a file")),
            Some(Kind::Symlink) => {
                return Err(refuse("a symbolic link is on the way; links are not followed"));
            }
            None => return Err(refuse("no such file")),
        }
        let on_disk = absolute(path);
        if std::fs::metadata(&on_disk).map_err(|error| unread(path, &error))?.len() > LARGEST {
            return Err(refuse("it is larger than 50 MiB"));
        }
        std::fs::read(&on_disk).map(Arc::from).map_err(|error| unread(path, &error))
    }

    fn list(&self, folder: &TreePath) -> Result<Vec<(String, Entry)>, ReadError> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(absolute(folder)).map_err(|error| unread(folder, &error))? {
            let name = entry.map_err(|error| unread(folder, &error))?.file_name();
            let unusable = || ReadError {
                path: folder.clone(),
                reason: format!("the name {name:?} in it is not UTF-8"),
            };
            let name = name.to_str().ok_or_else(unusable)?.to_owned();
            let path = folder.join(&name).map_err(|_| unusable())?;
            if let Some(entry) = self.entry(&path)? {
                names.push((name, entry));
            }
        }
        names.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(names)
    }

    fn absolute(&self, path: &str) -> Option<TreePath> {
        TreePath::from_root(path).ok()
    }
}

fn unread(path: &TreePath, error: &std::io::Error) -> ReadError {
    ReadError { path: path.clone(), reason: error.to_string() }
}
