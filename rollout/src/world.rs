//! What the hub tells the engine of the fleet: what Git has now, and what each cluster is known to run.

use std::collections::BTreeMap;
use std::sync::Arc;

use flotilla_core::{ClusterName, Digest, UnitId};
use serde::{Deserialize, Serialize};

use crate::state::CandidateId;

/// The fleet as the hub knows it at one moment.
#[derive(Debug, Clone, Default)]
pub struct World {
    /// What the newest commit is. `None`: the fleet cannot be read now; no candidate comes of it.
    pub newest: Option<Commit>,
    /// Every cluster of the fleet, by name, each once. One that is missing has been removed from the fleet.
    pub clusters: Vec<Cluster>,
    /// What was measured since the last step, in any order.
    pub measured: Vec<Measurement>,
}

/// A commit, for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Commit {
    /// The fleet repo's commit, as text.
    pub id: String,
    pub author: Author,
    /// Its first line.
    pub subject: String,
    /// When it was committed.
    pub time: i64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Author {
    pub name: String,
    pub email: String,
}

/// One cluster as the hub knows it.
#[derive(Debug, Clone)]
pub struct Cluster {
    pub name: ClusterName,
    /// Shared where they did not change since the last step: the pointer is compared first. `None`: they are not known, and it is
    /// in the stage that it was in.
    pub labels: Option<Arc<BTreeMap<String, String>>>,
    pub link: Link,
    /// What the cluster would run of the selected units by the newest commit. `None`: it cannot be rendered now.
    pub newest: Option<Arc<Projection>>,
    /// What it would run of older candidates, where a step wanted to know it (`Step::wanted`) and the hub could render it.
    pub older: Vec<(CandidateId, Arc<Projection>)>,
    /// What the hub made of the assignment that it was given last, by the assignment's revision.
    pub published: Option<Published>,
    /// What its agent says that it runs. `None`: it is not known now, as after a start of the hub.
    pub report: Option<Report>,
}

/// Whether a cluster is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    /// Its agent never connected: it is outside of its stage.
    NeverEnrolled,
    Online {
        since: i64,
    },
    Offline {
        since: i64,
    },
}

/// What a cluster runs, or would run, of the units that a pipeline selects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Projection {
    /// What it is rendered from; for the hub, and not part of the digest.
    pub snapshot: Digest,
    digest: Digest,
    units: Vec<(UnitId, Digest)>,
}

impl Projection {
    /// Of these units, each with the digest of its manifest.
    pub fn new(snapshot: Digest, units: impl IntoIterator<Item = (UnitId, Digest)>) -> Self {
        let mut units: Vec<(UnitId, Digest)> = units.into_iter().collect();
        units.sort();
        let texts: Vec<String> = units.iter().map(|(unit, _)| unit.to_string()).collect();
        let parts =
            texts.iter().zip(&units).flat_map(|(text, (_, digest))| [text.as_bytes(), digest.as_bytes()]);
        Self { snapshot, digest: Digest::of_parts(parts), units }
    }

    /// The digest by which a cluster says that it runs this. The hub makes the one of a report in the same way, of the
    /// digests of units that the agent reports.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// In the order of their ids.
    pub fn units(&self) -> &[(UnitId, Digest)] {
        &self.units
    }
}

/// What the hub made of an assignment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Published {
    pub revision: u64,
    /// The digest of the projection that it published.
    pub digest: Digest,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Of the projection that it runs.
    pub digest: Digest,
    pub health: Health,
    /// Since when the hub has heard this on end, of this digest.
    pub since: i64,
}

/// How the selected units of a cluster stand together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    Progressing,
    Healthy,
    /// With the units that failed and the digests of their manifests; the first ones where they are many.
    Failed {
        units: Vec<(UnitId, Digest)>,
    },
}

/// An answer to a [`crate::Measure`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Measurement {
    pub stage: String,
    pub candidate: CandidateId,
    /// The name of the check.
    pub check: String,
    /// When it was measured.
    pub at: i64,
    pub outcome: Outcome,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    Right,
    /// With what was seen, in a few words.
    Wrong(String),
    /// It could not be measured: neither right nor wrong.
    Unknown(String),
}
