//! Whether anything is going on in a connection: requests count from their head until the end of their answer.

use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use flotilla_runtime::lock;
use hyper::body::{Frame, SizeHint};
use tokio::time::Instant;

#[derive(Debug)]
pub(super) struct Activity {
    open: AtomicUsize,
    /// When the last request ended; at first, when the connection began.
    last: Mutex<Instant>,
}

/// A request that is under way.
#[derive(Debug)]
pub(super) struct Open(Arc<Activity>);

impl Activity {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { open: AtomicUsize::new(0), last: Mutex::new(Instant::now()) })
    }

    pub(super) fn begin(self: &Arc<Self>) -> Open {
        self.open.fetch_add(1, Ordering::Relaxed);
        Open(self.clone())
    }

    /// Waits until nothing has been under way for so long. Cancel-safe.
    pub(super) async fn idle(&self, limit: Duration) {
        loop {
            let since = *lock(&self.last);
            if self.open.load(Ordering::Relaxed) > 0 {
                tokio::time::sleep(limit).await;
            } else if since.elapsed() >= limit {
                return;
            } else {
                tokio::time::sleep_until(since + limit).await;
            }
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        *lock(&self.0.last) = Instant::now();
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A body that keeps something until it is sent.
#[derive(Debug)]
pub(super) struct Held<T> {
    body: Body,
    _kept: T,
}

impl<T> Held<T> {
    pub(super) fn new(body: Body, kept: T) -> Self {
        Self { body, _kept: kept }
    }
}

impl<T: Unpin> HttpBody for Held<T> {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_idle_once_nothing_was_under_way_for_long_enough() {
        let limit = Duration::from_secs(15);
        let activity = Activity::new();
        let start = Instant::now();
        activity.idle(limit).await;
        assert_eq!(start.elapsed(), limit);
        let open = activity.begin();
        let idle = tokio::time::timeout(Duration::from_secs(600), activity.idle(limit));
        assert!(idle.await.is_err(), "a long answer is no idleness");
        drop(open);
        let start = Instant::now();
        activity.idle(limit).await;
        assert_eq!(start.elapsed(), limit);
    }
}
