//! What the engine needs from its surroundings, and what may be asked of it.

use bytes::Bytes;
use flotilla_core::names::ClusterName;
use flotilla_core::{Digest, UnitId};
use flotilla_sops::service::Servers;

/// The bodies of objects (canonical JSON) by their digest, as kept on disk. Must hold every body that the
/// desired state names and those of [`super::Engine::needed_bodies`].
pub trait Bodies: Send + Sync + 'static {
    /// Reads one body. Called once for each object that is applied, never for those in sync; may block for
    /// the time of a small read.
    fn body(&self, digest: Digest) -> Result<Bytes, BodyError>;
}

/// A body that cannot be had. The unit that needs it keeps what it runs.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    #[error(
        "the content {0} is not on disk; it is asked of the hub again, at once or at the next connection"
    )]
    Missing(Digest),
    #[error("cannot read the content {0} from disk")]
    Io(Digest, #[source] std::io::Error),
}

/// What the engine remembers across restarts: a few short texts by key, so that a restart over a cluster in
/// sync writes nothing. All of it can be lost: that costs an apply of each object, never a deletion.
pub trait Memory: Send + Sync + 'static {
    /// Everything stored. Called once, before anything else.
    fn load(&self) -> Result<Vec<(String, Bytes)>, MemoryError>;
    /// Keeps `value` under `key` (at most 200 bytes: a unit's id). May be written behind, in order by key.
    fn store(&self, key: &str, value: Bytes) -> Result<(), MemoryError>;
    fn remove(&self, key: &str) -> Result<(), MemoryError>;
}

/// The memory could not be read or written; reported, and the engine goes on without it.
#[derive(Debug, thiserror::Error)]
#[error("cannot {attempt} what the agent remembers")]
pub struct MemoryError {
    pub attempt: &'static str,
    #[source]
    pub source: std::io::Error,
}

/// What a person or the hub asks of the engine. Idempotent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Compare now, and forget about pauses after failures; every unit if none is named.
    Reconcile { unit: Option<UnitId> },
    /// Approve the deletion of what a guard kept under this digest ([`flotilla_core::report::Kept::approval`]).
    Approve { digest: Digest },
    /// Delete every object of the inventory, whatever the units' policies say, and apply nothing more until
    /// another desired state arrives. `cluster` must be the name in the desired state.
    PruneAll { cluster: ClusterName },
}

/// How the engine works.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// The most requests under way at once; fewer where the API server asks for it.
    pub in_flight: usize,
    /// More than this share of a unit's objects, or of the cluster's (and at least `prune_floor`) is pruned only with an approval.
    pub prune_share: f64,
    pub prune_floor: usize,
    /// A unit that left Git is removed without an approval if it has at most so many objects, and no data.
    pub prune_unit: usize,
    /// Which key services may be asked for data keys, with the token of the unit.
    pub key_services: Servers,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            in_flight: 24,
            prune_share: 0.5,
            prune_floor: 5,
            prune_unit: 10,
            key_services: Servers::default(),
        }
    }
}
