//! Lists of clusters and units: which, in which order, and which part of it. All of it comes from the query, and what in it is not
//! understood is refused: a filter that is passed over would show more than was asked for.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use flotilla_api::{ConnectionState, Page, SyncState, Unit};
use flotilla_core::report::Phase;
use flotilla_core::{Digest, UnitId, UnitKind};
use flotilla_select::Labels;
use serde::{Deserialize, Serialize};

use super::error::ApiError;
use super::images;
use super::show::{self, Glance, Known, UNKNOWN};
use crate::index::Entry;

/// Entries in a page, where none is asked for, and the most that are given.
pub(super) const PAGE: usize = 500;
pub(super) const MAX_PAGE: usize = 5_000;
/// Bytes of one parameter, and words of a search.
const MAX_TEXT: usize = 1_000;
const MAX_WORDS: usize = 16;
/// The fewest digits that name a commit.
const SHORTEST_COMMIT: usize = 4;

/// The query of both lists.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct Query {
    pub(super) cluster: Option<String>,
    label_selector: Option<String>,
    connection: Option<String>,
    sync: Option<String>,
    phase: Option<String>,
    unit: Option<String>,
    namespace: Option<String>,
    kind: Option<String>,
    image: Option<String>,
    commit: Option<String>,
    search: Option<String>,
    sort_by: Option<String>,
    #[serde(skip_serializing)]
    limit: Option<String>,
    #[serde(rename = "continue", alias = "after", skip_serializing)]
    from: Option<String>,
}

/// The names of a query's parameters, for the description of the API.
pub(super) const UNITS: &[&str] = &[
    "cluster",
    "labelSelector",
    "connection",
    "sync",
    "phase",
    "unit",
    "namespace",
    "kind",
    "image",
    "commit",
    "search",
    "sortBy",
    "limit",
    "continue",
];
/// A list of clusters takes no `cluster`.
pub(super) const CLUSTERS: &[&str] = UNITS.split_at(1).1;

pub(super) fn bad(field: &str, why: impl std::fmt::Display) -> ApiError {
    ApiError::bad_request(format!("`{field}` in the query: {why}"))
}

/// How many entries a page has.
pub(super) fn limit(text: Option<&str>) -> Result<usize, ApiError> {
    match text.map(str::parse::<usize>) {
        None => Ok(PAGE),
        Some(Ok(limit)) if limit > 0 => Ok(limit.min(MAX_PAGE)),
        Some(_) => Err(bad("limit", format!("it is a number from 1 to {MAX_PAGE}"))),
    }
}

/// What the fields of a list can be sorted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SortBy {
    Name,
    Connection,
    Sync,
    Phase,
    Problems,
    LastSeen,
    Since,
    Commit,
}

const OF_CLUSTERS: &[(&str, SortBy)] = &[
    ("name", SortBy::Name),
    ("connection", SortBy::Connection),
    ("sync", SortBy::Sync),
    ("problems", SortBy::Problems),
    ("lastSeen", SortBy::LastSeen),
    ("commit", SortBy::Commit),
];
const OF_UNITS: &[(&str, SortBy)] = &[
    ("name", SortBy::Name),
    ("phase", SortBy::Phase),
    ("problems", SortBy::Problems),
    ("since", SortBy::Since),
    ("commit", SortBy::Commit),
];

/// Which part of a list, in which order.
#[derive(Debug, Clone)]
pub(super) struct Part {
    pub(super) limit: usize,
    pub(super) sort_by: SortBy,
    /// Greatest first.
    descending: bool,
    from: Option<Place>,
    query: String,
}

/// Where the part before ended: it stays good whatever comes and goes, as it names a place and no number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Place {
    /// A digest of all that chooses and sorts.
    query: String,
    key: String,
    name: String,
}

/// Which clusters and units.
#[derive(Debug, Default)]
pub(super) struct Filter {
    labels: Labels,
    connection: Option<Vec<String>>,
    sync: Option<Vec<String>>,
    units: UnitFilter,
    /// Lower-case words, each of which has to be found.
    words: Vec<String>,
    commit: Option<String>,
}

/// What one unit has to fulfil as a whole.
#[derive(Debug, Default)]
struct UnitFilter {
    phase: Option<Vec<String>>,
    unit: Option<UnitName>,
    namespace: Option<String>,
    kind: Option<String>,
    image: Option<String>,
}

#[derive(Debug)]
enum UnitName {
    Whole(UnitId),
    /// Of any kind and namespace.
    Short(String),
}

/// A list of names that are known, whatever their case.
fn one_of(field: &str, text: Option<&str>, known: &[&str]) -> Result<Option<Vec<String>>, ApiError> {
    let Some(text) = text else { return Ok(None) };
    let find = |name: &str| known.iter().find(|known| known.eq_ignore_ascii_case(name.trim()));
    let names = text.split(',').map(|name| {
        find(name)
            .map(|name| (*name).to_owned())
            .ok_or_else(|| bad(field, format!("'{name}' is none of {}", known.join(", "))))
    });
    names.collect::<Result<_, _>>().map(Some)
}

impl Query {
    /// The parts of the query, each bounded.
    fn check(&self) -> Result<(), ApiError> {
        for (field, text) in [
            ("cluster", &self.cluster),
            ("labelSelector", &self.label_selector),
            ("connection", &self.connection),
            ("sync", &self.sync),
            ("phase", &self.phase),
            ("unit", &self.unit),
            ("namespace", &self.namespace),
            ("kind", &self.kind),
            ("image", &self.image),
            ("commit", &self.commit),
            ("search", &self.search),
            ("sortBy", &self.sort_by),
            ("continue", &self.from),
        ] {
            match text {
                Some(text) if text.len() > MAX_TEXT => {
                    return Err(bad(field, format!("it is longer than {MAX_TEXT} bytes")));
                }
                // Somebody meant to choose, and nothing says what.
                Some(text) if text.is_empty() && !["continue", "labelSelector"].contains(&field) => {
                    return Err(bad(field, "it is empty"));
                }
                _ => {}
            }
        }
        Ok(())
    }

    pub(super) fn filter(&self) -> Result<Filter, ApiError> {
        self.check()?;
        let labels = self.label_selector.as_deref().unwrap_or_default();
        let labels = Labels::parse(labels).map_err(|error| bad("labelSelector", error))?;
        let connections = [
            ConnectionState::NotEnrolled,
            ConnectionState::Invited,
            ConnectionState::Connected,
            ConnectionState::Disconnected,
            ConnectionState::Revoked,
        ];
        let syncs = [
            SyncState::InSync,
            SyncState::Pending,
            SyncState::Progressing,
            SyncState::Failing,
            SyncState::Held,
            SyncState::Kept,
            SyncState::Suspended,
            SyncState::Stale,
            SyncState::Unassigned,
            SyncState::Unknown,
        ];
        let mut phases = Phase::ALL.map(Phase::as_str).to_vec();
        phases.push(UNKNOWN);
        let unit = match self.unit.as_deref() {
            Some(text) if text == "root" || text.contains('/') => {
                Some(UnitName::Whole(text.parse().map_err(|error| bad("unit", error))?))
            }
            text => text.map(|text| UnitName::Short(text.to_owned())),
        };
        if let Some(commit) = &self.commit {
            let is_hex = commit.bytes().all(|byte| byte.is_ascii_hexdigit());
            if !is_hex || !(SHORTEST_COMMIT..=64).contains(&commit.len()) {
                let why = format!("a commit is named by {SHORTEST_COMMIT} to 64 hexadecimal digits");
                return Err(bad("commit", why));
            }
        }
        let words = self.search.as_deref().unwrap_or_default().to_lowercase();
        let words: Vec<String> = words.split_whitespace().map(str::to_owned).collect();
        if words.len() > MAX_WORDS {
            return Err(bad("search", format!("it has more than {MAX_WORDS} words")));
        }
        Ok(Filter {
            labels,
            connection: one_of(
                "connection",
                self.connection.as_deref(),
                &connections.map(ConnectionState::as_str),
            )?,
            sync: one_of("sync", self.sync.as_deref(), &syncs.map(SyncState::as_str))?,
            units: UnitFilter {
                phase: one_of("phase", self.phase.as_deref(), &phases)?,
                unit,
                namespace: self.namespace.clone(),
                kind: self.kind.clone(),
                image: self.image.clone(),
            },
            words,
            commit: self.commit.as_ref().map(|commit| commit.to_ascii_lowercase()),
        })
    }

    pub(super) fn part_of_clusters(&self) -> Result<Part, ApiError> {
        if self.cluster.is_some() {
            return Err(bad("cluster", "there is no such parameter here: ask for /clusters/NAME"));
        }
        self.part(OF_CLUSTERS)
    }

    pub(super) fn part_of_units(&self) -> Result<Part, ApiError> {
        self.part(OF_UNITS)
    }

    fn part(&self, fields: &[(&str, SortBy)]) -> Result<Part, ApiError> {
        self.check()?;
        let limit = limit(self.limit.as_deref())?;
        let text = self.sort_by.as_deref().unwrap_or("name");
        let (descending, field) = text.strip_prefix('-').map_or((false, text), |field| (true, field));
        let sort_by = fields.iter().find(|(name, _)| *name == field).map(|(_, by)| *by).ok_or_else(|| {
            let names: Vec<&str> = fields.iter().map(|(name, _)| *name).collect();
            bad(
                "sortBy",
                format!("'{field}' is none of {}; a '-' before it reverses the order", names.join(", ")),
            )
        })?;
        let query = serde_json::to_vec(self).map(|text| Digest::of(&text).to_string()).unwrap_or_default();
        let query = query[..16.min(query.len())].to_owned();
        let from = self.from.as_deref().filter(|from| !from.is_empty()).map(Place::read).transpose()?;
        if from.as_ref().is_some_and(|from| from.query != query) {
            return Err(bad(
                "continue",
                "it belongs to a list with other parameters: give it with the parameters of that list",
            ));
        }
        Ok(Part { limit, sort_by, descending, from, query })
    }
}

impl Place {
    fn read(text: &str) -> Result<Self, ApiError> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok();
        bytes
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .ok_or_else(|| bad("continue", "it is not a `next` that this hub gave: ask again without it"))
    }
}

impl Part {
    /// Whether all of the list that is wanted is there, in order: what is after it need not be looked at.
    pub(super) fn is_full(&self, found: usize) -> bool {
        self.sort_by == SortBy::Name && !self.descending && found > self.limit
    }

    /// Whether a thing of this name can be left out without a look: a part before had it.
    pub(super) fn is_past(&self, name: &str) -> bool {
        let is_plain = self.sort_by == SortBy::Name && !self.descending;
        is_plain && self.from.as_ref().is_some_and(|from| name <= from.name.as_str())
    }

    /// The part of what was found, each with what it is sorted by and its name.
    pub(super) fn cut<T>(&self, mut found: Vec<(String, String, T)>) -> Page<T> {
        let order = |a: (&str, &str), b: (&str, &str)| match self.descending {
            // Of equal ones the names go up all the same, unless they are what is sorted by.
            true if self.sort_by == SortBy::Name => b.1.cmp(a.1),
            true => b.0.cmp(a.0).then_with(|| a.1.cmp(b.1)),
            false => a.cmp(&b),
        };
        if let Some(from) = &self.from {
            found.retain(|(key, name, _)| order((key, name), (&from.key, &from.name)).is_gt());
        }
        found.sort_by(|a, b| order((&a.0, &a.1), (&b.0, &b.1)));
        let is_more = found.len() > self.limit;
        found.truncate(self.limit);
        let next = found.last().filter(|_| is_more).map(|(key, name, _)| {
            let place = Place { query: self.query.clone(), key: key.clone(), name: name.clone() };
            URL_SAFE_NO_PAD.encode(serde_json::to_vec(&place).expect("texts are JSON"))
        });
        Page { items: found.into_iter().map(|(_, _, item)| item).collect(), next }
    }

    /// Numbers as texts in the same order.
    pub(super) fn number(number: i64) -> String {
        format!("{:020}", i128::from(number) - i128::from(i64::MIN))
    }
}

fn is_in(list: &Option<Vec<String>>, name: &str) -> bool {
    list.as_ref().is_none_or(|list| list.iter().any(|it| it == name))
}

impl Filter {
    /// Whether the cluster itself is meant, whatever its units.
    pub(super) fn takes_cluster(
        &self,
        entry: &Entry,
        known: &Known,
        sync: impl FnOnce() -> SyncState,
    ) -> bool {
        let label = |key: &str| {
            let of_git = entry.facts.as_ref().and_then(|facts| facts.labels.get(key));
            // What Git says of a label counts.
            let label = of_git
                .or_else(|| entry.record.as_ref().and_then(|record| record.labels.get(key)))
                .or_else(|| entry.reported.get(key));
            label.map(String::as_str)
        };
        (self.labels.is_empty() || self.labels.matches(label))
            && is_in(&self.connection, known.connection().as_str())
            && (self.sync.is_none() || is_in(&self.sync, sync().as_str()))
    }

    /// Whether it is of units alone that more is asked.
    pub(super) fn is_of_units(&self) -> bool {
        let UnitFilter { phase, unit, namespace, kind, image } = &self.units;
        [phase.is_some(), unit.is_some(), namespace.is_some(), kind.is_some(), image.is_some()]
            .contains(&true)
    }

    /// Whether the unit is meant, by all that can be told without making what is shown of it.
    pub(super) fn takes_unit(&self, id: &UnitId, known: &Known) -> bool {
        let filter = &self.units;
        let is_named = match &filter.unit {
            None => true,
            Some(UnitName::Whole(wanted)) => wanted == id,
            Some(UnitName::Short(name)) => id.name == *name,
        };
        is_named
            && filter.namespace.as_ref().is_none_or(|namespace| *namespace == id.namespace)
            && (filter.phase.is_none() || is_in(&filter.phase, Glance::of(id, known).phase))
            && filter.kind.as_ref().is_none_or(|kind| has_kind(id, known, kind))
            && filter.image.as_ref().is_none_or(|image| images::unit_has(id, known, image))
    }

    /// The same for what only what is shown of it tells.
    pub(super) fn takes_shown(&self, unit: &Unit) -> bool {
        self.takes_commit(&unit.commit)
            && (self.words.is_empty() || {
                let mut texts =
                    vec![unit.cluster.clone(), unit.unit.clone(), unit.path.clone(), unit.message.clone()];
                texts.extend(unit.problems.iter().map(ToString::to_string));
                let findings = unit.findings.iter();
                texts.extend(findings.map(|f| format!("{} {} {}", f.object, f.reason, f.message)));
                texts.extend(unit.kept.iter().map(|kept| format!("{} {}", kept.object, kept.why)));
                self.finds(texts)
            })
    }

    pub(super) fn takes_commit(&self, commit: &str) -> bool {
        self.commit.as_ref().is_none_or(|wanted| commit.starts_with(wanted.as_str()))
    }

    /// Whether there are words to be found.
    pub(super) fn has_words(&self) -> bool {
        !self.words.is_empty()
    }

    /// Whether each word is somewhere in the texts.
    pub(super) fn finds(&self, texts: Vec<String>) -> bool {
        let text = texts.join("\n").to_lowercase();
        self.words.iter().all(|word| text.contains(word))
    }
}

/// Whether the unit is of a kind, or has an object of it.
fn has_kind(id: &UnitId, known: &Known, kind: &str) -> bool {
    let own = match id.kind {
        UnitKind::HelmRelease => "HelmRelease",
        UnitKind::Kustomization | UnitKind::Root => "Kustomization",
        UnitKind::Other => "",
    };
    own.eq_ignore_ascii_case(kind)
        || show::manifest(id, known).is_some_and(|manifest| {
            manifest.objects.iter().any(|entry| entry.object.id.kind.eq_ignore_ascii_case(kind))
        })
}

#[cfg(test)]
#[path = "list_tests.rs"]
mod tests;
