//! Drift by the API server's own book-keeping, `metadata.managedFields`: our entry says which fields are ours. While it
//! stands as our last apply left it and no kubectl added one of its own, nothing drifted.

use serde_json::{Map, Value, json};

use crate::digest::Digest;
use crate::live::ManagedFields;

/// The name under which we apply.
pub const MANAGER: &str = "flotilla";

/// Whether this entry is what our last apply left.
pub fn is_ours(entry: &ManagedFields) -> bool {
    entry.manager == MANAGER && entry.operation == "Apply" && entry.subresource.is_empty()
}

/// The digest of our own entry; none if we own nothing of the object. Its time is part of it: the API server sets it with
/// each apply under our name that changes the object, whoever made it, and only then.
pub fn own_digest(entries: &[ManagedFields]) -> Option<Digest> {
    let ours = entries.iter().find(|entry| is_ours(entry))?;
    let (fields, time) = (ours.fields_v1.to_string(), ours.time.as_deref().unwrap_or_default());
    Some(Digest::of_parts([ours.api_version.as_bytes(), fields.as_bytes(), time.as_bytes()]))
}

/// Whether the fields of this entry are to become ours: those of people with kubectl and of the tools that had the
/// object before. What a subresource holds (`scale`, `status`) is its own.
pub fn is_folded(entry: &ManagedFields) -> bool {
    entry.subresource.is_empty() && is_folded_manager(&entry.manager)
}

/// Whether what this manager holds is to become ours.
pub fn is_folded_manager(manager: &str) -> bool {
    manager.starts_with("kubectl")
        || ["before-first-apply", "kustomize-controller", "helm-controller", "helm"].contains(&manager)
}

/// Whether anything is to be folded.
pub fn has_folded(entries: &[ManagedFields]) -> bool {
    entries.iter().any(is_folded)
}

/// The JSON patch that folds the entries of others into ours, valid for this `resource_version` only. After it our
/// next apply takes away what it does not name. None if there is nothing to fold, or no entry of ours yet.
pub fn fold_patch(entries: &[ManagedFields], resource_version: &str) -> Option<Value> {
    if !has_folded(entries) || !entries.iter().any(is_ours) {
        return None;
    }
    let mut kept: Vec<ManagedFields> = entries.iter().filter(|entry| !is_folded(entry)).cloned().collect();
    let ours = kept.iter_mut().find(|entry| is_ours(entry))?;
    for entry in entries.iter().filter(|entry| is_folded(entry)) {
        let mine = std::mem::take(&mut ours.fields_v1);
        ours.fields_v1 = union(mine, &fields_of(entry), true);
    }
    Some(replace_patch(&kept, resource_version))
}

/// What an entry holds. A Secret's `stringData` is booked as such and kept as `data`: whoever wrote the one holds the other.
pub(crate) fn fields_of(entry: &ManagedFields) -> Value {
    let mut fields = entry.fields_v1.clone();
    let texts = fields.as_object_mut().filter(|_| entry.api_version == "v1");
    match texts.and_then(|fields| fields.remove("f:stringData")) {
        Some(texts) => union(fields, &json!({"f:data": texts}), true),
        None => fields,
    }
}

fn replace_patch(entries: &[ManagedFields], resource_version: &str) -> Value {
    // A replaced resourceVersion is what the API server takes as the precondition of a patch.
    json!([
        {"op": "replace", "path": "/metadata/managedFields", "value": entries},
        {"op": "replace", "path": "/metadata/resourceVersion", "value": resource_version},
    ])
}

/// The JSON patch that makes ours what others hold at these places (`spec.ports`, where a merge of their content and ours
/// was refused), valid for this `resource_version` only, and who held something. After it our next apply takes away what it
/// does not name. None if nobody holds anything there, or there is no entry of ours yet.
pub fn take_patch(
    entries: &[ManagedFields],
    places: &[Place],
    resource_version: &str,
) -> Option<(Value, Vec<String>)> {
    let mut kept = entries.to_vec();
    let mut taken = Vec::new();
    let mut managers = Vec::new();
    for entry in kept.iter_mut().filter(|entry| !is_ours(entry) && entry.subresource.is_empty()) {
        let before = taken.len();
        taken.extend(places.iter().filter_map(|Place(path)| cut(&mut entry.fields_v1, path)));
        if taken.len() > before {
            managers.push(entry.manager.clone());
        }
    }
    let ours = kept.iter_mut().find(|entry| is_ours(entry))?;
    if taken.is_empty() {
        return None;
    }
    for fields in &taken {
        let mine = std::mem::take(&mut ours.fields_v1);
        ours.fields_v1 = union(mine, fields, true);
    }
    kept.retain(|entry| !is_empty(&entry.fields_v1));
    Some((replace_patch(&kept, resource_version), managers))
}

/// Where in an object others' fields are in the way: names, and any item of a list.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Name(String),
    Item,
}

impl Place {
    /// What a field that was refused is merged with: the list that it is an item of, else what it is in. The field is as the
    /// API server writes it, `spec.ports[1].name`. None for metadata, and where that would be all of `spec`.
    pub fn around(field: &str) -> Option<Self> {
        let mut parts = Vec::new();
        for name in field.split('.') {
            let (name, items) = name.split_once('[').unwrap_or((name, ""));
            parts.push(Part::Name(name.to_owned()));
            // An item is told by its position or key in a list that nobody else has seen.
            parts.extend(items.split('[').filter(|item| !item.is_empty()).map(|_| Part::Item));
        }
        let list = parts.iter().rposition(|part| *part == Part::Item);
        parts.truncate(list.unwrap_or(parts.len() - 1));
        let metadata = parts.first() == Some(&Part::Name("metadata".to_owned()));
        (parts.len() > usize::from(list.is_none()) && !metadata).then_some(Self(parts))
    }
}

/// Cuts the fields below a place out of a set of fields, and gives them as a set of their own.
fn cut(fields: &mut Value, path: &[Part]) -> Option<Value> {
    let fields = fields.as_object_mut()?;
    let (part, rest) = path.split_first()?;
    let keys: Vec<String> = match part {
        Part::Name(name) => vec![format!("f:{name}")],
        Part::Item => fields.keys().filter(|key| !key.starts_with("f:") && *key != ".").cloned().collect(),
    };
    let mut found = Map::new();
    for key in keys {
        let below = match rest {
            [] => fields.remove(&key),
            rest => fields.get_mut(&key).and_then(|below| cut(below, rest)),
        };
        found.extend(below.map(|below| (key.clone(), below)));
        // An item or a map of which nothing is left is nobody's.
        if !rest.is_empty() && fields.get(&key).is_some_and(is_empty) {
            fields.remove(&key);
        }
    }
    (!found.is_empty()).then_some(Value::Object(found))
}

fn is_empty(fields: &Value) -> bool {
    fields.as_object().is_none_or(Map::is_empty)
}

/// The union of two sets of fields. An empty map is the field itself; a map with content holds the field itself only
/// by a `.` among it.
pub(crate) fn union(a: Value, b: &Value, root: bool) -> Value {
    let (Value::Object(mut a), Value::Object(b)) = (a, b) else {
        return b.clone();
    };
    let itself = !root && (a.is_empty() || b.is_empty()) && !(a.is_empty() && b.is_empty());
    if itself {
        a.insert(".".into(), Value::Object(Map::new()));
    }
    for (key, theirs) in b {
        let merged = match a.remove(key) {
            Some(mine) => union(mine, theirs, false),
            None => theirs.clone(),
        };
        a.insert(key.clone(), merged);
    }
    Value::Object(a)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn entry(manager: &str, operation: &str, subresource: &str, fields: Value) -> ManagedFields {
        ManagedFields {
            manager: manager.into(),
            operation: operation.into(),
            api_version: "v1".into(),
            time: Some("2026-01-01T00:00:00Z".into()),
            fields_type: "FieldsV1".into(),
            fields_v1: fields,
            subresource: subresource.into(),
        }
    }

    #[test]
    fn who_is_folded() {
        for (manager, operation, subresource, folded) in [
            ("kubectl-client-side-apply", "Update", "", true),
            ("kubectl-edit", "Update", "", true),
            ("kubectl", "Apply", "", true),
            ("kubectl", "Update", "scale", false),
            ("before-first-apply", "Update", "", true),
            ("kustomize-controller", "Apply", "", true),
            ("helm-controller", "Update", "", true),
            ("helm", "Update", "", true),
            ("kube-controller-manager", "Update", "", false),
            ("flotilla", "Apply", "", false),
            ("argocd-controller", "Apply", "", false),
        ] {
            assert_eq!(is_folded(&entry(manager, operation, subresource, json!({}))), folded, "{manager}");
        }
    }

    #[test]
    fn our_digest_follows_our_own_entry_and_nothing_else() {
        let ours = entry(MANAGER, "Apply", "", json!({"f:data": {"f:a": {}}}));
        let mut later = ours.clone();
        later.time = Some("2027-01-01T00:00:00Z".into());
        let other = entry("someone", "Update", "", json!({"f:data": {"f:b": {}}}));
        assert_eq!(own_digest(std::slice::from_ref(&ours)), own_digest(&[other.clone(), ours.clone()]));
        assert_ne!(own_digest(std::slice::from_ref(&ours)), own_digest(&[later]), "applied by somebody else");
        let less = entry(MANAGER, "Apply", "", json!({"f:data": {}}));
        assert_ne!(own_digest(&[ours]), own_digest(&[less]));
        assert_eq!(own_digest(&[other, entry(MANAGER, "Apply", "status", json!({}))]), None);
    }

    #[test]
    fn folding_unites_the_fields_and_drops_the_others_entries() {
        let entries = [
            entry(
                "kubectl-edit",
                "Update",
                "",
                json!({"f:data": {"f:b": {}}, "f:metadata": {"f:labels": {".": {}, "f:x": {}}}}),
            ),
            entry(MANAGER, "Apply", "", json!({"f:data": {"f:a": {}}, "f:metadata": {"f:labels": {}}})),
            entry("kubectl", "Update", "scale", json!({"f:spec": {"f:replicas": {}}})),
        ];
        let patch = fold_patch(&entries, "42").unwrap();
        assert_eq!(patch[1]["value"], "42");
        let kept = patch[0]["value"].as_array().unwrap();
        assert_eq!(kept.len(), 2);
        assert_eq!(
            kept[0]["fieldsV1"],
            json!({"f:data": {"f:a": {}, "f:b": {}}, "f:metadata": {"f:labels": {".": {}, "f:x": {}}}})
        );
        assert_eq!(kept[1]["subresource"], "scale");
        assert_eq!(fold_patch(&entries[1..], "42"), None, "nothing to fold");
        assert_eq!(fold_patch(&entries[..1], "42"), None, "nothing of ours to fold into");
    }

    #[test]
    fn what_was_written_as_string_data_is_held_as_data() {
        let texts = json!({"f:stringData": {".": {}, "f:a": {}}, "f:data": {"f:b": {}}});
        let theirs = entry("kubectl", "Apply", "", texts.clone());
        let data = json!({"f:data": {".": {}, "f:a": {}, "f:b": {}}});
        assert_eq!(fields_of(&theirs), data);
        let custom = ManagedFields { api_version: "example.com/v1".into(), ..theirs.clone() };
        assert_eq!(fields_of(&custom), texts);
        let ours = entry(MANAGER, "Apply", "", json!({"f:data": {"f:c": {}}}));
        let patch = fold_patch(&[theirs, ours], "42").unwrap();
        let kept: Vec<ManagedFields> = serde_json::from_value(patch[0]["value"].clone()).unwrap();
        assert_eq!(kept[0].fields_v1, json!({"f:data": {".": {}, "f:a": {}, "f:b": {}, "f:c": {}}}));
    }

    #[test]
    fn where_a_refused_field_is_merged() {
        for (field, place) in [
            ("spec.ports[1].name", Some("spec ports")),
            ("spec.ports", None),
            ("spec.template.spec.containers[0].ports[1].name", Some("spec template spec containers * ports")),
            ("spec.template.spec.volumes[0].hostPath", Some("spec template spec volumes")),
            ("spec.strategy.rollingUpdate", Some("spec strategy")),
            (
                "spec.template.spec.containers[0].env[0].valueFrom",
                Some("spec template spec containers * env"),
            ),
            ("spec.lists[0][1]", Some("spec lists *")),
            ("webhooks[1].name", Some("webhooks")),
            ("data[key]", Some("data")),
            ("metadata.labels", None),
            ("metadata.ownerReferences[0].uid", None),
            ("spec", None),
            ("", None),
            ("[", None),
            ("..", Some(" ")),
        ] {
            let words = |Place(parts): Place| {
                let word = |part: &Part| match part {
                    Part::Name(name) => name.clone(),
                    Part::Item => "*".to_owned(),
                };
                parts.iter().map(word).collect::<Vec<_>>().join(" ")
            };
            assert_eq!(Place::around(field).map(words).as_deref(), place, "{field}");
        }
    }

    #[test]
    fn what_others_hold_at_a_place_is_taken_and_nothing_else() {
        let port = |number: u16| format!("k:{{\"port\":{number}}}");
        let ours = json!({"f:spec": {"f:selector": {}}});
        let theirs = json!({"f:metadata": {"f:labels": {".": {}, "f:x": {}}},
            "f:spec": {"f:ports": {".": {}, port(81): {".": {}, "f:port": {}}}, "f:type": {}}});
        let only = json!({"f:spec": {"f:ports": {port(82): {"f:name": {}}}}});
        let entries = [
            entry("k9s", "Update", "", theirs),
            entry(MANAGER, "Apply", "", ours),
            entry("hpa", "Update", "", only),
            entry("controller", "Update", "status", json!({"f:spec": {"f:ports": {}}})),
        ];
        let place = [Place::around("spec.ports[1].name").unwrap()];
        let (patch, managers) = take_patch(&entries, &place, "42").unwrap();
        assert_eq!(managers, ["k9s", "hpa"]);
        let kept: Vec<ManagedFields> = serde_json::from_value(patch[0]["value"].clone()).unwrap();
        assert_eq!(
            kept.iter().map(|entry| &*entry.manager).collect::<Vec<_>>(),
            ["k9s", MANAGER, "controller"]
        );
        assert_eq!(
            kept[0].fields_v1,
            json!({"f:metadata": {"f:labels": {".": {}, "f:x": {}}}, "f:spec": {"f:type": {}}})
        );
        assert_eq!(
            kept[1].fields_v1,
            json!({"f:spec": {"f:selector": {},
                "f:ports": {".": {}, port(81): {".": {}, "f:port": {}}, port(82): {"f:name": {}}}}})
        );
        assert_eq!(patch[1]["value"], "42");
        assert_eq!(take_patch(&entries[..1], &place, "42"), None, "nothing of ours to put it into");
        assert_eq!(take_patch(&entries[1..2], &place, "42"), None, "nobody holds anything");
        let elsewhere = [Place::around("spec.template.spec.containers[0].image").unwrap()];
        assert_eq!(take_patch(&entries, &elsewhere, "42"), None);
    }

    #[test]
    fn items_of_any_list_are_reached() {
        let item = "k:{\"name\":\"c\"}";
        let mut fields = json!({"f:containers": {item: {".": {}, "f:image": {}, "f:ports": {"k:{\"p\":1}": {}}},
            "k:{\"name\":\"d\"}": {"f:ports": {"k:{\"p\":2}": {}}}}});
        let place = Place::around("containers[0].ports[0].name").unwrap();
        let taken = cut(&mut fields, &place.0).unwrap();
        assert_eq!(
            taken,
            json!({"f:containers": {item: {"f:ports": {"k:{\"p\":1}": {}}},
                "k:{\"name\":\"d\"}": {"f:ports": {"k:{\"p\":2}": {}}}}})
        );
        assert_eq!(fields, json!({"f:containers": {item: {".": {}, "f:image": {}}}}));
    }
}
