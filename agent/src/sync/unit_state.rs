//! What the coordinator holds of one unit while it runs, and the report made from it.

use std::collections::BTreeMap;
use std::time::Duration;

use flotilla_core::guard::{Departures, Subject};
use flotilla_core::plan::{Access, Claim, Leaving, Target, UnitMemory, UnitPlan, Waiting};
use flotilla_core::report::{Drift, Finding, Kept, Phase, Timestamp, UnitReport};
use flotilla_core::{Digest, ObjectId, UnitId, UnitManifest};
use flotilla_runtime::Backoff;
use tokio::time::Instant;

use super::failure::{FailedObject, FailureReason};
use super::fights::Fights;

/// The first pause after a failure, and the longest where the unit says nothing.
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
pub(super) struct UnitState {
    backoff: Backoff,
    /// The earliest next apply after a failure.
    next_apply_at: Option<Instant>,
    /// Objects whose last attempt failed, with what was tried.
    failed: BTreeMap<ObjectId, FailedObject>,
    /// The earliest next prune check.
    pub(super) next_prune_at: Option<Instant>,
    pub(super) prune_findings: Vec<Finding>,
    pub(super) kept: Vec<Kept>,
    /// The approvals that the guards asked for last, and what they are about.
    pub(super) asked: Vec<(Digest, Subject)>,
    /// In which change each object left that is still on the unit's list, or may come there by what is under way.
    pub(super) departures: Departures,
    pub(super) drift: Vec<Drift>,
    /// The tolerated drift that was looked at, as it was seen.
    pub(super) inspected: BTreeMap<ObjectId, Option<Digest>>,
    pub(super) corrected: u64,
    pub(super) fights: Fights,
    /// Why nothing was tried at all.
    pub(super) blocked: Option<String>,
    /// Why nothing can be tried: the API server is away.
    pub(super) away: Option<String>,
    /// Nothing is changed while a part of the change would be refused.
    pub(super) withheld: bool,
    pub(super) access: Option<Asked>,
    /// Since when health is waited for.
    pub(super) waiting_since: Option<Instant>,
    /// When that wait is over.
    pub(super) health_at: Option<Instant>,
    pub(super) healthy: Option<Digest>,
    /// The next comparison though nothing happened.
    pub(super) compare_at: Option<Instant>,
    /// What was reported last, so that an event tells a change once.
    pub(super) reported: Option<(Phase, String)>,
}

/// What the API server said to claims.
pub(super) struct Asked {
    pub(super) claims: Vec<Claim>,
    pub(super) access: Access,
    /// When it is asked again; `None`: at the next occasion.
    pub(super) again: Option<Instant>,
}

impl Default for UnitState {
    fn default() -> Self {
        Self {
            backoff: Backoff::new(PAUSE, LONGEST_PAUSE),
            next_apply_at: None,
            failed: BTreeMap::new(),
            next_prune_at: None,
            prune_findings: Vec::new(),
            kept: Vec::new(),
            asked: Vec::new(),
            departures: Departures::default(),
            drift: Vec::new(),
            inspected: BTreeMap::new(),
            corrected: 0,
            fights: Fights::default(),
            blocked: None,
            away: None,
            withheld: false,
            access: None,
            waiting_since: None,
            health_at: None,
            healthy: None,
            compare_at: None,
            reported: None,
        }
    }
}

impl UnitState {
    /// Forgets about failures: something changed, or somebody asked.
    pub(super) fn reset(&mut self) {
        self.backoff.reset();
        self.next_apply_at = None;
        self.next_prune_at = None;
        self.waiting_since = None;
        self.access = None;
        self.fights = Fights::default();
    }

    pub(super) fn has_failed(&self) -> bool {
        !self.failed.is_empty() || self.blocked.is_some() || self.away.is_some()
    }

    /// Whether an object may be tried now: not one that failed with the same content a moment ago, nor one that
    /// somebody else keeps putting back.
    pub(super) fn may_try(&self, object: &ObjectId, fingerprint: Digest, drift: bool) -> bool {
        let now = Instant::now();
        let paused = self.next_apply_at.is_some_and(|at| at > now);
        if paused
            && (self.blocked.is_some()
                || self.away.is_some()
                || (self.withheld && !drift)
                || self.failed.get(object).is_some_and(|failed| failed.fingerprint == fingerprint))
        {
            return false;
        }
        !(drift && self.fights.is_fought(object))
    }

    /// Forgets failures of what is no longer to be done.
    pub(super) fn forget_failures(&mut self, plan: &UnitPlan) {
        let open = |id: &ObjectId, fingerprint: Digest| {
            plan.apply.iter().any(|step| step.object.id == *id && step.fingerprint == fingerprint)
        };
        self.failed.retain(|id, failed| open(id, failed.fingerprint));
        if plan.apply.is_empty() {
            self.blocked = None;
            self.away = None;
        }
        if !self.has_failed() {
            self.next_apply_at = None;
            self.withheld = false;
        }
    }

    /// Whether the last attempt on the object failed with these very words.
    pub(super) fn has_failed_so(&self, object: &ObjectId, finding: &Finding) -> bool {
        self.failed.get(object).is_some_and(|before| before.finding == *finding)
    }

    /// Whether these claims are to be asked about now.
    pub(super) fn is_to_ask(&self, claims: &[Claim]) -> bool {
        !claims.is_empty()
            && self.access.as_ref().is_none_or(|asked| asked.claims != claims || asked.again.is_none())
    }

    /// Whether the account may not apply the object, by the last attempt.
    pub(super) fn is_forbidden(&self, object: &ObjectId) -> bool {
        self.failed.get(object).is_some_and(|failed| failed.reason == FailureReason::Forbidden)
    }

    /// Whether the API server refused something of the last attempt, as far as can be told; rights aside.
    pub(super) fn was_refused(&self) -> bool {
        let reasons = [FailureReason::Denied, FailureReason::Immutable, FailureReason::ApplyFailed];
        self.failed.values().any(|failed| reasons.contains(&failed.reason))
    }

    /// Takes the failures of an attempt; the next one waits.
    pub(super) fn failed(
        &mut self,
        failed: BTreeMap<ObjectId, FailedObject>,
        blocked: Option<String>,
        away: Option<String>,
        longest: Option<u32>,
    ) {
        self.blocked = blocked;
        self.away = away;
        self.failed = failed;
        if self.has_failed() {
            let longest =
                longest.map_or(LONGEST_PAUSE, |seconds| Duration::from_secs(u64::from(seconds).max(1)));
            let pause = self.backoff.next_delay(&mut rand::rng());
            // Full jitter may draw nothing at all; an attempt is not worth repeating at once.
            self.next_apply_at = Some(Instant::now() + pause.clamp(PAUSE / 4, longest));
        } else {
            self.backoff.reset();
            self.next_apply_at = None;
        }
    }

    /// When to look at the unit again, at the latest.
    pub(super) fn due(&self) -> Option<Instant> {
        let access = self.access.as_ref().and_then(|asked| asked.again);
        [self.next_apply_at, self.next_prune_at, self.compare_at, self.health_at, access]
            .into_iter()
            .flatten()
            .chain(self.fights.due())
            .min()
    }

    /// After [`UnitState::due`] passed: what was waited for is over.
    pub(super) fn pass(&mut self, now: Instant) {
        for at in
            [&mut self.next_apply_at, &mut self.next_prune_at, &mut self.compare_at, &mut self.health_at]
        {
            if at.is_some_and(|at| at <= now) {
                *at = None;
            }
        }
        if let Some(asked) = &mut self.access
            && asked.again.is_some_and(|at| at <= now)
        {
            asked.again = None;
        }
        self.fights.pass(now);
    }

    /// The report on the unit as it stands.
    pub(super) fn report(&self, unit: &UnitId, plan: &UnitPlan, input: ReportInput) -> UnitReport {
        let ReportInput { running, health, now, unit_memory, objects, desired } = input;
        let (phase, message) = self.phase(plan, running, health.as_ref());
        let mut report = UnitReport::new(unit.clone(), phase, message, now);
        report.desired = desired;
        report.applied =
            unit_memory.and_then(|unit_memory| unit_memory.last.as_ref()).map(|last| last.digest());
        report.healthy = self.healthy;
        report.objects = u32::try_from(objects).unwrap_or(u32::MAX);
        let refused = plan.refused.iter().map(|(object, why)| finding(object, "Conflict", why));
        let fought = self.fights.all().map(|(object, words)| finding(object, "Fought", &words));
        report.findings = self.failed.values().map(|failed| failed.finding.clone()).collect();
        report.findings.extend(refused);
        report.findings.extend(self.prune_findings.iter().cloned());
        report.findings.extend(fought);
        report.findings.extend(health.into_iter().flat_map(|health| health.findings));
        report.findings.truncate(UnitReport::MAX_DETAILS);
        report.drift = self.drift.iter().take(UnitReport::MAX_DETAILS).cloned().collect();
        report.kept = self.kept.iter().take(UnitReport::MAX_DETAILS).cloned().collect();
        report.corrected = self.corrected;
        report
    }

    fn phase(&self, plan: &UnitPlan, running: bool, health: Option<&UnitHealth>) -> (Phase, String) {
        if let Some(why) = &self.blocked {
            return (Phase::Failed, why.clone());
        }
        // Which is no fault of the unit, and told once for all of them.
        if let (Some(why), false) = (&self.away, plan.apply.is_empty()) {
            return (Phase::Pending, format!("{} to apply; {why}", counted(plan.apply.len())));
        }
        match &plan.target {
            Target::Suspended(None) => return (Phase::Suspended, "suspended".into()),
            Target::Suspended(Some(why)) => return (Phase::Suspended, format!("suspended; {why}")),
            Target::Nothing(Waiting::Held(why)) | Target::Last(_, Waiting::Held(why)) => {
                return (Phase::Held, why.clone());
            }
            // It can never go on by itself, or only once somebody grants something.
            Target::Nothing(Waiting::Broken(why) | Waiting::Denied(why))
            | Target::Last(_, Waiting::Broken(why) | Waiting::Denied(why)) => {
                return (Phase::Failed, why.clone());
            }
            Target::Nothing(waiting) | Target::Last(_, waiting) => {
                return (Phase::Pending, waiting.to_string());
            }
            Target::Removed(_, Some(waiting)) => return (Phase::Removing, waiting.to_string()),
            Target::Removed(_, None) => return (Phase::Removing, self.removal(plan)),
            Target::Desired(_) => {}
        }
        let first_attempt = running && self.failed.is_empty();
        if !first_attempt && let Some(message) = self.failure(plan) {
            return (Phase::Failed, message);
        }
        // Drift alone does not make a unit that is applied one that is being applied.
        if plan.apply.iter().any(|step| !step.cause.is_drift()) || (running && health.is_none()) {
            return (Phase::Applying, format!("{} to apply", counted(plan.apply.len())));
        }
        match health {
            None if plan.unseen > 0 => (Phase::Pending, format!("looks at {}", counted(plan.unseen))),
            None => (Phase::Applying, "applies".into()),
            Some(UnitHealth { state: HealthState::Ready, .. }) => (Phase::Ready, self.leftovers(plan)),
            Some(UnitHealth { state: HealthState::Waits, message, .. }) => {
                (Phase::Progressing, message.clone())
            }
            Some(UnitHealth { state: HealthState::Failed, message, .. }) => (Phase::Failed, message.clone()),
        }
    }

    fn failure(&self, plan: &UnitPlan) -> Option<String> {
        let failed = self
            .failed
            .values()
            .map(|FailedObject { finding, .. }| (&finding.object, finding.message.as_str()));
        let refused = plan.refused.iter().map(|(object, why)| (object, why.as_str()));
        let mut all = failed.chain(refused);
        let (object, why) = all.next()?;
        let more = all.count();
        let and = if more > 0 { format!(" (and {more} more)") } else { String::new() };
        let whole = if self.withheld { "; nothing of the unit was changed" } else { "" };
        Some(format!("{object}: {why}{and}{whole}"))
    }

    fn removal(&self, plan: &UnitPlan) -> String {
        match (self.prune_findings.first(), self.kept.first()) {
            (Some(finding), _) => format!("{}: {}", finding.object, finding.message),
            (None, Some(kept)) => {
                format!("{} kept until approved: {}", are(self.kept.len(), "object"), kept.why)
            }
            (None, None) => staying(plan).unwrap_or_else(|| "its objects are being removed".into()),
        }
    }

    fn leftovers(&self, plan: &UnitPlan) -> String {
        match (self.prune_findings.first(), self.kept.len()) {
            (Some(finding), _) => {
                format!("applied; {} cannot be removed: {}", finding.object, finding.message)
            }
            (None, 0) => {
                staying(plan).map_or_else(|| "applied".into(), |staying| format!("applied; {staying}"))
            }
            (None, kept) => format!("applied; {} kept until approved", are(kept, "dropped object")),
        }
    }
}

pub(super) fn counted(objects: usize) -> String {
    if objects == 1 { "1 object".into() } else { format!("{objects} objects") }
}

/// `1 object is`, `3 objects are`.
fn are(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what} is") } else { format!("{count} {what}s are") }
}

/// What left the unit and is not pruned for now, and why.
fn staying(plan: &UnitPlan) -> Option<String> {
    let mut stays = plan.leaving.iter().filter_map(|(member, leaving)| match leaving {
        Leaving::Stay(why) => Some((&member.object.id, why)),
        Leaving::Judge | Leaving::Forget(_) | Leaving::Shared(_) => None,
    });
    let (object, why) = stays.next()?;
    let more = stays.count();
    let and = if more > 0 { format!(" and {more} more that left") } else { String::new() };
    Some(format!("{object}{and} is not pruned for now: {why}"))
}

pub(super) fn finding(object: &ObjectId, reason: &str, message: &str) -> Finding {
    Finding { object: object.clone(), reason: reason.into(), message: message.into() }
}

/// What a report says beside what the state and the plan hold.
pub(super) struct ReportInput<'a> {
    /// Whether the unit is being worked on.
    pub(super) running: bool,
    pub(super) health: Option<UnitHealth>,
    pub(super) now: Timestamp,
    pub(super) unit_memory: Option<&'a UnitMemory>,
    pub(super) objects: usize,
    pub(super) desired: Option<Digest>,
}

/// The health of a unit that is applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct UnitHealth {
    pub(super) state: HealthState,
    pub(super) message: String,
    pub(super) findings: Vec<Finding>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HealthState {
    Ready,
    Waits,
    Failed,
}

/// Whether a unit waits for health at all.
pub(super) fn waits_for_health(manifest: &UnitManifest) -> bool {
    manifest.spec.wait || !manifest.spec.health_checks.is_empty()
}

#[cfg(test)]
#[path = "unit_state_tests.rs"]
mod tests;
