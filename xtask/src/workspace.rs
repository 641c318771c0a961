//! Where things are: the workspace's root, cargo, the target folder, our binaries.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};
use serde_json::Value;

/// The workspace's root folder.
pub(crate) fn root() -> PathBuf {
    // At run time if cargo says so: a checkout may have moved since this was built.
    let manifest =
        std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    Path::new(&manifest).parent().map(Path::to_owned).unwrap_or_default()
}

/// The cargo that runs us, in the workspace's root.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}

/// Runs a command to its end and returns what it printed to stdout.
pub(crate) fn output(command: &mut Command) -> anyhow::Result<String> {
    let shown = shown(command);
    let output = command.output().with_context(|| format!("cannot run `{shown}`"))?;
    if !output.status.success() {
        bail!("`{shown}` failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    String::from_utf8(output.stdout).with_context(|| format!("`{shown}` printed something other than UTF-8"))
}

/// A command as one would type it.
pub(crate) fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or(command.get_program());
    std::iter::once(program)
        .chain(command.get_args())
        .map(|word| word.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ")
}

/// What cargo knows of the workspace. With `resolved`, including every package that a build for this machine uses.
pub(crate) fn metadata(resolved: bool) -> anyhow::Result<Value> {
    let mut command = cargo();
    command.args(["metadata", "--format-version=1", "--locked"]);
    if resolved {
        // Without a platform cargo would fetch the packages of all others too.
        command.args(["--filter-platform", &host()?]);
    } else {
        command.arg("--no-deps");
    }
    serde_json::from_str(&output(&mut command)?).context("cannot read what `cargo metadata` printed")
}

/// The target triple that this machine's compiler builds for.
pub(crate) fn host() -> anyhow::Result<String> {
    let version = output(Command::new("rustc").arg("-vV"))?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("`rustc -vV` names no host")?.to_owned())
}

/// The second number of the compiler's version.
pub(crate) fn rustc_minor() -> anyhow::Result<u32> {
    let version = output(Command::new("rustc").arg("--version"))?;
    let minor = version.split(['.', ' ']).nth(2).and_then(|minor| minor.parse().ok());
    minor.with_context(|| format!("`rustc --version` gives no number: {version}"))
}

/// Cargo's target folder.
pub(crate) fn target_dir(metadata: &Value) -> anyhow::Result<PathBuf> {
    let dir = metadata["target_directory"].as_str().context("`cargo metadata` names no target directory")?;
    Ok(PathBuf::from(dir))
}

/// Where what is built once is kept.
pub(crate) fn cache() -> anyhow::Result<PathBuf> {
    if let Some(folder) = std::env::var_os("FLOTILLA_CACHE") {
        return Ok(PathBuf::from(folder));
    }
    if let Some(folder) = std::env::var_os("XDG_CACHE_HOME") {
        return Ok(PathBuf::from(folder).join("flotilla"));
    }
    Ok(PathBuf::from(std::env::var_os("HOME").context("HOME is not set")?).join(".cache/flotilla"))
}

/// The names of the binaries that a package of ours makes.
pub(crate) fn binaries(metadata: &Value, package: &str) -> Vec<String> {
    let packages = metadata["packages"].as_array().into_iter().flatten();
    packages
        .filter(|found| found["name"] == package)
        .flat_map(|found| found["targets"].as_array().into_iter().flatten())
        .filter(|target| {
            target["kind"].as_array().is_some_and(|kinds| kinds.iter().any(|kind| kind == "bin"))
        })
        .filter_map(|target| target["name"].as_str().map(str::to_owned))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn binaries_are_told_from_other_targets() {
        let metadata = serde_json::json!({"packages": [
            {"name": "flotilla-cli", "targets": [
                {"kind": ["bin"], "name": "flotilla"},
                {"kind": ["test"], "name": "cli"},
            ]},
            {"name": "flotilla-hub", "targets": [{"kind": ["lib"], "name": "flotilla_hub"}]},
        ]});
        assert_eq!(binaries(&metadata, "flotilla-cli"), ["flotilla"]);
        assert_eq!(binaries(&metadata, "flotilla-hub"), [""; 0]);
    }

    #[test]
    fn a_command_is_shown_without_the_folder_of_its_program() {
        let mut command = Command::new("/opt/rust/bin/cargo");
        command.args(["build", "--workspace"]);
        assert_eq!(shown(&command), "cargo build --workspace");
    }

    #[test]
    fn the_root_holds_the_workspace() {
        let manifest = std::fs::read_to_string(root().join("Cargo.toml")).unwrap();
        assert!(manifest.contains("[workspace]"), "{manifest}");
    }

    #[test]
    fn a_failed_command_says_what_it_printed() {
        let error = output(Command::new("git").arg("no-such-command")).unwrap_err().to_string();
        assert!(error.contains("git no-such-command") && error.contains("is not a git command"), "{error}");
    }
}
