//! Adoption: asks a cluster's agent to take over what another tool runs there, or to give it back.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::{Extension, Json};
use flotilla_api::{Adopt, AdoptAction, AdoptFrom, Adoption};
use flotilla_core::digest::InvalidDigest;
use flotilla_core::{ClusterName, Digest};
use flotilla_proto::convert::digest_bytes;
use flotilla_proto::v1::{self, request};

use super::auth::Caller;
use super::clusters::{Answer, enrolled};
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
    let (origin, from) = match body.from {
        AdoptFrom::Flux => (v1::adopt::Origin::Flux, "flux"),
        AdoptFrom::Helm => (v1::adopt::Origin::Helm, "helm"),
        AdoptFrom::Kubectl => (v1::adopt::Origin::Kubectl, "kubectl"),
    };
    let (action, what) = match body.action {
        AdoptAction::Plan => (v1::adopt::Action::Plan, "plan"),
        AdoptAction::Apply => (v1::adopt::Action::Apply, "apply"),
        AdoptAction::Undo => (v1::adopt::Action::Undo, "undo"),
    };
    let detail = plan.map_or_else(String::new, |plan| format!(" as planned in {plan}"));
    let detail = format!("{what} from {from}{detail}");
    caller.may_write(&hub)?;
    let audit = caller.audit(&hub, "cluster.adopt", &name).detail(detail);
    let shared = hub.clone();
    blocking(move || shared.records.audit(&audit)).await?;
    let kind = request::Kind::Adopt(v1::Adopt {
        origin: origin.into(),
        action: action.into(),
        plan: digest_bytes(plan),
    });
    let answered = hub.sessions.request(&name, kind, LIMIT).await?;
    if !answered.done {
        let error =
            format!("the agent of {name} cannot {what} the adoption from {from}: {}", answered.message);
        return Err(ApiError::conflict(error)
            .hint("what was done until then stands: look at the plan again to go on, or --undo it"));
    }
    let adoption = serde_json::from_str(&answered.message);
    Ok(Json(adoption.map_err(|error| ApiError::internal(&error))?))
}
