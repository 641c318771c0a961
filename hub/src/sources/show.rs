//! A source as people see it.

use flotilla_api as api;
use flotilla_core::source::{SourceId, SourceKind};
use flotilla_source::flux::address;

use super::library::Demand;
use super::slot::Slot;

pub(super) fn show(id: &SourceId, demand: &Demand, slot: Option<&Slot>) -> api::Source {
    let name = match id.kind {
        SourceKind::RemoteBase => id.name.clone(),
        _ => format!("{}/{}", id.namespace, id.name),
    };
    let mut shown = api::Source { name, kind: id.kind.to_string(), ..api::Source::default() };
    if let Some(source) = &demand.source {
        shown.url = address(&source.spec);
        shown.reference = reference(&source.spec);
        shown.suspended = source.suspend;
    }
    if let Some(slot) = slot {
        shown.revision = slot.content.as_ref().map(|content| content.revision.clone()).unwrap_or_default();
        shown.ready = slot.problem.is_none() && slot.content.is_some();
        shown.message = match (&slot.problem, &slot.content) {
            (Some(problem), _) => problem.clone(),
            (None, Some(content)) => format!("at {}", content.revision),
            (None, None) => "not fetched yet".into(),
        };
        (shown.checked_at, shown.changed_at) = (slot.checked_at, slot.changed_at);
    }
    match (&demand.problem, demand.key) {
        (Some(problem), _) => (shown.ready, shown.message) = (false, problem.clone()),
        // Made of others, or asked by others only.
        (None, None) => shown.ready = true,
        (None, Some(_)) => {}
    }
    shown
}

/// What people wrote of the revision that they want.
fn reference(spec: &flotilla_core::source::SourceSpec) -> String {
    use flotilla_core::source::{GitReference, OciReference, SourceSpec};
    match spec {
        SourceSpec::Git(git) => match &git.reference {
            GitReference::Commit { commit, .. } => commit.clone(),
            GitReference::Name(text)
            | GitReference::Semver(text)
            | GitReference::Tag(text)
            | GitReference::Branch(text) => text.clone(),
        },
        SourceSpec::Oci(oci) => match &oci.reference {
            OciReference::Digest(text) | OciReference::Tag(text) => text.clone(),
            OciReference::Semver { range, .. } => range.clone(),
        },
        SourceSpec::HelmChart(chart) => chart.version.clone(),
        _ => String::new(),
    }
}
