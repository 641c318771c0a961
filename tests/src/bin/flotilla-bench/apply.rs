//! `apply`: units of four objects, from the commit to all applied and to all ready, against a bare client.
//!
//! Each repeat starts two fresh clusters one after the other, one for the bare client and one for a fleet, in turns
//! who is first. With the controllers at work both share the machine with what their objects set going, so the same
//! is done once more without: there the API server is all that is waited for. Requests are counted in a run of their
//! own, as counting costs time.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use flotilla_tests::fleet::{Fleet, HubOptions};
use flotilla_tests::proxy::Seen;
use flotilla_tests::{ClusterOptions, Clusters};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::{Api, Client};
use serde_json::{Value, json};

use crate::load::{self, NAMESPACE, OBJECTS};
use crate::rollouts::Rollouts;
use crate::setup::{LIMIT, Level, acknowledged, fleet, until};
use crate::{bare, figure};

const NAME: &str = "bench";
/// A unit is ready when its objects are.
const WAIT: [&str; 1] = ["wait: true"];

/// How long it took until all was applied, and until all was ready; the latter is no more than the former where there
/// are no controllers.
#[derive(Debug, Clone, Copy)]
struct Times {
    applied: Duration,
    ready: Duration,
}

pub(crate) async fn run(clusters: &Clusters, units: usize, repeats: usize) -> Result<()> {
    let about = json!({"units": units, "objects": units * OBJECTS, "bare_client_at_once": bare::AT_ONCE});
    let pairs = compare(clusters, units, repeats, &ClusterOptions::default()).await?;
    print("apply", &pairs, |times| times.applied, &about);
    print("ready", &pairs, |times| times.ready, &about);
    let pairs = compare(clusters, units, repeats, &ClusterOptions::bare()).await?;
    print("apply_without_controllers", &pairs, |times| times.applied, &about);
    count_requests(units, &about).await
}

/// Times of the fleet and of the bare client, pair by pair.
async fn compare(
    clusters: &Clusters,
    units: usize,
    repeats: usize,
    options: &ClusterOptions,
) -> Result<Vec<(Times, Times)>> {
    let mut pairs = Vec::new();
    for repeat in 1..=repeats {
        let pair = if repeat % 2 == 1 {
            let theirs = run_bare(clusters, units, options).await?;
            (run_fleet(clusters, units, options).await?, theirs)
        } else {
            (run_fleet(clusters, units, options).await?, run_bare(clusters, units, options).await?)
        };
        eprintln!("{repeat}/{repeats} fleet: {:.2?}, bare client: {:.2?}", pair.0, pair.1);
        pairs.push(pair);
    }
    Ok(pairs)
}

fn print(name: &str, pairs: &[(Times, Times)], of: fn(&Times) -> Duration, about: &Value) {
    let (ours, theirs): (Vec<f64>, Vec<f64>) =
        pairs.iter().map(|(ours, theirs)| (of(ours).as_secs_f64(), of(theirs).as_secs_f64())).unzip();
    figure::print_median(&format!("{name}_seconds"), &ours, "s", about.clone());
    figure::print_median(&format!("{name}_bare_seconds"), &theirs, "s", about.clone());
    // Each pair shares the machine's mood.
    let ratios: Vec<f64> = ours.iter().zip(&theirs).map(|(ours, theirs)| ours / theirs).collect();
    figure::print_median(&format!("{name}_ratio"), &ratios, "ratio", about.clone());
}

async fn run_bare(clusters: &Clusters, units: usize, options: &ClusterOptions) -> Result<Times> {
    let cluster = clusters.start_one(NAME, options).await?;
    let client = cluster.client();
    bare::apply(&client, &[load::namespace()]).await?;
    let controllers = options.controller_manager.is_some();
    if controllers {
        pods_are_admitted(&client).await?;
    }
    let objects: Vec<Value> = (0..units).flat_map(|unit| load::objects(unit, "first")).collect();
    let mut rollouts = Rollouts::watch(client.clone());
    let start = Instant::now();
    let applied = bare::apply(&client, &objects).await?;
    let ready = if controllers { rollouts.available(units, LIMIT).await? - start } else { applied };
    Ok(Times { applied, ready })
}

async fn run_fleet(clusters: &Clusters, units: usize, options: &ClusterOptions) -> Result<Times> {
    let root = [load::root(NAME)];
    let fleet = fleet(clusters, [NAME], &root, options, &HubOptions::default()).await?;
    let client = fleet.client(NAME);
    let controllers = options.controller_manager.is_some();
    if controllers {
        pods_are_admitted(&client).await?;
    }
    let mut rollouts = Rollouts::watch(client);
    let more: &[&str] = if controllers { &WAIT } else { &[] };
    let commit = fleet.repo().commit("all units", &load::units(&[NAME], units, more)?)?;
    let start = Instant::now();
    let reached = work(&fleet, &commit, units, &mut rollouts, controllers).await;
    let (applied, ready) = reached.with_context(|| tell(&fleet))?;
    Ok(Times { applied: applied - start, ready: ready - start })
}

/// Has the commit read, and says when the hub knew it applied, and ready. It is not asked before the cluster shows
/// that it may be, as asking takes from what is measured.
async fn work(
    fleet: &Fleet,
    commit: &str,
    units: usize,
    rollouts: &mut Rollouts,
    controllers: bool,
) -> Result<(Instant, Instant)> {
    fleet.reconcile().await?;
    rollouts.there(units, LIMIT).await?;
    let applied = acknowledged(fleet, NAME, commit, Level::Applied).await?;
    if !controllers {
        return Ok((applied, applied));
    }
    rollouts.available(units, LIMIT).await?;
    let ready = acknowledged(fleet, NAME, commit, Level::Healthy).await?;
    Ok((applied, ready))
}

/// The end of what the programs said, for an error.
fn tell(fleet: &Fleet) -> String {
    let mut text = String::from("the logs end with:");
    for log in ["hub.log".to_owned(), format!("agent-{NAME}.log")] {
        let content = std::fs::read_to_string(fleet.folder().join(&log)).unwrap_or_default();
        let lines: Vec<&str> = content.lines().collect();
        text += &format!("\n-- {log}\n{}", lines[lines.len().saturating_sub(20)..].join("\n"));
    }
    text
}

/// Waits for the account without which no pod is let in: it comes a little after its namespace.
async fn pods_are_admitted(client: &Client) -> Result<()> {
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), NAMESPACE);
    until("the namespace has its default account", async || Ok(accounts.get_opt("default").await?.is_some()))
        .await
        .map(drop)
}

async fn count_requests(units: usize, about: &Value) -> Result<()> {
    let options = ClusterOptions::default();
    let mut fleet = Fleet::start_with([NAME], &[load::root(NAME)], &options).await?;
    fleet.in_sync(&[NAME]).await?;
    let mut rollouts = Rollouts::watch(fleet.client(NAME));
    drop(fleet.member(NAME).proxy().take_seen());
    let commit = fleet.repo().commit("all units", &load::units(&[NAME], units, &WAIT)?)?;
    work(&fleet, &commit, units, &mut rollouts, true).await.with_context(|| tell(&fleet))?;
    let seen = fleet.member(NAME).proxy().take_seen();
    let with = |more: Value| -> Value {
        let mut details = about.clone();
        details["by_method"] = more;
        details
    };
    figure::print("apply_requests", figure::whole(seen.len() as u64), "requests", with(by_method(&seen)));

    // Compares everything, once as it runs and once from its disk.
    fleet.cli(&["reconcile", NAME]).await?;
    fleet.in_sync(&[NAME]).await?;
    fleet.member(NAME).agent().restart()?;
    let (seen, _) = settled(&mut fleet, OBJECTS).await?;
    let writes = seen.iter().filter(|seen| seen.is_write()).count();
    figure::print("resync_writes", figure::whole(writes as u64), "requests", with(by_method(&seen)));
    Ok(())
}

/// What an agent asks for until it has opened so many watches and asks for nothing more, and when it asked last.
pub(crate) async fn settled(fleet: &mut Fleet, watches: usize) -> Result<(Vec<Seen>, Instant)> {
    const QUIET: Duration = Duration::from_secs(3);
    let (mut seen, mut last) = (Vec::new(), Instant::now());
    let end = Instant::now() + LIMIT;
    while last.elapsed() < QUIET || seen.iter().filter(|seen| is_watch(seen)).count() < watches {
        ensure!(Instant::now() < end, "the agent does not settle: {}", by_method(&seen));
        tokio::time::sleep(Duration::from_millis(20)).await;
        let more = fleet.member(NAME).proxy().take_seen();
        if !more.is_empty() {
            last = Instant::now();
            seen.extend(more);
        }
    }
    fleet.in_sync(&[NAME]).await?;
    Ok((seen, last))
}

pub(crate) fn is_watch(seen: &Seen) -> bool {
    seen.method == "GET" && seen.path.contains("watch=")
}

pub(crate) fn by_method(seen: &[Seen]) -> Value {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for seen in seen {
        let what = match seen.method.as_str() {
            _ if is_watch(seen) => "WATCH",
            method if seen.is_write() || method == "GET" => method,
            _ => "dry runs and reviews",
        };
        *counts.entry(what).or_default() += 1;
    }
    json!(counts)
}
