//! Whether what a cluster is told to run fits it, as far as that can be told without the cluster: APIs that its version of
//! Kubernetes no longer serves, kinds that nothing in it defines, namespaces that nothing in it makes.

use std::collections::BTreeSet;
use std::fmt;

use flotilla_core::{Object, ObjectId};

use crate::cluster::ClusterRender;

/// A version of Kubernetes, as far as APIs go by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct KubernetesVersion {
    pub major: u32,
    pub minor: u32,
}

/// A text that is no version of Kubernetes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a version of Kubernetes: write it like 1.36 or v1.36.3")]
pub struct InvalidVersion(String);

impl std::str::FromStr for KubernetesVersion {
    type Err = InvalidVersion;

    fn from_str(text: &str) -> Result<Self, InvalidVersion> {
        let wrong = || InvalidVersion(text.to_owned());
        let number = |part: &str| {
            let is_number = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
            is_number.then(|| part.parse().ok()).flatten()
        };
        let plain = text.strip_prefix('v').unwrap_or(text);
        let mut parts = plain.splitn(3, '.');
        let (major, minor) = (parts.next().and_then(number), parts.next().and_then(number));
        // What follows is a patch level, with whatever a distribution appends.
        let is_patch = |patch: &str| patch.starts_with(|c: char| c.is_ascii_digit());
        match (major, minor, parts.next()) {
            (Some(major), Some(minor), None) => Ok(Self { major, minor }),
            (Some(major), Some(minor), Some(patch)) if is_patch(patch) => Ok(Self { major, minor }),
            _ => Err(wrong()),
        }
    }
}

impl fmt::Display for KubernetesVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// What does not fit.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Misfit {
    /// The cluster's Kubernetes does not serve this version of the API any more.
    RemovedApi { object: ObjectId, api_version: String, removed_in: u32, instead: &'static str },
    /// The kind is none of Kubernetes' own, and no CustomResourceDefinition in the cluster's output defines it.
    UnknownKind { group: String, kind: String },
    /// No Namespace of this name is in the cluster's output.
    NoNamespace { namespace: String },
}

impl Misfit {
    /// One word for machines.
    pub fn code(&self) -> &'static str {
        match self {
            Self::RemovedApi { .. } => "RemovedApi",
            Self::UnknownKind { .. } => "UnknownKind",
            Self::NoNamespace { .. } => "NoNamespace",
        }
    }
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RemovedApi { object, api_version, removed_in, instead } => write!(
                f,
                "{object}: Kubernetes serves {} in {api_version} no longer since 1.{removed_in}; use {instead}",
                object.kind
            ),
            Self::UnknownKind { group, kind } => {
                write!(f, "no CustomResourceDefinition in the cluster's output defines {kind}.{group}")
            }
            Self::NoNamespace { namespace } => {
                write!(f, "no Namespace '{namespace}' is in the cluster's output")
            }
        }
    }
}

/// API versions that are not served any more: group, version, kinds, the minor version of Kubernetes 1 since which, and what to use.
/// From the guide to deprecated APIs of Kubernetes' documentation.
const REMOVED: [(&str, &str, &[&str], u32, &str); 26] = [
    ("extensions", "v1beta1", &["DaemonSet", "Deployment", "ReplicaSet"], 16, "apps/v1"),
    ("extensions", "v1beta1", &["NetworkPolicy"], 16, "networking.k8s.io/v1"),
    ("extensions", "v1beta1", &["PodSecurityPolicy"], 16, "Pod Security Admission"),
    ("extensions", "v1beta1", &["Ingress"], 22, "networking.k8s.io/v1"),
    ("apps", "v1beta1", &["Deployment", "StatefulSet"], 16, "apps/v1"),
    ("apps", "v1beta2", &["DaemonSet", "Deployment", "ReplicaSet", "StatefulSet"], 16, "apps/v1"),
    (
        "admissionregistration.k8s.io",
        "v1beta1",
        &["MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"],
        22,
        "admissionregistration.k8s.io/v1",
    ),
    ("apiextensions.k8s.io", "v1beta1", &["CustomResourceDefinition"], 22, "apiextensions.k8s.io/v1"),
    ("apiregistration.k8s.io", "v1beta1", &["APIService"], 22, "apiregistration.k8s.io/v1"),
    ("certificates.k8s.io", "v1beta1", &["CertificateSigningRequest"], 22, "certificates.k8s.io/v1"),
    ("coordination.k8s.io", "v1beta1", &["Lease"], 22, "coordination.k8s.io/v1"),
    ("networking.k8s.io", "v1beta1", &["Ingress", "IngressClass"], 22, "networking.k8s.io/v1"),
    (
        "rbac.authorization.k8s.io",
        "v1beta1",
        &["ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"],
        22,
        "rbac.authorization.k8s.io/v1",
    ),
    ("scheduling.k8s.io", "v1beta1", &["PriorityClass"], 22, "scheduling.k8s.io/v1"),
    (
        "storage.k8s.io",
        "v1beta1",
        &["CSIDriver", "CSINode", "StorageClass", "VolumeAttachment"],
        22,
        "storage.k8s.io/v1",
    ),
    ("batch", "v1beta1", &["CronJob"], 25, "batch/v1"),
    ("discovery.k8s.io", "v1beta1", &["EndpointSlice"], 25, "discovery.k8s.io/v1"),
    ("events.k8s.io", "v1beta1", &["Event"], 25, "events.k8s.io/v1"),
    ("autoscaling", "v2beta1", &["HorizontalPodAutoscaler"], 25, "autoscaling/v2"),
    ("policy", "v1beta1", &["PodDisruptionBudget"], 25, "policy/v1"),
    ("policy", "v1beta1", &["PodSecurityPolicy"], 25, "Pod Security Admission"),
    ("node.k8s.io", "v1beta1", &["RuntimeClass"], 25, "node.k8s.io/v1"),
    ("autoscaling", "v2beta2", &["HorizontalPodAutoscaler"], 26, "autoscaling/v2"),
    ("storage.k8s.io", "v1beta1", &["CSIStorageCapacity"], 27, "storage.k8s.io/v1"),
    (
        "flowcontrol.apiserver.k8s.io",
        "v1beta2",
        &["FlowSchema", "PriorityLevelConfiguration"],
        29,
        "flowcontrol.apiserver.k8s.io/v1",
    ),
    (
        "flowcontrol.apiserver.k8s.io",
        "v1beta3",
        &["FlowSchema", "PriorityLevelConfiguration"],
        32,
        "flowcontrol.apiserver.k8s.io/v1",
    ),
];

/// Groups with a dot that every API server serves itself.
const BUILT_IN: [&str; 17] = [
    "admissionregistration.k8s.io",
    "apiextensions.k8s.io",
    "apiregistration.k8s.io",
    "authentication.k8s.io",
    "authorization.k8s.io",
    "certificates.k8s.io",
    "coordination.k8s.io",
    "discovery.k8s.io",
    "events.k8s.io",
    "flowcontrol.apiserver.k8s.io",
    "networking.k8s.io",
    "node.k8s.io",
    "rbac.authorization.k8s.io",
    "resource.k8s.io",
    "scheduling.k8s.io",
    "storage.k8s.io",
    "storagemigration.k8s.io",
];

/// Namespaces that every cluster has.
const NAMESPACES: [&str; 4] = ["default", "kube-node-lease", "kube-public", "kube-system"];

/// What does not fit a cluster of this version of Kubernetes. Kinds and namespaces are looked at only where the whole cluster renders:
/// what is not known may define them.
pub fn check(render: &ClusterRender, version: KubernetesVersion) -> BTreeSet<Misfit> {
    let mut misfits = BTreeSet::new();
    let units = || render.units.values().filter_map(|unit| unit.unit.as_ref());
    let objects = || units().flat_map(|unit| &unit.content.objects);
    misfits.extend(objects().filter_map(|object| removed(object, version)));
    if render.units.values().any(|unit| unit.unit.is_none()) {
        return misfits;
    }
    let (mut kinds, mut namespaces) = (BTreeSet::new(), BTreeSet::from(NAMESPACES.map(str::to_owned)));
    for object in objects() {
        let id = object.id();
        if id.is("apiextensions.k8s.io", "CustomResourceDefinition") {
            let value = object.value();
            let text = |pointer: &str| {
                value.pointer(pointer).and_then(|text| text.as_str()).unwrap_or_default().to_owned()
            };
            kinds.insert((text("/spec/group"), text("/spec/names/kind")));
        } else if id.is("", "Namespace") {
            namespaces.insert(id.name.clone());
        }
    }
    for id in objects().map(Object::id) {
        let is_built_in = !id.group.contains('.') || BUILT_IN.contains(&&*id.group);
        if !is_built_in && !kinds.contains(&(id.group.clone(), id.kind.clone())) {
            misfits.insert(Misfit::UnknownKind { group: id.group.clone(), kind: id.kind.clone() });
        }
        if !id.namespace.is_empty() && !namespaces.contains(&id.namespace) {
            misfits.insert(Misfit::NoNamespace { namespace: id.namespace.clone() });
        }
    }
    misfits
}

fn removed(object: &Object, version: KubernetesVersion) -> Option<Misfit> {
    let (id, own) = (object.id(), &object.reference().version);
    let (.., removed_in, instead) = REMOVED.into_iter().find(|(group, api, kinds, since, _)| {
        id.group == *group
            && **own == **api
            && kinds.contains(&&*id.kind)
            && version >= KubernetesVersion { major: 1, minor: *since }
    })?;
    let api_version = object.reference().api_version();
    Some(Misfit::RemovedApi { object: id.clone(), api_version, removed_in, instead })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_they_are_written() {
        for (text, expected) in [
            ("1.36", Some("1.36")),
            ("v1.36.3", Some("1.36")),
            ("1.29.4-gke.1043002", Some("1.29")),
            ("v1.30.2+k3s1", Some("1.30")),
            ("1", None),
            ("1.x", None),
            ("1.+3", None),
            ("1.30.", None),
            ("", None),
        ] {
            let read = text.parse::<KubernetesVersion>().map(|version| version.to_string());
            assert_eq!(read.as_deref().ok(), expected, "{text}");
        }
    }
}
