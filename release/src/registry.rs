//! Pushes an image to a registry, by the OCI Distribution Specification 1.1.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::blocking::{Client, RequestBuilder, Response};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, LOCATION, WWW_AUTHENTICATE};
use reqwest::{Method, StatusCode, Url};
use serde::Deserialize;
use serde_json::Value;

use crate::layout::{INDEX, Layout, MANIFEST};

/// A layer of a large program over a slow line.
const WITHIN: Duration = Duration::from_secs(30 * 60);
const CONNECT: Duration = Duration::from_secs(10);

/// Who pushes.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    pub user: String,
    pub password: String,
}

impl Credentials {
    fn basic(&self) -> String {
        format!("Basic {}", STANDARD.encode(format!("{}:{}", self.user, self.password)))
    }

    /// Those for a registry (`HOST[:PORT]`) in the configuration that `docker login` writes; `None` where it has none.
    ///
    /// # Errors
    /// Where that is no such configuration, or keeps its credentials in another program.
    pub fn from_docker_config(config: &[u8], registry: &str) -> anyhow::Result<Option<Self>> {
        let config: Value = serde_json::from_slice(config).context("it is not JSON")?;
        let auths = config["auths"].as_object().into_iter().flatten();
        let host = |key: &str| {
            let key = key.split_once("://").map_or(key, |(_, rest)| rest);
            key.split('/').next().unwrap_or_default().to_owned()
        };
        let Some((_, entry)) = auths.into_iter().find(|(key, _)| host(key) == registry) else {
            return Ok(None);
        };
        let Some(auth) = entry["auth"].as_str().filter(|auth| !auth.is_empty()) else {
            bail!(
                "it has no `auth` for {registry}; credentials that a helper keeps are not read: use --username and --password-file"
            );
        };
        let wrong = || format!("`auth` of {registry} is not USER:PASSWORD in base64");
        let text =
            String::from_utf8(STANDARD.decode(auth.trim()).with_context(wrong)?).with_context(wrong)?;
        let (user, password) = text.split_once(':').with_context(wrong)?;
        Ok(Some(Self { user: user.to_owned(), password: password.to_owned() }))
    }
}

/// A repository of a registry.
pub struct Repository {
    client: Client,
    /// `https://HOST/v2/REPOSITORY/`
    base: Url,
    name: String,
    credentials: Option<Credentials>,
    authorization: Option<String>,
}

#[derive(Deserialize)]
struct Token {
    token: Option<String>,
    access_token: Option<String>,
}

impl Repository {
    /// `address` is `HOST[:PORT]/REPOSITORY`. Plain http is spoken with this machine only.
    ///
    /// # Errors
    /// Where the address is none, or this machine has no TLS.
    pub fn new(address: &str, credentials: Option<Credentials>) -> anyhow::Result<Self> {
        let (host, name) = address
            .split_once('/')
            .filter(|(host, name)| !host.is_empty() && !name.is_empty())
            .with_context(|| {
                format!("'{address}' is not an address in a registry: HOST[:PORT]/REPOSITORY")
            })?;
        let scheme = if is_this_machine(host) { "http" } else { "https" };
        let base = format!("{scheme}://{host}/v2/{name}/");
        let base =
            Url::parse(&base).with_context(|| format!("'{address}' is not an address in a registry"))?;
        // The HTTP client takes the process's provider; whoever installed one already keeps it.
        rustls::crypto::ring::default_provider().install_default().ok();
        let client = Client::builder().connect_timeout(CONNECT).timeout(WITHIN).build()?;
        Ok(Self { client, base, name: name.to_owned(), credentials, authorization: None })
    }

    /// Pushes what the registry does not have of an image, and then lets the tag name it.
    ///
    /// # Errors
    /// Where the registry refuses or does not answer. The tag then names what it named before.
    pub fn push(&mut self, layout: &Layout, tag: &str) -> anyhow::Result<()> {
        for (digest, content) in layout.contents() {
            self.push_content(digest, content)
                .with_context(|| format!("cannot push {digest} to {}", self.base))?;
        }
        let manifests = layout.manifests();
        let manifests = manifests.iter().map(|digest| (digest.as_str(), digest.as_str(), MANIFEST));
        for (reference, digest, kind) in manifests.chain([(tag, layout.digest(), INDEX)]) {
            let content = layout.blob(digest).with_context(|| format!("the image has no {digest}"))?;
            let url = self.base.join(&format!("manifests/{reference}"))?;
            let sent = self.send(&Method::PUT, &url, Some((kind, content)));
            sent.and_then(|response| expect(response, &[StatusCode::CREATED]))
                .with_context(|| format!("cannot push the manifest {reference} to {}", self.base))?;
        }
        Ok(())
    }

    fn push_content(&mut self, digest: &str, content: &[u8]) -> anyhow::Result<()> {
        let known = self.send(&Method::HEAD, &self.base.join(&format!("blobs/{digest}"))?, None)?;
        if known.status() == StatusCode::OK {
            return Ok(());
        }
        expect(known, &[StatusCode::NOT_FOUND])?;
        let opened = self.send(&Method::POST, &self.base.join("blobs/uploads/")?, None)?;
        let opened = expect(opened, &[StatusCode::ACCEPTED])?;
        let location = opened.headers().get(LOCATION).and_then(|value| value.to_str().ok());
        let mut upload = opened.url().join(location.context("the registry does not say where to put it")?)?;
        upload.query_pairs_mut().append_pair("digest", digest);
        let sent = self.send(&Method::PUT, &upload, Some(("application/octet-stream", content)))?;
        expect(sent, &[StatusCode::CREATED]).map(drop)
    }

    /// One request; where the registry asks who asks, a second one that says so.
    fn send(&mut self, method: &Method, url: &Url, body: Option<(&str, &[u8])>) -> anyhow::Result<Response> {
        let response = self.request(method, url, body).send()?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return Ok(response);
        }
        let challenges = response.headers().get_all(WWW_AUTHENTICATE).iter();
        let challenges: Vec<_> =
            challenges.filter_map(|value| value.to_str().ok().map(str::to_owned)).collect();
        self.authorization = Some(self.answer(&challenges)?);
        Ok(self.request(method, url, body).send()?)
    }

    fn request(&self, method: &Method, url: &Url, body: Option<(&str, &[u8])>) -> RequestBuilder {
        let mut request = self.client.request(method.clone(), url.clone());
        // Uploads may be elsewhere, where who we are is nobody's business.
        if let Some(authorization) =
            self.authorization.as_ref().filter(|_| url.origin() == self.base.origin())
        {
            request = request.header(AUTHORIZATION, authorization);
        }
        match body {
            Some((kind, content)) => request.header(CONTENT_TYPE, kind).body(content.to_vec()),
            None => request,
        }
    }

    /// What to say to a registry that asks.
    fn answer(&self, challenges: &[String]) -> anyhow::Result<String> {
        let asked: Vec<_> = challenges
            .iter()
            .flat_map(|text| http_auth::parse_challenges(text).unwrap_or_default())
            .collect();
        let find = |scheme: &str| asked.iter().find(|it| it.scheme.eq_ignore_ascii_case(scheme));
        if let Some(bearer) = find("bearer") {
            let value = |key: &str| {
                let found = bearer.params.iter().find(|(name, _)| name.eq_ignore_ascii_case(key));
                found.map(|(_, value)| value.to_unescaped())
            };
            return self.token(
                &value("realm").context("the registry does not say where tokens are")?,
                value("service"),
            );
        }
        match (find("basic"), &self.credentials) {
            (Some(_), Some(credentials)) => Ok(credentials.basic()),
            _ => bail!("the registry asks who pushes: use `docker login`, or --username and --password-file"),
        }
    }

    fn token(&self, realm: &str, service: Option<String>) -> anyhow::Result<String> {
        let mut url =
            Url::parse(realm).with_context(|| format!("'{realm}' is no address to get a token from"))?;
        if url.scheme() != "https" && self.base.scheme() == "https" {
            bail!(
                "the registry asks to get a token from {url}, to which credentials are not sent in clear text"
            );
        }
        url.query_pairs_mut()
            .extend_pairs(service.map(|service| ("service", service)))
            .append_pair("scope", &format!("repository:{}:pull,push", self.name));
        let mut request = self.client.get(url.clone());
        if let Some(credentials) = &self.credentials {
            request = request.header(AUTHORIZATION, credentials.basic());
        }
        let answer = expect(request.send()?, &[StatusCode::OK]).context("cannot get a token")?;
        let token: Token = serde_json::from_slice(&answer.bytes()?).context("cannot read the token")?;
        let token = token.token.or(token.access_token).with_context(|| format!("{url} gives no token"))?;
        Ok(format!("Bearer {token}"))
    }
}

fn expect(response: Response, wanted: &[StatusCode]) -> anyhow::Result<Response> {
    let status = response.status();
    if wanted.contains(&status) {
        return Ok(response);
    }
    let url = response.url().clone();
    let said = response.text().unwrap_or_default();
    bail!("{url} answers {status}: {}", said.trim().chars().take(500).collect::<String>())
}

/// `localhost`, or an address that does not leave this machine.
fn is_this_machine(host: &str) -> bool {
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    name == "localhost" || name.parse().is_ok_and(|address: IpAddr| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_stays_on_this_machine() {
        for (address, expected) in [
            ("127.0.0.1:5000/fleet", "http://127.0.0.1:5000/v2/fleet/"),
            ("localhost:5000/a/b", "http://localhost:5000/v2/a/b/"),
            ("registry.example.com/fleet", "https://registry.example.com/v2/fleet/"),
            ("10.0.0.1:5000/fleet", "https://10.0.0.1:5000/v2/fleet/"),
            ("localhost.example.com/fleet", "https://localhost.example.com/v2/fleet/"),
        ] {
            assert_eq!(Repository::new(address, None).unwrap().base.as_str(), expected);
        }
        for address in ["", "fleet", "/fleet", "registry.example.com/"] {
            assert!(Repository::new(address, None).is_err(), "{address}");
        }
    }

    #[test]
    fn credentials_are_those_of_the_registry_and_no_other() {
        let config = br#"{"auths": {"https://registry.example.com/v2/": {"auth": "am86czNjcmV0OngK"},
            "kept.example.com": {}, "bad.example.com": {"auth": "%%"}}, "credsStore": "desktop"}"#;
        let find = |registry: &str| Credentials::from_docker_config(config, registry);
        let found = find("registry.example.com").unwrap().unwrap();
        assert_eq!((found.user.as_str(), found.password.as_str()), ("jo", "s3cret:x\n"));
        assert!(find("registry.example.com:5000").unwrap().is_none());
        for (registry, expected) in [("kept.example.com", "a helper keeps"), ("bad.example.com", "base64")] {
            let error = find(registry).err().unwrap().to_string();
            assert!(error.contains(expected), "{error}");
        }
        assert!(Credentials::from_docker_config(b"{", "x").is_err());
    }
}
