//! Failed logins: counted, logged at a bounded rate, and refused without a word more once an address has too many. Good tokens
//! pass whatever an address has done: others may be behind it.

use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use flotilla_runtime::limits::{Bucket, Origin, Rates};
use http::StatusCode;

use super::error::ApiError;
use crate::metrics::Metrics;

/// Of one address: so many at once, and so many a second.
const FAILURES: u32 = 100;
const FAILURES_PER_SECOND: f64 = 1.0;
/// Lines in the log.
const LOGGED: u32 = 20;
const LOGGED_PER_SECOND: f64 = 0.2;

#[derive(Debug)]
pub(crate) struct Logins {
    failures: Rates<Origin>,
    log: Mutex<(Bucket, u64)>,
}

impl Default for Logins {
    fn default() -> Self {
        Self {
            failures: Rates::new(FAILURES, FAILURES_PER_SECOND),
            log: Mutex::new((Bucket::new(LOGGED, LOGGED_PER_SECOND), 0)),
        }
    }
}

impl Logins {
    /// Notes that somebody came without a good token; answers what to tell them.
    pub(crate) fn failed(&self, metrics: &Metrics, from: Option<IpAddr>, why: ApiError) -> ApiError {
        metrics.login_failures.inc();
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        let (bucket, left_out) = &mut *log;
        if bucket.try_take() {
            let (left_out, from) = (std::mem::take(left_out), from.map(|from| from.to_string()));
            tracing::warn!(from, left_out, "login failed: {}", why.text());
        } else {
            *left_out += 1;
        }
        match from {
            Some(from) if !self.failures.try_take(from.into()) => ApiError::new(
                StatusCode::TOO_MANY_REQUESTS,
                "too many requests of this address came without a good token",
            )
            .hint("wait some seconds"),
            _ => why,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_address_that_fails_too_often_is_told_so_and_others_are_not() {
        let (logins, metrics) = (Logins::default(), Metrics::default());
        let why = || ApiError::new(StatusCode::UNAUTHORIZED, "no token was sent");
        let fail = |last| logins.failed(&metrics, Some([192, 0, 2, last].into()), why());
        assert!((0..FAILURES).all(|_| fail(1) == why()));
        assert_eq!(fail(1).status(), StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(fail(2), why());
        tokio::time::advance(std::time::Duration::from_secs(1)).await;
        assert_eq!(fail(1), why());
        assert_eq!(metrics.login_failures.get(), u64::from(FAILURES) + 3);
    }
}
