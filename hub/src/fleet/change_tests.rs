//! A merge that would take a part of every cluster waits for a person, and the rest of it does not.

use std::time::{Duration, Instant};

use flotilla_core::change::{Loss, Losses, UnitLoss};
use flotilla_core::{UnitEntry, UnitId};

use super::fake::{FakeHub, FakeRepo, Fault, Tree, config_map, unit};
use super::{Patience, Worker};
use crate::clock::fake::set_wrong_by;
use crate::store::faulty::Plan;
use crate::store::{AuditRecord, ChangeRecord, SuspensionRecord};
use crate::view::{FleetView, HeldChange};

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
    assert_eq!(held(view), None, "the first render of a fleet removes nothing");
    (hub, worker)
}

/// How many units of a cluster are present, held, removed.
fn counts(hub: &FakeHub, cluster: &str) -> [usize; 3] {
    let shown = hub.shown(cluster);
    let count = |end: &str| shown.split(", ").filter(|unit| unit.ends_with(end)).count();
    let (held, removed) = (count(" held"), count(" removed"));
    [shown.split(", ").count() - held - removed, held, removed]
}

/// What waits. All that is in the fleet repo is its word.
fn held(view: FleetView) -> Option<HeldChange> {
    let mut held = view.change?.held;
    assert!(held.len() < 2, "{held:?}");
    held.pop()
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
    let first = held(worker.fetch_and_round()).expect("28 of 44 units");
    assert_eq!(first.losses.len(), 4);
    assert!(first.why.starts_with("28 of 44 units are removed, in 4 clusters"), "{}", first.why);
    assert_eq!(counts(&hub, "c1"), [4, 7, 0]);
    assert_eq!(counts(&hub, "c0"), [5, 7, 0], "what else the commit says is done");
    assert_eq!(held(worker.round()).as_ref(), Some(&first), "it stays the same change");

    // The hub is started again: it still waits.
    worker = hub.restart();
    assert_eq!(held(worker.fetch_and_round()).map(|held| held.digest), Some(first.digest));
    assert_eq!(counts(&hub, "c1"), [4, 7, 0]);

    approve(&hub, &first);
    assert_eq!(held(worker.round()), None);
    assert_eq!(counts(&hub, "c1"), [4, 0, 7]);
    // What was let go goes on after a restart.
    worker = hub.restart();
    assert_eq!(held(worker.fetch_and_round()), None);
    assert_eq!(counts(&hub, "c1"), [4, 0, 7]);
}

#[test]
fn an_approval_is_of_what_was_shown_and_lapses_with_a_revert() {
    let (hub, mut worker) = fleet(4);
    hub.repo.commit_tree(tree(4, 0..3));
    let first = held(worker.fetch_and_round()).unwrap();
    hub.repo.commit_tree(tree(4, 0..1));
    approve(&hub, &first);
    let more = held(worker.fetch_and_round());
    assert_eq!(more, None, "what was approved goes, and 8 more are few");
    assert_eq!(counts(&hub, "c2"), [2, 0, 9]);

    hub.repo.commit_tree(tree(4, 0..APPS));
    worker.fetch_and_round();
    assert_eq!(counts(&hub, "c2"), [11, 0, 0]);
    hub.repo.commit_tree(tree(4, 0..3));
    assert!(held(worker.fetch_and_round()).is_some(), "the same again is another change");
    assert_eq!(counts(&hub, "c2"), [4, 7, 0]);
}

#[test]
fn small_changes_and_single_clusters_are_not_in_the_way() {
    for (clusters, left, removed) in [(4, 6, 4), (1, 1, 9)] {
        let (hub, mut worker) = fleet(clusters);
        hub.repo.commit_tree(tree(clusters, 0..left));
        assert_eq!(held(worker.fetch_and_round()), None, "{clusters} clusters");
        for n in 0..clusters {
            assert_eq!(counts(&hub, &format!("c{n}"))[2], removed, "{clusters} clusters");
        }
    }
}

/// Clusters that are rendered later than the others count with them.
/// Clusters count together also where the clock jumps by two hours in between.
#[test]
fn a_change_in_parts_is_one_change() {
    for clock in [0, 7_200] {
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
        // 25 units of sixty, of which three clusters lose fifteen at first.
        hub.repo.commit_tree(slow(APPS - 5, "two"));
        hub.repo.files.set("slow-3", Fault::Hangs);
        hub.repo.files.set("slow-4", Fault::Hangs);
        worker.fetch_and_round();
        hub.repo.files.heal();
        set_wrong_by(clock);
        let end = Instant::now() + long;
        while held(worker.round()).is_none() {
            assert!(Instant::now() < end, "{}", hub.shown("c4"));
            std::thread::sleep(Duration::from_millis(20));
        }
        let all: Vec<[usize; 3]> = (0..5).map(|n| counts(&hub, &format!("c{n}"))).collect();
        let removed: usize = all.iter().map(|[_, _, removed]| removed).sum();
        set_wrong_by(0);
        assert!(removed <= 20, "{all:?}");
    }
}

/// Clusters with two units: one with so many ConfigMaps, one with a Namespace.
fn maps(clusters: usize, each: usize, more: &str) -> Tree {
    let mut tree = Tree::new();
    for cluster in 0..clusters {
        tree.insert(format!("clusters/c{cluster}/maps.yaml"), unit("maps", "maps"));
        tree.insert(format!("clusters/c{cluster}/other.yaml"), unit("other", "other"));
    }
    tree.insert(
        "maps/all.yaml".to_owned(),
        (0..each).map(|n| config_map(&format!("m{n}")) + "---\n").collect(),
    );
    tree.insert("maps/stays.yaml".to_owned(), config_map("stays"));
    tree.insert("other/a.yaml".to_owned(), config_map("other") + "---\n" + more);
    tree
}

const NAMESPACE: &str = "apiVersion: v1\nkind: Namespace\nmetadata: {name: web}\n";

fn fleet_of(tree: Tree) -> (FakeHub, Worker) {
    let hub = FakeHub::new(FakeRepo::default());
    (0..3).for_each(|n| hub.enrol(&format!("c{n}")));
    hub.repo.commit_tree(tree);
    let mut worker = hub.worker();
    assert_eq!(worker.fetch_and_round().change, None);
    (hub, worker)
}

#[test]
fn objects_of_units_that_stay_go_with_an_approval_only() {
    let (mut hub, _) = fleet_of(maps(3, 30, NAMESPACE));
    assert_eq!(hub.shown("c1"), "root 0, maps 31, other 2");
    let less = maps(3, 2, &(NAMESPACE.to_owned() + "---\n" + &config_map("new")));
    hub.repo.commit_tree(less);
    // The hub is away meanwhile, and has rendered nothing when the commit comes.
    let mut worker = hub.restart();
    let first = held(worker.fetch_and_round()).expect("84 of 99 objects");
    assert!(first.why.starts_with("84 of 99 objects are removed, in 3 clusters"), "{}", first.why);
    assert_eq!(hub.shown("c1"), "root 0, maps held, other 3", "what else the commit says is done");
    assert_eq!(held(worker.round()).map(|held| held.digest), Some(first.digest));
    approve(&hub, &first);
    worker = hub.restart();
    assert_eq!(held(worker.fetch_and_round()), None, "an approval survives a restart");
    assert_eq!(hub.shown("c1"), "root 0, maps 3, other 3");
    // What is left goes with the next: another digest.
    hub.repo.commit_tree(maps(3, 0, ""));
    let second = held(worker.fetch_and_round()).expect("namespaces");
    assert_ne!(second.digest, first.digest);
    assert!(second.why.contains("3 objects of the protected kind Namespace"), "{}", second.why);
    assert_eq!(hub.shown("c1"), "root 0, maps 1, other held");
}

#[test]
fn a_move_between_units_and_a_unit_of_another_name_lose_nothing() {
    let (hub, mut worker) = fleet_of(maps(3, 30, NAMESPACE));
    let mut moved = maps(3, 0, "");
    for cluster in 0..3 {
        moved.remove(&format!("clusters/c{cluster}/other.yaml"));
        moved.insert(format!("clusters/c{cluster}/renamed.yaml"), unit("renamed", "other"));
    }
    let all: String = (0..30).map(|n| config_map(&format!("m{n}")) + "---\n").collect();
    moved.insert("other/b.yaml".to_owned(), all + NAMESPACE);
    hub.repo.commit_tree(moved);
    assert_eq!(worker.fetch_and_round().change, None);
    assert_eq!(hub.shown("c2"), "root 0, maps 1, other removed, renamed 32");
}

fn policy(spec: &str) -> String {
    format!("apiVersion: flotilla.dev/v1alpha1\nkind: FleetPolicy\nmetadata: {{name: fleet}}\nspec: {spec}\n")
}

#[test]
fn a_commit_that_loosens_the_policy_is_judged_by_the_one_before() {
    let with = |each: usize, spec: &str| {
        let mut tree = maps(3, each, "");
        tree.insert("clusters/policy.yaml".to_owned(), policy(spec));
        tree
    };
    let (mut hub, mut worker) = fleet_of(maps(3, 30, ""));
    const LOOSE: &str = "{maxObjects: 1000, maxClusterObjects: 1000}";
    hub.repo.commit_tree(with(2, LOOSE));
    let first = held(worker.fetch_and_round()).expect("84 objects");
    // Not by another commit either, as long as it waits; nor after a restart.
    hub.repo.commit_tree(with(1, LOOSE));
    worker = hub.restart();
    let second = held(worker.fetch_and_round()).expect("87 objects");
    assert_ne!(first.digest, second.digest);
    // Once nothing waits, it counts for the commit after.
    hub.repo.commit_tree(with(30, LOOSE));
    assert_eq!(held(worker.fetch_and_round()), None);
    hub.repo.commit_tree(with(2, LOOSE));
    assert_eq!(held(worker.fetch_and_round()), None, "84 of at most 1000");
    assert_eq!(hub.shown("c0"), "root 0, maps 3, other 1");
    // A stricter one counts at once, and one that cannot be read changes nothing.
    hub.repo.commit_tree(with(30, LOOSE));
    worker.fetch_and_round();
    hub.repo.commit_tree(with(29, "{maxObjects: 0, maxObjectsShare: 0%}"));
    assert!(held(worker.fetch_and_round()).is_some(), "3 objects");
    hub.repo.commit_tree(with(29, "{maxObjects: lots}"));
    let view = worker.fetch_and_round();
    assert!(
        view.problems.iter().any(|problem| problem.to_string().contains("spec.maxObjects")),
        "{:?}",
        view.problems
    );
    assert_eq!(held(view), None, "it was not in force yet");
}

#[test]
fn what_was_taken_counts_after_a_restart() {
    let (mut hub, mut worker) = fleet_of(maps(3, 30, ""));
    let commit = format!("{:040x}", 1);
    hub.repo.commit_tree(maps(3, 25, ""));
    assert_eq!(held(worker.fetch_and_round()), None, "15 objects");
    let record: ChangeRecord = hub.records.change().unwrap().unwrap();
    assert_eq!((record.commit.as_str(), record.taken.all.len()), (commit.as_str(), 3));
    worker = hub.restart();
    worker.fetch_and_round();
    let after = hub.records.change().unwrap().unwrap();
    assert_eq!(after.taken, record.taken, "it is not taken twice");
}

fn app(n: usize) -> UnitId {
    UnitId::kustomization("flux-system", format!("app-{n}"))
}

/// The units of a cluster that are removed with their objects.
fn deleted(hub: &FakeHub, cluster: &str) -> Vec<UnitId> {
    let state = hub.board.current(&cluster.parse().unwrap()).unwrap().state.clone();
    let goes = |entry: &UnitEntry| matches!(entry, UnitEntry::Removed(removal) if removal.deletes());
    state.units().iter().filter(|(_, entry)| goes(entry)).map(|(id, _)| id.clone()).collect()
}

/// What people say between the render of a cluster and the end of the round counts for what it would remove.
#[test]
fn what_waits_for_the_end_of_the_round_goes_by_what_was_said_meanwhile() {
    type Act = Box<dyn FnOnce() + Send>;
    type MakeAct = Box<dyn Fn(&FakeHub) -> Act>;
    let suspend = |hub: &FakeHub, unit: Option<UnitId>| -> Act {
        let records = hub.records.clone();
        Box::new(move || {
            let suspension = SuspensionRecord { by: "ann".to_owned(), at: 1, reason: String::new() };
            let audit = AuditRecord::new(1, "ann", "suspend", "c0");
            records.suspend(&"c0".parse().unwrap(), unit.as_ref(), Some(&suspension), &audit).unwrap();
        })
    };
    let fails = |hub: &FakeHub| -> Act {
        let store = hub.store.clone();
        Box::new(move || store.plan(Plan { gone: true, ..Plan::default() }))
    };
    let acts: [(&str, MakeAct, bool, bool); 4] = [
        ("nothing is said", Box::new(|_| Box::new(|| {})), true, true),
        ("the store fails", Box::new(fails), false, true),
        ("the cluster is suspended", Box::new(move |hub| suspend(hub, None)), false, false),
        ("the unit is suspended", Box::new(move |hub| suspend(hub, Some(app(9)))), false, false),
    ];
    for (name, act, goes_at_once, goes_later) in acts {
        let (hub, mut worker) = fleet(2);
        worker.round();
        hub.repo.commit_tree({
            let mut less = tree(2, 0..APPS);
            less.remove("clusters/c0/app-9.yaml");
            less
        });
        // What is known of the cluster is read again before anything of it goes.
        hub.store.meanwhile("suspended/c0", 0, act(&hub));
        worker.fetch_and_round();
        assert_eq!(deleted(&hub, "c0") == [app(9)], goes_at_once, "{name}: {}", hub.shown("c0"));
        hub.store.plan(Plan::default());
        worker.round();
        assert_eq!(deleted(&hub, "c0") == [app(9)], goes_later, "{name}: {}", hub.shown("c0"));
        assert_eq!(deleted(&hub, "c1"), [], "{name}");
    }

    // Approved in the round that would have held it.
    let (hub, mut worker) = fleet(4);
    worker.round();
    hub.repo.commit_tree(tree(4, 0..3));
    let gone = UnitLoss { removed: true, ..UnitLoss::unsaid() };
    let loss = Loss { units: (3..APPS).map(|n| (app(n), gone.clone())).collect(), ..Loss::default() };
    let losses: Losses = (0..4).map(|n| (format!("c{n}").parse().unwrap(), loss.clone())).collect();
    let records = hub.records.clone();
    hub.store.meanwhile("suspended/c0", 0, move || {
        records.approve_change(&losses, &AuditRecord::new(1, "ann", "change.approve", "x")).unwrap();
    });
    assert_eq!(held(worker.fetch_and_round()), None);
    assert_eq!(counts(&hub, "c3"), [4, 0, 7]);
}

/// A render that no round waited for counts for its own commit: if the next one cannot be rendered in time, or the cluster
/// is kept for another reason, what only the older one left out stays.
#[test]
fn what_comes_late_removes_nothing_that_a_newer_commit_may_want() {
    let slow = |apps: std::ops::Range<usize>, data: &str| {
        let mut tree = tree(1, apps);
        tree.insert("clusters/c0/slow.yaml".to_owned(), unit("slow", "slow"));
        tree.insert("slow/a.yaml".to_owned(), config_map(data));
        tree
    };
    let end = Instant::now() + Duration::from_secs(60);
    for (name, newer, fault) in [
        ("the next render is late too", slow(0..APPS, "three"), Some(("slow", Fault::Hangs))),
        ("the next render fails", slow(0..APPS, "three"), Some(("clusters/c0/app-9", Fault::Fails))),
        ("the next render panics", slow(0..APPS, "three"), Some(("clusters/c0/app-9", Fault::Panics))),
        ("the cluster left Git", tree(0, 0..0), None),
        (
            "its definition cannot be read",
            {
                let mut tree = slow(0..APPS, "three");
                tree.insert("clusters/c0.yaml".to_owned(), "kind: Cluster\nmetadata: {name: c0".to_owned());
                tree
            },
            None,
        ),
    ] {
        let mut hub = FakeHub::new(FakeRepo::default());
        hub.enrol("c0");
        hub.repo.commit_tree(slow(0..APPS, "one"));
        hub.worker().fetch_and_round();
        let long = Duration::from_secs(60);
        hub.patience = Patience { round: Duration::from_millis(200), deadline: long };
        let mut worker = hub.worker();
        let mut late = worker.late();
        hub.repo.commit_tree(slow(0..APPS - 1, "two"));
        hub.repo.files.set("slow", Fault::Hangs);
        worker.fetch_and_round();
        hub.repo.files.heal();
        while !late.has_changed().unwrap() {
            assert!(Instant::now() < end, "{name}");
            std::thread::sleep(Duration::from_millis(5));
        }
        late.mark_unchanged();
        hub.repo.commit_tree(newer);
        if let Some((path, fault)) = fault {
            hub.repo.files.set(path, fault);
        }
        worker.fetch_and_round();
        hub.repo.files.heal();
        assert_eq!(deleted(&hub, "c0"), [], "{name}: {}", hub.shown("c0"));
    }
}

/// A hub that lost what it had knows nothing of units that left Git meanwhile until the agent says so: they are not named, which
/// an agent holds. What it then says of them decides, with the guards of the agent and of the change.
#[test]
fn a_hub_that_lost_its_data_removes_nothing_that_it_cannot_know() {
    let (hub, _) = fleet(1);
    let had = hub.records.known(&"c0".parse().unwrap()).unwrap().0;
    assert!(had.iter().any(|unit| unit.id == app(9)), "{had:?}");
    for (name, told, gone) in [
        ("the agent has not said what it has", None, None),
        ("it says so", Some(had.clone()), Some(app(9))),
        (
            "it does not know what defined its units",
            {
                let lost = had
                    .iter()
                    .cloned()
                    .map(|unit| flotilla_core::desired::KnownUnit { parent: None, ..unit });
                Some(lost.collect::<Vec<_>>())
            },
            None,
        ),
    ] {
        let new = FakeHub::new(hub.repo.clone());
        new.enrol("c0");
        new.repo.commit_tree(tree(1, 0..APPS - 1));
        let mut worker = new.worker();
        worker.fetch_and_round();
        assert!(!new.shown("c0").contains("removed"), "{name}: {}", new.shown("c0"));
        if let Some(told) = told {
            new.records.set_known_units(&"c0".parse().unwrap(), &told, Some(1)).unwrap();
        }
        worker.round();
        assert_eq!(deleted(&new, "c0"), gone.into_iter().collect::<Vec<_>>(), "{name}: {}", new.shown("c0"));
    }
}
