//! The fetch loop: does what is due, a few at a time.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use flotilla_core::Digest;
use flotilla_runtime::tasks::chain;
use flotilla_source::flux::{Decode, Fetched, Fetcher, SourceError};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::Library;
use super::library::Job;
use crate::attempts::Attempts;
use crate::clock::unix_now;

/// Fetches at one time.
const AT_ONCE: usize = 8;
/// How often it is looked for what nobody wants any more.
const SWEEP: Duration = Duration::from_secs(600);
/// The longest sleep; whatever is due earlier ends it.
const LONGEST: Duration = Duration::from_secs(3600);

type Done = (Digest, Option<Fetcher>, Result<Fetched, SourceError>);

/// Fetches what is due until `shutdown`, then stops what is under way. What is received is marked while it is decoded.
pub async fn run(
    library: Arc<Library>,
    attempts: Arc<Attempts>,
    shutdown: CancellationToken,
) -> Result<(), tokio::task::JoinError> {
    let cancel = Arc::new(AtomicBool::new(false));
    let mut running: JoinSet<Done> = JoinSet::new();
    let mut wishes = library.wishes();
    let mut swept = Instant::now();
    while !shutdown.is_cancelled() {
        wishes.borrow_and_update();
        let shared = library.clone();
        let free = AT_ONCE - running.len();
        // Opening a source reads the disk.
        let (jobs, next) = tokio::task::spawn_blocking(move || shared.due(Instant::now(), free)).await?;
        for job in jobs {
            let (attempts, cancel) = (attempts.clone(), cancel.clone());
            running.spawn_blocking(move || fetch(job, &attempts, &cancel));
        }
        if swept.elapsed() > SWEEP {
            swept = Instant::now();
            let folders = library.sweep(swept);
            tokio::task::spawn_blocking(move || folders.iter().for_each(|folder| remove(folder))).await?;
        }
        let is_full = running.len() == AT_ONCE;
        let wait =
            next.filter(|_| !is_full).map_or(LONGEST, |next| next.saturating_duration_since(Instant::now()));
        tokio::select! {
            () = shutdown.cancelled() => {}
            Some(done) = running.join_next() => finish(&library, done?),
            _ = wishes.changed() => {}
            () = tokio::time::sleep(wait.min(SWEEP)) => {}
        }
    }
    cancel.store(true, Ordering::Relaxed);
    while let Some(done) = running.join_next().await {
        finish(&library, done?);
    }
    Ok(())
}

/// What a source sent is decoded under a mark.
struct Marked<'a> {
    attempts: &'a Attempts,
    source: String,
}

impl Decode for Marked<'_> {
    fn decode(&self, content: Digest, work: &mut dyn FnMut()) -> Result<(), String> {
        self.attempts.decode(&self.source, content, work)
    }
}

fn fetch(job: Job, attempts: &Attempts, cancel: &AtomicBool) -> Done {
    let Job { key, source, mut fetcher, used } = job;
    let marked = Marked { attempts, source };
    // One source that makes a fetcher panic must not take the others along.
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        if let Some(Err(error)) = used.map(|used| fetcher.keep(&used)) {
            tracing::warn!(source = marked.source, "cannot remove old revisions: {}", chain(&error));
        }
        let result = fetcher.fetch_told(cancel, &marked);
        (fetcher, result)
    }));
    match caught {
        Ok((fetcher, result)) => (key, Some(fetcher), result),
        Err(_) => {
            (key, None, Err(SourceError::Wrong("the hub failed while fetching it; see its log".into())))
        }
    }
}

fn finish(library: &Library, (key, fetcher, result): Done) {
    library.done(key, fetcher, result, unix_now());
}

fn remove(folder: &std::path::Path) {
    if let Err(error) = fs::remove_dir_all(folder)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!(folder = %folder.display(), %error, "cannot remove what was fetched of a source");
    }
}
