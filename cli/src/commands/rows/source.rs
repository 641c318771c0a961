//! A row of a source.

use flotilla_api::Source;

use super::{Row, revision};
use crate::output::{Cell, Tone, age};

impl Row for Source {
    fn headers(wide: bool) -> &'static [&'static str] {
        if wide {
            &[
                "NAME",
                "KIND",
                "READY",
                "REFERENCE",
                "REVISION",
                "URL",
                "CHECKED",
                "CHANGED",
                "CLUSTERS",
                "MESSAGE",
            ]
        } else {
            &["NAME", "KIND", "READY", "REFERENCE", "REVISION", "CHECKED", "MESSAGE"]
        }
    }

    fn cells(&self, wide: bool, now: i64) -> Vec<Cell> {
        let ready = match (self.suspended, self.ready, self.unverified) {
            (true, ..) => Cell::new("Suspended").tone(Tone::Warn),
            (false, false, _) => Cell::new("False").tone(Tone::Bad),
            (false, true, false) => Cell::new("True").tone(Tone::Good),
            (false, true, true) => Cell::new("Unverified").tone(Tone::Warn),
        };
        let mut cells = vec![
            Cell::new(&self.name).tone(Tone::Strong),
            Cell::new(&self.kind),
            ready,
            Cell::new(&self.reference),
            Cell::new(revision(&self.revision)),
        ];
        if wide {
            cells.push(Cell::new(&self.url));
        }
        cells.push(age(now, self.checked_at).into());
        if wide {
            cells.push(age(now, self.changed_at).into());
            cells.push(Cell::new(self.clusters.join(",")));
        }
        cells.push(Cell::new(&self.message));
        cells
    }

    fn key(&self) -> String {
        format!("source {}/{} {}", self.kind, self.name, self.clusters.join(","))
    }
}
