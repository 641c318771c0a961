//! When a source is looked at next.

use std::time::Duration;

/// The first delay after a failure; it doubles with each further one.
const RETRY: Duration = Duration::from_secs(5);
/// The longest, unless the source's own interval is longer.
pub(super) const RETRY_MOST: Duration = Duration::from_secs(300);

/// How long after a failure the next attempt is, after so many failures before it.
pub(super) fn retry_after(failures: u32, interval: Duration) -> Duration {
    let doubled = RETRY.saturating_mul(1 << failures.min(10));
    jittered(doubled.min(RETRY_MOST.max(interval)))
}

/// Up to a tenth more, so that sources do not stay in step.
pub(super) fn jittered(interval: Duration) -> Duration {
    interval.mul_f64(1.0 + rand::random::<f64>() / 10.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_a_bound_and_do_not_stay_in_step() {
        let (short, long) = (Duration::from_secs(60), Duration::from_secs(3600));
        for (failures, interval, seconds) in [
            (0, short, 5),
            (1, short, 10),
            (3, long, 40),
            (6, short, 300),
            (6, long, 320),
            (9, long, 2560),
            (10, long, 3600),
            (u32::MAX, long, 3600),
        ] {
            let seconds = Duration::from_secs(seconds);
            let drawn: Vec<Duration> = (0..20).map(|_| retry_after(failures, interval)).collect();
            let fits = |delay: &Duration| *delay >= seconds && *delay <= seconds.mul_f64(1.1);
            assert!(drawn.iter().all(fits), "{failures} {interval:?}: {drawn:?}");
            assert!(drawn.iter().any(|delay| *delay != drawn[0]), "{drawn:?}");
        }
    }
}
