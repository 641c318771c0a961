//! What the newest commit takes away from the fleet, and what of that waits for an approval before it is published.

use std::sync::Arc;

use axum::extract::State;
use axum::{Extension, Json};
use flotilla_api::{ChangeFinding, Done, HeldUnit, Page};
use flotilla_core::change::Finding;

use super::auth::Caller;
use super::clusters::{Answer, done};
use super::error::{ApiError, Name, digest_prefix};
use crate::state::{Hub, blocking};
use crate::view::{Change, HeldChange};

/// Units that are listed of one finding, and objects of one unit.
const LISTED: usize = 5_000;
const OBJECTS: usize = 100;

fn shown(change: &Change, finding: &Finding) -> ChangeFinding {
    let held = change.held.iter().find(|held| finding.whose.stopped() == Some(&held.word));
    ChangeFinding {
        severity: finding.severity.as_str().to_owned(),
        digest: held.map(|held| held.digest.to_string()).unwrap_or_default(),
        commit: change.commit.clone(),
        finding: finding.lint.code().to_owned(),
        count: finding.count as u64,
        of: finding.of.map(|of| of as u64),
        clusters: finding.clusters.iter().map(ToString::to_string).collect(),
        names: finding.names.clone(),
        message: finding.to_string(),
        held: held.into_iter().flat_map(|held| units(held, finding)).take(LISTED).collect(),
    }
}

/// The units that wait because of a finding.
fn units<'a>(held: &'a HeldChange, finding: &'a Finding) -> impl Iterator<Item = HeldUnit> + 'a {
    let all = finding.held.iter().flat_map(|(cluster, ids)| ids.iter().map(move |id| (cluster, id)));
    all.filter_map(|(cluster, id)| {
        let loss = held.losses.get(cluster)?.units.get(id)?;
        Some(HeldUnit {
            cluster: cluster.to_string(),
            unit: id.to_string(),
            removed: loss.removed,
            objects: loss.objects.len() as u64,
            first: loss.objects.iter().take(OBJECTS).map(ToString::to_string).collect(),
        })
    })
}

pub(super) async fn list(State(hub): State<Arc<Hub>>) -> Answer<Page<ChangeFinding>> {
    let view = hub.fleet.view();
    let findings = view.change.iter().flat_map(|change| change.findings.iter().map(|one| shown(change, one)));
    Ok(Json(Page { items: findings.collect(), next: None }))
}

/// Lets exactly those units and objects go that the change was held for.
pub(super) async fn approve(
    State(hub): State<Arc<Hub>>,
    Extension(caller): Extension<Caller>,
    Name(wanted): Name<String>,
) -> Answer<Done> {
    let wanted = digest_prefix("a change", &wanted)?;
    let view = hub.fleet.view();
    let all = view.change.iter().flat_map(|change| change.held.iter().map(move |held| (change, held)));
    let matching: Vec<_> = all.filter(|(_, held)| held.digest.to_string().starts_with(&wanted)).collect();
    let hint = "`flotilla get changes` shows what waits for an approval now";
    let [(change, held)] = matching[..] else {
        let error = match matching.len() {
            0 => ApiError::not_found(format!("no change {wanted} waits for an approval")),
            many => ApiError::bad_request(format!("{many} changes begin with {wanted}: give more digits")),
        };
        return Err(error.hint(hint));
    };
    let removed: usize = held.losses.values().map(|loss| loss.removed().count()).sum();
    let objects: usize = held.losses.values().map(|loss| loss.objects().len()).sum();
    let what = format!("{removed} units and {objects} objects of {} clusters", held.losses.len());
    let audit = caller.audit(&hub, "change.approve", held.digest);
    let audit = audit.detail(format!("{what}, commit {}", change.commit));
    let (shared, losses) = (hub.clone(), held.losses.clone());
    blocking(move || shared.records.approve_change(&losses, &audit)).await?;
    hub.fleet.wake();
    Ok(done(format!("approved: {what} may be removed")))
}
