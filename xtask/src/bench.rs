//! `cargo xtask bench`: a release build, then the benchmarks. Only their JSON goes to stdout.

use anyhow::Context as _;

use crate::{build, demo, dist, needs, workspace};

/// The benchmarks of what is shipped, which is built with another profile.
const OF_SHIPPED: [&str; 3] = ["agent-memory", "agent", "size"];

/// The benchmarks of rendering alone: no cluster, and few crates to build.
const OF_KUSTOMIZE: [&str; 3] = ["kustomize", "kustomize-diff", "flux-diff"];

/// Benchmarks of one crate, with few crates to build: the name, the package and its own name of it.
const OF_CRATES: [[&str; 3]; 3] = [
    ["fleet", "flotilla-hub", "fleet"],
    ["sops", "flotilla-sops", "files"],
    ["step", "flotilla-rollout", "step"],
];

/// The comparison of what is applied with Flux, which is a test of the agent's that goes on for longer.
const APPLY_DIFF: &str = "apply-diff";

/// What benchmarks run: each binary takes minutes to link for release.
const BINARIES: [&str; 4] = ["flotilla-hub", "flotilla-agent", "flotilla", "flotilla-bench"];

pub(crate) fn run(args: &[String]) -> anyhow::Result<()> {
    if names(args).any(|name| name == APPLY_DIFF) {
        return apply_diff(args);
    }
    if let Some(bench) = OF_CRATES.iter().find(|[name, ..]| names(args).any(|named| named == *name)) {
        return of_crate(bench, args);
    }
    if names(args).any(|name| OF_KUSTOMIZE.contains(&name)) {
        if let Some(other) = names(args).find(|name| !OF_KUSTOMIZE.contains(name)) {
            anyhow::bail!("{} run on their own, without {other}", OF_KUSTOMIZE.join(" and "));
        }
        let build = build::command(&[build::COMPARE], &["--release"]);
        build::with_progress("building for release", build)?;
        return demo::replace_by(&release("flotilla-bench-kustomize")?, args);
    }
    needs::check(true)?;
    let packages: Vec<&str> = build::SHIPPED.into_iter().chain([build::TESTS]).collect();
    let binaries = BINARIES.into_iter().flat_map(|binary| ["--bin", binary]);
    let flags: Vec<&str> = ["--release"].into_iter().chain(binaries).collect();
    build::with_progress("building for release", build::command(&packages, &flags))?;
    if wants_shipped(args) {
        dist::build()?;
    }
    demo::replace_by(&release("flotilla-bench")?, args)
}

fn of_crate([name, package, bench]: &[&str; 3], args: &[String]) -> anyhow::Result<()> {
    if let Some(other) = names(args).find(|other| other != name) {
        anyhow::bail!("{name} runs on its own, without {other}");
    }
    let mut command = workspace::cargo();
    command.args(["bench", "--locked", "--package", package, "--bench", bench, "--"]);
    command.args(args.iter().filter(|arg| arg != name));
    let status = command.status().with_context(|| format!("cannot run `{}`", workspace::shown(&command)))?;
    anyhow::ensure!(status.success(), "the benchmark {name} failed");
    Ok(())
}

fn apply_diff(args: &[String]) -> anyhow::Result<()> {
    let mut command = workspace::cargo();
    command.args([
        "test",
        "--locked",
        "--package",
        "flotilla-agent",
        "--test",
        "engine_flux",
        "--",
        "--nocapture",
    ]);
    command.env("FLOTILLA_APPLY_SECONDS", "60");
    let mut args = args.iter().map(String::as_str).filter(|arg| *arg != APPLY_DIFF);
    while let Some(arg) = args.next() {
        let variable = match arg {
            "--seconds" => "FLOTILLA_APPLY_SECONDS",
            "--seed" => "FLOTILLA_APPLY_SEED",
            other => anyhow::bail!(
                "{APPLY_DIFF} runs on its own and takes --seconds N and --seed N, not '{other}'"
            ),
        };
        let number: u64 = args
            .next()
            .and_then(|text| text.parse().ok())
            .with_context(|| format!("{arg} wants a number"))?;
        command.env(variable, number.to_string());
    }
    needs::check(true)?;
    let status = command.status().with_context(|| format!("cannot run `{}`", workspace::shown(&command)))?;
    anyhow::ensure!(status.success(), "{APPLY_DIFF}: what is left differs, or could not be compared");
    Ok(())
}

fn release(binary: &str) -> anyhow::Result<std::path::PathBuf> {
    Ok(workspace::target_dir(&workspace::metadata(false)?)?.join("release").join(binary))
}

/// The arguments that are names of benchmarks.
fn names(args: &[String]) -> impl Iterator<Item = &str> {
    args.iter().map(String::as_str).filter(|arg| arg.starts_with(|first: char| first.is_ascii_alphabetic()))
}

/// Whether a benchmark of what is shipped is among those that are named; all are where none is.
fn wants_shipped(args: &[String]) -> bool {
    let mut names = names(args).peekable();
    names.peek().is_none() || names.any(|name| OF_SHIPPED.contains(&name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shipped_is_built_where_it_is_measured() {
        for (line, expected) in [
            ("", true),
            ("--units 20", true),
            ("apply --units 20", false),
            ("wire agent-memory", true),
            ("size", true),
            ("agent", true),
            ("propagate drift --repeats 3", false),
        ] {
            let args: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
            assert_eq!(wants_shipped(&args), expected, "{line}");
        }
    }
}
