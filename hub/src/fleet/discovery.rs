//! Looking for the clusters of a commit, with a deadline: what a commit holds must not stop the rounds.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use flotilla_core::Digest;
use flotilla_kustomize::files::{Files, ReadError};
use flotilla_render::attempts::{Input, Seen, Told, is_same};
use flotilla_render::{Artifact, Attempts as _, Documents, Fleet, Unavailable, discover_anew};
use flotilla_runtime::lock;
use flotilla_source::CommitId;

use super::cluster::Shared;
use super::renderers::{LOOK, Panicked, STACK, caught};

/// So many that do not end may go on.
const MOST: usize = 4;

/// The clusters of a commit are not known.
#[derive(Debug, thiserror::Error)]
pub(super) enum DiscoveryError {
    #[error("the fleet repo's clone cannot be read")]
    Read(#[from] ReadError),
    #[error("cannot look for clusters")]
    Panicked(#[from] Panicked),
    #[error("looking for clusters takes longer than {0} s; the clusters keep what they run")]
    TakesLong(u64),
    #[error(
        "{MOST} commits are still searched for clusters, which takes long; the clusters keep what they run"
    )]
    TooMany,
    #[error("the hub ends")]
    Stopped,
    #[error("the definitions of the clusters are {0}")]
    SetAside(String),
}

type Found = Result<Result<Fleet, DiscoveryError>, Panicked>;

/// One search at a time, which later rounds over the same commit wait for too.
pub(super) struct Discovery {
    shared: Arc<Shared>,
    patience: Duration,
    under_way: Option<(CommitId, mpsc::Receiver<Found>)>,
    /// What there is to say of the last commit, where nothing was wrong.
    last: Option<(CommitId, Arc<Fleet>)>,
    documents: Arc<Mutex<Documents>>,
    /// Threads that search.
    searching: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
}

impl Discovery {
    pub(super) fn new(shared: Arc<Shared>, patience: Duration, stop: Arc<AtomicBool>) -> Self {
        let (searching, documents) = (Arc::default(), Arc::default());
        Self { shared, patience, under_way: None, last: None, documents, searching, stop }
    }

    /// The clusters of a commit.
    pub(super) fn find(&mut self, commit: &CommitId, tree: &Artifact) -> Result<Arc<Fleet>, DiscoveryError> {
        if let Some((_, fleet)) = self.last.as_ref().filter(|(of, _)| of == commit) {
            return Ok(fleet.clone());
        }
        let fleet = Arc::new(self.look(commit, tree)?);
        // What could not be read may be readable the next time.
        let is_whole = fleet.problems.is_empty() && fleet.unclear.is_empty();
        self.last = is_whole.then(|| (commit.clone(), fleet.clone()));
        Ok(fleet)
    }

    fn look(&mut self, commit: &CommitId, tree: &Artifact) -> Result<Fleet, DiscoveryError> {
        let found = match self.under_way.take().filter(|(of, _)| of == commit) {
            Some((_, found)) => found,
            None => self.search(commit, tree)?,
        };
        let end = Instant::now() + self.patience;
        loop {
            match found.recv_timeout(LOOK.min(end.saturating_duration_since(Instant::now()))) {
                Ok(found) => return found?,
                Err(_) if self.stop.load(Ordering::Relaxed) => return Err(DiscoveryError::Stopped),
                Err(_) if Instant::now() >= end => {
                    self.under_way = Some((commit.clone(), found));
                    return Err(DiscoveryError::TakesLong(self.patience.as_secs()));
                }
                Err(_) => {}
            }
        }
    }

    fn search(&self, commit: &CommitId, tree: &Artifact) -> Result<mpsc::Receiver<Found>, DiscoveryError> {
        if self.searching.load(Ordering::Relaxed) >= MOST {
            return Err(DiscoveryError::TooMany);
        }
        let (tell, found) = mpsc::channel();
        let (files, shared, searching) = (tree.files.clone(), self.shared.clone(), self.searching.clone());
        let (commit, documents) = (commit.clone(), self.documents.clone());
        searching.fetch_add(1, Ordering::Relaxed);
        let search = move || {
            let fleet = caught(|| told(&shared, &commit, &*files, &documents));
            searching.fetch_sub(1, Ordering::Relaxed);
            // Nobody may wait for it any more.
            let _ = tell.send(fleet);
        };
        let thread = thread::Builder::new().name("discover".to_owned()).stack_size(STACK);
        thread.spawn(search).expect("the machine has a thread more");
        Ok(found)
    }
}

/// Looks for clusters, marked as what is worked on.
fn told(
    shared: &Shared,
    commit: &CommitId,
    files: &dyn Files,
    documents: &Mutex<Documents>,
) -> Result<Fleet, DiscoveryError> {
    let doing = shared.attempts.of(None, commit.as_str());
    let nothing = |_: &str| Err(Unavailable::new("is nothing that defines clusters".to_owned()));
    let is_same = |seen: &Seen| is_same(files, &nothing, seen);
    let key = Digest::of_parts([b"clusters", shared.clusters.as_str().as_bytes()]);
    let input = Input { what: "the definitions of the clusters".to_owned(), key, is_same: &is_same };
    let attempt = doing.begin(&input).map_err(DiscoveryError::SetAside)?;
    // Another search that does not end must not be waited for.
    let mut known = std::mem::take(&mut *lock(documents));
    let fleet = discover_anew(&Told::new(files, &*attempt), &shared.clusters, &mut known);
    *lock(documents) = known;
    Ok(fleet?)
}
