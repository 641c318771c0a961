//! What the loop remembers across restarts, apart from Git.

use std::collections::{BTreeMap, BTreeSet};

use flotilla_core::{ClusterName, Digest, Generation, UnitId};

use crate::desired::KnownUnit;
use crate::desired::project::Suspended;
use crate::store::{Records, StoreError};

/// The facts behind a projection, and where its results are noted. All functions block.
pub trait Ledger: Send + Sync {
    /// What people suspended in a cluster.
    fn suspended(&self, cluster: &ClusterName) -> Result<Suspended, StoreError>;
    /// The version of a cluster's Kubernetes, once its agent has connected.
    fn kubernetes_version(&self, cluster: &ClusterName) -> Result<Option<String>, StoreError>;
    /// Units that the cluster has, or may have received.
    fn known_units(&self, cluster: &ClusterName) -> Result<BTreeMap<UnitId, KnownUnit>, StoreError>;
    /// Whether the agent has said what it has: else it may run what this hub does not know of.
    fn is_heard(&self, cluster: &ClusterName) -> Result<bool, StoreError>;
    /// Adds units that are about to be published.
    fn add_known_units(&self, cluster: &ClusterName, units: Vec<KnownUnit>) -> Result<(), StoreError>;
    /// Whether the cluster has an agent: without one nothing that was published can have arrived.
    fn has_agent(&self, cluster: &ClusterName) -> Result<bool, StoreError>;
    /// The keys of what helm rendered for units of any cluster.
    fn known_renders(&self) -> Result<BTreeSet<Digest>, StoreError>;
    /// The next number of the fleet's sequence.
    fn next_generation(&self) -> Result<Generation, StoreError>;
    /// The commit at which each unit last rendered.
    fn last_good(&self, cluster: &ClusterName) -> Result<BTreeMap<UnitId, String>, StoreError>;
    fn set_last_good(
        &self,
        cluster: &ClusterName,
        commits: BTreeMap<UnitId, String>,
    ) -> Result<(), StoreError>;
}

impl Ledger for Records {
    fn suspended(&self, cluster: &ClusterName) -> Result<Suspended, StoreError> {
        let suspensions = self.suspensions_of(cluster)?;
        Ok(Suspended { whole: suspensions.cluster.is_some(), units: suspensions.units.into_keys().collect() })
    }

    fn kubernetes_version(&self, cluster: &ClusterName) -> Result<Option<String>, StoreError> {
        Records::kubernetes_version(self, cluster)
    }

    fn known_units(&self, cluster: &ClusterName) -> Result<BTreeMap<UnitId, KnownUnit>, StoreError> {
        let known = Records::known_units(self, cluster)?.unwrap_or_default();
        Ok(known.into_iter().map(|unit| (unit.id.clone(), unit)).collect())
    }

    fn add_known_units(&self, cluster: &ClusterName, units: Vec<KnownUnit>) -> Result<(), StoreError> {
        let mut known = Ledger::known_units(self, cluster)?;
        known.extend(units.into_iter().map(|unit| (unit.id.clone(), unit)));
        let known: Vec<KnownUnit> = known.into_values().collect();
        self.set_known_units(cluster, &known, None)
    }

    fn has_agent(&self, cluster: &ClusterName) -> Result<bool, StoreError> {
        Ok(self.cluster(cluster)?.is_some())
    }

    fn known_renders(&self) -> Result<BTreeSet<Digest>, StoreError> {
        Records::known_renders(self)
    }

    fn is_heard(&self, cluster: &ClusterName) -> Result<bool, StoreError> {
        Records::is_heard(self, cluster)
    }

    fn next_generation(&self) -> Result<Generation, StoreError> {
        Records::next_generation(self)
    }

    fn last_good(&self, cluster: &ClusterName) -> Result<BTreeMap<UnitId, String>, StoreError> {
        Records::last_good(self, cluster)
    }

    fn set_last_good(
        &self,
        cluster: &ClusterName,
        commits: BTreeMap<UnitId, String>,
    ) -> Result<(), StoreError> {
        Records::set_last_good(self, cluster, commits)
    }
}
