//! What the loop has of a cluster in memory is what is on record, whoever wrote it, and is read again only where others did.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use flotilla_core::ClusterName;
use flotilla_core::desired::{KnownUnit, Removal};
use flotilla_core::{Capabilities, UnitId};

use super::fake::{FakeHub, FakeRepo, Tree, config_map, unit};
use super::{Ledger, Worker};
use crate::store::faulty::{Fault, Plan};
use crate::store::{Records, Store as _};

fn x() -> ClusterName {
    "x".parse().unwrap()
}

/// A cluster with two units, the second of them of so many objects.
fn tree(objects: usize) -> Tree {
    let mut tree: Tree = [
        ("clusters/x/a.yaml".to_owned(), unit("a", "apps/a")),
        ("clusters/x/b.yaml".to_owned(), unit("b", "apps/b")),
        ("apps/a/map.yaml".to_owned(), config_map("a")),
    ]
    .into();
    for n in 0..objects {
        tree.insert(format!("apps/b/m{n}.yaml"), config_map(&format!("b{n}")));
    }
    tree
}

/// A hub whose cluster has an agent that said what it can do.
fn hub() -> FakeHub {
    let hub = FakeHub::new(FakeRepo::default());
    hub.enrol("x");
    hub.records.note_agent(&x(), "v1.36.0", &Capabilities::default()).unwrap();
    hub.repo.commit_tree(tree(2));
    hub
}

/// An agent says that it has a unit of which nothing else is known.
fn tell(records: &Records, name: &str) {
    let id = UnitId::kustomization("flux-system", name);
    let known = KnownUnit { id, parent: Some(UnitId::root()), removal: Removal::default(), render: None };
    let mut all = records.known(&x()).unwrap().0;
    all.push(known);
    records.set_known_units(&x(), &all, Some(1)).unwrap();
}

/// Whether a round reads the facts of the cluster.
fn reads(hub: &FakeHub, worker: &mut Worker) -> bool {
    let read = Arc::new(AtomicBool::new(false));
    let seen = read.clone();
    // Only facts have it.
    hub.store.meanwhile("suspended/", 0, move || seen.store(true, Ordering::Relaxed));
    worker.fetch_and_round();
    hub.store.meanwhile("nothing", 0, || {});
    read.load(Ordering::Relaxed)
}

/// What is in memory is on record, once all that others wrote was looked at.
fn is_on_record(hub: &FakeHub, worker: &mut Worker, case: &str) {
    worker.fetch_and_round();
    assert!(!reads(hub, worker), "{case}: nothing is left to read");
    let facts = worker.clusters[&x()].facts.as_deref();
    assert_eq!(facts, Some(&Ledger::facts(&*hub.records, &x()).unwrap()), "{case}");
}

#[test]
fn what_a_round_noted_is_not_read_again() {
    let hub = hub();
    let mut worker = hub.worker();
    assert!(reads(&hub, &mut worker), "nothing is known yet");
    let mut notes = Vec::new();
    for objects in [2, 3, 1, 0, 2] {
        hub.repo.commit_tree(tree(objects));
        worker.fetch_and_round();
        assert!(hub.records.changed_facts().is_empty(), "{objects} objects");
        assert!(!reads(&hub, &mut worker), "{objects} objects");
        is_on_record(&hub, &mut worker, &format!("{objects} objects"));
        notes.push(hub.store.inner().scan("").unwrap());
    }
    notes.dedup();
    assert_eq!(notes.len(), 5, "each commit noted something");
}

#[test]
fn what_others_write_is_read_whenever_they_do() {
    let other = UnitId::kustomization("flux-system", "other");
    // Its record is read for the facts and for each note; its parts are looked for between that and the note.
    for prefix in ["known/x", "known/x/"] {
        let mut times = 0;
        for skip in 0.. {
            let hub = hub();
            let mut worker = hub.worker();
            let (records, told) = (hub.records.clone(), Arc::new(AtomicBool::new(false)));
            let has_told = told.clone();
            hub.store.meanwhile(prefix, skip, move || {
                tell(&records, "other");
                has_told.store(true, Ordering::Relaxed);
            });
            worker.fetch_and_round();
            if !told.load(Ordering::Relaxed) {
                break;
            }
            times += 1;
            let case = format!("before {prefix} is read, {skip} times later");
            is_on_record(&hub, &mut worker, &case);
            assert!(worker.clusters[&x()].facts.as_ref().unwrap().known.contains_key(&other), "{case}");
        }
        assert!(times >= 1, "{prefix}");
    }
    let hub = hub();
    let mut worker = hub.worker();
    worker.fetch_and_round();
    tell(&hub.records, "other");
    assert!(reads(&hub, &mut worker), "after it was noted");
    is_on_record(&hub, &mut worker, "after it was noted");
}

#[test]
fn what_may_not_have_been_noted_is_read_again() {
    for fault in [Fault::Before, Fault::After] {
        let mut failed = 0;
        for operation in 0.. {
            let hub = hub();
            let mut worker = hub.worker();
            hub.store.plan(Plan { at: vec![(operation, fault)], ..Plan::default() });
            worker.fetch_and_round();
            hub.store.plan(Plan::default());
            if hub.store.faults() == 0 {
                break;
            }
            failed += 1;
            let case = format!("{fault:?} at operation {operation}");
            is_on_record(&hub, &mut worker, &case);
            assert_eq!(hub.shown("x"), "root 0, a 1, b 2", "{case}");
        }
        assert!(failed > 10, "{fault:?}: only {failed} operations");
    }
}
