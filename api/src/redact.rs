//! Secrets as people may see them: each value replaced by a digest under a key, so that two versions can be told apart, neither
//! can be read, and nobody without the key can try guesses on them.

use flotilla_core::template::FIELD as TEMPLATE;
use flotilla_core::{Digest, ObjectId, ObjectRef};
use serde_json::Value;

/// kubectl keeps the whole object in it.
pub const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Hides values under one key. `Debug` does not show the key.
#[derive(Clone)]
pub struct Redactor([u8; 32]);

impl std::fmt::Debug for Redactor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Redactor(hidden)")
    }
}

impl Redactor {
    /// With a key that nobody knows to whom digests are shown.
    pub fn new(key: [u8; 32]) -> Self {
        Self(key)
    }

    /// Replaces the values of a Secret (`data`, `stringData` and what kubectl keeps of them) by `digest HEX`; any other
    /// object is left as it is. Equal values of different keys or Secrets have different digests.
    pub fn secret(&self, object: &mut Value) {
        let Ok(ObjectRef { id, .. }) = ObjectRef::of(object) else { return };
        if !id.is("", "Secret") {
            return;
        }
        for field in ["data", "stringData"] {
            match object.get_mut(field) {
                Some(Value::Object(values)) => {
                    values.iter_mut().for_each(|(key, value)| *value = self.value(&id, key, value))
                }
                Some(Value::Null) | None => {}
                // No Secret that an API server takes; there may be values in it all the same.
                Some(other) => *other = self.value(&id, field, other),
            }
        }
        // A Secret that the cluster completes: its text holds what Git says of the values.
        if let Some(text) = object.get_mut(TEMPLATE) {
            *text = self.value(&id, TEMPLATE, text);
        }
        if let Some(value) = object.pointer_mut("/metadata/annotations").and_then(|a| a.get_mut(LAST_APPLIED))
        {
            *value = self.value(&id, LAST_APPLIED, value);
        }
    }

    /// A digest of content that may hold secrets, as people see it: equal where the content is, and of no use to try what the
    /// content is.
    pub fn digest(&self, digest: &Digest) -> String {
        Digest::keyed(&self.0, [b"digest".as_slice(), digest.as_bytes()]).to_string()
    }

    /// Replaces every text of an object that holds one of these by `digest HEX`, wherever it stands.
    pub fn texts(&self, value: &mut Value, secrets: &[String]) {
        match value {
            Value::String(text) => {
                if secrets.iter().any(|secret| text.contains(secret.as_str())) {
                    let digest = Digest::keyed(&self.0, [b"text".as_slice(), text.as_bytes()]);
                    *text = format!("digest {}", digest.short());
                }
            }
            Value::Array(items) => items.iter_mut().for_each(|item| self.texts(item, secrets)),
            Value::Object(fields) => fields.values_mut().for_each(|field| self.texts(field, secrets)),
            Value::Null | Value::Bool(_) => {}
            Value::Number(number) => {
                let mut text = Value::String(number.to_string());
                self.texts(&mut text, secrets);
                if text.as_str().is_some_and(|text| text.starts_with("digest ")) {
                    *value = text;
                }
            }
        }
    }

    fn value(&self, id: &ObjectId, key: &str, value: &Value) -> Value {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let parts = [id.namespace.as_bytes(), id.name.as_bytes(), key.as_bytes(), text.as_bytes()];
        Value::String(format!("digest {}", Digest::keyed(&self.0, parts).short()))
    }
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
            Redactor::new([7; 32]).secret(&mut secret);
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
    fn a_guess_cannot_be_tried_on_a_digest() {
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "db", "namespace": "x"},
            "data": {"k": "1234"}});
        let shown = |key| {
            let mut secret = secret.clone();
            Redactor::new(key).secret(&mut secret);
            secret["data"]["k"].as_str().unwrap().to_owned()
        };
        assert_ne!(shown([1; 32]), shown([2; 32]));
        let parts = [b"x".as_slice(), b"db", b"k", b"1234"];
        assert_ne!(shown([1; 32]), format!("digest {}", Digest::of_parts(parts).short()));
    }

    #[test]
    fn texts_that_hold_a_secret_are_hidden_wherever_they_stand() {
        let mut object = json!({"spec": {"values": {"url": "postgres://u:hunter2@db", "port": 5432, "plain": "x",
            "list": ["hunter2", "hunter"]}}});
        Redactor::new([7; 32]).texts(&mut object, &["hunter2".into(), "5432".into()]);
        let text = object.to_string();
        assert!(!text.contains("hunter2") && !text.contains("5432"), "{text}");
        let values = &object["spec"]["values"];
        assert_eq!((&values["plain"], &values["list"][1]), (&json!("x"), &json!("hunter")));
        assert_ne!(values["url"], values["list"][0]);
    }

    #[test]
    fn odd_secrets_hide_their_values_too_and_other_objects_stay() {
        let mut odd =
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "x"}, "data": ["hunter2"]});
        Redactor::new([7; 32]).secret(&mut odd);
        assert!(!odd.to_string().contains("hunter2"), "{odd}");
        let mut template = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "x"},
            TEMPLATE: {"text": "stringData: {a: hunter2}"}});
        Redactor::new([7; 32]).secret(&mut template);
        assert!(!template.to_string().contains("hunter2"), "{template}");
        let map =
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}, "data": {"a": "b"}});
        let mut same = map.clone();
        Redactor::new([7; 32]).secret(&mut same);
        assert_eq!(same, map);
    }
}
