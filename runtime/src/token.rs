//! The join token: all that an agent needs for its first connection, as one line of text.
//!
//! `flotilla.` and base64url of a JSON object: version, cluster, hub addresses, SHA-256 pins of the hub's
//! CAs, secret. Whoever holds it can join as that cluster once, until it expires; the hub keeps only the
//! secret's hash.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use crate::tls::{CaHash, HubAddress};

const PREFIX: &str = "flotilla.";
const VERSION: u32 = 1;
/// Enough for a hundred addresses; more is not a token.
const MAX_LENGTH: usize = 16 * 1024;

/// What a join token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinToken {
    /// The cluster that its bearer becomes, empty where the nodes name themselves; for people to read, the hub goes by the
    /// secret.
    pub cluster: String,
    /// Where to find the hub, in order of preference; at least one.
    pub hubs: Vec<HubAddress>,
    /// The CAs that the hub's certificate may come from; at least one.
    pub cas: Vec<CaHash>,
    /// What proves the right to join.
    pub secret: TokenSecret,
}

/// Why a text is no join token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    #[error(
        "this is not a join token: it does not start with \"{PREFIX}\" (make one with: flotilla cluster token NAME)"
    )]
    Prefix,
    #[error("the join token is longer than {MAX_LENGTH} characters")]
    TooLong,
    #[error("the join token is damaged (was all of it copied?)")]
    Base64(#[source] base64::DecodeError),
    #[error("the join token's content is damaged (was all of it copied?)")]
    Content(#[source] serde_json::Error),
    #[error("the join token has version {0}, this program knows version {VERSION}: upgrade it")]
    Version(u32),
    #[error("the join token names no {0}")]
    Missing(&'static str),
}

#[derive(Deserialize)]
struct VersionOnly {
    v: u32,
}

#[derive(Serialize, Deserialize)]
struct Wire {
    v: u32,
    cluster: String,
    hubs: Vec<HubAddress>,
    ca: Vec<CaHash>,
    secret: String,
}

impl JoinToken {
    /// The token's text. It is a secret: show it once, never log it.
    pub fn encode(&self) -> String {
        let wire = Wire {
            v: VERSION,
            cluster: self.cluster.clone(),
            hubs: self.hubs.clone(),
            ca: self.cas.clone(),
            secret: self.secret.encode(),
        };
        let json = serde_json::to_vec(&wire).expect("strings and numbers are always JSON");
        format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(json))
    }

    /// Reads a token's text; white space around it is fine.
    pub fn decode(text: &str) -> Result<Self, TokenError> {
        let body = text.trim().strip_prefix(PREFIX).ok_or(TokenError::Prefix)?;
        if body.len() > MAX_LENGTH {
            return Err(TokenError::TooLong);
        }
        let json = URL_SAFE_NO_PAD.decode(body).map_err(TokenError::Base64)?;
        let version: VersionOnly = serde_json::from_slice(&json).map_err(TokenError::Content)?;
        if version.v != VERSION {
            return Err(TokenError::Version(version.v));
        }
        let wire: Wire = serde_json::from_slice(&json).map_err(TokenError::Content)?;
        if wire.hubs.is_empty() {
            return Err(TokenError::Missing("hub address"));
        }
        if wire.ca.is_empty() {
            return Err(TokenError::Missing("CA"));
        }
        let secret = TokenSecret::decode(&wire.secret).ok_or(TokenError::Missing("secret of 32 bytes"))?;
        Ok(Self { cluster: wire.cluster, hubs: wire.hubs, cas: wire.ca, secret })
    }
}

impl FromStr for JoinToken {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::decode(text)
    }
}

/// 256 random bits that only their bearer knows. `Debug` does not show them.
#[derive(Clone)]
pub struct TokenSecret([u8; 32]);

impl TokenSecret {
    /// A new secret from the thread's cryptographic generator.
    pub fn generate() -> Self {
        Self(rand::random())
    }

    /// As base64url, to be shown once or sent.
    pub fn encode(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.0)
    }

    /// From [`TokenSecret::encode`]'s text.
    pub fn decode(text: &str) -> Option<Self> {
        URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok().map(Self)
    }

    /// As they travel in an enrolment.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// What to store instead of the secret. Without salt or stretching: 256 random bits need neither.
    pub fn hash(&self) -> SecretHash {
        let mut context = ring::digest::Context::new(&ring::digest::SHA256);
        context.update(b"flotilla token secret v1\0");
        context.update(&self.0);
        let mut hash = [0; 32];
        hash.copy_from_slice(context.finish().as_ref());
        SecretHash(hash)
    }
}

impl PartialEq for TokenSecret {
    fn eq(&self, other: &Self) -> bool {
        self.hash() == other.hash()
    }
}

impl Eq for TokenSecret {}

impl fmt::Debug for TokenSecret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("TokenSecret(hidden)")
    }
}

/// SHA-256 of a secret. As text, also for use as a key in a store: 64 hex digits.
#[derive(Clone, Copy)]
pub struct SecretHash([u8; 32]);

impl PartialEq for SecretHash {
    /// In constant time.
    fn eq(&self, other: &Self) -> bool {
        let difference = self.0.iter().zip(other.0).fold(0, |bits, (left, right)| bits | (left ^ right));
        std::hint::black_box(difference) == 0
    }
}

impl Eq for SecretHash {}

crate::tls::hex_text!(SecretHash, "a secret's hash");

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn token() -> JoinToken {
        JoinToken {
            cluster: "staging".into(),
            hubs: vec!["hub.example:8443".parse().unwrap(), "[::1]:8443".parse().unwrap()],
            cas: vec![CaHash::of(b"one"), CaHash::of(b"two")],
            secret: TokenSecret::generate(),
        }
    }

    fn text_of(json: &str) -> String {
        format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(json))
    }

    #[test]
    fn a_token_survives_its_text() {
        let token = token();
        assert_eq!(JoinToken::decode(&format!(" {}\n", token.encode())).unwrap(), token);
    }

    #[test]
    fn what_is_no_token_is_refused_with_the_reason() {
        let whole = token().encode();
        let ca = CaHash::of(b"one");
        let secret = TokenSecret::generate().encode();
        for (text, reason) in [
            ("", "does not start with"),
            ("eyJhbGciOiJIUzI1NiJ9", "does not start with"),
            (&whole[..whole.len() - 3], "was all of it copied?"),
            (&format!("{whole}!"), "was all of it copied?"),
            (&format!("{PREFIX}{}", "a".repeat(MAX_LENGTH + 1)), "longer than"),
            (&text_of(r#"{"v":2,"anything":true}"#), "version 2"),
            (
                &text_of(&format!(r#"{{"v":1,"cluster":"a","hubs":[],"ca":["{ca}"],"secret":"{secret}"}}"#)),
                "no hub",
            ),
            (
                &text_of(&format!(r#"{{"v":1,"cluster":"a","hubs":["h:1"],"ca":[],"secret":"{secret}"}}"#)),
                "no CA",
            ),
            (
                &text_of(&format!(
                    r#"{{"v":1,"cluster":"a","hubs":["h:1"],"ca":["{ca}"],"secret":"c2hvcnQ"}}"#
                )),
                "no secret of 32 bytes",
            ),
            (&text_of(r#"{"v":1,"cluster":"a","hubs":["h"],"ca":[],"secret":""}"#), "content is damaged"),
        ] {
            let error = JoinToken::decode(text).unwrap_err().to_string();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }

    #[test]
    fn a_secret_matches_its_own_hash_only_and_is_not_shown() {
        let (one, two) = (TokenSecret::generate(), TokenSecret::generate());
        assert_eq!(one.hash(), one.clone().hash());
        assert_ne!(one.hash(), two.hash());
        assert_eq!(one.hash().to_string().parse::<SecretHash>().unwrap(), one.hash());
        let shown = format!("{:?}", JoinToken { secret: one.clone(), ..token() });
        assert!(shown.contains("TokenSecret(hidden)") && !shown.contains(&one.encode()), "{shown}");
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "(flotilla\\.)?[A-Za-z0-9_-]{0,80}") {
            let _ = JoinToken::decode(&text);
        }
    }
}
