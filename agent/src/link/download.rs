//! Fetching bodies: asked for in batches, received in pieces, decoded and checked. Pure.
//!
//! ```text
//!   want ──► waiting ──need()──► asked ──pieces──► whole ──decode, digest──► Arrived::Body
//!               ▲                                            │ bad: once more, whole
//!               └────────────────────────────────────────────┘
//! ```

use std::collections::{BTreeMap, HashMap, VecDeque};

use bytes::{Bytes, BytesMut};
use flotilla_core::Digest;
use flotilla_proto::body::{DecodeError, decode};
use flotilla_proto::convert::{Invalid, digest, digest_bytes, optional_digest};
use flotilla_proto::{MAX_BODY, v1};

/// Bodies asked for and not yet here: so many, and so many bytes by the manifest's word.
const MAX_ASKED: usize = 512;
const MAX_ASKED_BYTES: usize = 4 << 20;
/// Pieces held, whatever the hub says of sizes.
const MAX_HELD: usize = 16 << 20;
/// The second time a body is asked for without a base; then it is the hub that is wrong.
const ATTEMPTS: u8 = 3;

/// What a piece led to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Arrived {
    /// More of it has to come, or it was not asked for.
    Nothing,
    Body(Digest, Bytes),
    /// The hub does not have it any more.
    Gone(Digest),
}

/// A hub that does not keep to the contract.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DownloadError {
    #[error(transparent)]
    Invalid(#[from] Invalid),
    #[error("the hub sent {0} wrongly {ATTEMPTS} times")]
    Body(Digest, #[source] BadBody),
    #[error("the hub sends more at once than was asked for")]
    TooMuch,
}

/// Why pieces made no body.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BadBody {
    #[error(transparent)]
    Decode(#[from] DecodeError),
    #[error("its pieces do not fit together")]
    Pieces,
    #[error("its content has another digest")]
    Digest,
}

#[derive(Debug)]
struct Wanted {
    base: Option<Digest>,
    size: usize,
    attempts: u8,
}

#[derive(Debug)]
struct Asked {
    wanted: Wanted,
    encoding: i32,
    base: Option<Digest>,
    encoded_size: u32,
    size: u32,
    pieces: BTreeMap<u32, Bytes>,
    held: usize,
}

/// The bodies that are lacking.
#[derive(Debug, Default)]
pub(crate) struct Download {
    waiting: VecDeque<(Digest, Wanted)>,
    asked: HashMap<Digest, Asked>,
    asked_bytes: usize,
    held: usize,
}

impl Download {
    /// Wants a body of about `size` bytes, of which `base` is a version that is here.
    pub(crate) fn want(&mut self, digest: Digest, base: Option<Digest>, size: u32) {
        self.waiting.push_back((digest, Wanted { base, size: size as usize, attempts: 0 }));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.asked.is_empty()
    }

    /// Forgets everything; what still comes was not asked for.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// The next bodies to ask for, if there is room for a good part of a batch.
    pub(crate) fn need(&mut self) -> Option<v1::Need> {
        if self.waiting.is_empty()
            || self.asked.len() > MAX_ASKED / 2
            || self.asked_bytes > MAX_ASKED_BYTES / 2
        {
            return None;
        }
        let mut bodies = Vec::new();
        while self.asked.len() < MAX_ASKED {
            let Some((_, next)) = self.waiting.front() else { break };
            if self.asked_bytes + next.size > MAX_ASKED_BYTES && !self.asked.is_empty() {
                break;
            }
            let Some((digest, wanted)) = self.waiting.pop_front() else { break };
            bodies.push(v1::NeedBody { digest: digest_bytes(Some(digest)), base: digest_bytes(wanted.base) });
            self.asked_bytes += wanted.size;
            let (encoding, base, pieces) = (0, None, BTreeMap::new());
            self.asked
                .insert(digest, Asked { wanted, encoding, base, encoded_size: 0, size: 0, pieces, held: 0 });
        }
        Some(v1::Need { bodies })
    }

    /// Asks again for what was asked for and did not come.
    pub(crate) fn again(&mut self) {
        let asked: Vec<Digest> = self.asked.keys().copied().collect();
        for digest in asked {
            if let Some(asked) = self.remove(digest) {
                self.waiting.push_front((digest, asked.wanted));
            }
        }
    }

    /// Takes a piece; `read` gives the content of a base.
    pub(crate) fn take(
        &mut self,
        piece: v1::Body,
        read: impl Fn(Digest) -> Option<Bytes>,
    ) -> Result<Arrived, DownloadError> {
        let digest = digest("body.digest", &piece.digest)?;
        if piece.gone {
            return Ok(self.remove(digest).map_or(Arrived::Nothing, |_| Arrived::Gone(digest)));
        }
        let base = optional_digest("body.base", &piece.base)?;
        let Some(asked) = self.asked.get_mut(&digest) else { return Ok(Arrived::Nothing) };
        let end = u64::from(piece.offset) + piece.data.len() as u64;
        if piece.size as usize > MAX_BODY
            || piece.encoded_size as usize > MAX_BODY
            || end > piece.encoded_size.into()
        {
            return self.retry(digest, BadBody::Pieces);
        }
        let head = (piece.encoding, base, piece.encoded_size, piece.size);
        if (asked.encoding, asked.base, asked.encoded_size, asked.size) != head {
            // The first piece, or the hub began anew.
            self.held -= asked.held;
            asked.held = 0;
            asked.pieces.clear();
            (asked.encoding, asked.base, asked.encoded_size, asked.size) = head;
        }
        if !asked.pieces.contains_key(&piece.offset) {
            asked.held += piece.data.len();
            self.held += piece.data.len();
            asked.pieces.insert(piece.offset, piece.data);
        }
        if self.held > MAX_HELD {
            return Err(DownloadError::TooMuch);
        }
        if asked.held < asked.encoded_size as usize {
            return Ok(Arrived::Nothing);
        }
        match asked.body(digest, read) {
            Ok(body) => {
                self.remove(digest);
                Ok(Arrived::Body(digest, body))
            }
            Err(bad) => self.retry(digest, bad),
        }
    }

    fn retry(&mut self, digest: Digest, bad: BadBody) -> Result<Arrived, DownloadError> {
        if let Some(Asked { mut wanted, .. }) = self.remove(digest) {
            wanted.attempts += 1;
            wanted.base = None;
            if wanted.attempts == ATTEMPTS {
                return Err(DownloadError::Body(digest, bad));
            }
            self.waiting.push_front((digest, wanted));
        }
        Ok(Arrived::Nothing)
    }

    fn remove(&mut self, digest: Digest) -> Option<Asked> {
        let asked = self.asked.remove(&digest)?;
        self.held -= asked.held;
        self.asked_bytes -= asked.wanted.size;
        Some(asked)
    }
}

impl Asked {
    fn body(&self, digest: Digest, read: impl Fn(Digest) -> Option<Bytes>) -> Result<Bytes, BadBody> {
        let mut encoded = match self.pieces.len() {
            1 => None,
            _ => Some(BytesMut::with_capacity(self.encoded_size as usize)),
        };
        let mut end = 0;
        for (offset, piece) in &self.pieces {
            if *offset != end {
                return Err(BadBody::Pieces);
            }
            end += piece.len() as u32;
            if let Some(encoded) = &mut encoded {
                encoded.extend_from_slice(piece);
            }
        }
        let encoded = match (encoded, self.pieces.get(&0)) {
            (Some(encoded), _) => encoded.freeze(),
            (None, Some(only)) => only.clone(),
            (None, None) => return Err(BadBody::Pieces),
        };
        let base = self.base.and_then(read);
        let body = decode(self.encoding, &encoded, self.size as usize, base.as_deref())?;
        if Digest::of(&body) == digest { Ok(body) } else { Err(BadBody::Digest) }
    }
}

#[cfg(test)]
#[path = "download_tests.rs"]
mod tests;
