//! Kubernetes objects as we carry them: an identity and canonical JSON.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;
use smol_str::SmolStr;

use crate::digest::Digest;

/// What makes an object one and the same in a cluster: group, kind, namespace, name. The version is not part
/// of it, `apps/v1beta1` and `apps/v1` are two views of one Deployment. A pointer: clones share their text, as an
/// agent keeps each identity in a dozen tables.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectId(Arc<ObjectName>);

/// The parts of an [`ObjectId`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectName {
    pub group: String,
    pub kind: String,
    /// Empty for an object that has no namespace, or names none.
    pub namespace: String,
    pub name: String,
}

/// An object as Git names it: its identity and the version in which it is written.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectRef {
    pub id: ObjectId,
    pub version: SmolStr,
}

/// An object that cannot be sent to a cluster as it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidObject {
    #[error("a document is not an object: expected a mapping with apiVersion, kind and metadata.name")]
    NotAMapping,
    #[error("{field} is missing in {what}")]
    Missing { field: &'static str, what: String },
    #[error("{field} of {what} must be a non-empty string")]
    NotAString { field: &'static str, what: String },
    #[error("{what} has metadata.generateName and no name; give it a name, an unnamed object cannot be kept")]
    GenerateName { what: String },
    #[error("{what} has the field {field}, which only hub and agent write between them; remove it")]
    Reserved { what: String, field: String },
    #[error(
        "{what} has {field}, which the API server gives to one object of one cluster, so that nothing else can be applied \
         by it; remove it"
    )]
    ReadOnly { what: String, field: String },
    #[error("{what} is nested deeper than {MAX_NESTING} levels, which cannot be sent")]
    TooDeep { what: String },
}

/// Fields of a body that begin so are the hub's and the agent's own: no object has them.
const RESERVED: &str = "flotilla.dev/";

/// An object as it is to be applied. Cheap to clone.
#[derive(Clone, PartialEq, Eq)]
pub struct Object {
    reference: ObjectRef,
    body: Bytes,
    digest: Digest,
    /// See [`Object::is_template`].
    template: bool,
}

impl ObjectRef {
    /// `apps/v1`, or `v1` for the core group.
    pub fn api_version(&self) -> String {
        if self.id.group.is_empty() {
            self.version.to_string()
        } else {
            format!("{}/{}", self.id.group, self.version)
        }
    }

    /// Reads the identity of an object.
    pub fn of(value: &Value) -> Result<Self, InvalidObject> {
        let map = value.as_object().ok_or(InvalidObject::NotAMapping)?;
        let kind = map.get("kind").and_then(Value::as_str).unwrap_or_default();
        let metadata = map.get("metadata").unwrap_or(&Value::Null);
        let name = metadata.get("name").and_then(Value::as_str).unwrap_or_default();
        let what = || match (kind, name) {
            ("", "") => "an object without kind and name".to_owned(),
            (kind, "") => format!("a {kind} without name"),
            ("", name) => format!("an object '{name}' without kind"),
            (kind, name) => format!("{kind}/{name}"),
        };
        let text = |value: Option<&Value>, field: &'static str| match value {
            None | Some(Value::Null) => Err(InvalidObject::Missing { field, what: what() }),
            Some(Value::String(text)) if !text.is_empty() => Ok(text.clone()),
            Some(_) => Err(InvalidObject::NotAString { field, what: what() }),
        };
        let api_version = text(map.get("apiVersion"), "apiVersion")?;
        let kind_text = text(map.get("kind"), "kind")?;
        if name.is_empty() && metadata.get("generateName").is_some_and(|g| !g.is_null()) {
            return Err(InvalidObject::GenerateName { what: what() });
        }
        let name_text = text(metadata.get("name"), "metadata.name")?;
        let namespace = match metadata.get("namespace") {
            None | Some(Value::Null) => String::new(),
            Some(Value::String(namespace)) => namespace.clone(),
            Some(_) => return Err(InvalidObject::NotAString { field: "metadata.namespace", what: what() }),
        };
        let (group, version) = api_version.rsplit_once('/').unwrap_or(("", &api_version));
        Ok(Self { id: ObjectId::new(group, kind_text, namespace, name_text), version: version.into() })
    }
}

impl Deref for ObjectId {
    type Target = ObjectName;

    fn deref(&self) -> &ObjectName {
        &self.0
    }
}

impl fmt::Debug for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl ObjectId {
    /// An identity by its parts; `namespace` is empty for an object that has none.
    pub fn new(
        group: impl Into<String>,
        kind: impl Into<String>,
        namespace: impl Into<String>,
        name: impl Into<String>,
    ) -> Self {
        let (group, kind) = (group.into(), kind.into());
        Self(Arc::new(ObjectName { group, kind, namespace: namespace.into(), name: name.into() }))
    }

    /// The same name in another namespace.
    pub fn in_namespace(&self, namespace: &str) -> Self {
        if self.namespace == namespace {
            return self.clone();
        }
        Self::new(&self.group, &self.kind, namespace, &self.name)
    }

    /// Whether this is a `kind` of `group`.
    pub fn is(&self, group: &str, kind: &str) -> bool {
        self.group == group && self.kind == kind
    }
}

/// `Deployment.apps web/frontend`, `Namespace web`: for people and logs.
impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.kind)?;
        if !self.group.is_empty() {
            write!(f, ".{}", self.group)?;
        }
        if self.namespace.is_empty() {
            write!(f, " {}", self.name)
        } else {
            write!(f, " {}/{}", self.namespace, self.name)
        }
    }
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.id.fmt(f)
    }
}

fn is_beyond_i64(number: &serde_json::Number) -> bool {
    number.is_u64() && !number.is_i64()
}

fn has_beyond_i64(value: &Value) -> bool {
    match value {
        Value::Number(number) => is_beyond_i64(number),
        Value::Array(items) => items.iter().any(has_beyond_i64),
        Value::Object(map) => map.values().any(has_beyond_i64),
        Value::Null | Value::Bool(_) | Value::String(_) => false,
    }
}

fn with_doubles(value: &Value) -> Value {
    match value {
        Value::Number(number) if is_beyond_i64(number) => {
            // Go writes the shortest digits of a float, and no exponent below 1e21.
            let double = number.as_f64();
            let digits = double.and_then(|double| double.to_string().parse::<u64>().ok());
            digits.map_or_else(|| double.into(), Value::from)
        }
        Value::Array(items) => items.iter().map(with_doubles).collect(),
        Value::Object(map) => map.iter().map(|(key, value)| (key.clone(), with_doubles(value))).collect(),
        other => other.clone(),
    }
}

impl Object {
    /// Takes an object. Maps in `value` are sorted by key, so its JSON text is canonical. Integers from 2^63 on become floats, as
    /// the JSON reader of Kubernetes has them (`k8s.io/apimachinery/pkg/util/json`).
    ///
    /// # Errors
    /// What is not an object or is nested deeper than [`MAX_NESTING`], what has fields that are ours (nobody but the hub itself
    /// makes a template), and what names one object of one cluster by its uid or version.
    pub fn new(value: &Value) -> Result<Self, InvalidObject> {
        refuse_reserved(value)?;
        refuse_read_only(value)?;
        Self::with(value, false)
    }

    /// Takes the body of a template.
    pub(crate) fn template(value: &Value) -> Result<Self, InvalidObject> {
        Self::with(value, true)
    }

    fn with(value: &Value, template: bool) -> Result<Self, InvalidObject> {
        let reference = ObjectRef::of(value)?;
        if is_deeper(value, MAX_NESTING) {
            return Err(InvalidObject::TooDeep { what: reference.to_string() });
        }
        let text = if has_beyond_i64(value) {
            serde_json::to_vec(&with_doubles(value))
        } else {
            serde_json::to_vec(value)
        };
        let body = Bytes::from(text.expect("a JSON value has a JSON text"));
        let digest = Digest::of(&body);
        Ok(Self { reference, body, digest, template })
    }

    /// Takes back what [`Object::body`] gave, from the wire or the disk. Whether it is a template is said beside it.
    ///
    /// # Errors
    /// Also a body that claims to be a template where nothing beside it says so.
    pub fn from_body(body: Bytes, template: bool) -> Result<Self, FromBodyError> {
        let value: Value = serde_json::from_slice(&body)?;
        let reference = ObjectRef::of(&value)?;
        if !template {
            refuse_reserved(&value)?;
        }
        let digest = Digest::of(&body);
        Ok(Self { reference, body, digest, template })
    }

    /// Whether it is a [template](crate::template::ObjectTemplate) that only the cluster can complete. The body alone
    /// never says so.
    pub fn is_template(&self) -> bool {
        self.template
    }

    pub fn reference(&self) -> &ObjectRef {
        &self.reference
    }

    pub fn id(&self) -> &ObjectId {
        &self.reference.id
    }

    /// Canonical JSON: no white space, keys sorted.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The object as a value.
    pub fn value(&self) -> Value {
        serde_json::from_slice(&self.body).expect("the body was made from a JSON value")
    }
}

/// Refuses fields that only hub and agent write.
///
/// # Errors
/// [`InvalidObject::Reserved`] for the first of them.
pub fn refuse_reserved(value: &Value) -> Result<(), InvalidObject> {
    let field =
        value.as_object().into_iter().flat_map(|map| map.keys()).find(|key| key.starts_with(RESERVED));
    let Some(field) = field else { return Ok(()) };
    let text = |at: &str| value.pointer(at).and_then(Value::as_str).unwrap_or_default();
    let what = format!("{}/{}", text("/kind"), text("/metadata/name"));
    Err(InvalidObject::Reserved { what, field: field.clone() })
}

/// Refuses what an apply takes as a condition that no object but that one meets: `kubectl get -o yaml` writes both. Other
/// fields that the API server writes are harmless and [left out](crate::normalize).
fn refuse_read_only(value: &Value) -> Result<(), InvalidObject> {
    for name in ["uid", "resourceVersion"] {
        let found = value.pointer(&format!("/metadata/{name}"));
        if found.is_some_and(|found| !found.is_null() && found != "") {
            let what = ObjectRef::of(value)?.to_string();
            return Err(InvalidObject::ReadOnly { what, field: format!("metadata.{name}") });
        }
    }
    Ok(())
}

/// Values inside each other that an object has at most: what reads JSON, here and at the agent, gives up at 128.
pub const MAX_NESTING: usize = 120;

/// Whether there are more than so many collections inside each other.
fn is_deeper(value: &Value, most: usize) -> bool {
    let mut open = vec![(value, 0)];
    while let Some((value, depth)) = open.pop() {
        match value {
            Value::Array(_) | Value::Object(_) if depth == most => return true,
            Value::Array(items) => open.extend(items.iter().map(|item| (item, depth + 1))),
            Value::Object(fields) => open.extend(fields.values().map(|field| (field, depth + 1))),
            _ => {}
        }
    }
    false
}

impl fmt::Debug for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}", self.reference, self.digest)
    }
}

/// Bytes that are no object.
#[derive(Debug, thiserror::Error)]
pub enum FromBodyError {
    #[error("an object's body is not JSON")]
    Json(#[from] serde_json::Error),
    #[error(transparent)]
    Object(#[from] InvalidObject),
}

#[cfg(test)]
#[path = "object_tests.rs"]
mod tests;
