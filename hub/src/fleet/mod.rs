//! The loop that turns the fleet repo into published desired states.
//!
//! ```text
//!   poll ─┐                ┌─ fetch ─► discover ─► render each cluster ─► project ─► Board (sessions)
//!   wake ─┼─► one round ───┤                                                  └────► view  (people)
//!   facts ┘                └─ what could not be read keeps its last good state
//! ```
//!
//! Whatever wakes it, a round reads everything anew; `facts` (suspensions, what agents have) skip the fetch.

pub mod helm;
#[cfg(test)]
mod helm_tests;
mod ledger;
mod releases;
mod round;
mod subtree;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use ledger::Ledger;
pub use releases::{HELM_FOLDER, Releases};
pub use round::{FleetConfig, Worker};

use crate::view::Fleet;

/// The loop could not go on at all.
#[derive(Debug, thiserror::Error)]
pub enum LoopError {
    #[error("a round of the fleet loop panicked")]
    Panicked(#[source] tokio::task::JoinError),
}

/// How often a round happens when nobody asks for one.
const FACTS_ONLY: Duration = Duration::from_millis(20);

/// Runs rounds until `shutdown`. `facts` tick when something other than Git changed that a projection reads.
pub async fn run(
    mut worker: Worker,
    fleet: Arc<Fleet>,
    facts: Vec<watch::Receiver<u64>>,
    shutdown: CancellationToken,
) -> Result<(), LoopError> {
    let poll = worker.config().poll_interval;
    let mut wakes = fleet.wakes();
    let mut facts = facts;
    let mut fetch = true;
    let mut next_poll = tokio::time::Instant::now();
    while !shutdown.is_cancelled() {
        let ticket = *wakes.borrow_and_update();
        facts.iter_mut().for_each(|fact| {
            fact.borrow_and_update();
        });
        if fetch {
            next_poll = tokio::time::Instant::now() + jittered(poll);
        }
        let cancel = Arc::new(AtomicBool::new(false));
        let stop = cancel.clone();
        let mut blocking = tokio::task::spawn_blocking(move || {
            let view = worker.round(fetch, &stop);
            (worker, view)
        });
        let done = tokio::select! {
            done = &mut blocking => done,
            () = shutdown.cancelled() => {
                cancel.store(true, Ordering::Relaxed);
                blocking.await
            }
        };
        let (returned, view) = done.map_err(LoopError::Panicked)?;
        worker = returned;
        fleet.publish(view);
        fleet.serve(ticket);

        let changed = futures::future::select_all(facts.iter_mut().map(|fact| Box::pin(changed(fact))));
        fetch = tokio::select! {
            () = shutdown.cancelled() => break,
            _ = wakes.changed() => true,
            () = tokio::time::sleep_until(next_poll) => true,
            _ = changed => {
                // Facts come in bursts (a fleet of agents says hello): one round for each burst.
                tokio::time::sleep(FACTS_ONLY).await;
                wakes.has_changed().unwrap_or(false)
            }
        };
    }
    Ok(())
}

/// Waits for a tick; a slot whose owner is gone never ticks again.
async fn changed(fact: &mut watch::Receiver<u64>) {
    if fact.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Up to a tenth more, so that many hubs do not ask one server in step.
fn jittered(interval: Duration) -> Duration {
    interval.mul_f64(1.0 + rand::random::<f64>() / 10.0)
}
