//! Secrets of sources, sealed: the store never sees what they hold.

use flotilla_core::report::Timestamp;
use serde::{Deserialize, Serialize};

use super::records::{Records, encode};
use super::{AuditRecord, StoreError, Txn};

/// Where they are kept; what follows is `SCOPE/NAMESPACE/NAME`.
pub const SECRETS: &str = "secret/";

/// A secret as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SecretRecord {
    /// What it is for, as people said it.
    pub kind: String,
    /// The names of its keys.
    pub keys: Vec<String>,
    pub changed_at: Timestamp,
    pub changed_by: String,
    /// In base64: a nonce, then the values under the hub's key.
    pub sealed: String,
}

impl Records {
    /// Puts a secret in its place, whatever was there.
    pub fn put_secret(
        &self,
        place: &str,
        record: &SecretRecord,
        audit: &AuditRecord,
    ) -> Result<(), StoreError> {
        let mut txn = Txn::default();
        txn.put(format!("{SECRETS}{place}"), encode(record));
        self.commit(txn, Some(audit)).map(drop)
    }

    pub fn secret(&self, place: &str) -> Result<Option<SecretRecord>, StoreError> {
        self.read(&format!("{SECRETS}{place}"))
    }

    /// All secrets by their places.
    pub fn secrets(&self) -> Result<Vec<(String, SecretRecord)>, StoreError> {
        self.list(SECRETS)
    }

    /// Removes a secret; answers `false` if there is none.
    pub fn remove_secret(&self, place: &str, audit: &AuditRecord) -> Result<bool, StoreError> {
        if self.secret(place)?.is_none() {
            return Ok(false);
        }
        let mut txn = Txn::default();
        txn.remove(format!("{SECRETS}{place}"));
        self.commit(txn, Some(audit)).map(|_| true)
    }
}
