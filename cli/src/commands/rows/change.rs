//! A row of a finding about what the newest commit takes away.

use flotilla_api::{ChangeFinding, HeldUnit};

use super::{Row, short};
use crate::output::{Cell, Tone};

impl Row for ChangeFinding {
    fn headers(wide: bool) -> &'static [&'static str] {
        if wide {
            &["SEVERITY", "WHAT", "CLUSTERS", "DIGEST", "COMMIT", "FIRST", "UNITS"]
        } else {
            &["SEVERITY", "WHAT", "CLUSTERS", "DIGEST", "FIRST"]
        }
    }

    fn cells(&self, wide: bool, _: i64) -> Vec<Cell> {
        let tone = if self.severity == "info" { Tone::Faint } else { Tone::Warn };
        let clusters = match &self.clusters[..] {
            [one] => one.clone(),
            all => all.len().to_string(),
        };
        let first = self.names.iter().take(if wide { self.names.len() } else { 1 });
        let first = first.map(String::as_str).collect::<Vec<_>>().join(", ");
        let mut cells: Vec<Cell> = vec![
            Cell::new(&self.severity).tone(tone),
            Cell::new(&self.message),
            clusters.into(),
            self.digest.get(..12).unwrap_or(&self.digest).to_owned().into(),
        ];
        cells.extend(wide.then(|| short(&self.commit).to_owned().into()));
        cells.push(first.into());
        if wide {
            let unit = |held: &HeldUnit| match (held.removed, held.objects) {
                (true, _) => format!("{}: {} goes", held.cluster, held.unit),
                (false, objects) => format!("{}: {} loses {objects}", held.cluster, held.unit),
            };
            cells.push(self.held.iter().map(unit).collect::<Vec<_>>().join(", ").into());
        }
        cells
    }

    fn key(&self) -> String {
        format!("change {} {} {}", self.commit, self.finding, self.message)
    }
}
