//! The order of kinds in which Helm applies and deletes. What it does not list comes last, by the kind's name.

/// What others need comes first.
pub(crate) const INSTALL: [&str; 38] = [
    "PriorityClass",
    "Namespace",
    "NetworkPolicy",
    "ResourceQuota",
    "LimitRange",
    "PodSecurityPolicy",
    "PodDisruptionBudget",
    "ServiceAccount",
    "Secret",
    "SecretList",
    "ConfigMap",
    "StorageClass",
    "PersistentVolume",
    "PersistentVolumeClaim",
    "CustomResourceDefinition",
    "ClusterRole",
    "ClusterRoleList",
    "ClusterRoleBinding",
    "ClusterRoleBindingList",
    "Role",
    "RoleList",
    "RoleBinding",
    "RoleBindingList",
    "Service",
    "DaemonSet",
    "Pod",
    "ReplicationController",
    "ReplicaSet",
    "Deployment",
    "HorizontalPodAutoscaler",
    "StatefulSet",
    "Job",
    "CronJob",
    "IngressClass",
    "Ingress",
    "APIService",
    "MutatingWebhookConfiguration",
    "ValidatingWebhookConfiguration",
];

/// By kind in the order of installing; what is of one kind stays as it is.
pub(crate) fn by_kind<T>(items: &mut [T], kind: impl Fn(&T) -> &str) {
    let place = |kind: &str| INSTALL.iter().position(|known| *known == kind).unwrap_or(INSTALL.len());
    items.sort_by(|a, b| {
        let (a, b) = (kind(a), kind(b));
        let unlisted =
            |kind: &str| if place(kind) == INSTALL.len() { kind.to_owned() } else { String::new() };
        place(a).cmp(&place(b)).then_with(|| unlisted(a).cmp(&unlisted(b)))
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listed_kinds_come_first_and_equals_stay() {
        let mut items = [
            ("Zebra", 1),
            ("Job", 2),
            ("Apple", 3),
            ("Secret", 4),
            ("Job", 5),
            ("ConfigMap", 6),
            ("Zebra", 7),
            ("Namespace", 8),
        ];
        by_kind(&mut items, |item| item.0);
        assert_eq!(items.map(|item| item.1), [8, 4, 6, 2, 5, 3, 1, 7]);
    }
}
