//! A folder of a tree as a tree of its own: a fleet that lives in one folder of its repository.

use std::sync::Arc;

use flotilla_kustomize::files::{Entry, Files, ReadError, TreePath};

/// The files below `folder`.
pub(super) struct Subtree {
    files: Arc<dyn Files>,
    folder: TreePath,
}

impl Subtree {
    pub(super) fn new(files: Arc<dyn Files>, folder: TreePath) -> Self {
        Self { files, folder }
    }

    fn outer(&self, path: &TreePath) -> TreePath {
        self.folder.below(path)
    }
}

impl Files for Subtree {
    fn entry(&self, path: &TreePath) -> Result<Option<Entry>, ReadError> {
        self.files.entry(&self.outer(path))
    }

    fn read(&self, path: &TreePath) -> Result<Arc<[u8]>, ReadError> {
        self.files.read(&self.outer(path))
    }

    fn list(&self, folder: &TreePath) -> Result<Vec<(String, Entry)>, ReadError> {
        self.files.list(&self.outer(folder))
    }
}
