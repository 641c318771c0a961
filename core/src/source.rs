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

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;

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

/// How a source is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Scheme {
    Http,
    Https,
    Ssh,
    File,
    Oci,
}

/// The address of a source: a scheme that its kind allows, and something behind it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SourceUrl {
    scheme: Scheme,
    text: String,
}

/// A text that is not an address for this kind of source.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidUrl {
    #[error("'{url}' must begin with one of {schemes}")]
    Scheme { url: String, schemes: String },
    #[error("'{0}' names no host")]
    NoHost(String),
    /// The text is not shown: it holds a secret.
    #[error("the address holds a password; put credentials into a Secret and name it by spec.secretRef")]
    Password,
}

impl SourceUrl {
    const SCHEMES: [(&'static str, Scheme); 5] = [
        ("http://", Scheme::Http),
        ("https://", Scheme::Https),
        ("ssh://", Scheme::Ssh),
        ("file://", Scheme::File),
        ("oci://", Scheme::Oci),
    ];

    /// Reads an address with one of `allowed` schemes.
    pub fn parse(text: &str, allowed: &[Scheme]) -> Result<Self, InvalidUrl> {
        let known = Self::SCHEMES.iter().filter(|(_, scheme)| allowed.contains(scheme));
        let Some((prefix, scheme)) = known.clone().find(|(prefix, _)| text.starts_with(prefix)) else {
            let schemes = known.map(|(prefix, _)| *prefix).collect::<Vec<_>>().join(", ");
            return Err(InvalidUrl::Scheme { url: without_password(text), schemes });
        };
        let rest = &text[prefix.len()..];
        let (authority, _) = rest.split_once('/').unwrap_or((rest, ""));
        if authority.rsplit_once('@').is_some_and(|(user, _)| user.contains(':')) {
            return Err(InvalidUrl::Password);
        }
        let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
        if host.is_empty() && *scheme != Scheme::File || rest.is_empty() {
            return Err(InvalidUrl::NoHost(text.to_owned()));
        }
        Ok(Self { scheme: *scheme, text: text.to_owned() })
    }

    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// As written, scheme included.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// What stands behind `scheme://`.
    pub fn rest(&self) -> &str {
        self.text.split_once("://").map_or("", |(_, rest)| rest)
    }
}

fn without_password(text: &str) -> String {
    match text.rsplit_once('@') {
        Some((user, host)) if user.contains(':') => format!("…@{host}"),
        _ => text.to_owned(),
    }
}

impl fmt::Display for SourceUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The name of a Secret in the source's namespace.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct SecretName(pub String);

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn source_ids_read_back() {
        for kind in SourceKind::ALL {
            let id = SourceId::new(kind, "flux-system", "podinfo");
            assert_eq!(id.to_string().parse(), Ok(id));
        }
        assert_eq!("ocirepository/a/b".parse(), Ok(SourceId::new(SourceKind::OciRepository, "a", "b")));
        for bad in ["", "a/b", "Deployment/a/b", "Bucket//b", "Bucket/a/", "Bucket/a/b/c"] {
            assert!(bad.parse::<SourceId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn addresses_fit_their_kind_and_hold_no_password() {
        use Scheme::{File, Http, Https, Oci, Ssh};
        let git = [Http, Https, Ssh, File];
        for (text, allowed, expected) in [
            ("https://github.com/x/y", &git[..], Ok(Https)),
            ("ssh://git@github.com/x/y", &git, Ok(Ssh)),
            ("file:///srv/git/x", &git, Ok(File)),
            ("oci://ghcr.io/x/y", &[Oci], Ok(Oci)),
            (
                "git@github.com:x/y",
                &git,
                Err("'git@github.com:x/y' must begin with one of http://, https://, ssh://, file://"),
            ),
            ("oci://ghcr.io/x", &[Https], Err("'oci://ghcr.io/x' must begin with one of https://")),
            ("https://", &git, Err("'https://' names no host")),
            (
                "https://me:secret@host/x",
                &git,
                Err(
                    "the address holds a password; put credentials into a Secret and name it by spec.secretRef",
                ),
            ),
            ("ftp://me:secret@host/x", &[Https], Err("'…@host/x' must begin with one of https://")),
        ] {
            let got = SourceUrl::parse(text, allowed).map(|url| url.scheme()).map_err(|e| e.to_string());
            assert_eq!(got, expected.map_err(str::to_owned), "{text}");
        }
    }

    #[test]
    fn aliases_and_their_paths() {
        let read = |text: &str| text.parse::<AliasPath>().map(|p| (p.alias, p.path));
        assert_eq!(read("@repo/apps/**"), Ok(("repo".into(), "apps/**".into())));
        assert_eq!(read("@a_b-c/"), Ok(("a_b-c".into(), String::new())));
        for bad in ["repo/x", "@repo", "@-x/y", "@X/y", "@/y"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
