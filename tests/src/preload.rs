//! Libraries that programs are started with before the C library, for faults of the machine: its clock, its disk. They reach
//! programs that are linked with that library, not the static ones that are shipped.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::process::{Process, Recipe};
use crate::wait::eventually;

/// Builds one from C, by the compiler that links Rust too.
pub(crate) async fn build(folder: &Path, name: &str, text: &str) -> Result<PathBuf> {
    let (source, library) = (folder.join(name).with_extension("c"), folder.join(name).with_extension("so"));
    fs::write(&source, text).with_context(|| format!("write {}", source.display()))?;
    let compiler = Recipe::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(&source);
    compiler.stdout(Duration::from_secs(60)).await?;
    Ok(library)
}

/// Waits until a program runs with a library.
///
/// # Errors
/// If it runs without: one that is linked statically takes no notice, and nothing would fail.
pub(crate) async fn is_loaded(process: &Process, library: &Path) -> Result<()> {
    let pid = process.pid().context("the program is not running")?;
    let loaded = eventually(Duration::from_secs(30), || async {
        let program = fs::read_link(format!("/proc/{pid}/exe"))?;
        let is_ours = program.file_name().is_some_and(|name| name.to_string_lossy().starts_with("flotilla"));
        ensure!(is_ours, "{} runs", program.display());
        anyhow::Ok(fs::read_to_string(format!("/proc/{pid}/maps"))?)
    });
    let maps = loaded.await.context("look at the program")?;
    ensure!(
        maps.contains(&*library.to_string_lossy()),
        "the program does not load {}: this fault needs one that is linked dynamically, as `cargo build` makes it",
        library.display()
    );
    Ok(())
}

/// Writes what a library reads anew each time, in one step.
pub(crate) fn tell(file: &Path, text: &str) -> Result<()> {
    let beside = file.with_extension("new");
    let written = fs::write(&beside, text).and_then(|()| fs::rename(&beside, file));
    written.with_context(|| format!("write {}", file.display()))
}
