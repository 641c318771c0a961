//! What the loop remembers across restarts, apart from Git: read at once for a cluster, noted for many at once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use flotilla_core::change::{Declared, Going};
use flotilla_core::desired::KnownUnit;
use flotilla_core::question::{Question, Reply};
use flotilla_core::{Capabilities, ClusterName, Digest, Generation, UnitId};
use flotilla_rollout::{Key, State};

use crate::desired::project::Suspended;
use crate::store::Snapshot;
use crate::store::{AuditRecord, ChangeRecord, ClusterAt, ClusterNotes, Records, Rollout, StoreError};

/// What is on record of a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// What people suspended.
    pub suspended: Suspended,
    /// The version of its Kubernetes, once its agent has connected.
    pub kubernetes: Option<String>,
    /// What its agent can do; `None`: it has never said.
    pub capabilities: Option<Capabilities>,
    /// Units and objects whose loss was published or approved.
    pub going: Going,
    /// The objects that it was told to run.
    pub declared: Arc<Declared>,
    /// Units that it has, or may have received.
    pub known: BTreeMap<UnitId, KnownUnit>,
    /// Whether its agent has said what it has: else it may run what this hub does not know of.
    pub is_heard: bool,
    /// Whether it has an agent: without one nothing that was published can have arrived.
    pub has_agent: bool,
    /// Where its root was when it last rendered: repository, branch and folder.
    pub root: Option<String>,
    /// What its agent answered about it: the digests of replies by those of questions.
    pub told: BTreeMap<Digest, Digest>,
}

/// The facts behind a projection, and where its results are noted. All functions block.
///
/// An error means that nothing is known: no function has a default for what it could not read.
pub trait Ledger: Send + Sync {
    fn facts(&self, cluster: &ClusterName) -> Result<Facts, StoreError>;
    /// What the agent answered; `None`: nothing yet.
    fn reply(&self, cluster: &ClusterName, question: &Question) -> Result<Option<Reply>, StoreError>;
    /// Forgets the replies to all questions but these.
    fn forget_replies(&self, cluster: &ClusterName, asked: &BTreeSet<Question>) -> Result<(), StoreError>;
    /// The clusters of which facts may have changed since the last call.
    fn changed(&self) -> BTreeSet<ClusterName>;
    /// Notes what is about to be published for some clusters: for all of them, or for none.
    fn note(&self, notes: &[(&ClusterName, &ClusterNotes)]) -> Result<(), StoreError>;
    /// The keys of what helm rendered for units of any cluster.
    fn known_renders(&self) -> Result<BTreeSet<Digest>, StoreError>;
    /// What the guard on the change remembers; `None`: it never judged one.
    fn change(&self) -> Result<Option<ChangeRecord>, StoreError>;
    fn set_change(&self, change: &ChangeRecord) -> Result<(), StoreError>;
    /// The next number of the fleet's sequence.
    fn next_generation(&self) -> Result<Generation, StoreError>;
    /// From which snapshots a cluster's units last rendered.
    fn at(&self, cluster: &ClusterName) -> Result<ClusterAt, StoreError>;
    /// A snapshot that was noted; `None`: it is lost.
    fn snapshot(&self, digest: Digest) -> Result<Option<Arc<Snapshot>>, StoreError>;
    /// Notes a snapshot that something is about to be published from.
    fn note_snapshot(&self, snapshot: &Snapshot) -> Result<(), StoreError>;
    /// The snapshots that what is noted of clusters names.
    fn snapshots_in_use(&self) -> Result<BTreeSet<Digest>, StoreError>;
    /// What is remembered of pipelines.
    fn rollouts(&self) -> Result<BTreeMap<String, Rollout>, StoreError>;
    /// As [`Records::write_rollout`].
    fn write_rollout(
        &self,
        pipeline: &str,
        state: &State,
        changed: &[Key],
        head: Option<&Vec<u8>>,
        audit: Option<&AuditRecord>,
    ) -> Result<Option<Vec<u8>>, StoreError>;
    /// Forgets all of a pipeline.
    fn forget_rollout(&self, pipeline: &str, audit: &AuditRecord) -> Result<(), StoreError>;
    /// Forgets all snapshots but these.
    fn keep_snapshots(&self, used: &BTreeSet<Digest>) -> Result<(), StoreError>;
}

impl Ledger for Records {
    fn facts(&self, cluster: &ClusterName) -> Result<Facts, StoreError> {
        let suspensions = self.suspensions_of(cluster)?;
        let suspended = Suspended {
            whole: suspensions.cluster.is_some(),
            units: suspensions.units.into_keys().collect(),
        };
        let (known, is_heard) = self.known(cluster)?;
        Ok(Facts {
            suspended,
            kubernetes: self.kubernetes_version(cluster)?,
            capabilities: self.capabilities(cluster)?,
            going: self.going(cluster)?,
            declared: Arc::new(self.declared(cluster)?),
            known: known.into_iter().map(|unit| (unit.id.clone(), unit)).collect(),
            is_heard,
            has_agent: self.cluster(cluster)?.is_some(),
            root: self.root(cluster)?,
            told: self.replies(cluster)?,
        })
    }

    fn reply(&self, cluster: &ClusterName, question: &Question) -> Result<Option<Reply>, StoreError> {
        Records::reply(self, cluster, question)
    }

    fn forget_replies(&self, cluster: &ClusterName, asked: &BTreeSet<Question>) -> Result<(), StoreError> {
        Records::forget_replies(self, cluster, asked)
    }

    fn changed(&self) -> BTreeSet<ClusterName> {
        self.changed_facts()
    }

    fn note(&self, notes: &[(&ClusterName, &ClusterNotes)]) -> Result<(), StoreError> {
        self.note_published(notes)
    }

    fn known_renders(&self) -> Result<BTreeSet<Digest>, StoreError> {
        Records::known_renders(self)
    }

    fn change(&self) -> Result<Option<ChangeRecord>, StoreError> {
        Records::change(self)
    }

    fn set_change(&self, change: &ChangeRecord) -> Result<(), StoreError> {
        Records::set_change(self, change)
    }

    fn next_generation(&self) -> Result<Generation, StoreError> {
        Records::next_generation(self)
    }

    fn at(&self, cluster: &ClusterName) -> Result<ClusterAt, StoreError> {
        self.cluster_at(cluster)
    }

    fn snapshot(&self, digest: Digest) -> Result<Option<Arc<Snapshot>>, StoreError> {
        Records::snapshot(self, digest)
    }

    fn note_snapshot(&self, snapshot: &Snapshot) -> Result<(), StoreError> {
        Records::note_snapshot(self, snapshot)
    }

    fn snapshots_in_use(&self) -> Result<BTreeSet<Digest>, StoreError> {
        Records::snapshots_in_use(self)
    }

    fn keep_snapshots(&self, used: &BTreeSet<Digest>) -> Result<(), StoreError> {
        Records::keep_snapshots(self, used)
    }

    fn rollouts(&self) -> Result<BTreeMap<String, Rollout>, StoreError> {
        Records::rollouts(self)
    }

    fn write_rollout(
        &self,
        pipeline: &str,
        state: &State,
        changed: &[Key],
        head: Option<&Vec<u8>>,
        audit: Option<&AuditRecord>,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        Records::write_rollout(self, pipeline, state, changed, head, audit)
    }

    fn forget_rollout(&self, pipeline: &str, audit: &AuditRecord) -> Result<(), StoreError> {
        Records::forget_rollout(self, pipeline, audit)
    }
}
