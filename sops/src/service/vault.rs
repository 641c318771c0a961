//! The transit engine of Vault and OpenBao.
//!
//! The request is the documented one (<https://developer.hashicorp.com/vault/api-docs/secret/transit#decrypt-data>), as SOPS sends it:
//! `POST ADDRESS/v1/ENGINE/decrypt/KEY` with the token in `X-Vault-Token`.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{Answer, MOST_NAME, MOST_SEALED, Request, Servers, shown};

/// A data key that a key of a transit engine sealed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransitKey {
    pub address: String,
    pub engine: String,
    pub key: String,
    /// As `vault:v1:…`.
    pub enc: String,
}

impl fmt::Display for TransitKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { address, engine, key, .. } = self;
        write!(f, "Vault {address}/v1/{engine}/keys/{key}")
    }
}

/// To be opened with a token.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Transit {
    pub(crate) key: TransitKey,
    pub(crate) token: Zeroizing<String>,
}

#[derive(Serialize)]
struct Sealed<'a> {
    ciphertext: &'a str,
}

#[derive(Deserialize)]
struct Answered {
    data: Opened,
}

#[derive(Deserialize)]
struct Opened {
    plaintext: Zeroizing<String>,
}

#[derive(Deserialize)]
struct Refused {
    errors: Vec<String>,
}

impl Transit {
    pub(super) fn parts(&self) -> Vec<&str> {
        let TransitKey { address, engine, key, enc } = &self.key;
        vec!["vault", address, engine, key, enc, &self.token]
    }

    pub(super) fn request(&self, servers: &Servers) -> Result<Request, String> {
        let TransitKey { address, engine, key, enc } = &self.key;
        let mut url = servers.allowed(address)?.clone();
        let engine: Vec<&str> = engine.trim_matches('/').split('/').collect();
        if engine.iter().copied().chain([key.as_str()]).any(|name| !is_name(name)) {
            return Err("its engine_path or key_name has characters that Vault's do not have".to_owned());
        }
        if enc.len() > MOST_SEALED {
            return Err(format!("its enc has more than {MOST_SEALED} bytes"));
        }
        {
            let mut path = url.path_segments_mut().map_err(|()| "its address takes no path".to_owned())?;
            path.pop_if_empty().push("v1").extend(engine).push("decrypt").push(key);
        }
        let body = serde_json::to_vec(&Sealed { ciphertext: enc }).map_err(|error| error.to_string())?;
        let headers = vec![
            ("x-vault-token", self.token.clone()),
            ("x-vault-request", Zeroizing::new("true".to_owned())),
            ("content-type", Zeroizing::new("application/json".to_owned())),
        ];
        Ok(Request { method: "POST", url, headers, body })
    }

    pub(super) fn data_key(&self, status: u16, body: &[u8]) -> Answer {
        if status == 200 {
            let bad = || "it answered something else than a key".to_owned();
            let answered: Answered = serde_json::from_slice(body).map_err(|_| bad())?;
            return STANDARD
                .decode(answered.data.plaintext.as_bytes())
                .map(Zeroizing::new)
                .map_err(|_| bad());
        }
        let said: Vec<String> =
            serde_json::from_slice(body).map_or_else(|_| Vec::new(), |Refused { errors }| errors);
        let said =
            if said.is_empty() { String::new() } else { format!(": {}", shown(said.join(", ").trim())) };
        let hint = match status {
            400 => "; the key may be another one than the file is encrypted for",
            403 => "; see that the token is valid, and that its policy lets it update this path",
            404 => "; there may be no such transit engine",
            503 => "; it may be sealed",
            _ => "",
        };
        Err(format!("it answered HTTP {status}{said}{hint}"))
    }
}

/// A segment of an engine's path, or the name of a key.
fn is_name(name: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '~');
    !name.is_empty() && name.len() <= MOST_NAME && name.chars().all(fits) && name != "." && name != ".."
}
