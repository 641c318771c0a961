//! Connections that wait for a place, by age and by address. Each costs a file descriptor and nothing else.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::Instant;

use crate::limits::Origin;

/// How long a connection waits at most.
const WAIT: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(super) struct Waiting<T> {
    most: usize,
    next: u64,
    /// By age.
    queue: BTreeMap<u64, Entry<T>>,
    /// Each address's own, by age.
    origins: HashMap<Origin, VecDeque<u64>>,
}

#[derive(Debug)]
struct Entry<T> {
    stream: T,
    peer: SocketAddr,
    since: Instant,
}

impl<T> Waiting<T> {
    pub(super) fn new(most: usize) -> Self {
        Self { most, next: 0, queue: BTreeMap::new(), origins: HashMap::new() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Takes one more; answers how many had to go. Where it is full, that is the oldest of the same address, or else the
    /// oldest of all.
    pub(super) fn push(&mut self, stream: T, peer: SocketAddr) -> u64 {
        let origin = Origin::from(peer.ip());
        let mut gone = 0;
        if self.queue.len() >= self.most {
            let own = self.origins.get(&origin).and_then(|own| own.front()).copied();
            let oldest = own.or_else(|| self.queue.keys().next().copied());
            gone += u64::from(oldest.is_some_and(|oldest| self.take(oldest).is_some()));
        }
        let id = self.next;
        self.next += 1;
        self.origins.entry(origin).or_default().push_back(id);
        self.queue.insert(id, Entry { stream, peer, since: Instant::now() });
        gone
    }

    /// Drops those that have waited too long; answers how many.
    pub(super) fn expire(&mut self) -> u64 {
        let mut gone = 0;
        while let Some((id, entry)) = self.queue.first_key_value()
            && entry.since.elapsed() >= WAIT
        {
            let id = *id;
            self.take(id);
            gone += 1;
        }
        gone
    }

    /// The address of the one that has waited longest.
    pub(super) fn first(&self) -> Option<SocketAddr> {
        self.queue.first_key_value().map(|(_, entry)| entry.peer)
    }

    /// The addresses that wait.
    pub(super) fn origins(&self) -> impl Iterator<Item = &Origin> {
        self.origins.keys()
    }

    /// The one that has waited longest.
    pub(super) fn pop(&mut self) -> Option<(T, SocketAddr)> {
        let id = *self.queue.first_key_value()?.0;
        self.take(id)
    }

    /// The one of this address that has waited longest.
    pub(super) fn pop_of(&mut self, origin: Origin) -> Option<(T, SocketAddr)> {
        let id = *self.origins.get(&origin)?.front()?;
        self.take(id)
    }

    fn take(&mut self, id: u64) -> Option<(T, SocketAddr)> {
        let Entry { stream, peer, .. } = self.queue.remove(&id)?;
        let origin = Origin::from(peer.ip());
        if let Some(own) = self.origins.get_mut(&origin) {
            // Whoever goes is the first of its address, so the first that is gone leads to no other.
            while own.front().is_some_and(|first| !self.queue.contains_key(first)) {
                own.pop_front();
            }
            if own.is_empty() {
                self.origins.remove(&origin);
            }
        }
        Some((stream, peer))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(n: u8) -> SocketAddr {
        ([127, 0, 0, n], 1).into()
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_queue_makes_room_by_the_newcomers_own_or_else_by_the_oldest() {
        let mut waiting = Waiting::new(3);
        for (name, from) in [("a1", 1), ("b1", 2), ("a2", 1)] {
            assert_eq!(waiting.push(name, peer(from)), 0);
        }
        assert_eq!(waiting.push("a3", peer(1)), 1);
        assert_eq!(waiting.push("c1", peer(3)), 1, "b1 was the oldest");
        assert_eq!(waiting.first(), Some(peer(1)));
        assert_eq!(waiting.pop_of(Origin::from(peer(3).ip())), Some(("c1", peer(3))));
        assert_eq!(waiting.pop_of(Origin::from(peer(2).ip())), None);
        tokio::time::advance(WAIT / 2).await;
        waiting.push("d1", peer(4));
        tokio::time::advance(WAIT / 2).await;
        assert_eq!(waiting.expire(), 2);
        assert_eq!(waiting.origins().count(), 1);
        assert_eq!(waiting.pop(), Some(("d1", peer(4))));
        assert!(waiting.is_empty() && waiting.pop().is_none());
    }
}
