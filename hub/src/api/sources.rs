//! Sources: what there is of them, having one fetched now, and the Flux objects as the fleet defines them.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::{Extension, Json};
use flotilla_api::{Definition, Page, ReconcileSource, ReconciledSource, Source};
use flotilla_core::source::SourceId;
use flotilla_core::{ClusterName, Object, UnitId, UnitKind};
use flotilla_render::source::fleet_source;
use http::StatusCode;
use serde::Deserialize;

use super::auth::Caller;
use super::clusters::{Answer, known};
use super::error::{ApiError, Body, Name, Params};
use super::reach::Reach;
use crate::state::{Hub, blocking};

/// How long a fetch may take before who asked for it is told so: a source's own timeout is usually a minute.
const FETCH_LIMIT: Duration = Duration::from_secs(100);

/// The fleet repo and what clusters define, as far as it is in reach.
pub(super) fn all(hub: &Hub, reach: &Reach) -> Vec<Source> {
    let mut sources = hub.fleet.view().sources.clone();
    sources.extend(hub.sources.view());
    sources.into_iter().filter_map(|source| reach.source(source)).collect()
}

pub(super) async fn list(
    State(hub): State<Arc<Hub>>,
    Extension(caller): Extension<Caller>,
) -> Answer<Page<Source>> {
    Ok(Json(Page { items: all(&hub, &caller.reach(&hub)), next: None }))
}

pub(super) async fn reconcile(
    State(hub): State<Arc<Hub>>,
    Extension(caller): Extension<Caller>,
    Body(body): Body<ReconcileSource>,
) -> Answer<ReconciledSource> {
    let source: SourceId = format!("{}/{}/{}", body.kind, body.namespace, body.name)
        .parse()
        .map_err(|error: flotilla_core::source::InvalidSourceId| ApiError::bad_request(error.to_string()))?;
    let cluster = match &body.cluster {
        None => None,
        Some(name) => {
            let name: ClusterName = name.parse().map_err(|error: flotilla_core::names::InvalidName| {
                ApiError::bad_request(error.to_string())
            })?;
            known(&hub, &caller, &name).await?;
            Some(name)
        }
    };
    let is_fleet = source == fleet_source();
    let reach = caller.reach(&hub);
    if is_fleet {
        reach.need_fleet()?;
    } else if shown(&hub, &reach, &source, cluster.as_ref()).is_empty() {
        return Err(not_fetched(&hub, &reach, &source, cluster.as_ref()));
    }
    let detail =
        cluster.as_ref().map_or_else(String::new, |cluster| format!("as cluster {cluster} defines it"));
    let audit = caller.audit(&hub, "source.reconcile", &source).detail(detail);
    if let Some(audit) = caller.folded(&hub, audit)? {
        let shared = hub.clone();
        blocking(move || shared.records.audit(&audit)).await?;
    }

    let fetched = async {
        if is_fleet {
            hub.fleet.served(hub.fleet.wake()).await;
            return Ok(());
        }
        let is_meant = |of: &ClusterName, id: &SourceId| {
            *id == source && reach.cluster(of) && cluster.as_ref().is_none_or(|it| it == of)
        };
        let asked = hub.sources.hurry(is_meant);
        if asked.is_empty() {
            return Err(not_fetched(&hub, &reach, &source, cluster.as_ref()));
        }
        hub.sources.fetched(&asked).await;
        Ok(())
    };
    match tokio::time::timeout(FETCH_LIMIT, fetched).await {
        Ok(done) => done?,
        Err(_) => {
            let error = format!("{source} was not fetched within {FETCH_LIMIT:?}");
            return Err(ApiError::new(StatusCode::GATEWAY_TIMEOUT, error)
                .hint("it goes on in the background; `flotilla get sources` shows how far it is"));
        }
    }
    let mut sources = shown(&hub, &reach, &source, cluster.as_ref());
    if is_fleet {
        sources = hub.fleet.view().sources.clone();
    }
    Ok(Json(ReconciledSource { sources }))
}

/// The source as it is shown, once for each way in which it is defined.
fn shown(hub: &Hub, reach: &Reach, source: &SourceId, cluster: Option<&ClusterName>) -> Vec<Source> {
    let mut sources: Vec<Source> =
        hub.sources.view().into_iter().filter_map(|source| reach.source(source)).collect();
    let (kind, name) = (source.kind.to_string(), format!("{}/{}", source.namespace, source.name));
    sources.retain(|shown| {
        let is_there = cluster.is_none_or(|cluster| shown.clusters.iter().any(|of| of == cluster.as_str()));
        shown.kind == kind && shown.name == name && is_there
    });
    sources
}

/// Why nothing can be fetched of a source.
fn not_fetched(hub: &Hub, reach: &Reach, source: &SourceId, cluster: Option<&ClusterName>) -> ApiError {
    let shown = shown(hub, reach, source, cluster);
    let Some(first) = shown.first() else {
        let place =
            cluster.map_or_else(|| "no cluster".to_owned(), |cluster| format!("cluster {cluster} does not"));
        let verb = if cluster.is_some() { "define" } else { "defines" };
        return ApiError::not_found(format!("{place} {verb} {source}"))
            .hint("`flotilla get sources` lists what there is");
    };
    if first.suspended {
        return ApiError::conflict(format!("{source} is suspended; it stays as it is until Git resumes it"));
    }
    if !first.ready && !first.message.is_empty() {
        return ApiError::conflict(format!("{source} is not fetched: it {}", first.message));
    }
    ApiError::conflict(format!(
        "{source} is not fetched by itself: it is made of other sources, or asked for charts"
    ))
}

#[derive(Debug, Deserialize)]
pub(super) struct Filter {
    kind: Option<String>,
    namespace: Option<String>,
    name: Option<String>,
}

/// The Flux objects that a cluster's units define.
pub(super) async fn definitions(
    State(hub): State<Arc<Hub>>,
    Extension(caller): Extension<Caller>,
    Name(name): Name<ClusterName>,
    Params(filter): Params<Filter>,
) -> Answer<Page<Definition>> {
    let facts = known(&hub, &caller, &name).await?.facts.unwrap_or_default();
    let reach = caller.reach(&hub);
    let is = |wanted: &Option<String>, found: &str| {
        wanted.as_ref().is_none_or(|it| it.eq_ignore_ascii_case(found))
    };
    let is_meant = |kind: &str, namespace: &str, name: &str| {
        reach.namespace(namespace)
            && is(&filter.kind, kind)
            && filter.namespace.as_ref().is_none_or(|it| it == namespace)
            && filter.name.as_ref().is_none_or(|it| it == name)
    };
    let definition =
        |kind: &str, namespace: &str, name: &str, by: Option<&UnitId>, object: &Object| Definition {
            kind: kind.to_owned(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            defined_by: by.map(ToString::to_string).unwrap_or_default(),
            object: object.value(),
            ..Definition::default()
        };
    let sources = facts.sources.iter().filter_map(|(id, source)| {
        let kind = id.kind.as_str();
        is_meant(kind, &id.namespace, &id.name).then(|| Definition {
            of_fleet: source.of_fleet,
            ..definition(kind, &id.namespace, &id.name, Some(&source.defined_by), &source.object)
        })
    });
    let units = facts.units.iter().filter_map(|(id, unit)| {
        let kind = match id.kind {
            UnitKind::HelmRelease => "HelmRelease",
            UnitKind::Root | UnitKind::Kustomization | UnitKind::Other => "Kustomization",
        };
        let object = unit.object.as_ref().filter(|_| is_meant(kind, &id.namespace, &id.name))?;
        Some(Definition {
            of_fleet: unit.of_fleet,
            account: unit.account.as_ref().map(ToString::to_string).unwrap_or_default(),
            ..definition(kind, &id.namespace, &id.name, unit.parent.as_ref(), object)
        })
    });
    let mut items: Vec<Definition> = sources.chain(units).collect();
    // What the hub keeps as a secret may have got into an object all the same.
    let shared = hub.clone();
    let secrets =
        blocking(move || shared.vault.values()).await.map_err(|error| ApiError::internal(&error))?;
    for item in &mut items {
        let object = item.object.clone();
        hub.vault.redactor().texts(&mut item.object, &secrets);
        item.redacted = item.object != object;
    }
    Ok(Json(Page { items, next: None }))
}
