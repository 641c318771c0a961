//! One cluster's render: what it is made from, and what comes of it. It changes nothing but what the cluster's sources are
//! known to be, so that it can be given up at any moment; see [`super::decide`] for what follows.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::Instant;

use flotilla_core::desired::KnownUnit;
use flotilla_core::{ClusterName, Digest, UnitId};
use flotilla_kustomize::files::{Entry, Files, ReadError, TreePath};
use flotilla_render::helm::Asked;
use flotilla_render::{
    Artifact, Budget, ClusterDefinition, ClusterRender, ClusterRoot, Content, Footprint, Held, Inputs,
    Recorder, RenderCache, RenderedUnit, discover, render_cluster, render_in_turns,
};
use flotilla_rollout::Projection;
use flotilla_runtime::lock;

use super::asking::Asking;
use super::ledger::Facts;
use super::releases::ClusterRenders;
use super::renderers::Panicked;
use super::{Ledger, Releases};
use crate::attempts::{Attempts, Doing};
use crate::clock::unix_now;
use crate::desired::Board;
use crate::desired::choice::{Choice, Renders, Taken, compose, projection};
use crate::metrics::Metrics;
use crate::rollout::{Answer, Rollouts, Wanted};
use crate::sources::{At, ClusterSources, Draft, Library, SourcesRead};
use crate::store::Snapshot;
use crate::store::{ClusterAt, StoreError};
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
    /// What promotes; until somebody says who tells what agents report, nothing is given.
    pub(super) promoting: OnceLock<Arc<Rollouts>>,
    /// Those that are in use.
    pub(super) snapshots: Mutex<HashMap<Digest, Weak<Snapshot>>>,
}

/// What one cluster last rendered to.
#[derive(Clone, Default)]
pub(super) struct Remembered {
    pub(super) content: HashMap<UnitId, Arc<Content>>,
    /// The snapshot that it was last rendered from.
    pub(super) at: Option<Arc<Snapshot>>,
    /// Those from which units last rendered that did not render from it.
    pub(super) older: BTreeMap<UnitId, Arc<Snapshot>>,
    /// What of that is on disk, and the snapshot that it names.
    pub(super) noted: ClusterAt,
    pub(super) noted_at: Option<Arc<Snapshot>>,
    pub(super) is_loaded: bool,
    /// What units last were stands in these snapshots only, as after a start.
    pub(super) is_forgotten: bool,
    /// What was published of the cluster, and of its units.
    pub(super) ran: Ran,
    pub(super) ran_units: HashMap<UnitId, Ran>,
}

/// One cluster to be rendered.
#[derive(Clone)]
pub(super) struct Task {
    pub(super) cluster: ClusterDefinition,
    pub(super) commit: Arc<str>,
    /// The folder within which its root is: repository, branch and the fleet's path.
    pub(super) base: Arc<str>,
    /// From which snapshots its units are to be taken.
    pub(super) choice: Arc<Choice>,
    pub(super) tree: Artifact,
    /// The snapshots that may have to be rendered too, with the fleet repo's files.
    pub(super) older: Vec<(Arc<Snapshot>, Artifact)>,
    pub(super) remembered: Arc<Remembered>,
    /// Its last render still holds if this is the same at the commit.
    pub(super) if_same: Option<Arc<Read>>,
    /// What is known of that, for all clusters of the round.
    pub(super) held: Arc<Held>,
    /// What people and its agent say.
    pub(super) facts: Arc<Facts>,
    /// The snapshot that it is rendered from, in the making.
    pub(super) draft: Arc<Draft>,
    /// The keys of what helm rendered for any cluster, as of this round; `None` where that is not known.
    pub(super) known_renders: Arc<OnceLock<Option<BTreeSet<Digest>>>>,
    /// Until when this round waits for helm.
    pub(super) helm_until: Instant,
    /// Older candidates of which it is asked what it comes to.
    pub(super) asked: Vec<AskedOf>,
    /// Nobody waits for it any more: it ends as soon as it can.
    pub(super) is_ended: Arc<AtomicBool>,
}

/// An older candidate that a cluster is to be rendered from.
#[derive(Clone)]
pub(super) struct AskedOf {
    pub(super) wanted: Wanted,
    /// With what sources other clusters have it.
    pub(super) like: Arc<Snapshot>,
    /// The fleet repo's files then; `None`: they cannot be read.
    pub(super) tree: Option<Artifact>,
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

/// What of a cluster's units is not from the newest snapshot.
#[derive(Default)]
pub(super) struct Older {
    /// The newest render, where some units are not taken from it.
    pub(super) newest: Option<ClusterRender>,
    pub(super) taken: BTreeMap<UnitId, Taken>,
    pub(super) renders: BTreeMap<Digest, Result<ClusterRender, String>>,
    pub(super) snapshots: Vec<Arc<Snapshot>>,
    /// What the cluster's root was at each of them.
    pub(super) roots: BTreeMap<Digest, ClusterRoot>,
}

/// A cluster as an older snapshot has it.
struct Then {
    render: ClusterRender,
    read: SourcesRead,
    cluster: ClusterDefinition,
}

/// What a render read: while that is the same, so is the render.
#[derive(Default)]
pub(super) struct Read {
    pub(super) footprint: Footprint,
    pub(super) sources: SourcesRead,
    /// What was read at older snapshots, which do not change. Kept so that the renderer's memory keeps it.
    pub(super) older: Vec<Footprint>,
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
        let mut render = self.in_turns(&Inputs { last_good: &last_good, ..inputs }, cluster, task, &doing)?;
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
        if !task.is_ended.load(Ordering::Relaxed) {
            sources.settle(&render.sources);
        }
        let mut read = Read { footprint: recorder.taken(), sources: sources.read(), older: Vec::new() };
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

    /// What a cluster comes to by an older candidate. Sources are as other clusters have them of it, and else as they are now.
    fn answer(
        &self,
        task: &Task,
        asked: &AskedOf,
        known: &BTreeMap<UnitId, KnownUnit>,
        newest: &Snapshot,
        now: &Inputs<'_>,
        doing: &Doing<'_>,
    ) -> Result<Answer, ReadError> {
        let AskedOf { wanted, like, tree } = asked;
        let Some(tree) = tree else {
            return Ok(Err(format!("commit {} cannot be read any more", wanted.commit)));
        };
        let Some(part) = task.choice.parts.iter().find(|part| part.by == wanted.by) else {
            return Ok(Err(format!("the pipeline {} does not claim any of its units", wanted.by)));
        };
        let mut sources = newest.sources().clone();
        sources.extend(like.sources().clone());
        let whole = Snapshot::new(wanted.commit.clone(), sources);
        let inputs = Inputs { recorder: None, ..*now };
        let Some(then) = self.render_then(task, &whole, tree, &inputs, Some(doing))? else {
            return Ok(Err(format!(
                "the definition of this cluster in commit {} cannot be read",
                wanted.commit
            )));
        };
        let read = whole.sources().iter().filter(|(name, _)| then.read.named.contains(name));
        let sources = read.map(|(name, at)| (*name, at.clone())).collect();
        let snapshot = self.interned(Snapshot::new(wanted.commit.clone(), sources));
        let made = projection(&then.render, &part.claimed, known, snapshot.digest());
        Ok(made.map(|made| (snapshot, made)).ok_or_else(|| unrendered(&then.render)))
    }

    /// The cluster at the older snapshots that its units may be taken from.
    fn older(
        &self,
        task: &Task,
        needs: BTreeSet<Digest>,
        newest_at: Digest,
        now: &Inputs<'_>,
        doing: &Doing<'_>,
        read: &mut Read,
    ) -> Result<Older, ReadError> {
        let mut older = Older::default();
        for snapshot in needs.into_iter().filter(|snapshot| *snapshot != newest_at) {
            let lost = || Err("the snapshot that it is to be taken from cannot be read any more".to_owned());
            let render = match task.older.iter().find(|(at, _)| at.digest() == snapshot) {
                None => lost(),
                Some((at, tree)) => {
                    older.snapshots.push(at.clone());
                    let recorder = Recorder::default();
                    let inputs = Inputs { recorder: Some(&recorder), ..*now };
                    let then = self.render_then(task, at, tree, &inputs, Some(doing))?;
                    let footprint = recorder.taken();
                    read.footprint.open_if(footprint.is_open());
                    read.older.push(footprint);
                    match then {
                        Some(Then { render, read: then, cluster }) => {
                            read.sources.secrets |= then.secrets;
                            older.roots.insert(snapshot, cluster.root);
                            Ok(render)
                        }
                        None => Err(
                            "the cluster's definition in the snapshot that it is to be taken from cannot be read"
                                .to_owned(),
                        ),
                    }
                }
            };
            older.renders.insert(snapshot, render);
        }
        Ok(older)
    }

    fn in_turns(
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

    /// What units last rendered to, and whether all snapshots that say so could be rendered.
    fn recall(&self, task: &Task, now: &Inputs<'_>) -> (HashMap<UnitId, Arc<Content>>, bool) {
        let remembered = &task.remembered;
        let mut found: HashMap<UnitId, Arc<Content>> = HashMap::new();
        // One whose commit cannot be looked into is not among them.
        let snapshots = remembered.snapshots();
        let older = task.older.iter().filter(|(snapshot, _)| snapshots.contains(snapshot));
        let older: Vec<_> = older.collect();
        let mut is_whole = older.len() == snapshots.len();
        for (snapshot, tree) in older {
            // What the root was may stand in another snapshot, which was looked at before.
            let last_good = |id: &UnitId| found.get(id).cloned();
            let inputs = Inputs { last_good: &last_good, suspended: &|_| false, recorder: None, ..*now };
            match self.render_then(task, snapshot, tree, &inputs, None) {
                Ok(Some(Then { render, read, .. })) => {
                    is_whole &= read.used.values().all(Option::is_some);
                    let is_of = |id: &UnitId| remembered.good(id).is_some_and(|good| good == snapshot);
                    let units = render.units.into_iter().filter(|(id, _)| is_of(id));
                    found
                        .extend(units.filter_map(|(id, rendered)| {
                            Some((id, rendered.unit.as_ref()?.content.clone()))
                        }));
                }
                Ok(None) => {}
                Err(error) => {
                    let (cluster, commit) = (task.cluster.name.as_str(), &**snapshot.commit());
                    tracing::warn!(cluster, commit, "cannot render an older snapshot: {error}");
                    is_whole = false;
                }
            }
        }
        (found, is_whole)
    }

    /// The cluster from an older snapshot; `None`: its definition there cannot be read. Without `doing`, helm is not asked.
    fn render_then(
        &self,
        task: &Task,
        snapshot: &Snapshot,
        tree: &Artifact,
        now: &Inputs<'_>,
        doing: Option<&Doing<'_>>,
    ) -> Result<Option<Then>, ReadError> {
        let (name, policy) = (&task.cluster.name, &task.cluster.policy);
        let tree = task.stoppable(tree);
        let mut found = discover(&*tree.files, &self.clusters)?;
        let then = match found.clusters.remove(name) {
            Some(then) => then,
            None if found.in_part || found.unclear.contains_key(name) => return Ok(None),
            // It came later: what is promoted to it is what the commit makes of it as it is defined now.
            None => task.cluster.clone(),
        };
        let sources = ClusterSources::new(&self.sources, At::Then(snapshot), name, &policy.groups);
        let inputs = Inputs { fleet: &tree, sources: &sources, ..*now };
        let cluster = ClusterDefinition { policy: policy.clone(), ..then };
        let render = match doing {
            None => render_cluster(&inputs, &cluster)?,
            Some(doing) => self.in_turns(&inputs, &cluster, task, doing)?,
        };
        Ok(Some(Then { render, read: sources.read(), cluster }))
    }

    /// One snapshot for all that are rendered from the same.
    fn interned(&self, snapshot: Snapshot) -> Arc<Snapshot> {
        let mut known = lock(&self.snapshots);
        if let Some(known) = known.get(&snapshot.digest()).and_then(Weak::upgrade) {
            return known;
        }
        let snapshot = Arc::new(snapshot);
        known.insert(snapshot.digest(), Arc::downgrade(&snapshot));
        snapshot
    }

    /// Forgets the snapshots that nobody has any more.
    pub(super) fn drop_snapshots(&self) {
        let mut known = lock(&self.snapshots);
        known.retain(|_, snapshot| snapshot.strong_count() > 0);
    }

    /// What other clusters have of an older candidate, put together.
    pub(super) fn like(&self, wanted: &Wanted) -> Result<Arc<Snapshot>, StoreError> {
        let mut sources = BTreeMap::new();
        for digest in &wanted.like {
            sources.extend(self.snapshot(*digest)?.into_iter().flat_map(|found| found.sources().clone()));
        }
        Ok(self.interned(Snapshot::new(wanted.commit.clone(), sources)))
    }

    /// The snapshots that a choice names; those that are lost are left out.
    pub(super) fn snapshots_of(&self, choice: &Choice) -> Result<Vec<Arc<Snapshot>>, StoreError> {
        choice.snapshots().filter_map(|digest| self.snapshot(digest).transpose()).collect()
    }

    /// A snapshot that was noted; `None`: it is lost.
    pub(super) fn snapshot(&self, digest: Digest) -> Result<Option<Arc<Snapshot>>, StoreError> {
        let known = || lock(&self.snapshots);
        if let Some(snapshot) = known().get(&digest).and_then(Weak::upgrade) {
            return Ok(Some(snapshot));
        }
        let snapshot = self.ledger.snapshot(digest)?;
        match &snapshot {
            Some(snapshot) => drop(known().insert(digest, Arc::downgrade(snapshot))),
            None => tracing::warn!(%digest, "a snapshot that clusters were rendered from is lost"),
        }
        Ok(snapshot)
    }
}

impl Remembered {
    /// As it is on record.
    pub(super) fn load(shared: &Shared, name: &ClusterName) -> Result<Self, StoreError> {
        let noted = shared.ledger.at(name)?;
        let at = noted.snapshot.map(|digest| shared.snapshot(digest)).transpose()?.flatten();
        let mut older = BTreeMap::new();
        for (id, digest) in &noted.units {
            older.extend(shared.snapshot(*digest)?.map(|snapshot| (id.clone(), snapshot)));
        }
        Ok(Self {
            noted_at: at.clone(),
            at,
            older,
            noted,
            is_loaded: true,
            is_forgotten: true,
            ..Self::default()
        })
    }

    /// The snapshot from which a unit last rendered, if it did.
    pub(super) fn good(&self, id: &UnitId) -> Option<&Arc<Snapshot>> {
        self.older.get(id).or(self.at.as_ref())
    }

    /// All snapshots that it is from, that of its root first.
    pub(super) fn snapshots(&self) -> Vec<Arc<Snapshot>> {
        let mut all: Vec<Arc<Snapshot>> = Vec::new();
        let root = self.good(&UnitId::root());
        for snapshot in root.into_iter().chain(&self.at).chain(self.older.values()) {
            if !all.contains(snapshot) {
                all.push(snapshot.clone());
            }
        }
        all
    }

    /// What is to be noted, if what is on record does not come to the same; `is_new`: it runs something else.
    pub(super) fn record(&self, is_new: bool) -> Option<ClusterAt> {
        let snapshot = self.at.as_ref().map(|at| at.digest());
        let units = self.older.iter().map(|(id, snapshot)| (id.clone(), snapshot.digest())).collect();
        let names = |at: &Option<Arc<Snapshot>>| -> Vec<Digest> {
            at.iter().flat_map(|at| at.sources().keys().copied()).collect()
        };
        // A source that is suspended has another name.
        let is_due = is_new && snapshot != self.noted.snapshot
            || units != self.noted.units
            || names(&self.at) != names(&self.noted_at)
            || self.noted.snapshot.is_none();
        let before = self.noted.snapshot.into_iter().chain(self.noted.before.iter().copied());
        let before = before.filter(|before| Some(*before) != snapshot).take(ClusterAt::BEFORE).collect();
        is_due.then_some(ClusterAt { snapshot, units, before })
    }
}

/// Whether a unit's definitions come from an earlier render, if there is one.
pub(super) fn is_kept(unit: &RenderedUnit) -> bool {
    unit.unit.is_none() || unit.suspended
}

impl Older {
    /// The snapshot that a unit is taken from, where that is not the newest.
    pub(super) fn snapshot_of(&self, id: &UnitId) -> Option<&Arc<Snapshot>> {
        let Some(Taken::At(digest)) = self.taken.get(id) else { return None };
        self.snapshots.iter().find(|snapshot| snapshot.digest() == *digest)
    }

    /// The cluster's root, where that is not of the newest snapshot.
    pub(super) fn root(&self) -> Option<&ClusterRoot> {
        self.roots.get(&self.snapshot_of(&UnitId::root())?.digest())
    }
}

/// Why some unit of a render is held.
fn unrendered(render: &ClusterRender) -> String {
    let held = render.units.iter().find(|(_, unit)| unit.unit.is_none());
    let Some((id, unit)) = held else { return "none of its units can be told".to_owned() };
    let why = unit.problems.first().map_or("it is held", |problem| problem.message.as_str());
    format!("{id}: {why}")
}

impl Task {
    /// Where its root is: repository, branch and folder. What left together with a change of it may have left by mistake.
    pub(super) fn place_of(&self, root: &ClusterRoot) -> String {
        format!("{}/{}", self.base, root.path)
    }

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
