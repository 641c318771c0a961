//! What happened to sources goes to the journal, and wakes who shows it.

use std::sync::Arc;

use flotilla_core::source::SourceId;
use tokio::sync::watch;

use crate::journal::{Event, Inbox};

/// The way of sources to the journal.
#[derive(Debug)]
pub struct SourceEvents {
    pub(super) inbox: Arc<Inbox>,
    noted: watch::Sender<u64>,
}

impl Default for SourceEvents {
    fn default() -> Self {
        Self::new(Arc::default())
    }
}

impl SourceEvents {
    pub(crate) fn new(inbox: Arc<Inbox>) -> Self {
        Self { inbox, noted: watch::Sender::new(0) }
    }

    pub(crate) fn note(&self, events: impl IntoIterator<Item = Event>) {
        let mut events = events.into_iter().peekable();
        if events.peek().is_some() {
            self.inbox.note(events);
            self.noted.send_modify(|count| *count += 1);
        }
    }

    /// Ticks when something was noted.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.noted.subscribe()
    }
}

/// Something that happened to a source.
pub(crate) fn event(at: i64, source: SourceId, warning: bool, reason: &str, message: String) -> Event {
    Event {
        at,
        cluster: None,
        unit: None,
        object: None,
        source: Some(source),
        warning,
        reason: reason.to_owned(),
        message,
    }
}
