//! How agents leave: revoking, deleting, removing what a cluster runs.

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::extract::State;
use flotilla_api::{ConnectionState, Done, Prune};
use flotilla_core::ClusterName;
use flotilla_proto::v1::{self, request};

use super::auth::Caller;
use super::clusters::{Answer, done, known, tell};
use super::error::{ApiError, Body, Name};
use super::show::Known;
use crate::session::{EndReason, RequestError};
use crate::state::{Hub, blocking};

/// How long an agent may take to remove everything.
const PRUNE_LIMIT: Duration = Duration::from_secs(600);

pub(super) async fn revoke(
    State(hub): State<Arc<Hub>>,
    Extension(caller): Extension<Caller>,
    Name(name): Name<ClusterName>,
) -> Answer<Done> {
    enrolled(&hub, &caller, &name).await?;
    caller.may_write(&hub)?;
    let audit = caller.audit(&hub, "cluster.revoke", &name);
    let (shared, cluster, now) = (hub.clone(), name.clone(), hub.now());
    blocking(move || shared.records.revoke_cluster(&cluster, now, &audit)).await?;
    hub.sessions.cut(&name, EndReason::Revoked);
    tell(&hub, &name, None, "Revoked", format!("revoked by {}", caller.name));
    hub.changes.cluster(&name);
    Ok(done(format!("cluster {name} is revoked; what it runs stays there")))
}

pub(super) async fn delete(
    State(hub): State<Arc<Hub>>,
    Extension(caller): Extension<Caller>,
    Name(name): Name<ClusterName>,
) -> Answer<Done> {
    let known = known(&hub, &caller, &name).await?;
    if known.record.is_none() && !known.invited {
        let error = format!("cluster {name} is not enrolled: there is no agent to delete");
        let hint = match known.facts.as_ref().is_some_and(|facts| facts.assigned) {
            true => "Git defines it: remove its folder, or its Cluster object, from the fleet repo",
            false => {
                "Git does not define it either: it leaves the list with the next commit that the hub reads"
            }
        };
        // There may be an entry that nothing stands behind any more.
        hub.fleet.wake();
        return Err(ApiError::conflict(error).hint(hint));
    }
    caller.may_write(&hub)?;
    let audit = caller.audit(&hub, "cluster.delete", &name);
    let (shared, cluster) = (hub.clone(), name.clone());
    blocking(move || shared.records.forget_cluster(&cluster, &audit)).await?;
    hub.sessions.forget(&name);
    tell(&hub, &name, None, "Deleted", format!("deleted by {}", caller.name));
    // Where Git does not define it either, the next round forgets it.
    hub.fleet.wake();
    Ok(done(deleted(&name, &known)))
}

/// What becomes of a deleted cluster.
fn deleted(name: &ClusterName, known: &Known) -> String {
    let agent = match known.connection() {
        ConnectionState::Connected => "its agent ends its work now",
        ConnectionState::Disconnected | ConnectionState::Revoked => {
            "its agent is not connected: it keeps what runs there as it is, and ends its work when it next reaches the hub"
        }
        _ => "no agent had joined under this name",
    };
    let git = match known.facts.as_ref().is_some_and(|facts| facts.assigned) {
        true => "; Git still defines it, so it stays in the list, without an agent",
        false => "",
    };
    format!("cluster {name} is deleted; {agent}{git}")
}

pub(super) async fn prune(
    State(hub): State<Arc<Hub>>,
    Extension(caller): Extension<Caller>,
    Name(name): Name<ClusterName>,
    Body(body): Body<Prune>,
) -> Answer<Done> {
    if body.confirm != name.as_str() {
        return Err(ApiError::bad_request("`confirm` must be the cluster's name"));
    }
    enrolled(&hub, &caller, &name).await?;
    caller.may_write(&hub)?;
    let audit = caller.audit(&hub, "cluster.prune", &name);
    let shared = hub.clone();
    blocking(move || shared.records.audit(&audit)).await?;
    let kind = request::Kind::RemoveAll(v1::RemoveAll { confirm: name.to_string() });
    let answered = hub.sessions.request(&name, kind, PRUNE_LIMIT).await.map_err(|error| match error {
        RequestError::Timeout(_) | RequestError::Ended => ApiError::from(error).hint(format!(
            "the agent goes on with the removal: `flotilla get units --cluster {name}` shows what is left; ask again when \
             nothing is"
        )),
        error => error.into(),
    })?;
    if !answered.done {
        return Err(ApiError::conflict(format!("the agent of {name} did not remove all: {}", answered.message))
            .hint(format!(
                "`flotilla approve {name} APPROVAL` lets one go; `flotilla status {name}` shows what is left, and \
                 `flotilla cluster delete {name} --prune` goes on"
            )));
    }
    Ok(done(format!("in cluster {name} {}", answered.message)))
}

pub(super) async fn enrolled(hub: &Arc<Hub>, caller: &Caller, name: &ClusterName) -> Result<(), ApiError> {
    if known(hub, caller, name).await?.record.is_some() {
        return Ok(());
    }
    Err(ApiError::conflict(format!("cluster {name} is not enrolled"))
        .hint(format!("`flotilla cluster token {name}` makes a token with which its agent joins")))
}
