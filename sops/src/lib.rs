//! Files that SOPS encrypted, read and written as the `sops` program does. Pure: keys, texts and random bytes are arguments.
//!
//! ```text
//!   text ──format──► tree of values, in order ──┐
//!                    `sops`: metadata ── keys ──┴─► data key ──► each value opened, its path as additional data ──► text
//!                                                            └─► MAC over all values, in order, compared
//! ```
//!
//! Each value is AES-256-GCM with a nonce of 32 bytes, sealed with its path; the data key is sealed for each master key; see
//! <https://github.com/getsops/sops>. A file whose key nobody here has is an error that names the keys that would do.

pub mod age;
mod cipher;
mod error;
mod format;
mod keys;
mod metadata;
mod rules;
mod seal;
pub mod service;
mod shamir;
mod tree;

pub use cipher::DataKey;
pub use error::SopsError;
pub use format::{Format, marks_of};
pub use keys::{KeyGroup, Keys, MasterKey};
pub use metadata::Metadata;
pub use seal::{Random, Recipe, edit, encrypt, rotate, update_keys};

use flotilla_yaml::Node;

/// Bytes of one encrypted text, as in Flux.
pub const MAX_BYTES: usize = 5 << 20;

/// Whether the MAC over all values is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mac {
    Verified,
    /// Of an object that went through a build, which changes and sorts it. Flux compares it nowhere.
    Ignored,
}

/// Decrypts a text. What it is written as afterwards may be another format, as where a Secret's key says so.
///
/// # Errors
/// See [`SopsError`]. Nothing of a text that does not open as a whole is given out.
pub fn decrypt(text: &[u8], from: Format, to: Format, keys: &Keys, mac: Mac) -> Result<Vec<u8>, SopsError> {
    if text.len() > MAX_BYTES {
        return Err(SopsError::TooLarge { bytes: text.len(), most: MAX_BYTES });
    }
    let mut file = format::read(text, from)?;
    let metadata = metadata::take(&mut file, from)?;
    open(&mut file, &metadata, keys, mac)?;
    format::write(&file, to)
}

/// Decrypts an object that a build put out. Its MAC is not compared: builds add, change and sort fields.
///
/// # Errors
/// See [`SopsError`].
pub fn decrypt_object(object: &Node, keys: &Keys) -> Result<Node, SopsError> {
    let mut file = format::yaml::read_nodes(std::slice::from_ref(object))?;
    let metadata = metadata::take(&mut file, Format::Yaml)?;
    open(&mut file, &metadata, keys, Mac::Ignored)?;
    let mut nodes = format::yaml::nodes(&file);
    nodes.pop().ok_or(SopsError::NotEncrypted)
}

fn open(file: &mut tree::File, metadata: &Metadata, keys: &Keys, mac: Mac) -> Result<(), SopsError> {
    let key = keys.data_key(metadata)?;
    let found = tree::open(file, metadata, &key)?;
    if mac == Mac::Verified && metadata.mac(&key)? != found {
        return Err(SopsError::Mac);
    }
    Ok(())
}
