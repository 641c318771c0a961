//! What units are told of sources: how those are that they wait for, and which kinds their account has to be allowed to
//! create. Known when everything is rendered, as a source may come after who waits for it.

use std::collections::BTreeSet;
use std::sync::Arc;

use flotilla_core::report::Problem;
use flotilla_core::source::{SourceId, SourceKind};
use flotilla_core::unit::{HealthCheck, SourceKindIn, SourceState, UnitManifest};
use flotilla_core::{UnitId, UnitSpec};

use super::Walk;
use crate::cluster::Unit;
use crate::source::fleet_source;

impl Walk<'_> {
    pub(super) fn note_sources(&mut self) {
        let units: Vec<(UnitId, Unit)> =
            self.units.iter().filter_map(|(id, unit)| Some((id.clone(), unit.unit.clone()?))).collect();
        for (id, unit) in units {
            let spec = &unit.manifest.spec;
            let authority = &spec.authority;
            // What a release's chart is fetched by is nobody's object.
            let own = unit.content.sources.iter().filter(|definition| definition.object.is_some());
            let own = own.map(|definition| &definition.source.id).filter(|id| **id != fleet_source());
            let own = own.filter(|id| authority.covers(&id.namespace));
            let broken = unit.content.broken_sources.keys().filter(|id| authority.covers(&id.namespace));
            let own: BTreeSet<&SourceId> = own.chain(broken).collect();
            let mut waited: BTreeSet<SourceId> = spec.health_checks.iter().filter_map(checked).collect();
            if spec.wait {
                waited.extend(own.iter().copied().cloned());
            }
            let defines: BTreeSet<SourceKindIn> = match spec.service_account {
                Some(_) => own
                    .iter()
                    .map(|id| SourceKindIn { kind: id.kind, namespace: id.namespace.clone() })
                    .collect(),
                None => BTreeSet::new(),
            };
            if waited.is_empty() && defines.is_empty() {
                continue;
            }
            let sources = waited.into_iter().map(|source| self.state_of(&id, source)).collect();
            let spec = UnitSpec { sources, defines: defines.into_iter().collect(), ..spec.clone() };
            let manifest = Arc::new(UnitManifest::new(id.clone(), spec, unit.manifest.objects.clone()));
            if let Some(rendered) = self.unit_mut(&id) {
                rendered.unit = Some(Unit { manifest, ..unit });
            }
        }
    }

    fn state_of(&mut self, unit: &UnitId, source: SourceId) -> SourceState {
        let lineage = self.lineage_below(Some(unit.clone()));
        let ready = self.registry.is_ready(&source, lineage);
        if ready.is_none()
            && let Some(rendered) = self.unit_mut(unit)
        {
            let (file, line) = (rendered.definition.file.clone(), rendered.definition.line);
            let message = format!("{source} is not defined in this cluster, so the unit never becomes ready");
            let problem = Problem::error(file, line, message).field("spec.healthChecks");
            rendered.problems.push(problem.as_notice());
        }
        SourceState { source, ready: ready.unwrap_or_default() }
    }
}

/// The source that a health check names.
fn checked(check: &HealthCheck) -> Option<SourceId> {
    let (group, _) = check.api_version.rsplit_once('/')?;
    let kind =
        SourceKind::ALL.into_iter().find(|kind| kind.group() == group && kind.as_str() == check.kind)?;
    Some(SourceId::new(kind, check.namespace.as_str(), check.name.as_str()))
}
