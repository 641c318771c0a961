//! What every store must do, run against each of them.

use std::sync::Arc;
use std::thread;

use super::{DiskStore, MemoryStore, Outcome, Store, Touched, Txn};

fn on_each(check: impl Fn(Arc<dyn Store>)) {
    check(Arc::new(MemoryStore::default()));
    let folder = tempfile::tempdir().unwrap();
    check(Arc::new(DiskStore::open(folder.path()).unwrap()));
}

fn put(store: &dyn Store, key: &str, value: &str) {
    let mut txn = Txn::default();
    txn.put(key, value.as_bytes().to_vec());
    assert_eq!(store.txn(&txn).unwrap(), Outcome::Committed);
}

#[test]
fn scans_are_ordered_and_stay_in_their_prefix() {
    on_each(|store| {
        for key in ["b/2", "a/1", "b/10", "b/1", "c", "b"] {
            put(&*store, key, key);
        }
        let keys = |prefix| store.scan(prefix).unwrap().into_iter().map(|(key, _)| key).collect::<Vec<_>>();
        assert_eq!(keys("b/"), ["b/1", "b/10", "b/2"]);
        assert_eq!(keys("").len(), 6);
        assert!(keys("x").is_empty());
    });
}

#[test]
fn a_transaction_is_made_wholly_or_not_at_all() {
    on_each(|store| {
        put(&*store, "a", "1");
        let mut txn = Txn::default();
        txn.expect("a", Some(b"1".to_vec()));
        txn.expect("b", None);
        txn.put("b", b"2".to_vec());
        txn.remove("a");
        assert_eq!(store.txn(&txn).unwrap(), Outcome::Committed);
        assert_eq!((store.get("a").unwrap(), store.get("b").unwrap()), (None, Some(b"2".to_vec())));
        assert_eq!(store.txn(&txn).unwrap(), Outcome::Conflict);
        let mut half = Txn::default();
        half.expect("b", Some(b"2".to_vec()));
        half.expect("c", Some(b"?".to_vec()));
        half.put("b", b"3".to_vec());
        assert_eq!(store.txn(&half).unwrap(), Outcome::Conflict);
        assert_eq!(store.get("b").unwrap(), Some(b"2".to_vec()));
    });
}

#[test]
fn a_writer_knows_what_it_wrote_and_nobody_else_does() {
    on_each(|store| {
        let (own, other) = (store.touched(&["a/", "b/"]), store.touched(&["a/"]));
        let keys = |touched: &Touched| touched.take().into_iter().collect::<Vec<_>>();
        let mut txn = Txn::default();
        ["a/1", "b/1", "c/1"].iter().for_each(|key| txn.put(*key, b"x".to_vec()));
        assert_eq!(store.txn_by(&txn, Some(&own)).unwrap(), Outcome::Committed);
        assert_eq!((keys(&own), keys(&other)), (vec![], vec!["a/1".to_owned()]));
        put(&*store, "b/1", "y");
        assert_eq!(store.txn_by(&txn, Some(&own)).unwrap(), Outcome::Committed);
        assert_eq!(keys(&own), ["b/1"], "what others wrote stays");
        txn.expect("a/1", None);
        assert_eq!(store.txn_by(&txn, Some(&other)).unwrap(), Outcome::Conflict);
        assert_eq!((keys(&own), keys(&other)), (vec![], vec!["a/1".to_owned()]));
        assert_eq!(store.txn(&Txn { compares: vec![], ..txn }).unwrap(), Outcome::Committed);
        assert_eq!(
            (keys(&own), keys(&other)),
            (vec!["a/1".to_owned(), "b/1".to_owned()], vec!["a/1".to_owned()])
        );
    });
}

#[test]
fn increments_from_many_threads_are_all_counted() {
    on_each(|store| {
        let increment = |store: &dyn Store| {
            loop {
                let old = store.get("n").unwrap();
                let value: u32 = old.as_ref().map_or(0, |v| std::str::from_utf8(v).unwrap().parse().unwrap());
                let mut txn = Txn::default();
                txn.expect("n", old);
                txn.put("n", (value + 1).to_string().into_bytes());
                if store.txn(&txn).unwrap() == Outcome::Committed {
                    return;
                }
            }
        };
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..25).for_each(|_| increment(&*store)));
            }
        });
        assert_eq!(store.get("n").unwrap(), Some(b"100".to_vec()));
    });
}

#[test]
fn a_watch_ticks_for_its_prefix_only() {
    on_each(|store| {
        let mut clusters = store.watch("cluster/");
        put(&*store, "token/x", "1");
        assert!(!clusters.has_changed().unwrap());
        put(&*store, "cluster/x", "1");
        assert!(clusters.has_changed().unwrap());
        clusters.mark_unchanged();
        let mut failing = Txn::default();
        failing.expect("cluster/x", None);
        failing.put("cluster/x", b"2".to_vec());
        assert_eq!(store.txn(&failing).unwrap(), Outcome::Conflict);
        assert!(!clusters.has_changed().unwrap());
    });
}
