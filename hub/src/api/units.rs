//! Units over the fleet.

use std::sync::Arc;

use axum::extract::State;
use axum::{Extension, Json};
use flotilla_api::{Page, Unit};
use flotilla_core::ClusterName;

use super::auth::Caller;
use super::clusters::{Answer, Overview, find_unit, known};
use super::error::{ApiError, Params};
use super::list::{Filter, Part, Query, SortBy};
use super::show;
use crate::index::Entry;
use crate::state::{Hub, blocking};

pub(super) async fn list(
    State(hub): State<Arc<Hub>>,
    Extension(caller): Extension<Caller>,
    Params(query): Params<Query>,
) -> Answer<Page<Unit>> {
    let (filter, part) = (query.filter()?, query.part_of_units()?);
    let of = query.cluster.as_deref().map(|name| {
        name.parse::<ClusterName>()
            .map_err(|error| ApiError::bad_request(format!("`cluster` in the query: {error}")))
    });
    let of = of.transpose()?;
    if let Some(name) = &of {
        // Says that there is none.
        known(&hub, &caller, name).await?;
    }
    let overview = Overview::of(&hub, &caller).await?;
    Ok(Json(blocking(move || page_of(&overview, of.as_ref(), &filter, &part)).await))
}

fn page_of(overview: &Overview, of: Option<&ClusterName>, filter: &Filter, part: &Part) -> Page<Unit> {
    let mut found = Vec::new();
    let entries: Vec<&Arc<Entry>> = match of {
        Some(name) => overview.entry(name).into_iter().collect(),
        None => overview.entries().collect(),
    };
    for entry in entries {
        // No unit of it comes after the last one of the part before.
        if part.is_past(&format!("{} ~", entry.name)) {
            continue;
        }
        let known = overview.known(entry);
        if !filter.takes_cluster(entry, &known, || overview.summary(entry).sync) {
            continue;
        }
        let ids = show::unit_ids(&known).into_iter().map(|id| (format!("{} {id}", entry.name), id));
        let mut ids: Vec<_> =
            ids.filter(|(name, id)| !part.is_past(name) && filter.takes_unit(id, &known)).collect();
        ids.sort();
        for (name, id) in ids {
            let unit = show::unit(&entry.name, id, &known);
            if filter.takes_shown(&unit) {
                found.push((sort_key(part.sort_by, &unit), name, unit));
            }
            if part.is_full(found.len()) {
                return part.cut(found);
            }
        }
    }
    part.cut(found)
}

fn sort_key(by: SortBy, unit: &Unit) -> String {
    match by {
        SortBy::Phase => unit.phase.clone(),
        SortBy::Since => Part::number(unit.since.unwrap_or(i64::MIN)),
        SortBy::Problems => {
            Part::number((unit.problems.iter().filter(|it| !it.notice).count() + unit.findings.len()) as i64)
        }
        SortBy::Commit => unit.commit.clone(),
        SortBy::Name | SortBy::Connection | SortBy::Sync | SortBy::LastSeen => String::new(),
    }
}

pub(super) async fn get(
    State(hub): State<Arc<Hub>>,
    Extension(caller): Extension<Caller>,
    axum::extract::Path((cluster, unit)): axum::extract::Path<(String, String)>,
) -> Answer<Unit> {
    let name: ClusterName = cluster
        .parse()
        .map_err(|error: flotilla_core::names::InvalidName| ApiError::bad_request(error.to_string()))?;
    let known = known(&hub, &caller, &name).await?;
    let id = find_unit(&name, &known, &unit)?;
    Ok(Json(show::unit(&name, &id, &known)))
}
