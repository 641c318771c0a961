//! Rows of the secrets that the hub keeps, and of who uses one.

use flotilla_api::{SecretInfo, SecretRole, SecretUse};

use super::Row;
use crate::output::{Cell, Tone, age, date};

impl Row for SecretInfo {
    fn headers(_: bool) -> &'static [&'static str] {
        &["NAMESPACE", "NAME", "FOR", "SCOPE", "KEYS", "CHANGED", "BY"]
    }

    fn cells(&self, wide: bool, now: i64) -> Vec<Cell> {
        let changed = if wide { date(self.changed_at) } else { age(now, Some(self.changed_at)) };
        vec![
            Cell::new(&self.namespace),
            Cell::new(&self.name).tone(Tone::Strong),
            Cell::new(&self.kind),
            Cell::new(&self.scope),
            Cell::new(self.keys.join(",")),
            changed.into(),
            Cell::new(&self.changed_by),
        ]
    }

    fn key(&self) -> String {
        format!("secret {}/{}/{}", self.scope, self.namespace, self.name)
    }
}

impl Row for SecretUse {
    fn headers(_: bool) -> &'static [&'static str] {
        &["CLUSTER", "UNIT", "ROLE", "NAMESPACE", "BY", "FIELD"]
    }

    fn cells(&self, _: bool, _: i64) -> Vec<Cell> {
        let (role, place) = match self.role {
            SecretRole::Uses => (Cell::new("uses"), &self.field),
            SecretRole::Makes => (Cell::new("makes"), &self.field),
            SecretRole::Unknown => (Cell::new("unknown").tone(Tone::Warn), &self.reason),
        };
        vec![
            Cell::new(&self.cluster).tone(Tone::Strong),
            Cell::new(&self.unit),
            role,
            Cell::new(&self.namespace),
            Cell::new(&self.object),
            Cell::new(place),
        ]
    }

    fn key(&self) -> String {
        format!("{} {} {} {}", self.cluster, self.unit, self.object, self.field)
    }
}
