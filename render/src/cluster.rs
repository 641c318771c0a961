//! All units and sources of one cluster: the root, what its output defines, what that defines, and so on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use flotilla_core::authority::Authority;
use flotilla_core::question::Question;
use flotilla_core::report::Problem;
use flotilla_core::source::SourceId;
use flotilla_core::unit::UnitManifest;
use flotilla_core::{Digest, UnitId};
use flotilla_kustomize::files::{ReadError, TreePath};

use crate::ask::{Ask, NobodyToAsk};
use crate::attempts::{Attempts, Untold};
use crate::budget::Budget;
use crate::cache::RenderCache;
use crate::content::{Content, Definition};
use crate::fleet::ClusterDefinition;
use crate::footprint::Recorder;
use crate::helm::{Asked, NothingRendered, Renders};
use crate::source::{Artifact, RenderedSource, Revision, Sources};
use crate::{checks, clashes, walk};

/// A unit that can be sent: its manifest and the bodies of its objects.
#[derive(Debug, Clone, PartialEq)]
pub struct Unit {
    pub manifest: Arc<UnitManifest>,
    pub content: Arc<Content>,
}

/// One unit of a cluster, rendered or not.
#[derive(Debug, Clone, PartialEq)]
pub struct RenderedUnit {
    /// `None` for the root.
    pub parent: Option<UnitId>,
    /// As its parent's output has it; of a unit whose definition is wrong, where that stands.
    pub definition: Arc<Definition>,
    /// That of its source; `None` where there is none to use.
    pub revision: Option<Revision>,
    /// By Git or by hand: what it defines is taken from its last good output, where there is one.
    pub suspended: bool,
    /// How far what its output defines may reach.
    pub authority: Authority,
    /// What it comes to; `None` holds the unit, for the errors among `problems`.
    pub unit: Option<Unit>,
    pub problems: Vec<Problem>,
}

impl RenderedUnit {
    /// Why it is held, where it is: its first error.
    pub fn hold_reason(&self) -> String {
        let error = self.problems.iter().find(|problem| !problem.notice);
        error.map_or_else(|| "it does not render".to_owned(), ToString::to_string)
    }
}

/// What a cluster's root path comes to.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ClusterRender {
    pub units: BTreeMap<UnitId, Arc<RenderedUnit>>,
    /// Every source that a unit's output defines, the fleet repo's own object left out.
    pub sources: BTreeMap<SourceId, RenderedSource>,
    /// Releases that helm has to render first, by key: their units are held until it has.
    pub requests: BTreeMap<Digest, Asked>,
    /// What it asked of the cluster, whether that was answered or not.
    pub questions: BTreeSet<Question>,
}

impl ClusterRender {
    pub(crate) fn unit_mut(&mut self, id: &UnitId) -> Option<&mut RenderedUnit> {
        self.units.get_mut(id).map(Arc::make_mut)
    }

    /// Whether `parent` rendered completely and does not define `child`: the only reason to remove a unit. A
    /// suspended parent changes nothing below it.
    pub fn dropped(&self, parent: &UnitId, child: &UnitId) -> bool {
        let Some(parent) = self.units.get(parent).filter(|parent| !parent.suspended) else { return false };
        parent.unit.as_ref().is_some_and(|parent| !parent.content.defines(child))
    }
}

/// What a cluster is rendered from.
#[derive(Clone, Copy)]
pub struct Inputs<'a> {
    /// The fleet repo at one commit, whole: what Flux would leave out of its artifact is left out here.
    pub fleet: &'a Artifact,
    /// The folder of clusters in it.
    pub clusters: &'a TreePath,
    pub cache: &'a RenderCache,
    pub budget: Budget,
    /// Is told what is worked on.
    pub attempts: &'a dyn Attempts,
    /// All other sources, as this cluster may see them.
    pub sources: &'a dyn Sources,
    /// Manifests that helm has given.
    pub renders: &'a dyn Renders,
    /// The version of the cluster's Kubernetes, as `v1.36.3`. Releases are held while it is not known.
    pub kube_version: Option<&'a str>,
    /// Whom to ask what only the cluster knows.
    pub ask: &'a dyn Ask,
    /// A variable that is not set and has no default is an error, where neither the cluster nor its Flux says otherwise.
    pub strict: bool,
    /// What people suspended by hand.
    pub suspended: &'a dyn Fn(&UnitId) -> bool,
    /// The content that a unit last rendered to while it was not suspended. What it defines stands in where the unit
    /// does not render now, or is suspended.
    pub last_good: &'a dyn Fn(&UnitId) -> Option<Arc<Content>>,
    /// Takes down what is read.
    pub recorder: Option<&'a Recorder>,
}

impl<'a> Inputs<'a> {
    /// Nothing suspended, nothing remembered.
    pub fn new(
        fleet: &'a Artifact,
        clusters: &'a TreePath,
        cache: &'a RenderCache,
        sources: &'a dyn Sources,
    ) -> Self {
        Self {
            fleet,
            clusters,
            cache,
            budget: Budget::default(),
            attempts: &Untold,
            sources,
            renders: &NothingRendered,
            kube_version: None,
            ask: &NobodyToAsk,
            strict: true,
            suspended: &|_| false,
            last_good: &|_| None,
            recorder: None,
        }
    }
}

/// Renders a cluster.
///
/// # Errors
/// Only if the tree of the fleet repo cannot be read: then nothing is known of the cluster.
pub fn render_cluster(inputs: &Inputs<'_>, cluster: &ClusterDefinition) -> Result<ClusterRender, ReadError> {
    let mut render = walk::walk(inputs, cluster)?;
    if settle(&mut render, inputs.last_good) {
        inputs.recorder.inspect(|recorder| recorder.is_one_piece());
    }
    Ok(render)
}

/// What only all units of a cluster together can tell: who has an object that several declare, and whether there is what
/// somebody depends on. Also for units that were rendered from different snapshots. Whether a unit is without something for
/// what another one declares.
pub fn settle(render: &mut ClusterRender, last_good: &dyn Fn(&UnitId) -> Option<Arc<Content>>) -> bool {
    let any = clashes::settle(render, last_good);
    checks::check_dependencies(render);
    any
}

/// Renders a cluster, has `helm` answer the releases that it asks for, and renders again with what they put out, which may
/// define other releases. This is how the hub and the CLI render.
///
/// It ends for every input: each turn asks for a release that was not asked for before, and there are `turns` at most.
/// What is still asked for then stands in [`ClusterRender::requests`].
///
/// # Errors
/// As [`render_cluster`].
pub fn render_in_turns(
    inputs: &Inputs<'_>,
    cluster: &ClusterDefinition,
    turns: usize,
    mut helm: impl FnMut(BTreeMap<Digest, Asked>),
) -> Result<ClusterRender, ReadError> {
    let mut asked: BTreeSet<Digest> = BTreeSet::new();
    let mut render = render_cluster(inputs, cluster)?;
    for _ in 0..turns {
        let is_new = |key: &Digest| !asked.contains(key);
        let new: BTreeMap<Digest, Asked> =
            std::mem::take(&mut render.requests).into_iter().filter(|(key, _)| is_new(key)).collect();
        if new.is_empty() {
            break;
        }
        asked.extend(new.keys().copied());
        helm(new);
        render = render_cluster(inputs, cluster)?;
    }
    Ok(render)
}
