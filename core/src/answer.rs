//! What an agent answers to a person: what its cluster has, what an apply would change, what an adoption comes to.
//!
//! The JSON form is what agents and hubs of protocol 1.3 and before exchange; newer ones have messages for it.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use crate::adopt::Origin;
use crate::digest::Digest;
use crate::report::FieldDrift;

/// What is there to tell, beside that something was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Found {
    Adoption(Box<Adoption>),
    Live(LiveObject),
    Rehearsal(Rehearsal),
}

/// One object as a cluster has it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LiveObject {
    /// Without `managedFields`; values of Secrets, and annotations of theirs, are digests.
    pub object: Value,
    /// Why it is not healthy, from its status and the pods and events behind it; empty if it is.
    pub why: String,
}

/// What an apply would change.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Rehearsal {
    /// Those that would stay as they are are left out.
    pub objects: Vec<Foreseen>,
    /// So many would stay as they are.
    pub same: u32,
}

/// What an apply would make of one object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Foreseen {
    pub object: String,
    /// The unit that has it; empty where all are of one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub unit: String,
    #[serde(rename = "what")]
    pub effect: Effect,
    #[serde(default)]
    pub why: String,
    /// At most twenty; values of Secrets are digests.
    #[serde(default)]
    pub fields: Vec<FieldDrift>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Effect {
    Create,
    Change,
    /// Another owner's, who is at work, or left alone.
    Stays,
    /// The API server refuses what Git says.
    Refused,
    /// Of an adoption under way: not taken over yet.
    Waiting,
}

impl Effect {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Change => "change",
            Self::Stays => "stays",
            Self::Refused => "refused",
            Self::Waiting => "waiting",
        }
    }
}

/// What an adoption is asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AdoptAction {
    /// Only say what would be done; nothing is written.
    Plan,
    /// Do it. What was begun and cut short goes on.
    Apply,
    /// Give all of it back.
    Undo,
}

/// What an adoption comes to, or came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Adoption {
    #[serde(rename = "from")]
    pub origin: Origin,
    pub action: AdoptAction,
    /// Where an earlier adoption stands: `adopting`, `adopted`, `undoing` or `undone`; empty where there was none.
    pub stage: String,
    /// Nothing is left to do.
    pub complete: bool,
    /// A digest of what this plans to do, or did.
    #[serde(serialize_with = "text_of", deserialize_with = "digest_of")]
    pub plan: Option<Digest>,
    /// Flux's objects, or Helm's releases, that are taken over.
    pub owners: Vec<Owner>,
    /// What of the other tool goes on, and why.
    pub stays: Vec<Note>,
    pub counts: Counts,
    /// Objects of Git that would be made or changed, or cannot be taken over, with what is known of them.
    pub objects: Vec<Foreseen>,
    /// Objects that the other tool applied and Git does not have: left as they are, without an owner.
    pub left: Vec<Note>,
    /// So many lines of all these lists were left out.
    pub more: u32,
    /// What to do next, for people.
    pub next: Vec<String>,
}

impl Adoption {
    /// One that has nothing to tell yet.
    pub fn new(origin: Origin, action: AdoptAction) -> Self {
        Self {
            origin,
            action,
            stage: String::new(),
            complete: false,
            plan: None,
            owners: Vec::new(),
            stays: Vec::new(),
            counts: Counts::default(),
            objects: Vec::new(),
            left: Vec::new(),
            more: 0,
            next: Vec::new(),
        }
    }
}

/// Something that applied objects and is taken over.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Owner {
    pub object: String,
    /// The unit in its place; empty for a source, which needs none.
    pub unit: String,
    /// Where it stands: `runs`, `suspended`, `removed`, `kept apart` (a release), `back`; or why it is still there.
    pub state: String,
}

/// An object, and why it is as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Note {
    pub object: String,
    pub why: String,
}

/// How many of Git's objects are what.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Counts {
    /// Flotilla's already.
    pub ours: u32,
    /// Taken over as they are.
    pub same: u32,
    /// Taken over and changed.
    pub change: u32,
    /// Not there yet.
    pub create: u32,
    /// Another owner's, who is at work.
    pub stays: u32,
    /// The API server refuses what Git says.
    pub refused: u32,
    /// Of an adoption under way: not taken over yet.
    pub waiting: u32,
}

/// A digest, or an empty text for none.
fn text_of<S: Serializer>(digest: &Option<Digest>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&digest.map_or_else(String::new, |digest| digest.to_string()))
}

fn digest_of<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Digest>, D::Error> {
    match String::deserialize(deserializer)?.as_str() {
        "" => Ok(None),
        text => text.parse().map(Some).map_err(serde::de::Error::custom),
    }
}
