//! The fleet repo as the loop uses it: fetched beside rounds, read at its commits.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use flotilla_kustomize::files::{Files, TreePath};
use flotilla_render::Artifact;
use flotilla_runtime::tasks::chain;
use flotilla_source::{Commit, CommitError, CommitId, FetchError, GitRepo, OpenError};

use super::renderers::caught;
use super::subtree::Subtree;
use crate::store::Snapshot;

/// Where the fleet's commits come from. Its functions block.
pub trait FleetRepo: Send {
    /// The address and the branch, for people.
    fn names(&self) -> (String, String);
    /// The newest commit at the repository. Everything that was fetched before stays readable.
    ///
    /// # Errors
    /// If it cannot be had: the one before stays in use.
    fn fetch(&mut self, cancel: &AtomicBool) -> Result<Commit, FetchError>;
    /// The newest commit that was fetched, before a restart too.
    fn newest(&self) -> Option<Commit>;
    /// The files of a commit that was fetched.
    ///
    /// # Errors
    /// If it is not there or cannot be read.
    fn tree(&self, commit: &CommitId) -> Result<Arc<dyn Files>, CommitError>;
    /// Keeps these commits readable whatever is fetched, and no others.
    ///
    /// # Errors
    /// If that cannot be noted.
    fn keep(&mut self, commits: &BTreeSet<CommitId>) -> Result<(), OpenError>;
}

impl FleetRepo for GitRepo {
    fn names(&self) -> (String, String) {
        (self.spec().url.to_string(), self.spec().reference.to_string())
    }

    fn fetch(&mut self, cancel: &AtomicBool) -> Result<Commit, FetchError> {
        GitRepo::fetch(self, cancel)
    }

    fn newest(&self) -> Option<Commit> {
        GitRepo::newest(self)
    }

    fn tree(&self, commit: &CommitId) -> Result<Arc<dyn Files>, CommitError> {
        Ok(Arc::new(GitRepo::tree(self, commit)?))
    }

    fn keep(&mut self, commits: &BTreeSet<CommitId>) -> Result<(), OpenError> {
        GitRepo::keep(self, commits)
    }
}

/// The fleet within its repository.
pub(super) struct Repo {
    repo: Box<dyn FleetRepo>,
    /// The fleet's path in it.
    path: TreePath,
    reference: String,
}

/// The commit that is rendered.
pub(super) struct Head {
    pub(super) commit: Commit,
    pub(super) tree: Result<Artifact, CommitError>,
}

/// What came of a fetch, with the repository.
pub(super) struct Fetched {
    pub(super) repo: Repo,
    pub(super) head: Result<Head, FetchError>,
}

impl Repo {
    pub(super) fn new(repo: Box<dyn FleetRepo>, path: TreePath) -> Self {
        let (_, reference) = repo.names();
        Self { repo, path, reference }
    }

    pub(super) fn names(&self) -> (String, String) {
        self.repo.names()
    }

    /// Blocks until the repository has answered, or `cancel` is seen.
    pub(super) fn fetch(mut self, cancel: &AtomicBool) -> Fetched {
        let fetched = caught(|| self.repo.fetch(cancel)).unwrap_or_else(|panic| {
            let (url, reason) = (self.repo.names().0, panic.to_string());
            Err(FetchError::Corrupt { url, reason })
        });
        let head = fetched.map(|commit| self.head(commit));
        Fetched { repo: self, head }
    }

    /// As of the last fetch, before a restart too.
    pub(super) fn newest(&self) -> Option<Head> {
        Some(self.head(self.repo.newest()?))
    }

    fn head(&self, commit: Commit) -> Head {
        let tree = self.artifact(&commit.id);
        Head { commit, tree }
    }

    /// The fleet repo at a commit, as units see it.
    pub(super) fn artifact(&self, commit: &CommitId) -> Result<Artifact, CommitError> {
        let files = self.repo.tree(commit)?;
        let files = Arc::new(Subtree::new(files, self.path.clone()));
        let revision = format!("{}@sha1:{}", self.reference, commit.as_str());
        Ok(Artifact::new(files, revision, "the fleet repo"))
    }

    /// The fleet repo at older snapshots, as far as they can still be read; `known` are the commits that were opened already.
    pub(super) fn older(
        &self,
        snapshots: Vec<Arc<Snapshot>>,
        known: &mut BTreeMap<Arc<str>, Option<Artifact>>,
    ) -> Vec<(Arc<Snapshot>, Artifact)> {
        let mut older = Vec::new();
        for snapshot in snapshots {
            let commit = snapshot.commit();
            let tree = known.entry(commit.clone()).or_insert_with(|| {
                let opened = self.artifact(&commit.parse().ok()?);
                opened
                    .inspect_err(|error| {
                        tracing::warn!(commit = &**commit, "cannot look into an older commit: {error}");
                    })
                    .ok()
            });
            older.extend(tree.clone().map(|tree| (snapshot, tree)));
        }
        older
    }

    /// Keeps these commits readable, and no others beside what the repository has anyway.
    pub(super) fn keep(&mut self, commits: &BTreeSet<CommitId>) {
        if let Err(error) = self.repo.keep(commits) {
            tracing::warn!("cannot keep commits of the fleet repo: {}", chain(&error));
        }
    }
}
