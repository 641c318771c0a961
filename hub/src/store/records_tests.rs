use flotilla_core::UnitId;

use super::super::history::HISTORY_STATES;
use super::super::{HistoryRecord, MemoryStore, SuspensionRecord};
use super::*;

fn records() -> Records {
    Records::open(Arc::new(MemoryStore::default())).unwrap()
}

#[test]
fn a_record_of_a_newer_hub_is_refused_and_unknown_fields_are_not() {
    let store = Arc::new(MemoryStore::default());
    let mut txn = Txn::default();
    txn.put("cluster/new", br#"{"v":2}"#.to_vec());
    let same = br#"{"v":1,"publicKey":"k","uid":"u","enrolledAt":1,"enrolledBy":"x","future":[1]}"#;
    txn.put("cluster/same", same.to_vec());
    txn.put("cluster/broken", b"{".to_vec());
    assert_eq!(store.txn(&txn).unwrap(), Outcome::Committed);
    let records = Records::open(store).unwrap();
    let get = |name: &str| records.cluster(&name.parse().unwrap());
    assert_eq!(get("same").unwrap().unwrap().uid, "u");
    assert!(matches!(get("new"), Err(StoreError::Newer { version: 2, .. })));
    assert!(matches!(get("broken"), Err(StoreError::Record { .. })), "unreadable is not absent");
    assert!(records.clusters().is_err());
}

#[test]
fn suspensions_go_by_cluster_and_unit_and_each_change_is_audited_once() {
    let records = records();
    let cluster: ClusterName = "staging".parse().unwrap();
    let (apps, db) =
        (UnitId::kustomization("flux-system", "apps"), UnitId::kustomization("flux-system", "db"));
    let suspension = SuspensionRecord { by: "ann".into(), at: 1, reason: "repair".into() };
    let audit = AuditRecord::new(1, "ann", "unit.suspend", "staging");
    records.suspend(&cluster, Some(&apps), Some(&suspension), &audit).unwrap();
    records.suspend(&cluster, Some(&apps), Some(&suspension), &audit).unwrap();
    let all = records.suspensions_of(&cluster).unwrap();
    assert!(all.of(&apps).is_some() && all.of(&db).is_none());
    records.suspend(&cluster, None, Some(&suspension), &audit).unwrap();
    assert!(records.suspensions_of(&cluster).unwrap().of(&db).is_some());
    records.suspend(&cluster, None, None, &audit).unwrap();
    records.suspend(&cluster, Some(&apps), None, &audit).unwrap();
    assert_eq!(records.suspensions().unwrap(), BTreeMap::new());
    let sequences: Vec<u64> = records.audit_log().unwrap().into_iter().map(|(n, _)| n).collect();
    assert_eq!(sequences, [0, 1, 2, 3], "the repeated suspension changed nothing");
}

#[test]
fn the_audit_log_goes_on_after_a_restart() {
    let store = Arc::new(MemoryStore::default());
    for round in 0..3 {
        let records = Records::open(store.clone()).unwrap();
        records.audit(&AuditRecord::new(round, "hub", "test", "x")).unwrap();
    }
    let log = Records::open(store).unwrap().audit_log().unwrap();
    assert_eq!(log.iter().map(|(n, line)| (*n, line.at)).collect::<Vec<_>>(), [(0, 0), (1, 1), (2, 2)]);
}

#[test]
fn no_audit_line_is_written_over() {
    let line = |at| AuditRecord::new(at, "hub", "test", "x");
    let put = |store: &MemoryStore, key: &str| {
        let mut txn = Txn::default();
        txn.put(key, encode(&line(99)));
        assert_eq!(store.txn(&txn).unwrap(), Outcome::Committed);
    };
    for broken in ["audit/00000000000000000003x", "audit/3", "audit/99999999999999999999"] {
        let store = Arc::new(MemoryStore::default());
        put(&store, "audit/00000000000000000002");
        put(&store, broken);
        assert!(matches!(Records::open(store), Err(StoreError::Key(_))), "{broken}");
    }
    // Somebody else wrote lines meanwhile: theirs stay, and ours comes after them.
    let store = Arc::new(MemoryStore::default());
    let records = Records::open(store.clone()).unwrap();
    records.audit(&line(1)).unwrap();
    put(&store, "audit/00000000000000000001");
    put(&store, "audit/00000000000000000002");
    records.audit(&line(2)).unwrap();
    let log = records.audit_log().unwrap();
    assert_eq!(
        log.iter().map(|(n, line)| (*n, line.at)).collect::<Vec<_>>(),
        [(0, 1), (1, 99), (2, 99), (3, 2)]
    );
    // A change that conflicts by itself still says so.
    let mut txn = Txn::default();
    txn.expect("cluster/x", Some(b"other".to_vec()));
    assert_eq!(records.commit(txn, Some(&line(3))).unwrap(), Outcome::Conflict);
    assert_eq!(records.audit_log().unwrap().len(), 4);
}

#[test]
fn the_history_keeps_the_newest_states() {
    let records = records();
    let cluster: ClusterName = "staging".parse().unwrap();
    for n in 0..(HISTORY_STATES as u64 + 5) {
        let state = HistoryRecord { digest: n.to_string(), generation: n, ..Default::default() };
        records.note_history(&cluster, &state, |s| s.received_at = Some(1)).unwrap();
        records.note_history(&cluster, &state, |s| s.applied_at = Some(2)).unwrap();
    }
    let history = records.history(&cluster).unwrap();
    assert_eq!((history.len(), history[0].generation), (HISTORY_STATES, 5));
    assert!(history.iter().all(|s| s.received_at == Some(1) && s.applied_at == Some(2)));
}
