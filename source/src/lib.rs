//! Where content comes from: the fleet's Git repository at the hub, what kustomizations refer to, a folder at somebody's
//! desk.
//!
//! All come out as [`flotilla_kustomize::files::Files`], so that what builds them cannot tell them apart:
//!
//! ```text
//! file:// https:// ssh ──► GitRepo (one bare clone on disk) ──► GitFiles (one commit)
//! remote bases, files  ──► Remotes ──► kustomize's answers
//! Flux's sources         ──► flux::Fetcher (a folder each) ──► files, revision
//! a work tree's commits ─► WorkTree ──────────────────► GitFiles (one commit)
//! somebody's work tree ──► WorkTree ───────────────────► GitFiles (one commit)
//! checks of gates      ──► Asker ──────────────────────────────────► an answer, which is no source
//! a folder on disk     ───────────────────────────────────────► FolderFiles
//!
//! Reach: which addresses may be talked to at all      Mirrors: which are fetched from elsewhere
//! ```
//!
//! Everything here blocks: async callers put it on a blocking thread. Nothing polls by itself; the caller
//! says when to fetch.

mod ask;
pub mod flux;
mod folder;
mod git;
mod host;
mod http;
mod mirror;
mod mounted;
mod oci;
mod peer;
mod reach;
mod remote;
mod s3;
mod secret;
mod semver;

pub use ask::{Answer, Asker};
pub use folder::FolderFiles;
pub use git::error::{CommitError, FetchError, OpenError};
pub use git::files::GitFiles;
pub use git::push::{PushError, Pushed, RefPusher, StageRef};
pub use git::repo::{Commit, CommitId, CommitIdError, GitRepo};
pub use git::spec::{
    Branch, BranchError, Credentials, GitLimits, GitSpec, GitUrl, History, Reference, UrlError,
};
pub use git::work_tree::{WorkTree, WorkTreeError};
pub use host::HostError;
pub use http::{HttpError, Proxy, Tls};
pub use mirror::{Mirror, MirrorError, Mirrors};
pub use mounted::Mounted;
pub use oci::OciError;
pub use reach::{Allowance, AllowanceError, Reach, ReachError};
pub use remote::{Remote, RemoteError, RemoteLimits, RemoteTree, RemoteUrl, RemoteUrlError, Remotes};
pub use s3::S3Error;
pub use semver::{Range, RangeError, loose, strict};
