//! Records of what people suspended by hand.

use std::collections::BTreeMap;

use flotilla_core::{ClusterName, UnitId};

use super::records::{Records, by_cluster};
use super::{AuditRecord, StoreError, SuspensionRecord, Suspensions};

impl Records {
    pub fn suspensions(&self) -> Result<BTreeMap<ClusterName, Suspensions>, StoreError> {
        by_cluster(self.list_large("suspended/")?)
    }

    pub fn suspensions_of(&self, cluster: &ClusterName) -> Result<Suspensions, StoreError> {
        Ok(self.read_large(&format!("suspended/{cluster}"))?.record.unwrap_or_default())
    }

    /// Suspends (`Some`) or resumes (`None`) a cluster, or one of its units.
    pub fn suspend(
        &self,
        cluster: &ClusterName,
        unit: Option<&UnitId>,
        suspension: Option<&SuspensionRecord>,
        audit: &AuditRecord,
    ) -> Result<(), StoreError> {
        if let (Some(unit), None) = (unit, suspension) {
            self.resume_known(cluster, unit)?;
        }
        self.set_large(&format!("suspended/{cluster}"), Some(audit), |record: Option<Suspensions>| {
            let mut all = record.unwrap_or_default();
            match (unit, suspension) {
                (None, suspension) => all.cluster = suspension.cloned(),
                (Some(unit), Some(suspension)) => {
                    all.units.insert(unit.clone(), suspension.clone());
                }
                (Some(unit), None) => {
                    all.units.remove(unit);
                }
            }
            (all != Suspensions::default()).then_some(all)
        })
    }
}
