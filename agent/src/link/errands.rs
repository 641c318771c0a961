//! What the hub asks for that takes its time: adoptions one at a time, looks at the cluster beside them. It is done apart
//! from the stream, which may break meanwhile.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use flotilla_api::{AdoptAction, Adoption};
use flotilla_core::adopt::Origin;
use flotilla_core::{Digest, ObjectId, UnitId};
use flotilla_runtime::CancellationToken;
use flotilla_runtime::chain;
use flotilla_runtime::lock;
use serde::Serialize;
use tokio::sync::{mpsc, oneshot};

use super::Shared;
use crate::sync::RehearsedBody;

/// An answer in one message has at most so many bytes; the hub takes a little more.
const LONGEST: usize = 768 << 10;
/// A look at the cluster takes no longer.
const LOOK: Duration = Duration::from_secs(60);
/// Looks that wait for others.
const LOOKS: usize = 8;

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Errand {
    /// With the digest of the plan that was looked at.
    Adopt(Origin, AdoptAction, Option<Digest>),
    Fetch(UnitId, ObjectId),
    Rehearse(UnitId, Vec<RehearsedBody>),
}

/// A JSON text, or why not.
pub(super) type Answer = Result<String, String>;

/// An errand, and where its answer goes.
struct Ask {
    errand: Errand,
    answer: oneshot::Sender<Answer>,
}

/// The way from streams to a task that does one errand after another.
struct Lane {
    asks: mpsc::Sender<Ask>,
    /// Until the task takes it.
    asked: std::sync::Mutex<Option<mpsc::Receiver<Ask>>>,
}

impl Lane {
    fn new(waiting: usize) -> Self {
        let (asks, asked) = mpsc::channel(waiting);
        Self { asks, asked: std::sync::Mutex::new(Some(asked)) }
    }
}

pub(super) struct Errands {
    adoptions: Lane,
    looks: Lane,
}

impl Default for Errands {
    fn default() -> Self {
        Self { adoptions: Lane::new(1), looks: Lane::new(LOOKS) }
    }
}

impl Errands {
    /// Asks.
    ///
    /// # Errors
    /// Why not, if others wait already.
    pub(super) fn ask(&self, errand: Errand) -> Result<oneshot::Receiver<Answer>, &'static str> {
        let (lane, busy) = match errand {
            Errand::Adopt(..) => (&self.adoptions, "an adoption is under way; ask again when it is done"),
            Errand::Fetch(..) | Errand::Rehearse(..) => {
                (&self.looks, "too many looks at the cluster are under way; ask again")
            }
        };
        let (answer, answered) = oneshot::channel();
        lane.asks.try_send(Ask { errand, answer }).map_err(|_| busy)?;
        Ok(answered)
    }
}

/// Does adoptions until shutdown.
pub async fn serve_adoptions(shared: Arc<Shared>, shutdown: CancellationToken) -> Result<(), Infallible> {
    keep_doing(&shared, &shared.errands.adoptions, shutdown).await
}

/// Looks at the cluster for whoever asks until shutdown.
pub async fn serve_queries(shared: Arc<Shared>, shutdown: CancellationToken) -> Result<(), Infallible> {
    keep_doing(&shared, &shared.errands.looks, shutdown).await
}

async fn keep_doing(shared: &Shared, lane: &Lane, shutdown: CancellationToken) -> Result<(), Infallible> {
    let asked = lock(&lane.asked).take();
    let Some(mut asked) = asked else { return Ok(()) };
    while let Some(Some(Ask { errand, answer })) = shutdown.run_until_cancelled(asked.recv()).await {
        // Whoever asked was told that it failed, and asks again.
        if answer.is_closed() {
            continue;
        }
        let Some(result) = shutdown.run_until_cancelled(go(shared, errand)).await else { break };
        // The stream that asked may be gone; whoever asks for an adoption again gets the rest.
        let _ = answer.send(result);
    }
    Ok(())
}

async fn go(shared: &Shared, errand: Errand) -> Answer {
    let engine = &shared.engine;
    match errand {
        Errand::Adopt(origin, action, plan) => {
            tracing::info!(%origin, ?action, "an adoption is asked for");
            let result = engine.adopt(origin, action, plan).await.map_err(|error| chain(&error));
            if let Err(error) = &result {
                tracing::warn!(%origin, ?action, error, "the adoption failed");
            }
            result.map(fitting)
        }
        Errand::Fetch(unit, object) => {
            let look = async { engine.look_at(&unit, &object).await.map_err(|error| chain(&error)) };
            in_time(look).await
        }
        Errand::Rehearse(unit, bodies) => {
            let look = async { engine.rehearse(&unit, bodies).await.map_err(|error| chain(&error)) };
            in_time(look).await
        }
    }
}

/// The JSON text of an answer that comes in time and goes into one message.
async fn in_time<T: Serialize>(look: impl Future<Output = Result<T, String>>) -> Answer {
    let Ok(found) = tokio::time::timeout(LOOK, look).await else {
        return Err(format!("the look at the cluster took longer than {} s", LOOK.as_secs()));
    };
    // Its maps have text keys, so it always has a JSON text.
    let text = serde_json::to_string(&found?).unwrap_or_default();
    if text.len() <= LONGEST {
        Ok(text)
    } else {
        Err(format!("the answer has {} bytes, more than the {LONGEST} that go into one message", text.len()))
    }
}

/// The JSON text, cut to what goes into one message: the longest list is halved until it fits.
fn fitting(mut adoption: Adoption) -> String {
    loop {
        // A struct of texts and numbers always has a JSON text.
        let text = serde_json::to_string(&adoption).unwrap_or_default();
        if text.len() <= LONGEST {
            return text;
        }
        let Adoption { objects, left, stays, owners, .. } = &mut adoption;
        let longest =
            [objects.len(), left.len(), stays.len(), owners.len()].into_iter().max().unwrap_or_default();
        let keep = longest / 2;
        let mut cut = 0;
        for length in [&mut objects.len(), &mut left.len(), &mut stays.len(), &mut owners.len()] {
            cut += length.saturating_sub(keep);
        }
        objects.truncate(keep);
        left.truncate(keep);
        stays.truncate(keep);
        owners.truncate(keep);
        adoption.more += u32::try_from(cut).unwrap_or(u32::MAX);
        if longest == 0 {
            return text;
        }
    }
}

#[cfg(test)]
mod tests {
    use flotilla_api::AdoptedObject;

    use super::*;

    #[tokio::test]
    async fn looks_have_limits() {
        let long = async { Ok("x".repeat(LONGEST)) };
        assert!(in_time(long).await.unwrap_err().contains("more than the 786432"));
        assert_eq!(in_time(async { Ok(7) }).await.as_deref(), Ok("7"));
        let errands = Errands::default();
        let look = || Errand::Fetch(UnitId::root(), ObjectId::new("", "ConfigMap", "default", "a"));
        let waiting: Vec<_> = (0..LOOKS).map(|_| errands.ask(look()).unwrap()).collect();
        assert!(errands.ask(look()).unwrap_err().contains("too many"));
        drop(waiting);
        let adopt = || Errand::Adopt(Origin::Flux, AdoptAction::Plan, None);
        let _first = errands.ask(adopt()).unwrap();
        assert!(errands.ask(adopt()).unwrap_err().contains("under way"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_look_that_does_not_end_is_given_up() {
        let never = std::future::pending::<Result<(), String>>();
        assert!(in_time(never).await.unwrap_err().contains("longer than 60 s"));
    }

    #[test]
    fn what_is_too_long_is_cut_and_says_so() {
        let object = AdoptedObject { object: "x".repeat(1000), ..AdoptedObject::default() };
        let adoption = Adoption { objects: vec![object; 2000], ..Adoption::default() };
        let text = fitting(adoption);
        assert!(text.len() <= LONGEST);
        let read: Adoption = serde_json::from_str(&text).unwrap();
        assert_eq!((read.objects.len(), read.more), (500, 1500));
    }
}
