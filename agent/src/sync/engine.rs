//! The engine's handle: what goes in and what comes out, conflated and bounded.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use flotilla_core::desired::Removal;
use flotilla_core::guard::Approvals;
use flotilla_core::plan::Standing;
use flotilla_core::report::{Event, Phase, UnitReport};
use flotilla_core::unit::Render;
use flotilla_core::{DesiredState, Digest, ObjectId, UnitId, UnitManifest};
use flotilla_runtime::Backoff;
use tokio::sync::{Notify, Semaphore, watch};
use tokio_util::sync::CancellationToken;

use super::adopt::record::{RecordError, left};
use super::api::{Bodies, Memory, MemoryError, Options, Request};
use super::apply::Tools;
use super::coordinator::{Coordinator, now};
use super::memory;
use super::reasons::Reasons;
use crate::cluster::Cluster;
use crate::cluster::inventory::Book;
use crate::cluster::owners::Owners;
use crate::cluster::request::{Failure, chain};

const EVENTS: usize = 500;
const REQUESTS: usize = 1_000;
/// Objects at work beyond the requests under way, so that one is ready when a request ends.
const SEATS_BEYOND: usize = 8;

/// A handle on the engine; cheap to clone.
#[derive(Clone)]
pub struct Engine {
    pub(super) shared: Arc<Shared>,
}

/// Why the engine stopped though nobody told it to.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    #[error("the engine runs already")]
    Twice,
    #[error("a task of the engine panicked")]
    Panic(#[source] tokio::task::JoinError),
}

/// The reports that changed since a version, and the version that they lead to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changes {
    pub reports: Vec<UnitReport>,
    /// Units that are gone, desired state and inventory alike.
    pub gone: Vec<UnitId>,
    pub version: u64,
}

/// What the agent has of units, apart from the desired state.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Has {
    pub units: BTreeMap<UnitId, HasUnit>,
    /// The inventory was read: of other units there is nothing.
    pub is_whole: bool,
}

/// A unit that runs, or of which something is listed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HasUnit {
    pub parent: Option<UnitId>,
    /// As its last definition says; none if only the inventory knows of it.
    pub removal: Option<Removal>,
    pub render: Option<Render>,
}

/// What a unit runs.
#[derive(Clone)]
pub(super) struct Run {
    manifest: Arc<UnitManifest>,
    suspended: bool,
}

/// The events after a number. `missed` counts those that fell out of the ring before they were fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Events {
    pub events: Vec<Event>,
    /// Pass this the next time.
    pub next: u64,
    pub missed: u64,
}

pub(super) struct Shared {
    pub(super) client: kube::Client,
    pub(super) bodies: Arc<dyn Bodies>,
    pub(super) memory: Arc<dyn Memory>,
    pub(super) options: Options,
    pub(super) input: Mutex<Input>,
    /// Woken by whatever may change a plan; carries nothing.
    pub(super) wake: Arc<Notify>,
    /// What the engine works with, once it has looked at the cluster.
    pub(super) tools: watch::Sender<Option<Arc<Tools>>>,
    looked: watch::Sender<bool>,
    /// Why nothing can be done, while the API server is away.
    pub(super) away: watch::Sender<Option<String>>,
    /// Changes when nothing is under way any more for objects that are to be left alone.
    pub(super) released: watch::Sender<()>,
    pub(super) approvals: Mutex<Approvals>,
    output: Mutex<Output>,
    version: watch::Sender<u64>,
}

/// What was asked for and not yet looked at.
#[derive(Default)]
pub(super) struct Input {
    pub(super) running: bool,
    pub(super) desired: Option<Arc<DesiredState>>,
    pub(super) requests: VecDeque<Request>,
    /// Objects that were given back to others.
    pub(super) left: Option<Arc<HashSet<ObjectId>>>,
}

#[derive(Default)]
struct Output {
    version: u64,
    /// The latest report of each unit, or that it is gone, with the version at which it came.
    reports: BTreeMap<UnitId, (u64, Option<UnitReport>)>,
    events: VecDeque<Event>,
    /// The number of the first event in the ring.
    first_event: u64,
    /// What each unit runs.
    runs: BTreeMap<UnitId, Run>,
}

impl Engine {
    /// An engine for the cluster behind `client` that starts with [`Engine::run`].
    pub fn new(
        client: kube::Client,
        bodies: Arc<dyn Bodies>,
        memory: Arc<dyn Memory>,
        options: Options,
    ) -> Self {
        Self {
            shared: Arc::new(Shared {
                client,
                bodies,
                memory,
                options,
                input: Mutex::default(),
                wake: Arc::new(Notify::new()),
                tools: watch::Sender::default(),
                looked: watch::Sender::default(),
                away: watch::Sender::default(),
                released: watch::Sender::default(),
                approvals: Mutex::default(),
                output: Mutex::default(),
                version: watch::channel(0).0,
            }),
        }
    }

    /// Replaces what the cluster should run. All bodies that it names must be in [`Bodies`] by now.
    pub fn set_desired(&self, desired: Arc<DesiredState>) {
        lock(&self.shared.input).desired = Some(desired);
        self.shared.wake.notify_one();
    }

    /// The units of which there is anything here: they run, or the inventory lists them.
    pub fn has(&self) -> Has {
        let runs = lock(&self.shared.output).runs.clone();
        let mut units: BTreeMap<UnitId, HasUnit> = runs
            .into_iter()
            .map(|(id, Run { manifest, suspended })| {
                let spec = &manifest.spec;
                let removal = Some(Removal { suspended, ..Removal::of(spec) });
                (id, HasUnit { parent: spec.parent.clone(), removal, render: spec.render })
            })
            .collect();
        let tools = self.shared.tools.borrow().clone();
        if let Some(tools) = &tools {
            tools.book.view(|inventory| {
                for (id, listed) in inventory.units.iter().filter(|(_, listed)| !listed.members.is_empty()) {
                    let unit = units.entry(id.clone()).or_default();
                    unit.parent = listed.links.parent.clone().or(unit.parent.take());
                }
            });
        }
        Has { units, is_whole: tools.is_some() }
    }

    /// Changes when the engine has read the inventory, so that [`Engine::has`] is whole.
    pub fn looked(&self) -> watch::Receiver<bool> {
        self.shared.looked.subscribe()
    }

    /// Why nothing can be done, while the API server is away.
    pub fn away(&self) -> watch::Receiver<Option<String>> {
        self.shared.away.subscribe()
    }

    /// Asks for something; a request that is waiting already is not queued twice. An approval is remembered before this
    /// returns.
    ///
    /// # Errors
    /// If an approval cannot be written down. It holds until the agent ends.
    pub fn request(&self, request: Request) -> Result<(), MemoryError> {
        let stored = match &request {
            Request::Approve { digest } => self.shared.approve(*digest),
            Request::Reconcile { .. } | Request::PruneAll { .. } => Ok(()),
        };
        let mut input = lock(&self.shared.input);
        if !input.requests.contains(&request) && input.requests.len() < REQUESTS {
            input.requests.push_back(request);
        }
        drop(input);
        self.shared.wake.notify_one();
        stored
    }

    /// Changes whenever [`Engine::changes`] or [`Engine::events`] have something new.
    pub fn versions(&self) -> watch::Receiver<u64> {
        self.shared.version.subscribe()
    }

    /// The latest report of every unit that changed after `since`; 0 gives all.
    pub fn changes(&self, since: u64) -> Changes {
        let output = lock(&self.shared.output);
        let mut changes = Changes { reports: Vec::new(), gone: Vec::new(), version: output.version };
        for (unit, (version, report)) in &output.reports {
            match report {
                _ if *version <= since => {}
                Some(report) => changes.reports.push(report.clone()),
                None => changes.gone.push(unit.clone()),
            }
        }
        changes
    }

    /// Events from number `from` on; the first ever has number 0. Of more than 500 the oldest are dropped.
    pub fn events(&self, from: u64) -> Events {
        let output = lock(&self.shared.output);
        let next = output.first_event + output.events.len() as u64;
        let missed = output.first_event.saturating_sub(from);
        let skip = from.max(output.first_event) - output.first_event;
        let events =
            output.events.iter().skip(usize::try_from(skip).unwrap_or(usize::MAX)).cloned().collect();
        Events { events, next, missed }
    }

    /// Says of every unit that it waits, for as long as the engine does not run.
    pub fn pending(&self, why: &str) {
        self.shared.pending(why);
    }

    /// The bodies that are needed beside those of the desired state: what held and blocked units run.
    pub fn needed_bodies(&self) -> BTreeSet<Digest> {
        let runs: Vec<Run> = lock(&self.shared.output).runs.values().cloned().collect();
        runs.iter().flat_map(|run| run.manifest.objects.iter().map(|entry| entry.digest)).collect()
    }
}

impl Engine {
    /// Works until `stop` is cancelled. Reads the inventory first: without it nothing is done, since nobody could say
    /// what is ours. Work under way is dropped at the end; the next start takes the everyday path.
    ///
    /// # Errors
    /// [`EngineError`] only for faults of our own. An API server that is away is waited for.
    pub async fn run(self, stop: CancellationToken) -> Result<(), EngineError> {
        if std::mem::replace(&mut lock(&self.shared.input).running, true) {
            return Err(EngineError::Twice);
        }
        let shared = self.shared;
        let result = match stop.run_until_cancelled(start(&shared)).await {
            Some(tools) => {
                let tools = Arc::new(tools);
                shared.tools.send_replace(Some(tools.clone()));
                shared.looked.send_replace(true);
                Coordinator::run(shared.clone(), tools, stop).await
            }
            None => Ok(()),
        };
        shared.tools.send_replace(None);
        lock(&shared.input).running = false;
        result
    }
}

/// Waits for the API server, reads what it serves and the inventory.
async fn start(shared: &Shared) -> Tools {
    let cluster = Cluster::new(shared.client.clone(), shared.options.in_flight);
    let mut backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(15));
    loop {
        match read(&cluster).await {
            Ok((book, left)) => {
                lock(&shared.input).left = Some(Arc::new(left));
                return Tools {
                    cluster,
                    book,
                    members: Arc::default(),
                    values: Arc::default(),
                    owners: Owners::default(),
                    bodies: shared.bodies.clone(),
                    reasons: Reasons::default(),
                    seats: Semaphore::new(shared.options.in_flight + SEATS_BEYOND),
                };
            }
            Err(error) => {
                let message = format!("cannot read the inventory: {}", chain(&error));
                tracing::warn!(message);
                shared.pending(&message);
                backoff.wait().await;
            }
        }
    }
}

/// Why the engine cannot know what is ours.
#[derive(Debug, thiserror::Error)]
enum Unread {
    #[error(transparent)]
    Failure(#[from] Failure),
    #[error(transparent)]
    Record(#[from] RecordError),
}

/// What is ours, and what is no longer.
async fn read(cluster: &Cluster) -> Result<(Book, HashSet<ObjectId>), Unread> {
    cluster.discover(true).await?;
    let book = Book::load(cluster).await?;
    Ok((book, left(cluster).await?))
}

impl Shared {
    fn approve(&self, digest: Digest) -> Result<(), MemoryError> {
        let mut approvals = lock(&self.approvals);
        approvals.give(digest, None);
        let text = memory::write_approval(approvals.subject(digest));
        self.memory.store(&memory::approval_key(digest), text)
    }

    /// Says of every unit that it waits, before anything can be done about any.
    fn pending(&self, why: &str) {
        let desired = lock(&self.input).desired.clone();
        let Some(desired) = desired else { return };
        for id in desired.units().keys() {
            let mut report = UnitReport::new(id.clone(), Phase::Pending, why, now());
            report.desired = desired.present(id).map(|unit| unit.digest());
            self.publish(id, Some(report));
        }
    }

    /// Publishes a unit's report if it says something new; `since` is kept while the phase is the same.
    pub(super) fn publish(&self, unit: &UnitId, report: Option<UnitReport>) {
        let mut output = lock(&self.output);
        let mut report = report;
        match (output.reports.get(unit), &mut report) {
            (Some((_, Some(old))), Some(new)) => {
                if old.phase == new.phase {
                    new.since = old.since;
                }
                if old == new {
                    return;
                }
            }
            // A unit of which nothing was there to begin with is told to be gone too.
            (Some((_, None)), None) => return,
            _ => {}
        }
        output.version += 1;
        let version = output.version;
        output.reports.insert(unit.clone(), (version, report));
        drop(output);
        self.version.send_modify(|seen| *seen += 1);
    }

    pub(super) fn event(&self, event: Event) {
        let mut output = lock(&self.output);
        if output.events.len() == EVENTS {
            output.events.pop_front();
            output.first_event += 1;
        }
        output.events.push_back(event);
        drop(output);
        self.version.send_modify(|seen| *seen += 1);
    }

    /// Takes note of what a unit runs; none if it is gone.
    pub(super) fn runs(&self, unit: &UnitId, standing: Option<&Standing>) {
        let mut output = lock(&self.output);
        match standing.and_then(|standing| Some((standing.last.clone()?, standing.suspended))) {
            Some((manifest, suspended)) => output.runs.insert(unit.clone(), Run { manifest, suspended }),
            None => output.runs.remove(unit),
        };
    }
}

/// No invariant spans two statements of ours under a lock, so a panic elsewhere leaves nothing half done.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
