use flotilla_core::source::{SourceId, SourceKind};
use flotilla_core::{ClusterName, ObjectId, UnitId, report};

use super::*;
use crate::store::faulty::{Fault, FaultyStore, Plan};
use crate::store::{MemoryStore, RestoreRecord, Store};

fn records(store: &Arc<MemoryStore>) -> Arc<Records> {
    Arc::new(Records::open(store.clone()).unwrap())
}

fn event(at: Timestamp, cluster: &str) -> Event {
    Event {
        at,
        cluster: Some(cluster.parse().unwrap()),
        unit: Some(UnitId::kustomization("web", "front")),
        object: None,
        source: None,
        warning: at % 2 == 1,
        reason: "Applied".into(),
        message: format!("event {at}"),
    }
}

fn times(events: &[Numbered]) -> Vec<Timestamp> {
    events.iter().map(|(_, event)| event.at).collect()
}

#[test]
fn a_reader_goes_on_where_it_stopped_also_after_a_restart() {
    let store = Arc::new(MemoryStore::default());
    let journal = Journal::open(records(&store)).unwrap();
    let begin = journal.end();
    journal.inbox.note((0..5).map(|at| event(at, "a")));
    assert_eq!(journal.after(&begin, 9, |_| true).unwrap().0, [], "what is not on disk is not told");
    journal.flush(9).unwrap();
    let (found, cursor) = journal.after(&begin, 2, |event| event.warning).unwrap();
    assert_eq!(times(&found), [1, 3]);
    // It is killed with events that nobody has seen.
    journal.inbox.note([event(50, "a")]);
    drop(journal);
    let journal = Journal::open(records(&store)).unwrap();
    let cursor: Cursor = cursor.to_string().parse().unwrap();
    let (found, cursor) = journal.after(&cursor, 9, |_| true).unwrap();
    assert_eq!((times(&found), &cursor), (vec![4], &journal.end()));
    journal.inbox.note([event(5, "a"), event(6, "a")]);
    journal.flush(9).unwrap();
    assert_eq!(times(&journal.after(&cursor, 9, |_| true).unwrap().0), [5, 6]);
    assert_eq!(times(&journal.before(u64::MAX, 3, |_| true)), [6, 5, 4]);
    let (number, _) = journal.before(u64::MAX, 3, |_| true)[2];
    assert_eq!(times(&journal.before(number, 9, |event| event.warning)), [3, 1]);
}

#[test]
fn events_are_read_as_they_were_written() {
    let store = Arc::new(MemoryStore::default());
    let journal = Journal::open(records(&store)).unwrap();
    let plain = Event { cluster: None, unit: None, ..event(1, "a") };
    let events = [
        event(2, "a"),
        Event { source: Some(SourceId::new(SourceKind::GitRepository, "web", "repo")), ..plain.clone() },
        Event { object: Some(ObjectId::new("apps", "Deployment", "web", "x")), ..event(3, "a") },
        Event { unit: Some(UnitId::read_any("terraform/web/x").unwrap()), ..plain.clone() },
        Event { unit: Some(UnitId::root()), message: String::new(), ..plain },
    ];
    journal.inbox.note(events.clone());
    journal.flush(9).unwrap();
    let journal = Journal::open(records(&store)).unwrap();
    let read = journal.after(&journal.cursor(0), 9, |_| true).unwrap().0;
    assert_eq!(read.iter().map(|(_, event)| (**event).clone()).collect::<Vec<_>>(), events);
}

#[test]
fn a_gap_is_told_and_no_journal_stands_for_another() {
    let store = Arc::new(MemoryStore::default());
    let journal = Journal::open(records(&store)).unwrap();
    let begin = journal.end();
    journal.inbox.note([event(1, "a"), event(2, "a")]);
    journal.flush(2).unwrap();
    // A month on, what is old goes with the next event.
    journal.inbox.note([event(MAX_AGE + 2, "a")]);
    journal.flush(MAX_AGE + 2).unwrap();
    assert_eq!(journal.after(&begin, 9, |_| true), Err(Missed::TooOld(1)));
    let (found, cursor) = journal.after(&journal.cursor(1), 9, |_| true).unwrap();
    assert_eq!(times(&found), [2, MAX_AGE + 2]);
    assert_eq!(store.scan("event/").unwrap().len(), 2);
    // A backup is restored: the numbers after it come again, for other events.
    Records::open(store.clone())
        .unwrap()
        .note_restored(&RestoreRecord { backup_at: 1, restored_at: 7 })
        .unwrap();
    let journal = Journal::open(records(&store)).unwrap();
    assert_eq!(journal.after(&cursor, 9, |_| true), Err(Missed::Foreign));
    assert_eq!(journal.before(u64::MAX, 9, |_| true).len(), 2, "what was kept can be read all the same");
    let cursor = journal.end();
    journal.inbox.note([event(9, "a")]);
    journal.flush(9).unwrap();
    let again = Journal::open(records(&store)).unwrap();
    assert_eq!(times(&again.after(&cursor, 9, |_| true).unwrap().0), [9], "that happens once");
    for text in ["", "x", "x-", "-1", "x-y", "a b-1", "x--1"] {
        assert!(text.parse::<Cursor>().is_err(), "{text}");
    }
    assert_eq!(
        again.after(&again.cursor(99), 9, |_| true),
        Err(Missed::Foreign),
        "of no event that there was"
    );
}

#[test]
fn one_cluster_does_not_fill_the_journal() {
    let store = Arc::new(MemoryStore::default());
    let journal = Journal::open(records(&store)).unwrap();
    let told = |at| report::Event {
        at,
        unit: UnitId::root(),
        object: None,
        warning: false,
        reason: "Applied".into(),
        message: String::new(),
    };
    let (loud, calm): (ClusterName, ClusterName) = ("loud".parse().unwrap(), "calm".parse().unwrap());
    journal.inbox.note_of(&loud, (0..3_000).map(told).collect());
    journal.inbox.note_of(&calm, vec![told(1)]);
    journal.flush(9).unwrap();
    let of =
        |name: &ClusterName| journal.before(u64::MAX, 9_999, |event| event.cluster.as_ref() == Some(name));
    assert_eq!(of(&calm).len(), 1);
    let loud = of(&loud);
    assert!((1_001..1_200).contains(&loud.len()), "{}", loud.len());
    assert!(loud[0].1.reason == "EventsLeftOut" && loud[0].1.warning, "{:?}", loud[0]);
}

#[test]
fn what_the_store_does_not_take_waits_and_is_told_once() {
    let store = Arc::new(FaultyStore::new(MemoryStore::default(), 1));
    let journal = Journal::open(Arc::new(Records::open(store.clone()).unwrap())).unwrap();
    let begin = journal.end();
    for (at, fault) in [(1, Fault::Before), (2, Fault::After)] {
        journal.inbox.note([event(at, "a")]);
        store.plan(Plan { at: vec![(0, fault)], ..Plan::default() });
        assert!(journal.flush(9).is_err());
        assert_eq!(times(&journal.after(&begin, 9, |_| true).unwrap().0).len() as i64, at - 1);
        store.plan(Plan::default());
        journal.flush(9).unwrap();
    }
    assert_eq!(times(&journal.after(&begin, 9, |_| true).unwrap().0), [1, 2]);
    let again = Journal::open(Arc::new(Records::open(store).unwrap())).unwrap();
    assert_eq!(times(&again.after(&begin, 9, |_| true).unwrap().0), [1, 2]);
}

#[test]
fn what_was_wrong_before_a_restart_is_not_told_again() {
    let store = Arc::new(MemoryStore::default());
    let build = |unit: &str, reason: &str, message: &str| Event {
        unit: Some(UnitId::kustomization("web", unit)),
        reason: reason.into(),
        message: message.into(),
        ..event(1, "a")
    };
    let journal = Journal::open(records(&store)).unwrap();
    journal.inbox.note([
        build("a", "BuildFailed", "x"),
        build("b", "BuildFailed", "x"),
        build("c", "BuildFailed", "x"),
    ]);
    journal.inbox.note([build("b", "BuildSucceeded", "")]);
    journal.flush(1).unwrap();
    let journal = Journal::open(records(&store)).unwrap();
    let end = journal.end();
    let found = ["a", "b", "d"].map(|unit| build(unit, "BuildFailed", "x"));
    journal.inbox.note_found(found.into_iter().chain([build("c", "BuildFailed", "y")]));
    journal.flush(2).unwrap();
    let told = journal.after(&end, 9, |_| true).unwrap().0;
    let told: Vec<_> = told.iter().map(|(_, event)| event.unit.as_ref().unwrap().name.as_str()).collect();
    assert_eq!(told, ["b", "d", "c"]);
}

#[test]
fn the_journal_is_bounded() {
    let store = Arc::new(MemoryStore::default());
    let journal = Journal::open(records(&store)).unwrap();
    for round in 0..4 {
        journal
            .inbox
            .note((0..15_000).map(|at| Event { message: String::new(), ..event(round * 15_000 + at, "a") }));
        journal.flush(1).unwrap();
    }
    let kept = lock(&journal.kept);
    assert_eq!((kept.events.len(), kept.events.front().unwrap().1.at), (MAX_EVENTS, 10_000));
    assert_eq!(kept.bytes, kept.events.iter().map(|(_, event)| event.weight()).sum::<usize>());
}
