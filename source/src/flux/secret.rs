//! What a Secret holds, by the keys that Flux gives a meaning.

use std::collections::BTreeMap;
use std::fmt;

use flotilla_core::Digest;

use crate::git::spec::GitUrl;

/// Values by key. They are shown nowhere.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret {
    /// As people call it, for errors.
    pub name: String,
    pub data: BTreeMap<String, Vec<u8>>,
}

/// A Secret does not hold what is needed. Keys are named, values never.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    #[error("the secret {secret} has no {keys}; {hint}")]
    Missing { secret: String, keys: &'static str, hint: &'static str },
    #[error("{key} of the secret {secret} cannot be used: {reason}")]
    Unusable { secret: String, key: &'static str, reason: &'static str },
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secret").field("name", &self.name).field("keys", &self.data.keys()).finish()
    }
}

/// How a Git server is told who asks.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct GitAuth {
    pub(crate) basic: Option<(String, String)>,
    pub(crate) bearer: Option<String>,
    /// Private key and known hosts.
    pub(crate) ssh: Option<(String, String)>,
    pub(crate) ca_pem: Option<String>,
}

impl Secret {
    /// Of the values: another one as soon as any of them changes.
    pub fn digest(&self) -> Digest {
        Digest::of_parts(self.data.iter().flat_map(|(key, value)| [key.as_bytes(), value]))
    }

    /// The text of a key; one line break at its end does not count.
    pub(crate) fn text(&self, key: &'static str) -> Result<Option<String>, SecretError> {
        let Some(value) = self.data.get(key) else { return Ok(None) };
        let text = std::str::from_utf8(value).map_err(|_| self.unusable(key, "it is not UTF-8 text"))?;
        Ok(Some(text.to_owned()).filter(|text| !text.is_empty()))
    }

    /// A text of one line, as it goes into a header.
    pub(crate) fn line(&self, key: &'static str) -> Result<Option<String>, SecretError> {
        let Some(text) = self.text(key)? else { return Ok(None) };
        let text =
            text.strip_suffix('\n').map_or(text.as_str(), |text| text.trim_end_matches('\r')).to_owned();
        if text.chars().any(char::is_control) {
            return Err(self.unusable(key, "it has more than one line, or control characters"));
        }
        Ok(Some(text))
    }

    pub(crate) fn unusable(&self, key: &'static str, reason: &'static str) -> SecretError {
        SecretError::Unusable { secret: self.name.clone(), key, reason }
    }

    pub(crate) fn missing(&self, keys: &'static str, hint: &'static str) -> SecretError {
        SecretError::Missing { secret: self.name.clone(), keys, hint }
    }

    /// User and password; both or none.
    pub(crate) fn basic(&self) -> Result<Option<(String, String)>, SecretError> {
        match (self.line("username")?, self.line("password")?) {
            (Some(user), Some(password)) => Ok(Some((user, password))),
            (None, None) => Ok(None),
            (Some(_), None) => Err(self.missing("password", "it has a username")),
            (None, Some(_)) => Err(self.missing("username", "it has a password")),
        }
    }

    /// The CA's certificates.
    pub(crate) fn ca(&self) -> Result<Option<String>, SecretError> {
        match self.text("ca.crt")? {
            Some(pem) => Ok(Some(pem)),
            None => self.text("caFile"),
        }
    }

    /// For a Git server. An app gets its token from GitHub: of what is said here, only the CA counts for it.
    pub(crate) fn git(&self, url: &GitUrl, is_app: bool) -> Result<GitAuth, SecretError> {
        if is_app {
            return Ok(GitAuth { ca_pem: self.ca()?, ..GitAuth::default() });
        }
        if self.data.keys().any(|key| key.starts_with(super::github::PREFIX)) {
            return Err(self.unusable("githubAppID", "spec.provider is not github"));
        }
        if url.is_ssh() {
            let (identity, hosts) = (self.text("identity")?, self.text("known_hosts")?);
            let hint = "ssh needs identity (a private key) and known_hosts";
            let identity = identity.ok_or_else(|| self.missing("identity", hint))?;
            let hosts = hosts.ok_or_else(|| self.missing("known_hosts", hint))?;
            if self.data.contains_key("password") {
                return Err(self.unusable("password", "keys with a passphrase are not supported"));
            }
            return Ok(GitAuth { ssh: Some((identity, hosts)), ..GitAuth::default() });
        }
        if self.data.contains_key("tls.crt") {
            return Err(self.unusable("tls.crt", "client certificates are not supported for Git"));
        }
        let auth = GitAuth {
            basic: self.basic()?,
            bearer: self.line("bearerToken")?,
            ssh: None,
            ca_pem: self.ca()?,
        };
        if auth == GitAuth::default() {
            let hint = "http(s) needs username and password, or bearerToken, or ca.crt";
            return Err(self.missing("username", hint));
        }
        Ok(auth)
    }
}
