//! Publishes what clusters should run: what has to be on disk before an agent may see it is written first, for many clusters
//! with one sync.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use flotilla_core::change::Tally;
use flotilla_core::{ClusterName, DesiredState, Digest};

use super::asking::has_old_replies;
use super::change::Changes;
use super::cluster::{ClusterError, Made, Shared};
use super::decide::{Before, Candidate, decide};
use super::dirty::From;
use super::memory::Cluster;
use super::renderers::{Done, caught};
use crate::desired::Published;
use crate::store::{ClusterNotes, StoreError};
use crate::view::{Revision, Was};

/// What is written with one sync.
const TOGETHER: usize = 32;

/// What comes of renders, on its way to the board.
pub(super) struct Publisher<'a> {
    pub(super) shared: &'a Shared,
    pub(super) clusters: &'a mut HashMap<ClusterName, Cluster>,
    pub(super) changes: &'a mut Changes,
    /// The snapshots that are on record.
    pub(super) noted: &'a mut BTreeSet<Digest>,
    pub(super) batch: Vec<Candidate>,
    pub(super) failed: BTreeMap<ClusterName, ClusterError>,
}

/// A candidate whose notes are known.
struct Prepared {
    cluster: ClusterName,
    notes: ClusterNotes,
    state: DesiredState,
    candidate: Candidate,
    is_new: bool,
}

impl Publisher<'_> {
    /// Takes one cluster's render. What takes something away waits for the end of the round; an error keeps what the cluster runs.
    pub(super) fn take(&mut self, Done { mut task, made, is_late }: Done) {
        let name = task.cluster.name.clone();
        let cluster = self.clusters.entry(name.clone()).or_default();
        let shared = self.shared;
        let candidate = caught(|| -> Result<Option<Candidate>, ClusterError> {
            let mut rendered = match made? {
                Made::Anew(rendered) => *rendered,
                Made::Same => {
                    cluster.is_still(&task.commit);
                    if let Some(waiting) = self.changes.waiting.get_mut(&name) {
                        waiting.commit = task.commit.clone();
                    }
                    return Ok(None);
                }
            };
            let mut facts = task.facts.clone();
            if is_late {
                // The agent and people may have said other things meanwhile.
                facts = Arc::new(shared.ledger.facts(&name)?);
                if facts.suspended != task.facts.suspended {
                    cluster.from = None;
                    return Ok(None);
                }
                cluster.facts = Some(facts.clone());
            }
            // Else it would be copied.
            task.remembered = Arc::default();
            let remembered = Arc::make_mut(&mut cluster.remembered);
            if has_old_replies(&facts, &rendered.render) {
                shared.ledger.forget_replies(&name, &rendered.render.questions)?;
            }
            let newest = std::mem::take(&mut rendered.newest);
            shared.rollouts().rendered(&name, &task.choice, &rendered.snapshot, newest);
            for (wanted, made) in std::mem::take(&mut rendered.answers) {
                shared.rollouts().answered(&name, &wanted.by, wanted.candidate, made);
            }
            shared.board.ask(&name, std::mem::take(&mut rendered.render.questions));
            let read = Arc::new(std::mem::take(&mut rendered.read));
            let current = shared.board.current(&name);
            cluster.until = std::mem::replace(&mut cluster.at, task.commit.clone());
            let before = Before { shown: &cluster.shown, at: &cluster.until };
            let (shown, candidate) = decide(&task, rendered, facts, current.as_ref(), before, remembered);
            if *cluster.shown != shown {
                cluster.shown = Arc::new(shown);
            }
            let (definition, commit) = (task.cluster.clone(), task.commit.clone());
            let (facts, choice) = (task.facts.clone(), task.choice.clone());
            let from = From { definition, commit, facts, choice, read };
            cluster.from = Some(from).filter(|_| !std::mem::take(&mut cluster.is_stale));
            Ok(Some(candidate))
        });
        match candidate.unwrap_or_else(|panic| Err(panic.into())) {
            Ok(Some(candidate)) if Tally::from(&candidate.loss()).is_empty() => {
                self.changes.waiting.remove(&name);
                self.publish(candidate);
            }
            Ok(Some(candidate)) => drop(self.changes.waiting.insert(name, candidate)),
            Ok(None) => {}
            Err(error) => drop(self.failed.insert(name, error)),
        }
    }

    /// Publishes a candidate, with others that come soon.
    pub(super) fn publish(&mut self, candidate: Candidate) {
        self.batch.push(candidate);
        if self.batch.len() >= TOGETHER {
            self.flush();
        }
    }

    /// Publishes what still waits for others.
    pub(super) fn flush(&mut self) {
        let batch = std::mem::take(&mut self.batch);
        let prepared: Vec<Prepared> = batch.into_iter().map(|candidate| self.prepare(candidate)).collect();
        let all: Vec<_> = prepared
            .iter()
            .filter(|one| !one.notes.is_empty())
            .map(|one| (&one.cluster, &one.notes))
            .collect();
        let noted = self.note_snapshots(&prepared).and_then(|()| self.shared.ledger.note(&all));
        for one in prepared {
            // A record of one cluster that cannot be read must not hold up the others.
            let is_noted = match &noted {
                Ok(()) => Ok(()),
                Err(_) if one.notes.is_empty() => Ok(()),
                Err(_) => {
                    let noted = self.note_snapshots(std::slice::from_ref(&one));
                    noted.and_then(|()| self.shared.ledger.note(&[(&one.cluster, &one.notes)]))
                }
            };
            let name = one.cluster.clone();
            let done = is_noted.map_err(ClusterError::from).and_then(|()| self.show(one));
            if let Err(error) = done {
                self.failed.insert(name, error);
            }
        }
    }

    /// What is noted of clusters names only snapshots that are on record.
    fn note_snapshots(&mut self, prepared: &[Prepared]) -> Result<(), StoreError> {
        for one in prepared.iter().filter(|one| one.notes.at.is_some()) {
            let Some(cluster) = self.clusters.get(&one.cluster) else { continue };
            for snapshot in cluster.remembered.snapshots() {
                if !self.noted.contains(&snapshot.digest()) {
                    self.shared.ledger.note_snapshot(&snapshot)?;
                    self.noted.insert(snapshot.digest());
                }
            }
        }
        Ok(())
    }

    fn prepare(&mut self, mut candidate: Candidate) -> Prepared {
        let cluster = candidate.cluster.clone();
        let mut notes = candidate.take_notes();
        let units = std::mem::take(&mut candidate.units);
        let state = DesiredState::new(cluster.clone(), Default::default(), &*candidate.commit, units);
        let current = self.shared.board.current(&cluster);
        let is_new = current.is_none_or(|current| current.state.digest() != state.digest());
        let known = self.clusters.entry(cluster.clone()).or_default();
        let remembered = &known.remembered;
        notes.at = remembered.record(is_new);
        Prepared { cluster, notes, state, candidate, is_new }
    }

    /// What is noted goes to the board.
    fn show(&mut self, prepared: Prepared) -> Result<(), ClusterError> {
        let Prepared { cluster: name, notes, state, candidate, is_new } = prepared;
        let cluster = self.clusters.entry(name.clone()).or_default();
        let remembered = Arc::make_mut(&mut cluster.remembered);
        if let Some(at) = &notes.at {
            (remembered.noted, remembered.noted_at) = (at.clone(), remembered.at.clone());
        }
        if !notes.is_empty() {
            let facts = Arc::new(candidate.facts.with(&notes));
            if let Some(from) = &mut cluster.from {
                let is_same = from.facts == candidate.facts;
                from.facts = if is_same { facts.clone() } else { Arc::new(from.facts.with(&notes)) };
            }
            // What others wrote since this was decided is read again.
            let is_known = cluster.facts.as_ref().is_some_and(|known| *known == candidate.facts);
            cluster.facts = is_known.then_some(facts);
        }
        let was = Was { digest: state.digest(), commit: None, revision: Revision::default() };
        if remembered.ran.at(Some(was.digest)) != Some(&was) {
            remembered.ran.note(was, &cluster.until);
            Arc::make_mut(&mut cluster.shown).ran = remembered.ran.clone();
        }
        let Candidate { choice, chosen, .. } = &candidate;
        if !is_new {
            self.shared.board.reword(&state);
            self.shared.rollouts().published(&name, choice, chosen, state.units());
            return Ok(());
        }
        let generation = self.shared.ledger.next_generation()?;
        tracing::info!(cluster = name.as_str(), %generation, digest = state.digest().short(), "publishing");
        let state = Arc::new(state.at(generation));
        self.shared.rollouts().published(&name, choice, chosen, state.units());
        self.shared.board.publish(Published { state, bodies: Arc::new(candidate.bodies) });
        Ok(())
    }
}
