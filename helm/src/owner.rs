//! The marks by which Helm knows the objects of a release: without them it neither upgrades nor takes over an object that is there.

use serde_json::{Map, Value};

pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
pub const HELM: &str = "Helm";
pub const RELEASE_NAME: &str = "meta.helm.sh/release-name";
pub const RELEASE_NAMESPACE: &str = "meta.helm.sh/release-namespace";

/// Sets the marks on an object of a release. Hooks have none.
pub fn mark(object: &mut Map<String, Value>, release: &str, namespace: &str) {
    let metadata = map(object.entry("metadata").or_insert(Value::Null));
    map(metadata.entry("labels").or_insert(Value::Null)).insert(MANAGED_BY.to_owned(), HELM.into());
    let annotations = map(metadata.entry("annotations").or_insert(Value::Null));
    annotations.insert(RELEASE_NAME.to_owned(), release.into());
    annotations.insert(RELEASE_NAMESPACE.to_owned(), namespace.into());
}

/// As Helm, which takes what is no map for none.
fn map(value: &mut Value) -> &mut Map<String, Value> {
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    value.as_object_mut().expect("it was made one")
}

/// Whether an object of the cluster is of that release, as Helm tells it.
pub fn is_of(object: &Value, release: &str, namespace: &str) -> bool {
    let metadata = |map: &str, key: &str| object["metadata"][map][key].as_str();
    metadata("labels", MANAGED_BY) == Some(HELM)
        && metadata("annotations", RELEASE_NAME) == Some(release)
        && metadata("annotations", RELEASE_NAMESPACE) == Some(namespace)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_marked_is_known_again() {
        for metadata in [
            json!({"name": "a"}),
            json!({"name": "a", "labels": null, "annotations": null}),
            json!({"name": "a", "labels": {"app": "a", MANAGED_BY: "me"}, "annotations": {"b": "c"}}),
        ] {
            let mut object = json!({"kind": "ConfigMap", "metadata": metadata});
            assert!(!is_of(&object, "web", "team"), "{object}");
            mark(object.as_object_mut().unwrap(), "web", "team");
            assert!(is_of(&object, "web", "team"), "{object}");
            for (release, namespace) in [("web", "other"), ("other", "team"), ("", "")] {
                assert!(!is_of(&object, release, namespace), "{object}");
            }
            assert_eq!(object["metadata"]["name"], "a");
        }
    }
}
