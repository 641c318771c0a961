//! Where one stage stands: its run of a candidate, and what passed it.

use std::collections::BTreeMap;

use flotilla_core::Digest;
use serde::{Deserialize, Serialize};

use crate::spec::Stage;
use crate::state::CandidateId;

/// How many of the things that passed a stage are remembered beyond those in play.
pub(crate) const MAX_HISTORY: usize = 20;

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct StageState {
    pub(crate) name: String,
    /// The last one, also when it is over.
    pub(crate) run: Option<Run>,
    /// What passed, the last one last.
    pub(crate) history: Vec<Passage>,
    /// When runs began, the last ones: for windows that allow a number of them.
    pub(crate) starts: Vec<i64>,
    /// The last candidate that was named as waiting, so that one that takes its place is named as superseding it.
    pub(crate) waiting: Option<CandidateId>,
}

impl StageState {
    pub(crate) fn passed(&self) -> Option<&Passage> {
        self.history.last()
    }

    pub(crate) fn has_passed(&self, candidate: CandidateId) -> bool {
        self.history.iter().any(|passage| passage.candidate == candidate)
    }
}

/// That a candidate passed a stage, and how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Passage {
    pub(crate) candidate: CandidateId,
    pub(crate) at: i64,
    pub(crate) how: Passed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Passed {
    /// On so many clusters; others failed, were written off or held.
    Tested { healthy: usize, without: usize },
    /// It changes nothing there: nothing was tested.
    Unchanged,
    /// The stage has no clusters.
    Empty,
    /// All of it ran already when the pipeline came.
    Adopted,
}

/// A stage's way with one candidate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Run {
    pub(crate) number: u64,
    pub(crate) candidate: CandidateId,
    pub(crate) seq: u64,
    /// The stage as it was when the run began, or was edited for it.
    pub(crate) spec: Stage,
    pub(crate) begun: i64,
    /// How many clusters the stage had then: what shares are of.
    pub(crate) of: usize,
    pub(crate) phase: Phase,
    /// Since when.
    pub(crate) at: i64,
    pub(crate) question: Option<Asked>,
    pub(crate) approvals: Vec<Approved>,
    pub(crate) checks: BTreeMap<String, Streak>,
    /// Whether a window that closed sent it back.
    pub(crate) sent_back: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Phase {
    Before,
    Rolling,
    After,
    Passed,
    /// With why, and whether the stage's other clusters get it all the same.
    Failed {
        text: String,
        goes_on: bool,
    },
    Aborted {
        text: String,
    },
}

impl Phase {
    pub(crate) fn is_over(&self) -> bool {
        matches!(self, Self::Passed | Self::Failed { .. } | Self::Aborted { .. })
    }

    /// Whether clusters that do not have the candidate are given it.
    pub(crate) fn gives(&self) -> bool {
        match self {
            Self::Rolling | Self::After | Self::Passed => true,
            Self::Failed { goes_on, .. } => *goes_on,
            Self::Before | Self::Aborted { .. } => false,
        }
    }
}

/// What people are asked: the distinct digests that the stage's clusters would run, with how many clusters each.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Asked {
    pub(crate) digest: Digest,
    /// The first ones, where they are many.
    pub(crate) diffs: Vec<(Digest, usize)>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Approved {
    pub(crate) by: String,
    pub(crate) at: i64,
    pub(crate) question: Digest,
}

/// The last answers of a check.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Streak {
    pub(crate) asked: Option<i64>,
    pub(crate) last: Option<i64>,
    pub(crate) right: u32,
    pub(crate) wrong: u32,
    pub(crate) text: String,
}
