//! What identifies a resource: group, version, kind, name and namespace, and how kustomize compares them.

use std::fmt;

use flotilla_yaml::SmolStr;

/// Group, version and kind; an empty part of a selector matches anything.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, PartialOrd, Ord)]
pub(crate) struct Gvk {
    pub(crate) group: SmolStr,
    pub(crate) version: SmolStr,
    pub(crate) kind: SmolStr,
}

/// What stands for the namespace of objects that have none.
pub(crate) const CLUSTER: &str = "_non_namespaceable_";
const DEFAULT: &str = "default";

impl Gvk {
    pub(crate) fn new(api_version: &str, kind: &str) -> Self {
        let (group, version) = split_api_version(api_version);
        Self { group: group.into(), version: version.into(), kind: kind.into() }
    }

    pub(crate) fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.to_string()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// Whether `selector` matches this; its empty parts match anything.
    pub(crate) fn is_selected(&self, selector: &Gvk) -> bool {
        (selector.kind.is_empty() || selector.kind == self.kind)
            && (selector.group.is_empty() || selector.group == self.group)
            && (selector.version.is_empty() || selector.version == self.version)
    }

    /// Whether this, as a selector, matches an object.
    pub(crate) fn selects(&self, api_version: &str, kind: &str) -> bool {
        if !self.kind.is_empty() && self.kind != kind {
            return false;
        }
        let (group, version) = split_api_version(api_version);
        (self.group.is_empty() || self.group == group) && (self.version.is_empty() || self.version == version)
    }

    /// The key by which field specs of different kinds are ordered.
    pub(crate) fn order(&self) -> (i64, String) {
        (kind_order(&self.kind, &ORDER_FIRST, &ORDER_LAST), self.sorted_by())
    }

    /// The key by which the kinds are ordered that no list names.
    pub(crate) fn sorted_by(&self) -> String {
        format!("{}_{}_{}", or(&self.group, "~G"), or(&self.version, "~V"), or(&self.kind, "~K"))
    }

    /// Whether the kind is a built-in one without a namespace.
    fn is_cluster_scoped(&self) -> bool {
        is_cluster_scoped(&self.group, &self.version, &self.kind)
    }
}

/// Kinds that go first, in this order.
pub(crate) const ORDER_FIRST: [&str; 22] = [
    "Namespace",
    "ResourceQuota",
    "StorageClass",
    "CustomResourceDefinition",
    "ServiceAccount",
    "PodSecurityPolicy",
    "Role",
    "ClusterRole",
    "RoleBinding",
    "ClusterRoleBinding",
    "ConfigMap",
    "Secret",
    "Endpoints",
    "Service",
    "LimitRange",
    "PriorityClass",
    "PersistentVolume",
    "PersistentVolumeClaim",
    "Deployment",
    "StatefulSet",
    "CronJob",
    "PodDisruptionBudget",
];

/// Kinds that go last.
pub(crate) const ORDER_LAST: [&str; 2] = ["MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"];

/// The place of a kind in the output: before, among or after those that no list names. The last of several places in
/// the lists counts.
pub(crate) fn kind_order<T: AsRef<str>>(kind: &str, first: &[T], last: &[T]) -> i64 {
    let at = |list: &[T]| list.iter().rposition(|listed| listed.as_ref() == kind).map(|n| n as i64);
    match (at(last), at(first)) {
        (Some(n), _) => n + 1,
        (_, Some(n)) => n - first.len() as i64,
        _ => 0,
    }
}

fn split_api_version(api_version: &str) -> (&str, &str) {
    api_version.split_once('/').unwrap_or(("", api_version))
}

fn or<'a>(part: &'a str, other: &'a str) -> &'a str {
    if part.is_empty() { other } else { part }
}

/// Whether this is one of the cluster-scoped kinds of the Kubernetes API that kustomize has built in.
pub fn is_cluster_scoped(group: &str, version: &str, kind: &str) -> bool {
    let v1 = version == "v1";
    let beta = version == "v1beta1";
    match group {
        "" => {
            v1 && matches!(
                kind,
                "Namespace" | "Node" | "PersistentVolume" | "ComponentStatus" | "NodeProxyOptions"
            )
        }
        "admissionregistration.k8s.io" => {
            ((v1 || beta)
                && matches!(kind, "MutatingWebhookConfiguration" | "ValidatingWebhookConfiguration"))
                || matches!(kind, "ValidatingAdmissionPolicy" | "ValidatingAdmissionPolicyBinding")
        }
        "apiextensions.k8s.io" => (v1 || beta) && kind == "CustomResourceDefinition",
        "apiregistration.k8s.io" => (v1 || beta) && kind == "APIService",
        "certificates.k8s.io" => (v1 || beta) && kind == "CertificateSigningRequest",
        "flowcontrol.apiserver.k8s.io" => beta && matches!(kind, "FlowSchema" | "PriorityLevelConfiguration"),
        "networking.k8s.io" => (v1 || beta) && kind == "IngressClass",
        "node.k8s.io" => (v1 || beta) && kind == "RuntimeClass",
        "policy" => beta && kind == "PodSecurityPolicy",
        "rbac.authorization.k8s.io" => (v1 || beta) && matches!(kind, "ClusterRole" | "ClusterRoleBinding"),
        "scheduling.k8s.io" => (v1 || beta) && kind == "PriorityClass",
        "storage.k8s.io" => {
            (v1 || beta) && matches!(kind, "CSIDriver" | "CSINode" | "StorageClass" | "VolumeAttachment")
        }
        _ => false,
    }
}

/// `Kind.version.group` with a word in brackets for what is missing.
impl fmt::Display for Gvk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}.{}.{}",
            or(&self.kind, "[noKind]"),
            or(&self.version, "[noVer]"),
            or(&self.group, "[noGrp]")
        )
    }
}

/// A resource's identity, now or at an earlier step of the build.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct ResId {
    pub(crate) gvk: Gvk,
    pub(crate) name: SmolStr,
    pub(crate) namespace: SmolStr,
    /// Whether an OpenAPI document says that objects of this kind have no namespace.
    pub(crate) cluster: bool,
}

impl ResId {
    /// Whether the kind is known to have no namespace.
    pub(crate) fn is_cluster_scoped(&self) -> bool {
        self.cluster || self.gvk.is_cluster_scoped()
    }

    /// The namespace with `default` for none, and a mark for objects that cannot have one.
    pub(crate) fn effective_namespace(&self) -> &str {
        if self.is_cluster_scoped() {
            CLUSTER
        } else if self.namespace.is_empty() {
            DEFAULT
        } else {
            &self.namespace
        }
    }

    pub(crate) fn same_namespace(&self, other: &ResId) -> bool {
        self.effective_namespace() == other.effective_namespace()
    }

    pub(crate) fn gvkn_equals(&self, other: &ResId) -> bool {
        self.name == other.name && self.gvk == other.gvk
    }

    /// The same object: kind, name and effective namespace agree.
    pub(crate) fn same(&self, other: &ResId) -> bool {
        self.gvkn_equals(other) && self.same_namespace(other)
    }

    /// Whether a selector's parts, where not empty, agree with this.
    pub(crate) fn is_selected_by(&self, selector: &ResId) -> bool {
        (selector.name.is_empty() || selector.name == self.name)
            && (selector.namespace.is_empty() || selector.same_namespace(self))
            && self.gvk.is_selected(&selector.gvk)
    }

    pub(crate) fn is_empty(&self) -> bool {
        *self == ResId::default()
    }

    /// A key under which equal ids fall together.
    pub(crate) fn key(&self) -> (Gvk, SmolStr, SmolStr) {
        (self.gvk.clone(), self.name.clone(), self.effective_namespace().into())
    }
}

impl fmt::Display for ResId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = if self.name.is_empty() { "[noName]" } else { &self.name };
        let namespace = if self.namespace.is_empty() { "[noNs]" } else { &self.namespace };
        write!(f, "{}/{name}.{namespace}", self.gvk)
    }
}
