//! Lists: how each thing looks as a row, and showing them once or as they change.

use std::collections::BTreeMap;

use flotilla_api::{
    Attention, ChangeFinding, Cluster, Event, HeldUnit, SecretInfo, SecretRole, SecretUse, Source, Token,
    Unit, WaitingCluster,
};
use serde::Serialize;

use crate::args::Format;
use crate::client::{Client, Watch};
use crate::error::Error;
use crate::output::{self, Cell, Table, Terminal, Tone, age, date, now};

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

impl Row for Cluster {
    fn headers(wide: bool) -> &'static [&'static str] {
        if wide {
            &[
                "NAME",
                "CONNECTION",
                "SYNC",
                "UNITS",
                "OBJECTS",
                "COMMIT",
                "GENERATION",
                "KUBERNETES",
                "AGENT",
                "ROOT",
                "LABELS",
                "MESSAGE",
            ]
        } else {
            &["NAME", "CONNECTION", "SYNC", "UNITS", "COMMIT", "SEEN", "MESSAGE"]
        }
    }

    fn cells(&self, wide: bool, now: i64) -> Vec<Cell> {
        use flotilla_api::{ConnectionState, SyncState};
        let connection = Cell::new(self.connection.as_str()).tone(match self.connection {
            ConnectionState::Connected => Tone::Good,
            ConnectionState::Disconnected => Tone::Bad,
            ConnectionState::Revoked | ConnectionState::Invited | ConnectionState::NotEnrolled => Tone::Warn,
        });
        let sync = Cell::new(self.sync.as_str()).tone(match self.sync {
            SyncState::InSync => Tone::Good,
            SyncState::Failing => Tone::Bad,
            SyncState::Held
            | SyncState::Kept
            | SyncState::Suspended
            | SyncState::Stale
            | SyncState::Unknown
            | SyncState::Unassigned => Tone::Warn,
            SyncState::Pending | SyncState::Progressing => Tone::Note,
        });
        let total: u32 = self.units.values().sum();
        let units = format!("{}/{total}", self.units.get("Ready").copied().unwrap_or_default());
        let commit = short(&self.commit);
        let message = match (cluster_message(self), self.connection) {
            (_, ConnectionState::NotEnrolled) if self.attention.is_empty() => {
                format!("no agent has joined; `flotilla cluster token {}` lets one in", self.name)
            }
            (_, ConnectionState::Invited) if self.attention.is_empty() => {
                "its agent has not joined yet".to_owned()
            }
            (message, _) => message,
        };
        let name = Cell::new(&self.name).tone(Tone::Strong);
        if !wide {
            let seen = if self.connection == ConnectionState::Connected {
                "now".to_owned()
            } else {
                age(now, self.last_seen)
            };
            return vec![name, connection, sync, units.into(), commit.into(), seen.into(), message.into()];
        }
        let generation = self.desired.as_ref().map(|d| d.generation.to_string()).unwrap_or_default();
        vec![
            name,
            connection,
            sync,
            units.into(),
            self.objects.to_string().into(),
            commit.into(),
            generation.into(),
            Cell::new(&self.kubernetes_version),
            Cell::new(&self.agent_version),
            Cell::new(&self.root),
            pairs(&self.labels).into(),
            message.into(),
        ]
    }

    fn key(&self) -> String {
        format!("cluster {}", self.name)
    }
}

/// What needs a person in a cluster: the worst of it, and how much more there is. Else why it does not run the newest.
pub(super) fn cluster_message(cluster: &Cluster) -> String {
    first_of(cluster.attention.iter().map(about).chain(cluster.waiting.iter().map(waits))).unwrap_or_default()
}

/// Why a cluster does not run the newest, and when that may change by itself.
pub(super) fn waits(waiting: &WaitingCluster) -> String {
    let next = waiting.next.map(|at| format!(" (next at {})", date(at))).unwrap_or_default();
    format!("{}{next}", waiting.message)
}

/// What needs a person, and where.
pub(super) fn whole(attention: &Attention) -> String {
    attention.to_string()
}

/// What needs a person, without the name of the cluster.
pub(super) fn about(attention: &Attention) -> String {
    let text = Attention { cluster: String::new(), ..attention.clone() }.to_string();
    text.strip_prefix("fleet ").map_or_else(|| text.clone(), str::to_owned)
}

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
pub(super) fn phase_tone(phase: &str, live: bool) -> Tone {
    match phase {
        "Failed" => Tone::Bad,
        "Held" | "Suspended" | "Unknown" => Tone::Warn,
        _ if !live => Tone::Faint,
        "Ready" => Tone::Good,
        _ => Tone::Note,
    }
}

/// The most important thing to say about a unit.
pub(super) fn unit_message(unit: &Unit) -> String {
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
            Some(at) => Cell::new(format!("in {}", output::span(at - now))),
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
