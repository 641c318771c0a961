use super::*;
use crate::link::testing::state;
use flotilla_core::ObjectId;
use flotilla_core::report::{Finding, UnitReport};

const NAME: &str = "kustomization/x/y";

fn report(desired: &DesiredState, unit: &str, phase: Phase, applied: bool, healthy: bool) -> UnitReport {
    let id: UnitId = unit.parse().unwrap();
    let digest = desired.present(&id).map(|unit| unit.digest());
    let mut report = UnitReport::new(id, phase, "", 1);
    (report.applied, report.healthy) = (digest.filter(|_| applied), digest.filter(|_| healthy));
    report
}

fn changes(version: u64, reports: Vec<UnitReport>, gone: &[&str]) -> Changes {
    Changes { reports, gone: gone.iter().map(|id| id.parse().unwrap()).collect(), version }
}

fn no_events() -> Events {
    Events { events: Vec::new(), next: 0, missed: 0 }
}

fn acks(messages: &[Message]) -> Vec<(Level, u64)> {
    let ack = |message: &Message| match message {
        Message::Ack(ack) => Some((ack.level(), ack.generation)),
        _ => None,
    };
    messages.iter().filter_map(ack).collect()
}

fn reports(messages: Vec<Message>) -> Vec<v1::Report> {
    let report = |message| match message {
        Message::Report(report) => Some(report),
        _ => None,
    };
    messages.into_iter().filter_map(report).collect()
}

#[test]
fn a_digest_is_acknowledged_once_at_each_level_and_only_itself() {
    let mut reporter = Reporter::default();
    let first = state(1, &[("root", &["a"]), (NAME, &["b"]), ("kustomization/x/held", &[])]);
    let mut tell =
        |state: &DesiredState, changes| acks(&reporter.tell(Some(state), changes, no_events(), Vec::new()));
    let root = |phase, applied, healthy| report(&first, "root", phase, applied, healthy);
    assert_eq!(
        tell(&first, changes(1, vec![root(Phase::Ready, true, true)], &[])),
        [],
        "one unit is missing"
    );
    let applied = report(&first, NAME, Phase::Progressing, true, false);
    assert_eq!(tell(&first, changes(2, vec![applied], &[])), [(Level::Applied, 1)]);
    assert_eq!(tell(&first, changes(3, vec![root(Phase::Ready, true, true)], &[])), [], "told already");
    let healthy = report(&first, NAME, Phase::Ready, true, true);
    assert_eq!(tell(&first, changes(4, vec![healthy.clone()], &[])), [(Level::Healthy, 1)]);
    let worse = report(&first, NAME, Phase::Progressing, true, true);
    assert_eq!(tell(&first, changes(5, vec![worse], &[])), [], "reports tell what became of it");

    let second = state(2, &[("root", &["a"]), (NAME, &["c"])]);
    assert_eq!(tell(&second, changes(6, vec![healthy], &[])), [], "healthy, but another digest");
    let third = state(3, &[("root", &["a"]), ("kustomization/x/removed", &[])]);
    let leaving = report(&first, "kustomization/x/removed", Phase::Removing, false, false);
    assert_eq!(tell(&third, changes(7, vec![leaving], &[NAME])), [], "it is not gone yet");
    assert_eq!(tell(&third, changes(8, vec![], &["kustomization/x/removed"])), [(Level::Healthy, 3)]);
}

#[test]
fn the_first_report_has_everything_and_later_ones_what_changed() {
    let mut reporter = Reporter::default();
    let state = state(1, &[("root", &["a"])]);
    let ready = report(&state, "root", Phase::Ready, true, true);
    let mut tell = |changes, problems: &[&str]| {
        let problems = problems.iter().map(|line| (*line).to_owned()).collect();
        reports(reporter.tell(Some(&state), changes, no_events(), problems))
    };
    let [first] = &tell(changes(1, vec![ready.clone()], &[]), &["disk full"])[..] else { panic!() };
    assert!(first.complete && !first.more && first.has_problems);
    assert_eq!((first.units.len(), &first.problems[..]), (1, &["disk full".to_owned()][..]));
    assert_eq!(tell(changes(1, vec![], &[]), &["disk full"]), [], "nothing is new");
    let [second] = &tell(changes(2, vec![ready], &["kustomization/x/gone"]), &["disk full"])[..] else {
        panic!()
    };
    assert!(!second.complete && !second.has_problems);
    assert_eq!(second.gone, ["kustomization/x/gone"]);
    let [third] = &tell(changes(2, vec![], &[]), &[])[..] else { panic!() };
    assert!(third.has_problems && third.problems.is_empty());
}

#[test]
fn messages_are_bounded_and_a_complete_report_says_that_more_follows() {
    let object = ObjectId::new("apps", "Deployment", "n", "o");
    let finding = Finding { object, reason: "ApplyFailed".into(), message: "ü".repeat(100_000) };
    let unit = |n: u32| {
        let mut unit =
            UnitReport::new(UnitId::kustomization("x", format!("u{n}")), Phase::Failed, "x".repeat(5_000), 1);
        unit.findings = vec![finding.clone(); UnitReport::MAX_DETAILS];
        unit
    };
    let mut reporter = Reporter::default();
    let event = Event {
        at: 5,
        unit: UnitId::root(),
        object: None,
        warning: false,
        reason: "Applied".into(),
        message: String::new(),
    };
    let events = Events { events: vec![event; 500], next: 700, missed: 200 };
    let messages = reporter.tell(None, changes(1, (0..40).map(unit).collect(), &[]), events, Vec::new());
    let reports = reports(messages);
    assert!(reports.len() > 1 && reports.iter().all(|report| report.encoded_len() < MAX_MESSAGE));
    assert!(reports[0].complete && reports[1..].iter().all(|report| !report.complete));
    let (last, others) = reports.split_last().unwrap();
    assert!(!last.more && others.iter().all(|report| report.more));
    assert_eq!(reports.iter().map(|report| report.units.len()).sum::<usize>(), 40);
    let events: Vec<_> = reports.iter().flat_map(|report| &report.events).collect();
    assert_eq!(events.len(), 501);
    assert_eq!((events[0].reason.as_str(), events[0].at), ("EventsMissed", 5));
}
