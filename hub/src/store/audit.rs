//! The audit log: its lines by number, parts of it, and how far copies of it are.

use flotilla_core::report::Timestamp;
use flotilla_runtime::lock;

use super::records::{Records, decode, encode};
use super::{AuditRecord, Store, StoreError, Txn};

/// Where lines are kept; a watch of it ticks with each.
pub const AUDIT: &str = "audit/";

/// How many lines the audit log keeps.
pub(super) const AUDIT_LINES: u64 = 200_000;

#[derive(serde::Serialize, serde::Deserialize)]
struct Cursor {
    next: u64,
}

fn cursor_key(copy: &str) -> String {
    format!("meta/audit-{copy}")
}

pub(super) fn audit_key(sequence: u64) -> String {
    format!("audit/{sequence:020}")
}

fn audit_sequence(key: &str) -> Result<u64, StoreError> {
    // Written with all its digits, so that keys are in the order of the numbers.
    let number = key.strip_prefix("audit/").filter(|number| number.len() == 20);
    number.and_then(|number| number.parse().ok()).ok_or_else(|| StoreError::Key(key.as_bytes().to_vec()))
}

/// The sequence numbers of the oldest audit line and of the next one. A line whose number cannot be read is an error: counting
/// from anywhere else could come to one that is taken.
pub(super) fn audit_range(store: &dyn Store) -> Result<(u64, u64), StoreError> {
    let lines = store.scan("audit/")?;
    let (Some((first, _)), Some((last, _))) = (lines.first(), lines.last()) else { return Ok((0, 0)) };
    Ok((audit_sequence(first)?, audit_sequence(last)?.saturating_add(1)))
}

impl Records {
    /// Adds a line for something that changed no other record.
    pub fn audit(&self, line: &AuditRecord) -> Result<(), StoreError> {
        self.commit(Txn::default(), Some(line)).map(|_| ())
    }

    /// The number of the next audit line.
    pub(super) fn audit_end(&self) -> u64 {
        *lock(&self.next_audit)
    }

    /// The number of the oldest audit line that may be kept.
    pub(super) fn audit_begin(&self) -> u64 {
        let oldest = *lock(&self.oldest_audit);
        self.audit_end().saturating_sub(AUDIT_LINES).max(oldest)
    }

    /// The audit log, oldest first, with sequence numbers.
    pub fn audit_log(&self) -> Result<Vec<(u64, AuditRecord)>, StoreError> {
        let lines = self.store.scan("audit/")?;
        lines.iter().map(|(key, line)| Ok((audit_sequence(key)?, decode(key, line)?))).collect()
    }

    fn audit_line(&self, sequence: u64) -> Result<Option<AuditRecord>, StoreError> {
        self.read(&format!("{AUDIT}{sequence:020}"))
    }

    /// The newest lines before this number, the newest first, at most so many.
    pub fn audit_before(&self, before: u64, limit: usize) -> Result<Vec<(u64, AuditRecord)>, StoreError> {
        let mut lines = Vec::new();
        for sequence in (0..self.audit_end().min(before)).rev() {
            let Some(line) = self.audit_line(sequence)? else { break };
            lines.push((sequence, line));
            if lines.len() >= limit {
                break;
            }
        }
        Ok(lines)
    }

    /// Lines from this number on, the oldest first, and the number to go on from. What is not kept any more is left out.
    pub fn audit_after(&self, from: u64, limit: usize) -> Result<(u64, Vec<(u64, AuditRecord)>), StoreError> {
        let (mut next, end) = (from.max(self.audit_begin()), self.audit_end());
        let mut lines = Vec::new();
        while next < end && lines.len() < limit {
            if let Some(line) = self.audit_line(next)? {
                lines.push((next, line));
            }
            next += 1;
        }
        Ok((next, lines))
    }

    /// Removes the oldest lines that are from before a time, at most so many: a clock that is wrong for an hour shall not
    /// cost the whole log. How many were removed.
    pub fn expire_audit(&self, before: Timestamp, most: usize) -> Result<usize, StoreError> {
        let (mut txn, mut removed) = (Txn::default(), 0);
        let mut oldest = self.audit_begin();
        while oldest < self.audit_end() && removed < most {
            if let Some(line) = self.audit_line(oldest)? {
                if line.at >= before {
                    break;
                }
                txn.remove(audit_key(oldest));
                removed += 1;
            }
            oldest += 1;
        }
        if removed > 0 {
            self.commit(txn, None).map(|_| ())?;
        }
        *lock(&self.oldest_audit) = oldest;
        Ok(removed)
    }

    /// The number of the next line that a copy lacks.
    pub fn audit_cursor(&self, copy: &str) -> Result<u64, StoreError> {
        let cursor: Option<Cursor> = self.read(&cursor_key(copy))?;
        Ok(cursor.map_or(0, |cursor| cursor.next))
    }

    pub fn set_audit_cursor(&self, copy: &str, next: u64) -> Result<(), StoreError> {
        let mut txn = Txn::default();
        txn.put(cursor_key(copy), encode(&Cursor { next }));
        self.commit(txn, None).map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::{MemoryStore, Store};
    use super::*;

    #[test]
    fn the_log_is_read_from_both_ends() {
        let records = Records::open(Arc::new(MemoryStore::default())).unwrap();
        for at in 0..10 {
            records.audit(&AuditRecord::new(at, "ann", "test", at)).unwrap();
        }
        let numbers = |lines: &[(u64, AuditRecord)]| lines.iter().map(|(n, _)| *n).collect::<Vec<_>>();
        assert_eq!(numbers(&records.audit_before(u64::MAX, 3).unwrap()), [9, 8, 7]);
        assert_eq!(numbers(&records.audit_before(2, 3).unwrap()), [1, 0]);
        let (next, lines) = records.audit_after(7, 2).unwrap();
        assert_eq!((next, numbers(&lines)), (9, vec![7, 8]));
        assert_eq!(records.audit_after(10, 2).unwrap(), (10, vec![]));
        assert_eq!(records.audit_cursor("file").unwrap(), 0);
        records.set_audit_cursor("file", 9).unwrap();
        assert_eq!((records.audit_cursor("file").unwrap(), records.audit_cursor("otlp").unwrap()), (9, 0));
    }

    #[test]
    fn old_lines_end_by_their_age_a_few_at_a_time() {
        let store = Arc::new(MemoryStore::default());
        let records = Records::open(store.clone()).unwrap();
        for at in 0..10 {
            records.audit(&AuditRecord::new(at, "ann", "test", at)).unwrap();
        }
        let kept = |records: &Records| records.audit_log().unwrap().first().map(|(n, _)| *n);
        for (before, most, removed, oldest) in
            [(0, 9, 0, Some(0)), (7, 3, 3, Some(3)), (7, 9, 4, Some(7)), (7, 9, 0, Some(7)), (99, 9, 3, None)]
        {
            assert_eq!(records.expire_audit(before, most).unwrap(), removed, "{before}");
            assert_eq!(kept(&records), oldest, "{before}");
        }
        // A transaction for all that end at once.
        let written = store.watch("audit/");
        let before = *written.borrow();
        (11..15).for_each(|at| records.audit(&AuditRecord::new(at, "ann", "test", at)).unwrap());
        assert_eq!((records.expire_audit(15, 9).unwrap(), kept(&records)), (4, None));
        assert_eq!(*written.borrow() - before, 5);
        // The count goes on, also after a restart that finds some lines only.
        records.audit(&AuditRecord::new(10, "ann", "test", 10)).unwrap();
        assert_eq!(kept(&records), Some(14));
        let again = Records::open(store).unwrap();
        assert_eq!(again.audit_before(u64::MAX, 5).unwrap().len(), 1);
        assert_eq!(again.audit_after(0, 5).unwrap().1[0].0, 14);
        assert_eq!(again.expire_audit(11, 5).unwrap(), 1);
        assert_eq!(kept(&again), None);
    }
}
