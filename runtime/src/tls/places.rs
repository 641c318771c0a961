//! How many connections a port has, and whose. A connection has a *place*. As long as nothing is proved of who is at its
//! other end (no client certificate, no good token), places are few, and whoever comes last gets one: the address that
//! has the most loses its oldest. So no number of idle or slow connections keeps anybody out for long, and an
//! address that opens many takes them from itself. A connection that has proved who it is counts with those of the
//! same identity only.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::limits::{Origin, Rates};
use crate::lock;

/// For so long a connection keeps its place before one from an address with as many: a handshake over a slow line takes
/// about this.
const GRACE: Duration = Duration::from_millis(500);

/// Limits on the connections of one port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlaceLimits {
    /// All together.
    pub connections: usize,
    /// Of these, those that have proved nothing; handshakes are among them.
    pub unproven: usize,
    /// Of one identity.
    pub per_identity: usize,
    /// Connections that wait for a place; more are closed, the oldest first.
    pub waiting: usize,
    /// New connections of one address: so many at once, and so many a second. More are closed at once.
    pub burst: u32,
    pub per_second: u32,
}

impl Default for PlaceLimits {
    fn default() -> Self {
        Self {
            connections: 2_000,
            unproven: 512,
            per_identity: 64,
            waiting: 1_024,
            burst: 1_000,
            per_second: 200,
        }
    }
}

/// The places of one port.
#[derive(Debug)]
pub struct Places {
    limits: PlaceLimits,
    rates: Rates<Origin>,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    next: u64,
    /// By age.
    unproven: BTreeMap<u64, Unproven>,
    per_origin: HashMap<Origin, usize>,
    proven: HashMap<Arc<str>, VecDeque<(u64, CancellationToken)>>,
    proven_count: usize,
    evicted: u64,
    refused: u64,
}

#[derive(Debug)]
struct Unproven {
    origin: Origin,
    since: Instant,
    end: CancellationToken,
}

/// How many connections there are, and how many there were to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PlaceCounts {
    pub unproven: usize,
    pub proven: usize,
    /// Lost their place to a newer connection.
    pub evicted: u64,
    /// Never had one.
    pub refused: u64,
}

impl Places {
    pub fn new(limits: PlaceLimits) -> Arc<Self> {
        let rates = Rates::new(limits.burst, limits.per_second);
        Arc::new(Self { limits, rates, held: Mutex::default() })
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        lock(&self.held)
    }

    pub fn counts(&self) -> PlaceCounts {
        let held = self.held();
        let Held { evicted, refused, .. } = *held;
        PlaceCounts { unproven: held.unproven.len(), proven: held.proven_count, evicted, refused }
    }

    /// Whether this address may open another connection now.
    pub(crate) fn may_open(&self, address: IpAddr) -> bool {
        let may = self.rates.try_take(address.into());
        if !may {
            self.held().refused += 1;
        }
        may
    }

    /// So many connections were turned away for want of room.
    pub(crate) fn note_refused(&self, count: u64) {
        self.held().refused += count;
    }

    /// Gives a place to a new connection, if need be that of another.
    pub fn enter(self: &Arc<Self>, address: IpAddr) -> Option<Place> {
        let place = self.free(address).or_else(|| self.enter_by_eviction(address.into()));
        if place.is_none() {
            self.note_refused(1);
        }
        place
    }

    /// A place, if one is free.
    pub(crate) fn free(self: &Arc<Self>, address: IpAddr) -> Option<Place> {
        let mut held = self.held();
        let is_full = held.unproven.len() >= self.limits.unproven
            || held.unproven.len() + held.proven_count >= self.limits.connections;
        (!is_full).then(|| self.give(&mut held, address.into()))
    }

    /// The place of another, if one may be taken.
    pub(crate) fn enter_by_eviction(self: &Arc<Self>, origin: Origin) -> Option<Place> {
        let mut held = self.held();
        held.evict_for(origin).then(|| self.give(&mut held, origin))
    }

    /// Of these addresses, one that has the fewest places as long as nothing is proved.
    pub(crate) fn fewest<'a>(&self, origins: impl Iterator<Item = &'a Origin>) -> Option<Origin> {
        let held = self.held();
        origins.min_by_key(|origin| held.per_origin.get(origin).copied().unwrap_or_default()).copied()
    }

    fn give(self: &Arc<Self>, held: &mut Held, origin: Origin) -> Place {
        let (id, end) = (held.next, CancellationToken::new());
        held.next += 1;
        *held.per_origin.entry(origin).or_default() += 1;
        held.unproven.insert(id, Unproven { origin, since: Instant::now(), end: end.clone() });
        Place { places: self.clone(), id, end, identity: Mutex::default() }
    }
}

impl Held {
    /// Ends a connection that has to make room for a newer one from `origin`.
    fn evict_for(&mut self, origin: Origin) -> bool {
        let count = |origin: &Origin| self.per_origin.get(origin).copied().unwrap_or_default();
        let wanted = count(&origin);
        let now = Instant::now();
        let may_go = |of: &Unproven| {
            let has = count(&of.origin);
            has > wanted + 1 || (has >= wanted && now.duration_since(of.since) >= GRACE)
        };
        let victim = self
            .unproven
            .iter()
            .filter(|(_, of)| may_go(of))
            // The oldest of those that have the most.
            .max_by_key(|(id, of)| (count(&of.origin), std::cmp::Reverse(**id)))
            .map(|(id, _)| *id);
        let Some(victim) = victim else { return false };
        if let Some(Unproven { end, .. }) = self.remove_unproven(victim) {
            end.cancel();
        }
        self.evicted += 1;
        true
    }

    fn remove_unproven(&mut self, id: u64) -> Option<Unproven> {
        let removed = self.unproven.remove(&id)?;
        if let Some(count) = self.per_origin.get_mut(&removed.origin) {
            *count -= 1;
            if *count == 0 {
                self.per_origin.remove(&removed.origin);
            }
        }
        Some(removed)
    }
}

/// A connection's place; it is given back when this is dropped.
#[derive(Debug)]
pub struct Place {
    places: Arc<Places>,
    id: u64,
    end: CancellationToken,
    identity: Mutex<Option<Arc<str>>>,
}

impl Place {
    /// Cancelled when the connection has to end.
    pub fn end(&self) -> &CancellationToken {
        &self.end
    }

    /// The connection has proved who is at its other end; the first proof counts. If there are too many of the same, the
    /// oldest ends.
    pub fn prove(&self, who: &str) {
        let mut identity = lock(&self.identity);
        if identity.is_some() {
            return;
        }
        let mut held = self.places.held();
        // One that lost its place is ending.
        let Some(Unproven { end, .. }) = held.remove_unproven(self.id) else { return };
        let who: Arc<str> = who.into();
        held.proven_count += 1;
        let same = held.proven.entry(who.clone()).or_default();
        same.push_back((self.id, end));
        if same.len() > self.places.limits.per_identity
            && let Some((_, oldest)) = same.pop_front()
        {
            oldest.cancel();
            held.proven_count -= 1;
            held.evicted += 1;
        }
        *identity = Some(who);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let identity = self.identity.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        let mut held = self.places.held();
        let Some(who) = identity else {
            held.remove_unproven(self.id);
            return;
        };
        let Some(same) = held.proven.get_mut(&who) else { return };
        let before = same.len();
        same.retain(|(id, _)| *id != self.id);
        let gone = before - same.len();
        if same.is_empty() {
            held.proven.remove(&who);
        }
        held.proven_count -= gone;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMITS: PlaceLimits =
        PlaceLimits { connections: 6, unproven: 4, per_identity: 2, waiting: 1, burst: 100, per_second: 100 };

    fn address(n: u8) -> IpAddr {
        [127, 0, 0, n].into()
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_the_most_makes_room_and_the_newest_comes_in() {
        let places = Places::new(LIMITS);
        let mut held: Vec<Place> = (0..4).map(|_| places.enter(address(1)).unwrap()).collect();
        assert!(places.enter(address(1)).is_none(), "its own are younger than the grace");
        let other = places.enter(address(2)).expect("an address with fewer need not wait");
        assert!(held[0].end().is_cancelled() && !held[1].end().is_cancelled());
        tokio::time::advance(GRACE).await;
        held.push(places.enter(address(1)).expect("the oldest of its own makes room"));
        assert!(held[1].end().is_cancelled() && !other.end().is_cancelled());
        assert_eq!(places.counts(), PlaceCounts { unproven: 4, proven: 0, evicted: 2, refused: 1 });
        held.clear();
        assert_eq!(places.counts().unproven, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_proved_stays_whatever_comes_and_counts_by_identity() {
        let places = Places::new(LIMITS);
        let proven: Vec<Place> = (0..3).map(|_| places.enter(address(1)).unwrap()).collect();
        proven.iter().for_each(|place| place.prove("staging"));
        assert!(proven[0].end().is_cancelled(), "there are two at most");
        proven[1].prove("production");
        tokio::time::advance(GRACE).await;
        let idle: Vec<Option<Place>> = (0..20).map(|n| places.enter(address(n))).collect();
        assert!(proven[1..].iter().all(|place| !place.end().is_cancelled()));
        assert_eq!((places.counts().proven, places.counts().unproven), (2, 4));
        drop(idle);
        drop(proven);
        let PlaceCounts { proven, unproven, .. } = places.counts();
        assert_eq!((proven, unproven), (0, 0));
    }

    proptest! {
        #[test]
        fn counts_agree_with_what_is_held(steps in proptest::collection::vec((0u8..6, 0u8..4, any::<u8>()), 0..80)) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
            runtime.block_on(async {
                let places = Places::new(LIMITS);
                let mut held: Vec<Place> = Vec::new();
                for (what, from, which) in steps {
                    match what {
                        0..=2 => held.extend(places.enter(address(from))),
                        3 if !held.is_empty() => held[which as usize % held.len()].prove(["a", "b"][from as usize % 2]),
                        4 if !held.is_empty() => drop(held.swap_remove(which as usize % held.len())),
                        _ => tokio::time::advance(GRACE / 2).await,
                    }
                    let live = held.iter().filter(|place| !place.end().is_cancelled()).count();
                    let counts = places.counts();
                    assert_eq!(counts.unproven + counts.proven, live);
                    assert!(counts.unproven <= LIMITS.unproven && live <= LIMITS.connections);
                }
            });
        }
    }
}
