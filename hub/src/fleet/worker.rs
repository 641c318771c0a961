//! The state of the loop between rounds: what it fetched, what it knows of each cluster, and what nobody has looked at yet.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use flotilla_api as api;
use flotilla_core::ClusterName;
use flotilla_core::change::Policy;
use flotilla_kustomize::files::TreePath;
use flotilla_render::{Budget, RenderCache};
use flotilla_runtime::tasks::chain;
use flotilla_source::FetchError;
use tokio::sync::watch;

use super::change::Changes;
use super::cluster::Shared;
use super::dirty::Woken;
use super::discovery::Discovery;
use super::memory::Cluster;
use super::renderers::{Patience, Renderers};
use super::repo::{Fetched, FleetRepo, Head, Repo};
use super::retention::Retention;
use super::{Ledger, Releases};
use crate::attempts::Attempts;
use crate::clock::unix_now;
use crate::desired::Board;
use crate::desired::choice::Choice;
use crate::metrics::Metrics;
use crate::pulse::Pulse;
#[cfg(test)]
use crate::rollout::Definitions;
use crate::rollout::{Rollouts, Wanted};
use crate::sources::Library;

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
    pub(super) path: TreePath,
    pub(super) poll_interval: Duration,
    pub(super) patience: Patience,
    pub(super) shared: Arc<Shared>,
    pub(super) discovery: Discovery,
    pub(super) renderers: Renderers,
    /// `None` while it is fetched.
    pub(super) repo: Option<Repo>,
    pub(super) head: Option<Head>,
    pub(super) source: api::Source,
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
    pub(super) pulse: Arc<Pulse>,
    /// What no round has looked at yet.
    pub(super) woken: Woken,
    pub(super) secrets_changed: bool,
    pub(super) retention: Retention,
    #[cfg(test)]
    pub(super) definitions: Option<Definitions>,
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
            path: config.path.to_string(),
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

    /// There is more to look at than facts about clusters.
    pub(super) fn wake(&mut self, secrets_changed: bool) {
        self.woken = Woken::ByAnything;
        self.secrets_changed |= secrets_changed;
    }
}
