//! Public keys that age files are sealed for.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use bech32::Bech32;
use bech32::primitives::decode::CheckedHrpstring;
use curve25519_dalek::edwards::CompressedEdwardsY;
use ring::digest::{SHA256, digest};
use x25519_dalek::{PublicKey, StaticSecret};

use super::file::{Payload, Stanza, armour};
use super::ssh::{ED25519, INFO, Wire};
use super::{derive, seal};
use crate::seal::Random;

/// A public key.
#[derive(Debug, Clone)]
pub struct Recipient {
    text: String,
    kind: Kind,
}

#[derive(Debug, Clone)]
enum Kind {
    X25519([u8; 32]),
    /// The key as it is on the wire, and as one of X25519.
    Ssh {
        public: Vec<u8>,
        key: [u8; 32],
    },
}

impl Recipient {
    /// `age1…`, or `ssh-ed25519 …` as in a `.pub` file.
    ///
    /// # Errors
    /// What it is instead.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let bad = |what: &str| format!("'{text}' {what}");
        let kind = match text.split_whitespace().collect::<Vec<_>>()[..] {
            ["ssh-ed25519", packed, ..] => {
                let public = STANDARD.decode(packed).map_err(|_| bad("is not a valid ssh key"))?;
                let mut wire = Wire(&public);
                let point = (wire.field() == Some(ED25519)).then(|| wire.field()).flatten();
                let point = point.and_then(|point| CompressedEdwardsY::from_slice(point).ok()?.decompress());
                let key = point.ok_or_else(|| bad("is not a valid ssh key"))?.to_montgomery().to_bytes();
                Kind::Ssh { public, key }
            }
            [kind, ..] if kind.starts_with("ssh-") => {
                return Err(bad("is a key of a type that is not supported; use ssh-ed25519"));
            }
            _ if text.to_ascii_lowercase().starts_with("age-secret-key") => {
                return Err("this is a secret key; name its public key, which begins with age1".to_owned());
            }
            _ => {
                let decoded =
                    CheckedHrpstring::new::<Bech32>(text).ok().filter(|key| key.hrp().to_string() == "age");
                let bytes =
                    decoded.and_then(|key| <[u8; 32]>::try_from(key.byte_iter().collect::<Vec<u8>>()).ok());
                Kind::X25519(
                    bytes.ok_or_else(|| {
                        bad("is not the public key of an age key; it should begin with age1")
                    })?,
                )
            }
        };
        Ok(Self { text: text.to_owned(), kind })
    }

    /// As people write it.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The file key, sealed for this key alone.
    fn wrap(&self, key: &[u8; 16], random: Random<'_>) -> Stanza {
        let mut secret = [0; 32];
        random(&mut secret);
        let secret = StaticSecret::from(secret);
        let share = *PublicKey::from(&secret).as_bytes();
        let packed = STANDARD_NO_PAD.encode(share);
        match &self.kind {
            Kind::X25519(public) => {
                let shared = secret.diffie_hellman(&PublicKey::from(*public));
                let salt = [share, *public].concat();
                let wrapping = derive(&salt, shared.as_bytes(), "age-encryption.org/v1/X25519");
                Stanza {
                    kind: "X25519".to_owned(),
                    arguments: vec![packed],
                    body: seal(&wrapping, [0; 12], key),
                }
            }
            Kind::Ssh { public, key: own } => {
                let shared = secret.diffie_hellman(&PublicKey::from(*own));
                let tweak = StaticSecret::from(*derive(public, &[], INFO));
                let tweaked = tweak.diffie_hellman(&PublicKey::from(*shared.as_bytes()));
                let wrapping = derive(&[share, *own].concat(), tweaked.as_bytes(), INFO);
                let tag = STANDARD_NO_PAD.encode(&digest(&SHA256, public).as_ref()[..4]);
                let body = seal(&wrapping, [0; 12], key);
                Stanza { kind: "ssh-ed25519".to_owned(), arguments: vec![tag, packed], body }
            }
        }
    }
}

/// An armoured file for one key, as SOPS makes one for each.
pub(crate) fn encrypt(clear: &[u8], recipient: &Recipient, random: Random<'_>) -> String {
    let (mut key, mut nonce) = ([0; 16], [0; 16]);
    random(&mut key);
    random(&mut nonce);
    let stanza = recipient.wrap(&key, random);
    armour(&Payload { key, nonce, clear }.sealed(&stanza))
}
