//! What is known of each cluster: the units that its agent has or may have, its Kubernetes, where
//! its root is.

use std::collections::BTreeSet;

use flotilla_core::change::{self, Declared, Losses};
use flotilla_core::desired::KnownUnit;
use flotilla_core::report::Timestamp;
use flotilla_core::{Capabilities, ClusterName, Digest, UnitId};

use super::records::ATTEMPTS;
use super::{
    AuditRecord, ChangeRecord, DeclaredRecord, Going, KnownUnitRecord, KnownUnits, Kubernetes, Outcome,
    Records, Root, StoreError, Txn,
};

/// What the guard on the change remembers.
const CHANGE: &str = "change";

impl Records {
    /// The units that the agent last said it has; `None`: it has never said.
    pub fn known_units(&self, cluster: &ClusterName) -> Result<Option<Vec<KnownUnit>>, StoreError> {
        let known: Option<KnownUnits> = self.read_large(&format!("known/{cluster}"))?.record;
        Ok(known.map(|known| known.units.into_iter().map(Into::into).collect()))
    }

    /// Notes the units of a cluster; `told_at` is when its agent said so, if it did.
    pub fn set_known_units(
        &self,
        cluster: &ClusterName,
        units: &[KnownUnit],
        told_at: Option<Timestamp>,
    ) -> Result<(), StoreError> {
        let units: Vec<KnownUnitRecord> = units.iter().map(KnownUnitRecord::from).collect();
        self.set_large(&format!("known/{cluster}"), None, |record: Option<KnownUnits>| {
            let told_at = told_at.or(record.and_then(|record| record.told_at));
            Some(KnownUnits { units: units.clone(), told_at })
        })
    }

    /// A unit that left Git while Git suspended it is suspended no more.
    pub(super) fn resume_known(&self, cluster: &ClusterName, unit: &UnitId) -> Result<(), StoreError> {
        self.set_large(&format!("known/{cluster}"), None, |record: Option<KnownUnits>| {
            record.map(|mut known| {
                known
                    .units
                    .iter_mut()
                    .filter(|known| known.id == *unit)
                    .for_each(|unit| unit.suspended = false);
                known
            })
        })
    }

    /// Takes units off that the agent has nothing of any more.
    pub fn forget_known_units(&self, cluster: &ClusterName, gone: &[UnitId]) -> Result<(), StoreError> {
        self.set_large(&format!("known/{cluster}"), None, |record: Option<KnownUnits>| {
            record.map(|mut known| {
                known.units.retain(|unit| !gone.contains(&unit.id));
                known
            })
        })
    }

    /// The keys of what helm rendered for the units of all clusters, as far as they are known.
    pub fn known_renders(&self) -> Result<BTreeSet<Digest>, StoreError> {
        let known: Vec<(String, KnownUnits)> = self.list_large("known/")?;
        let units = known.into_iter().flat_map(|(_, known)| known.units);
        Ok(units.filter_map(|unit| unit.render).map(|render| render.key).collect())
    }

    /// Whether the cluster's agent has said what it has, to this store: not to the one that a backup was made of, as
    /// that may be long ago.
    pub fn is_heard(&self, cluster: &ClusterName) -> Result<bool, StoreError> {
        Ok(self.known(cluster)?.1)
    }

    /// The units that the cluster has, or may have received, and [`Records::is_heard`].
    pub fn known(&self, cluster: &ClusterName) -> Result<(Vec<KnownUnit>, bool), StoreError> {
        let known: KnownUnits = self.read_large(&format!("known/{cluster}"))?.record.unwrap_or_default();
        let is_heard = match (known.told_at, self.restored()?) {
            (None, _) => false,
            (Some(at), restored) => restored.is_none_or(|restored| at >= restored.restored_at),
        };
        Ok((known.units.into_iter().map(Into::into).collect(), is_heard))
    }

    /// Notes that an agent has nothing to tell: what was known stays.
    pub fn note_heard(&self, cluster: &ClusterName, now: Timestamp) -> Result<(), StoreError> {
        self.set_large(&format!("known/{cluster}"), None, |record: Option<KnownUnits>| {
            Some(KnownUnits { told_at: Some(now), ..record.unwrap_or_default() })
        })
    }

    // What clusters are

    /// The cluster's Kubernetes, as its agent last said; `None`: it has never connected.
    pub fn kubernetes_version(&self, cluster: &ClusterName) -> Result<Option<String>, StoreError> {
        let kubernetes: Option<Kubernetes> = self.read(&format!("kubernetes/{cluster}"))?;
        Ok(kubernetes.map(|kubernetes| kubernetes.version))
    }

    /// What the cluster's agent can do, as it last said; `None`: it has never said.
    pub fn capabilities(&self, cluster: &ClusterName) -> Result<Option<Capabilities>, StoreError> {
        let kubernetes: Option<Kubernetes> = self.read(&format!("kubernetes/{cluster}"))?;
        Ok(kubernetes.and_then(|kubernetes| kubernetes.capabilities))
    }

    /// Notes what an agent says of its cluster's Kubernetes and of itself.
    pub fn note_agent(
        &self,
        cluster: &ClusterName,
        version: &str,
        capabilities: &Capabilities,
    ) -> Result<(), StoreError> {
        let told = Kubernetes { version: version.to_owned(), capabilities: Some(capabilities.clone()) };
        let key = format!("kubernetes/{cluster}");
        if self.read(&key)?.as_ref() == Some(&told) {
            return Ok(());
        }
        self.set(&key, None, |_| Some(told.clone())).map(|_| ())
    }

    /// The units and objects whose loss was published or approved.
    pub fn going(&self, cluster: &ClusterName) -> Result<change::Going, StoreError> {
        let key = format!("going/{cluster}");
        let going: Going = self.read_large(&key)?.record.unwrap_or_default();
        going.try_into().map_err(|source| StoreError::Text { key, source })
    }

    /// The objects that a cluster was told to run.
    pub fn declared(&self, cluster: &ClusterName) -> Result<Declared, StoreError> {
        let key = format!("declared/{cluster}");
        let declared: DeclaredRecord = self.read_large(&key)?.record.unwrap_or_default();
        declared.try_into().map_err(|source| StoreError::Text { key, source })
    }

    /// What the guard on the change remembers; `None`: it never judged one.
    pub fn change(&self) -> Result<Option<ChangeRecord>, StoreError> {
        Ok(self.read_large(CHANGE)?.record)
    }

    pub fn set_change(&self, change: &ChangeRecord) -> Result<(), StoreError> {
        for _ in 0..ATTEMPTS {
            let mut txn = Txn::default();
            txn.expect(CHANGE, self.store.get(CHANGE)?);
            self.put_large(CHANGE, change, &mut txn)?;
            if self.commit(txn, None)? == Outcome::Committed {
                return Ok(());
            }
        }
        Err(StoreError::Contended("what a change has taken".to_owned()))
    }

    /// Lets units and objects of many clusters go, as somebody approved: all of them, with the line that says who, or none.
    pub fn approve_change(&self, losses: &Losses, audit: &AuditRecord) -> Result<(), StoreError> {
        for _ in 0..ATTEMPTS {
            let mut txn = Txn::default();
            for (cluster, loss) in losses {
                let key = format!("going/{cluster}");
                let old = self.read_large::<Going>(&key)?;
                let going = change::Going::try_from(old.record.unwrap_or_default());
                let mut going = going.map_err(|source| StoreError::Text { key: key.clone(), source })?;
                going.add(&loss.units);
                txn.expect(&key, old.head);
                self.put_large(&key, &Going::from(&going), &mut txn)?;
            }
            if self.commit(txn, Some(audit))? == Outcome::Committed {
                return Ok(());
            }
        }
        Err(StoreError::Contended("the approval of a change".to_owned()))
    }

    /// Where a cluster's root was when it last rendered: repository, branch and folder; `None`: it never did.
    pub fn root(&self, cluster: &ClusterName) -> Result<Option<String>, StoreError> {
        let root: Option<Root> = self.read(&format!("root/{cluster}"))?;
        Ok(root.map(|root| root.at))
    }
}
