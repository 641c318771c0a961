//! A merge that would take a part of every cluster waits for a person, and the rest of it does not.

use std::time::{Duration, Instant};

use super::fake::{FakeHub, FakeRepo, Fault, Tree, config_map, unit};
use super::{Patience, Worker};
use crate::store::AuditRecord;
use crate::view::HeldChange;

const APPS: usize = 10;

/// So many clusters with so many apps each, all from one folder.
fn tree(clusters: usize, apps: std::ops::Range<usize>) -> Tree {
    let mut tree = Tree::new();
    for cluster in 0..clusters {
        tree.insert(format!("clusters/c{cluster}/own.yaml"), config_map("own"));
        for app in apps.clone() {
            tree.insert(format!("clusters/c{cluster}/app-{app}.yaml"), unit(&format!("app-{app}"), "apps"));
        }
    }
    tree.insert("apps/a.yaml".to_owned(), config_map("a"));
    tree
}

fn fleet(clusters: usize) -> (FakeHub, Worker) {
    let hub = FakeHub::new(FakeRepo::default());
    (0..clusters).for_each(|n| hub.enrol(&format!("c{n}")));
    hub.repo.commit_tree(tree(clusters, 0..APPS));
    let mut worker = hub.worker();
    let view = worker.fetch_and_round();
    assert_eq!(view.held_change, None, "the first render of a fleet removes nothing");
    (hub, worker)
}

/// How many units of a cluster are present, held, removed.
fn counts(hub: &FakeHub, cluster: &str) -> [usize; 3] {
    let shown = hub.shown(cluster);
    let count = |end: &str| shown.split(", ").filter(|unit| unit.ends_with(end)).count();
    let (held, removed) = (count(" held"), count(" removed"));
    [shown.split(", ").count() - held - removed, held, removed]
}

fn approve(hub: &FakeHub, change: &HeldChange) {
    let audit = AuditRecord::new(1, "ann", "change.approve", change.digest);
    hub.records.approve_change(&change.losses, &audit).unwrap();
}

#[test]
fn a_part_of_every_cluster_goes_with_an_approval_only() {
    let (mut hub, mut worker) = fleet(4);
    let mut less = tree(4, 0..3);
    less.insert("clusters/c0/new.yaml".to_owned(), unit("new", "apps"));
    hub.repo.commit_tree(less);
    let held = worker.fetch_and_round().held_change.expect("28 of 45 units");
    assert_eq!((held.losses.len(), held.of), (4, 45));
    assert_eq!(counts(&hub, "c1"), [4, 7, 0]);
    assert_eq!(counts(&hub, "c0"), [5, 7, 0], "what else the commit says is done");
    assert_eq!(worker.round().held_change.as_ref(), Some(&held), "it stays the same change");

    // The hub is started again: it still waits.
    worker = hub.restart();
    assert_eq!(worker.fetch_and_round().held_change.map(|held| held.digest), Some(held.digest));
    assert_eq!(counts(&hub, "c1"), [4, 7, 0]);

    approve(&hub, &held);
    assert_eq!(worker.round().held_change, None);
    assert_eq!(counts(&hub, "c1"), [4, 0, 7]);
    // What was let go goes on after a restart.
    worker = hub.restart();
    assert_eq!(worker.fetch_and_round().held_change, None);
    assert_eq!(counts(&hub, "c1"), [4, 0, 7]);
}

#[test]
fn an_approval_is_of_what_was_shown_and_lapses_with_a_revert() {
    let (hub, mut worker) = fleet(4);
    hub.repo.commit_tree(tree(4, 0..3));
    let held = worker.fetch_and_round().held_change.unwrap();
    hub.repo.commit_tree(tree(4, 0..1));
    approve(&hub, &held);
    let more = worker.fetch_and_round().held_change;
    assert_eq!(more, None, "what was approved goes, and 8 more are few");
    assert_eq!(counts(&hub, "c2"), [2, 0, 9]);

    hub.repo.commit_tree(tree(4, 0..APPS));
    worker.fetch_and_round();
    assert_eq!(counts(&hub, "c2"), [11, 0, 0]);
    hub.repo.commit_tree(tree(4, 0..3));
    assert!(worker.fetch_and_round().held_change.is_some(), "the same again is another change");
    assert_eq!(counts(&hub, "c2"), [4, 7, 0]);
}

#[test]
fn small_changes_and_single_clusters_are_not_in_the_way() {
    for (clusters, left, removed) in [(4, 6, 4), (1, 1, 9)] {
        let (hub, mut worker) = fleet(clusters);
        hub.repo.commit_tree(tree(clusters, 0..left));
        assert_eq!(worker.fetch_and_round().held_change, None, "{clusters} clusters");
        for n in 0..clusters {
            assert_eq!(counts(&hub, &format!("c{n}"))[2], removed, "{clusters} clusters");
        }
    }
}

/// Clusters that are rendered later than the others count with them.
#[test]
fn a_change_in_parts_is_one_change() {
    let slow = |apps, data: &str| {
        let mut tree = tree(5, 0..apps);
        for n in 0..5 {
            tree.insert(format!("clusters/c{n}/slow.yaml"), unit("slow", &format!("slow-{n}")));
            tree.insert(format!("slow-{n}/a.yaml"), config_map(data));
        }
        tree
    };
    let mut hub = FakeHub::new(FakeRepo::default());
    (0..5).for_each(|n| hub.enrol(&format!("c{n}")));
    hub.repo.commit_tree(slow(APPS, "one"));
    hub.worker().fetch_and_round();
    let long = Duration::from_secs(60);
    hub.patience = Patience { round: Duration::from_millis(300), deadline: long };
    let mut worker = hub.worker();
    // Twenty units of sixty, of which three clusters lose twelve at first.
    hub.repo.commit_tree(slow(APPS - 4, "two"));
    hub.repo.files.set("slow-3", Fault::Hangs);
    hub.repo.files.set("slow-4", Fault::Hangs);
    worker.fetch_and_round();
    hub.repo.files.heal();
    let end = Instant::now() + long;
    while worker.round().held_change.is_none() {
        assert!(Instant::now() < end, "{}", hub.shown("c4"));
        std::thread::sleep(Duration::from_millis(20));
    }
    let all: Vec<[usize; 3]> = (0..5).map(|n| counts(&hub, &format!("c{n}"))).collect();
    let removed: usize = all.iter().map(|[_, _, removed]| removed).sum();
    assert!(removed < 20, "{all:?}");
}
