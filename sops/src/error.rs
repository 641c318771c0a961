//! What can be wrong with an encrypted file. No message holds a value.

use crate::service::{Ask, unasked};

/// Why a file does not open.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SopsError {
    #[error("has {bytes} bytes, more than the {most} that are decrypted")]
    TooLarge { bytes: usize, most: usize },
    /// With the line and the column, where there are any.
    #[error("is not valid {format}: {message}")]
    Syntax { format: &'static str, message: String },
    #[error("is not encrypted by SOPS: it has no `sops` metadata")]
    NotEncrypted,
    #[error("its SOPS metadata cannot be read: {field}: {message}")]
    Metadata { field: String, message: String },
    /// `wanted`: for which keys it is encrypted; `tried`: what each of them came to.
    #[error("no key opens it: it is encrypted for {wanted}; {tried}")]
    NoKey { wanted: String, tried: String },
    /// Services that nobody has asked yet; with their answers the file may open.
    #[error("has to be opened by {}, which is not asked here", unasked(.0))]
    Unasked(Vec<Ask>),
    #[error("{path}: {message}")]
    Value { path: String, message: String },
    #[error(
        "its MAC does not match: the file was changed without sops, or a part of it was removed; edit it with `sops`, or \
         encrypt it anew"
    )]
    Mac,
    #[error("cannot be written as {format}: {message}")]
    Unwritable { format: &'static str, message: String },
}

impl SopsError {
    pub(crate) fn field(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Metadata { field: field.into(), message: message.into() }
    }
}
