//! The engine's handle: what goes in and what comes out, conflated and bounded.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use flotilla_core::desired::Removal;
use flotilla_core::report::UnitReport;
use flotilla_core::unit::Render;
use flotilla_core::{DesiredState, Digest, ObjectId, UnitId};
use flotilla_runtime::{Backoff, chain, lock};
use tokio::sync::{Notify, Semaphore, watch};
use tokio_util::sync::CancellationToken;

use super::adoption_record::{RecordError, relinquished};
use super::api::{Bodies, Memory, MemoryError, Options, Request};
use super::coordinator::Coordinator;
use super::followed::Followed;
use super::key_services::KeyServices;
use super::persist::Persist;
use super::reasons::Reasons;
use super::shared::{Changes, EngineError, Events, Run, Shared};
use super::tools::Tools;
use crate::cluster::Cluster;
use crate::cluster::inventory::InventoryWriter;
use crate::cluster::owners::Owners;
use crate::cluster::request::Failure;

const REQUESTS: usize = 1_000;
/// Objects at work beyond the requests under way, so that one is ready when a request ends.
const SEATS_BEYOND: usize = 8;

/// A handle on the engine; cheap to clone.
#[derive(Clone)]
pub struct Engine {
    pub(super) shared: Arc<Shared>,
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
                persist: Arc::new(Persist::new(memory)),
                options,
                input: Mutex::default(),
                wake: Arc::new(Notify::new()),
                tools: watch::Sender::default(),
                looked: watch::Sender::default(),
                away: watch::Sender::default(),
                released: watch::Sender::default(),
                approvals: Mutex::default(),
                followed: Followed::default(),
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
            tools.inventory.view(|inventory| {
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
    /// returns, so that one blocks for a write.
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

    /// The latest report of every unit of which there is anything; `None` while nobody knows, as the inventory was not read,
    /// or not in full.
    pub fn left(&self) -> Option<Vec<UnitReport>> {
        let is_known = self.shared.tools.borrow().as_ref().is_some_and(|it| it.inventory.damage().is_none());
        is_known.then(|| self.changes(0).reports)
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
        runs.iter().flat_map(|run| run.manifest.bodies().map(|body| body.digest)).collect()
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
            Ok((inventory, relinquished)) => {
                lock(&shared.input).relinquished = Some(Arc::new(relinquished));
                return Tools {
                    cluster,
                    inventory,
                    members: Arc::default(),
                    values: Arc::default(),
                    owners: Owners::default(),
                    bodies: shared.bodies.clone(),
                    reads: Semaphore::new(1),
                    reasons: Reasons::default(),
                    key_services: KeyServices::new(shared.options.key_services.clone()),
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
async fn read(cluster: &Cluster) -> Result<(InventoryWriter, HashSet<ObjectId>), Unread> {
    cluster.discover(true).await?;
    let inventory = InventoryWriter::load(cluster).await?;
    Ok((inventory, relinquished(cluster).await?))
}
