//! The workspace's own commands: `cargo xtask test|demo|versions|bench|reliability|simulate|dist|image|fuzz|tidy`.
//!
//! Standard library, `anyhow` and `serde_json` only: it is built before anything else and must not be waited for.
//! Nothing here knows how clusters are started or what the demo shows; that is `tests/`.

mod bench;
mod build;
mod demo;
mod dist;
mod fuzz;
mod image;
mod needs;
mod parts;
mod release;
mod reliability;
mod sbom;
mod simulate;
mod supply;
mod test;
mod tidy;
mod versions;
mod workspace;

use std::process::ExitCode;

const USAGE: &str = "\
cargo xtask COMMAND

  test [--unit | --scenarios] [-- FILTER]
        Checks everything: format, tidiness, lints, unit tests, scenarios on real API servers.
        --unit leaves out the scenarios, --scenarios all the rest; with a FILTER only the tests
        whose names contain it run, and nothing else.
  demo [--exit] [--contexts A,B]
        A hub, two clusters and a fleet repository on this machine, until Ctrl-C.
        --exit runs a verified tour instead; --contexts takes clusters that exist already.
  versions [COMMIT]...
        The tour with hub and agent of two versions, both ways: those of this tree and of each commit
        or tag; without one, of the two tags before.
  bench [NAME] [ARGUMENTS]
        Release build, then the benchmarks: a JSON object a line.
  reliability [NAME]... [--runs N] [--seconds N] [--seed N]
        Faults on a real cluster under constant change; writes docs/reliability.md when all are run.
  reliability ports [CONNECTIONS]
        The hub's ports under idle and slow connections, floods and an agent that lies; 10,000 connections.
  simulate [FROM..TO]
        Promotions in a hub without sockets, by seeds, with optimizations: 100,000 without a range. One that fails is
        printed as a scenario with as little in it as can be.
  dist [x86_64] [aarch64]
        The binaries that are shipped, and their sizes: for this machine, or those that are named.
  image [x86_64] [aarch64] [--without-helm] [--name PREFIX] [--out DIR] [--push PREFIX]
        Container images of agent, hub and CLI, as OCI archives in target/images: static programs and
        nothing else, helm for hub and CLI; the same bytes for the same commit. --binaries DIR takes
        static programs from folders DIR/x86_64 and DIR/aarch64 instead of building them; --push
        REGISTRY/PATH pushes them, as who `docker login` or --username and --password-file say.
  release [--name PREFIX] [--key FILE] [--out DIR] [--binaries DIR]
        Every file of a release in target/release-out: images, Debian packages, programs, chart and
        manifests, the bill of materials (CycloneDX), one archive with all of it for places without a
        network, SHA256SUMS; with a P-256 key (PKCS#8, PEM) SHA256SUMS.sig too. For all architectures
        that this machine can build for.
  fuzz [TARGET] [--seconds N]
        The fuzz targets, a minute each. Needs a nightly compiler and cargo-fuzz.
  tidy
        The rules on dependencies, purity, files and links that no compiler checks.";

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let command = args.next().unwrap_or_default();
    let args: Vec<String> = args.collect();
    let result = match command.as_str() {
        "test" => test::run(&args),
        "demo" => demo::run(&args),
        "bench" => bench::run(&args),
        "reliability" => reliability::run(&args),
        "simulate" => simulate::run(&args),
        "dist" => dist::run(&args),
        "image" => image::run(&args),
        "release" => release::run(&args),
        "fuzz" => fuzz::run(&args),
        "versions" => versions::run(&args),
        "tidy" => tidy::run(&args),
        "help" | "-h" | "--help" => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        "" => Err(anyhow::anyhow!("which command?\n\n{USAGE}")),
        other => Err(anyhow::anyhow!("there is no command '{other}'\n\n{USAGE}")),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
