//! `FleetPolicy`: how much of the fleet a change may take away without an approval, as the fleet repo says.

use std::collections::{BTreeMap, BTreeSet};

use flotilla_core::ClusterName;
use flotilla_core::change::{KindName, Limit, Policy};
use flotilla_core::report::Problem;
use flotilla_kustomize::files::TreePath;
use flotilla_yaml::Node;

use crate::field::{self, Field, Wrong};
use flotilla_core::selector::Selector;

/// What the fleet repo says of the policy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum PolicyRead {
    /// Nothing: the hub's defaults hold.
    #[default]
    Absent,
    Read(FleetPolicy),
    /// There may be one, and it cannot be read: the one that is in force stays.
    Unclear,
}

impl PolicyRead {
    /// The policy, where `defaults` hold for what it does not say; `None`: it is not known.
    pub fn over(&self, defaults: &Policy) -> Option<Policy> {
        match self {
            Self::Absent => Some(defaults.clone()),
            Self::Read(policy) => Some(policy.over(defaults)),
            Self::Unclear => None,
        }
    }
}

/// A `FleetPolicy` that could be read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FleetPolicy {
    units: Bounds,
    objects: Bounds,
    cluster: Bounds,
    protect: BTreeMap<KindName, usize>,
    exempt: Option<Selector>,
    /// The clusters that `exempt` selects.
    exempt_clusters: BTreeSet<ClusterName>,
}

/// A limit, as far as the policy says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Bounds {
    max: Option<usize>,
    share: Option<u8>,
}

impl Bounds {
    fn over(self, defaults: Limit) -> Limit {
        Limit { max: self.max.unwrap_or(defaults.max), share: self.share.unwrap_or(defaults.share) }
    }
}

const FIELDS: [&str; 8] = [
    "maxUnits",
    "maxUnitsShare",
    "maxObjects",
    "maxObjectsShare",
    "maxClusterObjects",
    "maxClusterShare",
    "protect",
    "exempt",
];

impl FleetPolicy {
    /// Reads one, with all that is wrong with it.
    pub(crate) fn read(path: &TreePath, document: &Node) -> Result<Self, Vec<Problem>> {
        let mut reader = Reader { path, line: document.pos.line, problems: Vec::new() };
        reader.check(field::top(document));
        let mut policy = Self::default();
        let name = document.at(&["metadata", "name"]).and_then(Node::as_str).unwrap_or_default();
        if name.is_empty() {
            reader.push(Field::new(document, "metadata.name").wrong("is missing"));
        }
        if let Some(spec) = document.get("spec") {
            let entries = reader.take(Field::new(spec, "spec").entries()).unwrap_or_default();
            for (key, field) in entries {
                let read = policy.field(key, &field);
                reader.check(read);
            }
        }
        if reader.problems.is_empty() { Ok(policy) } else { Err(reader.problems) }
    }

    fn field(&mut self, key: &str, field: &Field<'_>) -> Result<(), Wrong> {
        match key {
            "maxUnits" => self.units.max = Some(count(field)?),
            "maxUnitsShare" => self.units.share = Some(field.share()?),
            "maxObjects" => self.objects.max = Some(count(field)?),
            "maxObjectsShare" => self.objects.share = Some(field.share()?),
            "maxClusterObjects" => self.cluster.max = Some(count(field)?),
            "maxClusterShare" => self.cluster.share = Some(field.share()?),
            "protect" => {
                for item in field.items()? {
                    let (kind, max) = protected(&item)?;
                    if self.protect.insert(kind.clone(), max).is_some() {
                        return Err(item.wrong(format!("{kind} is listed twice; keep one of them")));
                    }
                }
            }
            "exempt" => {
                let selector = field.selector()?;
                if selector.is_everything() {
                    return Err(field.wrong("would exempt every cluster; select some by their labels"));
                }
                self.exempt = Some(selector);
            }
            _ => {
                let known = FIELDS.join(", ");
                return Err(field.wrong(format!("is not a field of a FleetPolicy; known are {known}")));
            }
        }
        Ok(())
    }

    /// The same, where these are the clusters of the fleet with their labels.
    pub(crate) fn of<'a>(
        mut self,
        clusters: impl Iterator<Item = (&'a ClusterName, &'a BTreeMap<String, String>)>,
    ) -> Self {
        let exempt = self.exempt.as_ref();
        let is_exempt =
            |labels: &BTreeMap<String, String>| exempt.is_some_and(|exempt| exempt.matches(labels));
        self.exempt_clusters =
            clusters.filter(|(_, labels)| is_exempt(labels)).map(|(name, _)| name.clone()).collect();
        self
    }

    fn over(&self, defaults: &Policy) -> Policy {
        let mut protected = defaults.protected.clone();
        protected.extend(self.protect.iter().map(|(kind, max)| (kind.clone(), *max)));
        Policy {
            units: self.units.over(defaults.units),
            objects: self.objects.over(defaults.objects),
            cluster: self.cluster.over(defaults.cluster),
            protected,
            exempt: self.exempt_clusters.clone(),
        }
    }
}

/// Collects what is wrong.
struct Reader<'a> {
    path: &'a TreePath,
    line: u32,
    problems: Vec<Problem>,
}

impl Reader<'_> {
    fn push(&mut self, Wrong { pos, field, message }: Wrong) {
        let line = if pos.line > 0 { pos.line } else { self.line };
        let problem = Problem::error(self.path.to_string(), line, message).field(field);
        self.problems.push(Problem { column: pos.column, ..problem });
    }

    fn take<T>(&mut self, read: Result<T, Wrong>) -> Option<T> {
        read.map_err(|wrong| self.push(wrong)).ok()
    }

    fn check(&mut self, read: Result<(), Wrong>) {
        self.take(read);
    }
}

fn count(field: &Field<'_>) -> Result<usize, Wrong> {
    let number = field.node.as_u64().and_then(|number| u32::try_from(number).ok());
    number.map(|number| number as usize).ok_or_else(|| field.wrong("must be a number, 0 or more"))
}

/// `{group: apps, kind: StatefulSet, max: 0}`
fn protected(item: &Field<'_>) -> Result<(KindName, usize), Wrong> {
    let fields = item.object(&["group", "kind", "max"])?;
    let group = fields.text("group")?.unwrap_or_default();
    let kind = fields.need("kind")?;
    let name = KindName::new(group, kind.text()?);
    // As it is written everywhere, so that a slip does not protect what there is not.
    let name = kind.so(name.to_string().parse::<KindName>())?;
    let max = fields.get("max").map(count).transpose()?.unwrap_or_default();
    Ok((name, max))
}
