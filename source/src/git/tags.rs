//! The tags of a repository, without anything that they point at.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::clone::LocalClone;
use super::error::FetchError;
use super::spec::GitSpec;
use super::{connection, transport};
use crate::folder;

/// The names of all tags. `dir` is a folder for the conversation. Blocks.
///
/// # Errors
/// Where the repository cannot be asked.
pub(crate) fn tags(spec: &GitSpec, dir: &Path, cancel: &AtomicBool) -> Result<Vec<String>, FetchError> {
    let config = connection::config(&spec.limits);
    let disk =
        |error: String| FetchError::Disk { url: spec.url.to_string(), path: dir.to_owned(), reason: error };
    // Nothing is kept in it, and what a killed conversation left is of no use.
    folder::remove(dir).map_err(|error| disk(error.to_string()))?;
    let clone = LocalClone::init(dir, &config, Arc::default()).map_err(|error| disk(error.to_string()))?;
    transport::tags(&clone.repository(), dir, spec, cancel)
}
