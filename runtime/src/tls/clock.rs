//! The time that certificates are checked against.
//!
//! Boards without a battery boot in 1970, where every certificate lies in the future. The hub is asked for
//! the time at each connection, but checking the hub's certificate needs the time first. So the time is what
//! the hub said in the last minutes, plus what has passed since; without that, the latest of the system's clock,
//! what the hub said before, and the moment when this program was built.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustls::time_provider::TimeProvider;
use rustls_pki_types::UnixTime;

use crate::lock;

/// A clock; clones share what the hub said.
#[derive(Clone, Debug)]
pub struct Clock(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// Only tests have it: what both the system's clock and the elapsed time are taken from.
    fixed: Option<Mutex<SystemTime>>,
    floor: SystemTime,
    heard: Mutex<Option<Heard>>,
}

/// What the hub said, and when.
#[derive(Debug, Clone, Copy)]
struct Heard {
    said: SystemTime,
    at: Instant,
    /// It was said at that moment, and not kept from before.
    live: bool,
}

/// For so long the hub's word beats a system clock that is ahead of it, which may have jumped. Not for longer: no time
/// passes for an `Instant` while a machine sleeps.
const FRESH: Duration = Duration::from_secs(600);

impl Default for Clock {
    fn default() -> Self {
        Self::system()
    }
}

impl Clock {
    /// On the system's clock and the build time.
    pub fn system() -> Self {
        Self(Arc::new(Inner { fixed: None, floor: build_time(), heard: Mutex::default() }))
    }

    /// A clock for tests that stands at `now`, without a build time.
    pub fn fixed(now: SystemTime) -> Self {
        Self(Arc::new(Inner { fixed: Some(Mutex::new(now)), floor: UNIX_EPOCH, heard: Mutex::default() }))
    }

    /// Sets a clock made by [`Clock::fixed`]; others take no notice.
    pub fn set(&self, now: SystemTime) {
        if let Some(fixed) = &self.0.fixed {
            *lock(fixed) = now;
        }
    }

    /// Takes over the time that an authenticated hub says now. The newest word counts, be it later or earlier than
    /// the one before: a hub whose clock was wrong is believed again once it is right.
    pub fn hear(&self, hub: SystemTime) {
        self.set_heard(hub, true);
    }

    /// Takes over what the hub said at some time before, so that it is not earlier than that.
    pub fn recall(&self, hub: SystemTime) {
        self.set_heard(hub, false);
    }

    fn set_heard(&self, said: SystemTime, live: bool) {
        let heard = Heard { said, at: Instant::now(), live };
        *lock(&self.0.heard) = Some(heard);
    }

    /// The best guess at the time.
    pub fn now(&self) -> SystemTime {
        let heard = *lock(&self.0.heard);
        let elapsed = heard.map_or(Duration::ZERO, |heard| heard.at.elapsed());
        let (system, passed) = match &self.0.fixed {
            Some(fixed) => (*lock(fixed), Duration::ZERO),
            None => (SystemTime::now(), elapsed),
        };
        let said = heard.map_or(UNIX_EPOCH, |heard| heard.said + passed);
        let fresh = heard.is_some_and(|heard| heard.live) && elapsed < FRESH;
        if fresh { said.max(self.0.floor) } else { system.max(said).max(self.0.floor) }
    }

    /// The system's clock, whatever the hub said; `None` where it cannot be right.
    pub(crate) fn own_unix(&self) -> Option<UnixTime> {
        let system = self.0.fixed.as_ref().map_or_else(SystemTime::now, |fixed| *lock(fixed));
        (system >= self.0.floor).then(|| unix(system))
    }

    pub(crate) fn unix(&self) -> UnixTime {
        unix(self.now())
    }
}

fn unix(time: SystemTime) -> UnixTime {
    UnixTime::since_unix_epoch(time.duration_since(UNIX_EPOCH).unwrap_or_default())
}

impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(self.unix())
    }
}

/// When this program was built (or `SOURCE_DATE_EPOCH` of the build).
pub fn build_time() -> SystemTime {
    let seconds = env!("FLOTILLA_BUILD_TIME").parse().expect("the build script writes a number");
    UNIX_EPOCH + Duration::from_secs(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(day: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(day * 86_400)
    }

    #[test]
    fn the_latest_known_time_counts_and_the_hubs_newest_word() {
        let clock = Clock::fixed(day(3));
        assert_eq!(clock.now(), day(3));
        clock.hear(day(20_000));
        assert_eq!(clock.now(), day(20_000));
        clock.hear(day(10_000));
        assert_eq!(clock.clone().now(), day(10_000));
        clock.set(day(30_000));
        assert_eq!(clock.now(), day(10_000), "it jumped ahead of what the hub has just said");
        clock.recall(day(10_000));
        assert_eq!(clock.now(), day(30_000));
        clock.recall(day(40_000));
        assert_eq!(clock.now(), day(40_000));
    }

    #[test]
    fn a_system_clock_is_never_before_the_build() {
        assert!(build_time() > day(20_000));
        assert!(Clock::system().now() >= build_time());
    }
}
