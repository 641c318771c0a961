//! One round: discover, render, project, publish. Blocking.
//!
//! ```text
//!   Repo ── fetched ──► head: commit and tree ──► discover ──► a task for each cluster ──► Renderers (threads)
//!                                                                                             │ as each is done
//!   view ◄── facts of all clusters ◄── published, or kept as it is with a problem ◄───────────┘
//! ```

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use flotilla_core::change::ChangeBudget;
use flotilla_core::report::Problem;
use flotilla_core::{ClusterName, Digest};
use flotilla_kustomize::files::TreePath;
use flotilla_proto::api;
use flotilla_render::{Artifact, Budget, Fleet, RenderCache};
use flotilla_runtime::tasks::chain;
use flotilla_source::{Commit, FetchError};
use tokio::sync::watch;

use super::change::Changes;
use super::cluster::{ClusterError, Remembered, Shared, Task};
use super::discovery::{Discovery, DiscoveryError};
use super::renderers::{Done, Patience, Renderers, caught};
use super::repo::{Fetched, FleetRepo, Head, Repo};
use super::{Ledger, Releases};
use crate::attempts::Attempts;
use crate::desired::Board;
use crate::metrics::Metrics;
use crate::pulse::Pulse;
use crate::sources::{Library, Pinned, SourceEvent};
use crate::store::StoreError;
use crate::view::{ClusterFacts, FleetView};

/// Where the fleet repo is and how it is read.
#[derive(Debug, Clone)]
pub struct FleetConfig {
    /// The fleet's path within the repository.
    pub path: TreePath,
    /// The folder of clusters, within `path`.
    pub clusters: TreePath,
    pub poll_interval: Duration,
    pub patience: Patience,
    pub budget: Budget,
    /// See [`flotilla_render::Inputs::strict`].
    pub strict: bool,
    /// How much of the fleet a change may remove without an approval.
    pub change_budget: ChangeBudget,
    pub attempts: Arc<Attempts>,
}

/// The state of the loop between rounds.
pub struct Worker {
    /// The fleet's path within its repository.
    path: TreePath,
    poll_interval: Duration,
    patience: Patience,
    pub(super) shared: Arc<Shared>,
    discovery: Discovery,
    renderers: Renderers,
    /// `None` while it is fetched.
    repo: Option<Repo>,
    head: Option<Head>,
    source: api::Source,
    pub(super) clusters: HashMap<ClusterName, Cluster>,
    pub(super) changes: Changes,
    pub(super) change_budget: ChangeBudget,
    pulse: Arc<Pulse>,
}

/// What the loop knows of one cluster.
#[derive(Default)]
pub(super) struct Cluster {
    pub(super) remembered: Arc<Remembered>,
    facts: ClusterFacts,
}

impl Cluster {
    fn facts(&self) -> ClusterFacts {
        // What was published, though it may have been held back until all clusters were rendered.
        ClusterFacts { ran: self.remembered.ran.clone(), ..self.facts.clone() }
    }
}

/// How long a round waits for helm, all its clusters together. What takes longer comes with a later round.
pub(super) const PATIENCE: Duration = Duration::from_secs(3);

/// A commit that cannot be looked into.
#[derive(Debug, thiserror::Error)]
enum SnapshotError {
    #[error("{0}")]
    Unread(String),
    #[error(transparent)]
    Discovery(#[from] DiscoveryError),
}

impl Worker {
    pub fn new(
        config: FleetConfig,
        repo: impl FleetRepo + 'static,
        releases: Arc<Releases>,
        sources: Arc<Library>,
        board: Arc<Board>,
        ledger: Arc<dyn Ledger>,
        metrics: Metrics,
    ) -> Self {
        let repo = Repo::new(Box::new(repo), config.path.clone());
        let (url, reference) = repo.names();
        let source = api::Source {
            name: "flux-system/flux-system".into(),
            kind: "fleet".into(),
            url,
            reference,
            message: "not fetched yet".into(),
            ..api::Source::default()
        };
        let clusters = config.clusters;
        let cache = RenderCache::new();
        let shared = Arc::new(Shared {
            clusters,
            board,
            ledger,
            sources,
            cache,
            releases,
            metrics,
            budget: config.budget,
            strict: config.strict,
            attempts: config.attempts,
        });
        let renderers = Renderers::new(shared.clone(), config.patience);
        let discovery = Discovery::new(shared.clone(), config.patience.round, renderers.stop());
        Self {
            path: config.path,
            poll_interval: config.poll_interval,
            patience: config.patience,
            discovery,
            renderers,
            shared,
            head: repo.newest(),
            repo: Some(repo),
            source,
            clusters: HashMap::new(),
            changes: Changes::default(),
            change_budget: config.change_budget,
            pulse: Arc::default(),
        }
    }

    /// Tells of its rounds there.
    #[must_use]
    pub fn with_pulse(self, pulse: Arc<Pulse>) -> Self {
        pulse.expect(self.patience.round, self.poll_interval);
        Self { pulse, ..self }
    }

    pub(super) fn poll_interval(&self) -> Duration {
        self.poll_interval
    }

    /// Ends the round that is under way as soon as it can.
    pub(super) fn stop(&self) -> Arc<AtomicBool> {
        self.renderers.stop()
    }

    pub(crate) fn attempts(&self) -> Arc<Attempts> {
        self.shared.attempts.clone()
    }

    /// Whether there is anything to go round about.
    pub(super) fn has_commit(&self) -> bool {
        self.head.is_some()
    }

    /// Ticks when a cluster was rendered that a round did not wait for.
    pub(super) fn late(&self) -> watch::Receiver<u64> {
        self.renderers.late()
    }

    /// Hands out the repository to be fetched; [`Worker::fetched`] takes it back. `None`: it is being fetched.
    pub(super) fn repo(&mut self) -> Option<Repo> {
        let repo = self.repo.take()?;
        self.source.checked_at = Some(unix_now());
        Some(repo)
    }

    /// Takes what came of a fetch.
    pub(super) fn fetched(&mut self, Fetched { repo, head }: Fetched) {
        self.repo = Some(repo);
        let now = unix_now();
        match head {
            Ok(head) => {
                let commit = &head.commit;
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
                self.head = Some(head);
            }
            Err(FetchError::Cancelled { .. }) => self.unfetched("fetching it was ended".to_owned()),
            Err(error) => self.unfetched(chain(&error)),
        }
    }

    /// The newest commit could not be had.
    pub(super) fn unfetched(&mut self, message: String) {
        if self.source.ready || self.source.message != message {
            tracing::warn!("{message}");
            self.note(unix_now(), true, "FetchFailed", message.clone());
        }
        self.source.ready = false;
        self.source.message = message;
    }

    /// A warning about the fleet, as of now.
    pub(super) fn note_now(&self, reason: &'static str, message: String) {
        self.note(unix_now(), true, reason, message);
    }

    /// An event of the fleet repo.
    fn note(&self, at: i64, warning: bool, reason: &'static str, message: String) {
        let source = flotilla_render::source::fleet_source();
        self.shared.sources.events.note([SourceEvent { at, source, warning, reason, message }]);
    }

    /// Fetches, and goes round once.
    #[cfg(test)]
    pub(crate) fn fetch_and_round(&mut self) -> FleetView {
        let repo = self.repo().expect("nobody else fetches");
        self.fetched(repo.fetch(&AtomicBool::new(false)));
        self.round()
    }

    /// Goes round once. Whatever fails keeps what it had, and says so in the view.
    pub fn round(&mut self) -> FleetView {
        self.pulse.begin();
        let mut view = FleetView { sources: vec![self.source.clone()], ..FleetView::default() };
        for done in self.renderers.finished() {
            self.take(done);
        }
        if let Some(commit) = self.head.as_ref().map(|head| head.commit.clone()) {
            view.snapshot = Some(api::Commit {
                id: commit.id.as_str().to_owned(),
                branch: self.source.reference.clone(),
                author: commit.author.clone(),
                subject: commit.subject.clone(),
                at: commit.time.as_second(),
            });
            match self.snapshot(&commit, &mut view) {
                Ok(()) => self.forget(&view),
                Err(error) => {
                    self.changes.waiting.clear();
                    tracing::warn!(commit = commit.id.as_str(), "{}", chain(&error));
                    view.problems.push(Problem::error("", 0, chain(&error)));
                }
            }
        }
        for (name, cluster) in &self.clusters {
            view.clusters.entry(name.clone()).or_insert_with(|| {
                let problem = Problem::error(
                    "",
                    0,
                    "the fleet repo no longer defines this cluster; what it runs is kept",
                );
                ClusterFacts { assigned: false, problems: vec![problem], ..cluster.facts() }
            });
        }
        self.pulse.end(self.renderers.overdue().len());
        view
    }

    fn snapshot(&mut self, commit: &Commit, view: &mut FleetView) -> Result<(), SnapshotError> {
        let shared = self.shared.clone();
        let builds = shared.cache.builds();
        shared.metrics.rounds.inc();
        let tree = self.tree()?;
        let fleet = self.discovery.find(&commit.id, &tree)?;
        self.pulse.tick();
        view.problems.extend(fleet.problems.iter().cloned());
        shared.cache.begin_round();
        shared.releases.begin_round();
        let tasks = self.tasks(&fleet, commit, &tree);
        let unplaced = self.render(tasks);
        for task in unplaced {
            let message = "not rendered: too many other clusters take too long; what it runs is kept";
            self.keep(&task.cluster.name, vec![Problem::error("", 0, message)]);
        }
        // What is kept is kept whole: nothing goes that was rendered for it before.
        self.changes.waiting.retain(|name, _| fleet.clusters.contains_key(name));
        let (held, failed) = self.decide(commit.id.as_str());
        view.problems.extend(held.iter().map(|held| Problem::error("", 0, held.why.clone())));
        view.held_change = held;
        for (name, error) in failed {
            self.failed(&name, &error);
        }
        for (name, since) in self.renderers.overdue() {
            let message = format!(
                "has been rendered for {} s; what it runs is kept until that is done, and the others go on",
                since.as_secs()
            );
            self.keep(&name, vec![Problem::error("", 0, message)]);
        }
        // Clusters whose definition could not be read keep what is published.
        for (name, problems) in &fleet.unclear {
            self.keep(name, problems.clone());
        }
        for name in fleet.clusters.keys().chain(fleet.unclear.keys()) {
            view.clusters.extend(self.clusters.get(name).map(|cluster| (name.clone(), cluster.facts())));
        }
        shared.metrics.builds.inc_by(shared.cache.builds() - builds);
        shared.releases.end_round();
        shared.releases.sweep(|| self.used_renders(), SystemTime::now());
        // Those that Git no longer defines keep what they run, and nobody renders them.
        shared.sources.retain(|name| fleet.clusters.contains_key(name) || fleet.unclear.contains_key(name));
        Ok(())
    }

    /// Forgets the clusters that neither Git nor the store has any more: deleted ones, and those that no agent ever joined
    /// as. `view` has all that Git defines, and those whose definition cannot be read.
    fn forget(&mut self, view: &FleetView) {
        let shared = self.shared.clone();
        self.clusters.retain(|name, _| {
            // What cannot be looked up stays.
            let has_agent = || shared.ledger.facts(name).map_or(true, |facts| facts.has_agent);
            let stays = view.clusters.contains_key(name) || has_agent();
            if !stays {
                shared.board.forget(name);
            }
            stays
        });
    }

    /// The fleet repo at the commit that is rendered; one that could not be read is tried again.
    fn tree(&mut self) -> Result<Artifact, SnapshotError> {
        let (Some(head), repo) = (&mut self.head, &self.repo) else {
            return Err(SnapshotError::Unread("no commit was fetched yet".to_owned()));
        };
        if let (Err(_), Some(repo)) = (&head.tree, repo) {
            head.tree = repo.artifact(&head.commit.id);
        }
        match &head.tree {
            Ok(tree) => Ok(tree.clone()),
            Err(error) => Err(SnapshotError::Unread(chain(error))),
        }
    }

    /// What is to be rendered: all clusters but those that are still being rendered.
    fn tasks(&mut self, fleet: &Fleet, commit: &Commit, tree: &Artifact) -> Vec<Task> {
        let pinned = Arc::<Pinned>::default();
        let known_renders = Arc::<OnceLock<Option<BTreeSet<Digest>>>>::default();
        let helm_until = Instant::now() + PATIENCE;
        let under_way = self.renderers.overdue();
        let mut opened = BTreeMap::new();
        let mut tasks = Vec::new();
        for (name, definition) in fleet.clusters.iter().filter(|(name, _)| !under_way.contains_key(*name)) {
            let remembered = match self.remembered(name) {
                Ok(remembered) => remembered,
                Err(error) => {
                    self.failed(name, &error.into());
                    continue;
                }
            };
            let forgotten = remembered.commits.iter().filter(|(id, _)| !remembered.content.contains_key(id));
            let forgotten: BTreeSet<&String> = forgotten.map(|(_, commit)| commit).collect();
            let older = self.repo.as_ref().map(|repo| repo.older(forgotten.into_iter(), &mut opened));
            tasks.push(Task {
                cluster: definition.clone(),
                commit: commit.clone(),
                root: format!(
                    "{} {} {}/{}",
                    self.source.url, self.source.reference, self.path, definition.root
                ),
                tree: tree.clone(),
                older: older.unwrap_or_default(),
                remembered,
                pinned: pinned.clone(),
                known_renders: known_renders.clone(),
                helm_until,
                is_ended: Arc::new(AtomicBool::new(false)),
            });
        }
        tasks
    }

    fn remembered(&mut self, name: &ClusterName) -> Result<Arc<Remembered>, StoreError> {
        let cluster = self.clusters.entry(name.clone()).or_default();
        if !cluster.remembered.is_loaded {
            let commits = self.shared.ledger.last_good(name)?;
            let noted = commits.clone();
            cluster.remembered =
                Arc::new(Remembered { commits, noted, is_loaded: true, ..Remembered::default() });
        }
        Ok(cluster.remembered.clone())
    }

    /// Renders and publishes; the tasks that found no place come back.
    fn render(&mut self, tasks: Vec<Task>) -> Vec<Task> {
        // Results are taken in between: nobody waits for all clusters to see one.
        let mut done = Vec::new();
        let Self { renderers, shared, clusters, changes, pulse, .. } = self;
        let unplaced = renderers.render(tasks, |one| {
            pulse.tick();
            done.extend(publish(shared, clusters, changes, one));
        });
        for (name, error) in done {
            self.failed(&name, &error);
        }
        unplaced
    }

    /// Takes the result of a render that no round waited for.
    fn take(&mut self, done: Done) {
        let Self { shared, clusters, changes, .. } = self;
        if let Some((name, error)) = publish(shared, clusters, changes, done) {
            self.failed(&name, &error);
        }
    }

    fn failed(&mut self, name: &ClusterName, error: &ClusterError) {
        let message = chain(error);
        tracing::warn!(cluster = name.as_str(), "{message}");
        self.changes.waiting.remove(name);
        self.keep(name, vec![Problem::error("", 0, message)]);
    }

    fn keep(&mut self, name: &ClusterName, problems: Vec<Problem>) {
        let cluster = self.clusters.entry(name.clone()).or_default();
        cluster.facts = std::mem::take(&mut cluster.facts).kept(problems);
    }

    /// The keys of helm's renders that anybody may still run; `None` where that is not known.
    fn used_renders(&self) -> Option<BTreeSet<Digest>> {
        let mut used = self.shared.ledger.known_renders().ok()?;
        // Of clusters without an agent nothing is on record.
        for name in self.clusters.keys() {
            let published = self.shared.board.current(name);
            let units = published.iter().flat_map(|published| published.state.all_present());
            used.extend(units.filter_map(|unit| Some(unit.spec.render?.key)));
        }
        Some(used)
    }
}

/// Publishes one cluster's render, or leaves that to the end of the round if it removes units; an error keeps what the
/// cluster runs.
fn publish(
    shared: &Shared,
    clusters: &mut HashMap<ClusterName, Cluster>,
    changes: &mut Changes,
    Done { mut task, rendered, is_late }: Done,
) -> Option<(ClusterName, ClusterError)> {
    let name = task.cluster.name.clone();
    let cluster = clusters.entry(name.clone()).or_default();
    let facts = caught(|| -> Result<Option<ClusterFacts>, ClusterError> {
        let mut rendered = rendered?;
        if is_late {
            // The agent and people may have said other things meanwhile.
            let facts = shared.ledger.facts(&name)?;
            if facts.suspended != rendered.facts.suspended {
                return Ok(None);
            }
            rendered.facts = facts;
        }
        // Else it would be copied.
        task.remembered = Arc::default();
        let remembered = Arc::make_mut(&mut cluster.remembered);
        let (facts, candidate) = shared.candidate(&task, rendered, remembered)?;
        if candidate.losses().is_empty() {
            changes.waiting.remove(&name);
            shared.publish(candidate, remembered)?;
        } else {
            changes.waiting.insert(name.clone(), candidate);
        }
        Ok(Some(facts))
    });
    let facts = facts.unwrap_or_else(|panic| Err(panic.into()));
    match facts {
        Ok(Some(facts)) => {
            cluster.facts = facts;
            None
        }
        Ok(None) => None,
        Err(error) => Some((name, error)),
    }
}

fn unix_now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64)
}
