//! Which Secrets an object names, and which one it makes.
//!
//! Fields are told by their names, as those of custom resources are not known here: `secretName`, anything that ends with
//! `SecretRef` or `secretKeyRef`, `imagePullSecrets`, and mappings that say `kind: Secret`. So a field may be taken for one that
//! names a Secret and not be one; what is found is for people to read.

use serde_json::{Map, Value};

use crate::object::ObjectRef;

/// Uses that are told of one object.
const MOST: usize = 1_000;

/// How an object has to do with a Secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    Uses,
    /// It is the Secret, or a controller makes the Secret of it.
    Makes,
}

/// A Secret that an object names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretUse {
    /// Empty where the object is in none and names none: whoever reads it knows.
    pub namespace: String,
    pub name: String,
    /// Where it is named, as `spec.tls[0].secretName`.
    pub field: String,
    pub role: Role,
}

/// Every Secret that an object names, in the order of the names of its fields.
pub fn secrets_of(object: &Value) -> Vec<SecretUse> {
    let Ok(ObjectRef { id, .. }) = ObjectRef::of(object) else { return Vec::new() };
    let mut found = Vec::new();
    let made = match (id.group.as_str(), id.kind.as_str()) {
        ("", "Secret") => Some((id.name.as_str(), "metadata.name")),
        ("bitnami.com", "SealedSecret") => Some(name_at(object, "spec.template.metadata.name", &id.name)),
        ("external-secrets.io", "ExternalSecret") => Some(name_at(object, "spec.target.name", &id.name)),
        _ => None,
    };
    if let Some((name, field)) = made {
        let (name, field) = (name.to_owned(), field.to_owned());
        found.push(SecretUse { namespace: id.namespace.clone(), name, field, role: Role::Makes });
    }
    if matches!((id.group.as_str(), id.kind.as_str()), ("", "Secret" | "ConfigMap")) {
        return found;
    }
    let role_at = |field: &str| match (id.group.as_str(), id.kind.as_str()) {
        ("cert-manager.io", "Certificate") if field == "spec.secretName" => Role::Makes,
        ("secrets-store.csi.x-k8s.io", "SecretProviderClass") if field.starts_with("spec.secretObjects[") => {
            Role::Makes
        }
        _ => Role::Uses,
    };
    let fields = object.as_object().into_iter().flatten();
    for (field, value) in fields.filter(|(field, _)| !matches!(field.as_str(), "metadata" | "status")) {
        walk(value, field, field, &mut |name, namespace, at| {
            if found.len() < MOST {
                let namespace = namespace.unwrap_or(&id.namespace).to_owned();
                let role = role_at(&at);
                found.push(SecretUse { namespace, name: name.to_owned(), field: at, role });
            }
        });
    }
    found
}

/// The text at a path, else the name that stands for it.
fn name_at<'a>(object: &'a Value, path: &'static str, otherwise: &'a str) -> (&'a str, &'static str) {
    let at = path.split('.').try_fold(object, |value, field| value.get(field));
    match at.and_then(Value::as_str).filter(|name| !name.is_empty()) {
        Some(name) => (name, path),
        None => (otherwise, "metadata.name"),
    }
}

/// Tells every name of a Secret below a field, with its namespace if that is said beside it, and where it stands.
fn walk(value: &Value, key: &str, at: &str, found: &mut impl FnMut(&str, Option<&str>, String)) {
    match value {
        Value::String(name) if key == "secretName" && !name.is_empty() => found(name, None, at.to_owned()),
        Value::Array(list) => {
            for (index, value) in list.iter().enumerate() {
                walk(value, key, &format!("{at}[{index}]"), found);
            }
        }
        Value::Object(map) => {
            let text = |field: &str| map.get(field).and_then(Value::as_str).filter(|text| !text.is_empty());
            if let Some(name) = text("name").filter(|_| is_reference(key, map)) {
                found(name, text("namespace"), format!("{at}.name"));
            }
            for (field, value) in map {
                walk(value, field, &format!("{at}.{field}"), found);
            }
        }
        _ => {}
    }
}

/// Whether a mapping names a Secret, by the key that it stands under.
fn is_reference(key: &str, map: &Map<String, Value>) -> bool {
    match map.get("kind").and_then(Value::as_str) {
        Some(kind) => kind == "Secret",
        None => {
            key == "secret"
                || matches!(key, "imagePullSecrets" | "certificateRefs")
                || ["secretRef", "SecretRef", "secretKeyRef", "SecretKeyRef"]
                    .iter()
                    .any(|end| key.ends_with(end))
        }
    }
}

#[cfg(test)]
#[path = "secret_use_tests.rs"]
mod tests;
