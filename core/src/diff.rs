//! The difference between an object as found and as wanted, field by field, in words that are safe to show.

use serde_json::{Map, Value};

use crate::digest::Digest;
use crate::live::{Live, ManagedFields};
use crate::report::FieldDrift;

/// What digests of hidden values are made with. It is nobody's but the process's that shows them, so that no guess can be
/// tried on them.
pub type Key = [u8; 32];

/// Shown at most so many characters of a value.
const SHOWN: usize = 80;
/// [`fields`] gives at most so many of an object.
pub const MAX_FIELDS: usize = 20;

/// What the API server writes by itself; it differs after every request.
const NOISE: [&str; 9] = [
    "/status",
    "/metadata/managedFields",
    "/metadata/resourceVersion",
    "/metadata/generation",
    "/metadata/uid",
    "/metadata/creationTimestamp",
    "/metadata/selfLink",
    "/metadata/deletionTimestamp",
    "/metadata/deletionGracePeriodSeconds",
];

/// The fields in which `found` differs from `wanted`, at most twenty. Both are whole objects as the API server
/// gives them (a dry run's answer, say), so that its defaults are on both sides. Values of Secrets are digests under `key`.
pub fn fields(found: &Value, wanted: &Value, key: &Key) -> Vec<FieldDrift> {
    let managers = found
        .pointer("/metadata/managedFields")
        .and_then(|entries| serde::Deserialize::deserialize(entries).ok())
        .unwrap_or_default();
    let secret = [found, wanted].iter().any(|o| o.get("kind").and_then(Value::as_str) == Some("Secret"));
    let mut walk = Walk { found_object: found, managers, secret, key, fields: Vec::new() };
    walk.compare(&mut Vec::new(), Some(found), Some(wanted));
    walk.fields
}

/// What our apply put back: [`fields`], without what others set for themselves between a look and the apply.
pub fn put_back(before: &Value, after: &Value, key: &Key) -> Vec<FieldDrift> {
    let entries = Live::from(after).metadata.managed_fields;
    let (ours, others): (Vec<_>, Vec<_>) = entries.iter().partition(|entry| crate::drift::is_ours(entry));
    let mut all = fields(before, after, key);
    all.retain(|field| {
        let path = parts(&field.field);
        let held =
            |entries: &[&ManagedFields]| entries.iter().any(|entry| holds(&entry.fields_v1, after, &path));
        // An empty mapping of ours seems to hold all that others put into it.
        field.wanted.is_none() || held(&ours) && !held(&others)
    });
    all
}

/// A note for each kubectl or former tool that holds fields which Git does not have: a dry run does not take those away, as
/// they are folded only by a real apply. `after` is the object as a dry run of ours leaves it: what Git has too is ours
/// there.
pub fn added_by_others(after: &Value) -> Vec<FieldDrift> {
    let entries = Live::from(after).metadata.managed_fields;
    let ours = entries.iter().find(|entry| crate::drift::is_ours(entry)).map(|entry| &entry.fields_v1);
    let others = entries.iter().filter(|entry| crate::drift::is_folded(entry));
    let field = |entry: &ManagedFields| FieldDrift {
        field: "/metadata/managedFields".into(),
        wanted: None,
        found: Some("fields that Git does not have".into()),
        manager: Some(entry.manager.clone()),
    };
    others.filter(|entry| has_more(&entry.fields_v1, ours)).map(field).collect()
}

/// Whether a set of fields (`fieldsV1`) has one that `ours` lacks. `.`, the list or mapping itself, goes with what is in it.
fn has_more(theirs: &Value, ours: Option<&Value>) -> bool {
    let mut fields = theirs.as_object().into_iter().flatten().filter(|(key, _)| *key != ".");
    fields.any(|(key, inner)| match ours.and_then(|ours| ours.get(key)) {
        Some(ours) => has_more(inner, Some(ours)),
        None => inner.as_object().is_none_or(Map::is_empty) || has_more(inner, None),
    })
}

/// Puts digests under `key` in place of what must not be shown of an object: the values of a Secret, and its annotations, as kubectl
/// keeps the whole object in one.
pub fn redact(object: &mut Value, key: &Key) {
    if object.get("kind").and_then(Value::as_str) != Some("Secret") {
        return;
    }
    for pointer in ["/data", "/stringData", "/metadata/annotations"] {
        for (_, value) in object.pointer_mut(pointer).and_then(Value::as_object_mut).into_iter().flatten() {
            *value = hidden(value, key).into();
        }
    }
}

fn hidden(value: &Value, key: &Key) -> String {
    format!("digest {}", Digest::keyed(key, [value.to_string().as_bytes()]).short())
}

struct Walk<'a> {
    found_object: &'a Value,
    managers: Vec<ManagedFields>,
    secret: bool,
    key: &'a Key,
    fields: Vec<FieldDrift>,
}

impl<'a> Walk<'a> {
    fn compare(&mut self, path: &mut Vec<String>, found: Option<&'a Value>, wanted: Option<&'a Value>) {
        if found == wanted || self.fields.len() == MAX_FIELDS {
            return;
        }
        let pointer = pointer(path);
        if NOISE.contains(&pointer.as_str()) {
            return;
        }
        match (found, wanted) {
            (Some(Value::Object(found)), Some(Value::Object(wanted))) => {
                let added = wanted.keys().filter(|key| !found.contains_key(*key));
                for key in found.keys().chain(added) {
                    path.push(key.clone());
                    self.compare(path, found.get(key), wanted.get(key));
                    path.pop();
                }
            }
            (Some(Value::Array(found)), Some(Value::Array(wanted))) if found.len() == wanted.len() => {
                for (index, (found, wanted)) in found.iter().zip(wanted).enumerate() {
                    path.push(index.to_string());
                    self.compare(path, Some(found), Some(wanted));
                    path.pop();
                }
            }
            _ => {
                let manager = self.manager_of(path);
                let (found, wanted) =
                    (found.map(|v| self.show(&pointer, v)), wanted.map(|v| self.show(&pointer, v)));
                self.fields.push(FieldDrift { field: pointer, wanted, found, manager });
            }
        }
    }

    fn show(&self, pointer: &str, value: &Value) -> String {
        let plain = ["/kind", "/apiVersion", "/type", "/immutable", "/metadata/labels", "/metadata/name"];
        // Annotations too: kubectl keeps the whole object in one.
        if self.secret && !plain.iter().any(|prefix| pointer.starts_with(prefix)) {
            return hidden(value, self.key);
        }
        let text = match value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        if text.chars().count() <= SHOWN { text } else { text.chars().take(SHOWN).chain(['…']).collect() }
    }

    /// Who set the field last, ourselves aside.
    fn manager_of(&self, path: &[String]) -> Option<String> {
        self.managers
            .iter()
            .filter(|entry| !crate::drift::is_ours(entry) && holds(&entry.fields_v1, self.found_object, path))
            .max_by(|a, b| a.time.cmp(&b.time))
            .map(|entry| entry.manager.clone())
    }
}

fn pointer(path: &[String]) -> String {
    path.iter().map(|part| format!("/{}", part.replace('~', "~0").replace('/', "~1"))).collect()
}

/// The parts of a JSON pointer.
pub(crate) fn parts(pointer: &str) -> Vec<String> {
    pointer.split('/').skip(1).map(|part| part.replace("~1", "/").replace("~0", "~")).collect()
}

/// Whether a set of fields holds the field at `path` of `value`, or one below it.
pub(crate) fn holds(fields: &Value, value: &Value, path: &[String]) -> bool {
    let Some((part, rest)) = path.split_first() else { return true };
    let Some(fields) = fields.as_object() else { return false };
    match value {
        Value::Array(items) => {
            let Some(item) = part.parse().ok().and_then(|index: usize| items.get(index)) else {
                return false;
            };
            fields.iter().any(|(key, below)| {
                let names =
                    |json: &str| serde_json::from_str::<Value>(json).is_ok_and(|key| is_key_of(&key, item));
                (key.strip_prefix("k:").is_some_and(names) && holds(below, item, rest))
                    || key
                        .strip_prefix("v:")
                        .is_some_and(|json| serde_json::from_str(json).is_ok_and(|v: Value| v == *item))
            })
        }
        other => fields.get(&format!("f:{part}")).is_some_and(|below| {
            is_leaf(below) || holds(below, other.get(part).unwrap_or(&Value::Null), rest)
        }),
    }
}

fn is_leaf(fields: &Value) -> bool {
    fields.as_object().is_none_or(serde_json::Map::is_empty)
}

fn is_key_of(key: &Value, item: &Value) -> bool {
    key.as_object().is_some_and(|key| key.iter().all(|(name, value)| item.get(name) == Some(value)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &Key = &[7; 32];
    use serde_json::json;

    #[test]
    fn what_others_set_meanwhile_was_not_put_back() {
        let object = |image: &str, revision: &str, extra: Value| {
            let mut object = json!({"kind": "Deployment", "metadata": {"name": "x",
                "annotations": {"deployment.kubernetes.io/revision": revision}, "managedFields": [
                    {"manager": "flotilla", "operation": "Apply", "fieldsV1": {"f:spec": {"f:image": {}}}},
                    {"manager": "kube-controller-manager", "operation": "Update", "fieldsV1":
                        {"f:metadata": {"f:annotations": {"f:deployment.kubernetes.io/revision": {}}}}}]},
                "spec": {"image": image}});
            if !extra.is_null() {
                object["spec"]["extra"] = extra;
            }
            object
        };
        let (before, after) = (object("theirs", "3", json!("x")), object("ours", "4", Value::Null));
        let told: Vec<String> = put_back(&before, &after, KEY).into_iter().map(|field| field.field).collect();
        assert_eq!(told, ["/spec/extra", "/spec/image"]);

        let object = |noted: Value| {
            json!({"kind": "Deployment", "metadata": {"name": "x", "annotations": {"noted": noted}, "managedFields": [
                {"manager": "flotilla", "operation": "Apply", "fieldsV1": {"f:metadata": {"f:annotations": {}}}},
                {"manager": "an-operator", "operation": "Update", "fieldsV1":
                    {"f:metadata": {"f:annotations": {"f:noted": {}}}}}]}})
        };
        assert_eq!(
            put_back(&object(Value::Null), &object("yes".into()), KEY),
            [],
            "in an empty mapping of ours"
        );
    }

    #[test]
    fn only_what_differs_is_told_with_who_did_it() {
        let found = json!({"kind": "Deployment", "metadata": {"name": "x", "resourceVersion": "2", "managedFields": [
                {"manager": "flotilla", "operation": "Apply", "fieldsV1": {"f:spec": {"f:replicas": {}}}},
                {"manager": "kubectl-edit", "operation": "Update", "time": "2026-01-02T00:00:00Z", "fieldsV1":
                    {"f:spec": {"f:replicas": {}, "f:template": {"f:c": {"k:{\"name\":\"web\"}": {"f:image": {}}}}}}},
            ]},
            "spec": {"replicas": 5, "paused": true, "same": [1, 2], "template": {"c": [{"name": "web", "image": "b"}]}}});
        let wanted = json!({"kind": "Deployment", "metadata": {"name": "x", "resourceVersion": "1"},
            "spec": {"replicas": 3, "same": [1, 2], "template": {"c": [{"name": "web", "image": "a"}]}, "new/field": {"a": 1}}});
        let told: Vec<_> = fields(&found, &wanted, KEY)
            .into_iter()
            .map(|f| format!("{} {:?} {:?} {:?}", f.field, f.found, f.wanted, f.manager))
            .collect();
        assert_eq!(
            told,
            [
                r#"/spec/paused Some("true") None None"#,
                r#"/spec/replicas Some("5") Some("3") Some("kubectl-edit")"#,
                r#"/spec/template/c/0/image Some("b") Some("a") Some("kubectl-edit")"#,
                r#"/spec/new~1field None Some("{\"a\":1}") None"#,
            ]
        );
    }

    #[test]
    fn who_holds_what_git_does_not_have_is_told() {
        for (theirs, expected) in [
            (json!({"f:spec": {"f:replicas": {}}}), false),
            (json!({"f:spec": {".": {}, "f:list": {"k:{\"name\":\"a\"}": {".": {}, "f:image": {}}}}}), false),
            (json!({"f:metadata": {"f:annotations": {".": {}}}}), false),
            (json!({"f:spec": {"f:replicas": {}, "f:paused": {}}}), true),
            (json!({"f:metadata": {"f:labels": {".": {}, "f:a": {}}}}), true),
            (json!({"f:spec": {"f:list": {"k:{\"name\":\"b\"}": {".": {}, "f:name": {}}}}}), true),
        ] {
            let ours =
                json!({"f:spec": {"f:replicas": {}, "f:list": {"k:{\"name\":\"a\"}": {"f:image": {}}}}});
            let entry = |manager: &str, operation: &str, fields: &Value| json!({"manager": manager, "operation": operation, "fieldsV1": fields});
            let after = json!({"metadata": {"managedFields":
                [entry("flotilla", "Apply", &ours), entry("kubectl-edit", "Update", &theirs),
                 entry("hpa", "Update", &json!({"f:other": {}}))]}});
            let told: Vec<_> =
                added_by_others(&after).into_iter().filter_map(|field| field.manager).collect();
            assert_eq!(told == ["kubectl-edit"], expected, "{theirs}");
            assert_eq!(told.is_empty(), !expected, "{theirs}");
        }
    }

    #[test]
    fn a_secret_shows_no_value() {
        let object = |data: &str| json!({"kind": "Secret", "metadata": {"annotations": {"last-applied": data}, "labels": {"l": data}}, "data": {"key": data}});
        for field in fields(&object("hunter2"), &object("hunter3"), KEY) {
            let text = format!("{field:?}");
            assert_eq!(text.contains("hunter"), field.field == "/metadata/labels/l", "{text}");
        }
    }

    #[test]
    fn long_values_and_long_lists_are_cut() {
        let many = |c: char| {
            Value::Object(
                (0..50).map(|i| (format!("k{i}"), Value::String(c.to_string().repeat(500)))).collect(),
            )
        };
        let fields = fields(&json!({"data": many('a')}), &json!({"data": many('b')}), KEY);
        assert_eq!(fields.len(), MAX_FIELDS);
        assert_eq!(fields[0].found.as_ref().unwrap().chars().count(), SHOWN + 1);
    }

    #[test]
    fn secrets_are_shown_without_their_values() {
        let secret = json!({"kind": "Secret", "metadata": {"name": "s", "annotations": {"a": "plain"}, "labels": {"l": "1"}},
            "data": {"password": "aHVudGVyMg=="}, "stringData": {"token": "plain"}, "type": "Opaque"});
        let mut shown = secret.clone();
        redact(&mut shown, KEY);
        let text = shown.to_string();
        assert!(!text.contains("plain") && !text.contains("aHVudGVyMg=="), "{text}");
        let password = shown["data"]["password"].as_str().unwrap();
        assert!(password.starts_with("digest "));
        let guess = Digest::of(b"\"aHVudGVyMg==\"").short();
        assert!(!password.contains(&guess), "a guess must not be told by its digest");
        let mut other = secret.clone();
        redact(&mut other, &[8; 32]);
        assert_ne!(other["data"], shown["data"]);
        assert_eq!(
            (&shown["metadata"]["labels"], &shown["type"]),
            (&secret["metadata"]["labels"], &secret["type"])
        );
        let map = json!({"kind": "ConfigMap", "data": {"a": "plain"}});
        let mut shown = map.clone();
        redact(&mut shown, KEY);
        assert_eq!(shown, map);
    }
}
