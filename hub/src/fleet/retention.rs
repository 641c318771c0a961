//! What is kept of commits, sources and snapshots: whatever a cluster's units last rendered from, and what was published of it
//! before, within a bound. Where that is not known, nothing goes.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use flotilla_core::{ClusterName, Digest};
use flotilla_source::CommitId;

use super::cluster::Shared;
use super::memory::Cluster;
use crate::sources::Draft;
use crate::store::Snapshot;
use crate::store::StoreError;

/// How often it is looked for what nobody uses any more.
const EVERY: Duration = Duration::from_secs(60);

#[derive(Default)]
pub(super) struct Retention {
    looked_at: Option<Instant>,
    /// The snapshots of rounds: a render may still be at work on them.
    drafts: Vec<Weak<Draft>>,
    /// Commits that are used, as far as that is known.
    commits: Option<BTreeSet<CommitId>>,
    /// Snapshots that are on record.
    pub(super) noted: BTreeSet<Digest>,
}

#[derive(Default)]
struct Used {
    snapshots: BTreeSet<Digest>,
    commits: BTreeSet<CommitId>,
    /// Revisions by what is fetched.
    sources: HashMap<Digest, BTreeSet<String>>,
}

impl Used {
    fn add(&mut self, snapshot: &Snapshot) {
        if self.snapshots.insert(snapshot.digest()) {
            self.commits.extend(snapshot.commit().parse::<CommitId>().ok());
            for at in snapshot.sources().values() {
                self.sources.entry(at.key).or_default().insert(at.revision.clone());
            }
        }
    }
}

impl Retention {
    /// A round begins to render.
    pub(super) fn begin(&mut self, draft: &Arc<Draft>) {
        self.drafts.retain(|draft| draft.strong_count() > 0);
        self.drafts.push(Arc::downgrade(draft));
    }

    /// What has to stay readable of the fleet repo while it is fetched; `None`: not known.
    pub(super) fn commits(&mut self, newest: Option<&CommitId>) -> Option<&BTreeSet<CommitId>> {
        let commits = self.commits.as_mut()?;
        // Whoever renders it may do so for long.
        commits.extend(newest.cloned());
        Some(commits)
    }

    /// Now and then: lets go of the snapshots and revisions that nobody uses.
    ///
    /// # Errors
    /// Where records cannot be read or removed; nothing more goes then.
    pub(super) fn collect(
        &mut self,
        shared: &Shared,
        clusters: &HashMap<ClusterName, Cluster>,
    ) -> Result<(), StoreError> {
        if self.looked_at.is_some_and(|at| at.elapsed() < EVERY) {
            return Ok(());
        }
        let mut used = Used::default();
        for remembered in clusters.values().map(|cluster| &cluster.remembered) {
            remembered.snapshots().iter().for_each(|snapshot| used.add(snapshot));
        }
        // Of clusters that Git does not define any more, or that were not rendered yet, too.
        let promoted = shared.rollouts().snapshots()?;
        for digest in shared.ledger.snapshots_in_use()?.into_iter().chain(promoted) {
            if used.snapshots.contains(&digest) {
                continue;
            }
            match shared.snapshot(digest)? {
                Some(snapshot) => used.add(&snapshot),
                None => drop(used.snapshots.insert(digest)),
            }
        }
        shared.ledger.keep_snapshots(&used.snapshots)?;
        let drafts: Vec<Arc<Draft>> = self.drafts.iter().filter_map(Weak::upgrade).collect();
        used.commits.extend(drafts.iter().filter_map(|draft| draft.commit().parse::<CommitId>().ok()));
        shared.sources.keep(used.sources, &drafts);
        shared.drop_snapshots();
        self.noted.retain(|digest| used.snapshots.contains(digest));
        (self.commits, self.looked_at) = (Some(used.commits), Some(Instant::now()));
        Ok(())
    }
}
