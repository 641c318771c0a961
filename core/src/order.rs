//! Orders: in which stages objects are applied and removed, and which unit waits for which.

use std::collections::BTreeMap;

use crate::digest::Digest;
use crate::object::ObjectId;
use crate::unit::ServiceAccount;
use crate::unit::UnitId;

/// Objects of a lower stage are applied, CRDs established too, before those of a higher one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    /// Namespaces and CRDs: others cannot be without them.
    Definitions,
    /// Accounts, permissions, quotas, classes, volumes, configuration: workloads read them as they start.
    Configuration,
    /// Everything else, custom resources included.
    Workloads,
    /// Webhooks, admission policies and API services: they stop others from being applied while what serves
    /// them is not there.
    Gatekeepers,
}

impl Stage {
    pub const ALL: [Self; 4] = [Self::Definitions, Self::Configuration, Self::Workloads, Self::Gatekeepers];

    /// The stage of an object by its group and kind.
    pub fn of(object: &ObjectId) -> Self {
        match (object.group.as_str(), object.kind.as_str()) {
            ("", "Namespace") | ("apiextensions.k8s.io", "CustomResourceDefinition") => Self::Definitions,
            (
                "",
                "ServiceAccount"
                | "ConfigMap"
                | "Secret"
                | "ResourceQuota"
                | "LimitRange"
                | "PersistentVolume"
                | "PersistentVolumeClaim",
            )
            | ("rbac.authorization.k8s.io", _)
            | ("storage.k8s.io", _)
            | ("scheduling.k8s.io", _)
            | ("node.k8s.io", _)
            | ("networking.k8s.io", "IngressClass") => Self::Configuration,
            ("admissionregistration.k8s.io", _) | ("apiregistration.k8s.io", _) => Self::Gatekeepers,
            _ => Self::Workloads,
        }
    }
}

/// Objects of a lower step are deleted, and gone, before those of a higher one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Leave {
    /// First, so that they do not stand in the way of the rest.
    Gatekeepers,
    /// While their controllers still run and take their finalizers away.
    CustomResources,
    Workloads,
    Configuration,
    /// Before the kinds of what is still in them: a namespace lists every kind until it is empty, and one that is deleted
    /// meanwhile holds it up.
    Namespaces,
    Kinds,
}

impl Leave {
    pub fn of(object: &ObjectId) -> Self {
        match Stage::of(object) {
            Stage::Gatekeepers => Self::Gatekeepers,
            Stage::Configuration => Self::Configuration,
            Stage::Definitions if object.group.is_empty() => Self::Namespaces,
            Stage::Definitions => Self::Kinds,
            Stage::Workloads if is_builtin_group(&object.group) => Self::Workloads,
            Stage::Workloads => Self::CustomResources,
        }
    }
}

/// Kubernetes' own groups have no dot, or end in `.k8s.io`; `gateway.networking.k8s.io` and its like are CRDs.
fn is_builtin_group(group: &str) -> bool {
    !group.contains('.')
        || matches!(
            group,
            "networking.k8s.io"
                | "discovery.k8s.io"
                | "events.k8s.io"
                | "coordination.k8s.io"
                | "flowcontrol.apiserver.k8s.io"
                | "certificates.k8s.io"
                | "resource.k8s.io"
                | "authentication.k8s.io"
                | "authorization.k8s.io"
        )
}

/// What a unit hangs on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Links {
    pub parent: Option<UnitId>,
    pub depends_on: Vec<UnitId>,
    /// The account that the unit ran as last, under which its objects are removed.
    pub account: Option<ServiceAccount>,
    /// See [`crate::UnitSpec::place`].
    pub place: Option<Digest>,
}

/// What is wrong with the links of these units, in words, by unit: a dependency or parent that is not there, or a
/// cycle. `known` says of a unit that is not among them whether it is there all the same (held, suspended).
pub fn broken_links(
    units: &BTreeMap<UnitId, Links>,
    known: impl Fn(&UnitId) -> bool,
) -> BTreeMap<UnitId, String> {
    let mut broken = BTreeMap::new();
    for (id, links) in units {
        let missing = |unit: &&UnitId| !units.contains_key(*unit) && !known(unit);
        if let Some(parent) = links.parent.iter().find(missing) {
            broken.insert(id.clone(), format!("its parent {parent} is not in this cluster's state"));
        } else if let Some(dependency) = links.depends_on.iter().find(missing) {
            broken.insert(
                id.clone(),
                format!("dependsOn names {dependency}, which is not in this cluster's state"),
            );
        } else if let Some(cycle) = cycle_through(units, id) {
            let path: Vec<String> = cycle.iter().map(ToString::to_string).collect();
            broken.insert(id.clone(), format!("waits for itself: {}", path.join(" → ")));
        }
    }
    broken
}

/// The shortest way from `start` back to itself.
fn cycle_through<'a>(units: &'a BTreeMap<UnitId, Links>, start: &'a UnitId) -> Option<Vec<&'a UnitId>> {
    let next = |id: &UnitId| {
        units.get(id).into_iter().flat_map(|links| links.parent.iter().chain(&links.depends_on))
    };
    let mut came_from: BTreeMap<&UnitId, &UnitId> = BTreeMap::new();
    let mut front = vec![start];
    while !front.is_empty() {
        let mut beyond = Vec::new();
        for at in front {
            for to in next(at) {
                if to == start {
                    let mut path = vec![start, at];
                    let mut back = at;
                    while back != start {
                        back = came_from[back];
                        path.push(back);
                    }
                    path.reverse();
                    return Some(path);
                }
                if !came_from.contains_key(to) {
                    came_from.insert(to, at);
                    beyond.push(to);
                }
            }
        }
        front = beyond;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(group: &str, kind: &str) -> ObjectId {
        ObjectId::new(group, kind, "n", "x")
    }

    #[test]
    fn stages_by_kind() {
        for (group, kind, stage, leave) in [
            ("", "Namespace", Stage::Definitions, Leave::Namespaces),
            ("apiextensions.k8s.io", "CustomResourceDefinition", Stage::Definitions, Leave::Kinds),
            ("", "ConfigMap", Stage::Configuration, Leave::Configuration),
            ("rbac.authorization.k8s.io", "ClusterRole", Stage::Configuration, Leave::Configuration),
            ("storage.k8s.io", "StorageClass", Stage::Configuration, Leave::Configuration),
            ("apps", "Deployment", Stage::Workloads, Leave::Workloads),
            ("", "Service", Stage::Workloads, Leave::Workloads),
            ("networking.k8s.io", "NetworkPolicy", Stage::Workloads, Leave::Workloads),
            ("gateway.networking.k8s.io", "HTTPRoute", Stage::Workloads, Leave::CustomResources),
            ("cert-manager.io", "Certificate", Stage::Workloads, Leave::CustomResources),
            (
                "admissionregistration.k8s.io",
                "ValidatingWebhookConfiguration",
                Stage::Gatekeepers,
                Leave::Gatekeepers,
            ),
            ("apiregistration.k8s.io", "APIService", Stage::Gatekeepers, Leave::Gatekeepers),
        ] {
            let object = object(group, kind);
            assert_eq!((Stage::of(&object), Leave::of(&object)), (stage, leave), "{object}");
        }
        assert!(Leave::CustomResources < Leave::Workloads && Leave::Workloads < Leave::Namespaces);
        assert!(Leave::Namespaces < Leave::Kinds);
    }

    fn links(list: &[(&str, &str, &[&str])]) -> BTreeMap<UnitId, Links> {
        let unit =
            |name: &str| if name == "root" { UnitId::root() } else { UnitId::kustomization("f", name) };
        list.iter()
            .map(|(name, parent, deps)| {
                let parent = (!parent.is_empty()).then(|| unit(parent));
                (
                    unit(name),
                    Links {
                        parent,
                        depends_on: deps.iter().map(|d| unit(d)).collect(),
                        account: None,
                        place: None,
                    },
                )
            })
            .collect()
    }

    #[test]
    fn broken_links_are_named() {
        let units = links(&[
            ("root", "", &[]),
            ("a", "root", &["b"]),
            ("b", "root", &["c"]),
            ("c", "root", &["a"]),
            ("self", "root", &["self"]),
            ("lost", "root", &["nowhere"]),
            ("orphan", "gone", &[]),
            ("fine", "root", &["held"]),
        ]);
        let broken = broken_links(&units, |unit| unit.name == "held");
        let said: Vec<(&str, &str)> =
            broken.iter().map(|(id, why)| (id.name.as_str(), why.as_str())).collect();
        assert_eq!(
            said,
            [
                (
                    "a",
                    "waits for itself: kustomization/f/a → kustomization/f/b → kustomization/f/c → kustomization/f/a"
                ),
                (
                    "b",
                    "waits for itself: kustomization/f/b → kustomization/f/c → kustomization/f/a → kustomization/f/b"
                ),
                (
                    "c",
                    "waits for itself: kustomization/f/c → kustomization/f/a → kustomization/f/b → kustomization/f/c"
                ),
                ("lost", "dependsOn names kustomization/f/nowhere, which is not in this cluster's state"),
                ("orphan", "its parent kustomization/f/gone is not in this cluster's state"),
                ("self", "waits for itself: kustomization/f/self → kustomization/f/self"),
            ]
        );
    }
}
