//! OpenSSH keys as age takes them: ssh-ed25519, without a passphrase.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use ring::digest::{SHA256, SHA512, digest};
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

use super::derive;
use super::file::Stanza;
use super::identity::file_key;

const BEGIN: &str = "-----BEGIN OPENSSH PRIVATE KEY-----";
const END: &str = "-----END OPENSSH PRIVATE KEY-----";
const MAGIC: &[u8] = b"openssh-key-v1\0";
pub(super) const ED25519: &[u8] = b"ssh-ed25519";
pub(super) const INFO: &str = "age-encryption.org/v1/ssh-ed25519";

#[derive(Clone)]
pub(super) struct SshKey {
    /// The public key as it is on the wire.
    public: Vec<u8>,
    /// The key as one of X25519.
    secret: StaticSecret,
}

/// Fields of a wire format, one by one: each has its length before it.
pub(super) struct Wire<'a>(pub(super) &'a [u8]);

impl<'a> Wire<'a> {
    fn number(&mut self) -> Option<u32> {
        let (number, rest) = self.0.split_first_chunk::<4>()?;
        self.0 = rest;
        Some(u32::from_be_bytes(*number))
    }

    pub(super) fn field(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.number()?).ok()?;
        let (field, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(field)
    }
}

impl SshKey {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let Some(inner) = text.strip_prefix(BEGIN).and_then(|rest| rest.strip_suffix(END)) else {
            return Err("is not an OpenSSH private key".to_owned());
        };
        let joined: Zeroizing<String> = Zeroizing::new(inner.lines().map(str::trim).collect());
        let bytes = Zeroizing::new(
            STANDARD
                .decode(joined.as_bytes())
                .map_err(|_| "is an OpenSSH key that is not valid base64".to_owned())?,
        );
        let broken = || "is a broken OpenSSH key".to_owned();
        let mut wire = Wire(bytes.strip_prefix(MAGIC).ok_or_else(broken)?);
        let cipher = wire.field().ok_or_else(broken)?;
        if cipher != b"none" {
            return Err("is an OpenSSH key with a passphrase, which nobody here could enter".to_owned());
        }
        let (_kdf, _options, count) = (wire.field(), wire.field(), wire.number());
        if count != Some(1) {
            return Err(broken());
        }
        let public = wire.field().ok_or_else(broken)?.to_vec();
        let mut private = Wire(wire.field().ok_or_else(broken)?);
        let checks = (private.number(), private.number());
        let kind = private.field().ok_or_else(broken)?;
        if kind != ED25519 {
            let kind = String::from_utf8_lossy(kind);
            return Err(format!("is an OpenSSH key of the type '{kind}'; only ssh-ed25519 is supported"));
        }
        let _public = private.field().ok_or_else(broken)?;
        let pair =
            private.field().filter(|pair| pair.len() == 64 && checks.0 == checks.1).ok_or_else(broken)?;
        // As RFC 8032 has the scalar of a seed, which is that of X25519 on the other form of the curve.
        let hash = digest(&SHA512, &pair[..32]);
        let mut scalar = [0; 32];
        scalar.copy_from_slice(&hash.as_ref()[..32]);
        Ok(Self { public, secret: StaticSecret::from(scalar) })
    }

    pub(super) fn public(&self) -> String {
        format!("ssh-ed25519 {}", STANDARD.encode(&self.public))
    }

    pub(super) fn unwrap(&self, stanza: &Stanza) -> Option<Zeroizing<Vec<u8>>> {
        let ("ssh-ed25519", [tag, share]) = (stanza.kind.as_str(), stanza.arguments.as_slice()) else {
            return None;
        };
        if STANDARD_NO_PAD.decode(tag).ok()? != digest(&SHA256, &self.public).as_ref()[..4] {
            return None;
        }
        let share = <[u8; 32]>::try_from(STANDARD_NO_PAD.decode(share).ok()?).ok()?;
        let shared = self.secret.diffie_hellman(&PublicKey::from(share));
        let tweak = StaticSecret::from(*derive(&self.public, &[], INFO));
        let tweaked = tweak.diffie_hellman(&PublicKey::from(*shared.as_bytes()));
        let salt = [share, *PublicKey::from(&self.secret).as_bytes()].concat();
        file_key(&derive(&salt, tweaked.as_bytes(), INFO), stanza)
    }
}
