//! For machines: liveness, readiness, metrics.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Instant;

use axum::Extension;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use flotilla_api::{AttentionReason, Problem};
use flotilla_core::change::Severity;
use http::{StatusCode, header};
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::auth::Caller;
use super::clusters::Overview;
use super::error::ApiError;
use super::fleet::of_fleet;
use super::sources;
use crate::index::Entry;
use crate::state::Hub;
use crate::view::Change;

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
struct Reason {
    reason: String,
    problem: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ClusterLabel {
    cluster: String,
}

/// What alerts are made of, one series a cluster.
#[derive(Default)]
struct PerCluster {
    problems: Family<ClusterLabel, Gauge>,
    seen: Family<ClusterLabel, Gauge>,
    certificate: Family<ClusterLabel, Gauge>,
}

impl PerCluster {
    fn take(&self, entry: &Entry, problems: u32) {
        let label = ClusterLabel { cluster: entry.name.to_string() };
        self.problems.get_or_create(&label).set(i64::from(problems));
        if let Some(at) = entry.view.as_ref().and_then(|view| view.last_seen.get()) {
            self.seen.get_or_create(&label).set(at);
        }
        if let Some(record) = &entry.record {
            self.certificate.get_or_create(&label).set(record.certificate.expires_at);
        }
    }

    fn register(self, registry: &mut Registry) {
        let Self { problems, seen, certificate } = self;
        registry.register("flotilla_cluster_problems", "What is wrong in a cluster and its units", problems);
        registry.register(
            "flotilla_cluster_last_seen_timestamp_seconds",
            "When a cluster's agent was last heard from",
            seen,
        );
        registry.register(
            "flotilla_cluster_certificate_end_timestamp_seconds",
            "When the certificate of a cluster's agent ends",
            certificate,
        );
    }
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
        "Open connections without a certificate or a valid token",
        unproven,
    );
    registry.register(
        "flotilla_connections_turned_away",
        "Connections that were closed to make room for newer ones",
        turned_away,
    );
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SeverityLabel {
    severity: String,
}

/// What the newest commit takes away.
fn of_change(change: Option<&Change>, registry: &mut Registry) {
    let findings = Family::<SeverityLabel, Gauge>::default();
    for severity in [Severity::Info, Severity::Warning, Severity::Stop] {
        let all = change.iter().flat_map(|change| &change.findings);
        let count = all.filter(|finding| finding.severity == severity).count();
        let label = SeverityLabel { severity: severity.as_str().to_owned() };
        findings.get_or_create(&label).set(count as i64);
    }
    registry.register("flotilla_change_findings", "What the newest commit takes away, by severity", findings);
    let held = || change.iter().flat_map(|change| &change.held);
    let losses = || held().flat_map(|held| held.losses.values());
    let (units, objects) = (Gauge::<i64>::default(), Gauge::<i64>::default());
    units.set(losses().map(|loss| loss.units.len()).sum::<usize>() as i64);
    objects.set(losses().map(|loss| loss.objects().len()).sum::<usize>() as i64);
    registry.register("flotilla_change_held_units", "Units that wait for an approval of the change", units);
    registry.register("flotilla_change_held_objects", "Objects that go with that approval", objects);
}

pub(super) async fn metrics(
    State(hub): State<Arc<Hub>>,
    Extension(caller): Extension<Caller>,
) -> Result<Response, ApiError> {
    let overview = Overview::summarised(&hub, &caller).await?;
    let mut registry = Registry::default();
    hub.metrics.register(&mut registry);
    let (fetches, failures) = (hub.sources.fetches.clone(), hub.sources.failures.clone());
    registry.register("flotilla_source_fetches", "Sources that were asked and answered", fetches);
    registry.register("flotilla_source_failures", "Attempts to fetch a source that failed", failures);
    let mut by_phase: BTreeMap<String, i64> = BTreeMap::new();
    let mut by_sync: BTreeMap<&str, i64> = BTreeMap::new();
    let mut attention = BTreeMap::new();
    let of_sources = sources::all(&hub, &caller.reach(&hub));
    let problems: Vec<Problem> = overview.fleet.problems.iter().map(Into::into).collect();
    of_fleet(&mut Vec::new(), &mut attention, &problems, &of_sources);
    let per_cluster = PerCluster::default();
    for entry in overview.entries() {
        let summary = overview.summary(entry);
        per_cluster.take(entry, summary.problems);
        *by_sync.entry(summary.sync.as_str()).or_default() += 1;
        summary.reasons.iter().for_each(|(reason, count)| *attention.entry(*reason).or_default() += count);
        for (phase, count) in &summary.phases {
            *by_phase.entry((*phase).to_owned()).or_default() += i64::from(*count);
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
    per_cluster.register(&mut registry);
    let needs = Family::<Reason, Gauge>::default();
    for reason in AttentionReason::ALL {
        let count = attention.get(&reason).copied().unwrap_or_default();
        let is_problem = if reason.is_notice() { "false" } else { "true" };
        let label = Reason { reason: reason.as_str().to_owned(), problem: is_problem.to_owned() };
        needs.get_or_create(&label).set(i64::from(count));
    }
    registry.register("flotilla_attention", "What needs attention, as `flotilla status` lists it", needs);
    let connected = Gauge::<i64>::default();
    connected.set(hub.sessions.connected() as i64);
    registry.register("flotilla_agents_connected", "Agents that are connected", connected);
    ports(&hub, &mut registry);
    let failing = Gauge::<i64>::default();
    failing.set(overview.fleet.sources.iter().filter(|source| !source.ready).count() as i64);
    registry.register("flotilla_sources_failing", "Sources that could not be read", failing);
    of_change(overview.fleet.change.as_ref(), &mut registry);
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
        "Clusters whose render took too long, so that no round waits for it",
        overdue,
    );
    let mut body = String::new();
    text::encode(&mut body, &registry).map_err(|error| ApiError::internal(&error))?;
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Ok(([(header::CONTENT_TYPE, kind)], body).into_response())
}
