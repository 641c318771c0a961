//! One round: resolve, render, decide, publish. Blocking.
//!
//! ```text
//!   resolve   what all see: the newest commit, its clusters, what sources are at
//!      │
//!   render    the clusters of which anything changed (`dirty`), on threads (`renderers`)
//!      │ as each is done
//!   decide    what it should run, by what people and agents say (`decide`), and whether all together lose too much (`change`)
//!      │
//!   publish   noted on disk, then on the board (`publish`) ──► view: what all clusters are like
//! ```

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant, SystemTime};

use flotilla_api as api;
use flotilla_core::change::Policy;
use flotilla_core::report::Problem;
use flotilla_core::{ClusterName, Digest};
use flotilla_kustomize::files::TreePath;
use flotilla_render::{Artifact, Budget, ClusterDefinition, Fleet, Held, RenderCache};
use flotilla_runtime::tasks::chain;
use flotilla_source::FetchError;
use tokio::sync::watch;

use super::change::Changes;
use super::cluster::{AskedOf, ClusterError, Remembered, Shared, Task};
use super::decide::Candidate;
use super::dirty::{From, Known, Look, Woken};
use super::discovery::{Discovery, DiscoveryError};
use super::publish::Publisher;
use super::renderers::{Done, Patience, Renderers};
use super::repo::{Fetched, FleetRepo, Head, Repo};
use super::retention::Retention;
use super::{Facts, Ledger, Releases};
use crate::attempts::Attempts;
use crate::clock::unix_now;
use crate::desired::Board;
use crate::desired::choice::Choice;
use crate::metrics::Metrics;
use crate::pulse::Pulse;
#[cfg(test)]
use crate::rollout::Definitions;
use crate::rollout::{Rollouts, Wanted};
use crate::sources::{Draft, Library};
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
    /// How much of the fleet a change may take away without an approval, where the fleet repo does not say.
    pub change_policy: Policy,
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
    pub(super) head: Option<Head>,
    source: api::Source,
    pub(super) clusters: HashMap<ClusterName, Cluster>,
    /// From which snapshots the units of each cluster are to be taken; the newest, where nothing stands here.
    pub(super) choices: BTreeMap<ClusterName, Arc<Choice>>,
    /// What is to be rendered of older candidates.
    pub(super) wanted: BTreeMap<ClusterName, Vec<Wanted>>,
    /// Those that a test made, before all others.
    #[cfg(test)]
    pub(super) forced: BTreeMap<ClusterName, Arc<Choice>>,
    pub(super) changes: Changes,
    pub(super) change_policy: Policy,
    pulse: Arc<Pulse>,
    /// What no round has looked at yet.
    woken: Woken,
    secrets_changed: bool,
    retention: Retention,
    #[cfg(test)]
    pub(super) definitions: Option<Definitions>,
}

/// What the loop knows of one cluster.
#[derive(Default)]
pub(super) struct Cluster {
    pub(super) remembered: Arc<Remembered>,
    /// What is on record of it; `None`: to be read.
    pub(super) facts: Option<Arc<Facts>>,
    /// What its render is from; `None`: to be rendered.
    pub(super) from: Option<From>,
    /// The newest commit that comes to what it is rendered to, and the one that came to what it was before.
    pub(super) at: Arc<str>,
    pub(super) until: Arc<str>,
    /// It is being rendered, from what has changed since.
    pub(super) is_stale: bool,
    /// What people see.
    pub(super) shown: Arc<ClusterFacts>,
}

/// How long a round waits for helm, all its clusters together. What takes longer comes with a later round.
pub(super) const PATIENCE: Duration = Duration::from_secs(3);

/// What the clusters of one round are rendered from.
pub(super) struct Resolved {
    pub(super) commit: Arc<str>,
    tree: Artifact,
    fleet: Arc<Fleet>,
    /// The snapshot of that, in the making: what the sources are at.
    draft: Arc<Draft>,
}

/// A commit that cannot be looked into.
#[derive(Debug, thiserror::Error)]
enum ResolveError {
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
            promoting: OnceLock::new(),
            snapshots: Mutex::default(),
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
            choices: BTreeMap::new(),
            wanted: BTreeMap::new(),
            #[cfg(test)]
            forced: BTreeMap::new(),
            changes: Changes::default(),
            change_policy: config.change_policy,
            pulse: Arc::default(),
            woken: Woken::ByAnything,
            secrets_changed: false,
            retention: Retention::default(),
            #[cfg(test)]
            definitions: None,
        }
    }

    /// Tells of its rounds there.
    #[must_use]
    pub fn with_pulse(self, pulse: Arc<Pulse>) -> Self {
        pulse.expect(self.patience.round, self.poll_interval);
        Self { pulse, ..self }
    }

    /// Promotes by these.
    #[must_use]
    pub fn with_rollouts(self, rollouts: Arc<Rollouts>) -> Self {
        self.shared.promoting.get_or_init(|| rollouts);
        self
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
        let mut repo = self.repo.take()?;
        let newest = self.head.as_ref().map(|head| &head.commit.id);
        if let Some(commits) = self.retention.commits(newest) {
            repo.keep(commits);
        }
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
        self.shared.sources.events.note([crate::sources::event(at, source, warning, reason, message)]);
    }

    /// Fetches, and goes round once.
    #[cfg(test)]
    pub(crate) fn fetch_and_round(&mut self) -> FleetView {
        let repo = self.repo().expect("nobody else fetches");
        self.fetched(repo.fetch(&AtomicBool::new(false)));
        self.round()
    }

    /// There is more to look at than facts about clusters.
    pub(super) fn wake(&mut self, secrets_changed: bool) {
        self.woken = Woken::ByAnything;
        self.secrets_changed |= secrets_changed;
    }

    /// Goes round once, whatever has changed.
    #[cfg(test)]
    pub(crate) fn round(&mut self) -> FleetView {
        self.wake(true);
        self.go_round()
    }

    /// Goes round once. Whatever fails keeps what it had, and says so in the view.
    pub(super) fn go_round(&mut self) -> FleetView {
        self.pulse.begin();
        let mut view = FleetView { sources: vec![self.source.clone()], ..FleetView::default() };
        let finished = self.renderers.finished();
        self.take(finished);
        let mut is_resolved = false;
        if let Some(head) = &self.head {
            let commit = head.commit.clone();
            view.snapshot = Some(api::Commit {
                id: commit.id.as_str().to_owned(),
                branch: self.source.reference.clone(),
                author: commit.author.clone(),
                subject: commit.subject.clone(),
                at: commit.time.as_second(),
            });
            match self.resolve() {
                Ok(resolved) => {
                    is_resolved = true;
                    self.go_through(&resolved, &mut view);
                    self.forget(&view);
                }
                Err(error) => {
                    self.drop_waiting(|_, _| false);
                    tracing::warn!(commit = commit.id.as_str(), "{}", chain(&error));
                    view.problems.push(Problem::error("", 0, chain(&error)));
                    self.clusters.values_mut().for_each(|cluster| cluster.fall_behind(commit.id.as_str()));
                }
            }
        }
        for (name, cluster) in &mut self.clusters {
            if !view.clusters.contains_key(name) {
                // Of what cannot be read, nobody knows what it defines.
                if is_resolved {
                    cluster.leave_git();
                }
                view.clusters.insert(name.clone(), cluster.shown.clone());
            }
        }
        self.pulse.end(self.renderers.overdue().len());
        view
    }

    /// What all clusters of this round are rendered from.
    fn resolve(&mut self) -> Result<Resolved, ResolveError> {
        let tree = self.tree()?;
        let Some(head) = &self.head else {
            return Err(ResolveError::Unread("no commit was fetched yet".into()));
        };
        let fleet = self.discovery.find(&head.commit.id, &tree)?;
        self.pulse.tick();
        let commit: Arc<str> = head.commit.id.as_str().into();
        let draft = Arc::new(Draft::new(commit.clone()));
        self.retention.begin(&draft);
        Ok(Resolved { tree, fleet, draft, commit })
    }

    /// Renders what has to be, and publishes what comes of it.
    fn go_through(&mut self, resolved: &Resolved, view: &mut FleetView) {
        let Resolved { commit, fleet, .. } = resolved;
        let shared = self.shared.clone();
        let builds = shared.cache.builds();
        shared.metrics.rounds.inc();
        view.problems.extend(fleet.problems.iter().cloned());
        // Whoever waits for helm is among the clusters then.
        let is_whole = self.woken == Woken::ByAnything;
        if is_whole {
            shared.releases.begin_round();
        }
        let promotes = match self.begin_promotion(fleet) {
            Ok(promotes) => promotes,
            Err(error) => {
                // Nobody knows what clusters may be given.
                let message = format!("pipelines are not known, so nothing is published: {}", chain(&error));
                tracing::warn!("{message}");
                view.problems.push(Problem::error("", 0, message));
                self.drop_waiting(|_, _| false);
                self.clusters.values_mut().for_each(|cluster| cluster.fall_behind(commit));
                return;
            }
        };
        let tasks = self.tasks(resolved);
        if !tasks.is_empty() {
            shared.cache.begin_round();
        }
        let mut unplaced = self.render(tasks);
        if promotes {
            unplaced.extend(self.promote(resolved, view));
        }
        for task in unplaced {
            let message = "not rendered: too many other clusters take too long; what it runs is kept";
            self.keep(&task.cluster.name, commit, vec![Problem::error("", 0, message)]);
        }
        // What is kept is kept whole: nothing goes that was rendered for it before. Nor does what an older commit left out, of a
        // cluster that comes too late for this one.
        self.drop_waiting(|name, candidate| fleet.clusters.contains_key(name) && candidate.commit == *commit);
        let (change, failed) = self.judge(commit, &fleet.policy);
        let held = change.iter().flat_map(|change| &change.held);
        view.problems.extend(held.map(|held| Problem::error("", 0, held.why.clone())));
        view.change = change;
        for (name, error) in failed {
            self.failed(&name, &error);
        }
        for (name, since) in self.renderers.overdue() {
            let message = format!(
                "has been rendered for {} s; what it runs is kept until that is done, and the others go on",
                since.as_secs()
            );
            self.keep(&name, commit, vec![Problem::error("", 0, message)]);
        }
        // Clusters whose definition could not be read keep what is published.
        for (name, problems) in &fleet.unclear {
            self.keep(name, commit, problems.clone());
        }
        for name in fleet.clusters.keys().chain(fleet.unclear.keys()) {
            view.clusters
                .extend(self.clusters.get(name).map(|cluster| (name.clone(), cluster.shown.clone())));
        }
        shared.metrics.builds.inc_by(shared.cache.builds() - builds);
        if is_whole {
            shared.releases.end_round();
            shared.releases.sweep(|| self.used_renders(), SystemTime::now(), Instant::now());
            if let Err(error) = self.retention.collect(&shared, &self.clusters) {
                tracing::warn!("cannot tell which snapshots are used: {}", chain(&error));
            }
        }
        // Those that Git no longer defines keep what they run, and nobody renders them.
        shared.sources.retain(|name| fleet.clusters.contains_key(name) || fleet.unclear.contains_key(name));
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
    fn tree(&mut self) -> Result<Artifact, ResolveError> {
        let (Some(head), repo) = (&mut self.head, &self.repo) else {
            return Err(ResolveError::Unread("no commit was fetched yet".to_owned()));
        };
        if let (Err(_), Some(repo)) = (&head.tree, repo) {
            head.tree = repo.artifact(&head.commit.id);
        }
        match &head.tree {
            Ok(tree) => Ok(tree.clone()),
            Err(error) => Err(ResolveError::Unread(chain(error))),
        }
    }

    /// What is to be rendered: the clusters of which anything changed, but those that are still being rendered.
    pub(super) fn tasks(&mut self, resolved: &Resolved) -> Vec<Task> {
        let Resolved { commit, tree, fleet, draft } = resolved;
        let shared = self.shared.clone();
        for name in shared.ledger.changed() {
            self.clusters.get_mut(&name).into_iter().for_each(|cluster| cluster.facts = None);
        }
        let (woken, secrets_changed) = (self.woken, self.secrets_changed);
        (self.woken, self.secrets_changed) = (Woken::ByFacts, false);
        if woken == Woken::ByAnything {
            shared.rollouts().want_again();
        }
        let mut wanted = std::mem::take(&mut self.wanted);
        if self.repo.is_none() {
            // They are looked into once it was fetched.
            wanted.clear();
        }
        let held = Arc::<Held>::default();
        let look = Look { shared: &shared, woken, secrets_changed, commit, draft };
        let known_renders = Arc::<OnceLock<Option<BTreeSet<Digest>>>>::default();
        let helm_until = Instant::now() + PATIENCE;
        let under_way = self.renderers.overdue();
        let base: Arc<str> = format!("{} {} {}", self.source.url, self.source.reference, self.path).into();
        let newest = Arc::<Choice>::default();
        let mut opened = BTreeMap::new();
        let mut alike = BTreeMap::new();
        let mut tasks = Vec::new();
        for (name, definition) in &fleet.clusters {
            if under_way.contains_key(name) {
                self.clusters.entry(name.clone()).or_default().is_stale |= secrets_changed;
                continue;
            }
            if !self.clusters.contains_key(name) {
                self.clusters.insert(name.clone(), Cluster::default());
            }
            let Some(cluster) = self.clusters.get_mut(name) else { continue };
            let choice = self.choices.get(name);
            #[cfg(test)]
            let choice = self.forced.get(name).or(choice);
            let choice = choice.unwrap_or(&newest).clone();
            let wanted = wanted.remove(name).unwrap_or_default();
            let (facts, if_same) = match cluster.look_at(&look, definition, &choice) {
                Ok((facts, Known::Same | Known::IfSame(_))) if !wanted.is_empty() => (facts, None),
                Ok((_, Known::Same)) => continue,
                Ok((facts, Known::IfSame(read))) => (facts, Some(read)),
                Ok((facts, Known::Nothing)) => (facts, None),
                Err(error) => {
                    self.failed(name, &error);
                    continue;
                }
            };
            let remembered = cluster.remembered.clone();
            let has_choice = !choice.is_newest();
            let mut snapshots =
                if remembered.is_forgotten || has_choice { remembered.snapshots() } else { Vec::new() };
            match shared.snapshots_of(&choice) {
                Ok(chosen) => snapshots.extend(chosen),
                Err(error) => {
                    self.failed(name, &error.into());
                    continue;
                }
            }
            let older = self.repo.as_ref().map(|repo| repo.older(snapshots, &mut opened));
            let open = |wanted: Wanted| {
                let of = (wanted.by.clone(), wanted.candidate);
                let at = match alike.get(&of) {
                    Some(at) => Arc::clone(at),
                    None => alike.entry(of).or_insert(shared.like(&wanted)?).clone(),
                };
                let then = self.repo.as_ref().map(|repo| repo.older(vec![at.clone()], &mut opened));
                let tree = then.unwrap_or_default().pop().map(|(_, tree)| tree);
                Ok::<_, StoreError>(AskedOf { wanted, like: at, tree })
            };
            let asked = match wanted.into_iter().map(open).collect() {
                Ok(asked) => asked,
                Err(error) => {
                    self.failed(name, &error.into());
                    continue;
                }
            };
            tasks.push(Task {
                cluster: definition.clone(),
                commit: commit.clone(),
                base: base.clone(),
                choice,
                tree: tree.clone(),
                older: older.unwrap_or_default(),
                remembered,
                if_same,
                held: held.clone(),
                facts,
                draft: draft.clone(),
                known_renders: known_renders.clone(),
                helm_until,
                asked,
                is_ended: Arc::new(AtomicBool::new(false)),
            });
        }
        tasks
    }

    pub(super) fn publisher(&mut self) -> Publisher<'_> {
        let Self { shared, clusters, changes, retention, .. } = self;
        let noted = &mut retention.noted;
        Publisher { shared, clusters, changes, noted, batch: Vec::new(), failed: BTreeMap::new() }
    }

    /// Renders and publishes; the tasks that found no place come back.
    pub(super) fn render(&mut self, tasks: Vec<Task>) -> Vec<Task> {
        let Self { renderers, shared, clusters, changes, retention, pulse, .. } = self;
        let noted = &mut retention.noted;
        let mut publisher =
            Publisher { shared, clusters, changes, noted, batch: Vec::new(), failed: BTreeMap::new() };
        // Results are taken in between: nobody waits for all clusters to see one.
        let unplaced = renderers.render(tasks, |done| match done {
            Some(done) => {
                pulse.tick();
                publisher.take(done);
            }
            None => publisher.flush(),
        });
        publisher.flush();
        for (name, error) in publisher.failed {
            self.failed(&name, &error);
        }
        unplaced
    }

    /// Takes the results of renders that no round waited for.
    fn take(&mut self, finished: Vec<Done>) {
        let mut publisher = self.publisher();
        finished.into_iter().for_each(|done| publisher.take(done));
        publisher.flush();
        for (name, error) in publisher.failed {
            self.failed(&name, &error);
        }
    }

    /// Drops what was to be published at the end of the round, of clusters that it is not good for any more: they are looked at
    /// anew.
    fn drop_waiting(&mut self, is_good: impl Fn(&ClusterName, &Candidate) -> bool) {
        let Self { changes, clusters, .. } = self;
        changes.waiting.retain(|name, candidate| {
            let stays = is_good(name, candidate);
            if !stays && let Some(cluster) = clusters.get_mut(name) {
                cluster.from = None;
            }
            stays
        });
    }

    fn failed(&mut self, name: &ClusterName, error: &ClusterError) {
        let message = chain(error);
        tracing::warn!(cluster = name.as_str(), "{message}");
        self.changes.waiting.remove(name);
        let commit: Arc<str> = self.head.as_ref().map_or("", |head| head.commit.id.as_str()).into();
        self.keep(name, &commit, vec![Problem::error("", 0, message)]);
        // Only another attempt tells whether it is well again.
        let cluster = self.clusters.entry(name.clone()).or_default();
        (cluster.from, cluster.facts) = (None, None);
    }

    /// Shows a cluster as one that keeps what it runs.
    fn keep(&mut self, name: &ClusterName, commit: &str, problems: Vec<Problem>) {
        let cluster = self.clusters.entry(name.clone()).or_default();
        cluster.fall_behind(commit);
        if !cluster.shown.assigned || cluster.shown.problems != problems {
            let shown = Arc::make_mut(&mut cluster.shown);
            (shown.assigned, shown.problems) = (true, problems);
        }
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

impl Cluster {
    /// Its facts, and what is known of its render.
    fn look_at(
        &mut self,
        look: &Look<'_>,
        definition: &ClusterDefinition,
        choice: &Choice,
    ) -> Result<(Arc<Facts>, Known), ClusterError> {
        let name = &definition.name;
        if !self.remembered.is_loaded {
            self.remembered = Arc::new(Remembered::load(look.shared, name)?);
        }
        let facts = match &self.facts {
            Some(facts) => facts.clone(),
            None => {
                let read = look.shared.ledger.facts(name)?;
                let shared = match &self.from {
                    Some(from) => read.sharing(&from.facts),
                    None => Arc::new(read),
                };
                self.facts.insert(shared).clone()
            }
        };
        let known =
            self.from.as_ref().map_or(Known::Nothing, |from| look.at(from, definition, &facts, choice));
        match &known {
            Known::Same => self.is_well(definition),
            Known::IfSame(_) => self.from.iter_mut().for_each(|from| from.definition = definition.clone()),
            // Until it is rendered again, nothing is.
            Known::Nothing => self.from = None,
        }
        Ok((facts, known))
    }

    /// Its render comes to the same at a newer commit.
    pub(super) fn is_still(&mut self, commit: &Arc<str>) {
        let Some(from) = &mut self.from else { return };
        from.commit = commit.clone();
        self.at = commit.clone();
        let definition = from.definition.clone();
        self.is_well(&definition);
    }

    /// Shows it as one that is rendered from the newest commit.
    fn is_well(&mut self, definition: &ClusterDefinition) {
        let labels = &definition.policy.labels;
        let ClusterFacts { assigned, problems, behind, labels: shown, .. } = &*self.shown;
        if !assigned || !problems.is_empty() || behind.is_some() || shown != labels {
            let shown = Arc::make_mut(&mut self.shown);
            shown.labels.clone_from(labels);
            (shown.assigned, shown.behind) = (true, None);
            shown.problems.clear();
        }
    }

    /// Shows it as one that is not rendered from the newest commit, if it is not.
    fn fall_behind(&mut self, newest: &str) {
        let behind = (&*self.at != newest).then(|| self.at.clone());
        if self.shown.behind != behind {
            Arc::make_mut(&mut self.shown).behind = behind;
        }
    }

    /// Shows it as one that no commit defines any more.
    fn leave_git(&mut self) {
        const GONE: &str = "the fleet repo no longer defines this cluster; what it runs is kept";
        let is_shown = !self.shown.assigned
            && self.shown.problems.first().is_some_and(|problem| problem.message == GONE);
        if !is_shown {
            let at = self.at.clone();
            let shown = Arc::make_mut(&mut self.shown);
            (shown.assigned, shown.behind) = (false, Some(at));
            shown.problems = vec![Problem::error("", 0, GONE)];
        }
        // It may come back to another agent.
        self.from = None;
    }
}
