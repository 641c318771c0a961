use flotilla_core::UnitId;

use super::*;
use crate::store::{AuditRecord, JoinTokenRecord, MemoryStore, SuspensionRecord};
use crate::view::UnitFacts;

struct Test {
    records: Records,
    sessions: Sessions,
    board: Board,
    fleet: Fleet,
    changes: Arc<Changes>,
    index: Index,
}

impl Test {
    fn new() -> Self {
        let changes = Arc::new(Changes::default());
        Self {
            records: Records::open(Arc::new(MemoryStore::default())).unwrap(),
            sessions: Sessions::new(changes.clone()),
            board: Board::new(),
            fleet: Fleet::new(),
            changes,
            index: Index::default(),
        }
    }

    fn read(&self) -> Arc<Shown> {
        let Self { records, sessions, board, fleet, changes, index } = self;
        index.read(&Parts { records, sessions, board, fleet, changes }).unwrap()
    }
}

fn name(n: usize) -> ClusterName {
    format!("c{n:05}").parse().unwrap()
}

fn audit() -> AuditRecord {
    AuditRecord::new(1, "ann", "test", "x")
}

fn facts() -> Arc<ClusterFacts> {
    let units = (0..10).map(|n| (UnitId::kustomization("web", format!("app-{n}")), UnitFacts::default()));
    Arc::new(ClusterFacts { assigned: true, units: units.collect(), ..Default::default() })
}

/// The places at which two lists hold different entries.
fn renewed(old: &Shown, new: &Shown) -> Vec<String> {
    let is_kept = |entry: &&Arc<Entry>| old.get(&entry.name).is_some_and(|before| Arc::ptr_eq(before, entry));
    new.clusters.iter().filter(|entry| !is_kept(entry)).map(|entry| entry.name.to_string()).collect()
}

#[test]
fn of_ten_thousand_clusters_only_what_changed_is_made_anew() {
    let test = Test::new();
    let facts = facts();
    let mut view =
        FleetView { clusters: (0..10_000).map(|n| (name(n), facts.clone())).collect(), ..Default::default() };
    test.fleet.publish(view.clone());
    let mut last = test.read();
    assert_eq!(last.clusters.len(), 10_000);
    assert!(last.clusters.is_sorted_by(|a, b| a.name < b.name));
    let mut step = |what: &str, change: &dyn Fn(), expected: &[usize]| {
        change();
        let now = test.read();
        let expected: Vec<String> = expected.iter().map(|n| name(*n).to_string()).collect();
        assert_eq!(renewed(&last, &now), expected, "{what}");
        last = now;
    };
    step("nothing", &|| {}, &[]);
    step("an agent", &|| test.changes.cluster(&name(7)), &[7]);
    let enrol =
        || assert!(test.records.adopt_cluster(&name(9), &ClusterRecord::default(), &audit()).unwrap());
    step("a record", &enrol, &[9]);
    let suspension = SuspensionRecord { by: "ann".into(), at: 1, reason: String::new() };
    let suspend = || test.records.suspend(&name(3), None, Some(&suspension), &audit()).unwrap();
    step("a suspension", &suspend, &[3]);
    let token = JoinTokenRecord {
        cluster: name(10_001).to_string(),
        created_at: 1,
        created_by: "ann".into(),
        expires_at: 50,
        replace: false,
        labels: BTreeMap::new(),
        used: None,
        many: None,
    };
    let hash = || flotilla_runtime::token::TokenSecret::generate().hash();
    let invite = || test.records.put_join_token(hash(), &token, &audit()).unwrap();
    step("a join token", &invite, &[10_001]);
    view.clusters.insert(name(5), Arc::new(ClusterFacts::default()));
    view.clusters.remove(&name(6));
    step("a commit", &|| test.fleet.publish(view.clone()), &[5]);
    assert!(last.get(&name(6)).is_none(), "Git names it no more");
    let invited = last.get(&name(10_001)).unwrap();
    assert!(invited.is_there(49) && !invited.is_there(50));
    assert!(last.get(&name(3)).unwrap().suspensions.cluster.is_some());
    assert!(last.get(&name(9)).unwrap().record.is_some());
}

#[test]
fn what_cannot_be_read_is_an_error_until_it_can_and_never_absent() {
    let store = Arc::new(MemoryStore::default());
    let test = Test { records: Records::open(store.clone()).unwrap(), ..Test::new() };
    assert!(test.records.adopt_cluster(&name(1), &ClusterRecord::default(), &audit()).unwrap());
    assert!(test.read().get(&name(1)).is_some());
    let put = |bytes: &[u8]| {
        let mut txn = crate::store::Txn::default();
        txn.put("cluster/c00001", bytes.to_vec());
        assert_eq!(crate::store::Store::txn(&*store, &txn).unwrap(), crate::store::Outcome::Committed);
    };
    let whole = crate::store::Store::get(&*store, "cluster/c00001").unwrap().unwrap();
    put(b"{");
    let Test { records, sessions, board, fleet, changes, index } = &test;
    let parts = Parts { records, sessions, board, fleet, changes };
    for _ in 0..2 {
        assert!(index.read(&parts).is_err(), "the mark is not lost with the first error");
    }
    put(&whole);
    assert!(test.read().get(&name(1)).is_some());
}
