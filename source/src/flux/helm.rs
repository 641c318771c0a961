//! `HelmRepository` and `HelmChart`: an index by HTTP, or a registry; the chart by the digest that the index gives.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use flotilla_core::source::{HelmChart, HelmRepository, Scheme};
use flotilla_kustomize::files::{Files, MemoryFiles};
use flotilla_runtime::lock;
use flotilla_yaml::Node;
use reqwest::Url;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};

use super::archive::{State, Store, fetched};
use super::decode::{Decode, decoded};
use super::oci::repository;
use super::{Fetched, Policy, Secrets, SourceError};
use crate::http::{Conditional, Http, Tls, is_in_clear, parse_url, shown};
use crate::mirror::Mirrors;
use crate::oci::sha256;
use crate::semver::{Range, loose};

/// What registries call the layer that is a chart.
const CHART_LAYER: &str = "application/vnd.cncf.helm.chart.content.v1.tar+gzip";
/// Bytes of an index.
const INDEX_BYTES: u64 = 32 << 20;
/// Read one after the other: while it is read, an index takes ten times its size and more.
static ONE_INDEX: Mutex<()> = Mutex::new(());

/// A repository's index by itself: whether it is there, and as what.
pub(super) struct IndexSource {
    repository: HelmRepository,
    secrets: Secrets,
    timeout: Duration,
    policy: Policy,
    known: Option<(String, Fetched)>,
}

impl IndexSource {
    pub(super) fn new(
        repository: HelmRepository,
        secrets: Secrets,
        timeout: Duration,
        policy: Policy,
    ) -> Self {
        Self { repository, secrets, timeout, policy, known: None }
    }

    pub(super) fn last(&self) -> Option<Fetched> {
        self.known.as_ref().map(|(_, fetched)| fetched.clone())
    }

    /// An index has no content of its own.
    pub(super) fn at(&self, revision: &str) -> Fetched {
        Fetched { files: Arc::new(MemoryFiles::default()), revision: revision.to_owned() }
    }

    pub(super) fn fetch(&mut self, told: &dyn Decode) -> Result<Fetched, SourceError> {
        let access = Access::new(&self.repository, &self.secrets, &self.policy, self.timeout)?;
        let etag = self.known.as_ref().map(|(etag, _)| etag.as_str()).filter(|etag| !etag.is_empty());
        let (bytes, etag) = match (access.index(etag)?, &self.known) {
            (Conditional::NotModified, Some((_, fetched))) => return Ok(fetched.clone()),
            (Conditional::NotModified, None) => {
                return Err(SourceError::Wrong("it answered nothing to a first request".into()));
            }
            (Conditional::Body { bytes, etag }, _) => (bytes, etag.unwrap_or_default()),
        };
        decoded(told, &bytes, || read_index(&access, &bytes, |_| ()))?;
        let files: Arc<dyn Files> = Arc::new(MemoryFiles::default());
        let fetched = Fetched { files, revision: sha256(&bytes) };
        self.known = Some((etag, fetched.clone()));
        Ok(fetched)
    }
}

/// A chart of a repository.
pub(super) struct ChartSource {
    store: Store,
    chart: HelmChart,
    repository: HelmRepository,
    secrets: Secrets,
    timeout: Duration,
    policy: Policy,
    last: Option<(State, Arc<dyn Files>)>,
}

impl ChartSource {
    pub(super) fn open(
        dir: PathBuf,
        chart: HelmChart,
        repository: HelmRepository,
        secrets: Secrets,
        timeout: Duration,
        policy: Policy,
    ) -> Self {
        let store = Store::new(dir, policy.limits);
        let last = store.recall();
        Self { store, chart, repository, secrets, timeout, policy, last }
    }

    pub(super) fn last(&self) -> Option<Fetched> {
        self.last.clone().map(fetched)
    }

    pub(super) fn at(&self, revision: &str) -> Option<Fetched> {
        let files = self.store.at(revision)?;
        Some(Fetched { files, revision: revision.to_owned() })
    }

    pub(super) fn keep(&mut self, used: &BTreeSet<String>) -> Result<(), SourceError> {
        self.store.keep(used)
    }

    pub(super) fn fetch(&mut self, told: &dyn Decode) -> Result<Fetched, SourceError> {
        let put = match self.repository.url.scheme() {
            Scheme::Oci => self.fetch_by_registry(told)?,
            _ => self.fetch_by_index(told)?,
        };
        self.last = Some(put.clone());
        Ok(fetched(put))
    }

    fn fetch_by_index(&self, told: &dyn Decode) -> Result<(State, Arc<dyn Files>), SourceError> {
        let access = Access::new(&self.repository, &self.secrets, &self.policy, self.timeout)?;
        // What is known is the index's ETag and the chart's digest, a space between them.
        let (etag, digest) = self
            .last
            .as_ref()
            .map(|(state, _)| state.known.split_once(' ').unwrap_or_default())
            .unwrap_or_default();
        let (bytes, new_etag) = match (access.index(Some(etag).filter(|etag| !etag.is_empty()))?, &self.last)
        {
            (Conditional::NotModified, Some(last)) => return Ok(last.clone()),
            (Conditional::NotModified, None) => {
                return Err(SourceError::Wrong("it answered nothing to a first request".into()));
            }
            (Conditional::Body { bytes, etag }, _) => (bytes, etag.unwrap_or_default()),
        };
        let versions = decoded(told, &bytes, || {
            read_index(&access, &bytes, |index| versions(index, &self.chart.chart))
        })?;
        let names: Vec<&str> = versions.iter().map(|entry| entry.version.as_str()).collect();
        let version = self.choose(&names, &access.shown())?;
        let Some(entry) = versions.iter().find(|entry| entry.version == version) else {
            return Err(SourceError::Wrong(format!("{} lost version {version} of itself", access.shown())));
        };
        let known = format!("{new_etag} {}", entry.digest);
        if let Some((state, files)) = &self.last
            && state.revision == entry.version
            && !entry.digest.is_empty()
            && digest == entry.digest
        {
            return Ok((self.store.note(state, known)?, files.clone()));
        }
        let Some(url) = &entry.url else {
            return Err(SourceError::Wrong(format!(
                "{} names no address of {} {} (urls): fix the index, or ask for another version",
                access.shown(),
                self.chart.chart,
                entry.version
            )));
        };
        let bytes = access.chart(url, self.policy.limits.bytes)?;
        let found = sha256(&bytes);
        let wanted = entry.digest.strip_prefix("sha256:").unwrap_or(&entry.digest);
        if !wanted.is_empty() && found != format!("sha256:{wanted}") {
            return Err(SourceError::Wrong(format!(
                "{} {} of {} has the digest {found}, and its index says {wanted}",
                self.chart.chart,
                entry.version,
                access.shown()
            )));
        }
        self.store.put(entry.version.clone(), known, |tree| tree.unpack(&bytes, told))
    }

    fn fetch_by_registry(&self, told: &dyn Decode) -> Result<(State, Arc<dyn Files>), SourceError> {
        let base = self.repository.url.rest().trim_end_matches('/');
        let address = format!("{base}/{}", self.chart.chart);
        let mut registry =
            repository(&address, self.repository.insecure, &self.secrets, &self.policy, self.timeout)?;
        // A version with all its parts is a tag; `+` cannot stand in one.
        let tag = match crate::semver::strict(&self.chart.version) {
            Some(_) => self.chart.version.replace('+', "_"),
            None => {
                let tags: Vec<String> =
                    registry.tags()?.into_iter().map(|tag| tag.replace('_', "+")).collect();
                let names: Vec<&str> = tags.iter().map(String::as_str).collect();
                self.choose(&names, &format!("oci://{address}"))?.replace('+', "_")
            }
        };
        let version = tag.replace('_', "+");
        if let Some((state, files)) = &self.last
            && state.revision == version
            && registry.digest(&tag)?.is_some_and(|digest| digest == state.known)
        {
            return Ok((state.clone(), files.clone()));
        }
        let (digest, manifest) = registry.manifest(&tag)?;
        let layer = manifest.layers.iter().find(|layer| layer.media_type == CHART_LAYER);
        let none = || {
            SourceError::Wrong(format!(
                "oci://{address}:{tag} is not a Helm chart: it has no layer of {CHART_LAYER}"
            ))
        };
        let blob = registry.blob(&layer.ok_or_else(none)?.digest, self.policy.limits.bytes)?;
        self.store.put(version, digest, |tree| tree.unpack(&blob, told))
    }

    /// The version that is asked for: exactly, or the newest in a range.
    fn choose(&self, names: &[&str], address: &str) -> Result<String, SourceError> {
        let wanted = self.chart.version.trim();
        if let Some(exact) = names.iter().find(|name| **name == wanted) {
            return Ok((*exact).to_owned());
        }
        let range: Range =
            wanted.parse().map_err(|error: crate::RangeError| SourceError::Wrong(error.to_string()))?;
        let newest = range.newest(names.iter().copied(), loose).map(str::to_owned);
        newest.ok_or_else(|| SourceError::NoVersion {
            url: format!("{address} ({})", self.chart.chart),
            what: "version of the chart",
            range: wanted.to_owned(),
            there: names.iter().map(|name| (*name).to_owned()).collect(),
        })
    }
}

/// A repository by HTTP, with how to prove who asks.
struct Access {
    http: Http,
    base: Url,
    basic: Option<HeaderValue>,
    pass_credentials: bool,
    /// The author said that credentials may be read on the way.
    insecure: bool,
    /// Indexes name charts at public hosts too.
    mirrors: Mirrors,
    timeout: Duration,
}

impl Access {
    fn new(
        repository: &HelmRepository,
        secrets: &Secrets,
        policy: &Policy,
        timeout: Duration,
    ) -> Result<Self, SourceError> {
        let basic = match &secrets.secret {
            Some(secret) => secret.basic()?,
            None => None,
        };
        // Older objects have the certificates in the same secret.
        let tls = match (&secrets.cert, &secrets.secret) {
            (Some(cert), _) => cert.tls()?,
            (None, Some(secret)) if secret.ca()?.is_some() => secret.tls()?,
            _ => Tls::default(),
        };
        let base = format!("{}/", repository.url.as_str().trim_end_matches('/'));
        let mut header = None;
        if let Some((user, password)) = basic {
            use base64::Engine as _;
            let text = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
            let mut value = HeaderValue::from_str(&format!("Basic {text}")).map_err(|_| {
                SourceError::Wrong("the user name or password cannot go into a header".into())
            })?;
            value.set_sensitive(true);
            header = Some(value);
        }
        Ok(Self {
            http: Http::new(&tls, &policy.reach, None)?,
            base: parse_url(&base)?,
            basic: header,
            pass_credentials: repository.pass_credentials,
            insecure: repository.insecure,
            mirrors: policy.mirrors.clone(),
            timeout,
        })
    }

    fn shown(&self) -> String {
        shown(&self.base)
    }

    /// Credentials go to the repository's own host, unless the object says otherwise, and not where others could read
    /// them on the way, unless it says `insecure`.
    fn headers(&self, url: &Url) -> Result<HeaderMap, SourceError> {
        let mut headers = HeaderMap::new();
        let is_own = (url.scheme(), url.host_str(), url.port_or_known_default())
            == (self.base.scheme(), self.base.host_str(), self.base.port_or_known_default());
        if let Some(basic) = self.basic.as_ref().filter(|_| is_own || self.pass_credentials) {
            if is_in_clear(url) && !self.insecure {
                return Err(SourceError::CredentialsInClear { url: shown(url) });
            }
            headers.insert(AUTHORIZATION, basic.clone());
        }
        Ok(headers)
    }

    fn index(&self, etag: Option<&str>) -> Result<Conditional, SourceError> {
        let url = self.join("index.yaml")?;
        Ok(self.http.get_unless(&url, self.headers(&url)?, etag, INDEX_BYTES, self.timeout)?)
    }

    fn chart(&self, url: &str, limit: u64) -> Result<Vec<u8>, SourceError> {
        let url = self.join(url)?;
        match self.http.get_unless(&url, self.headers(&url)?, None, limit, self.timeout)? {
            Conditional::Body { bytes, .. } => Ok(bytes),
            Conditional::NotModified => Err(SourceError::Wrong(format!("{} answered nothing", shown(&url)))),
        }
    }

    fn join(&self, path: &str) -> Result<Url, SourceError> {
        if let Cow::Owned(moved) = self.mirrors.address(path) {
            return Ok(parse_url(&moved)?);
        }
        self.base
            .join(path)
            .map_err(|error| SourceError::Wrong(format!("'{path}' of {}: {error}", self.shown())))
    }
}

struct Entry {
    version: String,
    /// One without is an error where it is chosen: an older version in its place would be another than is asked for.
    url: Option<String>,
    /// In hexadecimal digits; "" where the index has none.
    digest: String,
}

/// What somebody takes from an index. Nothing else of it stays.
fn read_index<T>(access: &Access, bytes: &[u8], take: impl FnOnce(&Node) -> T) -> Result<T, SourceError> {
    let wrong = |reason: String| {
        SourceError::Wrong(format!("the index of {} cannot be read: {reason}", access.shown()))
    };
    let text = std::str::from_utf8(bytes).map_err(|_| wrong("it is not UTF-8 text".into()))?;
    let _one = lock(&ONE_INDEX);
    let options = flotilla_yaml::Options { skip_comments: true, last_key_wins: true, ..Default::default() };
    let documents = flotilla_yaml::parse_with(text, &options)
        .map_err(|error| wrong(format!("line {}: {}", error.pos.line, error.message)))?;
    let index = documents.into_iter().next().unwrap_or_else(Node::null);
    if index.at(&["entries"]).is_none_or(|entries| !entries.is_map()) {
        return Err(wrong("it has no entries; is this a Helm repository?".into()));
    }
    Ok(take(&index))
}

/// The versions of a chart.
fn versions(index: &Node, chart: &str) -> Vec<Entry> {
    let entries = index.at(&["entries", chart]).and_then(Node::as_seq);
    let read = |entry: &Node| -> Option<Entry> {
        let text = |key: &str| entry.at(&[key]).and_then(|node| node.text()).map(|text| text.to_string());
        let urls = entry.at(&["urls"]).and_then(Node::as_seq);
        let url = urls.and_then(|urls| urls.iter().next()?.text()).map(|url| url.to_string());
        Some(Entry { version: text("version")?, url, digest: text("digest").unwrap_or_default() })
    };
    entries.into_iter().flat_map(|entries| entries.iter()).filter_map(read).collect()
}

#[cfg(test)]
mod tests {
    use flotilla_core::source::SourceUrl;

    use super::*;
    use crate::flux::Secret;
    use crate::reach::Reach;

    #[test]
    fn credentials_are_not_sent_in_clear() {
        let data = [("username", "jo"), ("password", "s3cret")];
        let data = data.map(|(key, value)| (key.to_owned(), value.as_bytes().to_vec())).into();
        let secrets =
            Secrets { secret: Some(Secret { name: "ns/creds".into(), data }), ..Secrets::default() };
        for (base, url, insecure, sent) in [
            ("https://charts.example", "https://charts.example/index.yaml", false, true),
            ("http://charts.example", "http://charts.example/index.yaml", false, false),
            ("http://charts.example", "http://charts.example/index.yaml", true, true),
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080/index.yaml", false, true),
            // Where the index leads to counts, not where it is.
            ("https://charts.example", "http://files.example/a.tgz", false, false),
        ] {
            let repository = HelmRepository {
                url: SourceUrl::parse(base, &[Scheme::Http, Scheme::Https]).unwrap(),
                secret: None,
                cert_secret: None,
                pass_credentials: true,
                insecure,
            };
            let policy = Policy::new(Reach::Public(Vec::new()));
            let access = Access::new(&repository, &secrets, &policy, Duration::from_secs(1)).unwrap();
            match access.headers(&url.parse().unwrap()) {
                Ok(headers) => assert!(sent && headers.contains_key(AUTHORIZATION), "{base} {url}"),
                Err(error) => {
                    assert!(!sent && !error.to_string().contains("s3cret"), "{base} {url}: {error}")
                }
            }
        }
    }
}
