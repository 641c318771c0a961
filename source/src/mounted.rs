//! One tree with others in it: submodules, and what a source includes from others.

use std::collections::BTreeMap;
use std::sync::Arc;

use flotilla_kustomize::files::{ContentId, Entry, Files, Kind, ReadError, TreePath};

/// A tree in which folders of other trees stand in place of what is at their paths.
pub struct Mounted {
    base: Arc<dyn Files>,
    mounts: BTreeMap<TreePath, Mount>,
}

struct Mount {
    files: Arc<dyn Files>,
    folder: TreePath,
}

impl Mounted {
    pub fn new(base: Arc<dyn Files>) -> Self {
        Self { base, mounts: BTreeMap::new() }
    }

    /// Puts a folder of another tree at a path; the tree's root where `folder` is that. Of two at one path the later
    /// one counts.
    pub fn mount(&mut self, at: TreePath, files: Arc<dyn Files>, folder: TreePath) {
        self.mounts.insert(at, Mount { files, folder });
    }

    /// The innermost mount that a path is in, and the path within its tree.
    fn inside(&self, path: &TreePath) -> Option<(&Mount, TreePath)> {
        let mut at = Some(path.clone());
        while let Some(folder) = at {
            if let Some(mount) = self.mounts.get(&folder) {
                let rest = path.as_str()[folder.as_str().len()..].trim_start_matches('/');
                let rest = TreePath::from_root(rest).expect("a part of a path is one");
                return Some((mount, mount.folder.below(&rest)));
            }
            at = folder.parent();
        }
        None
    }

    /// The mounts below a folder that is not itself in one that hides them.
    fn below<'a>(&'a self, folder: &'a TreePath) -> impl Iterator<Item = (&'a TreePath, &'a Mount)> {
        self.mounts.iter().filter(move |(at, _)| at.is_within(folder) && *at != folder)
    }

    fn own(&self, path: &TreePath) -> Result<Option<Entry>, ReadError> {
        match self.inside(path) {
            Some((mount, inner)) => mount.files.entry(&inner).map_err(|error| moved(error, path)),
            None => self.base.entry(path),
        }
    }
}

/// An error inside a mounted tree, as one of the whole.
fn moved(error: ReadError, path: &TreePath) -> ReadError {
    ReadError { path: path.clone(), reason: error.reason }
}

impl Files for Mounted {
    fn entry(&self, path: &TreePath) -> Result<Option<Entry>, ReadError> {
        let own = self.own(path)?;
        let mut below = self.below(path).peekable();
        if below.peek().is_none() {
            return Ok(own);
        }
        // What is mounted below is part of the folder's content.
        let mut id = blake3::Hasher::new();
        id.update(&own.map(|entry| entry.id.0).unwrap_or_default());
        for (at, mount) in below {
            let entry = mount.files.entry(&mount.folder).map_err(|error| moved(error, at))?;
            id.update(&(at.as_str().len() as u64).to_le_bytes()).update(at.as_str().as_bytes());
            id.update(&entry.map(|entry| entry.id.0).unwrap_or_default());
        }
        Ok(Some(Entry { kind: Kind::Folder, id: ContentId(*id.finalize().as_bytes()) }))
    }

    fn read(&self, path: &TreePath) -> Result<Arc<[u8]>, ReadError> {
        match self.inside(path) {
            Some((mount, inner)) => mount.files.read(&inner).map_err(|error| moved(error, path)),
            None => self.base.read(path),
        }
    }

    fn list(&self, folder: &TreePath) -> Result<Vec<(String, Entry)>, ReadError> {
        let own = match self.inside(folder) {
            Some((mount, inner)) => mount.files.list(&inner).map_err(|error| moved(error, folder))?,
            None if matches!(self.base.entry(folder)?, Some(Entry { kind: Kind::Folder, .. })) => {
                self.base.list(folder)?
            }
            // A folder that only mounts make.
            None if self.below(folder).next().is_some() => Vec::new(),
            None => self.base.list(folder)?,
        };
        let depth = if folder.is_root() { 0 } else { folder.as_str().len() + 1 };
        let mut entries: BTreeMap<String, Entry> = own.into_iter().collect();
        let names: Vec<&str> = self
            .below(folder)
            .map(|(at, _)| at.as_str()[depth..].split('/').next().unwrap_or_default())
            .collect();
        for name in names {
            let path =
                folder.join(name).map_err(|e| ReadError { path: folder.clone(), reason: e.to_string() })?;
            if let Some(entry) = self.entry(&path)? {
                entries.insert(name.to_owned(), entry);
            }
        }
        Ok(entries.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use flotilla_kustomize::files::MemoryFiles;

    use super::*;

    fn path(text: &str) -> TreePath {
        TreePath::from_root(text).unwrap()
    }

    fn tree(module: &str) -> Mounted {
        let base = MemoryFiles::new([("a/old.yaml", "old"), ("a/m/hidden.yaml", "x"), ("b.yaml", "b")]);
        let other: Arc<dyn Files> = Arc::new(MemoryFiles::new([("x/y.yaml", module), ("z.yaml", "z")]));
        let mut mounted = Mounted::new(Arc::new(base));
        mounted.mount(path("a/m"), other.clone(), TreePath::root());
        mounted.mount(path("new/deep"), other.clone(), path("x"));
        mounted.mount(path("a/m/x/in"), other, path("x"));
        mounted
    }

    #[test]
    fn trees_are_read_where_they_are_mounted() {
        let files = tree("y");
        let names = |folder: &str| -> Vec<(String, Kind)> {
            files.list(&path(folder)).unwrap().into_iter().map(|(name, entry)| (name, entry.kind)).collect()
        };
        let folder = |name: &str| (name.to_owned(), Kind::Folder);
        let file = |name: &str| (name.to_owned(), Kind::File);
        assert_eq!(names(""), [folder("a"), file("b.yaml"), folder("new")]);
        assert_eq!(names("a"), [folder("m"), file("old.yaml")]);
        assert_eq!(names("a/m"), [folder("x"), file("z.yaml")]);
        assert_eq!(names("a/m/x"), [folder("in"), file("y.yaml")]);
        assert_eq!(names("new"), [folder("deep")]);
        assert_eq!(names("new/deep"), [file("y.yaml")]);
        for (name, content) in [("a/m/x/in/y.yaml", "y"), ("a/old.yaml", "old"), ("new/deep/y.yaml", "y")] {
            assert_eq!(&*files.read(&path(name)).unwrap(), content.as_bytes(), "{name}");
        }
        let error = files.read(&path("a/m/hidden.yaml")).unwrap_err();
        assert_eq!(error.path, path("a/m/hidden.yaml"));
        assert!(files.entry(&path("a/m/hidden.yaml")).unwrap().is_none());
    }

    #[test]
    fn a_change_in_a_mounted_tree_changes_the_folders_above() {
        let id = |module: &str, at: &str| tree(module).entry(&path(at)).unwrap().unwrap().id;
        for at in ["", "a", "a/m", "new", "new/deep/y.yaml"] {
            assert_ne!(id("y", at), id("Y", at), "{at}");
            assert_eq!(id("y", at), id("y", at), "{at}");
        }
        assert_eq!(id("y", "b.yaml"), id("Y", "b.yaml"));
    }
}
