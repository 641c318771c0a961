//! A snapshot in the making: what is used first of a source stays for all clusters of a round, whatever is fetched meanwhile.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};

use flotilla_core::Digest;
use flotilla_kustomize::files::{Files, ReadError, TreePath};
use flotilla_render::Unavailable;
use flotilla_runtime::lock;
use flotilla_source::flux::Fetched;

use crate::store::{Snapshot, SourceAt};

/// One commit, and the sources that were used with it so far.
#[derive(Default)]
pub struct Draft {
    commit: Arc<str>,
    found: Mutex<BTreeMap<Digest, Found>>,
}

#[derive(Clone)]
struct Found {
    key: Digest,
    content: Result<Fetched, Unavailable>,
    /// What it was at before, of one that stays there.
    before: Option<SourceAt>,
}

/// From which snapshot a cluster's sources are.
#[derive(Clone, Copy)]
pub enum At<'a> {
    /// The newest one. What the cluster suspends stays at what it was in the one before.
    Newest { draft: &'a Draft, before: Option<&'a Snapshot> },
    /// One that is over.
    Then(&'a Snapshot),
}

impl Draft {
    pub fn new(commit: Arc<str>) -> Self {
        Self { commit, ..Self::default() }
    }

    pub fn commit(&self) -> &str {
        &self.commit
    }

    fn found(&self) -> MutexGuard<'_, BTreeMap<Digest, Found>> {
        lock(&self.found)
    }

    /// What was used first under a name.
    pub(super) fn first(
        &self,
        name: Digest,
        key: Digest,
        before: Option<&SourceAt>,
        answer: impl FnOnce() -> Result<Fetched, Unavailable>,
    ) -> Result<Fetched, Unavailable> {
        let mut found = self.found();
        let first = found.entry(name);
        first.or_insert_with(|| Found { key, content: answer(), before: before.cloned() }).content.clone()
    }

    /// The snapshot of what stands under these names. Reads files.
    ///
    /// # Errors
    /// Where a source that was used cannot be read.
    pub fn part(&self, names: &BTreeSet<Digest>) -> Result<Snapshot, ReadError> {
        let found: Vec<(Digest, Found)> = self
            .found()
            .iter()
            .filter(|(name, _)| names.contains(name))
            .map(|(n, f)| (*n, f.clone()))
            .collect();
        let mut sources = BTreeMap::new();
        for (name, Found { key, content, before }) in found {
            let at = match content {
                Ok(Fetched { files, revision }) => {
                    Some(SourceAt { key, revision, content: digest_of(&*files)? })
                }
                // What cannot be had just now is not forgotten.
                Err(_) => before,
            };
            sources.extend(at.map(|at| (name, at)));
        }
        Ok(Snapshot::new(self.commit.clone(), sources))
    }

    /// Adds the revisions that were used so far, by what is fetched.
    pub(super) fn add_to(&self, used: &mut HashMap<Digest, BTreeSet<String>>) {
        for Found { key, content, .. } in self.found().values() {
            let revision = content.as_ref().ok().map(|content| content.revision.clone());
            used.entry(*key).or_default().extend(revision);
        }
    }
}

/// Of all files of a source.
pub(super) fn digest_of(files: &dyn Files) -> Result<Digest, ReadError> {
    let root = files.entry(&TreePath::root())?;
    Ok(root.map_or_else(|| Digest::of(b""), |root| Digest::from(root.id.0)))
}
