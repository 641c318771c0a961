//! `cargo xtask bench step [--clusters N] [--repeats N]`: one step of the promotion engine over 10,000 clusters of 50 units in five
//! stages, where nothing changed, where a twentieth reports, and where a commit changes a unit of all; figures go to stdout, a JSON
//! object a line.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use flotilla_core::selector::Selector;
use flotilla_core::{ClusterName, Digest, UnitId};
use flotilla_rollout::spec::{Amount, Gates, OnChange, Stage, Strategy, UnitSelection};
use flotilla_rollout::world::Author;
use flotilla_rollout::{
    Choice, Cluster, Commit, Health, Link, Pipeline, Projection, Published, Report, State, Step, World, step,
};
use serde_json::json;

const STAGES: usize = 5;
const UNITS: usize = 50;

fn options() -> (usize, usize) {
    // Cargo says `--bench` itself.
    let mut args = std::env::args().skip(1).filter(|arg| arg != "--bench");
    let (mut clusters, mut repeats) = (10_000, 15);
    while let Some(arg) = args.next() {
        let number = args.next().and_then(|text| text.parse().ok()).filter(|number| *number > 0);
        match (arg.as_str(), number) {
            ("--clusters", Some(number)) => clusters = number,
            ("--repeats", Some(number)) => repeats = number,
            _ => panic!("'{arg}': there are --clusters N and --repeats N, with a number from 1"),
        }
    }
    (clusters, repeats)
}

fn pipeline() -> Pipeline {
    let stage = |n: usize| {
        let text = format!("matchLabels: {{stage: s{n}}}\n");
        let parsed = flotilla_yaml::parse(&text).expect("it is YAML");
        let strategy = Strategy { max_concurrent: Amount::Percent(10), ..Strategy::default() };
        Stage {
            name: format!("s{n}"),
            clusters: Selector::read(&parsed[0]).expect("it is a selector"),
            strategy,
            before: Gates::default(),
            after: Gates { healthy_for: Some(60), ..Gates::default() },
            windows: Vec::new(),
        }
    };
    let units = UnitSelection { include: vec!["*/*/*".parse().expect("a pattern")], except: Vec::new() };
    let stages = (0..STAGES).map(stage).collect();
    Pipeline { name: "all".into(), units, stages, windows: Vec::new(), on_change: OnChange::default() }
}

/// What a cluster comes to by a commit; a unit of its own makes it unlike the others.
fn projection(version: usize, cluster: usize, units: &[UnitId]) -> Arc<Projection> {
    let digest = |(n, unit): (usize, &UnitId)| {
        let (version, own) = if n == 0 { (version, cluster) } else { (0, 0) };
        (unit.clone(), Digest::of(format!("{n} {version} {own}").as_bytes()))
    };
    let snapshot = Digest::of(format!("commit {version}").as_bytes());
    Arc::new(Projection::new(snapshot, units.iter().enumerate().map(digest)))
}

fn world(version: usize, clusters: usize, units: &[UnitId]) -> World {
    let author = Author { name: "ada".into(), email: "ada@example.org".into() };
    let commit =
        Commit { id: format!("{version:040x}"), author, subject: format!("commit {version}"), time: 0 };
    let cluster = |n: usize| Cluster {
        name: format!("cluster-{n:05}").parse::<ClusterName>().expect("a name"),
        labels: Some(Arc::new(BTreeMap::from([("stage".to_owned(), format!("s{}", n % STAGES))]))),
        link: Link::Online { since: 0 },
        newest: Some(projection(version, n, units)),
        older: Vec::new(),
        published: None,
        report: None,
    };
    World { newest: Some(commit), clusters: (0..clusters).map(cluster).collect(), measured: Vec::new() }
}

/// The hub publishes what a step gives, and the agents are healthy on it; answers for how many clusters that was news.
fn live(world: &mut World, made: &Step, known: &[Arc<Projection>], most: usize, now: i64) -> usize {
    let mut news = 0;
    for ((cluster, decision), had) in world.clusters.iter_mut().zip(&made.decisions).zip(known) {
        let Choice::Run(given) = &decision.choice else { continue };
        let revision = given.revision;
        if news >= most || cluster.published.is_some_and(|published| published.revision == revision) {
            continue;
        }
        let newest = cluster.newest.as_ref().filter(|newest| newest.snapshot == given.base.snapshot);
        let digest = newest.unwrap_or(had).digest();
        cluster.published = Some(Published { revision, digest });
        cluster.report = Some(Report { digest, health: Health::Healthy, since: now });
        news += 1;
    }
    news
}

fn main() {
    let (clusters, repeats) = options();
    let units: Vec<UnitId> =
        (0..UNITS).map(|n| UnitId::kustomization("flux-system", format!("u{n}"))).collect();
    let (pipeline, mut state) = (pipeline(), State::default());
    let mut now = 1_000_000;
    let mut samples: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    let mut before = world(0, clusters, &units);
    let mut known: Vec<Arc<Projection>> =
        before.clusters.iter().filter_map(|cluster| cluster.newest.clone()).collect();
    for version in 0..=repeats {
        let mut world = world(version, clusters, &units);
        for (cluster, before) in world.clusters.iter_mut().zip(&before.clusters) {
            (cluster.published, cluster.report) = (before.published, before.report.clone());
            cluster.labels.clone_from(&before.labels);
        }
        let mut kind = "commit";
        let mut idle = 0;
        while idle < 2 {
            now += 61;
            let began = Instant::now();
            let made = step(&pipeline, &mut state, &world, &[], now);
            let took = began.elapsed().as_secs_f64();
            // The first commit is another thing: everything is new.
            if version > 0 {
                samples.entry(kind).or_default().push(took);
            }
            let news = live(&mut world, &made, &known, clusters / 20, now);
            kind = if news > 0 { "reports" } else { "nothing" };
            let is_done = made.decisions.iter().all(|decision| decision.reason.is_none());
            idle += usize::from(news == 0 && is_done);
        }
        known = world.clusters.iter().filter_map(|cluster| cluster.newest.clone()).collect();
        before = world;
    }
    for (kind, samples) in &mut samples {
        samples.sort_by(f64::total_cmp);
        let at = |share: f64| samples[((samples.len() - 1) as f64 * share) as usize];
        println!(
            "{}",
            json!({
                "name": format!("step_{kind}"), "unit": "s", "clusters": clusters, "units": UNITS,
                "value": at(0.5), "most": at(1.0), "samples": samples.len(),
            })
        );
    }
}
