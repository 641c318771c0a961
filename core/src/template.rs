//! Objects that only the cluster can complete: a text with variables, some of whose values stand in ConfigMaps and
//! Secrets that the hub does not see.
//!
//! ```text
//!   hub    text + layers of values ──► all known? ─ yes ─► the object itself
//!                                         └─ no ──► an object whose body is the template   (travels like any other)
//!   agent  template + the ConfigMaps and Secrets it names ──► the object
//! ```
//!
//! A template has the identity of the object that it becomes, so inventory and order need not know of it. What makes it
//! a template is said beside its body, in the unit's manifest: a body that only claims to be one is refused, for whoever
//! writes an object could have the agent read for them what they may not.

mod error;

use std::cell::Cell;
use std::collections::BTreeMap;

use flotilla_sops::service::Answers;
use flotilla_yaml::{Kind, Node};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::decrypt;
use crate::envsubst::{self, is_variable_name};
use crate::object::{Object, ObjectRef};
use crate::work::Work;
pub use error::TemplateError;

/// The field of a template's body that holds it. Agents before 0.2 know a template by it alone.
pub const FIELD: &str = "flotilla.dev/template";

/// Nodes of a document after substitution: an agent has little memory for it.
const NODES: usize = 500_000;

/// What values are taken from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ValuesKind {
    ConfigMap,
    Secret,
}

/// A ConfigMap or Secret with values.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ValuesRef {
    pub kind: ValuesKind,
    pub namespace: String,
    pub name: String,
}

impl std::fmt::Display for ValuesRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} {}/{}", self.kind, self.namespace, self.name)
    }
}

/// Some values of variables.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Layer {
    Values(BTreeMap<String, String>),
    /// To be looked up in the cluster.
    From {
        #[serde(flatten)]
        reference: ValuesRef,
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        optional: bool,
    },
}

/// The variables that are offered to a text.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Variables {
    /// A later layer covers an earlier one.
    pub layers: Vec<Layer>,
    /// Substitute though there is no variable at all.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub always: bool,
    /// A variable that is not set and has no default is an empty text, as in Flux up to 2.8, and no error.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub lenient: bool,
}

/// What is known of a variable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Known<'a> {
    Value(&'a str),
    /// That ConfigMap or Secret may set it.
    Perhaps(&'a ValuesRef),
    NotSet,
}

impl Variables {
    /// Adds the values of one place, as Flux takes them: without line breaks.
    ///
    /// # Errors
    /// A name that no variable can have.
    pub fn add(&mut self, values: impl IntoIterator<Item = (String, String)>) -> Result<(), String> {
        let mut layer = BTreeMap::new();
        for (name, value) in values {
            if !is_variable_name(&name) {
                return Err(format!("'{name}' cannot name a variable: use letters, digits and '_'"));
            }
            layer.insert(name, value.replace('\n', ""));
        }
        self.layers.push(Layer::Values(layer));
        Ok(())
    }

    pub fn lookup(&self, name: &str) -> Known<'_> {
        for layer in self.layers.iter().rev() {
            match layer {
                Layer::Values(values) => {
                    if let Some(value) = values.get(name) {
                        return Known::Value(value);
                    }
                }
                Layer::From { reference, .. } => return Known::Perhaps(reference),
            }
        }
        Known::NotSet
    }

    /// What is put in for a variable; `None` where that is an error, or nobody but the cluster knows.
    pub fn value(&self, name: &str) -> Option<&str> {
        match self.lookup(name) {
            Known::Value(value) => Some(value),
            Known::Perhaps(_) => None,
            Known::NotSet => self.lenient.then_some(""),
        }
    }

    /// Whether there is anything to substitute with, as far as is known.
    fn substitutes(&self) -> bool {
        self.always
            || self.layers.iter().any(|layer| match layer {
                Layer::Values(values) => !values.is_empty(),
                Layer::From { .. } => true,
            })
    }

    /// The variables with what was found in the cluster.
    ///
    /// # Errors
    /// Where something that is not optional was not found, or names what no variable can be named.
    pub fn completed(&self, found: &Found) -> Result<Self, TemplateError> {
        let missing = self.needs().find(|reference| !found.contains_key(reference));
        missing.map_or_else(|| self.with(found), |reference| Err(TemplateError::NotFound(reference.clone())))
    }

    /// Where values are to be looked up.
    pub fn needs(&self) -> impl Iterator<Item = &ValuesRef> {
        self.layers.iter().filter_map(|layer| match layer {
            Layer::From { reference, .. } => Some(reference),
            Layer::Values(_) => None,
        })
    }

    /// The variables with what was found so far: what was not looked at stays open.
    ///
    /// # Errors
    /// As [`completed`](Self::completed).
    pub fn with(&self, found: &Found) -> Result<Self, TemplateError> {
        let Self { layers: _, always, lenient } = *self;
        let mut done = Self { layers: Vec::with_capacity(self.layers.len()), always, lenient };
        for layer in &self.layers {
            match layer {
                Layer::Values(_) => done.layers.push(layer.clone()),
                Layer::From { reference, optional } => match found.get(reference) {
                    Some(Some(values)) => {
                        let values = values.iter().map(|(name, value)| (name.clone(), value.clone()));
                        done.add(values).map_err(|message| TemplateError::Name {
                            reference: reference.clone(),
                            message,
                        })?;
                    }
                    Some(None) if *optional => {}
                    Some(None) => return Err(TemplateError::NotFound(reference.clone())),
                    None => done.layers.push(layer.clone()),
                },
            }
        }
        Ok(done)
    }

    /// Substitutes in the text of one document, and reads it.
    ///
    /// # Errors
    /// Where the text cannot be substituted, or is no document afterwards; where it has a variable that the cluster may set.
    pub fn substitute(&self, text: &str) -> Result<Node, TemplateError> {
        self.substitute_within(text, &mut Work::new(envsubst::WORK))
    }

    /// As [`substitute`](Self::substitute), for several documents that may cost `work` together.
    ///
    /// # Errors
    /// See [`substitute`](Self::substitute).
    pub fn substitute_within(&self, text: &str, work: &mut Work) -> Result<Node, TemplateError> {
        let substitutes = self.substitutes();
        let text = if substitutes {
            let unknown = Cell::new(None);
            let value = |name: &str| {
                if let Known::Perhaps(place) = self.lookup(name) {
                    unknown.set(Some(place));
                }
                self.value(name)
            };
            let expanded = envsubst::Template::parse(text)?.expand_within(&value, work);
            if let Some(place) = unknown.get() {
                return Err(TemplateError::Unknown(place.clone()));
            }
            expanded?
        } else {
            text.to_owned()
        };
        let unread = |message: String| TemplateError::NoDocument(message);
        let mut options = flotilla_yaml::Options::default();
        options.limits.nodes = NODES;
        let documents = flotilla_yaml::parse_with(&text, &options);
        let mut documents = documents.map_err(|error| unread(error.message))?;
        match documents.pop() {
            Some(mut document) if documents.is_empty() => {
                if substitutes {
                    round_integers(&mut document);
                }
                Ok(document)
            }
            _ => Err(unread("it is not one document any more".to_owned())),
        }
    }
}

/// Integers that a double cannot hold become the nearest that it can: Flux reads what it has substituted in as JSON, whose
/// numbers are doubles there.
fn round_integers(node: &mut Node) {
    // From here on two of them may become one.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if let Some(list) = node.as_seq_mut() {
        list.iter_mut().for_each(round_integers);
    } else if let Some(map) = node.as_map_mut() {
        map.values_mut().for_each(round_integers);
    } else if node.as_scalar().is_some_and(|scalar| scalar.kind() == Kind::Int)
        && let Some(value) = node.as_f64().filter(|value| value.abs() >= EXACT && value.abs() < 1e21)
    {
        // With as few digits as tell it apart, and zeros for the rest: as Go writes it.
        *node = Node::plain(value.to_string()).at_pos(node.pos);
    }
}

/// What the cluster has: the values of each place that was looked at, `None` where there is no such object.
pub type Found = BTreeMap<ValuesRef, Option<BTreeMap<String, String>>>;

/// An object that only the cluster can complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectTemplate {
    pub reference: ObjectRef,
    content: Content,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Content {
    text: String,
    /// The text is encrypted: where the keys are that open it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sops: Option<ValuesRef>,
    variables: Variables,
    #[serde(default, skip_serializing_if = "Metadata::is_empty")]
    metadata: Metadata,
}

/// Labels and annotations that are set after substitution (`spec.commonMetadata`).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Metadata {
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

impl Metadata {
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty() && self.annotations.is_empty()
    }

    /// Sets them on an object, over its own.
    pub fn set(&self, object: &mut Value) {
        for (field, pairs) in [("labels", &self.labels), ("annotations", &self.annotations)] {
            if pairs.is_empty() {
                continue;
            }
            let Some(object) = object.as_object_mut() else { return };
            let Some(metadata) = object.entry("metadata").or_insert_with(|| json!({})).as_object_mut() else {
                return;
            };
            let map = metadata.entry(field).or_insert_with(|| json!({}));
            // Flux reads nothing as an empty text, and a mapping with anything else in it as none.
            match map.as_object_mut() {
                Some(map) if map.values().all(|value| value.is_string() || value.is_null()) => {
                    map.values_mut().filter(|value| value.is_null()).for_each(|value| *value = json!(""));
                }
                _ => *map = json!({}),
            }
            for (key, value) in pairs {
                map[key] = json!(value);
            }
        }
    }
}

impl ObjectTemplate {
    pub fn new(reference: ObjectRef, text: String, variables: Variables, metadata: Metadata) -> Self {
        Self { reference, content: Content { text, sops: None, variables, metadata } }
    }

    /// The same, of a text that SOPS encrypted: the keys in a Secret of the cluster open it before anything is put in.
    #[must_use]
    pub fn sealed(mut self, keys: ValuesRef) -> Self {
        self.content.sops = Some(keys);
        self
    }

    /// The template as an object that can travel and be kept.
    pub fn object(&self) -> Object {
        let ObjectRef { id, .. } = &self.reference;
        let mut body = json!({
            "apiVersion": self.reference.api_version(),
            "kind": id.kind,
            "metadata": {"name": id.name},
            FIELD: self.content,
        });
        if !id.namespace.is_empty() {
            body["metadata"]["namespace"] = json!(id.namespace);
        }
        Object::template(&body).expect("a reference is complete")
    }

    /// The template that an object is; `None` for any other object.
    ///
    /// # Errors
    /// A template that this reader does not understand.
    pub fn of(object: &Object) -> Option<Result<Self, serde_json::Error>> {
        if !object.is_template() {
            return None;
        }
        let content = object.value().get_mut(FIELD).map_or(Value::Null, Value::take);
        let reference = object.reference().clone();
        Some(serde_json::from_value(content).map(|content| Self { reference, content }))
    }

    /// Where values are to be looked up.
    pub fn needs(&self) -> impl Iterator<Item = &ValuesRef> {
        self.content.variables.needs().chain(&self.content.sops)
    }

    /// The document as it is before anything is put in or opened, without what SOPS notes of it; `None` where that is no
    /// document yet.
    pub fn document(&self) -> Option<Value> {
        let document = flotilla_yaml::parse(&self.content.text).ok()?.pop()?;
        let mut value = document.to_json().ok()?;
        if self.content.sops.is_some()
            && let Some(fields) = value.as_object_mut()
        {
            fields.remove("sops");
        }
        Some(value)
    }

    /// Where values are to be looked up, for a unit whose ConfigMaps and Secrets are in this namespace.
    ///
    /// # Errors
    /// Where one of them is in another namespace.
    pub fn needs_in(&self, namespace: &str) -> Result<Vec<&ValuesRef>, TemplateError> {
        let elsewhere = |at: &ValuesRef| TemplateError::Elsewhere(at.clone(), namespace.to_owned());
        self.needs().map(|at| if at.namespace == namespace { Ok(at) } else { Err(elsewhere(at)) }).collect()
    }

    /// The object, with what was found in the cluster. Everything that the template [needs](Self::needs) must have
    /// been looked at: what is not in `found` counts as missing.
    ///
    /// # Errors
    /// What keeps it from being an object; the old one stays applied.
    pub fn complete(&self, found: &Found) -> Result<Object, TemplateError> {
        self.complete_with(found, &Answers::new())
    }

    /// The object, with what was found in the cluster and what key services answered.
    ///
    /// # Errors
    /// As [`complete`](Self::complete); [`TemplateError::asks`] says which services have to be asked.
    pub fn complete_with(&self, found: &Found, answers: &Answers) -> Result<Object, TemplateError> {
        let Content { text, sops, variables, metadata } = &self.content;
        let variables = variables.completed(found)?;
        let node = match sops {
            None => variables.substitute(text)?,
            Some(keys) => {
                let clear = decrypt::open(text, keys, found, answers)?;
                if variables.substitutes() {
                    let text = flotilla_yaml::write_canonical(&clear);
                    variables.substitute(&text.map_err(|error| TemplateError::NoDocument(error.message))?)?
                } else {
                    clear
                }
            }
        };
        let mut value = node.to_json().map_err(|error| TemplateError::NoDocument(error.message))?;
        metadata.set(&mut value);
        let object = Object::new(&value)?;
        if *object.reference() != self.reference {
            let (was, is) = (self.reference.to_string(), object.id().to_string());
            return Err(TemplateError::Identity { was, is });
        }
        Ok(object)
    }
}

#[cfg(test)]
#[path = "template_tests.rs"]
mod tests;
