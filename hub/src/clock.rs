//! The machine's clock, for what counts seconds that it does not show to agents.

use std::time::{SystemTime, UNIX_EPOCH};

use flotilla_core::report::Timestamp;

/// Seconds since 1970; before that it is 1970.
pub(crate) fn unix_now() -> Timestamp {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as Timestamp)
}
