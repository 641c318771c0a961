//! A `ClusterGroup` as Git defines it, and what clusters get from the groups that they are in.
//!
//! What is nearer to a cluster counts: its own `Cluster` object before its groups, and of these the one with the higher `priority`.
//! Two groups of one priority that say different things of a cluster are a problem of that cluster: nobody knows which is
//! meant, and it keeps what it runs.

use std::collections::{BTreeMap, BTreeSet};

use flotilla_core::ClusterName;
use flotilla_core::envsubst::is_variable_name;
use flotilla_core::names::is_dns_label;
use flotilla_core::report::Problem;
use flotilla_core::selector::Selector;
use flotilla_kustomize::files::TreePath;
use flotilla_yaml::Node;

use crate::field::{Field, Wrong};

/// What a `ClusterGroup` object may say in its `spec`; docs/kinds.md describes each.
pub const GROUP_FIELDS: [&str; 4] = ["selector", "path", "variables", "priority"];

/// A group that could be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterGroup {
    pub name: String,
    pub(crate) selector: Selector,
    /// The root of those of its clusters that say none and have no folder of their own.
    pub path: Option<TreePath>,
    pub variables: BTreeMap<String, String>,
    /// Of two groups, the one with the higher counts.
    pub priority: i32,
    /// The clusters that it selects.
    pub clusters: BTreeSet<ClusterName>,
    /// File and line.
    pub defined_at: (String, u32),
}

/// A group that could not be read.
#[derive(Debug, Clone)]
pub(crate) struct UnreadGroup {
    /// Which clusters it may be about; `None`: any.
    pub(crate) selector: Option<Selector>,
    /// Whether it may say what its clusters run, and not only whose secrets they have.
    pub(crate) gives: bool,
    pub(crate) problem: Problem,
}

impl ClusterGroup {
    /// Reads one.
    pub(crate) fn read(file: &TreePath, document: &Node) -> Result<Self, Box<UnreadGroup>> {
        let spec = document.get("spec");
        let selector = spec.and_then(|spec| spec.get("selector")).and_then(|node| Selector::read(node).ok());
        let plain = ["selector", "priority"];
        let keys = spec
            .map(|spec| spec.as_map().map(|map| map.iter().filter_map(|entry| entry.key.text()).collect()));
        let gives = match keys {
            None => false,
            Some(None) => true,
            Some(Some(keys)) => Vec::<&str>::into_iter(keys).any(|key| !plain.contains(&key)),
        };
        Self::fields(file, document).map_err(|Wrong { pos, field, message }| {
            let line = if pos.line > 0 { pos.line } else { document.pos.line };
            let problem = Problem::error(file.to_string(), line, message).field(field);
            Box::new(UnreadGroup { selector, gives, problem: Problem { column: pos.column, ..problem } })
        })
    }

    fn fields(file: &TreePath, document: &Node) -> Result<Self, Wrong> {
        let name = document.at(&["metadata", "name"]).and_then(Node::text).unwrap_or_default();
        if !is_dns_label(name) {
            let message = format!("'{name}' is not a valid name for a group: letters, digits and '-'");
            return Err(Field::new(document, "metadata.name").wrong(message));
        }
        let nothing = Node::map();
        let spec = Field::new(document.get("spec").unwrap_or(&nothing), "spec").object(&GROUP_FIELDS)?;
        let selector = spec.get("selector").ok_or_else(|| {
            Field::new(document, "spec.selector")
                .wrong("says which clusters are in the group, by their labels")
        })?;
        let selector = selector.selector()?;
        let path = spec.get("path").map(|path| path.so(TreePath::from_root(&path.text()?))).transpose()?;
        let variables = match spec.get("variables") {
            None => BTreeMap::new(),
            Some(field) => {
                let variables = field.pairs()?;
                if let Some(name) = variables.keys().find(|name| !is_variable_name(name)) {
                    let message = format!("'{name}' cannot name a variable: use letters, digits and '_'");
                    return Err(field.wrong(message));
                }
                variables
            }
        };
        let priority = match spec.get("priority") {
            None => 0,
            Some(field) => {
                let number = field.node.as_i64().and_then(|number| i32::try_from(number).ok());
                number
                    .ok_or_else(|| field.wrong("must be a whole number; of two groups the higher counts"))?
            }
        };
        let (name, defined_at) = (name.to_owned(), (file.to_string(), document.pos.line));
        Ok(Self { name, selector, path, variables, priority, clusters: BTreeSet::new(), defined_at })
    }

    /// What people should know of a selector, by the labels that clusters have.
    pub(crate) fn notice(&self, labels: &BTreeSet<&str>) -> Option<Problem> {
        let unknown: Vec<&str> = self.selector.labels().filter(|label| !labels.contains(label)).collect();
        let message = match (unknown.is_empty(), self.clusters.is_empty()) {
            (false, empty) => {
                let what = if empty { "selects no cluster" } else { "selects clusters all the same" };
                format!("no cluster has the label '{}'; the group {what}", unknown.join("', '"))
            }
            (true, true) => "selects no cluster".to_owned(),
            (true, false) => return None,
        };
        let (file, line) = &self.defined_at;
        Some(Problem::error(file.clone(), *line, message).field("spec.selector").as_notice())
    }
}

/// The groups that a cluster with these labels is in.
pub(crate) fn of<'a>(
    groups: &'a BTreeMap<String, ClusterGroup>,
    labels: &BTreeMap<String, String>,
) -> impl Iterator<Item = &'a ClusterGroup> + Clone {
    let labels = labels.clone();
    groups.values().filter(move |group| group.selector.matches(&labels))
}

/// What the group that counts says.
fn nearest<'a, T: PartialEq + 'a>(
    groups: impl Iterator<Item = &'a ClusterGroup>,
    what: &str,
    says: impl Fn(&'a ClusterGroup) -> Option<&'a T>,
) -> Result<Option<&'a T>, Problem> {
    let mut counts: Option<(&ClusterGroup, &T)> = None;
    let mut clash: Option<&ClusterGroup> = None;
    for (group, value) in groups.filter_map(|group| Some((group, says(group)?))) {
        match counts {
            Some((first, _)) if first.priority > group.priority => {}
            Some((first, same)) if first.priority == group.priority => {
                if same != value {
                    clash = Some(group);
                }
            }
            _ => (counts, clash) = (Some((group, value)), None),
        }
    }
    if let (Some((first, _)), Some(other)) = (counts, clash) {
        let (file, line) = &other.defined_at;
        let message = format!(
            "the groups '{}' and '{}' of priority {} say different things of {what}: say it in the Cluster object, or \
             give one of them a higher priority",
            first.name, other.name, first.priority
        );
        return Err(Problem::error(file.clone(), *line, message));
    }
    Ok(counts.map(|(_, value)| value))
}

/// The root path that groups give.
pub(crate) fn path<'a>(groups: impl Iterator<Item = &'a ClusterGroup>) -> Result<Option<TreePath>, Problem> {
    nearest(groups, "the path", |group| group.path.as_ref()).map(|path| path.cloned())
}

/// The variables that groups give, those of `own` aside.
pub(crate) fn variables<'a>(
    groups: impl Iterator<Item = &'a ClusterGroup> + Clone,
    own: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>, Problem> {
    let names: BTreeSet<&String> = groups.clone().flat_map(|group| group.variables.keys()).collect();
    let mut variables = BTreeMap::new();
    for name in names.into_iter().filter(|name| !own.contains_key(*name)) {
        let value =
            nearest(groups.clone(), &format!("the variable {name}"), |group| group.variables.get(name))?;
        variables.extend(value.map(|value| (name.clone(), value.clone())));
    }
    Ok(variables)
}
