//! `cargo xtask demo`: builds the binaries, then becomes the demo.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, bail};

use crate::{build, needs, workspace};

pub(crate) fn run(args: &[String]) -> anyhow::Result<()> {
    let contexts = read(args)?;
    needs::check(!contexts)?;
    let packages: Vec<&str> = build::SHIPPED.into_iter().chain([build::TESTS]).collect();
    build::with_progress("building the binaries", build::command(&packages, &[]))?;
    let binary = workspace::target_dir(&workspace::metadata(false)?)?.join("debug").join("flotilla-demo");
    replace_by(&binary, args)
}

/// Checks the arguments; says whether they name clusters that exist already.
fn read(args: &[String]) -> anyhow::Result<bool> {
    let mut contexts = false;
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--exit" => {}
            "--contexts" => {
                args.next()
                    .context("--contexts wants the names of two kube contexts: --contexts staging,prod")?;
                contexts = true;
            }
            other if other.starts_with("--contexts=") => contexts = true,
            other => bail!("demo takes --exit and --contexts A,B, not '{other}'"),
        }
    }
    Ok(contexts)
}

/// Becomes `program`: signals and the exit code are then its own, with nobody in between who could die first and
/// leave it cleaning up in the background.
pub(crate) fn replace_by(program: &Path, args: &[String]) -> anyhow::Result<()> {
    use std::os::unix::process::CommandExt;
    let error = Command::new(program).args(args).current_dir(workspace::root()).exec();
    Err(error).with_context(|| format!("cannot run {}", program.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(args: &[&str]) -> Vec<String> {
        args.iter().map(|&arg| arg.to_owned()).collect()
    }

    #[test]
    fn clusters_that_exist_need_no_control_plane() {
        for (given, contexts) in [
            (&[][..], false),
            (&["--exit"], false),
            (&["--contexts", "a,b"], true),
            (&["--exit", "--contexts=a,b"], true),
        ] {
            assert_eq!(read(&args(given)).unwrap(), contexts, "{given:?}");
        }
        for given in [&["--contexts"][..], &["--fast"]] {
            read(&args(given)).unwrap_err();
        }
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let error = replace_by(Path::new("target/no-such-demo"), &[]).unwrap_err();
        assert!(format!("{error:#}").starts_with("cannot run target/no-such-demo: "), "{error:#}");
    }
}
