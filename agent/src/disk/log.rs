//! An append-only file of values by key. The index is in memory, the values stay on disk.
//!
//! ```text
//! "flotilla KIND VERSION\n" | record | record | …
//! record: check of head and key (8) | check of value (8) | value length (4) | key length (2) | removed (2) | key | value
//! ```
//!
//! A crash may tear the last record; what a disk does to the others shows in the checks. Opening reads heads
//! only and ends at the first bad one; a value is checked when it is read.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::hash::Hash;
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use flotilla_core::Digest;
use flotilla_runtime::files;

const HEAD: usize = 24;
/// Rewriting a file pays only above this much garbage.
const WORTH_COMPACTING: u64 = 256 << 10;
const LARGEST_VALUE: u32 = 64 << 20;
const LONGEST_KEY: usize = 1 << 10;

/// What a log is indexed by.
pub(super) trait Key: Eq + Hash + Clone {
    fn bytes(&self) -> &[u8];
    fn parse(bytes: &[u8]) -> Option<Self>;
}

impl Key for Digest {
    fn bytes(&self) -> &[u8] {
        self.as_bytes()
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        Self::try_from(bytes).ok()
    }
}

impl Key for String {
    fn bytes(&self) -> &[u8] {
        self.as_bytes()
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        Self::from_utf8(bytes.to_vec()).ok()
    }
}

#[derive(Clone, Copy)]
struct Place {
    /// Where the value begins.
    offset: u64,
    length: u32,
    check: [u8; 8],
}

pub(super) struct Log<K> {
    path: PathBuf,
    header: String,
    /// None while it cannot be opened for writing.
    file: Option<File>,
    /// It is there and could not be read: writing would destroy what may come back.
    unread: bool,
    end: u64,
    index: HashMap<K, Place>,
    /// Bytes of the records that the index points at.
    live: u64,
}

impl<K: Key> Log<K> {
    /// Opens the log of a kind (with its version: `bodies 2`), or makes it. Never fails: what cannot be read or written is told in the
    /// second value, and the log then holds what could be read.
    pub(super) fn open(path: PathBuf, kind: &str) -> (Self, Option<String>) {
        let header = header_of(kind);
        let mut log =
            Self { path, header, file: None, unread: false, end: 0, index: HashMap::new(), live: 0 };
        let problem = log.load().unwrap_or_else(|e| {
            log.unread = true;
            Some(format!("cannot read {}: {e}", log.path.display()))
        });
        let unwritable = log.writable().err().map(|e| format!("cannot write {}: {e}", log.path.display()));
        (log, problem.or(unwritable))
    }

    /// Reads what is there; says what had to be left out.
    fn load(&mut self) -> io::Result<Option<String>> {
        let mut file = match File::open(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened?,
        };
        let length = file.metadata()?.len();
        let mut header = Vec::new();
        (&mut file).take(self.header.len() as u64).read_to_end(&mut header)?;
        if header != self.header.as_bytes() {
            // A crash right after the file was made leaves a part of the header.
            if self.header.as_bytes().starts_with(&header) {
                return Ok(None);
            }
            let aside = set_aside(&self.path)?;
            return Ok(Some(format!(
                "{} is of another version or damaged; it was set aside as {}, and what it held is asked for again",
                self.path.display(),
                aside.display()
            )));
        }
        self.end = header.len() as u64;
        self.scan(io::BufReader::with_capacity(4096, file), length)?;
        if self.end == length {
            return Ok(None);
        }
        Ok(Some(format!(
            "{}: the last {} bytes cannot be read; they were dropped, and what is missing is asked for again",
            self.path.display(),
            length - self.end
        )))
    }

    fn scan(&mut self, mut file: io::BufReader<File>, length: u64) -> io::Result<()> {
        let mut key = vec![0; LONGEST_KEY];
        while length - self.end >= HEAD as u64 {
            let mut head = [0; HEAD];
            file.read_exact(&mut head)?;
            let [.., l0, l1, l2, l3, k0, k1, removed, _] = head;
            let value_length = u32::from_le_bytes([l0, l1, l2, l3]);
            let key_length = usize::from(u16::from_le_bytes([k0, k1]));
            let record = record_length(key_length, value_length);
            if key_length > LONGEST_KEY || value_length > LARGEST_VALUE || length - self.end < record {
                break;
            }
            file.read_exact(&mut key[..key_length])?;
            let Some(parsed) = K::parse(&key[..key_length]) else { break };
            if head[..8] != check(&[&head[8..], &key[..key_length]]) {
                break;
            }
            file.seek_relative(i64::from(value_length))?;
            let mut value_check = [0; 8];
            value_check.copy_from_slice(&head[8..16]);
            let offset = self.end + (HEAD + key_length) as u64;
            self.note(
                parsed,
                (removed == 0).then_some(Place { offset, length: value_length, check: value_check }),
            );
            self.end += record;
        }
        Ok(())
    }

    fn note(&mut self, key: K, place: Option<Place>) {
        let key_length = key.bytes().len();
        let old = match place {
            Some(place) => {
                self.live += record_length(key_length, place.length);
                self.index.insert(key, place)
            }
            None => self.index.remove(&key),
        };
        if let Some(old) = old {
            self.live -= record_length(key_length, old.length);
        }
    }

    /// The file, opened for writing and cut to what is readable.
    fn writable(&mut self) -> io::Result<&File> {
        if self.unread {
            return Err(io::Error::other("it could not be read at the start"));
        }
        if self.file.is_none() {
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(files::PRIVATE)
                .open(&self.path)?;
            if self.end == 0 {
                file.set_len(0)?;
                file.write_all_at(self.header.as_bytes(), 0)?;
                self.end = self.header.len() as u64;
            } else if file.metadata()?.len() > self.end {
                file.set_len(self.end)?;
            }
            self.file = Some(file);
        }
        self.file.as_ref().ok_or_else(|| io::Error::other("the file is closed"))
    }

    pub(super) fn contains(&self, key: &K) -> bool {
        self.index.contains_key(key)
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &K> {
        self.index.keys()
    }

    /// Reads a value. One that fails its check is forgotten, and an error of kind `InvalidData`.
    pub(super) fn get(&mut self, key: &K) -> io::Result<Option<Bytes>> {
        let Some(place) = self.index.get(key).copied() else { return Ok(None) };
        let mut value = vec![0; place.length as usize];
        let read = match &self.file {
            Some(file) => file.read_exact_at(&mut value, place.offset),
            None => File::open(&self.path).and_then(|file| file.read_exact_at(&mut value, place.offset)),
        };
        let damaged = match read {
            Ok(()) => check(&[&value]) != place.check,
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => true,
            Err(error) => return Err(error),
        };
        if damaged {
            self.note(key.clone(), None);
            return Err(io::Error::new(io::ErrorKind::InvalidData, "its check fails"));
        }
        Ok(Some(value.into()))
    }

    /// Appends a value, or with `None` that there is none any more. Durable after [`Log::sync`]. After an
    /// error the log is as before.
    pub(super) fn append(&mut self, key: K, value: Option<&[u8]>) -> io::Result<()> {
        let bytes = value.unwrap_or_default();
        let key_bytes = key.bytes();
        if key_bytes.len() > LONGEST_KEY || bytes.len() > LARGEST_VALUE as usize {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the key or the value is too long"));
        }
        let record = record_of(key_bytes, bytes, value.is_none());
        let end = self.end.max(self.header.len() as u64);
        let file = self.writable()?;
        if let Err(error) = file.write_all_at(&record, end) {
            // A part may have been written; should cutting fail too, the next append overwrites it and the
            // next scan ends at it.
            let _ = file.set_len(end);
            // It may be of a disk that has gone; the next append opens it anew.
            self.file = None;
            return Err(error);
        }
        self.end = end + record.len() as u64;
        let offset = self.end - bytes.len() as u64;
        let place = Place { offset, length: bytes.len() as u32, check: check(&[bytes]) };
        self.note(key, value.is_some().then_some(place));
        Ok(())
    }

    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.as_ref().map_or(Ok(()), File::sync_data)
    }

    /// Another handle on the file, to sync it without holding the log.
    pub(super) fn handle(&self) -> io::Result<Option<File>> {
        self.file.as_ref().map(File::try_clone).transpose()
    }

    /// Forgets the keys that are not to be kept; their bytes go at the next compaction.
    pub(super) fn retain(&mut self, keep: impl Fn(&K) -> bool) {
        let drop: Vec<K> = self.index.keys().filter(|key| !keep(key)).cloned().collect();
        for key in drop {
            self.note(key, None);
        }
    }

    /// Rewrites the file without its garbage if more than half of it is that. Values that do not read any more
    /// are left out.
    pub(super) fn compact(&mut self) -> io::Result<()> {
        let garbage = self.end.saturating_sub(self.live + self.header.len() as u64);
        if garbage < WORTH_COMPACTING || garbage <= self.live {
            return Ok(());
        }
        let beside = self.path.with_extension("compacting");
        let result = self.rewrite(&beside);
        if result.is_err() {
            // Only a left-over; the next compaction truncates it.
            let _ = fs::remove_file(&beside);
        }
        result
    }

    fn rewrite(&mut self, beside: &Path) -> io::Result<()> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .mode(files::PRIVATE)
            .open(beside)?;
        let mut new = Self {
            path: self.path.clone(),
            header: self.header.clone(),
            file: Some(file),
            unread: false,
            end: 0,
            index: HashMap::new(),
            live: 0,
        };
        new.writable()?.write_all_at(self.header.as_bytes(), 0)?;
        new.end = self.header.len() as u64;
        let mut places: Vec<(u64, K)> =
            self.index.iter().map(|(key, place)| (place.offset, key.clone())).collect();
        places.sort_by_key(|(offset, _)| *offset);
        for (_, key) in places {
            match self.get(&key) {
                Ok(value) => new.append(key, value.as_deref())?,
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {}
                Err(error) => return Err(error),
            }
        }
        new.sync()?;
        fs::rename(beside, &self.path)?;
        *self = new;
        self.path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
    }

    /// Lets every write fail, as a full disk does.
    #[cfg(test)]
    pub(super) fn break_writes(&mut self) {
        let path = self.path.with_extension("elsewhere");
        fs::rename(&self.path, &path).unwrap();
        fs::create_dir(&self.path).unwrap();
        self.file = Some(File::open(&path).unwrap());
    }
}

fn header_of(kind: &str) -> String {
    format!("flotilla {kind}\n")
}

/// Whether there is a log of this kind and version.
pub(super) fn is_of_kind(path: &Path, kind: &str) -> io::Result<bool> {
    let header = header_of(kind);
    let mut found = Vec::new();
    match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        opened => opened?.take(header.len() as u64).read_to_end(&mut found)?,
    };
    Ok(found == header.as_bytes())
}

fn record_of(key: &[u8], value: &[u8], removed: bool) -> Vec<u8> {
    let mut record = vec![0; 8];
    record.extend_from_slice(&check(&[value]));
    record.extend_from_slice(&(value.len() as u32).to_le_bytes());
    record.extend_from_slice(&(key.len() as u16).to_le_bytes());
    record.extend_from_slice(&[u8::from(removed), 0]);
    record.extend_from_slice(key);
    let head = check(&[&record[8..HEAD], key]);
    record[..8].copy_from_slice(&head);
    record.extend_from_slice(value);
    record
}

fn record_length(key: usize, value: u32) -> u64 {
    (HEAD + key) as u64 + u64::from(value)
}

fn check(parts: &[&[u8]]) -> [u8; 8] {
    let mut first = [0; 8];
    first.copy_from_slice(&Digest::of_parts(parts.iter().copied()).as_bytes()[..8]);
    first
}

/// Moves a file that cannot be used out of the way, for people to look at; one such file is kept.
pub(super) fn set_aside(path: &Path) -> io::Result<PathBuf> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".unreadable");
    let aside = path.with_file_name(name);
    fs::rename(path, &aside)?;
    Ok(aside)
}

#[cfg(test)]
#[path = "log_tests.rs"]
mod tests;
