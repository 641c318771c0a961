//! `cargo xtask dist [ARCH]...`: the binaries that are shipped, static where this machine can build them so. Without
//! architectures, for this machine's.

use std::env::consts::ARCH;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};
use serde_json::Value;

use crate::{build, workspace};

/// The architectures that people can have binaries for.
pub(crate) const ARCHITECTURES: [&str; 2] = ["x86_64", "aarch64"];

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

/// How a program is linked, by the target that does it.
struct Target {
    triple: String,
    flags: Vec<String>,
    /// Of another architecture than this machine.
    compiler: Option<OsString>,
}

impl Target {
    /// By musl: static, and the same wherever it runs. Or what lacks for it.
    fn musl(architecture: &str) -> anyhow::Result<Result<Self, String>> {
        let triple = format!("{architecture}-unknown-linux-musl");
        let compiler = compiler(architecture);
        if let Some(lacks) = lacks_for(&triple, &compiler) {
            return Ok(Err(lacks));
        }
        let lean = workspace::rustc_minor()? >= LEAN_SINCE;
        let flags = LEAN.split(' ').filter(|_| lean).map(str::to_owned).collect();
        Ok(Ok(Self { triple, flags, compiler: (architecture != ARCH).then_some(compiler) }))
    }

    /// By this machine's C library in the program itself. Names are then looked up as `/etc/hosts` and DNS say, which is
    /// all that an image has; on a machine with more it would load that library's modules of another version.
    fn with_own_library() -> anyhow::Result<Self> {
        let flags = vec!["-Ctarget-feature=+crt-static".to_owned()];
        Ok(Self { triple: workspace::host()?, flags, compiler: None })
    }

    /// Builds with it, and gives the folder with the programs.
    fn build(&self, target_dir: &Path) -> anyhow::Result<PathBuf> {
        let mut command = build::command(&build::SHIPPED, &["--profile", "dist", "--target", &self.triple]);
        let name = self.triple.replace('-', "_");
        let cargo = format!("CARGO_TARGET_{}", name.to_uppercase());
        let flags = self.flags.iter().cloned().chain(remapped()).collect::<Vec<_>>().join("\u{1f}");
        // Not by the target's own variable, which is split at spaces: a folder's name may hold one.
        command.env("CARGO_ENCODED_RUSTFLAGS", flags);
        if let Some(compiler) = &self.compiler {
            command.env(format!("CC_{name}"), compiler).env(format!("{cargo}_LINKER"), compiler);
        }
        build::with_progress(&format!("building for {}", self.triple), command)?;
        Ok(target_dir.join(&self.triple).join("dist"))
    }
}

/// Leaves the folders of this machine out of the programs, so that the same commit makes the same ones elsewhere.
fn remapped() -> Vec<String> {
    let home = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo"));
    let cargo = std::env::var_os("CARGO_HOME").map(PathBuf::from).or(home);
    let folders = [(Some(workspace::root()), "/flotilla"), (cargo, "/cargo")];
    let known = folders.iter().filter_map(|(from, to)| Some((from.as_ref()?, to)));
    known.map(|(from, to)| format!("--remap-path-prefix={}={to}", from.display())).collect()
}

/// Builds for images, which have nothing but the program: into `target/dist-out/images/ARCHITECTURE`, whose path it gives. An
/// error says what this machine lacks for it.
pub(crate) fn for_images(architecture: &str) -> anyhow::Result<PathBuf> {
    let metadata = workspace::metadata(false)?;
    let target_dir = workspace::target_dir(&metadata)?;
    let target = match Target::musl(architecture)? {
        Ok(target) => target,
        Err(_) if architecture == ARCH => Target::with_own_library()?,
        Err(lacks) => bail!("cannot build for {architecture}: {lacks}"),
    };
    let built = target.build(&target_dir)?;
    let out = target_dir.join("dist-out/images").join(architecture);
    copy(&metadata, &built, &out)?;
    Ok(out)
}

/// Whether there is what it takes to build for images of an architecture.
pub(crate) fn lacks_for_images(architecture: &str) -> anyhow::Result<Option<String>> {
    Ok(Target::musl(architecture)?.err().filter(|_| architecture != ARCH))
}

fn build_for(architecture: &str) -> anyhow::Result<Vec<(PathBuf, u64)>> {
    let metadata = workspace::metadata(false)?;
    let target_dir = workspace::target_dir(&metadata)?;
    let built = match Target::musl(architecture)? {
        Ok(target) => target.build(&target_dir)?,
        Err(lacks) if architecture == ARCH => {
            eprintln!("not static: {lacks}");
            let command = build::command(&build::SHIPPED, &["--profile", "dist"]);
            build::with_progress(&format!("building for {}", workspace::host()?), command)?;
            target_dir.join("dist")
        }
        Err(lacks) => bail!("cannot build for {architecture}: {lacks}"),
    };
    let out = target_dir.join("dist-out");
    let out = if architecture == ARCH { out } else { out.join(architecture) };
    copy(&metadata, &built, &out)
}

/// Copies the programs that are shipped from where they were built, and gives their paths and sizes.
fn copy(metadata: &Value, built: &Path, out: &Path) -> anyhow::Result<Vec<(PathBuf, u64)>> {
    std::fs::create_dir_all(out).with_context(|| format!("cannot make {}", out.display()))?;
    let mut binaries = Vec::new();
    for name in build::SHIPPED.iter().flat_map(|package| workspace::binaries(metadata, package)) {
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
