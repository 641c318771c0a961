//! `flotilla-bench-kustomize [kustomize] [kustomize-diff] [flux-diff] [--seconds N] [--seed N] [--repeats N] [--tree
//! FOLDER]`: our kustomize build against the real one, and whole fleets against Flux's own packages. Figures go to stdout, a
//! JSON object a line; what is being done goes to stderr.

mod diff;
mod figure;
mod flux_diff;
mod rebuild;
mod speed;

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use flotilla_compare::gobuild::printed;
use flotilla_compare::real::Real;

const NAMES: [&str; 3] = ["kustomize", "kustomize-diff", "flux-diff"];

/// What the command line asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Options {
    names: Vec<String>,
    seconds: u64,
    /// `None`: a new one each time.
    seed: Option<u64>,
    repeats: usize,
    /// Fleets of which `flux-diff` compares the cluster `clusters/prod`, in place of random ones.
    trees: Vec<PathBuf>,
}

impl Options {
    fn read(args: impl IntoIterator<Item = String>) -> Result<Self> {
        let mut options =
            Self { names: Vec::new(), seconds: 60, seed: None, repeats: 200, trees: Vec::new() };
        let mut args = args.into_iter();
        while let Some(arg) = args.next() {
            let mut number = || -> Result<u64> {
                let text = args.next().with_context(|| format!("{arg} wants a number"))?;
                text.parse().with_context(|| format!("{arg} wants a number, not '{text}'"))
            };
            match arg.as_str() {
                "--seconds" => options.seconds = number()?,
                "--seed" => options.seed = Some(number()?),
                "--repeats" => options.repeats = usize::try_from(number()?.max(1)).context("--repeats")?,
                "--tree" => options.trees.push(args.next().context("--tree wants a folder")?.into()),
                name if NAMES.contains(&name) => options.names.push(arg),
                other => bail!(
                    "no benchmark '{other}'; there are: {}; options: --seconds N, --seed N, --repeats N, --tree FOLDER",
                    NAMES.join(", ")
                ),
            }
        }
        if options.names.is_empty() {
            options.names = NAMES.map(str::to_owned).to_vec();
        }
        Ok(options)
    }
}

fn main() -> Result<()> {
    let options = Options::read(std::env::args().skip(1))?;
    let real = || Real::find_or_build(&mut printed(|line: &str| eprintln!("kustomize: {line}")));
    let first = options.seed.unwrap_or_else(|| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        now.as_secs() % 1_000_000 * 1_000_000
    });
    for name in &options.names {
        eprintln!("== {name}");
        match name.as_str() {
            "kustomize-diff" => diff::run(&real()?, options.seconds, first),
            "flux-diff" if !options.trees.is_empty() => flux_diff::run_trees(&options.trees),
            "flux-diff" => flux_diff::run(options.seconds, first),
            _ => speed::run(&real()?, options.repeats)
                .and_then(|()| rebuild::run(options.repeats.div_ceil(10))),
        }
        .with_context(|| format!("benchmark {name}"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers() {
        let read = |line: &str| Options::read(line.split_whitespace().map(str::to_owned));
        let options = read("kustomize-diff --seconds 5 --seed 7").unwrap();
        assert_eq!(
            (&options.names[..], options.seconds, options.seed),
            (&["kustomize-diff".to_owned()][..], 5, Some(7))
        );
        assert_eq!(read("").unwrap().names, NAMES);
        for wrong in ["kustomise", "--seed", "--seconds x", "--tree"] {
            read(wrong).unwrap_err();
        }
    }
}
