//! Rates: so many at once, so many a second; for one, or for each of many (addresses, clusters, tokens).

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

use crate::lock;

/// A token bucket.
#[derive(Debug, Clone)]
pub struct Bucket {
    burst: f64,
    per_second: f64,
    level: f64,
    at: Instant,
}

impl Bucket {
    /// Full. `per_second` may be a fraction.
    pub fn new(burst: u32, per_second: impl Into<f64>) -> Self {
        let burst = f64::from(burst);
        Self { burst, per_second: per_second.into(), level: burst, at: Instant::now() }
    }

    fn refill(&mut self) {
        let now = Instant::now();
        self.level += now.duration_since(self.at).as_secs_f64() * self.per_second;
        self.level = self.level.min(self.burst);
        self.at = now;
    }

    /// Takes one; answers how long to wait before the next may be taken.
    pub fn take(&mut self) -> Duration {
        self.take_many(1)
    }

    /// Takes so many at once; answers how long to wait before the next may be taken.
    pub fn take_many(&mut self, count: u32) -> Duration {
        self.refill();
        self.level -= f64::from(count);
        if self.level >= 0.0 {
            Duration::ZERO
        } else {
            Duration::from_secs_f64(-self.level / self.per_second)
        }
    }

    /// Takes one only if there is one.
    pub fn try_take(&mut self) -> bool {
        let there = self.has_one();
        if there {
            self.level -= 1.0;
        }
        there
    }

    /// Whether [`Bucket::try_take`] would take one.
    pub fn has_one(&mut self) -> bool {
        self.refill();
        self.level >= 1.0
    }

    fn is_full(&mut self) -> bool {
        self.refill();
        self.level >= self.burst
    }
}

/// A bucket for each key. Keys whose bucket is full again are forgotten.
#[derive(Debug)]
pub struct Rates<K> {
    burst: u32,
    per_second: f64,
    buckets: Mutex<HashMap<K, Bucket>>,
}

/// So many keys are remembered at most.
const MAX_KEYS: usize = 65_536;

impl<K: Eq + Hash> Rates<K> {
    pub fn new(burst: u32, per_second: impl Into<f64>) -> Self {
        Self { burst, per_second: per_second.into(), buckets: Mutex::default() }
    }

    fn with<T>(&self, key: K, look: impl FnOnce(&mut Bucket) -> T) -> T {
        let mut buckets = lock(&self.buckets);
        if buckets.len() >= MAX_KEYS && !buckets.contains_key(&key) {
            buckets.retain(|_, bucket| !bucket.is_full());
            // More keys than that at once are an attack from everywhere, which no limit by key holds off.
            if buckets.len() >= MAX_KEYS {
                buckets.clear();
            }
        }
        look(buckets.entry(key).or_insert_with(|| Bucket::new(self.burst, self.per_second)))
    }

    /// Takes one from the key's bucket if there is one.
    pub fn try_take(&self, key: K) -> bool {
        self.with(key, Bucket::try_take)
    }

    /// Whether [`Rates::try_take`] would take one.
    pub fn has_one(&self, key: K) -> bool {
        self.with(key, Bucket::has_one)
    }
}

/// Lines of a log at a bounded rate, and how many are left out.
#[derive(Debug)]
pub struct LogLimit(Mutex<(Bucket, u64)>);

impl LogLimit {
    pub fn new(burst: u32, per_second: impl Into<f64>) -> Self {
        Self(Mutex::new((Bucket::new(burst, per_second), 0)))
    }

    /// Asks for a line: answers how many were left out since the last one, or `None` where this one is left out too.
    pub fn take(&self) -> Option<u64> {
        let mut limit = lock(&self.0);
        let (bucket, left_out) = &mut *limit;
        if bucket.try_take() {
            return Some(std::mem::take(left_out));
        }
        *left_out += 1;
        None
    }
}

/// An address as limits count it: an IPv4 address, or a network of 64 bits of IPv6, as those are given out whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Origin(u64, bool);

impl From<IpAddr> for Origin {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(v4) => Self(u32::from(v4).into(), false),
            IpAddr::V6(v6) => Self((u128::from(v6) >> 64) as u64, true),
        }
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

    #[tokio::test(start_paused = true)]
    async fn each_key_has_its_own_bucket_and_full_ones_are_forgotten() {
        let rates = Rates::new(2, 1);
        assert_eq!((0..5).filter(|_| rates.try_take(usize::MAX)).count(), 2);
        assert!(rates.has_one(1) && !rates.has_one(usize::MAX));
        for key in 0..MAX_KEYS + 10 {
            assert!(rates.try_take(key));
        }
        tokio::time::advance(Duration::from_secs(10)).await;
        for key in MAX_KEYS + 10..2 * MAX_KEYS {
            assert!(rates.try_take(key));
        }
        assert!(rates.buckets.lock().unwrap().len() <= MAX_KEYS);
    }

    #[tokio::test(start_paused = true)]
    async fn lines_that_are_left_out_are_counted_on_the_next() {
        let log = LogLimit::new(2, 0.5);
        let lines: Vec<_> = (0..5).map(|_| log.take()).collect();
        assert_eq!(lines, [Some(0), Some(0), None, None, None]);
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!((log.take(), log.take()), (Some(3), None));
    }

    #[test]
    fn a_network_of_ipv6_counts_as_one() {
        let origin = |text: &str| Origin::from(text.parse::<IpAddr>().unwrap());
        assert_eq!(origin("2001:db8:1:2::1"), origin("2001:db8:1:2:ffff::9"));
        assert_ne!(origin("2001:db8:1:2::1"), origin("2001:db8:1:3::1"));
        assert_eq!(origin("::ffff:192.0.2.1"), origin("192.0.2.1"));
        assert_ne!(origin("192.0.2.1"), origin("192.0.2.2"));
        assert_ne!(origin("0.0.0.1"), origin("0:0:0:1::"));
    }
}
