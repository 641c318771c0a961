//! Faults, one after another, on a cluster under constant change; after each the cluster must be as Git says, objects of
//! others untouched, and nothing deleted twice.
//!
//! ```text
//!   FAULTS × runs ──► World (fleet, bystanders, the API server's record of deletions)
//!                       begin ─► (commit, change by hand, strike)… ─► end ─► right? harmless? ─► Row
//! ```

mod faults;
mod world;

use std::fmt::Write;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rand::SeedableRng;
use rand::rngs::StdRng;

pub use self::faults::{FAULTS, Fault};
pub use self::world::World;
use self::world::{CLUSTER, Kept};
use crate::wait::eventually;

/// What came of a fault.
#[derive(Debug, Clone)]
pub struct Row {
    pub fault: Fault,
    pub runs: u32,
    pub seconds: u64,
    pub commits: u32,
    /// The worst time from the end of the fault to a cluster that is right.
    pub recovery: Duration,
    /// What went wrong, run by run.
    pub failures: Vec<String>,
}

/// One run: `seconds` of commits while the fault lasts. The number of commits, and how long it took after the fault until
/// all was right.
///
/// # Errors
/// What was not right, or what the harness could not do.
pub async fn run(world: &mut World, fault: Fault, seconds: u64, seed: u64) -> Result<(u32, Duration)> {
    let mut random = StdRng::seed_from_u64(seed);
    let (begin, first) = (Instant::now(), world.round);
    let lasting = fault.begin(&mut world.fleet).await.context("begin")?;
    while begin.elapsed() < Duration::from_secs(seconds) {
        let told = world.advance().await;
        if !fault.is_of_the_hub() {
            told?;
        }
        lasting.strike(&mut world.fleet, &mut random).await?;
    }
    lasting.end(&mut world.fleet).await.context("end")?;
    let ended = Instant::now();
    let told = world.advance().await;
    if told.is_err() {
        eventually(fault.limit(), || world.fleet.reconcile()).await.context("the hub does not recover")?;
    }
    eventually(fault.limit(), || world.is_right()).await.context("the cluster is not as Git says")?;
    let recovery = ended.elapsed();
    world.fleet.in_sync(&[CLUSTER]).await?;
    world.fleet.units_ready(CLUSTER).await?;
    world.is_right().await?;
    world.harmed_nobody().await?;
    Ok((world.round - first, recovery))
}

/// Runs faults so many times each, on one world as long as all goes well.
///
/// # Errors
/// If no world can be had; what faults lead to is in the rows.
pub async fn measure(faults: &[Fault], runs: u32, seconds: Option<u64>, seed: u64) -> Result<Vec<Row>> {
    let mut world = None;
    let mut rows = Vec::new();
    for &fault in faults {
        // Two minutes of kills is what the agent is held to.
        let seconds = seconds.unwrap_or(if fault.name == "agent-killed" { 120 } else { 20 });
        let (recovery, failures) = (Duration::ZERO, Vec::new());
        let mut row = Row { fault, runs, seconds, commits: 0, recovery, failures };
        for number in 0..runs {
            let mut here = match world.take() {
                Some(world) => world,
                None => World::start().await.context("start a fleet")?,
            };
            let seed = seed + u64::from(number);
            eprintln!("{} {}/{runs}, seed {seed}", fault.name, number + 1);
            match run(&mut here, fault, seconds, seed).await {
                Ok((commits, recovery)) => {
                    row.commits += commits;
                    row.recovery = row.recovery.max(recovery);
                    world = Some(here);
                }
                Err(error) => {
                    let Kept { place, units, log } = here.keep().await;
                    let units = units.join("; ");
                    eprintln!("  FAILED: {error:#}\n  units: {units}\n  the agent's last words:");
                    log.iter().rev().for_each(|line| eprintln!("    {line}"));
                    eprintln!("  all of it is in {place}");
                    row.failures.push(format!("seed {seed}: {error:#}; units: {units}"));
                }
            }
        }
        rows.push(row);
    }
    Ok(rows)
}

/// The rows as a table of Markdown.
#[must_use]
pub fn table(rows: &[Row]) -> String {
    let mut text = String::from(
        "| fault | what is done | runs | seconds each | commits meanwhile | right again after (worst) | outcome |\n\
         |---|---|---|---|---|---|---|\n",
    );
    for row in rows {
        let outcome = match row.failures.as_slice() {
            [] => "as it should be".to_owned(),
            failures => {
                format!("{} failed: {}", failures.len(), failures.join("; ").replace(['\n', '|'], " "))
            }
        };
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "| `{}` | {} | {} | {} | {} | {:.1} s | {outcome} |",
            row.fault.name,
            row.fault.what,
            row.runs,
            row.seconds,
            row.commits,
            row.recovery.as_secs_f64(),
        );
    }
    text
}
