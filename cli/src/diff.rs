//! The difference between two states of a cluster, object by object, as unified diffs of their YAML.
//!
//! Units that one side cannot say anything about (held) are set apart: their objects are not known, which is not
//! the same as gone. Secrets show digests in place of values.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use flotilla_api::redact::{LAST_APPLIED, Redactor};
use flotilla_api::{UnitManifests, UnitState};
use flotilla_core::template::FIELD as TEMPLATE;
use flotilla_core::{ObjectId, ObjectRef};
use flotilla_runtime::token::TokenSecret;
use serde::Serialize;
use serde_json::Value;

/// What became of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Change {
    Added,
    Removed,
    Changed,
    /// Only the unit that it belongs to is another.
    Moved,
}

/// One object that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ObjectDiff {
    pub(crate) object: String,
    pub(crate) change: Change,
    /// The unit that it belonged to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) from: Option<String>,
    /// The unit that it would belong to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) to: Option<String>,
    pub(crate) diff: String,
}

/// All that differs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Diff {
    pub(crate) objects: Vec<ObjectDiff>,
    /// Units of which one side cannot say what they are, with the reason.
    pub(crate) unknown: BTreeMap<String, String>,
}

/// Objects by identity, with their unit.
type Objects<'a> = BTreeMap<ObjectId, (&'a str, Value)>;

/// From `old` to `new`.
pub(crate) fn between(old: &[UnitManifests], new: &[UnitManifests]) -> Diff {
    let mut diff = Diff::default();
    for unit in old.iter().chain(new).filter(|unit| unit.state == UnitState::Held) {
        let reason = diff.unknown.entry(unit.unit.clone()).or_default();
        if reason.is_empty() {
            reason.clone_from(&unit.reason);
        }
    }
    let (before, after) = (objects(old), objects(new));
    let all: BTreeSet<&ObjectId> = before.keys().chain(after.keys()).collect();
    for id in all {
        let (from, to) = (before.get(id), after.get(id));
        // What is not there may well be in a unit that is not known, on that side.
        let hidden = match (from, to) {
            (Some((unit, _)), None) => held(new, unit),
            (None, Some((unit, _))) => held(old, unit),
            _ => false,
        };
        let change = match (from, to) {
            _ if hidden => continue,
            (Some(_), None) => Change::Removed,
            (None, Some(_)) => Change::Added,
            (Some((from, old)), Some((to, new))) if old == new && from == to => continue,
            (Some((_, old)), Some((_, new))) if old == new => Change::Moved,
            _ => Change::Changed,
        };
        let unit = |side: Option<&(&str, Value)>| side.map(|(unit, _)| (*unit).to_owned());
        diff.objects.push(ObjectDiff {
            object: id.to_string(),
            change,
            from: unit(from),
            to: unit(to),
            diff: unified(id, from, to),
        });
    }
    diff
}

fn held(units: &[UnitManifests], unit: &str) -> bool {
    units.iter().any(|other| other.unit == unit && other.state == UnitState::Held)
}

fn objects(units: &[UnitManifests]) -> Objects<'_> {
    let mut objects = Objects::new();
    for unit in units.iter().filter(|unit| unit.state == UnitState::Present) {
        for object in &unit.objects {
            let Ok(ObjectRef { id, .. }) = ObjectRef::of(object) else { continue };
            let mut value = object.clone();
            hide(&mut value);
            // The first owner keeps an object that several declare.
            objects.entry(id).or_insert((&unit.unit, value));
        }
    }
    objects
}

/// Whether an object is a Secret with values that are not hidden.
pub(crate) fn is_open_secret(value: &Value) -> bool {
    let hidden = |value: &Value| value.as_str().is_some_and(|text| text.starts_with("digest "));
    let all_hidden = |field: &str| match value.get(field) {
        Some(Value::Object(values)) => values.values().all(hidden),
        Some(Value::Null) | None => true,
        Some(other) => hidden(other),
    };
    let is_secret = ObjectRef::of(value).is_ok_and(|object| object.id.is("", "Secret"));
    let template = value.get(TEMPLATE).is_none_or(hidden);
    is_secret && !(all_hidden("data") && all_hidden("stringData") && template)
}

/// Hides values of a Secret that are not hidden. They differ from whatever the hub shows.
fn hide(value: &mut Value) {
    static KEY: LazyLock<Redactor> = LazyLock::new(|| Redactor::new(*TokenSecret::generate().as_bytes()));
    if is_open_secret(value) {
        KEY.secret(value);
    }
}

/// Replaces values of a Secret by a word, on either side, where they cannot be compared.
pub(crate) fn blank(value: &mut Value) {
    if !ObjectRef::of(value).is_ok_and(|object| object.id.is("", "Secret")) {
        return;
    }
    for field in ["data", "stringData"] {
        for value in
            value.get_mut(field).and_then(Value::as_object_mut).into_iter().flat_map(|data| data.values_mut())
        {
            *value = "not compared".into();
        }
    }
    if let Some(text) = value.get_mut(TEMPLATE) {
        *text = "not compared".into();
    }
    if let Some(annotations) = value.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut) {
        annotations.remove(LAST_APPLIED);
    }
}

fn unified(id: &ObjectId, from: Option<&(&str, Value)>, to: Option<&(&str, Value)>) -> String {
    let text = |side: Option<&(&str, Value)>| {
        side.map(|(_, value)| flotilla_yaml::write(&flotilla_yaml::Node::from_json(value)))
            .unwrap_or_default()
    };
    let header = |side: Option<&(&str, Value)>| match side {
        Some((unit, _)) => format!("{id} ({unit})"),
        None => "/dev/null".to_owned(),
    };
    let (old, new) = (text(from), text(to));
    let (a, b) = (header(from), header(to));
    if old == new {
        return format!("--- {a}\n+++ {b}\n");
    }
    similar::TextDiff::from_lines(&old, &new).unified_diff().context_radius(3).header(&a, &b).to_string()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn unit(name: &str, objects: Vec<Value>) -> UnitManifests {
        UnitManifests { unit: name.into(), state: UnitState::Present, objects, ..Default::default() }
    }

    fn map(name: &str, value: &str) -> Value {
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"k": value}})
    }

    fn changes(old: &[UnitManifests], new: &[UnitManifests]) -> Vec<(String, Change)> {
        between(old, new).objects.into_iter().map(|diff| (diff.object, diff.change)).collect()
    }

    #[test]
    fn objects_are_added_removed_changed_and_moved() {
        let old =
            [unit("root", vec![map("gone", "1"), map("same", "1"), map("other", "1"), map("moved", "1")])];
        let new = [
            unit("root", vec![map("same", "1"), map("other", "2"), map("new", "1")]),
            unit("kustomization/f/x", vec![map("moved", "1")]),
        ];
        assert_eq!(
            changes(&old, &new),
            [
                ("ConfigMap gone".to_owned(), Change::Removed),
                ("ConfigMap moved".to_owned(), Change::Moved),
                ("ConfigMap new".to_owned(), Change::Added),
                ("ConfigMap other".to_owned(), Change::Changed),
            ]
        );
        assert_eq!(changes(&new, &new), []);
        let diff = between(&old, &new);
        assert_eq!(
            diff.objects[3].diff,
            "--- ConfigMap other (root)\n+++ ConfigMap other (root)\n@@ -1,6 +1,6 @@\n apiVersion: v1\n data:\n\
             -  k: \"1\"\n+  k: \"2\"\n kind: ConfigMap\n metadata:\n   name: other\n"
        );
        assert!(diff.objects[0].diff.contains("+++ /dev/null\n"), "{}", diff.objects[0].diff);
    }

    #[test]
    fn what_is_held_is_unknown_and_not_gone() {
        let held = UnitManifests {
            unit: "root".into(),
            state: UnitState::Held,
            reason: "broken".into(),
            ..Default::default()
        };
        let old = [unit("root", vec![map("a", "1")])];
        for (from, to) in [(&old[..], std::slice::from_ref(&held)), (std::slice::from_ref(&held), &old[..])] {
            let diff = between(from, to);
            assert_eq!(diff.objects, []);
            assert_eq!(diff.unknown["root"], "broken");
        }
    }

    #[test]
    fn values_of_secrets_never_show_but_differ() {
        let secret = |value: &str| json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "data": {"k": value}});
        let redacted = |value: &str| {
            let mut secret = secret(value);
            Redactor::new([7; 32]).secret(&mut secret);
            secret
        };
        let hub = [unit("root", vec![redacted("hunter2")])];
        assert!(is_open_secret(&secret("hunter2")) && !is_open_secret(&redacted("hunter2")));
        assert_eq!(changes(&hub, &[unit("root", vec![redacted("hunter2")])]), []);
        let blanked = |mut secret: Value| {
            blank(&mut secret);
            vec![unit("root", vec![secret])]
        };
        assert_eq!(changes(&blanked(redacted("hunter2")), &blanked(secret("hunter3"))), []);
        let diff = between(&hub, &[unit("root", vec![secret("hunter3")])]);
        assert_eq!(diff.objects.len(), 1);
        assert!(!diff.objects[0].diff.contains("hunter"), "{}", diff.objects[0].diff);
        assert!(diff.objects[0].diff.contains("+  k: digest "), "{}", diff.objects[0].diff);
    }
}
