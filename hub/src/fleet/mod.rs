//! The loop that turns the fleet repo into published desired states.
//!
//! ```text
//!   poll ─┐     ┌─► fetch, beside rounds ─┐
//!   wake ─┼─────┤                         ▼
//!   ticks ┘     └─► one round: resolve ─► render what changed ─► decide ─► publish: Board (sessions)
//!                     what could not be read keeps its last good state         └──► view  (people)
//! ```
//!
//! Whatever wakes it, a round compares all with what it last read; `Ticks` (suspensions, what agents have) skip the fetch. Nothing that a
//! round does is waited for without a bound: a fetch goes on beside rounds, a render has a deadline, helm has a queue.

mod asking;
mod change;
#[cfg(test)]
mod change_tests;
#[cfg(test)]
mod checks_tests;
#[cfg(test)]
mod choice_tests;
mod cluster;
mod decide;
mod dirty;
mod discovery;
#[cfg(test)]
mod facts_tests;
#[cfg(test)]
pub(crate) mod fake;
#[cfg(test)]
mod faults_tests;
#[cfg(test)]
mod hang_tests;
pub mod helm;
#[cfg(test)]
mod helm_tests;
mod ledger;
#[cfg(test)]
mod many_tests;
mod memory;
mod older;
mod promote;
#[cfg(test)]
mod promotion_tests;
mod publish;
mod queue;
#[cfg(test)]
mod refs_tests;
mod releases;
mod renderers;
mod repo;
mod retention;
mod round;
mod snapshots;
mod subtree;
mod tasks;
#[cfg(test)]
mod tests;
mod worker;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use flotilla_core::report::Problem;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub use ledger::{Facts, Ledger};
pub use releases::Releases;
pub use renderers::Patience;
pub use repo::FleetRepo;
pub use worker::{FleetConfig, Worker};

use crate::view::{Fleet, FleetView};
pub(crate) use renderers::caught;
use repo::{Fetched, Repo};

/// The loop could not go on at all.
#[derive(Debug, thiserror::Error)]
pub enum LoopError {
    #[error("the fleet loop lost its state")]
    Lost(#[source] tokio::task::JoinError),
}

/// How often a round happens when nobody asks for one.
const FACTS_ONLY: Duration = Duration::from_millis(20);
/// Reports go on all the time: promotion looks at them so often.
const REPORTS_ONLY: Duration = Duration::from_millis(200);
/// A round waits so long for a fetch that is under way; then it takes the commit that is there.
const FETCH_PATIENCE: Duration = Duration::from_secs(5);
/// A fetch is told to end after this time.
const FETCH_DEADLINE: Duration = Duration::from_secs(600);

/// A fetch of the fleet repo, beside rounds.
struct Fetching {
    task: JoinHandle<Fetched>,
    cancel: Arc<AtomicBool>,
    is_over: Arc<Notify>,
    since: Instant,
    /// The newest wake that it serves.
    ticket: u64,
}

impl Fetching {
    fn begin(repo: Repo, ticket: u64) -> Self {
        let (cancel, is_over) = (Arc::<AtomicBool>::default(), Arc::<Notify>::default());
        let (stop, over) = (cancel.clone(), is_over.clone());
        let task = tokio::task::spawn_blocking(move || {
            let fetched = repo.fetch(&stop);
            over.notify_one();
            fetched
        });
        Self { task, cancel, is_over, since: Instant::now(), ticket }
    }

    /// Waits until it is over, at any time. Cancel-safe.
    async fn over(this: Option<&Self>) {
        match this {
            Some(fetching) => fetching.is_over.notified().await,
            None => std::future::pending().await,
        }
    }
}

/// What ticks when something other than Git changed that a round reads.
#[derive(Default)]
pub struct Ticks {
    /// What people and agents say of clusters: a round looks at those that it is about.
    pub facts: Vec<watch::Receiver<u64>>,
    /// What agents tell, and what people ask of pipelines: looked at while there are pipelines.
    pub reports: Vec<watch::Receiver<u64>>,
    /// Secrets that the hub keeps.
    pub secrets: Vec<watch::Receiver<u64>>,
    /// What was fetched, and what helm gave.
    pub others: Vec<watch::Receiver<u64>>,
}

/// Takes the ticks that there were; whether there were any.
fn taken(ticks: &mut [watch::Receiver<u64>]) -> bool {
    let mut any = false;
    for tick in ticks {
        any |= tick.has_changed().unwrap_or(false);
        tick.borrow_and_update();
    }
    any
}

/// Runs rounds until `shutdown`.
///
/// # Errors
/// Where the runtime lost a thread of the loop.
pub async fn run(
    worker: Worker,
    fleet: Arc<Fleet>,
    ticks: Ticks,
    shutdown: CancellationToken,
) -> Result<(), LoopError> {
    let mut worker = worker.with_pulse(fleet.pulse());
    fleet.attempts.get_or_init(|| worker.attempts());
    let poll = worker.poll_interval();
    let stop = worker.stop();
    let mut wakes = fleet.wakes();
    let Ticks { mut facts, mut reports, mut secrets, mut others } = ticks;
    others.push(worker.late());
    let mut fetching: Option<Fetching> = None;
    let mut is_due = true;
    let mut next_poll = Instant::now();
    while !shutdown.is_cancelled() {
        if is_due && let Some(repo) = worker.repo() {
            let ticket = *wakes.borrow_and_update();
            next_poll = Instant::now() + jittered(poll);
            fetching = Some(Fetching::begin(repo, ticket));
            is_due = false;
        }
        let mut served = None;
        // Without a commit there is nothing to go round about.
        let patience = if worker.has_commit() { FETCH_PATIENCE } else { FETCH_DEADLINE };
        if let Some(mut under_way) = fetching.take() {
            tokio::select! {
                biased;
                done = &mut under_way.task => {
                    worker.fetched(done.map_err(LoopError::Lost)?);
                    served = Some(under_way.ticket);
                }
                () = shutdown.cancelled() => under_way.cancel.store(true, Ordering::Relaxed),
                () = tokio::time::sleep_until(under_way.since + patience) => {
                    let since = under_way.since.elapsed();
                    if since >= FETCH_DEADLINE {
                        under_way.cancel.store(true, Ordering::Relaxed);
                        let minutes = since.as_secs() / 60;
                        worker.unfetched(format!("has been fetched for {minutes} min, and was told to end"));
                    }
                    fetching = Some(under_way);
                }
            }
        }
        taken(&mut facts);
        taken(&mut reports);
        let secrets_changed = taken(&mut secrets);
        if taken(&mut others) || secrets_changed || served.is_some() {
            worker.wake(secrets_changed);
        }
        let mut round = tokio::task::spawn_blocking(move || {
            let view = caught(|| worker.go_round());
            (worker, view)
        });
        let done = tokio::select! {
            done = &mut round => done,
            () = shutdown.cancelled() => {
                stop.store(true, Ordering::Relaxed);
                fetching.iter().for_each(|fetching| fetching.cancel.store(true, Ordering::Relaxed));
                round.await
            }
        };
        let (returned, view) = done.map_err(LoopError::Lost)?;
        worker = returned;
        fleet.publish(view.unwrap_or_else(|panic| {
            let problems = vec![Problem::error("", 0, panic.to_string())];
            FleetView { problems, ..(*fleet.view()).clone() }
        }));
        served.into_iter().for_each(|ticket| fleet.serve(ticket));
        if is_due && fetching.is_none() {
            continue;
        }

        let changed = any(facts.iter_mut().chain(&mut secrets).chain(&mut others));
        let reported = any(&mut reports);
        let (promotes, next) = (worker.promotes(), worker.next_promotion());
        let now = Instant::now();
        let deadline =
            fetching.as_ref().map(|fetching| fetching.since + FETCH_DEADLINE).filter(|at| *at > now);
        tokio::select! {
            () = shutdown.cancelled() => break,
            () = Fetching::over(fetching.as_ref()) => {}
            _ = wakes.changed() => is_due = true,
            () = tokio::time::sleep_until(next_poll), if fetching.is_none() => is_due = true,
            () = tokio::time::sleep_until(deadline.unwrap_or(now)), if deadline.is_some() => {}
            _ = changed => {
                // Facts come in bursts (a fleet of agents says hello): one round for each burst.
                tokio::time::sleep(FACTS_ONLY).await;
                is_due |= wakes.has_changed().unwrap_or(false);
            }
            () = reported, if promotes => {
                tokio::time::sleep(REPORTS_ONLY).await;
                is_due |= wakes.has_changed().unwrap_or(false);
            }
            () = tokio::time::sleep(next.unwrap_or_default()), if next.is_some() => {}
        }
    }
    Ok(())
}

/// Waits for a tick, and leaves it to be [`taken`]; a slot whose owner is gone never ticks again.
async fn changed(fact: &mut watch::Receiver<u64>) {
    if fact.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
    fact.mark_changed();
}

/// Waits for any of these; for ever where there is none.
async fn any<'a>(ticks: impl IntoIterator<Item = &'a mut watch::Receiver<u64>>) {
    let ticks: Vec<_> = ticks.into_iter().map(|tick| Box::pin(changed(tick))).collect();
    if ticks.is_empty() {
        std::future::pending::<()>().await;
    }
    futures::future::select_all(ticks).await;
}

/// Up to a tenth more, so that many hubs do not ask one server in step.
fn jittered(interval: Duration) -> Duration {
    interval.mul_f64(1.0 + rand::random::<f64>() / 10.0)
}
