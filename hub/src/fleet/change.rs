//! The guard on the change: what all clusters together would lose by a round is judged before any of it is published.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use flotilla_core::change::{self, Losses};
use flotilla_core::{ClusterName, Digest};

use super::cluster::ClusterError;
use super::decide::Candidate;
use super::round::Worker;
use crate::view::HeldChange;

/// What people are told of each unit. It says nothing of other clusters, which not everybody may see.
const HELD: &str = "would be removed, and stays: the change would remove too much of the fleet at once, and waits for an \
                    approval (`flotilla get changes`)";

/// For so long the removals of one commit count together.
const TOGETHER: Duration = Duration::from_secs(3_600);

/// What waits for the end of the round, and what was let go before.
#[derive(Default)]
pub(super) struct Changes {
    /// States that remove units.
    pub(super) waiting: BTreeMap<ClusterName, Candidate>,
    /// What the commit removed so far: clusters that come later count with those before.
    removed: Losses,
    commit: String,
    since: Option<Instant>,
    /// The change that people were told of last.
    told: Option<Digest>,
}

impl Worker {
    /// Publishes the states that remove units, or holds those units if it is too much of the fleet; what could not be
    /// published comes back.
    pub(super) fn judge(&mut self, commit: &str) -> (Option<HeldChange>, Vec<(ClusterName, ClusterError)>) {
        let is_over = self.changes.since.is_none_or(|since| since.elapsed() > TOGETHER);
        if self.changes.commit != commit || is_over {
            self.changes.removed.clear();
            self.changes.since = Some(Instant::now());
            commit.clone_into(&mut self.changes.commit);
        }
        let mut waiting = std::mem::take(&mut self.changes.waiting);
        let mut failed = Vec::new();
        // People may have said other things since it was rendered: what they suspended is rendered anew, what they approved
        // counts.
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
        if waiting.is_empty() {
            self.changes.told = None;
            return (None, failed);
        }
        let losses: Losses =
            waiting.iter().map(|(name, candidate)| (name.clone(), candidate.losses())).collect();
        let published = |name: &ClusterName| {
            self.shared.board.current(name).map_or(0, |published| published.state.units().len())
        };
        let of = self.clusters.keys().map(|name| match waiting.get(name) {
            Some(candidate) => candidate.units.len(),
            None => published(name),
        });
        let excess = change::judge(&losses, &self.changes.removed, of.sum(), self.change_budget);
        let held = excess.map(|excess| {
            let digest = change::digest(&losses);
            let why = format!(
                "the change would remove {} of the fleet's {} units, in {} clusters; nothing of that is removed until somebody \
                 approves it: `flotilla get changes`, `flotilla approve --change {}`",
                excess.units,
                excess.of,
                excess.clusters,
                digest.short()
            );
            HeldChange { digest, commit: commit.to_owned(), losses: losses.clone(), of: excess.of, why }
        });
        let names: Vec<ClusterName> = waiting.keys().cloned().collect();
        let mut publisher = self.publisher();
        for (name, mut candidate) in waiting {
            if held.is_some() {
                candidate.hold(&losses[&name], HELD);
                // It is judged again with each round.
                publisher.clusters.get_mut(&name).into_iter().for_each(|cluster| cluster.from = None);
            }
            publisher.publish(candidate);
        }
        publisher.flush();
        let not_published = publisher.failed;
        if held.is_none() {
            for name in names.iter().filter(|name| !not_published.contains_key(name)) {
                let removed = self.changes.removed.entry(name.clone()).or_default();
                removed.extend(losses[name].iter().cloned());
            }
        }
        failed.extend(not_published);
        if let Some(held) = held.as_ref().filter(|held| self.changes.told != Some(held.digest)) {
            tracing::warn!(commit, "{}", held.why);
            self.note_now("ChangeHeld", held.why.clone());
        }
        self.changes.told = held.as_ref().map(|held| held.digest);
        (held, failed)
    }
}
