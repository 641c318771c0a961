//! What a Secret holds, by keys that several kinds of sources use.

use std::collections::BTreeMap;
use std::fmt;

use flotilla_core::Digest;

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
}
