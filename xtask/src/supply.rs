//! Where dependencies come from: `cargo deny` over `deny.toml`. Bans, licences and sources need no network; advisories need
//! their database, and where it cannot be had a copy from before is used, or that part is left out, and said so.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::bail;

use crate::parts;
use crate::workspace;

const VERSION: &str = "0.20.2";
/// Names a clone of the database of advisories, for machines that do not reach it.
const ADVISORIES: &str = "FLOTILLA_ADVISORIES";
const ADDRESS: &str = "https://github.com/RustSec/advisory-db";

/// Holds the dependencies against `deny.toml`; the note says what was left out.
pub(crate) fn check() -> anyhow::Result<String> {
    let deny = program()?;
    parts::command(checking(&deny, &["bans", "licenses", "sources"]))?;
    let given = std::env::var_os(ADVISORIES).map(PathBuf::from);
    // The command itself says why it cannot fetch; what it finds is an error of the second run.
    if given.is_none() && quietly(checking(&deny, &["advisories"])) {
        return Ok("advisories: fetched now".to_owned());
    }
    if let Some(copy) = given.or_else(cached) {
        parts::command(from_copy(checking(&deny, &["advisories"]), &copy))?;
        return Ok(format!("advisories: from the copy of their database in {}", copy.display()));
    }
    println!(
        "The database of advisories cannot be fetched from here, and there is no copy of it: they are not looked at."
    );
    Ok("advisories: NOT looked at, no database".to_owned())
}

fn checking(deny: &Path, what: &[&str]) -> Command {
    let mut command = Command::new(deny);
    command.current_dir(workspace::root()).args(["--locked", "--log-level", "error", "check"]).args(what);
    command
}

/// The same with a clone of the database in the place of its address.
fn from_copy(mut command: Command, copy: &Path) -> Command {
    command.env("GIT_CONFIG_COUNT", "1").env("GIT_CONFIG_VALUE_0", ADDRESS);
    command.env("GIT_CONFIG_KEY_0", format!("url.file://{}.insteadOf", copy.display()));
    command
}

fn quietly(mut command: Command) -> bool {
    command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

/// Where cargo-deny keeps the database once it was fetched.
fn cached() -> Option<PathBuf> {
    let cargo = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = cargo.or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo")));
    let entries = std::fs::read_dir(home?.join("advisory-dbs")).ok()?;
    entries.filter_map(|entry| Some(entry.ok()?.path())).find(|path| path.join("crates").is_dir())
}

/// The one in PATH, or that of this version from the cache, where the first run puts it.
fn program() -> anyhow::Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    if let Some(found) =
        std::env::split_paths(&path).map(|dir| dir.join("cargo-deny")).find(|it| it.is_file())
    {
        return Ok(found);
    }
    let root = workspace::cache()?.join(format!("cargo-deny-{VERSION}"));
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
