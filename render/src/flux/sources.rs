//! Flux's source kinds, read field by field. Source of behaviour: the CRDs of source-controller 1.9 and
//! source-watcher 2, and what their API packages say of defaults and precedence.

use flotilla_core::report::Problem;
use flotilla_core::source::{
    AliasPath, ArtifactGenerator, Bucket, CopyRule, CopyStrategy, GeneratedArtifact, GeneratorInput,
    GitInclude, GitReference, GitRepository, HelmChart, HelmRepository, OciLayer, OciReference,
    OciRepository, ReconcileStrategy, Scheme, SecretName, Source, SourceId, SourceKind, SourceSpec,
    SourceUrl, is_alias,
};
use flotilla_yaml::Node;

use super::older;
use crate::field::{Field, Object, Places, Wrong};

type Read<T> = Result<T, Wrong>;

/// Reads a source that stands at `at` (file and line), with what is worth saying though nothing is wrong.
///
/// # Errors
/// The first thing that is wrong or that we don't support, with its place.
pub(crate) fn read(
    id: &SourceId,
    node: &Node,
    places: &Places<'_>,
    at: &(String, u32),
) -> Result<(Source, Vec<Problem>), Vec<Problem>> {
    let nothing = Node::map();
    let spec = Field::new(node.get("spec").unwrap_or(&nothing), "spec");
    let mut notices = Vec::new();
    let is_older = older::is_older(node);
    let read = Reader { id, is_older, notices: &mut notices }.source(&spec);
    let notices = notices.into_iter().map(|wrong| places.problem(wrong, at).as_notice()).collect();
    read.map(|source| (source, notices)).map_err(|wrong| vec![places.problem(wrong, at)])
}

struct Reader<'a> {
    id: &'a SourceId,
    is_older: bool,
    notices: &'a mut Vec<Wrong>,
}

/// Of older versions: a file of values that goes before `valuesFiles`.
pub(crate) const VALUES_FILE: &str = "valuesFile";

/// What a look may take where the object does not say.
const TIMEOUT: u32 = 60;

impl Reader<'_> {
    fn source(&mut self, spec: &Field<'_>) -> Read<Source> {
        let older = if self.is_older { older::source_fields(self.id.kind) } else { &[] };
        let object = spec.object(&[self.known(), older].concat())?;
        for name in older.iter().filter(|name| **name != VALUES_FILE) {
            self.notices.extend(object.get(name).map(|field| field.wrong(older::WITHOUT_EFFECT)));
        }
        let content = match self.id.kind {
            SourceKind::GitRepository => SourceSpec::Git(self.git(&object)?),
            SourceKind::OciRepository => SourceSpec::Oci(oci(&object)?),
            SourceKind::Bucket => SourceSpec::Bucket(bucket(&object)?),
            SourceKind::HelmRepository => SourceSpec::HelmRepository(self.helm_repository(&object)?),
            SourceKind::HelmChart => SourceSpec::HelmChart(self.helm_chart(&object)?),
            SourceKind::ArtifactGenerator => SourceSpec::Generator(self.generator(&object)?),
            // No object has the second.
            SourceKind::ExternalArtifact | SourceKind::RemoteBase => SourceSpec::External,
        };
        let needs_interval = matches!(
            self.id.kind,
            SourceKind::GitRepository
                | SourceKind::OciRepository
                | SourceKind::Bucket
                | SourceKind::HelmChart
        );
        let interval = match object.get("interval") {
            Some(field) => field.seconds()?,
            None if needs_interval => object.need("interval")?.seconds()?,
            None => 60,
        };
        Ok(Source {
            id: self.id.clone(),
            interval,
            timeout: object.get("timeout").map_or(Ok(TIMEOUT), Field::seconds)?,
            suspend: object.bool("suspend")?,
            spec: content,
        })
    }

    fn known(&self) -> &'static [&'static str] {
        match self.id.kind {
            SourceKind::GitRepository => &[
                "ignore",
                "include",
                "interval",
                "provider",
                "proxySecretRef",
                "recurseSubmodules",
                "ref",
                "secretRef",
                "serviceAccountName",
                "sparseCheckout",
                "suspend",
                "timeout",
                "url",
                "verify",
            ],
            SourceKind::OciRepository => &[
                "certSecretRef",
                "ignore",
                "insecure",
                "interval",
                "layerSelector",
                "provider",
                "proxySecretRef",
                "ref",
                "secretRef",
                "serviceAccountName",
                "suspend",
                "timeout",
                "url",
                "verify",
            ],
            SourceKind::Bucket => &[
                "bucketName",
                "certSecretRef",
                "endpoint",
                "ignore",
                "insecure",
                "interval",
                "prefix",
                "provider",
                "proxySecretRef",
                "region",
                "secretRef",
                "serviceAccountName",
                "sts",
                "suspend",
                "timeout",
            ],
            SourceKind::HelmRepository => &[
                "accessFrom",
                "certSecretRef",
                "insecure",
                "interval",
                "passCredentials",
                "provider",
                "secretRef",
                "suspend",
                "timeout",
                "type",
                "url",
            ],
            SourceKind::HelmChart => &[
                "chart",
                "ignoreMissingValuesFiles",
                "interval",
                "reconcileStrategy",
                "sourceRef",
                "suspend",
                "valuesFiles",
                "verify",
                "version",
            ],
            SourceKind::ArtifactGenerator => &["artifacts", "commonMetadata", "pathPattern", "sources"],
            SourceKind::ExternalArtifact | SourceKind::RemoteBase => &["sourceRef"],
        }
    }

    fn git(&mut self, object: &Object<'_>) -> Read<GitRepository> {
        generic_only(object, &["generic", "github"])?;
        let is_github =
            object.get("provider").is_some_and(|field| field.str().is_ok_and(|name| name == "github"));
        if let (true, false, Some(field)) =
            (is_github, object.get("secretRef").is_some(), object.get("provider"))
        {
            return Err(field.wrong("'github' needs a secretRef with the data of a GitHub App"));
        }
        let schemes = [Scheme::Http, Scheme::Https, Scheme::Ssh, Scheme::File];
        let mut include = Vec::new();
        for item in object.get("include").map(Field::items).transpose()?.unwrap_or_default() {
            let item = item.object(&["fromPath", "repository", "toPath"])?;
            let name = item.need("repository")?.object(&["name"])?.need("name")?.text()?;
            include.push(GitInclude {
                from: item.text("fromPath")?.unwrap_or_default(),
                to: item.text("toPath")?.unwrap_or_else(|| name.clone()),
                repository: SourceId::new(SourceKind::GitRepository, &self.id.namespace, name),
            });
        }
        if let Some(verify) = object.get("verify") {
            verify.object(&["mode", "secretRef"])?;
        }
        Ok(GitRepository {
            url: url(object, &schemes)?,
            reference: git_reference(object)?,
            ignore: ignore(object)?,
            include,
            recurse_submodules: object.bool("recurseSubmodules")?,
            sparse_checkout: object.get("sparseCheckout").map_or(Ok(Vec::new()), Field::strings)?,
            secret: secret(object, "secretRef")?,
            github_app: is_github,
            proxy_secret: secret(object, "proxySecretRef")?,
            verify: object.get("verify").is_some(),
        })
    }

    fn helm_repository(&mut self, object: &Object<'_>) -> Read<HelmRepository> {
        generic_only(object, &["generic"])?;
        let oci = object.get("type").map_or(Ok(false), |f| f.choice(&[("default", false), ("oci", true)]))?;
        let schemes: &[Scheme] = if oci { &[Scheme::Oci] } else { &[Scheme::Http, Scheme::Https] };
        if let Some(access) = object.get("accessFrom") {
            self.notices.push(access.wrong("has no effect, as in Flux, which does not act on it either"));
        }
        Ok(HelmRepository {
            url: url(object, schemes)?,
            secret: secret(object, "secretRef")?,
            cert_secret: secret(object, "certSecretRef")?,
            pass_credentials: object.bool("passCredentials")?,
            insecure: object.bool("insecure")?,
        })
    }

    fn helm_chart(&mut self, object: &Object<'_>) -> Read<HelmChart> {
        let source = object.need("sourceRef")?.object(&["apiVersion", "kind", "name"])?;
        let kind = source.need("kind")?.choice(&CHART_SOURCES)?;
        let source = SourceId::new(kind, &self.id.namespace, source.need("name")?.text()?);
        chart(object, source)
    }

    fn generator(&mut self, object: &Object<'_>) -> Read<ArtifactGenerator> {
        let kinds = [
            ("Bucket", SourceKind::Bucket),
            ("GitRepository", SourceKind::GitRepository),
            ("OCIRepository", SourceKind::OciRepository),
            ("HelmChart", SourceKind::HelmChart),
            ("ExternalArtifact", SourceKind::ExternalArtifact),
        ];
        let mut inputs: Vec<GeneratorInput> = Vec::new();
        for item in object.need("sources")?.items()? {
            let item = item.object(&["alias", "kind", "name", "namespace"])?;
            let (alias, kind) = (item.need("alias")?.text()?, item.need("kind")?.choice(&kinds)?);
            let namespace = item.text("namespace")?.unwrap_or_else(|| self.id.namespace.clone());
            let field = item.need("alias")?;
            if !is_alias(&alias) || alias == "artifact" {
                return Err(field.wrong(format!("'{alias}' cannot name a source of a generator")));
            }
            if inputs.iter().any(|input| input.alias == alias) {
                return Err(field.wrong(format!("'{alias}' names two sources")));
            }
            let source = SourceId::new(kind, namespace, item.need("name")?.text()?);
            inputs.push(GeneratorInput { alias, source });
        }
        let alias = |field: &Field<'_>| -> Read<String> {
            let text = field.str()?;
            let name =
                text.strip_prefix('@').filter(|alias| inputs.iter().any(|input| input.alias == *alias));
            name.map(str::to_owned).ok_or_else(|| {
                field.wrong(format!("'{text}' is not a source of this generator; write @ALIAS"))
            })
        };
        let alias_path = |field: &Field<'_>| -> Read<AliasPath> {
            let path: AliasPath = field.so(field.str()?.parse::<AliasPath>())?;
            if inputs.iter().any(|input| input.alias == path.alias) {
                return Ok(path);
            }
            Err(field.wrong(format!("'@{}' is not a source of this generator", path.alias)))
        };
        let mut artifacts: Vec<GeneratedArtifact> = Vec::new();
        for item in object.need("artifacts")?.items()? {
            let item = item.object(&["copy", "name", "originRevision", "revision"])?;
            let name = item.need("name")?.text()?;
            if artifacts.iter().any(|artifact| artifact.name == name) {
                return Err(item.need("name")?.wrong(format!("'{name}' names two artifacts")));
            }
            let mut copy = Vec::new();
            for rule in item.need("copy")?.items()? {
                let rule = rule.object(&["exclude", "from", "strategy", "to"])?;
                let to = rule.need("to")?;
                copy.push(CopyRule {
                    from: alias_path(rule.need("from")?)?,
                    to: to
                        .str()?
                        .strip_prefix("@artifact/")
                        .ok_or_else(|| to.wrong("must be of the form @artifact/PATH"))?
                        .to_owned(),
                    exclude: rule.get("exclude").map_or(Ok(Vec::new()), Field::strings)?,
                    strategy: rule.get("strategy").map_or(Ok(CopyStrategy::Overwrite), |field| {
                        field.choice(&[
                            ("Overwrite", CopyStrategy::Overwrite),
                            ("Merge", CopyStrategy::Merge),
                            ("Extract", CopyStrategy::Extract),
                        ])
                    })?,
                });
            }
            artifacts.push(GeneratedArtifact {
                name,
                revision: item.get("revision").map(alias).transpose()?,
                origin_revision: item.get("originRevision").map(alias).transpose()?,
                copy,
            });
        }
        if let Some(metadata) = object.get("commonMetadata") {
            metadata.object(&["annotations", "labels"])?;
            let message = "has no effect: a generated ExternalArtifact is not an object in the cluster here";
            self.notices.push(metadata.wrong(message));
        }
        let path_pattern = match object.get("pathPattern") {
            Some(field) if !field.str()?.is_empty() => Some(alias_path(field)?),
            _ => None,
        };
        Ok(ArtifactGenerator { inputs, path_pattern, artifacts })
    }
}

/// The kinds that a chart may come from.
pub(crate) const CHART_SOURCES: [(&str, SourceKind); 3] = [
    ("HelmRepository", SourceKind::HelmRepository),
    ("GitRepository", SourceKind::GitRepository),
    ("Bucket", SourceKind::Bucket),
];

/// The fields that a `HelmChart` shares with a HelmRelease's `spec.chart.spec`.
pub(crate) fn chart(object: &Object<'_>, source: SourceId) -> Read<HelmChart> {
    if let Some(verify) = object.get("verify") {
        verify.object(&["matchOIDCIdentity", "provider", "secretRef"])?;
    }
    Ok(HelmChart {
        chart: object.need("chart")?.text()?,
        version: object.text("version")?.unwrap_or_else(|| "*".to_owned()),
        source,
        reconcile: object.get("reconcileStrategy").map_or(Ok(ReconcileStrategy::ChartVersion), |field| {
            field.choice(&[
                ("ChartVersion", ReconcileStrategy::ChartVersion),
                ("Revision", ReconcileStrategy::Revision),
            ])
        })?,
        values_files: values_files(object)?,
        ignore_missing_values_files: object.bool("ignoreMissingValuesFiles")?,
        verify: object.get("verify").is_some(),
    })
}

fn values_files(object: &Object<'_>) -> Read<Vec<String>> {
    let first = object.text(VALUES_FILE)?;
    let rest = object.get("valuesFiles").map_or(Ok(Vec::new()), Field::strings)?;
    Ok(first.into_iter().chain(rest).collect())
}

fn oci(object: &Object<'_>) -> Read<OciRepository> {
    generic_only(object, &["generic"])?;
    if let Some(verify) = object.get("verify") {
        verify.object(&["matchOIDCIdentity", "provider", "secretRef", "trustedRootSecretRef"])?;
    }
    let layer = match object.get("layerSelector") {
        None => OciLayer::default(),
        Some(field) => {
            let selector = field.object(&["mediaType", "operation"])?;
            let copy = selector
                .get("operation")
                .map_or(Ok(false), |field| field.choice(&[("extract", false), ("copy", true)]))?;
            OciLayer { media_type: selector.text("mediaType")?, copy }
        }
    };
    Ok(OciRepository {
        url: url(object, &[Scheme::Oci])?,
        reference: oci_reference(object)?,
        layer,
        ignore: ignore(object)?,
        insecure: object.bool("insecure")?,
        secret: secret(object, "secretRef")?,
        cert_secret: secret(object, "certSecretRef")?,
        proxy_secret: secret(object, "proxySecretRef")?,
        verify: object.get("verify").is_some(),
    })
}

fn bucket(object: &Object<'_>) -> Read<Bucket> {
    generic_only(object, &["generic", "aws"])?;
    if let Some(sts) = object.get("sts") {
        return Err(sts.wrong("is not supported; give the bucket a secretRef with an access key"));
    }
    let endpoint = object.need("endpoint")?;
    if endpoint.str()?.contains("://") {
        return Err(
            endpoint.wrong("is a host with an optional port, without scheme; `insecure` chooses http")
        );
    }
    let secret_ref = secret(object, "secretRef")?;
    if let (Some(provider), None) = (object.text("provider")?.filter(|p| p != "generic"), &secret_ref) {
        let message =
            format!("'{provider}' without a secretRef means a cloud identity, which is not supported");
        return Err(object.need("provider")?.wrong(message));
    }
    Ok(Bucket {
        bucket: object.need("bucketName")?.text()?,
        endpoint: endpoint.text()?,
        region: object.text("region")?,
        prefix: object.text("prefix")?,
        ignore: ignore(object)?,
        insecure: object.bool("insecure")?,
        secret: secret_ref,
        cert_secret: secret(object, "certSecretRef")?,
        proxy_secret: secret(object, "proxySecretRef")?,
    })
}

/// Cloud identities are of the machine that a controller runs on; the hub has none.
fn generic_only(object: &Object<'_>, providers: &[&str]) -> Read<()> {
    if let Some(field) = object.get("provider")
        && !providers.contains(&field.str()?)
    {
        let message =
            format!("'{}' is not supported; use generic, with credentials in a Secret", field.str()?);
        return Err(field.wrong(message));
    }
    match object.get("serviceAccountName") {
        Some(field) if !field.str()?.is_empty() => Err(field.wrong(
            "is not supported: the hub has no access to service accounts; name a Secret by spec.secretRef",
        )),
        _ => Ok(()),
    }
}

fn url(object: &Object<'_>, schemes: &[Scheme]) -> Read<SourceUrl> {
    let field = object.need("url")?;
    field.so(SourceUrl::parse(field.str()?, schemes))
}

fn secret(object: &Object<'_>, name: &str) -> Read<Option<SecretName>> {
    Ok(object.name_of(name)?.map(SecretName))
}

fn ignore(object: &Object<'_>) -> Read<Option<String>> {
    object.get("ignore").map(|field| field.str().map(str::to_owned)).transpose()
}

/// What source-controller prefers: commit, name, semver, tag, branch.
fn git_reference(object: &Object<'_>) -> Read<GitReference> {
    let Some(field) = object.get("ref") else { return Ok(GitReference::Branch("master".to_owned())) };
    let reference = field.object(&["branch", "commit", "name", "semver", "tag"])?;
    let branch = reference.text("branch")?;
    Ok(if let Some(commit) = reference.text("commit")? {
        GitReference::Commit { commit, branch }
    } else if let Some(name) = reference.text("name")? {
        GitReference::Name(name)
    } else if let Some(range) = reference.text("semver")? {
        GitReference::Semver(range)
    } else if let Some(tag) = reference.text("tag")? {
        GitReference::Tag(tag)
    } else {
        GitReference::Branch(branch.unwrap_or_else(|| "master".to_owned()))
    })
}

/// What source-controller prefers: digest, semver, tag.
fn oci_reference(object: &Object<'_>) -> Read<OciReference> {
    let Some(field) = object.get("ref") else { return Ok(OciReference::Tag("latest".to_owned())) };
    let reference = field.object(&["digest", "semver", "semverFilter", "tag"])?;
    Ok(if let Some(digest) = reference.text("digest")? {
        OciReference::Digest(digest)
    } else if let Some(range) = reference.text("semver")? {
        OciReference::Semver { range, filter: reference.text("semverFilter")? }
    } else {
        OciReference::Tag(reference.text("tag")?.unwrap_or_else(|| "latest".to_owned()))
    })
}
