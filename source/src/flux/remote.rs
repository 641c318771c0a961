//! What a kustomization names outside of its source: a folder of a repository, or a file, followed like a source.
//!
//! ```text
//! DIR/commit          of the repository that was fetched last, where it is one
//! DIR/repo, modules   its clone, and those of its submodules
//! DIR/file/…          the text that was fetched last, where it is one
//! ```

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use flotilla_kustomize::Answer;
use flotilla_kustomize::files::TreePath;

use super::archive::{Store, fetched};
use super::{Fetched, Policy, SourceError};
use crate::git::repo::CommitId;
use crate::git::spec::GitLimits;
use crate::oci::sha256;
use crate::remote::{Remote, RemoteLimits, RemoteTree, RemoteUrl, Remotes};

/// A text in the tree that stands for it.
const FILE: &str = "file";
/// How the revision of a repository begins; that of a text begins with `sha256:`.
const COMMIT: &str = "sha1:";

pub(super) struct RemoteSource {
    dir: PathBuf,
    url: String,
    remotes: Remotes,
    store: Store,
    last: Option<Fetched>,
}

impl RemoteSource {
    pub(super) fn open(dir: PathBuf, url: String, timeout: Duration, policy: &Policy) -> Self {
        let Policy { reach, mirrors, limits } = policy.clone();
        let (file_bytes, clone_bytes) = (limits.file_bytes, limits.bytes);
        let git = GitLimits { file_bytes, clone_bytes, timeout, ..GitLimits::default() };
        let bounds = RemoteLimits { git, file_bytes: limits.file_bytes, file_timeout: timeout };
        let remotes = Remotes { reach, mirrors, limits: bounds };
        let store = Store::new(dir.join("file"), limits);
        let mut source = Self { dir, url, remotes, store, last: None };
        source.last = source.recall();
        source
    }

    pub(super) fn last(&self) -> Option<Fetched> {
        self.last.clone()
    }

    pub(super) fn at(&self, revision: &str) -> Option<Fetched> {
        let files = match revision.strip_prefix(COMMIT) {
            Some(commit) => {
                let commit: CommitId = commit.parse().ok()?;
                self.remotes.recall(&self.url.parse().ok()?, &commit, &self.dir)?.files
            }
            None => self.store.at(revision)?,
        };
        Some(Fetched { files, revision: revision.to_owned() })
    }

    pub(super) fn keep(&mut self, used: &BTreeSet<String>) -> Result<(), SourceError> {
        self.store.keep(used)
    }

    pub(super) fn fetch(&mut self, cancel: &AtomicBool) -> Result<Fetched, SourceError> {
        // A commit by its id never changes.
        if let (Some(last), Ok(url)) = (&self.last, self.url.parse::<RemoteUrl>())
            && last.revision.strip_prefix(COMMIT) == Some(url.reference.as_str())
        {
            return Ok(last.clone());
        }
        let found = self.remotes.find(&self.url, &self.dir, cancel)?;
        let revision = match &found {
            Remote::Tree(tree) => format!("{COMMIT}{}", tree.commit),
            Remote::Text(text) => sha256(text.as_bytes()),
        };
        if let Some(last) = self.last.as_ref().filter(|last| last.revision == revision) {
            return Ok(last.clone());
        }
        let note = self.dir.join("commit");
        let new = match found {
            Remote::Tree(RemoteTree { files, commit, .. }) => {
                fs::write(&note, commit.as_str())
                    .map_err(|source| SourceError::Disk { path: note, source })?;
                Fetched { files, revision }
            }
            Remote::Text(text) => {
                let put = self
                    .store
                    .put(revision.clone(), revision, |tree| tree.add(FILE, &mut text.as_bytes()))?;
                match fs::remove_file(&note) {
                    Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                        return Err(SourceError::Disk { path: note, source });
                    }
                    _ => fetched(put),
                }
            }
        };
        self.last = Some(new.clone());
        Ok(new)
    }

    /// What was fetched before a restart; what cannot be read any more the next fetch brings anew.
    fn recall(&self) -> Option<Fetched> {
        let Ok(commit) = fs::read_to_string(self.dir.join("commit")) else {
            return self.store.recall().map(fetched);
        };
        let commit: CommitId = commit.parse().ok()?;
        let RemoteTree { files, commit, .. } =
            self.remotes.recall(&self.url.parse().ok()?, &commit, &self.dir)?;
        Some(Fetched { files, revision: format!("{COMMIT}{commit}") })
    }
}

/// What a build is answered that needs the remote base at an address, of which this was fetched.
///
/// # Errors
/// Where that cannot be read.
pub fn answer(address: &str, fetched: Fetched) -> Result<Answer, String> {
    if fetched.revision.starts_with(COMMIT) {
        let url: RemoteUrl = address.parse().map_err(|error: crate::RemoteUrlError| error.to_string())?;
        return Ok(Answer::Tree { files: fetched.files, root: url.path });
    }
    let file = TreePath::from_root(FILE).map_err(|error| error.to_string())?;
    let content = fetched.files.read(&file).map_err(|error| error.to_string())?;
    let text = std::str::from_utf8(&content).map_err(|_| "it is not UTF-8 text".to_owned())?;
    Ok(Answer::Text(Arc::from(text)))
}
