//! What can go wrong with a repository: each says what was attempted where, and what to do.

use std::path::PathBuf;
use std::time::Duration;

use super::repo::CommitId;

/// The folder for a clone cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("the folder {path} for the clone of a Git repository cannot be used; check that it is writable")]
    Folder {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("the clone in {path} is in use by another process; stop it or give this one a folder of its own")]
    InUse { path: PathBuf },
}

/// A fetch did not bring the branch's newest commit. What was fetched before stays readable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    #[error(
        "cannot reach the Git repository {url}: {reason}; check the address and that its server answers from here"
    )]
    Unreachable { url: String, reason: String },
    #[error(
        "there is no Git repository at {url} ({reason}); check the address, and that the credentials may see it"
    )]
    NoRepository { url: String, reason: String },
    #[error("talking to {url} took longer than {} s and was stopped; check its server and the network, or raise the timeout", timeout.as_secs_f32())]
    TimedOut { url: String, timeout: Duration },
    #[error(
        "the Git repository {url} asks for credentials and none are set; set a user name and password or token"
    )]
    CredentialsMissing { url: String },
    #[error(
        "the Git repository {url} refused the credentials ({reason}); check the user name, password, token or key and its expiry"
    )]
    CredentialsRefused { url: String, reason: String },
    #[error("credentials are not sent to {url} in clear text; use https://")]
    CredentialsInClear { url: String },
    #[error(
        "{url}: the server's certificate is not trusted ({reason}); if it has a CA of its own, set that CA"
    )]
    Certificate { url: String, reason: String },
    #[error("{url}: the CA certificates that are set cannot be used: {reason}")]
    BadCa { url: String, reason: String },
    #[error(
        "fetching {url} needs the program '{program}', which is not in PATH; install it or use an https:// address"
    )]
    MissingProgram { url: String, program: &'static str },
    #[error("the Git repository {url} has no branch '{branch}'; it has {}", some_of(existing))]
    NoSuchBranch { url: String, branch: String, existing: Vec<String> },
    #[error("the Git repository {url} has no {what}; check the name, and that it was pushed")]
    NoSuchReference { url: String, what: String },
    #[error("the Git repository {url} is empty: no branch has a commit; push one")]
    Empty { url: String },
    #[error(
        "the clone of {url} grew beyond the limit of {limit} bytes and was given up; raise the limit or make the repository smaller"
    )]
    TooLarge { url: String, limit: u64 },
    #[error(
        "{url} holds a file of more than the limit of {limit} bytes and was not fetched; take it out of the repository"
    )]
    ObjectTooLarge { url: String, limit: u64 },
    #[error("what came from {url} cannot be used: {reason}; run 'git fsck' on it")]
    Corrupt { url: String, reason: String },
    #[error("writing the clone of {url} to {path} failed: {reason}; check the disk")]
    Disk { url: String, path: PathBuf, reason: String },
    #[error("the submodule {path} of {url} cannot be used: {reason}")]
    Submodule { url: String, path: String, reason: String },
    #[error("the Git repository {url} may not be fetched: {reason}")]
    OutOfReach { url: String, reason: String },
    #[error("talking to {url} was cancelled")]
    Cancelled { url: String },
}

fn some_of(branches: &[String]) -> String {
    const SHOWN: usize = 5;
    let names: Vec<String> = branches.iter().take(SHOWN).map(|name| format!("'{name}'")).collect();
    match branches.len().saturating_sub(SHOWN) {
        0 => names.join(", "),
        more => format!("{} and {more} more", names.join(", ")),
    }
}

/// A commit cannot be read from the clone.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommitError {
    #[error("commit {id} is not in the clone of {url}: it is not on the branch, or was not fetched yet")]
    NotFetched { url: String, id: CommitId },
    #[error("commit {id} in the clone of {url} cannot be read: {reason}; the next fetch clones it again")]
    Unreadable { url: String, id: CommitId, reason: String },
}
