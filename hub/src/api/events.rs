//! Events: the newest of them, and what came after a cursor, as a list or as it happens.

use std::collections::{BTreeSet, VecDeque};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::sse::{self, Sse};
use axum::{Extension, Json};
use flotilla_api::{self as api, ErrorBody, EventPage, ObjectId};
use flotilla_core::report::Timestamp;
use flotilla_core::source::SourceId;
use flotilla_core::{ClusterName, UnitId};
use flotilla_render::source::fleet_source;
use futures::{Stream, StreamExt};
use http::{HeaderMap, StatusCode};
use serde::Deserialize;

use super::auth::Caller;
use super::clusters::Answer;
use super::error::{ApiError, Params};
use super::list::{self, bad};
use super::reach::Reach;
use super::sources;
use crate::journal::{Cursor, Event, Missed, Numbered};
use crate::state::{Hub, blocking};

/// So often a reader that nothing is meant for is told how far it is, so that its cursor does not grow old.
const BOOKMARK: Duration = Duration::from_secs(15);
/// So many events are looked for at a time.
const TOGETHER: usize = 500;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Query {
    cluster: Option<String>,
    unit: Option<String>,
    /// In seconds since 1970; from then on.
    since: Option<String>,
    warnings: Option<String>,
    limit: Option<String>,
    cursor: Option<String>,
    #[serde(rename = "continue", alias = "after")]
    from: Option<String>,
}

/// The parameters of the list, and of the stream.
pub(super) const LIST: &[&str] = &["cluster", "unit", "since", "warnings", "limit", "cursor", "continue"];
pub(super) const STREAM: &[&str] = &["cluster", "unit", "since", "warnings", "cursor"];

impl From<Missed> for ApiError {
    fn from(missed: Missed) -> Self {
        Self::new(StatusCode::GONE, missed.to_string())
            .hint("ask without `cursor`: that gives the newest events and a cursor to go on from")
    }
}

/// What is asked for.
#[derive(Debug, Clone)]
struct Asked {
    cluster: Option<ClusterName>,
    unit: Option<UnitId>,
    since: Timestamp,
    warnings: bool,
}

impl Query {
    fn asked(&self) -> Result<Asked, ApiError> {
        let cluster = self.cluster.as_deref().map(|name| name.parse().map_err(|error| bad("cluster", error)));
        let unit =
            self.unit.as_deref().map(|unit| UnitId::read_any(unit).map_err(|error| bad("unit", error)));
        let since = self
            .since
            .as_deref()
            .map(|at| at.parse().map_err(|_| bad("since", "it is a time in seconds since 1970")));
        let warnings = match self.warnings.as_deref() {
            None | Some("false") => false,
            Some("true") => true,
            Some(_) => return Err(bad("warnings", "it is `true` or `false`")),
        };
        Ok(Asked {
            cluster: cluster.transpose()?,
            unit: unit.transpose()?,
            since: since.transpose()?.unwrap_or(Timestamp::MIN),
            warnings,
        })
    }

    fn limit(&self) -> Result<usize, ApiError> {
        list::limit(self.limit.as_deref())
    }
}

fn cursor(field: &str, text: &str) -> Result<Cursor, ApiError> {
    text.parse().map_err(|error| bad(field, error))
}

/// Which events one caller may see at this moment, of those that are asked for.
struct Meant<'a> {
    hub: &'a Hub,
    asked: &'a Asked,
    reach: Reach,
    /// As kind and name.
    sources: BTreeSet<(String, String)>,
}

impl<'a> Meant<'a> {
    fn new(hub: &'a Hub, caller: &Caller, asked: &'a Asked) -> Self {
        let reach = caller.reach(hub);
        let sources = match reach.is_fleet() {
            true => BTreeSet::new(),
            false => sources::all(hub, &reach).into_iter().map(|source| (source.kind, source.name)).collect(),
        };
        Self { hub, asked, reach, sources }
    }

    fn takes(&self, event: &Event) -> bool {
        let Asked { cluster, unit, since, warnings } = self.asked;
        event.at >= *since
            && (event.warning || !warnings)
            && self.sees(event)
            && match &event.source {
                // Of a cluster, what happened to the sources that it defines.
                Some(source) => {
                    unit.is_none()
                        && cluster.as_ref().is_none_or(|cluster| self.is_source_of(cluster, source))
                }
                None => {
                    (cluster.is_none() || *cluster == event.cluster)
                        && (unit.is_none() || *unit == event.unit)
                }
            }
    }

    fn is_source_of(&self, cluster: &ClusterName, source: &SourceId) -> bool {
        *source == fleet_source() || self.hub.sources.is_of(cluster, source)
    }

    fn sees(&self, event: &Event) -> bool {
        match (&event.source, &event.cluster, &event.unit) {
            (Some(source), _, _) => {
                let name = format!("{}/{}", source.namespace, source.name);
                self.reach.is_fleet() || self.sources.contains(&(source.kind.to_string(), name))
            }
            (None, None, _) => self.reach.is_fleet(),
            (None, Some(cluster), None) => self.reach.whole_cluster(cluster),
            (None, Some(cluster), Some(unit)) => self.reach.unit(cluster, unit),
        }
    }
}

fn shown(hub: &Hub, (number, event): &Numbered) -> api::Event {
    let text = |text: Option<String>| text.unwrap_or_default();
    let source = event.source.as_ref().map(|source| ObjectId {
        group: source.kind.group().to_owned(),
        kind: source.kind.to_string(),
        namespace: source.namespace.clone(),
        name: source.name.clone(),
    });
    api::Event {
        id: hub.journal.cursor(*number).to_string(),
        cluster: text(event.cluster.as_ref().map(ToString::to_string)),
        at: event.at,
        unit: text(event.unit.as_ref().map(ToString::to_string)),
        object: source.or_else(|| event.object.as_ref().map(Into::into)),
        warning: event.warning,
        reason: event.reason.clone(),
        message: event.message.clone(),
    }
}

/// Without a cursor the newest first; with one what came after it, the oldest first.
pub(super) async fn list(
    State(hub): State<Arc<Hub>>,
    Extension(caller): Extension<Caller>,
    Params(query): Params<Query>,
) -> Answer<EventPage> {
    let (asked, limit) = (query.asked()?, query.limit()?);
    let from = query.from.as_deref().map(|from| cursor("continue", from)).transpose()?;
    let since = query.cursor.as_deref().map(|from| cursor("cursor", from)).transpose()?;
    if from.is_some() && since.is_some() {
        return Err(bad(
            "cursor",
            "it goes on with newer events, and `continue` with older ones: give one of them",
        ));
    }
    let page = blocking(move || {
        // What was answered for shall be seen.
        hub.journal.flush(hub.now())?;
        let meant = Meant::new(&hub, &caller, &asked);
        if let Some(cursor) = since {
            let (found, cursor) = hub.journal.after(&cursor, limit, |event| meant.takes(event))?;
            let items = found.iter().map(|numbered| shown(&hub, numbered)).collect();
            return Ok(EventPage { items, next: None, cursor: cursor.to_string() });
        }
        let cursor = hub.journal.end().to_string();
        let before = from.map(|from| hub.journal.number(&from)).transpose()?.unwrap_or(u64::MAX);
        let mut found = hub.journal.before(before, limit + 1, |event| meant.takes(event));
        let is_more = found.len() > limit;
        found.truncate(limit);
        let items: Vec<api::Event> = found.iter().map(|numbered| shown(&hub, numbered)).collect();
        let next = items.last().filter(|_| is_more).map(|event| event.id.clone());
        Ok::<_, ApiError>(EventPage { items, next, cursor })
    });
    Ok(Json(page.await?))
}

/// Where a reader of the stream is.
struct Stand {
    hub: Arc<Hub>,
    caller: Caller,
    asked: Asked,
    cursor: Cursor,
    /// The cursor that the reader knows of.
    told: Cursor,
    ready: VecDeque<sse::Event>,
    written: tokio::sync::watch::Receiver<u64>,
    is_over: bool,
}

/// Events as they happen, from a cursor on or from now, for as long as the caller listens and the token is good. A browser gives
/// the cursor by itself when it connects again.
pub(super) async fn stream(
    State(hub): State<Arc<Hub>>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    Params(query): Params<Query>,
) -> Result<Sse<impl Stream<Item = Result<sse::Event, Infallible>>>, ApiError> {
    let asked = query.asked()?;
    if query.limit.is_some() || query.from.is_some() {
        return Err(bad("limit", "neither it nor `continue` can be used with the stream"));
    }
    let last = headers
        .get("last-event-id")
        .map(|id| id.to_str().map_err(|_| ApiError::bad_request("the header `Last-Event-ID` is not text")));
    let last = last.transpose()?.map(str::to_owned).or(query.cursor);
    let written = hub.journal.written();
    let cursor = match last {
        Some(text) => cursor("cursor", &text)?,
        None => hub.journal.end(),
    };
    // One that is too old is refused at once.
    hub.journal.after(&cursor, 1, |_| true)?;
    let stop = hub.tasks.shutdown().clone();
    let ended = caller.clone().ended(hub.clone());
    let first = bookmark(&cursor);
    let stand = Stand {
        told: cursor.clone(),
        ready: [first].into(),
        is_over: false,
        hub,
        caller,
        asked,
        cursor,
        written,
    };
    let stream = futures::stream::unfold(stand, move |mut stand| {
        let stop = stop.clone();
        async move {
            loop {
                if let Some(event) = stand.ready.pop_front() {
                    return Some((Ok(event), stand));
                }
                if stand.is_over {
                    return None;
                }
                stand.written.borrow_and_update();
                stand.look();
                if stand.ready.is_empty() {
                    tokio::select! {
                        changed = stand.written.changed() => changed.ok()?,
                        () = tokio::time::sleep(BOOKMARK) => stand.bookmark(),
                        () = stop.cancelled() => return None,
                    }
                }
            }
        }
    });
    let stream = stream.take_until(Box::pin(ended));
    Ok(Sse::new(stream).keep_alive(sse::KeepAlive::new().interval(BOOKMARK)))
}

fn bookmark(cursor: &Cursor) -> sse::Event {
    sse::Event::default().event("bookmark").id(cursor.to_string()).data("{}")
}

impl Stand {
    /// Takes what came since.
    fn look(&mut self) {
        let meant = Meant::new(&self.hub, &self.caller, &self.asked);
        match self.hub.journal.after(&self.cursor, TOGETHER, |event| meant.takes(event)) {
            Ok((found, cursor)) => {
                for numbered in &found {
                    let event = shown(&self.hub, numbered);
                    let told = sse::Event::default().event("event").id(event.id.clone()).json_data(event);
                    self.ready.extend(told.ok());
                    self.told = self.hub.journal.cursor(numbered.0);
                }
                self.cursor = cursor;
            }
            Err(missed) => {
                let body = ErrorBody { error: missed.to_string(), hint: None };
                self.ready.extend(sse::Event::default().event("gone").json_data(body).ok());
                self.is_over = true;
            }
        }
    }

    fn bookmark(&mut self) {
        if self.told != self.cursor {
            self.told = self.cursor.clone();
            self.ready.push_back(bookmark(&self.cursor));
        }
    }
}
