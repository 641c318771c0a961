//! What needs a person: one list and one rule for every screen, the API, exit codes and metrics.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Something that a person has to look at.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Attention {
    pub reason: AttentionReason,
    /// Empty for the fleet itself.
    pub cluster: String,
    /// Empty for the cluster as a whole.
    pub unit: String,
    pub message: String,
    /// For information, as [`AttentionReason::is_notice`] says: it is no problem.
    pub notice: bool,
}

/// Why somebody has to look, the worst first.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "camelCase")]
pub enum AttentionReason {
    /// The fleet repo or another source cannot be read.
    SourceFailed,
    /// A file of the fleet repo says something that is wrong; what it would change stays as it is.
    Invalid,
    /// The cluster's agent is away: what runs there is only known as of when it was last seen.
    Disconnected,
    /// The agent did not take the newest state.
    Refused,
    /// The agent itself has trouble.
    Agent,
    /// An agent has this cluster, and Git does not define it.
    Unassigned,
    /// A unit could not be applied, or did not become healthy.
    Failed,
    /// The hub cannot say what a unit should be; what runs is kept.
    Held,
    /// A guard kept objects that Git no longer names.
    Kept,
    /// Nothing changes until somebody resumes it.
    Suspended,
    /// The agent was cut off by hand.
    Revoked,
    /// Held by work that is under way: a fetch, a run of helm.
    Waiting,
    /// Something of a newer hub.
    #[default]
    #[serde(other)]
    Other,
}

impl AttentionReason {
    pub const ALL: [Self; 13] = [
        Self::SourceFailed,
        Self::Invalid,
        Self::Disconnected,
        Self::Refused,
        Self::Agent,
        Self::Unassigned,
        Self::Failed,
        Self::Held,
        Self::Kept,
        Self::Other,
        Self::Suspended,
        Self::Revoked,
        Self::Waiting,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::SourceFailed => "SourceFailed",
            Self::Invalid => "Invalid",
            Self::Disconnected => "Disconnected",
            Self::Refused => "Refused",
            Self::Agent => "Agent",
            Self::Unassigned => "Unassigned",
            Self::Failed => "Failed",
            Self::Held => "Held",
            Self::Kept => "Kept",
            Self::Other => "Other",
            Self::Suspended => "Suspended",
            Self::Revoked => "Revoked",
            Self::Waiting => "Waiting",
        }
    }

    /// The rule for what counts as a problem: everything does but what somebody wanted so, and what ends by itself.
    pub fn is_notice(self) -> bool {
        matches!(self, Self::Suspended | Self::Revoked | Self::Waiting)
    }

    /// Whether the hub can tell it from Git and sources alone, without any agent.
    pub fn is_of_git(self) -> bool {
        matches!(self, Self::SourceFailed | Self::Invalid | Self::Held | Self::Waiting)
    }
}

impl Attention {
    pub fn new(reason: AttentionReason, cluster: &str, unit: &str, message: impl Into<String>) -> Self {
        let (cluster, unit) = (cluster.to_owned(), unit.to_owned());
        Self { reason, cluster, unit, message: message.into(), notice: reason.is_notice() }
    }

    /// `CLUSTER UNIT`, as far as it concerns either.
    pub fn place(&self) -> String {
        let parts = [self.cluster.as_str(), self.unit.as_str()];
        let parts: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        if parts.is_empty() { "fleet".to_owned() } else { parts.join(" ") }
    }
}

/// `CLUSTER UNIT is held: MESSAGE`
impl std::fmt::Display for Attention {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let what = match self.reason {
            AttentionReason::SourceFailed => "has a source that cannot be read",
            AttentionReason::Invalid => "has a problem",
            AttentionReason::Disconnected => "is disconnected",
            AttentionReason::Refused => "refused the newest state",
            AttentionReason::Agent => "has an agent in trouble",
            AttentionReason::Unassigned => "is not defined in Git",
            AttentionReason::Failed => "failed",
            AttentionReason::Held => "is held",
            AttentionReason::Kept => "keeps what Git no longer names",
            AttentionReason::Other => "needs a look",
            AttentionReason::Suspended => "is suspended",
            AttentionReason::Revoked => "is revoked",
            AttentionReason::Waiting => "waits",
        };
        write!(f, "{} {what}", self.place())?;
        if self.message.is_empty() { Ok(()) } else { write!(f, ": {}", self.message) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_older_program_does_not_know_counts_as_a_problem() {
        let read: Attention = serde_json::from_str(r#"{"reason": "onFire", "cluster": "a"}"#).unwrap();
        assert_eq!((read.reason, read.notice), (AttentionReason::Other, false));
        assert_eq!(read.to_string(), "a needs a look");
        let held = Attention::new(AttentionReason::Held, "a", "root", "a.yaml:1: broken");
        assert_eq!(held.to_string(), "a root is held: a.yaml:1: broken");
        assert_eq!(
            Attention::new(AttentionReason::Invalid, "", "", "x").to_string(),
            "fleet has a problem: x"
        );
    }
}
