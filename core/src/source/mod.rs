//! Sources: anything that content comes from, as Flux's source kinds define it.
//!
//! ```text
//!   GitRepository ─┐                              ┌─► files of a unit (Kustomization.sourceRef)
//!   OCIRepository ─┼─► content ─► ArtifactGenerator ─► ExternalArtifact ─► files of a unit
//!   Bucket        ─┘     │
//!   HelmRepository ─► HelmChart ─► chart of a release
//! ```
//!
//! A value here is what was asked for, already checked: references in the order of precedence that Flux's
//! source-controller gives them, URLs with a scheme that fits the kind. What cannot be had (cloud identities) is no
//! value: whoever reads the objects refuses it by file and line. Credentials stand here by the name of their
//! Secret only.

mod address;
mod kinds;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;

pub use self::address::{InvalidUrl, Scheme, SourceUrl};
pub use self::kinds::*;

/// The kinds that content comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum SourceKind {
    GitRepository,
    #[serde(rename = "OCIRepository")]
    OciRepository,
    Bucket,
    HelmRepository,
    HelmChart,
    ArtifactGenerator,
    /// What an `ArtifactGenerator` puts out.
    ExternalArtifact,
    /// What a kustomization names outside of its source, by its address. No object has this kind.
    RemoteBase,
}

impl SourceKind {
    /// Those of objects.
    pub const ALL: [Self; 7] = [
        Self::GitRepository,
        Self::OciRepository,
        Self::Bucket,
        Self::HelmRepository,
        Self::HelmChart,
        Self::ArtifactGenerator,
        Self::ExternalArtifact,
    ];

    /// As in an object's `kind`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::GitRepository => "GitRepository",
            Self::OciRepository => "OCIRepository",
            Self::Bucket => "Bucket",
            Self::HelmRepository => "HelmRepository",
            Self::HelmChart => "HelmChart",
            Self::ArtifactGenerator => "ArtifactGenerator",
            Self::ExternalArtifact => "ExternalArtifact",
            Self::RemoteBase => "RemoteBase",
        }
    }

    /// As in the API server's paths.
    pub fn plural(self) -> &'static str {
        match self {
            Self::GitRepository => "gitrepositories",
            Self::OciRepository => "ocirepositories",
            Self::Bucket => "buckets",
            Self::HelmRepository => "helmrepositories",
            Self::HelmChart => "helmcharts",
            Self::ArtifactGenerator => "artifactgenerators",
            Self::ExternalArtifact => "externalartifacts",
            Self::RemoteBase => "remotebases",
        }
    }

    /// The API group of the kind.
    pub fn group(self) -> &'static str {
        match self {
            Self::ArtifactGenerator => "source.extensions.fluxcd.io",
            _ => "source.toolkit.fluxcd.io",
        }
    }
}

impl fmt::Display for SourceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The name of a source within its cluster.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceId {
    pub kind: SourceKind,
    pub namespace: String,
    pub name: String,
}

impl SourceId {
    pub fn new(kind: SourceKind, namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { kind, namespace: namespace.into(), name: name.into() }
    }
}

/// `GitRepository/NAMESPACE/NAME`
impl fmt::Display for SourceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.kind, self.namespace, self.name)
    }
}

impl fmt::Debug for SourceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that names no source.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{0}' names no source: expected KIND/NAMESPACE/NAME with a kind like GitRepository or OCIRepository"
)]
pub struct InvalidSourceId(String);

impl FromStr for SourceId {
    type Err = InvalidSourceId;

    fn from_str(text: &str) -> Result<Self, InvalidSourceId> {
        let parts: Vec<&str> = text.split('/').collect();
        let [kind, namespace, name] = parts[..] else { return Err(InvalidSourceId(text.to_owned())) };
        let kind = SourceKind::ALL.into_iter().find(|known| known.as_str().eq_ignore_ascii_case(kind));
        match kind {
            Some(kind) if !namespace.is_empty() && !name.is_empty() => Ok(Self::new(kind, namespace, name)),
            _ => Err(InvalidSourceId(text.to_owned())),
        }
    }
}

impl Serialize for SourceId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for SourceId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A source as its object defines it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Source {
    pub id: SourceId,
    /// How often it is looked at, in seconds. At least 1.
    pub interval: u32,
    /// How long one look may take, in seconds. At least 1.
    pub timeout: u32,
    /// Not looked at any more; the content that is there stays in use.
    pub suspend: bool,
    pub spec: SourceSpec,
}

/// What a source is, apart from its name and rhythm.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub enum SourceSpec {
    Git(GitRepository),
    Oci(OciRepository),
    Bucket(Bucket),
    HelmRepository(HelmRepository),
    HelmChart(HelmChart),
    Generator(ArtifactGenerator),
    /// An `ExternalArtifact` object of somebody else's making: no controller of ours fills it.
    External,
    /// A folder of a repository, or a file, by its address as kustomizations write it.
    RemoteBase(String),
}

impl SourceSpec {
    /// Equal for equal specs. Names of Secrets count, what they hold does not: whoever shares a fetch adds a digest
    /// of the credentials.
    pub fn digest(&self) -> Digest {
        Digest::of(&serde_json::to_vec(self).expect("a spec has a JSON text"))
    }

    /// Whether whoever fetches it needs what a Secret holds.
    pub fn names_secrets(&self) -> bool {
        match self {
            Self::Git(git) => git.secret.is_some() || git.proxy_secret.is_some(),
            Self::Oci(oci) => oci.secret.is_some() || oci.cert_secret.is_some() || oci.proxy_secret.is_some(),
            Self::Bucket(bucket) => {
                bucket.secret.is_some() || bucket.cert_secret.is_some() || bucket.proxy_secret.is_some()
            }
            Self::HelmRepository(helm) => helm.secret.is_some() || helm.cert_secret.is_some(),
            Self::HelmChart(_) | Self::Generator(_) | Self::External | Self::RemoteBase(_) => false,
        }
    }

    /// Whether the object asks that the content's signature be verified.
    pub fn verify(&self) -> bool {
        match self {
            Self::Git(git) => git.verify,
            Self::Oci(oci) => oci.verify,
            Self::HelmChart(chart) => chart.verify,
            Self::Bucket(_)
            | Self::HelmRepository(_)
            | Self::Generator(_)
            | Self::External
            | Self::RemoteBase(_) => false,
        }
    }
}

/// The name of a Secret in the source's namespace.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct SecretName(pub String);

#[cfg(test)]
mod tests;
