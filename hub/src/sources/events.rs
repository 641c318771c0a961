//! What happened to sources: the newest of it, for people.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use flotilla_core::source::SourceId;
use tokio::sync::watch;

/// The newest so many are kept.
const KEPT: usize = 1000;

/// Something that happened to a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceEvent {
    /// In seconds since 1970.
    pub at: i64,
    pub source: SourceId,
    pub warning: bool,
    pub reason: &'static str,
    pub message: String,
}

/// The events of all sources.
#[derive(Debug)]
pub struct SourceEvents {
    kept: Mutex<VecDeque<SourceEvent>>,
    noted: watch::Sender<u64>,
}

impl Default for SourceEvents {
    fn default() -> Self {
        Self { kept: Mutex::default(), noted: watch::Sender::new(0) }
    }
}

impl SourceEvents {
    pub(crate) fn note(&self, events: impl IntoIterator<Item = SourceEvent>) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let before = kept.len();
        kept.extend(events);
        let is_more = kept.len() > before;
        let over = kept.len().saturating_sub(KEPT);
        kept.drain(..over);
        drop(kept);
        if is_more {
            self.noted.send_modify(|count| *count += 1);
        }
    }

    /// Those that `is_meant`, the newest first.
    pub(crate) fn newest(&self, is_meant: impl Fn(&SourceEvent) -> bool) -> Vec<SourceEvent> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.iter().rev().filter(|event| is_meant(event)).cloned().collect()
    }

    /// Ticks when something was noted.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.noted.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use flotilla_core::source::SourceKind;

    use super::*;

    #[test]
    fn the_newest_are_kept() {
        let events = SourceEvents::default();
        let event = |at| SourceEvent {
            at,
            source: SourceId::new(SourceKind::Bucket, "a", "b"),
            warning: at % 2 == 0,
            reason: "Fetched",
            message: String::new(),
        };
        events.note((0..1500).map(event));
        events.note([]);
        assert_eq!(*events.changes().borrow(), 1);
        let warnings = events.newest(|event| event.warning);
        assert_eq!((warnings.len(), warnings[0].at, warnings[499].at), (500, 1498, 500));
    }
}
