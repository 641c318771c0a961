//! `size`: the binaries that are shipped, as `cargo xtask dist` builds them.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use serde_json::json;

use crate::figure;

/// A binary as it is shipped.
///
/// # Errors
/// If it was not built.
pub(crate) fn shipped(name: &str) -> Result<PathBuf> {
    let own = std::env::current_exe().context("find the running binary")?;
    let folder = own.ancestors().nth(2).context("find the target folder")?.join("dist-out");
    let path = folder.join(name);
    ensure!(path.is_file(), "{} is not there: run `cargo xtask dist` first", path.display());
    Ok(path)
}

pub(crate) fn run() -> Result<()> {
    for name in ["flotilla-agent", "flotilla-hub", "flotilla"] {
        let path = shipped(name)?;
        let bytes = fs::metadata(&path).with_context(|| format!("look at {}", path.display()))?.len();
        let name = format!("size_{}", name.replace('-', "_"));
        figure::print(&name, figure::megabytes(bytes), "MB", json!({"profile": "dist", "bytes": bytes}));
    }
    Ok(())
}
