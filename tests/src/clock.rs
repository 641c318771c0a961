//! A program whose clock is wrong, and jumps while it runs. Its elapsed time stays right, as that of the kernel does.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};

use crate::process::Recipe;

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
        let (source, library) = (folder.join("clock.c"), folder.join("clock.so"));
        fs::write(&source, include_str!("clock.c")).context("write clock.c")?;
        let compiler = Recipe::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(&source);
        compiler.stdout(Duration::from_secs(60)).await?;
        let clock = Self { library, shift: folder.join("clock-shift") };
        clock.shift("0")?;
        Ok(clock)
    }

    /// Has a program see this clock from its next start on.
    #[must_use]
    pub fn worn(&self, recipe: Recipe) -> Recipe {
        recipe.env("LD_PRELOAD", &self.library).env("CLOCK_SHIFT", &self.shift)
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
        // In one step, as the program may read it at any moment.
        let beside = self.shift.with_extension("new");
        fs::write(&beside, seconds).context("write the clock's shift")?;
        fs::rename(&beside, &self.shift).context("write the clock's shift")
    }
}
