//! The files of a `.tar.gz`, for the generators that take archives apart.

use std::io::{self, Read};

use flate2::read::MultiGzDecoder;
use flotilla_kustomize::files::TreePath;
use tar::{Archive, EntryType};

/// What the files of one archive may come to, in bytes.
const LIMIT: u64 = 100 << 20;
/// And how many they may be.
const FILES: usize = 50_000;

/// Whether the name is that of an archive.
pub(crate) fn is_archive(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    name.ends_with(".tar.gz") || name.ends_with(".tgz")
}

/// The regular files of an archive; links are left out as they are in sources.
///
/// # Errors
/// Where it is damaged or too large, or leads out of its folder.
pub(crate) fn unpacked(packed: &[u8]) -> Result<Vec<(TreePath, Vec<u8>)>, String> {
    let wrong = |error: io::Error| format!("the archive cannot be read: {error}");
    let mut left = LIMIT;
    let mut files = Vec::new();
    // Entries without content take room too.
    let unzipped = MultiGzDecoder::new(packed).take(2 * LIMIT);
    for entry in Archive::new(unzipped).entries().map_err(wrong)? {
        let mut entry = entry.map_err(wrong)?;
        if !matches!(entry.header().entry_type(), EntryType::Regular | EntryType::Continuous) {
            continue;
        }
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let path = TreePath::from_root(name.trim_start_matches("./")).map_err(|error| error.to_string())?;
        let mut content = Vec::new();
        (&mut entry).take(left + 1).read_to_end(&mut content).map_err(wrong)?;
        left = left
            .checked_sub(content.len() as u64)
            .ok_or_else(|| format!("the archive's files are larger than {} MiB", LIMIT >> 20))?;
        if files.len() == FILES {
            return Err(format!("the archive has more than {FILES} files"));
        }
        files.push((path, content));
    }
    Ok(files)
}
