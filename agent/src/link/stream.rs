//! One stream with the hub: joins the protocol's machine to gRPC, the disk and the engine.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use flotilla_core::answer::Found;
use flotilla_core::{DesiredState, Digest};
use flotilla_proto::v1::fleet_client::FleetClient;
use flotilla_proto::{MAX_MESSAGE, v1, v1::agent_message::Message, v1::answer::Outcome};
use flotilla_runtime::tls::Clock;
use flotilla_runtime::{CancellationToken, blocking, chain, lock};
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior};
use tonic::codec::CompressionEncoding;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};

use super::Shared;
use super::answering::Answering;
use super::removal::{self, REMOVED, Removing};
use super::reporter::Reporter;
use super::session::{Asked, Contents, Effect, ProtocolError, Session};
use crate::disk::BodyStore;
use crate::sync::{Bodies, Request};

/// Messages on their way to the network.
const OUTBOX: usize = 8;
/// More messages than this waiting for the network stop reports, which conflate meanwhile.
const BUSY: usize = 32;
/// Reports leave at most this often; the first change at once.
const REPORT_EVERY: Duration = Duration::from_millis(200);
/// Before the first report the engine gets this long to look at the cluster.
const FIRST_REPORT: Duration = Duration::from_secs(10);
const MISSED_HEARTBEATS: u32 = 3;
const CALL: Duration = Duration::from_secs(30);
const MINUTE: Duration = Duration::from_secs(60);

/// Why a stream ended that nobody here ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StreamError {
    /// The hub says no: revoked, another cluster under this name, a certificate that it does not take.
    #[error("the hub refuses: {0}")]
    Refused(String),
    #[error("the hub refuses: {0}")]
    Deleted(String),
    #[error("the stream with the hub broke: {0}")]
    Broken(String),
    #[error("the hub ended the stream")]
    Ended,
    #[error("nothing came from the hub for {0:?}")]
    Silent(Duration),
    #[error("the hub broke the protocol")]
    Protocol(#[from] ProtocolError),
}

/// Whether the hub refuses because somebody deleted the cluster.
pub(super) fn says_deleted(status: &Status) -> bool {
    status.code() == Code::PermissionDenied
        && status.metadata().get(flotilla_proto::REFUSAL).is_some_and(|why| why == flotilla_proto::DELETED)
}

impl StreamError {
    fn of(status: &Status) -> Self {
        let message = status.message().to_owned();
        if says_deleted(status) {
            return Self::Deleted(message);
        }
        match status.code() {
            Code::PermissionDenied | Code::Unauthenticated | Code::FailedPrecondition => {
                Self::Refused(message)
            }
            _ => Self::Broken(format!("{:?}: {message}", status.code())),
        }
    }
}

impl Contents for BodyStore {
    fn has(&self, digest: Digest) -> bool {
        Self::has(self, digest)
    }

    fn body(&self, digest: Digest) -> Option<Bytes> {
        Bodies::body(self, digest).ok()
    }
}

/// What is on its way to the network.
struct Outgoing(mpsc::Receiver<v1::AgentMessage>);

impl futures::Stream for Outgoing {
    type Item = v1::AgentMessage;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(context)
    }
}

/// A request of the hub, and what came of it.
type Answered = (u64, Result<Option<Found>, String>);

struct Stream<'a> {
    shared: &'a Arc<Shared>,
    /// Locked for long only by work on the disk, which the stream waits for.
    session: Arc<Mutex<Session>>,
    reporter: Reporter,
    opened: Instant,
    /// How often heartbeats leave.
    heartbeat: watch::Sender<Duration>,
    welcomed: bool,
    /// The hub was told of units before the engine had read the inventory.
    owes_units: bool,
    /// Requests for the removal of everything that wait for its end.
    removing: VecDeque<Removing>,
    /// Errands under way, with the requests that wait for them.
    errands: FuturesUnordered<BoxFuture<'static, Answered>>,
    answering: Answering,
}

/// Runs a stream until `stop`, or until it breaks. `welcomed` is set once the hub took the agent in.
pub(super) async fn run(
    shared: &Arc<Shared>,
    channel: Channel,
    welcomed: &mut bool,
    stop: &CancellationToken,
) -> Result<(), StreamError> {
    let mut session = Session::new(shared.info(), shared.desired());
    if let Some(why) = shared.removal().closes() {
        session.close(why);
    }
    let mut stream = Stream {
        shared,
        session: Arc::new(Mutex::new(session)),
        reporter: Reporter::default(),
        opened: Instant::now(),
        heartbeat: watch::Sender::new(Duration::from_secs(15)),
        welcomed: false,
        owes_units: false,
        removing: VecDeque::new(),
        errands: FuturesUnordered::new(),
        answering: Answering::new(shared.engine.clone()),
    };
    let result = stream.run(channel, stop).await;
    *welcomed = stream.welcomed;
    result
}

impl Stream<'_> {
    fn session(&self) -> MutexGuard<'_, Session> {
        lock(&self.session)
    }

    async fn run(&mut self, channel: Channel, stop: &CancellationToken) -> Result<(), StreamError> {
        let mut client = FleetClient::new(channel)
            .send_compressed(CompressionEncoding::Gzip)
            .accept_compressed(CompressionEncoding::Gzip)
            // A little more than what either side fills a message with.
            .max_decoding_message_size(2 * MAX_MESSAGE)
            .max_encoding_message_size(4 * MAX_MESSAGE);
        let (outbox, inbox) = mpsc::channel::<v1::AgentMessage>(OUTBOX);
        let outgoing = Outgoing(inbox);
        // The hub answers when it has read the Hello.
        if let Some(hello) = self.session().next() {
            outbox.try_send(hello).map_err(|_| StreamError::Ended)?;
        }
        let call = tokio::time::timeout(CALL, client.sync(outgoing));
        let response = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            response = call => response.map_err(|_| StreamError::Silent(CALL))?,
        };
        let inbound = response.map_err(|status| StreamError::of(&status))?.into_inner();
        let beats = send_heartbeats(outbox.clone(), self.heartbeat.subscribe(), self.shared.clock.clone());
        tokio::select! {
            result = self.speak(inbound, outbox, stop) => result,
            never = beats => match never {},
        }
    }

    /// Speaks with the hub. It may wait for the disk; heartbeats go on beside it.
    async fn speak(
        &mut self,
        mut inbound: Streaming<v1::HubMessage>,
        outbox: mpsc::Sender<v1::AgentMessage>,
        stop: &CancellationToken,
    ) -> Result<(), StreamError> {
        let mut versions = self.shared.engine.versions();
        let mut problems = self.shared.problems.versions();
        let mut losses = self.shared.disk.bodies.losses();
        let mut held = self.shared.held.subscribe();
        let mut looked = self.shared.engine.looked();
        versions.mark_changed();
        let mut report_at: Option<Instant> = None;
        let mut reported: Option<Instant> = None;
        let mut heard = Instant::now();
        let mut minute = tokio::time::interval(MINUTE);
        minute.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let waiting = self.session().waiting();
            let due = report_at.filter(|_| self.welcomed && waiting < BUSY);
            let heartbeat = *self.heartbeat.borrow();
            let silence = heartbeat * MISSED_HEARTBEATS;
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                message = inbound.message() => match message {
                    Ok(Some(message)) => {
                        for effect in self.receive(message).await? {
                            self.perform(effect).await;
                        }
                        // A removal of nothing is answered too.
                        if self.session().has_taken() || !self.removing.is_empty() {
                            report_at.get_or_insert_with(|| next_report(reported));
                        }
                        // While the disk was waited for nobody listened.
                        heard = Instant::now();
                    }
                    Ok(None) => return Err(StreamError::Ended),
                    Err(status) => return Err(StreamError::of(&status)),
                },
                permit = outbox.reserve(), if waiting > 0 => {
                    let Ok(permit) = permit else { return Err(StreamError::Ended) };
                    if let Some(message) = self.session().next() {
                        permit.send(message);
                    }
                }
                () = sleep_until(due), if due.is_some() => {
                    report_at = self.report();
                    reported = Some(Instant::now());
                }
                Ok(()) = versions.changed(), if report_at.is_none() => {
                    versions.mark_unchanged();
                    report_at = Some(next_report(reported));
                }
                Ok(()) = problems.changed(), if report_at.is_none() => {
                    problems.mark_unchanged();
                    report_at = Some(next_report(reported));
                }
                Ok(()) = looked.changed(), if self.owes_units => self.tell_units(),
                Ok(()) = losses.changed() => {
                    losses.mark_unchanged();
                    self.repair().await;
                    heard = Instant::now();
                }
                Ok(()) = held.changed() => {
                    if !*held.borrow_and_update() {
                        self.session().durable();
                    }
                }
                // With a heartbeat of grace, as the next one may be on its way.
                () = tokio::time::sleep_until(heard + silence + heartbeat) => {
                    return Err(StreamError::Silent(silence));
                }
                _ = minute.tick() => self.session().minute(),
                reply = self.answering.next(), if waiting < BUSY => {
                    self.session().send(Message::Reply(reply));
                }
                Some((request, result)) = self.errands.next(), if !self.errands.is_empty() => {
                    let mut session = self.session();
                    match result {
                        Ok(Some(found)) => session.found(request, found),
                        Ok(None) => session.answer(request, Outcome::Done, ""),
                        Err(why) => session.answer(request, Outcome::Failed, why),
                    }
                }
            }
        }
    }

    /// Has the protocol's machine take a message, and does what it wants done on the disk. What else is to be done.
    async fn receive(&mut self, message: v1::HubMessage) -> Result<Vec<Effect>, ProtocolError> {
        let (shared, session) = (self.shared.clone(), self.session.clone());
        blocking(move || {
            let mut session = lock(&session);
            let effects = session.receive(message, &*shared.disk.bodies)?;
            let mut rest = Vec::new();
            for effect in effects {
                match effect {
                    Effect::Keep(digest, body) => {
                        if let Err(error) = shared.disk.bodies.put(digest, &body) {
                            let message = chain(&error);
                            shared.problems.set("room", message.clone());
                            session.give_up(message);
                            // What follows holds no longer.
                            break;
                        }
                    }
                    Effect::Heard(now) => shared.credentials.heard(now),
                    Effect::Trust(trust) => match shared.credentials.trust(&trust) {
                        Ok(()) => shared.problems.clear("trust"),
                        Err(error) => {
                            let why = format!("what the hub says of trust cannot be used: {}", chain(&error));
                            shared.problems.set("trust", why);
                        }
                    },
                    other => rest.push(other),
                }
            }
            Ok(rest)
        })
        .await
    }

    /// Asks anew for contents that the disk has lost.
    async fn repair(&mut self) {
        let (shared, session) = (self.shared.clone(), self.session.clone());
        blocking(move || lock(&session).repair(&*shared.disk.bodies)).await;
    }

    async fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::TellUnits => self.tell_units(),
            Effect::Welcomed { heartbeat_seconds } => {
                self.welcomed = true;
                self.heartbeat.send_replace(Duration::from_secs(heartbeat_seconds.clamp(1, 600).into()));
                tracing::info!("connected to the hub");
                self.shared.problems.clear(super::SUBJECT);
            }
            Effect::Save(state) => self.save(state).await,
            Effect::Repaired => {
                let bodies = self.shared.disk.bodies.clone();
                // One that cannot be written is kept in memory, and was told when it came.
                let _ = blocking(move || bodies.flush()).await;
                // Only approvals can fail.
                let _ = self.shared.engine.request(Request::Reconcile { unit: None });
            }
            Effect::Questions(wanted) => self.answering.set(wanted),
            Effect::Asked(request, asked) => self.ask(request, asked).await,
            Effect::Keep(..) | Effect::Heard(_) | Effect::Trust(_) => {
                unreachable!("Stream::receive does them")
            }
        }
    }

    /// Tells what is here. As long as the inventory is not read that is not all: the rest follows.
    fn tell_units(&mut self) {
        let has = self.shared.engine.has();
        self.owes_units = !has.is_whole;
        self.session().tell_units(&has);
    }

    async fn save(&mut self, state: Arc<DesiredState>) {
        let held = self.shared.save(state.clone()).await;
        self.session().saved(&state, held);
        self.shared.problems.clear("room");
        tracing::info!(generation = %state.generation, digest = state.digest().short(), snapshot = state.snapshot,
            "a new desired state");
    }

    async fn ask(&mut self, request: u64, asked: Asked) {
        match asked {
            Asked::Reconcile(unit) => {
                // Only approvals can fail.
                let _ = self.shared.engine.request(Request::Reconcile { unit });
                self.session().answer(request, Outcome::Done, "");
            }
            Asked::Approve(digest) => {
                let engine = self.shared.engine.clone();
                let asked = blocking(move || engine.request(Request::Approve { digest }));
                self.errands.push(Box::pin(async move {
                    (request, asked.await.map(|()| None).map_err(|error| chain(&error)))
                }));
            }
            Asked::RenewNow => {
                self.shared.credentials.renew_now();
                self.session().answer(request, Outcome::Done, "");
            }
            Asked::Errand(errand) => match self.shared.errands.ask(errand) {
                Ok(answered) => {
                    let answer = async move {
                        let stops = || Err("the agent stops; ask again".to_owned());
                        (request, answered.await.unwrap_or_else(|_| stops()).map(Some))
                    };
                    self.errands.push(Box::pin(answer));
                }
                Err(busy) => self.session().answer(request, Outcome::Failed, busy),
            },
            Asked::RemoveAll => {
                let events = self.shared.engine.events(u64::MAX).next;
                if let Err(message) = self.shared.remove_all().await {
                    return self.session().answer(request, Outcome::Failed, message);
                }
                self.session().close(REMOVED);
                self.removing.push_back(Removing::new(request, events, Instant::now()));
            }
        }
    }

    /// Tells what is new; gives the time at which to look again, if there is one.
    fn report(&mut self) -> Option<Instant> {
        let engine = &self.shared.engine;
        let changes = engine.changes(self.reporter.version);
        let early = Instant::now() < self.opened + FIRST_REPORT;
        let desired = self.shared.desired();
        if self.reporter.version == 0 && changes.version == 0 && desired.is_some() && early {
            return Some(Instant::now() + REPORT_EVERY);
        }
        let from = self.shared.events_told();
        let events = engine.events(from);
        self.shared.set_events_told(events.next);
        for message in self.reporter.tell(desired.as_deref(), changes, events, self.shared.problems.all()) {
            self.session().send(message);
        }
        if self.removing.is_empty() {
            return None;
        }
        let (left, now) = (engine.left(), Instant::now());
        while let Some(removing) = self.removing.front_mut()
            && let Some(over) = removing.over(left.as_deref(), now)
        {
            let (outcome, message) = match over {
                Ok(()) => (Outcome::Done, removal::stays(&engine.events(removing.events))),
                Err(why) => (Outcome::Failed, why),
            };
            let request = removing.request;
            self.removing.pop_front();
            self.session().answer(request, outcome, message);
        }
        (!self.removing.is_empty()).then(|| now + Duration::from_secs(1))
    }
}

/// Sends heartbeats for as long as it is polled: beside the protocol, which a disk may hold up.
async fn send_heartbeats(
    outbox: mpsc::Sender<v1::AgentMessage>,
    mut interval: watch::Receiver<Duration>,
    clock: Clock,
) -> Infallible {
    loop {
        let pause = *interval.borrow_and_update();
        tokio::select! {
            Ok(()) = interval.changed() => continue,
            () = tokio::time::sleep(pause) => {}
        }
        let now = clock.now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs();
        let beat = v1::Heartbeat { now: i64::try_from(now).unwrap_or_default() };
        let message = v1::AgentMessage { message: Some(Message::Heartbeat(beat)) };
        if outbox.send(message).await.is_err() {
            // The stream ends, and says why.
            std::future::pending::<()>().await;
        }
    }
}

fn next_report(last: Option<Instant>) -> Instant {
    last.map_or_else(Instant::now, |last| (last + REPORT_EVERY).max(Instant::now()))
}

pub(super) async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
#[path = "stream_tests.rs"]
mod tests;
