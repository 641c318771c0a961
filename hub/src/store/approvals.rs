//! Records of people's approvals, until the agent has taken them.

use flotilla_core::report::Timestamp;
use flotilla_core::{ClusterName, Digest};

use super::records::Records;
use super::{ApprovalRecord, AuditRecord, StoreError};

impl Records {
    pub fn approve(
        &self,
        cluster: &ClusterName,
        digest: Digest,
        approval: &ApprovalRecord,
        audit: &AuditRecord,
    ) -> Result<(), StoreError> {
        let key = format!("approval/{cluster}/{digest}");
        self.set(&key, Some(audit), |_| Some(approval.clone())).map(|_| ())
    }

    /// Approvals that the agent has not taken yet.
    pub fn undelivered_approvals(&self, cluster: &ClusterName) -> Result<Vec<Digest>, StoreError> {
        let all: Vec<(String, ApprovalRecord)> = self.list(&format!("approval/{cluster}/"))?;
        let open = all.into_iter().filter(|(_, approval)| approval.delivered_at.is_none());
        open.map(|(digest, _)| digest.parse().map_err(|_| StoreError::Key(digest.into_bytes()))).collect()
    }

    pub fn approval_delivered(
        &self,
        cluster: &ClusterName,
        digest: Digest,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        self.set(&format!("approval/{cluster}/{digest}"), None, |approval: Option<ApprovalRecord>| {
            approval.map(|approval| ApprovalRecord { delivered_at: Some(at), ..approval })
        })
        .map(|_| ())
    }
}
