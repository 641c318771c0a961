//! What people decided stays decided, and windows hold for them too.

use flotilla_rollout::spec::{Approval, Period, Window, WindowKind, Zone};
use flotilla_rollout::{Barred, Overrun, Verb};

use crate::hub::{Hub, TICK, of_stage, stage, unit};

const CLUSTERS: [(&str, &str); 3] = [("p1", "production"), ("p2", "production"), ("s1", "staging")];

fn stages() -> Vec<flotilla_rollout::spec::Stage> {
    vec![stage("staging"), stage("production")]
}

/// A window that is open always.
fn always(overrun: Overrun) -> Window {
    Window {
        name: "freeze".into(),
        kind: WindowKind::Deny,
        period: Period::Weekly {
            days: Vec::new(),
            from: "00:00".parse().unwrap(),
            to: "00:00".parse().unwrap(),
        },
        zone: Zone::utc(),
        overrun,
        override_roles: Vec::new(),
        max_starts: None,
    }
}

/// Kargo #3016: a rollback was promoted away again.
#[test]
fn a_rollback_stays_until_it_is_released() {
    let mut hub = Hub::new(stages(), &CLUSTERS);
    hub.commit("apps", false);
    hub.settle();
    assert_eq!(hub.runs(), "p1:1 p2:1 s1:1");
    hub.ask(Verb::Rollback(of_stage("production"))).unwrap();
    hub.settle();
    assert_eq!(hub.runs(), "p1:0 p2:0 s1:1");
    hub.commit("apps", false);
    hub.settle();
    assert_eq!(hub.runs(), "p1:0 p2:0 s1:2");
    assert!(hub.reason("p1").contains("held"), "{}", hub.reason("p1"));
    hub.ask(Verb::Release(of_stage("production"))).unwrap();
    hub.settle();
    assert_eq!(hub.runs(), "p1:2 p2:2 s1:2");
}

/// Kargo #6151: nothing could be rejected.
#[test]
fn what_is_vetoed_reaches_nobody_whoever_asks() {
    let mut hub = Hub::new(stages(), &CLUSTERS);
    hub.ask(Verb::Hold(of_stage("staging"))).unwrap();
    hub.commit("apps", false);
    hub.ticks(2);
    let candidate =
        hub.status("staging").candidate.into_iter().chain(hub.status("staging").waiting).last().unwrap();
    hub.ask(Verb::Veto { what: Barred::Candidate(candidate), stage: None }).unwrap();
    hub.ask(Verb::Release(of_stage("staging"))).unwrap();
    hub.settle();
    assert_eq!(hub.runs(), "p1:0 p2:0 s1:0");
    let promoted =
        hub.ask(Verb::Promote { unit: unit("apps"), stage: "production".into(), candidate: Some(candidate) });
    assert!(promoted.is_err_and(|said| said.contains("barred")));
    hub.commit("apps", false);
    hub.settle();
    assert_eq!(hub.runs(), "p1:2 p2:2 s1:2");
}

/// Kargo #3225: a fix of one unit could not overtake what soaks.
#[test]
fn a_hotfix_overtakes_and_goes_no_further_by_itself() {
    let mut hub = Hub::new(stages(), &CLUSTERS);
    hub.pipeline.stages[0].after.healthy_for = Some(100_000);
    hub.commit("other", false);
    hub.settle();
    assert_eq!(hub.runs(), "p1:0 p2:0 s1:1");
    hub.commit("apps", false);
    hub.ticks(2);
    hub.ask(Verb::Promote { unit: unit("apps"), stage: "production".into(), candidate: None }).unwrap();
    hub.settle();
    assert_eq!(hub.runs(), "p1:- p2:- s1:1", "the new apps beside the old other, and staging as it was");
}

/// Argo CD #29558: a freeze locked out those who had to mend something.
#[test]
fn a_freeze_can_be_overridden_by_name_and_lets_rollbacks_pass() {
    let mut hub = Hub::new(stages(), &CLUSTERS);
    hub.commit("apps", false);
    hub.settle();
    hub.pipeline.windows = vec![always(Overrun::Pause)];
    hub.ask(Verb::Rollback(of_stage("production"))).unwrap();
    hub.settle();
    assert_eq!(hub.runs(), "p1:0 p2:0 s1:1", "going back is not held up");
    hub.ask(Verb::Release(of_stage("production"))).unwrap();
    hub.commit("apps", false);
    hub.settle();
    assert!(!hub.runs().contains(":2"), "{}", hub.runs());
    hub.ask(Verb::OverrideWindow { window: "freeze".into(), stage: None }).unwrap();
    hub.settle();
    assert_eq!(hub.runs(), "p1:2 p2:2 s1:2");
}

/// Kargo #6889: a click by a person passed a window that denies.
#[test]
fn a_person_passes_no_window_without_overriding_it() {
    let mut hub = Hub::new(stages(), &CLUSTERS);
    hub.pipeline.windows = vec![always(Overrun::Pause)];
    hub.commit("apps", false);
    hub.ticks(2);
    let _ = hub.ask(Verb::Promote { unit: unit("apps"), stage: "production".into(), candidate: None });
    hub.settle();
    assert_eq!(hub.runs(), "p1:0 p2:0 s1:0");
}

/// Argo CD #26215, #25510: work that a closing window cut in half hung.
#[test]
fn work_that_a_closing_window_cuts_goes_on_when_it_opens() {
    for (overrun, meanwhile) in [
        (Overrun::Pause, "p1:1 p2:0 s1:1"),
        (Overrun::Finish, "p1:1 p2:1 s1:1"),
        (Overrun::Rollback, "p1:0 p2:0 s1:1"),
    ] {
        let mut hub = Hub::new(stages(), &CLUSTERS);
        hub.commit("apps", false);
        let cut = (0..30).find(|_| {
            hub.tick();
            hub.status("production").counts.in_flight == 1
        });
        assert!(cut.is_some(), "production begins within {} s", 30 * TICK);
        hub.pipeline.windows = vec![always(overrun)];
        hub.settle();
        assert_eq!(hub.runs(), meanwhile, "{overrun:?}");
        hub.pipeline.windows.clear();
        hub.settle();
        assert_eq!(hub.runs(), "p1:1 p2:1 s1:1", "{overrun:?}");
    }
}

/// Approvals of several people count together only while none of them is too old.
#[test]
fn an_approval_that_was_not_used_in_time_has_to_be_given_again() {
    let mut hub = Hub::new(stages(), &CLUSTERS);
    let approval = Approval { from: Vec::new(), count: 2, not_author: false, expires: Some(10 * TICK) };
    hub.pipeline.stages[1].before.approval = Some(approval);
    hub.commit("apps", false);
    hub.settle();
    let question = hub.status("production").question.clone().expect("production asks").digest;
    let approve = || Verb::Approve { stage: "production".into(), question };
    hub.ask_as("ada", approve()).unwrap();
    hub.tick();
    let text = hub.status("production").text.clone();
    assert!(text.contains("1 of 2 given"), "{text}");
    hub.ticks(10);
    let text = hub.status("production").text.clone();
    assert!(text.contains("0 of 2 given"), "it expired: {text}");
    hub.ask_as("bob", approve()).unwrap();
    hub.settle();
    assert_eq!(hub.runs(), "p1:0 p2:0 s1:1", "both approved, but never at the same time");
    hub.ask_as("bob", approve()).unwrap();
    hub.ask_as("ada", approve()).unwrap();
    hub.settle();
    assert_eq!(hub.runs(), "p1:1 p2:1 s1:1");
}
