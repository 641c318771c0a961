//! The machine's clock, for what counts seconds that it does not show to agents.

use std::time::{SystemTime, UNIX_EPOCH};

use flotilla_core::report::Timestamp;

/// Seconds since 1970; before that it is 1970.
pub(crate) fn unix_now() -> Timestamp {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as Timestamp);
    #[cfg(test)]
    let now = now.saturating_add(fake::wrong_by()).max(0);
    now
}

/// A clock that is wrong, for this thread only.
#[cfg(test)]
pub(crate) mod fake {
    use std::cell::Cell;

    use super::Timestamp;

    thread_local! {
        static WRONG_BY: Cell<Timestamp> = const { Cell::new(0) };
    }

    pub(super) fn wrong_by() -> Timestamp {
        WRONG_BY.get()
    }

    /// From now on the clock is wrong by so many seconds.
    pub(crate) fn set_wrong_by(seconds: Timestamp) {
        WRONG_BY.set(seconds);
    }
}
