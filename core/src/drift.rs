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

/// The digest of our own entry, its time aside; none if we own nothing of the object.
pub fn own_digest(entries: &[ManagedFields]) -> Option<Digest> {
    let ours = entries.iter().find(|entry| is_ours(entry))?;
    Some(Digest::of_parts([ours.api_version.as_bytes(), ours.fields_v1.to_string().as_bytes()]))
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
        ours.fields_v1 = union(mine, &entry.fields_v1, true);
    }
    // A replaced resourceVersion is what the API server takes as the precondition of a patch.
    Some(json!([
        {"op": "replace", "path": "/metadata/managedFields", "value": kept},
        {"op": "replace", "path": "/metadata/resourceVersion", "value": resource_version},
    ]))
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
    fn our_digest_follows_the_fields_and_nothing_else() {
        let ours = entry(MANAGER, "Apply", "", json!({"f:data": {"f:a": {}}}));
        let mut later = ours.clone();
        later.time = Some("2027-01-01T00:00:00Z".into());
        let other = entry("someone", "Update", "", json!({"f:data": {"f:b": {}}}));
        assert_eq!(own_digest(std::slice::from_ref(&ours)), own_digest(&[other.clone(), later]));
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
}
