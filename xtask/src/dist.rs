//! `cargo xtask dist [ARCH]...`: the binaries that are shipped, static where this machine can build them so. Without
//! architectures, for this machine's.

use std::env::consts::ARCH;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, bail};

use crate::{build, workspace};

/// The architectures that people can have binaries for.
const ARCHITECTURES: [&str; 2] = ["x86_64", "aarch64"];

/// What makes a static program smaller, on disk and in memory: where its own addresses stand is told by a bitmap, not in
/// 24 bytes for each (it is still loaded at random), and code that several functions share stands there once. 0.9 MB of
/// the agent.
const LEAN: &str = "-Clink-arg=-Wl,-z,pack-relative-relocs -Cllvm-args=-enable-machine-outliner=always";
/// The musl that Rust brings reads such a bitmap since this 1.x.
const LEAN_SINCE: u32 = 93;

pub(crate) fn run(args: &[String]) -> anyhow::Result<()> {
    if let Some(other) = args.iter().find(|arg| !ARCHITECTURES.contains(&arg.as_str())) {
        bail!("dist builds for {}, not '{other}'", ARCHITECTURES.join(" and "));
    }
    let mut built = Vec::new();
    match args {
        [] => built.extend(build()?),
        args => {
            for architecture in args {
                built.extend(build_for(architecture)?);
            }
        }
    }
    for (path, bytes) in built {
        println!("{:>6.2} MB  {}", bytes as f64 / 1e6, shown(&path));
    }
    Ok(())
}

/// Builds them for this machine into `target/dist-out` and gives their paths and sizes. Writes nothing to stdout.
pub(crate) fn build() -> anyhow::Result<Vec<(PathBuf, u64)>> {
    build_for(ARCH)
}

fn build_for(architecture: &str) -> anyhow::Result<Vec<(PathBuf, u64)>> {
    let metadata = workspace::metadata(false)?;
    let target_dir = workspace::target_dir(&metadata)?;
    let musl = format!("{architecture}-unknown-linux-musl");
    let compiler = compiler(architecture);
    let (target, built) = match lacks_for(&musl, &compiler) {
        None => (musl.clone(), target_dir.join(&musl).join("dist")),
        Some(lacks) if architecture == ARCH => {
            eprintln!("not static: {lacks}");
            (workspace::host()?, target_dir.join("dist"))
        }
        Some(lacks) => bail!("cannot build for {musl}: {lacks}"),
    };
    let mut flags = vec!["--profile", "dist"];
    if target == musl {
        flags.extend(["--target", &musl]);
    }
    let mut command = build::command(&build::SHIPPED, &flags);
    if target == musl {
        let name = musl.replace('-', "_");
        if workspace::rustc_minor()? >= LEAN_SINCE {
            command.env(format!("CARGO_TARGET_{}_RUSTFLAGS", name.to_uppercase()), LEAN);
        }
        if architecture != ARCH {
            command.env(format!("CC_{name}"), &compiler);
            command.env(format!("CARGO_TARGET_{}_LINKER", name.to_uppercase()), &compiler);
        }
    }
    build::with_progress(&format!("building for {target}"), command)?;

    let out = target_dir.join("dist-out");
    let out = if architecture == ARCH { out } else { out.join(architecture) };
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

/// The C compiler for an architecture's musl target, which links too where the architecture is another one.
fn compiler(architecture: &str) -> OsString {
    let usual = match architecture {
        ARCH => "musl-gcc".to_owned(),
        // Rust brings musl itself, so that any compiler of that architecture serves.
        other => format!("{other}-linux-gnu-gcc"),
    };
    std::env::var_os(format!("CC_{architecture}_unknown_linux_musl")).unwrap_or_else(|| usual.into())
}

/// What is missing to build for a musl target: Rust's part of it, or a C compiler (ring holds C).
fn lacks_for(target: &str, compiler: &OsStr) -> Option<String> {
    let folder =
        workspace::output(Command::new("rustc").args(["--print", "target-libdir", "--target", target]));
    if !folder.is_ok_and(|folder| PathBuf::from(folder.trim()).is_dir()) {
        return Some(format!("the target {target} is not installed (`rustup target add {target}`)"));
    }
    let quiet = Command::new(compiler).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if quiet.is_ok_and(|status| status.success()) {
        return None;
    }
    let compiler = compiler.to_string_lossy();
    let package = if compiler == "musl-gcc" { "musl-tools".to_owned() } else { package_of(&compiler) };
    Some(format!("there is no {compiler} (Debian: `apt-get install {package}`)"))
}

/// Debian's package of a cross compiler: `aarch64-linux-gnu-gcc` is in `gcc-aarch64-linux-gnu`.
fn package_of(compiler: &str) -> String {
    compiler.strip_suffix("-gcc").map_or_else(|| compiler.to_owned(), |target| format!("gcc-{target}"))
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
        let lacks = lacks_for("no-such-target", OsStr::new("cc")).unwrap();
        assert!(lacks.contains("no-such-target is not installed"), "{lacks}");
    }

    #[test]
    fn a_compiler_that_is_not_there_is_named_with_its_package() {
        let target = workspace::host().unwrap();
        let lacks = lacks_for(&target, OsStr::new("sparc9000-linux-gnu-gcc")).unwrap();
        assert!(lacks.ends_with("`apt-get install gcc-sparc9000-linux-gnu`)"), "{lacks}");
    }

    #[test]
    fn other_architectures_are_refused() {
        let error = run(&["--fast".to_owned()]).unwrap_err().to_string();
        assert_eq!(error, "dist builds for x86_64 and aarch64, not '--fast'");
    }
}
