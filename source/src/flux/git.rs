//! `GitRepository`

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use flotilla_core::source::{GitReference, GitRepository};
use flotilla_kustomize::files::Files;
use flotilla_kustomize::ignore::{Ignored, Rules};

use super::github::{self, Token};
use super::secret::GitAuth;
use super::{Fetched, Policy, Secrets, SourceError, count_files};
use crate::git::repo::{CommitId, GitRepo};
use crate::git::spec::{Credentials, GitLimits, GitSpec, GitUrl, Reference};
use crate::git::submodules::with_submodules;
use crate::git::tags::tags;
use crate::http::{Http, Tls, proxy};
use crate::semver::{Range, strict};

pub(super) struct GitSource {
    dir: PathBuf,
    wanted: GitRepository,
    secrets: Secrets,
    timeout: Duration,
    policy: Policy,
    /// The clone with the reference that it is of.
    repo: Option<GitRepo>,
    /// What GitHub gave to the app.
    token: Option<Token>,
    last: Option<(CommitId, Fetched)>,
}

impl GitSource {
    pub(super) fn open(
        dir: PathBuf,
        wanted: GitRepository,
        secrets: Secrets,
        timeout: Duration,
        policy: Policy,
    ) -> Result<Self, SourceError> {
        let mut source = Self { dir, wanted, secrets, timeout, policy, repo: None, token: None, last: None };
        // What was fetched before a restart; where that cannot be read any more, the next fetch brings it anew.
        source.last = source.recall();
        Ok(source)
    }

    pub(super) fn last(&self) -> Option<Fetched> {
        self.last.as_ref().map(|(_, fetched)| fetched.clone())
    }

    pub(super) fn at(&self, revision: &str) -> Option<Fetched> {
        let (_, commit) = revision.rsplit_once("sha1:")?;
        let files = self.files(self.repo.as_ref()?, &commit.parse().ok()?, &AtomicBool::new(false)).ok()?;
        Some(Fetched { files, revision: revision.to_owned() })
    }

    pub(super) fn keep(&mut self, used: &BTreeSet<String>) -> Result<(), SourceError> {
        let commits = used.iter().filter_map(|revision| revision.rsplit_once("sha1:")?.1.parse().ok());
        let commits: BTreeSet<CommitId> = commits.collect();
        Ok(self.repo.as_mut().map_or(Ok(()), |repo| repo.keep(&commits))?)
    }

    pub(super) fn fetch(&mut self, cancel: &AtomicBool) -> Result<Fetched, SourceError> {
        let fetched = self.attempt(cancel);
        if fetched.is_err() {
            // It may have been taken back.
            self.token = None;
        }
        fetched
    }

    fn attempt(&mut self, cancel: &AtomicBool) -> Result<Fetched, SourceError> {
        fs::create_dir_all(&self.dir)
            .map_err(|source| SourceError::Disk { path: self.dir.clone(), source })?;
        let auth = self.auth()?;
        let auth = if self.wanted.github_app { self.of_app(auth)? } else { auth };
        let keys = Keys::write(&self.dir, &auth)?;
        let spec = self.spec(&auth, &keys, self.reference(&auth, &keys, cancel)?)?;
        let name = name(&self.wanted.reference, &spec.reference);
        let mut repo = match self.repo.take() {
            Some(repo) if *repo.spec() == spec => repo,
            other => {
                // It has the lock.
                drop(other);
                GitRepo::open(self.dir.join("repo"), spec)?
            }
        };
        let fetched = self.fetch_with(&mut repo, &name, cancel);
        self.repo = Some(repo);
        fetched
    }

    fn fetch_with(
        &mut self,
        repo: &mut GitRepo,
        name: &str,
        cancel: &AtomicBool,
    ) -> Result<Fetched, SourceError> {
        let known = repo.newest().map(|commit| commit.id);
        // A commit by its id never changes.
        let commit = match (&repo.spec().reference, known) {
            (Reference::Commit(wanted), Some(known)) if *wanted == known => known,
            _ => repo.fetch(cancel)?.id,
        };
        let revision = revision(name, &commit);
        if let Some((last, fetched)) = &self.last
            && *last == commit
            && fetched.revision == revision
        {
            return Ok(fetched.clone());
        }
        let files = self.files(repo, &commit, cancel)?;
        count_files(&*files, self.policy.limits.files)?;
        let fetched = Fetched { files, revision };
        let state = self.dir.join("revision");
        fs::write(&state, &fetched.revision).map_err(|source| SourceError::Disk { path: state, source })?;
        self.last = Some((commit, fetched.clone()));
        Ok(fetched)
    }

    /// What the commit holds, as Flux would pack it.
    fn files(
        &self,
        repo: &GitRepo,
        commit: &CommitId,
        cancel: &AtomicBool,
    ) -> Result<Arc<dyn Files>, SourceError> {
        let tree = repo.tree(commit)?;
        let mut files: Arc<dyn Files> = if self.wanted.recurse_submodules {
            with_submodules(tree, repo.spec(), &self.dir.join("modules"), cancel)?
        } else {
            Arc::new(tree)
        };
        if !self.wanted.sparse_checkout.is_empty() {
            files = Arc::new(Ignored::with(files, only(&self.wanted.sparse_checkout)));
        }
        Ok(Arc::new(Ignored::new(files, self.wanted.ignore.as_deref())?))
    }

    fn recall(&mut self) -> Option<(CommitId, Fetched)> {
        let revision = fs::read_to_string(self.dir.join("revision")).ok()?;
        let (name, id) = revision.rsplit_once("sha1:")?;
        let id: CommitId = id.parse().ok()?;
        let auth = self.auth().ok()?;
        let reference = match &self.wanted.reference {
            GitReference::Semver(_) => Reference::Tag(name.trim_end_matches('@').to_owned()),
            other => fixed(other).ok()?,
        };
        let spec = self.spec(&auth, &Keys::none(&self.dir), reference).ok()?;
        let repo = GitRepo::open(self.dir.join("repo"), spec).ok()?;
        // Submodules that are there already are not fetched again.
        let files = self.files(&repo, &id, &AtomicBool::new(true)).ok()?;
        self.repo = Some(repo);
        Some((id, Fetched { files, revision }))
    }

    fn auth(&self) -> Result<GitAuth, SourceError> {
        let url: GitUrl = self
            .wanted
            .url
            .as_str()
            .parse()
            .map_err(|e: crate::UrlError| SourceError::Wrong(e.to_string()))?;
        match &self.secrets.secret {
            _ if self.wanted.github_app && url.is_ssh() => Err(SourceError::Wrong(
                "spec.provider: github goes over https; begin spec.url with https://".into(),
            )),
            Some(secret) => Ok(secret.git(&url, self.wanted.github_app)?),
            None if self.wanted.github_app => Err(SourceError::Wrong(
                "spec.provider: github needs spec.secretRef, a secret with the data of a GitHub App".into(),
            )),
            None if url.is_ssh() => Err(SourceError::Wrong(
                "ssh needs spec.secretRef, a secret with identity and known_hosts".into(),
            )),
            None => Ok(GitAuth::default()),
        }
    }

    /// With a token of the app that the secret describes: the one from before, as long as it is good.
    fn of_app(&mut self, auth: GitAuth) -> Result<GitAuth, SourceError> {
        let token = match self.token.take().filter(Token::is_good) {
            Some(token) => token,
            None => {
                let secret = self.secrets.secret.as_ref();
                let app = secret.map(|secret| secret.github_app()).transpose()?;
                let app = app.ok_or_else(|| SourceError::Wrong("there is no secret".into()))?;
                let tls = Tls { ca_pem: auth.ca_pem.clone(), identity_pem: None };
                let proxy = self.secrets.proxy.as_ref().map(proxy).transpose()?;
                let http = Http::new(&tls, &self.policy.reach, proxy.as_ref())?;
                app.token(&http, self.timeout)?
            }
        };
        let basic = Some((github::USER.to_owned(), token.text.clone()));
        self.token = Some(token);
        Ok(GitAuth { basic, ..auth })
    }

    fn spec(&self, auth: &GitAuth, keys: &Keys, reference: Reference) -> Result<GitSpec, SourceError> {
        let wrong = |error: crate::UrlError| SourceError::Wrong(error.to_string());
        let mut spec = GitSpec::shallow(self.wanted.url.as_str().parse().map_err(wrong)?, reference);
        spec.credentials = match auth {
            GitAuth { ssh: Some(_), .. } => Some(Credentials::SshKey {
                private_key: keys.identity.clone(),
                known_hosts: Some(keys.known_hosts.clone()),
            }),
            GitAuth { basic: Some((username, password)), .. } => {
                Some(Credentials::Basic { username: username.clone(), password: password.clone() })
            }
            GitAuth { bearer: Some(token), .. } => Some(Credentials::Bearer(token.clone())),
            _ => None,
        };
        spec.ca_pem = auth.ca_pem.clone();
        spec.proxy = self.secrets.proxy.as_ref().map(proxy).transpose()?;
        spec.reach = self.policy.reach.clone();
        spec.mirrors = self.policy.mirrors.clone();
        let limits = &self.policy.limits;
        spec.limits = GitLimits {
            file_bytes: limits.file_bytes,
            clone_bytes: limits.bytes,
            timeout: self.timeout,
            ..GitLimits::default()
        };
        Ok(spec)
    }

    /// The reference to fetch now: of a range, the tag that is the highest in it today.
    fn reference(&self, auth: &GitAuth, keys: &Keys, cancel: &AtomicBool) -> Result<Reference, SourceError> {
        let GitReference::Semver(range) = &self.wanted.reference else {
            return fixed(&self.wanted.reference);
        };
        let parsed: Range =
            range.parse().map_err(|e: crate::RangeError| SourceError::Wrong(e.to_string()))?;
        let spec = self.spec(auth, keys, Reference::Head)?;
        let there = tags(&spec, &self.dir.join("tags"), cancel)?;
        match parsed.newest(there.iter().map(String::as_str), strict) {
            Some(tag) => Ok(Reference::Tag(tag.to_owned())),
            None => Err(SourceError::NoVersion {
                url: spec.url.to_string(),
                what: "tag",
                range: range.clone(),
                there,
            }),
        }
    }
}

fn fixed(reference: &GitReference) -> Result<Reference, SourceError> {
    let wrong = |error: &dyn std::fmt::Display| SourceError::Wrong(error.to_string());
    Ok(match reference {
        GitReference::Commit { commit, .. } => {
            Reference::Commit(commit.parse().map_err(|e: crate::CommitIdError| wrong(&e))?)
        }
        GitReference::Name(name) => Reference::Name(name.clone()),
        GitReference::Tag(tag) | GitReference::Semver(tag) => Reference::Tag(tag.clone()),
        GitReference::Branch(branch) => {
            Reference::Branch(branch.parse().map_err(|e: crate::BranchError| wrong(&e))?)
        }
    })
}

/// What stands before the commit in a revision.
fn name(wanted: &GitReference, found: &Reference) -> String {
    match (wanted, found) {
        (GitReference::Commit { branch, .. }, _) => branch.clone().unwrap_or_default(),
        (_, found) => found.to_string(),
    }
}

fn revision(name: &str, commit: &CommitId) -> String {
    if name.is_empty() { format!("sha1:{commit}") } else { format!("{name}@sha1:{commit}") }
}

/// Rules that leave only some folders.
fn only(folders: &[String]) -> Rules {
    let mut rules = Rules::default();
    let mut text = "/*\n".to_owned();
    for folder in folders {
        let folder = folder.trim_start_matches("./").trim_matches('/');
        text.push_str(&format!("!/{folder}/\n"));
    }
    rules.add(&text, &flotilla_kustomize::files::TreePath::root());
    rules
}

/// The files that the ssh program reads; they go when the attempt is over.
struct Keys {
    identity: PathBuf,
    known_hosts: PathBuf,
}

impl Keys {
    fn none(dir: &Path) -> Self {
        Self { identity: dir.join("identity"), known_hosts: dir.join("known_hosts") }
    }

    fn write(dir: &Path, auth: &GitAuth) -> Result<Self, SourceError> {
        let keys = Self::none(dir);
        if let Some((identity, hosts)) = &auth.ssh {
            // The ssh program wants a line break at the end.
            let identity = if identity.ends_with('\n') { identity.clone() } else { format!("{identity}\n") };
            private(&keys.identity, &identity)?;
            private(&keys.known_hosts, hosts)?;
        }
        Ok(keys)
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        // They are there for ssh only; what cannot be removed is written over the next time.
        fs::remove_file(&self.identity).ok();
        fs::remove_file(&self.known_hosts).ok();
    }
}

fn private(path: &Path, text: &str) -> Result<(), SourceError> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let write = || -> std::io::Result<()> {
        match fs::remove_file(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?.write_all(text.as_bytes())
    };
    write().map_err(|source| SourceError::Disk { path: path.to_owned(), source })
}
