//! Secrets as people may see them: each value replaced by a digest, so that two versions can be told apart and
//! neither read. The hub's API and the CLI's offline renders use the same, so that they can be compared.

use flotilla_core::template::FIELD as TEMPLATE;
use flotilla_core::{Digest, ObjectId, ObjectRef};
use serde_json::Value;

/// kubectl keeps the whole object in it.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Replaces the values of a Secret (`data`, `stringData` and what kubectl keeps of them) by `digest HEX`; any other
/// object is left as it is. Equal values of different keys or Secrets have different digests.
pub fn secret(object: &mut Value) {
    let Ok(ObjectRef { id, .. }) = ObjectRef::of(object) else { return };
    if !id.is("", "Secret") {
        return;
    }
    for field in ["data", "stringData"] {
        match object.get_mut(field) {
            Some(Value::Object(values)) => {
                values.iter_mut().for_each(|(key, value)| *value = digest(&id, key, value))
            }
            Some(Value::Null) | None => {}
            // No Secret that an API server takes; there may be values in it all the same.
            Some(other) => *other = digest(&id, field, other),
        }
    }
    // A Secret that the cluster completes: its text holds what Git says of the values.
    if let Some(text) = object.get_mut(TEMPLATE) {
        *text = digest(&id, TEMPLATE, text);
    }
    if let Some(value) = object.pointer_mut("/metadata/annotations").and_then(|a| a.get_mut(LAST_APPLIED)) {
        *value = digest(&id, LAST_APPLIED, value);
    }
}

fn digest(id: &ObjectId, key: &str, value: &Value) -> Value {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let parts = [id.namespace.as_bytes(), id.name.as_bytes(), key.as_bytes(), text.as_bytes()];
    Value::String(format!("digest {}", Digest::of_parts(parts).short()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn no_value_of_a_secret_is_left_and_changes_can_be_seen() {
        let make = |name: &str, value: &str| {
            let mut secret = json!({"apiVersion": "v1", "kind": "Secret", "type": "Opaque",
                "metadata": {"name": name, "annotations": {"a": "plain", LAST_APPLIED: value}},
                "data": {"k": value, "other": value}, "stringData": {"s": value}});
            self::secret(&mut secret);
            secret
        };
        let shown = make("db", "hunter2");
        assert!(!shown.to_string().contains("hunter2"), "{shown}");
        assert_eq!(shown["metadata"]["annotations"]["a"], "plain");
        assert_eq!(shown["type"], "Opaque");
        assert_eq!(shown, make("db", "hunter2"));
        assert_ne!(shown["data"], make("db", "hunter3")["data"]);
        assert_ne!(shown["data"]["k"], shown["data"]["other"]);
        assert_ne!(shown["data"], make("db2", "hunter2")["data"]);
    }

    #[test]
    fn odd_secrets_hide_their_values_too_and_other_objects_stay() {
        let mut odd =
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "x"}, "data": ["hunter2"]});
        secret(&mut odd);
        assert!(!odd.to_string().contains("hunter2"), "{odd}");
        let mut template = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "x"},
            TEMPLATE: {"text": "stringData: {a: hunter2}"}});
        secret(&mut template);
        assert!(!template.to_string().contains("hunter2"), "{template}");
        let map =
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}, "data": {"a": "b"}});
        let mut same = map.clone();
        secret(&mut same);
        assert_eq!(same, map);
    }
}
