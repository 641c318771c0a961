//! Where a reader of the journal stopped.

use flotilla_proto::convert::cut;

/// The place of an event, or of the end, in a journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    pub(super) journal: String,
    /// The event that was read last.
    pub(super) number: u64,
}

/// `JOURNAL-NUMBER`
impl std::fmt::Display for Cursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.journal, self.number)
    }
}

/// A text that is no cursor.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a cursor: give the `cursor` of a list of events, or the `id` of an event, as it was")]
pub struct InvalidCursor(String);

impl std::str::FromStr for Cursor {
    type Err = InvalidCursor;

    fn from_str(text: &str) -> Result<Self, InvalidCursor> {
        let invalid = || InvalidCursor(cut(text.to_owned()));
        let (journal, number) = text.split_once('-').ok_or_else(invalid)?;
        let is_id = !journal.is_empty()
            && journal.len() <= 32
            && journal.bytes().all(|byte| byte.is_ascii_alphanumeric());
        let number = number.parse().ok().filter(|_| is_id).ok_or_else(invalid)?;
        Ok(Self { journal: journal.to_owned(), number })
    }
}
