//! What a machine asks for, and what it is told.

use jiff::Timestamp;

use super::super::decide::Rest;
use super::super::objects::Named;
use crate::record::Record;

/// The annotation of a hook's object that says which run of it this is.
pub const HOOK_RUN: &str = "flotilla.dev/hook-run";

/// The object of a hook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookObject {
    pub kind: String,
    pub name: String,
    /// As YAML.
    pub manifest: String,
    /// What [`HOOK_RUN`] says of this run.
    pub mark: String,
}

/// What is to be done on the cluster, and which [`Answer`]s there are to it beside [`Answer::Unknown`].
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Create the record where it has no resource version, else replace it. `Written`, `Refused`.
    Write(Box<Record>),
    /// Delete exactly this record. `Done`.
    DeleteRecord { revision: u64, resource_version: Option<String> },
    /// `Absent`, `There`, `Refused` where it can never be.
    Look(HookObject),
    /// Make it, with its mark, if nothing of its name is there. `Made`, `There`, `Refused`.
    Create(HookObject),
    /// Delete exactly the object with this uid. `Done` once it is gone, `NotYet`, `Refused`.
    Delete { object: HookObject, uid: String },
    /// Apply the manifest of the latest revision. `Done`, `NotYet`, `Refused`.
    Apply,
    /// Delete those that bear the marks of this release, in this order, and none of `keep`. `Done` once all deletions were
    /// taken, `NotYet` where nobody can tell whether one is there, `Refused`.
    DeleteObjects { objects: Vec<Named>, keep: Vec<Named> },
    /// Whether the objects of the latest revision are ready; Jobs only if `jobs`. `Done`, `NotYet`, `Refused` where one failed.
    Ready { jobs: bool },
    /// Whether those that `DeleteObjects` deleted are gone. `Done`, `NotYet`.
    Gone { objects: Vec<Named> },
    /// Nothing, until then.
    Pause { until: Timestamp },
    /// Make another machine, of records that are read anew.
    Again,
    /// Nothing more is to be done for now.
    End(End),
}

/// How a machine ends.
#[derive(Debug, Clone, PartialEq)]
pub enum End {
    Rest(Rest),
    /// The record, without which nothing is done, cannot be written.
    Blocked(String),
}

#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    Written {
        resource_version: String,
    },
    Done,
    Made {
        uid: String,
    },
    Absent,
    There(There),
    /// Why not.
    NotYet(String),
    /// It was not done, and will not be.
    Refused(String),
    /// Nobody can tell whether it was done.
    Unknown,
}

/// The object of a hook, or another of its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct There {
    pub uid: String,
    /// Its [`HOOK_RUN`].
    pub mark: Option<String>,
    pub state: HookState,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HookState {
    Running,
    Succeeded,
    Failed(String),
}
