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
mod draws;
mod lookup;
mod manifests;
mod plan;
pub mod program;
pub mod release;
pub mod request;
mod said;
mod schema;
pub mod values;
mod version;

pub use flotilla_helm::names;
pub use program::{InForce, Limits, Program};
pub use request::{
    Asked, Capabilities, ChartFiles, Helm, HelmError, Manifests, NothingRendered, Owner, Renders,
    TemplateRequest,
};

pub(crate) use plan::{Config, Planned, describe, keep, plan};

use flotilla_core::Digest;

use crate::cache::{Outcome, RenderCache, Telling};
use release::Release;

/// The content of a release whose manifests are there, and their digest; from memory if it was made before: then nobody
/// reads them. `None` if they are not there.
pub(crate) fn content(
    cache: &RenderCache,
    release: &Release,
    key: Digest,
    renders: &dyn Renders,
    telling: Telling<'_>,
) -> Option<Result<(Digest, Outcome), String>> {
    let content = match renders.content(key)? {
        Ok(content) => content,
        Err(reason) => return Some(Err(reason)),
    };
    let after: Vec<String> = release
        .post_renderers
        .iter()
        .map(|node| node.to_json().map_or_else(|error| error.to_string(), |json| json.to_string()))
        .collect();
    let what = format!("{:?} {} {}", release.crds, release.create_namespace, release.namespace);
    // Not by key: clusters whose releases came out alike share what is made of them.
    let parts = [content.as_bytes().as_slice(), what.as_bytes()];
    let id = Digest::of_parts(parts.into_iter().chain(after.iter().map(String::as_bytes)));
    if let Some(outcome) = cache.recalled(id) {
        return Some(Ok((content, outcome)));
    }
    let text = match renders.get(key) {
        Some(Ok(text)) => text,
        Some(Err(reason)) => return Some(Err(reason)),
        // It must not be made anew: somebody may have taken it away by mistake.
        None => return Some(Err("what helm rendered is not there any more".to_owned())),
    };
    let made = || manifests::content(release, &text).map(Into::into).map_err(Into::into);
    Some(Ok((content, cache.substituted(id, telling, None, made))))
}
