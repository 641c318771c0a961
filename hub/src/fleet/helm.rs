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
use super::round::PATIENCE;

/// While others are still being rendered, a round is woken after this time, then after twice as long, and so on: it looks
/// at all of them, and takes time that helm could have. Longer than the round that asked waits by itself.
const TOGETHER: Duration = PATIENCE.saturating_mul(2);
/// Nobody waits longer for the others.
const LONGEST: Duration = Duration::from_secs(60);

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
    let mut pause = TOGETHER;
    while !shutdown.is_cancelled() {
        requests.borrow_and_update();
        // What was rendered is written to the disk beside the next run of helm, and not without a bound.
        let is_room = running.len() < 4 * most && releases.is_waiting();
        let at = tell_at.unwrap_or_else(|| Instant::now() + pause);
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
                tell_at.get_or_insert_with(|| Instant::now() + pause);
                if releases.is_idle() {
                    (tell_at, pause) = (None, TOGETHER);
                    releases.tell();
                }
            }
            _ = requests.changed() => {}
            () = tokio::time::sleep_until(at), if tell_at.is_some() => {
                (tell_at, pause) = (None, LONGEST.min(pause * 2));
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
