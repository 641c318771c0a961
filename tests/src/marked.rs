//! Secrets of tests bear a mark, and whatever hub and agent write, log or answer is searched for it: in clear, in base64, and
//! inside of what is packed by gzip or zstd.

use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

/// Stands in each value that may be in clear only in its cluster.
pub const MARK: &str = "marked-never-in-clear-7d1e2";

/// What is unpacked of one packed part.
const MOST_UNPACKED: u64 = 64 << 20;
const GZIP: &[u8] = &[0x1f, 0x8b, 8];
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];

/// The mark in each of the ways in which it can be seen: as it is, and base64 of it behind 0, 1 and 2 other bytes without
/// the characters that those share.
fn needles() -> [String; 4] {
    use base64::Engine as _;
    let base64 = |text: &str| base64::engine::general_purpose::STANDARD_NO_PAD.encode(text);
    let core = |before: &str, cut: usize| {
        let whole = base64(&format!("{before}{MARK}"));
        whole[cut..whole.len() - 1].to_owned()
    };
    [MARK.to_owned(), core("", 0), core("x", 2), core("xx", 3)]
}

/// Whether the mark is in some bytes.
#[must_use]
pub fn is_in(bytes: &[u8]) -> bool {
    let needles = needles();
    let [clear, first, second, third] = needles.each_ref().map(String::as_bytes);
    let holds = |bytes: &[u8]| found(bytes, &[clear, first, second, third]).next().is_some();
    found(bytes, &[clear, first, second, third, GZIP, ZSTD]).any(|(at, needle)| match needle {
        GZIP => holds(&unpacked(flate2::read::GzDecoder::new(&bytes[at..]))),
        ZSTD => zstd::stream::read::Decoder::new(&bytes[at..]).is_ok_and(|packed| holds(&unpacked(packed))),
        _ => true,
    })
}

/// What can be unpacked: a magic number may stand anywhere, and what is packed may be cut off.
fn unpacked(packed: impl Read) -> Vec<u8> {
    let mut bytes = Vec::new();
    let _ = packed.take(MOST_UNPACKED).read_to_end(&mut bytes);
    bytes
}

/// Where any of the needles is, and which, in one pass.
fn found<'a>(bytes: &'a [u8], needles: &[&'a [u8]]) -> impl Iterator<Item = (usize, &'a [u8])> {
    let mut begins = [false; 256];
    needles.iter().for_each(|needle| begins[usize::from(needle[0])] = true);
    let needles = needles.to_vec();
    let places = bytes.iter().enumerate().filter(move |(_, byte)| begins[usize::from(**byte)]);
    places.filter_map(move |(at, _)| {
        let needle = needles.iter().find(|needle| bytes[at..].starts_with(needle))?;
        Some((at, *needle))
    })
}

/// The files below a folder that have the mark in them.
///
/// # Errors
/// Where the folder cannot be read; a file that goes meanwhile is none.
pub fn files_in(folder: &Path) -> Result<Vec<PathBuf>> {
    let (mut found, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(next) = folders.pop() {
        let entries = std::fs::read_dir(&next).with_context(|| format!("read {}", next.display()))?;
        for entry in entries {
            let entry = entry.with_context(|| format!("read {}", next.display()))?;
            let (path, kind) = (entry.path(), entry.file_type().context("look at a file")?);
            if kind.is_dir() {
                folders.push(path);
            } else if kind.is_file() {
                match std::fs::read(&path) {
                    Ok(bytes) if is_in(&bytes) => found.push(path),
                    Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                        return Err(error).with_context(|| format!("read {}", path.display()));
                    }
                    _ => {}
                }
            }
        }
    }
    Ok(found)
}

/// Refuses a folder that has the mark in a file.
///
/// # Errors
/// Which files have it, or that they cannot be read.
pub fn none_in(folder: &Path) -> Result<()> {
    let found = files_in(folder)?;
    ensure!(found.is_empty(), "a Secret's value is in clear in {found:?}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    use super::*;

    #[test]
    fn the_mark_is_found_however_it_is_written() {
        // Of few different letters, so that what packs it leaves no byte as it is.
        let mut state = 1u32;
        let mut noise = || -> String {
            let letter = |_| {
                state = state.wrapping_mul(1_103_515_245).wrapping_add(12_345);
                char::from(b"aeinrst-"[(state >> 16) as usize % 8])
            };
            (0..4_000).map(letter).collect()
        };
        for before in ["", "a", "ab", "abc"] {
            let text = format!("{before}{MARK}, and more");
            assert!(is_in(text.as_bytes()), "{text}");
            let base64 = STANDARD.encode(&text);
            assert!(is_in(format!("data: {base64}").as_bytes()), "{base64}");
            let long = format!("{}{text}{}", noise(), noise());
            let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
            gzip.write_all(long.as_bytes()).unwrap();
            for packed in [gzip.finish().unwrap(), zstd::encode_all(long.as_bytes(), 3).unwrap()] {
                assert!(found(&packed, &[MARK.as_bytes()]).next().is_none(), "it is packed");
                assert!(is_in(&[b"before", &packed[..], b"after"].concat()));
            }
        }
        assert!(!is_in(&MARK.as_bytes()[1..]) && !is_in(b"") && !is_in(&[GZIP, ZSTD].concat()));
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("in")).unwrap();
        none_in(folder.path()).unwrap();
        // A magic number in front does not hide it.
        std::fs::write(folder.path().join("in/file"), [GZIP, ZSTD, MARK.as_bytes()].concat()).unwrap();
        let error = none_in(folder.path()).unwrap_err().to_string();
        assert!(error.contains("in/file"), "{error}");
    }
}
