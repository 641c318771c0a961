//! The supervised tasks of a process: each has a name and a policy, none is detached, a panic is an error.
//!
//! ```text
//!            spawn(name, policy, future) / spawn_loop(name, policy, backoff, make)
//!                          │ error or panic: shutdown | log (| restart for loops)
//!                          ▼
//! signal, failure ──► shutdown token ──► run(): joins all, aborts what outlives the grace, reports
//! ```

use std::collections::BTreeMap;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use crate::lock;

use futures::FutureExt;
use tokio::task::AbortHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::backoff::Backoff;
pub use crate::chain;
use crate::shutdown::{Signal, Signals};

/// What to do when a task ends in a given way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reaction {
    /// The process cannot do its job without it: shut down and report a failure.
    Shutdown,
    /// Log it and go on.
    Log,
}

/// What shutdown means for a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnShutdown {
    /// It is dropped at its next await: nothing is lost by it.
    Drop,
    /// It watches the shutdown token itself and ends when it has finished what it must.
    Wait,
}

/// What happens to a task that is started once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// It returned an error or panicked.
    pub on_error: Reaction,
    /// It returned `Ok` though no shutdown was asked for.
    pub on_end: Reaction,
    pub on_shutdown: OnShutdown,
}

impl Policy {
    /// A task that the process lives for, such as a server: it must not end by itself.
    pub const ESSENTIAL: Self =
        Self { on_error: Reaction::Shutdown, on_end: Reaction::Shutdown, on_shutdown: OnShutdown::Wait };
    /// A task that does something and is done; its failure is worth a log line.
    pub const ONE_SHOT: Self =
        Self { on_error: Reaction::Log, on_end: Reaction::Log, on_shutdown: OnShutdown::Drop };
}

/// A task that made the process shut down.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("task {task} {what}")]
pub struct TaskFailure {
    /// The task's name.
    pub task: String,
    /// What it did, with the whole chain of causes.
    pub what: String,
}

/// How the process ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The first task whose end asked for the shutdown; none when a signal or the program did.
    pub failure: Option<TaskFailure>,
    /// Tasks that had not ended when the grace was over, by name; they were aborted.
    pub aborted: Vec<String>,
}

impl Report {
    /// 0 when everything ended as asked, else 1.
    pub fn exit_code(&self) -> i32 {
        i32::from(self.failure.is_some() || !self.aborted.is_empty())
    }
}

/// The tasks of the process. Clones share the same tasks.
#[derive(Clone, Default)]
pub struct Tasks(Arc<Inner>);

#[derive(Default)]
struct Inner {
    shutdown: CancellationToken,
    tracker: TaskTracker,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    next: u64,
    running: BTreeMap<u64, Running>,
    failure: Option<TaskFailure>,
}

struct Running {
    name: String,
    /// Unknown for the moment between registering and spawning.
    abort: Option<AbortHandle>,
}

impl Tasks {
    /// With a shutdown token of its own.
    pub fn new() -> Self {
        Self::default()
    }

    /// The token that says that the process is going to end.
    pub fn shutdown(&self) -> &CancellationToken {
        &self.0.shutdown
    }

    /// Starts a task that runs once.
    pub fn spawn<F, E>(&self, name: impl Into<String>, policy: Policy, future: F)
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: std::error::Error + 'static,
    {
        let (name, inner) = (name.into(), self.0.clone());
        self.start(name.clone(), async move {
            let (reaction, what) = match inner.attempt(policy.on_shutdown, future).await {
                Outcome::Dropped => return,
                Outcome::Ended if inner.shutdown.is_cancelled() => return,
                Outcome::Ended => (policy.on_end, "ended".to_owned()),
                Outcome::Failed(what) => (policy.on_error, what),
            };
            match reaction {
                Reaction::Shutdown => inner.fail(TaskFailure { task: name, what }),
                Reaction::Log if what == "ended" => tracing::debug!(task = name, "task ended"),
                Reaction::Log => tracing::warn!(task = name, "task {what}"),
            }
        });
    }

    /// Starts a task that is made anew, after a delay, whenever it ends, fails or panics before shutdown. A
    /// run that outlives the longest delay counts as a success and resets the backoff.
    pub fn spawn_loop<M, F, E>(
        &self,
        name: impl Into<String>,
        on_shutdown: OnShutdown,
        backoff: Backoff,
        mut make: M,
    ) where
        M: FnMut() -> F + Send + 'static,
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: std::error::Error + 'static,
    {
        let (name, inner) = (name.into(), self.0.clone());
        self.start(name.clone(), async move {
            let mut backoff = backoff;
            loop {
                let started = Instant::now();
                let what = match inner.attempt(on_shutdown, make()).await {
                    Outcome::Dropped => return,
                    Outcome::Ended => "ended".to_owned(),
                    Outcome::Failed(what) => what,
                };
                if inner.shutdown.is_cancelled() {
                    return;
                }
                if started.elapsed() > backoff.longest() {
                    backoff.reset();
                }
                tracing::warn!(task = name, "task {what}, starting it again");
                tokio::select! {
                    () = backoff.wait() => {}
                    () = inner.shutdown.cancelled() => return,
                }
            }
        });
    }

    /// Waits for a signal or a failure that shuts the process down, then joins all tasks: those that are
    /// still there after `grace` are aborted and named. A second signal ends the process at once, with the
    /// signal's exit code.
    ///
    /// The process ends even where something blocks a thread of the runtime: a while after the grace it is ended hard.
    pub async fn run(&self, signals: Signals, grace: Duration) -> Report {
        let shutdown = self.0.shutdown.clone();
        tokio::spawn(async move {
            shutdown.cancelled().await;
            std::thread::spawn(move || end_hard(grace + AFTER_GRACE));
        });
        match self.run_until_second_signal(signals, grace).await {
            Ok(report) => report,
            Err(signal) => {
                tracing::error!(running = ?self.names(), "{} again, ending at once", signal.name());
                std::process::exit(signal.exit_code())
            }
        }
    }

    async fn run_until_second_signal(&self, mut signals: Signals, grace: Duration) -> Result<Report, Signal> {
        let mut received = 0;
        tokio::select! {
            signal = signals.recv() => {
                received += 1;
                tracing::info!("{}, shutting down", signal.name());
                self.0.shutdown.cancel();
            }
            () = self.0.shutdown.cancelled() => tracing::info!("shutting down"),
        }
        let join = self.join(grace);
        tokio::pin!(join);
        loop {
            tokio::select! {
                report = &mut join => return Ok(report),
                signal = signals.recv() => {
                    received += 1;
                    if received >= 2 {
                        return Err(signal);
                    }
                    tracing::info!("{}, already shutting down; again to end at once", signal.name());
                }
            }
        }
    }

    /// Asks for shutdown and joins all tasks, as [`Tasks::run`] does after the first signal.
    pub async fn join(&self, grace: Duration) -> Report {
        self.0.shutdown.cancel();
        self.0.tracker.close();
        let mut aborted = Vec::new();
        if tokio::time::timeout(grace, self.0.tracker.wait()).await.is_err() {
            for running in self.0.state().running.values() {
                tracing::error!(task = running.name, "task did not end within {grace:?}, aborting it");
                aborted.push(running.name.clone());
                running.abort.iter().for_each(AbortHandle::abort);
            }
        }
        Report { failure: self.0.state().failure.clone(), aborted }
    }

    /// The names of the tasks that run now, in the order of their start.
    pub fn names(&self) -> Vec<String> {
        self.0.state().running.values().map(|running| running.name.clone()).collect()
    }

    fn start(&self, name: String, supervised: impl Future<Output = ()> + Send + 'static) {
        let id = {
            let mut state = self.0.state();
            state.next += 1;
            let id = state.next;
            state.running.insert(id, Running { name, abort: None });
            id
        };
        let registered = Registered { inner: self.0.clone(), id };
        let handle = self.0.tracker.spawn(async move {
            let _registered = registered;
            supervised.await;
        });
        if let Some(running) = self.0.state().running.get_mut(&id) {
            running.abort = Some(handle.abort_handle());
        }
    }
}

/// Takes the task off the list however it ends.
struct Registered {
    inner: Arc<Inner>,
    id: u64,
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.inner.state().running.remove(&self.id);
    }
}

enum Outcome {
    /// Shutdown came first.
    Dropped,
    Ended,
    /// What it did, as the end of a sentence that starts with the task's name.
    Failed(String),
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    async fn attempt<E: std::error::Error>(
        &self,
        on_shutdown: OnShutdown,
        future: impl Future<Output = Result<(), E>>,
    ) -> Outcome {
        let caught = AssertUnwindSafe(future).catch_unwind();
        let result = match on_shutdown {
            OnShutdown::Wait => caught.await,
            OnShutdown::Drop => tokio::select! {
                biased;
                () = self.shutdown.cancelled() => return Outcome::Dropped,
                result = caught => result,
            },
        };
        match result {
            Ok(Ok(())) => Outcome::Ended,
            Ok(Err(error)) => Outcome::Failed(format!("failed: {}", chain(&error))),
            Err(panic) => Outcome::Failed(format!("panicked: {}", panic_message(panic.as_ref()))),
        }
    }

    fn fail(&self, failure: TaskFailure) {
        tracing::error!(task = failure.task, "task {}, shutting down", failure.what);
        self.state().failure.get_or_insert(failure);
        self.shutdown.cancel();
    }
}

/// How long after the grace a process may take to end.
const AFTER_GRACE: Duration = Duration::from_secs(10);

/// Ends the process if it is still there after `time`.
fn end_hard(time: Duration) {
    std::thread::sleep(time);
    tracing::error!("the process does not end after {time:?}; it is killed");
    std::process::exit(1);
}

/// What a panic said.
pub fn panic_message(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("without a message")
}

#[cfg(test)]
#[path = "tasks_tests.rs"]
mod tests;
