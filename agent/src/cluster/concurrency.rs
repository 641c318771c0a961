//! How many requests are under way at once: as many as allowed, fewer after the API server asked for less.

use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use flotilla_runtime::lock;
use tokio::sync::Notify;
use tokio::time::Instant;

pub(super) struct ConcurrencyLimit {
    state: Mutex<State>,
    freed: Notify,
    most: f64,
}

struct State {
    limit: f64,
    in_flight: usize,
    /// Nothing is sent before.
    resume: Option<Instant>,
    /// When the limit was last cut: the answers to one burst cut it once.
    cut: Option<Instant>,
}

/// The right to one request.
pub(super) struct Permit<'a>(&'a ConcurrencyLimit);

impl ConcurrencyLimit {
    pub(super) fn new(most: usize) -> Self {
        let most = most.max(1) as f64;
        let state = State { limit: most, in_flight: 0, resume: None, cut: None };
        Self { state: Mutex::new(state), freed: Notify::new(), most }
    }

    pub(super) async fn enter(&self) -> Permit<'_> {
        loop {
            let freed = self.freed.notified();
            let pause = {
                let mut state = self.lock();
                let now = Instant::now();
                match state.resume {
                    Some(resume) if resume > now => resume - now,
                    _ if (state.in_flight as f64) < state.limit.floor() => {
                        state.in_flight += 1;
                        if (state.in_flight as f64) < state.limit.floor() {
                            self.freed.notify_one();
                        }
                        return Permit(self);
                    }
                    // A wake-up may be lost with a caller that was dropped; nobody waits for long because of it.
                    _ => Duration::from_secs(1),
                }
            };
            tokio::select! {
                () = freed => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// The API server answered: one more may be under way after as many answers as there are now.
    pub(super) fn went_well(&self) {
        let mut state = self.lock();
        state.limit = (state.limit + 1.0 / state.limit).min(self.most);
    }

    /// The API server has too much to do: half as many, and none for this time.
    pub(super) fn too_many(&self, pause: Duration) {
        let mut state = self.lock();
        let now = Instant::now();
        if state.cut.is_none_or(|cut| now - cut > Duration::from_secs(1)) {
            state.limit = (state.limit / 2.0).max(1.0);
            state.cut = Some(now);
        }
        state.resume = state.resume.max(Some(now + pause));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.0.lock().in_flight -= 1;
        self.0.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_limit_holds_halves_and_grows_back() {
        let limit = ConcurrencyLimit::new(4);
        let held = [limit.enter().await, limit.enter().await, limit.enter().await, limit.enter().await];
        assert!(tokio::time::timeout(Duration::from_secs(60), limit.enter()).await.is_err());
        drop(held);
        limit.too_many(Duration::from_secs(5));
        limit.too_many(Duration::from_secs(5));
        let start = Instant::now();
        let held = [limit.enter().await, limit.enter().await];
        assert!(start.elapsed() >= Duration::from_secs(5));
        assert!(
            tokio::time::timeout(Duration::from_secs(60), limit.enter()).await.is_err(),
            "halved once, not twice"
        );
        for _ in 0..20 {
            limit.went_well();
        }
        let more = [limit.enter().await, limit.enter().await];
        assert!(tokio::time::timeout(Duration::from_secs(60), limit.enter()).await.is_err());
        drop((held, more));
    }
}
