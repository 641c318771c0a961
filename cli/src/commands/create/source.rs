//! `flotilla create source`

use clap::{ArgGroup, Args, Subcommand};
use serde_json::{Value, json};

use super::{GoDuration, ObjectArgs, go_duration, ignored, only_true, secret};
use crate::commands::manifest::PathArgs;

const VERSION: &str = "source.toolkit.fluxcd.io/v1";

#[derive(Debug, Subcommand)]
pub(crate) enum SourceCommand {
    /// A GitRepository
    Git(GitArgs),
    /// An OCIRepository
    Oci(OciArgs),
    /// A HelmRepository: an index by HTTP, or a registry
    Helm(HelmArgs),
    /// A Bucket of a server with the S3 API
    Bucket(BucketArgs),
}

/// What every source has.
#[derive(Debug, Args)]
struct CommonArgs {
    #[command(flatten)]
    object: ObjectArgs,
    /// How long one fetch may take
    #[arg(long, value_name = "DURATION", value_parser = go_duration)]
    fetch_timeout: Option<GoDuration>,
    #[command(flatten)]
    path: PathArgs,
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("reference").required(true).multiple(true))]
pub(crate) struct GitArgs {
    #[command(flatten)]
    common: CommonArgs,
    /// Address, like https://host/org/repository or ssh://git@host/org/repository
    #[arg(long)]
    url: String,
    /// Branch
    #[arg(long, group = "reference")]
    branch: Option<String>,
    /// Tag
    #[arg(long, group = "reference")]
    tag: Option<String>,
    /// Range of versions; the highest tag in it counts
    #[arg(long, value_name = "RANGE", group = "reference")]
    tag_semver: Option<String>,
    /// Full name of a reference, like refs/heads/main
    #[arg(long, value_name = "REF", group = "reference")]
    ref_name: Option<String>,
    /// Commit; --branch says where to look for it
    #[arg(long, group = "reference")]
    commit: Option<String>,
    /// Secret with credentials, see `flotilla secret create git`
    #[arg(long, value_name = "NAME")]
    secret_ref: Option<String>,
    /// Secret with the address of a proxy
    #[arg(long, value_name = "NAME")]
    proxy_secret_ref: Option<String>,
    /// Fetch submodules too
    #[arg(long)]
    recurse_submodules: bool,
    /// Paths to leave out, in the format of .gitignore
    #[arg(long, value_name = "PATTERN", value_delimiter = ',')]
    ignore_paths: Vec<String>,
    /// Folders to fetch; all others are left out
    #[arg(long, value_name = "PATH", value_delimiter = ',')]
    sparse_checkout_paths: Vec<String>,
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("reference").required(true).multiple(true))]
pub(crate) struct OciArgs {
    #[command(flatten)]
    common: CommonArgs,
    /// Address, like oci://registry.example/org/manifests
    #[arg(long)]
    url: String,
    /// Tag
    #[arg(long, group = "reference")]
    tag: Option<String>,
    /// Range of versions; the highest tag in it counts
    #[arg(long, value_name = "RANGE", group = "reference")]
    tag_semver: Option<String>,
    /// Digest, like sha256:…
    #[arg(long, group = "reference")]
    digest: Option<String>,
    /// Whose credentials are taken: `generic` for those of the Secret
    #[arg(long, default_value = "generic")]
    provider: String,
    /// Secret with credentials, see `flotilla secret create oci`
    #[arg(long, value_name = "NAME")]
    secret_ref: Option<String>,
    /// Secret with certificates, see `flotilla secret create tls`
    #[arg(long, value_name = "NAME")]
    cert_ref: Option<String>,
    /// Secret with the address of a proxy
    #[arg(long, value_name = "NAME")]
    proxy_secret_ref: Option<String>,
    /// Speak HTTP without TLS
    #[arg(long)]
    insecure: bool,
    /// Paths to leave out, in the format of .gitignore
    #[arg(long, value_name = "PATTERN", value_delimiter = ',')]
    ignore_paths: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct HelmArgs {
    #[command(flatten)]
    common: CommonArgs,
    /// Address of the folder with index.yaml, or oci://registry.example/org
    #[arg(long)]
    url: String,
    /// Secret with credentials, see `flotilla secret create helm`
    #[arg(long, value_name = "NAME")]
    secret_ref: Option<String>,
    /// Whose credentials are taken for a registry: `generic` for those of the Secret
    #[arg(long, value_name = "PROVIDER")]
    oci_provider: Option<String>,
    /// Send credentials to the hosts that the index names too
    #[arg(long)]
    pass_credentials: bool,
}

#[derive(Debug, Args)]
pub(crate) struct BucketArgs {
    #[command(flatten)]
    common: CommonArgs,
    /// Name of the bucket
    #[arg(long, value_name = "NAME")]
    bucket_name: String,
    /// Host of the server, with its port if it has one
    #[arg(long, value_name = "HOST")]
    endpoint: String,
    /// Whose credentials are taken: `generic` for those of the Secret
    #[arg(long, default_value = "generic")]
    provider: String,
    /// Region
    #[arg(long)]
    region: Option<String>,
    /// Only objects whose names begin with this
    #[arg(long)]
    prefix: Option<String>,
    /// Speak HTTP without TLS
    #[arg(long)]
    insecure: bool,
    /// Secret with credentials, see `flotilla secret create bucket`
    #[arg(long, value_name = "NAME")]
    secret_ref: Option<String>,
    /// Secret with the address of a proxy
    #[arg(long, value_name = "NAME")]
    proxy_secret_ref: Option<String>,
    /// Paths to leave out, in the format of .gitignore
    #[arg(long, value_name = "PATTERN", value_delimiter = ',')]
    ignore_paths: Vec<String>,
}

impl CommonArgs {
    fn object(self, kind: &str, mut spec: Value) -> (Value, PathArgs) {
        spec["timeout"] = json!(self.fetch_timeout.map(|timeout| timeout.to_string()));
        (self.object.object(VERSION, kind, spec), self.path)
    }
}

impl SourceCommand {
    pub(super) fn object(self) -> (Value, PathArgs) {
        match self {
            Self::Git(args) => args.object(),
            Self::Oci(args) => args.object(),
            Self::Helm(args) => args.object(),
            Self::Bucket(args) => args.object(),
        }
    }
}

impl GitArgs {
    fn object(self) -> (Value, PathArgs) {
        // The first of these that is given counts, as for Flux.
        let reference = if let Some(commit) = self.commit {
            json!({"commit": commit, "branch": self.branch})
        } else if let Some(name) = self.ref_name {
            json!({"name": name})
        } else if let Some(range) = self.tag_semver {
            json!({"semver": range})
        } else if let Some(tag) = self.tag {
            json!({"tag": tag})
        } else {
            json!({"branch": self.branch})
        };
        let sparse = Some(self.sparse_checkout_paths).filter(|paths| !paths.is_empty());
        let spec = json!({
            "url": self.url,
            "ref": reference,
            "secretRef": secret(self.secret_ref.as_ref()),
            "proxySecretRef": secret(self.proxy_secret_ref.as_ref()),
            "recurseSubmodules": only_true(self.recurse_submodules),
            "ignore": ignored(&self.ignore_paths),
            "sparseCheckout": sparse,
        });
        self.common.object("GitRepository", spec)
    }
}

impl OciArgs {
    fn object(self) -> (Value, PathArgs) {
        let spec = json!({
            "url": self.url,
            "provider": self.provider,
            "ref": {"tag": self.tag, "semver": self.tag_semver, "digest": self.digest},
            "secretRef": secret(self.secret_ref.as_ref()),
            "certSecretRef": secret(self.cert_ref.as_ref()),
            "proxySecretRef": secret(self.proxy_secret_ref.as_ref()),
            "insecure": only_true(self.insecure),
            "ignore": ignored(&self.ignore_paths),
        });
        self.common.object("OCIRepository", spec)
    }
}

impl HelmArgs {
    fn object(self) -> (Value, PathArgs) {
        let is_registry = self.url.starts_with("oci://");
        let spec = json!({
            "url": self.url,
            "type": is_registry.then_some("oci"),
            "provider": self.oci_provider.filter(|_| is_registry),
            "secretRef": secret(self.secret_ref.as_ref()),
            "passCredentials": only_true(self.pass_credentials),
        });
        self.common.object("HelmRepository", spec)
    }
}

impl BucketArgs {
    fn object(self) -> (Value, PathArgs) {
        let spec = json!({
            "bucketName": self.bucket_name,
            "endpoint": self.endpoint,
            "provider": self.provider,
            "region": self.region,
            "prefix": self.prefix,
            "insecure": only_true(self.insecure),
            "secretRef": secret(self.secret_ref.as_ref()),
            "proxySecretRef": secret(self.proxy_secret_ref.as_ref()),
            "ignore": ignored(&self.ignore_paths),
        });
        self.common.object("Bucket", spec)
    }
}
