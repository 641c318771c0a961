//! What the hub asks for that takes its time: adoptions one at a time, looks at the cluster beside them. It is done apart
//! from the stream, which may break meanwhile.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use flotilla_core::adopt::Origin;
use flotilla_core::answer::{AdoptAction, Adoption, Found};
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

/// What was found, or why not.
pub(super) type Answer = Result<Found, String>;

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
                (&self.looks, "too many requests to read the cluster are in progress; ask again")
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
            result.map(|adoption| Found::Adoption(Box::new(fitting(adoption))))
        }
        Errand::Fetch(unit, object) => {
            let look = async {
                engine.look_at(&unit, &object).await.map(Found::Live).map_err(|error| chain(&error))
            };
            in_time(look).await
        }
        Errand::Rehearse(unit, bodies) => {
            let look = async {
                engine.rehearse(&unit, bodies).await.map(Found::Rehearsal).map_err(|error| chain(&error))
            };
            in_time(look).await
        }
    }
}

/// An answer that comes in time and goes into one message.
async fn in_time(look: impl Future<Output = Answer>) -> Answer {
    let Ok(found) = tokio::time::timeout(LOOK, look).await else {
        return Err(format!("reading the cluster took longer than {} s", LOOK.as_secs()));
    };
    let found = found?;
    match length(&found) {
        0..=LONGEST => Ok(found),
        bytes => {
            Err(format!("the answer has {bytes} bytes, more than the {LONGEST} that fit into one message"))
        }
    }
}

/// How long the JSON text is; a message is shorter.
fn length(found: &impl Serialize) -> usize {
    // Its maps have text keys, so it always has a JSON text.
    serde_json::to_vec(found).map_or(usize::MAX, |text| text.len())
}

/// Cuts it to what goes into one message: the longest list is halved until it fits.
fn fitting(mut adoption: Adoption) -> Adoption {
    loop {
        if length(&adoption) <= LONGEST {
            return adoption;
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
            return adoption;
        }
    }
}

#[cfg(test)]
mod tests {
    use flotilla_core::answer::{Effect, Foreseen, LiveObject};
    use serde_json::json;

    use super::*;

    #[tokio::test]
    async fn looks_have_limits() {
        let of = |text: String| Found::Live(LiveObject { object: json!(text), why: String::new() });
        assert!(
            in_time(async { Ok(of("x".repeat(LONGEST))) })
                .await
                .unwrap_err()
                .contains("more than the 786432")
        );
        assert_eq!(in_time(async { Ok(of("7".into())) }).await, Ok(of("7".into())));
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
        let never = std::future::pending();
        assert!(in_time(never).await.unwrap_err().contains("longer than 60 s"));
    }

    #[test]
    fn what_is_too_long_is_cut_and_says_so() {
        let object = Foreseen {
            object: "x".repeat(1000),
            unit: String::new(),
            effect: Effect::Create,
            why: String::new(),
            fields: Vec::new(),
        };
        let objects = vec![object; 2000];
        let cut = fitting(Adoption { objects, ..Adoption::new(Origin::Flux, AdoptAction::Plan) });
        assert!(length(&cut) <= LONGEST);
        assert_eq!((cut.objects.len(), cut.more), (500, 1500));
    }
}
