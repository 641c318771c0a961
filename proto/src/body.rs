//! Bodies on the wire: compressed whole, or against the version of the object that the other side has.
//!
//! ```text
//!   body ──► Encoded::of(body, base) ──► pieces ──► Body … Body ──► decode(encoding, data, base) ──► body
//! ```
//!
//! The caller names the content by its digest and checks that digest after decoding.

use bytes::Bytes;
use flotilla_core::Digest;
use zstd::zstd_safe;

use crate::convert::digest_bytes;
use crate::v1::{self, body::Encoding};
use crate::{MAX_BODY, MAX_CHUNK};

/// Below this a frame's own overhead eats what it saves.
const WORTH_COMPRESSING: usize = 128;
const LEVEL: i32 = 3;

/// A body as it travels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoded {
    encoding: Encoding,
    base: Option<Digest>,
    data: Bytes,
    /// Length of the body itself.
    size: u32,
}

/// Bytes that are not the body they should be.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    #[error("a body of {0} bytes is larger than the {MAX_BODY} that one object may have")]
    TooLarge(usize),
    #[error("a body's zstd frame does not decode")]
    Zstd(#[source] std::io::Error),
    #[error("a body has {found} bytes instead of {expected}")]
    Size { expected: usize, found: usize },
    #[error("a body came against a base that is not there")]
    NoBase,
    #[error("a body came in encoding {0}, which this version does not know")]
    Encoding(i32),
}

impl Encoded {
    /// Takes the shortest of: the bytes themselves, a zstd frame, a zstd frame against `base` (a version that
    /// the receiver has, with its digest).
    pub fn of(body: &Bytes, base: Option<(Digest, &[u8])>) -> Self {
        let plain =
            Self { encoding: Encoding::Plain, base: None, data: body.clone(), size: body.len() as u32 };
        if body.len() < WORTH_COMPRESSING {
            return plain;
        }
        let (encoding, base, compressed) = match base {
            Some((digest, base)) => (Encoding::ZstdAgainstBase, Some(digest), compress(body, Some(base))),
            None => (Encoding::Zstd, None, compress(body, None)),
        };
        match compressed {
            Ok(data) if data.len() < body.len() => {
                Self { encoding, base, data: data.into(), size: plain.size }
            }
            // zstd fails for want of memory only; the body can always go as it is.
            _ => plain,
        }
    }

    /// How many bytes the encoded text has.
    pub fn len(&self) -> usize {
        self.data.len()
    }

    /// Whether the encoded text is empty, as that of an empty body is.
    pub fn is_empty(&self) -> bool {
        self.data.is_empty()
    }

    /// The messages that carry the body; at least one.
    pub fn pieces(&self, digest: Digest) -> Vec<v1::Body> {
        let starts = (0..self.data.len().max(1)).step_by(MAX_CHUNK);
        let piece = |start: usize| v1::Body {
            digest: digest_bytes(Some(digest)),
            encoding: self.encoding.into(),
            base: digest_bytes(self.base),
            encoded_size: self.data.len() as u32,
            offset: start as u32,
            data: self.data.slice(start..self.data.len().min(start + MAX_CHUNK)),
            size: self.size,
            gone: false,
        };
        starts.map(piece).collect()
    }
}

/// What says that the hub no longer has this content.
pub fn gone(digest: Digest) -> v1::Body {
    v1::Body { digest: digest_bytes(Some(digest)), gone: true, ..Default::default() }
}

/// Decodes the whole encoded text of a body of `size` bytes; `base` is the content that it came against.
pub fn decode(encoding: i32, data: &Bytes, size: usize, base: Option<&[u8]>) -> Result<Bytes, DecodeError> {
    if size > MAX_BODY {
        return Err(DecodeError::TooLarge(size));
    }
    let body = match Encoding::try_from(encoding) {
        Ok(Encoding::Plain) => data.clone(),
        Ok(Encoding::Zstd) => decompress(data, size, None)?,
        Ok(Encoding::ZstdAgainstBase) => decompress(data, size, Some(base.ok_or(DecodeError::NoBase)?))?,
        Ok(Encoding::Unspecified) | Err(_) => return Err(DecodeError::Encoding(encoding)),
    };
    if body.len() == size { Ok(body) } else { Err(DecodeError::Size { expected: size, found: body.len() }) }
}

fn compress(body: &[u8], base: Option<&[u8]>) -> Result<Vec<u8>, std::io::Error> {
    let mut context = zstd_safe::CCtx::try_create().ok_or_else(out_of_memory)?;
    context.set_parameter(zstd_safe::CParameter::CompressionLevel(LEVEL)).map_err(zstd_error)?;
    if let Some(base) = base {
        // The window has to reach from the end of the body to the start of the base.
        let reach = (base.len() + body.len()).max(1 << 10);
        let log = usize::BITS - (reach - 1).leading_zeros();
        context.set_parameter(zstd_safe::CParameter::WindowLog(log)).map_err(zstd_error)?;
        // Level 3 alone loses sight of a base beyond half a megabyte.
        context.set_parameter(zstd_safe::CParameter::EnableLongDistanceMatching(true)).map_err(zstd_error)?;
        context.ref_prefix(base).map_err(zstd_error)?;
    }
    let mut out = Vec::with_capacity(zstd_safe::compress_bound(body.len()));
    context.compress2(&mut out, body).map_err(zstd_error)?;
    out.shrink_to_fit();
    Ok(out)
}

fn decompress(data: &[u8], size: usize, base: Option<&[u8]>) -> Result<Bytes, DecodeError> {
    let mut out = Vec::with_capacity(size);
    let result = (|| {
        let mut context = zstd_safe::DCtx::try_create().ok_or_else(out_of_memory)?;
        if let Some(base) = base {
            context.ref_prefix(base).map_err(zstd_error)?;
        }
        // Never writes beyond the capacity, whatever the frame says.
        context.decompress(&mut out, data).map_err(zstd_error)
    })();
    result.map_err(DecodeError::Zstd)?;
    Ok(out.into())
}

fn zstd_error(code: usize) -> std::io::Error {
    std::io::Error::other(zstd_safe::get_error_name(code))
}

fn out_of_memory() -> std::io::Error {
    std::io::Error::from(std::io::ErrorKind::OutOfMemory)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assemble(pieces: &[v1::Body]) -> Bytes {
        pieces.iter().flat_map(|piece| piece.data.iter().copied()).collect::<Vec<_>>().into()
    }

    /// Text that does not repeat itself, like real configuration.
    fn lines(count: u64) -> Vec<String> {
        (0..count).map(|n| format!("key-{n}: {}", Digest::of(&n.to_be_bytes()))).collect()
    }

    #[test]
    fn a_line_changed_in_a_large_object_is_a_small_patch() {
        for count in [60, 6_500, 20_000] {
            let mut text = lines(count);
            let base = Bytes::from(text.join("\n"));
            text[count as usize / 2] = "key: changed".into();
            let body = Bytes::from(text.join("\n"));
            let digest = Digest::of(&base);
            let encoded = Encoded::of(&body, Some((digest, &base)));
            assert!(encoded.len() < 1_000, "{} bytes for a change in {}", encoded.len(), body.len());
            let pieces = encoded.pieces(Digest::of(&body));
            let [piece] = &pieces[..] else { panic!("{} pieces", pieces.len()) };
            let decoded = decode(piece.encoding, &piece.data, piece.size as usize, Some(&base)).unwrap();
            assert_eq!(decoded, body);
            assert!(decode(piece.encoding, &piece.data, piece.size as usize, None).is_err());
        }
    }

    #[test]
    fn bodies_of_all_sizes_come_back_in_pieces_of_bounded_size() {
        for size in [0, 1, 127, 128, 5_000, MAX_CHUNK, MAX_BODY] {
            let random: Vec<u8> =
                (0..size as u64 / 32 + 1).flat_map(|n| Digest::of(&n.to_be_bytes()).to_vec()).collect();
            let body = Bytes::from(random).slice(..size);
            let encoded = Encoded::of(&body, None);
            let pieces = encoded.pieces(Digest::of(&body));
            assert!(pieces.iter().all(|piece| piece.data.len() <= MAX_CHUNK));
            assert!(pieces.iter().all(|piece| piece.encoded_size as usize == encoded.len()));
            let decoded = decode(pieces[0].encoding, &assemble(&pieces), size, None).unwrap();
            assert_eq!(decoded, body);
        }
    }

    #[test]
    fn what_is_not_the_body_is_refused() {
        let body = Bytes::from(lines(40).join("\n"));
        let encoded = Encoded::of(&body, None);
        let (encoding, data) = (encoded.encoding.into(), &encoded.data);
        assert!(matches!(decode(encoding, data, MAX_BODY + 1, None), Err(DecodeError::TooLarge(_))));
        assert!(
            decode(encoding, data, body.len() - 1, None).is_err(),
            "a bomb stops at the size that was said"
        );
        assert!(matches!(decode(encoding, data, body.len() + 1, None), Err(DecodeError::Size { .. })));
        assert!(matches!(decode(encoding, &data.slice(..9), body.len(), None), Err(DecodeError::Zstd(_))));
        assert!(matches!(decode(77, data, body.len(), None), Err(DecodeError::Encoding(77))));
    }
}
