//! One cluster's render: what it is made from, and what comes of it. It changes nothing but what the cluster's sources are
//! known to be, so that it can be given up at any moment; see [`super::decide`] for what follows.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use flotilla_core::{Digest, UnitId};
use flotilla_kustomize::files::{Entry, Files, ReadError, TreePath};
use flotilla_render::helm::Asked;
use flotilla_render::{
    Artifact, Budget, ClusterDefinition, ClusterRender, Content, Footprint, Held, Inputs, Recorder,
    RenderCache, RenderedUnit, discover, render_cluster, render_in_turns,
};

use super::asking::Asking;
use super::ledger::Facts;
use super::releases::ClusterRenders;
use super::renderers::Panicked;
use super::{Ledger, Releases};
use crate::attempts::{Attempts, Doing};
use crate::desired::Board;
use crate::desired::project::known_units;
use crate::metrics::Metrics;
use crate::sources::{ClusterSources, Library, Pinned, SourcesRead};
use crate::store::StoreError;
use crate::view::Ran;

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
}

/// What one cluster last rendered to.
#[derive(Clone, Default)]
pub(super) struct Remembered {
    pub(super) content: HashMap<UnitId, Arc<Content>>,
    /// The commits at which units last rendered, and what of that is on disk.
    pub(super) commits: BTreeMap<UnitId, Arc<str>>,
    pub(super) noted: BTreeMap<UnitId, Arc<str>>,
    pub(super) is_loaded: bool,
    /// What was published of the cluster, and of its units.
    pub(super) ran: Ran,
    pub(super) ran_units: HashMap<UnitId, Ran>,
}

/// One cluster to be rendered.
#[derive(Clone)]
pub(super) struct Task {
    pub(super) cluster: ClusterDefinition,
    pub(super) commit: Arc<str>,
    /// Where its root is: repository, branch and folder. What left together with a change of it may have left by mistake.
    pub(super) root: String,
    pub(super) tree: Artifact,
    /// The fleet repo at the commits at which units last rendered that are not remembered.
    pub(super) older: BTreeMap<String, Artifact>,
    pub(super) remembered: Arc<Remembered>,
    /// Its last render still holds if this is the same at the commit.
    pub(super) if_same: Option<Arc<Read>>,
    /// What is known of that, for all clusters of the round.
    pub(super) held: Arc<Held>,
    /// What people and its agent say.
    pub(super) facts: Arc<Facts>,
    /// What the sources are at in this round.
    pub(super) pinned: Arc<Pinned>,
    /// The keys of what helm rendered for any cluster, as of this round; `None` where that is not known.
    pub(super) known_renders: Arc<OnceLock<Option<BTreeSet<Digest>>>>,
    /// Until when this round waits for helm.
    pub(super) helm_until: Instant,
    /// Nobody waits for it any more: it ends as soon as it can.
    pub(super) is_ended: Arc<AtomicBool>,
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
    /// What units last rendered to, read again from older commits.
    pub(super) recalled: HashMap<UnitId, Arc<Content>>,
}

/// What a render read: while that is the same, so is the render.
#[derive(Default)]
pub(super) struct Read {
    pub(super) footprint: Footprint,
    pub(super) sources: SourcesRead,
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
    /// Renders a cluster, if that may come to something else.
    pub(super) fn render(&self, task: &Task) -> Result<Made, ClusterError> {
        if let Some(read) = &task.if_same
            && read.footprint.holds_in(&task.stoppable(&task.tree), &self.cache, &task.held)?
        {
            return Ok(Made::Same);
        }
        self.metrics.renders.inc();
        let Task { cluster, remembered, facts, .. } = task;
        let doing = self.attempts.of(Some(&cluster.name), &task.commit);
        let tree = task.tree.files.entry(&TreePath::root())?;
        let tree = tree.map_or_else(|| Digest::of(b""), |tree| Digest::from(tree.id.0));
        let whole = doing.whole(tree).map_err(ClusterError::SetAside)?;
        let sources = ClusterSources::new(&self.sources, &task.pinned, &cluster.name, &cluster.policy.groups);
        let is_known = |key: Digest| {
            let known = task.known_renders.get_or_init(|| self.ledger.known_renders().ok());
            // Unknown is not absent.
            known.as_ref().is_none_or(|known| known.contains(&key))
        };
        let mut runs: HashMap<Digest, Digest> = HashMap::new();
        let mut units: HashMap<UnitId, Digest> = HashMap::new();
        // What was published may have arrived, whatever the agent last said.
        let current = self.board.current(&cluster.name);
        let published = current.iter().filter(|_| facts.has_agent).flat_map(|p| known_units(p.state.units()));
        for unit in published.chain(facts.known.values().cloned()) {
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
        let mut recalled: HashMap<UnitId, Arc<Content>> = HashMap::new();
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
        let mut render = self.in_turns(&Inputs { last_good: &last_good, ..inputs }, task, &doing)?;
        // One that never rendered, as while helm is at work on it, is in no older commit.
        let is_forgotten =
            |id: &UnitId| remembered.commits.contains_key(id) && !remembered.content.contains_key(id);
        if render.units.iter().any(|(id, unit)| is_kept(unit) && is_forgotten(id)) {
            // After a restart: what such units last were stands in older commits.
            for (commit, older) in &task.older {
                let older = task.stoppable(older);
                let found = self.recall(task, commit, &older, &inputs);
                found.into_iter().for_each(|(id, content)| {
                    recalled.entry(id).or_insert(content);
                });
            }
            let last_good = |id: &UnitId| remembered.content.get(id).or_else(|| recalled.get(id)).cloned();
            render = self.in_turns(&Inputs { last_good: &last_good, ..inputs }, task, &doing)?;
        }
        drop(whole);
        if !task.is_ended.load(Ordering::Relaxed) {
            sources.settle(&render.sources);
        }
        let read = Read { footprint: recorder.taken(), sources: sources.read() };
        Ok(Made::Anew(Rendered { render, read, recalled }.into()))
    }

    fn in_turns(
        &self,
        inputs: &Inputs<'_>,
        task: &Task,
        doing: &Doing<'_>,
    ) -> Result<ClusterRender, ReadError> {
        let name = &task.cluster.name;
        render_in_turns(inputs, &task.cluster, MAX_TURNS, |requests: BTreeMap<Digest, Asked>| {
            self.metrics.helm_runs.inc_by(requests.len() as u64);
            doing.pausing(|| self.releases.ask(name, requests, task.helm_until));
        })
    }

    /// What units last rendered to at an older commit.
    fn recall(
        &self,
        task: &Task,
        commit: &str,
        tree: &Artifact,
        now: &Inputs<'_>,
    ) -> HashMap<UnitId, Arc<Content>> {
        let name = &task.cluster.name;
        let then = match discover(&*tree.files, &self.clusters) {
            Ok(mut fleet) => fleet.clusters.remove(name),
            Err(error) => {
                tracing::warn!(cluster = name.as_str(), commit, "cannot look into an older commit: {error}");
                None
            }
        };
        let Some(then) = then else { return HashMap::new() };
        let inputs = Inputs {
            renders: now.renders,
            ask: now.ask,
            budget: self.budget,
            strict: self.strict,
            attempts: now.attempts,
            ..Inputs::new(tree, &self.clusters, &self.cache, now.sources)
        };
        match render_cluster(&inputs, &then) {
            Ok(render) => {
                let of_then = |id: &UnitId| task.remembered.commits.get(id).map(|of| &**of) == Some(commit);
                let units = render.units.into_iter().filter(|(id, _)| of_then(id));
                units.filter_map(|(id, rendered)| Some((id, rendered.unit?.content))).collect()
            }
            Err(error) => {
                tracing::warn!(cluster = name.as_str(), commit, "cannot render an older commit: {error}");
                HashMap::new()
            }
        }
    }
}

/// Whether a unit's definitions come from an earlier render, if there is one.
pub(super) fn is_kept(unit: &RenderedUnit) -> bool {
    unit.unit.is_none() || unit.suspended
}

impl Task {
    /// The same files, which cannot be read any more once the task is ended: so a render ends that nobody waits for.
    fn stoppable(&self, tree: &Artifact) -> Artifact {
        let files = Arc::new(Stoppable { files: tree.files.clone(), is_ended: self.is_ended.clone() });
        Artifact { files, ..tree.clone() }
    }
}

struct Stoppable {
    files: Arc<dyn Files>,
    is_ended: Arc<AtomicBool>,
}

impl Stoppable {
    fn look(&self, path: &TreePath) -> Result<&dyn Files, ReadError> {
        if self.is_ended.load(Ordering::Relaxed) {
            return Err(ReadError { path: path.clone(), reason: "the render was given up".to_owned() });
        }
        Ok(&*self.files)
    }
}

impl Files for Stoppable {
    fn entry(&self, path: &TreePath) -> Result<Option<Entry>, ReadError> {
        self.look(path)?.entry(path)
    }

    fn read(&self, path: &TreePath) -> Result<Arc<[u8]>, ReadError> {
        self.look(path)?.read(path)
    }

    fn list(&self, folder: &TreePath) -> Result<Vec<(String, Entry)>, ReadError> {
        self.look(folder)?.list(folder)
    }
}
