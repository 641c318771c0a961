//! Promotion in a round: who is in which stage before anything is rendered, and what each cluster is given of what was.
//!
//! ```text
//!   begin_promotion ─► choices ─► tasks, render ─► promote ─► other choices? render these clusters again
//! ```

use std::sync::Arc;
use std::time::Duration;

use flotilla_core::ClusterName;
use flotilla_core::report::Problem;
use flotilla_render::Fleet;
use flotilla_rollout::world::Author;
use flotilla_runtime::tasks::chain;

use super::round::Resolved;
use super::tasks::Task;
use super::worker::Worker;
use crate::clock::unix_now;
use crate::rollout::{Definitions, Member};
use crate::store::StoreError;
use crate::view::FleetView;

/// How often one round decides anew by what it published.
const PROMOTIONS: usize = 3;

impl Worker {
    /// Puts clusters into the stages of pipelines; whether there are any.
    pub(super) fn begin_promotion(&mut self, fleet: &Fleet) -> Result<bool, StoreError> {
        let rollouts = self.shared.rollouts();
        let definitions = self.pipelines(fleet);
        if definitions.is_empty() && rollouts.is_idle() {
            self.choices.clear();
            return Ok(false);
        }
        let there = fleet.clusters.iter().map(|(name, cluster)| (name, Some(&cluster.policy.labels)));
        let unclear = fleet.unclear.keys().map(|name| (name, None));
        let member = |(name, labels)| {
            let known = self.clusters.get(name).and_then(|cluster| cluster.facts.as_ref());
            let is_enrolled = match known {
                Some(facts) => facts.has_agent,
                None => self.shared.ledger.facts(name).map_or(true, |facts| facts.has_agent),
            };
            Member { name, labels, is_enrolled }
        };
        let members: Vec<Member<'_>> = there.chain(unclear).map(member).collect();
        let promotes = rollouts.begin(definitions, &members, fleet.in_part, unix_now())?;
        self.choices = rollouts.choices();
        Ok(promotes)
    }

    /// The pipelines of the fleet repo.
    fn pipelines(&self, fleet: &Fleet) -> Definitions {
        #[cfg(test)]
        if let Some(definitions) = &self.definitions {
            return definitions.clone();
        }
        Definitions::of(&fleet.pipelines)
    }

    /// Decides by what was rendered, and renders what is chosen otherwise then; the tasks that found no place come back.
    pub(super) fn promote(&mut self, resolved: &Resolved, view: &mut FleetView) -> Vec<Task> {
        let mut unplaced = Vec::new();
        for _ in 0..PROMOTIONS {
            match self.choose(&resolved.commit) {
                Ok(has_chosen) => {
                    self.wanted = self.shared.rollouts().wanted();
                    if !has_chosen && self.wanted.is_empty() {
                        break;
                    }
                    let tasks = self.tasks(resolved);
                    unplaced.extend(self.render(tasks));
                }
                Err(error) => {
                    let message = format!("nothing is promoted: {}", chain(&error));
                    tracing::warn!("{message}");
                    view.problems.push(Problem::error("", 0, message));
                    break;
                }
            }
        }
        unplaced
    }

    /// Whether any cluster is to be rendered by another choice.
    fn choose(&mut self, commit: &Arc<str>) -> Result<bool, StoreError> {
        let Some(head) = &self.head else { return Ok(false) };
        let newest = flotilla_rollout::Commit {
            id: head.commit.id.as_str().to_owned(),
            author: Author { name: head.commit.author.clone(), email: head.commit.email.clone() },
            subject: head.commit.subject.clone(),
            time: head.commit.time.as_second(),
        };
        let is_current = |name: &ClusterName| {
            let from = self.clusters.get(name).and_then(|cluster| cluster.from.as_ref());
            from.is_some_and(|from| from.commit == *commit)
        };
        let rollouts = self.shared.rollouts();
        let has_chosen = rollouts.decide(newest, is_current, unix_now())?;
        self.choices = rollouts.choices();
        Ok(has_chosen)
    }

    /// In how long the pipelines go on by themselves.
    pub(super) fn next_promotion(&self) -> Option<Duration> {
        let next = self.shared.rollouts().next()? - unix_now();
        Some(Duration::from_secs(u64::try_from(next).unwrap_or(0).max(1)))
    }

    /// Whether what agents report decides about anything.
    pub(super) fn promotes(&self) -> bool {
        self.shared.rollouts().promotes()
    }
}
