//! Where content comes from: the fleet's Git repository at the hub, a folder at somebody's desk.
//!
//! Both come out as [`flotilla_kustomize::files::Files`], so that what builds them cannot tell them apart:
//!
//! ```text
//! file:// https:// ssh ──► GitRepo (one bare clone on disk) ──► GitFiles (one commit)
//! a folder on disk     ───────────────────────────────────────► FolderFiles
//! ```
//!
//! Everything here blocks: async callers put it on a blocking thread. Nothing polls by itself; the caller
//! says when to fetch.

mod folder;
mod git;

pub use folder::FolderFiles;
pub use git::error::{CommitError, FetchError, OpenError};
pub use git::files::GitFiles;
pub use git::repo::{Commit, CommitId, CommitIdError, GitRepo};
pub use git::spec::{Branch, BranchError, Credentials, GitLimits, GitSpec, GitUrl, UrlError};
