//! Helm releases: from a `HelmRelease` and a chart to a unit's content, in two steps, so that helm runs where the caller
//! wants it and once for each release that changed.
//!
//! ```text
//!   HelmRelease ─► release ─┐
//!   chart's files ──────────┼─► plan: TemplateRequest, with a key ──► Renders: is it kept?
//!   ConfigMaps, Secrets ────┘                                           │no            │yes
//!                                         ClusterRender::requests ◄─────┘              ▼
//!                                          caller: helm, then again       manifests ─► post-renderers ─► content
//! ```

pub(crate) mod builtin;
mod lookup;
mod manifests;
mod plan;
pub mod program;
pub mod release;
pub mod request;
pub mod values;

pub use program::{Limits, Program};
pub use request::{Capabilities, ChartFiles, Helm, HelmError, NothingRendered, Renders, TemplateRequest};

pub(crate) use plan::{Config, Planned, plan};

use flotilla_core::Digest;
use flotilla_kustomize::files::{MemoryFiles, ReadError};

use crate::cache::{Outcome, Reads, RenderCache};
use crate::source::Unavailable;
use release::Release;

/// The content of a release whose manifests are there, from memory if it was made before.
pub(crate) fn content(
    cache: &RenderCache,
    release: &Release,
    key: Digest,
    text: &str,
) -> Result<Outcome, ReadError> {
    let after: Vec<String> = release
        .post_renderers
        .iter()
        .map(|node| node.to_json().map_or_else(|error| error.to_string(), |json| json.to_string()))
        .collect();
    let what = format!("{:?} {} {}", release.crds, release.create_namespace, release.namespace);
    let parts = [key.as_bytes().as_slice(), what.as_bytes()];
    let id = Digest::of_parts(parts.into_iter().chain(after.iter().map(String::as_bytes)));
    // It reads no files: what is kept is good for ever.
    let nowhere = |_: &str| Err(Unavailable("releases refer to nothing outside".to_owned()));
    let reads = Reads { files: &MemoryFiles::default(), remotes: &nowhere };
    cache.content(id, reads, |_| Ok(manifests::content(release, text).map(Into::into).map_err(Into::into)))
}
