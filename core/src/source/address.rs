//! Addresses of sources: a scheme that the kind allows, and something behind it.

use std::fmt;

use serde::Serialize;

/// How a source is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Scheme {
    Http,
    Https,
    Ssh,
    File,
    Oci,
}

/// The address of a source: a scheme that its kind allows, and something behind it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SourceUrl {
    scheme: Scheme,
    text: String,
}

/// A text that is not an address for this kind of source.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidUrl {
    #[error("'{url}' must begin with one of {schemes}")]
    Scheme { url: String, schemes: String },
    #[error("'{0}' names no host")]
    NoHost(String),
    /// The text is not shown: it holds a secret.
    #[error("the address holds a password; put credentials into a Secret and name it by spec.secretRef")]
    Password,
}

impl SourceUrl {
    const SCHEMES: [(&'static str, Scheme); 5] = [
        ("http://", Scheme::Http),
        ("https://", Scheme::Https),
        ("ssh://", Scheme::Ssh),
        ("file://", Scheme::File),
        ("oci://", Scheme::Oci),
    ];

    /// Reads an address with one of `allowed` schemes.
    pub fn parse(text: &str, allowed: &[Scheme]) -> Result<Self, InvalidUrl> {
        let known = Self::SCHEMES.iter().filter(|(_, scheme)| allowed.contains(scheme));
        let Some((prefix, scheme)) = known.clone().find(|(prefix, _)| text.starts_with(prefix)) else {
            let schemes = known.map(|(prefix, _)| *prefix).collect::<Vec<_>>().join(", ");
            return Err(InvalidUrl::Scheme { url: without_password(text), schemes });
        };
        let rest = &text[prefix.len()..];
        let (authority, _) = rest.split_once('/').unwrap_or((rest, ""));
        if authority.rsplit_once('@').is_some_and(|(user, _)| user.contains(':')) {
            return Err(InvalidUrl::Password);
        }
        let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
        if host.is_empty() && *scheme != Scheme::File || rest.is_empty() {
            return Err(InvalidUrl::NoHost(text.to_owned()));
        }
        Ok(Self { scheme: *scheme, text: text.to_owned() })
    }

    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// As written, scheme included.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// What stands behind `scheme://`.
    pub fn rest(&self) -> &str {
        self.text.split_once("://").map_or("", |(_, rest)| rest)
    }
}

fn without_password(text: &str) -> String {
    match text.rsplit_once('@') {
        Some((user, host)) if user.contains(':') => format!("…@{host}"),
        _ => text.to_owned(),
    }
}

impl fmt::Display for SourceUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
