//! Changes that wait for an approval before anything of them is published.

use std::sync::Arc;

use axum::extract::State;
use axum::{Extension, Json};
use flotilla_proto::api::{Done, HeldChange, Page, RemovedUnits};

use super::auth::Caller;
use super::clusters::{Answer, done};
use super::error::{ApiError, Name, digest_prefix};
use crate::state::{Hub, blocking};
use crate::view;

/// Units that are listed of one change.
const LISTED: usize = 5_000;

fn shown(change: &view::HeldChange) -> HeldChange {
    let mut room = LISTED;
    let mut removes = Vec::new();
    for (cluster, units) in &change.losses {
        let units: Vec<String> = units.iter().take(room).map(ToString::to_string).collect();
        room -= units.len();
        if !units.is_empty() {
            removes.push(RemovedUnits { cluster: cluster.to_string(), units });
        }
    }
    HeldChange {
        digest: change.digest.to_string(),
        commit: change.commit.clone(),
        removes,
        units: change.losses.values().map(|units| units.len() as u64).sum(),
        of: change.of as u64,
        message: change.why.clone(),
    }
}

pub(super) async fn list(State(hub): State<Arc<Hub>>) -> Answer<Page<HeldChange>> {
    let items = hub.fleet.view().held_change.iter().map(shown).collect();
    Ok(Json(Page { items, next: None }))
}

/// Lets exactly those units go that the change was held for.
pub(super) async fn approve(
    State(hub): State<Arc<Hub>>,
    Extension(caller): Extension<Caller>,
    Name(wanted): Name<String>,
) -> Answer<Done> {
    let wanted = digest_prefix("a change", &wanted)?;
    let view = hub.fleet.view();
    let Some(change) =
        view.held_change.as_ref().filter(|change| change.digest.to_string().starts_with(&wanted))
    else {
        let hint = "`flotilla get changes` shows what waits for an approval now";
        return Err(ApiError::not_found(format!("no change {wanted} waits for an approval")).hint(hint));
    };
    let shown = shown(change);
    let detail = format!("{} of {} units, commit {}", shown.units, shown.of, shown.commit);
    let audit = caller.audit(&hub, "change.approve", change.digest).detail(detail);
    let (shared, losses) = (hub.clone(), change.losses.clone());
    blocking(move || shared.records.approve_change(&losses, &audit)).await?;
    hub.fleet.wake();
    Ok(done(format!("approved: {} units may go", shown.units)))
}
