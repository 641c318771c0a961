//! The removal of everything from the cluster, and what an agent does at its start about one that was asked for before.
//!
//! ```text
//!   the mark on disk ─┬─ not there    run what the disk has
//!                     ├─ there        go on with the removal, take no state
//!                     └─ not readable delete nothing, apply nothing, take no state; look again
//! ```

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use flotilla_core::{DesiredState, Generation};
use flotilla_runtime::chain;
use flotilla_runtime::{Backoff, CancellationToken};

use super::Shared;
use crate::sync::Request;

/// Why a state is not taken after everything was removed on request.
pub(super) const REMOVED: &str =
    "everything was removed from this cluster on request; an agent that joins anew takes it up again";
/// What a mark that cannot be read is reported under.
const SUBJECT: &str = "removal";
const LOOK_AGAIN: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30));

/// Whether everything was to be removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) enum Removal {
    /// Nobody looked yet, or the look failed.
    #[default]
    Unknown,
    No,
    Yes,
}

impl Removal {
    /// Why no state is taken, if so.
    pub(super) fn closes(&self) -> Option<&'static str> {
        match self {
            Self::Unknown => {
                Some("the agent cannot tell whether everything was to be removed; its own problems say why")
            }
            Self::No => None,
            Self::Yes => Some(REMOVED),
        }
    }
}

impl Shared {
    pub(super) fn removal(&self) -> Removal {
        self.removal.borrow().clone()
    }

    /// Looks for a removal that was asked for, and has the engine run what the disk has, or remove everything. True if
    /// that is known now; until then the engine has nothing to do. Blocking.
    pub fn look_for_removal(&self) -> bool {
        if self.removal() != Removal::Unknown {
            return true;
        }
        let cluster = &self.facts.cluster;
        let removal = match self.disk.is_removed(cluster) {
            Err(error) => {
                let why = format!("nothing is applied and nothing deleted: {}", chain(&error));
                tracing::warn!("{why}");
                self.problems.set(SUBJECT, why);
                return false;
            }
            Ok(false) => {
                if let Some(desired) = self.desired() {
                    self.engine.set_desired(desired);
                }
                Removal::No
            }
            Ok(true) => {
                // What a restart cut short goes on; where all is gone there is nothing to do.
                let nothing =
                    DesiredState::new(cluster.clone(), Generation::default(), "removed", BTreeMap::new());
                self.replace(None);
                self.engine.set_desired(Arc::new(nothing));
                // Only an approval has anything to be written.
                let _ = self.engine.request(Request::PruneAll { cluster: cluster.clone() });
                Removal::Yes
            }
        };
        self.problems.clear(SUBJECT);
        self.removal.send_replace(removal);
        true
    }

    /// Removes everything from the cluster. The desired state is forgotten first, so that a restart does not
    /// bring it back.
    pub(super) async fn remove_all(&self) -> Result<(), String> {
        let (disk, cluster) = (self.disk.clone(), self.facts.cluster.clone());
        match tokio::task::spawn_blocking(move || disk.forget_desired(&cluster)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(chain(&error)),
            Err(error) => return Err(error.to_string()),
        }
        self.replace(None);
        if self.removal.send_replace(Removal::Yes) == Removal::Unknown {
            // The engine was told nothing so far.
            let nothing = BTreeMap::new();
            let cluster = self.facts.cluster.clone();
            let nothing = DesiredState::new(cluster, Generation::default(), "removed", nothing);
            self.engine.set_desired(Arc::new(nothing));
            self.problems.clear(SUBJECT);
        }
        let everything = Request::PruneAll { cluster: self.facts.cluster.clone() };
        self.engine.request(everything).map_err(|error| chain(&error))
    }
}

/// Looks until it is known whether everything was to be removed, or shutdown.
pub async fn keep_looking_for_removal(
    shared: Arc<Shared>,
    shutdown: CancellationToken,
) -> Result<(), Infallible> {
    let mut again = LOOK_AGAIN;
    while shared.removal() == Removal::Unknown {
        if shutdown.run_until_cancelled(again.wait()).await.is_none() {
            return Ok(());
        }
        let shared = shared.clone();
        // A look that panics has told nothing, and is made again.
        let _ = tokio::task::spawn_blocking(move || shared.look_for_removal()).await;
    }
    shutdown.cancelled().await;
    Ok(())
}
