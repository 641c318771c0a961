//! What people ask of a pipeline, and who they are.

use flotilla_core::{ClusterName, Digest, UnitId};
use serde::{Deserialize, Serialize};

use crate::state::CandidateId;

/// One thing that somebody asks. Whether the person's role may ask it at all, the API has checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    pub actor: Actor,
    pub reason: String,
    /// When it ends by itself: of holds, overrides, pauses and vetoes.
    pub until: Option<i64>,
    pub verb: Verb,
}

/// A person, or a program in a person's place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actor {
    pub name: String,
    /// Roles, and groups.
    pub roles: Vec<String>,
    /// Other names under which the person is an author of commits: addresses.
    pub aliases: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verb {
    /// What runs within a scope stays, whatever comes.
    Hold(Scope),
    /// Ends the holds of exactly this scope, those that a rollback left too.
    Release(Scope),
    /// Bars something, from a stage or from all, for people too.
    Veto {
        what: Barred,
        stage: Option<String>,
    },
    /// Ends a veto.
    Unveto {
        what: Barred,
        stage: Option<String>,
    },
    /// Each cluster within the scope goes back to what it was healthy on before, and is held there.
    Rollback(Scope),
    /// One unit of a candidate (of the newest where none is named) goes to a stage at once, past the queue; it goes no further
    /// by itself.
    Promote {
        unit: UnitId,
        stage: String,
        candidate: Option<CandidateId>,
    },
    /// A stage counts as done for a candidate that did not pass it. The stage catches up by itself.
    Override {
        stage: String,
        candidate: CandidateId,
    },
    /// A window does not count, for a stage or for all.
    OverrideWindow {
        window: String,
        stage: Option<String>,
    },
    /// Nothing new is given, in a stage or in all of them. What is in flight goes on.
    Pause {
        stage: Option<String>,
    },
    Resume {
        stage: Option<String>,
    },
    /// A stage tries its candidate again that failed, was aborted or is rejected there.
    Retry {
        stage: String,
    },
    /// Ends a stage's run: clusters keep what they have, and the candidate does not pass.
    Abort {
        stage: String,
    },
    /// Answers a stage's question ([`crate::Question`]) by its digest.
    Approve {
        stage: String,
        question: Digest,
    },
    /// Takes an approval back that was not used yet.
    Withdraw {
        stage: String,
        question: Digest,
    },
}

/// What a hold or a rollback is about: all that is named has to match. A pipeline where nothing is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Scope {
    pub stage: Option<String>,
    pub cluster: Option<ClusterName>,
    pub unit: Option<UnitId>,
}

/// What a veto bars, or a failure rejected.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Barred {
    Candidate(CandidateId),
    /// What a cluster would run, by the projection's digest.
    Digest(Digest),
    /// A unit's manifest.
    Unit(UnitId, Digest),
}
