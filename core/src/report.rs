//! What the agent tells of a unit, and what the hub found wrong with one.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::object::ObjectId;
use crate::unit::UnitId;

/// Seconds since 1970, UTC.
pub type Timestamp = i64;

/// Where a unit stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// Not started: it waits for something that `message` names.
    Pending,
    /// Being applied.
    Applying,
    /// Applied; objects are not all healthy yet.
    Progressing,
    /// Applied at the desired digest, and healthy as far as it waits for health.
    Ready,
    /// The last attempt failed; it will be tried again.
    Failed,
    /// The hub cannot say what it should be; what runs is kept.
    Held,
    /// Suspended by Git or by hand.
    Suspended,
    /// Its objects are being removed.
    Removing,
}

impl Phase {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Applying => "Applying",
            Self::Progressing => "Progressing",
            Self::Ready => "Ready",
            Self::Failed => "Failed",
            Self::Held => "Held",
            Self::Suspended => "Suspended",
            Self::Removing => "Removing",
        }
    }

    pub const ALL: [Self; 8] = [
        Self::Pending,
        Self::Applying,
        Self::Progressing,
        Self::Ready,
        Self::Failed,
        Self::Held,
        Self::Suspended,
        Self::Removing,
    ];
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The state of one unit in its cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitReport {
    pub unit: UnitId,
    pub phase: Phase,
    /// One line for people: what it waits for, or why it failed.
    pub message: String,
    /// The digest that is wanted, if the unit is present.
    pub desired: Option<Digest>,
    /// The digest last applied completely.
    pub applied: Option<Digest>,
    /// The digest last seen healthy.
    pub healthy: Option<Digest>,
    pub objects: u32,
    /// Objects that could not be applied or are not healthy; bounded by [`UnitReport::MAX_DETAILS`].
    pub findings: Vec<Finding>,
    /// Drift that stands (not corrected, by policy or because it could not be).
    pub drift: Vec<Drift>,
    /// How many objects were put back since the agent started.
    pub corrected: u64,
    /// Objects that a guard kept from deletion.
    pub kept: Vec<Kept>,
    /// When `phase` last changed.
    pub since: Timestamp,
}

impl UnitReport {
    /// At most so many findings, drifts and kept objects are reported for one unit.
    pub const MAX_DETAILS: usize = 50;

    pub fn new(unit: UnitId, phase: Phase, message: impl Into<String>, since: Timestamp) -> Self {
        Self {
            unit,
            phase,
            message: message.into(),
            desired: None,
            applied: None,
            healthy: None,
            objects: 0,
            findings: Vec::new(),
            drift: Vec::new(),
            corrected: 0,
            kept: Vec::new(),
            since,
        }
    }
}

/// Something about one object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    pub object: ObjectId,
    /// A word: `ApplyFailed`, `NotHealthy`, `Conflict`, `DeleteFailed`, …
    pub reason: String,
    pub message: String,
}

/// A difference between what is wanted and what is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drift {
    pub object: ObjectId,
    pub at: Timestamp,
    /// Empty when the whole object is gone.
    pub fields: Vec<FieldDrift>,
}

/// One field that differs. Values are short texts; those of Secrets are digests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FieldDrift {
    /// JSON pointer.
    pub field: String,
    pub wanted: Option<String>,
    pub found: Option<String>,
    /// The field manager that changed it, if the API server says.
    pub manager: Option<String>,
}

/// An object that a guard kept although Git no longer names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    pub object: ObjectId,
    pub why: String,
    /// What an approval has to name so that the object may go.
    pub approval: Digest,
}

/// Something that happened in a cluster, in the order the agent saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    pub at: Timestamp,
    pub unit: UnitId,
    pub object: Option<ObjectId>,
    pub warning: bool,
    /// A word: `Applied`, `Pruned`, `DriftCorrected`, `ApplyFailed`, `Ready`, …
    pub reason: String,
    pub message: String,
}

/// Something wrong with what Git says, found at the hub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Path in the source, empty if none is to blame.
    pub file: String,
    /// 1-based; 0 where it is not known.
    pub line: u32,
    pub column: u32,
    /// Path of the field, like `spec.path`.
    pub field: String,
    pub message: String,
    /// A notice leaves the unit as it is; anything else holds it.
    pub notice: bool,
    /// Somebody is at work on what is missing (a fetch, a run of helm, a unit that comes before), so it ends by itself.
    pub waiting: bool,
}

impl Problem {
    pub fn error(file: impl Into<String>, line: u32, message: impl Into<String>) -> Self {
        Self {
            file: file.into(),
            line,
            column: 0,
            field: String::new(),
            message: message.into(),
            notice: false,
            waiting: false,
        }
    }

    pub fn field(mut self, field: impl Into<String>) -> Self {
        self.field = field.into();
        self
    }

    pub fn as_notice(mut self) -> Self {
        self.notice = true;
        self
    }

    pub fn waiting(mut self, waiting: bool) -> Self {
        self.waiting = waiting;
        self
    }
}

/// `apps/web/deployment.yaml:12: spec.replicas: …`
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.file.is_empty() {
            f.write_str(&self.file)?;
            if self.line > 0 {
                write!(f, ":{}", self.line)?;
                if self.column > 0 {
                    write!(f, ":{}", self.column)?;
                }
            }
            f.write_str(": ")?;
        }
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        f.write_str(&self.message)
    }
}
