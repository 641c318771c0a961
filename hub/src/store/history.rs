//! Which states a cluster was sent, and how far it got with each.

use flotilla_core::ClusterName;

use super::records::Records;
use super::{History, HistoryRecord, StoreError};

/// How many states the history of a cluster keeps.
pub(super) const HISTORY_STATES: usize = 20;

impl Records {
    pub fn history(&self, cluster: &ClusterName) -> Result<Vec<HistoryRecord>, StoreError> {
        let history: Option<History> = self.read(&format!("history/{cluster}"))?;
        Ok(history.unwrap_or_default().states)
    }

    /// Notes how far a cluster got with a state.
    pub fn note_history(
        &self,
        cluster: &ClusterName,
        state: &HistoryRecord,
        note: impl Fn(&mut HistoryRecord),
    ) -> Result<(), StoreError> {
        self.set(&format!("history/{cluster}"), None, |history: Option<History>| {
            let mut states = history.unwrap_or_default().states;
            if states.last().is_none_or(|last| last.digest != state.digest) {
                states.push(state.clone());
            }
            let excess = states.len().saturating_sub(HISTORY_STATES);
            states.drain(..excess);
            note(states.last_mut().expect("one was just pushed"));
            Some(History { states })
        })
        .map(|_| ())
    }
}
