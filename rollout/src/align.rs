//! What a step begins with: the records and the fleet side by side, which cluster is in which stage, edits of the pipeline,
//! and what each cluster has reported.

use std::collections::BTreeMap;

use flotilla_core::ClusterName;

use crate::fleet::Fleet;
use crate::outcome::EventKind;
use crate::run::{Phase, StageState};
use crate::spec::{OnChange, Pipeline, WhenOffline};
use crate::state::{Failure, Healthy, Part, StandingKind, State, Status};
use crate::world::{Health, Link, World};

/// How long the record of a cluster is kept that the fleet does not have any more.
const KEPT_GONE: i64 = 30 * 24 * 3600;

/// How many digests a cluster was healthy on are remembered, and how many failed.
const MAX_HEALTHY: usize = 3;
const MAX_FAILED: usize = 8;

/// Makes the records those of the world's clusters, in its order.
pub(crate) fn parts(state: &mut State, world: &World, now: i64) {
    let is_same = state.parts.len() == world.clusters.len()
        && state.parts.iter().zip(&world.clusters).all(|(part, cluster)| part.name == cluster.name);
    if !is_same {
        let mut old: BTreeMap<ClusterName, Part> = std::mem::take(&mut state.gone);
        old.extend(state.parts.drain(..).map(|part| (part.name.clone(), part)));
        for cluster in &world.clusters {
            let mut part = old.remove(&cluster.name).unwrap_or_else(|| Part::new(cluster.name.clone()));
            if part.gone_since.take().is_some() {
                part.dirty = true;
            }
            state.parts.push(part);
        }
        old.retain(|_, part| part.stage.is_some());
        for part in old.values_mut().filter(|part| part.gone_since.is_none()) {
            part.gone_since = Some(now);
            part.dirty = true;
        }
        state.gone = old;
    }
}

/// The records of clusters that went so long ago that they are forgotten.
pub(crate) fn forgotten(state: &mut State, now: i64) -> Vec<ClusterName> {
    let is_over = |part: &Part| part.gone_since.is_some_and(|since| now - since >= KEPT_GONE);
    let names: Vec<ClusterName> =
        state.gone.values().filter(|part| is_over(part)).map(|part| part.name.clone()).collect();
    state.gone.retain(|_, part| !is_over(part));
    names
}

/// Which stage each cluster is in, by its labels.
pub(crate) fn stages(state: &mut State, pipeline: &Pipeline, world: &World) -> Vec<Option<usize>> {
    let is_edited = state.head.pipeline.as_ref() != Some(pipeline);
    let clusters = state.parts.iter_mut().zip(&world.clusters);
    clusters
        .map(|(part, cluster)| {
            let Some(labels) = &cluster.labels else {
                return pipeline.stages.iter().position(|stage| part.stage.as_ref() == Some(&stage.name));
            };
            let known = part.found.as_ref().filter(|(found, _)| {
                !is_edited && (std::sync::Arc::ptr_eq(found, labels) || found == labels)
            });
            if let Some((_, stage)) = known {
                return *stage;
            }
            let stage = pipeline.stages.iter().position(|stage| stage.clusters.matches(labels));
            part.found = Some((labels.clone(), stage));
            if let Some(stage) = stage {
                let name = &pipeline.stages[stage].name;
                if part.stage.as_ref() != Some(name) {
                    part.moved = part.stage.is_some() && part.assignment.is_some();
                    part.stage = Some(name.clone());
                    // What it ran when another stage passed says nothing here.
                    part.passed = None;
                    part.dirty = true;
                }
            }
            stage
        })
        .collect()
}

/// Takes an edited pipeline: its stages in their order, and runs as `on_change` says.
pub(crate) fn edits(fleet: &mut Fleet<'_>) {
    let pipeline = fleet.pipeline;
    if fleet.state.head.pipeline.as_ref() == Some(pipeline) {
        return;
    }
    fleet.head_changed = true;
    let old = fleet.state.head.pipeline.replace(pipeline.clone());
    if old.as_ref().is_some_and(|old| old.units != pipeline.units) {
        begin_again(fleet);
    }
    let mut before: BTreeMap<String, StageState> = std::mem::take(&mut fleet.state.head.stages)
        .into_iter()
        .map(|stage| (stage.name.clone(), stage))
        .collect();
    for stage in &pipeline.stages {
        let state = before
            .remove(&stage.name)
            .unwrap_or_else(|| StageState { name: stage.name.clone(), ..Default::default() });
        fleet.state.head.stages.push(state);
    }
    for (name, gone) in before {
        if let Some(run) = gone.run.filter(|run| !run.phase.is_over()) {
            let text = format!(
                "stage {name} is no more: its run of {} ends, and its clusters keep what they have",
                run.candidate
            );
            fleet.event(EventKind::Failed, None, Some(run.candidate), text);
        }
    }
    for at in 0..pipeline.stages.len() {
        let now = fleet.now;
        let stage = &pipeline.stages[at];
        let Some(run) = &mut fleet.state.head.stages[at].run else { continue };
        if run.spec == *stage {
            continue;
        }
        let (is_over, is_unstarted) = (run.phase.is_over(), run.phase == Phase::Before && !run.sent_back);
        let begins_anew = !is_over && pipeline.on_change == OnChange::Restart;
        if is_over || begins_anew || is_unstarted && pipeline.on_change == OnChange::Unstarted {
            run.spec = stage.clone();
        }
        if begins_anew {
            run.phase = Phase::Before;
            run.at = now;
            run.approvals.clear();
            run.checks.clear();
            let candidate = run.candidate;
            let text = format!("stage {} was edited: its run of {candidate} begins anew", stage.name);
            fleet.event(EventKind::Waiting, Some(at), Some(candidate), text);
        }
    }
}

/// Other units are promoted than before: what was is not comparable. Every cluster keeps what it has until its turn comes.
fn begin_again(fleet: &mut Fleet<'_>) {
    fleet.state.head.newest = None;
    for stage in &mut fleet.state.head.stages {
        *stage = StageState {
            name: stage.name.clone(),
            starts: std::mem::take(&mut stage.starts),
            ..Default::default()
        };
    }
    for part in fleet.state.parts.iter_mut().chain(fleet.state.gone.values_mut()) {
        if part.stage.is_some() {
            let fresh = Part::new(part.name.clone());
            *part = Part {
                stage: part.stage.take(),
                gone_since: part.gone_since,
                found: part.found.take(),
                dirty: true,
                ..fresh
            };
        }
    }
    let text = "other units are selected: every cluster keeps what it has until its turn comes";
    fleet.event(EventKind::Candidate, None, None, text);
}

/// Ends what has an end that is over.
pub(crate) fn expire(fleet: &mut Fleet<'_>) {
    let now = fleet.now;
    let is_over = |until: Option<i64>| until.is_some_and(|until| until <= now);
    let standing = std::mem::take(&mut fleet.state.head.standing);
    let (over, stays): (Vec<_>, Vec<_>) = standing.into_iter().partition(|standing| is_over(standing.until));
    fleet.state.head.standing = stays;
    for standing in over {
        fleet.head_changed = true;
        fleet.event(EventKind::Request, None, None, format!("{} is over: its time has come", standing.what));
        if let StandingKind::Hold { scope, .. } = &standing.what {
            fleet.unpin(scope);
        }
    }
}

/// Takes what clusters report of what they were given.
pub(crate) fn reports(fleet: &mut Fleet<'_>) {
    for at in 0..fleet.state.parts.len() {
        if fleet.part(at).assignment.is_some() {
            let before = fleet.part(at).status.clone();
            report(fleet, at);
            let after = fleet.part(at).status.clone();
            if let (Status::Failed { why, .. }, false) = (&after, matches!(before, Status::Failed { .. })) {
                let text = match why {
                    Failure::Reported(units) if units.is_empty() => "failed on it".to_owned(),
                    Failure::Reported(units) => format!("failed on it: {}", names(units)),
                    Failure::Deadline => "did not become healthy before the deadline".to_owned(),
                    Failure::Offline => "went away with it for too long".to_owned(),
                };
                fleet.cluster_event(EventKind::Cluster, at, text);
            }
        }
    }
}

pub(crate) fn names(units: &[(flotilla_core::UnitId, flotilla_core::Digest)]) -> String {
    let first: Vec<String> = units.iter().take(3).map(|(unit, _)| unit.to_string()).collect();
    let more = if units.len() > 3 { format!(" and {} more", units.len() - 3) } else { String::new() };
    format!("{}{more}", first.join(", "))
}

/// Takes what one cluster reports.
pub(crate) fn report(fleet: &mut Fleet<'_>, at: usize) {
    let (now, world) = (fleet.now, fleet.world);
    let cluster = &world.clusters[at];
    let strategy = fleet.stage_of[at].map(|stage| {
        let run = fleet.state.head.stages[stage].run.as_ref();
        run.map_or(&fleet.pipeline.stages[stage].strategy, |run| &run.spec.strategy)
    });
    let (deadline, offline) = match strategy {
        Some(strategy) => (strategy.progress_deadline, Some(strategy.offline)),
        None => (None, None),
    };
    let part = &mut fleet.state.parts[at];
    let revision = part.assignment.as_ref().map(|assignment| assignment.revision);
    if let Some(published) = cluster.published
        && revision == Some(published.revision)
        && part.digest.is_none()
    {
        part.digest = Some(published.digest);
        part.dirty = true;
    }
    let is_online = matches!(cluster.link, Link::Online { .. });
    if is_online && matches!(part.status, Status::Failed { why: Failure::Offline, .. }) {
        part.set(Status::InFlight);
    }
    match &cluster.report {
        // What it runs is not known, as after a start of the hub: what was known stays.
        None => {}
        Some(report) if Some(report.digest) == part.digest => match (&report.health, &part.status) {
            (Health::Healthy, Status::Healthy { since }) => {
                // It may have been something else between two steps.
                let since = report.since.min(now).max(*since);
                part.set(Status::Healthy { since });
            }
            (Health::Healthy, _) => {
                part.set(Status::Healthy { since: now });
                part.failed.retain(|digest| *digest != report.digest);
                if let Some(assignment) = part.assignment.clone() {
                    part.healthy.retain(|healthy| healthy.digest != report.digest);
                    part.healthy.push(Healthy { assignment, digest: report.digest });
                    let surplus = part.healthy.len().saturating_sub(MAX_HEALTHY);
                    part.healthy.drain(..surplus);
                }
            }
            (Health::Progressing, Status::Healthy { .. }) => part.set(Status::Unsettled { since: now }),
            (Health::Progressing, Status::WrittenOff) => part.set(Status::InFlight),
            // One from before it was given this again says nothing of this time.
            (Health::Failed { .. }, Status::InFlight) if report.since < part.given_at => {}
            (Health::Failed { .. }, Status::Failed { .. }) => {}
            (Health::Failed { units }, _) => {
                let named = units.iter().filter(|(unit, _)| unit.kind != flotilla_core::UnitKind::Other);
                let why = Failure::Reported(named.take(8).cloned().collect());
                part.set(Status::Failed { since: now, why });
                part.failed.push(report.digest);
            }
            _ => {}
        },
        Some(_) => match part.status {
            Status::Healthy { .. } => part.set(Status::Unsettled { since: now }),
            // It did not get it before it went away: it waits its turn again.
            Status::WrittenOff if is_online => part.set(Status::Nothing),
            _ => {}
        },
    }
    let since = match (&part.status, cluster.link) {
        (Status::InFlight, Link::Online { since }) => Some(part.given_at.max(since)),
        (Status::Unsettled { since: unsettled }, Link::Online { since }) => Some(since.max(*unsettled)),
        _ => None,
    };
    if since.zip(deadline).is_some_and(|(since, deadline)| now - since >= deadline) {
        part.set(Status::Failed { since: now, why: Failure::Deadline });
        part.failed.extend(part.digest);
    }
    if let (Status::InFlight, Link::Offline { since }, Some(offline)) = (&part.status, cluster.link, offline)
        && now - since >= offline.after
    {
        match offline.then {
            WhenOffline::Wait => {}
            WhenOffline::Skip => part.set(Status::WrittenOff),
            WhenOffline::Fail => part.set(Status::Failed { since: now, why: Failure::Offline }),
        }
    }
    let surplus = part.failed.len().saturating_sub(MAX_FAILED);
    part.failed.drain(..surplus);
}
