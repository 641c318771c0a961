//! Why an apply of an object failed, in one word that the agent itself goes by and that people see.

use flotilla_core::Digest;
use flotilla_core::report::Finding;

/// Why an object was not applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FailureReason {
    /// The API server refused it, or did not answer.
    ApplyFailed,
    /// Its body is not on disk.
    ContentMissing,
    /// SOPS encrypted it, and the keys that the cluster has do not open it.
    DecryptionFailed,
    /// A webhook or an admission policy said no.
    Denied,
    /// The account lacks the right.
    Forbidden,
    /// It would have to be made anew.
    Immutable,
    /// Another tool is at work on it.
    OwnedByOther,
    /// Values of the cluster could not be filled in.
    SubstitutionFailed,
    /// The API server does not serve its kind.
    UnknownKind,
}

impl FailureReason {
    /// As findings and events name it.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::ApplyFailed => "ApplyFailed",
            Self::ContentMissing => "ContentMissing",
            Self::DecryptionFailed => "DecryptionFailed",
            Self::Denied => "Denied",
            Self::Forbidden => "Forbidden",
            Self::Immutable => "Immutable",
            Self::OwnedByOther => "OwnedByOther",
            Self::SubstitutionFailed => "SubstitutionFailed",
            Self::UnknownKind => "UnknownKind",
        }
    }
}

/// An object whose last apply failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FailedObject {
    /// What was tried: see [`flotilla_core::plan::apply_fingerprint`].
    pub(super) fingerprint: Digest,
    pub(super) reason: FailureReason,
    pub(super) finding: Finding,
}
