//! A cluster as older snapshots have it: what its units may be taken from, what they last were before a restart, and what a
//! candidate that is still to come would be.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use flotilla_core::desired::KnownUnit;
use flotilla_core::{Digest, UnitId};
use flotilla_kustomize::files::ReadError;
use flotilla_render::{
    Artifact, ClusterDefinition, ClusterRender, ClusterRoot, Content, Inputs, Recorder, discover,
    render_cluster,
};

use super::cluster::{Read, Shared};
use super::tasks::{AskedOf, Task};
use crate::attempts::Doing;
use crate::desired::choice::{Taken, projection};
use crate::rollout::Answer;
use crate::sources::{At, ClusterSources, SourcesRead};
use crate::store::Snapshot;

/// What of a cluster's units is not from the newest snapshot.
#[derive(Default)]
pub(super) struct Older {
    /// The newest render, where some units are not taken from it.
    pub(super) newest: Option<ClusterRender>,
    pub(super) taken: BTreeMap<UnitId, Taken>,
    pub(super) renders: BTreeMap<Digest, Result<ClusterRender, String>>,
    pub(super) snapshots: Vec<Arc<Snapshot>>,
    /// What the cluster's root was at each of them.
    pub(super) roots: BTreeMap<Digest, ClusterRoot>,
}

/// A cluster as an older snapshot has it.
struct Then {
    render: ClusterRender,
    read: SourcesRead,
    cluster: ClusterDefinition,
}

impl Shared {
    /// What a cluster comes to by an older candidate. Sources are as other clusters have them of it, and else as they are now.
    pub(super) fn answer(
        &self,
        task: &Task,
        asked: &AskedOf,
        known: &BTreeMap<UnitId, KnownUnit>,
        newest: &Snapshot,
        now: &Inputs<'_>,
        doing: &Doing<'_>,
    ) -> Result<Answer, ReadError> {
        let AskedOf { wanted, like, tree } = asked;
        let Some(tree) = tree else {
            return Ok(Err(format!("commit {} cannot be read any more", wanted.commit)));
        };
        let Some(part) = task.choice.parts.iter().find(|part| part.by == wanted.by) else {
            return Ok(Err(format!("the pipeline {} does not claim any of its units", wanted.by)));
        };
        let mut sources = newest.sources().clone();
        sources.extend(like.sources().clone());
        let whole = Snapshot::new(wanted.commit.clone(), sources);
        let inputs = Inputs { recorder: None, ..*now };
        let Some(then) = self.render_then(task, &whole, tree, &inputs, Some(doing))? else {
            return Ok(Err(format!(
                "the definition of this cluster in commit {} cannot be read",
                wanted.commit
            )));
        };
        let read = whole.sources().iter().filter(|(name, _)| then.read.named.contains(name));
        let sources = read.map(|(name, at)| (*name, at.clone())).collect();
        let snapshot = self.interned(Snapshot::new(wanted.commit.clone(), sources));
        let made = projection(&then.render, &part.claimed, known, snapshot.digest());
        Ok(made.map(|made| (snapshot, made)).ok_or_else(|| unrendered(&then.render)))
    }

    /// The cluster at the older snapshots that its units may be taken from.
    pub(super) fn older(
        &self,
        task: &Task,
        needs: BTreeSet<Digest>,
        newest_at: Digest,
        now: &Inputs<'_>,
        doing: &Doing<'_>,
        read: &mut Read,
    ) -> Result<Older, ReadError> {
        let mut older = Older::default();
        for snapshot in needs.into_iter().filter(|snapshot| *snapshot != newest_at) {
            let lost = || Err("the snapshot that it is to be taken from cannot be read any more".to_owned());
            let render = match task.older.iter().find(|(at, _)| at.digest() == snapshot) {
                None => lost(),
                Some((at, tree)) => {
                    older.snapshots.push(at.clone());
                    let recorder = Recorder::default();
                    let inputs = Inputs { recorder: Some(&recorder), ..*now };
                    let then = self.render_then(task, at, tree, &inputs, Some(doing))?;
                    let footprint = recorder.taken();
                    read.footprint.open_if(footprint.is_open());
                    read.older.push(footprint);
                    match then {
                        Some(Then { render, read: then, cluster }) => {
                            read.sources.secrets |= then.secrets;
                            older.roots.insert(snapshot, cluster.root);
                            Ok(render)
                        }
                        None => Err(
                            "the cluster's definition in the snapshot that it is to be taken from cannot be read"
                                .to_owned(),
                        ),
                    }
                }
            };
            older.renders.insert(snapshot, render);
        }
        Ok(older)
    }

    /// What units last rendered to, and whether all snapshots that say so could be rendered.
    pub(super) fn recall(&self, task: &Task, now: &Inputs<'_>) -> (HashMap<UnitId, Arc<Content>>, bool) {
        let remembered = &task.remembered;
        let mut found: HashMap<UnitId, Arc<Content>> = HashMap::new();
        // One whose commit cannot be looked into is not among them.
        let snapshots = remembered.snapshots();
        let older = task.older.iter().filter(|(snapshot, _)| snapshots.contains(snapshot));
        let older: Vec<_> = older.collect();
        let mut is_whole = older.len() == snapshots.len();
        for (snapshot, tree) in older {
            // What the root was may stand in another snapshot, which was looked at before.
            let last_good = |id: &UnitId| found.get(id).cloned();
            let inputs = Inputs { last_good: &last_good, suspended: &|_| false, recorder: None, ..*now };
            match self.render_then(task, snapshot, tree, &inputs, None) {
                Ok(Some(Then { render, read, .. })) => {
                    is_whole &= read.used.values().all(Option::is_some);
                    let is_of = |id: &UnitId| remembered.good(id).is_some_and(|good| good == snapshot);
                    let units = render.units.into_iter().filter(|(id, _)| is_of(id));
                    found
                        .extend(units.filter_map(|(id, rendered)| {
                            Some((id, rendered.unit.as_ref()?.content.clone()))
                        }));
                }
                Ok(None) => {}
                Err(error) => {
                    let (cluster, commit) = (task.cluster.name.as_str(), &**snapshot.commit());
                    tracing::warn!(cluster, commit, "cannot render an older snapshot: {error}");
                    is_whole = false;
                }
            }
        }
        (found, is_whole)
    }

    /// The cluster from an older snapshot; `None`: its definition there cannot be read. Without `doing`, helm is not asked.
    fn render_then(
        &self,
        task: &Task,
        snapshot: &Snapshot,
        tree: &Artifact,
        now: &Inputs<'_>,
        doing: Option<&Doing<'_>>,
    ) -> Result<Option<Then>, ReadError> {
        let (name, policy) = (&task.cluster.name, &task.cluster.policy);
        let tree = task.stoppable(tree);
        let mut found = discover(&*tree.files, &self.clusters)?;
        let then = match found.clusters.remove(name) {
            Some(then) => then,
            None if found.in_part || found.unclear.contains_key(name) => return Ok(None),
            // It came later: what is promoted to it is what the commit makes of it as it is defined now.
            None => task.cluster.clone(),
        };
        let sources = ClusterSources::new(&self.sources, At::Then(snapshot), name, &policy.groups);
        let inputs = Inputs { fleet: &tree, sources: &sources, ..*now };
        let cluster = ClusterDefinition { policy: policy.clone(), ..then };
        let render = match doing {
            None => render_cluster(&inputs, &cluster)?,
            Some(doing) => self.in_turns(&inputs, &cluster, task, doing)?,
        };
        Ok(Some(Then { render, read: sources.read(), cluster }))
    }
}

impl Older {
    /// The snapshot that a unit is taken from, where that is not the newest.
    pub(super) fn snapshot_of(&self, id: &UnitId) -> Option<&Arc<Snapshot>> {
        let Some(Taken::At(digest)) = self.taken.get(id) else { return None };
        self.snapshots.iter().find(|snapshot| snapshot.digest() == *digest)
    }

    /// The cluster's root, where that is not of the newest snapshot.
    pub(super) fn root(&self) -> Option<&ClusterRoot> {
        self.roots.get(&self.snapshot_of(&UnitId::root())?.digest())
    }
}

/// Why some unit of a render is held.
fn unrendered(render: &ClusterRender) -> String {
    let held = render.units.iter().find(|(_, unit)| unit.unit.is_none());
    let Some((id, unit)) = held else { return "none of its units can be told".to_owned() };
    let why = unit.problems.first().map_or("it is held", |problem| problem.message.as_str());
    format!("{id}: {why}")
}
