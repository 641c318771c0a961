//! What to fetch and within which bounds: parsed once, at the border.

use std::borrow::Cow;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use gix::url::Scheme;

use super::repo::CommitId;
use crate::host::canonical;
use crate::http::{Proxy, is_this_machine};
use crate::mirror::Mirrors;
use crate::reach::Reach;

/// The address of a Git repository, of a kind that can be fetched. It never holds or shows a secret: a user and
/// password inside an http(s) URL are taken out of it when it is parsed (see [`GitSpec::credentials`]).
#[derive(Clone, PartialEq, Eq)]
pub struct GitUrl {
    url: gix::Url,
    embedded: Option<Credentials>,
}

/// Why a text is not an address of a repository. It is shown without user and password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{shown}' is not an address of a Git repository: {reason}; use https://, ssh://, user@host:path, file:// or an absolute path"
)]
pub struct UrlError {
    pub shown: String,
    pub reason: String,
}

impl FromStr for GitUrl {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        let fail = |reason: &str| UrlError { shown: without_userinfo(text), reason: reason.to_owned() };
        if text.trim() != text || text.is_empty() || text.chars().any(char::is_control) {
            return Err(fail("it is empty or has blanks around it or control characters in it"));
        }
        // What the parser says could repeat a password.
        let mut url = gix::url::parse(text).map_err(|_| fail("it cannot be parsed"))?;
        let mut embedded = None;
        match url.scheme {
            Scheme::File if url.host().is_some() => return Err(fail("it names a host; write file:///PATH")),
            Scheme::File if url.path.first() != Some(&b'/') => return Err(fail("the path is relative")),
            Scheme::File => {}
            Scheme::Http | Scheme::Https => {
                if url.host().is_none_or(str::is_empty) {
                    return Err(fail("it names no host"));
                }
                let (user, password) = (url.set_user(None), url.set_password(None));
                if user.is_some() || password.is_some() {
                    embedded = Some(Credentials::Basic {
                        username: user.unwrap_or_default(),
                        password: password.unwrap_or_default(),
                    });
                }
            }
            Scheme::Ssh if url.password().is_some() => return Err(fail("ssh takes a key, not a password")),
            Scheme::Ssh if url.host_argument_safe().is_none() => {
                return Err(fail("it names no host, or one with a leading '-'"));
            }
            Scheme::Ssh if url.user().is_some_and(|user| user.starts_with('-')) => {
                return Err(fail("the user has a leading '-'"));
            }
            Scheme::Ssh => {}
            _ => return Err(fail("this scheme is not supported")),
        }
        if let Some(host) = url.host() {
            url.host = Some(canonical_host(&url, host).map_err(|reason| fail(&reason))?);
        }
        // `ä.example::x` names a host and a path, and with the host as it is connected to a helper of Git's.
        if gix::url::parse(url.to_bstring().as_slice()).ok().as_ref() != Some(&url) {
            return Err(fail("it can be read in more than one way"));
        }
        Ok(Self { url, embedded })
    }
}

/// The host as it is connected to, in the form that `gix` keeps it in.
fn canonical_host(url: &gix::Url, host: &str) -> Result<String, String> {
    let host = canonical(host).map_err(|error| error.to_string())?;
    match (&url.scheme, host) {
        (Scheme::Ssh, host) => Ok(host.to_string().trim_matches(['[', ']']).to_owned()),
        (_, host) => {
            let mut url = url.clone();
            url.host = Some(host.to_string());
            // The HTTP client reads the address once more, and has to find the same server in it.
            let read = url::Url::parse(&url.to_bstring().to_string()).map_err(|error| error.to_string())?;
            let same = read.host_str() == Some(host.to_string().as_str())
                && read.scheme() == url.scheme.as_str()
                && read.port_or_known_default() == url.port_or_default()
                && read.username().is_empty()
                && read.password().is_none();
            same.then(|| host.to_string()).ok_or_else(|| "it can be read in more than one way".to_owned())
        }
    }
}

impl GitUrl {
    pub(super) fn gix(&self) -> &gix::Url {
        &self.url
    }

    /// Whether the repository is a folder on this machine.
    pub fn is_file(&self) -> bool {
        self.url.scheme == Scheme::File
    }

    /// Whether the `ssh` program carries the conversation.
    pub fn is_ssh(&self) -> bool {
        self.url.scheme == Scheme::Ssh
    }

    pub(super) fn is_plain_http(&self) -> bool {
        self.url.scheme == Scheme::Http
    }

    /// Whether what is sent could be read on the way: plain http that leaves this machine. Credentials are not sent
    /// over it.
    pub fn is_in_clear(&self) -> bool {
        self.is_plain_http() && !self.url.host().is_some_and(is_this_machine)
    }

    /// Whether two repositories are at one server, which may be given the same credentials.
    pub(super) fn is_same_server(&self, other: &Self) -> bool {
        let server = |url: &gix::Url| {
            (url.scheme.clone(), url.host().map(str::to_ascii_lowercase), url.port_or_default())
        };
        server(&self.url) == server(&other.url)
    }

    /// The folder, for a repository on this machine.
    pub fn folder(&self) -> Option<PathBuf> {
        self.is_file().then(|| PathBuf::from(self.url.path.to_string()))
    }

    /// The port, for addresses that name one.
    pub fn port(&self) -> Option<u16> {
        self.url.port
    }

    /// The host, for addresses that have one.
    pub fn host(&self) -> Option<&str> {
        self.url.host()
    }
}

impl fmt::Display for GitUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.url.to_bstring())
    }
}

impl fmt::Debug for GitUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

fn without_userinfo(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    let authority = rest.find('/').unwrap_or(rest.len());
    // A password may hold a '/' that somebody forgot to encode: the last '@' anywhere ends the userinfo.
    match rest.rfind('@') {
        Some(at) if at < authority || !rest[..authority].is_empty() => {
            format!("{scheme}://***@{}", &rest[at + 1..])
        }
        _ => text.to_owned(),
    }
}

/// The name of a branch, without `refs/heads/`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Branch(String);

/// Why a text is no branch.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a name of a branch or tag: {1}")]
pub struct BranchError(String, String);

impl FromStr for Branch {
    type Err = BranchError;

    fn from_str(name: &str) -> Result<Self, BranchError> {
        let fail = |reason: String| BranchError(name.to_owned(), reason);
        if name.starts_with("refs/") {
            return Err(fail("give it without 'refs/heads/'".into()));
        }
        if name.is_empty() || name.starts_with('-') {
            return Err(fail("it is empty or has a leading '-'".into()));
        }
        gix::refs::FullName::try_from(format!("refs/heads/{name}"))
            .map_err(|error| fail(error.to_string()))?;
        Ok(Self(name.to_owned()))
    }
}

impl Branch {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Branch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Which commit of a repository is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reference {
    /// The newest commit of a branch.
    Branch(Branch),
    /// What a tag points at.
    Tag(String),
    /// What a ref points at, by its full name: `refs/pull/420/head`.
    Name(String),
    /// One commit, by its 40 digits. The server must give out commits by id; those of protocol 2 do.
    Commit(CommitId),
    /// The newest commit of the branch that the repository calls its own.
    Head,
}

impl Reference {
    /// What `git fetch` would take a name for that says not what it is: a commit id, a full name, else a tag and, where
    /// there is none, a branch; the last two are to be tried in this order.
    pub fn guesses(name: &str) -> Vec<Self> {
        if name.is_empty() || name == "HEAD" {
            return vec![Self::Head];
        }
        if let Ok(id) = name.parse() {
            return vec![Self::Commit(id)];
        }
        if name.starts_with("refs/") {
            return vec![Self::Name(name.to_owned())];
        }
        let branch = name.parse().map(Self::Branch);
        [Some(Self::Tag(name.to_owned())), branch.ok()].into_iter().flatten().collect()
    }

    /// The ref or commit at the remote. Fails where it is not a name that a ref can have.
    pub(super) fn remote_name(&self) -> Result<String, BranchError> {
        let name = match self {
            Self::Branch(branch) => format!("refs/heads/{branch}"),
            Self::Tag(tag) => format!("refs/tags/{tag}"),
            Self::Name(name) => name.clone(),
            Self::Commit(id) => return Ok(id.to_string()),
            Self::Head => return Ok("HEAD".into()),
        };
        gix::refs::FullName::try_from(name.as_str())
            .map_err(|error| BranchError(self.to_string(), error.to_string()))?;
        Ok(name)
    }
}

impl From<Branch> for Reference {
    fn from(branch: Branch) -> Self {
        Self::Branch(branch)
    }
}

/// As people write it: the name alone, without its kind.
impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Branch(branch) => write!(f, "{branch}"),
            Self::Tag(name) | Self::Name(name) => f.write_str(name),
            Self::Commit(id) => write!(f, "{id}"),
            Self::Head => f.write_str("HEAD"),
        }
    }
}

/// How much of the past a clone has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum History {
    /// All of it: whatever was there once can be read again.
    #[default]
    Full,
    /// The wanted commit only.
    Shallow,
}

/// How to prove who asks. Held in memory only: never written to the clone, to Git's configuration or to logs.
#[derive(Clone, PartialEq, Eq)]
pub enum Credentials {
    /// Basic authentication over https (tokens too: the password, with any user name).
    Basic { username: String, password: String },
    /// A token that goes with every request by https.
    Bearer(String),
    /// A private key for ssh, and the host keys to accept. Without `known_hosts` the ssh program uses its own.
    SshKey { private_key: PathBuf, known_hosts: Option<PathBuf> },
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Basic { .. } => f.write_str("Basic { *** }"),
            Self::Bearer(_) => f.write_str("Bearer(***)"),
            Self::SshKey { private_key, known_hosts } => f
                .debug_struct("SshKey")
                .field("private_key", private_key)
                .field("known_hosts", known_hosts)
                .finish(),
        }
    }
}

/// Bounds on what one repository may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GitLimits {
    /// Bytes of one file that is read. Default 10 MiB.
    pub file_bytes: u64,
    /// Bytes of the clone's packs on disk. Default 1 GiB.
    pub clone_bytes: u64,
    /// Bytes of one object, unpacked: a pack of some megabytes may hold one of gigabytes. Default 128 MiB; hosting services
    /// take no larger files.
    pub object_bytes: u64,
    /// One whole fetch. Default 5 minutes. A server that says nothing at all is given up after 30 s.
    pub timeout: Duration,
}

impl Default for GitLimits {
    fn default() -> Self {
        let timeout = Duration::from_secs(300);
        Self { file_bytes: 10 << 20, clone_bytes: 1 << 30, object_bytes: 128 << 20, timeout }
    }
}

/// One commit or branch of one repository, and how to get at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GitSpec {
    pub url: GitUrl,
    pub reference: Reference,
    pub history: History,
    /// They win over those inside the URL.
    pub credentials: Option<Credentials>,
    /// Certificates (PEM) to trust for https beside those of the system.
    pub ca_pem: Option<String>,
    /// For http(s).
    pub proxy: Option<Proxy>,
    /// Which addresses may be talked to.
    pub reach: Reach,
    /// Where submodules are fetched from; the address itself is taken as it is.
    pub mirrors: Mirrors,
    pub limits: GitLimits,
}

impl GitSpec {
    /// Without credentials, with the default limits, with all of the past.
    pub fn new(url: GitUrl, branch: Branch) -> Self {
        Self { history: History::Full, ..Self::shallow(url, branch.into()) }
    }

    /// Without credentials, with the default limits, without the past.
    pub fn shallow(url: GitUrl, reference: Reference) -> Self {
        let (history, limits, reach) = (History::Shallow, GitLimits::default(), Reach::Anything);
        let mirrors = Mirrors::default();
        Self { url, reference, history, credentials: None, ca_pem: None, proxy: None, reach, mirrors, limits }
    }

    /// Those set, else those that stood inside the URL.
    pub fn credentials(&self) -> Option<&Credentials> {
        self.credentials.as_ref().or(self.url.embedded.as_ref())
    }
}

impl Mirrors {
    /// Where a repository is fetched from. A password inside an address stays with that address.
    pub(crate) fn git(&self, url: &GitUrl) -> Result<GitUrl, UrlError> {
        let address = url.to_string();
        match self.address(&address) {
            Cow::Borrowed(_) => Ok(url.clone()),
            Cow::Owned(moved) => moved.parse(),
        }
    }
}

#[cfg(test)]
#[path = "spec_tests.rs"]
mod tests;
