//! The audit log beyond the store: what keeps a token from pushing others' lines out of it, and copies elsewhere.

pub mod export;
mod otlp;

use std::collections::HashMap;
use std::sync::Mutex;

use flotilla_core::report::Timestamp;
use flotilla_runtime::limits::Rates;
use flotilla_runtime::lock;

use crate::store::AuditRecord;

/// Lines of one token below admin: so many at once, and about as many a day. The log keeps 200 times as many.
const LINES: u32 = 1_000;
const LINES_PER_SECOND: f64 = LINES as f64 / 86_400.0;
/// A line that was written within this time is counted, not written again.
const REPEAT: Timestamp = 3_600;
/// So many lines are remembered for that.
const MAX_REPEATED: usize = 10_000;

/// What tokens have written lately.
#[derive(Debug)]
pub struct Tracks {
    lines: Rates<String>,
    repeated: Mutex<HashMap<[String; 3], Repeated>>,
}

#[derive(Debug)]
struct Repeated {
    since: Timestamp,
    count: u64,
}

impl Default for Tracks {
    fn default() -> Self {
        Self { lines: Rates::new(LINES, LINES_PER_SECOND), repeated: Mutex::default() }
    }
}

impl Tracks {
    /// Whether the token may write another line.
    pub fn may_write(&self, token: &str) -> bool {
        self.lines.try_take(token.to_owned())
    }

    /// The line as it is to be written, or nothing where the same was done a short time ago. It says how often it was left
    /// out before.
    pub fn fold(&self, line: AuditRecord) -> Option<AuditRecord> {
        let key = [line.who.clone(), line.action.clone(), line.target.clone()];
        let mut repeated = lock(&self.repeated);
        if let Some(before) = repeated.get_mut(&key)
            && (0..REPEAT).contains(&(line.at - before.since))
        {
            before.count += 1;
            tracing::info!(who = line.who, action = line.action, target = line.target, "audit, repeated");
            return None;
        }
        if repeated.len() >= MAX_REPEATED {
            repeated.retain(|_, before| line.at - before.since < REPEAT);
        }
        let now = Repeated { since: line.at, count: 0 };
        let before = if repeated.len() < MAX_REPEATED { repeated.insert(key, now) } else { None };
        let left_out = before.filter(|before| before.count > 0);
        let said =
            left_out.map(|before| format!("and {} times in the hour after the last line", before.count));
        let detail = [line.detail.clone()].into_iter().chain(said).filter(|text| !text.is_empty());
        Some(AuditRecord { detail: detail.collect::<Vec<_>>().join("; "), ..line })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_token_writes_so_much_a_day_and_repeats_itself_once_an_hour() {
        let tracks = Tracks::default();
        assert_eq!((0..2 * LINES).filter(|_| tracks.may_write("ci")).count(), LINES as usize);
        assert!(tracks.may_write("ann"));
        tokio::time::advance(std::time::Duration::from_secs(86_400)).await;
        assert!((0..LINES - 1).all(|_| tracks.may_write("ci")));

        let line = |at, target: &str| AuditRecord::new(at, "ci", "fleet.reconcile", target).detail("x");
        assert_eq!(tracks.fold(line(0, "fleet")), Some(line(0, "fleet")));
        assert!((1..10).all(|at| tracks.fold(line(at, "fleet")).is_none()));
        assert!(tracks.fold(line(10, "staging")).is_some());
        let later = tracks.fold(line(REPEAT, "fleet")).unwrap();
        assert_eq!(later.detail, "x; and 9 times in the hour after the last line");
        assert_eq!(tracks.fold(line(2 * REPEAT, "fleet")), Some(line(2 * REPEAT, "fleet")));
        assert!(tracks.fold(line(5, "fleet")).is_some(), "a clock that was put back hides nothing");
    }
}
