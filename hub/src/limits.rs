//! Rates: so many at once, so many a second. Who is faster waits.

use std::time::Duration;

use tokio::time::Instant;

/// A token bucket.
#[derive(Debug, Clone)]
pub struct Bucket {
    burst: f64,
    per_second: f64,
    level: f64,
    at: Instant,
}

impl Bucket {
    /// Full.
    pub fn new(burst: u32, per_second: u32) -> Self {
        let burst = f64::from(burst);
        Self { burst, per_second: f64::from(per_second), level: burst, at: Instant::now() }
    }

    /// Takes one; answers how long to wait before the next may be taken.
    pub fn take(&mut self) -> Duration {
        let now = Instant::now();
        self.level += now.duration_since(self.at).as_secs_f64() * self.per_second;
        self.level = self.level.min(self.burst) - 1.0;
        self.at = now;
        if self.level >= 0.0 {
            Duration::ZERO
        } else {
            Duration::from_secs_f64(-self.level / self.per_second)
        }
    }

    /// Takes one only if there is one.
    pub fn try_take(&mut self) -> bool {
        if self.take().is_zero() {
            return true;
        }
        self.level += 1.0;
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_passes_and_then_the_rate_holds() {
        let mut bucket = Bucket::new(10, 5);
        assert!((0..10).all(|_| bucket.try_take()));
        assert!(!bucket.try_take());
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!((0..20).filter(|_| bucket.try_take()).count(), 5);
        let start = Instant::now();
        for _ in 0..50 {
            tokio::time::sleep(bucket.take()).await;
        }
        let took = start.elapsed().as_secs_f64();
        assert!((9.0..11.0).contains(&took), "{took}");
    }
}
