//! What takes too long, or makes the hub panic, costs itself only.

use std::sync::Arc;
use std::time::{Duration, Instant};

use flotilla_core::ClusterName;
use tokio_util::sync::CancellationToken;

use super::fake::{FakeHub, FakeRepo, Fault, config_map, unit};
use super::{Patience, Ticks, Worker};
use crate::view::{Fleet, FleetView};

const LONG: Duration = Duration::from_secs(60);

/// Goes round until `is_so`, at every tick of a late render.
async fn until(worker: &mut Worker, what: &str, is_so: impl Fn(&FleetView) -> bool) -> FleetView {
    let end = Instant::now() + LONG;
    loop {
        let view = worker.round();
        if is_so(&view) {
            return view;
        }
        assert!(Instant::now() < end, "{what}: {view:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn problem(view: &FleetView, cluster: &str) -> String {
    let name: ClusterName = cluster.parse().unwrap();
    view.clusters[&name].problems.iter().map(ToString::to_string).collect()
}

fn hub(patience: Patience) -> FakeHub {
    let repo = FakeRepo::default();
    repo.commit(&[
        ("clusters/slow/app.yaml", &unit("app", "slow")),
        ("clusters/fast/app.yaml", &unit("app", "fast")),
        ("slow/a.yaml", &config_map("a")),
        ("fast/a.yaml", &config_map("a")),
    ]);
    let mut hub = FakeHub::new(repo);
    hub.patience = patience;
    hub
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_takes_too_long_is_set_aside_while_the_others_are_published() {
    let hub = hub(Patience { round: Duration::from_millis(300), deadline: LONG });
    hub.repo.files.set("slow/a.yaml", Fault::Hangs);
    let mut worker = hub.worker();
    let began = Instant::now();
    let view = worker.fetch_and_round();
    assert!(began.elapsed() < LONG / 2, "the round did not wait for it");
    assert_eq!((hub.shown("slow").as_str(), hub.shown("fast").as_str()), ("nothing", "root 0, app 1"));
    assert!(problem(&view, "slow").contains("has been rendered for"), "{}", problem(&view, "slow"));
    assert_eq!(problem(&view, "fast"), "");

    // Later commits are published too, and it is not begun a second time.
    hub.repo.commit(&[
        ("clusters/slow/app.yaml", &unit("app", "slow")),
        ("clusters/fast/b.yaml", &config_map("b")),
        ("slow/a.yaml", &config_map("a")),
    ]);
    let began = Instant::now();
    worker.fetch_and_round();
    assert_eq!(hub.shown("fast"), "root 1");
    assert!(began.elapsed() < LONG / 2);

    let mut late = worker.late();
    hub.repo.files.heal();
    tokio::time::timeout(LONG, late.changed()).await.unwrap().unwrap();
    let view =
        until(&mut worker, "it is published once it is done", |_| hub.shown("slow") == "root 0, app 1").await;
    assert_eq!(problem(&view, "slow"), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_render_is_told_to_end_at_its_deadline() {
    let hub = hub(Patience { round: Duration::from_millis(100), deadline: Duration::from_millis(300) });
    let mut worker = hub.worker();
    worker.fetch_and_round();
    assert_eq!(hub.shown("slow"), "root 0, app 1");
    hub.repo.commit(&[
        ("clusters/slow/app.yaml", &unit("app", "slow")),
        ("slow/b.yaml", &config_map("b")),
        ("clusters/fast/a.yaml", &config_map("a")),
    ]);
    hub.repo.files.set("slow/b.yaml", Fault::Hangs);
    worker.fetch_and_round();
    tokio::time::sleep(Duration::from_millis(400)).await;
    worker.round();
    // It stops at the next file that it reads.
    hub.repo.files.heal();
    let view = until(&mut worker, "it is over", |view| problem(view, "slow").is_empty()).await;
    assert_eq!((hub.shown("slow").as_str(), hub.shown("fast").as_str()), ("root 0, app 1", "root 1"));
    assert_eq!(problem(&view, "slow"), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_costs_its_unit_its_cluster_or_its_commit_only() {
    let hub = hub(Patience::default());
    let mut worker = hub.worker();
    worker.fetch_and_round();
    let both = |hub: &FakeHub| (hub.shown("slow"), hub.shown("fast"));
    let good = both(&hub);
    assert_eq!(good, ("root 0, app 1".to_owned(), "root 0, app 1".to_owned()));
    hub.repo.commit(&[
        ("clusters/slow/app.yaml", &unit("app", "slow")),
        ("clusters/fast/app.yaml", &unit("app", "fast")),
        ("slow/a.yaml", &config_map("a")),
        ("slow/b.yaml", &config_map("b")),
        ("fast/a.yaml", &config_map("a")),
    ]);
    hub.repo.files.set("slow/b.yaml", Fault::Panics);
    let view = worker.fetch_and_round();
    assert_eq!(both(&hub), ("root 0, app held".to_owned(), good.1.clone()));
    let units = &view.clusters[&"slow".parse().unwrap()].units;
    let problems = &units[&"flux-system/app".parse().unwrap()].problems;
    assert!(
        problems[0].message.contains("the hub failed to render this unit (over slow/b.yaml)"),
        "{problems:?}"
    );

    hub.repo.commit(&[("clusters/fast/c.yaml", &config_map("c"))]);
    hub.repo.files.heal();
    hub.repo.files.set("clusters/fast", Fault::Panics);
    let before = both(&hub);
    let view = worker.fetch_and_round();
    assert_eq!(both(&hub), before, "a panic over the fleet's definition changes nothing");
    assert!(view.problems.iter().any(|problem| problem.message.contains("the hub made a mistake")));
    hub.repo.files.heal();
    worker.fetch_and_round();
    assert_eq!(hub.shown("fast"), "root 1");
}

/// The loop itself.
#[tokio::test(flavor = "multi_thread")]
async fn a_fetch_that_hangs_stops_neither_rounds_nor_the_end() {
    let hub = hub(Patience::default());
    let (fleet, stop) = (Arc::new(Fleet::new()), CancellationToken::new());
    let facts = vec![hub.records.store().watch("suspended/")];
    let running = tokio::spawn(super::run(
        hub.worker(),
        fleet.clone(),
        Ticks { facts, ..Ticks::default() },
        stop.clone(),
    ));
    let mut changes = fleet.changes();
    let wait = async |fleet: &Fleet,
                      changes: &mut tokio::sync::watch::Receiver<u64>,
                      what: &str,
                      is_so: &dyn Fn(&FleetView) -> bool| {
        let end = tokio::time::Instant::now() + LONG;
        while !is_so(&fleet.view()) {
            let _ = tokio::time::timeout_at(end, changes.changed())
                .await
                .unwrap_or_else(|_| panic!("{what}: {:?}", fleet.view()));
        }
    };
    wait(&fleet, &mut changes, "the first round", &|view| view.round > 0).await;
    hub.repo.git.set("fetch", Fault::Hangs);
    let ticket = fleet.wake();
    // People suspend a cluster meanwhile: that is seen though the fetch goes on.
    let audit = crate::store::AuditRecord::new(1, "test", "suspend", "slow");
    let suspension = crate::store::SuspensionRecord { by: "test".to_owned(), at: 1, reason: String::new() };
    hub.records.suspend(&"slow".parse().unwrap(), None, Some(&suspension), &audit).unwrap();
    wait(&fleet, &mut changes, "a round beside the fetch", &|view| {
        view.clusters[&"slow".parse().unwrap()].units.values().all(|unit| unit.suspended)
    })
    .await;
    let early = tokio::time::timeout(Duration::ZERO, fleet.served(ticket)).await;
    assert!(early.is_err(), "who asked for a fetch waits for it");
    stop.cancel();
    tokio::time::timeout(LONG, running).await.expect("the loop ends").unwrap().unwrap();
    hub.repo.git.heal();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_whose_clusters_cannot_be_looked_for_in_time_changes_nothing() {
    let hub = hub(Patience { round: Duration::from_millis(200), deadline: LONG });
    let mut worker = hub.worker();
    worker.fetch_and_round();
    hub.repo.files.set("clusters/fast", Fault::Hangs);
    hub.repo.commit(&[("clusters/fast/c.yaml", &config_map("c"))]);
    for _ in 0..2 {
        let view = worker.fetch_and_round();
        assert!(
            view.problems[0].message.contains("looking for clusters takes longer"),
            "{:?}",
            view.problems
        );
        assert_eq!(hub.shown("fast"), "root 0, app 1");
    }
    hub.repo.files.heal();
    until(&mut worker, "it is found", |_| hub.shown("fast") == "root 1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_loop_ends_though_a_render_spins() {
    let hub = hub(Patience { round: LONG, deadline: LONG });
    hub.repo.files.set("slow/a.yaml", Fault::Hangs);
    let (fleet, stop) = (Arc::new(Fleet::new()), CancellationToken::new());
    let running = tokio::spawn(super::run(hub.worker(), fleet.clone(), Ticks::default(), stop.clone()));
    let end = Instant::now() + LONG;
    while hub.shown("fast") == "nothing" {
        assert!(Instant::now() < end);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(fleet.view().round, 0, "the round waits");
    stop.cancel();
    tokio::time::timeout(LONG / 2, running).await.expect("the loop ends").unwrap().unwrap();
    hub.repo.files.heal();
}

/// Facts are looked at by cluster, but what was fetched makes a round look at all: the wait must not use up that word.
#[tokio::test]
async fn a_tick_that_wakes_the_loop_is_there_to_be_taken_once() {
    let (tick, fetched) = tokio::sync::watch::channel(0_u64);
    let mut others = [fetched];
    assert!(!super::taken(&mut others));
    tick.send_modify(|count| *count += 1);
    super::changed(&mut others[0]).await;
    assert!(super::taken(&mut others));
    assert!(!super::taken(&mut others));
}
