//! What the renderer asks of whoever fetches: the files of a source, or why there are none.
//!
//! ```text
//!   unit's output ─► Source (what is wanted) ─► ClusterRender::sources ─► fetchers, at their own pace
//!                                                                             │
//!   unit's files ◄── Artifact, or the reason why not ◄── Sources::content ◄───┘
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use flotilla_core::report::Problem;
use flotilla_core::source::{ArtifactGenerator, Source, SourceId, SourceKind};
use flotilla_core::{Digest, Object, UnitId};
use flotilla_kustomize::Answer;
use flotilla_kustomize::files::Files;
use flotilla_sops::service::{Answer as KeyAnswer, Ask};

/// The content of a source at one revision.
#[derive(Clone)]
pub struct Artifact {
    /// Its files. Where Flux's artifact is one archive (a HelmChart, an OCIRepository with `operation: copy`): the
    /// files of the unpacked archive.
    pub files: Arc<dyn Files>,
    /// As Flux writes it: `main@sha1:…`, `latest@sha256:…`.
    pub revision: String,
    /// The revision of what the content was made from, where that is something else.
    pub origin_revision: Option<String>,
    /// Whose content ids these are: trees of equal origin can be compared by the ids of their files and folders,
    /// others cannot.
    pub origin: Digest,
}

impl fmt::Debug for Artifact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Artifact").field("revision", &self.revision).finish_non_exhaustive()
    }
}

impl Artifact {
    /// A tree that is alone in its origin.
    pub fn new(files: Arc<dyn Files>, revision: impl Into<String>, origin: &str) -> Self {
        let origin = Digest::of(origin.as_bytes());
        Self { files, revision: revision.into(), origin_revision: None, origin }
    }
}

/// The revision of a unit's files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Revision {
    /// They are the fleet repo's: the commit says it, and another commit that changes nothing of the unit makes no other unit.
    Fleet,
    /// As Flux writes it.
    Of(Arc<str>),
}

impl Revision {
    pub(crate) fn of(source: &SourceId, artifact: &Artifact) -> Self {
        if *source == fleet_source() { Self::Fleet } else { Self::Of(artifact.revision.as_str().into()) }
    }
}

/// What a build is answered that names something outside of its source.
#[derive(Clone)]
pub struct RemoteBase {
    pub answer: Answer,
    /// Equal only for equal content.
    pub id: Digest,
}

/// There is no content of a source to use: not yet, or not any more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct Unavailable {
    pub why: String,
    /// Somebody is at work on it.
    pub waiting: bool,
}

impl Unavailable {
    /// It will not be there by itself.
    pub fn new(why: impl Into<String>) -> Self {
        Self { why: why.into(), waiting: false }
    }

    /// It is on its way.
    pub fn waiting(why: impl Into<String>) -> Self {
        Self { why: why.into(), waiting: true }
    }

    /// The same with other words, which may hold its own.
    pub fn said(self, say: impl FnOnce(&str) -> String) -> Self {
        Self { why: say(&self.why), ..self }
    }
}

impl From<String> for Unavailable {
    fn from(why: String) -> Self {
        Self::new(why)
    }
}

/// What has been fetched, as one cluster may see it. Answers at once: nothing is fetched while rendering.
pub trait Sources: Send + Sync {
    /// The content of a GitRepository, OCIRepository, Bucket or HelmChart that is to be used now: the newest, or
    /// the last good one where the newest cannot be had.
    fn content(&self, source: &Source) -> Result<Artifact, Unavailable>;

    /// What an ArtifactGenerator puts out, by name. `inputs` are by alias, all that the generator names.
    fn generate(
        &self,
        generator: &ArtifactGenerator,
        inputs: &BTreeMap<String, Artifact>,
    ) -> Result<BTreeMap<String, Artifact>, Unavailable> {
        crate::generate::generate(generator, inputs)
    }

    /// A Secret that is kept for this cluster where the fleet repo does not have it: the values of its keys. `None`:
    /// there is none.
    fn secret(
        &self,
        _namespace: &str,
        _name: &str,
    ) -> Result<Option<BTreeMap<String, Vec<u8>>>, Unavailable> {
        Ok(None)
    }

    /// What a kustomization names outside of its source, by its address there. Whoever builds it wants it looked at every
    /// `interval` seconds.
    fn remote(&self, _address: &str, _interval: u32) -> Result<RemoteBase, Unavailable> {
        Err(Unavailable::new("is not fetched here"))
    }

    /// What a key service answers to a question. As with sources it is not waited for: one that was not asked before gives
    /// nothing yet.
    fn data_key(&self, _ask: &Ask) -> KeyAnswer {
        Err("is not asked here".to_owned())
    }

    /// Whether the operator uses this source though its `verify` block cannot be honoured.
    fn allows_unverified(&self, _source: &SourceId) -> bool {
        false
    }
}

/// Where nothing is fetched.
#[derive(Debug, Clone, Copy)]
pub struct NothingFetched(pub &'static str);

impl Sources for NothingFetched {
    fn content(&self, _: &Source) -> Result<Artifact, Unavailable> {
        Err(Unavailable::new(self.0))
    }
}

/// A source as a unit's output defines it.
#[derive(Debug, Clone, PartialEq)]
pub struct SourceDefinition {
    pub source: Source,
    /// Where it stands.
    pub file: String,
    pub line: u32,
    /// The Flux object itself; `None` for a chart that a HelmRelease stands for.
    pub object: Option<Object>,
}

/// A source of a cluster.
#[derive(Debug, Clone, PartialEq)]
pub struct RenderedSource {
    pub defined_by: UnitId,
    /// File and line of its definition.
    pub defined_at: (String, u32),
    /// `None`: it is defined wrongly, as `problems` say.
    pub source: Option<Source>,
    /// As [`SourceDefinition::object`].
    pub object: Option<Object>,
    pub problems: Vec<Problem>,
}

/// The name of the source that is the fleet repo itself.
pub fn fleet_source() -> SourceId {
    SourceId::new(SourceKind::GitRepository, "flux-system", "flux-system")
}

/// How files of a source are shown: as they are if it is the fleet repo, else with the source before them.
pub(crate) fn prefix(source: &SourceId) -> String {
    if *source == fleet_source() { String::new() } else { format!("{source}:") }
}
