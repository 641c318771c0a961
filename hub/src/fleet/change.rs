//! The guard on the change: what all clusters together would lose by a round is judged before any of it is published.
//!
//! ```text
//!   waiting candidates ─┐                         ┌─► published: noted first, so that later parts count with it
//!   taken before ───────┼─► core::change::judge ──┤
//!   policy in force ────┘                         └─► held: those units stay as they are until somebody approves it
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use flotilla_core::change::{self, Finding, FleetSize, InForce, Losses, Policy, Severity, Sizes, Taken};
use flotilla_core::{ClusterName, Digest};
use flotilla_render::PolicyRead;

use super::cluster::ClusterError;
use super::decide::Candidate;
use super::round::Worker;
use crate::clock::unix_now;
use crate::store::{ChangeRecord, StoreError};
use crate::view::{Change, HeldChange};

/// For so long the losses of one commit count together.
const TOGETHER: Duration = Duration::from_secs(3_600);

/// What waits for the end of the round, and what was let go before.
#[derive(Default)]
pub(super) struct Changes {
    /// States that take something away.
    pub(super) waiting: BTreeMap<ClusterName, Candidate>,
    /// What is on disk of the policy and of what the commit took before; `None`: not read yet.
    record: Option<ChangeRecord>,
    /// The change that people were told of last, and the warnings.
    told: Option<Digest>,
    warned: Vec<String>,
}

type Failed = Vec<(ClusterName, ClusterError)>;

impl Worker {
    /// Publishes the states that take something away, or holds the units that would lose too much of the fleet; what could
    /// not be published comes back.
    pub(super) fn judge(&mut self, commit: &str, read: &PolicyRead) -> (Option<Change>, Failed) {
        let mut waiting = std::mem::take(&mut self.changes.waiting);
        let mut failed = self.refresh(&mut waiting);
        let mut record = match self.record(commit) {
            Ok(record) => record,
            Err(error) => return (None, failed_with(failed, waiting, error)),
        };
        let read = read.over(&self.change_policy);
        let policy = record.in_force.judging(commit, read.as_ref());
        let mut losses: Losses =
            waiting.iter().map(|(name, candidate)| (name.clone(), candidate.loss())).collect();
        let size = record.sizes.judging(self.size(&waiting, &policy), &mut losses);
        let judged = change::judge(&losses, &record.taken, size, &policy);
        let mut held = Losses::new();
        for (name, candidate) in &mut waiting {
            let units = judged.held(name);
            if !units.is_empty() {
                held.insert(name.clone(), losses[name].only(&units));
            }
            candidate.hold(&units);
            let released = losses[name].without(&units);
            if record.taken.is_empty() {
                record.since = unix_now();
            }
            record.taken.add(name, &released);
            candidate.released = released.units;
        }
        record.sizes.settle(size, !record.taken.is_empty(), &held);
        record.in_force.settle(commit, read.as_ref(), !held.is_empty());
        if self.changes.record.as_ref() != Some(&record) {
            // Before anything of it is published: after a stop in between, it counts.
            if let Err(error) = self.shared.ledger.set_change(&record) {
                return (None, failed_with(failed, waiting, error));
            }
            self.changes.record = Some(record);
        }
        failed.extend(self.release(waiting, &held));
        let change = self.tell(commit, judged.findings, held);
        (change, failed)
    }

    /// People may have said other things since it was rendered: what they suspended is rendered anew, what they approved
    /// counts.
    fn refresh(&self, waiting: &mut BTreeMap<ClusterName, Candidate>) -> Failed {
        let mut failed = Failed::new();
        waiting.retain(|name, candidate| match self.shared.ledger.facts(name) {
            Ok(facts) => {
                let is_good = facts.suspended == candidate.facts.suspended;
                candidate.facts = facts.into();
                is_good
            }
            Err(error) => {
                failed.push((name.clone(), error.into()));
                false
            }
        });
        failed
    }

    /// What is remembered, as it counts for this commit now.
    fn record(&mut self, commit: &str) -> Result<ChangeRecord, StoreError> {
        if self.changes.record.is_none() {
            self.changes.record = self.shared.ledger.change()?;
        }
        let now = unix_now();
        let started = |in_force, sizes| ChangeRecord {
            in_force,
            commit: commit.to_owned(),
            since: now,
            taken: Taken::default(),
            sizes,
        };
        let Some(record) = self.changes.record.clone() else {
            return Ok(started(InForce::new(self.change_policy.clone()), Sizes::default()));
        };
        let age = u64::try_from(now.saturating_sub(record.since)).unwrap_or_default();
        let is_same = record.commit == commit && !record.taken.is_empty() && age <= TOGETHER.as_secs();
        let since = if record.commit == commit && record.taken.is_empty() { record.since } else { now };
        Ok(if is_same {
            record
        } else {
            ChangeRecord { since, ..started(record.in_force, record.sizes.next()) }
        })
    }

    /// How large the fleet is without the clusters that do not count.
    fn size(&self, waiting: &BTreeMap<ClusterName, Candidate>, policy: &Policy) -> FleetSize {
        let mut size = FleetSize::default();
        for (name, cluster) in self.clusters.iter().filter(|(name, _)| !policy.exempt.contains(*name)) {
            size.units += match waiting.get(name) {
                // What it brings is not there yet.
                Some(candidate) => {
                    candidate.units.keys().filter(|id| candidate.facts.known.contains_key(id)).count()
                }
                None => self.shared.board.current(name).map_or(0, |published| published.state.units().len()),
            };
            let facts = waiting.get(name).map(|candidate| &candidate.facts).or(cluster.facts.as_ref());
            size.objects += facts.map_or(0, |facts| facts.declared.objects());
        }
        size
    }

    fn release(&mut self, waiting: BTreeMap<ClusterName, Candidate>, held: &Losses) -> Failed {
        let mut publisher = self.publisher();
        for (name, candidate) in waiting {
            if held.contains_key(&name) {
                // It is judged again with each round.
                publisher.clusters.get_mut(&name).into_iter().for_each(|cluster| cluster.from = None);
            }
            publisher.publish(candidate);
        }
        publisher.flush();
        publisher.failed.into_iter().collect()
    }

    /// What people see of the change. Each thing is an event once.
    fn tell(&mut self, commit: &str, findings: Vec<Finding>, held: Losses) -> Option<Change> {
        let clusters =
            |count: usize| if count == 1 { "1 cluster".to_owned() } else { format!("{count} clusters") };
        let of = |severity: Severity| {
            let of = findings.iter().filter(move |finding| finding.severity == severity);
            let texts = of.map(|finding| format!("{finding}, in {}", clusters(finding.clusters.len())));
            texts.collect::<Vec<String>>()
        };
        let held = (!held.is_empty()).then(|| {
            let digest = change::digest(&held);
            let why = format!(
                "{}: nothing of that happens until somebody approves it: `flotilla get changes`, `flotilla approve --change {}`",
                of(Severity::Stop).join("; "),
                digest.short()
            );
            HeldChange { digest, losses: held, why }
        });
        let warnings = of(Severity::Warning);
        if let Some(held) = held.as_ref().filter(|held| self.changes.told != Some(held.digest)) {
            tracing::warn!(commit, "{}", held.why);
            self.note_now("ChangeHeld", held.why.clone());
        }
        if !warnings.is_empty() && self.changes.warned != warnings {
            self.note_now("ChangeWarning", warnings.join("; "));
        }
        self.changes.told = held.as_ref().map(|held| held.digest);
        let is_told = held.is_some() || !warnings.is_empty();
        self.changes.warned = warnings;
        is_told.then(|| Change { commit: commit.to_owned(), findings, held })
    }
}

/// All that waits, too.
fn failed_with(mut failed: Failed, waiting: BTreeMap<ClusterName, Candidate>, error: StoreError) -> Failed {
    let error = Arc::new(error);
    failed.extend(waiting.into_keys().map(|name| (name, ClusterError::Change(error.clone()))));
    failed
}
