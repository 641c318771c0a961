//! What kubectl is told of our objects: an ApplySet as KEP-3659 describes, one for the cluster. Its parent is a ConfigMap
//! beside the inventory, and every object that we apply carries the label of its members. Published for others only:
//! controllers copy labels, so nothing here ever decides what is ours.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use flotilla_core::live::Live;
use flotilla_core::{ObjectId, drift};
use http::Method;
use serde_json::json;

use super::discovery::Resource;
use super::request::{Call, Failure};
use super::{Cluster, SYSTEM_NAMESPACE};

/// The parent's name.
pub(super) const NAME: &str = "flotilla";
/// What the KEP makes of name, namespace, kind and group: `applyset-`, the SHA-256 of
/// `flotilla.flotilla-system.ConfigMap.` in base64 for URLs, `-v1`.
pub(crate) const ID: &str = "applyset-F3SBA5kIFKMG4UEtKoWVxFZK3Ecz7AfMEBd7Zi8NgTk-v1";
/// On the parent.
const ID_LABEL: &str = "applyset.kubernetes.io/id";
/// On the members.
pub(crate) const MEMBER_LABEL: &str = "applyset.kubernetes.io/part-of";
const TOOLING: &str = "applyset.kubernetes.io/tooling";
const KINDS: &str = "applyset.kubernetes.io/contains-group-kinds";
const NAMESPACES: &str = "applyset.kubernetes.io/additional-namespaces";

/// The annotations of the parent for these members.
pub(crate) fn annotations<'a>(members: impl Iterator<Item = &'a ObjectId>) -> BTreeMap<String, String> {
    let (mut kinds, mut namespaces) = (BTreeSet::new(), BTreeSet::new());
    for id in members {
        let kind = if id.group.is_empty() { id.kind.clone() } else { format!("{}.{}", id.kind, id.group) };
        kinds.insert(kind);
        if !id.namespace.is_empty() && id.namespace != SYSTEM_NAMESPACE {
            namespaces.insert(id.namespace.as_str());
        }
    }
    let kinds: Vec<String> = kinds.into_iter().collect();
    let namespaces: Vec<&str> = namespaces.into_iter().collect();
    BTreeMap::from([
        (TOOLING.to_owned(), "flotilla/v1".to_owned()),
        (KINDS.to_owned(), kinds.join(",")),
        (NAMESPACES.to_owned(), namespaces.join(",")),
    ])
}

impl Cluster {
    /// Brings the parent up to date; looks first, so that nothing is written for nothing.
    ///
    /// # Errors
    /// If the API server refuses or is away; nothing hangs on it.
    pub(crate) async fn publish_set(&self, annotations: &BTreeMap<String, String>) -> Result<(), Failure> {
        let path = Resource::inventory_path(NAME);
        match self.get_path::<Live>(path.clone()).await {
            Ok(live) => {
                let same = annotations
                    .iter()
                    .all(|(name, value)| live.metadata.annotations.get(name) == Some(value));
                if same && live.metadata.labels.get(ID_LABEL).is_some_and(|id| id == ID) {
                    return Ok(());
                }
            }
            Err(failure) if failure.is_not_found() => {}
            Err(failure) => return Err(failure),
        }
        let parent = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": NAME,
            "namespace": SYSTEM_NAMESPACE, "labels": {ID_LABEL: ID}, "annotations": annotations}});
        let call = Call::new(Method::PATCH, format!("{path}?fieldManager={}&force=true", drift::MANAGER));
        let body = Bytes::from(parent.to_string());
        self.send(call.body("application/apply-patch+yaml", body)).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parent_names_the_kinds_and_namespaces_of_its_members() {
        let id = |group: &str, kind: &str, namespace: &str| ObjectId::new(group, kind, namespace, "x");
        let members = [
            id("apps", "Deployment", "web"),
            id("", "ConfigMap", SYSTEM_NAMESPACE),
            id("", "Namespace", ""),
            id("", "ConfigMap", "db"),
        ];
        let annotations = annotations(members.iter());
        assert_eq!(annotations[KINDS], "ConfigMap,Deployment.apps,Namespace");
        assert_eq!(annotations[NAMESPACES], "db,web");
        assert!(annotations[TOOLING].starts_with("flotilla/"));
    }
}
