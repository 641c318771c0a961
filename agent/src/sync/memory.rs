//! What is remembered of a unit across restarts, as a versioned JSON text.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use flotilla_core::guard::{Departure, Departures, Subject, UnitDeparture, What};
use flotilla_core::inventory::Uid;
use flotilla_core::plan::UnitMemory;
use flotilla_core::template::ValuesRef;
use flotilla_core::unit::{DriftMode, ObjectEntry};
use flotilla_core::{Digest, Generation, ObjectId, ObjectRef, UnitId, UnitManifest};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::time::Instant;

use crate::cluster::members::Observed;

const VERSION: u32 = 1;

/// How an object was when our last apply of it was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LastApplied {
    /// What was applied: [`flotilla_core::plan::apply_fingerprint`].
    pub(crate) fingerprint: Digest,
    /// Our `managedFields` entry after it.
    pub(crate) entry: Option<Digest>,
    pub(crate) uid: Uid,
    pub(crate) apply_mode: ApplyMode,
    /// What the object itself says about its drift.
    pub(crate) drift: Option<DriftMode>,
    /// Where the values of a template were taken from, and what was there.
    pub(crate) taken: Box<[(ValuesRef, Digest)]>,
    /// The version that the apply left; 0 where that is not known.
    pub(crate) version: u64,
    /// The generation that it left; 0 for kinds without one.
    pub(crate) generation: i64,
    /// When the apply was done; none if that was before this process.
    pub(crate) made: Option<Instant>,
    /// See [`LastApplied::follow`].
    pub(crate) settled: bool,
    /// What becomes of it once it is done with its work.
    pub(crate) expiry: Expiry,
    /// How it ended: empty if well. Only of what expires.
    pub(crate) ended: Option<String>,
}

/// What an object says of its own end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
pub(crate) enum Expiry {
    /// It stays.
    #[default]
    Never,
    /// A Job with a TTL: when it has ended the cluster deletes it, and it is not made again.
    Once,
    /// It is made again then, once in its unit's interval.
    Again,
}

impl Expiry {
    pub(crate) fn of(id: &ObjectId, body: &Value) -> Self {
        let has_ttl = body.pointer("/spec/ttlSecondsAfterFinished").is_some_and(|ttl| !ttl.is_null());
        let again = body.pointer("/metadata/annotations/flotilla.dev~1rerun");
        match again.and_then(Value::as_str) {
            _ if !has_ttl || !id.is("batch", "Job") => Self::Never,
            Some(word) if word.eq_ignore_ascii_case("interval") => Self::Again,
            _ => Self::Once,
        }
    }
}

/// The API server's times have no parts of a second.
const SAME_TIME: Duration = Duration::from_secs(2);

impl LastApplied {
    /// Takes over from the record of the apply before what still holds.
    ///
    /// Somebody may apply under our name within the second of our own apply, and our entry does not tell that. So an object
    /// that was changed since is compared; once, if that is later, as then this record is settled.
    pub(crate) fn follow(&mut self, before: &Self) {
        if self.uid != before.uid {
            return;
        }
        let is_later = before.made.is_none_or(|made| made.elapsed() >= SAME_TIME);
        self.settled = self.entry == before.entry && (before.settled || is_later);
        if self.fingerprint == before.fingerprint {
            self.ended = before.ended.clone();
        }
    }

    /// Whether it may differ from what was applied though our entry is as we left it. `asked`: a change of no more than the
    /// status, which is everyday life, is reason enough.
    pub(crate) fn is_in_doubt(&self, seen: &Observed, asked: bool) -> bool {
        let is_other = self.version == 0 || self.version != seen.version;
        let is_rewritten = seen.generation == 0 || seen.generation != self.generation;
        !self.settled && is_other && (asked || is_rewritten)
    }

    /// Whether it is none of ours: left alone as it was found.
    pub(crate) fn is_left_alone(&self) -> bool {
        matches!(self.apply_mode, ApplyMode::Never | ApplyMode::Once) && self.entry.is_none()
    }
}

/// What is remembered of a unit.
#[derive(Debug, PartialEq)]
pub(crate) struct StoredUnit {
    pub(crate) unit_memory: UnitMemory,
    pub(crate) last_applied: HashMap<ObjectId, LastApplied>,
    pub(crate) departures: Departures,
    /// The change that the unit itself left in.
    pub(crate) removal: Option<UnitDeparture>,
}

/// How the author wants an object to be applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
pub(crate) enum ApplyMode {
    #[default]
    Override,
    /// What others added stays.
    Merge,
    /// Left alone once it is there.
    Once,
    /// Never applied.
    Never,
}

#[derive(Serialize, Deserialize)]
struct Record {
    version: u32,
    admitted: Option<String>,
    /// The JSON text of the spec.
    spec: Option<String>,
    #[serde(default)]
    objects: Vec<EntryLine>,
    #[serde(default, rename = "marks")]
    last_applied: Vec<LastAppliedLine>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    departures: Vec<DepartureLine>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    suspended: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    removal: Option<RemovalLine>,
}

#[derive(Serialize, Deserialize)]
struct RemovalLine {
    approval: Digest,
    objects: usize,
    of: usize,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    moved: bool,
}

/// Agents before this line was there leave it out when they write: then what has left counts as one change.
#[derive(Serialize, Deserialize)]
struct DepartureLine {
    id: IdLine,
    generation: u64,
    wanted: usize,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    moved: bool,
}

#[derive(Serialize, Deserialize)]
struct EntryLine {
    id: IdLine,
    version: String,
    digest: String,
    size: u32,
}

#[derive(Serialize, Deserialize)]
struct LastAppliedLine {
    id: IdLine,
    #[serde(rename = "stamp")]
    fingerprint: String,
    entry: Option<String>,
    uid: String,
    #[serde(default, rename = "manner")]
    apply_mode: ApplyMode,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    drift: Option<DriftMode>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    taken: Vec<(ValuesRef, Digest)>,
    // Agents before these were there leave them out.
    #[serde(default)]
    version: u64,
    #[serde(default)]
    generation: i64,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    settled: bool,
    #[serde(default, skip_serializing_if = "is_default")]
    expiry: Expiry,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ended: Option<String>,
}

fn is_default(expiry: &Expiry) -> bool {
    *expiry == Expiry::default()
}

/// Group, kind, namespace, name.
#[derive(Serialize, Deserialize)]
struct IdLine(String, String, String, String);

impl From<&ObjectId> for IdLine {
    fn from(id: &ObjectId) -> Self {
        Self(id.group.clone(), id.kind.clone(), id.namespace.clone(), id.name.clone())
    }
}

impl From<IdLine> for ObjectId {
    fn from(line: IdLine) -> Self {
        Self::new(line.0, line.1, line.2, line.3)
    }
}

/// The text to remember of a unit.
pub(crate) fn write<'a>(
    unit_memory: &UnitMemory,
    last_applied: impl Iterator<Item = (&'a ObjectId, &'a LastApplied)>,
    departures: &Departures,
    removal: Option<&UnitDeparture>,
) -> Bytes {
    let objects = unit_memory.last.iter().flat_map(|last| &last.objects).map(|entry| EntryLine {
        id: (&entry.object.id).into(),
        version: entry.object.version.to_string(),
        digest: entry.digest.to_string(),
        size: entry.size,
    });
    let last_applied = last_applied.map(|(id, last_applied)| LastAppliedLine {
        id: id.into(),
        fingerprint: last_applied.fingerprint.to_string(),
        entry: last_applied.entry.map(|entry| entry.to_string()),
        uid: last_applied.uid.to_string(),
        apply_mode: last_applied.apply_mode,
        drift: last_applied.drift,
        taken: last_applied.taken.to_vec(),
        version: last_applied.version,
        generation: last_applied.generation,
        settled: last_applied.settled,
        expiry: last_applied.expiry,
        ended: last_applied.ended.clone(),
    });
    let departures = departures.iter().map(|(id, Departure { generation, wanted, moved })| DepartureLine {
        id: id.into(),
        generation: generation.0,
        wanted,
        moved,
    });
    let spec = unit_memory.last.as_ref().map(|last| String::from_utf8_lossy(last.spec_bytes()).into_owned());
    let record = Record {
        version: VERSION,
        admitted: unit_memory.admitted.map(|digest| digest.to_string()),
        spec,
        objects: objects.collect(),
        last_applied: last_applied.collect(),
        departures: departures.collect(),
        suspended: unit_memory.suspended,
        removal: removal.map(|&UnitDeparture { approval, objects, of, moved }| RemovalLine {
            approval,
            objects,
            of,
            moved,
        }),
    };
    serde_json::to_vec(&record).expect("a record has a JSON text").into()
}

/// Reads a text back. None where it is damaged or of another version: that costs applies, nothing else.
pub(crate) fn read(unit: &UnitId, text: &[u8]) -> Option<StoredUnit> {
    let record: Record = serde_json::from_slice(text).ok()?;
    if record.version != VERSION {
        return None;
    }
    let last = match record.spec {
        None => None,
        Some(spec) => {
            let entry = |line: EntryLine| {
                let object = ObjectRef { id: line.id.into(), version: line.version.into() };
                let digest = line.digest.parse().ok()?;
                Some(ObjectEntry { object, digest, size: line.size, template: false })
            };
            let objects = record.objects.into_iter().map(entry).collect::<Option<Vec<_>>>()?;
            Some(Arc::new(UnitManifest::from_parts(unit.clone(), Bytes::from(spec), objects).ok()?))
        }
    };
    let admitted = record.admitted.map(|digest| digest.parse()).transpose().ok()?;
    let mut last_applied = HashMap::with_capacity(record.last_applied.len());
    for line in record.last_applied {
        let entry = line.entry.map(|entry| entry.parse()).transpose().ok()?;
        let one = LastApplied {
            fingerprint: line.fingerprint.parse().ok()?,
            entry,
            uid: Uid::from(line.uid),
            apply_mode: line.apply_mode,
            drift: line.drift,
            taken: line.taken.into(),
            version: line.version,
            generation: line.generation,
            made: None,
            settled: line.settled,
            expiry: line.expiry,
            ended: line.ended,
        };
        last_applied.insert(line.id.into(), one);
    }
    let departure = |line: DepartureLine| {
        let DepartureLine { id, generation, wanted, moved } = line;
        (id.into(), Departure { generation: Generation(generation), wanted, moved })
    };
    let departures = record.departures.into_iter().map(departure).collect();
    let unit_memory = UnitMemory { last, admitted, ready: None, suspended: record.suspended };
    let removal = record.removal.map(|line| {
        let RemovalLine { approval, objects, of, moved } = line;
        UnitDeparture { approval, objects, of, moved }
    });
    Some(StoredUnit { unit_memory, last_applied, departures, removal })
}

/// Under this and its digest an approval is remembered.
const APPROVAL: &str = "approval:";

#[derive(Serialize, Deserialize)]
struct ApprovalRecord {
    version: u32,
    subject: Option<SubjectRecord>,
}

#[derive(Serialize, Deserialize)]
struct SubjectRecord {
    unit: UnitId,
    many: bool,
    objects: Vec<IdLine>,
    /// A unit as a whole, or several: agents before this line was there know neither.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    whole: Option<Whole>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Whole {
    Unit,
    Units,
}

/// The key under which an approval is remembered.
pub(crate) fn approval_key(digest: Digest) -> String {
    format!("{APPROVAL}{digest}")
}

/// The text to remember of an approval.
pub(crate) fn write_approval(subject: Option<&Subject>) -> Bytes {
    let subject = subject.map(|subject| SubjectRecord {
        unit: subject.unit.clone(),
        many: subject.what == What::Objects,
        objects: subject.objects.iter().map(Into::into).collect(),
        whole: match subject.what {
            What::Object | What::Objects => None,
            What::Unit => Some(Whole::Unit),
            What::Units => Some(Whole::Units),
        },
    });
    let record = ApprovalRecord { version: VERSION, subject };
    serde_json::to_vec(&record).expect("a record has a JSON text").into()
}

/// Reads an approval back; none if the key is not that of one, or its text is damaged: then it has to be given again.
pub(crate) fn read_approval(key: &str, text: &[u8]) -> Option<(Digest, Option<Subject>)> {
    let digest = key.strip_prefix(APPROVAL)?.parse().ok()?;
    let record: ApprovalRecord = serde_json::from_slice(text).ok()?;
    let subject = record.subject.map(|subject| Subject {
        unit: subject.unit,
        what: match (subject.whole, subject.many) {
            (Some(Whole::Unit), _) => What::Unit,
            (Some(Whole::Units), _) => What::Units,
            (None, true) => What::Objects,
            (None, false) => What::Object,
        },
        objects: subject.objects.into_iter().map(Into::into).collect(),
    });
    (record.version == VERSION).then_some((digest, subject))
}

#[cfg(test)]
#[path = "memory_tests.rs"]
mod tests;
