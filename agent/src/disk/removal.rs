//! The mark that everything was to be removed from the cluster. It outlives a restart, so that nothing is applied again
//! and a removal that was cut short goes on.
//!
//! As it leads to deletions, it counts only where it was read, is complete and names this cluster.

use std::path::{Path, PathBuf};

use flotilla_core::ClusterName;
use flotilla_runtime::files::{self, FileError};

/// Why nobody can say whether everything was to be removed.
#[derive(Debug, thiserror::Error)]
pub enum RemovalError {
    #[error("cannot tell whether everything was to be removed from the cluster")]
    Read(#[from] FileError),
    #[error(
        "{} does not say in full that everything was to be removed from cluster {cluster}: if that was asked for, ask \
         again by `flotilla cluster delete --prune`; if not, delete the file",
        path.display()
    )]
    Content { path: PathBuf, cluster: ClusterName },
}

pub(super) fn write(path: &Path, cluster: &ClusterName) -> Result<(), FileError> {
    files::write_atomic(path, text(cluster).as_bytes(), files::PRIVATE)
}

/// Whether everything was to be removed.
pub(super) fn read(path: &Path, cluster: &ClusterName) -> Result<bool, RemovalError> {
    match files::read_if_there(path)? {
        None => Ok(false),
        Some(content) if content == text(cluster).as_bytes() => Ok(true),
        Some(_) => Err(RemovalError::Content { path: path.to_owned(), cluster: cluster.clone() }),
    }
}

fn text(cluster: &ClusterName) -> String {
    format!("flotilla removal 1\neverything of cluster {cluster} was removed on request\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_mark_of_this_cluster_counts() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("removed");
        let cluster: ClusterName = "staging".parse().unwrap();
        assert!(!read(&path, &cluster).unwrap());
        write(&path, &cluster).unwrap();
        assert!(read(&path, &cluster).unwrap());
        let whole = std::fs::read(&path).unwrap();
        for end in 0..whole.len() {
            std::fs::write(&path, &whole[..end]).unwrap();
            assert!(matches!(read(&path, &cluster), Err(RemovalError::Content { .. })), "{end} bytes");
        }
        std::fs::write(&path, b"everything was removed on request\n").unwrap();
        assert!(read(&path, &cluster).is_err(), "the mark of an earlier version names no cluster");
        write(&path, &"staging-2".parse().unwrap()).unwrap();
        assert!(read(&path, &cluster).is_err(), "another cluster's");
        std::fs::remove_file(&path).unwrap();
        // What cannot be read says nothing: here a folder, elsewhere EIO, EACCES or ESTALE.
        std::fs::create_dir(&path).unwrap();
        assert!(matches!(read(&path, &cluster), Err(RemovalError::Read(_))));
    }
}
