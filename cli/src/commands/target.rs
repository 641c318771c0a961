//! A cluster, or one unit of it, as commands name it.

use std::fmt;

use clap::Args;
use flotilla_core::{ClusterName, UnitId};

/// What a command is about.
#[derive(Debug, Clone, Args)]
pub(crate) struct Target {
    /// Name of the cluster
    pub(crate) cluster: ClusterName,
    /// Unit of the cluster: root, NAMESPACE/NAME or helmrelease/NAMESPACE/NAME; all units if it is left out
    pub(crate) unit: Option<UnitId>,
}

impl Target {
    pub(super) fn unit_text(&self) -> Option<String> {
        self.unit.as_ref().map(ToString::to_string)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.unit {
            Some(unit) => write!(f, "{unit} of cluster {}", self.cluster),
            None => write!(f, "cluster {}", self.cluster),
        }
    }
}
