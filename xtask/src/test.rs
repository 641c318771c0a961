//! `cargo xtask test`: every check there is, in the order in which one wants to hear of failures.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, bail};

use crate::parts::{self, Parts};
use crate::{build, needs, supply, tidy, workspace};

/// Finds or builds what ours is compared with.
const REAL_KUSTOMIZE: &str = "flotilla-kustomize-real";

/// A workspace of its own, as libFuzzer needs a nightly compiler. What its targets do is a crate of ours (`fuzz`), with tests.
const FUZZ_TARGETS: &str = "fuzz/libfuzzer/Cargo.toml";

/// What the arguments ask for.
#[derive(Debug, PartialEq)]
struct Plan {
    /// Format, tidiness, lints.
    checks: bool,
    unit: bool,
    scenarios: bool,
    /// For the test binaries: a filter and what else follows `--`.
    rest: Vec<String>,
}

impl Plan {
    fn read(args: &[String]) -> anyhow::Result<Self> {
        let (flags, rest) = match args.iter().position(|arg| arg == "--") {
            Some(at) => (&args[..at], args[at + 1..].to_vec()),
            None => (args, Vec::new()),
        };
        let (mut unit, mut scenarios) = (true, true);
        for flag in flags {
            match flag.as_str() {
                "--unit" => scenarios = false,
                "--scenarios" => unit = false,
                other => bail!("test takes --unit, --scenarios and -- FILTER, not '{other}'"),
            }
        }
        if !unit && !scenarios {
            bail!(
                "--unit leaves out the scenarios and --scenarios the unit tests: give one of them or neither"
            );
        }
        Ok(Self { checks: unit && rest.is_empty(), unit, scenarios, rest })
    }
}

pub(crate) fn run(args: &[String]) -> anyhow::Result<()> {
    let plan = Plan::read(args)?;
    needs::check(true)?;
    let left_out = LeftOut::begin()?;
    let mut parts = Parts::default();
    if plan.checks {
        parts.run("fmt", "is every file formatted?", || parts::command(cargo(["fmt", "--all", "--check"])));
        parts.run("tidy", "dependencies, purity, file sizes, links", tidy::report);
        parts.run(
            "supply chain",
            "bans, licences and sources of dependencies, advisories; the first time cargo-deny is built, some minutes",
            supply::check,
        );
        parts.run("clippy", "lints in every crate, tests included; warnings are errors", || {
            let flags = ["clippy", "--locked", "--workspace", "--all-targets", "--", "-D", "warnings"];
            parts::command(cargo(flags))
        });
        parts.run("fuzz lock", "does the lock file of the fuzz targets fit the workspace?", || {
            let flags = ["tree", "--locked", "--quiet", "--depth", "0", "--manifest-path", FUZZ_TARGETS];
            parts::command(cargo(flags))
        });
    }
    let built = parts.run("binaries", "hub, agent and CLI, and what starts API servers", || {
        let packages: Vec<&str> = build::SHIPPED.into_iter().chain([build::TESTS]).collect();
        parts::command(build::command(&packages, &[]))
    });
    let what = "the API server and the helm of the tests; the first time Go builds them, some 6 minutes";
    let ready = built && parts.run("API server", what, control_plane);
    if plan.unit && ready {
        parts.run("unit tests", "every crate's own tests; the agent's run on API servers", || {
            let flags = ["test", "--locked", "--no-fail-fast", "--workspace"];
            let flags =
                flags.into_iter().chain(["--exclude", build::TESTS, "--exclude", build::COMPARE, "--"]);
            parts::tests(left_out.cargo(flags.into_iter().chain(plan.rest.iter().map(String::as_str))))
        });
    }
    if plan.unit {
        let what = "the real kustomize and Flux's packages; the first time Go builds them, two minutes";
        let built = parts.run("oracles", what, || {
            parts::command(cargo([
                "run",
                "--locked",
                "--quiet",
                "--package",
                build::COMPARE,
                "--bin",
                REAL_KUSTOMIZE,
            ]))
        });
        if built {
            parts.run(
                "comparison",
                "random trees and whole repositories, against the real kustomize",
                || {
                    let flags = ["test", "--locked", "--no-fail-fast", "--package", build::COMPARE, "--"];
                    parts::tests(
                        left_out.cargo(flags.into_iter().chain(plan.rest.iter().map(String::as_str))),
                    )
                },
            );
        }
    }
    if plan.scenarios && ready {
        parts.run("scenarios", "hub and agents on real API servers", || {
            let flags = ["test", "--locked", "--no-fail-fast", "--package", build::TESTS, "--"];
            parts::tests(left_out.cargo(flags.into_iter().chain(plan.rest.iter().map(String::as_str))))
        });
    }
    parts.leave_out(left_out.lines()?);
    parts.finish()
}

/// What tests note that are left out, as the machine lacks something: see the crate `leftout`. A line is what is lacking and,
/// after a tab, who lacks it.
struct LeftOut(PathBuf);

impl LeftOut {
    /// For this run: what earlier ones noted is gone.
    fn begin() -> anyhow::Result<Self> {
        let folder = workspace::target_dir(&workspace::metadata(false)?)?;
        std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let file = folder.join("left-out");
        std::fs::write(&file, "").with_context(|| format!("cannot write {}", file.display()))?;
        Ok(Self(file))
    }

    /// A cargo whose tests note there.
    fn cargo<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        let mut command = cargo(args);
        command.env("FLOTILLA_LEFT_OUT", &self.0);
        command
    }

    fn lines(&self) -> anyhow::Result<String> {
        std::fs::read_to_string(&self.0).with_context(|| format!("cannot read {}", self.0.display()))
    }
}

/// Finds or builds what tests start, ahead of them: inside a test it would look like a hang.
fn control_plane() -> anyhow::Result<String> {
    let target = workspace::target_dir(&workspace::metadata(false)?)?;
    parts::command(Command::new(target.join("debug").join("flotilla-controlplane")))
}

fn cargo<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Command {
    let mut command = workspace::cargo();
    command.args(args);
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_choose_the_parts() {
        let plan = |checks, unit, scenarios, rest: &[&str]| Plan {
            checks,
            unit,
            scenarios,
            rest: rest.iter().map(|&word| word.to_owned()).collect(),
        };
        for (args, expected) in [
            (&[][..], plan(true, true, true, &[])),
            (&["--unit"], plan(true, true, false, &[])),
            (&["--scenarios"], plan(false, false, true, &[])),
            (&["--", "prune"], plan(false, true, true, &["prune"])),
            (&["--unit", "--", "prune", "--nocapture"], plan(false, true, false, &["prune", "--nocapture"])),
        ] {
            let args: Vec<String> = args.iter().map(|&arg| arg.to_owned()).collect();
            assert_eq!(Plan::read(&args).unwrap(), expected, "{args:?}");
        }
    }

    #[test]
    fn arguments_that_make_no_sense_are_refused() {
        for (args, says) in
            [(&["--fast"][..], "'--fast'"), (&["--unit", "--scenarios"], "one of them or neither")]
        {
            let args: Vec<String> = args.iter().map(|&arg| arg.to_owned()).collect();
            let error = Plan::read(&args).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
    }
}
