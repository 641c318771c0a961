//! Adoptions that the hub asks for: one at a time, apart from the stream, which may break meanwhile.

use std::convert::Infallible;
use std::sync::Arc;

use flotilla_core::Digest;
use flotilla_core::adopt::Origin;
use flotilla_proto::api::{AdoptAction, Adoption};
use flotilla_runtime::CancellationToken;
use flotilla_runtime::tasks::chain;
use tokio::sync::{mpsc, oneshot};

use super::Shared;
use crate::sync::lock;

/// An answer in one message has at most so many bytes; the hub takes a little more.
const LONGEST: usize = 768 << 10;

/// What was asked, and where the answer goes: a JSON text, or why not.
pub(crate) struct Ask {
    origin: Origin,
    action: AdoptAction,
    plan: Option<Digest>,
    answer: oneshot::Sender<Result<String, String>>,
}

/// The way from streams to the task that does it.
pub(super) struct Adoptions {
    asks: mpsc::Sender<Ask>,
    /// Until the task takes it.
    asked: std::sync::Mutex<Option<mpsc::Receiver<Ask>>>,
}

impl Default for Adoptions {
    fn default() -> Self {
        let (asks, asked) = mpsc::channel(1);
        Self { asks, asked: std::sync::Mutex::new(Some(asked)) }
    }
}

impl Adoptions {
    /// Asks; none if others wait already.
    pub(super) fn ask(
        &self,
        origin: Origin,
        action: AdoptAction,
        plan: Option<Digest>,
    ) -> Option<oneshot::Receiver<Result<String, String>>> {
        let (answer, answered) = oneshot::channel();
        self.asks.try_send(Ask { origin, action, plan, answer }).ok()?;
        Some(answered)
    }
}

/// Does what is asked until shutdown.
pub async fn keep_adopting(shared: Arc<Shared>, shutdown: CancellationToken) -> Result<(), Infallible> {
    let asked = lock(&shared.adoptions.asked).take();
    let Some(mut asked) = asked else { return Ok(()) };
    while let Some(Some(ask)) = shutdown.run_until_cancelled(asked.recv()).await {
        let Ask { origin, action, plan, answer } = ask;
        // Whoever asked was told that it failed, and asks again.
        if answer.is_closed() {
            continue;
        }
        tracing::info!(%origin, ?action, "an adoption is asked for");
        let adopting = shared.engine.adopt(origin, action, plan);
        let Some(result) = shutdown.run_until_cancelled(adopting).await else { break };
        let result = result.map_err(|error| chain(&error)).map(fitting);
        if let Err(error) = &result {
            tracing::warn!(%origin, ?action, error, "the adoption failed");
        }
        // The stream that asked may be gone; whoever asks again gets the rest.
        let _ = answer.send(result);
    }
    Ok(())
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
    use flotilla_proto::api::AdoptedObject;

    use super::*;

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
