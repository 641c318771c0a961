//! Waiting on a level: look at the state until it is as wanted, and tell the last state seen where it never was.

use std::fmt::{self, Display};
use std::future::Future;
use std::time::{Duration, Instant};

/// The state was not as wanted within the time allowed.
#[derive(Debug)]
pub struct NotWithin {
    /// The time allowed.
    pub limit: Duration,
    /// How often the state was looked at.
    pub attempts: u32,
    /// What the last complete look said; empty if not even one ended.
    pub last: String,
}

impl Display for NotWithin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let last = if self.last.is_empty() { "no attempt ended" } else { &self.last };
        write!(f, "not within {:?} ({} attempts), last seen: {last}", self.limit, self.attempts)
    }
}

impl std::error::Error for NotWithin {}

const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(250);

/// Calls `check` until it answers `Ok`, for at most `limit`. An `Err` is a description of the state as it is.
///
/// # Errors
/// [`NotWithin`] with the last description. A check that hangs is abandoned at the limit.
pub async fn eventually<T, E, Check, Checking>(limit: Duration, mut check: Check) -> Result<T, NotWithin>
where
    Check: FnMut() -> Checking,
    Checking: Future<Output = Result<T, E>>,
    E: Display,
{
    let end = tokio::time::Instant::now() + limit;
    let mut pause = FIRST_PAUSE;
    let mut attempts = 0;
    let mut last = String::new();
    loop {
        attempts += 1;
        match tokio::time::timeout_at(end, check()).await {
            Ok(Ok(value)) => return Ok(value),
            // The alternate form prints a whole chain of errors.
            Ok(Err(state)) => last = format!("{state:#}"),
            Err(_) => return Err(NotWithin { limit, attempts, last }),
        }
        if tokio::time::Instant::now() + pause >= end {
            return Err(NotWithin { limit, attempts, last });
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 3 / 2).min(LONGEST_PAUSE);
    }
}

/// Checks for the whole of `period` that `check` holds: for what must *not* happen (a prune, a write).
///
/// # Errors
/// The first description of a state that does not hold, with the time at which it was seen.
pub async fn always<E, Check, Checking>(period: Duration, mut check: Check) -> anyhow::Result<()>
where
    Check: FnMut() -> Checking,
    Checking: Future<Output = Result<(), E>>,
    E: Display,
{
    let start = Instant::now();
    while start.elapsed() < period {
        if let Err(state) = check().await {
            anyhow::bail!("held for {:?} of {period:?} only, then: {state:#}", start.elapsed());
        }
        tokio::time::sleep(LONGEST_PAUSE.min(period / 10)).await;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn tells_the_last_state() {
        let mut looks = 0;
        let error = eventually(Duration::from_millis(60), || {
            looks += 1;
            let state = format!("look {looks}");
            async move { Err::<(), _>(state) }
        })
        .await
        .unwrap_err();
        assert_eq!(error.attempts, looks);
        assert!(error.to_string().ends_with(&format!("last seen: look {looks}")), "{error}");
    }

    #[tokio::test]
    async fn a_hanging_check_ends_at_the_limit() {
        let error = eventually(Duration::from_millis(20), std::future::pending::<Result<(), String>>)
            .await
            .unwrap_err();
        assert!(error.to_string().contains("no attempt ended"), "{error}");
    }

    #[tokio::test]
    async fn always_fails_on_the_first_exception() {
        let mut looks = 0;
        let result = always(Duration::from_secs(60), || {
            looks += 1;
            let good = looks < 2;
            async move { if good { Ok(()) } else { Err("gone") } }
        })
        .await;
        assert!(result.unwrap_err().to_string().ends_with("then: gone"));
    }
}
