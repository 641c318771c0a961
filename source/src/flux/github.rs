//! GitHub Apps: an app proves by its key that it is itself, and is given a token of an hour for one of its installations.
//!
//! ```text
//!   Secret ─► App ── JWT, signed by RS256 ──► API: access_tokens of the installation ──► Token: password of x-access-token
//! ```
//!
//! Source of behaviour: `auth/githubapp` of `github.com/fluxcd/pkg`, and
//! <https://docs.github.com/en/apps/creating-github-apps/authenticating-with-a-github-app>.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use reqwest::header::{ACCEPT, AUTHORIZATION};
use reqwest::{Method, Url};
use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::{Value, json};

use super::{Secret, SecretError, SourceError};
use crate::http::{Http, HttpError, body, is_in_clear, parse_url, shown};

/// The user whose password a token is.
pub(super) const USER: &str = "x-access-token";
/// All keys of a Secret that speak of an app begin so.
pub(super) const PREFIX: &str = "githubApp";

const API: &str = "https://api.github.com";
/// Clocks differ: a proof counts from somewhat earlier on, and not for long.
const EARLIER: Duration = Duration::from_secs(30);
const LIFE: Duration = Duration::from_secs(120);
/// A token is not used any more when it has so much time left.
const LEFT: Duration = Duration::from_secs(300);
const LONGEST_ANSWER: u64 = 1 << 20;

/// An app and the installation that is asked for.
pub(super) struct App {
    id: u64,
    installation: Installation,
    key: RsaKeyPair,
    api: Url,
}

enum Installation {
    Id(u64),
    /// An organization or a user.
    Owner(String),
}

/// What proves to GitHub that we may read what the installation may.
pub(super) struct Token {
    pub(super) text: String,
    /// `None`: it is used once.
    ends: Option<Timestamp>,
}

impl Token {
    pub(super) fn is_good(&self) -> bool {
        let left = self.ends.map(|ends| ends.duration_since(Timestamp::now()));
        left.is_some_and(|left| left.as_secs() > LEFT.as_secs() as i64)
    }
}

impl Secret {
    /// The app that a Secret describes.
    pub(super) fn github_app(&self) -> Result<App, SecretError> {
        let hint = "spec.provider: github needs githubAppID, githubAppPrivateKey and githubAppInstallationID or \
                    githubAppInstallationOwner";
        let number = |key: &'static str| -> Result<Option<u64>, SecretError> {
            let Some(text) = self.line(key)? else { return Ok(None) };
            text.trim().parse().map(Some).map_err(|_| self.unusable(key, "it is not a number"))
        };
        let id = number("githubAppID")?.ok_or_else(|| self.missing("githubAppID", hint))?;
        let owner = self.line("githubAppInstallationOwner")?;
        let installation = match (number("githubAppInstallationID")?, owner) {
            (Some(id), None) => Installation::Id(id),
            (None, Some(owner)) if is_name(&owner) => Installation::Owner(owner),
            (None, Some(_)) => {
                let reason = "it is not the name of an organization or user";
                return Err(self.unusable("githubAppInstallationOwner", reason));
            }
            (Some(_), Some(_)) => {
                let reason = "there is a githubAppInstallationID too; take one of them away";
                return Err(self.unusable("githubAppInstallationOwner", reason));
            }
            (None, None) => {
                return Err(self.missing("githubAppInstallationID or githubAppInstallationOwner", hint));
            }
        };
        let pem =
            self.text("githubAppPrivateKey")?.ok_or_else(|| self.missing("githubAppPrivateKey", hint))?;
        let no_key =
            || self.unusable("githubAppPrivateKey", "it is not an RSA key of 2048 bits or more, in PEM");
        let key = match PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|_| no_key())? {
            PrivateKeyDer::Pkcs1(der) => RsaKeyPair::from_der(der.secret_pkcs1_der()),
            PrivateKeyDer::Pkcs8(der) => RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()),
            _ => return Err(no_key()),
        };
        let api = self.line("githubAppBaseURL")?.unwrap_or_else(|| API.to_owned());
        let api =
            parse_url(&api).map_err(|_| self.unusable("githubAppBaseURL", "it is not an http(s) address"))?;
        Ok(App { id, installation, key: key.map_err(|_| no_key())?, api })
    }
}

/// <https://docs.github.com/en/enterprise-cloud@latest/admin/identity-and-access-management/iam-configuration-reference/username-considerations-for-external-authentication>
fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 100
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
}

impl App {
    /// A new token.
    pub(super) fn token(&self, http: &Http, within: Duration) -> Result<Token, SourceError> {
        if is_in_clear(&self.api) {
            return Err(SourceError::Wrong(format!(
                "an app's proof is not sent to {} in clear text; use https:// in githubAppBaseURL",
                shown(&self.api)
            )));
        }
        let proof = self.proof(SystemTime::now())?;
        let installation = match &self.installation {
            Installation::Id(id) => *id,
            Installation::Owner(owner) => self.installation_of(owner, &proof, http, within)?,
        };
        let url = self.at(&format!("app/installations/{installation}/access_tokens"))?;
        let answer = self.ask(Method::POST, &url, &proof, http, within)?;
        let Some(text) = answer["token"].as_str().filter(|text| !text.is_empty()) else {
            return Err(unread(&url, "there is no token in it"));
        };
        if text.chars().any(|c| !c.is_ascii_graphic()) {
            return Err(unread(&url, "its token has characters that no token has"));
        }
        let ends = answer["expires_at"].as_str().and_then(|text| text.parse().ok());
        Ok(Token { text: text.to_owned(), ends })
    }

    fn installation_of(
        &self,
        owner: &str,
        proof: &str,
        http: &Http,
        within: Duration,
    ) -> Result<u64, SourceError> {
        let of = |kind: &str| -> Result<u64, SourceError> {
            let url = self.at(&format!("{kind}/{owner}/installation"))?;
            let answer = self.ask(Method::GET, &url, proof, http, within)?;
            answer["id"].as_u64().ok_or_else(|| unread(&url, "there is no id in it"))
        };
        match of("orgs") {
            Err(SourceError::Http(HttpError::NotFound { .. })) => of("users").map_err(|error| match error {
                SourceError::Http(HttpError::NotFound { .. }) => SourceError::Wrong(format!(
                    "the GitHub App {} is not installed for '{owner}'; install it there, or correct \
                     githubAppInstallationOwner",
                    self.id
                )),
                other => other,
            }),
            found => found,
        }
    }

    /// Who we are, signed: <https://www.rfc-editor.org/rfc/rfc7519>, <https://www.rfc-editor.org/rfc/rfc7518#section-3.3>
    fn proof(&self, now: SystemTime) -> Result<String, SourceError> {
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let from = now.saturating_sub(EARLIER).as_secs();
        let claims = json!({ "iat": from, "exp": from + LIFE.as_secs(), "iss": self.id.to_string() });
        let encoded = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let said = format!("{}.{}", encoded(json!({ "alg": "RS256", "typ": "JWT" })), encoded(claims));
        let mut signature = vec![0; self.key.public().modulus_len()];
        self.key
            .sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), said.as_bytes(), &mut signature)
            .map_err(|_| SourceError::Wrong("githubAppPrivateKey cannot sign".to_owned()))?;
        Ok(format!("{said}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }

    fn at(&self, path: &str) -> Result<Url, SourceError> {
        Ok(parse_url(&format!("{}/{path}", self.api.as_str().trim_end_matches('/')))?)
    }

    fn ask(
        &self,
        method: Method,
        url: &Url,
        proof: &str,
        http: &Http,
        within: Duration,
    ) -> Result<Value, SourceError> {
        let request = http
            .request(method, url)?
            .header(AUTHORIZATION, format!("Bearer {proof}"))
            .header(ACCEPT, "application/vnd.github+json");
        let answer = body(http.send(request, within)?, LONGEST_ANSWER)?;
        serde_json::from_slice(&answer).map_err(|_| unread(url, "it is not JSON"))
    }
}

/// What was answered is shown nowhere: it may be a token.
fn unread(url: &Url, reason: &str) -> SourceError {
    SourceError::Wrong(format!("the answer of {} cannot be used: {reason}", shown(url)))
}
