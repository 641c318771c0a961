//! Parts of the audit log, and how far copies of it are.

use super::records::{Records, encode};
use super::{AuditRecord, StoreError, Txn};

/// Where lines are kept; a watch of it ticks with each.
pub const AUDIT: &str = "audit/";

#[derive(serde::Serialize, serde::Deserialize)]
struct Cursor {
    next: u64,
}

fn cursor_key(copy: &str) -> String {
    format!("meta/audit-{copy}")
}

impl Records {
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

    use super::super::MemoryStore;
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
}
