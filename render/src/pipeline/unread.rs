//! What may be a pipeline and cannot be read: what can be told of it all the same.

use std::collections::{BTreeMap, BTreeSet};

use flotilla_core::names::is_dns_label;
use flotilla_core::report::Problem;
use flotilla_core::selector::Selector;
use flotilla_core::{ClusterName, UnitId};
use flotilla_rollout::Pipeline;
use flotilla_rollout::spec::UnitSelection;
use flotilla_yaml::Node;

use super::read;

/// A pipeline, or what may be one, that cannot be read: the units that it may be about stay as they run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnreadPipeline {
    /// `None`: not even that can be told.
    pub name: Option<String>,
    /// Which units it may be about. `None`: any.
    pub units: Option<UnitSelection>,
    /// Of which clusters. `None`: of any.
    pub clusters: Option<BTreeSet<ClusterName>>,
    pub problem: Problem,
    /// How its stages select clusters, where all of them can be told.
    stages: Option<Vec<Selector>>,
}

impl UnreadPipeline {
    /// Of which nothing can be told.
    pub(crate) fn unknown(problem: Problem) -> Self {
        Self { name: None, units: None, clusters: None, problem, stages: None }
    }

    /// That cannot be used, though it can be read.
    pub(super) fn of(pipeline: &Pipeline, problem: Problem) -> Self {
        Self {
            name: Some(pipeline.name.clone()),
            units: Some(pipeline.units.clone()),
            stages: Some(pipeline.stages.iter().map(|stage| stage.clusters.clone()).collect()),
            ..Self::unknown(problem)
        }
    }

    /// As far as an object tells.
    pub(super) fn read(document: &Node, problem: Problem) -> Self {
        let name = document.at(&["metadata", "name"]).and_then(Node::text);
        let spec = document.get("spec");
        let stages = spec.and_then(|spec| spec.get("stages")).and_then(Node::as_seq);
        let selector = |stage: &Node| Selector::read(stage.get("clusters")?).ok();
        Self {
            name: name.filter(|name| is_dns_label(name)).map(str::to_owned),
            units: spec.and_then(read::units_at_least),
            stages: stages
                .filter(|stages| !stages.is_empty())
                .and_then(|all| all.iter().map(selector).collect()),
            ..Self::unknown(problem)
        }
    }

    pub(super) fn place<'a>(
        &mut self,
        clusters: impl Iterator<Item = (&'a ClusterName, &'a BTreeMap<String, String>)>,
    ) {
        let Some(stages) = &self.stages else { return };
        let is_in = |labels: &BTreeMap<String, String>| stages.iter().any(|stage| stage.matches(labels));
        self.clusters =
            Some(clusters.filter(|(_, labels)| is_in(labels)).map(|(name, _)| name.clone()).collect());
    }

    /// Whether a unit of a cluster may belong to it.
    pub fn may_claim<'a>(
        &self,
        cluster: &ClusterName,
        unit: &'a UnitId,
        parent: impl Fn(&UnitId) -> Option<&'a UnitId>,
    ) -> bool {
        self.clusters.as_ref().is_none_or(|clusters| clusters.contains(cluster))
            && self.units.as_ref().is_none_or(|units| units.selects(unit, parent))
    }
}
