//! Groups of clusters: a `ClusterGroup` selects clusters by the labels that Git gives them.

pub(crate) mod definition;

use std::collections::BTreeSet;

pub use definition::{ClusterGroup, GROUP_FIELDS};

/// The groups that a cluster is in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Groups {
    pub of: BTreeSet<String>,
    /// Why it may be in others too: a definition cannot be read.
    pub unclear: Option<String>,
}
