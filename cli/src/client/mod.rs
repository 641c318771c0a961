//! HTTPS to the hub: JSON there and back, errors with their meaning. What there is to ask is in `routes`.

mod routes;
mod watch;

use std::net::IpAddr;
use std::time::Duration;

use flotilla_api::{ErrorBody, Page};
use flotilla_runtime::tls::{ALPN_HTTP1, ClientTls, Clock, Trust, TrustBundle};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::config::Settings;
use crate::error::Error;
use crate::exit::Code;

pub(crate) use routes::{Choice, EventFilter};
pub(crate) use watch::Watch;

/// For TCP and TLS to be there.
const CONNECT: Duration = Duration::from_secs(10);
/// For an answer; the hub may have to ask a Git server and agents first.
const ANSWER: Duration = Duration::from_secs(120);
/// For a backup, which may be large and come over a slow line.
const BACKUP: Duration = Duration::from_secs(900);
/// For an agent to delete, or to take over, all that it manages.
const PRUNE: Duration = Duration::from_secs(660);
/// A watch that is silent for so long is dead: the hub sends a sign of life more often.
const SILENCE: Duration = Duration::from_secs(60);
/// Entries in a page.
const PAGE: usize = 500;

/// A client of one hub.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    http: reqwest::Client,
    hub: String,
    token: String,
}

/// A query: names and values, absent ones left out.
type Query<'a> = &'a [(&'a str, Option<String>)];

impl Client {
    pub(crate) fn new(settings: &Settings) -> Result<Self, Error> {
        let bundle = TrustBundle::from_pem(&settings.ca)
            .map_err(|error| Error::usage("the CA of the hub cannot be read").because(error))?;
        let tls = ClientTls::new(Trust::Bundle(bundle), None, &[ALPN_HTTP1], Clock::system())
            .map_err(|error| Error::usage("TLS cannot be set up").because(error))?;
        let mut builder = reqwest::Client::builder()
            .tls_backend_preconfigured((*tls.config()).clone())
            .user_agent(concat!("flotilla/", env!("CARGO_PKG_VERSION")))
            // A hub never redirects, and a token must not follow.
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT);
        if is_loopback(&settings.hub) {
            builder = builder.no_proxy();
        }
        let http = builder
            .build()
            .map_err(|error| Error::usage("an HTTP client cannot be set up").because(error))?;
        if !settings.token.chars().all(|c| c.is_ascii_graphic()) || settings.token.is_empty() {
            return Err(Error::usage("the API token is empty or has characters that no token has")
                .hint("is the file that --token-file names the right one?"));
        }
        Ok(Self { http, hub: settings.hub.clone(), token: settings.token.clone() })
    }

    /// The hub's address.
    pub(crate) fn hub(&self) -> &str {
        &self.hub
    }

    async fn get<T: DeserializeOwned>(&self, what: &str, path: &str, query: Query<'_>) -> Result<T, Error> {
        self.json(what, self.request(Method::GET, path, query).timeout(ANSWER)).await
    }

    /// What is not JSON and stands beside the API.
    async fn text(&self, what: &str, path: &str) -> Result<String, Error> {
        let request = self.http.get(format!("{}/{path}", self.hub)).bearer_auth(&self.token).timeout(ANSWER);
        let response = self.answer(what, request).await?;
        response.text().await.map_err(|error| self.lost(what, error))
    }

    /// What is no text.
    async fn bytes(&self, what: &str, path: &str, limit: Duration) -> Result<Vec<u8>, Error> {
        let request =
            self.http.get(format!("{}/api/v1/{path}", self.hub)).bearer_auth(&self.token).timeout(limit);
        let response = self.answer(what, request).await?;
        Ok(response.bytes().await.map_err(|error| self.lost(what, error))?.into())
    }

    /// All pages of a list, or its first `limit` entries.
    async fn list<T: DeserializeOwned>(
        &self,
        what: &str,
        path: &str,
        query: Query<'_>,
        limit: Option<usize>,
    ) -> Result<Vec<T>, Error> {
        let mut items: Vec<T> = Vec::new();
        let mut after = None;
        loop {
            let wanted = limit.map_or(PAGE, |limit| PAGE.min(limit - items.len()));
            let mut query = query.to_vec();
            query.extend([("limit", Some(wanted.to_string())), ("after", after.clone())]);
            let page: Page<T> = self.get(what, path, &query).await?;
            let empty = page.items.is_empty();
            items.extend(page.items);
            if let Some(limit) = limit
                && items.len() >= limit
            {
                items.truncate(limit);
                return Ok(items);
            }
            // A page without entries, or one that leads to itself, would never end.
            if page.next.is_none() || page.next == after || empty {
                return Ok(items);
            }
            after = page.next;
        }
    }

    async fn send<B: Serialize, T: DeserializeOwned>(
        &self,
        what: &str,
        method: Method,
        path: &str,
        body: Option<&B>,
        limit: Duration,
    ) -> Result<T, Error> {
        let request = self.request(method, path, &[]).timeout(limit);
        let request = match body {
            Some(body) => request.json(body),
            // The hub takes no POST that does not say so.
            None => request.header("content-type", "application/json"),
        };
        self.json(what, request).await
    }

    fn request(&self, method: Method, path: &str, query: Query<'_>) -> RequestBuilder {
        let mut url = format!("{}/api/v1/{path}", self.hub);
        let query: Vec<String> = query
            .iter()
            .filter_map(|(name, value)| Some(format!("{name}={}", escape(value.as_ref()?))))
            .collect();
        if !query.is_empty() {
            url = format!("{url}?{}", query.join("&"));
        }
        self.http.request(method, url).bearer_auth(&self.token)
    }

    async fn json<T: DeserializeOwned>(&self, what: &str, request: RequestBuilder) -> Result<T, Error> {
        let response = self.answer(what, request).await?;
        let body = response.bytes().await.map_err(|error| self.lost(what, error))?;
        serde_json::from_slice(&body).map_err(|error| {
            Error::new(
                Code::HubFailed,
                format!("cannot {what}: the answer of {} is not understood", self.hub),
            )
            .because(error)
            .hint("`flotilla version` shows whether hub and CLI are of the same version")
        })
    }

    /// The answer, if it is a success.
    async fn answer(&self, what: &str, request: RequestBuilder) -> Result<Response, Error> {
        let response = request.send().await.map_err(|error| self.lost(what, error))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let body = response.bytes().await.unwrap_or_default();
        Err(refusal(what, status, &body))
    }

    /// No answer, for a reason of the network or of TLS.
    fn lost(&self, what: &str, error: reqwest::Error) -> Error {
        let mut reason: &dyn std::error::Error = &error;
        while let Some(inner) = reason.source() {
            reason = inner;
        }
        let reason = if error.is_timeout() { "no answer in time".to_owned() } else { reason.to_string() };
        Error::new(Code::Unreachable, format!("cannot {what}: no hub at {}: {reason}", self.hub))
            .hint(hint_for(&reason))
    }
}

/// What to do about a connection that came to nothing.
fn hint_for(reason: &str) -> &'static str {
    if reason.contains("certificate") {
        "who answers does not have a certificate of this CA as the hub: is --ca that of this hub, and the address right?"
    } else if reason.contains("NoApplicationProtocol") {
        "is this the port for agents? The API has a port of its own: --api-listen of flotilla-hub, 8444 by default"
    } else if reason.contains("InvalidContentType") || reason.contains("corrupt message") {
        "who answers does not speak TLS: is this the port for probes? The API has a port of its own: --api-listen of \
         flotilla-hub, 8444 by default"
    } else {
        "is the hub running, the address right, and no firewall in between? The API's port is 8444 by default"
    }
}

fn refusal(what: &str, status: StatusCode, body: &[u8]) -> Error {
    let (code, hint) = match status.as_u16() {
        401 => (
            Code::Denied,
            Some("give a valid API token with --token-file; `flotilla token create` makes one"),
        ),
        403 => (
            Code::Denied,
            Some("`flotilla check` shows the role of your token; an admin can make another one"),
        ),
        404 => (Code::NotFound, None),
        // The hub's port for agents says so.
        421 => (Code::Unreachable, None),
        400..=499 => (Code::Refused, None),
        504 => (Code::NotReached, None),
        503 => (Code::HubFailed, Some("the hub is starting or overloaded: try again")),
        _ => (Code::HubFailed, Some("the hub's log says more")),
    };
    let said = serde_json::from_slice::<ErrorBody>(body).unwrap_or_default();
    let reason = if said.error.is_empty() { format!("the hub answered {status}") } else { said.error };
    let error = Error::new(code, format!("cannot {what}: {reason}"));
    match said.hint.or(hint.map(str::to_owned)) {
        Some(hint) => error.hint(hint),
        None => error,
    }
}

/// All but what RFC 3986 calls unreserved.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// One part of a path, or a value of a query.
fn escape(text: &str) -> String {
    utf8_percent_encode(text, RESERVED).to_string()
}

/// Whether an address is this machine's own: no proxy could reach it.
fn is_loopback(hub: &str) -> bool {
    let address = hub.trim_start_matches("https://");
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_have_their_codes_and_hints() {
        let body = br#"{"error": "no cluster is called x", "hint": "see `flotilla get clusters`"}"#;
        for (status, body, code, text) in [
            (401, &b""[..], Code::Denied, "cannot try: the hub answered 401 Unauthorized"),
            (403, b"{}", Code::Denied, "cannot try: the hub answered 403 Forbidden"),
            (404, body, Code::NotFound, "cannot try: no cluster is called x"),
            (409, body, Code::Refused, "cannot try: no cluster is called x"),
            (422, b"<html>", Code::Refused, "cannot try: the hub answered 422 Unprocessable Entity"),
            (500, b"", Code::HubFailed, "cannot try: the hub answered 500 Internal Server Error"),
            (503, b"", Code::HubFailed, "cannot try: the hub answered 503 Service Unavailable"),
            (504, body, Code::NotReached, "cannot try: no cluster is called x"),
            (302, b"", Code::HubFailed, "cannot try: the hub answered 302 Found"),
        ] {
            let error = refusal("try", StatusCode::from_u16(status).unwrap(), body);
            assert_eq!((error.code(), error.chain().as_str()), (code, text), "{status}");
        }
    }

    #[test]
    fn names_are_escaped_and_loopback_is_known() {
        assert_eq!(escape("kustomization/a b/ü"), "kustomization%2Fa%20b%2F%C3%BC");
        for (hub, expected) in [
            ("https://127.0.0.1:1", true),
            ("https://[::1]:1", true),
            ("https://localhost:1", true),
            ("https://10.0.0.1:1", false),
            ("https://hub.example:443", false),
        ] {
            assert_eq!(is_loopback(hub), expected, "{hub}");
        }
    }
}
