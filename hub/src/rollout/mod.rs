//! Promotion at the hub: keeps the engine's state in the store, gives it the fleet as it is, and answers from which snapshot each
//! cluster's units are taken.
//!
//! ```text
//!   fleet loop: definitions, clusters, renders ─┐
//!   agents: sessions, reports ──────────────────┼─► World ─► step ─► written to the store ─► choices ─► fleet loop publishes
//!   people: requests ───────────────────────────┤                └─► events, reasons, stages: what people see
//!   checks of gates, made beside (`checks`) ────┘                └─► refs of the fleet repo, beside (`refs`)
//! ```
//!
//! A step is written before anything of it is published; one that could not be written never was: the state is read again. What is
//! not known of a pipeline freezes what it promotes: it is never the newest.

pub mod checks;
mod choose;
mod definitions;
mod probe;
pub mod refs;
mod report;
mod show;
mod wanted;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use flotilla_core::{ClusterName, Digest, UnitEntry, UnitId};
use flotilla_rollout::{
    self as engine, CandidateId, Commit, Link, Measure, Measurement, Pipeline, Projection, Published,
    Request, State, Step, World,
};
use flotilla_runtime::lock;
use tokio::sync::watch;

use crate::desired::choice::Choice;
use crate::fleet::Ledger;
use crate::journal::Inbox;
use crate::session::{ClusterView, Sessions};
use crate::store::{AuditRecord, Snapshot, StoreError};
pub use definitions::{Definitions, Member, Unread};
use report::{Heard, Told, hear};
pub use show::{ClusterRollout, PipelineView, Reason};
pub use wanted::{Answer, Wanted};

/// What agents tell.
pub trait Agents: Send + Sync {
    fn view(&self, cluster: &ClusterName) -> Option<Arc<ClusterView>>;
}

impl Agents for Sessions {
    fn view(&self, cluster: &ClusterName) -> Option<Arc<ClusterView>> {
        Self::view(self, cluster)
    }
}

/// Nobody tells anything.
impl Agents for () {
    fn view(&self, _: &ClusterName) -> Option<Arc<ClusterView>> {
        None
    }
}

/// Why somebody's request was not done.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    #[error("there is no pipeline '{0}'")]
    Unknown(String),
    #[error(
        "the pipeline {0} cannot be worked on: {1}; what it promotes stays as it is until that is mended"
    )]
    Frozen(String, String),
    #[error("{0}")]
    Refused(String),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the pipeline {0} is defined in the fleet repo: remove it there first")]
    Defined(String),
}

/// All pipelines, shared by the fleet loop and the API.
pub struct Rollouts {
    ledger: Arc<dyn Ledger>,
    agents: Arc<dyn Agents>,
    inbox: Arc<Inbox>,
    /// Since when the hub listens to agents: before, nobody was there.
    since: i64,
    inner: Mutex<Inner>,
    /// Ticks when choices, or what people see, changed.
    changed: watch::Sender<u64>,
    /// Ticks when something is to be measured.
    due: watch::Sender<u64>,
    /// Why the refs of stages in the fleet repo are behind.
    refs: Mutex<Option<Arc<str>>>,
}

#[derive(Default)]
struct Inner {
    /// The store was read, and what is here is what it has.
    is_loaded: bool,
    /// Every cluster of the definitions is in its stage, on disk, and has a choice: else it may be anybody's.
    is_placed: bool,
    definitions: Definitions,
    pipelines: BTreeMap<String, Kept>,
    clusters: BTreeMap<ClusterName, Known>,
    newest: Option<Commit>,
    choices: BTreeMap<ClusterName, Arc<Choice>>,
    noted: BTreeSet<Digest>,
}

/// One pipeline.
#[derive(Default)]
struct Kept {
    state: State,
    head: Option<Vec<u8>>,
    /// `None`: it is frozen.
    read: Option<Arc<Pipeline>>,
    last: Option<Step>,
    /// What is to be measured, by stage and check: the newest of each.
    due: BTreeMap<(String, String), Measure>,
    /// Answers for the next step.
    measured: Vec<Measurement>,
}

/// One cluster.
#[derive(Default)]
struct Known {
    labels: Option<Arc<BTreeMap<String, String>>>,
    is_enrolled: bool,
    /// What it was rendered to is of the newest commit.
    is_current: bool,
    /// By pipeline.
    of: BTreeMap<Arc<str>, KnownOf>,
    view: Option<Arc<ClusterView>>,
}

#[derive(Default)]
struct KnownOf {
    newest: Option<(Arc<Snapshot>, Arc<Projection>)>,
    /// What it comes to by older candidates, for the next step.
    older: Vec<(CandidateId, Arc<Snapshot>, Arc<Projection>)>,
    /// By which older candidates it could not be rendered, and why.
    lacking: BTreeMap<CandidateId, String>,
    told: Option<Told>,
    heard: Option<Heard>,
}

impl Rollouts {
    pub fn new(ledger: Arc<dyn Ledger>, agents: Arc<dyn Agents>, inbox: Arc<Inbox>, since: i64) -> Self {
        let (inner, changed, due) = (Mutex::default(), watch::Sender::new(0), watch::Sender::new(0));
        Self { ledger, agents, inbox, since, inner, changed, due, refs: Mutex::default() }
    }

    /// Ticks when a step changed something.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Takes what the fleet is now, and puts new clusters into their stages, before anything is rendered: what a stage has is
    /// never the newest by itself. Answers whether there are pipelines at all. `in_part`: not all members can be told, so that
    /// clusters which are not among them are not gone.
    ///
    /// # Errors
    /// Where the state cannot be read or written: nobody knows then what clusters may be given.
    pub fn begin(
        &self,
        definitions: Definitions,
        members: &[Member<'_>],
        in_part: bool,
        now: i64,
    ) -> Result<bool, StoreError> {
        let mut inner = lock(&self.inner);
        self.load(&mut inner)?;
        let untold = if in_part { inner.untold(members) } else { BTreeSet::new() };
        let untold = untold.iter().map(|name| Member { name, labels: None, is_enrolled: true });
        let members: Vec<Member<'_>> = members.iter().copied().chain(untold).collect();
        let is_same = inner.definitions == definitions
            && inner.clusters.len() == members.len()
            && members.iter().all(|member| {
                inner.clusters.get(member.name).is_some_and(|known| {
                    known.labels.as_deref() == member.labels && known.is_enrolled == member.is_enrolled
                })
            });
        if !is_same {
            inner.take(definitions, &members);
        }
        if inner.pipelines.is_empty() && inner.definitions.unread.is_empty() {
            inner.choices.clear();
            return Ok(false);
        }
        if !is_same || !inner.is_placed {
            inner.is_placed = false;
            inner.newest = None;
            inner.clusters.values_mut().for_each(|known| known.is_current = false);
            self.step_all(&mut inner, now)?;
            inner.is_placed = true;
        }
        Ok(true)
    }

    /// What came of renders is known: decides. Answers whether any cluster's choice changed.
    ///
    /// # Errors
    /// As [`Rollouts::begin`]; every choice is as it was then.
    pub fn decide(
        &self,
        newest: Commit,
        is_current: impl Fn(&ClusterName) -> bool,
        now: i64,
    ) -> Result<bool, StoreError> {
        let mut inner = lock(&self.inner);
        self.load(&mut inner)?;
        inner.newest = Some(newest);
        for (name, known) in &mut inner.clusters {
            known.is_current = is_current(name);
        }
        self.step_all(&mut inner, now)
    }

    /// From which snapshots each cluster's units are taken; the newest, where nothing stands here.
    pub fn choices(&self) -> BTreeMap<ClusterName, Arc<Choice>> {
        lock(&self.inner).choices.clone()
    }

    /// Whether it is known that there is no pipeline, and that none is remembered.
    pub fn is_idle(&self) -> bool {
        let inner = lock(&self.inner);
        inner.is_loaded && inner.pipelines.is_empty() && inner.definitions.is_empty()
    }

    /// When something may change though nothing comes from outside.
    pub fn next(&self) -> Option<i64> {
        let inner = lock(&self.inner);
        inner.pipelines.values().filter_map(|kept| kept.last.as_ref()?.next).min()
    }

    /// Whether there are pipelines that go on by what agents report.
    pub fn promotes(&self) -> bool {
        !lock(&self.inner).pipelines.is_empty()
    }

    /// The snapshots that have to stay readable.
    ///
    /// # Errors
    /// Where that is not known.
    pub fn snapshots(&self) -> Result<BTreeSet<Digest>, StoreError> {
        let mut inner = lock(&self.inner);
        self.load(&mut inner)?;
        let states = inner.pipelines.values().map(|kept| &kept.state);
        let mut used: BTreeSet<Digest> = states.flat_map(State::snapshots).collect();
        let fresh = inner.clusters.values().flat_map(|known| known.of.values());
        for of in fresh {
            used.extend(of.newest.iter().map(|(snapshot, _)| snapshot.digest()));
            used.extend(of.older.iter().map(|(_, snapshot, _)| snapshot.digest()));
        }
        // Others go, and are noted again should they come back.
        inner.noted.retain(|digest| used.contains(digest));
        Ok(used)
    }

    /// A cluster was rendered from its newest snapshot, to this by the parts of its choice.
    pub fn rendered(
        &self,
        cluster: &ClusterName,
        choice: &Choice,
        snapshot: &Arc<Snapshot>,
        projections: Vec<Option<Projection>>,
    ) {
        let mut inner = lock(&self.inner);
        let Some(known) = inner.clusters.get_mut(cluster) else { return };
        for (part, projection) in choice.parts.iter().zip(projections) {
            let of = known.of.entry(part.by.clone()).or_default();
            of.newest = projection.map(|projection| (snapshot.clone(), Arc::new(projection)));
        }
    }

    /// What a cluster was told, by the parts of the choice that it was made by.
    pub fn published(
        &self,
        cluster: &ClusterName,
        choice: &Choice,
        projections: &[Option<Projection>],
        units: &BTreeMap<UnitId, UnitEntry>,
    ) {
        let mut inner = lock(&self.inner);
        let Some(known) = inner.clusters.get_mut(cluster) else { return };
        for (part, projection) in choice.parts.iter().zip(projections) {
            let Some(projection) = projection else {
                known.of.entry(part.by.clone()).or_default().told = None;
                continue;
            };
            let told = projection.units().iter().map(|(id, content)| match units.get(id) {
                Some(UnitEntry::Present(unit)) => Some((id.clone(), *content, unit.digest())),
                Some(UnitEntry::Hold(_) | UnitEntry::Removed(_)) | None => None,
            });
            let told = Told { revision: part.revision, digest: projection.digest(), units: told.collect() };
            let of = known.of.entry(part.by.clone()).or_default();
            if of.told.as_ref() != Some(&told) {
                of.told = Some(told);
                of.heard = None;
            }
        }
    }

    /// Does what somebody asks, and says what happens next. It is on disk with its line in the audit log when this answers.
    ///
    /// # Errors
    /// Where it is refused, or cannot be written.
    pub fn ask(
        &self,
        pipeline: &str,
        request: Request,
        audit: &AuditRecord,
        now: i64,
    ) -> Result<String, AskError> {
        let mut inner = lock(&self.inner);
        self.load(&mut inner)?;
        let Some(kept) = inner.pipelines.get(pipeline) else {
            return Err(AskError::Unknown(pipeline.to_owned()));
        };
        if kept.read.is_none() {
            let why = inner.frozen(pipeline);
            return Err(AskError::Frozen(pipeline.to_owned(), why));
        }
        let step = self.step_one(&mut inner, pipeline, &[request], Some(audit), now)?;
        inner.choose();
        self.changed.send_modify(|count| *count += 1);
        match step.into_iter().next() {
            Some(Ok(answer)) => Ok(answer),
            Some(Err(refused)) => Err(AskError::Refused(refused)),
            None => Err(AskError::Unknown(pipeline.to_owned())),
        }
    }

    /// The candidate in play whose id begins so.
    ///
    /// # Errors
    /// Where there is none, or more than one.
    pub fn candidate(&self, pipeline: &str, prefix: &str) -> Result<CandidateId, AskError> {
        let inner = lock(&self.inner);
        let kept = inner.pipelines.get(pipeline).ok_or_else(|| AskError::Unknown(pipeline.to_owned()))?;
        match kept.state.candidates_like(prefix)[..] {
            [candidate] => Ok(candidate.id),
            [] => Err(AskError::Refused(format!("no candidate {prefix} is in play in {pipeline}"))),
            _ => Err(AskError::Refused(format!("several candidates begin with {prefix}: give more digits"))),
        }
    }

    /// Forgets a pipeline that Git does not define any more: its clusters run the newest then.
    ///
    /// # Errors
    /// Where Git defines it, or may define it.
    pub fn forget(&self, pipeline: &str, audit: &AuditRecord) -> Result<(), AskError> {
        let mut inner = lock(&self.inner);
        self.load(&mut inner)?;
        let Some(kept) = inner.pipelines.get(pipeline) else {
            return Err(AskError::Unknown(pipeline.to_owned()));
        };
        if kept.read.is_some() || inner.definitions.unread_of(pipeline).is_some() {
            return Err(AskError::Defined(pipeline.to_owned()));
        }
        inner.is_loaded = false;
        self.ledger.forget_rollout(pipeline, audit)?;
        inner.pipelines.remove(pipeline);
        inner.is_loaded = true;
        inner.choose();
        self.changed.send_modify(|count| *count += 1);
        Ok(())
    }

    fn load(&self, inner: &mut Inner) -> Result<(), StoreError> {
        if inner.is_loaded {
            return Ok(());
        }
        let mut stored = self.ledger.rollouts()?;
        inner.is_placed = false;
        let mut last: BTreeMap<String, Option<Step>> =
            std::mem::take(&mut inner.pipelines).into_iter().map(|(name, kept)| (name, kept.last)).collect();
        let names: BTreeSet<String> = stored.keys().chain(inner.definitions.read.keys()).cloned().collect();
        for name in names {
            let stored = stored.remove(&name).unwrap_or_default();
            let read = inner.definitions.read.get(&name).cloned();
            let last = last.remove(&name).flatten();
            inner
                .pipelines
                .insert(name, Kept { state: stored.state, head: stored.head, read, last, ..Kept::default() });
        }
        inner.is_loaded = true;
        Ok(())
    }

    /// Steps every pipeline; whether any choice changed.
    fn step_all(&self, inner: &mut Inner, now: i64) -> Result<bool, StoreError> {
        let names: Vec<String> = inner.pipelines.keys().cloned().collect();
        let mut is_changed = false;
        for name in names {
            let before = inner.pipelines[&name].last.as_ref().map(|last| last.stages.clone());
            self.step_one(inner, &name, &[], None, now)?;
            is_changed |= before != inner.pipelines[&name].last.as_ref().map(|last| last.stages.clone());
        }
        let has_chosen = inner.choose();
        if has_chosen || is_changed {
            self.changed.send_modify(|count| *count += 1);
        }
        Ok(has_chosen)
    }

    /// One step of a pipeline, written. What could not be written is read again before the next.
    fn step_one(
        &self,
        inner: &mut Inner,
        name: &str,
        requests: &[Request],
        audit: Option<&AuditRecord>,
        now: i64,
    ) -> Result<Vec<Result<String, String>>, StoreError> {
        let world = self.world(inner, name, now);
        let Inner { pipelines, clusters, noted, .. } = &mut *inner;
        let Some(kept) = pipelines.get_mut(name) else { return Ok(Vec::new()) };
        let Some(pipeline) = kept.read.clone() else { return Ok(Vec::new()) };
        let step = engine::step(&pipeline, &mut kept.state, &world, requests, now);
        if !step.changed.is_empty() {
            let mut written = || {
                // What a record names is on disk before it.
                for key in &step.changed {
                    let engine::Key::Cluster(cluster) = key else { continue };
                    let of = clusters.get(cluster).and_then(|known| known.of.get(name));
                    let newest = of.and_then(|of| of.newest.as_ref()).map(|(snapshot, _)| snapshot);
                    let older = of.iter().flat_map(|of| &of.older).map(|(_, snapshot, _)| snapshot);
                    for snapshot in newest.into_iter().chain(older) {
                        if !noted.contains(&snapshot.digest()) {
                            self.ledger.note_snapshot(snapshot)?;
                            noted.insert(snapshot.digest());
                        }
                    }
                }
                self.ledger.write_rollout(name, &kept.state, &step.changed, kept.head.as_ref(), audit)
            };
            match written() {
                Ok(head) => kept.head = head,
                Err(error) => {
                    inner.is_loaded = false;
                    return Err(error);
                }
            }
        }
        // It is in the state now.
        clusters.values_mut().filter_map(|known| known.of.get_mut(name)).for_each(|of| of.older.clear());
        self.inbox.note(step.events.iter().map(|event| show::event(name, event, now)));
        if !step.measure.is_empty() {
            let due = step.measure.iter().map(|measure| {
                let of = (measure.stage.clone(), measure.check.clone());
                (of, measure.clone())
            });
            kept.due.extend(due);
            self.due.send_modify(|count| *count += 1);
        }
        let answers = step.answers.clone();
        kept.last = Some(step);
        Ok(answers)
    }

    fn world(&self, inner: &mut Inner, pipeline: &str, now: i64) -> World {
        let newest = inner.newest.clone();
        let clusters = inner.clusters.iter_mut().map(|(name, known)| {
            let view = self.agents.view(name);
            let is_same = match (&view, &known.view) {
                (Some(view), Some(before)) => Arc::ptr_eq(view, before),
                (None, None) => true,
                _ => false,
            };
            if !is_same {
                known.view.clone_from(&view);
            }
            let link = match &view {
                _ if !known.is_enrolled => Link::NeverEnrolled,
                Some(view) => match view.connected_since {
                    Some(since) => Link::Online { since },
                    None => Link::Offline { since: view.last_seen.get().unwrap_or(self.since) },
                },
                None => Link::Offline { since: self.since },
            };
            let of = known.of.entry(pipeline.into()).or_default();
            let has_told = view.as_ref().filter(|view| !view.units.is_empty());
            of.heard = match (&of.told, has_told) {
                (Some(told), Some(view)) => Some(hear(told, &view.units, of.heard.as_ref(), now)),
                _ => None,
            };
            let published = of.told.as_ref().filter(|told| told.revision > 0 && told.units.is_some());
            engine::Cluster {
                name: name.clone(),
                labels: known.labels.clone(),
                link,
                newest: of.newest.as_ref().filter(|_| known.is_current).map(|(_, newest)| newest.clone()),
                older: of.older.iter().map(|(id, _, older)| (*id, older.clone())).collect(),
                published: published.map(|told| Published { revision: told.revision, digest: told.digest }),
                report: of.heard.as_ref().map(|heard| heard.report.clone()),
            }
        });
        let clusters = clusters.collect();
        let kept = inner.pipelines.get_mut(pipeline);
        let measured = kept.map(|kept| std::mem::take(&mut kept.measured)).unwrap_or_default();
        World { newest, clusters, measured }
    }
}

impl Inner {
    /// The clusters that are known and not among these.
    fn untold(&self, members: &[Member<'_>]) -> BTreeSet<ClusterName> {
        let told: BTreeSet<&ClusterName> = members.iter().map(|member| member.name).collect();
        let recorded = self.pipelines.values().flat_map(|kept| kept.state.clusters());
        self.clusters.keys().chain(recorded).filter(|name| !told.contains(name)).cloned().collect()
    }

    fn take(&mut self, definitions: Definitions, members: &[Member<'_>]) {
        let mut before = std::mem::take(&mut self.clusters);
        for member in members {
            let mut known = before.remove(member.name).unwrap_or_default();
            if known.labels.as_deref() != member.labels {
                known.labels = member.labels.cloned().map(Arc::new);
            }
            known.is_enrolled = member.is_enrolled;
            self.clusters.insert(member.name.clone(), known);
        }
        for (name, pipeline) in &definitions.read {
            self.pipelines.entry(name.clone()).or_default().read = Some(pipeline.clone());
        }
        for (name, kept) in &mut self.pipelines {
            if !definitions.read.contains_key(name) {
                (kept.read, kept.last) = (None, None);
            }
        }
        // One that never decided anything, and is not there any more.
        self.pipelines.retain(|_, kept| kept.read.is_some() || kept.head.is_some());
        self.definitions = definitions;
    }

    /// Why a pipeline is not worked on.
    fn frozen(&self, pipeline: &str) -> String {
        self.definitions.unread_of(pipeline).map_or_else(
            || "the fleet repo does not define it any more".to_owned(),
            |unread| unread.why.clone(),
        )
    }
}
