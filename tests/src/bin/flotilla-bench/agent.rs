//! `agent`: the agent that is shipped, behind a proxy that sees its requests: a restart, drift of 100 objects at once, the
//! change of one unit among many, and a minute in which nothing happens.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use flotilla_tests::ClusterOptions;
use flotilla_tests::fleet::Fleet;
use flotilla_tests::objects::{self, ObjectRef};
use flotilla_tests::process::Recipe;
use flotilla_tests::proxy::Seen;
use futures::StreamExt;
use serde_json::{Value, json};

use crate::apply::{by_method, is_watch, settled};
use crate::load::{self, NAMESPACE, OBJECTS};
use crate::setup::{Level, acknowledged, until};
use crate::{figure, memory, size};

const NAME: &str = "bench";
const DRIFTED: usize = 100;
/// Objects of the quiet minute, as many as the figure that is to be reached speaks of.
const STEADY_UNITS: usize = 1_250;
const MINUTE: Duration = Duration::from_secs(60);
/// What Linux counts processor time in.
const TICKS_PER_SECOND: f64 = 100.0;

pub(crate) async fn run(units: usize, repeats: usize) -> Result<()> {
    let mut files = vec![load::root(NAME)];
    files.extend(load::units(&[NAME], units, &[])?);
    let mut fleet = Fleet::start_with([NAME], &files, &ClusterOptions::bare()).await?;
    let commit = fleet.repo().head("main")?.context("the repository is empty")?;
    acknowledged(&fleet, NAME, &commit, Level::Healthy).await?;
    let program = size::shipped("flotilla-agent")?;
    fleet.member(NAME).agent().process().change(|recipe: Recipe| recipe.with_program(program));
    restart(&mut fleet, units, repeats).await?;
    drift(&mut fleet, units, repeats).await?;
    one_unit(&mut fleet, units).await?;
    steady(&mut fleet, units).await
}

fn about(units: usize) -> Value {
    json!({"units": units, "objects": units * OBJECTS, "profile": "dist"})
}

/// From the start of an agent with its state on disk to the last request of its way to in sync.
async fn restart(fleet: &mut Fleet, units: usize, repeats: usize) -> Result<()> {
    let (mut seconds, mut writes) = (Vec::new(), 0);
    for _ in 0..repeats {
        settled(fleet, 0).await?;
        let start = Instant::now();
        fleet.member(NAME).agent().restart()?;
        let (seen, last) = settled(fleet, OBJECTS).await?;
        seconds.push((last - start).as_secs_f64());
        writes += seen.iter().filter(|seen| seen.is_write()).count();
    }
    let mut details = about(units);
    details["writes"] = json!(writes);
    figure::print_median("restart_seconds", &seconds, "s", details);
    Ok(())
}

/// From the last of many edits to the moment at which all are undone.
async fn drift(fleet: &mut Fleet, units: usize, repeats: usize) -> Result<()> {
    ensure!(units >= DRIFTED, "it takes {DRIFTED} units");
    let client = fleet.client(NAME);
    let mut seconds = Vec::new();
    for repeat in 0..repeats {
        let wrong = format!("by hand {repeat}");
        let edits = (0..DRIFTED).map(|unit| {
            let (client, wrong) = (client.clone(), wrong.clone());
            async move {
                let config = ObjectRef::new("v1", "ConfigMap", NAMESPACE, &load::name(unit));
                config.edit(&client, json!({"data": {"value": wrong}})).await
            }
        });
        let edits: Vec<_> = futures::stream::iter(edits).buffer_unordered(DRIFTED).collect().await;
        let start = Instant::now();
        edits.into_iter().collect::<Result<Vec<_>>>()?;
        let repaired = until("all are put back", async || {
            let all = objects::list(&client, "v1", "ConfigMap", Some(NAMESPACE), "part-of=bench").await?;
            Ok(!all.iter().any(|it| it.data.pointer("/data/value") == Some(&Value::from(wrong.as_str()))))
        });
        seconds.push((repaired.await? - start).as_secs_f64());
    }
    let mut details = about(units);
    details["drifted"] = json!(DRIFTED);
    figure::print_median("drift_100_seconds", &seconds, "s", details);
    Ok(())
}

/// What one changed object among all costs.
async fn one_unit(fleet: &mut Fleet, units: usize) -> Result<()> {
    settled(fleet, 0).await?;
    let commit = fleet.commit("one", &load::content(units / 2, "changed")?).await?;
    acknowledged(fleet, NAME, &commit, Level::Healthy).await?;
    let (seen, _) = settled(fleet, 0).await?;
    let sent: Vec<Seen> = seen.into_iter().filter(|seen| !is_watch(seen)).collect();
    let mut details = about(units);
    details["by_method"] = by_method(&sent);
    figure::print("one_unit_requests", figure::whole(sent.len() as u64), "requests", details);
    Ok(())
}

/// A minute in which nothing happens, with many objects.
async fn steady(fleet: &mut Fleet, units: usize) -> Result<()> {
    let more = load::units(&[NAME], STEADY_UNITS.max(units), &[])?;
    let commit = fleet.commit("many", &more).await?;
    acknowledged(fleet, NAME, &commit, Level::Healthy).await?;
    fleet.member(NAME).agent().restart()?;
    settled(fleet, OBJECTS).await?;
    fleet.in_sync(&[NAME]).await?;
    settled(fleet, 0).await?;
    let pid = fleet.member(NAME).agent().process().pid().context("the agent is not running")?;
    let before = processor_seconds(pid)?;
    tokio::time::sleep(MINUTE).await;
    let share = (processor_seconds(pid)? - before) / MINUTE.as_secs_f64() * 100.0;
    let seen = fleet.member(NAME).proxy().take_seen();
    let sent = seen.iter().filter(|seen| !is_watch(seen)).count();
    let mut details = about(STEADY_UNITS.max(units));
    details["by_method"] = by_method(&seen);
    figure::print("steady_requests", figure::whole(sent as u64), "requests a minute", details.clone());
    figure::print("steady_processor", share, "% of a core", details.clone());
    let resident = memory::megabytes(pid, "VmRSS")?;
    details["peak_mb"] = json!(memory::megabytes(pid, "VmHWM")?);
    figure::print("steady_memory", resident, "MB", details);
    Ok(())
}

fn processor_seconds(pid: u32) -> Result<f64> {
    let path = format!("/proc/{pid}/stat");
    let stat = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    // After the name in parentheses: the state is field 3, utime and stime are 14 and 15.
    let rest: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = rest.get(11..13).context("the fields of processor time")?;
    let ticks = ticks.iter().map(|it| it.parse::<f64>()).sum::<Result<f64, _>>()?;
    Ok(ticks / TICKS_PER_SECOND)
}
