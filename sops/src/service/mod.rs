//! Services that open data keys, and never give out the key that they open them with: what they are asked, and what they answer.
//!
//! ```text
//!   decrypt ─► SopsError::Unasked(asks) ─► whoever has the network: Ask::request, send it, Ask::data_key ─► Answers
//!      ▲                                                                                                       │
//!      └─────────────────────────────────────── Keys::answered, once more ─────────────────────────────────────┘
//! ```
//!
//! Nothing here has a network. Whoever wrote a file chose the address in it, so a question is sent only where
//! [`Servers`] allows it: it carries the credentials of the unit.

mod aws;
mod vault;

use std::collections::BTreeMap;
use std::fmt;

use flotilla_sigv4::Headers;
use jiff::Timestamp;
use ring::digest::{Context, SHA256};
use url::Url;
use zeroize::Zeroizing;

use crate::error::SopsError;
pub use aws::AwsKey;
pub(crate) use aws::{Sealed, credentials};
pub(crate) use vault::Transit;
pub use vault::TransitKey;

/// Bytes of what a service answers.
pub const MAX_ANSWER: usize = 64 << 10;
/// Bytes of a sealed data key, and of an address, a key's name or a token.
const MOST_SEALED: usize = 16 << 10;
const MOST_NAME: usize = 1 << 10;
/// How much of a stranger's words a message shows.
const SHOWN_CHARS: usize = 200;
/// Questions for one object or file.
pub const MAX_ASKS: usize = 64;

/// What a service is sent.
pub struct Request {
    pub method: &'static str,
    pub url: Url,
    /// Some hold credentials.
    pub headers: Headers,
    pub body: Vec<u8>,
}

/// A question to a key service: to open one sealed data key, or a part of one.
#[derive(Clone, PartialEq, Eq)]
pub struct Ask(Question);

#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Question {
    Vault(Transit),
    Aws(Sealed),
}

/// Which question it was, and with which credentials.
pub type AskId = [u8; 32];

/// What services answered, or why they did not. It is as secret as the data keys that it holds.
pub type Answers = BTreeMap<AskId, Answer>;

/// A data key, or a part of one; or why there is none.
pub type Answer = Result<Zeroizing<Vec<u8>>, String>;

impl Ask {
    pub(crate) fn new(question: Question) -> Self {
        Self(question)
    }

    /// Tells questions apart: by the key, what is sealed and the credentials.
    pub fn id(&self) -> AskId {
        id_of(&match &self.0 {
            Question::Vault(transit) => transit.parts(),
            Question::Aws(sealed) => sealed.parts(),
        })
    }

    /// Who asks, told by the credentials.
    pub fn asker(&self) -> AskId {
        match &self.0 {
            Question::Vault(transit) => id_of(&["vault", &transit.token]),
            Question::Aws(sealed) => id_of(&["aws", &sealed.credentials.access, &sealed.credentials.secret]),
        }
    }

    /// What is sent now: signatures hold for some minutes.
    ///
    /// # Errors
    /// Why the server may not be asked, and what to do about it.
    pub fn request(&self, servers: &Servers, now: Timestamp) -> Result<Request, String> {
        match &self.0 {
            Question::Vault(transit) => transit.request(servers),
            Question::Aws(sealed) => sealed.request(servers, now),
        }
    }

    /// The data key in an answer.
    ///
    /// # Errors
    /// What the service says instead.
    pub fn data_key(&self, status: u16, body: &[u8]) -> Answer {
        match &self.0 {
            Question::Vault(transit) => transit.data_key(status, body),
            Question::Aws(sealed) => sealed.data_key(status, body),
        }
    }
}

fn id_of(parts: &[&str]) -> AskId {
    let mut digest = Context::new(&SHA256);
    for part in parts {
        digest.update(&(part.len() as u64).to_be_bytes());
        digest.update(part.as_bytes());
    }
    digest.finish().as_ref().try_into().expect("SHA-256 has 32 bytes")
}

impl fmt::Debug for Ask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ask({self})")
    }
}

/// Which server is asked, and for which key: without credentials.
impl fmt::Display for Ask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = match &self.0 {
            Question::Vault(transit) => transit.key.to_string(),
            Question::Aws(sealed) => sealed.key.to_string(),
        };
        f.write_str(&shown(&key))
    }
}

/// Which servers may be asked, by address.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Servers(Vec<Server>);

impl Servers {
    pub fn new(allowed: impl IntoIterator<Item = Server>) -> Self {
        Self(allowed.into_iter().collect())
    }

    /// Whether nobody may be asked.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// As it was allowed, if it was: what is connected to is the operator's text, not that of the file.
    fn allowed(&self, address: &str) -> Result<&Url, String> {
        let server: Server = address.parse()?;
        let refused = || {
            format!(
                "{server} may not be asked for keys, as it would be sent what proves who asks; the operator can allow it with \
                 --allow-key-service {server}"
            )
        };
        self.0.iter().find(|allowed| **allowed == server).map(|allowed| &allowed.0).ok_or_else(refused)
    }
}

/// The address of a server: scheme, host, port and, behind a proxy, a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server(Url);

impl std::str::FromStr for Server {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = |what: &str| format!("'{}' is not the address of a key service: {what}", shown(text));
        if text.len() > MOST_NAME {
            return Err(bad("it is too long"));
        }
        let mut url =
            Url::parse(text).map_err(|_| bad("it should be like https://vault.example.com:8200"))?;
        if !matches!(url.scheme(), "https" | "http") || url.host_str().is_none_or(str::is_empty) {
            return Err(bad("it should be like https://vault.example.com:8200"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(bad("it must not hold credentials"));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(bad("it must not have a query or a fragment"));
        }
        let path = url.path().trim_end_matches('/').to_owned();
        url.set_path(&path);
        Ok(Self(url))
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str().trim_end_matches('/'))
    }
}

/// A stranger's words, as messages show them.
pub(crate) fn shown(text: &str) -> String {
    let mut chars = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    let mut shown: String = chars.by_ref().take(SHOWN_CHARS).collect();
    if chars.next().is_some() {
        shown.push('…');
    }
    shown
}

/// What a file cannot be opened for, as nobody here asks.
pub(crate) fn unasked(asks: &[Ask]) -> String {
    let keys: Vec<String> = asks.iter().map(Ask::to_string).collect();
    keys.join(", ")
}

/// The questions to ask before the next try; none where that would help nobody.
pub fn next_asks<'a>(answers: &Answers, asks: Option<&'a [Ask]>) -> Option<&'a [Ask]> {
    let asks = asks?;
    (answers.len() + asks.len() <= MAX_ASKS && asks.iter().all(|ask| !answers.contains_key(&ask.id())))
        .then_some(asks)
}

impl SopsError {
    /// Who has to be asked before the file can open.
    pub fn asks(&self) -> Option<&[Ask]> {
        match self {
            Self::Unasked(asks) => Some(asks),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
