//! One cluster's render: what it is made from, and what comes of it. It changes nothing but what the cluster's sources are
//! known to be, so that it can be given up at any moment; see [`super::decide`] for what follows.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, OnceLock, Weak};

use flotilla_core::{Digest, UnitId};
use flotilla_kustomize::files::{ReadError, TreePath};
use flotilla_render::helm::Asked;
use flotilla_render::{
    Budget, ClusterDefinition, ClusterRender, Content, Footprint, Inputs, Recorder, RenderCache,
    RenderedUnit, render_in_turns, splice,
};
use flotilla_rollout::Projection;

use super::asking::Asking;
use super::older::Older;
use super::releases::ClusterRenders;
use super::renderers::Panicked;
use super::tasks::{AskedOf, Task};
use super::{Ledger, Releases};
use crate::attempts::{Attempts, Doing};
use crate::clock::unix_now;
use crate::desired::Board;
use crate::desired::choice::{Renders, compose, projection};
use crate::metrics::Metrics;
use crate::rollout::{Answer, Rollouts, Wanted};
use crate::sources::{At, ClusterSources, Library, SourcesRead};
use crate::store::{Snapshot, StoreError};

/// How often one round goes back to helm for one cluster: so many releases may come after each other.
const MAX_TURNS: usize = 16;

/// What all renders work with.
pub(super) struct Shared {
    /// The folder of clusters, within the fleet's path.
    pub(super) clusters: TreePath,
    pub(super) board: Arc<Board>,
    pub(super) ledger: Arc<dyn Ledger>,
    pub(super) sources: Arc<Library>,
    pub(super) cache: RenderCache,
    pub(super) releases: Arc<Releases>,
    pub(super) metrics: Metrics,
    /// Of units, clusters and tenants.
    pub(super) budget: Budget,
    pub(super) strict: bool,
    pub(super) attempts: Arc<Attempts>,
    /// What promotes; until somebody says who tells what agents report, nothing is given.
    pub(super) promoting: OnceLock<Arc<Rollouts>>,
    /// Those that are in use.
    pub(super) snapshots: Mutex<HashMap<Digest, Weak<Snapshot>>>,
}

/// What a cluster's render came to.
pub(super) enum Made {
    /// The same as before.
    Same,
    Anew(Box<Rendered>),
}

pub(super) struct Rendered {
    pub(super) render: ClusterRender,
    /// What it is made from.
    pub(super) read: Read,
    /// What units last rendered to, read again from older snapshots; `None`: nobody looked there, or it could not be read.
    pub(super) recalled: Option<HashMap<UnitId, Arc<Content>>>,
    /// What it is rendered from.
    pub(super) snapshot: Arc<Snapshot>,
    /// What units are taken from that are not of that snapshot.
    pub(super) older: Older,
    /// What each part of the choice comes to by the newest snapshot, and as it is taken.
    pub(super) newest: Vec<Option<Projection>>,
    pub(super) chosen: Vec<Option<Projection>>,
    /// What was asked of older candidates.
    pub(super) answers: Vec<(Wanted, Answer)>,
}

/// What a render read: while that is the same, so is the render.
#[derive(Default)]
pub(super) struct Read {
    pub(super) footprint: Footprint,
    pub(super) sources: SourcesRead,
    /// What was read at older snapshots, which do not change. Kept so that the renderer's memory keeps it.
    pub(super) older: Vec<Footprint>,
    /// What came of it, where a later one may be made of that.
    pub(super) render: Option<ClusterRender>,
}

/// Why a cluster could not be brought up to date. What it runs is kept.
#[derive(Debug, thiserror::Error)]
pub(super) enum ClusterError {
    #[error("the fleet repo's clone cannot be read")]
    Read(#[from] ReadError),
    #[error("the hub's store failed")]
    Store(#[from] StoreError),
    #[error("what the change took away before cannot be read or noted, so nothing more of it is published")]
    Change(#[source] Arc<StoreError>),
    #[error(transparent)]
    Panicked(#[from] Panicked),
    #[error(
        "rendering was given up after {0} s; look for what makes it so large, or raise --cluster-timeout"
    )]
    Ended(u64),
    #[error("the cluster is {0}")]
    SetAside(String),
}

impl Shared {
    pub(super) fn rollouts(&self) -> &Rollouts {
        self.promoting.get_or_init(|| {
            Arc::new(Rollouts::new(self.ledger.clone(), Arc::new(()), Arc::default(), unix_now()))
        })
    }

    /// Renders a cluster, if that may come to something else.
    pub(super) fn render(&self, task: &Task) -> Result<Made, ClusterError> {
        let changed = match &task.if_same {
            Some(read) => read.footprint.changed_in(&task.tree, &self.cache, &task.held)?,
            None => None,
        };
        if changed.as_ref().is_some_and(BTreeSet::is_empty) {
            return Ok(Made::Same);
        }
        self.metrics.renders.inc();
        let Task { cluster, remembered, facts, .. } = task;
        let doing = self.attempts.of(Some(&cluster.name), &task.commit);
        let tree = task.tree.files.entry(&TreePath::root())?;
        let tree = tree.map_or_else(|| Digest::of(b""), |tree| Digest::from(tree.id.0));
        let whole = doing.whole(tree).map_err(ClusterError::SetAside)?;
        let at = At::Newest { draft: &task.draft, before: remembered.at.as_deref() };
        let sources = ClusterSources::new(&self.sources, at, &cluster.name, &cluster.policy.groups);
        let is_known = |key: Digest| {
            let known = task.known_renders.get_or_init(|| self.ledger.known_renders().ok());
            // Unknown is not absent.
            known.as_ref().is_none_or(|known| known.contains(&key))
        };
        let mut runs: HashMap<Digest, Digest> = HashMap::new();
        let mut units: HashMap<UnitId, Digest> = HashMap::new();
        let current = self.board.current(&cluster.name);
        let known = facts.known_with(current.as_ref());
        for unit in known.values() {
            runs.extend(unit.render.map(|run| (run.key, run.content)));
            units.extend(unit.render.map(|run| (unit.id.clone(), run.key)));
        }
        let renders = ClusterRenders {
            releases: &self.releases,
            runs,
            units,
            is_heard: facts.is_heard,
            is_known: &is_known,
        };
        let suspended = |id: &UnitId| facts.suspended.covers(id);
        let kube_version = facts.kubernetes.as_deref();
        let mut recalled = None;
        let tree = task.stoppable(&task.tree);
        let recorder = Recorder::default();
        let asking = Asking { ledger: &*self.ledger, cluster: &cluster.name, facts, recorder: &recorder };
        let inputs = Inputs {
            recorder: Some(&recorder),
            ask: &asking,
            renders: &renders,
            kube_version,
            suspended: &suspended,
            budget: self.budget,
            strict: self.strict,
            attempts: &doing,
            ..Inputs::new(&tree, &self.clusters, &self.cache, &sources)
        };
        let last_good = |id: &UnitId| remembered.content.get(id).cloned();
        let now = Inputs { last_good: &last_good, ..inputs };
        let in_part = match &changed {
            Some(changed) => self.in_part(task, &now, changed)?,
            None => None,
        };
        let (mut render, in_part) = match in_part {
            Some((render, read)) => {
                self.metrics.renders_in_part.inc();
                (render, Some(read))
            }
            None => (self.in_turns(&now, cluster, task, &doing)?, None),
        };
        let is_forgotten =
            |id: &UnitId| remembered.good(id).is_some() && !remembered.content.contains_key(id);
        if remembered.is_forgotten && render.units.iter().any(|(id, unit)| is_kept(unit) && is_forgotten(id))
        {
            // After a restart: what such units last were stands in older snapshots.
            let (found, is_whole) = self.recall(task, &inputs);
            let last_good = |id: &UnitId| remembered.content.get(id).or_else(|| found.get(id)).cloned();
            render = self.in_turns(&Inputs { last_good: &last_good, ..inputs }, cluster, task, &doing)?;
            recalled = is_whole.then_some(found);
        }
        drop(whole);
        let mut read = match in_part {
            // What it wants of sources is what it wanted.
            Some(read) => read,
            None => {
                if !task.is_ended.load(Ordering::Relaxed) {
                    sources.settle(&render.sources);
                }
                Read { footprint: recorder.taken(), sources: sources.read(), ..Read::default() }
            }
        };
        let may_be_in_part = task.choice.parts.is_empty() && read.footprint.is_in_parts();
        read.render = may_be_in_part.then(|| render.clone());
        let snapshot = self.interned(task.draft.part(&read.sources.named)?);
        let last_good = |id: &UnitId| {
            let recalled = || recalled.as_ref().and_then(|recalled| recalled.get(id));
            remembered.content.get(id).or_else(recalled).cloned()
        };
        let comes_to = |render: &ClusterRender| -> Vec<Option<Projection>> {
            let parts = task.choice.parts.iter();
            parts.map(|part| projection(render, &part.claimed, &known, snapshot.digest())).collect()
        };
        let newest = comes_to(&render);
        let mut older = Older::default();
        if !task.choice.is_newest() {
            let now = Inputs { last_good: &last_good, ..inputs };
            let good: Vec<Digest> = remembered.snapshots().iter().map(|at| at.digest()).collect();
            let needs = task.choice.needs(&render, &known, &good);
            older = self.older(task, needs, snapshot.digest(), &now, &doing, &mut read)?;
            let good = |id: &UnitId| remembered.good(id).map(|good| good.digest());
            let renders = Renders { newest: &render, older: &older.renders };
            let composed = compose(&task.choice, &renders, &known, snapshot.digest(), &good, &last_good);
            older.taken = composed.taken;
            older.newest = composed.render.map(|composed| std::mem::replace(&mut render, composed));
        }
        let chosen = if older.newest.is_some() { comes_to(&render) } else { newest.clone() };
        let now = Inputs { last_good: &last_good, ..inputs };
        let answer = |asked: &AskedOf| {
            let made = self.answer(task, asked, &known, &snapshot, &now, &doing)?;
            Ok::<_, ReadError>((asked.wanted.clone(), made))
        };
        let answers = task.asked.iter().map(answer).collect::<Result<_, _>>()?;
        Ok(Made::Anew(Rendered { render, read, recalled, snapshot, older, newest, chosen, answers }.into()))
    }

    /// The cluster's last render with some of its units made anew, and what that read; `None`: it has to be rendered as a whole.
    fn in_part(
        &self,
        task: &Task,
        now: &Inputs<'_>,
        changed: &BTreeSet<UnitId>,
    ) -> Result<Option<(ClusterRender, Read)>, ReadError> {
        let Some(read) = &task.if_same else { return Ok(None) };
        let is_plain = task.choice.parts.is_empty()
            && read.sources.is_plain()
            && self.sources.is_same(&task.draft, &read.sources);
        let Some(before) = read.render.as_ref().filter(|_| is_plain) else { return Ok(None) };
        if task.remembered.is_forgotten && before.units.values().any(|unit| is_kept(unit)) {
            // What those last were is looked for again.
            return Ok(None);
        }
        let spliced = splice(now, before, &read.footprint, changed)?;
        Ok(spliced.map(|(render, footprint)| {
            let sources = read.sources.clone();
            (render, Read { footprint, sources, ..Read::default() })
        }))
    }

    pub(super) fn in_turns(
        &self,
        inputs: &Inputs<'_>,
        cluster: &ClusterDefinition,
        task: &Task,
        doing: &Doing<'_>,
    ) -> Result<ClusterRender, ReadError> {
        let name = &cluster.name;
        render_in_turns(inputs, cluster, MAX_TURNS, |requests: BTreeMap<Digest, Asked>| {
            self.metrics.helm_runs.inc_by(requests.len() as u64);
            doing.pausing(|| self.releases.ask(name, requests, task.helm_until));
        })
    }
}

/// Whether a unit's definitions come from an earlier render, if there is one.
pub(super) fn is_kept(unit: &RenderedUnit) -> bool {
    unit.unit.is_none() || unit.suspended
}
