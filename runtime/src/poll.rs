//! Waiting for a state that nobody announces.

use std::time::Duration;

/// Asks `look` until it says yes, less and less often; false if `limit` passed without that.
pub async fn poll<F: Future<Output = bool>>(limit: Duration, mut look: impl FnMut() -> F) -> bool {
    let end = tokio::time::Instant::now() + limit;
    let mut pause = Duration::from_millis(20);
    loop {
        if look().await {
            return true;
        }
        if tokio::time::Instant::now() + pause > end {
            return false;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 3 / 2).min(Duration::from_secs(1));
    }
}
