//! Lists: how each thing looks as a row, and showing them once or as they change.

mod change;
mod cluster;
mod event;
mod secret;
mod source;
mod token;
mod unit;

use std::collections::BTreeMap;

use serde::Serialize;

use crate::args::Format;
use crate::client::{Client, Watch};
use crate::error::Error;
use crate::output::{self, Cell, Table, Terminal, now};

pub(super) use cluster::{about, cluster_message, waits, whole};
pub(super) use unit::{phase_tone, unit_message};

/// Something that a table has a row for.
pub(super) trait Row: Serialize {
    fn headers(wide: bool) -> &'static [&'static str];
    /// A cell for each header.
    fn cells(&self, wide: bool, now: i64) -> Vec<Cell>;
    /// What makes it the same thing later.
    fn key(&self) -> String;
    /// Whether it is worth a note that one is not in the list any more.
    fn is_missed() -> bool {
        true
    }
}

/// Shows a list once; for scripts it is an array.
pub(super) fn show<T: Row>(
    terminal: &Terminal,
    format: Format,
    what: &str,
    items: &[T],
) -> Result<(), Error> {
    if items.is_empty() && matches!(format, Format::Table | Format::Wide) {
        terminal.note(&format!("there are no {what}"));
        return Ok(());
    }
    terminal.show(format, &items, |wide| {
        let mut table = Table::new(T::headers(wide));
        items.iter().for_each(|item| table.row(item.cells(wide, now())));
        table.take(terminal.color)
    })
}

/// Shows a list and then whatever changes in it, until the user ends it.
pub(super) async fn watch<T: Row>(
    terminal: &Terminal,
    client: &Client,
    format: Format,
    fetch: impl AsyncFn() -> Result<Vec<T>, Error>,
) -> Result<(), Error> {
    let mut watch = Watch::start(client, terminal).await?;
    let wide = format == Format::Wide;
    let mut table = Table::new(T::headers(wide));
    let mut seen: BTreeMap<String, String> = BTreeMap::new();
    loop {
        let items = fetch().await?;
        let mut still = BTreeMap::new();
        let mut text = String::new();
        for item in &items {
            let (key, state) = (item.key(), state(item, format));
            if seen.remove(&key).as_ref() != Some(&state) {
                match format {
                    Format::Table | Format::Wide => table.row(item.cells(wide, now())),
                    Format::Json | Format::Yaml => text.push_str(&output::part(format, item)?),
                }
            }
            still.insert(key, state);
        }
        if matches!(format, Format::Table | Format::Wide) {
            text = table.take(terminal.color);
        }
        for gone in seen.keys().filter(|_| T::is_missed()) {
            terminal.note(&format!("{gone} is gone"));
        }
        seen = still;
        if !text.is_empty() {
            terminal.print(&text)?;
        }
        watch.changed().await?;
    }
}

/// What has to differ for an item to be shown again. In a table, that time passes is no change.
fn state<T: Row>(item: &T, format: Format) -> String {
    match format {
        Format::Table | Format::Wide => format!("{:?}", item.cells(format == Format::Wide, i64::MIN / 2)),
        Format::Json | Format::Yaml => serde_json::to_string(item).unwrap_or_default(),
    }
}

pub(super) fn short(digest: &str) -> &str {
    digest.get(..12).unwrap_or(digest)
}

/// `main@sha1:0123abcd`: a revision with as much of its digest as people read.
pub(super) fn revision(text: &str) -> String {
    match text.rsplit_once(':') {
        Some((kind, digest)) => format!("{kind}:{}", digest.get(..8).unwrap_or(digest)),
        None => short(text).to_owned(),
    }
}

fn pairs(map: &BTreeMap<String, String>) -> String {
    map.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",")
}

/// The first of several messages, and how many more there are.
fn first_of(mut messages: impl Iterator<Item = String>) -> Option<String> {
    let first = messages.next()?;
    Some(match messages.count() {
        0 => first,
        more => format!("{first} (and {more} more)"),
    })
}
