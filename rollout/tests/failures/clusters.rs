//! Clusters that come, go, are away or fail while a change is on its way.

use flotilla_rollout::outcome::StagePhase;
use flotilla_rollout::spec::{Amount, Offline, OnFailure, WhenOffline};
use flotilla_rollout::{Link, Verb};

use crate::hub::{Hub, TICK, stage};

/// KubeFleet #733: a run was given up where clusters came or went.
#[test]
fn clusters_that_come_and_go_do_not_end_a_run() {
    let clusters = [("p1", "production"), ("s1", "staging"), ("s2", "staging"), ("s3", "staging")];
    let mut hub = Hub::new(vec![stage("staging"), stage("production")], &clusters);
    hub.commit("apps", false);
    hub.ticks(2);
    hub.remove("s2");
    hub.add("s4", "staging");
    hub.ticks(1);
    assert_ne!(hub.status("staging").phase, StagePhase::Aborted);
    hub.settle();
    assert_eq!(hub.runs(), "p1:1 s1:1 s3:1 s4:1");
}

/// KubeFleet #638: a cluster in no stage failed the run.
#[test]
fn a_cluster_in_no_stage_is_named_and_stops_nobody() {
    let clusters = [("p1", "production"), ("s1", "staging"), ("x1", "nowhere")];
    let mut hub = Hub::new(vec![stage("staging"), stage("production")], &clusters);
    hub.commit("apps", false);
    hub.settle();
    assert_eq!(hub.runs(), "p1:1 s1:1 x1:1");
    let names: Vec<String> = hub.last.unmatched.iter().map(ToString::to_string).collect();
    assert_eq!(names, ["x1"]);
}

/// Rancher Fleet #192: one device that is away stopped all.
#[test]
fn one_cluster_that_is_away_does_not_stop_the_others() {
    let mut edge = stage("edge");
    edge.strategy.offline = Offline { after: 20 * TICK, then: WhenOffline::Skip };
    let clusters = [("e1", "edge"), ("e2", "edge"), ("p1", "production")];
    let mut hub = Hub::new(vec![edge, stage("production")], &clusters);
    hub.machine("e1").link = Link::Offline { since: hub.now };
    hub.commit("apps", false);
    hub.settle();
    assert_eq!(hub.runs(), "e1:0 e2:1 p1:1");
    assert!(hub.reason("e1").contains("is not connected since"), "{}", hub.reason("e1"));
    // Back again it gets what its stage has then, not what it missed.
    hub.commit("apps", false);
    hub.settle();
    hub.machine("e1").link = Link::Online { since: hub.now };
    hub.settle();
    assert_eq!(hub.runs(), "e1:2 e2:2 p1:2");
}

/// A stage of nothing but clusters that are away has tested nothing.
#[test]
fn a_stage_that_is_away_as_a_whole_does_not_pass() {
    let mut edge = stage("edge");
    edge.strategy.offline = Offline { after: 20 * TICK, then: WhenOffline::Skip };
    let mut hub = Hub::new(vec![edge, stage("production")], &[("e1", "edge"), ("p1", "production")]);
    hub.machine("e1").link = Link::Offline { since: hub.now };
    hub.commit("apps", false);
    hub.ticks(200);
    assert_eq!(hub.runs(), "e1:0 p1:0");
    assert!(!hub.status("edge").text.is_empty() && !hub.reason("p1").is_empty());
}

/// A stage whose clusters have all never joined has tested nothing, and is not empty.
#[test]
fn a_stage_of_which_no_cluster_has_joined_does_not_pass() {
    let stages = || vec![stage("staging"), stage("production")];
    let mut hub = Hub::new(stages(), &[("p1", "production")]);
    hub.commit("apps", false);
    hub.settle();
    assert_eq!(hub.runs(), "p1:1", "no cluster is in staging");
    hub.add("s1", "staging");
    hub.add("s2", "staging");
    for name in ["s1", "s2"] {
        hub.machine(name).link = Link::NeverEnrolled;
    }
    hub.commit("apps", true);
    hub.settle();
    assert_eq!(hub.runs(), "p1:1 s1:- s2:-");
    let waits = "none of its clusters has joined (s1, s2): let one join by `flotilla cluster add`";
    assert!(hub.status("staging").text.contains(waits), "{}", hub.status("staging").text);
    assert!(hub.reason("p1").contains(waits), "{}", hub.reason("p1"));
    // The first that joins decides, about what it was tested with.
    hub.machine("s2").link = Link::Online { since: hub.now };
    hub.settle();
    assert_eq!(hub.status("staging").phase, StagePhase::Failed, "the commit is broken");
    assert_eq!(hub.runs(), "p1:1 s1:- s2:2");
    hub.commit("apps", false);
    hub.settle();
    assert_eq!(hub.runs(), "p1:3 s1:- s2:3");
    // The only one that joined is deleted at the hub.
    hub.machine("s2").link = Link::NeverEnrolled;
    hub.commit("apps", false);
    hub.settle();
    assert!(hub.runs().starts_with("p1:3 "), "{}", hub.runs());
    // Whoever says so by name goes past it, and nobody else.
    let candidate = hub.status("staging").candidate.unwrap();
    hub.ask(Verb::Override { stage: "staging".into(), candidate }).unwrap();
    hub.settle();
    assert!(hub.runs().starts_with("p1:4 "), "{}", hub.runs());
}

/// Nor is one empty that nobody can tell the clusters of.
#[test]
fn a_stage_that_may_have_a_cluster_which_cannot_be_read_does_not_pass() {
    let mut hub = Hub::new(vec![stage("staging"), stage("production")], &[("p1", "production")]);
    hub.add("x1", "staging");
    hub.unread.insert("x1");
    hub.commit("apps", false);
    hub.settle();
    assert!(hub.runs().starts_with("p1:0 "), "{}", hub.runs());
    assert!(hub.reason("p1").contains("the definition of x1 cannot be read"), "{}", hub.reason("p1"));
    hub.unread.clear();
    hub.settle();
    assert_eq!(hub.runs(), "p1:1 x1:1");
}

/// Rancher Fleet #2891, #3827: fewer than 200 clusters were one partition, so that a share meant all of them.
#[test]
fn a_share_is_of_the_clusters_that_there_are() {
    let mut edge = stage("edge");
    edge.strategy.max_concurrent = Amount::Percent(25);
    let names: Vec<String> = (0..10).map(|n| format!("e{n}")).collect();
    let clusters: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "edge")).collect();
    let mut hub = Hub::new(vec![edge], &clusters);
    hub.commit("apps", false);
    let mut most = 0;
    for _ in 0..60 {
        hub.tick();
        most = most.max(hub.status("edge").counts.in_flight);
    }
    assert_eq!(most, 3, "25% of ten, rounded up");
    assert!(!hub.runs().contains(":0"), "{}", hub.runs());
}

/// OCM #327: more failures than allowed did not stop it. OCM enhancements #164: there was no way back.
#[test]
fn failures_stop_it_and_take_back_what_they_touched() {
    for (on_failure, after) in
        [(OnFailure::Pause, "p1:0 s1:1 s2:0 s3:0"), (OnFailure::Rollback, "p1:0 s1:0 s2:0 s3:0")]
    {
        let mut staging = stage("staging");
        staging.strategy.on_failure = on_failure;
        let clusters = [("p1", "production"), ("s1", "staging"), ("s2", "staging"), ("s3", "staging")];
        let mut hub = Hub::new(vec![staging, stage("production")], &clusters);
        hub.commit("apps", true);
        hub.settle();
        assert_eq!(hub.runs(), after, "{on_failure:?}");
        assert_eq!(hub.status("staging").phase, StagePhase::Failed);
    }
}

/// Sveltos #1841: after a failure there was no way on.
#[test]
fn what_failed_can_be_tried_again_without_a_commit() {
    let mut staging = stage("staging");
    staging.strategy.progress_deadline = Some(20 * TICK);
    let mut hub = Hub::new(vec![staging, stage("production")], &[("p1", "production"), ("s1", "staging")]);
    hub.machine("s1").slow = true;
    hub.commit("apps", false);
    hub.settle();
    assert_eq!(hub.status("staging").phase, StagePhase::Failed);
    hub.machine("s1").slow = false;
    hub.settle();
    let said = hub.ask(Verb::Retry { stage: "staging".into() });
    assert!(said.is_ok() || hub.runs() == "p1:1 s1:1", "{said:?}");
    hub.settle();
    assert_eq!(hub.runs(), "p1:1 s1:1");
}

/// What a source that was away, or a disk, kept from being rendered is no reason to wait for ever once it can be.
#[test]
fn what_could_not_be_rendered_as_the_newest_is_asked_for_when_it_is_not() {
    let mut hub =
        Hub::new(vec![stage("staging"), stage("production")], &[("p1", "production"), ("s1", "staging")]);
    hub.unrendered.insert(("p1", 1));
    hub.commit("apps", false);
    hub.settle();
    assert_eq!(hub.runs(), "p1:0 s1:1");
    assert!(!hub.reason("p1").is_empty());
    hub.commit("apps", false);
    hub.settle();
    assert_eq!(hub.runs(), "p1:2 s1:2");
}
