//! One task for each session: joins the protocol's machine to its stream, the board, the store and the registry.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use flotilla_core::desired::{KnownUnit, Removal};
use flotilla_core::question::{Question, Subject};
use flotilla_core::report::Timestamp;
use flotilla_core::unit::DeletionPolicy;
use flotilla_core::{ClusterName, Generation, UnitId};
use flotilla_proto::v1::{self, request};
use flotilla_runtime::limits::Bucket;
use flotilla_runtime::tls::PeerIdentity;
use prost::Message as _;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior};
use tonic::{Status, Streaming};

use super::leaving::Leaving;
use super::machine::{AckFact, AgentState, Fact, HaveUnit, Machine, ProtocolError, ReportFact};
use super::registry::{Answered, Command, EndReason, Seat};
use crate::desired::project::known_units;
use crate::state::{Hub, blocking};
use crate::store::{HistoryRecord, Records, StoreError};

/// Messages that wait for the network at most.
pub(super) const OUTBOX: usize = 8;
/// Messages of one agent: so many at once, and so many a second. More wait in the network. A large one counts for
/// several: by its bytes, and by the units and events in it, which take more room here than there.
const BURST: u32 = 400;
const PER_SECOND: u32 = 100;
const BYTES_OF_ONE: usize = 16 << 10;
const PARTS_OF_ONE: usize = 200;
/// Heartbeats that may be missing before the agent counts as gone.
const MISSED_HEARTBEATS: u32 = 3;

/// Why a session ended that the agent did not end itself.
#[derive(Debug, thiserror::Error)]
pub(super) enum SessionError {
    #[error("the agent's stream broke: {0}")]
    Stream(String),
    #[error("the agent broke the protocol")]
    Protocol(#[from] ProtocolError),
    #[error("nothing came from the agent for {0:?}")]
    Silent(Duration),
    #[error("the agent has read nothing for {0:?}")]
    Unread(Duration),
    #[error("the certificate that the agent showed has ended, or its CA was removed")]
    Certificate,
    #[error("the hub's store failed")]
    Store(#[from] StoreError),
    #[error("ended by the hub: {0:?}")]
    Ended(EndReason),
}

impl SessionError {
    fn status(&self) -> Status {
        let text = flotilla_runtime::chain(self);
        match self {
            Self::Stream(_) | Self::Silent(_) | Self::Unread(_) => Status::unavailable(text),
            // Not a refusal: the agent comes again with its newest certificate.
            Self::Certificate => Status::aborted(text),
            Self::Protocol(_) => Status::invalid_argument(text),
            Self::Store(_) => Status::internal(text),
            Self::Ended(EndReason::Replaced) => {
                Status::aborted("another agent opened a session for this cluster")
            }
            Self::Ended(EndReason::Revoked) => Status::permission_denied(
                "this cluster was revoked; a new join token (with --replace) lets its agent come back",
            ),
            Self::Ended(EndReason::Deleted) => {
                super::enrolment::deleted("this cluster was deleted at the hub".into())
            }
        }
    }
}

/// A session from its Hello on.
pub(super) struct Session {
    pub hub: Arc<Hub>,
    pub cluster: ClusterName,
    pub peer: Arc<PeerIdentity>,
    pub seat: Seat,
    pub hello: v1::Hello,
    pub agent: AgentState,
    pub inbound: Streaming<v1::AgentMessage>,
    pub outbox: mpsc::Sender<Result<v1::HubMessage, Status>>,
}

impl Session {
    /// Runs until either side ends it.
    pub(super) async fn run(self) -> Result<(), SessionError> {
        let Self { hub, cluster, peer, mut seat, hello, agent, inbound, outbox } = self;
        let (id, now) = (seat.id, hub.now());
        hub.sessions.note(&cluster, id, |view| {
            view.connect(now, &hello.agent_version, &hello.kubernetes_version);
            view.received = agent.root;
            view.generation = view.generation.max(agent.generation);
        });
        hub.metrics.sessions_started.inc();
        tracing::info!(%cluster, version = hello.agent_version, "agent connected");
        let recent = std::mem::take(&mut seat.recent);
        let unheard = {
            let (hub, cluster) = (hub.clone(), cluster.clone());
            let (version, has_state) = (hello.kubernetes_version.clone(), agent.root.is_some());
            let capabilities = agent.capabilities.clone();
            blocking(move || {
                // The fleet loop watches this: what the agent lacks is held.
                hub.records.note_agent(&cluster, &version, &capabilities)?;
                let is_heard = hub.records.is_heard(&cluster)?;
                // Without a state it has nothing to be asked for.
                if !is_heard && !has_state {
                    hub.records.note_heard(&cluster, now)?;
                }
                Ok::<_, StoreError>(!is_heard)
            })
            .await
        };
        let (result, recent) = match unheard {
            Err(error) => (Err(error.into()), recent),
            Ok(is_unheard) => {
                let welcome = v1::Welcome {
                    protocol: Some(v1::Protocol { minor: flotilla_proto::PROTOCOL_MINOR }),
                    hub_version: env!("CARGO_PKG_VERSION").to_owned(),
                    heartbeat_seconds: hub.settings.heartbeat.as_secs().max(1) as u32,
                    now,
                };
                let machine = Machine::new(agent, welcome, recent, is_unheard);
                let mut live = Live {
                    hub: hub.clone(),
                    cluster: cluster.clone(),
                    peer,
                    id,
                    machine,
                    leaving: Leaving::default(),
                    pending: HashMap::new(),
                    approvals: HashMap::new(),
                    epoch: Instant::now(),
                };
                let result = live.run(&mut seat, inbound, &outbox).await;
                (result, live.machine.into_recent())
            }
        };
        let reason = match &result {
            Ok(()) => "the agent closed the stream".to_owned(),
            Err(error) => flotilla_runtime::chain(error),
        };
        tracing::info!(%cluster, "agent disconnected: {reason}");
        hub.sessions.leave(&cluster, id, recent, &reason);
        if let Err(error) = &result {
            // The stream may be gone already, and nobody there to hear it.
            let _ = outbox.try_send(Err(error.status()));
        }
        match result {
            // An agent that goes away is everyday life.
            Err(SessionError::Store(error)) => Err(error.into()),
            _ => Ok(()),
        }
    }
}

struct Live {
    hub: Arc<Hub>,
    cluster: ClusterName,
    peer: Arc<PeerIdentity>,
    id: u64,
    machine: Machine,
    leaving: Leaving,
    pending: HashMap<u64, oneshot::Sender<Answered>>,
    /// Requests that deliver a stored approval.
    approvals: HashMap<u64, flotilla_core::Digest>,
    epoch: Instant,
}

impl Live {
    fn elapsed(&self) -> u64 {
        self.epoch.elapsed().as_secs()
    }

    async fn run(
        &mut self,
        seat: &mut Seat,
        mut inbound: Streaming<v1::AgentMessage>,
        outbox: &mpsc::Sender<Result<v1::HubMessage, Status>>,
    ) -> Result<(), SessionError> {
        let hub = self.hub.clone();
        let mut board = hub.board.subscribe(&self.cluster);
        board.mark_changed();
        let mut questions = hub.board.questions(&self.cluster);
        questions.mark_changed();
        let mut trust = hub.authority.trust();
        trust.mark_changed();
        self.deliver_approvals().await?;
        let mut tick = tokio::time::interval(hub.settings.heartbeat.min(Duration::from_secs(5)));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let silence = hub.settings.heartbeat * MISSED_HEARTBEATS;
        let mut heard = Instant::now();
        let mut rate = Bucket::new(BURST, PER_SECOND);
        let mut read_at = Instant::now();
        // Since when a message waits for the agent to read.
        let mut unread: Option<Instant> = None;
        loop {
            if let Some(above) = self.machine.wants_generation() {
                self.raise_generation(above).await?;
            }
            tokio::select! {
                biased;
                () = seat.end.token.cancelled() => {
                    return Err(SessionError::Ended(seat.end.reason().unwrap_or(EndReason::Replaced)));
                }
                message = next_message(&mut inbound, read_at) => match message {
                    Ok(Some(message)) => {
                        heard = Instant::now();
                        read_at = heard + rate.take_many(cost(&message));
                        hub.metrics.messages_in.inc();
                        let (now, hub_time) = (self.elapsed(), hub.now());
                        hub.sessions.seen(&self.cluster, self.id, hub_time);
                        if let Some(fact) = self.machine.receive(message, now, hub_time)? {
                            self.take(fact).await?;
                        }
                    }
                    Ok(None) => return Ok(()),
                    Err(status) => return Err(SessionError::Stream(status.message().to_owned())),
                },
                Ok(()) = board.changed() => {
                    let published = board.borrow_and_update().clone();
                    if let Some(published) = published {
                        let now = self.elapsed();
                        self.leaving.publish(&published.state);
                        self.machine.publish(published, now);
                    }
                }
                Ok(()) = questions.changed() => {
                    // A cluster that was not rendered yet is asked for what is asked of all.
                    let asked = questions.borrow_and_update().clone().unwrap_or_default();
                    self.ask(Arc::unwrap_or_clone(asked)).await?;
                }
                Ok(()) = trust.changed() => {
                    let trust = trust.borrow_and_update().clone();
                    // A CA may have been removed.
                    if !hub.authority.agents_tls().vouches_for(&self.peer) {
                        return Err(SessionError::Certificate);
                    }
                    self.machine.push_trust(trust);
                }
                Some(Command { kind, answer }) = seat.commands.recv(), if self.machine.takes_requests() => {
                    // Who gave up waiting has dropped the other end.
                    self.pending.retain(|_, answer| !answer.is_closed());
                    let request = self.machine.push_request(kind);
                    self.pending.insert(request, answer);
                }
                permit = outbox.reserve(), if self.machine.has_output() => {
                    let Ok(permit) = permit else { return Ok(()) };
                    unread = None;
                    if let Some(message) = self.machine.next(|body| hub.bodies.encode(body)) {
                        hub.metrics.messages_out.inc();
                        permit.send(Ok(message));
                    }
                }
                now = tick.tick() => {
                    if now.duration_since(heard) > silence {
                        return Err(SessionError::Silent(silence));
                    }
                    if hub.clock.now() >= self.peer.certificate.not_after {
                        return Err(SessionError::Certificate);
                    }
                    match unread.filter(|_| self.machine.has_output()) {
                        Some(since) if now.duration_since(since) > silence => {
                            return Err(SessionError::Unread(silence));
                        }
                        Some(_) => {}
                        None => unread = self.machine.has_output().then_some(now),
                    }
                    let now = self.elapsed();
                    self.machine.tick(now);
                }
            }
        }
    }

    async fn take(&mut self, fact: Fact) -> Result<(), SessionError> {
        let hub = self.hub.clone();
        match fact {
            Fact::Units(units) => {
                let cluster = self.cluster.clone();
                let (records, now) = (hub.records.clone(), hub.now());
                let published = hub.board.current(&cluster);
                // What was published meanwhile may be on its way.
                let published = published.iter().flat_map(|published| known_units(published.state.units()));
                let published: Vec<KnownUnit> = published.collect();
                // The fleet loop watches this: there may be units that Git has lost.
                blocking(move || note_units(&records, &cluster, units, published, now)).await?;
            }
            Fact::Ack(ack) => {
                hub.sessions.note(&self.cluster, self.id, |view| view.ack(&ack));
                self.note_history(ack).await?;
            }
            Fact::Report(mut report) => {
                hub.metrics.reports.inc();
                hub.journal.inbox().note_of(&self.cluster, std::mem::take(&mut report.events));
                self.forget_gone(&report).await?;
                hub.sessions.note(&self.cluster, self.id, |view| view.report(*report));
            }
            Fact::Reply(question, reply) => {
                let (cluster, records, now) = (self.cluster.clone(), hub.records.clone(), hub.now());
                // The fleet loop watches this.
                blocking(move || match question.subject {
                    Subject::Nodes => records.note_nodes(&cluster, &reply),
                    Subject::Apis | Subject::Values(_) => {
                        records.note_reply(&cluster, &question, &reply, now)
                    }
                })
                .await?;
            }
            Fact::Answer { request, done, message, found } => {
                if let Some(digest) = self.approvals.remove(&request)
                    && done
                {
                    let (cluster, records, at) = (self.cluster.clone(), hub.records.clone(), hub.now());
                    blocking(move || records.approval_delivered(&cluster, digest, at)).await?;
                }
                if let Some(answer) = self.pending.remove(&request) {
                    // Who asked may have given up waiting.
                    let _ = answer.send(Answered { done, message, found });
                }
            }
        }
        Ok(())
    }

    /// Asks for what a render of the cluster needs to know, and for what the agent reports by itself.
    async fn ask(&mut self, mut asked: BTreeSet<Question>) -> Result<(), SessionError> {
        let (cluster, records) = (self.cluster.clone(), self.hub.records.clone());
        let known = blocking(move || {
            let mut known = records.replies(&cluster)?;
            let (nodes, have) = records.question_of_nodes(&cluster)?;
            known.extend(have.map(|have| (nodes.digest(), have)));
            asked.insert(nodes);
            Ok::<_, StoreError>((asked, known))
        });
        let (asked, known) = known.await?;
        self.machine.ask(Arc::new(asked), |question| known.get(&question.digest()).copied());
        Ok(())
    }

    /// Units that the agent has removed as it was told need not be told of any more.
    async fn forget_gone(&self, report: &ReportFact) -> Result<(), SessionError> {
        let gone = self.leaving.gone(report.digest, &report.gone);
        if gone.is_empty() {
            return Ok(());
        }
        let (cluster, records) = (self.cluster.clone(), self.hub.records.clone());
        Ok(blocking(move || records.forget_known_units(&cluster, &gone)).await?)
    }

    /// Approvals that were given while the agent was away.
    async fn deliver_approvals(&mut self) -> Result<(), SessionError> {
        let (cluster, records) = (self.cluster.clone(), self.hub.records.clone());
        for digest in blocking(move || records.undelivered_approvals(&cluster)).await? {
            let approval = flotilla_proto::convert::digest_bytes(Some(digest));
            let request = self.machine.push_request(request::Kind::Approve(v1::Approve { approval }));
            self.approvals.insert(request, digest);
        }
        Ok(())
    }

    async fn raise_generation(&mut self, above: Generation) -> Result<(), SessionError> {
        let records = self.hub.records.clone();
        let fresh = blocking(move || {
            let follows = records.raise_generation_above(above)?;
            Ok::<_, StoreError>((follows, records.next_generation()?))
        });
        let (follows, fresh) = fresh.await?;
        if !follows {
            tracing::error!(cluster = %self.cluster, %above, "the agent's generation is too far ahead to follow");
            self.hub.sessions.note(&self.cluster, self.id, |view| {
                view.refused = Some(format!(
                    "the agent has generation {above}, too far ahead of the hub's to be right; remove the agent's \
                     data and restart it"
                ));
            });
        }
        let now = self.elapsed();
        self.machine.take_generation(fresh, now);
        Ok(())
    }

    async fn note_history(&mut self, ack: AckFact) -> Result<(), SessionError> {
        let published = self.hub.board.current(&self.cluster);
        let Some(state) = published.filter(|p| Some(p.state.digest()) == ack.digest).map(|p| p.state) else {
            return Ok(());
        };
        let record = HistoryRecord {
            digest: state.digest().to_string(),
            generation: state.generation.0,
            commit: state.snapshot.clone(),
            ..HistoryRecord::default()
        };
        let (cluster, records, at) = (self.cluster.clone(), self.hub.records.clone(), self.hub.now());
        blocking(move || {
            records.note_history(&cluster, &record, |state| match ack.level {
                v1::ack::Level::Received if ack.in_memory => {}
                v1::ack::Level::Received => _ = state.received_at.get_or_insert(at),
                v1::ack::Level::Applied => _ = state.applied_at.get_or_insert(at),
                v1::ack::Level::Healthy => _ = state.healthy_at.get_or_insert(at),
                v1::ack::Level::Refused | v1::ack::Level::Unspecified => {}
            })
        })
        .await?;
        Ok(())
    }
}

/// For how many messages one counts.
fn cost(message: &v1::AgentMessage) -> u32 {
    use v1::agent_message::Message;
    let parts = match &message.message {
        Some(Message::Report(report)) => report.units.len() + report.events.len() + report.gone.len(),
        Some(Message::Units(units)) => units.units.len(),
        Some(Message::Need(need)) => need.bodies.len(),
        _ => 0,
    };
    (1 + message.encoded_len() / BYTES_OF_ONE + parts / PARTS_OF_ONE) as u32
}

/// Replaces what is known of the agent's units. What it does not say of one that it holds stays as it was known, and
/// where nothing ever was, its objects are not to be deleted. Blocking.
fn note_units(
    records: &Records,
    cluster: &ClusterName,
    units: Vec<HaveUnit>,
    published: Vec<KnownUnit>,
    now: Timestamp,
) -> Result<(), StoreError> {
    let mut before: HashMap<_, _> = records
        .known_units(cluster)?
        .unwrap_or_default()
        .into_iter()
        .map(|unit| (unit.id.clone(), unit))
        .collect();
    let known = units.into_iter().map(|HaveUnit { id, parent, removal, render }| {
        let old = before.remove(&id);
        let orphan = Removal { policy: DeletionPolicy::Orphan, ..Removal::default() };
        KnownUnit {
            parent: parent.or_else(|| old.as_ref()?.parent.clone()),
            removal: match (removal, old.as_ref().map(|old| old.removal)) {
                // What keeps the unit's objects is dropped by a definition in Git, or by a person.
                (Some(told), Some(old)) => Removal {
                    suspended: told.suspended || old.suspended,
                    moved: told.moved || old.moved,
                    ..told
                },
                (told, old) => told.or(old).unwrap_or(orphan),
            },
            render: render.or_else(|| old.as_ref()?.render),
            id,
        }
    });
    let mut known: Vec<KnownUnit> = known.collect();
    let told: HashSet<UnitId> = known.iter().map(|unit| unit.id.clone()).collect();
    known.extend(published.into_iter().filter(|unit| !told.contains(&unit.id)));
    records.set_known_units(cluster, &known, Some(now))
}

/// The agent's next message, not before `at`: who talks too much waits. Cancel-safe.
async fn next_message(
    inbound: &mut Streaming<v1::AgentMessage>,
    at: Instant,
) -> Result<Option<v1::AgentMessage>, Status> {
    tokio::time::sleep_until(at).await;
    inbound.message().await
}

#[cfg(test)]
#[path = "driver_tests.rs"]
mod tests;
