//! Clusters: listed and shown.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::extract::State;
use axum::{Extension, Json};
use flotilla_api::redact::Redactor;
use flotilla_api::{
    Cluster, DIGESTS_AT_ONCE, Done, HiddenSecrets, HideSecrets, HistoryEntry, Manifests, Page, Tree,
    UnitManifests, UnitState,
};
use flotilla_core::report::Timestamp;
use flotilla_core::{ClusterName, ObjectRef, UnitEntry, UnitId, UnitSpec};
use flotilla_render::plan::settings;
use http::StatusCode;
use serde::Deserialize;

use super::auth::Caller;
use super::error::{ApiError, Body, Name, Params};
use super::list::{Filter, MAX_PAGE, PAGE, Part, Query, SortBy};
use super::reach::{Reach, no_cluster, outside};
use super::show::{self, Known};
use crate::desired::Published;
use crate::index::{Entry, Shown, Summary};
use crate::journal::Event;
use crate::rollout::{ClusterRollout, Rollouts};
use crate::state::{Hub, blocking};
use crate::store::StoreError;
use crate::view::FleetView;

/// How long an agent may take to answer.
pub(super) const ANSWER_LIMIT: Duration = Duration::from_secs(30);

pub(super) type Answer<T> = Result<Json<T>, ApiError>;

/// All clusters at one moment, as one caller may see them.
pub(super) struct Overview {
    pub(super) fleet: Arc<FleetView>,
    shown: Arc<Shown>,
    reach: Reach,
    namespaces: Option<BTreeSet<String>>,
    redactor: Redactor,
    /// Made of all clusters at once, by whoever asks first.
    waiting: OnceLock<BTreeMap<ClusterName, Vec<ClusterRollout>>>,
    rollouts: Arc<Rollouts>,
    now: Timestamp,
}

impl Overview {
    pub(super) async fn of(hub: &Arc<Hub>, caller: &Caller) -> Result<Self, StoreError> {
        let (shared, reach) = (hub.clone(), caller.reach(hub));
        let shown = blocking(move || shared.shown()).await?;
        let (namespaces, redactor) = (reach.namespaces(), hub.vault.redactor().clone());
        let (fleet, rollouts, now) = (shown.fleet.clone(), hub.rollouts.clone(), hub.now());
        Ok(Self { fleet, shown, reach, namespaces, redactor, waiting: OnceLock::new(), rollouts, now })
    }

    /// With all summaries made, beside the async threads.
    pub(super) async fn summarised(hub: &Arc<Hub>, caller: &Caller) -> Result<Self, StoreError> {
        let overview = Self::of(hub, caller).await?;
        Ok(blocking(move || {
            overview.entries().for_each(|entry| drop(overview.summary(entry)));
            overview
        })
        .await)
    }

    /// Clusters that Git names, that are enrolled, or that may join; those in reach, by name.
    pub(super) fn entries(&self) -> impl Iterator<Item = &Arc<Entry>> {
        let all = self.shown.clusters.iter();
        all.filter(|entry| entry.is_there(self.now) && self.reach.cluster(&entry.name))
    }

    pub(super) fn entry(&self, name: &ClusterName) -> Option<&Arc<Entry>> {
        self.shown.get(name).filter(|entry| entry.is_there(self.now) && self.reach.cluster(name))
    }

    pub(super) fn known(&self, entry: &Entry) -> Known {
        Known {
            place: self.fleet.place_of(entry.facts.as_deref()),
            facts: entry.facts.clone(),
            record: entry.record.clone(),
            view: entry.view.clone(),
            published: entry.published.clone(),
            suspensions: entry.suspensions.clone(),
            reported: entry.reported.clone(),
            invited: entry.is_invited(self.now),
            namespaces: self.namespaces.clone(),
            redactor: self.redactor.clone(),
        }
    }

    /// Why a cluster does not run the newest. That is of all who share the cluster.
    pub(super) fn waiting(&self, entry: &Entry) -> &[ClusterRollout] {
        if self.namespaces.is_some() {
            return &[];
        }
        let all = self.waiting.get_or_init(|| self.rollouts.waiting());
        all.get(&entry.name).map(Vec::as_slice).unwrap_or_default()
    }

    /// Of the units that the caller may see. Who may see all of them shares one that is kept.
    pub(super) fn summary(&self, entry: &Entry) -> Arc<Summary> {
        let make = || Arc::new(show::summary(&entry.name, &self.known(entry)));
        if self.namespaces.is_some() { make() } else { entry.summary.get_or_init(make).clone() }
    }

    pub(super) fn cluster(&self, entry: &Entry) -> Cluster {
        let alone = show::alone(&entry.name, &self.known(entry));
        show::with_summary(alone, &self.summary(entry), self.waiting(entry))
    }
}

fn invited(hub: &Hub) -> Result<BTreeSet<ClusterName>, StoreError> {
    let now = hub.now();
    let tokens = hub.records.join_tokens()?.into_iter();
    let open = tokens.filter(|(_, token)| token.used.is_none() && token.expires_at > now);
    Ok(open.filter_map(|(_, token)| token.cluster.parse().ok()).collect())
}

/// Everything about one cluster that the caller may see, or that there is none of this name.
pub(super) async fn known(hub: &Arc<Hub>, caller: &Caller, name: &ClusterName) -> Result<Known, ApiError> {
    let reach = caller.reach(hub);
    if !reach.cluster(name) {
        return Err(no_cluster(name));
    }
    let (hub, cluster) = (hub.clone(), name.clone());
    let known = blocking(move || {
        let fleet = hub.fleet.view();
        let facts = fleet.clusters.get(&cluster).cloned();
        Ok::<_, StoreError>(Known {
            place: fleet.place_of(facts.as_deref()),
            facts,
            record: hub.records.cluster(&cluster)?.map(Arc::new),
            view: hub.sessions.view(&cluster),
            published: hub.board.current(&cluster),
            suspensions: Arc::new(hub.records.suspensions_of(&cluster)?),
            reported: Arc::new(hub.records.reported(&cluster)?),
            invited: invited(&hub)?.contains(&cluster),
            namespaces: reach.namespaces(),
            redactor: hub.vault.redactor().clone(),
        })
    })
    .await?;
    if known.facts.is_none() && known.record.is_none() && known.published.is_none() && !known.invited {
        return Err(no_cluster(name));
    }
    Ok(known)
}

/// Which part of a list.
#[derive(Debug, Deserialize)]
pub(super) struct Paging {
    pub(super) limit: Option<usize>,
    #[serde(alias = "continue")]
    pub(super) after: Option<String>,
}

impl Paging {
    pub(super) fn limit(&self) -> usize {
        self.limit.unwrap_or(PAGE).clamp(1, MAX_PAGE)
    }
}

/// Cuts a list of one more than a page; `key` is what `after` takes.
pub(super) fn page<T>(mut items: Vec<T>, limit: usize, key: impl Fn(&T) -> String) -> Page<T> {
    let more = items.len() > limit;
    items.truncate(limit);
    let next = items.last().filter(|_| more).map(key);
    Page { items, next }
}

pub(super) async fn list(
    State(hub): State<Arc<Hub>>,
    Extension(caller): Extension<Caller>,
    Params(query): Params<Query>,
) -> Answer<Page<Cluster>> {
    let (filter, part) = (query.filter()?, query.part_of_clusters()?);
    let overview = Overview::of(&hub, &caller).await?;
    Ok(Json(blocking(move || page_of(&overview, &filter, &part)).await))
}

/// The clusters that are asked for. What is shown is made of those of the page alone.
fn page_of(overview: &Overview, filter: &Filter, part: &Part) -> Page<Cluster> {
    let mut found = Vec::new();
    for entry in overview.entries() {
        if part.is_past(entry.name.as_str()) || !takes(overview, filter, entry) {
            continue;
        }
        found.push((sort_key(overview, part.sort_by, entry), entry.name.to_string(), entry));
        if part.is_full(found.len()) {
            break;
        }
    }
    let Page { items, next } = part.cut(found);
    Page { items: items.into_iter().map(|entry| overview.cluster(entry)).collect(), next }
}

fn takes(overview: &Overview, filter: &Filter, entry: &Entry) -> bool {
    let known = overview.known(entry);
    if !filter.takes_cluster(entry, &known, || overview.summary(entry).sync) {
        return false;
    }
    if filter.is_of_units() && !show::unit_ids(&known).into_iter().any(|id| filter.takes_unit(id, &known)) {
        return false;
    }
    let shown = show::alone(&entry.name, &known);
    filter.takes_commit(&shown.commit)
        && (!filter.has_words() || {
            let mut texts = vec![shown.name, shown.root];
            texts.extend(shown.labels.iter().map(|(key, value)| format!("{key}={value}")));
            texts.extend(show::attention(&entry.name, &known).iter().map(ToString::to_string));
            filter.finds(texts)
        })
}

fn sort_key(overview: &Overview, by: SortBy, entry: &Entry) -> String {
    match by {
        SortBy::Connection => overview.known(entry).connection().as_str().to_owned(),
        SortBy::Sync => overview.summary(entry).sync.as_str().to_owned(),
        SortBy::Problems => Part::number(overview.summary(entry).problems.into()),
        SortBy::LastSeen => {
            Part::number(entry.view.as_ref().and_then(|view| view.last_seen.get()).unwrap_or(i64::MIN))
        }
        SortBy::Commit => show::alone(&entry.name, &overview.known(entry)).commit,
        SortBy::Name | SortBy::Phase | SortBy::Since => String::new(),
    }
}

pub(super) async fn get(
    State(hub): State<Arc<Hub>>,
    Extension(caller): Extension<Caller>,
    Name(name): Name<ClusterName>,
) -> Answer<Cluster> {
    let known = known(&hub, &caller, &name).await?;
    Ok(Json(show::cluster(&name, &known, &waiting_of(&hub, &name, &known))))
}

pub(super) async fn tree(
    State(hub): State<Arc<Hub>>,
    Extension(caller): Extension<Caller>,
    Name(name): Name<ClusterName>,
) -> Answer<Tree> {
    let known = known(&hub, &caller, &name).await?;
    Ok(Json(show::tree(&name, &known, &waiting_of(&hub, &name, &known))))
}

/// As [`Overview::waiting`], of one cluster.
fn waiting_of(hub: &Hub, name: &ClusterName, known: &Known) -> Vec<ClusterRollout> {
    if known.namespaces.is_some() { Vec::new() } else { hub.rollouts.waiting_of(name) }
}

pub(super) async fn history(
    State(hub): State<Arc<Hub>>,
    Extension(caller): Extension<Caller>,
    Name(name): Name<ClusterName>,
) -> Answer<Page<HistoryEntry>> {
    known(&hub, &caller, &name).await?;
    let redactor = hub.vault.redactor().clone();
    let states = blocking(move || hub.records.history(&name)).await?;
    let items = states.into_iter().map(|state| HistoryEntry {
        desired: flotilla_api::Desired {
            digest: state.digest.parse().map(|digest| redactor.digest(&digest)).unwrap_or_default(),
            generation: state.generation,
            commit: state.commit,
        },
        received_at: state.received_at,
        applied_at: state.applied_at,
        healthy_at: state.healthy_at,
    });
    Ok(Json(Page { items: items.collect(), next: None }))
}

pub(super) async fn manifests(
    State(hub): State<Arc<Hub>>,
    Extension(caller): Extension<Caller>,
    Name(name): Name<ClusterName>,
) -> Answer<Manifests> {
    let known = known(&hub, &caller, &name).await?;
    let published = known.published.clone().ok_or_else(|| {
        let problem = known.facts.iter().flat_map(|facts| &facts.problems).find(|problem| !problem.notice);
        let why = problem.map_or_else(|| "the fleet repo was not rendered yet".into(), ToString::to_string);
        ApiError::conflict(format!("the hub does not know what cluster {name} should run: {why}"))
    })?;
    let redactor = hub.vault.redactor().clone();
    Ok(Json(blocking(move || shown_manifests(&name, &known, &published, &redactor)).await))
}

/// Secrets of the caller's as the hub would show them. A guess can be tried on what is published with it, so that values are
/// counted, and roles that may only look may not.
pub(super) async fn hide_secrets(
    State(hub): State<Arc<Hub>>,
    Extension(caller): Extension<Caller>,
    Name(name): Name<ClusterName>,
    Body(body): Body<HideSecrets>,
) -> Answer<HiddenSecrets> {
    known(&hub, &caller, &name).await?;
    let reach = caller.reach(&hub);
    let mut secrets = body.secrets;
    let mut values = 0;
    for secret in &secrets {
        let bad = |error| ApiError::bad_request(format!("an object of `secrets` is not a Secret: {error}"));
        let id = ObjectRef::of(secret).map_err(|error| bad(error.to_string()))?.id;
        if !id.is("", "Secret") {
            return Err(bad(format!("it is a {}", id.kind)));
        }
        if !reach.namespace(&id.namespace) {
            return Err(outside(&format!("{id} is in another namespace")));
        }
        let count =
            |field: &str| secret.get(field).and_then(|field| field.as_object()).map_or(1, |data| data.len());
        values += 1 + count("data") + count("stringData");
    }
    if values > DIGESTS_AT_ONCE {
        return Err(ApiError::bad_request(format!(
            "there are more than {DIGESTS_AT_ONCE} values in `secrets`"
        )));
    }
    if !(0..values).all(|_| hub.hidden.try_take(caller.name.clone())) {
        let error =
            format!("the token '{}' has compared as many values of Secrets as it may for now", caller.name);
        return Err(ApiError::new(StatusCode::TOO_MANY_REQUESTS, error).hint("try again in some minutes"));
    }
    secrets.iter_mut().for_each(|secret| hub.vault.redactor().secret(secret));
    Ok(Json(HiddenSecrets { secrets }))
}

fn shown_manifests(
    name: &ClusterName,
    known: &Known,
    published: &Published,
    redactor: &Redactor,
) -> Manifests {
    let units = published.state.units().iter().filter(|(id, _)| known.sees(id)).map(|(id, entry)| {
        let facts = known.facts.as_ref().and_then(|facts| facts.units.get(id));
        let (mut policy, mut parent) = (None, facts.and_then(|facts| facts.parent.as_ref()));
        let (state, reason, objects) = match entry {
            UnitEntry::Present(unit) => {
                parent = unit.spec.parent.as_ref();
                // By hand is not of it.
                let suspend = facts.map_or(unit.spec.suspend, |facts| facts.suspended_in_git);
                policy = Some(settings(&UnitSpec { suspend, ..unit.spec.clone() }));
                let objects = unit.objects.iter().filter_map(|entry| {
                    let mut value = published.bodies.get(&entry.digest)?.value();
                    redactor.secret(&mut value);
                    Some(value)
                });
                (UnitState::Present, String::new(), objects.collect())
            }
            UnitEntry::Hold(hold) => (UnitState::Held, hold.to_string(), Vec::new()),
            UnitEntry::Removed(_) => (UnitState::Removed, String::new(), Vec::new()),
        };
        let parent = parent.map(ToString::to_string).unwrap_or_default();
        UnitManifests { unit: id.to_string(), state, reason, parent, policy, objects }
    });
    Manifests {
        cluster: name.to_string(),
        desired: show::desired(published, redactor),
        units: units.collect(),
    }
}

/// Tells what somebody did with a cluster or a unit.
pub(super) fn tell(hub: &Hub, cluster: &ClusterName, unit: Option<&UnitId>, reason: &str, message: String) {
    hub.journal.inbox().note([Event {
        at: hub.now(),
        cluster: Some(cluster.clone()),
        unit: unit.cloned(),
        object: None,
        source: None,
        warning: false,
        reason: reason.to_owned(),
        message,
    }]);
}

/// The unit of this name in the cluster, or that there is none.
pub(super) fn find_unit(name: &ClusterName, known: &Known, unit: &str) -> Result<UnitId, ApiError> {
    let id: UnitId = unit
        .parse()
        .map_err(|error: flotilla_core::unit::InvalidUnitId| ApiError::bad_request(error.to_string()))?;
    let there = known.facts.as_ref().is_some_and(|facts| facts.units.contains_key(&id))
        || known.published.as_ref().is_some_and(|published| published.state.units().contains_key(&id))
        || known.view.as_ref().is_some_and(|view| view.units.contains_key(&id))
        || known.suspensions.units.contains_key(&id);
    if there && known.sees(&id) {
        Ok(id)
    } else {
        Err(ApiError::not_found(format!("cluster {name} has no unit {id}"))
            .hint(format!("`flotilla get units --cluster {name}` lists them")))
    }
}

pub(super) fn done(message: String) -> Json<Done> {
    Json(Done { message })
}
