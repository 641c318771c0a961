//! A row of an event.

use flotilla_api::Event;

use super::Row;
use crate::output::{Cell, Tone, age, date};

impl Row for Event {
    fn headers(wide: bool) -> &'static [&'static str] {
        if wide {
            &["TIME", "CLUSTER", "TYPE", "REASON", "UNIT", "OBJECT", "MESSAGE"]
        } else {
            &["AGE", "CLUSTER", "TYPE", "REASON", "UNIT", "OBJECT", "MESSAGE"]
        }
    }

    fn cells(&self, wide: bool, now: i64) -> Vec<Cell> {
        let kind = match self.warning {
            true => Cell::new("Warning").tone(Tone::Warn),
            false => Cell::new("Normal"),
        };
        vec![
            if wide { date(self.at) } else { age(now, Some(self.at)) }.into(),
            Cell::new(&self.cluster),
            kind,
            Cell::new(&self.reason),
            Cell::new(&self.unit),
            self.object.as_ref().map(ToString::to_string).unwrap_or_default().into(),
            Cell::new(&self.message),
        ]
    }

    fn key(&self) -> String {
        let Self { cluster, at, unit, reason, message, .. } = self;
        let object = self.object.as_ref().map(ToString::to_string).unwrap_or_default();
        format!("event {at} {cluster} {unit} {object} {reason} {message}")
    }

    fn is_missed() -> bool {
        false
    }
}
