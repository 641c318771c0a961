//! What Git says of pipelines and of the clusters in their stages.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use flotilla_core::ClusterName;
use flotilla_render::Pipelines;
use flotilla_rollout::Pipeline;
use flotilla_rollout::spec::UnitSelection;

/// The pipelines of a commit.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Definitions {
    pub read: BTreeMap<String, Arc<Pipeline>>,
    pub unread: Vec<Unread>,
}

impl Definitions {
    /// As the fleet repo has them.
    pub fn of(pipelines: &Pipelines) -> Self {
        let read = pipelines.read.iter();
        let read = read.map(|(name, found)| (name.clone(), Arc::new(found.pipeline.clone())));
        let unread = pipelines.unread.iter().map(|unread| Unread {
            name: unread.name.clone(),
            units: unread.units.clone().map(Arc::new),
            clusters: unread.clusters.clone(),
            why: unread.problem.to_string(),
        });
        Self { read: read.collect(), unread: unread.collect() }
    }

    pub fn is_empty(&self) -> bool {
        self.read.is_empty() && self.unread.is_empty()
    }

    /// What may be this pipeline, and cannot be read.
    pub(super) fn unread_of(&self, pipeline: &str) -> Option<&Unread> {
        self.unread.iter().find(|unread| unread.name.as_deref().is_none_or(|name| name == pipeline))
    }
}

/// What is a pipeline, or may be one, and cannot be read: what it may be about stays as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unread {
    pub name: Option<String>,
    /// `None`: any unit.
    pub units: Option<Arc<UnitSelection>>,
    /// `None`: of any cluster.
    pub clusters: Option<BTreeSet<ClusterName>>,
    pub why: String,
}

/// A cluster of the fleet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member<'a> {
    pub name: &'a ClusterName,
    /// `None`: they are not known, and it stays in the stage that it is in.
    pub labels: Option<&'a BTreeMap<String, String>>,
    /// It has an agent.
    pub is_enrolled: bool,
}
