//! Backups: every record, the CA's files and what helm rendered, in one file that says whether it is whole.
//!
//! A zstd stream of JSON lines: a header, one line for each record and file, and an end with their count and
//! digest. It holds the CA's keys: keep it as you keep those.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flotilla_core::Digest;
use flotilla_core::report::Timestamp;
use flotilla_runtime::files;
use serde::{Deserialize, Serialize};

use super::records::encode;
use super::tokens::CLAIMS;
use super::{DiskStore, FIRST_TOKEN_CLAIM, Outcome, RestoreRecord, Store, StoreError, Txn, VERSION};

/// Folder of the CA's files in the data folder.
pub const CA_FOLDER: &str = "ca";
/// Folder of the store in the data folder.
pub const STORE_FOLDER: &str = "store";
/// Folder of what helm rendered, sealed.
pub const HELM_FOLDER: &str = "helm";
/// What was fetched; not in backups.
pub const SOURCES_FOLDER: &str = "sources";
/// The clone of the fleet repo; not in backups.
pub const REPO_FOLDER: &str = "repo";
/// Where refs of the fleet repo are pushed from; without objects, and not in backups.
pub const REFS_FOLDER: &str = "refs";
/// No line is longer: the largest record is the list of a cluster's units.
const MAX_LINE: u64 = 256 << 20;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Line {
    Header { backup: u32, at: Timestamp, hub_version: String },
    Record { key: String, value: String },
    File { path: String, content: String },
    End { lines: u64, digest: String },
}

/// A backup that was not made, or not restored.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    File(#[from] files::FileError),
    #[error("cannot {attempt} the backup {}", path.display())]
    Io { attempt: &'static str, path: PathBuf, source: io::Error },
    #[error("cannot write the backup")]
    Write(#[source] io::Error),
    #[error("the backup {} is damaged: {reason}", path.display())]
    Damaged { path: PathBuf, reason: String },
    #[error("the backup {} has version {version}, this hub knows {VERSION}: run a newer hub", path.display())]
    Newer { path: PathBuf, version: u32 },
    #[error("{} holds a hub's state already: restore into an empty folder, or move it away first", .0.display())]
    NotEmpty(PathBuf),
}

/// Writes a backup of the store as of one moment, then of the CA's folder and of what helm rendered. Blocking. Answers the number of
/// records and files.
pub fn write(
    store: &dyn Store,
    data: &Path,
    at: Timestamp,
    hub_version: &str,
    out: impl Write,
) -> Result<u64, BackupError> {
    let mut encoder = zstd::Encoder::new(out, 3).map_err(BackupError::Write)?;
    let (mut lines, mut digests) = (0, Vec::new());
    let mut put = |line: &Line| {
        let text = serde_json::to_vec(line).expect("texts and numbers");
        digests.extend_from_slice(Digest::of(&text).as_bytes());
        lines += 1;
        encoder.write_all(&text).and_then(|()| encoder.write_all(b"\n")).map_err(BackupError::Write)
    };
    put(&Line::Header { backup: VERSION, at, hub_version: hub_version.to_owned() })?;
    for (key, value) in store.scan("")? {
        put(&Line::Record { key, value: STANDARD.encode(value) })?;
    }
    for folder in [CA_FOLDER, HELM_FOLDER] {
        if folder == HELM_FOLDER && !files::is_there(&data.join(folder))? {
            continue;
        }
        for path in files::list(&data.join(folder))? {
            // Unused renders may be removed meanwhile.
            let Some(content) = files::read_if_there(&path)? else { continue };
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if files::is_temporary(&name) {
                continue;
            }
            put(&Line::File { path: format!("{folder}/{name}"), content: STANDARD.encode(content) })?;
        }
    }
    let end = Line::End { lines, digest: Digest::of(&digests).to_string() };
    let text = serde_json::to_vec(&end).expect("texts and numbers");
    encoder.write_all(&text).map_err(BackupError::Write)?;
    encoder.finish().and_then(|mut out| out.flush()).map_err(BackupError::Write)?;
    Ok(lines - 1)
}

/// Writes a backup to a new private file, durably. Blocking.
pub fn write_file(
    store: &dyn Store,
    data: &Path,
    at: Timestamp,
    hub_version: &str,
    path: &Path,
) -> Result<u64, BackupError> {
    let io_error = |attempt| move |source| BackupError::Io { attempt, path: path.to_owned(), source };
    let file = create_private(path).map_err(io_error("create"))?;
    let count = write(store, data, at, hub_version, &file)?;
    file.sync_all().map_err(io_error("sync"))?;
    Ok(count)
}

/// Creates a file that only the owner may read; one that is there already is an error.
pub fn create_private(path: &Path) -> io::Result<File> {
    File::options().write(true).create_new(true).mode(files::PRIVATE).open(path)
}

/// What a restore did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    pub made_at: Timestamp,
    pub records: usize,
    pub files: usize,
    /// Unused join tokens that were dropped: they may have been used since the backup was made.
    pub dropped_tokens: usize,
}

/// Restores a backup into a data folder that holds no hub's state. The whole backup is checked before the
/// first write. Blocking.
pub fn restore(path: &Path, data: &Path, now: Timestamp) -> Result<Restored, BackupError> {
    for part in [CA_FOLDER, STORE_FOLDER, HELM_FOLDER] {
        if files::is_there(&data.join(part))? {
            return Err(BackupError::NotEmpty(data.join(part)));
        }
    }
    let content = read(path)?;
    files::private_folder(data)?;
    // The CA last: `ca/` there and `store/` not is what an interrupted restore must never look like.
    let store: Arc<dyn Store> = Arc::new(DiskStore::open(&data.join(STORE_FOLDER))?);
    let mut txn = Txn::default();
    let (mut records, mut dropped_tokens) = (0, 0);
    for (key, value) in content.records {
        if key.starts_with("join/") {
            dropped_tokens += 1;
        } else if key.strip_prefix(CLAIMS) == Some(FIRST_TOKEN_CLAIM) {
            // The next start writes an admin's token again: a backup has only the hashes of tokens.
        } else {
            txn.put(key, value);
            records += 1;
        }
    }
    txn.put("meta/restored", encode(&RestoreRecord { backup_at: content.at, restored_at: now }));
    match store.txn(&txn)? {
        Outcome::Committed => {}
        Outcome::Conflict => return Err(StoreError::Contended("the whole store".into()).into()),
    }
    files::private_folder(&data.join(HELM_FOLDER))?;
    files::private_folder(&data.join(CA_FOLDER))?;
    let files_count = content.files.len();
    let (authority, renders): (Vec<_>, Vec<_>) =
        content.files.into_iter().partition(|(folder, _, _)| *folder == CA_FOLDER);
    for (folder, name, bytes) in renders.into_iter().chain(authority) {
        let is_secret = folder == HELM_FOLDER || name.ends_with(".key");
        let mode = if is_secret { files::PRIVATE } else { files::PUBLIC };
        files::write_atomic(&data.join(folder).join(name), &bytes, mode)?;
    }
    Ok(Restored { made_at: content.at, records, files: files_count, dropped_tokens })
}

struct Content {
    at: Timestamp,
    records: Vec<(String, Vec<u8>)>,
    /// Folder, name and bytes.
    files: Vec<(&'static str, String, Vec<u8>)>,
}

fn read(path: &Path) -> Result<Content, BackupError> {
    let io_error = |source| BackupError::Io { attempt: "read", path: path.to_owned(), source };
    let damaged = |reason: String| BackupError::Damaged { path: path.to_owned(), reason };
    let decoder = zstd::Decoder::new(File::open(path).map_err(io_error)?).map_err(io_error)?;
    let mut reader = BufReader::new(decoder);
    let mut content = Content { at: 0, records: Vec::new(), files: Vec::new() };
    let (mut lines, mut digests) = (0_u64, Vec::new());
    loop {
        let mut text = Vec::new();
        let length = (&mut reader)
            .take(MAX_LINE)
            .read_until(b'\n', &mut text)
            .map_err(|error| damaged(error.to_string()))?;
        if length == 0 {
            return Err(damaged("its end is missing".into()));
        }
        if text.last() == Some(&b'\n') {
            text.pop();
        }
        let line = serde_json::from_slice(&text).map_err(|e| damaged(format!("line {}: {e}", lines + 1)))?;
        let decode = |text: String| STANDARD.decode(text).map_err(|error| damaged(error.to_string()));
        match line {
            Line::Header { backup, at, .. } if lines == 0 => {
                if backup > VERSION {
                    return Err(BackupError::Newer { path: path.to_owned(), version: backup });
                }
                content.at = at;
            }
            Line::Record { key, value } if lines > 0 => content.records.push((key, decode(value)?)),
            Line::File { path: name, content: text } if lines > 0 => {
                let plain = |folder: &'static str| {
                    let name = name.strip_prefix(folder)?.strip_prefix('/')?;
                    let is_plain = !name.is_empty() && !name.contains('/') && !name.starts_with('.');
                    is_plain.then(|| (folder, name.to_owned()))
                };
                let (folder, name) = plain(CA_FOLDER)
                    .or_else(|| plain(HELM_FOLDER))
                    .ok_or_else(|| damaged(format!("it holds a file {name:?}")))?;
                content.files.push((folder, name, decode(text)?));
            }
            Line::End { lines: count, digest } => {
                if count != lines || digest != Digest::of(&digests).to_string() {
                    return Err(damaged("its lines are not those that were written".into()));
                }
                return Ok(content);
            }
            Line::Header { .. } | Line::Record { .. } | Line::File { .. } => {
                return Err(damaged(format!("line {} is in the wrong place", lines + 1)));
            }
        }
        digests.extend_from_slice(Digest::of(&text).as_bytes());
        lines += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::super::{AuditRecord, JoinTokenRecord, Records};
    use super::*;
    use flotilla_core::Generation;
    use flotilla_runtime::token::TokenSecret;
    use std::os::unix::fs::PermissionsExt;

    fn hub(data: &Path) -> Records {
        let store = super::super::disk::open_again(&data.join(STORE_FOLDER));
        Records::open(Arc::new(store)).unwrap()
    }

    #[test]
    fn a_backup_restores_into_an_empty_folder_without_its_open_join_tokens() {
        let folder = tempfile::tempdir().unwrap();
        let (old, new) = (folder.path().join("old"), folder.path().join("new"));
        let backup = folder.path().join("backup");
        files::private_folder(&old.join(CA_FOLDER)).unwrap();
        files::write_atomic(&old.join("ca/x.key"), b"secret", files::PRIVATE).unwrap();
        files::private_folder(&old.join(HELM_FOLDER)).unwrap();
        files::write_atomic(&old.join("helm/x.sealed"), b"render", files::PUBLIC).unwrap();
        let records = hub(&old);
        records.audit(&AuditRecord::new(5, "ann", "test", "x")).unwrap();
        assert_eq!(records.next_generation().unwrap(), Generation(1));
        let token = JoinTokenRecord {
            cluster: "staging".into(),
            created_at: 0,
            created_by: "ann".into(),
            expires_at: 100,
            replace: false,
            labels: Default::default(),
            used: None,
            many: None,
        };
        let hash = TokenSecret::generate().hash();
        records.put_join_token(hash, &token, &AuditRecord::new(6, "ann", "test", "y")).unwrap();
        write_file(&**records.store(), &old, 42, "0.1.0", &backup).unwrap();
        let mode = std::fs::metadata(&backup).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(write_file(&**records.store(), &old, 42, "0.1.0", &backup).is_err(), "never overwritten");

        assert!(matches!(restore(&backup, &old, 50), Err(BackupError::NotEmpty(_))));
        let restored = restore(&backup, &new, 50).unwrap();
        assert_eq!((restored.made_at, restored.files, restored.dropped_tokens), (42, 2, 1));
        let again = hub(&new);
        assert_eq!(again.audit_log().unwrap().len(), 2);
        assert!(again.next_generation().unwrap() > Generation(1));
        assert!(again.join_tokens().unwrap().is_empty());
        assert_eq!(again.restored().unwrap(), Some(RestoreRecord { backup_at: 42, restored_at: 50 }));
        assert_eq!(std::fs::read(new.join("ca/x.key")).unwrap(), b"secret");
        assert_eq!(std::fs::read(new.join("helm/x.sealed")).unwrap(), b"render");
        let mode = std::fs::metadata(new.join("helm/x.sealed")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_damaged_backup_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let (old, new) = (folder.path().join("old"), folder.path().join("new"));
        files::private_folder(&old.join(CA_FOLDER)).unwrap();
        let records = hub(&old);
        for n in 0..50 {
            records.audit(&AuditRecord::new(n, "ann", "test", n)).unwrap();
        }
        let mut whole = Vec::new();
        write(&**records.store(), &old, 42, "0.1.0", &mut whole).unwrap();
        let broken = folder.path().join("broken");
        for cut in [0, 1, whole.len() / 2, whole.len() - 1] {
            std::fs::write(&broken, &whole[..cut]).unwrap();
            assert!(restore(&broken, &new, 50).is_err(), "{cut} of {} bytes", whole.len());
            assert!(!new.exists());
        }
        let text = zstd::decode_all(&whole[..]).unwrap();
        let lines: Vec<&[u8]> = text.split(|byte| *byte == b'\n').collect();
        let missing: Vec<&[u8]> =
            lines.iter().enumerate().filter(|(n, _)| *n != 3).map(|(_, l)| *l).collect();
        std::fs::write(&broken, zstd::encode_all(&missing.join(&b'\n')[..], 3).unwrap()).unwrap();
        assert!(matches!(restore(&broken, &new, 50), Err(BackupError::Damaged { .. })));
    }
}
