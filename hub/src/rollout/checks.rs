//! Makes the checks of gates beside rounds: the engine says what is to be measured, and gets the answers in its next step.
//!
//! ```text
//!   step ─► due ─► run ─► probe (blocking, bounded) ─► measured ─► the next step
//! ```
//!
//! Nothing queues: what finds no place is answered as unknown, and the engine asks again.

use std::collections::BTreeSet;
use std::sync::Arc;

use flotilla_rollout::world::Outcome;
use flotilla_rollout::{CandidateId, Measure, Measurement};
use flotilla_runtime::{chain, lock};
use flotilla_source::{Asker, HttpError, Reach};
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use super::Rollouts;
use super::probe::probe;
use crate::clock::unix_now;
use crate::fleet::caught;
use crate::state::blocking;

/// Checks at once, of all pipelines.
const MOST: usize = 64;
/// Checks at once of one pipeline: servers that do not answer hold up nobody else's.
const MOST_OF_ONE: usize = 16;

/// A check of a candidate: pipeline, stage, name.
type Id = (String, String, String, CandidateId);

/// Makes checks until `shutdown`.
///
/// # Errors
/// Where a task of its own was lost.
pub async fn run(
    rollouts: Arc<Rollouts>,
    reach: Reach,
    shutdown: CancellationToken,
) -> Result<(), JoinError> {
    let asker: Arc<Result<Asker, HttpError>> = Arc::new(blocking(move || Asker::new(&reach)).await);
    let mut due = rollouts.due_ticks();
    let mut running: JoinSet<(Id, Measurement)> = JoinSet::new();
    let mut under_way: BTreeSet<Id> = BTreeSet::new();
    while !shutdown.is_cancelled() {
        due.borrow_and_update();
        for (pipeline, measure) in rollouts.take_due() {
            let id: Id = (pipeline.clone(), measure.stage.clone(), measure.check.clone(), measure.candidate);
            if under_way.contains(&id) {
                continue;
            }
            let of_one = under_way.iter().filter(|(of, ..)| *of == pipeline).count();
            if under_way.len() >= MOST || of_one >= MOST_OF_ONE {
                let text = format!("the hub makes {} checks already, which take long", under_way.len());
                rollouts.measured(&pipeline, measurement(&measure, unix_now(), Outcome::Unknown(text)));
                continue;
            }
            under_way.insert(id.clone());
            let asker = asker.clone();
            running.spawn_blocking(move || {
                let at = unix_now();
                let outcome = match &*asker {
                    Ok(asker) => caught(|| probe(asker, &measure.probe))
                        .unwrap_or_else(|panic| Outcome::Unknown(panic.to_string())),
                    Err(error) => Outcome::Unknown(chain(error)),
                };
                (id, measurement(&measure, at, outcome))
            });
        }
        tokio::select! {
            () = shutdown.cancelled() => {}
            _ = due.changed() => {}
            Some(done) = running.join_next() => {
                let (id, measurement) = done?;
                under_way.remove(&id);
                rollouts.measured(&id.0, measurement);
            }
        }
    }
    Ok(())
}

/// `at`: when it was asked, so that an answer which took long says nothing of later.
fn measurement(measure: &Measure, at: i64, outcome: Outcome) -> Measurement {
    let Measure { stage, candidate, check, .. } = measure;
    Measurement { stage: stage.clone(), candidate: *candidate, check: check.clone(), at, outcome }
}

impl Rollouts {
    fn due_ticks(&self) -> watch::Receiver<u64> {
        self.due.subscribe()
    }

    /// What is to be measured, with its pipeline; each once.
    fn take_due(&self) -> Vec<(String, Measure)> {
        let mut inner = lock(&self.inner);
        let due = inner.pipelines.iter_mut().flat_map(|(name, kept)| {
            let due = std::mem::take(&mut kept.due).into_values();
            due.map(|measure| (name.clone(), measure))
        });
        due.collect()
    }

    /// An answer for the next step, which it brings about.
    fn measured(&self, pipeline: &str, measurement: Measurement) {
        if let Some(kept) = lock(&self.inner).pipelines.get_mut(pipeline) {
            kept.measured.push(measurement);
            self.changed.send_modify(|count| *count += 1);
        }
    }
}
