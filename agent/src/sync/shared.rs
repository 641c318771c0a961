//! What the engine's handle and its loop share: what was asked for, and what came of it. Conflated and bounded.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use flotilla_core::guard::Approvals;
use flotilla_core::plan::UnitMemory;
use flotilla_core::report::{Event, Phase, Timestamp, UnitReport};
use flotilla_core::{DesiredState, Digest, ObjectId, UnitId, UnitManifest};
use flotilla_runtime::lock;
use tokio::sync::{Notify, watch};

use super::api::{Bodies, MemoryError, Options, Request};
use super::followed::Followed;
use super::memory;
use super::persist::Persist;
use super::tools::Tools;

const EVENTS: usize = 500;

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

/// What a unit runs.
#[derive(Clone)]
pub(super) struct Run {
    pub(super) manifest: Arc<UnitManifest>,
    pub(super) suspended: bool,
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
    pub(super) persist: Arc<Persist>,
    pub(super) options: Options,
    pub(super) input: Mutex<Input>,
    /// Woken by whatever may change a plan; carries nothing.
    pub(super) wake: Arc<Notify>,
    /// What the engine works with, once it has looked at the cluster.
    pub(super) tools: watch::Sender<Option<Arc<Tools>>>,
    pub(super) looked: watch::Sender<bool>,
    /// Why nothing can be done, while the API server is away.
    pub(super) away: watch::Sender<Option<String>>,
    /// Changes when nothing is under way any more for objects that are to be left alone.
    pub(super) released: watch::Sender<()>,
    pub(super) approvals: Mutex<Approvals>,
    /// What is watched for whoever asked about it.
    pub(super) followed: Followed,
    pub(super) output: Mutex<Output>,
    pub(super) version: watch::Sender<u64>,
}

/// What was asked for and not yet looked at.
#[derive(Default)]
pub(super) struct Input {
    pub(super) running: bool,
    pub(super) desired: Option<Arc<DesiredState>>,
    pub(super) requests: VecDeque<Request>,
    /// Objects that were given back to others.
    pub(super) relinquished: Option<Arc<HashSet<ObjectId>>>,
}

#[derive(Default)]
pub(super) struct Output {
    pub(super) version: u64,
    /// The latest report of each unit, or that it is gone, with the version at which it came.
    pub(super) reports: BTreeMap<UnitId, (u64, Option<UnitReport>)>,
    pub(super) events: VecDeque<Event>,
    /// The number of the first event in the ring.
    pub(super) first_event: u64,
    /// What each unit runs.
    pub(super) runs: BTreeMap<UnitId, Run>,
}

impl Shared {
    pub(super) fn approve(&self, digest: Digest) -> Result<(), MemoryError> {
        lock(&self.approvals).give(digest, None);
        // Not while the approvals are locked: the engine asks for them, and must not wait for a disk.
        let text = || memory::write_approval(lock(&self.approvals).subject(digest));
        self.persist.put_now(&memory::approval_key(digest), text)
    }

    /// Says of every unit that it waits, before anything can be done about any.
    pub(super) fn pending(&self, why: &str) {
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
    pub(super) fn runs(&self, unit: &UnitId, unit_memory: Option<&UnitMemory>) {
        let mut output = lock(&self.output);
        match unit_memory.and_then(|unit_memory| Some((unit_memory.last.clone()?, unit_memory.suspended))) {
            Some((manifest, suspended)) => output.runs.insert(unit.clone(), Run { manifest, suspended }),
            None => output.runs.remove(unit),
        };
    }
}

/// Seconds since 1970; a clock before that counts as 1970.
pub(super) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
