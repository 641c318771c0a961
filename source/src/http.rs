//! HTTP for sources: one blocking client for each way to trust and to prove, with limits on size and time.

use std::io::Read;
use std::time::Duration;

use flotilla_runtime::chain;
use reqwest::blocking::{Client, RequestBuilder, Response};
use reqwest::header::{CONTENT_TYPE, ETAG, HeaderMap, IF_NONE_MATCH};
use reqwest::{Method, StatusCode, Url, redirect};

use crate::host::canonical;
use crate::peer::guarded;
use crate::reach::{Reach, ReachError};
use crate::secret::{Secret, SecretError};

const CONNECT: Duration = Duration::from_secs(15);
const REDIRECTS: usize = 10;

/// Whom to trust, and how to prove who asks.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Tls {
    /// Certificates (PEM) to trust beside those of the system.
    pub ca_pem: Option<String>,
    /// A certificate of our own with its key (PEM, one after the other).
    pub identity_pem: Option<String>,
}

/// A proxy with how to prove who asks.
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    url: String,
    basic: Option<(String, String)>,
}

impl std::fmt::Debug for Proxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Proxy").finish_non_exhaustive()
    }
}

impl Proxy {
    /// For an HTTP client. The proxy itself has to be within reach.
    pub(crate) fn client(&self, reach: &Reach) -> Result<reqwest::Proxy, HttpError> {
        reach.check_literal(parse_url(&self.url)?.host_str().unwrap_or_default())?;
        let proxy = reqwest::Proxy::all(&self.url).map_err(|error| HttpError::Proxy(reason(&error)))?;
        Ok(match &self.basic {
            Some((user, password)) => proxy.basic_auth(user, password),
            None => proxy,
        })
    }
}

/// The proxy that a Secret names.
pub(crate) fn proxy(secret: &Secret) -> Result<Proxy, SecretError> {
    let hint = "proxySecretRef needs the proxy's http(s) address";
    let url = secret.line("address")?.ok_or_else(|| secret.missing("address", hint))?;
    if parse_url(&url).is_err() {
        return Err(secret.unusable("address", "it is not an http(s) address"));
    }
    Ok(Proxy { url, basic: secret.basic()? })
}

/// Why an HTTP exchange did not work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HttpError {
    #[error("'{shown}' is not an http(s) address: {reason}")]
    Address { shown: String, reason: String },
    #[error(transparent)]
    Reach(#[from] ReachError),
    #[error("the certificates that are set cannot be used: {0}")]
    Tls(String),
    #[error("the proxy that is set cannot be used: {0}")]
    Proxy(String),
    #[error("cannot reach {url}: {reason}; check the address and that its server answers from here")]
    Unreachable { url: String, reason: String },
    #[error("{url} asks for credentials, or refused those that are set (HTTP {status})")]
    Denied { url: String, status: u16 },
    #[error("there is nothing at {url} (HTTP {status})")]
    NotFound { url: String, status: u16 },
    #[error("{url} answered HTTP {status}")]
    Status { url: String, status: u16 },
    #[error("{url} is larger than the limit of {limit} bytes")]
    TooLarge { url: String, limit: u64 },
}

/// What came back to a GET.
pub(crate) struct Fetched {
    pub(crate) bytes: Vec<u8>,
    pub(crate) content_type: String,
}

/// What came back to a GET that said what is known.
pub(crate) enum Conditional {
    NotModified,
    Body { bytes: Vec<u8>, etag: Option<String> },
}

/// A client for one way to trust and to prove.
#[derive(Clone)]
pub(crate) struct Http {
    client: Client,
    reach: Reach,
}

impl Http {
    pub(crate) fn new(tls: &Tls, reach: &Reach, proxy: Option<&Proxy>) -> Result<Self, HttpError> {
        // The HTTP client takes the process's provider; whoever installed one already keeps it.
        rustls::crypto::ring::default_provider().install_default().ok();
        let bad = |error: reqwest::Error| HttpError::Tls(chain(&error));
        let mut builder = Client::builder()
            .connect_timeout(CONNECT)
            .timeout(None)
            .user_agent(concat!("flotilla/", env!("CARGO_PKG_VERSION")))
            .redirect(follow(reach.clone()));
        if let Some(pem) = &tls.ca_pem {
            let roots = reqwest::Certificate::from_pem_bundle(pem.as_bytes()).map_err(bad)?;
            if roots.is_empty() {
                return Err(HttpError::Tls("there is no certificate in the CA".into()));
            }
            builder = builder.tls_certs_merge(roots);
        }
        if let Some(pem) = &tls.identity_pem {
            builder = builder.identity(reqwest::Identity::from_pem(pem.as_bytes()).map_err(bad)?);
        }
        builder = guarded(builder, reach);
        if let Some(proxy) = proxy {
            builder = builder.proxy(proxy.client(reach)?);
        }
        Ok(Self { client: builder.build().map_err(bad)?, reach: reach.clone() })
    }

    pub(crate) fn reach(&self) -> &Reach {
        &self.reach
    }

    /// A request that may be sent, as far as the address tells.
    pub(crate) fn request(&self, method: Method, url: &Url) -> Result<RequestBuilder, HttpError> {
        if !matches!(url.scheme(), "http" | "https") {
            let reason = format!("'{}' is another scheme", url.scheme());
            return Err(HttpError::Address { shown: shown(url), reason });
        }
        self.reach.check_literal(url.host_str().unwrap_or_default())?;
        Ok(self.client.request(method, url.clone()))
    }

    /// Sends it; anything but success is an error.
    pub(crate) fn send(&self, request: RequestBuilder, within: Duration) -> Result<Response, HttpError> {
        self.check(self.send_any(request, within)?)
    }

    /// Anything but success is an error.
    pub(crate) fn check(&self, response: Response) -> Result<Response, HttpError> {
        let (url, status) = (shown(response.url()), response.status());
        match status {
            _ if status.is_success() || status == StatusCode::NOT_MODIFIED => Ok(response),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                Err(HttpError::Denied { url, status: status.as_u16() })
            }
            StatusCode::NOT_FOUND | StatusCode::GONE => {
                Err(HttpError::NotFound { url, status: status.as_u16() })
            }
            _ => Err(HttpError::Status { url, status: status.as_u16() }),
        }
    }

    /// Sends it, whatever the answer is.
    pub(crate) fn send_any(&self, request: RequestBuilder, within: Duration) -> Result<Response, HttpError> {
        request.timeout(within).send().map_err(|error| unreachable(&error))
    }

    /// The content at an address.
    pub(crate) fn get(&self, url: &Url, limit: u64, within: Duration) -> Result<Fetched, HttpError> {
        let response = self.send(self.request(Method::GET, url)?, within)?;
        let content_type = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let content_type = content_type.unwrap_or_default().to_owned();
        Ok(Fetched { bytes: body(response, limit)?, content_type })
    }
}

impl Http {
    /// The content at an address, unless it is what is known already.
    pub(crate) fn get_unless(
        &self,
        url: &Url,
        headers: HeaderMap,
        known: Option<&str>,
        limit: u64,
        within: Duration,
    ) -> Result<Conditional, HttpError> {
        let mut request = self.request(Method::GET, url)?.headers(headers);
        if let Some(etag) = known {
            request = request.header(IF_NONE_MATCH, etag);
        }
        let response = self.send(request, within)?;
        if response.status() == StatusCode::NOT_MODIFIED {
            return Ok(Conditional::NotModified);
        }
        let etag = response.headers().get(ETAG).and_then(|value| value.to_str().ok()).map(str::to_owned);
        Ok(Conditional::Body { bytes: body(response, limit)?, etag })
    }
}

/// The whole body, up to a limit.
pub(crate) fn body(response: Response, limit: u64) -> Result<Vec<u8>, HttpError> {
    let url = shown(response.url());
    if response.content_length().is_some_and(|length| length > limit) {
        return Err(HttpError::TooLarge { url, limit });
    }
    let mut bytes = Vec::new();
    let read = response.take(limit.saturating_add(1)).read_to_end(&mut bytes);
    read.map_err(|error| HttpError::Unreachable { url: url.clone(), reason: chain(&error) })?;
    if bytes.len() as u64 > limit {
        return Err(HttpError::TooLarge { url, limit });
    }
    Ok(bytes)
}

/// Follows redirects, never to a less safe scheme and never to an address that may not be talked to.
fn follow(reach: Reach) -> redirect::Policy {
    redirect::Policy::custom(move |attempt| {
        if attempt.previous().len() > REDIRECTS {
            return attempt.error("it redirects too often");
        }
        let from_https = attempt.previous().last().is_some_and(|url| url.scheme() == "https");
        if from_https && attempt.url().scheme() != "https" {
            return attempt.error("it redirects from https to http");
        }
        match reach.check_literal(attempt.url().host_str().unwrap_or_default()) {
            Ok(()) => attempt.follow(),
            Err(error) => attempt.error(error),
        }
    })
}

/// Reads an address without showing what may be a password.
pub(crate) fn parse_url(text: &str) -> Result<Url, HttpError> {
    let wrong = |reason: &str| HttpError::Address {
        shown: text.rsplit('@').next().unwrap_or_default().to_owned(),
        reason: reason.to_owned(),
    };
    let url: Url = text.parse().map_err(|error: url::ParseError| wrong(&error.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err(wrong("it must begin with http:// or https:// and name a host"));
    }
    Ok(url)
}

/// Whether what is sent could be read on the way: plain http that leaves this machine.
pub(crate) fn is_in_clear(url: &Url) -> bool {
    url.scheme() != "https" && !url.host_str().is_some_and(is_this_machine)
}

/// Whether a host is this machine, by what it is called.
pub(crate) fn is_this_machine(host: &str) -> bool {
    match canonical(host) {
        Ok(url::Host::Domain(name)) => name == "localhost",
        Ok(url::Host::Ipv4(address)) => address.is_loopback(),
        Ok(url::Host::Ipv6(address)) => address.is_loopback(),
        Err(_) => false,
    }
}

/// Without user, password and query, any of which may be secret.
pub(crate) fn shown(url: &Url) -> String {
    let mut url = url.clone();
    // Addresses without a host cannot have them.
    let _ = (url.set_username(""), url.set_password(None));
    url.set_query(None);
    url.to_string()
}

fn unreachable(error: &reqwest::Error) -> HttpError {
    let mut cause: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = cause {
        if let Some(reach) = error.downcast_ref::<ReachError>() {
            return reach.clone().into();
        }
        cause = error.source();
    }
    let url = error.url().map(shown).unwrap_or_default();
    HttpError::Unreachable { url, reason: reason(error) }
}

/// The causes below the first, which repeats the address.
fn reason(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "it took too long".into();
    }
    std::error::Error::source(error).map_or_else(|| error.to_string(), chain)
}
