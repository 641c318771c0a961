//! Pipelines for people: where they stand, and what can be asked of them. Each request is answered with what happens next.

use std::sync::Arc;

use axum::extract::State;
use axum::{Extension, Json};
use flotilla_api::{self as api, Done, Page, RolloutRequest};
use flotilla_core::Digest;
use flotilla_rollout::outcome::StagePhase;
use flotilla_rollout::{Actor, Barred, CandidateId, Request, Scope, StageStatus, Verb};

use super::auth::Caller;
use super::clusters::{Answer, done};
use super::error::{ApiError, Body, Name, digest_prefix};
use crate::rollout::{AskError, ClusterRollout, PipelineView};
use crate::state::{Hub, blocking};

/// Clusters that are listed of one pipeline.
const LISTED: usize = 5_000;

fn phase(phase: StagePhase) -> &'static str {
    match phase {
        StagePhase::Idle => "idle",
        StagePhase::Waiting => "waiting",
        StagePhase::Rolling => "rolling",
        StagePhase::Soaking => "soaking",
        StagePhase::Passed => "passed",
        StagePhase::Failed => "failed",
        StagePhase::Aborted => "aborted",
    }
}

fn stage(stage: StageStatus) -> api::Stage {
    let question = stage.question.map(|question| api::StageQuestion {
        digest: question.digest.to_string(),
        candidate: question.candidate.to_string(),
        approved_by: question.approved_by,
        needs: question.needs,
    });
    api::Stage {
        name: stage.name,
        phase: phase(stage.phase).to_owned(),
        candidate: stage.candidate.map(|id| id.to_string()),
        passed: stage.passed.map(|id| id.to_string()),
        clusters: stage.counts.all as u64,
        healthy: stage.counts.healthy as u64,
        in_flight: stage.counts.in_flight as u64,
        failed: stage.counts.failed as u64,
        message: stage.text.to_string(),
        next: stage.next,
        question,
        never_enrolled: stage.never_enrolled.iter().map(ToString::to_string).collect(),
    }
}

/// Why a cluster does not run the newest.
pub(super) fn waiting(of: &ClusterRollout) -> api::WaitingCluster {
    api::WaitingCluster {
        cluster: of.cluster.to_string(),
        pipeline: of.reason.pipeline.clone(),
        stage: of.stage.clone(),
        message: of.reason.text.clone(),
        next: of.reason.next,
    }
}

fn shown(view: PipelineView, refs_behind: Option<&str>) -> api::Pipeline {
    let candidates = view.candidates.into_iter().map(|candidate| api::Candidate {
        id: candidate.id.to_string(),
        commit: candidate.commit.id,
        subject: candidate.commit.subject,
        author: candidate.commit.author.name,
    });
    let waiting = view.waiting.iter().take(LISTED).map(waiting);
    let standing = view.standing.iter().map(|standing| {
        let by = standing.by.as_ref().map(|by| format!(", by {by}")).unwrap_or_default();
        let why = if standing.reason.is_empty() { String::new() } else { format!(": {}", standing.reason) };
        format!("{}{by}{why}", standing.what)
    });
    api::Pipeline {
        name: view.name,
        frozen: view.frozen,
        stages: view.stages.into_iter().map(stage).collect(),
        candidates: candidates.collect(),
        unmatched: view.unmatched.iter().take(LISTED).map(ToString::to_string).collect(),
        waiting: waiting.collect(),
        standing: standing.collect(),
        next: view.next,
        refs_behind: refs_behind.map(str::to_owned),
    }
}

pub(super) async fn list(State(hub): State<Arc<Hub>>) -> Answer<Page<api::Pipeline>> {
    let (view, behind) = blocking(move || (hub.rollouts.view(), hub.rollouts.refs_problem())).await;
    let items = view.into_iter().map(|view| shown(view, behind.as_deref()));
    Ok(Json(Page { items: items.collect(), next: None }))
}

/// What people with the role `operate` ask.
pub(super) async fn operate(
    State(hub): State<Arc<Hub>>,
    Extension(caller): Extension<Caller>,
    Name(name): Name<String>,
    Body(body): Body<RolloutRequest>,
) -> Answer<Done> {
    let view = view_of(&hub, &name)?;
    let verb = match body.action.as_str() {
        "hold" => Verb::Hold(scope(&body)?),
        "release" => Verb::Release(scope(&body)?),
        "rollback" => Verb::Rollback(scope(&body)?),
        "veto" => Verb::Veto { what: barred(&hub, &name, &body)?, stage: body.stage.clone() },
        "unveto" => Verb::Unveto { what: barred(&hub, &name, &body)?, stage: body.stage.clone() },
        "promote" => Verb::Promote {
            unit: needed("unit", &body.action, body.unit.as_ref())?.parse().map_err(bad("unit"))?,
            stage: needed("stage", &body.action, body.stage.as_ref())?,
            candidate: body.candidate.as_ref().map(|id| candidate(&hub, &name, id)).transpose()?,
        },
        "pause" => Verb::Pause { stage: body.stage.clone() },
        "resume" => Verb::Resume { stage: body.stage.clone() },
        "retry" => Verb::Retry { stage: needed("stage", &body.action, body.stage.as_ref())? },
        "abort" => Verb::Abort { stage: needed("stage", &body.action, body.stage.as_ref())? },
        other => return Err(unknown(other)),
    };
    ask(hub, caller, view.name, body, verb).await
}

/// What people with the role `approve` ask.
pub(super) async fn approve(
    State(hub): State<Arc<Hub>>,
    Extension(caller): Extension<Caller>,
    Name(name): Name<String>,
    Body(body): Body<RolloutRequest>,
) -> Answer<Done> {
    let view = view_of(&hub, &name)?;
    let stage = || needed("stage", &body.action, body.stage.as_ref());
    let verb = match body.action.as_str() {
        "approve" => Verb::Approve { stage: stage()?, question: question(&view, &stage()?, &body)? },
        "withdraw" => Verb::Withdraw { stage: stage()?, question: question(&view, &stage()?, &body)? },
        "override" => {
            let id = needed("candidate", &body.action, body.candidate.as_ref())?;
            Verb::Override { stage: stage()?, candidate: candidate(&hub, &name, &id)? }
        }
        "override-window" => {
            let window = needed("window", &body.action, body.window.as_ref())?;
            Verb::OverrideWindow { window, stage: body.stage.clone() }
        }
        other => return Err(unknown(other)),
    };
    ask(hub, caller, view.name, body, verb).await
}

pub(super) async fn forget(
    State(hub): State<Arc<Hub>>,
    Extension(caller): Extension<Caller>,
    Name(name): Name<String>,
) -> Answer<Done> {
    caller.may_write(&hub)?;
    let audit = caller.audit(&hub, "pipeline.forget", &name);
    let (shared, pipeline) = (hub.clone(), name.clone());
    blocking(move || shared.rollouts.forget(&pipeline, &audit)).await?;
    hub.fleet.wake();
    Ok(done(format!("the pipeline {name} is forgotten: its clusters run the newest")))
}

async fn ask(
    hub: Arc<Hub>,
    caller: Caller,
    pipeline: String,
    body: RolloutRequest,
    verb: Verb,
) -> Answer<Done> {
    caller.may_write(&hub)?;
    let detail = format!("{verb:?}{}", if body.reason.is_empty() { "" } else { ": " });
    let action = format!("rollout.{}", body.action);
    let audit = caller.audit(&hub, &action, &pipeline).detail(format!("{detail}{}", body.reason));
    let roles = api::Role::ALL.into_iter().filter(|role| *role <= caller.role);
    let roles = roles.map(|role| role.as_str().to_owned()).collect();
    let actor = Actor { name: caller.name, roles, aliases: Vec::new() };
    let request = Request { actor, reason: body.reason, until: body.until, verb };
    let now = hub.now();
    let said = blocking(move || hub.rollouts.ask(&pipeline, request, &audit, now)).await?;
    Ok(done(said))
}

fn view_of(hub: &Hub, name: &str) -> Result<PipelineView, ApiError> {
    let view = hub.rollouts.view().into_iter().find(|view| view.name == name);
    view.ok_or_else(|| AskError::Unknown(name.to_owned()).into())
}

fn scope(body: &RolloutRequest) -> Result<Scope, ApiError> {
    Ok(Scope {
        stage: body.stage.clone(),
        cluster: body.cluster.as_ref().map(|cluster| cluster.parse().map_err(bad("cluster"))).transpose()?,
        unit: body.unit.as_ref().map(|unit| unit.parse().map_err(bad("unit"))).transpose()?,
    })
}

fn barred(hub: &Hub, pipeline: &str, body: &RolloutRequest) -> Result<Barred, ApiError> {
    if let Some(id) = &body.candidate {
        return Ok(Barred::Candidate(candidate(hub, pipeline, id)?));
    }
    let digest: Digest = needed("candidate` or `digest", &body.action, body.digest.as_ref())?
        .parse()
        .map_err(bad("digest"))?;
    Ok(match &body.unit {
        Some(unit) => Barred::Unit(unit.parse().map_err(bad("unit"))?, digest),
        None => Barred::Digest(digest),
    })
}

fn candidate(hub: &Hub, pipeline: &str, id: &str) -> Result<CandidateId, ApiError> {
    Ok(hub.rollouts.candidate(pipeline, &digest_prefix("a candidate", id)?)?)
}

fn question(view: &PipelineView, stage: &str, body: &RolloutRequest) -> Result<Digest, ApiError> {
    let wanted = digest_prefix("a question", &needed("digest", &body.action, body.digest.as_ref())?)?;
    let asked = view.stages.iter().find(|one| one.name == stage).and_then(|stage| stage.question.as_ref());
    let asked = asked.filter(|asked| asked.digest.to_string().starts_with(&wanted));
    asked.map(|asked| asked.digest).ok_or_else(|| {
        ApiError::conflict(format!("the stage {stage} of {} does not ask {wanted} now", view.name))
            .hint("`flotilla rollout status` shows what is asked")
    })
}

fn needed(field: &str, action: &str, value: Option<&String>) -> Result<String, ApiError> {
    value.cloned().ok_or_else(|| ApiError::bad_request(format!("the action '{action}' needs `{field}`")))
}

fn bad<E: std::fmt::Display>(field: &'static str) -> impl Fn(E) -> ApiError {
    move |error| ApiError::bad_request(format!("`{field}`: {error}"))
}

fn unknown(action: &str) -> ApiError {
    ApiError::bad_request(format!("there is no action '{action}' here")).hint("see /openapi.json")
}

impl From<AskError> for ApiError {
    fn from(error: AskError) -> Self {
        match error {
            AskError::Unknown(_) => {
                Self::not_found(error.to_string()).hint("`flotilla rollout status` lists them")
            }
            AskError::Store(error) => error.into(),
            AskError::Frozen(..) | AskError::Refused(_) | AskError::Defined(_) => {
                Self::conflict(error.to_string())
            }
        }
    }
}
