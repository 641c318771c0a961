//! Adoption: taking over what Flux, Helm or kubectl run in a cluster, and giving it back. Nothing that runs is deleted.
//!
//! ```text
//!   plan    look at Flux's objects and at each of ours, dry runs               nothing is written
//!   apply   record ─► suspend Flux ─► the engine takes over as it always does ─► set releases apart, remove Flux's objects
//!   undo    leave alone ─► Flux's objects back, suspended ─► labels and fields given back ─► Flux resumes
//! ```
//!
//! Each step can be done again, and how far it is stands in the cluster ([`super::adoption_record`]): whoever was cut short asks again, for
//! the same or for the way back.

mod flux;
mod helm;
pub(in crate::sync) mod look;
mod plan;
mod undo;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use flotilla_core::adopt::Origin;
use flotilla_core::answer::{AdoptAction, Adoption, Effect, Foreseen};
use flotilla_core::report::UnitReport;
use flotilla_core::{DesiredState, Digest, ObjectId, ObjectRef, UnitId};
use flotilla_runtime::{lock, poll};
use futures::StreamExt;
use tokio::time::Instant;

use super::adoption_record::{self as record, Key, Line, RecordError, Stage};
use super::api::Request;
use super::engine::Engine;
use super::tools::Tools;
use crate::cluster::members::Presence;
use crate::cluster::request::Failure;
use plan::Planned;

const AT_ONCE: usize = 16;
/// Objects are awaited so long to be taken over; after that it is told which are not.
const TAKE_OVER: Duration = Duration::from_secs(240);
/// Units that wait after a failure are asked again this often.
const ASK_AGAIN: Duration = Duration::from_secs(5);
/// Work of the engine that was under way is awaited so long: longer than a request takes.
const RELEASE: Duration = Duration::from_secs(180);

/// Why an adoption did not do what it should.
#[derive(Debug, thiserror::Error)]
pub enum AdoptError {
    #[error("the agent has not read its cluster yet, or has no desired state; try again in a moment")]
    NotYet,
    #[error(transparent)]
    Failure(#[from] Failure),
    #[error(transparent)]
    Record(#[from] RecordError),
    #[error("the plan has changed, and nothing was done: review it again")]
    OtherPlan,
    #[error("nothing was adopted from {0}")]
    Nothing(Origin),
    #[error("an undo was started and is not complete: undo again first, then adopt")]
    Undoing,
    #[error("{0} cannot be restored; is Flux's CRD still there? `flux install` installs it, then undo again")]
    BringBack(ObjectId, #[source] Failure),
    #[error("{0}")]
    Object(ObjectId, #[source] Failure),
    #[error("{0} is not given back to Flux: {1}")]
    Stays(ObjectId, String),
    #[error("the engine is still at work on an object that is to be given back; try again in a moment")]
    AtWork,
}

/// An object that is not taken over yet, its unit, and what that says.
type Waiting = (ObjectId, UnitId, String);

/// What one adoption works with.
struct Job<'a> {
    engine: &'a Engine,
    tools: Arc<Tools>,
    desired: Arc<DesiredState>,
    origin: Origin,
}

impl Engine {
    /// Plans an adoption, does it, or undoes it. Only one at a time; what is dropped half way is resumed by asking again.
    /// `confirmed`: the digest of the plan that is to be done, and no other.
    ///
    /// # Errors
    /// [`AdoptError`]; what was done until then stands, and can be done on or undone.
    pub async fn adopt(
        &self,
        origin: Origin,
        action: AdoptAction,
        confirmed: Option<Digest>,
    ) -> Result<Adoption, AdoptError> {
        let tools = self.shared.tools.borrow().clone();
        let desired = lock(&self.shared.input).desired.clone();
        let (tools, desired) = tools.zip(desired).ok_or(AdoptError::NotYet)?;
        tools.cluster.discover(true).await?;
        let job = Job { engine: self, tools, desired, origin };
        match action {
            AdoptAction::Plan => Ok(job.plan().await?.shown(&job, action)),
            AdoptAction::Apply => job.apply(confirmed).await,
            AdoptAction::Undo => job.undo().await,
        }
    }

    /// Has the engine leave these objects alone, and waits until nothing is under way for them.
    async fn relinquish(&self, relinquished: HashSet<ObjectId>) -> Result<(), AdoptError> {
        let mut released = self.shared.released.subscribe();
        released.mark_unchanged();
        lock(&self.shared.input).relinquished = Some(Arc::new(relinquished));
        self.shared.wake.notify_one();
        match tokio::time::timeout(RELEASE, released.changed()).await {
            Ok(Ok(())) => Ok(()),
            _ => Err(AdoptError::AtWork),
        }
    }

    fn reconcile(&self) {
        // Only approvals can fail.
        let _ = self.request(Request::Reconcile { unit: None });
    }
}

impl Job<'_> {
    async fn apply(&self, confirmed: Option<Digest>) -> Result<Adoption, AdoptError> {
        let cluster = &self.tools.cluster;
        let mut planned = self.plan().await?;
        let mut adoption = planned.shown(self, AdoptAction::Apply);
        match planned.record.stage {
            Some(Stage::Undoing) => return Err(AdoptError::Undoing),
            _ if confirmed.is_some() && confirmed != adoption.plan => {
                return Err(AdoptError::OtherPlan);
            }
            // Parts without a stage are of a beginning that was cut short before anything was changed.
            Some(Stage::Undone) | None => planned.record.begin_anew(),
            Some(Stage::Adopting | Stage::Adopted) => {}
        }
        let mut lines = planned.record.lines(cluster).await?;
        let new = self.new_lines(&planned, &lines).await?;
        if new.is_empty() && planned.record.stage.is_none() {
            return Ok(adoption);
        }
        planned.record.add(cluster, &new).await?;
        planned.record.set(cluster, Stage::Adopting).await?;
        lines.extend(new);
        at_once(planned.flux.takes.keys().map(|id| (id, flux::suspend(cluster, id)))).await?;
        self.engine.relinquish(record::relinquished(cluster).await?).await?;

        let waiting = self.await_taken(&planned, &lines).await;
        let stays = self.remove(&planned, &lines, &waiting).await?;
        for owner in &mut adoption.owners {
            owner.state = match stays.get(&owner.object) {
                Some(why) => why.clone(),
                None if self.origin == Origin::Helm => "kept apart".to_owned(),
                None => "removed".to_owned(),
            };
        }
        adoption.complete = waiting.is_empty() && stays.is_empty();
        adoption.counts.waiting = u32::try_from(waiting.len()).unwrap_or(u32::MAX);
        let waiting = waiting.into_iter().map(|(object, unit, why)| Foreseen {
            object: object.to_string(),
            unit: unit.to_string(),
            effect: Effect::Waiting,
            why,
            fields: Vec::new(),
        });
        adoption.objects.splice(0..0, waiting);
        if adoption.complete {
            planned.record.set(cluster, Stage::Adopted).await?;
        }
        adoption.stage = planned.record.stage.map_or("", Stage::as_str).to_owned();
        adoption.next = planned.next(self, &adoption, true);
        Ok(adoption)
    }

    /// What has to be written down of the plan and is not yet.
    async fn new_lines(&self, planned: &Planned, known: &[Line]) -> Result<Vec<Line>, AdoptError> {
        let mut objects = BTreeSet::new();
        let mut owners = BTreeSet::new();
        let mut secrets = BTreeSet::new();
        for line in known {
            match line {
                Line::Object { object, .. } => _ = objects.insert(ObjectRef::from(object.clone()).id),
                Line::Flux(body) => _ = ObjectRef::of(body).map(|object| owners.insert(object.id)),
                Line::Release { namespace, name } => _ = secrets.insert((namespace.clone(), name.clone())),
            }
        }
        let mut lines = Vec::new();
        for (item, looked) in planned.taken().filter(|(item, _)| !objects.contains(&item.object.id)) {
            lines.push(Line::Object {
                object: Key::from(&item.object),
                unit: item.unit.clone(),
                uid: looked.uid.clone(),
                previous: looked.previous.clone(),
            });
        }
        for id in planned.owners().filter(|id| !owners.contains(id)) {
            if let Some(body) = flux::fetch(&self.tools.cluster, id).await? {
                lines.push(Line::Flux(body));
            }
        }
        for ((namespace, _), release) in &planned.releases {
            let named = release.secrets.iter().map(|name| (namespace.clone(), name.clone()));
            let new = named.filter(|secret| !secrets.contains(secret));
            lines.extend(new.map(|(namespace, name)| Line::Release { namespace, name }));
        }
        Ok(lines)
    }

    /// Waits for the engine to take over what was written down; what is not, with its unit and why.
    async fn await_taken(&self, planned: &Planned, lines: &[Line]) -> Vec<Waiting> {
        let merges: HashSet<&ObjectId> =
            planned.all().filter(|(_, looked)| looked.merges).map(|(item, _)| &item.object.id).collect();
        let wanted: HashMap<&ObjectId, &look::Item> =
            planned.items.iter().filter(|item| !item.suspended).map(|item| (&item.object.id, item)).collect();
        let is_taken = |id: &ObjectId| match self.tools.members.get(id) {
            Presence::There(seen) => seen.entry.is_some() && (!seen.folded || merges.contains(id)),
            Presence::Absent | Presence::Unknown => false,
        };
        let waiting = || -> Vec<(ObjectId, UnitId)> {
            let objects = lines.iter().filter_map(|line| match line {
                // What was not there is no part of what is taken over.
                Line::Object { object, unit, uid, .. } if !uid.is_empty() => {
                    Some((ObjectRef::from(object.clone()).id, unit.clone()))
                }
                _ => None,
            });
            let desired = lock(&self.engine.shared.input).desired.clone();
            let is_desired = |unit: &UnitId| desired.as_ref().is_some_and(|all| all.present(unit).is_some());
            objects
                .filter(|(id, unit)| wanted.contains_key(id) && is_desired(unit) && !is_taken(id))
                .collect()
        };
        self.tools.owners.forget();
        self.engine.reconcile();
        let mut asked = Instant::now();
        let done = || {
            let done = waiting().is_empty();
            if !done && asked.elapsed() > ASK_AGAIN {
                asked = Instant::now();
                self.tools.owners.forget();
                self.engine.reconcile();
            }
            std::future::ready(done)
        };
        poll(TAKE_OVER, done).await;
        let reports: BTreeMap<UnitId, UnitReport> =
            self.engine.changes(0).reports.into_iter().map(|report| (report.unit.clone(), report)).collect();
        let why = |unit: &UnitId| {
            reports
                .get(unit)
                .map_or_else(String::new, |report| format!("{}: {}", report.phase, report.message))
        };
        waiting().into_iter().map(|(id, unit)| (id, unit.clone(), why(&unit))).collect()
    }

    /// Takes the former owners away, where all that they had is taken over. Those that stay, as they are shown, and why.
    async fn remove(
        &self,
        planned: &Planned,
        lines: &[Line],
        waiting: &[Waiting],
    ) -> Result<BTreeMap<String, String>, AdoptError> {
        let cluster = &self.tools.cluster;
        let mut stays = BTreeMap::new();
        if waiting.is_empty() {
            for line in lines {
                if let Line::Release { namespace, name } = line {
                    helm::set_apart(cluster, namespace, name, true).await?;
                }
            }
        } else {
            let releases = planned.shown_releases().map(|release| (release, "runs".to_owned()));
            stays.extend(releases);
        }
        // Whoever has a release goes after that was set apart.
        let waits = |id: &ObjectId, unit: &UnitId| {
            waiting.iter().any(|(_, of, _)| of == unit) || (id.kind == "HelmRelease" && !waiting.is_empty())
        };
        let (wait, go): (Vec<_>, Vec<_>) = planned.flux.takes.iter().partition(|(id, unit)| waits(id, unit));
        stays.extend(wait.into_iter().map(|(id, _)| (id.to_string(), "suspended".to_owned())));
        let mut removed = at_once(go.into_iter().map(|(id, _)| (id, flux::remove(cluster, id)))).await?;
        if waiting.is_empty() && removed.iter().all(|(_, why)| why.is_none()) {
            let sources = planned.flux.sources.iter();
            removed.extend(at_once(sources.map(|id| (id, flux::remove(cluster, id)))).await?);
        } else {
            stays.extend(planned.flux.sources.iter().map(|id| (id.to_string(), "runs".to_owned())));
        }
        stays.extend(removed.into_iter().filter_map(|(id, why)| Some((id.to_string(), why?))));
        Ok(stays)
    }
}

/// Does the same with objects, some at once; what came of each, or the first failure after all of them.
async fn at_once<'a, T>(
    jobs: impl Iterator<Item = (&'a ObjectId, impl Future<Output = Result<T, Failure>>)>,
) -> Result<Vec<(&'a ObjectId, T)>, AdoptError> {
    let jobs: Vec<_> = jobs
        .map(|(id, job)| async move {
            let done = job.await.map_err(|failure| AdoptError::Object(id.clone(), failure));
            done.map(|done| (id, done))
        })
        .collect();
    let done: Vec<_> = futures::stream::iter(jobs).buffer_unordered(AT_ONCE).collect().await;
    done.into_iter().collect()
}
