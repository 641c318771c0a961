//! One round: fetch, discover, render, project, publish. Blocking.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use flotilla_core::report::Problem;
use flotilla_core::{ClusterName, DesiredState, Digest, UnitId};
use flotilla_kustomize::files::{ReadError, TreePath};
use flotilla_proto::api;
use flotilla_render::helm::{Renders, TemplateRequest};
use flotilla_render::{
    Artifact, Budget, ClusterDefinition, ClusterRender, Content, Fleet, Inputs, RenderCache, RenderedUnit,
    discover, render_cluster, render_in_turns,
};
use flotilla_runtime::tasks::chain;
use flotilla_source::{Commit, CommitId, GitRepo};

use super::releases::ClusterRenders;
use super::subtree::Subtree;
use super::{Ledger, Releases};
use crate::desired::project::{known_of, known_units, moved, project};
use crate::desired::{Board, Published};
use crate::metrics::Metrics;
use crate::sources::{ClusterSources, Library, Pinned, SourceEvent};
use crate::store::StoreError;
use crate::view::{ClusterFacts, FleetView, SourceFacts, UnitFacts};

/// Where the fleet repo is and how it is read.
#[derive(Debug, Clone)]
pub struct FleetConfig {
    /// The fleet's path within the repository.
    pub path: TreePath,
    /// The folder of clusters, within `path`.
    pub clusters: TreePath,
    pub poll_interval: Duration,
}

/// The state of the loop between rounds.
pub struct Worker {
    config: FleetConfig,
    repo: GitRepo,
    board: Arc<Board>,
    ledger: Arc<dyn Ledger>,
    sources: Arc<Library>,
    /// What the sources are at in this round.
    pinned: Pinned,
    cache: RenderCache,
    releases: Arc<Releases>,
    commit: Option<Commit>,
    source: api::Source,
    /// Until when this round waits for helm.
    helm_until: Instant,
    /// The keys of what helm rendered for any cluster, as of this round.
    known_renders: OnceLock<Option<BTreeSet<Digest>>>,
    memory: HashMap<ClusterName, Remembered>,
    metrics: Metrics,
    budget: Budget,
}

/// How often one round goes back to helm for one cluster: so many releases may come after each other.
const MAX_TURNS: usize = 16;
/// How long a round waits for helm, all its clusters together. What takes longer comes with a later round.
pub(super) const PATIENCE: Duration = Duration::from_secs(3);

/// What one cluster last rendered to.
#[derive(Default)]
struct Remembered {
    content: HashMap<UnitId, Arc<Content>>,
    commits: BTreeMap<UnitId, String>,
    noted: BTreeMap<UnitId, String>,
    loaded: bool,
    facts: ClusterFacts,
}

/// Why a cluster could not be brought up to date.
#[derive(Debug, thiserror::Error)]
enum ClusterError {
    #[error("the fleet repo's clone cannot be read")]
    Read(#[from] ReadError),
    #[error("the hub's store failed")]
    Store(#[from] StoreError),
}

impl Worker {
    pub fn new(
        config: FleetConfig,
        repo: GitRepo,
        releases: Arc<Releases>,
        sources: Arc<Library>,
        board: Arc<Board>,
        ledger: Arc<dyn Ledger>,
    ) -> Self {
        let spec = repo.spec();
        let source = api::Source {
            name: "flux-system/flux-system".into(),
            kind: "fleet".into(),
            url: spec.url.to_string(),
            reference: spec.reference.to_string(),
            message: "not fetched yet".into(),
            ..api::Source::default()
        };
        let commit = repo.newest();
        let (cache, memory) = (RenderCache::new(), HashMap::new());
        Self {
            config,
            repo,
            board,
            ledger,
            sources,
            pinned: Pinned::default(),
            cache,
            releases,
            commit,
            source,
            helm_until: Instant::now(),
            known_renders: OnceLock::new(),
            memory,
            metrics: Metrics::default(),
            budget: Budget::default(),
        }
    }

    /// Counts its work there.
    #[must_use]
    pub fn with_metrics(self, metrics: Metrics) -> Self {
        Self { metrics, ..self }
    }

    /// Renders within a budget.
    #[must_use]
    pub fn with_budget(self, budget: Budget) -> Self {
        Self { budget, ..self }
    }

    pub fn config(&self) -> &FleetConfig {
        &self.config
    }

    /// Goes round once. Whatever fails keeps what it had, and says so in the view.
    pub fn round(&mut self, fetch: bool, cancel: &AtomicBool) -> FleetView {
        if fetch {
            self.fetch(cancel);
        }
        let mut view = FleetView { sources: vec![self.source.clone()], ..FleetView::default() };
        if let Some(commit) = self.commit.clone() {
            view.snapshot = Some(api::Commit {
                id: commit.id.as_str().to_owned(),
                branch: self.source.reference.clone(),
                author: commit.author.clone(),
                subject: commit.subject.clone(),
                at: commit.time.as_second(),
            });
            if let Err(error) = self.snapshot(&commit, &mut view) {
                tracing::warn!(commit = commit.id.as_str(), "{}", chain(&error));
                view.problems.push(Problem::error("", 0, chain(&error)));
            }
        }
        for (name, remembered) in &self.memory {
            view.clusters.entry(name.clone()).or_insert_with(|| {
                let problem = Problem::error(
                    "",
                    0,
                    "the fleet repo no longer defines this cluster; what it runs is kept",
                );
                ClusterFacts { assigned: false, problems: vec![problem], ..remembered.facts.clone() }
            });
        }
        self.pinned = Pinned::default();
        view
    }

    fn fetch(&mut self, cancel: &AtomicBool) {
        let now = unix_now();
        self.source.checked_at = Some(now);
        match self.repo.fetch(cancel) {
            Ok(commit) => {
                if self.source.revision != commit.id.as_str() {
                    self.source.revision = commit.id.as_str().to_owned();
                    self.source.changed_at = Some(now);
                    self.note(now, false, "Fetched", format!("fetched revision {}", commit.id));
                    tracing::info!(
                        commit = commit.id.short(),
                        subject = commit.subject,
                        "fetched the fleet repo"
                    );
                }
                self.source.ready = true;
                self.source.message = format!("at {}", commit.id.short());
                self.commit = Some(commit);
            }
            Err(error) => {
                let message = chain(&error);
                if self.source.ready || self.source.message != message {
                    tracing::warn!("{message}");
                    self.note(now, true, "FetchFailed", message.clone());
                }
                self.source.ready = false;
                self.source.message = message;
            }
        }
    }

    /// An event of the fleet repo.
    fn note(&self, at: i64, warning: bool, reason: &'static str, message: String) {
        let source = flotilla_render::source::fleet_source();
        self.sources.events.note([SourceEvent { at, source, warning, reason, message }]);
    }

    fn snapshot(&mut self, commit: &Commit, view: &mut FleetView) -> Result<(), SnapshotError> {
        let builds = self.cache.builds();
        self.metrics.rounds.inc();
        let tree = self.artifact(&commit.id)?;
        let fleet = discover(&*tree.files, &self.config.clusters)?;
        view.problems.extend(fleet.problems.iter().cloned());
        self.cache.begin_round();
        self.releases.begin_round();
        self.helm_until = Instant::now() + PATIENCE;
        self.known_renders.take();
        for (name, cluster) in &fleet.clusters {
            let facts = match self.cluster(&tree, commit, cluster) {
                Ok(facts) => facts,
                Err(error) => {
                    let message = chain(&error);
                    tracing::warn!(cluster = name.as_str(), "{message}");
                    self.kept(name, vec![Problem::error("", 0, message)])
                }
            };
            self.memory.entry(name.clone()).or_default().facts = facts.clone();
            view.clusters.insert(name.clone(), facts);
        }
        self.metrics.builds.inc_by(self.cache.builds() - builds);
        self.unclear(&fleet, view);
        self.releases.end_round();
        self.releases.sweep(|| self.used_renders(), SystemTime::now());
        // Those that Git no longer defines keep what they run, and nobody renders them.
        self.sources.retain(|name| fleet.clusters.contains_key(name) || fleet.unclear.contains_key(name));
        Ok(())
    }

    /// The fleet repo at a commit, as units see it.
    fn artifact(&self, commit: &CommitId) -> Result<Artifact, SnapshotError> {
        let files = self.repo.tree(commit).map_err(SnapshotError::Commit)?;
        let files = Arc::new(Subtree::new(files, self.config.path.clone()));
        let revision = format!("{}@sha1:{}", self.source.reference, commit.as_str());
        Ok(Artifact::new(files, revision, "the fleet repo"))
    }

    /// The keys of helm's renders that anybody may still run; `None` where that is not known.
    fn used_renders(&self) -> Option<BTreeSet<Digest>> {
        let mut used = self.ledger.known_renders().ok()?;
        // Of clusters without an agent nothing is on record.
        for name in self.memory.keys() {
            let published = self.board.current(name);
            let units = published.iter().flat_map(|published| published.state.all_present());
            used.extend(units.filter_map(|unit| Some(unit.spec.render?.key)));
        }
        Some(used)
    }

    /// Clusters whose definition could not be read keep what is published.
    fn unclear(&self, fleet: &Fleet, view: &mut FleetView) {
        for (name, problems) in &fleet.unclear {
            view.clusters.insert(name.clone(), self.kept(name, problems.clone()));
        }
    }

    fn kept(&self, name: &ClusterName, problems: Vec<Problem>) -> ClusterFacts {
        let last = self.memory.get(name).map(|remembered| remembered.facts.clone()).unwrap_or_default();
        ClusterFacts { assigned: true, problems, ..last }
    }

    fn cluster(
        &mut self,
        tree: &Artifact,
        commit: &Commit,
        cluster: &ClusterDefinition,
    ) -> Result<ClusterFacts, ClusterError> {
        let name = &cluster.name;
        let mut remembered = self.memory.remove(name).unwrap_or_default();
        let result = self.cluster_with(tree, commit, cluster, &mut remembered);
        self.memory.insert(name.clone(), remembered);
        result
    }

    fn cluster_with(
        &self,
        tree: &Artifact,
        commit: &Commit,
        cluster: &ClusterDefinition,
        remembered: &mut Remembered,
    ) -> Result<ClusterFacts, ClusterError> {
        let name = &cluster.name;
        if !remembered.loaded {
            remembered.commits = self.ledger.last_good(name)?;
            remembered.noted = remembered.commits.clone();
            remembered.loaded = true;
        }
        let suspended = self.ledger.suspended(name)?;
        let by_hand = |id: &UnitId| suspended.covers(id);
        let sources = ClusterSources::new(&self.sources, &self.pinned, name, &cluster.groups);
        let current = self.board.current(name);
        let (mut known, is_heard) = self.ledger.known_units(name)?;
        let recorded = known.clone();
        let has_agent = self.ledger.has_agent(name)?;
        // What was published may have arrived, whatever the agent last said.
        for unit in
            current.iter().filter(|_| has_agent).flat_map(|current| known_units(current.state.units()))
        {
            known.entry(unit.id.clone()).or_insert(unit);
        }
        let (renders, ledger) = (&self.known_renders, &*self.ledger);
        let is_known = |key: Digest| match renders.get_or_init(|| ledger.known_renders().ok()) {
            Some(known) => known.contains(&key),
            // Unknown is not absent.
            None => true,
        };
        let renders = ClusterRenders {
            releases: &self.releases,
            runs: known.values().filter_map(|unit| unit.render).map(|run| (run.key, run.content)).collect(),
            is_heard,
            is_known: &is_known,
        };
        let mut render = self.render(tree, &sources, &renders, cluster, remembered, &by_hand)?;
        // One that never rendered, as while helm is at work on it, is in no older commit.
        let is_forgotten =
            |id: &UnitId| remembered.commits.contains_key(id) && !remembered.content.contains_key(id);
        if render.units.iter().any(|(id, unit)| is_kept(unit) && is_forgotten(id)) {
            // After a restart: what such units last were stands in older commits.
            self.recall(&renders, cluster, remembered);
            render = self.render(tree, &sources, &renders, cluster, remembered, &by_hand)?;
        }
        sources.settle(&render.sources);
        for (id, rendered) in &render.units {
            if rendered.suspended && remembered.content.contains_key(id) {
                continue;
            }
            if let Some(unit) = &rendered.unit {
                remembered.content.insert(id.clone(), unit.content.clone());
                remembered.commits.insert(id.clone(), commit.id.as_str().to_owned());
            }
        }
        let at = self.root_of(cluster);
        let root = self.ledger.root(name)?;
        // A new root counts from when it renders: until then the old one's units stand in.
        let renders = render.units.get(&UnitId::root()).is_some_and(|root| !is_kept(root));
        if root.as_ref() != Some(&at) && renders {
            let unsettled = if root.is_some() { moved(&mut known, &render) } else { Vec::new() };
            if has_agent && !unsettled.is_empty() {
                self.ledger.add_known_units(name, &unsettled)?;
            }
            self.ledger.set_root(name, &at)?;
        }
        let (units, bodies) = project(&render, &known, &suspended);
        remembered.content.retain(|id, _| units.contains_key(id));
        remembered.commits.retain(|id, _| units.contains_key(id));

        let candidate = DesiredState::new(name.clone(), Default::default(), commit.id.as_str(), units);
        let new: Vec<_> = known_of(&render, candidate.units())
            .filter(|unit| recorded.get(&unit.id) != Some(unit))
            .collect();
        if has_agent && !new.is_empty() {
            self.ledger.add_known_units(name, &new)?;
        }
        if current.is_none_or(|current| current.state.digest() != candidate.digest()) {
            if remembered.noted != remembered.commits {
                self.ledger.set_last_good(name, remembered.commits.clone())?;
                remembered.noted = remembered.commits.clone();
            }
            let generation = self.ledger.next_generation()?;
            tracing::info!(cluster = name.as_str(), %generation, digest = candidate.digest().short(), "publishing");
            let state = Arc::new(candidate.at(generation));
            self.board.publish(Published { state, bodies: Arc::new(bodies) });
        }
        Ok(facts(cluster, &render, commit, remembered, &|id| suspended.covers(id)))
    }

    /// Where a cluster's root is. What left together with a change of it may have been left by mistake.
    fn root_of(&self, cluster: &ClusterDefinition) -> String {
        let api::Source { url, reference, .. } = &self.source;
        format!("{url} {reference} {}/{}", self.config.path, cluster.root)
    }

    fn render(
        &self,
        tree: &Artifact,
        sources: &ClusterSources<'_>,
        renders: &dyn Renders,
        cluster: &ClusterDefinition,
        remembered: &Remembered,
        suspended: &dyn Fn(&UnitId) -> bool,
    ) -> Result<ClusterRender, ClusterError> {
        let last_good = |id: &UnitId| remembered.content.get(id).cloned();
        let kubernetes = self.ledger.kubernetes_version(&cluster.name)?;
        let kube_version = kubernetes.as_deref();
        let inputs =
            Inputs { kube_version, suspended, last_good: &last_good, ..self.inputs(tree, sources, renders) };
        let ask = |requests: BTreeMap<Digest, TemplateRequest>| {
            self.metrics.helm_runs.inc_by(requests.len() as u64);
            self.releases.ask(requests, self.helm_until);
        };
        Ok(render_in_turns(&inputs, cluster, MAX_TURNS, ask)?)
    }

    fn inputs<'a>(
        &'a self,
        tree: &'a Artifact,
        sources: &'a ClusterSources<'_>,
        renders: &'a dyn Renders,
    ) -> Inputs<'a> {
        let budget = self.budget;
        Inputs { renders, budget, ..Inputs::new(tree, &self.config.clusters, &self.cache, sources) }
    }

    /// Renders the commits at which units were last good, as far as they can still be read.
    fn recall(&self, renders: &dyn Renders, cluster: &ClusterDefinition, remembered: &mut Remembered) {
        let commits: HashSet<String> = remembered.commits.values().cloned().collect();
        for commit in commits {
            let Some(tree) = commit.parse().ok().and_then(|id| self.artifact(&id).ok()) else { continue };
            let Ok(fleet) = discover(&*tree.files, &self.config.clusters) else { continue };
            let Some(then) = fleet.clusters.get(&cluster.name) else { continue };
            let sources = ClusterSources::new(&self.sources, &self.pinned, &cluster.name, &cluster.groups);
            let Ok(render) = render_cluster(&self.inputs(&tree, &sources, renders), then) else { continue };
            for (id, rendered) in render.units {
                if let Some(unit) = rendered.unit
                    && remembered.commits.get(&id) == Some(&commit)
                {
                    remembered.content.entry(id).or_insert(unit.content);
                }
            }
        }
    }
}

/// Whether a unit's definitions come from an earlier render, if there is one.
fn is_kept(unit: &RenderedUnit) -> bool {
    unit.unit.is_none() || unit.suspended
}

fn facts(
    cluster: &ClusterDefinition,
    render: &ClusterRender,
    commit: &Commit,
    remembered: &Remembered,
    suspended: &dyn Fn(&UnitId) -> bool,
) -> ClusterFacts {
    let units = render.units.iter().map(|(id, rendered)| {
        let at = match &rendered.unit {
            Some(_) => Some(commit.id.as_str()),
            None => remembered.commits.get(id).map(String::as_str),
        };
        let unit = UnitFacts {
            problems: rendered.problems.clone(),
            path: rendered.path.to_string(),
            parent: rendered.parent.clone(),
            depends_on: rendered.depends_on.clone(),
            commit: at.unwrap_or_default().to_owned(),
            source: rendered.source.to_string(),
            revision: rendered.revision.clone(),
            object: rendered.object.clone(),
            suspended: suspended(id),
        };
        (id.clone(), unit)
    });
    let sources = render.sources.iter().filter_map(|(id, source)| {
        let facts = SourceFacts { defined_by: source.defined_by.clone(), object: source.object.clone()? };
        Some((id.clone(), facts))
    });
    ClusterFacts {
        labels: cluster.labels.clone(),
        groups: cluster.groups.of.clone(),
        variables: cluster.variables.clone(),
        root: cluster.root.to_string(),
        assigned: true,
        problems: Vec::new(),
        units: units.collect(),
        sources: sources.collect(),
    }
}

/// A commit that cannot be looked into.
#[derive(Debug, thiserror::Error)]
enum SnapshotError {
    #[error(transparent)]
    Commit(flotilla_source::CommitError),
    #[error("the fleet repo's clone cannot be read")]
    Read(#[from] ReadError),
}

fn unix_now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64)
}
