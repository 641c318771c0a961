//! Between wire messages and the domain. Into the wire never fails; out of it says which field is bad.

use std::str::FromStr;

use flotilla_core::desired::{Hold, Removal};
use flotilla_core::object::{ObjectId, ObjectName, ObjectRef};
use flotilla_core::report;
use flotilla_core::text::shorten;
use flotilla_core::unit::{DeletionPolicy, ObjectEntry};
use flotilla_core::{Authority, Digest, UnitId};

use crate::v1;

/// A message that the other side should not have sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("field {field} of a message: {reason}")]
pub struct Invalid {
    pub field: &'static str,
    pub reason: String,
}

impl Invalid {
    pub fn new(field: &'static str, reason: impl ToString) -> Self {
        Self { field, reason: reason.to_string() }
    }
}

/// The longest text that is kept of what an agent tells, in bytes.
pub const MAX_TEXT: usize = 4 << 10;
/// No name of an object, kind, unit or reason is longer, in bytes.
const MAX_NAME: usize = 512;

/// Cuts a text to [`MAX_TEXT`].
pub fn cut(text: String) -> String {
    cut_to(text, MAX_TEXT)
}

fn cut_to(text: String, limit: usize) -> String {
    if text.len() > limit { shorten(&text, limit) } else { text }
}

fn short(field: &'static str, text: &str) -> Result<(), Invalid> {
    if text.len() > MAX_NAME {
        Err(Invalid::new(field, format!("longer than {MAX_NAME} bytes")))
    } else {
        Ok(())
    }
}

/// Reads a digest that has to be there.
pub fn digest(field: &'static str, bytes: &[u8]) -> Result<Digest, Invalid> {
    Digest::try_from(bytes).map_err(|e| Invalid::new(field, e))
}

/// Reads a digest that may be absent (empty).
pub fn optional_digest(field: &'static str, bytes: &[u8]) -> Result<Option<Digest>, Invalid> {
    if bytes.is_empty() { Ok(None) } else { digest(field, bytes).map(Some) }
}

/// Writes a digest that may be absent.
pub fn digest_bytes(digest: Option<Digest>) -> bytes::Bytes {
    digest.map_or_else(bytes::Bytes::new, |d| bytes::Bytes::copy_from_slice(d.as_bytes()))
}

/// Reads a text that names something.
pub fn parsed<T: FromStr<Err: ToString>>(field: &'static str, text: &str) -> Result<T, Invalid> {
    text.parse().map_err(|e: T::Err| Invalid::new(field, e))
}

impl From<&Removal> for v1::Removal {
    fn from(removal: &Removal) -> Self {
        let policy = match removal.policy {
            DeletionPolicy::MirrorPrune => v1::removal::Policy::MirrorPrune,
            DeletionPolicy::Delete => v1::removal::Policy::Delete,
            DeletionPolicy::WaitForTermination => v1::removal::Policy::WaitForTermination,
            DeletionPolicy::Orphan => v1::removal::Policy::Orphan,
        };
        let Removal { prune, suspended, moved, .. } = *removal;
        Self { policy: policy.into(), prune, suspended, moved }
    }
}

impl TryFrom<&v1::Removal> for Removal {
    type Error = Invalid;

    /// A policy that this build does not know is refused: guessing one could delete.
    fn try_from(removal: &v1::Removal) -> Result<Self, Invalid> {
        let policy = v1::removal::Policy::try_from(removal.policy)
            .map_err(|_| Invalid::new("removal.policy", format!("{} is unknown", removal.policy)))?;
        let policy = match policy {
            v1::removal::Policy::Unspecified => {
                return Err(Invalid::new("removal.policy", "it is not set"));
            }
            v1::removal::Policy::MirrorPrune => DeletionPolicy::MirrorPrune,
            v1::removal::Policy::Delete => DeletionPolicy::Delete,
            v1::removal::Policy::WaitForTermination => DeletionPolicy::WaitForTermination,
            v1::removal::Policy::Orphan => DeletionPolicy::Orphan,
        };
        let v1::Removal { prune, suspended, moved, .. } = *removal;
        Ok(Self { policy, prune, suspended, moved })
    }
}

/// Writes how far something reaches; `None` for what has no bound.
pub fn bound(authority: &Authority) -> Option<v1::Bound> {
    match authority {
        Authority::Fleet => None,
        Authority::Namespaces(namespaces) => {
            Some(v1::Bound { namespaces: namespaces.iter().cloned().collect() })
        }
    }
}

/// Writes a unit that is held. An agent that knows no texts shows the code.
pub fn hold(id: String, hold: &Hold) -> v1::UnitChange {
    v1::UnitChange {
        id,
        entry: Some(v1::unit_change::Entry::Hold(hold.code.as_str().to_owned())),
        bound: bound(&hold.authority),
        hold_text: cut(hold.text.clone()),
        digest_part: bytes::Bytes::new(),
    }
}

/// Reads why a unit is held, and how far it reaches. A hub that knows no codes has its text in their place.
pub fn read_hold(code: &str, text: String, bound: Option<v1::Bound>) -> Hold {
    let namespaces = bound.map(|bound| bound.namespaces.into_iter().collect());
    let authority = namespaces.map_or(Authority::Fleet, Authority::Namespaces);
    Hold { code: code.into(), authority, ..Hold::from(cut(text)) }
}

/// Writes a manifest's line with its place.
pub fn object_entry(position: usize, entry: &ObjectEntry) -> v1::ObjectEntry {
    let ObjectName { group, kind, namespace, name } = (*entry.object.id).clone();
    v1::ObjectEntry {
        position: position as u32,
        group,
        version: entry.object.version.to_string(),
        kind,
        namespace,
        name,
        digest: digest_bytes(Some(entry.digest)),
        size: entry.size,
    }
}

/// Reads a manifest's line with its place.
pub fn read_object_entry(entry: v1::ObjectEntry) -> Result<(usize, ObjectEntry), Invalid> {
    if entry.kind.is_empty() || entry.name.is_empty() {
        return Err(Invalid::new("object", "kind and name must not be empty"));
    }
    let digest = digest("object.digest", &entry.digest)?;
    let id = ObjectId::new(entry.group, entry.kind, entry.namespace, entry.name);
    let object = ObjectRef { id, version: entry.version.into() };
    // What is a template stands in the unit's spec.
    let entry_of = ObjectEntry { object, digest, size: entry.size, template: false };
    Ok((entry.position as usize, entry_of))
}

impl From<&ObjectId> for v1::ObjectId {
    fn from(id: &ObjectId) -> Self {
        let ObjectName { group, kind, namespace, name } = (**id).clone();
        Self { group, kind, namespace, name }
    }
}

impl From<v1::ObjectId> for ObjectId {
    fn from(id: v1::ObjectId) -> Self {
        Self::new(id.group, id.kind, id.namespace, id.name)
    }
}

fn object(field: &'static str, id: Option<v1::ObjectId>) -> Result<ObjectId, Invalid> {
    let id = id.ok_or_else(|| Invalid::new(field, "missing"))?;
    [&id.group, &id.kind, &id.namespace, &id.name].into_iter().try_for_each(|part| short(field, part))?;
    Ok(id.into())
}

impl From<&report::UnitReport> for v1::UnitReport {
    fn from(unit: &report::UnitReport) -> Self {
        Self {
            unit: unit.unit.to_string(),
            phase: unit.phase.to_string(),
            message: unit.message.clone(),
            desired: digest_bytes(unit.desired),
            applied: digest_bytes(unit.applied),
            healthy: digest_bytes(unit.healthy),
            objects: unit.objects,
            findings: unit.findings.iter().map(Into::into).collect(),
            drift: unit.drift.iter().map(Into::into).collect(),
            corrected: unit.corrected,
            kept: unit.kept.iter().map(Into::into).collect(),
            since: unit.since,
        }
    }
}

impl TryFrom<v1::UnitReport> for report::UnitReport {
    type Error = Invalid;

    fn try_from(unit: v1::UnitReport) -> Result<Self, Invalid> {
        let phase = report::Phase::ALL.into_iter().find(|phase| phase.as_str() == unit.phase);
        Ok(Self {
            unit: unit_id("report.unit", &unit.unit)?,
            phase: phase.ok_or_else(|| {
                Invalid::new("report.phase", format!("'{}' is unknown", cut_to(unit.phase, MAX_NAME)))
            })?,
            message: cut(unit.message),
            desired: optional_digest("report.desired", &unit.desired)?,
            applied: optional_digest("report.applied", &unit.applied)?,
            healthy: optional_digest("report.healthy", &unit.healthy)?,
            objects: unit.objects,
            findings: bounded(unit.findings)?,
            drift: bounded(unit.drift)?,
            corrected: unit.corrected,
            kept: bounded(unit.kept)?,
            since: unit.since,
        })
    }
}

fn unit_id(field: &'static str, text: &str) -> Result<UnitId, Invalid> {
    short(field, text)?;
    parsed(field, text)
}

/// Reads a list of details; what exceeds the bound of a report is left out.
fn bounded<W, T: TryFrom<W, Error = Invalid>>(details: Vec<W>) -> Result<Vec<T>, Invalid> {
    details.into_iter().take(report::UnitReport::MAX_DETAILS).map(T::try_from).collect()
}

impl From<&report::Finding> for v1::Finding {
    fn from(finding: &report::Finding) -> Self {
        let report::Finding { object, reason, message } = finding;
        Self { object: Some(object.into()), reason: reason.clone(), message: message.clone() }
    }
}

impl TryFrom<v1::Finding> for report::Finding {
    type Error = Invalid;

    fn try_from(finding: v1::Finding) -> Result<Self, Invalid> {
        let v1::Finding { object: id, reason, message } = finding;
        let (reason, message) = (cut_to(reason, MAX_NAME), cut(message));
        Ok(Self { object: object("finding.object", id)?, reason, message })
    }
}

impl From<report::FieldDrift> for v1::FieldDrift {
    fn from(report::FieldDrift { field, wanted, found, manager }: report::FieldDrift) -> Self {
        Self { field, wanted, found, manager }
    }
}

impl From<v1::FieldDrift> for report::FieldDrift {
    fn from(v1::FieldDrift { field, wanted, found, manager }: v1::FieldDrift) -> Self {
        let (wanted, found) = (wanted.map(cut), found.map(cut));
        Self { field: cut(field), wanted, found, manager: manager.map(|manager| cut_to(manager, MAX_NAME)) }
    }
}

impl From<&report::Drift> for v1::Drift {
    fn from(drift: &report::Drift) -> Self {
        let fields = drift.fields.iter().cloned().map(Into::into);
        Self { object: Some((&drift.object).into()), at: drift.at, fields: fields.collect() }
    }
}

impl TryFrom<v1::Drift> for report::Drift {
    type Error = Invalid;

    fn try_from(drift: v1::Drift) -> Result<Self, Invalid> {
        let fields = drift.fields.into_iter().take(report::UnitReport::MAX_DETAILS).map(Into::into);
        Ok(Self { object: object("drift.object", drift.object)?, at: drift.at, fields: fields.collect() })
    }
}

impl From<&report::Kept> for v1::Kept {
    fn from(kept: &report::Kept) -> Self {
        let report::Kept { object, why, approval } = kept;
        Self { object: Some(object.into()), why: why.clone(), approval: digest_bytes(Some(*approval)) }
    }
}

impl TryFrom<v1::Kept> for report::Kept {
    type Error = Invalid;

    fn try_from(kept: v1::Kept) -> Result<Self, Invalid> {
        let approval = digest("kept.approval", &kept.approval)?;
        Ok(Self { object: object("kept.object", kept.object)?, why: cut(kept.why), approval })
    }
}

impl From<&report::Event> for v1::Event {
    fn from(event: &report::Event) -> Self {
        Self {
            at: event.at,
            unit: event.unit.to_string(),
            object: event.object.as_ref().map(Into::into),
            warning: event.warning,
            reason: event.reason.clone(),
            message: event.message.clone(),
        }
    }
}

impl TryFrom<v1::Event> for report::Event {
    type Error = Invalid;

    fn try_from(event: v1::Event) -> Result<Self, Invalid> {
        Ok(Self {
            at: event.at,
            unit: unit_id("event.unit", &event.unit)?,
            object: event.object.map(|id| object("event.object", Some(id))).transpose()?,
            warning: event.warning,
            reason: cut_to(event.reason, MAX_NAME),
            message: cut(event.message),
        })
    }
}

#[cfg(test)]
#[path = "convert_tests.rs"]
mod tests;
