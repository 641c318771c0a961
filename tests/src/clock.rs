//! A program whose clock is wrong, and jumps while it runs. Its elapsed time stays right, as that of the kernel does.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;

use crate::preload;
use crate::process::{Process, Recipe};

/// A clock of the day for programs that are started with it.
#[derive(Debug)]
pub struct FalseClock {
    library: PathBuf,
    shift: PathBuf,
}

impl FalseClock {
    /// Builds what is loaded before the C library, by the C compiler that links Rust too. The clock is right at first.
    ///
    /// # Errors
    /// If the folder takes no files, or there is no compiler.
    pub async fn new(folder: &Path) -> Result<Self> {
        let library = preload::build(folder, "clock", include_str!("clock.c")).await?;
        let clock = Self { library, shift: folder.join("clock-shift") };
        clock.shift("0")?;
        Ok(clock)
    }

    /// Has a program see this clock from its next start on.
    #[must_use]
    pub fn worn(&self, recipe: Recipe) -> Recipe {
        recipe.env("LD_PRELOAD", &self.library).env("CLOCK_SHIFT", &self.shift)
    }

    /// Waits until a program runs with it.
    ///
    /// # Errors
    /// If it runs without.
    pub async fn is_worn(&self, process: &Process) -> Result<()> {
        preload::is_loaded(process, &self.library).await
    }

    /// Sets it to a time, from which it goes on.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn set(&self, time: SystemTime) -> Result<()> {
        let seconds =
            |time: SystemTime| time.duration_since(UNIX_EPOCH).map(|since| since.as_secs().cast_signed());
        self.shift(&(seconds(time)? - seconds(SystemTime::now())?).to_string())
    }

    /// Sets it right.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn set_right(&self) -> Result<()> {
        self.shift("0")
    }

    fn shift(&self, seconds: &str) -> Result<()> {
        preload::tell(&self.shift, seconds)
    }
}
