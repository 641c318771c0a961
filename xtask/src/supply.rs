//! Where dependencies come from: `cargo deny` over `deny.toml`. Bans, licences and sources need no network; advisories need
//! their database, and where it cannot be had a copy from before is used, or that part is left out, and said so.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};

use crate::parts;
use crate::workspace;

const VERSION: &str = "0.20.2";

/// Holds the dependencies against `deny.toml`; the note says what was left out.
pub(crate) fn check() -> anyhow::Result<String> {
    let deny = program()?;
    parts::command(checking(&deny, &["bans", "licenses", "sources"], &[]))?;
    // The command itself says why it cannot fetch; what it finds is an error of the second run.
    if quietly(checking(&deny, &["advisories"], &[])) {
        return Ok("advisories: fetched now".to_owned());
    }
    if has_database() {
        parts::command(checking(&deny, &["advisories"], &["--disable-fetch"]))?;
        return Ok("advisories: from the copy of their database that is here".to_owned());
    }
    println!(
        "The database of advisories cannot be fetched from here, and there is no copy of it: they are not looked at."
    );
    Ok("advisories: NOT looked at, no database".to_owned())
}

fn checking(deny: &Path, what: &[&str], flags: &[&str]) -> Command {
    let mut command = Command::new(deny);
    command.current_dir(workspace::root()).args(["--locked", "--log-level", "error", "check"]);
    command.args(flags).args(what);
    command
}

fn quietly(mut command: Command) -> bool {
    command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

fn has_database() -> bool {
    let cargo = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = cargo.or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo")));
    let Some(folder) = home.map(|home| home.join("advisory-dbs")) else { return false };
    std::fs::read_dir(folder).is_ok_and(|mut entries| {
        entries.any(|entry| entry.is_ok_and(|entry| entry.path().join("crates").is_dir()))
    })
}

/// The one in PATH, or that of this version from the cache, where the first run puts it.
fn program() -> anyhow::Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    if let Some(found) =
        std::env::split_paths(&path).map(|dir| dir.join("cargo-deny")).find(|it| it.is_file())
    {
        return Ok(found);
    }
    let root = cache()?.join(format!("cargo-deny-{VERSION}"));
    let program = root.join("bin/cargo-deny");
    if !program.is_file() {
        println!("building cargo-deny {VERSION} into {}, once", root.display());
        let mut install = workspace::cargo();
        install.args([
            "install",
            "cargo-deny",
            "--version",
            VERSION,
            "--locked",
            "--debug",
            "--quiet",
            "--root",
        ]);
        // Of its own: nothing of ours is built with these settings, or rebuilt for them.
        install.arg(&root).env("CARGO_PROFILE_DEV_DEBUG", "0").env_remove("CARGO_TARGET_DIR");
        parts::command(install)?;
    }
    if !program.is_file() {
        bail!("cargo install left no {}", program.display());
    }
    Ok(program)
}

fn cache() -> anyhow::Result<PathBuf> {
    if let Some(folder) = std::env::var_os("FLOTILLA_CACHE") {
        return Ok(PathBuf::from(folder));
    }
    if let Some(folder) = std::env::var_os("XDG_CACHE_HOME") {
        return Ok(PathBuf::from(folder).join("flotilla"));
    }
    Ok(PathBuf::from(std::env::var_os("HOME").context("HOME is not set")?).join(".cache/flotilla"))
}
