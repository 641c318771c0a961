//! The files of a `.tar.gz`, for the generators that take archives apart.

use std::io::{self, Read};

use flate2::read::MultiGzDecoder;
use flotilla_kustomize::files::TreePath;
use tar::EntryType;

/// What the files of one archive may come to, in bytes.
const LIMIT: u64 = 100 << 20;
/// And how many they may be.
const FILES: usize = 50_000;

/// Whether the name is that of an archive.
pub(crate) fn is_archive(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    name.ends_with(".tar.gz") || name.ends_with(".tgz")
}

/// What an archive holds.
#[derive(Debug)]
pub(crate) struct Unpacked {
    pub(crate) files: Vec<(TreePath, Vec<u8>)>,
    /// What it unpacked to, with all that is not a file.
    pub(crate) bytes: u64,
}

/// The regular files of an archive; links are left out as they are in sources.
///
/// # Errors
/// Where it is damaged or too large, or leads out of its folder.
pub(crate) fn unpacked(packed: &[u8]) -> Result<Unpacked, String> {
    let wrong = |error: io::Error| format!("the archive cannot be read: {error}");
    let mut left = LIMIT;
    let mut files = Vec::new();
    // Entries without content take room too.
    let mut unzipped = MultiGzDecoder::new(packed).take(2 * LIMIT);
    flotilla_archive::each(&mut unzipped, wrong, |name, entry| {
        match entry.header().entry_type() {
            EntryType::Regular | EntryType::Continuous => {}
            EntryType::GNUSparse => return Err(wrong(flotilla_archive::sparse())),
            _ => return Ok(()),
        }
        let name = String::from_utf8_lossy(&name).into_owned();
        let path = TreePath::from_root(name.trim_start_matches("./")).map_err(|error| error.to_string())?;
        let mut content = Vec::new();
        entry.take(left + 1).read_to_end(&mut content).map_err(wrong)?;
        left = left
            .checked_sub(content.len() as u64)
            .ok_or_else(|| format!("the archive's files are larger than {} MiB", LIMIT >> 20))?;
        if files.len() == FILES {
            return Err(format!("the archive has more than {FILES} files"));
        }
        files.push((path, content));
        Ok(())
    })?;
    // What was cut off there looks like its end.
    if unzipped.limit() == 0 {
        return Err(format!("the archive unpacks to more than {} MiB", (2 * LIMIT) >> 20));
    }
    Ok(Unpacked { files, bytes: 2 * LIMIT - unzipped.limit() })
}

#[cfg(test)]
mod tests {
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use std::io::Write as _;
    use tar::{Builder, Header};

    use super::*;

    /// One file, whose name stands in an entry of its own.
    fn packed(kind: EntryType, notes: &[u8]) -> Vec<u8> {
        let mut tar = Builder::new(Vec::new());
        for (kind, content) in [(kind, notes), (EntryType::Regular, &b"x"[..])] {
            let mut header = Header::new_gnu();
            header.set_entry_type(kind);
            header.set_path("short").unwrap();
            header.set_size(content.len() as u64);
            header.set_cksum();
            tar.append(&header, content).unwrap();
        }
        let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
        gzip.write_all(&tar.into_inner().unwrap()).unwrap();
        gzip.finish().unwrap()
    }

    #[test]
    fn long_names_are_read_within_a_bound() {
        let name = format!("{}/f", "d".repeat(200));
        let pax = format!("{} path={name}\n", name.len() + 10);
        for packed in [
            packed(EntryType::GNULongName, format!("{name}\0").as_bytes()),
            packed(EntryType::XHeader, pax.as_bytes()),
        ] {
            let Unpacked { files, .. } = unpacked(&packed).unwrap();
            assert_eq!((files.len(), files[0].0.as_str(), &files[0].1[..]), (1, name.as_str(), &b"x"[..]));
        }
        for kind in [EntryType::GNULongName, EntryType::XHeader] {
            let error =
                unpacked(&packed(kind, &vec![b'x'; flotilla_archive::NOTES as usize + 1])).unwrap_err();
            assert!(error.contains("what is noted of a file has 65537 bytes"), "{error}");
        }
    }

    #[test]
    fn no_part_of_an_archive_is_passed_over_in_silence() {
        for (kind, notes, reason) in [
            (EntryType::GNUSparse, &b""[..], "sparse"),
            (EntryType::XHeader, b"22 GNU.sparse.major=1\n", "sparse"),
            (EntryType::XHeader, b"10 size=0\n", "size"),
        ] {
            let error = unpacked(&packed(kind, notes)).unwrap_err();
            assert!(error.contains(reason), "{reason}: {error}");
        }
    }
}
