//! Notices that something changed, conflated: a slow reader hears of each cluster once, however often it changed.

use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;

use flotilla_core::ClusterName;
use flotilla_runtime::lock;
use tokio::sync::watch;

/// Numbers every change, and remembers the last number of each cluster and of the fleet.
#[derive(Debug)]
pub struct Changes {
    last: Mutex<Last>,
    tick: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Last {
    clusters: HashMap<ClusterName, u64>,
    /// The same by number, so that a look costs what changed.
    order: BTreeMap<u64, ClusterName>,
    fleet: u64,
}

/// What changed since a reader looked last.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changed {
    pub clusters: Vec<ClusterName>,
    pub fleet: bool,
}

/// A reader's place in the numbers.
#[derive(Debug)]
pub struct Reader {
    seen: u64,
    tick: watch::Receiver<u64>,
}

impl Default for Changes {
    fn default() -> Self {
        Self { last: Mutex::default(), tick: watch::Sender::new(0) }
    }
}

impl Changes {
    pub fn cluster(&self, name: &ClusterName) {
        self.note(|last, number| {
            if let Some(before) = last.clusters.insert(name.clone(), number) {
                last.order.remove(&before);
            }
            last.order.insert(number, name.clone());
        });
    }

    pub fn fleet(&self) {
        self.note(|last, number| last.fleet = number);
    }

    fn note(&self, note: impl FnOnce(&mut Last, u64)) {
        let mut last = lock(&self.last);
        self.tick.send_modify(|number| {
            *number += 1;
            note(&mut last, *number);
        });
    }

    /// Ticks with each change.
    pub fn ticks(&self) -> watch::Receiver<u64> {
        self.tick.subscribe()
    }

    /// A reader that hears of what changes from now on.
    pub fn reader(&self) -> Reader {
        let tick = self.tick.subscribe();
        let seen = *tick.borrow();
        Reader { seen, tick }
    }

    /// Waits until something changed after the reader looked last. Cancel-safe.
    pub async fn next(&self, reader: &mut Reader) -> Changed {
        // The sender lives as long as `self`, so this cannot fail.
        let _ = reader.tick.wait_for(|number| *number > reader.seen).await;
        self.so_far(reader)
    }

    /// What changed after the reader looked last, which may be nothing.
    pub fn so_far(&self, reader: &mut Reader) -> Changed {
        let last = lock(&self.last);
        let mut clusters: Vec<_> =
            last.order.range(reader.seen + 1..).map(|(_, name)| name.clone()).collect();
        clusters.sort_unstable();
        let changed = Changed { clusters, fleet: last.fleet > reader.seen };
        reader.seen = *self.tick.borrow();
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_slow_reader_hears_of_each_cluster_once() {
        let changes = Changes::default();
        let (a, b): (ClusterName, ClusterName) = ("a".parse().unwrap(), "b".parse().unwrap());
        changes.cluster(&a);
        let mut reader = changes.reader();
        for _ in 0..100 {
            changes.cluster(&b);
            changes.cluster(&a);
        }
        let changed = changes.next(&mut reader).await;
        assert_eq!(changed, Changed { clusters: vec![a, b.clone()], fleet: false });
        assert_eq!(changes.so_far(&mut reader), Changed::default());
        changes.fleet();
        changes.cluster(&b);
        assert_eq!(changes.next(&mut reader).await, Changed { clusters: vec![b], fleet: true });
        let nothing = tokio::time::timeout(std::time::Duration::ZERO, changes.next(&mut reader)).await;
        assert!(nothing.is_err());
    }
}
