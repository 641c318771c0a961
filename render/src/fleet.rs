//! The fleet's definition: which clusters there are.
//!
//! A folder `clusters/NAME` is a cluster with that root path. A `Cluster` object anywhere below `clusters/` says
//! more of a cluster, or names one whose root path is elsewhere. One that names no path has the folder `clusters/NAME`, or
//! else the path of a group, or else the folder that it alone is defined in.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use flotilla_core::ClusterName;
use flotilla_core::envsubst::is_variable_name;
use flotilla_core::report::Problem;
use flotilla_core::reported::is_reported;
use flotilla_core::unit::DriftMode;
use flotilla_kustomize::files::{ContentId, Entry, Files, Kind, ReadError, TreePath};
use flotilla_yaml::Node;

use crate::group::definition::{self, UnreadGroup};
use crate::group::{ClusterGroup, Groups};
use crate::pipeline::Pipelines;
use crate::policy::{FleetPolicy, PolicyRead};

/// The API group of our own kinds.
pub const GROUP: &str = "flotilla.dev";
/// The version of our own kinds.
pub const API_VERSION: &str = "flotilla.dev/v1alpha1";

/// What a `Cluster` object may say in its `spec`; docs/kinds.md describes each.
pub const CLUSTER_FIELDS: [&str; 7] =
    ["path", "labels", "variables", "strictSubstitution", "substitute", "suspend", "drift"];

/// One cluster as Git defines it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterDefinition {
    pub name: ClusterName,
    pub policy: ClusterPolicy,
    pub root: ClusterRoot,
}

/// What counts as the newest commit says, whatever the cluster is rendered from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClusterPolicy {
    pub labels: BTreeMap<String, String>,
    /// Whose secrets it has.
    pub groups: Groups,
    pub drift: DriftMode,
    pub suspend: bool,
}

/// What a cluster is rendered from: as old as the files that are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClusterRoot {
    /// The root unit's path.
    pub path: TreePath,
    pub variables: BTreeMap<String, String>,
    /// Put the variables into the root unit's objects too.
    pub substitute: bool,
    /// Whether a variable that is not set and has no default is an error; `None`: as elsewhere.
    pub strict_substitution: Option<bool>,
}

/// All clusters, and what is wrong with their definitions.
#[derive(Debug, Clone, Default)]
pub struct Fleet {
    pub clusters: BTreeMap<ClusterName, ClusterDefinition>,
    /// Clusters that exist, but whose definition could not be read: what they run is kept.
    pub unclear: BTreeMap<ClusterName, Vec<Problem>>,
    /// By their names.
    pub groups: BTreeMap<String, ClusterGroup>,
    /// By which stages changes go from cluster to cluster.
    pub pipelines: Pipelines,
    /// How much a change may take away.
    pub policy: PolicyRead,
    /// A file could not be read that may define clusters: those that are not here are not gone.
    pub in_part: bool,
    pub problems: Vec<Problem>,
}

/// Finds the clusters below `folder` (usually `clusters`).
///
/// # Errors
/// Only if the tree itself cannot be read: then nothing is known, which is not the same as no cluster.
pub fn discover(files: &dyn Files, folder: &TreePath) -> Result<Fleet, ReadError> {
    discover_anew(files, folder, &mut Documents::default())
}

/// The documents of our own kinds in the commits of one repository: only what changed is read again.
#[derive(Debug, Default)]
pub struct Documents {
    /// By file or folder in the folder of clusters.
    found: HashMap<TreePath, (ContentId, Arc<[Found]>)>,
}

/// A file that may say something of clusters.
#[derive(Debug)]
struct Found {
    file: TreePath,
    content: Content,
}

#[derive(Debug)]
enum Content {
    Documents(Vec<Node>),
    /// What stands there cannot be read as YAML.
    Broken {
        problem: Problem,
        /// It may hold a group.
        groups: bool,
        /// It may hold a pipeline.
        pipelines: bool,
    },
    /// The file itself could not be read, which may pass.
    Unread(Problem),
}

impl Found {
    /// A file of this folder whose name is none.
    fn unnamed(folder: &TreePath, why: &str) -> Self {
        let problem = Problem::error(folder.to_string(), 0, why);
        let content = Content::Broken { problem, groups: false, pipelines: false };
        Self { file: folder.clone(), content }
    }
}

/// As [`discover`], with the documents of an earlier commit.
///
/// # Errors
/// As [`discover`].
pub fn discover_anew(
    files: &dyn Files,
    folder: &TreePath,
    documents: &mut Documents,
) -> Result<Fleet, ReadError> {
    let mut fleet = Fleet::default();
    match files.entry(folder)? {
        Some(entry) if entry.kind == Kind::Folder => {}
        _ => {
            let problem =
                Problem::error(folder.to_string(), 0, "there is no such folder; clusters are read from it");
            fleet.in_part = true;
            fleet.pipelines.unreadable(&problem);
            fleet.problems.push(problem);
            return Ok(fleet);
        }
    }
    let mut found = Vec::new();
    let mut kept = HashMap::new();
    for (name, entry) in files.list(folder)? {
        let path = match folder.join(&name) {
            Ok(path) => path,
            Err(error) => {
                found.push([Found::unnamed(folder, &error.to_string())].into());
                continue;
            }
        };
        let of_entry: Arc<[Found]> = match documents.found.remove(&path).filter(|(id, _)| *id == entry.id) {
            Some((_, of_entry)) => of_entry,
            None => {
                let mut of_entry = Vec::new();
                look(files, &path, entry, &mut of_entry)?;
                of_entry.into()
            }
        };
        if !of_entry.iter().any(|found| matches!(found.content, Content::Unread(_))) {
            kept.insert(path, (entry.id, of_entry.clone()));
        }
        found.push(of_entry);
    }
    documents.found = kept;
    let mut scan = Scan {
        files,
        fleet: &mut fleet,
        broken: Vec::new(),
        duplicate: BTreeSet::new(),
        unread: Vec::new(),
        mistaken: Vec::new(),
        places: Vec::new(),
        policy: PolicyRead::Absent,
    };
    found.iter().flat_map(|of_entry| of_entry.iter()).for_each(|found| scan.take(found));
    let roots = scan.roots(folder)?;
    let Scan { broken, mistaken, duplicate, unread, policy, .. } = scan;
    for (name, root) in roots {
        match root {
            Ok(root) => {
                fleet
                    .clusters
                    .get_mut(&name)
                    .into_iter()
                    .for_each(|cluster| cluster.root.path = root.clone());
            }
            Err(problem) => {
                fleet.clusters.remove(&name);
                fleet.unclear.entry(name).or_default().push(problem);
            }
        }
    }
    for name in duplicate {
        fleet.clusters.remove(&name);
        let place = "two Cluster objects define this cluster; keep one of them";
        fleet.unclear.entry(name).or_default().push(Problem::error(folder.to_string(), 0, place));
    }
    for (name, entry) in files.list(folder)? {
        if entry.kind != Kind::Folder {
            continue;
        }
        let path = folder.join(&name).map_err(|error| ReadError::of_path(folder, &error))?;
        let Ok(cluster) = name.parse::<ClusterName>() else {
            let message = format!(
                "folder '{name}' is not a valid cluster name: {}",
                name.parse::<ClusterName>().unwrap_err()
            );
            fleet.problems.push(Problem::error(path.to_string(), 0, message).as_notice());
            continue;
        };
        if fleet.clusters.contains_key(&cluster) || fleet.unclear.contains_key(&cluster) {
            continue;
        }
        // A file that does not parse may hold the Cluster object that this folder's rule would override.
        let concerns = |file: &TreePath| file.is_within(&path) || file.parent().as_ref() == Some(folder);
        let unread = broken.iter().filter(|(file, _)| concerns(file)).map(|(_, problem)| problem);
        let named = mistaken.iter().filter(|(name, _)| *name == cluster).map(|(_, problem)| problem);
        let mut unread: Vec<Problem> = unread.chain(named).cloned().collect();
        unread.dedup();
        if unread.is_empty() {
            fleet.clusters.insert(cluster.clone(), ClusterDefinition::of_folder(cluster, path));
        } else {
            fleet.unclear.insert(cluster, unread);
        }
    }
    // A file that does not parse may hold a group.
    let unclear =
        unread.first().map(|group| &group.problem).or_else(|| broken.first().map(|(_, problem)| problem));
    join_groups(&mut fleet, &unread, unclear.map(ToString::to_string));
    let notices = fleet.pipelines.place(&fleet.clusters);
    fleet.problems.extend(notices);
    fleet.in_part = !broken.is_empty();
    // Nor does a file that does not parse say that there is no policy.
    fleet.policy = match policy {
        PolicyRead::Read(policy) => {
            let clusters = fleet.clusters.iter().map(|(name, cluster)| (name, &cluster.policy.labels));
            PolicyRead::Read(policy.of(clusters))
        }
        PolicyRead::Absent if fleet.in_part => PolicyRead::Unclear,
        policy => policy,
    };
    Ok(fleet)
}

impl ClusterDefinition {
    /// A cluster of which Git says nothing but its folder.
    pub fn of_folder(name: ClusterName, path: TreePath) -> Self {
        let root = ClusterRoot { path, ..ClusterRoot::default() };
        Self { name, policy: ClusterPolicy::default(), root }
    }
}

/// Puts each cluster into its groups, and gives it what they say. Of whom a group may say what it runs that cannot be read, that
/// is not known.
fn join_groups(fleet: &mut Fleet, unread: &[UnreadGroup], unclear: Option<String>) {
    let mut lost = Vec::new();
    for (name, cluster) in &mut fleet.clusters {
        let labels = &cluster.policy.labels;
        let groups = definition::of(&fleet.groups, labels);
        let of = groups.clone().map(|group| group.name.clone()).collect();
        let concerns = |group: &&UnreadGroup| {
            group.gives && group.selector.as_ref().is_none_or(|selector| selector.matches(labels))
        };
        match unread.iter().find(concerns) {
            Some(group) => lost.push((name.clone(), group.problem.clone())),
            None => match definition::variables(groups, &cluster.root.variables) {
                Ok(variables) => cluster.root.variables.extend(variables),
                Err(problem) => lost.push((name.clone(), problem)),
            },
        }
        cluster.policy.groups = Groups { of, unclear: unclear.clone() };
    }
    for (name, cluster) in &fleet.clusters {
        for group in &cluster.policy.groups.of {
            fleet.groups.get_mut(group).into_iter().for_each(|group| {
                group.clusters.insert(name.clone());
            });
        }
    }
    for (name, problem) in lost {
        fleet.clusters.remove(&name);
        fleet.unclear.entry(name).or_default().push(problem);
    }
    let labels: BTreeSet<&str> = fleet
        .clusters
        .values()
        .flat_map(|cluster| cluster.policy.labels.keys().map(String::as_str))
        .collect();
    let notices: Vec<Problem> = fleet.groups.values().filter_map(|group| group.notice(&labels)).collect();
    fleet.problems.extend(notices);
}

struct Scan<'a> {
    files: &'a dyn Files,
    fleet: &'a mut Fleet,
    broken: Vec<(TreePath, Problem)>,
    duplicate: BTreeSet<ClusterName>,
    /// Groups that are not among those of the fleet.
    unread: Vec<UnreadGroup>,
    /// Objects of our group that are of no kind we know, by their names.
    mistaken: Vec<(ClusterName, Problem)>,
    /// Where each `Cluster` object stands.
    places: Vec<Place>,
    policy: PolicyRead,
}

/// Root paths, or why there is none to take.
type Roots = Vec<(ClusterName, Result<TreePath, Problem>)>;

/// Where a `Cluster` object stands.
struct Place {
    name: ClusterName,
    file: TreePath,
    line: u32,
    /// Whether it says its root path.
    has_path: bool,
}

/// Looks for documents of our kinds in a file, or in all files below a folder.
fn look(files: &dyn Files, path: &TreePath, entry: Entry, found: &mut Vec<Found>) -> Result<(), ReadError> {
    match entry.kind {
        Kind::Folder => {
            for (name, entry) in files.list(path)? {
                match path.join(&name) {
                    Ok(path) => look(files, &path, entry, found)?,
                    Err(error) => found.push(Found::unnamed(path, &error.to_string())),
                }
            }
        }
        Kind::File if path.as_str().ends_with(".yaml") || path.as_str().ends_with(".yml") => {
            let content = content(files, path);
            found.extend(content.map(|content| Found { file: path.clone(), content }));
        }
        Kind::File | Kind::Symlink => {}
    }
    Ok(())
}

/// `None`: nothing in it is of our kinds.
fn content(files: &dyn Files, path: &TreePath) -> Option<Content> {
    let content = match files.read(path) {
        Ok(content) => content,
        Err(error) => return Some(Content::Unread(Problem::error(path.to_string(), 0, error.reason))),
    };
    let text = String::from_utf8_lossy(&content);
    // A document of our kinds cannot avoid the name of its group; what else is wrong with the file is for the unit to
    // say that builds it.
    if !text.contains(GROUP) {
        return None;
    }
    Some(match flotilla_yaml::parse(&text) {
        Ok(documents) => Content::Documents(documents),
        Err(error) => {
            let problem = Problem::error(path.to_string(), error.pos.line, error.message);
            let problem = Problem { column: error.pos.column, ..problem };
            Content::Broken {
                problem,
                groups: text.contains("ClusterGroup"),
                pipelines: text.contains("Pipeline") || text.contains("stages"),
            }
        }
    })
}

impl Scan<'_> {
    fn take(&mut self, found: &Found) {
        match &found.content {
            Content::Documents(documents) => {
                documents.iter().for_each(|document| self.document(&found.file, document));
            }
            Content::Broken { problem, groups, pipelines } => {
                self.unread(found, problem, *groups, *pipelines)
            }
            Content::Unread(problem) => self.unread(found, problem, true, true),
        }
    }

    fn unread(&mut self, found: &Found, problem: &Problem, may_hold_group: bool, may_hold_pipeline: bool) {
        self.broken.push((found.file.clone(), problem.clone()));
        self.fleet.problems.push(problem.clone());
        if may_hold_pipeline {
            self.fleet.pipelines.unreadable(problem);
        }
        if may_hold_group {
            self.unread.push(UnreadGroup { selector: None, gives: true, problem: problem.clone() });
        }
    }

    fn document(&mut self, path: &TreePath, document: &Node) {
        let text = |path: &[&str]| document.at(path).and_then(Node::text).unwrap_or_default();
        if text(&["apiVersion"]).split('/').next() != Some(GROUP) {
            return;
        }
        let line = document.pos.line;
        let problem = |message: String| Problem::error(path.to_string(), line, message);
        match (text(&["apiVersion"]), text(&["kind"])) {
            (API_VERSION, "Cluster") => {}
            (API_VERSION, "ClusterGroup") => return self.group(path, document),
            (API_VERSION, "FleetPolicy") => return self.policy(path, document),
            (API_VERSION, "Pipeline") => {
                let taken = self.fleet.pipelines.take(path, document);
                self.fleet.problems.extend(taken.err());
                return;
            }
            (API_VERSION, "Tenant") => {
                self.fleet
                    .problems
                    .push(problem("Tenant objects are not acted on yet".to_owned()).as_notice());
                return;
            }
            (version, kind) => {
                let message = format!(
                    "'{kind}' in {version} is not a kind that Flotilla knows; it knows Cluster, ClusterGroup, FleetPolicy \
                     and Pipeline in {API_VERSION}"
                );
                let problem = problem(message);
                // It may have been meant to hold changes back, or to say more of a cluster than its folder does.
                self.fleet.pipelines.mistaken(kind, document, &problem);
                self.mistaken(path, text(&["metadata", "name"]), problem);
                return;
            }
        }
        let name = match text(&["metadata", "name"]).parse::<ClusterName>() {
            Ok(name) => name,
            Err(error) => {
                self.mistaken(path, "", problem(error.to_string()).field("metadata.name"));
                return;
            }
        };
        let has_path = document.at(&["spec", "path"]).is_some();
        self.places.push(Place { name: name.clone(), file: path.clone(), line, has_path });
        if self.fleet.clusters.contains_key(&name) || self.fleet.unclear.contains_key(&name) {
            self.duplicate.insert(name);
            return;
        }
        let mut problems = Vec::new();
        match cluster(path, &name, document, &mut problems) {
            Some(cluster) if problems.is_empty() => {
                self.fleet.clusters.insert(name, cluster);
            }
            _ => {
                self.fleet.unclear.insert(name, problems);
            }
        }
    }
}

impl Scan<'_> {
    /// An object that may have been meant to define a cluster: the one of its name, or the one whose folder it stands in.
    /// What these run is kept.
    fn mistaken(&mut self, path: &TreePath, name: &str, problem: Problem) {
        self.mistaken.extend(name.parse().ok().map(|name| (name, problem.clone())));
        self.broken.push((path.clone(), problem.clone()));
        self.fleet.problems.push(problem);
    }

    /// The root paths of the clusters whose objects name none. `all` is the folder of all clusters.
    fn roots(&self, all: &TreePath) -> Result<Roots, ReadError> {
        let mut roots = Roots::new();
        for place in self.places.iter().filter(|place| !place.has_path) {
            let name = place.name.clone();
            let Some(cluster) = self.fleet.clusters.get(&name) else { continue };
            let groups = definition::of(&self.fleet.groups, &cluster.policy.labels);
            let by_name = all.join(name.as_str()).map_err(|error| ReadError::of_path(all, &error))?;
            let own = place.file.parent().unwrap_or_default();
            let is_shared = |other: &Place| other.name != place.name && other.file.is_within(&own);
            let root = if self.files.entry(&by_name)?.is_some_and(|entry| entry.kind == Kind::Folder) {
                Ok(by_name)
            } else if let Some(given) = definition::path(groups).transpose() {
                given
            } else if own == *all || self.places.iter().any(is_shared) {
                let message = format!(
                    "names no path, there is no folder {by_name}, and other clusters are defined in {own} too: set \
                     spec.path to the folder that cluster {name} runs"
                );
                Err(Problem::error(place.file.to_string(), place.line, message).field("spec.path"))
            } else {
                Ok(own)
            };
            roots.push((name, root));
        }
        Ok(roots)
    }

    /// The fleet has one policy: of two nobody knows which is meant.
    fn policy(&mut self, path: &TreePath, document: &Node) {
        let is_first = self.policy == PolicyRead::Absent;
        self.policy = match FleetPolicy::read(path, document) {
            Ok(policy) if is_first => PolicyRead::Read(policy),
            Ok(_) => {
                let message = "the fleet has another FleetPolicy; keep one of them. The one that was in force before stays";
                let line = document.pos.line;
                self.fleet.problems.push(Problem::error(path.to_string(), line, message));
                PolicyRead::Unclear
            }
            Err(problems) => {
                self.fleet.problems.extend(problems);
                PolicyRead::Unclear
            }
        };
    }

    fn group(&mut self, path: &TreePath, document: &Node) {
        let unread = match ClusterGroup::read(path, document) {
            Ok(group) => match self.fleet.groups.get(&group.name) {
                None => {
                    self.fleet.groups.insert(group.name.clone(), group);
                    return;
                }
                Some(first) => {
                    let message = format!("the group '{}' is defined twice; keep one of them", group.name);
                    let line = document.pos.line;
                    let problem = Problem::error(path.to_string(), line, message).field("metadata.name");
                    let says = |group: &ClusterGroup| group.path.is_some() || !group.variables.is_empty();
                    let gives = says(first) || says(&group);
                    UnreadGroup { selector: None, gives, problem }
                }
            },
            Err(unread) => *unread,
        };
        self.fleet.problems.push(unread.problem.clone());
        self.unread.push(unread);
    }
}

fn cluster(
    path: &TreePath,
    name: &ClusterName,
    document: &Node,
    problems: &mut Vec<Problem>,
) -> Option<ClusterDefinition> {
    // Where no path is given, `Scan::roots` finds it when all definitions are known.
    let mut cluster = ClusterDefinition::of_folder(name.clone(), path.parent().unwrap_or_default());
    let Some(spec) = document.get("spec") else { return Some(cluster) };
    let bad = |node: &Node, field: &str, message: String| {
        Problem { column: node.pos.column, ..Problem::error(path.to_string(), node.pos.line, message) }
            .field(field)
    };
    let Some(fields) = spec.as_map() else {
        problems.push(bad(spec, "spec", "must be a mapping".to_owned()));
        return None;
    };
    for entry in fields.iter() {
        let key = entry.key.text().unwrap_or_default();
        let field = format!("spec.{key}");
        let value = &entry.value;
        let done = match key {
            "labels" => strings(value).and_then(|labels| match labels.keys().find(|key| is_reported(key)) {
                Some(key) => {
                    Err(format!("'{key}' is a label that the cluster's agent reports; use another name"))
                }
                None => {
                    cluster.policy.labels = labels;
                    Ok(())
                }
            }),
            "variables" => strings(value).and_then(|variables| {
                match variables.keys().find(|name| !is_variable_name(name)) {
                    Some(name) => {
                        Err(format!("'{name}' cannot name a variable: use letters, digits and '_'"))
                    }
                    None => {
                        cluster.root.variables = variables;
                        Ok(())
                    }
                }
            }),
            "path" => value
                .as_str()
                .filter(|text| !text.is_empty())
                .ok_or_else(|| "must name a folder of the fleet repo".to_owned())
                .and_then(|text| TreePath::from_root(text).map_err(|e| e.to_string()))
                .map(|path| cluster.root.path = path),
            "substitute" => {
                let read = value.as_bool().ok_or_else(|| "must be true or false".to_owned());
                read.map(|substitute| cluster.root.substitute = substitute)
            }
            "strictSubstitution" => {
                let read = value.as_bool().ok_or_else(|| "must be true or false".to_owned());
                read.map(|strict| cluster.root.strict_substitution = Some(strict))
            }
            "suspend" => value
                .as_bool()
                .ok_or_else(|| "must be true or false".to_owned())
                .map(|s| cluster.policy.suspend = s),
            "drift" => match value.as_str() {
                Some("correct") => Ok(DriftMode::Correct),
                Some("report") => Ok(DriftMode::Report),
                Some("ignore") => Ok(DriftMode::Ignore),
                _ => Err("must be correct, report or ignore".to_owned()),
            }
            .map(|drift| cluster.policy.drift = drift),
            _ => Err(format!("is not a field of a Cluster; the fields are {}", CLUSTER_FIELDS.join(", "))),
        };
        if let Err(message) = done {
            problems.push(bad(if value.pos.line > 0 { value } else { &entry.key }, &field, message));
        }
    }
    Some(cluster)
}

fn strings(node: &Node) -> Result<BTreeMap<String, String>, String> {
    let map = node.as_map().ok_or("must be a mapping of strings")?;
    map.iter()
        .map(|entry| {
            let key = entry.key.text().ok_or("must be a mapping of strings")?;
            let value = entry.value.as_str().ok_or_else(|| format!("'{key}' must be a string; quote it"))?;
            Ok((key.to_owned(), value.to_owned()))
        })
        .collect()
}
