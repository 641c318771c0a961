//! A row of a unit, and what is most important to say about it.

use flotilla_api::Unit;

use super::{Row, first_of, short};
use crate::output::{Cell, Tone, age};

impl Row for Unit {
    fn headers(wide: bool) -> &'static [&'static str] {
        if wide {
            &[
                "CLUSTER",
                "UNIT",
                "PHASE",
                "OBJECTS",
                "COMMIT",
                "WANTED",
                "DESIRED",
                "APPLIED",
                "HEALTHY",
                "CORRECTED",
                "PATH",
                "SINCE",
                "MESSAGE",
            ]
        } else {
            &["CLUSTER", "UNIT", "PHASE", "OBJECTS", "COMMIT", "SINCE", "MESSAGE"]
        }
    }

    fn cells(&self, wide: bool, now: i64) -> Vec<Cell> {
        let phase = Cell::new(&self.phase).tone(phase_tone(&self.phase, self.live));
        let digest = |digest: &Option<String>| Cell::new(digest.as_deref().map(short).unwrap_or_default());
        let mut cells = vec![
            Cell::new(&self.cluster),
            Cell::new(&self.unit).tone(Tone::Strong),
            phase,
            self.objects.to_string().into(),
            Cell::new(short(&self.commit)),
        ];
        if wide {
            cells.push(Cell::new(short(&self.wanted_commit)));
            cells.extend([digest(&self.desired), digest(&self.applied), digest(&self.healthy)]);
            cells.extend([self.corrected.to_string().into(), Cell::new(&self.path)]);
        }
        cells.extend([age(now, self.since).into(), unit_message(self).into()]);
        cells
    }

    fn key(&self) -> String {
        format!("{} of cluster {}", self.unit, self.cluster)
    }
}

/// The colour of a phase; what an agent that is away said last is faint.
pub(in crate::commands) fn phase_tone(phase: &str, live: bool) -> Tone {
    match phase {
        "Failed" => Tone::Bad,
        "Held" | "Suspended" | "Unknown" => Tone::Warn,
        _ if !live => Tone::Faint,
        "Ready" => Tone::Good,
        _ => Tone::Note,
    }
}

/// The most important thing to say about a unit.
pub(in crate::commands) fn unit_message(unit: &Unit) -> String {
    let problems = unit.problems.iter().filter(|p| !p.notice).map(ToString::to_string);
    let findings = unit.findings.iter().map(|f| format!("{}: {}: {}", f.object, f.reason, f.message));
    let kept = unit.kept.iter().map(|k| format!("{} is kept: {}", k.object, k.why));
    let message = Some(unit.message.clone()).filter(|m| !m.is_empty());
    let details = first_of(problems.chain(findings).chain(kept));
    match (message, details) {
        (Some(message), Some(details)) if !message.contains(&details) && !details.contains(&message) => {
            format!("{message}; {details}")
        }
        (_, Some(details)) => details,
        (message, None) => message
            .or_else(|| unit.suspended.as_ref().map(|s| format!("suspended by {}: {}", s.by, s.reason)))
            .unwrap_or_default(),
    }
}
