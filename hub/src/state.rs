//! What the parts of the hub share.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use flotilla_core::report::Timestamp;
use flotilla_runtime::Tasks;
use flotilla_runtime::limits::Rates;
use flotilla_runtime::tls::{Clock, Places};

use crate::audit::Tracks;
use crate::authority::{Authority, timestamp};
use crate::changes::Changes;
use crate::desired::Board;
use crate::index::{Index, Parts, Shown};
use crate::journal::Journal;
use crate::metrics::Metrics;
use crate::rollout::Rollouts;
use crate::session::{EncodedBodies, Joined, Sessions};
use crate::sources::{Library, SourceEvents, SourceSettings, Vault};
use crate::store::{Records, StoreError};
use crate::view::Fleet;

/// Settings that concern sessions and sources.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How often agents send a heartbeat.
    pub heartbeat: Duration,
    /// How long after its certificate's end an agent may still renew it.
    pub renew_grace: Duration,
    /// How long lines of the audit log are kept; for ever if it is absent.
    pub keep_audit: Option<Duration>,
    pub sources: SourceSettings,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_secs(15),
            renew_grace: Duration::from_secs(180 * 24 * 3600),
            keep_audit: None,
            sources: SourceSettings::default(),
        }
    }
}

/// Everything that sessions, the API and the fleet loop work with.
pub struct Hub {
    pub records: Arc<Records>,
    pub authority: Authority,
    pub sessions: Arc<Sessions>,
    pub joined: Joined,
    pub board: Arc<Board>,
    pub fleet: Arc<Fleet>,
    pub sources: Arc<Library>,
    /// What promotes candidates through pipelines.
    pub rollouts: Arc<Rollouts>,
    /// Secrets of sources.
    pub vault: Arc<Vault>,
    pub changes: Arc<Changes>,
    pub journal: Journal,
    /// What lists are made of.
    pub index: Index,
    pub bodies: EncodedBodies,
    pub tracks: Tracks,
    /// Values of Secrets that a token may have hidden, to compare them: so many at once, and so many a second.
    pub hidden: Rates<String>,
    pub metrics: Metrics,
    pub tasks: Tasks,
    pub clock: Clock,
    pub settings: Settings,
    pub started_at: Timestamp,
    /// The data folder.
    pub data: std::path::PathBuf,
    /// The places of the agents' port and of the people's, once they are open.
    pub ports: OnceLock<[Arc<Places>; 2]>,
}

impl Hub {
    pub fn new(
        data: &std::path::Path,
        journal: Journal,
        vault: Vault,
        authority: Authority,
        tasks: Tasks,
        clock: Clock,
        settings: Settings,
    ) -> Arc<Self> {
        let (records, changes) = (journal.records().clone(), Arc::new(Changes::default()));
        let vault = Arc::new(vault);
        let mut sources = Library::new(
            data.join(crate::store::backup::SOURCES_FOLDER),
            settings.sources.clone(),
            Some(vault.clone()),
        );
        sources.events = SourceEvents::new(journal.inbox().clone());
        let fleet = Arc::new(Fleet::noting(journal.inbox().clone()));
        let sessions = Arc::new(Sessions::new(changes.clone()));
        let started_at = timestamp(&clock);
        let inbox = journal.inbox().clone();
        let rollouts = Rollouts::new(records.clone(), sessions.clone(), inbox, started_at);
        Arc::new(Self {
            records,
            authority,
            rollouts: Arc::new(rollouts),
            sessions,
            joined: Joined::default(),
            board: Arc::new(Board::new()),
            fleet,
            sources: Arc::new(sources),
            vault,
            changes,
            journal,
            index: Index::default(),
            bodies: EncodedBodies::default(),
            tracks: Tracks::default(),
            hidden: Rates::new(2_000, 1.0),
            metrics: Metrics::default(),
            tasks,
            started_at,
            clock,
            settings,
            data: data.to_owned(),
            ports: OnceLock::new(),
        })
    }

    /// Every cluster as it is now. Blocking.
    ///
    /// # Errors
    /// Where a record cannot be read.
    pub fn shown(&self) -> Result<Arc<Shown>, StoreError> {
        let Self { records, sessions, board, fleet, changes, .. } = self;
        self.index.read(&Parts { records, sessions, board, fleet, changes })
    }

    /// Seconds since 1970.
    pub fn now(&self) -> Timestamp {
        timestamp(&self.clock)
    }
}

/// Runs what blocks (the store, files, keys) beside the async threads. Panics of `work` go on here.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => value,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // Only when the runtime is going down, and this task with it.
            Err(_) => std::future::pending().await,
        },
    }
}
