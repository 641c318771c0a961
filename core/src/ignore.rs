//! Fields that are somebody else's business: rules as Flux's `ignore` (`driftDetection.ignore` of a HelmRelease), JSON
//! pointers with a selector of objects. An ignored field is set as Git says when the object is made, and left alone
//! from then on.

use flotilla_select::{Labels, Regexp};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::diff::{holds, parts};
use crate::live::Live;
use crate::object::ObjectRef;

/// Fields of some objects.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IgnoreRule {
    /// JSON pointers.
    pub paths: Vec<String>,
    /// All objects of the unit without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<Target>,
}

/// Which objects: anchored regular expressions, an empty one matches everything; selectors as Kubernetes writes them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Target {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub group: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub version: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub kind: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub label_selector: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub annotation_selector: String,
}

/// A rule that cannot be followed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRule {
    #[error("'{0}' is not a JSON pointer: it must begin with / and name a field, as /spec/replicas does")]
    Pointer(String),
    #[error("'{0}' cannot be ignored: it says which object this is")]
    Identity(String),
    #[error("target.{field}: '{text}' is not a regular expression: {why}")]
    Pattern { field: &'static str, text: String, why: String },
    #[error(
        "target.{field}: '{text}' is not a selector: {why}; write it as in app=web,tier!=db,env in (a, b),!old"
    )]
    Selector { field: &'static str, text: String, why: String },
}

/// Rules ready for use.
#[derive(Debug, Default)]
pub struct Ignores(Vec<(Vec<String>, Option<Matcher>)>);

#[derive(Debug)]
struct Matcher {
    patterns: [Option<Regexp>; 5],
    labels: Labels,
    annotations: Labels,
}

impl Ignores {
    /// Reads rules.
    ///
    /// # Errors
    /// The first rule that cannot be followed.
    pub fn new(rules: &[IgnoreRule]) -> Result<Self, InvalidRule> {
        let read = |rule: &IgnoreRule| {
            for path in &rule.paths {
                check_pointer(path)?;
            }
            Ok((rule.paths.clone(), rule.target.as_ref().map(Matcher::new).transpose()?))
        };
        rules.iter().map(read).collect::<Result<_, _>>().map(Self)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The fields of this object that are ignored, as JSON pointers.
    pub fn paths(&self, object: &ObjectRef, value: &Value) -> Vec<&str> {
        let rules = self
            .0
            .iter()
            .filter(|(_, matcher)| matcher.as_ref().is_none_or(|matcher| matcher.matches(object, value)));
        rules.flat_map(|(paths, _)| paths.iter().map(String::as_str)).collect()
    }
}

fn check_pointer(path: &str) -> Result<(), InvalidRule> {
    if !path.starts_with('/') || path.len() < 2 {
        return Err(InvalidRule::Pointer(path.to_owned()));
    }
    let identity = ["/apiVersion", "/kind", "/metadata", "/metadata/name", "/metadata/namespace"];
    if identity.contains(&path) {
        return Err(InvalidRule::Identity(path.to_owned()));
    }
    Ok(())
}

impl Matcher {
    fn new(target: &Target) -> Result<Self, InvalidRule> {
        let pattern = |field: &'static str, text: &str| {
            if text.is_empty() {
                return Ok(None);
            }
            Regexp::anchored(text).map(Some).map_err(|error| InvalidRule::Pattern {
                field,
                text: text.to_owned(),
                why: error.to_string(),
            })
        };
        let selector = |field: &'static str, text: &str| {
            Labels::parse(text).map_err(|error| InvalidRule::Selector {
                field,
                text: text.to_owned(),
                why: error.to_string(),
            })
        };
        Ok(Self {
            patterns: [
                pattern("group", &target.group)?,
                pattern("version", &target.version)?,
                pattern("kind", &target.kind)?,
                pattern("namespace", &target.namespace)?,
                pattern("name", &target.name)?,
            ],
            labels: selector("labelSelector", &target.label_selector)?,
            annotations: selector("annotationSelector", &target.annotation_selector)?,
        })
    }

    fn matches(&self, object: &ObjectRef, value: &Value) -> bool {
        let id = &object.id;
        let texts: [&str; 5] = [&id.group, &object.version, &id.kind, &id.namespace, &id.name];
        let named = self
            .patterns
            .iter()
            .zip(texts)
            .all(|(pattern, text)| pattern.as_ref().is_none_or(|pattern| pattern.is_match(text)));
        let metadata = |field: &str, key: &str| value.get("metadata")?.get(field)?.get(key)?.as_str();
        named
            && self.labels.matches(|key| metadata("labels", key))
            && self.annotations.matches(|key| metadata("annotations", key))
    }
}

/// Leaves the ignored fields of an object that is there as they are: those that our own entry in its managed fields
/// holds are wanted as they are found (to leave them out would take them away), all others are not named at all.
pub fn yield_to(wanted: &mut Value, found: &Value, paths: &[&str]) {
    let entries = Live::from(found).metadata.managed_fields;
    let ours = entries.iter().find(|entry| crate::drift::is_ours(entry));
    for path in paths {
        let place = parts(path);
        let held = ours.is_some_and(|ours| holds(&ours.fields_v1, found, &place));
        match found.pointer(path) {
            Some(value) if held => {
                if let Some(field) = wanted.pointer_mut(path) {
                    *field = value.clone();
                }
            }
            _ => remove(wanted, &place),
        }
    }
}

/// Takes a field out; what is not there is left so.
fn remove(value: &mut Value, path: &[String]) {
    let Some((part, rest)) = path.split_first() else { return };
    match value {
        Value::Object(map) if rest.is_empty() => {
            map.remove(part);
        }
        Value::Object(map) => {
            if let Some(below) = map.get_mut(part) {
                remove(below, rest);
            }
        }
        Value::Array(items) => {
            let Some(index) = part.parse::<usize>().ok().filter(|index| *index < items.len()) else { return };
            if rest.is_empty() {
                items.remove(index);
            } else {
                remove(&mut items[index], rest);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn rules_choose_objects_by_patterns_and_selectors() {
        let object = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web-1", "namespace": "shop",
            "labels": {"app": "web", "tier": "front"}, "annotations": {"owner": "a"}}});
        let reference = ObjectRef::of(&object).unwrap();
        for (target, expected) in [
            (json!({}), true),
            (json!({"kind": "Deployment"}), true),
            (json!({"kind": "Deploy"}), false),
            (json!({"kind": "Deploy.*", "name": "web-[0-9]+"}), true),
            (json!({"group": "batch"}), false),
            (json!({"version": "v1", "namespace": "shop|other"}), true),
            (json!({"labelSelector": "app=web"}), true),
            (json!({"labelSelector": "app==web, tier in (back, front)"}), true),
            (json!({"labelSelector": "tier notin (back,front),app"}), false),
            (json!({"labelSelector": "app!=web"}), false),
            (json!({"labelSelector": "env!=prod"}), true),
            (json!({"labelSelector": "!env,app"}), true),
            (json!({"labelSelector": "!app"}), false),
            (json!({"annotationSelector": "owner in (a)"}), true),
            (json!({"annotationSelector": "owner=b"}), false),
        ] {
            let rule = json!({"paths": ["/spec/replicas"], "target": target});
            let rules = [serde_json::from_value::<IgnoreRule>(rule).unwrap()];
            let found = !Ignores::new(&rules).unwrap().paths(&reference, &object).is_empty();
            assert_eq!(found, expected, "{target}");
        }
    }

    #[test]
    fn a_rule_that_cannot_be_followed_says_why() {
        let rule = |path: &str, target: Value| {
            let rule = json!({"paths": [path], "target": target});
            Ignores::new(&[serde_json::from_value(rule).unwrap()]).map(|_| ()).unwrap_err().to_string()
        };
        assert!(rule("spec.replicas", json!({})).contains("not a JSON pointer"));
        assert!(rule("/metadata/name", json!({})).contains("says which object this is"));
        assert!(
            rule("/spec", json!({"name": "("})).starts_with("target.name: '(' is not a regular expression")
        );
        for bad in ["a in (b", "a,", "a b", "in (x)", "=x"] {
            assert!(rule("/spec", json!({"labelSelector": bad})).contains("not a selector"), "{bad}");
        }
    }

    #[test]
    fn an_ignored_field_is_left_to_whoever_holds_it() {
        let wanted = json!({"spec": {"replicas": 1, "list": [{"name": "a", "image": "x"}], "mine": 1}});
        let found = |ours: Value| {
            json!({"metadata": {"managedFields": [{"manager": "flotilla", "operation": "Apply", "fieldsType": "FieldsV1",
                "fieldsV1": {"f:spec": ours}}]}, "spec": {"replicas": 7, "list": [{"name": "a", "image": "y"}], "mine": 2}})
        };
        let paths = ["/spec/replicas", "/spec/list/0/image", "/spec/nothing/there"];
        let mut theirs = wanted.clone();
        yield_to(&mut theirs, &found(json!({"f:mine": {}})), &paths);
        assert_eq!(theirs, json!({"spec": {"list": [{"name": "a"}], "mine": 1}}));
        let mut ours = wanted.clone();
        let held = json!({"f:replicas": {}, "f:list": {"k:{\"name\":\"a\"}": {"f:image": {}}}});
        yield_to(&mut ours, &found(held), &paths);
        assert_eq!(ours, json!({"spec": {"replicas": 7, "list": [{"name": "a", "image": "y"}], "mine": 1}}));
    }
}
