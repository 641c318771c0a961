//! What the fleet loop knows, for people and sessions to read: the commit, sources, clusters, problems.
//!
//! ```text
//! fleet loop ── publish(FleetView) ──► Fleet ──► API, sessions
//!            ◄── wake() ──────────────       ◄── webhooks, `flotilla reconcile`, agents' facts
//! ```
//! A wake carries no payload: the loop reads everything anew.

mod events;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use flotilla_api as api;
use flotilla_core::change::{Finding, Losses};
use flotilla_core::report::Problem;
use flotilla_core::source::SourceId;
use flotilla_core::{Authority, ClusterName, Digest, Object, ServiceAccount, UnitId};
use tokio::sync::watch;

use crate::attempts::Attempts;
use crate::clock::unix_now;
use crate::journal::Inbox;
use crate::pulse::Pulse;
use events::differences;

/// What the fleet loop knew when it last went round.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FleetView {
    /// How often the loop has gone round, [`Fleet::publish`] counts; 0: not once.
    pub round: u64,
    /// The commit that is rendered.
    pub snapshot: Option<api::Commit>,
    pub sources: Vec<api::Source>,
    /// Problems of no cluster in particular.
    pub problems: Vec<Problem>,
    /// Shared with the view before where nothing changed.
    pub clusters: BTreeMap<ClusterName, Arc<ClusterFacts>>,
    /// What the newest commit takes away, if that is worth a word.
    pub change: Option<Change>,
}

/// What a commit takes away from all clusters together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    pub commit: String,
    /// The gravest first.
    pub findings: Vec<Finding>,
    /// What is not published until somebody approves it, by whose word it is.
    pub held: Vec<HeldChange>,
}

/// A part of a change that waits for an approval.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldChange {
    /// The fleet repo's, or a tenant's.
    pub word: Authority,
    /// Of what clusters would lose: what an approval names.
    pub digest: Digest,
    pub losses: Losses,
    /// For people.
    pub why: String,
}

/// What Git says of one cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClusterFacts {
    pub labels: BTreeMap<String, String>,
    pub variables: BTreeMap<String, String>,
    /// They are put into the root unit's own objects too.
    pub substitute: bool,
    /// The `ClusterGroup`s that it is in, as far as that is known.
    pub groups: BTreeSet<String>,
    /// Root path in the fleet repo.
    pub root: String,
    /// Git defines it.
    pub assigned: bool,
    pub problems: Vec<Problem>,
    pub units: BTreeMap<UnitId, UnitFacts>,
    /// The sources that its units define.
    pub sources: BTreeMap<SourceId, SourceFacts>,
    /// The newest states that were published for it.
    pub ran: Ran,
    /// The commit that it is rendered from, where that is not the view's: it could not be rendered from that one yet.
    pub behind: Option<Arc<str>>,
}

/// What Git says of one source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceFacts {
    pub defined_by: UnitId,
    /// What defines it may name everything.
    pub of_fleet: bool,
    pub object: Object,
}

/// The commit that a unit's content is from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum At {
    /// The one that its cluster is rendered from.
    #[default]
    Cluster,
    /// An older one: it is held or suspended.
    Older(Arc<str>),
    Unknown,
}

impl At {
    /// The commit; `cluster` is the one that the unit's cluster is rendered from.
    pub fn commit<'a>(&'a self, cluster: &'a str) -> &'a str {
        match self {
            Self::Cluster => cluster,
            Self::Older(commit) => commit,
            Self::Unknown => "",
        }
    }
}

/// The revision of a unit's source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Revision {
    /// Its source is the fleet repo: the commit says it.
    Fleet,
    /// As Flux writes it; empty where it is not known.
    Of(Arc<str>),
}

impl Default for Revision {
    fn default() -> Self {
        Self::Of("".into())
    }
}

impl Revision {
    /// As Flux writes it; `branch` is the fleet repo's.
    pub fn text(&self, branch: &str, commit: &str) -> String {
        match self {
            Self::Fleet if commit.is_empty() => String::new(),
            Self::Fleet => format!("{branch}@sha1:{commit}"),
            Self::Of(text) => text.to_string(),
        }
    }
}

/// What Git and people say of one unit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UnitFacts {
    pub problems: Vec<Problem>,
    /// Path of its content in the source.
    pub path: String,
    pub parent: Option<UnitId>,
    pub depends_on: Vec<UnitId>,
    pub at: At,
    /// Where its files are, and the revision they have; empty where they cannot be used.
    pub source: String,
    pub revision: Revision,
    /// The Flux object that defines it.
    pub object: Option<Object>,
    /// What defines it may name everything.
    pub of_fleet: bool,
    /// Whom it is applied as, where that is not the agent itself. Not known of a unit that is held.
    pub account: Option<ServiceAccount>,
    /// By Git or by hand.
    pub suspended: bool,
    pub suspended_in_git: bool,
    /// The newest contents that were published of it.
    pub ran: Ran,
}

/// What was published under a digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Was {
    pub digest: Digest,
    /// The newest commit that came to it; `None`: the one that the unit or cluster is rendered from.
    pub commit: Option<Arc<str>>,
    /// The revision of a unit's source.
    pub revision: Revision,
}

/// The newest digests that were published, so that an agent's word on what it runs is a commit for people. Only in memory: of
/// what is older, the commit is not known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ran(Vec<Was>);

impl Ran {
    /// So many are remembered.
    const KEPT: usize = 4;

    /// Takes what is published now. What was until now is of the commit `until`.
    pub fn note(&mut self, was: Was, until: &Arc<str>) {
        for other in self.0.iter_mut().filter(|other| other.digest != was.digest) {
            other.commit.get_or_insert_with(|| until.clone());
        }
        match self.0.iter_mut().find(|known| known.digest == was.digest) {
            Some(known) => *known = was,
            None => {
                self.0.push(was);
                let over = self.0.len().saturating_sub(Self::KEPT);
                self.0.drain(..over);
                self.0.shrink_to_fit();
            }
        }
    }

    /// What was published under this digest, if that is remembered.
    pub fn at(&self, digest: Option<Digest>) -> Option<&Was> {
        self.0.iter().find(|was| Some(was.digest) == digest)
    }
}

impl FleetView {
    /// The commit that a cluster is rendered from, and the branch of the fleet repo; empty where there is none.
    pub fn place_of(&self, cluster: Option<&ClusterFacts>) -> Place {
        let newest = self.snapshot.as_ref();
        let behind = cluster.and_then(|facts| facts.behind.as_ref()).map(ToString::to_string);
        let commit = behind.or_else(|| newest.map(|commit| commit.id.clone())).unwrap_or_default();
        Place { commit, branch: newest.map(|commit| commit.branch.clone()).unwrap_or_default() }
    }
}

/// Where in the fleet repo a cluster is rendered from.
#[derive(Debug, Clone, Default)]
pub struct Place {
    pub commit: String,
    pub branch: String,
}

/// The slot between the fleet loop and everybody else.
#[derive(Debug)]
pub struct Fleet {
    view: ArcSwap<FleetView>,
    /// Counts publications.
    published: watch::Sender<u64>,
    /// Counts requests for a round, so that who asked can wait for a round that began later.
    wanted: watch::Sender<u64>,
    /// The newest request that a finished round has seen.
    served: watch::Sender<u64>,
    pulse: Arc<Pulse>,
    /// What the loop works on, once it runs.
    pub(crate) attempts: OnceLock<Arc<Attempts>>,
    /// Where the fleet's events go.
    inbox: Arc<Inbox>,
}

impl Default for Fleet {
    fn default() -> Self {
        let zero = || watch::Sender::new(0);
        Self {
            view: ArcSwap::default(),
            published: zero(),
            wanted: zero(),
            served: zero(),
            pulse: Arc::default(),
            attempts: OnceLock::new(),
            inbox: Arc::default(),
        }
    }
}

impl Fleet {
    pub fn new() -> Self {
        Self::default()
    }

    /// With a journal.
    pub(crate) fn noting(inbox: Arc<Inbox>) -> Self {
        Self { inbox, ..Self::default() }
    }

    /// Whether rounds go on.
    pub fn pulse(&self) -> Arc<Pulse> {
        self.pulse.clone()
    }

    /// What was published last.
    pub fn view(&self) -> Arc<FleetView> {
        self.view.load_full()
    }

    /// Replaces the view; readers are told only if it differs. For the fleet loop.
    pub fn publish(&self, mut view: FleetView) {
        let last = self.view.load();
        view.round = last.round;
        let first = view.round == 0;
        if first || **last != view {
            view.round += 1;
            let events = differences(&last, &view, unix_now());
            if first {
                self.inbox.note_found(events)
            } else {
                self.inbox.note(events)
            }
            self.view.store(Arc::new(view));
            self.published.send_modify(|count| *count += 1);
        }
    }

    /// Ticks when the view changes.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.published.subscribe()
    }

    /// Asks the loop to go round now; the number is for [`Fleet::served`].
    pub fn wake(&self) -> u64 {
        let mut ticket = 0;
        self.wanted.send_modify(|count| {
            *count += 1;
            ticket = *count;
        });
        ticket
    }

    /// Where the fleet loop hears of wakes: it calls `borrow_and_update` before a round and gives that number
    /// to [`Fleet::serve`] after it, whatever came of the round.
    pub fn wakes(&self) -> watch::Receiver<u64> {
        self.wanted.subscribe()
    }

    /// A round that saw this wake is finished.
    pub fn serve(&self, ticket: u64) {
        self.served.send_if_modified(|served| {
            let newer = *served < ticket;
            *served = (*served).max(ticket);
            newer
        });
    }

    /// Waits until a round that began after the wake is finished. Cancel-safe.
    pub async fn served(&self, ticket: u64) {
        // The sender lives as long as `self`, so this cannot fail.
        let _ = self.served.subscribe().wait_for(|served| *served >= ticket).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_wakes_the_loop_waits_for_a_round_that_saw_it() {
        let fleet = Fleet::new();
        let mut wakes = fleet.wakes();
        let first = fleet.wake();
        assert!(wakes.has_changed().unwrap());
        let seen = *wakes.borrow_and_update();
        let second = fleet.wake();
        fleet.serve(seen);
        fleet.served(first).await;
        assert!(tokio::time::timeout(std::time::Duration::ZERO, fleet.served(second)).await.is_err());
        fleet.serve(*wakes.borrow_and_update());
        fleet.served(second).await;
    }

    #[test]
    fn an_equal_view_is_no_change_but_the_first_one_is() {
        let fleet = Fleet::new();
        let changes = fleet.changes();
        fleet.publish(FleetView::default());
        assert_eq!((*changes.borrow(), fleet.view().round), (1, 1));
        fleet.publish(FleetView::default());
        assert_eq!(*changes.borrow(), 1);
        let commit = api::Commit { id: "c0ffee".into(), ..Default::default() };
        fleet.publish(FleetView { snapshot: Some(commit), ..FleetView::default() });
        assert_eq!((*changes.borrow(), fleet.view().round), (2, 2));
    }
}
