//! Where events wait to be written.

use std::collections::HashMap;
use std::sync::Mutex;

use flotilla_core::ClusterName;
use flotilla_core::report;
use flotilla_proto::convert::cut;
use flotilla_runtime::limits::Rates;
use flotilla_runtime::lock;
use tokio::sync::Notify;

use super::Event;

/// So many wait to be written; what comes beyond that is counted.
const MAX_WAITING: usize = 20_000;
/// Events of one agent: so many at once, and so many a second, so that none fills the journal alone.
const BURST: u32 = 1_000;
const PER_SECOND: f64 = 2.0;

/// Where events wait to be written; whoever notes one has it.
#[derive(Debug)]
pub struct Inbox {
    pub(super) waiting: Mutex<Waiting>,
    rates: Rates<ClusterName>,
    /// There is something to write.
    wake: Notify,
}

#[derive(Debug, Default)]
pub(super) struct Waiting {
    pub(super) events: Vec<Event>,
    /// What is wrong with the fleet as the hub finds it when it starts: it may have been told before.
    pub(super) found: Vec<Event>,
    /// How many of each cluster were left out; of none: of the hub itself.
    pub(super) left_out: HashMap<Option<ClusterName>, u64>,
}

impl Default for Inbox {
    fn default() -> Self {
        Self { waiting: Mutex::default(), rates: Rates::new(BURST, PER_SECOND), wake: Notify::new() }
    }
}

impl Inbox {
    /// Takes what the hub noticed; it is written soon.
    pub fn note(&self, events: impl IntoIterator<Item = Event>) {
        lock(&self.waiting).take(events, |waiting| &mut waiting.events);
        self.wake.notify_one();
    }

    /// The same for what the hub finds wrong when it starts: what the journal has as the last word is not told again.
    pub fn note_found(&self, events: impl IntoIterator<Item = Event>) {
        lock(&self.waiting).take(events, |waiting| &mut waiting.found);
        self.wake.notify_one();
    }

    /// Takes what an agent told, as much as one may.
    pub fn note_of(&self, cluster: &ClusterName, events: Vec<report::Event>) {
        if events.is_empty() {
            return;
        }
        let (taken, more): (Vec<_>, Vec<_>) =
            events.into_iter().partition(|_| self.rates.try_take(cluster.clone()));
        if !more.is_empty() {
            *lock(&self.waiting).left_out.entry(Some(cluster.clone())).or_default() += more.len() as u64;
        }
        self.note(taken.into_iter().map(|event| Event::of_agent(cluster, event)));
    }

    /// Waits until there is something to write. Cancel-safe.
    pub async fn wanted(&self) {
        self.wake.notified().await;
    }

    pub(super) fn empty(&self) -> Waiting {
        std::mem::take(&mut *lock(&self.waiting))
    }

    /// What waits, in place of writing it.
    #[cfg(test)]
    pub(crate) fn take(&self) -> Vec<Event> {
        let Waiting { events, found, .. } = self.empty();
        [found, events].concat()
    }
}

impl Waiting {
    fn take(&mut self, events: impl IntoIterator<Item = Event>, to: impl Fn(&mut Self) -> &mut Vec<Event>) {
        for mut event in events {
            event.message = cut(event.message);
            if to(self).len() >= MAX_WAITING {
                *self.left_out.entry(event.cluster).or_default() += 1;
            } else {
                to(self).push(event);
            }
        }
    }
}
