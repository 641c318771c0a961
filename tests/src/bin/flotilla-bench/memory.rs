//! `agent-memory`: what the agent that is shipped keeps resident, idle and with all units of four objects.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};
use flotilla_tests::fleet::{Fleet, HubOptions};
use flotilla_tests::process::Recipe;
use flotilla_tests::{ClusterOptions, Clusters};
use serde_json::json;

use crate::load::{self, OBJECTS};
use crate::rollouts::Rollouts;
use crate::setup::{LIMIT, Level, acknowledged, fleet};
use crate::{figure, size};

const NAME: &str = "bench";
/// What was allocated in passing is given back by then, if ever; several heartbeats have gone by.
const SETTLED: Duration = Duration::from_secs(20);

pub(crate) async fn run(clusters: &Clusters, units: usize) -> Result<()> {
    let root = [load::root(NAME)];
    let mut fleet =
        fleet(clusters, [NAME], &root, &ClusterOptions::default(), &HubOptions::default()).await?;
    // It is enrolled; from now on it is the program that is shipped.
    let program = size::shipped("flotilla-agent")?;
    fleet.member(NAME).agent().process().change(|recipe: Recipe| recipe.with_program(program));
    restart(&mut fleet).await?;
    report(&mut fleet, "agent_idle_memory", 1).await?;

    let mut rollouts = Rollouts::watch(fleet.client(NAME));
    let commit = fleet.commit("all units", &load::units(&[NAME], units, &["wait: true"])?).await?;
    rollouts.available(units, LIMIT).await?;
    acknowledged(&fleet, NAME, &commit, Level::Healthy).await?;
    report(&mut fleet, "agent_memory", units * OBJECTS).await?;

    restart(&mut fleet).await?;
    report(&mut fleet, "agent_memory_restarted", units * OBJECTS).await
}

async fn restart(fleet: &mut Fleet) -> Result<()> {
    fleet.member(NAME).agent().restart()?;
    fleet.units_ready(NAME).await?;
    fleet.in_sync(&[NAME]).await
}

async fn report(fleet: &mut Fleet, name: &str, objects: usize) -> Result<()> {
    tokio::time::sleep(SETTLED).await;
    let pid = fleet.member(NAME).agent().process().pid().context("the agent is not running")?;
    let megabytes = |field: &str| megabytes(pid, field);
    let details = json!({
        "objects": objects,
        "profile": "dist",
        "peak_mb": megabytes("VmHWM")?,
        "anonymous_mb": megabytes("RssAnon")?,
        "file_mb": megabytes("RssFile")?,
    });
    figure::print(name, megabytes("VmRSS")?, "MB", details);
    Ok(())
}

/// A field of Linux's `/proc/PID/status`.
///
/// # Errors
/// If there is no such process or field.
pub(crate) fn megabytes(pid: u32, field: &str) -> Result<f64> {
    let path = format!("/proc/{pid}/status");
    let status = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    let kibibytes = line.and_then(|it| it.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    Ok(figure::megabytes(kibibytes.with_context(|| format!("{path} has no {field}"))? * 1024))
}
