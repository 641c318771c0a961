//! What the engine remembers of a pipeline.

use std::fmt;
use std::str::FromStr;

use flotilla_core::digest::InvalidDigest;
use flotilla_core::{ClusterName, Digest};
use serde::{Deserialize, Serialize};

/// The digest by which a candidate is known: of its commit and of what the clusters would run of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CandidateId(pub Digest);

/// The first 12 digits, as people name it.
impl fmt::Display for CandidateId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.short())
    }
}

impl FromStr for CandidateId {
    type Err = InvalidDigest;

    fn from_str(text: &str) -> Result<Self, InvalidDigest> {
        text.parse().map(Self)
    }
}

/// Names a record of a pipeline's state. Each is far below 1 MiB, however many clusters there are.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// Stages, holds, vetoes, pauses.
    Head,
    Candidate(CandidateId),
    Cluster(ClusterName),
}
