//! The two points that a plan is between.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use flotilla_source::{GitLimits, WorkTree, WorkTreeError};

use crate::error::Error;
use crate::exit::Code;
use crate::offline::{ClustersArgs, Repo};

/// A commit of the fleet repo, or a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Point {
    Revision(String),
    Folder(PathBuf),
}

impl std::str::FromStr for Point {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "" => Err("names no commit".to_owned()),
            // No name of a commit begins like this.
            text if text.starts_with(['.', '/']) => Ok(Self::Folder(text.into())),
            text => Ok(Self::Revision(text.to_owned())),
        }
    }
}

impl Point {
    /// The fleet repo as it is there, with a name for people.
    ///
    /// # Errors
    /// Where there is no such commit or folder, or it cannot be read.
    pub(super) fn open(&self, repo: &Path, clusters: &ClustersArgs) -> Result<(String, Repo), Error> {
        match self {
            Self::Folder(folder) => {
                Ok((format!("the folder {}", folder.display()), Repo::open(folder, clusters)?))
            }
            Self::Revision(revision) => {
                let opened = WorkTree::open(repo, GitLimits::default().file_bytes);
                let (commit, files) = opened.and_then(|tree| tree.commit(revision)).map_err(unread)?;
                let short = commit.id.short();
                let name = if commit.id.as_str().starts_with(revision) {
                    short.to_owned()
                } else {
                    format!("{revision} ({short})")
                };
                let repo = Repo::of(Arc::new(files), &format!("at {name}"), clusters)?;
                Ok((name, repo))
            }
        }
    }
}

fn unread(error: WorkTreeError) -> Error {
    let hint = match &error {
        WorkTreeError::NoRepository { .. } => {
            "--repo names a folder in a clone of the fleet repo; --from and --to take folders as well: ./DIR"
        }
        WorkTreeError::NotFetched { .. } => {
            "fetch the history first: `git fetch --unshallow`, or fetch-depth: 0 where CI checks out"
        }
        WorkTreeError::NoCommit { .. } => "a folder is written with `.` or `/` in front: ./DIR",
        WorkTreeError::Unreadable { .. } => {
            "`git fsck` says what is wrong with a clone; a partial one lacks files"
        }
        WorkTreeError::NoFolder { .. } => {
            "--repo names the folder of the fleet repo; it is not in that commit"
        }
    };
    Error::new(Code::Input, "cannot read a side of the plan").because(error).hint(hint)
}
