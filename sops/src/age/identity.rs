//! Keys that open age files.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use bech32::primitives::decode::CheckedHrpstring;
use bech32::{Bech32, Hrp};
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

use super::file::Stanza;
use super::ssh::SshKey;
use super::{derive, unseal};

const SECRET: &str = "age-secret-key-";
const RECIPIENT: Hrp = Hrp::parse_unchecked("age");
/// Bytes of a file of keys.
const MOST_BYTES: usize = 1 << 20;

/// A key that opens age files.
#[derive(Clone)]
pub struct Identity(Kind);

#[derive(Clone)]
enum Kind {
    X25519(StaticSecret),
    Ssh(SshKey),
}

impl Identity {
    /// The keys of a file: one a line, comments between, as `age-keygen` writes it; or an OpenSSH private key.
    ///
    /// # Errors
    /// What is wrong, and in which line; nothing of a key is in the message.
    pub(crate) fn parse_file(text: &str) -> Result<Vec<Self>, String> {
        if text.len() > MOST_BYTES {
            return Err(format!("a file of age keys has {MOST_BYTES} bytes at most"));
        }
        if text.trim_start().starts_with("-----BEGIN") {
            return Ok(vec![Self(Kind::Ssh(SshKey::parse(text)?))]);
        }
        let lines = text.lines().enumerate().map(|(index, line)| (index + 1, line.trim()));
        let lines = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
        let keys =
            lines.map(|(number, line)| Self::parse(line).map_err(|error| format!("line {number}: {error}")));
        let keys = keys.collect::<Result<Vec<Self>, String>>()?;
        if keys.is_empty() {
            return Err("holds no age key".to_owned());
        }
        Ok(keys)
    }

    fn parse(line: &str) -> Result<Self, String> {
        let lower = Zeroizing::new(line.to_ascii_lowercase());
        if lower.starts_with("age-secret-key-pq-") {
            return Err("is a post-quantum age key, which is not supported".to_owned());
        }
        if lower.starts_with("age-plugin-") {
            return Err(
                "is a key of an age plugin; plugins are programs, which Flotilla does not run".to_owned()
            );
        }
        if lower.starts_with("age1") {
            return Err("is a public key; the secret one begins with AGE-SECRET-KEY-1".to_owned());
        }
        let bad = || "is not an age key: it should begin with AGE-SECRET-KEY-1".to_owned();
        let decoded = CheckedHrpstring::new::<Bech32>(line).map_err(|_| bad())?;
        if decoded.hrp().to_string().to_ascii_lowercase() != SECRET {
            return Err(bad());
        }
        let bytes = Zeroizing::new(decoded.byte_iter().collect::<Vec<u8>>());
        let bytes = <[u8; 32]>::try_from(bytes.as_slice()).map_err(|_| bad())?;
        Ok(Self(Kind::X25519(StaticSecret::from(bytes))))
    }

    /// The public key that belongs to it.
    pub fn recipient(&self) -> String {
        match &self.0 {
            Kind::X25519(secret) => {
                bech32::encode::<Bech32>(RECIPIENT, PublicKey::from(secret).as_bytes()).expect("32 bytes fit")
            }
            Kind::Ssh(key) => key.public(),
        }
    }

    /// The file key, if one of the stanzas is for this key.
    pub(super) fn unwrap(&self, stanzas: &[Stanza]) -> Result<Option<Zeroizing<Vec<u8>>>, String> {
        for stanza in stanzas {
            let key = match &self.0 {
                Kind::X25519(secret) => x25519(secret, stanza),
                Kind::Ssh(key) => key.unwrap(stanza),
            };
            if key.is_some() {
                return Ok(key);
            }
            if stanza.kind == "scrypt" {
                return Err("the age file is sealed by a passphrase, which SOPS does not use".to_owned());
            }
        }
        Ok(None)
    }
}

fn x25519(secret: &StaticSecret, stanza: &Stanza) -> Option<Zeroizing<Vec<u8>>> {
    let ("X25519", [share]) = (stanza.kind.as_str(), stanza.arguments.as_slice()) else { return None };
    let share = <[u8; 32]>::try_from(STANDARD_NO_PAD.decode(share).ok()?).ok()?;
    let shared = secret.diffie_hellman(&PublicKey::from(share));
    if !shared.was_contributory() {
        return None;
    }
    let salt = [share, *PublicKey::from(secret).as_bytes()].concat();
    file_key(&derive(&salt, shared.as_bytes(), "age-encryption.org/v1/X25519"), stanza)
}

/// The file key of 16 bytes in a stanza.
pub(super) fn file_key(key: &[u8; 32], stanza: &Stanza) -> Option<Zeroizing<Vec<u8>>> {
    let key = unseal(key, [0; 12], &stanza.body)?;
    (key.len() == 16).then_some(key)
}
