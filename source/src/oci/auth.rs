//! How registries ask who asks, and how they are answered.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::AUTHORIZATION;
use reqwest::{Method, Url};
use serde::Deserialize;

use super::OciError;
use crate::http::{Http, body, parse_url, shown};
use crate::reach::Reach;

const TOKEN_BYTES: u64 = 1 << 20;

/// What a registry wants.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    Basic,
    /// A token from an address.
    Bearer {
        realm: String,
        service: String,
    },
}

impl Challenge {
    pub(super) fn parse(header: &str) -> Option<Self> {
        let (scheme, rest) = header.trim().split_once(' ').unwrap_or((header.trim(), ""));
        if scheme.eq_ignore_ascii_case("basic") {
            return Some(Self::Basic);
        }
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let fields: BTreeMap<String, String> = fields(rest).collect();
        let service = fields.get("service").cloned().unwrap_or_default();
        Some(Self::Bearer { realm: fields.get("realm")?.clone(), service })
    }
}

/// `a="b, c",d=e`
fn fields(text: &str) -> impl Iterator<Item = (String, String)> + '_ {
    let mut rest = text;
    std::iter::from_fn(move || {
        let (key, after) = rest.split_once('=')?;
        let key = key.trim_matches([',', ' ']).to_ascii_lowercase();
        let (value, left) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
            None => after.split_once(',').unwrap_or((after, "")),
        };
        rest = left;
        Some((key, value.to_owned()))
    })
}

pub(super) fn basic((user, password): &(String, String)) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}

#[derive(Deserialize)]
struct Token {
    token: Option<String>,
    access_token: Option<String>,
}

/// Who gives out tokens for a registry, and for what one is asked.
pub(super) struct Service<'a> {
    pub(super) realm: &'a str,
    pub(super) name: &'a str,
    pub(super) scope: &'a str,
}

/// A token to pull from a repository of `registry`; for everybody where there are no credentials.
pub(super) fn fetch_token(
    http: &Http,
    registry: &Url,
    service: &Service<'_>,
    credentials: Option<&(String, String)>,
    within: Duration,
) -> Result<String, OciError> {
    let mut url = parse_url(service.realm)?;
    url.query_pairs_mut().append_pair("service", service.name).append_pair("scope", service.scope);
    let mut request = http.request(Method::GET, &url)?;
    if let Some(credentials) = credentials {
        check_realm(&url, registry, http.reach())?;
        request = request.header(AUTHORIZATION, basic(credentials));
    }
    let response = http.send(request, within)?;
    let answer = |reason: String| OciError::Answer { url: shown(&url), reason };
    let token: Token =
        serde_json::from_slice(&body(response, TOKEN_BYTES)?).map_err(|error| answer(error.to_string()))?;
    let token = token.token.or(token.access_token).ok_or_else(|| answer("there is no token in it".into()))?;
    if token.is_empty() || token.chars().any(|c| c.is_control()) {
        return Err(answer("the token in it is none".into()));
    }
    Ok(token)
}

/// Whether a registry's credentials may go to where it says that tokens are to be had: to itself, or by https to its own
/// site or a host that the operator named. A registry names any address that it likes.
fn check_realm(realm: &Url, registry: &Url, reach: &Reach) -> Result<(), OciError> {
    let (host, own) = (realm.host_str().unwrap_or_default(), registry.host_str().unwrap_or_default());
    // Whoever allowed plain http to the registry allowed it to the registry only.
    if realm.scheme() != "https" && !(registry.scheme() == "http" && host == own) {
        return Err(OciError::TokenInClear(shown(realm)));
    }
    if host == own || is_same_site(host, own) || reach.names(host) {
        return Ok(());
    }
    Err(OciError::TokenElsewhere { realm: shown(realm), registry: own.to_owned() })
}

/// `auth.docker.io` and `docker.io` for `registry-1.docker.io`: what shares all of the registry's name but its first part.
fn is_same_site(host: &str, registry: &str) -> bool {
    let Some((_, site)) = registry.split_once('.').filter(|_| registry.parse::<IpAddr>().is_err()) else {
        return false;
    };
    site.contains('.') && (host == site || host.strip_suffix(site).is_some_and(|rest| rest.ends_with('.')))
}

#[derive(Deserialize)]
struct DockerConfig {
    #[serde(default)]
    auths: BTreeMap<String, DockerAuth>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct DockerAuth {
    auth: String,
    username: String,
    password: String,
}

/// The credentials for a host (with its port, if it has one) in a `.dockerconfigjson`; `None` where it has none.
pub(crate) fn credentials(config: &[u8], host: &str) -> Result<Option<(String, String)>, OciError> {
    let config: DockerConfig = serde_json::from_slice(config)
        .map_err(|error| OciError::DockerConfig(format!("line {}", error.line())))?;
    let plain = |key: &str| {
        let key = key.split_once("://").map_or(key, |(_, rest)| rest);
        key.split('/').next().unwrap_or_default().to_owned()
    };
    let names = match host {
        "docker.io" | "index.docker.io" | "registry-1.docker.io" => vec!["index.docker.io", "docker.io"],
        host => vec![host],
    };
    let Some((_, auth)) = config.auths.iter().find(|(key, _)| names.contains(&plain(key).as_str())) else {
        return Ok(None);
    };
    if auth.auth.is_empty() {
        return Ok(Some((auth.username.clone(), auth.password.clone())));
    }
    let wrong = || OciError::DockerConfig(format!("`auth` of {host} is not USER:PASSWORD in base64"));
    let text = STANDARD.decode(auth.auth.trim()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let (user, password) = text
        .as_deref()
        .and_then(|text| text.split_once(':'))
        .map(|(u, p)| (u.to_owned(), p.to_owned()))
        .ok_or_else(wrong)?;
    Ok(Some((user, password)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges() {
        let bearer =
            |realm: &str, service: &str| Challenge::Bearer { realm: realm.into(), service: service.into() };
        for (header, expected) in [
            ("Basic realm=\"x\"", Some(Challenge::Basic)),
            ("basic", Some(Challenge::Basic)),
            (
                "Bearer realm=\"https://auth.x/token\",service=\"reg, x\",scope=\"repository:a/b:pull\"",
                Some(bearer("https://auth.x/token", "reg, x")),
            ),
            ("bearer service=s, realm=https://a/t", Some(bearer("https://a/t", "s"))),
            ("Bearer service=\"s\"", None),
            ("Negotiate", None),
        ] {
            assert_eq!(Challenge::parse(header), expected, "{header}");
        }
    }

    #[test]
    fn credentials_go_to_the_site_of_the_registry_only() {
        for (registry, realm, allowed, sent) in [
            ("https://ghcr.io", "https://ghcr.io/token", None, true),
            ("https://registry-1.docker.io", "https://auth.docker.io/token", None, true),
            ("https://registry.gitlab.com", "https://gitlab.com/jwt/auth", None, true),
            ("https://r.example.com:5000", "https://r.example.com/token", None, true),
            ("https://ghcr.io", "https://evil.io/token", None, false),
            ("https://ghcr.io", "https://ghcr.io.evil.example/token", None, false),
            ("https://registry.corp.example", "https://evilcorp.example/token", None, false),
            ("https://registry.corp.example", "https://sso.example/token", None, false),
            ("https://registry.corp.example", "https://sso.example/token", Some("sso.example"), true),
            ("https://registry.corp.example", "http://sso.example/token", Some("sso.example"), false),
            ("https://1.2.3.4", "https://9.2.3.4/token", None, false),
            ("https://ghcr.io", "http://ghcr.io/token", None, false),
            ("http://r.example.com", "http://r.example.com:81/token", None, true),
            ("http://r.example.com", "http://auth.example.com/token", None, false),
            ("http://r.example.com", "https://auth.example.com/token", None, true),
            ("https://ghcr.io", "https://ghcr.io@evil.example/token", None, false),
        ] {
            let reach = Reach::Public(allowed.into_iter().map(|text: &str| text.parse().unwrap()).collect());
            let checked = check_realm(&realm.parse().unwrap(), &registry.parse().unwrap(), &reach);
            assert_eq!(checked.is_ok(), sent, "{registry} {realm}: {checked:?}");
        }
    }

    #[test]
    fn docker_configurations() {
        let config = br#"{"auths": {"https://ghcr.io/v2/": {"auth": "am86czNjcmV0OngK"}, "r.example:5000": {"username": "a", "password": "b"},
            "https://index.docker.io/v1/": {"username": "d", "password": "h"}, "bad.example": {"auth": "%%"}}}"#;
        let find = |host: &str| credentials(config, host);
        let some = |user: &str, password: &str| Ok(Some((user.to_owned(), password.to_owned())));
        assert_eq!(find("ghcr.io"), some("jo", "s3cret:x\n"));
        assert_eq!(find("r.example:5000"), some("a", "b"));
        assert_eq!(find("docker.io"), some("d", "h"));
        assert_eq!(find("r.example"), Ok(None));
        assert!(find("bad.example").is_err());
        assert!(credentials(b"{", "x").is_err());
    }
}
