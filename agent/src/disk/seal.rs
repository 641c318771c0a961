//! The key under which contents are on the agent's disk. They hold the Secrets that charts render, and a copy of the pack
//! alone (a backup, a disk that was thrown away, an image of one file) gives none of them.
//!
//! ```text
//! sealed: nonce (12) | ChaCha20-Poly1305 of the content, with its digest as associated data
//! ```

use std::io;
use std::path::Path;

use bytes::Bytes;
use flotilla_core::Digest;
use flotilla_runtime::chain;
use flotilla_runtime::files;
use rand::RngCore;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};

use super::log::set_aside;

const KEY_BYTES: usize = 32;

pub(super) struct Seal(LessSafeKey);

impl Seal {
    /// The key in a file; made the first time. The second value tells people of a key that had to be replaced: what is
    /// sealed with the one before does not open any more, and is asked for anew.
    ///
    /// # Errors
    /// Where the file cannot be read or written: nothing is known of the key then, and nothing replaced.
    pub(super) fn open(path: &Path) -> Result<(Self, Option<String>), String> {
        let found = files::read_if_there(path).map_err(|error| chain(&error))?;
        if let Some(key) = found.as_deref().and_then(|bytes| UnboundKey::new(&CHACHA20_POLY1305, bytes).ok())
        {
            return Ok((Self(LessSafeKey::new(key)), None));
        }
        let mut problem = None;
        if found.is_some() {
            let aside =
                set_aside(path).map_err(|error| format!("cannot replace {}: {error}", path.display()))?;
            problem = Some(format!(
                "{} is damaged; it was set aside as {}, and the contents are asked for again",
                path.display(),
                aside.display()
            ));
        }
        let mut bytes = [0; KEY_BYTES];
        rand::rng().fill_bytes(&mut bytes);
        files::write_atomic(path, &bytes, files::PRIVATE).map_err(|error| chain(&error))?;
        let key = UnboundKey::new(&CHACHA20_POLY1305, &bytes).map_err(|error| error.to_string())?;
        Ok((Self(LessSafeKey::new(key)), problem))
    }

    pub(super) fn close(&self, digest: Digest, content: &[u8]) -> io::Result<Vec<u8>> {
        let mut nonce = [0; NONCE_LEN];
        rand::rng().fill_bytes(&mut nonce);
        let mut text = content.to_vec();
        let nonce_of = Nonce::assume_unique_for_key(nonce);
        let tag = self
            .0
            .seal_in_place_separate_tag(nonce_of, Aad::from(digest.as_bytes()), &mut text)
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "it is too long to be sealed"))?;
        Ok([&nonce, &text[..], tag.as_ref()].concat())
    }

    /// The content; `None` where it is damaged, of another place or under another key.
    pub(super) fn open_sealed(&self, digest: Digest, sealed: &[u8]) -> Option<Bytes> {
        let (nonce, text) = sealed.split_at_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut text = text.to_vec();
        let length = self.0.open_in_place(nonce, Aad::from(digest.as_bytes()), &mut text).ok()?.len();
        text.truncate(length);
        Some(text.into())
    }
}
