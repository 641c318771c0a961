//! A disk that fails for one program: where it looks, reads or writes within a folder.

use std::path::{Path, PathBuf};

use anyhow::Result;
use rustix::io::Errno;

use crate::preload;
use crate::process::{Process, Recipe};

/// Which operations fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiskFault {
    pub error: Errno,
    /// So many of 100.
    pub percent: u8,
    /// `l` looks at files and folders, `r` reads, `w` writes, `t` writes half of it and fails.
    pub operations: &'static str,
}

/// A disk for programs that are started with it.
#[derive(Debug)]
pub struct FaultyDisk {
    library: PathBuf,
    faults: PathBuf,
}

impl FaultyDisk {
    /// One that works, until it is told otherwise. `folder` is for what it is made of.
    ///
    /// # Errors
    /// If the folder takes no files, or there is no C compiler.
    pub async fn new(folder: &Path) -> Result<Self> {
        let library = preload::build(folder, "disk", include_str!("disk.c")).await?;
        let disk = Self { library, faults: folder.join("disk-faults") };
        disk.heal()?;
        Ok(disk)
    }

    /// Has a program use this disk from its next start on.
    #[must_use]
    pub fn worn(&self, recipe: Recipe) -> Recipe {
        recipe.env("LD_PRELOAD", &self.library).env("DISK_FAULTS", &self.faults)
    }

    /// Waits until a program runs with it.
    ///
    /// # Errors
    /// If it runs without.
    pub async fn is_worn(&self, process: &Process) -> Result<()> {
        preload::is_loaded(process, &self.library).await
    }

    /// From now on it fails so, within a folder.
    ///
    /// # Errors
    /// If that cannot be written down.
    pub fn fail(&self, fault: DiskFault, folder: &Path) -> Result<()> {
        let DiskFault { error, percent, operations } = fault;
        let error = error.raw_os_error();
        preload::tell(&self.faults, &format!("{error} {percent} {operations} {}", folder.display()))
    }

    /// It works again.
    ///
    /// # Errors
    /// If that cannot be written down.
    pub fn heal(&self) -> Result<()> {
        preload::tell(&self.faults, "0 0 - /")
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// What becomes of a few operations of a program.
    async fn tried(disk: &FaultyDisk, folder: &Path) -> Vec<bool> {
        let run = async |script: &str| {
            let shell = Recipe::new("/bin/sh").args(["-c", script, "sh"]).arg(folder);
            let output = disk.worn(shell).output(Duration::from_secs(60)).await.unwrap();
            output.status.success()
        };
        vec![
            run("ls \"$1\"").await,
            run("cat \"$1/there\"").await,
            run("printf 0123456789 > \"$1/new\"").await,
        ]
    }

    #[tokio::test]
    async fn what_fails_is_what_was_said_and_within_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        let within = folder.path().join("within");
        std::fs::create_dir(&within).unwrap();
        std::fs::write(within.join("there"), "x").unwrap();
        let disk = FaultyDisk::new(folder.path()).await.unwrap();
        for (error, operations, works) in [
            (Errno::IO, "l", [false, true, true]),
            (Errno::ACCESS, "r", [true, false, true]),
            (Errno::NOSPC, "w", [true, true, false]),
            (Errno::IO, "t", [true, true, false]),
        ] {
            let fault = DiskFault { error, percent: 100, operations };
            disk.fail(fault, &within).unwrap();
            assert_eq!(tried(&disk, &within).await, works, "{operations}");
            disk.fail(fault, &folder.path().join("elsewhere")).unwrap();
            assert_eq!(tried(&disk, &within).await, [true; 3], "{operations}");
        }
        disk.fail(DiskFault { error: Errno::IO, percent: 100, operations: "t" }, &within).unwrap();
        tried(&disk, &within).await;
        assert_eq!(std::fs::read_to_string(within.join("new")).unwrap(), "01234");
        disk.heal().unwrap();
        assert_eq!(tried(&disk, &within).await, [true; 3]);
    }
}
