//! A branch of a Git repository, kept as a bare clone. `gix` is used in this folder and nowhere else.
//!
//! ```text
//! repo ── which clone is in use, when it is made anew
//!   ├── clone ── one bare clone on disk: its objects, their integrity, its newest commit
//!   │     └── files ── a commit's tree as `Files`, straight from the object database
//!   ├── submodules ── a commit with the commits of other repositories that it refers to
//!   ├── ask ── one request that tells whether there is anything to receive
//!   ├── work_tree ── somebody's own repository, of which commits are read
//!   ├── push ── refs of the remote that are set to commits which it has
//!   └── transport ── one conversation with the remote: connect, authenticate, receive, within limits
//! ```

mod ask;
mod clone;
mod connection;
pub(crate) mod error;
pub(crate) mod files;
pub(crate) mod push;
pub(crate) mod repo;
pub(crate) mod spec;
pub(crate) mod submodules;
pub(crate) mod tags;
mod transport;
pub(crate) mod work_tree;
