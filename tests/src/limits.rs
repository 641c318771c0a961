//! Disks that take nothing, as any user of the machine can make them: full by a limit on the sizes of files, or read-only.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result};
use rustix::process::{Pid, Resource, Rlimit, geteuid, getrlimit, prlimit};

use crate::process::{Process, Recipe};

/// A limit on the sizes of files would kill the program; with this its writes fail instead.
#[must_use]
pub fn survives_limits(recipe: Recipe) -> Recipe {
    recipe.wrapped("/bin/sh", ["-c", "trap '' XFSZ; exec \"$@\"", "sh"])
}

/// No file that the program writes may become longer than this from now on, as if the disk were full; `None` ends it.
/// The program must have been started by [`survives_limits`].
///
/// # Errors
/// If the program does not run.
pub fn limit_files(process: &Process, bytes: Option<u64>) -> Result<()> {
    let pid = process.pid().context("the program is not running")?;
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).context("its id is none")?;
    let maximum = getrlimit(Resource::Fsize).maximum;
    prlimit(Some(pid), Resource::Fsize, Rlimit { current: bytes.or(maximum), maximum })
        .context("limit the sizes of files")?;
    Ok(())
}

/// Has the program see a folder read-only at its next start, and gives its recipe. Root is not stopped by permissions, so
/// for root the folder is mounted so, for the program alone.
///
/// # Errors
/// If the folder's permissions cannot be changed.
pub fn read_only(recipe: Recipe, folder: &Path) -> Result<Recipe> {
    if geteuid().is_root() {
        let script = "mount --bind \"$0\" \"$0\" && mount -o remount,bind,ro \"$0\" && exec \"$@\"";
        let recipe = recipe.wrapped("/bin/sh", ["-c".into(), script.into(), folder.as_os_str().to_owned()]);
        return Ok(recipe.wrapped("/usr/bin/unshare", ["-m"]));
    }
    set_writable(folder, false)?;
    Ok(recipe)
}

/// Ends [`read_only`] where it is by permissions.
///
/// # Errors
/// If they cannot be changed.
pub fn writable(folder: &Path) -> Result<()> {
    set_writable(folder, true)
}

fn set_writable(folder: &Path, writable: bool) -> Result<()> {
    let set = |path: &Path, mode: u32| {
        fs::set_permissions(path, Permissions::from_mode(mode))
            .with_context(|| format!("chmod {}", path.display()))
    };
    for entry in fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))? {
        set(&entry?.path(), if writable { 0o600 } else { 0o400 })?;
    }
    set(folder, if writable { 0o700 } else { 0o500 })
}
