//! `cargo xtask release`: everything that a release has, by `flotilla-release`, from programs that are built as for images.

use std::path::PathBuf;

use anyhow::{Context, bail};

use crate::{build, demo, image, sbom, workspace};

/// What was asked for.
#[derive(Debug, Default, PartialEq)]
struct Asked {
    out: Option<PathBuf>,
    binaries: Option<PathBuf>,
    /// For the program that makes the files.
    more: Vec<String>,
}

pub(crate) fn run(args: &[String]) -> anyhow::Result<()> {
    let asked = read(args)?;
    let metadata = workspace::metadata(true)?;
    let target_dir = workspace::target_dir(&metadata)?;
    build::with_progress("building what makes a release", build::command(&[image::RELEASE], &[]))?;
    let binaries = match asked.binaries {
        Some(folder) => folder,
        None => image::build_all(&target_dir, &[], false)?,
    };
    let lock = workspace::root().join("Cargo.lock");
    let lock = std::fs::read_to_string(&lock).with_context(|| format!("cannot read {}", lock.display()))?;
    let bill = sbom::bill(&metadata, &lock, &build::SHIPPED)?;
    let name = format!("flotilla-{}.cdx.json", env!("CARGO_PKG_VERSION"));
    let path = target_dir.join(name);
    std::fs::write(&path, format!("{bill:#}\n"))
        .with_context(|| format!("cannot write {}", path.display()))?;

    let out = asked.out.unwrap_or_else(|| target_dir.join("release-out"));
    let shown = |path: PathBuf| path.display().to_string();
    let mut args = vec!["all".to_owned(), "--binaries".to_owned(), shown(binaries)];
    args.extend(["--revision".to_owned(), image::revision()?, "--seconds".to_owned(), image::seconds()?]);
    args.extend([
        "--deploy".to_owned(),
        shown(workspace::root().join("deploy")),
        "--with".to_owned(),
        shown(path),
    ]);
    args.extend(["--out".to_owned(), shown(out)]);
    args.extend(asked.more);
    demo::replace_by(&target_dir.join("debug").join(image::RELEASE), &args)
}

fn read(args: &[String]) -> anyhow::Result<Asked> {
    let mut asked = Asked::default();
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let mut value = || args.next().cloned().with_context(|| format!("{arg} wants a value"));
        match arg.as_str() {
            "--out" => asked.out = Some(PathBuf::from(value()?)),
            "--binaries" => asked.binaries = Some(PathBuf::from(value()?)),
            "--name" | "--key" => asked.more.extend([arg.clone(), value()?]),
            other => {
                bail!("release takes --name PREFIX, --key FILE, --out DIR and --binaries DIR, not '{other}'")
            }
        }
    }
    Ok(asked)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_unknown_or_half_is_refused() {
        let asked = |args: &[&str]| read(&args.iter().map(|&arg| arg.to_owned()).collect::<Vec<_>>());
        let more = ["--key", "k"].map(str::to_owned).to_vec();
        let expected = Asked { out: Some("o".into()), binaries: None, more };
        assert_eq!(asked(&["--key", "k", "--out", "o"]).unwrap(), expected);
        for (args, says) in [(&["--key"][..], "wants a value"), (&["aarch64"], "not 'aarch64'")] {
            assert!(asked(args).unwrap_err().to_string().contains(says));
        }
    }
}
