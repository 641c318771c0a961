//! `cargo xtask fuzz [TARGET] [--seconds N]`: the targets of `fuzz/libfuzzer/`, each for a minute or as long as is said.

use std::process::Command;

use anyhow::{Context, bail, ensure};

use crate::workspace;

const TARGETS: [&str; 14] = [
    "yaml",
    "patch",
    "tree",
    "fleet",
    "substitute",
    "cel",
    "values",
    "select",
    "addresses",
    "archive",
    "chart",
    "git",
    "servers",
    "sops",
];

/// Those whose inputs are texts of Kubernetes: cases of kustomizations are seeds for them too.
const OF_KUSTOMIZE: [&str; 4] = ["yaml", "patch", "tree", "fleet"];

/// What is a finding, beside a panic: seconds for one input, and memory in MB.
const LIMITS: [&str; 2] = ["-timeout=10", "-rss_limit_mb=700"];

pub(crate) fn run(args: &[String]) -> anyhow::Result<()> {
    let (targets, seconds) = read(args)?;
    let root = workspace::root();
    for target in targets {
        let corpus = root.join("fuzz/corpus").join(target);
        std::fs::create_dir_all(&corpus).with_context(|| format!("cannot make {}", corpus.display()))?;
        let mut command = Command::new("rustup");
        // No sanitizer: none of our code is unsafe, and without one three times as much is tried.
        command.current_dir(&root).args([
            "run",
            "nightly",
            "cargo",
            "fuzz",
            "run",
            "--fuzz-dir",
            "fuzz/libfuzzer",
            "--sanitizer",
            "none",
            target,
        ]);
        command.arg(corpus);
        let seeds = root.join("fuzz/seeds").join(target);
        command.args(seeds.is_dir().then_some(seeds));
        command.args(OF_KUSTOMIZE.contains(&target).then(|| root.join("kustomize/tests/table")));
        command.arg("--").args(LIMITS).arg(format!("-max_total_time={seconds}"));
        let shown = workspace::shown(&command);
        let status = command.status().with_context(|| format!("cannot run `{shown}`"))?;
        ensure!(
            status.success(),
            "`{shown}` failed: what it found is in fuzz/libfuzzer/artifacts/{target}. It needs a nightly compiler and \
             `cargo install cargo-fuzz`"
        );
    }
    Ok(())
}

fn read(args: &[String]) -> anyhow::Result<(Vec<&str>, u64)> {
    let (mut targets, mut seconds) = (Vec::new(), 60);
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--seconds" => {
                let value = args.next().context("--seconds wants a number")?;
                seconds = value.parse().with_context(|| format!("--seconds: '{value}' is not a number"))?;
            }
            target if TARGETS.contains(&target) => targets.push(target),
            other => bail!("there is no target '{other}': {}", TARGETS.join(", ")),
        }
    }
    if targets.is_empty() {
        targets.extend(TARGETS);
    }
    Ok((targets, seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_targets_run_for_a_minute_unless_told_otherwise() {
        let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(read(&[]).unwrap(), (TARGETS.to_vec(), 60));
        assert_eq!(read(&words("tree --seconds 5")).unwrap(), (vec!["tree"], 5));
        for bad in ["--seconds", "--seconds x", "trees"] {
            assert!(read(&words(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn each_target_is_there_and_has_seeds() {
        let folder = workspace::root().join("fuzz");
        for target in TARGETS {
            assert!(folder.join(format!("libfuzzer/targets/{target}.rs")).is_file(), "{target}");
            let has_seeds =
                std::fs::read_dir(folder.join("seeds").join(target)).is_ok_and(|mut it| it.next().is_some());
            assert!(has_seeds || OF_KUSTOMIZE.contains(&target), "{target}");
        }
        let there = std::fs::read_dir(folder.join("libfuzzer/targets")).unwrap().count();
        assert_eq!(there, TARGETS.len(), "each file is the target of its name");
    }
}
