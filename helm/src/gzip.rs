//! How records and what travels are compressed.

use std::io::{Read, Write};

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;

use crate::record::{MAX_INFLATED, RecordError};

/// The same content gives the same bytes.
pub(crate) fn compress(content: &[u8]) -> Vec<u8> {
    let mut writer = GzEncoder::new(Vec::new(), Compression::best());
    writer.write_all(content).expect("memory takes all");
    writer.finish().expect("memory takes all")
}

/// # Errors
/// If it is damaged, or inflates to more than [`MAX_INFLATED`].
pub(crate) fn inflate(bytes: &[u8]) -> Result<Vec<u8>, RecordError> {
    let mut inflated = Vec::new();
    let mut reader = GzDecoder::new(bytes).take(MAX_INFLATED as u64 + 1);
    reader.read_to_end(&mut inflated).map_err(|error| RecordError::NotGzip(error.to_string()))?;
    if inflated.len() > MAX_INFLATED { Err(RecordError::TooLarge) } else { Ok(inflated) }
}
