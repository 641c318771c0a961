//! What a release is to be, and how it is installed, upgraded, rolled back, uninstalled and tested.
//!
//! [`decide`](decide::decide) says what is done next, by the history of the release; a [`memo`] beside each revision is what it knows of
//! attempts before. The [`machine`] carries it out, one action of the caller's at a time.

pub mod decide;
pub mod machine;
pub mod memo;
pub mod objects;
mod wanted;

use flotilla_core::Digest;

pub use flotilla_core::unit::release::{
    ActionOptions, ChartNameChange, OnFailure, Options, Propagation, Remedy, TestFilter, TestOptions,
    UninstallOptions, WaitStrategy,
};

pub use wanted::WantedError;

use crate::content::Content;
use crate::names::{Namespace, ReleaseName};
use crate::record::Json;

/// Which release it is, and where its records are.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Target {
    pub name: ReleaseName,
    pub namespace: Namespace,
    pub storage_namespace: Namespace,
}

/// A release as it should be.
#[derive(Debug, Clone, PartialEq)]
pub struct Wanted {
    pub target: Target,
    /// Of `chart` and `content`: a release of another one is upgraded.
    pub digest: Digest,
    /// Of all that its author says, options included: failures count for as long as this stays.
    pub spec: Digest,
    /// The chart as a record holds it: see [`crate::Release::chart`].
    pub chart: Json,
    pub content: Content,
    pub options: Options,
}
