//! Logins. Failed ones are counted, logged at a bounded rate, and refused without a word more once an address has too many. Good
//! tokens pass whatever an address has done: others may be behind it. What one token may have under way is bounded too.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use flotilla_api::Role;
use flotilla_core::report::Timestamp;
use flotilla_runtime::limits::{LogLimit, Origin, Rates};
use flotilla_runtime::lock;
use http::StatusCode;

use super::error::ApiError;
use crate::metrics::Metrics;

/// Of one address: so many at once, and so many a second.
const FAILURES: u32 = 100;
const FAILURES_PER_SECOND: f64 = 1.0;
/// Requests of one token at once, streams too.
const AT_ONCE: usize = 64;
/// Changes of one token below admin: so many at once, and so many a second.
const CHANGES: u32 = 100;
const CHANGES_PER_SECOND: f64 = 10.0;
/// That a token is used is noted so often.
const NOTED: Timestamp = 600;
/// Lines in the log.
const LOGGED: u32 = 20;
const LOGGED_PER_SECOND: f64 = 0.2;

#[derive(Debug)]
pub(crate) struct Logins {
    failures: Rates<Origin>,
    changes: Rates<String>,
    log: LogLimit,
    tokens: Mutex<HashMap<String, Used>>,
}

/// A token, since the hub started.
#[derive(Debug, Default)]
struct Used {
    open: usize,
    noted: Option<Timestamp>,
}

/// A request that is under way.
#[derive(Debug)]
pub(crate) struct Entered {
    logins: Arc<Logins>,
    token: String,
    /// This use is to be noted.
    pub(crate) note: bool,
}

impl Drop for Entered {
    fn drop(&mut self) {
        let mut tokens = lock(&self.logins.tokens);
        if let Some(used) = tokens.get_mut(&self.token) {
            used.open -= 1;
        }
    }
}

impl Default for Logins {
    fn default() -> Self {
        Self {
            failures: Rates::new(FAILURES, FAILURES_PER_SECOND),
            changes: Rates::new(CHANGES, CHANGES_PER_SECOND),
            tokens: Mutex::default(),
            log: LogLimit::new(LOGGED, LOGGED_PER_SECOND),
        }
    }
}

impl Logins {
    /// A request with this good token begins.
    pub(crate) fn enter(
        self: &Arc<Self>,
        token: &str,
        role: Role,
        is_change: bool,
        now: Timestamp,
    ) -> Result<Entered, ApiError> {
        let too_many =
            |what: String| ApiError::new(StatusCode::TOO_MANY_REQUESTS, what).hint("wait some seconds");
        if is_change && role < Role::Admin && !self.changes.try_take(token.to_owned()) {
            return Err(too_many(format!("the token '{token}' asks for too many changes a second")));
        }
        let mut tokens = lock(&self.tokens);
        let used = tokens.entry(token.to_owned()).or_default();
        if used.open >= AT_ONCE {
            return Err(too_many(format!("the token '{token}' has {AT_ONCE} requests under way")));
        }
        used.open += 1;
        let note = used.noted.is_none_or(|noted| !(0..NOTED).contains(&(now - noted)));
        if note {
            used.noted = Some(now);
        }
        Ok(Entered { logins: self.clone(), token: token.to_owned(), note })
    }

    /// Notes that somebody came without a good token; answers what to tell them.
    pub(crate) fn failed(&self, metrics: &Metrics, from: Option<IpAddr>, why: ApiError) -> ApiError {
        metrics.login_failures.inc();
        if let Some(left_out) = self.log.take() {
            let from = from.map(|from| from.to_string());
            tracing::warn!(from, left_out, "login failed: {}", why.text());
        }
        match from {
            Some(from) if !self.failures.try_take(from.into()) => ApiError::new(
                StatusCode::TOO_MANY_REQUESTS,
                "too many requests from this address came without a valid token",
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

    #[tokio::test(start_paused = true)]
    async fn what_one_token_may_do_at_once_is_bounded_and_its_use_is_noted_now_and_then() {
        let logins = Arc::new(Logins::default());
        let enter = |token, role, change| logins.enter(token, role, change, 1_000);
        let open: Vec<Entered> = (0..AT_ONCE).map(|_| enter("ann", Role::Admin, true).unwrap()).collect();
        assert_eq!(open.iter().filter(|entered| entered.note).count(), 1);
        assert_eq!(enter("ann", Role::Admin, false).unwrap_err().status(), StatusCode::TOO_MANY_REQUESTS);
        drop(open);
        assert!(logins.enter("ann", Role::Admin, false, 1_000 + NOTED).unwrap().note);
        let passed = (0..2 * CHANGES).filter(|_| enter("ci", Role::Approve, true).is_ok()).count();
        assert_eq!(passed, CHANGES as usize);
        assert!(enter("ci", Role::Approve, false).is_ok(), "it may go on reading");
    }
}
