//! A cluster, or one unit of it, as commands name it: in our words, or in Flux's (`kustomization NAME`).

use std::fmt;

use clap::{Args, Subcommand};
use flotilla_core::{ClusterName, UnitId, UnitKind};

use crate::error::Error;

/// What a command is about.
#[derive(Debug, Clone, Args)]
pub(crate) struct Target {
    /// Name of the cluster
    #[arg(required = true)]
    cluster: Option<ClusterName>,
    /// Unit of the cluster: root, NAMESPACE/NAME or helmrelease/NAMESPACE/NAME; all units if it is left out
    unit: Option<UnitId>,
    #[command(subcommand)]
    named: Option<FluxName>,
}

/// A unit, named as Flux's commands name it.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum FluxName {
    /// A Kustomization, by its name
    #[command(visible_alias = "ks")]
    Kustomization(NameArgs),
    /// A HelmRelease, by its name
    #[command(name = "helmrelease", visible_alias = "hr")]
    HelmRelease(NameArgs),
}

#[derive(Debug, Clone, Args)]
pub(crate) struct NameArgs {
    /// Name of the object
    name: String,
    /// Namespace of the object
    #[arg(short, long, default_value = "flux-system", value_name = "NAMESPACE")]
    namespace: String,
    /// Cluster whose unit it is
    #[arg(short, long, value_name = "NAME")]
    cluster: ClusterName,
}

impl Target {
    /// The cluster, and the unit if it is not all of them.
    pub(super) fn named(self) -> Result<Named, Error> {
        match (self.named, self.cluster) {
            (Some(FluxName::Kustomization(args)), _) => Ok(args.of(UnitKind::Kustomization)),
            (Some(FluxName::HelmRelease(args)), _) => Ok(args.of(UnitKind::HelmRelease)),
            (None, Some(cluster)) => Ok(Named { cluster, unit: self.unit }),
            (None, None) => Err(Error::usage("no cluster is named")),
        }
    }
}

impl NameArgs {
    fn of(self, kind: UnitKind) -> Named {
        Named { cluster: self.cluster, unit: Some(UnitId::new(kind, self.namespace, self.name)) }
    }
}

/// A cluster, or a unit of it.
#[derive(Debug, Clone)]
pub(crate) struct Named {
    pub(crate) cluster: ClusterName,
    pub(crate) unit: Option<UnitId>,
}

impl Named {
    pub(super) fn unit_text(&self) -> Option<String> {
        self.unit.as_ref().map(ToString::to_string)
    }
}

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.unit {
            Some(unit) => write!(f, "{unit} of cluster {}", self.cluster),
            None => write!(f, "cluster {}", self.cluster),
        }
    }
}

/// A kind of unit on the command line, in full or as Flux shortens it.
pub(super) fn unit_kind(text: &str) -> Result<UnitKind, String> {
    match text.to_ascii_lowercase().as_str() {
        "kustomization" | "kustomizations" | "ks" => Ok(UnitKind::Kustomization),
        "helmrelease" | "helmreleases" | "hr" => Ok(UnitKind::HelmRelease),
        _ => Err(format!("'{text}' is not a kind of unit: use kustomization (ks) or helmrelease (hr)")),
    }
}
