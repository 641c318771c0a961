//! What a round has to render: a task for each cluster of which anything changed, with all that its render is made from.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use flotilla_core::Digest;
use flotilla_kustomize::files::{Entry, Files, ReadError, TreePath};
use flotilla_render::{Artifact, ClusterDefinition, ClusterRoot, Held};

use super::Facts;
use super::cluster::Read;
use super::dirty::{Known, Look, Woken};
use super::memory::{Cluster, Remembered};
use super::round::{PATIENCE, Resolved};
use super::worker::Worker;
use crate::desired::choice::Choice;
use crate::rollout::Wanted;
use crate::sources::Draft;
use crate::store::{Snapshot, StoreError};

/// One cluster to be rendered.
#[derive(Clone)]
pub(super) struct Task {
    pub(super) cluster: ClusterDefinition,
    pub(super) commit: Arc<str>,
    /// The folder within which its root is: repository, branch and the fleet's path.
    pub(super) base: Arc<str>,
    /// From which snapshots its units are to be taken.
    pub(super) choice: Arc<Choice>,
    pub(super) tree: Artifact,
    /// The snapshots that may have to be rendered too, with the fleet repo's files.
    pub(super) older: Vec<(Arc<Snapshot>, Artifact)>,
    pub(super) remembered: Arc<Remembered>,
    /// Its last render still holds if this is the same at the commit.
    pub(super) if_same: Option<Arc<Read>>,
    /// What is known of that, for all clusters of the round.
    pub(super) held: Arc<Held>,
    /// What people and its agent say.
    pub(super) facts: Arc<Facts>,
    /// The snapshot that it is rendered from, in the making.
    pub(super) draft: Arc<Draft>,
    /// The keys of what helm rendered for any cluster, as of this round; `None` where that is not known.
    pub(super) known_renders: Arc<OnceLock<Option<BTreeSet<Digest>>>>,
    /// Until when this round waits for helm.
    pub(super) helm_until: Instant,
    /// Older candidates of which it is asked what it comes to.
    pub(super) asked: Vec<AskedOf>,
    /// Nobody waits for it any more: it ends as soon as it can.
    pub(super) is_ended: Arc<AtomicBool>,
}

/// An older candidate that a cluster is to be rendered from.
#[derive(Clone)]
pub(super) struct AskedOf {
    pub(super) wanted: Wanted,
    /// With what sources other clusters have it.
    pub(super) like: Arc<Snapshot>,
    /// The fleet repo's files then; `None`: they cannot be read.
    pub(super) tree: Option<Artifact>,
}

impl Worker {
    /// What is to be rendered: the clusters of which anything changed, but those that are still being rendered.
    pub(super) fn tasks(&mut self, resolved: &Resolved) -> Vec<Task> {
        let Resolved { commit, tree, fleet, draft } = resolved;
        let shared = self.shared.clone();
        for name in shared.ledger.changed() {
            self.clusters.get_mut(&name).into_iter().for_each(|cluster| cluster.facts = None);
        }
        let (woken, secrets_changed) = (self.woken, self.secrets_changed);
        (self.woken, self.secrets_changed) = (Woken::ByFacts, false);
        if woken == Woken::ByAnything {
            shared.rollouts().want_again();
        }
        let mut wanted = std::mem::take(&mut self.wanted);
        if self.repo.is_none() {
            // They are looked into once it was fetched.
            wanted.clear();
        }
        let held = Arc::<Held>::default();
        let look = Look { shared: &shared, woken, secrets_changed, commit, draft };
        let known_renders = Arc::<OnceLock<Option<BTreeSet<Digest>>>>::default();
        let helm_until = Instant::now() + PATIENCE;
        let under_way = self.renderers.overdue();
        let base: Arc<str> = format!("{} {} {}", self.source.url, self.source.reference, self.path).into();
        let newest = Arc::<Choice>::default();
        let mut opened = BTreeMap::new();
        let mut alike = BTreeMap::new();
        let mut tasks = Vec::new();
        for (name, definition) in &fleet.clusters {
            if under_way.contains_key(name) {
                self.clusters.entry(name.clone()).or_default().is_stale |= secrets_changed;
                continue;
            }
            if !self.clusters.contains_key(name) {
                self.clusters.insert(name.clone(), Cluster::default());
            }
            let Some(cluster) = self.clusters.get_mut(name) else { continue };
            let choice = self.choices.get(name);
            #[cfg(test)]
            let choice = self.forced.get(name).or(choice);
            let choice = choice.unwrap_or(&newest).clone();
            let wanted = wanted.remove(name).unwrap_or_default();
            let (facts, if_same) = match cluster.look_at(&look, definition, &choice) {
                Ok((facts, Known::Same | Known::IfSame(_))) if !wanted.is_empty() => (facts, None),
                Ok((_, Known::Same)) => continue,
                Ok((facts, Known::IfSame(read))) => (facts, Some(read)),
                Ok((facts, Known::Nothing)) => (facts, None),
                Err(error) => {
                    self.failed(name, &error);
                    continue;
                }
            };
            let remembered = cluster.remembered.clone();
            let has_choice = !choice.is_newest();
            let mut snapshots =
                if remembered.is_forgotten || has_choice { remembered.snapshots() } else { Vec::new() };
            match shared.snapshots_of(&choice) {
                Ok(chosen) => snapshots.extend(chosen),
                Err(error) => {
                    self.failed(name, &error.into());
                    continue;
                }
            }
            let older = self.repo.as_ref().map(|repo| repo.older(snapshots, &mut opened));
            let open = |wanted: Wanted| {
                let of = (wanted.by.clone(), wanted.candidate);
                let at = match alike.get(&of) {
                    Some(at) => Arc::clone(at),
                    None => alike.entry(of).or_insert(shared.like(&wanted)?).clone(),
                };
                let then = self.repo.as_ref().map(|repo| repo.older(vec![at.clone()], &mut opened));
                let tree = then.unwrap_or_default().pop().map(|(_, tree)| tree);
                Ok::<_, StoreError>(AskedOf { wanted, like: at, tree })
            };
            let asked = match wanted.into_iter().map(open).collect() {
                Ok(asked) => asked,
                Err(error) => {
                    self.failed(name, &error.into());
                    continue;
                }
            };
            tasks.push(Task {
                cluster: definition.clone(),
                commit: commit.clone(),
                base: base.clone(),
                choice,
                tree: tree.clone(),
                older: older.unwrap_or_default(),
                remembered,
                if_same,
                held: held.clone(),
                facts,
                draft: draft.clone(),
                known_renders: known_renders.clone(),
                helm_until,
                asked,
                is_ended: Arc::new(AtomicBool::new(false)),
            });
        }
        tasks
    }
}

impl Task {
    /// Where its root is: repository, branch and folder. What left together with a change of it may have left by mistake.
    pub(super) fn place_of(&self, root: &ClusterRoot) -> String {
        format!("{}/{}", self.base, root.path)
    }

    /// The same files, which cannot be read any more once the task is ended: so a render ends that nobody waits for.
    pub(super) fn stoppable(&self, tree: &Artifact) -> Artifact {
        let files = Arc::new(Stoppable { files: tree.files.clone(), is_ended: self.is_ended.clone() });
        Artifact { files, ..tree.clone() }
    }
}

struct Stoppable {
    files: Arc<dyn Files>,
    is_ended: Arc<AtomicBool>,
}

impl Stoppable {
    fn look(&self, path: &TreePath) -> Result<&dyn Files, ReadError> {
        if self.is_ended.load(Ordering::Relaxed) {
            return Err(ReadError { path: path.clone(), reason: "the render was given up".to_owned() });
        }
        Ok(&*self.files)
    }
}

impl Files for Stoppable {
    fn entry(&self, path: &TreePath) -> Result<Option<Entry>, ReadError> {
        self.look(path)?.entry(path)
    }

    fn read(&self, path: &TreePath) -> Result<Arc<[u8]>, ReadError> {
        self.look(path)?.read(path)
    }

    fn list(&self, folder: &TreePath) -> Result<Vec<(String, Entry)>, ReadError> {
        self.look(folder)?.list(folder)
    }
}
