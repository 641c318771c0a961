//! What the promotion engine remembers of each pipeline: a record for its head, one for each candidate and each cluster.

use std::collections::BTreeMap;

use flotilla_rollout::{Key, Record, State};

use super::{AuditRecord, Outcome, Records, StoreError, Txn};

const ROLLOUTS: &str = "rollout/";

/// A pipeline's state as it is on disk.
#[derive(Debug, Default)]
pub struct Rollout {
    pub state: State,
    /// The head's bytes: a step is written only over what it was made from.
    pub head: Option<Vec<u8>>,
}

fn key_of(pipeline: &str, key: &Key) -> String {
    match key {
        Key::Head => format!("{ROLLOUTS}{pipeline}/head"),
        Key::Candidate(id) => format!("{ROLLOUTS}{pipeline}/candidate/{}", id.0),
        Key::Cluster(name) => format!("{ROLLOUTS}{pipeline}/cluster/{name}"),
    }
}

impl Records {
    /// The state of every pipeline that ever had one, by its name.
    ///
    /// # Errors
    /// Where any record cannot be read: what is not known of a pipeline could let clusters have what did not pass.
    pub fn rollouts(&self) -> Result<BTreeMap<String, Rollout>, StoreError> {
        let mut found: BTreeMap<String, (Vec<Record>, Option<Vec<u8>>)> = BTreeMap::new();
        for (key, bytes) in self.store.scan(ROLLOUTS)? {
            let Some((name, rest)) = key[ROLLOUTS.len()..].split_once('/') else {
                return Err(StoreError::Key(key.into_bytes()));
            };
            let record = serde_json::from_slice(&bytes)
                .map_err(|source| StoreError::Record { key: key.clone(), source })?;
            let (records, head) = found.entry(name.to_owned()).or_default();
            records.push(record);
            if rest == "head" {
                *head = Some(bytes);
            }
        }
        let read = |(name, (records, head)): (String, (Vec<Record>, _))| {
            let state = State::from_records(records)
                .map_err(|error| StoreError::Rollout { pipeline: name.clone(), source: error })?;
            Ok((name, Rollout { state, head }))
        };
        found.into_iter().map(read).collect()
    }

    /// Writes what a step changed, all of it or nothing; answers the head's bytes then.
    ///
    /// # Errors
    /// [`StoreError::Contended`] where somebody else wrote it meanwhile, among others.
    pub fn write_rollout(
        &self,
        pipeline: &str,
        state: &State,
        changed: &[Key],
        head: Option<&Vec<u8>>,
        audit: Option<&AuditRecord>,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let mut txn = Txn::default();
        let head_key = key_of(pipeline, &Key::Head);
        txn.expect(&head_key, head.cloned());
        let mut head = head.cloned();
        for key in changed {
            let text = key_of(pipeline, key);
            match state.record(key) {
                Some(record) => {
                    let bytes = serde_json::to_vec(&record)
                        .map_err(|source| StoreError::Record { key: text.clone(), source })?;
                    if text == head_key {
                        head = Some(bytes.clone());
                    }
                    txn.put(text, bytes);
                }
                None => txn.remove(text),
            }
        }
        match self.commit(txn, audit)? {
            Outcome::Committed => Ok(head),
            Outcome::Conflict => Err(StoreError::Contended(format!("the state of the pipeline {pipeline}"))),
        }
    }

    /// Forgets all of a pipeline.
    pub fn forget_rollout(&self, pipeline: &str, audit: &AuditRecord) -> Result<(), StoreError> {
        let mut txn = Txn::default();
        for (key, _) in self.store.scan(&format!("{ROLLOUTS}{pipeline}/"))? {
            txn.remove(key);
        }
        match self.commit(txn, Some(audit))? {
            Outcome::Committed => Ok(()),
            Outcome::Conflict => Err(StoreError::Contended(format!("{ROLLOUTS}{pipeline}"))),
        }
    }
}
