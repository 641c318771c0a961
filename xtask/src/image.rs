//! `cargo xtask image`: static programs, with helm for the hub and the CLI, and then their images by `flotilla-release`.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};

use crate::dist::{self, ARCHITECTURES};
use crate::{build, demo, parts, workspace};

/// The package that makes images.
pub(crate) const RELEASE: &str = "flotilla-release";
/// The Go module that pins helm and all that it is built from.
const HELM: &str = "tests/helm";

/// What was asked for.
#[derive(Debug, Default, PartialEq)]
struct Asked {
    /// None: all that this machine can build for.
    architectures: Vec<String>,
    /// A folder with programs that are built already.
    binaries: Option<PathBuf>,
    without_helm: bool,
    /// For the program that makes the images.
    more: Vec<String>,
}

pub(crate) fn run(args: &[String]) -> anyhow::Result<()> {
    let asked = read(args)?;
    let metadata = workspace::metadata(false)?;
    let target_dir = workspace::target_dir(&metadata)?;
    build::with_progress("building what makes images", build::command(&[RELEASE], &[]))?;
    let binaries = match asked.binaries {
        Some(folder) => folder,
        None => build_all(&target_dir, &asked.architectures, asked.without_helm)?,
    };
    let mut args = vec!["image".to_owned(), "--binaries".to_owned(), binaries.display().to_string()];
    args.extend(["--revision".to_owned(), revision()?, "--seconds".to_owned(), seconds()?]);
    if !asked.more.iter().any(|arg| arg == "--out") {
        args.extend(["--out".to_owned(), target_dir.join("images").display().to_string()]);
    }
    args.extend(asked.more);
    demo::replace_by(&target_dir.join("debug").join(RELEASE), &args)
}

fn read(args: &[String]) -> anyhow::Result<Asked> {
    let mut asked = Asked::default();
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let mut value = || args.next().cloned().with_context(|| format!("{arg} wants a value"));
        match arg.as_str() {
            "--without-helm" => asked.without_helm = true,
            "--binaries" => asked.binaries = Some(PathBuf::from(value()?)),
            "--name" | "--out" | "--push" | "--username" | "--password-file" => {
                asked.more.extend([arg.clone(), value()?])
            }
            known if ARCHITECTURES.contains(&known) => asked.architectures.push(known.to_owned()),
            other => bail!(
                "image takes {}, --without-helm, --binaries DIR, --name PREFIX, --out DIR, --push PREFIX, --username USER and \
                 --password-file FILE, not '{other}'",
                ARCHITECTURES.join(", ")
            ),
        }
    }
    if asked.binaries.is_some() && (asked.without_helm || !asked.architectures.is_empty()) {
        bail!(
            "--binaries takes what is in the folder: it goes with no architecture and not with --without-helm"
        );
    }
    Ok(asked)
}

/// Builds for all architectures, and gives the folder that has one for each.
pub(crate) fn build_all(target_dir: &Path, asked: &[String], without_helm: bool) -> anyhow::Result<PathBuf> {
    let folder = target_dir.join("dist-out/images");
    // What an earlier run left would be in the images.
    match std::fs::remove_dir_all(&folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("cannot delete {}", folder.display()));
        }
        _ => {}
    }
    for architecture in ARCHITECTURES {
        match dist::lacks_for_images(architecture)? {
            Some(lacks) if asked.is_empty() => {
                eprintln!("no images for {architecture}: {lacks}");
                continue;
            }
            _ if !asked.is_empty() && !asked.iter().any(|it| it == architecture) => continue,
            _ => {}
        }
        let out = dist::for_images(architecture)?;
        if !without_helm {
            helm(architecture, &out.join("helm"))?;
        }
    }
    Ok(folder)
}

/// Builds helm for an architecture, without any trace of this machine.
fn helm(architecture: &str, to: &Path) -> anyhow::Result<()> {
    let architecture = if architecture == "aarch64" { "arm64" } else { "amd64" };
    eprintln!("building helm for {architecture}");
    let mut command = Command::new("go");
    command.args(["build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w -buildid=", "-o"]).arg(to);
    command.arg("helm.sh/helm/v4/cmd/helm").current_dir(workspace::root().join(HELM));
    command.env("GOOS", "linux").env("GOARCH", architecture).env("CGO_ENABLED", "0");
    parts::command(command)
        .context("helm is built by Go (https://go.dev/dl); --without-helm leaves it out")
        .map(drop)
}

/// The commit, and whether there is more in the tree than it.
pub(crate) fn revision() -> anyhow::Result<String> {
    let git =
        |args: &[&str]| workspace::output(Command::new("git").args(args).current_dir(workspace::root()));
    let (commit, changes) = (git(&["rev-parse", "HEAD"])?, git(&["status", "--porcelain"])?);
    Ok(format!("{}{}", commit.trim(), if changes.is_empty() { "" } else { "-dirty" }))
}

/// The time of the commit, unless the standard variable for it names another.
pub(crate) fn seconds() -> anyhow::Result<String> {
    if let Ok(seconds) = std::env::var("SOURCE_DATE_EPOCH") {
        return Ok(seconds);
    }
    let mut git = Command::new("git");
    git.args(["log", "-1", "--format=%ct"]).current_dir(workspace::root());
    Ok(workspace::output(&mut git)?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(args: &[&str]) -> anyhow::Result<Asked> {
        read(&args.iter().map(|&arg| arg.to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn what_is_not_for_the_build_goes_to_the_program_that_makes_images() {
        let given = asked(&["aarch64", "--name", "registry.example.com/fleet", "--without-helm"]).unwrap();
        let more = ["--name", "registry.example.com/fleet"].map(str::to_owned).to_vec();
        let architectures = vec!["aarch64".to_owned()];
        assert_eq!(given, Asked { architectures, binaries: None, without_helm: true, more });
    }

    #[test]
    fn what_is_unknown_half_or_contradicts_itself_is_refused() {
        for (args, expected) in [
            (&["riscv64"][..], "not 'riscv64'"),
            (&["--out"], "--out wants a value"),
            (&["--binaries", "b", "aarch64"], "no architecture"),
            (&["--binaries", "b", "--without-helm"], "not with --without-helm"),
        ] {
            let error = asked(args).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn the_commit_and_its_time_are_told() {
        let (revision, seconds) = (revision().unwrap(), seconds().unwrap());
        assert!(
            revision.trim_end_matches("-dirty").bytes().all(|byte| byte.is_ascii_hexdigit()),
            "{revision}"
        );
        assert!(seconds.parse::<u64>().unwrap() > 1_600_000_000, "{seconds}");
    }
}
