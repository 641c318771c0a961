//! Adoption: asks a cluster's agent to take over what another tool runs there, or to give it back.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::{Extension, Json};
use flotilla_api::{Adopt, AdoptAction, Adoption};
use flotilla_core::adopt::Origin;
use flotilla_core::answer::{self, Found};
use flotilla_core::digest::InvalidDigest;
use flotilla_core::{ClusterName, Digest};
use flotilla_proto::convert::digest_bytes;
use flotilla_proto::v1::{self, request};

use super::auth::Caller;
use super::clusters::Answer;
use super::enrolment::enrolled;
use super::error::{ApiError, Body, Name};
use crate::state::{Hub, blocking};

/// How long an agent may take: it waits some minutes for objects to be taken over, and looks at each before.
const LIMIT: Duration = Duration::from_secs(600);

pub(super) async fn adopt(
    State(hub): State<Arc<Hub>>,
    Extension(caller): Extension<Caller>,
    Name(name): Name<ClusterName>,
    Body(body): Body<Adopt>,
) -> Answer<Adoption> {
    let plan: Option<Digest> = match body.plan.as_str() {
        "" => None,
        _ if body.action != AdoptAction::Apply => {
            return Err(ApiError::bad_request("`plan` goes with the action `apply` only"));
        }
        plan => Some(plan.parse().map_err(|error: InvalidDigest| ApiError::bad_request(error.to_string()))?),
    };
    enrolled(&hub, &caller, &name).await?;
    let (from, action) = (Origin::from(body.from), answer::AdoptAction::from(body.action));
    let what = match action {
        answer::AdoptAction::Plan => "plan",
        answer::AdoptAction::Apply => "apply",
        answer::AdoptAction::Undo => "undo",
    };
    let detail = plan.map_or_else(String::new, |plan| format!(" as planned in {plan}"));
    let detail = format!("{what} from {from}{detail}");
    caller.may_write(&hub)?;
    let audit = caller.audit(&hub, "cluster.adopt", &name).detail(detail);
    let shared = hub.clone();
    blocking(move || shared.records.audit(&audit)).await?;
    let kind = request::Kind::Adopt(v1::Adopt {
        origin: v1::adopt::Origin::from(from).into(),
        action: v1::adopt::Action::from(action).into(),
        plan: digest_bytes(plan),
    });
    let answered = hub.sessions.request(&name, kind, LIMIT).await?;
    if !answered.done {
        let error =
            format!("the agent of {name} cannot {what} the adoption from {from}: {}", answered.message);
        return Err(ApiError::conflict(error)
            .hint("what was done until then stands: look at the plan again to go on, or --undo it"));
    }
    match answered.found {
        Some(Found::Adoption(adoption)) => Ok(Json((*adoption).into())),
        // Of an agent before protocol 1.4.
        None => match serde_json::from_str::<answer::Adoption>(&answered.message) {
            Ok(adoption) => Ok(Json(adoption.into())),
            Err(error) => Err(ApiError::internal(&error)),
        },
        Some(Found::Live(_) | Found::Rehearsal(_)) => {
            Err(ApiError::conflict(format!("the agent of {name} answered another question; ask again")))
        }
    }
}
