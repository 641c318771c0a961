//! The guard on the change: what all clusters together would lose by a round is judged before any of it is published.
//!
//! ```text
//!   waiting candidates ─┐                         ┌─► published: noted first, so that later parts count with it
//!   taken before ───────┼─► core::change::judge ──┤
//!   policy in force ────┘                         └─► held: those units stay as they are until somebody approves it
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use flotilla_core::change::{self, Finding, FleetSize, InForce, Losses, Policy, Severity, Sizes, Taken};
use flotilla_core::{Authority, ClusterName, Digest};
use flotilla_render::PolicyRead;

use super::cluster::ClusterError;
use super::decide::Candidate;
use super::worker::Worker;
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
    /// When this process read or began it: the machine's clock may jump, and an hour is one by both.
    begun: Option<Instant>,
    /// What waits that people were told of, and the warnings.
    told: BTreeSet<Digest>,
    warned: Vec<String>,
}

/// What waits for an approval, by whose word it is: each has a digest of its own, so that nobody can make another's a different
/// one before somebody has looked at it.
type Held = BTreeMap<Authority, Losses>;

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
        let losses: Losses =
            waiting.iter().map(|(name, candidate)| (name.clone(), candidate.loss())).collect();
        let size = self.size(&waiting, &policy);
        let judged = change::judge(&losses, &record.taken, &record.sizes, size, &policy);
        let mut held = Held::new();
        for (name, candidate) in &mut waiting {
            let units = judged.held(name);
            let held_here = losses[name].only(&units);
            for word in held_here.words() {
                held.entry(word.clone()).or_default().insert(name.clone(), held_here.of_word(word));
            }
            candidate.hold(&held_here.units);
            let released = losses[name].without(&units);
            if record.taken.is_empty() {
                record.since = unix_now();
                self.changes.begun = Some(Instant::now());
            }
            record.taken.add(name, &released);
            candidate.released = released.units;
        }
        record.sizes.settle(size, !record.taken.is_empty(), &held);
        // A tenant cannot write the policy, so what waits of his does not keep it as it is.
        record.in_force.settle(commit, read.as_ref(), held.contains_key(&Authority::Fleet));
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
            self.changes.begun = Some(Instant::now());
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
        let is_young =
            age <= TOGETHER.as_secs() || self.changes.begun.is_none_or(|begun| begun.elapsed() <= TOGETHER);
        let is_same = record.commit == commit && !record.taken.is_empty() && is_young;
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

    fn release(&mut self, waiting: BTreeMap<ClusterName, Candidate>, held: &Held) -> Failed {
        let mut publisher = self.publisher();
        for (name, candidate) in waiting {
            if held.values().any(|losses| losses.contains_key(&name)) {
                // It is judged again with each round.
                publisher.clusters.get_mut(&name).into_iter().for_each(|cluster| cluster.from = None);
            }
            publisher.publish(candidate);
        }
        publisher.flush();
        publisher.failed.into_iter().collect()
    }

    /// What people see of the change. Each thing is an event once.
    fn tell(&mut self, commit: &str, findings: Vec<Finding>, held: Held) -> Option<Change> {
        let text = |finding: &Finding| {
            let clusters = match finding.clusters.len() {
                1 => "1 cluster".to_owned(),
                count => format!("{count} clusters"),
            };
            format!("{finding}, in {clusters}")
        };
        let held = held.into_iter().map(|(word, losses)| {
            let digest = change::digest(&losses);
            let of = findings.iter().filter(|finding| finding.whose.stopped() == Some(&word));
            let why = format!(
                "{}: nothing of that happens until somebody approves it: `flotilla get changes`, `flotilla approve --change {}`",
                of.map(text).collect::<Vec<_>>().join("; "),
                digest.short()
            );
            HeldChange { word, digest, losses, why }
        });
        let held: Vec<HeldChange> = held.collect();
        for held in held.iter().filter(|held| !self.changes.told.contains(&held.digest)) {
            tracing::warn!(commit, "{}", held.why);
            self.note_now("ChangeHeld", held.why.clone());
        }
        let warnings = findings.iter().filter(|finding| finding.severity == Severity::Warning);
        let warnings: Vec<String> = warnings.map(text).collect();
        if !warnings.is_empty() && self.changes.warned != warnings {
            self.note_now("ChangeWarning", warnings.join("; "));
        }
        self.changes.told = held.iter().map(|held| held.digest).collect();
        let is_told = !held.is_empty() || !warnings.is_empty();
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
