//! For machines: liveness, readiness, metrics.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Instant;

use axum::Extension;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::auth::Caller;
use super::clusters::Snapshot;
use super::error::ApiError;
use super::show;
use crate::state::Hub;

/// The process serves.
pub(super) async fn healthz() -> &'static str {
    "ok\n"
}

/// The fleet repo was looked at once, rounds go on, and no shutdown is under way.
pub(super) async fn readyz(State(hub): State<Arc<Hub>>) -> Response {
    let unready = |why: &str| (StatusCode::SERVICE_UNAVAILABLE, why.to_owned()).into_response();
    if hub.tasks.shutdown().is_cancelled() {
        return unready("shutting down\n");
    }
    if hub.fleet.view().round == 0 {
        return unready("the fleet repo was not read yet\n");
    }
    if let Some(why) = hub.fleet.pulse().stall(Instant::now()) {
        return unready(&format!("{why}\n"));
    }
    "ready\n".into_response()
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Phase {
    phase: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SyncLabel {
    state: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Port {
    port: String,
}

/// The connections of both ports.
fn ports(hub: &Hub, registry: &mut Registry) {
    let open = Family::<Port, Gauge>::default();
    let unproven = Family::<Port, Gauge>::default();
    let turned_away = Family::<Port, Counter>::default();
    for (places, port) in hub.ports.get().into_iter().flatten().zip(["agents", "people"]) {
        let counts = places.counts();
        let port = Port { port: port.to_owned() };
        open.get_or_create(&port).set((counts.proven + counts.unproven) as i64);
        unproven.get_or_create(&port).set(counts.unproven as i64);
        turned_away.get_or_create(&port).inc_by(counts.evicted + counts.refused);
    }
    registry.register("flotilla_connections", "Open connections", open);
    registry.register(
        "flotilla_connections_unproven",
        "Open connections without a certificate or a good token",
        unproven,
    );
    registry.register(
        "flotilla_connections_turned_away",
        "Connections that were closed for want of room",
        turned_away,
    );
}

pub(super) async fn metrics(
    State(hub): State<Arc<Hub>>,
    Extension(caller): Extension<Caller>,
) -> Result<Response, ApiError> {
    let snapshot = Snapshot::of(&hub, &caller).await?;
    let mut registry = Registry::default();
    hub.metrics.register(&mut registry);
    let (fetches, failures) = (hub.sources.fetches.clone(), hub.sources.failures.clone());
    registry.register("flotilla_source_fetches", "Sources that were asked and answered", fetches);
    registry.register("flotilla_source_failures", "Attempts to fetch a source that failed", failures);
    let mut by_phase: BTreeMap<String, i64> = BTreeMap::new();
    let mut by_sync: BTreeMap<&str, i64> = BTreeMap::new();
    for name in snapshot.names() {
        let cluster = show::cluster(&name, &snapshot.known(&hub, &name));
        *by_sync.entry(cluster.sync.as_str()).or_default() += 1;
        for (phase, count) in cluster.units {
            *by_phase.entry(phase).or_default() += i64::from(count);
        }
    }
    let units = Family::<Phase, Gauge>::default();
    for (phase, count) in by_phase {
        units.get_or_create(&Phase { phase }).set(count);
    }
    registry.register("flotilla_units", "Units by phase", units);
    let clusters = Family::<SyncLabel, Gauge>::default();
    for (state, count) in by_sync {
        clusters.get_or_create(&SyncLabel { state: state.to_owned() }).set(count);
    }
    registry.register(
        "flotilla_clusters",
        "Clusters by how they stand against their desired state",
        clusters,
    );
    let connected = Gauge::<i64>::default();
    connected.set(hub.sessions.connected() as i64);
    registry.register("flotilla_agents_connected", "Agents that are connected", connected);
    ports(&hub, &mut registry);
    let sources = Gauge::<i64>::default();
    sources.set(snapshot.fleet.sources.iter().filter(|source| !source.ready).count() as i64);
    registry.register("flotilla_sources_failing", "Sources that could not be read", sources);
    let told = hub.fleet.pulse().told();
    for (name, help, value) in [
        (
            "flotilla_round_end_timestamp_seconds",
            "When the last round of the fleet loop ended",
            told.ended_at,
        ),
        ("flotilla_round_seconds", "How long the last round of the fleet loop took", told.took),
    ] {
        let gauge = Gauge::<f64, AtomicU64>::default();
        gauge.set(value);
        registry.register(name, help, gauge);
    }
    let overdue = Gauge::<i64>::default();
    overdue.set(told.overdue);
    registry.register(
        "flotilla_clusters_overdue",
        "Clusters whose render no round waits for any more",
        overdue,
    );
    let mut body = String::new();
    text::encode(&mut body, &registry).map_err(|error| ApiError::internal(&error))?;
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Ok(([(header::CONTENT_TYPE, kind)], body).into_response())
}
