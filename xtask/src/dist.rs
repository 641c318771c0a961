//! `cargo xtask dist`: the binaries that are shipped, static where this machine can build them so.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, bail};

use crate::{build, workspace};

pub(crate) fn run(args: &[String]) -> anyhow::Result<()> {
    if let Some(arg) = args.first() {
        bail!("dist takes no arguments, not '{arg}'");
    }
    for (path, bytes) in build()? {
        println!("{:>6.2} MB  {}", bytes as f64 / 1e6, shown(&path));
    }
    Ok(())
}

/// Builds them into `target/dist-out` and gives their paths and sizes. Writes nothing to stdout.
pub(crate) fn build() -> anyhow::Result<Vec<(PathBuf, u64)>> {
    let metadata = workspace::metadata(false)?;
    let target_dir = workspace::target_dir(&metadata)?;
    let musl = format!("{}-unknown-linux-musl", std::env::consts::ARCH);
    let (target, built) = match lacks_for(&musl) {
        None => (musl.clone(), target_dir.join(&musl).join("dist")),
        Some(lacks) => {
            eprintln!("not static: {lacks}");
            (workspace::host()?, target_dir.join("dist"))
        }
    };
    let mut flags = vec!["--profile", "dist"];
    if target == musl {
        flags.extend(["--target", &musl]);
    }
    build::with_progress(&format!("building for {target}"), build::command(&build::SHIPPED, &flags))?;

    let out = target_dir.join("dist-out");
    std::fs::create_dir_all(&out).with_context(|| format!("cannot make {}", out.display()))?;
    let mut binaries = Vec::new();
    for name in build::SHIPPED.iter().flat_map(|package| workspace::binaries(&metadata, package)) {
        let (from, to) = (built.join(&name), out.join(&name));
        let bytes = std::fs::copy(&from, &to)
            .with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))?;
        binaries.push((to, bytes));
    }
    Ok(binaries)
}

/// What is missing to build for a musl target: Rust's part of it, or a C compiler (ring and zstd hold C).
fn lacks_for(target: &str) -> Option<String> {
    let folder =
        workspace::output(Command::new("rustc").args(["--print", "target-libdir", "--target", target]));
    if !folder.is_ok_and(|folder| PathBuf::from(folder.trim()).is_dir()) {
        return Some(format!("the target {target} is not installed (`rustup target add {target}`)"));
    }
    let variable = format!("CC_{}", target.replace('-', "_"));
    let compiler = std::env::var_os(&variable).unwrap_or_else(|| "musl-gcc".into());
    let quiet = Command::new(&compiler).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    (!quiet.is_ok_and(|status| status.success()))
        .then(|| format!("there is no {} (Debian: `apt-get install musl-tools`)", compiler.to_string_lossy()))
}

/// A path as seen from the workspace's root.
fn shown(path: &std::path::Path) -> String {
    path.strip_prefix(workspace::root()).unwrap_or(path).display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_that_does_not_exist_is_what_lacks() {
        let lacks = lacks_for("no-such-target").unwrap();
        assert!(lacks.contains("no-such-target is not installed"), "{lacks}");
    }

    #[test]
    fn arguments_are_refused() {
        assert!(run(&["--fast".to_owned()]).unwrap_err().to_string().contains("'--fast'"));
    }
}
