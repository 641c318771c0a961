//! The content of Flux's sources, fetched: one folder on disk for each source that is wanted, by what it is and who asks.
//!
//! ```text
//!   Wanted (spec, secrets) ─ key ─► Fetcher ── fetch ──► Fetched (files, revision)
//!                                     └─ its folder: what was fetched last, also after a restart
//! ```
//!
//! A fetcher makes one attempt when it is told to; when, and what is done with the result, is the caller's. What was
//! fetched last stays readable whatever comes of the next attempt.

mod archive;
mod bucket;
mod decode;
mod git;
mod github;
mod helm;
mod mirrored;
mod oci;
mod remote;
mod secret;

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use flotilla_core::Digest;
use flotilla_core::source::{GitRepository, HelmRepository, SourceSpec};
use flotilla_kustomize::files::{Files, ReadError};
use flotilla_kustomize::without_secrets;

use crate::git::error::{CommitError, FetchError, OpenError};
use crate::http::HttpError;
use crate::mirror::Mirrors;
use crate::oci::OciError;
use crate::reach::Reach;
use crate::remote::RemoteError;
use crate::s3::S3Error;

pub use crate::secret::{Secret, SecretError};
pub use archive::unpack;
pub use decode::{Decode, Untold};
pub use remote::answer;

/// What the operator lays down for all sources.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    pub reach: Reach,
    pub mirrors: Mirrors,
    pub limits: SourceLimits,
}

impl Policy {
    /// Without mirrors, with the default limits.
    pub fn new(reach: Reach) -> Self {
        Self { reach, mirrors: Mirrors::default(), limits: SourceLimits::default() }
    }
}

/// Bounds on what one source may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SourceLimits {
    /// Of one file that is read. Default 10 MiB.
    pub file_bytes: u64,
    /// What travels: an archive, a clone's packs. Default 256 MiB.
    pub bytes: u64,
    /// All files of one revision. Default 100,000.
    pub files: usize,
}

impl Default for SourceLimits {
    fn default() -> Self {
        Self { file_bytes: 10 << 20, bytes: 256 << 20, files: 100_000 }
    }
}

/// A source and whatever is needed to fetch it.
#[derive(Clone, PartialEq, Eq)]
pub struct Wanted {
    pub spec: SourceSpec,
    /// Of a HelmChart: the repository that it is in. The secrets are those of that repository.
    pub repository: Option<HelmRepository>,
    pub secrets: Secrets,
    /// For one attempt.
    pub timeout: Duration,
}

/// What the Secrets hold that a source names.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secrets {
    /// `secretRef`
    pub secret: Option<Secret>,
    /// `certSecretRef`
    pub cert: Option<Secret>,
    /// `proxySecretRef`
    pub proxy: Option<Secret>,
}

impl Wanted {
    /// Equal for all who may share a fetch: same source, same credentials.
    pub fn key(&self) -> Digest {
        let Secrets { secret, cert, proxy } = &self.secrets;
        let digest = |secret: &Option<Secret>| secret.as_ref().map(Secret::digest);
        let repository = self.repository.clone().map(|spec| SourceSpec::HelmRepository(spec).digest());
        let parts = [Some(self.spec.digest()), repository, digest(secret), digest(cert), digest(proxy)];
        let texts = parts.map(|part| part.map_or_else(String::new, |digest| digest.to_string()));
        Digest::of_parts(texts.iter().map(String::as_bytes))
    }
}

/// The content of a source at one revision.
#[derive(Clone)]
pub struct Fetched {
    pub files: Arc<dyn Files>,
    /// As Flux writes it: `main@sha1:…`.
    pub revision: String,
}

impl fmt::Debug for Fetched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fetched").field("revision", &self.revision).finish_non_exhaustive()
    }
}

/// A source could not be fetched. No text of it holds a secret.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    #[error(transparent)]
    Git(#[from] FetchError),
    #[error(transparent)]
    Folder(#[from] OpenError),
    #[error(transparent)]
    Commit(#[from] CommitError),
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Secret(#[from] SecretError),
    #[error(transparent)]
    Http(#[from] HttpError),
    #[error(transparent)]
    Oci(#[from] OciError),
    #[error(transparent)]
    S3(#[from] S3Error),
    #[error(transparent)]
    Remote(#[from] RemoteError),
    #[error("{0}")]
    Wrong(String),
    #[error(
        "credentials are not sent to {url} in clear text; use https://, or set spec.insecure: true if the way there is safe"
    )]
    CredentialsInClear { url: String },
    #[error("its files have more than the limit of {0} bytes; leave some out, or raise the limit")]
    TooLarge(u64),
    #[error("{url} has no {what} in the range {range}; it has {}", some(.there))]
    NoVersion { url: String, what: &'static str, range: String, there: Vec<String> },
    #[error("it has more than {0} files; leave some out by spec.ignore, or raise the limit")]
    TooManyFiles(usize),
    #[error("its files are in more than {0} folders; leave some out")]
    TooManyFolders(usize),
    #[error("cannot write {path}; check the disk")]
    Disk {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
}

fn some(names: &[String]) -> String {
    const SHOWN: usize = 5;
    match names.len() {
        0 => "none".into(),
        count if count <= SHOWN => names.join(", "),
        count => format!("{}, and {} more", names[..SHOWN].join(", "), count - SHOWN),
    }
}

/// One source with its folder.
pub struct Fetcher {
    kind: Kind,
}

enum Kind {
    Git(Box<git::GitSource>),
    Oci(oci::OciSource),
    Bucket(bucket::BucketSource),
    Index(helm::IndexSource),
    Chart(helm::ChartSource),
    Remote(Box<remote::RemoteSource>),
}

impl Fetcher {
    /// Takes `dir` for a source; what was fetched into it before is there at once. Does not talk to anybody.
    ///
    /// # Errors
    /// Where the folder or the source cannot be used.
    pub fn open(dir: PathBuf, wanted: Wanted, policy: &Policy) -> Result<Self, SourceError> {
        let Wanted { spec, repository, secrets, timeout } = policy.mirrors.wanted(wanted)?;
        let kind = match spec {
            SourceSpec::Git(spec) => {
                Kind::Git(Box::new(git::GitSource::open(dir, spec, secrets, timeout, policy.clone())?))
            }
            SourceSpec::Oci(spec) => {
                Kind::Oci(oci::OciSource::open(dir, spec, secrets, timeout, policy.clone()))
            }
            SourceSpec::Bucket(spec) => {
                Kind::Bucket(bucket::BucketSource::open(dir, spec, secrets, timeout, policy.clone()))
            }
            SourceSpec::HelmRepository(spec) => {
                Kind::Index(helm::IndexSource::new(spec, secrets, timeout, policy.clone()))
            }
            SourceSpec::HelmChart(spec) => {
                let none = || SourceError::Wrong("its repository is not known".into());
                let repository = repository.ok_or_else(none)?;
                Kind::Chart(helm::ChartSource::open(dir, spec, repository, secrets, timeout, policy.clone()))
            }
            SourceSpec::RemoteBase(url) => {
                Kind::Remote(Box::new(remote::RemoteSource::open(dir, url, timeout, policy)))
            }
            SourceSpec::Generator(_) | SourceSpec::External => {
                return Err(SourceError::Wrong("it is made of other sources, not fetched".into()));
            }
        };
        Ok(Self { kind })
    }

    /// What was fetched last.
    pub fn last(&self) -> Option<Fetched> {
        match &self.kind {
            Kind::Git(source) => source.last(),
            Kind::Oci(source) => source.last(),
            Kind::Bucket(source) => source.last(),
            Kind::Index(source) => source.last(),
            Kind::Chart(source) => source.last(),
            Kind::Remote(source) => source.last(),
        }
    }

    /// What was fetched at an older revision, if it is still there.
    pub fn at(&self, revision: &str) -> Option<Fetched> {
        match &self.kind {
            Kind::Git(source) => source.at(revision),
            Kind::Oci(source) => source.at(revision),
            Kind::Bucket(source) => source.at(revision),
            Kind::Index(source) => Some(source.at(revision)),
            Kind::Chart(source) => source.at(revision),
            Kind::Remote(source) => source.at(revision),
        }
    }

    /// Keeps these revisions beside the newest and the one before, whatever is fetched; what nobody uses goes. Until it is
    /// called, nothing goes.
    ///
    /// # Errors
    /// Where something cannot be kept or removed.
    pub fn keep(&mut self, used: &BTreeSet<String>) -> Result<(), SourceError> {
        match &mut self.kind {
            Kind::Git(source) => source.keep(used),
            Kind::Oci(source) => source.keep(used),
            Kind::Bucket(source) => source.keep(used),
            Kind::Index(_) => Ok(()),
            Kind::Chart(source) => source.keep(used),
            Kind::Remote(source) => source.keep(used),
        }
    }

    /// Fetches the newest revision. Blocks, for the source's timeout at most.
    ///
    /// # Errors
    /// Where it cannot be had. What was fetched last stays.
    pub fn fetch(&mut self, cancel: &AtomicBool) -> Result<Fetched, SourceError> {
        self.fetch_told(cancel, &Untold)
    }

    /// The same; `told` is told of archives and indexes before they are decoded.
    ///
    /// # Errors
    /// As [`Fetcher::fetch`]; and where what was received is set aside.
    pub fn fetch_told(&mut self, cancel: &AtomicBool, told: &dyn Decode) -> Result<Fetched, SourceError> {
        match &mut self.kind {
            Kind::Git(source) => source.fetch(cancel),
            Kind::Oci(source) => source.fetch(told),
            Kind::Bucket(source) => source.fetch(),
            Kind::Index(source) => source.fetch(told),
            Kind::Chart(source) => source.fetch(told),
            Kind::Remote(source) => source.fetch(cancel),
        }
    }
}

/// What a source shows of itself: without credentials.
pub fn address(spec: &SourceSpec) -> String {
    match spec {
        SourceSpec::Git(GitRepository { url, .. }) => url.to_string(),
        SourceSpec::Oci(oci) => oci.url.to_string(),
        SourceSpec::Bucket(bucket) => {
            let scheme = if bucket.insecure { "http" } else { "https" };
            format!("{scheme}://{}/{}", bucket.endpoint, bucket.bucket)
        }
        SourceSpec::HelmRepository(helm) => helm.url.to_string(),
        SourceSpec::HelmChart(chart) => format!("{} of {}", chart.chart, chart.source),
        SourceSpec::RemoteBase(url) => without_secrets(url),
        SourceSpec::Generator(_) | SourceSpec::External => String::new(),
    }
}

/// Fails where there are more files than allowed.
fn count_files(files: &dyn Files, limit: usize) -> Result<(), SourceError> {
    use flotilla_kustomize::files::{Kind, TreePath};
    let (mut folders, mut count) = (vec![TreePath::root()], 0);
    while let Some(folder) = folders.pop() {
        for (name, entry) in files.list(&folder)? {
            count += 1;
            if count > limit {
                return Err(SourceError::TooManyFiles(limit));
            }
            if entry.kind == Kind::Folder
                && let Ok(path) = folder.join(&name)
            {
                folders.push(path);
            }
        }
    }
    Ok(())
}
