//! What a step decides: what each cluster runs and why not the newest, where each stage stands, what is to be measured,
//! what happened, and which records changed.

use std::sync::Arc;

use flotilla_core::{ClusterName, Digest, UnitId};
use serde::{Deserialize, Serialize};

use crate::spec::Probe;
use crate::state::{CandidateId, Key};

/// All that follows from one step. It is a function of pipeline, state, world, requests and time.
#[derive(Debug, Clone)]
pub struct Step {
    /// For each cluster of the world, in the same order.
    pub decisions: Vec<Decision>,
    /// In the pipeline's order.
    pub stages: Vec<StageStatus>,
    /// Clusters that no stage selects, though they have units that the pipeline promotes.
    pub unmatched: Vec<ClusterName>,
    /// Of which candidates the hub is to say what they are for a cluster (`Cluster::older`), if it can.
    pub wanted: Vec<(ClusterName, CandidateId)>,
    pub measure: Vec<Measure>,
    pub events: Vec<Event>,
    /// For each request, in the same order: what happens next, in a sentence, or why it is refused.
    pub answers: Vec<Result<String, String>>,
    /// Which records of the state are to be written, or removed where they are gone. All of them, before anything of this step
    /// is published.
    pub changed: Vec<Key>,
    /// When something may change though nothing comes from outside.
    pub next: Option<i64>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    pub choice: Choice,
    /// Index of its stage.
    pub stage: Option<usize>,
    /// Why it does not run the newest; `None` where it does, or where the pipeline has nothing to do with it.
    pub reason: Option<Reason>,
}

/// A sentence for people, and when it may be over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    pub text: Arc<str>,
    pub next: Option<i64>,
}

/// What a cluster runs of the selected units.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Choice {
    /// The newest: no stage ever had it.
    Newest,
    /// What it has: it waits for its first turn, and nothing of the pipeline begins on it.
    AsIs,
    /// What it has, whatever that is: each selected unit is named as held. It was written off, and is given nothing until it
    /// is back and says what it runs.
    Hold,
    Run(Arc<Assignment>),
}

/// What a cluster was given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assignment {
    /// Rises with each assignment of the cluster; the hub names it in [`crate::Published`].
    pub revision: u64,
    /// What all selected units are of, save those in `units`.
    pub base: Pick,
    /// Units that are of other candidates, each with what it defines: hotfixes, held and rolled back ones.
    pub units: Vec<(UnitId, Pick)>,
}

/// A candidate for one cluster: the snapshot that it is rendered from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pick {
    pub candidate: CandidateId,
    pub snapshot: Digest,
    /// Of the whole projection of that candidate: what else comes to the same is as good.
    pub content: Digest,
}

/// Where a stage stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StageStatus {
    pub name: String,
    pub phase: StagePhase,
    /// The candidate that the phase is about.
    pub candidate: Option<CandidateId>,
    /// The candidate that passed it last: what a Git ref for the stage names.
    pub passed: Option<CandidateId>,
    /// The next candidate for it, which may not have begun.
    pub waiting: Option<CandidateId>,
    pub counts: Counts,
    /// What it waits for, or how it ended, in a sentence.
    pub text: Arc<str>,
    pub next: Option<i64>,
    /// What people are asked.
    pub question: Option<Question>,
    /// When the windows close that are open now, or open that are closed.
    pub window: Option<WindowStatus>,
    /// Clusters that never enrolled, and count for nothing.
    pub never_enrolled: Vec<ClusterName>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StagePhase {
    /// It has no candidate yet.
    Idle,
    /// Its candidate waits for what has to hold before the first cluster gets it.
    Waiting,
    /// Clusters are given the candidate.
    Rolling,
    /// Every cluster has it; what has to hold after that is awaited.
    Soaking,
    Passed,
    Failed,
    Aborted,
}

/// The clusters of a stage, each counted once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Counts {
    pub all: usize,
    /// They have the stage's candidate and are healthy on it.
    pub healthy: usize,
    /// They may have been given something and did not say yet what became of it.
    pub in_flight: usize,
    pub failed: usize,
    /// Written off: offline for too long.
    pub skipped: usize,
    pub held: usize,
    /// Not given the candidate yet.
    pub pending: usize,
}

/// What people are asked before a stage goes on. An approval names the digest, so that it is of what was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    pub digest: Digest,
    pub candidate: CandidateId,
    /// Whether it is asked before the stage or after it.
    pub before: bool,
    pub approved_by: Vec<String>,
    /// How many approvals it needs in all.
    pub needs: u32,
    /// The distinct digests that clusters of the stage would run, with how many clusters each.
    pub diffs: Vec<(Digest, usize)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WindowStatus {
    pub open: bool,
    /// The deny window that bars, if one does.
    pub by: Option<String>,
    /// When that changes.
    pub next: Option<i64>,
}

/// Something to be measured now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Measure {
    pub stage: String,
    pub candidate: CandidateId,
    pub check: String,
    pub probe: Probe,
}

/// Something that happened, for the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    pub kind: EventKind,
    pub stage: Option<String>,
    pub cluster: Option<ClusterName>,
    pub candidate: Option<CandidateId>,
    pub text: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventKind {
    Candidate,
    Superseded,
    Started,
    Passed,
    Failed,
    RolledBack,
    Waiting,
    /// A person did something.
    Request,
    /// What is wrong with a cluster in the pipeline's eyes.
    Cluster,
}
