//! Units over the fleet.

use std::sync::Arc;

use axum::extract::State;
use axum::{Extension, Json};
use flotilla_core::ClusterName;
use flotilla_proto::api::{Page, Unit};
use serde::Deserialize;

use super::auth::Caller;
use super::clusters::{Answer, MAX_PAGE, Paging, Snapshot, find_unit, known, page};
use super::error::{ApiError, Params};
use super::show;
use crate::state::Hub;

#[derive(Debug, Deserialize)]
pub(super) struct Filter {
    cluster: Option<String>,
    phase: Option<String>,
    limit: Option<usize>,
    after: Option<String>,
}

fn key(unit: &Unit) -> String {
    format!("{} {}", unit.cluster, unit.unit)
}

pub(super) async fn list(
    State(hub): State<Arc<Hub>>,
    Extension(caller): Extension<Caller>,
    Params(filter): Params<Filter>,
) -> Answer<Page<Unit>> {
    let limit = Paging { limit: filter.limit, after: None }.limit().min(MAX_PAGE);
    let snapshot = Snapshot::of(&hub, &caller).await?;
    let names = match &filter.cluster {
        Some(name) => {
            let name: ClusterName = name.parse().map_err(|error: flotilla_core::names::InvalidName| {
                ApiError::bad_request(error.to_string())
            })?;
            known(&hub, &caller, &name).await?;
            [name].into()
        }
        None => snapshot.names(),
    };
    let (after_cluster, after_unit) =
        filter.after.as_deref().and_then(|a| a.split_once(' ')).unwrap_or_default();
    let mut units: Vec<Unit> = Vec::new();
    for name in names.iter().filter(|name| name.as_str() >= after_cluster) {
        let mut of_cluster = show::units(name, &snapshot.known(&hub, name));
        of_cluster.sort_by(|a, b| a.unit.cmp(&b.unit));
        of_cluster.retain(|unit| {
            (name.as_str() > after_cluster || unit.unit.as_str() > after_unit)
                && filter.phase.as_ref().is_none_or(|phase| unit.phase.eq_ignore_ascii_case(phase))
        });
        units.extend(of_cluster);
        if units.len() > limit {
            break;
        }
    }
    Ok(Json(page(units, limit, key)))
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
