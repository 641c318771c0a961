//! The sessions of all clusters: one each, with a way to end it, to ask its agent something, and to read what the
//! agent told.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use flotilla_core::ClusterName;
use flotilla_core::answer::Found;
use flotilla_core::report::Timestamp;
use flotilla_proto::v1::request;
use flotilla_runtime::lock;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::cluster::ClusterView;
use crate::changes::Changes;
use crate::desired::Published;

/// How many requests may wait for one session.
const COMMANDS: usize = 16;

/// So many processes are remembered of a cluster.
const DISPLACED: usize = 8;
/// That a second agent asked for the place is shown so long, in seconds: one that is refused asks again within this time.
const SECOND_AGENT_FOR: Timestamp = 3600;

/// Another agent with this cluster's identity has the place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "another agent with this cluster's identity is connected: its state folder is a copy of this one's, or the agent \
     runs twice; end one of them, or give one an empty --state folder and a join token of its own"
)]
pub(super) struct SecondAgent;

/// All clusters that an agent ever called for since the hub started.
#[derive(Debug)]
pub struct Sessions {
    slots: Mutex<Slots>,
    changes: Arc<Changes>,
}

#[derive(Debug, Default)]
struct Slots {
    clusters: HashMap<ClusterName, Slot>,
    next_id: u64,
}

#[derive(Debug, Default)]
struct Slot {
    cell: Arc<Mutex<Cell>>,
    session: Option<Handle>,
    /// Agents' processes whose session another one took while it was open, newest last.
    displaced: Vec<String>,
    /// States that the last session sent, as bases for the next.
    recent: Vec<Published>,
}

/// One cluster's view, with a lock of its own: what one agent tells, however much, holds up nobody else's.
#[derive(Debug, Default)]
struct Cell {
    view: Arc<ClusterView>,
    /// The session that may change it.
    session: u64,
}

#[derive(Debug)]
struct Handle {
    id: u64,
    /// Of the agent's process; empty where the agent does not say.
    instance: String,
    commands: mpsc::Sender<Command>,
    end: End,
}

/// Ends a session, once, with a reason.
#[derive(Debug, Clone, Default)]
pub(super) struct End {
    pub token: CancellationToken,
    reason: Arc<Mutex<Option<EndReason>>>,
}

/// Why the hub ended a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndReason {
    /// The same cluster opened another one.
    Replaced,
    Revoked,
    Deleted,
}

impl End {
    fn now(&self, reason: EndReason) {
        lock(&self.reason).get_or_insert(reason);
        self.token.cancel();
    }

    pub(super) fn reason(&self) -> Option<EndReason> {
        *lock(&self.reason)
    }
}

/// A request for the agent, and where its answer goes.
#[derive(Debug)]
pub(super) struct Command {
    pub kind: request::Kind,
    pub answer: oneshot::Sender<Answered>,
}

/// What the agent answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answered {
    pub done: bool,
    /// Why not, or a word on what was done; of agents before protocol 1.4 also what was found, as a JSON text.
    pub message: String,
    pub found: Option<Found>,
}

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    #[error("the cluster's agent is not connected")]
    NotConnected,
    #[error("the agent's session has too many requests waiting")]
    Busy,
    #[error("the agent did not answer within {0:?}")]
    Timeout(Duration),
    #[error("the agent's session ended before it answered")]
    Ended,
}

/// A session's place in the registry; leaving is its owner's duty ([`Sessions::leave`]).
#[derive(Debug)]
pub(super) struct Seat {
    pub id: u64,
    pub commands: mpsc::Receiver<Command>,
    pub end: End,
    pub recent: Vec<Published>,
}

impl Sessions {
    pub fn new(changes: Arc<Changes>) -> Self {
        Self { slots: Mutex::default(), changes }
    }

    fn slots(&self) -> MutexGuard<'_, Slots> {
        lock(&self.slots)
    }

    /// Takes the cluster's place; a session that has it is ended. Whoever was displaced so does not get the place back from
    /// the one that has it: two agents with one identity would end each other's session for ever.
    pub(super) fn enter(
        &self,
        cluster: &ClusterName,
        instance: &str,
        now: Timestamp,
    ) -> Result<Seat, SecondAgent> {
        let (sender, commands) = mpsc::channel(COMMANDS);
        let end = End::default();
        let mut slots = self.slots();
        let id = slots.next_id + 1;
        let slot = slots.clusters.entry(cluster.clone()).or_default();
        if let Some(holder) = slot.session.as_ref().filter(|holder| holder.instance != instance) {
            if slot.displaced.iter().any(|displaced| displaced == instance) {
                Arc::make_mut(&mut lock(&slot.cell).view).second_agent = Some(now);
                drop(slots);
                self.changes.cluster(cluster);
                return Err(SecondAgent);
            }
            if !holder.instance.is_empty() {
                slot.displaced.push(holder.instance.clone());
                let excess = slot.displaced.len().saturating_sub(DISPLACED);
                slot.displaced.drain(..excess);
            }
        }
        slot.displaced.retain(|displaced| displaced != instance);
        lock(&slot.cell).session = id;
        let handle = Handle { id, instance: instance.to_owned(), commands: sender, end: end.clone() };
        if let Some(old) = slot.session.replace(handle) {
            old.end.now(EndReason::Replaced);
        }
        let recent = slot.recent.clone();
        slots.next_id = id;
        Ok(Seat { id, commands, end, recent })
    }

    /// Gives the place back, unless another session has taken it.
    pub(super) fn leave(&self, cluster: &ClusterName, id: u64, recent: Vec<Published>, reason: &str) {
        let mut slots = self.slots();
        let Some(slot) = slots.clusters.get_mut(cluster) else { return };
        if slot.session.as_ref().is_some_and(|session| session.id == id) {
            slot.session = None;
            slot.recent = recent;
            let cell = slot.cell.clone();
            drop(slots);
            Arc::make_mut(&mut lock(&cell).view).disconnect(reason);
            self.changes.cluster(cluster);
        }
    }

    fn cell(&self, cluster: &ClusterName) -> Option<Arc<Mutex<Cell>>> {
        self.slots().clusters.get(cluster).map(|slot| slot.cell.clone())
    }

    /// Changes the cluster's view, if this session still has the place.
    pub(super) fn note(&self, cluster: &ClusterName, id: u64, note: impl FnOnce(&mut ClusterView)) {
        let Some(cell) = self.cell(cluster) else { return };
        let mut cell = lock(&cell);
        if cell.session == id {
            note(Arc::make_mut(&mut cell.view));
            drop(cell);
            self.changes.cluster(cluster);
        }
    }

    /// A sign of life, which is no change for anybody who watches.
    pub(super) fn seen(&self, cluster: &ClusterName, id: u64, at: Timestamp) {
        let Some(cell) = self.cell(cluster) else { return };
        let mut cell = lock(&cell);
        if cell.session == id {
            cell.view.last_seen.set(at);
            if cell.view.second_agent.is_some_and(|asked| at - asked >= SECOND_AGENT_FOR) {
                // It asked for the place no more.
                Arc::make_mut(&mut cell.view).second_agent = None;
                drop(cell);
                self.changes.cluster(cluster);
            }
        }
    }

    /// What the cluster's agent told; `None` if it never called.
    pub fn view(&self, cluster: &ClusterName) -> Option<Arc<ClusterView>> {
        let cell = self.cell(cluster)?;
        let view = lock(&cell).view.clone();
        Some(view)
    }

    /// How many agents are connected.
    pub fn connected(&self) -> usize {
        self.slots().clusters.values().filter(|slot| slot.session.is_some()).count()
    }

    /// Ends the cluster's session at once.
    pub fn cut(&self, cluster: &ClusterName, reason: EndReason) {
        if let Some(session) = self.slots().clusters.get(cluster).and_then(|slot| slot.session.as_ref()) {
            session.end.now(reason);
        }
    }

    /// Ends the session and forgets what the agent told.
    pub fn forget(&self, cluster: &ClusterName) {
        self.cut(cluster, EndReason::Deleted);
        self.slots().clusters.remove(cluster);
        self.changes.cluster(cluster);
    }

    /// Asks the agent for something and waits for its answer.
    pub async fn request(
        &self,
        cluster: &ClusterName,
        kind: request::Kind,
        limit: Duration,
    ) -> Result<Answered, RequestError> {
        let (answer, answered) = oneshot::channel();
        {
            let slots = self.slots();
            let session = slots.clusters.get(cluster).and_then(|slot| slot.session.as_ref());
            let session = session.ok_or(RequestError::NotConnected)?;
            session.commands.try_send(Command { kind, answer }).map_err(|error| match error {
                mpsc::error::TrySendError::Full(_) => RequestError::Busy,
                mpsc::error::TrySendError::Closed(_) => RequestError::NotConnected,
            })?;
        }
        match tokio::time::timeout(limit, answered).await {
            Ok(Ok(answered)) => Ok(answered),
            Ok(Err(_)) => Err(RequestError::Ended),
            Err(_) => Err(RequestError::Timeout(limit)),
        }
    }

    /// Asks every connected agent, without waiting for answers; answers how many were asked.
    pub fn tell_all(&self, kind: &request::Kind) -> usize {
        let slots = self.slots();
        let sessions = slots.clusters.values().filter_map(|slot| slot.session.as_ref());
        let command = || Command { kind: kind.clone(), answer: oneshot::channel().0 };
        sessions.filter(|session| session.commands.try_send(command()).is_ok()).count()
    }
}
