//! A cluster's render made of its last one, where a commit changed only what some of its units are built from.
//!
//! ```text
//!   last render, what it read ──► the units that read what changed ──► built again ──► put in the place of what they were
//!                                                                           │
//!                                   what decides about other units differs ─┴─► the whole cluster is rendered again
//! ```
//!
//! What comes of it equals a whole render, which a property test holds it to. Where that cannot be told nothing comes of it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use flotilla_core::source::{ArtifactGenerator, Source, SourceId};
use flotilla_core::template::{ValuesKind, ValuesRef};
use flotilla_core::{Object, ObjectId, UnitId};
use flotilla_kustomize::files::ReadError;
use flotilla_sops::service::{Answer, Ask};

use crate::clashes::declared_twice;
use crate::cluster::{ClusterRender, Inputs, RenderedUnit, Unit};
use crate::content::{self, Content, Recipe};
use crate::flux::components::Lockdown;
use crate::footprint::{Build, Footprint, Recorder};
use crate::source::{Artifact, RemoteBase, Revision, Sources, Unavailable};
use crate::walk::MOST_PROBLEMS;

/// Renders a cluster of which only these units read something of the fleet repo that has changed since. `before` is what
/// [`crate::render_cluster`] last gave for it, and `read` what that read; all else is as it was then, which is for the caller to know.
/// `None`: the cluster has to be rendered as a whole.
///
/// # Errors
/// If the tree of the fleet repo cannot be read.
pub fn splice(
    inputs: &Inputs<'_>,
    before: &ClusterRender,
    read: &Footprint,
    changed: &BTreeSet<UnitId>,
) -> Result<Option<(ClusterRender, Footprint)>, ReadError> {
    let root = before.units.get(&UnitId::root()).and_then(|root| root.unit.as_ref());
    let Some(root) = root.filter(|_| read.is_in_parts() && !changed.contains(&UnitId::root())) else {
        return Ok(None);
    };
    let cluster = Cluster {
        before,
        read,
        no_remote_bases: Lockdown::of(&root.content.controllers).0.no_remote_bases,
        has_releases: before.units.values().any(|unit| unit.definition.release.is_some()),
    };
    let (recorder, outside) = (Recorder::default(), Outside::default());
    let anew = Inputs { recorder: Some(&recorder), sources: &outside, ..*inputs };
    let mut spent = read.spent.clone();
    let mut units = BTreeMap::new();
    for id in changed {
        let Some(old) = before.units.get(id) else { return Ok(None) };
        let Some(was) = &old.unit else { return Ok(None) };
        let Some(content) = cluster.content(&anew, id, old, was)? else { return Ok(None) };
        let account = was.manifest.spec.service_account.as_ref();
        spent.give_back(account, was.content.weight);
        if spent.content(&inputs.budget, account, content.weight).is_err() {
            return Ok(None);
        }
        let Some(unit) = spliced(old, was, content) else { return Ok(None) };
        units.insert(id.clone(), Arc::new(unit));
    }
    let anew = recorder.taken();
    if outside.is_asked() || !anew.is_in_parts() || cluster.shares(&units, inputs.last_good) {
        return Ok(None);
    }
    let mut render = before.clone();
    render.units.extend(units);
    Ok(Some((render, read.with(changed, anew, spent))))
}

/// A cluster as it last was.
struct Cluster<'a> {
    before: &'a ClusterRender,
    read: &'a Footprint,
    no_remote_bases: bool,
    has_releases: bool,
}

impl Cluster<'_> {
    /// What a unit puts out now, where that decides nothing about any other unit.
    fn content(
        &self,
        anew: &Inputs<'_>,
        id: &UnitId,
        old: &RenderedUnit,
        was: &Unit,
    ) -> Result<Option<Arc<Content>>, ReadError> {
        let is_of_path = old.definition.release.is_none() && old.revision == Some(Revision::Fleet);
        let Some(build) = self.build_of(id).filter(|_| is_of_path && !old.suspended) else { return Ok(None) };
        let artifact = anew.cache.packed(anew.fleet, build.ignore.as_deref())?;
        if let Some(recorder) = anew.recorder {
            recorder.packed(build.ignore.as_deref());
        }
        let recipe = Recipe {
            source: &old.definition.source,
            artifact: &artifact,
            path: &old.definition.path,
            overlay: &old.definition.overlay,
            variables: build.variables.as_deref(),
            decryption: None,
            clusters: anew.clusters,
            no_remote_bases: self.no_remote_bases,
            sources: anew.sources,
            interval: old.definition.spec.interval,
            budget: anew.budget,
            attempts: anew.attempts,
            recorder: anew.recorder,
            unit: id,
        };
        let built = catch_unwind(AssertUnwindSafe(|| content::render(anew.cache, &recipe)));
        // A panic is told by the whole render.
        let Ok(built) = built else { return Ok(None) };
        let Ok(content) = built? else { return Ok(None) };
        let decides = self.decides(&was.content, &content) || declared_twice(&content).is_some();
        Ok((!decides).then_some(content))
    }

    /// The only way in which a unit was built, where that is known as a whole.
    fn build_of(&self, id: &UnitId) -> Option<&Build> {
        let mut builds = self.read.builds_of(id);
        let first = builds.next().filter(|build| !build.has_more)?;
        builds.all(|other| other.is_like(first)).then_some(first)
    }

    /// Whether something about other units depends on what differs.
    fn decides(&self, old: &Content, new: &Content) -> bool {
        let defines_the_same = old.children == new.children
            && old.broken_children == new.broken_children
            && old.sources == new.sources
            && old.broken_sources == new.broken_sources
            && old.controllers == new.controllers
            && old.makes == new.makes
            && old.release == new.release;
        if !defines_the_same {
            return true;
        }
        let is_read = |object: &&Object| {
            let id = object.id();
            // A release that would make a Namespace leaves that to who declares it.
            self.is_looked_for(id) || self.has_releases && id.is("", "Namespace")
        };
        !old.objects.iter().filter(is_read).eq(new.objects.iter().filter(is_read))
    }

    fn is_looked_for(&self, id: &ObjectId) -> bool {
        let kind = match id.kind.as_str() {
            "ConfigMap" => ValuesKind::ConfigMap,
            "Secret" => ValuesKind::Secret,
            _ => return false,
        };
        let values = &self.read.values;
        !values.is_empty()
            && id.group.is_empty()
            && values.contains(&ValuesRef { kind, namespace: id.namespace.clone(), name: id.name.clone() })
    }

    /// Whether one of these units declares what another unit of the cluster declares too, now or before.
    fn shares(
        &self,
        units: &BTreeMap<UnitId, Arc<RenderedUnit>>,
        last_good: &dyn Fn(&UnitId) -> Option<Arc<Content>>,
    ) -> bool {
        let mut owners: HashMap<&ObjectId, &UnitId> = HashMap::new();
        for (id, unit) in units {
            let before = self.before.units.get(id).and_then(|unit| unit.unit.as_ref());
            let contents = unit.unit.iter().chain(before).map(|unit| &unit.content);
            for object in contents.flat_map(|content| &content.objects) {
                if *owners.entry(object.id()).or_insert(id) != id {
                    return true;
                }
            }
        }
        let others = self.before.units.iter().filter(|(id, _)| !units.contains_key(*id));
        others.into_iter().any(|(id, unit)| {
            let content = unit.unit.as_ref().map(|unit| unit.content.clone()).or_else(|| last_good(id));
            content
                .is_some_and(|content| content.objects.iter().any(|object| owners.contains_key(object.id())))
        })
    }
}

/// The unit with another content; `None`: what it says of itself cannot be told from what others say.
fn spliced(old: &RenderedUnit, was: &Unit, content: Arc<Content>) -> Option<RenderedUnit> {
    // Those of the content come first.
    let own = was.content.notices.len();
    if old.problems.get(..own) != Some(&*was.content.notices) {
        return None;
    }
    let mut problems = content.notices.clone();
    problems.extend_from_slice(&old.problems[own..]);
    if old.problems.len().max(problems.len()) > MOST_PROBLEMS {
        return None;
    }
    let manifest = content.manifest(&was.manifest.id, was.manifest.spec.clone());
    Some(RenderedUnit { unit: Some(Unit { manifest, content }), problems, ..old.clone() })
}

/// All that is not in the fleet repo. Who asks for something of it has to be rendered as a whole, as what the cluster wants of it
/// is told for all units together.
#[derive(Default)]
struct Outside(AtomicBool);

impl Outside {
    fn is_asked(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    fn asked<T>(&self) -> Result<T, Unavailable> {
        self.0.store(true, Ordering::Relaxed);
        Err(Unavailable::new("is not asked for on its own"))
    }
}

impl Sources for Outside {
    fn content(&self, _: &Source) -> Result<Artifact, Unavailable> {
        self.asked()
    }

    fn generate(
        &self,
        _: &ArtifactGenerator,
        _: &BTreeMap<String, Artifact>,
    ) -> Result<BTreeMap<String, Artifact>, Unavailable> {
        self.asked()
    }

    fn secret(&self, _: &str, _: &str) -> Result<Option<BTreeMap<String, Vec<u8>>>, Unavailable> {
        self.asked()
    }

    fn remote(&self, _: &str, _: u32) -> Result<RemoteBase, Unavailable> {
        self.asked()
    }

    fn data_key(&self, _: &Ask) -> Answer {
        self.asked().map_err(|unavailable| unavailable.why)
    }

    fn allows_unverified(&self, _: &SourceId) -> bool {
        self.0.store(true, Ordering::Relaxed);
        false
    }
}
