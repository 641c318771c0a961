//! Whether the fleet loop goes on: what readiness and metrics tell of its rounds.

use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use flotilla_runtime::lock;

/// A round that shows no sign of life for this time, beyond what it may wait for one cluster, does not end.
const STALL: Duration = Duration::from_secs(60);

/// The rounds of the fleet loop.
#[derive(Debug)]
pub struct Pulse(Mutex<Beats>);

#[derive(Debug, Clone, Copy)]
struct Beats {
    /// No round is silent for longer, and none ends later after the one before.
    silence: Duration,
    gap: Duration,
    /// The round that is under way.
    began: Option<Instant>,
    last_sign: Instant,
    ended: Instant,
    told: Told,
}

/// What there is to tell of rounds.
#[derive(Debug, Clone, Copy, Default)]
pub struct Told {
    /// When the last one ended, in seconds since 1970; 0: none has.
    pub ended_at: f64,
    /// How long it took, in seconds.
    pub took: f64,
    /// Clusters whose render took too long, so that no round waits for it.
    pub overdue: i64,
}

impl Default for Pulse {
    fn default() -> Self {
        let now = Instant::now();
        Self(Mutex::new(Beats {
            silence: STALL,
            gap: STALL,
            began: None,
            last_sign: now,
            ended: now,
            told: Told::default(),
        }))
    }
}

impl Pulse {
    /// How long a round waits for one cluster, and how often there is a round at least.
    pub fn expect(&self, patience: Duration, interval: Duration) {
        let mut beats = self.beats();
        beats.silence = patience + STALL;
        beats.gap = interval * 2 + beats.silence;
    }

    /// A round begins.
    pub fn begin(&self) {
        let now = Instant::now();
        let mut beats = self.beats();
        (beats.began, beats.last_sign) = (Some(now), now);
    }

    /// The round that is under way goes on.
    pub fn tick(&self) {
        self.beats().last_sign = Instant::now();
    }

    /// It ends, and goes without so many clusters that take too long.
    pub fn end(&self, overdue: usize) {
        let now = Instant::now();
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut beats = self.beats();
        let took = beats.began.take().map_or(Duration::ZERO, |began| now - began);
        (beats.last_sign, beats.ended) = (now, now);
        beats.told = Told {
            ended_at: since_epoch.as_secs_f64(),
            took: took.as_secs_f64(),
            overdue: i64::try_from(overdue).unwrap_or(i64::MAX),
        };
    }

    pub fn told(&self) -> Told {
        self.beats().told
    }

    /// What is wrong with the rounds, for whoever has to act; `None`: they go on.
    pub fn stall(&self, now: Instant) -> Option<String> {
        let beats = *self.beats();
        let silent = now.saturating_duration_since(beats.last_sign);
        let since = now.saturating_duration_since(beats.ended);
        match beats.began {
            Some(_) if silent > beats.silence => Some(format!(
                "a round of the fleet loop does not end: no sign of life for {} s",
                silent.as_secs()
            )),
            None if since > beats.gap => {
                Some(format!("the fleet loop has not finished a round for {} s", since.as_secs()))
            }
            _ => None,
        }
    }

    fn beats(&self) -> MutexGuard<'_, Beats> {
        lock(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_that_stall_or_stay_away_are_told() {
        let pulse = Pulse::default();
        pulse.expect(Duration::from_secs(10), Duration::from_secs(60));
        let after = |seconds| pulse.stall(Instant::now() + Duration::from_secs(seconds));
        assert_eq!(after(180), None, "two polls and what a round may take");
        assert!(after(200).unwrap().contains("has not finished a round for"));
        pulse.begin();
        assert_eq!(after(60), None);
        assert!(after(80).unwrap().contains("does not end"));
        pulse.tick();
        assert_eq!(after(60), None);
        pulse.end(2);
        assert_eq!(after(180), None);
        assert!(after(200).unwrap().contains("has not finished a round for"));
        assert_eq!(pulse.told().overdue, 2);
        assert!(pulse.told().ended_at > 0.0);
    }
}
