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
pub mod options;
mod plan;
pub mod program;
pub mod release;
pub mod request;
mod revision;
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

pub use revision::{Packed, Parcel};

pub(crate) use plan::{Config, Planned, describe, keep, plan};
pub(crate) use revision::packed_chart;

use flotilla_core::Digest;
use flotilla_core::report::Problem;
use flotilla_helm::content::may_not_fit;
use flotilla_helm::record::MAX_DATA;

use crate::cache::{Outcome, RenderCache, Telling};
use crate::content::Content;
use options::Installed;
use release::Release;

/// The content of a release whose manifests are there, and their digest; from memory if it was made before: then nobody
/// reads them. `None` if they are not there.
pub(crate) fn content(
    cache: &RenderCache,
    release: &Release,
    request: &TemplateRequest,
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
    let mut what = format!("{:?} {} {}", release.crds, release.create_namespace, release.namespace);
    if let Some(installed) = &release.installed {
        // A record has values and chart too, whatever helm made of them.
        what += &format!(" {:?} {}", installed.post_render, request.key_of_all());
    }
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
        None => return Some(Err("what helm rendered is no longer there".to_owned())),
    };
    let with_chart = |installed| Ok((installed, cache.packed_chart(&request.chart)?));
    let installed = match release.installed.as_ref().map(with_chart).transpose() {
        Ok(installed) => installed,
        Err(reason) => return Some(Err(reason)),
    };
    let made = || {
        let content = match installed {
            Some((installed, chart)) => installed_content(release, installed, &text, request, chart),
            None => manifests::content(release, &text),
        };
        content.map(Into::into).map_err(Into::into)
    };
    Some(Ok((content, cache.substituted(id, telling, None, made))))
}

/// The content of a release that is installed as Helm does it.
fn installed_content(
    release: &Release,
    installed: &Installed,
    text: &str,
    request: &TemplateRequest,
    chart: Parcel,
) -> Result<Content, Vec<Problem>> {
    let (mut content, revision) =
        manifests::installed(release, text, &request.values, installed.post_render)?;
    let packed = Packed::with_chart(revision.pack(), chart);
    if may_not_fit(&packed.chart.bytes, &packed.content.bytes) {
        let message = format!(
            "the release does not fit into a record: packed, its chart has {} KiB and its manifests, hooks, values and notes {} \
             KiB, and a Secret holds {} KiB of base64; leave files that no template uses out of the chart, by .helmignore",
            packed.chart.bytes.len() >> 10,
            packed.content.bytes.len() >> 10,
            MAX_DATA >> 10
        );
        return Err(vec![Problem::error("", 0, message)]);
    }
    content.weight.bytes += (packed.chart.bytes.len() + packed.content.bytes.len()) as u64;
    content.release = Some(packed);
    Ok(content)
}
