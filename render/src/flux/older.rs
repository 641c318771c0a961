//! Older API versions of Flux's kinds: they are read as the newest, and fields that the newest no longer has are taken as
//! the API server converts them where they change what is applied, and are a notice where they do not.

use flotilla_core::source::SourceKind;
use flotilla_yaml::Node;

/// Why such a field is a notice.
pub(crate) const WITHOUT_EFFECT: &str = "has no effect: the newest version of this kind does not have it";

/// Whether an object is of an alpha or beta version.
pub(crate) fn is_older(object: &Node) -> bool {
    let version = object.get("apiVersion").and_then(Node::text).unwrap_or_default();
    version.rsplit('/').next().is_some_and(|version| version.contains("alpha") || version.contains("beta"))
}

/// Fields of a source's spec that its older versions have.
pub(crate) fn source_fields(kind: SourceKind) -> &'static [&'static str] {
    match kind {
        SourceKind::GitRepository => &["accessFrom", "gitImplementation"],
        SourceKind::Bucket => &["accessFrom"],
        SourceKind::HelmChart => &["accessFrom", "valuesFile"],
        _ => &[],
    }
}
