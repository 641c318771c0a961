//! What the engine remembers of a pipeline, in records: a head, one for each candidate in play, one for each cluster.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use flotilla_core::digest::InvalidDigest;
use flotilla_core::{ClusterName, Digest, UnitId};
use serde::{Deserialize, Serialize};

use crate::outcome::{Assignment, Choice, Pick};
use crate::request::{Barred, Scope};
use crate::run::StageState;
use crate::spec::Pipeline;
use crate::world::Commit;

/// The version of the records that this version writes, and the only one that it reads.
const VERSION: u32 = 1;

/// The digest by which a candidate is known: of its commit and of what the clusters would run of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CandidateId(pub Digest);

/// The first 12 digits, as people name it.
impl fmt::Display for CandidateId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.short())
    }
}

impl FromStr for CandidateId {
    type Err = InvalidDigest;

    fn from_str(text: &str) -> Result<Self, InvalidDigest> {
        text.parse().map(Self)
    }
}

/// Names a record of a pipeline's state. Each is far below 1 MiB, however many clusters there are.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// Stages, holds, vetoes, pauses.
    Head,
    Candidate(CandidateId),
    Cluster(ClusterName),
}

/// All that the engine remembers of a pipeline. A new pipeline begins with the default one.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct State {
    pub(crate) head: Head,
    pub(crate) candidates: BTreeMap<CandidateId, Candidate>,
    /// By name, as the world has them. Those of clusters that no stage ever had are in memory only.
    pub(crate) parts: Vec<Part>,
    /// Of clusters that the fleet does not have any more.
    pub(crate) gone: BTreeMap<ClusterName, Part>,
}

/// One record, as the hub stores it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Record {
    version: u32,
    #[serde(flatten)]
    body: Body,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Body {
    Head(Box<Head>),
    Candidate(Candidate),
    Cluster(Box<Part>),
}

/// A record that was written by another version of Flotilla.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a record of a pipeline's state has version {0}, and this Flotilla reads version {VERSION}: use the one that wrote it"
)]
pub struct UnknownVersion(u32);

impl State {
    /// The record of this key as it is now; `None` where there is none any more, and what is stored is to be removed.
    pub fn record(&self, key: &Key) -> Option<Record> {
        let body = match key {
            Key::Head => Body::Head(Box::new(self.head.clone())),
            Key::Candidate(id) => Body::Candidate(self.candidates.get(id)?.clone()),
            Key::Cluster(name) => {
                let at = self.parts.binary_search_by(|part| part.name.cmp(name)).ok();
                let part = at.map(|at| &self.parts[at]).or_else(|| self.gone.get(name))?;
                part.stage.as_ref()?;
                Body::Cluster(Box::new(part.clone()))
            }
        };
        Some(Record { version: VERSION, body })
    }

    /// The state of which these are all the records.
    ///
    /// # Errors
    /// Where one is of a version that is not known here.
    pub fn from_records(records: impl IntoIterator<Item = Record>) -> Result<Self, UnknownVersion> {
        let mut state = Self::default();
        for record in records {
            if record.version != VERSION {
                return Err(UnknownVersion(record.version));
            }
            match record.body {
                Body::Head(head) => state.head = *head,
                Body::Candidate(candidate) => {
                    state.candidates.insert(candidate.id, candidate);
                }
                Body::Cluster(part) => state.parts.push(*part),
            }
        }
        state.parts.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(state)
    }

    /// What is known of a candidate that is in play.
    pub fn candidate(&self, id: CandidateId) -> Option<&Candidate> {
        self.candidates.get(&id)
    }

    /// The candidates in play whose id begins with this text, for people who name one.
    pub fn candidates_like(&self, prefix: &str) -> Vec<&Candidate> {
        self.candidates.values().filter(|candidate| candidate.id.0.to_string().starts_with(prefix)).collect()
    }

    /// The keys of all its records.
    pub fn keys(&self) -> Vec<Key> {
        let parts = self.parts.iter().filter(|part| part.stage.is_some()).map(|part| &part.name);
        let clusters = parts.chain(self.gone.keys()).cloned().map(Key::Cluster);
        [Key::Head]
            .into_iter()
            .chain(self.candidates.keys().copied().map(Key::Candidate))
            .chain(clusters)
            .collect()
    }

    /// The pipeline as the last step had it.
    pub fn pipeline(&self) -> Option<&Pipeline> {
        self.head.pipeline.as_ref()
    }

    /// What each cluster runs that a stage ever had, as the last step left it: for a pipeline that cannot be read now.
    pub fn choices(&self) -> impl Iterator<Item = (&ClusterName, Choice)> {
        let parts = self.parts.iter().filter(|part| part.stage.is_some()).chain(self.gone.values());
        parts.map(|part| (&part.name, part.choice()))
    }

    /// The clusters that the last step knew.
    pub fn clusters(&self) -> impl Iterator<Item = &ClusterName> {
        self.parts.iter().filter(|part| part.gone_since.is_none()).map(|part| &part.name)
    }

    /// All snapshots that it names: what they are rendered from has to stay readable.
    pub fn snapshots(&self) -> BTreeSet<Digest> {
        let parts = self.parts.iter().chain(self.gone.values());
        parts.flat_map(Part::picks).map(|pick| pick.snapshot).collect()
    }

    /// From which snapshots clusters have a candidate.
    pub fn snapshots_of(&self, candidate: CandidateId) -> BTreeSet<Digest> {
        let picks = self.parts.iter().flat_map(Part::picks);
        picks.filter(|pick| pick.candidate == candidate).map(|pick| pick.snapshot).collect()
    }

    /// What holds, pauses and vetoes there are.
    pub fn standing(&self) -> Vec<Standing> {
        self.head.standing.clone()
    }

    pub(crate) fn seq(&self, id: CandidateId) -> u64 {
        self.candidates.get(&id).map_or(0, |candidate| candidate.seq)
    }
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Head {
    /// As the last step had it, so that an edit is seen.
    pub(crate) pipeline: Option<Pipeline>,
    /// Of the candidate that was made last.
    pub(crate) seq: u64,
    pub(crate) newest: Option<CandidateId>,
    /// Counts runs.
    pub(crate) runs: u64,
    /// In the pipeline's order.
    pub(crate) stages: Vec<StageState>,
    pub(crate) standing: Vec<Standing>,
}

/// Something that somebody said and that holds until it is taken back or its time is over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    pub what: StandingKind,
    /// A person; or nobody, where a failure said it.
    pub by: Option<String>,
    pub reason: String,
    pub at: i64,
    pub until: Option<i64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StandingKind {
    /// With whether a rollback set it.
    Hold {
        scope: Scope,
        is_rollback: bool,
    },
    Bar {
        what: Barred,
        stage: Option<String>,
    },
    Pause {
        stage: Option<String>,
    },
    /// A stage counts as done for a candidate.
    Override {
        stage: String,
        candidate: CandidateId,
    },
    Window {
        window: String,
        stage: Option<String>,
    },
}

/// A snapshot's projection onto the units that the pipeline selects.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Candidate {
    pub id: CandidateId,
    /// Rises from one candidate to the next.
    pub seq: u64,
    pub commit: Commit,
    /// When the engine first saw it.
    pub at: i64,
}

type Labels = Arc<BTreeMap<String, String>>;

/// What is remembered of one cluster.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Part {
    pub(crate) name: ClusterName,
    /// The stage that it is in, or was in last. `None`: no stage ever had it.
    pub(crate) stage: Option<String>,
    pub(crate) assignment: Option<Arc<Assignment>>,
    /// Of the projection that it was given; not known yet where units are of several candidates.
    pub(crate) digest: Option<Digest>,
    pub(crate) given_at: i64,
    /// The run in which it was given what it has.
    pub(crate) run: u64,
    pub(crate) status: Status,
    /// What it was healthy on, the last one last; each digest once.
    pub(crate) healthy: Vec<Healthy>,
    /// Digests that failed here and were not tried again.
    pub(crate) failed: Vec<Digest>,
    /// What it is to go back to.
    pub(crate) back: Option<Arc<Assignment>>,
    pub(crate) pins: Vec<Pin>,
    /// What it would run of each candidate in play: an entry where that changed, in the order of candidates.
    pub(crate) shapes: Vec<Shape>,
    /// The units of the last shape, as short digests, so that the next one's changes are found. `None`: of no shape yet.
    pub(crate) known: Option<Vec<u64>>,
    /// What it ran when its stage last passed.
    pub(crate) passed: Option<Digest>,
    /// Whether it came from another stage with what it has.
    pub(crate) moved: bool,
    /// Since when the fleet does not have it any more.
    pub(crate) gone_since: Option<i64>,
    #[serde(skip)]
    pub(crate) dirty: bool,
    /// The labels that the index of its stage was found by.
    #[serde(skip)]
    pub(crate) found: Option<(Labels, Option<usize>)>,
}

/// What counts is what is stored.
impl PartialEq for Part {
    fn eq(&self, other: &Self) -> bool {
        let given =
            |part: &Self| (part.stage.clone(), part.digest, part.given_at, part.run, part.moved, part.passed);
        self.name == other.name
            && given(self) == given(other)
            && self.assignment == other.assignment
            && self.status == other.status
            && self.healthy == other.healthy
            && self.failed == other.failed
            && self.back == other.back
            && self.pins == other.pins
            && self.shapes == other.shapes
            && self.known == other.known
            && self.gone_since == other.gone_since
    }
}

impl Part {
    pub(crate) fn new(name: ClusterName) -> Self {
        Self {
            name,
            stage: None,
            assignment: None,
            digest: None,
            given_at: 0,
            run: 0,
            status: Status::Nothing,
            healthy: Vec::new(),
            failed: Vec::new(),
            back: None,
            pins: Vec::new(),
            shapes: Vec::new(),
            known: None,
            passed: None,
            moved: false,
            gone_since: None,
            dirty: false,
            found: None,
        }
    }

    /// What it would run of the candidate with this number. `None`: the candidate does not define it.
    pub(crate) fn shape(&self, seq: u64) -> Option<&Shape> {
        self.shapes.iter().rev().find(|shape| shape.seq <= seq)
    }

    /// What it runs.
    pub(crate) fn choice(&self) -> Choice {
        match (&self.stage, &self.assignment, &self.status) {
            (None, ..) => Choice::Newest,
            (_, None, _) => Choice::AsIs,
            (_, _, Status::WrittenOff | Status::Nothing) => Choice::Hold,
            (_, Some(assignment), _) => Choice::Run(assignment.clone()),
        }
    }

    /// All that its record names.
    fn picks(&self) -> Vec<Pick> {
        let given = self.assignment.iter().chain(self.healthy.iter().map(|healthy| &healthy.assignment));
        let of_given = given.chain(&self.back).flat_map(|assignment| {
            [assignment.base].into_iter().chain(assignment.units.iter().map(|(_, pick)| *pick))
        });
        let pins = self.pins.iter().map(|pin| pin.pick);
        of_given.chain(pins).chain(self.shapes.iter().filter_map(Shape::pick)).collect()
    }

    pub(crate) fn set(&mut self, status: Status) {
        if self.status != status {
            self.status = status;
            self.dirty = true;
        }
    }
}

/// How a cluster stands on what it was given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Status {
    /// It was given nothing, or lost it while it was written off.
    Nothing,
    /// It may have it, and did not say what became of it.
    InFlight,
    Healthy {
        since: i64,
    },
    /// It was healthy on it, and is not now.
    Unsettled {
        since: i64,
    },
    Failed {
        since: i64,
        why: Failure,
    },
    /// It was away for too long, and counts no more.
    WrittenOff,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Failure {
    /// With the units that it names.
    Reported(Vec<(UnitId, Digest)>),
    Deadline,
    Offline,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Healthy {
    pub(crate) assignment: Arc<Assignment>,
    pub(crate) digest: Digest,
}

/// A unit that is of another candidate than the rest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Pin {
    pub(crate) unit: UnitId,
    pub(crate) pick: Pick,
    pub(crate) why: PinKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum PinKind {
    /// Ends with the candidate of this number, or a later one. With the unit's digest, if it is known.
    Hotfix { seq: u64, digest: Option<Digest> },
    /// Ends with its hold.
    Held,
}

/// What a cluster would run of a candidate and of those after it, until the next shape.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Shape {
    pub(crate) seq: u64,
    pub(crate) candidate: CandidateId,
    /// `None`: it could not be rendered.
    pub(crate) content: Option<(Digest, Digest)>,
    /// Units that are not as in the shape before, with their new digests. `None`: one that is not there any more.
    pub(crate) changed: Vec<(UnitId, Option<Digest>)>,
}

impl Shape {
    pub(crate) fn digest(&self) -> Option<Digest> {
        self.content.map(|(_, digest)| digest)
    }

    pub(crate) fn pick(&self) -> Option<Pick> {
        self.content.map(|(snapshot, content)| Pick { candidate: self.candidate, snapshot, content })
    }
}
