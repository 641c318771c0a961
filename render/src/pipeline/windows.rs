//! The windows of a pipeline or a stage: when clusters may be given something new.

use std::collections::BTreeSet;
use std::str::FromStr;

use flotilla_rollout::Overrun;
use flotilla_rollout::spec::{Period, Window, WindowKind, Zone};

use crate::field::{Field, Wrong};

const WINDOW_FIELDS: [&str; 9] =
    ["name", "kind", "days", "from", "to", "zone", "overrun", "override", "maxStarts"];

const MAX_WINDOWS: usize = 32;
const MAX_NAME: usize = 63;
const MAX_ROLES: usize = 32;
const MAX_STARTS: u32 = 1_000_000;

pub(super) fn windows(field: Option<&Field<'_>>) -> Result<Vec<Window>, Wrong> {
    let Some(field) = field else { return Ok(Vec::new()) };
    let mut names = BTreeSet::new();
    let mut windows = Vec::new();
    for item in field.list(MAX_WINDOWS)? {
        let window = window(&item)?;
        if !names.insert(window.name.clone()) {
            return Err(item.wrong(format!("another window has the name '{}' too", window.name)));
        }
        windows.push(window);
    }
    Ok(windows)
}

fn window(item: &Field<'_>) -> Result<Window, Wrong> {
    let fields = item.object(&WINDOW_FIELDS)?;
    let kind = fields.need("kind")?.choice(&[("allow", WindowKind::Allow), ("deny", WindowKind::Deny)])?;
    let max_starts = fields.number("maxStarts", 1..=MAX_STARTS)?;
    if let (Some(field), WindowKind::Deny) = (fields.get("maxStarts"), kind) {
        return Err(field.wrong("is for windows that allow something"));
    }
    let roles = |field: &Field<'_>| -> Result<Vec<String>, Wrong> {
        let roles = field.list(MAX_ROLES)?;
        if roles.is_empty() {
            return Err(field.wrong("names no role; leave it out where all who may override count"));
        }
        roles.iter().map(|role| role.name(MAX_NAME)).collect()
    };
    let overruns = [("finish", Overrun::Finish), ("pause", Overrun::Pause), ("rollback", Overrun::Rollback)];
    Ok(Window {
        name: fields.need("name")?.name(MAX_NAME)?,
        kind,
        period: period(fields.get("days"), fields.need("from")?, fields.need("to")?)?,
        zone: fields.get("zone").map(Field::parsed).transpose()?.unwrap_or_else(Zone::utc),
        overrun: fields.choice("overrun", &overruns)?,
        override_roles: fields.get("override").map(roles).transpose()?.unwrap_or_default(),
        max_starts,
    })
}

/// Each week where `from` and `to` are times of the day, once where they are dates with a time.
fn period(days: Option<&Field<'_>>, from: &Field<'_>, to: &Field<'_>) -> Result<Period, Wrong> {
    let is_once = |field: &Field<'_>| field.node.as_str().is_some_and(|text| text.contains('T'));
    match (is_once(from), is_once(to)) {
        (false, false) => {
            let days = match days {
                Some(field) => {
                    let days: Vec<_> = field.list(7)?.iter().map(Field::parsed).collect::<Result<_, _>>()?;
                    if days.is_empty() {
                        return Err(field.wrong("names no day; leave it out for every day"));
                    }
                    days
                }
                None => Vec::new(),
            };
            Ok(Period::Weekly { days, from: time(from)?, to: time(to)? })
        }
        (true, true) => {
            if let Some(days) = days {
                return Err(days.wrong("is for windows that come every week; this one has dates"));
            }
            let (begin, end) = (time(from)?, time(to)?);
            if begin >= end {
                return Err(to.wrong("must be after `from`"));
            }
            Ok(Period::Once { from: begin, to: end })
        }
        _ => Err(to.wrong("must be written as `from` is: both with a date, or none")),
    }
}

/// A time of the day as `09:00`, or a moment as `2026-12-24T12:00`.
fn time<T: FromStr>(field: &Field<'_>) -> Result<T, Wrong> {
    let form = "is not a time: write \"09:00\", or \"2026-12-24T12:00\", in quotes";
    let text = field.node.as_str().ok_or_else(|| field.wrong(form))?;
    text.parse().map_err(|_| field.wrong(format!("'{text}' {form}")))
}
