//! The end of an agent's work: the removal of everything from the cluster, or the deletion of the cluster at the hub; and
//! what an agent does at its start about one that came before.
//!
//! ```text
//!   the mark on disk ─┬─ not there    run what the disk has
//!                     ├─ removal      go on with the removal, take no state
//!                     ├─ deletion     do nothing at all, until there is another join token
//!                     └─ not readable delete nothing, apply nothing, take no state; look again
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use flotilla_core::report::{Kept, UnitReport};
use flotilla_core::{DesiredState, Generation};
use flotilla_runtime::chain;
use flotilla_runtime::{Backoff, CancellationToken};
use tokio::time::Instant;

use super::Shared;
use crate::disk::Ending;
use crate::sync::{Events, RELEASED, Request};

/// Why a state is not taken after everything was removed on request.
pub(super) const REMOVED: &str =
    "everything was removed from this cluster on request; an agent that joins again manages it again";
/// What is left to do after the cluster was deleted at the hub.
const IS_OVER: &str = "what runs here stays as it is, and this agent neither applies, corrects nor deletes anything any \
                       more; remove the agent (delete its Deployment, or stop its service), or have it take the cluster \
                       up again with a new token (`flotilla cluster token NAME`)";
/// What a mark that cannot be read is reported under.
const SUBJECT: &str = "removal";
const LOOK_AGAIN: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30));

/// Whether everything was to be removed, or the cluster was deleted at the hub.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) enum Removal {
    /// Nobody looked yet, or the look failed.
    #[default]
    Unknown,
    No,
    Yes,
    /// The cluster was deleted at the hub.
    Deleted,
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
            Self::Deleted => Some("the cluster was deleted at the hub"),
        }
    }
}

/// Even where there is nothing to remove the engine has to look first.
const FIRST_LOOK: Duration = Duration::from_secs(2);
/// Where nothing went for so long and something waits for an approval, only a person gets on.
const STUCK: Duration = Duration::from_secs(5);
/// So many objects are named in an answer.
const NAMED: usize = 20;

/// A request for the removal of everything that waits for its end.
pub(super) struct Removing {
    pub(super) request: u64,
    /// The number of the first event that is of it.
    pub(super) events: u64,
    earliest: Instant,
    /// How many objects are left, and since when.
    left: (u64, Instant),
}

impl Removing {
    pub(super) fn new(request: u64, events: u64, now: Instant) -> Self {
        Self { request, events, earliest: now + FIRST_LOOK, left: (u64::MAX, now) }
    }

    /// Whether all is gone (`Ok`), or why it does not go without a person. While nobody knows what is left, as the API
    /// server is away, it is not over: the hub would delete the cluster, and its objects would be nobody's.
    pub(super) fn over(&mut self, left: Option<&[UnitReport]>, now: Instant) -> Option<Result<(), String>> {
        let Some(left) = left else {
            self.earliest = now + FIRST_LOOK;
            return None;
        };
        let objects = left.iter().map(|report| u64::from(report.objects)).sum();
        if self.left.0 != objects {
            self.left = (objects, now);
        }
        if now < self.earliest {
            return None;
        }
        if left.is_empty() {
            return Some(Ok(()));
        }
        let kept: Vec<&Kept> = left.iter().flat_map(|report| &report.kept).collect();
        if kept.is_empty() || now < self.left.1 + STUCK {
            return None;
        }
        let named = kept.iter().map(|kept| {
            let Kept { object, why, approval } = kept;
            format!("{object} ({why}; approval {})", approval.short())
        });
        Some(Err(format!("these wait for an approval: {}", list(named))))
    }
}

/// What is left of everything that was removed.
pub(super) fn stays(told: &Events) -> String {
    let released = told.events.iter().filter(|event| event.reason == RELEASED);
    let named: BTreeSet<String> =
        released.filter_map(|event| Some(format!("{} {}", event.object.as_ref()?, event.message))).collect();
    let missed = if told.missed > 0 { "; more was reported than is kept here" } else { "" };
    if named.is_empty() {
        return format!("everything is removed{missed}");
    }
    format!("everything else is removed: {}{missed}", list(named.into_iter()))
}

fn list(named: impl ExactSizeIterator<Item = String>) -> String {
    let more = named.len().saturating_sub(NAMED);
    let shown: Vec<String> = named.take(NAMED).collect();
    let more = if more == 0 { String::new() } else { format!(", and {more} more") };
    shown.join(", ") + &more
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
        let cluster = &self.info.cluster;
        let removal = match self.disk.ending(cluster) {
            Err(error) => {
                let why = format!("nothing is applied and nothing deleted: {}", chain(&error));
                tracing::warn!("{why}");
                self.problems.set(SUBJECT, why);
                return false;
            }
            Ok(None) => {
                if let Some(desired) = self.desired() {
                    self.engine.set_desired(desired);
                }
                Removal::No
            }
            Ok(Some(Ending::Deletion)) => {
                tracing::warn!("cluster {cluster} was deleted at the hub: {IS_OVER}");
                Removal::Deleted
            }
            Ok(Some(Ending::Removal)) => {
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
        self.removal.send_if_modified(|known| {
            // The hub may have said more meanwhile.
            let is_news = *known == Removal::Unknown;
            if is_news {
                *known = removal;
            }
            is_news
        });
        true
    }

    /// Ends the agent's work, as the hub says that the cluster was deleted: nothing is applied, corrected or deleted from
    /// then on, and the hub is not called any more.
    pub(super) async fn end(&self, why: &str) {
        tracing::warn!("the hub refuses this agent: {why}: {IS_OVER}");
        self.removal.send_replace(Removal::Deleted);
        let (disk, cluster) = (self.disk.clone(), self.info.cluster.clone());
        let noted = match tokio::task::spawn_blocking(move || disk.note_deletion(&cluster)).await {
            Ok(noted) => noted.map_err(|error| chain(&error)),
            Err(error) => Err(error.to_string()),
        };
        if let Err(error) = noted {
            tracing::warn!(
                "cannot note that the cluster was deleted at the hub, so after a restart the agent works until it reaches \
                 the hub: {error}"
            );
        }
    }

    /// Whether the cluster was deleted at the hub.
    pub fn is_deleted(&self) -> bool {
        self.removal() == Removal::Deleted
    }

    /// Removes everything from the cluster. The desired state is forgotten first, so that a restart does not
    /// bring it back.
    pub(super) async fn remove_all(&self) -> Result<(), String> {
        let (disk, cluster) = (self.disk.clone(), self.info.cluster.clone());
        match tokio::task::spawn_blocking(move || disk.forget_desired(&cluster)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(chain(&error)),
            Err(error) => return Err(error.to_string()),
        }
        self.replace(None);
        if self.removal.send_replace(Removal::Yes) == Removal::Unknown {
            // The engine was told nothing so far.
            let nothing = BTreeMap::new();
            let cluster = self.info.cluster.clone();
            let nothing = DesiredState::new(cluster, Generation::default(), "removed", nothing);
            self.engine.set_desired(Arc::new(nothing));
            self.problems.clear(SUBJECT);
        }
        let everything = Request::PruneAll { cluster: self.info.cluster.clone() };
        self.engine.request(everything).map_err(|error| chain(&error))
    }
}

/// Looks until it is known whether the work is over, or shutdown.
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

/// Ends `work` once the cluster is deleted at the hub.
pub async fn end_when_deleted(shared: Arc<Shared>, work: CancellationToken) -> Result<(), Infallible> {
    let mut removal = shared.removal.subscribe();
    let deleted = removal.wait_for(|removal| *removal == Removal::Deleted);
    if work.run_until_cancelled(deleted).await.is_some() {
        work.cancel();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use flotilla_core::report::Event;
    use flotilla_core::{Digest, ObjectId, UnitId};

    use super::*;

    #[test]
    fn a_removal_is_over_when_all_is_gone_or_only_a_person_gets_on() {
        let begin = Instant::now();
        let at = |seconds| begin + Duration::from_secs(seconds);
        let object = ObjectId::new("", "PersistentVolumeClaim", "web", "data");
        let approval = Digest::of(b"a");
        let kept = Kept { object: object.clone(), why: "its data would be lost".into(), approval };
        let unit = |objects, kept: &[Kept]| {
            let report = UnitReport::new(UnitId::root(), flotilla_core::report::Phase::Removing, "", 0);
            UnitReport { objects, kept: kept.to_vec(), ..report }
        };
        let mut removing = Removing::new(1, 0, begin);
        assert_eq!(removing.over(Some(&[]), at(1)), None, "the engine has to look first");
        assert_eq!(removing.over(Some(&[]), at(2)), Some(Ok(())));
        for seconds in [3, 60] {
            assert_eq!(removing.over(None, at(seconds)), None, "nobody knows what is left");
        }
        assert_eq!(removing.over(Some(&[]), at(61)), None, "the engine has read the inventory just now");
        assert_eq!(removing.over(Some(&[]), at(62)), Some(Ok(())));
        // What is slow is waited for, and what goes on beside what is kept too.
        assert_eq!(removing.over(Some(&[unit(3, &[])]), at(900)), None);
        let left = [unit(3, &[]), unit(1, std::slice::from_ref(&kept))];
        assert_eq!(removing.over(Some(&left), at(901)), None);
        assert_eq!(removing.over(Some(&left[1..]), at(905)), None);
        assert_eq!(removing.over(Some(&left[1..]), at(909)), None);
        let why = removing.over(Some(&left[1..]), at(910)).unwrap().unwrap_err();
        let says = format!("{object} (its data would be lost; approval {})", kept.approval.short());
        assert!(why.ends_with(&says), "{why}");
    }

    #[test]
    fn what_stays_after_a_removal_is_named_once() {
        let event = |reason: &'static str, name: &str| Event {
            object: Some(ObjectId::new("", "ConfigMap", "web", name)),
            reason: reason.into(),
            message: "is to stay".into(),
            at: 0,
            unit: UnitId::root(),
            warning: false,
        };
        let told = |events, missed| Events { events, next: 0, missed };
        assert_eq!(stays(&told(vec![event("Pruned", "a")], 0)), "everything is removed");
        assert_eq!(
            stays(&told(vec![event(RELEASED, "a"), event(RELEASED, "a"), event(RELEASED, "b")], 0)),
            "everything else is removed: ConfigMap web/a is to stay, ConfigMap web/b is to stay"
        );
        let many = (0..30).map(|n| event(RELEASED, &n.to_string())).collect();
        assert!(stays(&told(many, 1)).ends_with(", and 10 more; more was reported than is kept here"));
    }
}
