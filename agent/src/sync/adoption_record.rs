//! What an adoption keeps in the cluster so that it can be resumed and undone: Secrets beside the inventory, since
//! objects of Flux and annotations of kubectl may hold what nobody else is to see.
//!
//! ```text
//!   flotilla-adoption-ORIGIN      how far it is, and which parts count; written after them
//!   flotilla-adoption-ORIGIN-N    a JSON object a line: an object, one of Flux's as it was, a release of Helm
//! ```

use std::collections::{BTreeMap, HashSet};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use flotilla_core::adopt::{Origin, Previous};
use flotilla_core::{ObjectId, ObjectRef, UnitId, drift};
use http::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::cluster::request::{Call, Failure};
use crate::cluster::{Cluster, SYSTEM_NAMESPACE};

/// Marks these Secrets, with the origin as its value, and Flux's objects while an adoption or an undo has them suspended.
pub(super) const MARK: &str = "flotilla.dev/adoption";
const NAME: &str = "flotilla-adoption";
const PART_BYTES: usize = 512 * 1024;

/// How far an adoption is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Stage {
    Adopting,
    Adopted,
    Undoing,
    Undone,
}

impl Stage {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Adopting => "adopting",
            Self::Adopted => "adopted",
            Self::Undoing => "undoing",
            Self::Undone => "undone",
        }
    }

    /// Whether its objects are none of ours.
    fn is_left(self) -> bool {
        matches!(self, Self::Undoing | Self::Undone)
    }
}

/// What stands in the first Secret.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Head {
    stage: Stage,
    /// The parts that count: from this one to before that one.
    first: u32,
    end: u32,
}

/// An object's name, as it is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Key {
    group: String,
    version: String,
    kind: String,
    namespace: String,
    name: String,
}

impl From<&ObjectRef> for Key {
    fn from(object: &ObjectRef) -> Self {
        let flotilla_core::ObjectName { group, kind, namespace, name } = (*object.id).clone();
        Self { group, kind, namespace, name, version: object.version.to_string() }
    }
}

impl From<Key> for ObjectRef {
    fn from(key: Key) -> Self {
        let Key { group, version, kind, namespace, name } = key;
        Self { id: ObjectId::new(group, kind, namespace, name), version: version.into() }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Line {
    /// An object of Git, before it was taken over.
    Object {
        object: Key,
        unit: UnitId,
        /// Empty if it was not there.
        uid: String,
        previous: Previous,
    },
    /// One of Flux's own objects, all of it.
    Flux(Value),
    /// A Secret in which Helm keeps a revision of a release.
    Release { namespace: String, name: String },
}

/// The record of one adoption.
pub(super) struct Record {
    pub(super) origin: Origin,
    pub(super) stage: Option<Stage>,
    first: u32,
    end: u32,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Stored {
    data: Option<BTreeMap<String, String>>,
}

impl Stored {
    fn text(&self, key: &str) -> Option<String> {
        let bytes = STANDARD.decode(self.data.as_ref()?.get(key)?).ok()?;
        String::from_utf8(bytes).ok()
    }
}

fn path(name: &str) -> String {
    format!("/api/v1/namespaces/{SYSTEM_NAMESPACE}/secrets/{name}")
}

/// The text of a Secret of ours; none if there is no such Secret.
async fn fetch(cluster: &Cluster, name: &str, key: &str) -> Result<Option<String>, RecordError> {
    let stored: Stored = match cluster.get_path(path(name)).await {
        Err(failure) if failure.is_not_found() => return Ok(None),
        other => other.map_err(|failure| RecordError::Failure(name.to_owned(), failure))?,
    };
    stored.text(key).map(Some).ok_or_else(|| RecordError::Lost(name.to_owned()))
}

impl Record {
    /// Reads how far it is; one that cannot be read is not one that is absent.
    pub(super) async fn load(cluster: &Cluster, origin: Origin) -> Result<Self, RecordError> {
        let name = format!("{NAME}-{origin}");
        let Some(text) = fetch(cluster, &name, "head").await? else {
            return Ok(Self { origin, stage: None, first: 0, end: 0 });
        };
        let Head { stage, first, end } =
            serde_json::from_str(&text).map_err(|error| RecordError::Unread(name, error))?;
        Ok(Self { origin, stage: Some(stage), first, end })
    }

    /// Begins after an adoption that was undone, or none. What was written down before stays until the new stage is set.
    pub(super) fn begin_anew(&mut self) {
        self.first = self.end;
    }

    pub(super) async fn set(&mut self, cluster: &Cluster, stage: Stage) -> Result<(), RecordError> {
        let head = Head { stage, first: self.first, end: self.end };
        // A struct of numbers always has a JSON text.
        let text = serde_json::to_string(&head).unwrap_or_default();
        self.write(cluster, &format!("{NAME}-{}", self.origin), "head", &text).await?;
        self.stage = Some(stage);
        Ok(())
    }

    /// Adds lines; they count once the stage is set.
    pub(super) async fn add(&mut self, cluster: &Cluster, lines: &[Line]) -> Result<(), RecordError> {
        let mut text = String::new();
        for line in lines {
            // A map with text keys always has a JSON text.
            let line = serde_json::to_string(line).unwrap_or_default();
            if !text.is_empty() && text.len() + line.len() > PART_BYTES {
                self.add_part(cluster, &std::mem::take(&mut text)).await?;
            }
            text.push_str(&line);
            text.push('\n');
        }
        if text.is_empty() { Ok(()) } else { self.add_part(cluster, &text).await }
    }

    async fn add_part(&mut self, cluster: &Cluster, text: &str) -> Result<(), RecordError> {
        self.write(cluster, &self.part(self.end), "lines", text).await?;
        self.end += 1;
        Ok(())
    }

    fn part(&self, number: u32) -> String {
        format!("{NAME}-{}-{number}", self.origin)
    }

    async fn write(&self, cluster: &Cluster, name: &str, key: &str, text: &str) -> Result<(), RecordError> {
        let data = BTreeMap::from([(key, STANDARD.encode(text))]);
        let body = json!({"apiVersion": "v1", "kind": "Secret", "type": MARK, "data": data,
            "metadata": {"name": name, "namespace": SYSTEM_NAMESPACE, "labels": {MARK: self.origin.as_str()}}});
        let path = format!("{}?fieldManager={}&force=true", path(name), drift::MANAGER);
        let call = Call::new(Method::PATCH, path)
            .body("application/apply-patch+yaml", Bytes::from(body.to_string()));
        let written = cluster.send(call).await;
        written.map(drop).map_err(|failure| RecordError::Failure(name.to_owned(), failure))
    }

    /// All lines. A part that is gone or cannot be read is an error: what it held would be forgotten.
    pub(super) async fn lines(&self, cluster: &Cluster) -> Result<Vec<Line>, RecordError> {
        let mut lines = Vec::new();
        for number in self.first..self.end {
            let name = self.part(number);
            let text = fetch(cluster, &name, "lines").await?;
            let text = text.ok_or_else(|| RecordError::Lost(name.clone()))?;
            for line in text.lines() {
                let line =
                    serde_json::from_str(line).map_err(|error| RecordError::Unread(name.clone(), error))?;
                lines.push(line);
            }
        }
        Ok(lines)
    }
}

/// What is written down of an adoption cannot be written, or read back.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    #[error("the Secret {SYSTEM_NAMESPACE}/{0}, in which an adoption is written down")]
    Failure(String, #[source] Failure),
    #[error(
        "the Secret {SYSTEM_NAMESPACE}/{0} is gone or empty, in which an adoption is written down; restore it from a backup"
    )]
    Lost(String),
    #[error(
        "the Secret {SYSTEM_NAMESPACE}/{0} holds fields that this version does not know; upgrade the agent"
    )]
    Unread(String, #[source] serde_json::Error),
}

/// The objects that were given back: not to be touched.
pub(super) async fn relinquished(cluster: &Cluster) -> Result<HashSet<ObjectId>, RecordError> {
    let mut relinquished = HashSet::new();
    for origin in Origin::ALL {
        let record = Record::load(cluster, origin).await?;
        if record.stage.is_some_and(Stage::is_left) {
            let lines = record.lines(cluster).await?.into_iter();
            relinquished.extend(lines.filter_map(|line| match line {
                Line::Object { object, .. } => Some(ObjectRef::from(object).id),
                Line::Flux(_) | Line::Release { .. } => None,
            }));
        }
    }
    Ok(relinquished)
}
