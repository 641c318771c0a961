//! Which objects a revision's manifest names, so that what one has and the next one has not can be told.

use std::collections::BTreeSet;

use flotilla_core::ObjectId;
use flotilla_yaml::{Node, parse};

use crate::manifest::{RESOURCE_POLICY, split};

/// How deep lists of lists are read.
const MAX_LISTS: usize = 4;

/// An object of a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// Where the manifest names no namespace, the release's, though the kind may have none.
    pub id: ObjectId,
    pub version: String,
    /// It is not to be deleted with the release: see [`crate::manifest::Manifest::is_kept`].
    pub is_kept: bool,
}

/// The objects of a manifest, in its order; those of a list one by one.
///
/// # Errors
/// If a document is no YAML or has no kind or name: then nobody can tell what the manifest has.
pub fn named(manifest: &str, namespace: &str) -> Result<Vec<Named>, String> {
    let mut found = Vec::new();
    for document in split(manifest) {
        let wrong = |why: &str| format!("an object of the manifest cannot be read: {why}");
        for node in parse(&document).map_err(|error| wrong(&error.to_string()))? {
            if !node.is_null() {
                add(&node, namespace, MAX_LISTS, &mut found).map_err(|why| wrong(&why))?;
            }
        }
    }
    Ok(found)
}

fn add(node: &Node, namespace: &str, lists: usize, found: &mut Vec<Named>) -> Result<(), String> {
    let text = |path: &[&str]| node.at(path).and_then(Node::text).unwrap_or_default();
    let kind = text(&["kind"]);
    if let Some(items) = node.get("items").and_then(Node::as_seq)
        && kind.ends_with("List")
    {
        let lists = lists.checked_sub(1).ok_or("it has lists in lists in lists")?;
        return items.iter().try_for_each(|item| add(item, namespace, lists, found));
    }
    let name = text(&["metadata", "name"]);
    if kind.is_empty() || name.is_empty() {
        return Err("it has no kind or no name".to_owned());
    }
    let api_version = text(&["apiVersion"]);
    let (group, version) = api_version.rsplit_once('/').unwrap_or(("", api_version));
    let own = text(&["metadata", "namespace"]);
    let annotations = node.at(&["metadata", "annotations"]);
    found.push(Named {
        id: ObjectId::new(group, kind, if own.is_empty() { namespace } else { own }, name),
        version: version.to_owned(),
        is_kept: annotations.is_some_and(|annotations| annotations.get(RESOURCE_POLICY).is_some()),
    });
    Ok(())
}

/// What earlier manifests have and the new one has not, apart from what is kept, in the order of deleting: what was applied first is
/// deleted last.
pub(super) fn left(earlier: Vec<Named>, new: &[Named]) -> Vec<Named> {
    let mut seen: BTreeSet<ObjectId> = new.iter().map(|named| named.id.clone()).collect();
    // What one of them keeps is kept.
    seen.extend(earlier.iter().filter(|named| named.is_kept).map(|named| named.id.clone()));
    earlier.into_iter().rev().filter(|named| seen.insert(named.id.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(named: &[Named]) -> Vec<String> {
        let told = |it: &Named| format!("{} {}{}", it.id, it.version, if it.is_kept { " kept" } else { "" });
        named.iter().map(told).collect()
    }

    #[test]
    fn objects_of_a_manifest_are_named() {
        let manifest = "---\n# Source: a/x.yaml\napiVersion: v1\nkind: Service\nmetadata: {name: a}\n---\n# nothing\n---\napiVersion: \
                        apps/v1\nkind: Deployment\nmetadata: {name: b, namespace: other, annotations: {helm.sh/resource-policy: \
                        keep}}\n---\napiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Secret, metadata: {name: c}}\n- \
                        {apiVersion: v1, kind: ConfigMapList, items: [{apiVersion: v1, kind: ConfigMap, metadata: {name: d}}]}\n";
        let found = named(manifest, "apps").unwrap();
        let expected = [
            "Service apps/a v1",
            "Deployment.apps other/b v1 kept",
            "Secret apps/c v1",
            "ConfigMap apps/d v1",
        ];
        assert_eq!(told(&found), expected);

        let mut deep = "{apiVersion: v1, kind: Secret, metadata: {name: c}}".to_owned();
        for _ in 0..=MAX_LISTS {
            deep = format!("{{apiVersion: v1, kind: List, items: [{deep}]}}");
        }
        for (manifest, says) in [
            ("a: [", "an object of the manifest cannot be read"),
            ("kind: Secret", "it has no kind or no name"),
            ("metadata: {name: x}", "it has no kind or no name"),
            ("just a text", "it has no kind or no name"),
            (&deep, "lists in lists"),
        ] {
            let error = named(manifest, "apps").unwrap_err();
            assert!(error.contains(says), "{error}");
        }
    }

    #[test]
    fn what_both_have_and_what_is_kept_does_not_leave() {
        let of = |name: &str, is_kept| Named {
            id: ObjectId::new("", "ConfigMap", "apps", name),
            version: "v1".to_owned(),
            is_kept,
        };
        let earlier = vec![
            of("a", false),
            of("b", false),
            of("kept", true),
            of("c", false),
            of("b", false),
            of("kept", false),
        ];
        assert_eq!(left(earlier.clone(), &[of("a", false)]), [of("b", false), of("c", false)]);
        assert_eq!(left(earlier, &[]), [of("b", false), of("c", false), of("a", false)]);
    }
}
