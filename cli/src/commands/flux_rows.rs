//! Units as Flux's own command lists Kustomizations and HelmReleases.

use flotilla_api::Unit;
use serde::Serialize;

use super::rows::{Row, phase_tone, revision, unit_message};
use crate::output::{Cell, Tone, age};

/// A unit by its Flux object's name.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(transparent)]
pub(super) struct FluxUnit(pub(super) Unit);

impl FluxUnit {
    /// Namespace and name of the object; a root has its name only.
    pub(super) fn name(&self) -> (&str, &str) {
        let unit = self.0.unit.as_str();
        let name = unit.split_once('/').map_or(unit, |(_, name)| name);
        name.split_once('/').unwrap_or(("", name))
    }

    /// As a Flux object's condition `Ready` would say it.
    fn ready(&self) -> Cell {
        let unit = &self.0;
        let status = match unit.phase.as_str() {
            "Ready" if unit.applied == unit.desired => "True",
            "Failed" | "Held" => "False",
            _ => "Unknown",
        };
        Cell::new(status).tone(phase_tone(&unit.phase, unit.live))
    }
}

impl Row for FluxUnit {
    fn headers(wide: bool) -> &'static [&'static str] {
        if wide {
            &[
                "CLUSTER",
                "NAMESPACE",
                "NAME",
                "REVISION",
                "SUSPENDED",
                "READY",
                "PHASE",
                "SOURCE",
                "PATH",
                "OBJECTS",
                "SINCE",
                "MESSAGE",
            ]
        } else {
            &["CLUSTER", "NAMESPACE", "NAME", "REVISION", "SUSPENDED", "READY", "MESSAGE"]
        }
    }

    fn cells(&self, wide: bool, now: i64) -> Vec<Cell> {
        let unit = &self.0;
        let (namespace, name) = self.name();
        let is_suspended = unit.suspended.is_some() || unit.phase == "Suspended";
        let at = if unit.revision.is_empty() { &unit.commit } else { &unit.revision };
        let mut cells = vec![
            Cell::new(&unit.cluster),
            Cell::new(namespace),
            Cell::new(name).tone(Tone::Strong),
            Cell::new(revision(at)),
            Cell::new(if is_suspended { "True" } else { "False" }),
            self.ready(),
        ];
        if wide {
            cells.extend([Cell::new(&unit.phase), Cell::new(&unit.source), Cell::new(&unit.path)]);
            cells.extend([unit.objects.to_string().into(), age(now, unit.since).into()]);
        }
        cells.push(unit_message(unit).into());
        cells
    }

    fn key(&self) -> String {
        self.0.key()
    }
}
