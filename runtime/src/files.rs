//! Files that survive a crash: what is read afterwards is the old content or the new, never a part.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rand::Rng;

/// Readable and writable by the owner only: for keys and secrets.
pub const PRIVATE: u32 = 0o600;
/// Readable by everybody: for certificates and state without secrets.
pub const PUBLIC: u32 = 0o644;

const TEMPORARY: &str = ".flotilla-tmp-";

/// A file operation that failed, with the path and what was attempted.
#[derive(Debug, thiserror::Error)]
#[error("cannot {attempt} {}", path.display())]
pub struct FileError {
    attempt: &'static str,
    path: PathBuf,
    source: io::Error,
}

impl FileError {
    fn of(attempt: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self { attempt, path, source }
    }

    /// Whether the file is not there, as opposed to there and unreadable.
    pub fn is_not_found(&self) -> bool {
        self.source.kind() == io::ErrorKind::NotFound
    }
}

/// Writes `content` beside `path` with `mode`, syncs it, renames it over `path` and syncs the folder. When
/// this returns the content is durable. Blocking.
pub fn write_atomic(path: &Path, content: &[u8], mode: u32) -> Result<(), FileError> {
    let folder = folder_of(path);
    let temporary = folder.join(format!("{TEMPORARY}{:016x}", rand::rng().random::<u64>()));
    let written = write_synced(&temporary, content, mode)
        .and_then(|()| fs::rename(&temporary, path))
        .and_then(|()| sync_folder(folder));
    written.map_err(|error| {
        // The temporary file is gone already where the rename succeeded.
        let _ = fs::remove_file(&temporary);
        FileError::of("write", path)(error)
    })
}

fn write_synced(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    // The umask may have taken bits away.
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    file.write_all(content)?;
    file.sync_all()
}

/// Whether a file of this name is one that is being written.
pub fn is_temporary(name: &str) -> bool {
    name.starts_with(TEMPORARY)
}

/// Reads a whole file. Blocking.
pub fn read(path: &Path) -> Result<Vec<u8>, FileError> {
    fs::read(path).map_err(FileError::of("read", path))
}

/// As [`read`], with a file that is not there as `None`. Blocking.
pub fn read_if_there(path: &Path) -> Result<Option<Vec<u8>>, FileError> {
    match read(path) {
        Err(error) if error.is_not_found() => Ok(None),
        result => result.map(Some),
    }
}

/// Whether a file or folder is there. What cannot be looked at is an error and never absent, as it is to
/// [`Path::exists`]. Blocking.
///
/// # Errors
/// Where the disk or the rights do not tell.
pub fn is_there(path: &Path) -> Result<bool, FileError> {
    path.try_exists().map_err(FileError::of("look at", path))
}

/// Removes a file durably; one that is not there is fine. Blocking.
pub fn remove(path: &Path) -> Result<(), FileError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result.and_then(|()| sync_folder(folder_of(path))).map_err(FileError::of("remove", path)),
    }
}

/// Makes a folder, and those above it, that only the owner may enter, and removes temporary files that a
/// crash left in it. One that is there already, and what is directly in it, is closed to others. Only for folders with one
/// process as owner. Blocking.
///
/// # Errors
/// Also where it is open to others and cannot be closed, as it belongs to another user.
pub fn private_folder(path: &Path) -> Result<(), FileError> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(FileError::of("make folder", path))?;
    // First, so that nobody can put anything in the place of what is looked at next.
    if let Some(mode) = close_to_others(path)? {
        tracing::warn!(
            "{} was open to other users (mode {mode:04o}); it is closed to them now",
            path.display()
        );
    }
    for entry in list(path)? {
        if entry.file_name().is_some_and(|name| name.to_string_lossy().starts_with(TEMPORARY)) {
            remove(&entry)?;
        } else {
            // Nobody could reach it through a folder that was closed.
            close_to_others(&entry)?;
        }
    }
    Ok(())
}

/// Takes from a file or folder what its group and others may do with it; gives the mode that it had, if that is less now.
/// Links stay as they are.
fn close_to_others(path: &Path) -> Result<Option<u32>, FileError> {
    let about = fs::symlink_metadata(path).map_err(FileError::of("look at", path))?;
    let mode = about.permissions().mode() & 0o7777;
    if about.is_symlink() || mode & 0o077 == 0 {
        return Ok(None);
    }
    let closed = fs::set_permissions(path, fs::Permissions::from_mode(mode & 0o7700));
    closed.map_err(|source| {
        let reason = format!(
            "it is open to other users (mode {mode:04o}) and cannot be closed to them ({source}): chmod it to 0700, or \
             name a folder in it that this program makes for itself"
        );
        FileError::of("keep private", path)(io::Error::new(source.kind(), reason))
    })?;
    Ok(Some(mode))
}

/// The paths in a folder, sorted. Blocking.
pub fn list(folder: &Path) -> Result<Vec<PathBuf>, FileError> {
    let mut paths = fs::read_dir(folder)
        .and_then(|entries| {
            entries.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<Vec<_>>>()
        })
        .map_err(FileError::of("list", folder))?;
    paths.sort();
    Ok(paths)
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each of them is absent to [`Path::exists`].
    #[test]
    fn what_cannot_be_looked_at_is_not_absent() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let (file, circle) = (folder.path().join("file"), folder.path().join("circle"));
        fs::write(&file, "")?;
        std::os::unix::fs::symlink(&circle, &circle)?;
        assert_eq!((is_there(&file)?, is_there(&folder.path().join("none"))?), (true, false));
        for path in [circle, file.join("below"), folder.path().join("x".repeat(300))] {
            assert!(is_there(&path).is_err() && !path.exists(), "{}", path.display());
        }
        Ok(())
    }

    #[test]
    fn a_write_replaces_the_content_and_the_mode_and_leaves_nothing_beside() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("key");
        write_atomic(&path, b"old", PUBLIC)?;
        write_atomic(&path, b"new", PRIVATE)?;
        assert_eq!(read(&path)?, b"new");
        assert_eq!(fs::metadata(&path)?.permissions().mode() & 0o777, 0o600);
        assert_eq!(list(folder.path())?, [path]);
        Ok(())
    }

    #[test]
    fn a_failed_write_keeps_the_old_content_and_names_the_path() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("occupied");
        fs::create_dir(&path)?;
        fs::write(path.join("file"), "kept")?;
        let error = write_atomic(&path, b"new", PUBLIC).unwrap_err();
        assert_eq!(error.to_string(), format!("cannot write {}", path.display()));
        assert_eq!(fs::read_to_string(path.join("file"))?, "kept");
        assert_eq!(list(folder.path())?, [path]);
        Ok(())
    }

    #[test]
    fn absent_is_told_from_unreadable() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        assert_eq!(read_if_there(&folder.path().join("absent"))?, None);
        assert!(read_if_there(folder.path()).is_err(), "a folder is not an absent file");
        remove(&folder.path().join("absent"))?;
        Ok(())
    }

    #[test]
    fn what_a_crash_left_is_swept() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let state = folder.path().join("a/b");
        private_folder(&state)?;
        assert_eq!(fs::metadata(&state)?.permissions().mode() & 0o777, 0o700);
        fs::write(state.join(format!("{TEMPORARY}0123")), "half")?;
        fs::write(state.join("kept"), "whole")?;
        private_folder(&state)?;
        assert_eq!(list(&state)?, [state.join("kept")]);
        Ok(())
    }

    #[test]
    fn a_folder_that_was_made_by_hand_is_closed_with_what_is_in_it() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let (data, outside) = (folder.path().join("data"), folder.path().join("outside"));
        fs::create_dir_all(data.join("sources"))?;
        fs::write(data.join("store"), "secret")?;
        fs::write(&outside, "not ours")?;
        std::os::unix::fs::symlink(&outside, data.join("link"))?;
        let mode = |path: &Path| fs::metadata(path).map(|about| about.permissions().mode() & 0o7777);
        for (path, open) in [(&data, 0o2777), (&data.join("sources"), 0o755), (&data.join("store"), 0o644)] {
            fs::set_permissions(path, fs::Permissions::from_mode(open))?;
        }
        fs::set_permissions(&outside, fs::Permissions::from_mode(0o644))?;
        private_folder(&data)?;
        assert_eq!(mode(&data)? & 0o777, 0o700);
        assert_eq!((mode(&data.join("sources"))?, mode(&data.join("store"))?), (0o700, 0o600));
        assert_eq!(mode(&outside)?, 0o644, "what a link leads to is not ours");
        Ok(())
    }
}
