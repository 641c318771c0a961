//! Mirrors which commit passed each stage last to refs of the fleet repo, `refs/flotilla/PIPELINE/STAGE`, beside rounds.
//!
//! ```text
//!   step ─► changed ─► run ─► push (blocking) ─► done: nothing until a stage passes again
//!             ▲                  └─► failed: said once, tried again after a pause
//!             └───────────────────────┘
//! ```
//!
//! Refs tell people and their tools where stages stand; nothing is ever read from them. None is removed: a pipeline that is gone,
//! or not known yet, leaves its refs as they are.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use flotilla_runtime::{Backoff, chain, lock};
use flotilla_source::{CommitId, PushError, Pushed, RefPusher, StageRef};
use tokio_util::sync::CancellationToken;

use super::Rollouts;
use crate::clock::unix_now;
use crate::fleet::caught;
use crate::journal::Event;
use crate::state::blocking;

type Refs = BTreeMap<StageRef, CommitId>;

/// Refs that a message names.
const NAMED: usize = 3;

/// Who sets refs. Blocks.
pub trait Pusher: Send + Sync + 'static {
    /// # Errors
    /// As [`RefPusher::push`].
    fn push(&self, refs: &Refs, cancel: &AtomicBool) -> Result<Pushed, PushError>;
}

impl Pusher for RefPusher {
    fn push(&self, refs: &Refs, cancel: &AtomicBool) -> Result<Pushed, PushError> {
        Self::push(self, refs, cancel)
    }
}

/// Keeps refs as stages are until `shutdown`.
///
/// # Errors
/// Never.
pub async fn run(
    rollouts: Arc<Rollouts>,
    pusher: Arc<dyn Pusher>,
    shutdown: CancellationToken,
) -> Result<(), Infallible> {
    let mut changes = rollouts.changes();
    let mut backoff = Backoff::new(Duration::from_secs(10), Duration::from_secs(15 * 60));
    let cancel = Arc::new(AtomicBool::new(false));
    let mut done = Refs::new();
    while !shutdown.is_cancelled() {
        changes.borrow_and_update();
        let passed = rollouts.passed();
        if passed.iter().all(|(name, commit)| done.get(name) == Some(commit)) {
            tokio::select! {
                () = shutdown.cancelled() => {}
                _ = changes.changed() => {}
            }
            continue;
        }
        let (pusher, refs, flag) = (pusher.clone(), passed.clone(), cancel.clone());
        let push = blocking(move || caught(|| pusher.push(&refs, &flag)).map_err(|panic| panic.to_string()));
        let pushed = tokio::select! {
            pushed = push => pushed,
            () = shutdown.cancelled() => {
                cancel.store(true, std::sync::atomic::Ordering::Relaxed);
                break;
            }
        };
        match problem(pushed) {
            None => {
                done = passed;
                backoff.reset();
                rollouts.mirrored(None);
            }
            Some(why) => {
                rollouts.mirrored(Some(why.into()));
                tokio::select! {
                    () = shutdown.cancelled() => {}
                    () = backoff.wait() => {}
                }
            }
        }
    }
    Ok(())
}

/// What is wrong after a push.
fn problem(pushed: Result<Result<Pushed, PushError>, String>) -> Option<String> {
    match pushed {
        Err(panic) => Some(panic),
        Ok(Err(error)) => Some(chain(&error)),
        Ok(Ok(Pushed { refused, .. })) if refused.is_empty() => None,
        Ok(Ok(Pushed { refused, .. })) => {
            let named = refused.iter().take(NAMED).map(|(name, said)| format!("{name} ({said})"));
            let named: Vec<String> = named.collect();
            let more = refused.len().saturating_sub(NAMED);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            Some(format!("the Git server refused {}{more}", named.join(", ")))
        }
    }
}

impl Rollouts {
    /// The commit that passed each stage last, as far as that is known.
    pub(crate) fn passed(&self) -> Refs {
        let inner = lock(&self.inner);
        let stages = inner.pipelines.iter().flat_map(|(name, kept)| {
            let stages = kept.last.iter().flat_map(|step| &step.stages);
            stages.filter_map(move |stage| {
                let commit = &kept.state.candidate(stage.passed?)?.commit.id;
                Some((StageRef::new(name, &stage.name)?, commit.parse().ok()?))
            })
        });
        stages.collect()
    }

    /// How the last push ended; what is wrong is said once.
    fn mirrored(&self, problem: Option<Arc<str>>) {
        let mut known = lock(&self.refs);
        if *known == problem {
            return;
        }
        let (warning, reason, message) = match &problem {
            Some(why) => {
                let message = format!(
                    "the refs of stages are behind in the fleet repo, and are pushed again later: {why}"
                );
                (true, "RefsBehind", message)
            }
            None => (false, "RefsPushed", "the refs of stages are up to date in the fleet repo".to_owned()),
        };
        self.inbox.note([Event {
            at: unix_now(),
            cluster: None,
            unit: None,
            object: None,
            source: None,
            warning,
            reason: reason.to_owned(),
            message: flotilla_proto::convert::cut(message),
        }]);
        *known = problem;
        drop(known);
        self.changed.send_modify(|count| *count += 1);
    }

    /// Why the refs of stages are not as they should be; `None` where nothing is wrong with them.
    pub(crate) fn refs_problem(&self) -> Option<Arc<str>> {
        lock(&self.refs).clone()
    }
}
