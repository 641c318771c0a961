//! The mark that the agent's work in the cluster is over: everything was to be removed, or the cluster was deleted at the hub.
//! It outlives a restart, so that nothing is applied again and a removal that was cut short goes on.
//!
//! As it leads to deletions, it counts only where it was read, is complete and names this cluster.

use std::path::{Path, PathBuf};

use flotilla_core::ClusterName;
use flotilla_runtime::files::{self, FileError};

/// Why an agent's work is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Everything was to be removed from the cluster.
    Removal,
    /// The cluster was deleted at the hub: what runs stays as it is, and nobody keeps it so.
    Deletion,
}

/// Why nobody can say whether the work is over.
#[derive(Debug, thiserror::Error)]
pub enum RemovalError {
    #[error(
        "cannot tell whether everything was to be removed from the cluster, or the cluster was deleted at the hub"
    )]
    Read(#[from] FileError),
    #[error(
        "{} does not say in full that everything was to be removed from cluster {cluster}, or that it was deleted at the \
         hub: if its removal was asked for, ask again by `flotilla cluster delete {cluster} --prune`; if not, delete the \
         file",
        path.display()
    )]
    Content { path: PathBuf, cluster: ClusterName },
}

pub(super) fn write(path: &Path, ending: Ending, cluster: &ClusterName) -> Result<(), FileError> {
    files::write_atomic(path, text(ending, cluster).as_bytes(), files::PRIVATE)
}

/// Why the work is over, if it is.
pub(super) fn read(path: &Path, cluster: &ClusterName) -> Result<Option<Ending>, RemovalError> {
    let Some(content) = files::read_if_there(path)? else { return Ok(None) };
    let said =
        [Ending::Removal, Ending::Deletion].into_iter().find(|it| content == text(*it, cluster).as_bytes());
    said.map(Some).ok_or_else(|| RemovalError::Content { path: path.to_owned(), cluster: cluster.clone() })
}

fn text(ending: Ending, cluster: &ClusterName) -> String {
    match ending {
        Ending::Removal => {
            format!("flotilla removal 1\neverything of cluster {cluster} was removed on request\n")
        }
        Ending::Deletion => {
            format!("flotilla deletion 1\ncluster {cluster} was deleted at the hub\n")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_mark_of_this_cluster_counts() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("removed");
        let cluster: ClusterName = "staging".parse().unwrap();
        assert_eq!(read(&path, &cluster).unwrap(), None);
        for ending in [Ending::Removal, Ending::Deletion] {
            write(&path, ending, &cluster).unwrap();
            assert_eq!(read(&path, &cluster).unwrap(), Some(ending));
            let whole = std::fs::read(&path).unwrap();
            for end in 0..whole.len() {
                std::fs::write(&path, &whole[..end]).unwrap();
                assert!(matches!(read(&path, &cluster), Err(RemovalError::Content { .. })), "{end} bytes");
            }
            write(&path, ending, &"staging-2".parse().unwrap()).unwrap();
            assert!(read(&path, &cluster).is_err(), "another cluster's");
        }
        std::fs::write(&path, b"everything was removed on request\n").unwrap();
        assert!(read(&path, &cluster).is_err(), "the mark of an earlier version names no cluster");
        std::fs::remove_file(&path).unwrap();
        // What cannot be read says nothing: here a folder, elsewhere EIO, EACCES or ESTALE.
        std::fs::create_dir(&path).unwrap();
        assert!(matches!(read(&path, &cluster), Err(RemovalError::Read(_))));
    }
}
