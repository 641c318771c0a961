//! The health of an applied unit: of its objects, of what its health checks name, and of its children where it waits.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use flotilla_core::health::Status;
use flotilla_core::plan::{Target, UnitPlan};
use flotilla_core::report::Finding;
use flotilla_core::unit::{HealthCheck, SourceState};
use flotilla_core::{ObjectId, ObjectRef, SourceKind, UnitId, UnitKind, UnitManifest};
use tokio::time::Instant;

use super::State;
use crate::cluster::members::Presence;
use crate::sync::memory::LastApplied;
use crate::sync::unit_state::{HealthState, UnitHealth, finding, waits_for_health};

/// The object that a health check names.
pub(super) fn checked(check: &HealthCheck) -> ObjectRef {
    let (group, version) = check.api_version.rsplit_once('/').unwrap_or(("", &check.api_version));
    let id = ObjectId::new(group, &check.kind, &check.namespace, &check.name);
    ObjectRef { id, version: version.into() }
}

/// The unit that a health check on a Flux object means.
pub(super) fn checked_unit(check: &HealthCheck) -> Option<UnitId> {
    let object = checked(check).id;
    let kind = match (object.group.as_str(), object.kind.as_str()) {
        ("kustomize.toolkit.fluxcd.io", "Kustomization") => UnitKind::Kustomization,
        ("helm.toolkit.fluxcd.io", "HelmRelease") => UnitKind::HelmRelease,
        _ => return None,
    };
    Some(UnitId::new(kind, &object.namespace, &object.name))
}

/// Whether a health check names a source, of which the hub tells how it is.
pub(super) fn is_source(check: &HealthCheck) -> bool {
    let object = checked(check).id;
    SourceKind::ALL.iter().any(|kind| object.is(kind.group(), kind.as_str()))
}

/// What is not well yet.
struct Unwell {
    finding: Finding,
    /// It will hardly become well by itself.
    failed: bool,
}

impl State {
    /// Takes note of the unit's readiness in its memory. Called when there is nothing to apply.
    pub(super) fn assess(&mut self, plan: &UnitPlan) {
        let ready = match (&plan.target, self.health_of(plan)) {
            (Target::Desired(manifest), Some(UnitHealth { state: HealthState::Ready, .. })) => {
                Some(manifest.digest())
            }
            _ => None,
        };
        let compare = match &plan.target {
            Target::Desired(manifest) | Target::Last(manifest, _) => {
                Some(Instant::now() + Duration::from_secs(u64::from(manifest.spec.interval.max(10))))
            }
            Target::Suspended(_) | Target::Nothing(_) | Target::Removed(..) => None,
        };
        if let Some(unit_memory) = self.unit_memories.get_mut(&plan.unit)
            && matches!(plan.target, Target::Desired(_))
        {
            unit_memory.ready = ready;
        }
        if let Some(state) = self.units.get_mut(&plan.unit) {
            state.healthy = ready.or(state.healthy);
            state.compare_at = compare;
            if matches!(plan.target, Target::Desired(_)) && ready.is_none() {
                state.waiting_since.get_or_insert_with(Instant::now);
            } else if ready.is_some() {
                state.waiting_since = None;
            }
            let limit = match &plan.target {
                Target::Desired(manifest) if waits_for_health(manifest) => Some(manifest.spec.timeout.max(1)),
                _ => None,
            };
            let over = state
                .waiting_since
                .zip(limit)
                .map(|(since, limit)| since + Duration::from_secs(limit.into()));
            state.health_at = over.filter(|at| *at > Instant::now());
        }
    }

    /// The health of a unit at its desired manifest; none if it is not applied, or not known to be.
    pub(super) fn health_of(&self, plan: &UnitPlan) -> Option<UnitHealth> {
        let Target::Desired(manifest) = &plan.target else { return None };
        let open = plan.apply.iter().any(|step| !step.cause.is_drift());
        if open || !plan.refused.is_empty() || plan.unseen > 0 {
            return None;
        }
        let unwell = self.unwell(manifest);
        let (state, message) = match unwell.first() {
            _ if !waits_for_health(manifest) => (HealthState::Ready, String::new()),
            None => (HealthState::Ready, String::new()),
            Some(first) => {
                let more = unwell.len() - 1;
                let and = if more > 0 { format!(" (and {more} more)") } else { String::new() };
                let message = format!("{}: {}{and}", first.finding.object, first.finding.message);
                let limit = Duration::from_secs(u64::from(manifest.spec.timeout.max(1)));
                let since = self.units.get(&plan.unit).and_then(|state| state.waiting_since);
                if since.is_some_and(|since| since.elapsed() >= limit) {
                    (HealthState::Failed, format!("not healthy after {} s: {message}", limit.as_secs()))
                } else {
                    (HealthState::Waits, format!("waits for {message}"))
                }
            }
        };
        // Without a wait only what failed is worth telling.
        let told = unwell.into_iter().filter(|unwell| unwell.failed || waits_for_health(manifest));
        Some(UnitHealth { state, message, findings: told.map(|unwell| unwell.finding).collect() })
    }

    fn unwell(&self, manifest: &UnitManifest) -> Vec<Unwell> {
        let complete = |id: &ObjectId| self.tools.cluster.discovery().complete(id);
        let mut unwell = Vec::new();
        let own = manifest.objects.iter().map(|entry| complete(&entry.object.id));
        for id in own.filter(|_| manifest.spec.wait || manifest.spec.health_checks.is_empty()) {
            unwell.extend(self.unwell_object(&id, !waits_for_health(manifest)));
        }
        for SourceState { source, .. } in manifest.spec.sources.iter().filter(|state| !state.ready) {
            let object =
                ObjectId::new(source.kind.group(), source.kind.as_str(), &*source.namespace, &*source.name);
            let message = "the hub has no usable content of it; `flotilla get sources` says why";
            unwell.push(Unwell { finding: finding(&object, "NotHealthy", message), failed: false });
        }
        for check in manifest.spec.health_checks.iter().filter(|check| !is_source(check)) {
            match checked_unit(check) {
                Some(unit) => unwell.extend(self.unwell_unit(&unit, &checked(check).id)),
                None => {
                    let id = complete(&checked(check).id);
                    // One of the unit's own may be told already.
                    if unwell.iter().all(|told: &Unwell| told.finding.object != id) {
                        unwell.extend(self.unwell_object(&id, false));
                    }
                }
            }
        }
        if manifest.spec.wait
            && let Some(desired) = &self.desired
        {
            let named: BTreeSet<UnitId> =
                manifest.spec.health_checks.iter().filter_map(checked_unit).collect();
            let is_child = |unit: &&Arc<UnitManifest>| {
                unit.spec.parent.as_ref() == Some(&manifest.id) && !named.contains(&unit.id)
            };
            for child in desired.all_present().filter(is_child) {
                unwell.extend(self.unwell_unit(&child.id, &checked(&HealthCheck::of(&child.id)).id));
            }
        }
        unwell
    }

    fn unwell_object(&self, id: &ObjectId, only_failed: bool) -> Option<Unwell> {
        let unwell =
            |message: &str, failed| Some(Unwell { finding: finding(id, "NotHealthy", message), failed });
        if self.last_applied.get(id).is_some_and(LastApplied::is_left_alone) {
            return None;
        }
        let ended = self.last_applied.get(id).and_then(|last_applied| last_applied.ended.as_ref());
        let because = |message: &str, failed| match self.tools.reasons.of(id) {
            Some(why) => unwell(&format!("{message}: {why}"), failed),
            None => unwell(message, failed),
        };
        match self.tools.members.get(id) {
            // It is not there because it is done.
            Presence::Absent if ended.is_some() => {
                ended.filter(|end| !end.is_empty()).and_then(|end| unwell(end, true))
            }
            Presence::There(observed) => match observed.health.status {
                Status::Current => None,
                Status::Failed => because(&observed.health.message, true),
                Status::InProgress | Status::Terminating if only_failed => None,
                Status::InProgress => because(&observed.health.message, false),
                Status::Terminating => unwell(&observed.health.message, false),
            },
            _ if only_failed => None,
            known => {
                let otherwise =
                    if known == Presence::Absent { "is not there" } else { "was not looked at yet" };
                let why = self.tools.members.problem_of(id);
                unwell(why.as_ref().map_or(otherwise, |(why, _)| why), false)
            }
        }
    }

    fn unwell_unit(&self, unit: &UnitId, object: &ObjectId) -> Option<Unwell> {
        let desired = self.desired.as_ref()?.present(unit);
        if desired.is_some_and(|unit| unit.spec.suspend) {
            return None;
        }
        let desired = desired.map(|unit| unit.digest());
        let unwell =
            |message: &str| Some(Unwell { finding: finding(object, "NotHealthy", message), failed: false });
        if desired.is_none() && !self.desired.as_ref()?.units().contains_key(unit) {
            return unwell("nothing in this cluster's state renders it");
        }
        match self.unit_memories.get(unit).and_then(|unit_memory| unit_memory.ready) {
            ready if ready.is_some() && ready == desired => None,
            _ => unwell("is not ready"),
        }
    }
}
