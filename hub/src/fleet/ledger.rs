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
    /// Units that the cluster has, or may have received; and whether the agent has said what it has: else it may run
    /// what this hub does not know of.
    fn known_units(&self, cluster: &ClusterName) -> Result<(BTreeMap<UnitId, KnownUnit>, bool), StoreError>;
    /// Adds units that are about to be published.
    fn add_known_units(&self, cluster: &ClusterName, units: &[KnownUnit]) -> Result<(), StoreError>;
    /// Whether the cluster has an agent: without one nothing that was published can have arrived.
    fn has_agent(&self, cluster: &ClusterName) -> Result<bool, StoreError>;
    /// The keys of what helm rendered for units of any cluster.
    fn known_renders(&self) -> Result<BTreeSet<Digest>, StoreError>;
    /// The next number of the fleet's sequence.
    fn next_generation(&self) -> Result<Generation, StoreError>;
    /// Where the cluster's root was when it last rendered: repository, branch and folder.
    fn root(&self, cluster: &ClusterName) -> Result<Option<String>, StoreError>;
    fn set_root(&self, cluster: &ClusterName, root: &str) -> Result<(), StoreError>;
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

    fn known_units(&self, cluster: &ClusterName) -> Result<(BTreeMap<UnitId, KnownUnit>, bool), StoreError> {
        let (known, is_heard) = self.known(cluster)?;
        Ok((known.into_iter().map(|unit| (unit.id.clone(), unit)).collect(), is_heard))
    }

    fn add_known_units(&self, cluster: &ClusterName, units: &[KnownUnit]) -> Result<(), StoreError> {
        Records::add_known_units(self, cluster, units)
    }

    fn has_agent(&self, cluster: &ClusterName) -> Result<bool, StoreError> {
        Ok(self.cluster(cluster)?.is_some())
    }

    fn known_renders(&self) -> Result<BTreeSet<Digest>, StoreError> {
        Records::known_renders(self)
    }

    fn next_generation(&self) -> Result<Generation, StoreError> {
        Records::next_generation(self)
    }

    fn root(&self, cluster: &ClusterName) -> Result<Option<String>, StoreError> {
        Records::root(self, cluster)
    }

    fn set_root(&self, cluster: &ClusterName, root: &str) -> Result<(), StoreError> {
        Records::set_root(self, cluster, root)
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
