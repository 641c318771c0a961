//! Times and things in the words of messages.

use std::fmt;

use jiff::Timestamp;

use crate::request::{Barred, Scope};
use crate::state::{Standing, StandingKind};

/// A time, in UTC.
pub(crate) fn time(at: i64) -> String {
    Timestamp::from_second(at)
        .map_or_else(|_| format!("second {at}"), |at| at.strftime("%Y-%m-%d %H:%M:%SZ").to_string())
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        parts.extend(self.unit.as_ref().map(|unit| format!("unit {unit}")));
        parts.extend(self.cluster.as_ref().map(|cluster| format!("cluster {cluster}")));
        parts.extend(self.stage.as_ref().map(|stage| format!("stage {stage}")));
        if parts.is_empty() {
            return f.write_str("the pipeline");
        }
        f.write_str(&parts.join(" of "))
    }
}

impl fmt::Display for Barred {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Candidate(id) => write!(f, "candidate {id}"),
            Self::Digest(digest) => write!(f, "digest {}", digest.short()),
            Self::Unit(unit, digest) => write!(f, "{unit} at {}", digest.short()),
        }
    }
}

impl fmt::Display for StandingKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = |stage: &Option<String>| match stage {
            Some(stage) => format!("stage {stage}"),
            None => "the pipeline".to_owned(),
        };
        match self {
            Self::Hold { scope, .. } => write!(f, "the hold of {scope}"),
            Self::Bar { what, stage } => write!(f, "the veto of {what} for {}", of(stage)),
            Self::Pause { stage } => write!(f, "the pause of {}", of(stage)),
            Self::Override { stage, candidate } => {
                write!(f, "the override of stage {stage} for candidate {candidate}")
            }
            Self::Window { window, stage } => write!(f, "the override of window {window} for {}", of(stage)),
        }
    }
}

impl Standing {
    /// Who said it, when, why, until when.
    pub(crate) fn said(&self) -> String {
        let by = self.by.as_deref().map(|by| format!(" by {by}")).unwrap_or_default();
        let why = if self.reason.is_empty() { String::new() } else { format!(": {}", self.reason) };
        let until = match self.until {
            Some(until) => format!(", until {}", time(until)),
            None => String::new(),
        };
        format!("{by} since {}{until}{why}", time(self.at))
    }
}
