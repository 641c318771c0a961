//! Records that grow with what a cluster has: one that is too long for a record is kept in parts.
//!
//! ```text
//!   KEY         the record, or how many parts it has and the digest of all
//!   KEY/0000    the first part of its bytes
//! ```
//!
//! A part that is missing or of another writing is an error, never a shorter record.

use flotilla_core::Digest;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::records::{ATTEMPTS, Records, decode, encode};
use super::{StoreError, Txn};

/// Stores take at most 1 MiB, some of it for the key.
const PART_BYTES: usize = 512 << 10;
/// A head is not longer.
const HEAD_BYTES: usize = 256;

#[derive(Default, Serialize, Deserialize)]
struct Head {
    #[serde(default)]
    parted: Option<Parted>,
}

#[derive(Serialize, Deserialize)]
struct Parted {
    parts: usize,
    digest: Digest,
}

/// A record as it was read.
pub(super) struct Large<T> {
    /// What stands under its key, to be compared with: another one for any other content.
    pub(super) head: Option<Vec<u8>>,
    pub(super) record: Option<T>,
}

impl Records {
    pub(super) fn read_large<T: DeserializeOwned>(&self, key: &str) -> Result<Large<T>, StoreError> {
        for _ in 0..ATTEMPTS {
            let Some(head) = self.store.get(key)? else { return Ok(Large { head: None, record: None }) };
            let parted = if head.len() > HEAD_BYTES { None } else { decode::<Head>(key, &head)?.parted };
            let Some(parted) = parted else {
                let record = Some(decode(key, &head)?);
                return Ok(Large { head: Some(head), record });
            };
            let parts = self.store.scan(&format!("{key}/"))?;
            let whole: Vec<u8> = parts.iter().flat_map(|(_, part)| part).copied().collect();
            // Somebody may have written it anew in between.
            if parts.len() == parted.parts && Digest::of(&whole) == parted.digest {
                let record = Some(decode(key, &whole)?);
                return Ok(Large { head: Some(head), record });
            }
        }
        Err(StoreError::Parts(key.to_owned()))
    }

    pub(super) fn put_large<T: Serialize>(
        &self,
        key: &str,
        record: &T,
        txn: &mut Txn,
    ) -> Result<(), StoreError> {
        let bytes = encode(record);
        let before = self.store.scan(&format!("{key}/"))?;
        let parts: Vec<&[u8]> =
            if bytes.len() <= PART_BYTES { Vec::new() } else { bytes.chunks(PART_BYTES).collect() };
        let keyed = parts.iter().enumerate().map(|(number, part)| (format!("{key}/{number:04}"), *part));
        let keyed: Vec<(String, &[u8])> = keyed.collect();
        for (key, _) in before.iter().filter(|(old, _)| keyed.iter().all(|(key, _)| key != old)) {
            txn.remove(key);
        }
        for (key, part) in keyed {
            if before.iter().all(|(old, value)| *old != key || value != part) {
                txn.put(key, part.to_vec());
            }
        }
        let head = match parts.len() {
            0 => bytes,
            parts => encode(&Head { parted: Some(Parted { parts, digest: Digest::of(&bytes) }) }),
        };
        txn.put(key, head);
        Ok(())
    }

    pub(super) fn remove_large(&self, key: &str, txn: &mut Txn) -> Result<(), StoreError> {
        txn.remove(key);
        for (part, _) in self.store.scan(&format!("{key}/"))? {
            txn.remove(part);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::store::{MemoryStore, Outcome, Store};

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Record {
        names: Vec<String>,
    }

    fn record(bytes: usize) -> Record {
        Record { names: (0..bytes / 10).map(|n| format!("ä{n:05}")).collect() }
    }

    fn write(records: &Records, write: impl FnOnce(&mut Txn)) {
        let mut txn = Txn::default();
        write(&mut txn);
        assert_eq!(records.store().txn(&txn).unwrap(), Outcome::Committed);
    }

    #[test]
    fn a_record_of_any_length_is_read_as_it_was_written() {
        let store = Arc::new(MemoryStore::default());
        let records = Records::open(store.clone()).unwrap();
        let read = || records.read_large::<Record>("declared/one").unwrap();
        assert!(read().record.is_none());
        write(&records, |txn| txn.put("declared/one-two", encode(&record(10))));
        let mut heads = Vec::new();
        for bytes in [0, 100, 3 << 20, (3 << 20) + 10, 2 << 20, 100] {
            write(&records, |txn| records.put_large("declared/one", &record(bytes), txn).unwrap());
            let Large { head, record: found } = read();
            assert_eq!(found, Some(record(bytes)), "{bytes}");
            assert!(!heads.contains(&head) || bytes == 100, "{bytes}: another head for other content");
            heads.push(head);
            let longest = store.scan("").unwrap().into_iter().map(|(_, value)| value.len()).max();
            assert!(longest <= Some(PART_BYTES), "{longest:?}");
        }
        assert!(store.scan("declared/one/").unwrap().is_empty(), "parts that nobody needs go");
        write(&records, |txn| records.put_large("declared/one", &record(2 << 20), txn).unwrap());
        write(&records, |txn| records.remove_large("declared/one", txn).unwrap());
        assert_eq!(store.scan("declared/").unwrap().len(), 1, "another cluster's stays");
    }

    #[test]
    fn what_lacks_a_part_is_no_shorter_record() {
        for harm in ["gone", "other", "more"] {
            let records = Records::open(Arc::new(MemoryStore::default())).unwrap();
            write(&records, |txn| records.put_large("k", &record(2 << 20), txn).unwrap());
            write(&records, |txn| match harm {
                "gone" => txn.remove("k/0001"),
                "other" => txn.put("k/0001", b"x".to_vec()),
                _ => txn.put("k/9999", b"x".to_vec()),
            });
            let read = records.read_large::<Record>("k");
            assert!(matches!(read, Err(StoreError::Parts(_))), "{harm}");
        }
    }
}
