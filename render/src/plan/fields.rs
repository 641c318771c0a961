//! The fields in which two objects differ, told once for each distinct pair. Values of Secrets are never in them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use crate::lock::lock;
use flotilla_core::diff::{self, Key, MAX_FIELDS};
use flotilla_core::template::ObjectTemplate;
use flotilla_core::{Digest, Object};
use serde_json::{Map, Value};

/// What stands in place of a value that is not shown.
const HIDDEN: &str = "(hidden)";

/// So many characters are shown of a long text, around what differs.
const WINDOW: usize = 72;
const BEFORE: usize = 16;

/// A field that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldPlan {
    /// As a JSON pointer.
    pub path: String,
    /// `None` where the side has no such field.
    pub from: Option<String>,
    pub to: Option<String>,
}

/// The fields in which two objects differ.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fields {
    pub fields: Vec<FieldPlan>,
    /// There may be more than these.
    pub more: bool,
    /// Of all that differs.
    pub(super) digest: Option<Digest>,
}

/// Compares objects, each distinct pair once.
pub struct Differ {
    /// What digests of hidden values are made with.
    key: Key,
    known: Mutex<HashMap<(Digest, Digest), Arc<Fields>>>,
}

impl Differ {
    pub fn new(key: Key) -> Self {
        Self { key, known: Mutex::default() }
    }

    /// The fields in which `to` differs from `from`.
    pub fn objects(&self, from: &Object, to: &Object) -> Arc<Fields> {
        if from.digest() == to.digest() {
            return Arc::default();
        }
        let pair = (from.digest(), to.digest());
        let known = || lock(&self.known);
        if let Some(fields) = known().get(&pair) {
            return fields.clone();
        }
        let fields = Arc::new(self.values(written(from), written(to)));
        known().insert(pair, fields.clone());
        fields
    }

    /// The digest of what an object holds, which tells nobody what a Secret holds.
    pub(super) fn content(&self, object: &Object) -> Digest {
        if object.id().kind == "Secret" {
            Digest::keyed(&self.key, [&**object.body()])
        } else {
            object.digest()
        }
    }

    pub(super) fn values(&self, mut from: Value, mut to: Value) -> Fields {
        let is_secret = [&from, &to].iter().any(|value| value["kind"] == "Secret");
        if is_secret {
            // So that keys are told apart where a side has none at all.
            for side in [&mut from, &mut to] {
                for field in ["data", "stringData"] {
                    if let Some(map) = side.as_object_mut() {
                        let values = map.entry(field).or_insert(Value::Null);
                        if values.is_null() {
                            *values = Value::Object(Map::new());
                        }
                    }
                }
            }
        }
        let found = diff::fields(&from, &to, &self.key);
        let more = found.len() == MAX_FIELDS;
        let mut parts: Vec<Vec<u8>> = Vec::new();
        let mut fields = Vec::with_capacity(found.len());
        for field in found {
            let (old, new) = (from.pointer(&field.field), to.pointer(&field.field));
            let text = |value: Option<&Value>| value.map(Value::to_string).unwrap_or_default().into_bytes();
            parts.extend([field.field.clone().into_bytes(), text(old), text(new)]);
            let (from, to) = match (old, new) {
                _ if is_secret => (field.found.map(hidden), field.wanted.map(hidden)),
                (Some(old), Some(new)) => windows(&plain(old), &plain(new)),
                _ => (field.found, field.wanted),
            };
            fields.push(FieldPlan { path: field.field, from, to });
        }
        if more || fields.is_empty() {
            parts.extend([from.to_string().into_bytes(), to.to_string().into_bytes()]);
        }
        let parts = parts.iter().map(Vec::as_slice);
        let digest = if is_secret { Digest::keyed(&self.key, parts) } else { Digest::of_parts(parts) };
        Fields { fields, more, digest: Some(digest) }
    }
}

/// What an object holds; of a template, the document as somebody wrote it.
fn written(object: &Object) -> Value {
    let template = ObjectTemplate::of(object).and_then(Result::ok);
    template.and_then(|template| template.document()).unwrap_or_else(|| object.value())
}

/// Only what `core::diff` shows as a digest is hidden: labels and names of a Secret are not.
fn hidden(shown: String) -> String {
    if shown.starts_with("digest ") { HIDDEN.to_owned() } else { shown }
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Both texts, cut around what differs.
fn windows(old: &str, new: &str) -> (Option<String>, Option<String>) {
    let same = old.chars().zip(new.chars()).take_while(|(a, b)| a == b).count();
    let start =
        if old.chars().count().max(new.chars().count()) <= WINDOW { 0 } else { same.saturating_sub(BEFORE) };
    let cut = |text: &str| {
        let mut out = String::from(if start > 0 { "…" } else { "" });
        let mut rest = text.chars().skip(start);
        out.extend(rest.by_ref().take(WINDOW));
        if rest.next().is_some() {
            out.push('…');
        }
        Some(out)
    };
    (cut(old), cut(new))
}

#[cfg(test)]
mod tests {
    use flotilla_core::template::{Metadata, ValuesKind, ValuesRef, Variables};
    use serde_json::json;

    use super::*;

    fn differ() -> Differ {
        Differ::new([7; 32])
    }

    fn shown(from: Value, to: Value) -> Vec<String> {
        let fields = differ().values(from, to);
        let text = |side: &Option<String>| side.clone().unwrap_or_else(|| "-".to_owned());
        fields.fields.iter().map(|f| format!("{} {} → {}", f.path, text(&f.from), text(&f.to))).collect()
    }

    #[test]
    fn fields_show_what_differs() {
        let long = |end: &str| format!("{}{end}", "a".repeat(200));
        for (from, to, expected) in [
            (
                json!({"a": 1, "b": {"c": "x"}}),
                json!({"a": 1, "b": {"c": "y"}}),
                vec!["/b/c x → y".to_owned()],
            ),
            (json!({"a": 1}), json!({"b": true}), vec!["/a 1 → -".to_owned(), "/b - → true".to_owned()]),
            (json!({"l": [1, 2]}), json!({"l": [1, 3]}), vec!["/l/1 2 → 3".to_owned()]),
            (
                json!({"t": long("old")}),
                json!({"t": long("new")}),
                vec![format!("/t …{0}old → …{0}new", "a".repeat(16))],
            ),
        ] {
            assert_eq!(shown(from, to), expected);
        }
    }

    #[test]
    fn secrets_show_keys_and_that_they_differ() {
        let secret = |data: Value| json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "data": data});
        assert_eq!(
            shown(
                secret(json!({"a": "aHVudGVyMg==", "b": "eA=="})),
                secret(json!({"a": "aHVudGVyMw==", "c": "eQ=="}))
            ),
            ["/data/a (hidden) → (hidden)", "/data/b (hidden) → -", "/data/c - → (hidden)"]
        );
        let mut bare = secret(Value::Null);
        bare["stringData"] = json!({"k": "hunter2"});
        assert_eq!(shown(secret(Value::Null), bare), ["/stringData/k - → (hidden)"]);
        let text = |value: &str| differ().values(secret(json!({"a": "x"})), secret(json!({"a": value})));
        assert_eq!(text("y"), text("y"));
        assert_ne!(text("y").digest, text("z").digest, "what is hidden tells diffs apart");
        let other = Differ::new([8; 32]).values(secret(json!({"a": "x"})), secret(json!({"a": "y"})));
        assert_ne!(text("y").digest, other.digest, "nobody can try values on it");
    }

    #[test]
    fn of_what_sops_encrypted_the_keys_are_shown_that_changed() {
        let keys =
            ValuesRef { kind: ValuesKind::Secret, namespace: "flux-system".into(), name: "age".into() };
        let object = |a: &str, mac: &str| {
            let text = format!(
                "apiVersion: v1\nkind: Secret\nmetadata: {{name: s}}\nstringData: {{a: 'ENC[{a}]', b: 'ENC[same]'}}\nsops: {{mac: 'ENC[{mac}]'}}\n"
            );
            let value = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}});
            let reference = flotilla_core::ObjectRef::of(&value).unwrap();
            let template = ObjectTemplate::new(reference, text, Variables::default(), Metadata::default());
            template.sealed(keys.clone()).object()
        };
        let fields = differ().objects(&object("1", "1"), &object("2", "2"));
        let fields: Vec<&str> = fields.fields.iter().map(|field| field.path.as_str()).collect();
        assert_eq!(fields, ["/stringData/a"]);
    }

    #[test]
    fn what_is_cut_off_counts() {
        let many = |last: u32| {
            let fields: Map<String, Value> = (0..30).map(|n| (format!("k{n:02}"), json!(n + last))).collect();
            Value::Object(fields)
        };
        let (one, two) = (differ().values(many(0), many(1)), differ().values(many(0), many(2)));
        assert!(one.more && one.fields.len() == MAX_FIELDS);
        assert_ne!(one.digest, two.digest);
    }
}
