//! Files of age (<https://age-encryption.org/v1>), as far as SOPS has them: a data key, sealed for X25519 and ssh-ed25519 keys, with
//! armour. The crate for it brings a hundred others, a localisation framework and RSA without a constant time among them.
//!
//! ```text
//!   -----BEGIN AGE ENCRYPTED FILE-----      base64 of:
//!   age-encryption.org/v1
//!   -> X25519 SHARE                         a stanza for each recipient: the file key, wrapped
//!   BODY
//!   --- MAC                                 over all above, by the file key
//!   NONCE CHUNKS                            the content, in chunks of 64 KiB
//! ```

mod file;
mod identity;
mod recipient;
mod ssh;

pub use identity::Identity;
pub use recipient::Recipient;

pub(crate) use recipient::encrypt;

use zeroize::Zeroizing;

/// Opens an armoured file by the first identity that fits.
///
/// # Errors
/// Why none opens it.
pub(crate) fn decrypt(armoured: &str, identities: &[Identity]) -> Result<Zeroizing<Vec<u8>>, String> {
    let bytes = file::dearmour(armoured)?;
    let file = file::File::parse(&bytes)?;
    for identity in identities {
        if let Some(key) = identity.unwrap(&file.stanzas)? {
            return file.open(&key);
        }
    }
    Err(match identities.len() {
        0 => "there is no age key here".to_owned(),
        1 => "the age key that is here is another one".to_owned(),
        all => format!("none of the {all} age keys that are here is it"),
    })
}

/// HKDF with SHA-256, to 32 bytes.
fn derive(salt: &[u8], secret: &[u8], info: &str) -> Zeroizing<[u8; 32]> {
    use ring::hkdf::{HKDF_SHA256, Salt};
    let mut key = Zeroizing::new([0; 32]);
    let info = [info.as_bytes()];
    let filled = Salt::new(HKDF_SHA256, salt)
        .extract(secret)
        .expand(&info, HKDF_SHA256)
        .map(|okm| okm.fill(&mut *key));
    filled.and_then(|filled| filled).expect("32 bytes are one block of SHA-256");
    key
}

/// Seals by ChaCha20-Poly1305, without additional data.
fn seal(key: &[u8; 32], nonce: [u8; 12], clear: &[u8]) -> Vec<u8> {
    use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
    let key = LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, key).expect("a key of 32 bytes"));
    let mut sealed = clear.to_vec();
    key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::empty(), &mut sealed)
        .expect("what is sealed is short");
    sealed
}

/// Opens what ChaCha20-Poly1305 sealed without additional data.
fn unseal(key: &[u8; 32], nonce: [u8; 12], sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
    let key = LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, key).ok()?);
    let mut clear = Zeroizing::new(sealed.to_vec());
    let length = key.open_in_place(Nonce::assume_unique_for_key(nonce), Aad::empty(), &mut clear).ok()?.len();
    clear.truncate(length);
    Some(clear)
}
