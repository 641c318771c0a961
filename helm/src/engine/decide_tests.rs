use super::super::memo::{Progress, Stage};
use super::*;

const NOW: i64 = 1_800_000_000;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(NOW + seconds).unwrap()
}

/// What is wanted, under a definition and of a content that the memos below call by their names.
fn wanted(options: &Options) -> Goal<'_> {
    Goal::Run { content: Digest::of(b"new"), spec: Digest::of(b"this"), chart: "web", options }
}

/// A revision from words: its number and status, then what is special of it.
///
/// `other`: somebody else's; `managed`: and it was ours once; `begun=-10`: so many seconds from now; `of-install`; `rollback`,
/// `uninstall`; `remedy`, `replaced`, `removed`; `spec=that`, `content=old`; `failures=2`, `remedies=3`; `tested=true`;
/// `ended=-10`; `busy` and `testing`: unfinished; `chart=api`.
fn revision(words: &str) -> Revision {
    let mut words = words.split(' ');
    let number = words.next().unwrap().parse().unwrap();
    let status = Status::read(words.next().unwrap()).unwrap();
    let mut memo = Memo {
        attempt: Attempt::Upgrade,
        cause: Cause::Changed,
        of: Release::Upgrade,
        spec: Digest::of(b"this"),
        content: Some(Digest::of(b"new")),
        begun: at(-100),
        ended: None,
        failures: Failures::default(),
        failed_remedies: 0,
        tested: None,
        progress: None,
    };
    let (mut is_other, mut failures) = (false, 0);
    let mut revision =
        Revision { number, status, begun: Some(at(-100)), chart: "web".into(), is_managed: true, memo: None };
    for word in words {
        let (word, value) = word.split_once('=').unwrap_or((word, ""));
        let digest = Digest::of(value.as_bytes());
        match word {
            "other" => (is_other, revision.is_managed) = (true, false),
            "managed" => revision.is_managed = true,
            "begun" => revision.begun = Some(at(value.parse().unwrap())),
            "of-install" => (memo.attempt, memo.of) = (Attempt::Install, Release::Install),
            "rollback" => memo.attempt = Attempt::Rollback { to: 1 },
            "uninstall" => memo.attempt = Attempt::Uninstall,
            "remedy" => memo.cause = Cause::Remedy,
            "replaced" => memo.cause = Cause::Replaced,
            "removed" => memo.cause = Cause::Removed,
            "spec" => memo.spec = digest,
            "content" => memo.content = Some(digest),
            "failures" => failures = value.parse().unwrap(),
            "remedies" => memo.failed_remedies = value.parse().unwrap(),
            "tested" => memo.tested = Some(value == "true"),
            "ended" => memo.ended = Some(at(value.parse().unwrap())),
            "busy" | "testing" => {
                let stage = if word == "busy" { Stage::Before } else { Stage::Test };
                memo.progress = Some(Progress { stage, since: at(-9), hooks: 0, run: None });
            }
            "chart" => revision.chart = value.to_owned(),
            other => panic!("{other}"),
        }
    }
    match memo.of {
        Release::Install => memo.failures.install = failures,
        Release::Upgrade => memo.failures.upgrade = failures,
    }
    revision.memo = (!is_other).then_some(memo);
    revision
}

fn told(decision: Decision) -> String {
    match decision {
        Decision::Resume => "resume".to_owned(),
        Decision::Test => "test".to_owned(),
        Decision::GiveUp { .. } => "give up".to_owned(),
        Decision::Begin(Begin { attempt, cause, failures, .. }) => {
            let attempt = match attempt {
                Attempt::Rollback { to } => format!("rollback to {to}"),
                other => format!("{other:?}"),
            };
            format!("{attempt} {cause:?} {}", failures.install + failures.upgrade).to_lowercase()
        }
        Decision::Rest(Rest::Wait { until, why }) => {
            format!("wait {} {why:?}", until.as_second() - NOW).to_lowercase()
        }
        Decision::Rest(Rest::Stuck(Stuck::Exhausted { of, failures })) => {
            format!("exhausted {of:?} {failures}").to_lowercase()
        }
        Decision::Rest(rest) => match rest {
            Rest::InSync => "rest in sync".to_owned(),
            Rest::Gone => "rest gone".to_owned(),
            rest => format!("{rest:?}").to_lowercase(),
        },
    }
}

fn check(options: &Options, goal: Goal<'_>, cases: &[(&[&str], &str)]) {
    for (history, expected) in cases {
        let revisions: Vec<Revision> = history.iter().map(|words| revision(words)).collect();
        assert_eq!(told(decide(&revisions, &goal, at(0))), *expected, "{history:?} with {options:?}");
    }
}

fn with(change: impl Fn(&mut Options)) -> Options {
    let mut options = Options::default();
    change(&mut options);
    options
}

#[test]
fn what_is_wanted_is_installed_and_upgraded_to() {
    let options = Options::default();
    check(
        &options,
        wanted(&options),
        &[
            (&[], "install absent 0"),
            (&["1 deployed of-install"], "rest in sync"),
            // Other options alone upgrade nothing.
            (&["1 deployed spec=that"], "rest in sync"),
            (&["1 deployed spec=that content=old"], "upgrade changed 0"),
            // The chart has another name.
            (&["1 deployed spec=that content=old chart=api"], "uninstall replaced 0"),
            (&["1 deployed content=old chart=api", "2 uninstalled uninstall replaced"], "install absent 0"),
            (&["1 failed uninstall replaced chart=api remedies=2"], "uninstall replaced 0"),
            (&["1 failed uninstall replaced chart=api remedies=3"], "stuck(remedyfailed)"),
            // Under way.
            (&["1 pending-install of-install busy"], "resume"),
            (&["1 deployed", "2 pending-upgrade busy"], "resume"),
            (&["1 deployed", "2 pending-upgrade busy spec=that"], "give up"),
            (&["1 uninstalling uninstall busy spec=that"], "resume"),
            // It was given up, under the same definition or another.
            (&["1 failed"], "upgrade retry 0"),
            (&["1 failed spec=that failures=9"], "upgrade changed 0"),
            // It was uninstalled, and its records were kept.
            (&["1 uninstalled uninstall removed"], "stuck(nametaken)"),
            (&["1 failed uninstall removed"], "upgrade changed 0"),
            // Nothing that anybody should leave behind.
            (&["1 deployed", "2 superseded"], "upgrade foreign 0"),
            (&["1 unknown"], "upgrade foreign 0"),
            (&["1 pending-upgrade"], "upgrade foreign 0"),
        ],
    );
    let options = with(|options| options.replace = true);
    check(&options, wanted(&options), &[(&["1 uninstalled uninstall removed"], "install absent 0")]);
    let options = with(|options| options.chart_name_change = ChartNameChange::InPlaceUpdate);
    check(
        &options,
        wanted(&options),
        &[(&["1 deployed spec=that content=old chart=api"], "upgrade changed 0")],
    );
}

#[test]
fn what_others_did_is_taken_over_and_never_deleted() {
    let options = Options::default();
    check(
        &options,
        wanted(&options),
        &[
            (&["1 superseded other", "2 deployed other"], "upgrade adopted 0"),
            (&["1 failed other"], "upgrade adopted 0"),
            (&["1 deployed other chart=api"], "upgrade adopted 0"),
            (&["1 superseded", "2 deployed other"], "upgrade foreign 0"),
            (&["1 superseded other managed", "2 deployed other managed"], "upgrade foreign 0"),
            // Somebody may be at it.
            (&["1 pending-install other begun=-100"], "wait 200 forother"),
            (&["1 superseded", "2 pending-rollback other begun=-100"], "wait 200 forother"),
            (&["1 pending-install other begun=-300"], "give up"),
            (&["1 uninstalling other begun=-100"], "wait 200 forother"),
            (&["1 uninstalling other begun=-300"], "upgrade adopted 0"),
            (&["1 uninstalled other"], "stuck(nametaken)"),
        ],
    );
    let gone = Goal::Gone { options: &options };
    check(
        &options,
        gone,
        &[
            (&["1 superseded other", "2 deployed other"], "rest gone"),
            (&["1 pending-install other"], "rest gone"),
            (&["1 superseded", "2 pending-upgrade other managed"], "wait 200 forother"),
            (&["1 superseded", "2 pending-upgrade other managed begun=-300"], "give up"),
        ],
    );
    let options = with(|options| options.upgrade.timeout = 900);
    check(&options, wanted(&options), &[(&["1 pending-upgrade other begun=-300"], "wait 600 forother")]);
}

#[test]
fn what_is_not_wanted_is_uninstalled() {
    let options = Options::default();
    let gone = Goal::Gone { options: &options };
    check(
        &options,
        gone,
        &[
            (&[], "rest gone"),
            (&["1 deployed"], "uninstall removed 0"),
            (&["1 pending-upgrade busy"], "uninstall removed 0"),
            (&["1 deployed testing"], "uninstall removed 0"),
            (&["1 superseded", "2 deployed other managed"], "uninstall removed 0"),
            (&["1 superseded", "2 uninstalled other managed"], "rest gone"),
            (&["1 uninstalling uninstall removed busy"], "resume"),
            (&["1 uninstalling uninstall remedy busy"], "resume"),
            (&["1 uninstalled uninstall remedy"], "uninstall removed 0"),
            (&["1 failed uninstall removed ended=-10"], "wait 50 toretry"),
            (&["1 failed uninstall removed ended=-60"], "uninstall removed 0"),
        ],
    );
    let options = with(|options| options.uninstall.keep_history = true);
    let gone = Goal::Gone { options: &options };
    check(&options, gone, &[(&["1 uninstalled uninstall removed"], "rest gone")]);
}

#[test]
fn what_failed_is_put_right_and_tried_again_as_its_author_says() {
    // By default nothing is tried again, and it stays as it is.
    let options = Options::default();
    check(
        &options,
        wanted(&options),
        &[
            (&["1 failed of-install failures=1"], "exhausted install 1"),
            (&["1 deployed", "2 failed failures=1"], "exhausted upgrade 1"),
        ],
    );

    let options = with(|options| {
        options.on_install_failure.retries = Some(2);
        options.on_upgrade_failure.retries = Some(2);
        options.on_upgrade_failure.remediate_last_failure = true;
    });
    check(
        &options,
        wanted(&options),
        &[
            // An install is uninstalled and tried again.
            (&["1 failed of-install failures=1"], "uninstall remedy 1"),
            (&["1 uninstalled of-install uninstall remedy failures=1"], "install retry 1"),
            (&["1 failed of-install failures=2"], "uninstall remedy 2"),
            (&["1 failed of-install failures=3"], "exhausted install 3"),
            (&["1 uninstalled of-install uninstall remedy failures=3"], "exhausted install 3"),
            (&["1 uninstalled of-install uninstall remedy failures=3 spec=that"], "install absent 0"),
            // An upgrade is rolled back.
            (&["1 deployed content=old spec=that", "2 failed failures=1"], "rollback to 1 remedy 1"),
            (
                &[
                    "1 superseded content=old spec=that",
                    "2 failed failures=1",
                    "3 deployed rollback remedy content=old failures=1",
                ],
                "upgrade retry 1",
            ),
            // The last failure too; then it stays so.
            (&["1 deployed content=old spec=that", "2 failed failures=3"], "rollback to 1 remedy 3"),
            (
                &["1 superseded content=old spec=that", "3 deployed rollback remedy content=old failures=3"],
                "exhausted upgrade 3",
            ),
            // A rollback that failed is rolled back to the same revision, but not for ever.
            (
                &["1 deployed", "2 failed failures=1", "3 failed rollback remedy failures=1 remedies=1"],
                "rollback to 1 remedy 1",
            ),
            (
                &["1 deployed", "2 failed failures=1", "3 failed rollback remedy failures=1 remedies=3"],
                "stuck(remedyfailed)",
            ),
            // What failed its tests, or failed itself, is nothing to go back to.
            (&["1 superseded", "2 superseded tested=false", "3 failed failures=1"], "rollback to 1 remedy 1"),
            (&["1 superseded other", "2 failed failures=1"], "rollback to 1 remedy 1"),
            (&["1 failed", "2 failed failures=1"], "stuck(norollbacktarget)"),
            (&["2 failed failures=1"], "stuck(norollbacktarget)"),
        ],
    );

    let options = with(|options| {
        options.on_upgrade_failure.retries = Some(1);
        options.on_upgrade_failure.remedy = Remedy::Uninstall;
    });
    check(
        &options,
        wanted(&options),
        &[
            (&["1 deployed", "2 failed failures=1"], "uninstall remedy 1"),
            // How often it could be upgraded does not count against installing it.
            (&["1 deployed", "2 uninstalled uninstall remedy failures=9"], "install retry 9"),
        ],
    );

    let options = with(|options| options.on_upgrade_failure.retries = None);
    check(
        &options,
        wanted(&options),
        &[(&["1 deployed", "2 failed failures=1000"], "rollback to 1 remedy 1000")],
    );

    let options = with(|options| {
        options.on_install_failure.retry_interval = Some(30);
        options.on_upgrade_failure.retry_interval = Some(30);
    });
    check(
        &options,
        wanted(&options),
        &[
            (&["1 failed of-install failures=7 ended=-10"], "wait 20 toretry"),
            (&["1 failed of-install failures=7 ended=-30"], "upgrade retry 7"),
            (&["1 deployed", "2 failed failures=7 ended=-10"], "wait 20 toretry"),
            (&["1 deployed", "2 failed failures=7"], "upgrade retry 7"),
        ],
    );
}

#[test]
fn tests_run_once_and_their_failure_is_the_releases() {
    let options = with(|options| {
        options.test.enable = true;
        options.on_upgrade_failure.retries = Some(1);
    });
    check(
        &options,
        wanted(&options),
        &[
            (&["1 deployed"], "test"),
            (&["1 deployed tested=true"], "rest in sync"),
            (&["1 deployed testing"], "resume"),
            (&["1 deployed testing spec=that"], "resume"),
            (&["1 deployed testing spec=that content=old"], "give up"),
            (&["1 superseded content=old", "2 deployed tested=false failures=1"], "rollback to 1 remedy 1"),
            (
                &["1 superseded content=old", "2 deployed tested=false failures=1 spec=that"],
                "upgrade changed 0",
            ),
            // What was gone back to is what is wanted, and untested.
            (&["2 failed failures=1", "3 deployed rollback remedy failures=1"], "test"),
        ],
    );
    let options = with(|options| {
        options.test.enable = true;
        options.on_upgrade_failure.ignore_test_failures = true;
    });
    check(&options, wanted(&options), &[(&["1 deployed tested=false failures=1"], "rest in sync")]);
    let options = Options::default();
    check(
        &options,
        wanted(&options),
        &[(&["1 deployed tested=false failures=1"], "rest in sync"), (&["1 deployed testing"], "give up")],
    );
}

#[test]
fn damaged_times_end_in_no_panic() {
    let options = Options::default();
    for time in [Timestamp::MAX, Timestamp::MIN] {
        let mut failed = revision("1 failed uninstall removed");
        failed.memo.as_mut().unwrap().ended = Some(time);
        assert_eq!(told(decide(&[failed], &Goal::Gone { options: &options }, at(0))), "uninstall removed 0");
        let mut pending = revision("1 pending-install other");
        pending.begun = Some(time);
        assert_eq!(told(decide(&[pending], &wanted(&options), at(0))), "give up");
    }
}
