//! `cargo xtask simulate`: the engine of promotions in a hub without sockets, by many seeds, with optimizations.

use anyhow::Context as _;

use crate::workspace;

/// A hundred thousand.
const SEEDS: &str = "1..100001";

pub(crate) fn run(args: &[String]) -> anyhow::Result<()> {
    let seeds = match args {
        [] => SEEDS,
        [seeds] => seeds.as_str(),
        [_, other, ..] => anyhow::bail!("what is '{other}'? one range of seeds is taken, like 1..5001"),
    };
    let numbers = seeds.split_once("..").and_then(|(from, to)| Some((from.parse().ok()?, to.parse().ok()?)));
    let is_range = numbers.is_some_and(|(from, to): (u64, u64)| from < to);
    anyhow::ensure!(is_range, "'{seeds}' is not a range of seeds: FROM..TO, without TO itself");
    let mut command = workspace::cargo();
    command.args(["test", "--locked", "--release", "--package", "flotilla-rollout", "--test", "simulation"]);
    command.env("SEEDS", seeds);
    let status = command.status().with_context(|| format!("cannot run `{}`", workspace::shown(&command)))?;
    anyhow::ensure!(status.success(), "a seed of {seeds} failed");
    println!("the seeds {seeds} passed");
    Ok(())
}
