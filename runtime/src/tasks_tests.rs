use std::io;
use std::io::BufRead;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

const GRACE: Duration = Duration::from_secs(5);

fn broken() -> io::Error {
    io::Error::other("disk on fire")
}

/// Runs a task under a policy to the end of the process and tells the failure that ended it, if any.
async fn ended_by<F>(policy: Policy, future: F) -> Option<TaskFailure>
where
    F: Future<Output = io::Result<()>> + Send + 'static,
{
    let tasks = Tasks::new();
    tasks.spawn("probe", policy, future);
    let (_keep, signals) = tokio::sync::mpsc::channel(1);
    let run = tasks.run_until_second_signal(Signals::scripted(signals), GRACE);
    match tokio::time::timeout(Duration::from_secs(60), run).await {
        Ok(report) => report.unwrap().failure,
        Err(_) => None,
    }
}

#[tokio::test(start_paused = true)]
async fn the_policy_decides_what_an_end_means() {
    let log = Policy { on_error: Reaction::Log, on_end: Reaction::Log, on_shutdown: OnShutdown::Wait };
    assert_eq!(ended_by(log, async { Ok(()) }).await, None);
    assert_eq!(ended_by(log, async { Err(broken()) }).await, None);
    assert_eq!(ended_by(log, async { panic!("boom") }).await, None);

    let failure = |what: &str| Some(TaskFailure { task: "probe".into(), what: what.into() });
    assert_eq!(ended_by(Policy::ESSENTIAL, async { Ok(()) }).await, failure("ended"));
    assert_eq!(ended_by(Policy::ESSENTIAL, async { Err(broken()) }).await, failure("failed: disk on fire"));
    assert_eq!(
        ended_by(Policy::ESSENTIAL, async { panic!("boom {}", 1) }).await,
        failure("panicked: boom 1")
    );
}

#[tokio::test(start_paused = true)]
async fn a_loop_is_started_again_after_errors_ends_and_panics() {
    let tasks = Tasks::new();
    let runs = Arc::new(AtomicUsize::new(0));
    let count = runs.clone();
    let shutdown = tasks.shutdown().clone();
    tasks.spawn_loop("loop", OnShutdown::Drop, Backoff::new(GRACE, GRACE), move || {
        let (run, shutdown) = (count.fetch_add(1, Ordering::SeqCst), shutdown.clone());
        async move {
            match run {
                0 => Ok(()),
                1 => Err(broken()),
                2 => panic!("boom"),
                _ => {
                    shutdown.cancel();
                    std::future::pending().await
                }
            }
        }
    });
    tasks.shutdown().cancelled().await;
    let report = tasks.join(GRACE).await;
    assert_eq!(report, Report { failure: None, aborted: Vec::new() });
    assert_eq!(runs.load(Ordering::SeqCst), 4);
}

#[tokio::test(start_paused = true)]
async fn shutdown_waits_for_those_that_must_finish_and_aborts_those_that_never_do() {
    let tasks = Tasks::new();
    let flushed = Arc::new(AtomicUsize::new(0));
    let (token, flush) = (tasks.shutdown().clone(), flushed.clone());
    tasks.spawn("flusher", Policy::ESSENTIAL, async move {
        token.cancelled().await;
        tokio::time::sleep(GRACE / 2).await;
        flush.store(1, Ordering::SeqCst);
        Ok::<_, io::Error>(())
    });
    tasks.spawn("idler", Policy { on_shutdown: OnShutdown::Drop, ..Policy::ESSENTIAL }, async {
        std::future::pending::<io::Result<()>>().await
    });
    tasks.spawn("stuck", Policy::ESSENTIAL, std::future::pending::<io::Result<()>>());
    assert_eq!(tasks.names(), ["flusher", "idler", "stuck"]);
    let report = tasks.join(GRACE).await;
    assert_eq!(report, Report { failure: None, aborted: vec!["stuck".into()] });
    assert_eq!((report.exit_code(), flushed.load(Ordering::SeqCst)), (1, 1));
    tokio::time::timeout(GRACE, tasks.0.tracker.wait()).await.expect("the aborted task is gone");
}

#[tokio::test(start_paused = true)]
async fn the_first_signal_asks_and_the_second_does_not() {
    let tasks = Tasks::new();
    tasks.spawn("stuck", Policy::ESSENTIAL, std::future::pending::<io::Result<()>>());
    let (send, signals) = tokio::sync::mpsc::channel(2);
    send.send(Signal::Terminate).await.unwrap();
    send.send(Signal::Interrupt).await.unwrap();
    let ended = tasks.run_until_second_signal(Signals::scripted(signals), GRACE).await;
    assert_eq!(ended, Err(Signal::Interrupt));
    assert!(tasks.shutdown().is_cancelled());
}

#[test]
fn an_error_is_told_with_its_causes() {
    #[derive(Debug, thiserror::Error)]
    #[error("cannot save")]
    struct Outer(#[source] io::Error);
    assert_eq!(chain(&Outer(broken())), "cannot save: disk on fire");
}

const CHILD: &str = "FLOTILLA_TEST_SIGNAL_CHILD";

/// The process that the next test sends signals to.
#[test]
fn child_that_never_finishes() {
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let signals = Signals::install().unwrap();
        let tasks = Tasks::new();
        let token = tasks.shutdown().clone();
        tasks.spawn("stuck", Policy::ESSENTIAL, async move {
            eprintln!("child: ready");
            token.cancelled().await;
            eprintln!("child: asked");
            std::future::pending::<io::Result<()>>().await
        });
        tasks.run(signals, Duration::from_secs(3600)).await;
    });
}

#[test]
fn a_real_second_signal_ends_the_process_at_once() {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "tasks::tests::child_that_never_finishes", "--nocapture"])
        .env(CHILD, "1")
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let pid = child.id().to_string();
    let mut lines = io::BufReader::new(child.stderr.take().unwrap()).lines();
    for wanted in ["child: ready", "child: asked"] {
        assert!(lines.any(|line| line.unwrap().contains(wanted)), "the child never said {wanted:?}");
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    }
    assert_eq!(child.wait().unwrap().code(), Some(143));
}

#[test]
fn what_a_cause_repeats_is_said_once() {
    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct Said(&'static str, #[source] Option<Box<Said>>);
    let said = |texts: &[&'static str]| {
        texts.iter().rev().fold(None, |cause, text| Some(Box::new(Said(text, cause)))).unwrap()
    };
    for (texts, expected) in [
        (&["a"][..], "a"),
        (&["cannot write x", "disk full"], "cannot write x: disk full"),
        (&["cannot write x: disk full", "disk full"], "cannot write x: disk full"),
        (&["Service: connect: refused", "connect: refused", "refused"], "Service: connect: refused"),
        (
            &["client: connect: refused", "connect", "refused", "os error"],
            "client: connect: refused: os error",
        ),
    ] {
        assert_eq!(chain(&*said(texts)), expected, "{texts:?}");
    }
}
