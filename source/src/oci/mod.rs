//! OCI registries: tags, manifests and blobs by the distribution API, with the ways to prove who asks that it knows.

mod auth;

use std::time::Duration;

use reqwest::blocking::Response;
use reqwest::header::{ACCEPT, AUTHORIZATION, LINK, WWW_AUTHENTICATE};
use reqwest::{Method, StatusCode, Url};
use serde::Deserialize;

use crate::http::{Http, HttpError, body, parse_url, shown};
pub(crate) use auth::credentials;
use auth::{Challenge, Service, fetch_token};

const MANIFESTS: &str = "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, \
                         application/vnd.docker.distribution.manifest.v2+json, \
                         application/vnd.docker.distribution.manifest.list.v2+json";
const MANIFEST_BYTES: u64 = 4 << 20;
const TAG_BYTES: u64 = 16 << 20;
/// Pages of tags.
const PAGES: usize = 1000;

/// What a registry answers is not to be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OciError {
    #[error(transparent)]
    Http(#[from] HttpError),
    #[error("'{0}' is not an address in a registry; write oci://HOST/REPOSITORY")]
    Address(String),
    #[error("the answer of {url} is not what the distribution API asks for: {reason}")]
    Answer { url: String, reason: String },
    #[error("what came from {url} has the digest {found}, not {wanted}")]
    Digest { url: String, wanted: String, found: String },
    #[error("the dockerconfigjson cannot be read: {0}")]
    DockerConfig(String),
    #[error("the registry asks to get a token from {0}, to which credentials are not sent in clear text")]
    TokenInClear(String),
    #[error(
        "the registry asks to get a token from {realm}, which is not of the site of {registry}, so credentials are not sent there; the hub's operator can allow it with --allow-source HOST"
    )]
    TokenElsewhere { realm: String, registry: String },
}

/// A repository in a registry.
pub(crate) struct Repository {
    http: Http,
    /// `https://HOST/v2/REPOSITORY/`
    base: Url,
    name: String,
    credentials: Option<(String, String)>,
    authorization: Option<String>,
    within: Duration,
}

/// An image manifest, as far as it concerns files.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Manifest {
    pub(crate) layers: Vec<Descriptor>,
    /// Of an index.
    manifests: Vec<Descriptor>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Descriptor {
    pub(crate) media_type: String,
    pub(crate) digest: String,
    platform: Option<Platform>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Platform {
    architecture: String,
    os: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Tags {
    tags: Option<Vec<String>>,
}

impl Repository {
    /// `address` is `HOST[:PORT]/REPOSITORY`, without scheme and tag.
    pub(crate) fn new(
        http: Http,
        address: &str,
        plain: bool,
        credentials: Option<(String, String)>,
        within: Duration,
    ) -> Result<Self, OciError> {
        let wrong = || OciError::Address(address.to_owned());
        let (host, name) = address.split_once('/').ok_or_else(wrong)?;
        let name = name.trim_matches('/');
        let is_name = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
        // Whoever is at the host is looked up by this text: nothing in it may mean anything else in a URL.
        let is_host = |c: char| c.is_ascii_alphanumeric() || ".-_:[]".contains(c);
        if host.is_empty()
            || !host.chars().all(is_host)
            || name.is_empty()
            || !name.chars().all(is_name)
            || name.contains("..")
        {
            return Err(wrong());
        }
        // Docker's own registry is reached under another name, where what has no owner is its own.
        let (host, name) = match host {
            "docker.io" | "index.docker.io" if name.contains('/') => {
                ("registry-1.docker.io", name.to_owned())
            }
            "docker.io" | "index.docker.io" => ("registry-1.docker.io", format!("library/{name}")),
            host => (host, name.to_owned()),
        };
        let scheme = if plain { "http" } else { "https" };
        let base = parse_url(&format!("{scheme}://{host}/v2/{name}/"))?;
        Ok(Self { http, base, name, credentials, authorization: None, within })
    }

    fn url(&self, path: &str) -> Result<Url, OciError> {
        self.base
            .join(path)
            .map_err(|error| OciError::Answer { url: shown(&self.base), reason: error.to_string() })
    }

    /// Whether credentials may go there: to the registry itself only, and not in clear, wherever a page of tags leads to.
    fn is_own(&self, url: &Url) -> bool {
        (url.scheme(), url.host_str(), url.port_or_known_default())
            == (self.base.scheme(), self.base.host_str(), self.base.port_or_known_default())
    }

    /// One request; where the registry asks who asks, a second one that says so.
    fn send(&mut self, method: &Method, url: &Url, accept: &str) -> Result<Response, OciError> {
        for attempt in 0..2 {
            let mut request = self.http.request(method.clone(), url)?.header(ACCEPT, accept);
            if let Some(authorization) = self.authorization.as_ref().filter(|_| self.is_own(url)) {
                request = request.header(AUTHORIZATION, authorization);
            }
            let response = self.http.send_any(request, self.within)?;
            if response.status() != StatusCode::UNAUTHORIZED || attempt == 1 {
                return Ok(self.http.check(response)?);
            }
            let challenge = response.headers().get(WWW_AUTHENTICATE).and_then(|value| value.to_str().ok());
            let challenge = challenge.and_then(Challenge::parse);
            self.authorization = match (challenge, &self.credentials) {
                (Some(Challenge::Bearer { realm, service }), credentials) => {
                    let scope = format!("repository:{}:pull", self.name);
                    let service = Service { realm: &realm, name: &service, scope: &scope };
                    let token =
                        fetch_token(&self.http, &self.base, &service, credentials.as_ref(), self.within)?;
                    Some(format!("Bearer {token}"))
                }
                (Some(Challenge::Basic), Some(credentials)) => Some(auth::basic(credentials)),
                _ => return Ok(self.http.check(response)?),
            };
        }
        unreachable!("the second attempt returns")
    }

    /// The digest that a tag has now, without its manifest; `None` where the registry does not say.
    pub(crate) fn digest(&mut self, reference: &str) -> Result<Option<String>, OciError> {
        let url = self.url(&format!("manifests/{reference}"))?;
        let response = self.send(&Method::HEAD, &url, MANIFESTS)?;
        let digest = response.headers().get("docker-content-digest").and_then(|value| value.to_str().ok());
        Ok(digest.filter(|digest| is_digest(digest)).map(str::to_owned))
    }

    /// The manifest of a tag or digest, and its digest. Of an index, that of the first image for Linux on AMD64, or the
    /// first at all; the digest is the index's then.
    pub(crate) fn manifest(&mut self, reference: &str) -> Result<(String, Manifest), OciError> {
        let (digest, manifest) = self.one_manifest(reference)?;
        if manifest.layers.is_empty() && !manifest.manifests.is_empty() {
            let is_usual = |d: &&Descriptor| {
                d.platform
                    .as_ref()
                    .is_some_and(|p| (p.os.as_str(), p.architecture.as_str()) == ("linux", "amd64"))
            };
            let chosen =
                manifest.manifests.iter().find(is_usual).unwrap_or(&manifest.manifests[0]).digest.clone();
            return Ok((digest, self.one_manifest(&chosen)?.1));
        }
        Ok((digest, manifest))
    }

    fn one_manifest(&mut self, reference: &str) -> Result<(String, Manifest), OciError> {
        let url = self.url(&format!("manifests/{reference}"))?;
        let response = self.send(&Method::GET, &url, MANIFESTS)?;
        let bytes = body(response, MANIFEST_BYTES)?;
        let digest = sha256(&bytes);
        if is_digest(reference) && reference != digest {
            return Err(OciError::Digest { url: shown(&url), wanted: reference.to_owned(), found: digest });
        }
        let manifest = serde_json::from_slice(&bytes)
            .map_err(|error| OciError::Answer { url: shown(&url), reason: error.to_string() })?;
        Ok((digest, manifest))
    }

    /// A blob, whose digest is held against its content.
    pub(crate) fn blob(&mut self, digest: &str, limit: u64) -> Result<Vec<u8>, OciError> {
        let url = self.url(&format!("blobs/{digest}"))?;
        let response = self.send(&Method::GET, &url, "*/*")?;
        let bytes = body(response, limit)?;
        let found = sha256(&bytes);
        if found != digest {
            return Err(OciError::Digest { url: shown(&url), wanted: digest.to_owned(), found });
        }
        Ok(bytes)
    }

    /// All tags.
    pub(crate) fn tags(&mut self) -> Result<Vec<String>, OciError> {
        let mut tags = Vec::new();
        let mut url = self.url("tags/list")?;
        for _ in 0..PAGES {
            let response = self.send(&Method::GET, &url, "application/json")?;
            let next = response.headers().get(LINK).and_then(|value| value.to_str().ok()).and_then(next_page);
            let bytes = body(response, TAG_BYTES)?;
            let page: Tags = serde_json::from_slice(&bytes)
                .map_err(|error| OciError::Answer { url: shown(&url), reason: error.to_string() })?;
            tags.extend(page.tags.unwrap_or_default());
            match next {
                Some(next) => {
                    url = url
                        .join(&next)
                        .map_err(|error| OciError::Answer { url: shown(&url), reason: error.to_string() })?;
                }
                None => return Ok(tags),
            }
        }
        Err(OciError::Answer {
            url: shown(&url),
            reason: format!("there are more than {PAGES} pages of tags"),
        })
    }
}

/// `<ADDRESS>; rel="next"`
fn next_page(link: &str) -> Option<String> {
    let (address, rest) = link.trim().strip_prefix('<')?.split_once('>')?;
    (rest.contains("rel=\"next\"") || rest.contains("rel=next")).then(|| address.to_owned())
}

pub(crate) fn is_digest(text: &str) -> bool {
    text.strip_prefix("sha256:")
        .is_some_and(|hex| hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit()))
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    let hex: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::Tls;
    use crate::reach::Reach;

    #[test]
    fn a_page_of_tags_leads_credentials_nowhere_else() {
        let http = Http::new(&Tls::default(), &Reach::Public(Vec::new()), None).unwrap();
        let registry = Repository::new(http, "r.example/a", false, None, Duration::from_secs(1)).unwrap();
        for (next, is_own) in [
            ("/v2/a/tags/list?last=1", true),
            ("https://r.example:443/v2/a/tags/list", true),
            ("https://r.example:8443/v2/a/tags/list", false),
            ("https://other.example/v2/a/tags/list", false),
            ("//other.example/v2/a/tags/list", false),
            ("http://r.example/v2/a/tags/list", false),
            ("http://r.example:443/v2/a/tags/list", false),
        ] {
            assert_eq!(registry.is_own(&registry.base.join(next).unwrap()), is_own, "{next}");
        }
    }
}
