//! A row of an API token.

use flotilla_api::Token;

use super::Row;
use crate::output::{Cell, Tone, age, date, span};

impl Row for Token {
    fn headers(_: bool) -> &'static [&'static str] {
        &["NAME", "ROLE", "SCOPE", "CREATED", "BY", "EXPIRES", "LAST USED"]
    }

    fn cells(&self, wide: bool, now: i64) -> Vec<Cell> {
        let created = if wide { date(self.created_at) } else { age(now, Some(self.created_at)) };
        let used = match self.last_used_at {
            None => "never".to_owned(),
            Some(at) if wide => date(at),
            at => age(now, at),
        };
        let expires = match self.expires_at {
            None => Cell::new("never"),
            Some(at) if at <= now => Cell::new("expired").tone(Tone::Bad),
            Some(at) if wide => Cell::new(date(at)),
            Some(at) => Cell::new(format!("in {}", span(at - now))),
        };
        vec![
            Cell::new(&self.name).tone(Tone::Strong),
            Cell::new(self.role.as_str()),
            Cell::new(self.scope.to_string()),
            created.into(),
            Cell::new(&self.created_by),
            expires,
            used.into(),
        ]
    }

    fn key(&self) -> String {
        format!("token {}", self.name)
    }
}
