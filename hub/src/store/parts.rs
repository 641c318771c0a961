//! Records that grow with what a cluster has: one that is too long for a record is kept in parts.
//!
//! ```text
//!   KEY         the record, or how many parts it has and the digest of all
//!   KEY/0000    the first part of its bytes
//! ```
//!
//! A part that is missing or of another writing is an error, never a shorter record.

use std::collections::BTreeMap;

use flotilla_core::Digest;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::records::{ATTEMPTS, Records, decode, encode};
use super::{AuditRecord, Outcome, StoreError, Txn};

/// Well below [`super::RECORD_BYTES`].
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

impl Parted {
    /// The record of these parts; `None`: they are not those that were written together.
    fn whole<'a, T: DeserializeOwned>(
        &self,
        key: &str,
        parts: impl Iterator<Item = &'a [u8]>,
    ) -> Result<Option<T>, StoreError> {
        let parts: Vec<&[u8]> = parts.collect();
        let (count, whole) = (parts.len(), parts.concat());
        let is_whole = count == self.parts && Digest::of(&whole) == self.digest;
        is_whole.then(|| decode(key, &whole)).transpose()
    }
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
            // Somebody may have written it anew in between.
            if let Some(record) = parted.whole(key, parts.iter().map(|(_, part)| part.as_slice()))? {
                return Ok(Large { head: Some(head), record: Some(record) });
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

    /// As [`Records::set`].
    pub(super) fn set_large<T: Serialize + DeserializeOwned>(
        &self,
        key: &str,
        audit: Option<&AuditRecord>,
        mut change: impl FnMut(Option<T>) -> Option<T>,
    ) -> Result<(), StoreError> {
        for _ in 0..ATTEMPTS {
            let Large { head, record } = self.read_large::<T>(key)?;
            let before = record.as_ref().map(encode);
            let new = change(record);
            if new.as_ref().map(encode) == before {
                return Ok(());
            }
            let mut txn = Txn::default();
            txn.expect(key, head);
            match new {
                Some(new) => self.put_large(key, &new, &mut txn)?,
                None => self.remove_large(key, &mut txn)?,
            }
            if self.commit(txn, audit)? == Outcome::Committed {
                return Ok(());
            }
        }
        Err(StoreError::Contended(key.to_owned()))
    }

    /// As [`Records::list`], for keys of one name below `prefix`.
    pub(super) fn list_large<T: DeserializeOwned>(
        &self,
        prefix: &str,
    ) -> Result<Vec<(String, T)>, StoreError> {
        let all: BTreeMap<String, Vec<u8>> = self.store.scan(prefix)?.into_iter().collect();
        let heads = all.iter().filter(|(key, _)| !key[prefix.len()..].contains('/'));
        let read = |(key, head): (&String, &Vec<u8>)| {
            let parted = if head.len() > HEAD_BYTES { None } else { decode::<Head>(key, head)?.parted };
            let record = match parted {
                None => decode(key, head)?,
                Some(parted) => {
                    let below = format!("{key}/");
                    let parts = all.range(below.clone()..).take_while(|(key, _)| key.starts_with(&below));
                    let parts = parts.map(|(_, part)| part.as_slice());
                    parted.whole(key, parts)?.ok_or_else(|| StoreError::Parts(key.clone()))?
                }
            };
            Ok((key[prefix.len()..].to_owned(), record))
        };
        heads.map(read).collect()
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

    use flotilla_core::desired::{KnownUnit, Removal};
    use flotilla_core::{ClusterName, UnitId};

    use super::*;
    use crate::store::{
        ClusterNotes, MemoryStore, Outcome, RECORD_BYTES, Store, SuspensionRecord, Suspensions,
    };

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

    /// What a cluster has may be much: no record of it outgrows the store, and each is read as it was written.
    #[test]
    fn what_grows_with_a_cluster_is_kept_in_parts() {
        let store = Arc::new(MemoryStore::default());
        let records = Records::open(store.clone()).unwrap();
        let [cluster, other]: [ClusterName; 2] = ["one", "one-two"].map(|name| name.parse().unwrap());
        let audit = AuditRecord::new(1, "ann", "test", "x");
        let suspension = SuspensionRecord { by: "ann".into(), at: 1, reason: "x".repeat(1_000) };
        let units: Vec<KnownUnit> = (0..12_000)
            .map(|n| {
                let id = UnitId::kustomization("x".repeat(60), format!("{}-{n}", "y".repeat(60)));
                KnownUnit { id, parent: Some(UnitId::root()), removal: Removal::default(), render: None }
            })
            .collect();
        records.set_known_units(&cluster, &units, Some(1)).unwrap();
        records.set_known_units(&other, &units[..1], Some(1)).unwrap();
        assert_eq!(records.known(&cluster).unwrap(), (units.clone(), true));
        let published = ClusterNotes { known: units[1..2].to_vec(), ..ClusterNotes::default() };
        records.note_published(&[(&cluster, &published)]).unwrap();
        records.note_heard(&cluster, 2).unwrap();
        assert_eq!(records.known_units(&cluster).unwrap().unwrap().len(), units.len());
        assert_eq!(records.known_renders().unwrap().len(), 0);
        let all = units.iter().map(|unit| (unit.id.clone(), suspension.clone())).collect();
        let all = Suspensions { cluster: None, units: all };
        records.set_large("suspended/one", None, |_| Some(all.clone())).unwrap();
        records.suspend(&cluster, None, Some(&suspension), &audit).unwrap();
        assert_eq!(records.suspensions_of(&cluster).unwrap().units, all.units);
        assert_eq!(records.suspensions().unwrap().keys().collect::<Vec<_>>(), [&cluster]);
        let longest = store.scan("").unwrap().into_iter().map(|(_, value)| value.len()).max();
        assert!(longest <= Some(PART_BYTES), "{longest:?}");
        let gone: Vec<UnitId> = units[1..].iter().map(|unit| unit.id.clone()).collect();
        records.forget_known_units(&cluster, &gone).unwrap();
        assert_eq!(records.known(&cluster).unwrap().0, units[..1]);
        assert_eq!(store.scan("known/").unwrap().len(), 2);
        records.forget_cluster(&cluster, &audit).unwrap();
        let left = store.scan("suspended/").unwrap().len() + store.scan("known/one/").unwrap().len();
        assert_eq!((left, records.known(&other).unwrap().0.len()), (0, 1));
    }

    #[test]
    fn a_record_that_is_too_long_is_refused_before_anything_is_written() {
        let store = Arc::new(MemoryStore::default());
        let records = Records::open(store.clone()).unwrap();
        let before = store.scan("").unwrap();
        let line = AuditRecord::new(1, "ann", "test", "x").detail("x".repeat(RECORD_BYTES));
        let mut txn = Txn::default();
        txn.put("cluster/x", b"{}".to_vec());
        let refused = records.commit(txn, Some(&line));
        assert!(
            matches!(&refused, Err(StoreError::TooLong { key, .. }) if key.starts_with("audit/")),
            "{refused:?}"
        );
        assert_eq!(store.scan("").unwrap(), before);
        records.audit(&AuditRecord::new(2, "ann", "test", "x")).unwrap();
    }
}
