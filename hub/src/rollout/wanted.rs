//! What a cluster would run of an older candidate: of one that passed its stage before it came, or that could not be rendered for it
//! when it was the newest. The engine asks, the fleet loop renders it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use flotilla_core::{ClusterName, Digest};
use flotilla_rollout::{CandidateId, Projection};
use flotilla_runtime::lock;

use super::Rollouts;
use crate::store::Snapshot;

/// An older candidate that is to be rendered for a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The pipeline.
    pub by: Arc<str>,
    pub candidate: CandidateId,
    /// Of the fleet repo.
    pub commit: Arc<str>,
    /// From which snapshots other clusters have it: they say what sources were at.
    pub like: BTreeSet<Digest>,
}

/// What a cluster comes to by an older candidate, with the snapshot that it is rendered from; or why that cannot be told.
pub type Answer = Result<(Arc<Snapshot>, Projection), String>;

impl Rollouts {
    /// What the last step wanted to know, but for what could not be rendered.
    pub fn wanted(&self) -> BTreeMap<ClusterName, Vec<Wanted>> {
        let inner = lock(&self.inner);
        let mut all: BTreeMap<ClusterName, Vec<Wanted>> = BTreeMap::new();
        for (name, kept) in &inner.pipelines {
            let mut like: BTreeMap<CandidateId, BTreeSet<Digest>> = BTreeMap::new();
            for (cluster, candidate) in kept.last.iter().flat_map(|step| &step.wanted) {
                let of = inner.clusters.get(cluster).and_then(|known| known.of.get(name.as_str()));
                let is_known = of.is_some_and(|of| {
                    of.lacking.contains_key(candidate) || of.older.iter().any(|(id, ..)| id == candidate)
                });
                let Some(commit) = kept.state.candidate(*candidate).filter(|_| !is_known) else { continue };
                let like = like.entry(*candidate).or_insert_with(|| kept.state.snapshots_of(*candidate));
                all.entry(cluster.clone()).or_default().push(Wanted {
                    by: name.as_str().into(),
                    candidate: *candidate,
                    commit: commit.commit.id.as_str().into(),
                    like: like.clone(),
                });
            }
        }
        all
    }

    /// Takes what was made of what was wanted.
    pub fn answered(&self, cluster: &ClusterName, by: &str, candidate: CandidateId, made: Answer) {
        let mut inner = lock(&self.inner);
        let of = inner.clusters.get_mut(cluster).and_then(|known| known.of.get_mut(by));
        let Some(of) = of else { return };
        of.lacking.remove(&candidate);
        match made {
            Ok((snapshot, projection)) => of.older.push((candidate, snapshot, Arc::new(projection))),
            Err(why) => drop(of.lacking.insert(candidate, why)),
        }
    }

    /// Something changed by which what could not be rendered may be.
    pub fn want_again(&self) {
        let mut inner = lock(&self.inner);
        let all = inner.clusters.values_mut().flat_map(|known| known.of.values_mut());
        all.for_each(|of| of.lacking.clear());
    }
}
