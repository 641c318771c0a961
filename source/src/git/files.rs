//! A commit's tree as files, read from the object database without a checkout.
//!
//! Parsed trees are remembered by their id and shared by all commits of a repository, so that a new commit costs
//! the folders that it changed.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use flotilla_kustomize::files::{ContentId, Entry, Files, Kind, ReadError, TreePath};
use flotilla_runtime::lock;
use gix::ObjectId;
use gix::objs::tree::EntryKind;
use gix::objs::{Find, FindHeader, TreeRefIter};

use super::repo::CommitId;
use crate::folder::{no_file, too_large};

/// Folders that are remembered before all are forgotten: at some 100 bytes an entry, tens of MB in the worst case.
const REMEMBERED_TREES: usize = 20_000;

/// Of one folder's listing.
const TREE_BYTES: u64 = 32 << 20;

#[derive(Debug)]
struct TreeEntry {
    name: Box<str>,
    kind: Kind,
    id: ObjectId,
}

/// Sorted by name, submodules left out.
type Tree = Arc<[TreeEntry]>;

#[derive(Default)]
pub(super) struct TreeCache(Mutex<HashMap<ObjectId, Tree>>);

/// The objects of one clone, for any number of readers at once.
pub(super) struct Objects {
    store: Arc<gix::odb::Store>,
    /// A handle has caches of its own and serves one reader at a time: they are lent out.
    idle: Mutex<Vec<gix::odb::Handle>>,
    trees: Arc<TreeCache>,
    /// Set when an object that must be there is not, or cannot be decoded.
    damaged: Arc<AtomicBool>,
}

impl Objects {
    pub(super) fn new(store: Arc<gix::odb::Store>, trees: Arc<TreeCache>, damaged: Arc<AtomicBool>) -> Self {
        Self { store, idle: Mutex::default(), trees, damaged }
    }

    fn with_handle<T>(&self, read: impl FnOnce(&gix::odb::Handle) -> T) -> T {
        let idle = || lock(&self.idle);
        let lent = idle().pop();
        let handle = lent.unwrap_or_else(|| self.store.to_cache());
        let result = read(&handle);
        idle().push(handle);
        result
    }

    fn damage(&self, id: &ObjectId, what: &str) -> String {
        self.damaged.store(true, Ordering::Relaxed);
        format!("the clone is damaged: object {id} {what}; the next fetch clones it again")
    }

    /// The content of an object that must be there and be of `kind`; larger ones than `limit` are not read.
    fn object(
        &self,
        id: &ObjectId,
        kind: gix::objs::Kind,
        limit: u64,
    ) -> Result<Result<Vec<u8>, u64>, String> {
        self.with_handle(|handle| {
            let header = FindHeader::try_header(handle, id)
                .map_err(|e| self.damage(id, &format!("is unreadable ({e})")))?;
            let header = header.ok_or_else(|| self.damage(id, "is missing"))?;
            if header.kind != kind {
                return Err(format!("object {id} is a {}, not a {kind}", header.kind));
            }
            if header.size > limit {
                return Ok(Err(header.size));
            }
            let mut content = Vec::new();
            match handle.try_find(id, &mut content) {
                Ok(Some(_)) => Ok(Ok(content)),
                Ok(None) => Err(self.damage(id, "is missing")),
                Err(error) => Err(self.damage(id, &format!("is unreadable ({error})"))),
            }
        })
    }

    /// The commit that an object is, or that a tag ends at.
    pub(super) fn peel(&self, id: ObjectId) -> Result<ObjectId, String> {
        const TAGS_OF_TAGS: usize = 10;
        const TAG_BYTES: u64 = 1 << 20;
        let mut id = id;
        for _ in 0..TAGS_OF_TAGS {
            let header = self.with_handle(|handle| FindHeader::try_header(handle, &id));
            match header {
                Ok(Some(header)) if header.kind == gix::objs::Kind::Tag => {}
                _ => return Ok(id),
            }
            let content = self
                .object(&id, gix::objs::Kind::Tag, TAG_BYTES)?
                .map_err(|size| format!("its tag has {size} bytes, the limit is {TAG_BYTES}"))?;
            let tag = gix::objs::TagRef::from_bytes(&content, id.kind())
                .map_err(|error| self.damage(&id, &format!("is unreadable ({error})")))?;
            id = tag.target();
        }
        Err(format!("tag {id} is one of more than {TAGS_OF_TAGS} that point at each other"))
    }

    /// `None` where there is no such object.
    pub(super) fn commit(&self, id: &ObjectId) -> Result<Option<Vec<u8>>, String> {
        const COMMIT_BYTES: u64 = 1 << 20;
        if !self.with_handle(|handle| gix::objs::Exists::exists(handle, id)) {
            return Ok(None);
        }
        let content = self.object(id, gix::objs::Kind::Commit, COMMIT_BYTES)?;
        content
            .map(Some)
            .map_err(|size| format!("its commit object has {size} bytes, the limit is {COMMIT_BYTES}"))
    }

    fn tree(&self, id: &ObjectId) -> Result<Tree, String> {
        let remembered = || lock(&self.trees.0);
        if let Some(tree) = remembered().get(id) {
            return Ok(tree.clone());
        }
        let content = self
            .object(id, gix::objs::Kind::Tree, TREE_BYTES)?
            .map_err(|size| format!("its listing has {size} bytes, the limit is {TREE_BYTES}"))?;
        let mut entries = Vec::new();
        for entry in TreeRefIter::from_bytes(&content, id.kind()) {
            let entry = entry.map_err(|e| self.damage(id, &format!("is unreadable ({e})")))?;
            let kind = match entry.mode.kind() {
                EntryKind::Tree => Kind::Folder,
                EntryKind::Blob | EntryKind::BlobExecutable => Kind::File,
                EntryKind::Link => Kind::Symlink,
                EntryKind::Commit => continue,
            };
            let name = std::str::from_utf8(entry.filename)
                .map_err(|_| format!("the name '{}' in it is not UTF-8; rename it", entry.filename))?;
            if matches!(name, "" | "." | "..") || name.contains('/') {
                return Err(format!(
                    "it holds an entry named '{name}', which leads out of it; repair the repository"
                ));
            }
            entries.push(TreeEntry { name: name.into(), kind, id: entry.oid.to_owned() });
        }
        entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        let tree: Tree = entries.into();
        let mut trees = remembered();
        if trees.len() >= REMEMBERED_TREES {
            trees.clear();
        }
        trees.insert(*id, tree.clone());
        Ok(tree)
    }

    /// The commit that a folder has under a name, if it has one.
    fn submodule(&self, folder: &ObjectId, name: &str) -> Result<Option<CommitId>, String> {
        let content = self
            .object(folder, gix::objs::Kind::Tree, TREE_BYTES)?
            .map_err(|size| format!("its listing has {size} bytes, the limit is {TREE_BYTES}"))?;
        for entry in TreeRefIter::from_bytes(&content, folder.kind()) {
            let entry = entry.map_err(|e| self.damage(folder, &format!("is unreadable ({e})")))?;
            if entry.mode.kind() == EntryKind::Commit && entry.filename == name {
                return Ok(Some(entry.oid.to_owned().into()));
            }
        }
        Ok(None)
    }

    /// Whether the folder can be listed, which a commit's root must.
    pub(super) fn check_tree(&self, id: &ObjectId) -> Result<(), String> {
        self.tree(id).map(drop)
    }
}

/// The files of one commit. Symlinks are entries of their own kind and never followed; submodules are absent.
/// It stays readable while the repository goes on to newer commits.
#[derive(Clone)]
pub struct GitFiles {
    objects: Arc<Objects>,
    root: ObjectId,
    file_bytes: u64,
}

impl GitFiles {
    pub(super) fn new(objects: Arc<Objects>, root: ObjectId, file_bytes: u64) -> Self {
        Self { objects, root, file_bytes }
    }

    fn find(&self, path: &TreePath) -> Result<Option<(Kind, ObjectId)>, ReadError> {
        let mut found = (Kind::Folder, self.root);
        for part in path.as_str().split('/').filter(|part| !part.is_empty()) {
            if found.0 != Kind::Folder {
                return Ok(None);
            }
            let tree =
                self.objects.tree(&found.1).map_err(|reason| ReadError { path: path.clone(), reason })?;
            let Ok(at) = tree.binary_search_by(|entry| entry.name.as_ref().cmp(part)) else {
                return Ok(None);
            };
            found = (tree[at].kind, tree[at].id);
        }
        Ok(Some(found))
    }
}

impl GitFiles {
    /// The files of a folder of them; `None` where there is no such folder.
    pub(super) fn below(&self, folder: &TreePath) -> Result<Option<Self>, ReadError> {
        let Some((Kind::Folder, root)) = self.find(folder)? else { return Ok(None) };
        Ok(Some(Self { root, ..self.clone() }))
    }

    /// The commit of the submodule at a path; `None` where there is none.
    pub(super) fn submodule(&self, path: &TreePath) -> Result<Option<CommitId>, ReadError> {
        let parent = path.parent().unwrap_or_default();
        let Some((Kind::Folder, folder)) = self.find(&parent)? else { return Ok(None) };
        let id = self.objects.submodule(&folder, path.name());
        id.map_err(|reason| ReadError { path: path.clone(), reason })
    }
}

fn content_id(id: &ObjectId) -> ContentId {
    let mut bytes = [0; 32];
    bytes[..id.as_bytes().len()].copy_from_slice(id.as_bytes());
    ContentId(bytes)
}

impl Files for GitFiles {
    fn entry(&self, path: &TreePath) -> Result<Option<Entry>, ReadError> {
        Ok(self.find(path)?.map(|(kind, id)| Entry { kind, id: content_id(&id) }))
    }

    fn read(&self, path: &TreePath) -> Result<Arc<[u8]>, ReadError> {
        let found = self.find(path)?;
        let Some((Kind::File, id)) = found else { return Err(no_file(path, found.map(|(kind, _)| kind))) };
        let content = self.objects.object(&id, gix::objs::Kind::Blob, self.file_bytes);
        match content.map_err(|reason| ReadError { path: path.clone(), reason })? {
            Ok(content) => Ok(content.into()),
            Err(size) => Err(too_large(path, size, self.file_bytes)),
        }
    }

    fn list(&self, folder: &TreePath) -> Result<Vec<(String, Entry)>, ReadError> {
        let fail = |reason: String| ReadError { path: folder.clone(), reason };
        let Some((Kind::Folder, id)) = self.find(folder)? else { return Err(fail("no such folder".into())) };
        let tree = self.objects.tree(&id).map_err(fail)?;
        let entry = |e: &TreeEntry| (e.name.to_string(), Entry { kind: e.kind, id: content_id(&e.id) });
        Ok(tree.iter().map(entry).collect())
    }
}
