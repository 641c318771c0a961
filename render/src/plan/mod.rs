//! What another commit would do to the fleet: two renders of each cluster compared, and the clusters grouped by what is
//! distinct.
//!
//! ```text
//!   Side (before), Side (after) ─► cluster ─► ClusterPlan: units, sources, objects with their fields
//!                                    │            │
//!                                    ▼            ▼ by digest
//!                               Loss ─► guard   Group: one plan, many clusters
//!                                                 │ by pipeline
//!                                                 ▼
//!                                             Schedule: which clusters get it when
//! ```
//!
//! What is not known on a side (a unit that does not render, or whose source is not there) is said, and never shown as removed.

mod cluster;
mod entries;
mod fields;
pub mod fit;
mod fleet;
pub mod published;
pub mod stages;

use std::collections::BTreeMap;
use std::sync::Arc;

use flotilla_core::report::Problem;
use flotilla_core::source::SourceId;
use flotilla_core::{Digest, ObjectId, UnitId};
use flotilla_kustomize::files::TreePath;

pub use cluster::{Planned, plan, settings};
pub use fields::{Differ, FieldPlan, Fields};
pub use fleet::{FleetPlan, Group, Misfits, PlanBuilder, guard_policy};

use crate::cluster::ClusterRender;

/// A cluster at one of the two commits.
#[derive(Debug, Clone, Copy)]
pub enum Side<'a> {
    /// Git does not define it.
    Absent,
    /// Git defines it, and its definition cannot be read.
    Unclear(&'a [Problem]),
    Defined {
        root: &'a TreePath,
        render: &'a ClusterRender,
    },
}

/// What becomes of a cluster, beside its units.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum ClusterChange {
    /// It is defined before and after.
    #[default]
    Stays,
    Added,
    /// Git defines it no longer: it keeps what it runs.
    Unassigned,
    /// Its definition cannot be read after the change, for this reason: it keeps what it runs.
    Unclear(String),
    /// It could not be read before: what it runs is not known.
    WasUnclear,
    /// Its root is another folder: what leaves waits for an approval.
    RootMoved {
        from: TreePath,
        to: TreePath,
    },
}

/// What becomes of a unit or source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnitChange {
    Added,
    Changed,
    /// It goes, and its objects with it.
    Removed,
    /// It goes, and its objects stay, nobody's from now on.
    Orphaned,
    /// It goes, and its objects stay until somebody approves or resumes it.
    Waits,
    /// It cannot be told what it should be: it keeps what runs.
    Held,
    /// It was held and is not any more: what it runs before is not known.
    Released,
    /// Its definition changes, and what comes of that is not known here.
    Unknown,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitPlan {
    pub change: UnitChange,
    /// Why, where that is not plain; empty otherwise.
    pub reason: String,
    /// What it says of itself.
    pub fields: Arc<Fields>,
}

/// What becomes of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ObjectChange {
    Added,
    Changed,
    /// Only the unit that it belongs to is another.
    Moved,
    /// It is deleted.
    Pruned,
    /// Git has it no longer, and it stays for now.
    Kept,
    /// Git has it no longer, and it stays, nobody's from now on.
    Orphaned,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectPlan {
    pub object: ObjectId,
    pub change: ObjectChange,
    /// The unit that it belongs to before, if any.
    pub from: Option<UnitId>,
    /// The unit that it belongs to after, if any.
    pub to: Option<UnitId>,
    pub fields: Arc<Fields>,
    /// Of an added one that is no Secret: the digest of its content.
    pub content: Option<Digest>,
    /// What else is to be known; empty otherwise.
    pub note: String,
}

/// What becomes of one cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClusterPlan {
    pub cluster: ClusterChange,
    pub units: BTreeMap<UnitId, UnitPlan>,
    pub sources: BTreeMap<SourceId, UnitPlan>,
    /// By their names.
    pub objects: Vec<ObjectPlan>,
    /// Of what is compared, so that plans that look alike and are not differ.
    digest: Option<Digest>,
}

impl ClusterPlan {
    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        self.cluster == ClusterChange::Stays
            && self.units.is_empty()
            && self.sources.is_empty()
            && self.objects.is_empty()
    }

    /// How many objects have such a change.
    pub fn count(&self, change: ObjectChange) -> usize {
        self.objects.iter().filter(|object| object.change == change).count()
    }

    /// The same for all clusters that it is the plan of.
    pub fn digest(&self) -> Digest {
        self.digest.unwrap_or_else(|| Digest::of(b""))
    }
}
