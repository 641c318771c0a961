//! When a stage counts as done, and for which change.

use flotilla_rollout::outcome::StagePhase;
use flotilla_rollout::spec::{Approval, Gates};

use crate::hub::{Hub, TICK, stage};

fn two() -> [(&'static str, &'static str); 2] {
    [("p1", "production"), ("s1", "staging")]
}

/// Argo CD #29410: production rolled first, as staging was judged by its state from before.
#[test]
fn done_is_not_judged_on_the_state_from_before() {
    let mut hub = Hub::new(vec![stage("staging"), stage("production")], &two());
    hub.commit("apps", false);
    // Healthy, of the commit before: its agent does not get to the new one.
    hub.machine("s1").slow = true;
    hub.ticks(30);
    assert_eq!(hub.runs(), "p1:0 s1:0");
    hub.machine("s1").slow = false;
    hub.settle();
    assert_eq!(hub.runs(), "p1:1 s1:1");
}

/// OCM #1201: a soak that counted from an old transition was over at once.
#[test]
fn a_soak_counts_from_the_health_of_this_change_and_anew_after_a_flap() {
    let mut staging = stage("staging");
    staging.after.healthy_for = Some(30 * TICK);
    let mut hub = Hub::new(vec![staging, stage("production")], &two());
    hub.ticks(100);
    hub.commit("apps", false);
    hub.ticks(25);
    assert_eq!(hub.runs(), "p1:0 s1:1", "healthy for long, but not with this change");
    hub.flap("s1");
    hub.ticks(25);
    assert_eq!(hub.runs(), "p1:0 s1:1", "the flap begins the time anew");
    hub.ticks(20);
    assert_eq!(hub.runs(), "p1:1 s1:1");
}

/// Argo CD #19535, #20230: a commit in the middle of a step left clusters pending for ever.
#[test]
fn a_commit_in_the_middle_of_a_stage_leaves_nothing_waiting() {
    let clusters = [("p1", "production"), ("s1", "staging"), ("s2", "staging"), ("s3", "staging")];
    let mut hub = Hub::new(vec![stage("staging"), stage("production")], &clusters);
    hub.commit("apps", false);
    hub.ticks(2);
    assert_eq!(hub.runs(), "p1:0 s1:1 s2:0 s3:0");
    hub.commit("apps", false);
    hub.ticks(2);
    assert!(!hub.runs().contains(":2"), "the stage ends what it began: {}", hub.runs());
    hub.settle();
    assert_eq!(hub.runs(), "p1:2 s1:2 s2:2 s3:2");
}

/// gitops-promoter #437, qontract-reconcile #2172: a change of production alone did nothing, or passed as tested.
#[test]
fn a_change_of_production_alone_meets_the_gates_of_production() {
    let mut production = stage("production");
    let approval = Approval { from: Vec::new(), count: 1, not_author: false, expires: None };
    let mut hub = Hub::new(vec![stage("staging"), production.clone()], &two());
    production.before = Gates { approval: Some(approval), ..Gates::default() };
    hub.pipeline.stages[1] = production;
    hub.commit_for("p1");
    hub.settle();
    assert_eq!(hub.runs(), "p1:0 s1:1", "what s1 runs is the same in both");
    assert_eq!(hub.status("production").phase, StagePhase::Waiting);
    assert!(hub.status("production").question.is_some(), "{:?}", hub.status("production"));
    let told = hub.events.iter().any(|event| event.contains("not tested") || event.contains("nothing there"));
    assert!(told, "staging passed without a test, and says so: {:#?}", hub.events);
}

/// KubeFleet #610: an empty stage waited for its tasks.
#[test]
fn an_empty_stage_passes_without_its_gates_and_says_so() {
    let mut canary = stage("canary");
    canary.before.approval = Some(Approval { from: Vec::new(), count: 1, not_author: false, expires: None });
    canary.after.healthy_for = Some(100_000);
    let mut hub = Hub::new(vec![stage("staging"), canary, stage("production")], &two());
    hub.commit("apps", false);
    hub.settle();
    assert_eq!(hub.runs(), "p1:1 s1:1");
    assert!(hub.status("canary").text.contains("no cluster"), "{}", hub.status("canary").text);
}

/// Kargo #3053, #2693, #2795: a promotion that failed blocked the next, or went on for ever.
#[test]
fn what_failed_does_not_block_the_next() {
    let mut hub = Hub::new(vec![stage("staging"), stage("production")], &two());
    hub.commit("apps", true);
    hub.settle();
    assert_eq!(hub.runs(), "p1:0 s1:1");
    assert_eq!(hub.status("staging").phase, StagePhase::Failed);
    assert!(hub.reason("p1").contains("staging"), "{}", hub.reason("p1"));
    hub.commit("apps", false);
    hub.settle();
    assert_eq!(hub.runs(), "p1:2 s1:2");
}

/// What was barred of a unit bars neither the commit that drops the unit nor the one that brings it back mended.
#[test]
fn what_failed_bars_neither_its_removal_nor_its_return() {
    for dropped in [&["apps"][..], &["apps", "other"]] {
        let mut hub = Hub::new(vec![stage("staging"), stage("production")], &two());
        hub.commit("apps", true);
        hub.settle();
        assert_eq!(hub.runs(), "p1:0 s1:1");
        hub.commit_without(dropped);
        hub.settle();
        assert_eq!(hub.runs(), "p1:2 s1:2", "{dropped:?}: {}", hub.reason("s1"));
        hub.commit("apps", false);
        hub.settle();
        assert_eq!(hub.runs(), "p1:3 s1:3", "{dropped:?}: {}", hub.reason("s1"));
    }
}
