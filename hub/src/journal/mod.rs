//! The journal of events: what happened in the fleet, numbered, the newest of it. People, and whoever tells others, read it from
//! where they stopped.
//!
//! ```text
//! agents' reports, fleet loop, sources, people ──► note ──► waiting ──► flush: one transaction ──► readers
//! ```
//! A reader sees an event once it is on disk: a cursor never names one that a crash takes back. A cursor whose events are not kept
//! any more is an error, so that nobody takes a gap for silence.

mod cursor;
mod event;
mod inbox;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use flotilla_core::report::Timestamp;
use flotilla_runtime::lock;
use tokio::sync::watch;

pub use self::cursor::{Cursor, InvalidCursor};
pub use self::event::Event;
pub use self::inbox::Inbox;
use self::inbox::Waiting;
use crate::store::{EventRecord, JournalHead, Records, StoreError};

/// So many events are kept, of so many bytes, for so many seconds.
const MAX_EVENTS: usize = 50_000;
const MAX_BYTES: usize = 32 << 20;
const MAX_AGE: Timestamp = 30 * 24 * 3600;
/// How the reasons begin by which the hub says whether something can be built.
pub(crate) const BUILD: &str = "Build";
/// So many are copied while writers wait.
const CHUNK: usize = 1_000;

/// What comes after a cursor is not all there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Missed {
    #[error("{0} events after the cursor are no longer kept")]
    TooOld(u64),
    #[error(
        "the cursor belongs to another journal: the hub was restored from a backup, or lost its data, and events may be missing"
    )]
    Foreign,
}

/// An event with its number.
pub type Numbered = (u64, Arc<Event>);

#[derive(Debug)]
pub struct Journal {
    records: Arc<Records>,
    id: String,
    restored_at: Option<Timestamp>,
    inbox: Arc<Inbox>,
    /// Held while events are written: their numbers are in the order in which they come to the disk.
    writing: Mutex<()>,
    kept: Mutex<Kept>,
    /// The number of the next event.
    written: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Kept {
    events: VecDeque<Numbered>,
    bytes: usize,
    next: u64,
}

impl Journal {
    /// Reads what is kept. Blocking.
    pub fn open(records: Arc<Records>) -> Result<Self, StoreError> {
        let restored_at = records.restored()?.map(|restored| restored.restored_at);
        let head = records.journal_head()?;
        let mut kept = Kept { next: 1, ..Kept::default() };
        for (number, record) in records.events()? {
            let event = Event::try_from(record)
                .map_err(|source| StoreError::Record { key: format!("event/{number:020}"), source })?;
            kept.next = kept.next.max(number + 1);
            kept.bytes += event.weight();
            kept.events.push_back((number, Arc::new(event)));
        }
        // Numbers of a backup may stand for other events elsewhere.
        let id = match head {
            Some(head) => {
                kept.next = kept.next.max(head.next);
                Some(head.id).filter(|_| head.restored_at == restored_at)
            }
            None => None,
        };
        let id = id.unwrap_or_else(|| format!("{:016x}", rand::random::<u64>()));
        let written = watch::Sender::new(kept.next);
        Ok(Self {
            records,
            id,
            restored_at,
            writing: Mutex::default(),
            kept: Mutex::new(kept),
            inbox: Arc::default(),
            written,
        })
    }

    /// Where they are kept.
    pub fn records(&self) -> &Arc<Records> {
        &self.records
    }

    /// Where events are noted.
    pub fn inbox(&self) -> &Arc<Inbox> {
        &self.inbox
    }

    /// Writes what waits, for readers to see. Blocking.
    ///
    /// # Errors
    /// Where the store fails: what waits goes on waiting.
    pub fn flush(&self, now: Timestamp) -> Result<(), StoreError> {
        let _writing = lock(&self.writing);
        let Waiting { mut events, mut found, left_out } = self.inbox.empty();
        found.retain(|event| !self.is_told(event));
        events.splice(..0, found);
        if events.is_empty() && left_out.is_empty() {
            return Ok(());
        }
        events.extend(left_out.into_iter().map(|(cluster, count)| Event {
            at: now,
            cluster,
            unit: None,
            object: None,
            source: None,
            warning: true,
            reason: "EventsLeftOut".to_owned(),
            message: format!(
                "{count} events were left out: there were more than the hub keeps of one cluster at a time"
            ),
        }));
        let (first, gone) = {
            let kept = lock(&self.kept);
            (kept.next, kept.too_many(&events, now))
        };
        let head = JournalHead {
            id: self.id.clone(),
            next: first + events.len() as u64,
            restored_at: self.restored_at,
        };
        let records: Vec<EventRecord> = events.iter().map(EventRecord::from).collect();
        if let Err(error) = self.records.append_events(&head, first, &records, &gone) {
            let mut waiting = lock(&self.inbox.waiting);
            events.append(&mut waiting.events);
            waiting.events = events;
            return Err(error);
        }
        let mut kept = lock(&self.kept);
        for (number, event) in (first..).zip(events) {
            kept.bytes += event.weight();
            kept.events.push_back((number, Arc::new(event)));
        }
        for _ in gone {
            if let Some((_, event)) = kept.events.pop_front() {
                kept.bytes -= event.weight();
            }
        }
        kept.next = head.next;
        drop(kept);
        self.written.send_replace(head.next);
        Ok(())
    }

    /// Whether this is the last word on its unit, or cluster, already.
    fn is_told(&self, event: &Event) -> bool {
        let kept = lock(&self.kept);
        let is_same = |other: &&Event| {
            other.cluster == event.cluster && other.unit == event.unit && other.reason.starts_with(BUILD)
        };
        let last = kept.events.iter().rev().map(|(_, event)| &**event).find(is_same);
        last.is_some_and(|last| last.reason == event.reason && last.message == event.message)
    }

    /// Ticks with what was written.
    pub fn written(&self) -> watch::Receiver<u64> {
        self.written.subscribe()
    }

    /// The place of an event.
    pub fn cursor(&self, number: u64) -> Cursor {
        Cursor { journal: self.id.clone(), number }
    }

    /// The place after all that was written.
    pub fn end(&self) -> Cursor {
        self.cursor(lock(&self.kept).next - 1)
    }

    /// Events after a cursor that are meant, the oldest first, at most so many; and the cursor to go on from.
    ///
    /// # Errors
    /// Where events after the cursor may be missing.
    pub fn after(
        &self,
        cursor: &Cursor,
        limit: usize,
        is_meant: impl Fn(&Event) -> bool,
    ) -> Result<(Vec<Numbered>, Cursor), Missed> {
        let (mut found, mut at) = (Vec::new(), cursor.number);
        loop {
            let chunk: Vec<Numbered> = {
                let kept = lock(&self.kept);
                if cursor.journal != self.id || at >= kept.next {
                    return Err(Missed::Foreign);
                }
                let oldest = kept.events.front().map_or(kept.next, |(number, _)| *number);
                if at + 1 < oldest {
                    return Err(Missed::TooOld(oldest - at - 1));
                }
                let from = kept.events.partition_point(|(number, _)| *number <= at);
                kept.events.range(from..).take(CHUNK).cloned().collect()
            };
            let Some((last, _)) = chunk.last() else { return Ok((found, self.cursor(at))) };
            let last = *last;
            for (number, event) in chunk {
                if is_meant(&event) {
                    found.push((number, event));
                    if found.len() >= limit {
                        return Ok((found, self.cursor(number)));
                    }
                }
            }
            at = last;
        }
    }

    /// Events before a number that are meant, the newest first, at most so many.
    pub fn before(&self, number: u64, limit: usize, is_meant: impl Fn(&Event) -> bool) -> Vec<Numbered> {
        let (mut found, mut before) = (Vec::new(), number);
        loop {
            let chunk: Vec<Numbered> = {
                let kept = lock(&self.kept);
                let end = kept.events.partition_point(|(number, _)| *number < before);
                kept.events.range(end.saturating_sub(CHUNK)..end).rev().cloned().collect()
            };
            let Some((first, _)) = chunk.last() else { return found };
            before = *first;
            for (number, event) in chunk {
                if is_meant(&event) {
                    found.push((number, event));
                    if found.len() >= limit {
                        return found;
                    }
                }
            }
        }
    }

    /// The number of the event at a cursor of this journal.
    pub fn number(&self, cursor: &Cursor) -> Result<u64, Missed> {
        if cursor.journal == self.id { Ok(cursor.number) } else { Err(Missed::Foreign) }
    }
}

impl Kept {
    /// The oldest that have to go for what comes.
    fn too_many(&self, newer: &[Event], now: Timestamp) -> Vec<u64> {
        let mut count = self.events.len() + newer.len();
        let mut bytes = self.bytes + newer.iter().map(Event::weight).sum::<usize>();
        let mut gone = Vec::new();
        for (number, event) in &self.events {
            if count <= MAX_EVENTS && bytes <= MAX_BYTES && event.at >= now - MAX_AGE {
                break;
            }
            gone.push(*number);
            count -= 1;
            bytes -= event.weight();
        }
        gone
    }
}

#[cfg(test)]
mod tests;
