//! What each kind of source asks for.

use std::str::FromStr;

use serde::Serialize;

use super::{SecretName, SourceId, SourceUrl};

/// `GitRepository`
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GitRepository {
    /// `http`, `https`, `ssh` or `file`.
    pub url: SourceUrl,
    pub reference: GitReference,
    /// `spec.ignore`, in the format of `.gitignore`; `None`: Flux's own exclusions.
    pub ignore: Option<String>,
    pub include: Vec<GitInclude>,
    pub recurse_submodules: bool,
    /// Folders; empty means all.
    pub sparse_checkout: Vec<String>,
    pub secret: Option<SecretName>,
    /// `provider: github`: the secret describes a GitHub App.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub github_app: bool,
    pub proxy_secret: Option<SecretName>,
    pub verify: bool,
}

/// Which commit of a repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub enum GitReference {
    Commit {
        commit: String,
        /// Where to look for it.
        branch: Option<String>,
    },
    /// A full reference, as `refs/pull/7/head`.
    Name(String),
    /// The highest tag in a range.
    Semver(String),
    Tag(String),
    /// `master`, where the object says nothing.
    Branch(String),
}

/// A folder of another GitRepository of the same namespace, laid over this one's files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GitInclude {
    pub repository: SourceId,
    /// "" for the root.
    pub from: String,
    /// Where it goes; the repository's name, where the object says nothing.
    pub to: String,
}

/// `OCIRepository`
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OciRepository {
    /// `oci`
    pub url: SourceUrl,
    pub reference: OciReference,
    pub layer: OciLayer,
    /// `spec.ignore`, in the format of `.gitignore`.
    pub ignore: Option<String>,
    pub insecure: bool,
    pub secret: Option<SecretName>,
    pub cert_secret: Option<SecretName>,
    pub proxy_secret: Option<SecretName>,
    pub verify: bool,
}

/// Which manifest of a repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub enum OciReference {
    /// `sha256:…`
    Digest(String),
    Semver {
        range: String,
        /// A regular expression: only tags that match count.
        filter: Option<String>,
    },
    /// `latest`, where the object says nothing.
    Tag(String),
}

/// Which layer of a manifest. Whatever `operation` the object names (`extract` or `copy`): what a unit or a
/// release gets are the files of the unpacked layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Default)]
pub struct OciLayer {
    /// The first layer of this media type; `None`: the first layer.
    pub media_type: Option<String>,
    /// `operation: copy`: the layer is an archive that Flux stores as it is.
    pub copy: bool,
}

/// `Bucket`, through the S3 API.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Bucket {
    pub bucket: String,
    /// Host with an optional port; no scheme.
    pub endpoint: String,
    pub region: Option<String>,
    /// Only objects whose name begins so; the prefix stays in their paths.
    pub prefix: Option<String>,
    pub ignore: Option<String>,
    pub insecure: bool,
    pub secret: Option<SecretName>,
    pub cert_secret: Option<SecretName>,
    pub proxy_secret: Option<SecretName>,
}

/// `HelmRepository`
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HelmRepository {
    /// `http` or `https`: an index; `oci`: a registry.
    pub url: SourceUrl,
    pub secret: Option<SecretName>,
    pub cert_secret: Option<SecretName>,
    /// Send credentials to other hosts too, where the index names such.
    pub pass_credentials: bool,
    pub insecure: bool,
}

/// `HelmChart`, also the one that a HelmRelease's `spec.chart` stands for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HelmChart {
    /// A chart's name, or its path in a GitRepository or Bucket.
    pub chart: String,
    /// A version or range; `*` where the object says nothing. Charts of a GitRepository or Bucket have the
    /// version that they have.
    pub version: String,
    /// A HelmRepository, GitRepository or Bucket.
    pub source: SourceId,
    pub reconcile: ReconcileStrategy,
    /// Values files in the chart or its source, merged in this order in place of the chart's own.
    pub values_files: Vec<String>,
    pub ignore_missing_values_files: bool,
    pub verify: bool,
}

/// When a chart counts as new.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Default)]
pub enum ReconcileStrategy {
    #[default]
    ChartVersion,
    Revision,
}

/// `ArtifactGenerator`: new file trees from those of other sources.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ArtifactGenerator {
    /// In the object's order; aliases are unique.
    pub inputs: Vec<GeneratorInput>,
    /// `@ALIAS/PATTERN`: the artifacts are made once for each match, with its captures put into their fields.
    pub path_pattern: Option<AliasPath>,
    pub artifacts: Vec<GeneratedArtifact>,
}

/// One source that a generator reads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GeneratorInput {
    pub alias: String,
    pub source: SourceId,
}

/// `@ALIAS/PATH`, split.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AliasPath {
    pub alias: String,
    pub path: String,
}

impl FromStr for AliasPath {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.strip_prefix('@').and_then(|rest| rest.split_once('/'));
        match parts {
            Some((alias, path)) if is_alias(alias) => Ok(Self { alias: alias.into(), path: path.into() }),
            _ => Err(format!("'{text}' must be of the form @ALIAS/PATH")),
        }
    }
}

/// Whether `text` can name an input of a generator.
pub fn is_alias(text: &str) -> bool {
    let edge = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let bytes = text.as_bytes();
    edge(bytes.first())
        && edge(bytes.last())
        && bytes.iter().all(|b| edge(Some(b)) || matches!(b, b'-' | b'_'))
}

/// One tree that a generator puts out, an `ExternalArtifact` of the generator's namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GeneratedArtifact {
    /// With captures (`{app}`) where the generator has a pattern.
    pub name: String,
    /// The alias whose revision the artifact has; `None`: a digest of its content.
    pub revision: Option<String>,
    /// The alias whose origin revision the artifact carries.
    pub origin_revision: Option<String>,
    /// In order; later ones overwrite.
    pub copy: Vec<CopyRule>,
}

/// What goes where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CopyRule {
    /// An input and a glob in it.
    pub from: AliasPath,
    /// Path in the artifact; one that ends with `/` is a folder.
    pub to: String,
    pub exclude: Vec<String>,
    pub strategy: CopyStrategy,
}

/// What is done with a file that a rule matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Default)]
pub enum CopyStrategy {
    #[default]
    Overwrite,
    /// YAML files are merged as Helm merges values.
    Merge,
    /// Archives are unpacked.
    Extract,
}
