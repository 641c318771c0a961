//! The loop that runs helm for what rounds ask for.

use std::num::NonZero;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Releases;

/// While others are still being rendered, a round is woken this often at most.
const TOGETHER: Duration = Duration::from_secs(3);

/// Runs helm until `shutdown`, as many at once as there are processors; then ends what is under way.
///
/// # Errors
/// Where a task of its own panicked.
pub async fn run(releases: Arc<Releases>, shutdown: CancellationToken) -> Result<(), tokio::task::JoinError> {
    let most = thread::available_parallelism().map_or(1, NonZero::get);
    let mut requests = releases.requests();
    let slots = Arc::new(Semaphore::new(most));
    let mut running: JoinSet<()> = JoinSet::new();
    // When to tell of renders that have ended.
    let mut tell_at: Option<Instant> = None;
    while !shutdown.is_cancelled() {
        requests.borrow_and_update();
        // What was rendered is written to the disk beside the next run of helm, and not without a bound.
        let is_room = running.len() < 4 * most && releases.is_waiting();
        let at = tell_at.unwrap_or_else(|| Instant::now() + TOGETHER);
        tokio::select! {
            () = shutdown.cancelled() => {}
            Ok(slot) = slots.clone().acquire_owned(), if is_room => {
                if let Some((key, request)) = releases.next() {
                    let releases = releases.clone();
                    running.spawn_blocking(move || releases.render(key, &request, slot));
                }
            }
            Some(done) = running.join_next() => {
                done?;
                tell_at.get_or_insert_with(|| Instant::now() + TOGETHER);
                if releases.is_idle() {
                    tell_at = None;
                    releases.tell();
                }
            }
            _ = requests.changed() => {}
            () = tokio::time::sleep_until(at), if tell_at.is_some() => {
                tell_at = None;
                releases.tell();
            }
        }
    }
    releases.stop();
    while let Some(done) = running.join_next().await {
        done?;
    }
    Ok(())
}
