//! `wire`: what one agent and the hub send each other for a one-line change, in a small object and in one of 500 KB.
//! Everything that passes from the commit until both are quiet again is counted, TLS and reports included.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use flotilla_tests::fleet::{Fleet, HubOptions};
use flotilla_tests::git::{Change, file};
use flotilla_tests::objects::ObjectRef;
use flotilla_tests::{ClusterOptions, Clusters, manifests};
use serde_json::json;

use crate::figure;
use crate::load::{self, NAMESPACE};
use crate::meter::{Count, Meter};
use crate::setup::{LIMIT, Level, acknowledged, fleet, until};

const NAME: &str = "bench";
const UNITS: usize = 20;
const LARGE: &str = "large";
/// Nothing is on its way any more when nothing has passed for so long.
const QUIET: Duration = Duration::from_secs(1);

pub(crate) async fn run(clusters: &Clusters, repeats: usize) -> Result<()> {
    let meter = Meter::start().await?;
    let mut files = vec![load::root(NAME), manifests::app(NAME, LARGE, &[]), large(0)];
    files.extend(load::units(&[NAME], UNITS, &[])?);
    let hub = HubOptions { advertise: Some(meter.address()), ..HubOptions::default() };
    let mut fleet = fleet_behind(clusters, &meter, &files, &hub).await?;
    fleet.in_sync(&[NAME]).await?;
    let idle = idle(&meter).await;

    let (mut small, mut big) = (Vec::new(), Vec::new());
    for repeat in 1..=repeats {
        let value = format!("change-{repeat}");
        let changes = load::content(repeat % UNITS, &value)?;
        small.push(change(&mut fleet, &meter, &changes, &load::name(repeat % UNITS), &value).await?);
        big.push(change(&mut fleet, &meter, &[large(repeat)], LARGE, &repeat.to_string()).await?);
    }
    for (name, counts) in [("wire_bytes", small), ("wire_500kb_bytes", big)] {
        let of = |part: fn(Count) -> u64| {
            counts.iter().map(|&count| figure::whole(part(count))).collect::<Vec<_>>()
        };
        let about = json!({
            "units": UNITS,
            "to_agent_median": figure::median(&of(|count| count.to_agent)),
            "to_hub_median": figure::median(&of(|count| count.to_hub)),
            "without_tls_median": figure::median(&of(Count::content)),
            "idle_bytes_per_minute": idle,
        });
        figure::print_median(name, &of(Count::total), "bytes", about);
    }
    Ok(())
}

/// As [`fleet`], with the meter between agent and hub: the hub has to be there before its agent calls.
async fn fleet_behind(
    clusters: &Clusters,
    meter: &Meter,
    files: &[Change],
    hub: &HubOptions,
) -> Result<Fleet> {
    let mut fleet = fleet(clusters, [], files, &ClusterOptions::bare(), hub).await?;
    meter.forward_to(fleet.hub().address());
    fleet.join(NAME, clusters.start_one(NAME, &ClusterOptions::bare()).await?).await?;
    Ok(fleet)
}

/// An object of 500 KB of which one line differs from change to change; the rest does not compress well.
fn large(change: usize) -> Change {
    let mut text = manifests::config_map_in(NAMESPACE, LARGE, &change.to_string());
    let mut state = 1_u64;
    for line in 0..7500 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let other = state.rotate_left(29) ^ state;
        let third = state.rotate_left(47).wrapping_mul(other | 1);
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  line-{line:05}: {state:016x}{other:016x}{third:016x}");
    }
    file(&format!("apps/{LARGE}/config.yaml"), text)
}

/// What passes for a change until the hub knows it applied and healthy, and both are quiet.
async fn change(
    fleet: &mut Fleet,
    meter: &Meter,
    changes: &[Change],
    object: &str,
    value: &str,
) -> Result<Count> {
    let before = meter.count();
    let commit = fleet.commit(value, changes).await?;
    let client = fleet.client(NAME);
    let config = ObjectRef::new("v1", "ConfigMap", NAMESPACE, object);
    until("the change is in the cluster", async || Ok(config.field(&client, "/data/value").await? == value))
        .await?;
    acknowledged(fleet, NAME, &commit, Level::Healthy).await?;
    quiet(meter).await?;
    let count = meter.count().since(before);
    ensure!(count.to_agent > 0, "the agent does not call by way of the meter");
    eprintln!("{object}: {count:?}");
    Ok(count)
}

async fn quiet(meter: &Meter) -> Result<()> {
    let (mut last, mut since) = (meter.count(), Instant::now());
    let end = Instant::now() + LIMIT;
    while since.elapsed() < QUIET {
        tokio::time::sleep(Duration::from_millis(20)).await;
        if meter.count() != last {
            (last, since) = (meter.count(), Instant::now());
        }
        (Instant::now() < end).then_some(()).context("agent and hub never stop talking")?;
    }
    Ok(())
}

/// Bytes per minute without any change.
async fn idle(meter: &Meter) -> f64 {
    let before = meter.count();
    tokio::time::sleep(Duration::from_secs(60)).await;
    figure::whole(meter.count().since(before).total())
}
