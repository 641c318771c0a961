//! Tar archives that say nothing of the machine and the time at which they were made.

use std::collections::BTreeMap;
use std::io::Write;

use anyhow::Context;
use flate2::Compression;
use flate2::write::GzEncoder;
use tar::{EntryType, Header};

/// What stands at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Entry {
    File { content: Vec<u8>, mode: u32 },
    Folder { mode: u32 },
}

/// The files and folders of an archive by path, which is relative and without `.` and `..`. All belong to root.
#[derive(Debug, Clone, Default)]
pub struct Tree(BTreeMap<String, Entry>);

impl Tree {
    /// A file that everybody may read.
    #[must_use]
    pub fn file(self, path: &str, content: impl Into<Vec<u8>>) -> Self {
        self.with(path, Entry::File { content: content.into(), mode: 0o644 })
    }

    /// A file that everybody may run.
    #[must_use]
    pub fn program(self, path: &str, content: impl Into<Vec<u8>>) -> Self {
        self.with(path, Entry::File { content: content.into(), mode: 0o755 })
    }

    /// A folder with permissions of its own, as `0o1777` for `/tmp`.
    #[must_use]
    pub fn folder(self, path: &str, mode: u32) -> Self {
        self.with(path, Entry::Folder { mode })
    }

    fn with(mut self, path: &str, entry: Entry) -> Self {
        for (at, _) in path.match_indices('/') {
            self.0.entry(path[..at].to_owned()).or_insert(Entry::Folder { mode: 0o755 });
        }
        self.0.insert(path.to_owned(), entry);
        self
    }

    /// The archive: entries by path, folders before what is in them, all of the time `seconds` after 1970.
    ///
    /// # Errors
    /// Where `out` fails, or a path is not one that a tar archive can hold.
    pub fn write<W: Write>(&self, out: W, seconds: u64) -> anyhow::Result<W> {
        let mut archive = tar::Builder::new(out);
        for (path, entry) in &self.0 {
            let (kind, mode, content) = match entry {
                Entry::File { content, mode } => (EntryType::Regular, *mode, content.as_slice()),
                Entry::Folder { mode } => (EntryType::Directory, *mode, [].as_slice()),
            };
            let path = if kind == EntryType::Directory { format!("{path}/") } else { path.clone() };
            let mut header = Header::new_ustar();
            header.set_entry_type(kind);
            header.set_mode(mode);
            header.set_uid(0);
            header.set_gid(0);
            header.set_mtime(seconds);
            header.set_size(content.len() as u64);
            archive
                .append_data(&mut header, &path, content)
                .with_context(|| format!("cannot put {path} into an archive"))?;
        }
        archive.into_inner().context("cannot end an archive")
    }

    /// The same, compressed by gzip without a name and a time in it.
    ///
    /// # Errors
    /// As for [`Tree::write`].
    pub fn gzip(&self, seconds: u64) -> anyhow::Result<Vec<u8>> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(&self.write(Vec::new(), seconds)?).context("cannot compress an archive")?;
        encoder.finish().context("cannot compress an archive")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_tells_neither_the_order_nor_the_time_of_its_making() {
        let one = Tree::default().program("usr/bin/a", "1").folder("tmp", 0o1777).file("etc/b", "2");
        let other = Tree::default().file("etc/b", "2").program("usr/bin/a", "1").folder("tmp", 0o1777);
        assert_eq!(one.gzip(7).unwrap(), other.gzip(7).unwrap());
        assert_ne!(one.gzip(7).unwrap(), one.gzip(8).unwrap());
    }

    #[test]
    fn folders_come_before_what_is_in_them_and_all_is_of_root() {
        let tree = Tree::default().program("usr/local/bin/a", "12").folder("tmp", 0o1777);
        let bytes = tree.write(Vec::new(), 7).unwrap();
        let mut archive = tar::Archive::new(bytes.as_slice());
        let entries = archive.entries().unwrap().map(|entry| {
            let entry = entry.unwrap();
            let header = entry.header();
            assert_eq!((header.uid().unwrap(), header.gid().unwrap(), header.mtime().unwrap()), (0, 0, 7));
            (entry.path().unwrap().display().to_string(), header.mode().unwrap(), header.size().unwrap())
        });
        let expected = [
            ("tmp/", 0o1777, 0),
            ("usr/", 0o755, 0),
            ("usr/local/", 0o755, 0),
            ("usr/local/bin/", 0o755, 0),
            ("usr/local/bin/a", 0o755, 2),
        ];
        assert_eq!(
            entries.collect::<Vec<_>>(),
            expected.map(|(path, mode, size)| (path.to_owned(), mode, size))
        );
    }
}
