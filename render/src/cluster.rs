//! All units of one cluster: the root, what its output defines, what that defines, and so on; then the checks
//! that only the whole can answer (two owners of one object, a dependency that is not there, a cycle).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use flotilla_core::report::Problem;
use flotilla_core::unit::{ObjectEntry, UnitManifest};
use flotilla_core::{Digest, Object, ObjectId, UnitId, UnitKind, UnitSpec};
use flotilla_kustomize::files::{Files, ReadError, TreePath};
use flotilla_yaml::Node;

use crate::cache::RenderCache;
use crate::content::{self, Content, Definition};
use crate::fleet::ClusterDefinition;

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
    pub path: TreePath,
    pub depends_on: Vec<UnitId>,
    /// File and line of its definition; empty for the root.
    pub defined_at: (String, u32),
    /// What it comes to; `None` holds the unit, for the errors among `problems`.
    pub unit: Option<Unit>,
    pub problems: Vec<Problem>,
}

/// What a cluster's root path comes to.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ClusterRender {
    pub units: BTreeMap<UnitId, RenderedUnit>,
}

impl ClusterRender {
    /// Whether `parent` rendered completely and does not define `child`: the only reason to remove a unit. A
    /// suspended parent changes nothing below it.
    pub fn dropped(&self, parent: &UnitId, child: &UnitId) -> bool {
        self.units
            .get(parent)
            .and_then(|p| p.unit.as_ref())
            .is_some_and(|parent| !parent.manifest.spec.suspend && !parent.content.defines(child))
    }
}

/// How deep units may nest.
const DEPTH: usize = 16;

/// Renders a cluster. `last_good` gives the content that a unit last rendered to, whose child definitions stand in
/// where the unit does not render now.
///
/// # Errors
/// Only if the tree cannot be read: then nothing is known of the cluster.
pub fn render_cluster(
    files: &dyn Files,
    cache: &RenderCache,
    cluster: &ClusterDefinition,
    clusters: &TreePath,
    last_good: &dyn Fn(&UnitId) -> Option<Arc<Content>>,
) -> Result<ClusterRender, ReadError> {
    let mut build = Build { files, cache, cluster, clusters, last_good, units: BTreeMap::new() };
    let spec = UnitSpec { interval: 600, timeout: 300, suspend: cluster.suspend, ..UnitSpec::default() };
    let root = Definition {
        id: UnitId::root(),
        spec,
        path: cluster.root.clone(),
        overlay: Node::map(),
        file: String::new(),
        line: 0,
    };
    build.unit(root, None, 0)?;
    let mut render = ClusterRender { units: build.units };
    check_objects(&mut render);
    check_dependencies(&mut render);
    Ok(render)
}

struct Build<'a> {
    files: &'a dyn Files,
    cache: &'a RenderCache,
    cluster: &'a ClusterDefinition,
    clusters: &'a TreePath,
    last_good: &'a dyn Fn(&UnitId) -> Option<Arc<Content>>,
    units: BTreeMap<UnitId, RenderedUnit>,
}

impl Build<'_> {
    fn unit(
        &mut self,
        mut definition: Definition,
        parent: Option<UnitId>,
        depth: usize,
    ) -> Result<(), ReadError> {
        let id = definition.id.clone();
        let outcome =
            content::render(self.files, self.cache, &definition.path, &definition.overlay, self.clusters)?;
        let mut rendered = RenderedUnit {
            parent: parent.clone(),
            path: definition.path.clone(),
            depends_on: definition.spec.depends_on.clone(),
            defined_at: (definition.file.clone(), definition.line),
            unit: None,
            problems: Vec::new(),
        };
        let content = match outcome {
            Ok(content) => {
                if let Some(own) = content.children.iter().find(|child| self.is_itself(&definition, child)) {
                    // A Kustomization that names the path it stands in speaks of this very unit.
                    let suspend = definition.spec.suspend || own.spec.suspend;
                    definition.spec = UnitSpec { suspend, depends_on: Vec::new(), ..own.spec.clone() };
                }
                definition.spec.parent = parent;
                definition.spec.drift = self.cluster.drift;
                rendered.problems.extend(content.notices.iter().cloned());
                let entries = content.objects.iter().map(ObjectEntry::from).collect();
                let manifest = Arc::new(UnitManifest::new(id.clone(), definition.spec.clone(), entries));
                rendered.unit = Some(Unit { manifest, content: content.clone() });
                Some(content)
            }
            Err(problems) => {
                rendered.problems.extend(problems.iter().cloned());
                (self.last_good)(&id)
            }
        };
        self.units.insert(id.clone(), rendered);
        let Some(content) = content else { return Ok(()) };
        for (child, problems) in &content.broken_children {
            self.broken(child, &id, problems.clone());
        }
        for child in &content.children {
            if self.is_itself(&definition, child) {
                continue;
            }
            let place = |message: String| Problem::error(child.file.clone(), child.line, message);
            if let Some(other) = self.units.get(&child.id) {
                let other = other.parent.as_ref().map_or("root".to_owned(), ToString::to_string);
                let message = format!("{} is defined by {other} already; keep one definition", child.id);
                let problem = place(message);
                self.units.get_mut(&id).expect("inserted above").problems.push(problem.as_notice());
            } else if depth == DEPTH {
                self.broken(&child.id, &id, vec![place(format!("units nest deeper than {DEPTH} levels"))]);
            } else {
                self.unit(child.clone(), Some(id.clone()), depth + 1)?;
            }
        }
        Ok(())
    }

    /// Whether a definition in a unit's output is that unit.
    fn is_itself(&self, unit: &Definition, child: &Definition) -> bool {
        child.id == unit.id
            || (unit.id.kind == UnitKind::Root
                && child.path == unit.path
                && (child.id.namespace.as_str(), child.id.name.as_str()) == crate::flux::FLEET_SOURCE)
    }

    fn broken(&mut self, child: &UnitId, parent: &UnitId, problems: Vec<Problem>) {
        self.units.entry(child.clone()).or_insert_with(|| RenderedUnit {
            parent: Some(parent.clone()),
            path: TreePath::root(),
            depends_on: Vec::new(),
            defined_at: (String::new(), 0),
            unit: None,
            problems,
        });
    }
}

/// Two units that give one object differing contents: the first by name has it, the later one is held.
fn check_objects(render: &mut ClusterRender) {
    let mut owners: BTreeMap<ObjectId, (UnitId, Digest)> = BTreeMap::new();
    let mut clashes: Vec<(UnitId, Problem)> = Vec::new();
    for (id, rendered) in &render.units {
        let Some(unit) = &rendered.unit else { continue };
        let mut clash = None;
        for (object, origin) in unit.content.objects.iter().zip(&unit.content.origins) {
            if let Some((owner, digest)) = owners.get(object.id())
                && *digest != object.digest()
            {
                clash = Some(clash_problem(object, owner, id, origin));
                break;
            }
        }
        match clash {
            Some(problem) => clashes.push((id.clone(), problem)),
            None => {
                owners.extend(unit.content.objects.iter().map(|o| (o.id().clone(), (id.clone(), o.digest()))))
            }
        }
    }
    for (id, problem) in clashes {
        hold(render, &id, problem);
    }
}

fn clash_problem(object: &Object, owner: &UnitId, id: &UnitId, origin: &(String, u32)) -> Problem {
    let (file, line) = origin.clone();
    let message = if owner == id {
        format!("{} is declared twice with differing content; keep one of them", object.id())
    } else {
        format!("{} is declared by {owner} with other content; keep it in one unit", object.id())
    };
    Problem::error(file, line, message)
}

fn hold(render: &mut ClusterRender, id: &UnitId, problem: Problem) {
    if let Some(unit) = render.units.get_mut(id) {
        unit.unit = None;
        unit.problems.push(problem);
    }
}

/// Dependencies that nothing defines, and units that wait for themselves.
fn check_dependencies(render: &mut ClusterRender) {
    let mut found: Vec<(UnitId, String)> = Vec::new();
    for (id, unit) in &render.units {
        for dependency in &unit.depends_on {
            if !render.units.contains_key(dependency) {
                found.push((id.clone(), format!("{dependency} is not defined in this cluster")));
            }
        }
        if let Some(cycle) = cycle_through(render, id) {
            let names: Vec<String> = cycle.iter().map(ToString::to_string).collect();
            found.push((id.clone(), format!("dependencies form a cycle: {}", names.join(" → "))));
        }
    }
    for (id, message) in found {
        let (file, line) = render.units.get(&id).map(|unit| unit.defined_at.clone()).unwrap_or_default();
        hold(render, &id, Problem::error(file, line, message).field("spec.dependsOn"));
    }
}

/// A shortest way from a unit back to itself along `dependsOn`.
fn cycle_through(render: &ClusterRender, start: &UnitId) -> Option<Vec<UnitId>> {
    let mut seen = BTreeSet::new();
    let mut paths = vec![vec![start.clone()]];
    while !paths.is_empty() {
        let mut longer = Vec::new();
        for path in paths {
            let last = path.last().expect("a path has a start");
            for next in render.units.get(last).map(|u| u.depends_on.as_slice()).unwrap_or_default() {
                let mut path = path.clone();
                path.push(next.clone());
                if next == start {
                    return Some(path);
                }
                if seen.insert(next.clone()) {
                    longer.push(path);
                }
            }
        }
        paths = longer;
    }
    None
}
