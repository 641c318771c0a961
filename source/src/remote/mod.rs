//! What kustomizations refer to outside of their tree: folders of repositories, and files by HTTP(S).

mod url;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use flotilla_kustomize::Answer;
use flotilla_kustomize::files::{Files, TreePath};

use crate::git::error::{CommitError, FetchError, OpenError};
use crate::git::repo::{CommitId, GitRepo};
use crate::git::spec::{GitLimits, GitSpec, Reference, UrlError};
use crate::git::submodules::with_submodules;
use crate::http::{Fetched, Http, HttpError, Tls, parse_url};
use crate::mirror::Mirrors;
use crate::reach::Reach;

pub use url::{RemoteUrl, RemoteUrlError};

/// The clone, in the folder of an entry.
const REPO: &str = "repo";

/// Bounds on what one remote base or file may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RemoteLimits {
    /// Of the repository; its time is the shorter of this one and the address's own.
    pub git: GitLimits,
    /// Bytes of a file by HTTP. Default 10 MiB.
    pub file_bytes: u64,
    /// Of a file by HTTP. Default 30 s.
    pub file_timeout: Duration,
}

impl Default for RemoteLimits {
    fn default() -> Self {
        let git = GitLimits { clone_bytes: 256 << 20, ..GitLimits::default() };
        Self { git, file_bytes: 10 << 20, file_timeout: Duration::from_secs(30) }
    }
}

/// Something remote could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    #[error(transparent)]
    Address(#[from] RemoteUrlError),
    #[error("it cannot be fetched from where --mirror says")]
    Mirror(#[from] UrlError),
    #[error(transparent)]
    Git(#[from] FetchError),
    #[error(transparent)]
    Folder(#[from] OpenError),
    #[error(transparent)]
    Commit(#[from] CommitError),
    #[error(transparent)]
    Http(#[from] HttpError),
    #[error("{url} is not UTF-8 text")]
    NotText { url: String },
    #[error("{file}, and {git}")]
    Neither { file: Box<RemoteError>, git: Box<RemoteError> },
}

/// The folder of a repository that an address names.
pub struct RemoteTree {
    /// All of the repository.
    pub files: Arc<dyn Files>,
    pub path: TreePath,
    pub commit: CommitId,
}

/// What an address names.
pub enum Remote {
    Tree(RemoteTree),
    Text(Arc<str>),
}

/// Fetches what a kustomization refers to, into folders that the caller keeps for as long as the trees are read.
pub struct Remotes {
    pub reach: Reach,
    pub mirrors: Mirrors,
    pub limits: RemoteLimits,
}

impl Remotes {
    /// From anywhere, with the default limits: on somebody's own machine.
    pub fn anywhere() -> Self {
        Self { reach: Reach::Anything, mirrors: Mirrors::default(), limits: RemoteLimits::default() }
    }

    /// What an entry of a kustomization names, as it answers a build. See [`Remotes::find`].
    ///
    /// # Errors
    /// Where it cannot be fetched.
    pub fn answer(&self, text: &str, dir: &Path, cancel: &AtomicBool) -> Result<Answer, RemoteError> {
        Ok(match self.find(text, dir, cancel)? {
            Remote::Tree(tree) => Answer::Tree { files: tree.files, root: tree.path },
            Remote::Text(content) => Answer::Text(content),
        })
    }

    /// What an entry of a kustomization names. An address that could be a file or a repository is tried as a file first,
    /// as kustomize does; what answers with a web page is none. `dir` is for this entry alone. Blocks.
    ///
    /// # Errors
    /// Where it cannot be fetched.
    pub fn find(&self, text: &str, dir: &Path, cancel: &AtomicBool) -> Result<Remote, RemoteError> {
        let tree = || Ok(Remote::Tree(self.tree(&text.parse()?, dir, cancel)?));
        if RemoteUrl::is_explicit(text) {
            return tree();
        }
        let file = match self.text(text) {
            Ok(Some(content)) => return Ok(Remote::Text(content)),
            Ok(None) => return tree(),
            Err(error) => error,
        };
        // What cannot be reached as a file is not tried again as something else.
        if !matches!(
            &file,
            RemoteError::Http(
                HttpError::NotFound { .. } | HttpError::Status { .. } | HttpError::Denied { .. }
            )
        ) {
            return Err(file);
        }
        tree().map_err(|git| RemoteError::Neither { file: Box::new(file), git: Box::new(git) })
    }

    /// A folder of a repository, with the repository around it. Blocks.
    ///
    /// # Errors
    /// Where it cannot be fetched.
    pub fn tree(
        &self,
        wanted: &RemoteUrl,
        dir: &Path,
        cancel: &AtomicBool,
    ) -> Result<RemoteTree, RemoteError> {
        let mut missing = None;
        for spec in self.specs(wanted)? {
            let mut repo = GitRepo::open(dir.join(REPO), spec)?;
            match repo.fetch(cancel) {
                Ok(commit) => return Self::tree_of(&repo, commit.id, wanted, dir, cancel),
                Err(error @ (FetchError::NoSuchReference { .. } | FetchError::NoSuchBranch { .. })) => {
                    missing = Some(error);
                }
                Err(error) => return Err(error.into()),
            }
        }
        let url = wanted.url.to_string();
        let what = format!("branch, tag or commit '{}'", wanted.reference);
        Err(missing.map_or(FetchError::NoSuchReference { url: url.clone(), what: what.clone() }, |error| {
            match error {
                FetchError::NoSuchBranch { existing, .. } if existing.is_empty() => FetchError::Empty { url },
                _ => FetchError::NoSuchReference { url, what },
            }
        }))?
    }

    /// What an earlier fetch left in `dir`, if it is all there. Talks to nobody.
    pub(crate) fn recall(&self, wanted: &RemoteUrl, commit: &CommitId, dir: &Path) -> Option<RemoteTree> {
        // Submodules that are there are not fetched again.
        let never = AtomicBool::new(true);
        self.specs(wanted).ok()?.into_iter().find_map(|spec| {
            let repo = GitRepo::open(dir.join(REPO), spec).ok()?;
            Self::tree_of(&repo, commit.clone(), wanted, dir, &never).ok()
        })
    }

    fn tree_of(
        repo: &GitRepo,
        commit: CommitId,
        wanted: &RemoteUrl,
        dir: &Path,
        cancel: &AtomicBool,
    ) -> Result<RemoteTree, RemoteError> {
        let files = repo.tree(&commit)?;
        let files: Arc<dyn Files> = if wanted.submodules {
            with_submodules(files, repo.spec(), &dir.join("modules"), cancel)?
        } else {
            Arc::new(files)
        };
        Ok(RemoteTree { files, path: wanted.path.clone(), commit })
    }

    /// What the address may mean, in the order in which it is tried.
    fn specs(&self, wanted: &RemoteUrl) -> Result<Vec<GitSpec>, RemoteError> {
        let url = self.mirrors.git(&wanted.url)?;
        let mut limits = self.limits.git;
        limits.timeout = limits.timeout.min(wanted.timeout);
        let spec = |reference| {
            let (reach, mirrors) = (self.reach.clone(), self.mirrors.clone());
            GitSpec { limits, reach, mirrors, ..GitSpec::shallow(url.clone(), reference) }
        };
        Ok(Reference::guesses(&wanted.reference).into_iter().map(spec).collect())
    }

    /// The text at an address; `None` where a web page is.
    fn text(&self, text: &str) -> Result<Option<Arc<str>>, RemoteError> {
        let url = parse_url(&self.mirrors.address(text))?;
        let client = Http::new(&Tls::default(), &self.reach, None)?;
        let (limit, within) = (self.limits.file_bytes, self.limits.file_timeout);
        let Fetched { bytes, content_type } = client.get(&url, limit, within)?;
        if content_type.starts_with("text/html") {
            return Ok(None);
        }
        let content =
            String::from_utf8(bytes).map_err(|_| RemoteError::NotText { url: crate::http::shown(&url) })?;
        Ok(Some(content.into()))
    }
}
