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

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
#[cfg(test)]
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant, SystemTime};

use flotilla_api as api;
use flotilla_core::report::Problem;
use flotilla_core::{ClusterName, Digest};
use flotilla_render::{Artifact, Fleet};
use flotilla_runtime::tasks::chain;

use super::cluster::ClusterError;
use super::decide::Candidate;
use super::dirty::Woken;
use super::discovery::DiscoveryError;
use super::publish::Publisher;
use super::renderers::Done;
use super::tasks::Task;
use super::worker::Worker;
use crate::sources::Draft;
use crate::view::FleetView;

/// How long a round waits for helm, all its clusters together. What takes longer comes with a later round.
pub(super) const PATIENCE: Duration = Duration::from_secs(3);

/// What the clusters of one round are rendered from.
pub(super) struct Resolved {
    pub(super) commit: Arc<str>,
    pub(super) tree: Artifact,
    pub(super) fleet: Arc<Fleet>,
    /// The snapshot of that, in the making: what the sources are at.
    pub(super) draft: Arc<Draft>,
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
    /// Fetches, and goes round once.
    #[cfg(test)]
    pub(crate) fn fetch_and_round(&mut self) -> FleetView {
        let repo = self.repo().expect("nobody else fetches");
        self.fetched(repo.fetch(&AtomicBool::new(false)));
        self.round()
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

    pub(super) fn failed(&mut self, name: &ClusterName, error: &ClusterError) {
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
