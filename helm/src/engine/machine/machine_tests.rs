use flotilla_core::unit::release::{Options, Remedy};
use proptest::prelude::*;

use super::sim_tests::{Cluster, Fate, Fault, target, wanted};
use super::*;
use crate::engine::decide::{Rest, Stuck};
use crate::hook::{Event, Phase};

const HOOKS: [(&str, &str); 4] = [
    ("before", "helm.sh/hook: 'pre-install,pre-upgrade', helm.sh/hook-weight: '-1'"),
    ("after", "helm.sh/hook: 'post-install,post-rollback', helm.sh/hook-delete-policy: 'hook-succeeded'"),
    (
        "last",
        "helm.sh/hook: 'post-install', helm.sh/hook-weight: '5', helm.sh/hook-delete-policy: 'hook-failed'",
    ),
    (
        "bye",
        "helm.sh/hook: 'pre-delete,post-delete', helm.sh/hook-delete-policy: 'before-hook-creation,hook-succeeded'",
    ),
];

fn gone(options: &Options) -> Want {
    Want::Gone { target: target(), options: Box::new(options.clone()) }
}

fn run(cluster: &mut Cluster, want: &Want) -> End {
    cluster.log.clear();
    let end = cluster.run(want, || Fault::Nothing);
    cluster.check(want, &end);
    end
}

fn in_sync() -> End {
    End::Rest(Rest::InSync)
}

#[test]
fn a_release_is_installed_upgraded_and_uninstalled() {
    let options = Options::default();
    let mut cluster = Cluster::new();
    let first = wanted(1, &["a", "b", "kept-c"], &HOOKS, &options);
    assert_eq!(run(&mut cluster, &first), in_sync());
    assert_eq!(
        cluster.log,
        [
            "1 pending-install",
            "hook before",
            "1 pending-install",
            "1 pending-install",
            "apply 1",
            "hook after",
            "1 pending-install",
            "1 pending-install",
            "hook last",
            "1 pending-install",
            "1 pending-install",
            "clear after",
            "1 deployed",
        ]
    );
    // Nothing is to be done, so nothing is written.
    assert_eq!(run(&mut cluster, &first), in_sync());
    assert!(cluster.log.is_empty());
    let runs: Vec<Phase> =
        cluster.records[&1].release.hooks.iter().map(|hook| hook.last_run.phase.clone()).collect();
    assert_eq!(runs.iter().filter(|phase| **phase == Phase::Succeeded).count(), 3);

    let second = wanted(2, &["a", "d"], &HOOKS, &options);
    assert_eq!(run(&mut cluster, &second), in_sync());
    assert_eq!(
        cluster.log,
        [
            // The hook of the install is still there.
            "2 pending-upgrade",
            "clear before",
            "hook before",
            "2 pending-upgrade",
            "2 pending-upgrade",
            "apply 2",
            "delete b",
            "1 superseded",
            "2 deployed",
        ]
    );

    assert_eq!(run(&mut cluster, &gone(&options)), End::Rest(Rest::Gone));
    assert_eq!(
        cluster.log,
        [
            "2 uninstalling",
            "hook bye",
            "2 uninstalling",
            "2 uninstalling",
            "clear bye",
            "delete d",
            "delete a",
            "hook bye",
            "2 uninstalling",
            "2 uninstalling",
            "clear bye",
            "2 uninstalled",
            "1 deleted",
            "2 deleted",
        ]
    );
    assert_eq!(cluster.objects.len(), 1, "{:?}", cluster.objects);
}

#[test]
fn records_are_kept_where_they_should_be_and_pruned_otherwise() {
    let mut options = Options { max_history: 2, ..Options::default() };
    options.uninstall.keep_history = true;
    let mut cluster = Cluster::new();
    for version in 1..5 {
        assert_eq!(run(&mut cluster, &wanted(version, &["a"], &[], &options)), in_sync());
    }
    assert_eq!(cluster.records.keys().copied().collect::<Vec<_>>(), [3, 4]);
    assert_eq!(run(&mut cluster, &gone(&options)), End::Rest(Rest::Gone));
    assert_eq!(cluster.records[&4].release.info.status, Status::Uninstalled);
    assert!(cluster.objects.is_empty());
    let again = wanted(5, &["a"], &[], &options);
    assert_eq!(run(&mut cluster, &again), End::Rest(Rest::Stuck(Stuck::NameTaken)));
    let again = wanted(5, &["a"], &[], &Options { replace: true, ..options });
    assert_eq!(run(&mut cluster, &again), in_sync());
    assert_eq!(
        cluster.records[&5].release.info.first_deployed,
        cluster.records[&5].release.info.last_deployed
    );
}

#[test]
fn what_fails_is_rolled_back_to_what_ran_or_uninstalled() {
    let mut options = Options::default();
    options.on_upgrade_failure.retries = Some(1);
    options.on_upgrade_failure.remediate_last_failure = true;
    let mut cluster = Cluster::new();
    run(&mut cluster, &wanted(1, &["a"], &HOOKS, &options));
    cluster.refuses = Box::new(|version| version == "2.0.0");
    let end = run(&mut cluster, &wanted(2, &["a", "b"], &HOOKS, &options));
    assert!(matches!(end, End::Rest(Rest::Stuck(Stuck::Exhausted { failures: 2, .. }))), "{end:?}");
    let statuses: Vec<&str> = cluster.records.values().map(|it| it.release.info.status.as_str()).collect();
    assert_eq!(statuses, ["superseded", "failed", "superseded", "failed", "deployed"]);
    assert_eq!(cluster.records[&5].release.info.rollback_revision, 3);
    assert_eq!(cluster.records[&2].release.info.description, "it is wrong");
    assert_eq!(cluster.log.iter().filter(|it| *it == "hook after").count(), 2);

    // Another definition is tried again.
    cluster.refuses = Box::new(|_| false);
    assert_eq!(run(&mut cluster, &wanted(3, &["a", "b"], &HOOKS, &options)), in_sync());

    let mut options = Options::default();
    options.on_install_failure.retries = Some(1);
    options.on_install_failure.remediate_last_failure = true;
    let mut cluster = Cluster::new();
    cluster.refuses = Box::new(|_| true);
    let end = run(&mut cluster, &wanted(1, &["a"], &HOOKS, &options));
    assert!(matches!(end, End::Rest(Rest::Stuck(Stuck::Exhausted { failures: 2, .. }))), "{end:?}");
    let statuses: Vec<&str> = cluster.records.values().map(|it| it.release.info.status.as_str()).collect();
    assert_eq!(statuses, ["uninstalled", "uninstalled"]);
}

#[test]
fn a_hook_that_does_not_succeed_ends_the_attempt() {
    for (fate, says) in [
        (Fate::Fails, "the hook last (Job) failed: it broke"),
        (Fate::Hangs, "the hook last (Job) was not done after 300 s"),
        (Fate::Vanishes, "the hook last (Job) was deleted before it was done"),
    ] {
        let mut cluster = Cluster::new();
        cluster.fates = Box::new(move |name| if name == "last" { fate } else { Fate::Succeeds });
        let end = run(&mut cluster, &wanted(1, &["a"], &HOOKS, &Options::default()));
        assert!(matches!(end, End::Rest(Rest::Stuck(_))), "{end:?}");
        let release = &cluster.records[&1].release;
        assert_eq!(release.info.description, says);
        assert_eq!((release.info.status, cluster.objects.len()), (Status::Failed, 1));
        let last = release.hooks.iter().find(|hook| hook.name == "last").unwrap();
        assert_eq!(last.last_run.phase, Phase::Failed);
        // Of those that ran, each by its own policy.
        let cleared: Vec<&str> = cluster.log.iter().filter_map(|it| it.strip_prefix("clear ")).collect();
        assert_eq!(cleared, if fate == Fate::Vanishes { vec!["after"] } else { vec!["after", "last"] });
    }
}

#[test]
fn an_object_that_stays_though_it_is_deleted_holds_up_nothing_but_the_hook_in_its_place() {
    let mut cluster = Cluster::new();
    cluster.has_finalizers = true;
    let options = Options::default();
    // What is left to be done is to clear it away.
    assert_eq!(run(&mut cluster, &wanted(1, &["a"], &HOOKS, &options)), in_sync());
    let end = run(&mut cluster, &wanted(2, &["a"], &HOOKS, &options));
    assert!(matches!(end, End::Rest(Rest::Stuck(_))), "{end:?}");
    let says = "the hook before (Job) was not done after 300 s";
    assert_eq!(cluster.records[&2].release.info.description, says);
}

#[test]
fn tests_run_by_filter_and_their_failure_is_remedied() {
    let mut options = Options::default();
    options.test.enable = true;
    options.test.filters =
        vec![flotilla_core::unit::release::TestFilter { name: "no".into(), exclude: true }];
    options.on_upgrade_failure.retries = Some(0);
    options.on_upgrade_failure.remediate_last_failure = true;
    let hooks = [("yes", "helm.sh/hook: test"), ("no", "helm.sh/hook: test")];
    let mut cluster = Cluster::new();
    assert_eq!(run(&mut cluster, &wanted(1, &["a"], &hooks, &options)), in_sync());
    assert!(cluster.log.contains(&"hook yes".to_owned()) && !cluster.log.contains(&"hook no".to_owned()));
    cluster.fates = Box::new(|_| Fate::Fails);
    let end = run(&mut cluster, &wanted(2, &["a"], &hooks, &options));
    assert!(matches!(end, End::Rest(Rest::Stuck(Stuck::Exhausted { failures: 1, .. }))), "{end:?}");
    assert_eq!(cluster.records[&3].release.info.rollback_revision, 1);
    assert_eq!(cluster.records[&2].release.info.status, Status::Superseded);
}

#[test]
fn what_somebody_else_left_pending_is_given_up_and_continued() {
    let options = Options::default();
    let mut cluster = Cluster::new();
    run(&mut cluster, &wanted(1, &["a", "b"], &[], &options));
    let mut record = cluster.records[&1].clone();
    record.annotations.clear();
    record.labels.clear();
    record.release.revision = 2;
    record.release.info.status = Status::PendingUpgrade;
    cluster.records.get_mut(&1).unwrap().annotations.clear();
    cluster.records.insert(2, record);
    assert_eq!(run(&mut cluster, &wanted(2, &["a"], &[], &options)), in_sync());
    assert_eq!(
        cluster.log,
        ["2 failed", "3 pending-upgrade", "apply 3", "delete b", "1 superseded", "3 deployed"]
    );
    assert!(cluster.now >= super::sim_tests::at(300));
}

#[test]
fn a_record_that_cannot_be_written_ends_it() {
    let mut machine = Cluster::new().machine(&wanted(1, &["a"], &[], &Options::default()));
    let now = super::sim_tests::at(0);
    let write = machine.next(now);
    assert_eq!(machine.next(now), write);
    machine.answer(&write, Answer::Refused("too large".to_owned()), now);
    assert_eq!(machine.next(now), Action::End(End::Blocked("too large".to_owned())));
}

#[test]
fn jobs_and_pods_are_done_when_they_ended() {
    use serde_json::json;
    let job =
        |conditions| json!({"apiVersion": "batch/v1", "kind": "Job", "status": {"conditions": conditions}});
    let pod = |phase: &str| json!({"apiVersion": "v1", "kind": "Pod", "status": {"phase": phase, "message": "evicted"}});
    let failed = |why: &str| HookState::Failed(why.to_owned());
    for (object, expected) in [
        (json!({"apiVersion": "batch/v1", "kind": "Job"}), HookState::Running),
        (job(json!([{"type": "Complete", "status": "False"}])), HookState::Running),
        (job(json!([{"type": "SuccessCriteriaMet", "status": "True"}])), HookState::Running),
        (job(json!([{"type": "Complete", "status": "True"}])), HookState::Succeeded),
        (job(json!([{"type": "Failed", "status": "True", "message": "too often"}])), failed("too often")),
        (job(json!([{"type": "Failed", "status": "True"}])), failed("it says not why")),
        (json!({"apiVersion": "v1", "kind": "Pod"}), HookState::Running),
        (pod("Pending"), HookState::Running),
        (pod("Succeeded"), HookState::Succeeded),
        (pod("Failed"), failed("evicted")),
        (json!({"apiVersion": "example.com/v1", "kind": "Job"}), HookState::Succeeded),
        (json!({"apiVersion": "v1", "kind": "ConfigMap"}), HookState::Succeeded),
    ] {
        assert_eq!(HookState::of(&object), expected, "{object}");
    }
}

fn options() -> impl Strategy<Value = Options> {
    (0u32..3, any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>(), 0u32..4, any::<bool>()).prop_map(
        |(retries, last, uninstall, retry, test, max_history, keep_history)| {
            let mut options = Options { max_history, replace: true, ..Options::default() };
            for on_failure in [&mut options.on_install_failure, &mut options.on_upgrade_failure] {
                on_failure.retries = Some(retries);
                on_failure.remediate_last_failure = last;
            }
            if uninstall {
                options.on_upgrade_failure.remedy = Remedy::Uninstall;
            }
            if retry && retries > 0 {
                options.upgrade.disable_wait = true;
            }
            options.test.enable = test;
            options.uninstall.keep_history = keep_history;
            options
        },
    )
}

fn fault(number: u8) -> Fault {
    match number {
        0 => Fault::Lost,
        1 => Fault::Undone,
        2 => Fault::Killed,
        _ => Fault::Nothing,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20, ..ProptestConfig::default() })]

    /// Whatever fails, is lost or is killed: each release comes to rest as Helm could have left it, no hook that was done runs
    /// again, none is left out, and nothing is deleted that is wanted or kept. The cluster's own assertions say so.
    #[test]
    fn a_release_comes_to_rest_whatever_happens(
        options in options(),
        wants in prop::collection::vec(0u32..5, 1..5),
        faults in prop::collection::vec(0u8..12, 1..60),
        fates in prop::collection::vec(0u8..8, 1..12),
        bad in 0u32..6,
    ) {
        let mut cluster = Cluster::new();
        let calls = std::cell::Cell::new(0);
        cluster.fates = Box::new(move |_| {
            calls.set(calls.get() + 1);
            match fates[calls.get() % fates.len()] {
                // What is to be uninstalled is tried for as long as it takes.
                _ if calls.get() > 20 => Fate::Succeeds,
                0 => Fate::Fails,
                1 => Fate::Hangs,
                2 => Fate::Vanishes,
                _ => Fate::Succeeds,
            }
        });
        cluster.refuses = Box::new(move |version| version == format!("{bad}.0.0"));
        let objects = [&["a"][..], &["a", "b"], &["b", "kept-c"], &["kept-c", "d", "a"]];
        let mut faults = faults.iter().cycle().map(|number| fault(*number));
        let mut left = 500;
        for version in wants {
            let tests = [("test", "helm.sh/hook: test")];
            let hooks: Vec<_> = HOOKS.into_iter().chain(tests).skip(version as usize % 2).collect();
            let want = match objects.get(version as usize) {
                Some(objects) => wanted(version, objects, &hooks, &options),
                None => gone(&options),
            };
            let end = cluster.run(&want, || {
                left -= 1;
                if left > 0 { faults.next().unwrap() } else { Fault::Nothing }
            });
            cluster.check(&want, &end);
        }
    }
}

#[test]
fn every_stage_has_its_hooks() {
    for (event, name) in [(Event::PreRollback, "pre"), (Event::PostRollback, "post")] {
        let mut options = Options::default();
        options.on_upgrade_failure.retries = Some(0);
        options.on_upgrade_failure.remediate_last_failure = true;
        let annotations = format!("helm.sh/hook: {event}");
        let mut cluster = Cluster::new();
        run(&mut cluster, &wanted(1, &["a"], &[(name, annotations.as_str())], &options));
        assert_eq!(cluster.log, ["1 pending-install", "apply 1", "1 deployed"]);
        cluster.refuses = Box::new(|version| version == "2.0.0");
        run(&mut cluster, &wanted(2, &["a"], &[], &options));
        let apply = cluster.log.iter().position(|it| it == "apply 3").unwrap();
        let hook = cluster.log.iter().position(|it| *it == format!("hook {name}")).unwrap();
        assert_eq!(hook < apply, name == "pre", "{:?}", cluster.log);
    }
}
