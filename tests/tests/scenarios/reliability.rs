//! Each fault for a moment; `cargo xtask reliability` runs them for longer, and writes docs/reliability.md.

use flotilla_tests::reliability::{FAULTS, World, run};

/// Faults that only the command has: they need minutes to show, or a hub that is down for most of a moment.
const LONG: [&str; 12] = [
    "silent-watch",
    "state-writes-fail",
    "state-unreadable",
    "agent-clock",
    "hub-killed",
    "hub-writes-fail",
    "hub-writes-torn",
    "hub-disk-full",
    "hub-unreadable",
    "hub-denied",
    "hub-store-cut",
    "hub-clock",
];

async fn survives(names: &[&str]) {
    let mut world = World::start().await.unwrap();
    for fault in FAULTS.iter().filter(|fault| names.contains(&fault.name)) {
        run(&mut world, *fault, 3, 1).await.unwrap_or_else(|error| panic!("{}: {error:#}", fault.name));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_are_lost_late_or_refused() {
    survives(&["drop", "lose-answer", "cut-answer", "delay", "storm-429", "storm-500"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watches_that_break_or_lag() {
    survives(&["watch-cut", "watch-gone", "no-bookmarks", "stale-watch"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_and_damaged_disks() {
    let rest = ["api-server-killed", "agent-killed"];
    let disk = ["state-truncated", "state-corrupted", "state-read-only", "disk-full"];
    survives(&[&rest[..], &disk[..]].concat()).await;
}

#[test]
fn no_fault_is_forgotten() {
    let here = include_str!("reliability.rs");
    for fault in FAULTS {
        assert!(
            LONG.contains(&fault.name) || here.contains(&format!("\"{}\"", fault.name)),
            "{}",
            fault.name
        );
    }
}
