//! `flotilla-bench [NAME]... [--units N] [--sources N] [--repeats N]`: how fast and how small the real programs are, on real API
//! servers. Figures go to stdout, a JSON object a line; what is being done goes to stderr.
//!
//! ```text
//!   load   the units, as files of a repository and as objects ──► bare    a client that only applies
//!   setup  clusters, hub, agents, waiting without long pauses ──► apply, propagate, drift, memory, agent, wire, size
//!   count  what the hub has counted, front  counts requests ──► render, sources
//!   meter  counts bytes between agent and hub                     figure  samples, medians, the machine
//! ```

mod agent;
mod apply;
mod bare;
mod count;
mod drift;
mod figure;
mod front;
mod load;
mod memory;
mod meter;
mod propagate;
mod render;
mod rollouts;
mod setup;
mod size;
mod sources;
mod wire;

use anyhow::{Context, Result, bail};
use flotilla_tests::Clusters;

const NAMES: [&str; 9] =
    ["size", "sources", "propagate", "drift", "wire", "render", "agent-memory", "agent", "apply"];
/// Those without a cluster.
const ALONE: [&str; 2] = ["size", "sources"];

/// What the command line asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Options {
    names: Vec<String>,
    units: usize,
    sources: usize,
    /// `None`: as many as each benchmark thinks right.
    repeats: Option<usize>,
}

impl Options {
    fn read(args: impl IntoIterator<Item = String>) -> Result<Self> {
        let mut options = Self { names: Vec::new(), units: 500, sources: 100, repeats: None };
        let mut args = args.into_iter();
        while let Some(arg) = args.next() {
            let mut number = || -> Result<usize> {
                let text = args.next().with_context(|| format!("{arg} wants a number"))?;
                let number = text.parse().ok().filter(|&number| number > 0);
                number.with_context(|| format!("{arg} wants a number from 1, not '{text}'"))
            };
            match arg.as_str() {
                "--units" => options.units = number()?,
                "--sources" => options.sources = number()?,
                "--repeats" => options.repeats = Some(number()?),
                name if NAMES.contains(&name) => options.names.push(arg),
                other => bail!(
                    "no benchmark '{other}'; there are: {}; options: --units N, --sources N, --repeats N",
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

#[tokio::main]
async fn main() -> Result<()> {
    let options = Options::read(std::env::args().skip(1))?;
    let clusters = if options.names.iter().any(|name| !ALONE.contains(&name.as_str())) {
        Some(Clusters::with_progress(|progress| eprintln!("control plane: {progress:?}")).await?)
    } else {
        None
    };
    for name in &options.names {
        eprintln!("== {name}");
        let run = async {
            let needed = clusters.as_ref().context("there is no cluster");
            match name.as_str() {
                "size" => return size::run(),
                "sources" => return sources::run(options.sources).await,
                _ => {}
            }
            let clusters = needed?;
            match name.as_str() {
                "render" => render::run(clusters, options.units, options.repeats.unwrap_or(3)).await,
                "apply" => apply::run(clusters, options.units, options.repeats.unwrap_or(3)).await,
                "propagate" => propagate::run(clusters, options.repeats.unwrap_or(15)).await,
                "drift" => drift::run(clusters, options.repeats.unwrap_or(15)).await,
                "agent" => agent::run(options.units, options.repeats.unwrap_or(5)).await,
                "wire" => wire::run(clusters, options.repeats.unwrap_or(5)).await,
                _ => memory::run(clusters, options.units).await,
            }
        };
        run.await.with_context(|| format!("benchmark {name}"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Options> {
        Options::read(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn names_and_numbers() {
        let options = read("apply --units 20 wire --repeats 2").unwrap();
        assert_eq!(
            options,
            Options { names: vec!["apply".into(), "wire".into()], units: 20, sources: 100, repeats: Some(2) }
        );
        assert_eq!(read("").unwrap().names, NAMES);
        for wrong in ["appply", "--units", "--units x", "--units 0", "--repeats -1"] {
            read(wrong).unwrap_err();
        }
    }
}
