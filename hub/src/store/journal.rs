//! The journal of events in the store: each event by its number, and where the numbers stand.

use flotilla_core::report::Timestamp;
use serde::{Deserialize, Serialize};

use super::records::{Records, encode};
use super::{Outcome, StoreError, Txn};

const EVENTS: &str = "event/";
const HEAD: &str = "meta/journal";

/// Something that happened.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventRecord {
    pub at: Timestamp,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub cluster: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub unit: String,
    /// As `GROUP/KIND/NAMESPACE/NAME`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub object: String,
    /// As `KIND/NAMESPACE/NAME`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub source: String,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub warning: bool,
    pub reason: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// Where the numbers stand.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JournalHead {
    /// Another one where numbers began anew: after a restored backup they may stand for other events.
    pub id: String,
    /// The number of the next event.
    pub next: u64,
    /// Of the backup that the store was made from when the id was drawn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restored_at: Option<Timestamp>,
}

fn key(number: u64) -> String {
    format!("{EVENTS}{number:020}")
}

impl Records {
    pub fn journal_head(&self) -> Result<Option<JournalHead>, StoreError> {
        self.read(HEAD)
    }

    /// All events that are kept, by number.
    pub fn events(&self) -> Result<Vec<(u64, EventRecord)>, StoreError> {
        let events: Vec<(String, EventRecord)> = self.list(EVENTS)?;
        let number =
            |text: &str| text.parse().map_err(|_| StoreError::Key(format!("{EVENTS}{text}").into_bytes()));
        events.into_iter().map(|(text, event)| Ok((number(&text)?, event))).collect()
    }

    /// Writes events from a number on and takes others away, together with the new head. The same again does no harm, as it
    /// may be on disk after an error all the same.
    pub fn append_events(
        &self,
        head: &JournalHead,
        first: u64,
        events: &[EventRecord],
        gone: &[u64],
    ) -> Result<(), StoreError> {
        let mut txn = Txn::default();
        gone.iter().for_each(|number| txn.remove(key(*number)));
        for (number, event) in (first..).zip(events) {
            txn.put(key(number), encode(event));
        }
        txn.put(HEAD, encode(head));
        match self.commit(txn, None)? {
            Outcome::Committed => Ok(()),
            Outcome::Conflict => Err(StoreError::Contended("the journal of events".to_owned())),
        }
    }
}
