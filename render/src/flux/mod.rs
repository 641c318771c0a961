//! Flux's own kinds in a unit's output: what becomes a child unit, what is a source, what is not acted on yet.

pub mod components;
pub(crate) mod kustomization;
pub(crate) mod older;
pub mod roots;
pub(crate) mod sources;
mod unknown;

use std::collections::BTreeSet;

use flotilla_core::UnitId;
use flotilla_core::names::{is_dns_label, is_dns_subdomain};
use flotilla_core::source::SourceKind;
use flotilla_core::unit::{DriftMode, UnitKind};
use flotilla_yaml::Node;

use crate::field::{Field, Wrong};

/// What a rendered object is to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Goes to the cluster.
    Object,
    /// A Flux `Kustomization`: becomes a unit.
    Kustomization,
    /// A Flux `HelmRelease`: becomes a unit.
    HelmRelease,
    /// A Flux source: the hub's business.
    Source(SourceKind),
    /// A Flux kind that we know and do not act on.
    Ignored,
    /// A kind of our own: the hub's business, and only in the folder of clusters.
    Ours,
}

/// What is wrong with the group and kind of an object that is meant for us and that we do not know.
pub(crate) fn unknown(group: &str, version: &str, kind: &str) -> Option<String> {
    if group.is_empty() && version.contains('.') {
        return Some(format!(
            "the apiVersion '{version}' of this {kind} lacks its version: {version}/v1, or another"
        ));
    }
    (role(group, kind) == Role::Object).then(|| unknown::why(group, kind))?
}

/// The group of the Flux Operator, and its kinds: <https://fluxcd.control-plane.io/operator/>.
const OPERATOR: &str = "fluxcd.controlplane.io";
const OF_OPERATOR: [&str; 4] = ["FluxInstance", "FluxReport", "ResourceSet", "ResourceSetInputProvider"];

/// The group of kustomize's own files, which Flux leaves out where they are among a unit's resources.
const KUSTOMIZE: &str = "kustomize.config.k8s.io";

/// What is said of an object of a kind that we know and do not act on.
pub(crate) fn ignored(group: &str, kind: &str, namespace: &str, name: &str) -> String {
    let object =
        if namespace.is_empty() { format!("{kind} {name}") } else { format!("{kind} {namespace}/{name}") };
    match (group, kind) {
        (OPERATOR, "ResourceSet") => format!(
            "{object} is not applied, and nothing that the Flux Operator would make of it is known here: write those objects \
             into Git, or keep the operator and this object in a repository that Flotilla does not read"
        ),
        (OPERATOR, "ResourceSetInputProvider") => {
            format!("{object} is not applied: it only gives inputs to a ResourceSet, which is not acted on")
        }
        (OPERATOR, _) => {
            format!("{object} is not applied: it speaks of Flux itself, whose work is done here")
        }
        (KUSTOMIZE, _) => {
            format!(
                "{object} is not applied: it says how a folder is built, and is not an object of a cluster"
            )
        }
        _ => format!("{object} is not acted on yet"),
    }
}

/// Tells an object's role by its group and kind.
pub fn role(group: &str, kind: &str) -> Role {
    if let Some(source) = SourceKind::ALL.into_iter().find(|s| s.group() == group && s.as_str() == kind) {
        return Role::Source(source);
    }
    match (group, kind) {
        ("kustomize.toolkit.fluxcd.io", "Kustomization") => Role::Kustomization,
        ("helm.toolkit.fluxcd.io", "HelmRelease") => Role::HelmRelease,
        ("notification.toolkit.fluxcd.io", "Alert" | "Provider" | "Receiver")
        | ("image.toolkit.fluxcd.io", "ImageRepository" | "ImagePolicy" | "ImageUpdateAutomation") => {
            Role::Ignored
        }
        (OPERATOR, kind) if OF_OPERATOR.contains(&kind) => Role::Ignored,
        (KUSTOMIZE, kind) if kind.eq_ignore_ascii_case("Kustomization") => Role::Ignored,
        (crate::fleet::GROUP, _) => Role::Ours,
        _ => Role::Object,
    }
}

/// The `Kustomization` by which Flux applies a cluster's own path.
pub const FLEET_UNIT: (&str, &str) = ("flux-system", "flux-system");

/// Who asks for an annotation that lets a unit fall to zero objects.
pub const ALLOW_EMPTY: &str = "flotilla.dev/allow-empty";

/// Namespaces, parted by commas, that a unit under a service account may define units and sources in, beside its account's
/// own; or [`EVERYTHING`]. It counts for no more than who wrote it may define.
pub(crate) const NAMESPACES: &str = "flotilla.dev/namespaces";
/// The unit is trusted as what defines it is.
pub(crate) const EVERYTHING: &str = "*";

/// The namespaces that a Flux object allows its unit.
pub(crate) fn allowed_namespaces(object: &Node) -> Result<BTreeSet<String>, Wrong> {
    let Some(node) = object.at(&["metadata", "annotations", NAMESPACES]) else { return Ok(BTreeSet::new()) };
    let field = Field::new(node, "metadata.annotations.flotilla.dev/namespaces");
    let is_name = |name: &str| {
        let ends = [name.chars().next(), name.chars().last()];
        ends.iter().all(|end| end.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit()))
            && name.len() <= 63
            && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
    };
    let names: BTreeSet<String> = field.str()?.split(',').map(|name| name.trim().to_owned()).collect();
    match names.iter().find(|name| *name != EVERYTHING && !is_name(name)) {
        Some(name) => Err(field.wrong(format!("'{name}' is not a valid name of a namespace"))),
        None => Ok(names),
    }
}

/// What becomes of a unit's drift, on the Flux object that defines it: a word as in a `Cluster` object.
const DRIFT: &str = "flotilla.dev/drift";

/// What a Flux object says itself of its unit's drift.
pub(crate) fn own_drift(object: &Node) -> Result<Option<DriftMode>, Wrong> {
    let modes =
        [("correct", DriftMode::Correct), ("report", DriftMode::Report), ("ignore", DriftMode::Ignore)];
    let mode = object.at(&["metadata", "annotations", DRIFT]);
    mode.map(|mode| Field::new(mode, "metadata.annotations.flotilla.dev/drift").choice(&modes)).transpose()
}

/// The namespace of a Flux object that names none.
pub(crate) fn namespace_or_default(namespace: &str) -> &str {
    if namespace.is_empty() { "default" } else { namespace }
}

/// Whether an API server would take an object of this name. Units and sources are defined before one is asked, and their
/// names become part of records, labels and messages.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn check_name(namespace: &str, name: &str) -> Result<(), String> {
    let start = |text: &str| text.chars().take(100).collect::<String>();
    if !is_dns_subdomain(name) {
        return Err(format!(
            "a name that no API server takes, '{}': use 1 to 253 lower-case letters, digits, '-' and '.'",
            start(name)
        ));
    }
    if !namespace.is_empty() && !is_dns_label(namespace) {
        return Err(format!(
            "a namespace that no API server takes, '{}': use 1 to 63 lower-case letters, digits and '-'",
            start(namespace)
        ));
    }
    Ok(())
}

/// The unit that a Flux object defines.
pub fn unit_id(role: Role, namespace: &str, name: &str) -> UnitId {
    let kind = if role == Role::HelmRelease { UnitKind::HelmRelease } else { UnitKind::Kustomization };
    UnitId::new(kind, namespace_or_default(namespace), name)
}
