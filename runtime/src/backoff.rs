//! Delays between attempts: exponential with full jitter.
//!
//! Full jitter draws each delay evenly from zero to a ceiling that doubles, so that ten thousand agents
//! that lost the same hub do not come back in waves.

use std::time::Duration;

use rand::Rng;

/// The state of one retried activity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backoff {
    base: Duration,
    max: Duration,
    failures: u32,
}

impl Backoff {
    /// The first delay is at most `base`, each later one at most twice as long, and none above `max`.
    pub const fn new(base: Duration, max: Duration) -> Self {
        Self { base, max, failures: 0 }
    }

    /// How many delays were given since the start or the last reset.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// The longest that any delay can be.
    pub fn longest(&self) -> Duration {
        self.max
    }

    /// The longest that the next delay can be.
    pub fn ceiling(&self) -> Duration {
        let factor = 2u32.checked_pow(self.failures).unwrap_or(u32::MAX);
        self.base.saturating_mul(factor).min(self.max)
    }

    /// The next delay, drawn from `[0, ceiling]`; the ceiling then doubles.
    pub fn next_delay(&mut self, random: &mut impl Rng) -> Duration {
        let ceiling = self.ceiling();
        self.failures = self.failures.saturating_add(1);
        ceiling.mul_f64(random.random::<f64>()).min(ceiling)
    }

    /// Sleeps for the next delay. Cancel-safe: a wait that is dropped has counted as a failure.
    pub async fn wait(&mut self) {
        let delay = self.next_delay(&mut rand::rng());
        tokio::time::sleep(delay).await;
    }

    /// After a success: the next failure starts from `base` again.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand::rngs::StdRng;
    use tokio::time::Instant;

    #[test]
    fn the_ceiling_doubles_up_to_the_maximum_and_starts_again_after_a_reset() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(10));
        let mut random = StdRng::seed_from_u64(1);
        for expected in [1, 2, 4, 8, 10, 10] {
            assert_eq!(backoff.ceiling(), Duration::from_secs(expected));
            backoff.next_delay(&mut random);
        }
        backoff.reset();
        assert_eq!(backoff.ceiling(), Duration::from_secs(1));
    }

    #[test]
    fn delays_are_spread_over_the_whole_range() {
        let mut random = StdRng::seed_from_u64(7);
        let draws: Vec<_> = (0..1000)
            .map(|_| Backoff::new(Duration::from_secs(100), Duration::MAX).next_delay(&mut random).as_secs())
            .collect();
        for decile in 0..10u64 {
            let share = draws.iter().filter(|seconds| **seconds / 10 == decile).count();
            assert!((60..=140).contains(&share), "{share} of 1000 delays in {decile}0s");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_takes_what_the_clock_says() {
        let mut backoff = Backoff::new(Duration::from_secs(60), Duration::from_secs(3600));
        let start = Instant::now();
        for _ in 0..20 {
            backoff.wait().await;
        }
        assert_eq!(backoff.failures(), 20);
        let total = start.elapsed();
        assert!(total > Duration::from_secs(3600) && total < Duration::from_secs(20 * 3600), "{total:?}");
    }

    proptest! {
        #[test]
        fn no_delay_exceeds_its_ceiling(base in 0u64..1 << 40, max in 0u64..1 << 50, failures in 0u32..200, seed: u64) {
            let mut backoff = Backoff::new(Duration::from_millis(base), Duration::from_millis(max));
            backoff.failures = failures;
            let ceiling = backoff.ceiling();
            prop_assert!(ceiling <= Duration::from_millis(max));
            prop_assert!(backoff.next_delay(&mut StdRng::seed_from_u64(seed)) <= ceiling);
        }
    }
}
