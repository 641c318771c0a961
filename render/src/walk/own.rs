//! The fleet repo under another name: a cluster's own Flux may know it by any source, which the Kustomization of the
//! cluster's root names. What the fleet repo says of that source means the fleet repo here.

use std::sync::Arc;

use flotilla_core::UnitId;
use flotilla_core::source::{SourceId, SourceSpec};

use super::Walk;
use crate::content::{Content, Definition};
use crate::flux::FLEET_UNIT;
use crate::source::fleet_source;

/// `spec.ignore` of the fleet repo's own object, as the root defines it.
pub(super) fn ignore_of_fleet(root: &Content) -> Option<&str> {
    let own = root.sources.iter().find(|definition| definition.source.id == fleet_source())?;
    match &own.source.spec {
        SourceSpec::Git(git) => git.ignore.as_deref(),
        _ => None,
    }
}

impl Walk<'_> {
    /// The source by which the root's output knows the fleet repo, if that is not the usual one: what `flux-system`, as the
    /// unit of the root's own path, is read from, where the root defines it.
    pub(super) fn alias_in(&self, root: &Content) -> Option<SourceId> {
        let id = UnitId::kustomization(FLEET_UNIT.0, FLEET_UNIT.1);
        let own =
            root.children.iter().find(|child| child.id == id && child.path == self.cluster.root.path)?;
        let defined = root.sources.iter().any(|definition| definition.source.id == own.source);
        (defined && own.source != fleet_source()).then(|| own.source.clone())
    }

    /// The Kustomization of the root's own path in its output: `flux-system`, or the only one, whatever its name.
    pub(super) fn own_in(&self, root: &Content) -> Option<UnitId> {
        let is_of_root = |child: &&Arc<Definition>| {
            child.release.is_none() && child.path == self.cluster.root.path && child.source == fleet_source()
        };
        let all: Vec<&UnitId> = root.children.iter().filter(is_of_root).map(|child| &child.id).collect();
        let usual = UnitId::kustomization(FLEET_UNIT.0, FLEET_UNIT.1);
        match all[..] {
            [only] => Some(only.clone()),
            _ => all.into_iter().find(|id| **id == usual).cloned(),
        }
    }

    /// The output of a unit of the fleet repo, with the usual name in place of the other one.
    pub(super) fn at_home(&self, content: &Arc<Content>) -> Arc<Content> {
        let Some(alias) = &self.fleet_alias else { return content.clone() };
        let mut content = Content::clone(content);
        let rename = |id: &mut SourceId| {
            if id == alias {
                *id = fleet_source();
            }
        };
        content.children.iter_mut().for_each(|child| rename(&mut Arc::make_mut(child).source));
        for definition in &mut content.sources {
            rename(&mut definition.source.id);
            match &mut definition.source.spec {
                SourceSpec::HelmChart(chart) => rename(&mut chart.source),
                SourceSpec::Git(git) => {
                    git.include.iter_mut().for_each(|include| rename(&mut include.repository));
                }
                SourceSpec::Generator(generator) => {
                    generator.inputs.iter_mut().for_each(|input| rename(&mut input.source));
                }
                _ => {}
            }
        }
        content.into()
    }
}
