//! The fleet as a whole: status, reconcile, and notices of changes.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::sse::{self, Sse};
use axum::{Extension, Json};
use flotilla_api::{
    AgentAnswer, Attention, AttentionReason, Change, ClusterCounts, ConnectionState, Problem, Reconcile,
    Reconciled, Source, Status, SyncState,
};
use flotilla_core::ClusterName;
use flotilla_proto::v1::{self, request};
use flotilla_runtime::chain;
use futures::{Stream, StreamExt};
use http::StatusCode;

use super::auth::Caller;
use super::clusters::{ANSWER_LIMIT, Answer, Overview, find_unit, known};
use super::error::{ApiError, Body};
use super::{pipelines, show, sources};
use crate::changes::Changed;
use crate::state::{Hub, blocking};

/// How long a round of the fleet loop may take before who asked for it is told so.
const ROUND_LIMIT: Duration = Duration::from_secs(60);
/// At most so often are watchers told of changes.
const NOTICE_INTERVAL: Duration = Duration::from_millis(100);
const KEEP_ALIVE: Duration = Duration::from_secs(15);

pub(super) async fn status(
    State(hub): State<Arc<Hub>>,
    Extension(caller): Extension<Caller>,
) -> Answer<Status> {
    let overview = Overview::summarised(&hub, &caller).await?;
    let reach = caller.reach(&hub);
    let mut status = Status {
        hub_version: env!("CARGO_PKG_VERSION").to_owned(),
        started_at: hub.started_at,
        addresses: hub.authority.addresses().iter().map(ToString::to_string).collect(),
        commit: overview.fleet.snapshot.as_ref().map(|commit| reach.commit(commit)),
        sources: sources::all(&hub, &reach),
        ..Status::default()
    };
    if reach.is_fleet() {
        status.problems = overview.fleet.problems.iter().map(Into::into).collect();
    }
    let mut attention = Vec::new();
    let mut reasons = BTreeMap::new();
    of_fleet(&mut attention, &mut reasons, &status.problems, &status.sources);
    let mut counts = ClusterCounts::default();
    for entry in overview.entries() {
        let (summary, connection) = (overview.summary(entry), overview.known(entry).connection());
        counts.total += 1;
        counts.connected += u32::from(connection == ConnectionState::Connected);
        counts.disconnected += u32::from(connection == ConnectionState::Disconnected);
        for (state, count) in [
            (SyncState::InSync, &mut counts.in_sync),
            (SyncState::Failing, &mut counts.failing),
            (SyncState::Unassigned, &mut counts.unassigned),
            (SyncState::Held, &mut counts.held),
            (SyncState::Kept, &mut counts.kept),
            (SyncState::Suspended, &mut counts.suspended),
        ] {
            *count += u32::from(summary.sync == state);
        }
        for (phase, count) in &summary.phases {
            *status.units.entry((*phase).to_owned()).or_default() += count;
        }
        summary.reasons.iter().for_each(|(reason, count)| *reasons.entry(*reason).or_default() += count);
        attention.extend(summary.attention.iter().cloned());
        shorten(&mut attention);
        let waiting = overview.waiting(entry);
        counts.waiting += u32::from(!waiting.is_empty());
        status.waiting.extend(waiting.iter().map(pipelines::waiting).take(WAITING - status.waiting.len()));
    }
    status.clusters = counts;
    status.problem_count = problems(&reasons);
    status.attention_counts =
        reasons.into_iter().map(|(reason, count)| (reason.as_str().to_owned(), count)).collect();
    status.attention = attention;
    Ok(Json(status))
}

/// So much of what needs a person is shown of the fleet.
const ATTENTION: usize = 100;
/// So many reasons why clusters wait are shown of the fleet.
const WAITING: usize = 100;

/// The worst first, and of a long list the beginning.
fn shorten(attention: &mut Vec<Attention>) {
    attention.sort();
    attention.truncate(ATTENTION);
}

fn problems(counts: &BTreeMap<AttentionReason, u32>) -> u32 {
    counts.iter().filter(|(reason, _)| !reason.is_notice()).map(|(_, count)| count).sum()
}

/// What needs a person in no cluster in particular.
pub(super) fn of_fleet(
    attention: &mut Vec<Attention>,
    counts: &mut BTreeMap<AttentionReason, u32>,
    problems: &[Problem],
    sources: &[Source],
) {
    let failed = sources.iter().filter(|source| !source.ready && !source.suspended);
    let failed = failed.filter(|source| !source.message.ends_with("not fetched yet"));
    let failed = failed.map(|source| {
        let message = format!("{}/{}: {}", source.kind, source.name, source.message);
        Attention::new(AttentionReason::SourceFailed, "", "", message)
    });
    let wrong = problems.iter().filter(|problem| !problem.notice);
    let wrong = wrong.map(|problem| Attention::new(AttentionReason::Invalid, "", "", problem.to_string()));
    for found in failed.chain(wrong) {
        *counts.entry(found.reason).or_default() += 1;
        attention.push(found);
    }
    shorten(attention);
}

pub(super) async fn reconcile(
    State(hub): State<Arc<Hub>>,
    Extension(caller): Extension<Caller>,
    Body(body): Body<Reconcile>,
) -> Answer<Reconciled> {
    let reach = caller.reach(&hub);
    let target = match &body.cluster {
        None if body.unit.is_some() => {
            return Err(ApiError::bad_request("a unit is given without its cluster"));
        }
        None => {
            reach.need_fleet()?;
            None
        }
        Some(name) => {
            let name: ClusterName = name.parse().map_err(|error: flotilla_core::names::InvalidName| {
                ApiError::bad_request(error.to_string())
            })?;
            let known = known(&hub, &caller, &name).await?;
            let unit = body.unit.as_deref().map(|unit| find_unit(&name, &known, unit)).transpose()?;
            if unit.is_none() {
                reach.need_cluster(&name)?;
            }
            Some((name, unit))
        }
    };
    let shown = target.as_ref().map_or_else(
        || "fleet".to_owned(),
        |(name, unit)| unit.as_ref().map_or_else(|| name.to_string(), |unit| format!("{name} {unit}")),
    );
    let audit = caller.audit(&hub, "fleet.reconcile", shown);
    if let Some(audit) = caller.folded(&hub, audit)? {
        let shared = hub.clone();
        blocking(move || shared.records.audit(&audit)).await?;
    }
    // One that is set aside for good reason kills the hub once more: that is not for whoever has a part of the fleet.
    if reach.is_fleet()
        && let Some(attempts) = hub.fleet.attempts.get().cloned()
    {
        let target = target.clone();
        let retried = blocking(move || match &target {
            Some((cluster, unit)) => attempts.retry(Some(cluster), unit.as_ref()),
            None => attempts.retry(None, None),
        });
        retried.await.map_err(|error| ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, chain(&error)))?;
    }
    let ticket = hub.fleet.wake();
    if tokio::time::timeout(ROUND_LIMIT, hub.fleet.served(ticket)).await.is_err() {
        let error = format!("the hub did not finish reading the fleet repo within {ROUND_LIMIT:?}");
        return Err(ApiError::new(StatusCode::GATEWAY_TIMEOUT, error)
            .hint("it goes on in the background; `flotilla get sources` shows how far it is"));
    }
    let mut agents = Vec::new();
    if let Some((name, unit)) = target {
        let unit = unit.map(|unit| unit.to_string()).unwrap_or_default();
        let kind = request::Kind::Reconcile(v1::Reconcile { unit });
        let answer = hub.sessions.request(&name, kind, ANSWER_LIMIT).await;
        agents.push(match answer {
            Ok(answered) => {
                AgentAnswer { cluster: name.to_string(), done: answered.done, message: answered.message }
            }
            Err(error) => AgentAnswer { cluster: name.to_string(), done: false, message: error.to_string() },
        });
    }
    let (attention, problem_count) = found(&hub, &caller, &body).await?;
    let view = hub.fleet.view();
    let failed = view.sources.iter().find(|source| !source.ready);
    Ok(Json(Reconciled {
        commit: view.snapshot.as_ref().map(|commit| reach.commit(commit)),
        error: failed.map(|source| match reach.is_fleet() {
            true => format!("{}: {}", source.name, source.message),
            false => "the hub cannot read the fleet repo at the moment".to_owned(),
        }),
        agents,
        attention,
        problem_count,
    }))
}

/// What the hub finds wrong in what it was asked to read; how agents stand is not known so soon.
async fn found(
    hub: &Arc<Hub>,
    caller: &Caller,
    asked: &Reconcile,
) -> Result<(Vec<Attention>, u32), ApiError> {
    let overview = Overview::of(hub, caller).await?;
    let (mut attention, mut counts) = (Vec::new(), BTreeMap::new());
    if asked.cluster.is_none() {
        let problems: Vec<Problem> = overview.fleet.problems.iter().map(Into::into).collect();
        of_fleet(&mut attention, &mut counts, &problems, &[]);
    }
    let is_meant = |name: &ClusterName| asked.cluster.as_ref().is_none_or(|cluster| cluster == name.as_str());
    for entry in overview.entries().filter(|entry| is_meant(&entry.name)) {
        let known = overview.known(entry);
        let of_cluster = show::attention(&entry.name, &known).into_iter().filter(|it| it.reason.is_of_git());
        let of_unit = of_cluster
            .filter(|it| it.unit.is_empty() || asked.unit.as_ref().is_none_or(|unit| *unit == it.unit));
        for found in of_unit {
            *counts.entry(found.reason).or_default() += 1;
            attention.push(found);
        }
        shorten(&mut attention);
    }
    Ok((attention, problems(&counts)))
}

/// Notices of changes, for as long as the caller listens and the token is good. The first says that everything may have
/// changed.
pub(super) async fn watch(
    State(hub): State<Arc<Hub>>,
    Extension(caller): Extension<Caller>,
) -> Sse<impl Stream<Item = Result<sse::Event, Infallible>>> {
    let reader = hub.changes.reader();
    let stop = hub.tasks.shutdown().clone();
    let ended = caller.clone().ended(hub.clone());
    let first = hub.fleet.view().clusters.keys().cloned().collect();
    let first = Some(Changed { clusters: first, fleet: true });
    let stream = futures::stream::unfold(
        (hub, reader, first, true),
        move |(hub, mut reader, mut first, mut is_first)| {
            let (stop, caller) = (stop.clone(), caller.clone());
            async move {
                loop {
                    let changed = match first.take() {
                        Some(first) => first,
                        None => {
                            // What changes in this time is told together.
                            tokio::time::sleep(NOTICE_INTERVAL).await;
                            tokio::select! {
                                changed = hub.changes.next(&mut reader) => changed,
                                () = stop.cancelled() => return None,
                            }
                        }
                    };
                    let reach = caller.reach(&hub);
                    let in_reach = changed.clusters.iter().filter(|name| reach.cluster(name));
                    let change = Change {
                        clusters: in_reach.map(ToString::to_string).collect(),
                        fleet: changed.fleet && (is_first || reach.is_fleet()),
                    };
                    if change.clusters.is_empty() && !change.fleet {
                        continue;
                    }
                    is_first = false;
                    let event = sse::Event::default().event("change").json_data(change);
                    let event = event.unwrap_or_else(|_| sse::Event::default().comment("unreadable"));
                    return Some((Ok(event), (hub, reader, None, is_first)));
                }
            }
        },
    );
    let stream = stream.take_until(Box::pin(ended));
    Sse::new(stream).keep_alive(sse::KeepAlive::new().interval(KEEP_ALIVE))
}
