//! Commits of the repository that somebody's folder is in, read from its object database: for plans without a hub.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use flotilla_kustomize::files::{ReadError, TreePath};
use gix::bstr::ByteSlice;

use super::files::{GitFiles, Objects, TreeCache};
use super::repo::{Commit, parse_commit};

/// A folder in a Git work tree. Only read.
pub struct WorkTree {
    folder: PathBuf,
    /// The folder in the repository.
    prefix: TreePath,
    repo: gix::ThreadSafeRepository,
    objects: Arc<Objects>,
    file_bytes: u64,
}

/// Why a commit of a work tree cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum WorkTreeError {
    #[error("{} is in no Git work tree: {reason}", folder.display())]
    NoRepository { folder: PathBuf, reason: String },
    #[error("'{revision}' names no commit in the repository of {}: {reason}", folder.display())]
    NoCommit { folder: PathBuf, revision: String, reason: String },
    /// The history was fetched only in part, so that the commit may well exist.
    #[error("'{revision}' names no commit in the shallow clone of {}: {reason}", folder.display())]
    NotFetched { folder: PathBuf, revision: String, reason: String },
    #[error("commit '{revision}' of {} cannot be read: {reason}", folder.display())]
    Unreadable { folder: PathBuf, revision: String, reason: String },
    #[error("there is no folder '{prefix}' in commit '{revision}'")]
    NoFolder { revision: String, prefix: String },
}

impl WorkTree {
    /// Finds the repository of a folder. A file larger than `file_bytes` is not read.
    ///
    /// # Errors
    /// Where the folder is in no work tree.
    pub fn open(folder: &Path, file_bytes: u64) -> Result<Self, WorkTreeError> {
        let none = |reason: String| WorkTreeError::NoRepository { folder: folder.to_owned(), reason };
        let real = folder.canonicalize().map_err(|error| none(error.to_string()))?;
        // Nothing is run and nothing written, so whose the repository is does not matter.
        let options = gix::open::Options::isolated().with(gix::sec::Trust::Full);
        let trust = gix::sec::trust::Mapping { full: options.clone(), reduced: options };
        let repo = gix::ThreadSafeRepository::discover_opts(&real, Default::default(), trust)
            .map_err(|error| none(error.to_string()))?;
        let root = repo.work_dir().ok_or_else(|| none("its repository is bare".to_owned()))?;
        let root = root.canonicalize().map_err(|error| none(error.to_string()))?;
        let within = real.strip_prefix(&root).map_err(|error| none(error.to_string()))?;
        let within = within.to_str().ok_or_else(|| none("its path is not UTF-8".to_owned()))?;
        let prefix = TreePath::from_root(within).map_err(|error| none(error.to_string()))?;
        let objects =
            Objects::new(repo.objects.clone(), Arc::<TreeCache>::default(), Arc::<AtomicBool>::default());
        Ok(Self { folder: folder.to_owned(), prefix, repo, objects: Arc::new(objects), file_bytes })
    }

    /// The commit that a revision names (`HEAD^1`, a branch, a tag, an id) and the folder's files in it.
    ///
    /// # Errors
    /// Where it names none, or not one that is here.
    pub fn commit(&self, revision: &str) -> Result<(Commit, GitFiles), WorkTreeError> {
        let (folder, named) = (self.folder.clone(), revision.to_owned());
        let repo = self.repo.to_thread_local();
        let none = |reason: String| {
            let (folder, revision) = (self.folder.clone(), revision.to_owned());
            if repo.is_shallow().unwrap_or(false) {
                WorkTreeError::NotFetched { folder, revision, reason }
            } else {
                WorkTreeError::NoCommit { folder, revision, reason }
            }
        };
        let id = repo.rev_parse_single(revision.as_bytes().as_bstr());
        let id = id.map_err(|error| none(error.to_string()))?.detach();
        let unreadable = |reason: String| WorkTreeError::Unreadable {
            folder: folder.clone(),
            revision: named.clone(),
            reason,
        };
        let id = self.objects.peel(id).map_err(unreadable)?;
        let content = self.objects.commit(&id).map_err(unreadable)?;
        let content = content.ok_or_else(|| none(format!("object {id} is not here")))?;
        let (commit, root) = parse_commit(id, &content).map_err(unreadable)?;
        self.objects.check_tree(&root).map_err(unreadable)?;
        let files = GitFiles::new(self.objects.clone(), root, self.file_bytes);
        let below = files.below(&self.prefix).map_err(|error: ReadError| unreadable(error.to_string()))?;
        let gone = || WorkTreeError::NoFolder { revision: named.clone(), prefix: self.prefix.to_string() };
        Ok((commit, below.ok_or_else(gone)?))
    }
}
