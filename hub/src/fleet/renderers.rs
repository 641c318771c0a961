//! The threads that render clusters, a few at once, each with a deadline.
//!
//! ```text
//!   round: tasks ──► hand out, as many as there are processors ──► threads ──► done: publish
//!                        │ after PATIENCE the round waits for it no longer, and its place is given to another
//!                        │ after the deadline it is told to end
//!                        └─► its result comes with a later round; until then nothing else is rendered for that cluster
//! ```
//!
//! A thread cannot be ended from outside. One that goes on costs a processor's time, which is counted and said; the others
//! have places of their own.

use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use flotilla_core::ClusterName;
use flotilla_runtime::lock;
use flotilla_runtime::tasks::panic_message;
use tokio::sync::watch;

use super::cluster::{ClusterError, Made, Shared};
use super::tasks::Task;

/// While so many renders go on that nobody waits for any more, no others are begun.
const MOST_LATE: usize = 16;
/// The state of renders is looked at so often at least, and whether the hub ends.
pub(super) const LOOK: Duration = Duration::from_millis(200);
/// Deep trees are walked here; what is not used is not taken from memory.
pub(super) const STACK: usize = 16 << 20;

/// How long rounds wait for a cluster's render.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// A round waits so long for one cluster, then goes on without it.
    pub round: Duration,
    /// A render is told to end after this time.
    pub deadline: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { round: Duration::from_secs(10), deadline: Duration::from_secs(120) }
    }
}

/// A render that is over.
pub(super) struct Done {
    pub(super) task: Task,
    pub(super) made: Result<Made, ClusterError>,
    /// No round waited for it any more.
    pub(super) is_late: bool,
}

/// What a cluster's render is doing.
struct Running {
    since: Instant,
    is_ended: Arc<AtomicBool>,
    is_late: Arc<AtomicBool>,
}

/// With what it works on: an idle thread holds nothing.
type Job = (Arc<Shared>, Task, Arc<AtomicBool>);

pub(super) struct Renderers {
    shared: Arc<Shared>,
    patience: Patience,
    /// Places for renders that a round waits for.
    places: usize,
    threads: usize,
    jobs: mpsc::Sender<Job>,
    waiting: Arc<Mutex<mpsc::Receiver<Job>>>,
    done: mpsc::Receiver<Done>,
    sender: mpsc::Sender<Done>,
    running: BTreeMap<ClusterName, Running>,
    /// Ticks when a late render is over.
    late: watch::Sender<u64>,
    /// The hub ends: nothing is waited for any more.
    stop: Arc<AtomicBool>,
}

impl Renderers {
    pub(super) fn new(shared: Arc<Shared>, patience: Patience) -> Self {
        let places = thread::available_parallelism().map_or(1, usize::from);
        let (jobs, waiting) = mpsc::channel();
        let (sender, done) = mpsc::channel();
        let waiting = Arc::new(Mutex::new(waiting));
        let (running, late, stop) = (BTreeMap::new(), watch::Sender::new(0), Arc::default());
        Self { shared, patience, places, threads: 0, jobs, waiting, done, sender, running, late, stop }
    }

    pub(super) fn late(&self) -> watch::Receiver<u64> {
        self.late.subscribe()
    }

    /// Ends all renders, and the round that waits for them.
    pub(super) fn stop(&self) -> Arc<AtomicBool> {
        self.stop.clone()
    }

    /// How long each cluster has been rendered for that no round waits for.
    pub(super) fn overdue(&self) -> BTreeMap<ClusterName, Duration> {
        let late = self.running.iter().filter(|(_, running)| running.is_late.load(Ordering::Relaxed));
        late.map(|(name, running)| (name.clone(), running.since.elapsed())).collect()
    }

    /// Renders that ended since the last round.
    pub(super) fn finished(&mut self) -> Vec<Done> {
        let mut finished = Vec::new();
        while let Ok(done) = self.done.try_recv() {
            finished.push(self.take(done));
        }
        finished
    }

    /// Renders clusters, and hands over each as it is done; `None`: it may be a while until the next is. What takes longer than
    /// a round waits is left for later rounds; the tasks that found no place come back.
    pub(super) fn render(&mut self, tasks: Vec<Task>, mut over: impl FnMut(Option<Done>)) -> Vec<Task> {
        let mut tasks = VecDeque::from(tasks);
        loop {
            if self.stop.load(Ordering::Relaxed) {
                self.running.values().for_each(|running| running.is_ended.store(true, Ordering::Relaxed));
                return tasks.into();
            }
            let (late, waited_for) = self.look_after();
            let free = if late < MOST_LATE { self.places.saturating_sub(waited_for) } else { 0 };
            for task in tasks.drain(..free.min(tasks.len())).collect::<Vec<_>>() {
                self.start(task);
            }
            let waited_for = self.running.len() - late;
            if waited_for == 0 {
                // Some may have ended just when they were given up.
                self.finished().into_iter().map(Some).for_each(&mut over);
                return tasks.into();
            }
            match self.done.recv_timeout(self.next_look()) {
                Ok(done) => {
                    let done = self.take(done);
                    over(Some(done));
                }
                Err(_) => over(None),
            }
        }
    }

    /// Gives up waiting for what takes too long; how many are late, and how many are waited for.
    fn look_after(&mut self) -> (usize, usize) {
        let mut late = 0;
        for (name, running) in &self.running {
            let since = running.since.elapsed();
            if since >= self.patience.deadline && !running.is_ended.swap(true, Ordering::Relaxed) {
                tracing::error!(
                    cluster = name.as_str(),
                    seconds = since.as_secs(),
                    "rendering takes too long and is told to end; what the cluster runs is kept"
                );
            }
            if running.is_late.load(Ordering::Relaxed) {
                late += 1;
            } else if since >= self.patience.round {
                tracing::warn!(cluster = name.as_str(), "rendering takes long; the round goes on without it");
                running.is_late.store(true, Ordering::Relaxed);
                late += 1;
            }
        }
        (late, self.running.len() - late)
    }

    /// Until one of those that are waited for is late, or any has to end.
    fn next_look(&self) -> Duration {
        let Patience { round, deadline } = self.patience;
        let left = self.running.values().map(|running| {
            let limit = if running.is_late.load(Ordering::Relaxed) { deadline } else { round };
            limit.saturating_sub(running.since.elapsed())
        });
        left.filter(|left| !left.is_zero()).min().unwrap_or(LOOK).min(LOOK)
    }

    fn start(&mut self, task: Task) {
        let is_late = Arc::<AtomicBool>::default();
        let running =
            Running { since: Instant::now(), is_ended: task.is_ended.clone(), is_late: is_late.clone() };
        self.running.insert(task.cluster.name.clone(), running);
        if self.threads < self.running.len() {
            self.threads += 1;
            self.spawn();
        }
        self.jobs.send((self.shared.clone(), task, is_late)).expect("this holds the receiver");
    }

    fn spawn(&self) {
        let (waiting, done, late) = (self.waiting.clone(), self.sender.clone(), self.late.clone());
        let work = move || {
            loop {
                let job = lock(&waiting).recv();
                let Ok((shared, task, is_late)) = job else { return };
                let made = caught(|| shared.render(&task)).unwrap_or_else(|panic| Err(panic.into()));
                drop(shared);
                if done.send(Done { task, made, is_late: false }).is_err() {
                    return;
                }
                if is_late.load(Ordering::Relaxed) {
                    late.send_modify(|count| *count += 1);
                }
            }
        };
        thread::Builder::new()
            .name("render".to_owned())
            .stack_size(STACK)
            .spawn(work)
            .expect("the machine has a thread more");
    }

    fn take(&mut self, done: Done) -> Done {
        let running = self.running.remove(&done.task.cluster.name);
        let Some(running) = running else { return done };
        let is_late = running.is_late.load(Ordering::Relaxed);
        if running.is_ended.load(Ordering::Relaxed) && !matches!(done.made, Err(ClusterError::Panicked(_))) {
            // What was read after it was told to end is not whole.
            let made = Err(ClusterError::Ended(self.patience.deadline.as_secs()));
            return Done { made, is_late, ..done };
        }
        Done { is_late, ..done }
    }
}

/// The hub made a mistake over some input.
#[derive(Debug, thiserror::Error)]
#[error("the hub made a mistake here ({0}); please report it with the lines about it in the hub's log")]
pub(crate) struct Panicked(String);

/// A panic of `work` as an error: one cluster's input must not take the others along. Where it panicked is logged by the
/// process's panic hook.
pub(crate) fn caught<T>(work: impl FnOnce() -> T) -> Result<T, Panicked> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| Panicked(panic_message(panic.as_ref()).to_owned()))
}
