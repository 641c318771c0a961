//! What people decide for one cluster: suspend, resume, approve.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use flotilla_api::{Approve, Done, Resume, Suspend};
use flotilla_core::report::Kept;
use flotilla_core::{ClusterName, Digest, UnitId};
use flotilla_proto::convert;
use flotilla_proto::v1::{self, request};

use super::auth::Caller;
use super::clusters::{ANSWER_LIMIT, Answer, done, find_unit, known, tell};
use super::enrolment::enrolled;
use super::error::{ApiError, Body, Name, digest_prefix};
use super::show::Known;
use crate::state::{Hub, blocking};
use crate::store::{ApprovalRecord, SuspensionRecord};

const MAX_REASON: usize = 1_000;

pub(super) async fn suspend(
    State(hub): State<Arc<Hub>>,
    Extension(caller): Extension<Caller>,
    Name(name): Name<ClusterName>,
    Body(body): Body<Suspend>,
) -> Answer<Done> {
    if body.reason.len() > MAX_REASON {
        return Err(ApiError::bad_request(format!("a reason has at most {MAX_REASON} bytes")));
    }
    let suspension = SuspensionRecord { by: caller.name.clone(), at: hub.now(), reason: body.reason };
    set_suspended(&hub, &caller, &name, body.unit.as_deref(), Some(suspension)).await
}

pub(super) async fn resume(
    State(hub): State<Arc<Hub>>,
    Extension(caller): Extension<Caller>,
    Name(name): Name<ClusterName>,
    Body(body): Body<Resume>,
) -> Answer<Done> {
    set_suspended(&hub, &caller, &name, body.unit.as_deref(), None).await
}

async fn set_suspended(
    hub: &Arc<Hub>,
    caller: &Caller,
    name: &ClusterName,
    unit: Option<&str>,
    suspension: Option<SuspensionRecord>,
) -> Answer<Done> {
    let known = known(hub, caller, name).await?;
    let unit = unit.map(|unit| find_unit(name, &known, unit)).transpose()?;
    if unit.is_none() {
        caller.reach(hub).need_cluster(name)?;
    }
    let verb = if suspension.is_some() { "suspend" } else { "resume" };
    let scope = if unit.is_some() { "unit" } else { "cluster" };
    let target = unit.as_ref().map_or_else(|| name.to_string(), |unit| format!("{name} {unit}"));
    let reason = suspension.as_ref().map(|suspension| suspension.reason.clone()).unwrap_or_default();
    caller.may_write(hub)?;
    let audit = caller.audit(hub, &format!("{scope}.{verb}"), &target).detail(reason.clone());
    let (shared, cluster, of_unit) = (hub.clone(), name.clone(), unit.clone());
    blocking(move || shared.records.suspend(&cluster, of_unit.as_ref(), suspension.as_ref(), &audit)).await?;
    let past = if verb == "suspend" { "suspended" } else { "resumed" };
    let why = if reason.is_empty() { String::new() } else { format!(": {reason}") };
    let reason = if verb == "suspend" { "Suspended" } else { "Resumed" };
    tell(hub, name, unit.as_ref(), reason, format!("{past} by {}{why}", caller.name));
    hub.changes.cluster(name);
    // What stands in Git is not ended by hand.
    let in_git = verb == "resume" && is_suspended_in_git(&known, unit.as_ref());
    let still = if in_git { "; it stays suspended, as Git says so (spec.suspend)" } else { "" };
    Ok(done(format!("{target} is {past}{still}")))
}

/// Whether Git suspends the unit.
fn is_suspended_in_git(known: &Known, unit: Option<&UnitId>) -> bool {
    unit.and_then(|unit| known.facts.as_ref()?.units.get(unit)).is_some_and(|unit| unit.suspended_in_git)
}

pub(super) async fn approve(
    State(hub): State<Arc<Hub>>,
    Extension(caller): Extension<Caller>,
    Name(name): Name<ClusterName>,
    Body(body): Body<Approve>,
) -> Answer<Done> {
    enrolled(&hub, &caller, &name).await?;
    let wanted = digest_prefix("an approval", &body.approval)?;
    let view = hub.sessions.view(&name).unwrap_or_default();
    let reach = caller.reach(&hub);
    let units = view.units.values().filter(|unit| reach.unit(&name, &unit.unit));
    let asked = units.flat_map(|unit| &unit.kept);
    let asked = asked.filter(|kept| kept.approval.to_string().starts_with(&wanted));
    // An object of the cluster, or of another namespace, is not of the unit's namespace alone.
    let asked = asked.filter(|kept| reach.namespace(&kept.object.namespace));
    let mut asked: BTreeMap<Digest, &Kept> = asked.map(|kept| (kept.approval, kept)).collect();
    let hint = format!("`flotilla status {name}` shows what is kept and the approval that it needs");
    let Some((digest, asked)) = asked.pop_first().filter(|_| asked.is_empty()) else {
        let error = match asked.len() {
            0 => format!("nothing that {name} keeps asks for the approval {wanted}"),
            more => format!("{} approvals that {name} asks for begin with {wanted}", more + 1),
        };
        return Err(ApiError::not_found(error).hint(hint));
    };
    caller.may_write(&hub)?;
    let audit =
        caller.audit(&hub, "cluster.approve", &name).detail(format!("{}: {}", asked.object, asked.why));
    let approval = ApprovalRecord { by: caller.name.clone(), at: hub.now(), delivered_at: None };
    let (shared, cluster) = (hub.clone(), name.clone());
    blocking(move || shared.records.approve(&cluster, digest, &approval, &audit)).await?;
    let kind = request::Kind::Approve(v1::Approve { approval: convert::digest_bytes(Some(digest)) });
    let told = match hub.sessions.request(&name, kind, ANSWER_LIMIT).await {
        Ok(answered) if answered.done => {
            let (shared, cluster, now) = (hub.clone(), name.clone(), hub.now());
            blocking(move || shared.records.approval_delivered(&cluster, digest, now)).await?;
            "the agent has it".to_owned()
        }
        Ok(answered) => format!("the agent answered: {}", answered.message),
        Err(error) => format!("the agent gets it later ({error})"),
    };
    Ok(done(format!("approved; {told}")))
}
