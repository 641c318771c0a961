//! Executes on the cluster what the engine of Helm releases decides (`flotilla_helm::engine`).
//!
//! ```text
//!   records ─► Machine ─► action ─► records, hooks: here; the manifest: Objects, which is the apply engine
//!      ▲                    │
//!      └── read anew ◄──────┴── answer
//! ```
//! All requests are made in the name of the release's account.

mod deletions;
mod hooks;
mod records;

use std::future::Future;
use std::time::Duration;

use flotilla_core::ServiceAccount;
use flotilla_core::inventory::Uid;
use flotilla_core::unit::release::Propagation;
use flotilla_helm::Release;
use flotilla_helm::engine::machine::{Action, Answer, End, Machine, Want};
use flotilla_helm::engine::{ActionOptions, Target};
use flotilla_runtime::{Backoff, chain};
use jiff::Timestamp;
use tokio::time::Instant;

use crate::cluster::Cluster;
use crate::cluster::request::Failure;

pub use records::UnreadRecords;

/// Requests under way at once, of one release.
const IN_FLIGHT: usize = 8;
/// The clock of timers is coarser than that of records.
const LEAST_PAUSE: Duration = Duration::from_millis(1);
/// The longest pause after an answer that did not come.
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// Applies the manifests of revisions.
pub trait Objects: Send + Sync {
    /// Applies the manifest of a revision; answers as [`Action::Apply`] says.
    fn apply(&self, revision: &Release, options: &ActionOptions) -> impl Future<Output = Answer> + Send;
    /// Whether its objects are ready; answers as [`Action::Ready`] says.
    fn ready(&self, revision: &Release, jobs: bool) -> impl Future<Output = Answer> + Send;
}

/// One release of the cluster.
pub struct Executor<'a, O> {
    cluster: Cluster,
    target: Target,
    propagation: Propagation,
    objects: &'a O,
}

impl<'a, O: Objects> Executor<'a, O> {
    /// For the release of `target`, in the name of `account`, or of the agent.
    pub fn new(
        client: kube::Client,
        account: Option<&ServiceAccount>,
        target: Target,
        propagation: Propagation,
        objects: &'a O,
    ) -> Self {
        let cluster = Cluster::new(client, IN_FLIGHT).acting_as(account);
        Self { cluster, target, propagation, objects }
    }

    /// Works until there is nothing more to do, or only later. Can be dropped at any time: the next run goes on from the records.
    ///
    /// # Errors
    /// If the records cannot be read: then nobody can tell what the release is, and nothing was done.
    pub async fn run(&self, want: &Want) -> Result<End, UnreadRecords> {
        let (start, begun) = (Timestamp::now(), Instant::now());
        let now = || start.checked_add(begun.elapsed()).unwrap_or(start);
        let mut backoff = Backoff::new(Duration::from_millis(200), LONGEST_PAUSE);
        loop {
            let mut machine = Machine::new(want.clone(), self.records().await?);
            loop {
                let action = machine.next(now());
                let answer = match &action {
                    Action::End(end) => return Ok(end.clone()),
                    Action::Again => break,
                    Action::Pause { until } => {
                        let pause = until.duration_since(now());
                        tokio::time::sleep(pause.unsigned_abs().max(LEAST_PAUSE)).await;
                        Answer::Done
                    }
                    action => Box::pin(self.execute(action, &machine)).await,
                };
                if answer == Answer::Unknown {
                    backoff.wait().await;
                } else {
                    backoff.reset();
                }
                machine.answer(&action, answer, now());
            }
        }
    }

    async fn execute(&self, action: &Action, machine: &Machine) -> Answer {
        let latest = machine.latest().map(|latest| &latest.release);
        match action {
            Action::Write(record) => self.write(record).await,
            Action::DeleteRecord { revision, resource_version } => {
                self.delete_record(*revision, resource_version.as_deref()).await
            }
            Action::Look(hook) => self.look(hook).await,
            Action::Create(hook) => self.create(hook).await,
            Action::Delete { object, uid } => self.delete_hook(object, &Uid::from(uid.clone())).await,
            Action::Apply => match latest {
                Some(latest) => self.objects.apply(latest, machine.action_options()).await,
                None => Answer::Unknown,
            },
            Action::Ready { jobs } => match latest {
                Some(latest) => self.objects.ready(latest, *jobs).await,
                None => Answer::Unknown,
            },
            Action::DeleteObjects { objects, keep } => self.delete_objects(objects, keep).await,
            Action::Gone { objects } => self.are_gone(objects).await,
            Action::Pause { .. } | Action::Again | Action::End(_) => Answer::Done,
        }
    }
}

/// What a request that failed says to the machine: only what the API server refuses for what is asked is final.
fn failed(failure: &Failure) -> Answer {
    let is_final = match failure {
        Failure::NoMatch { .. } | Failure::Name(_) | Failure::Path(..) => true,
        failure => failure.is_refusal() || failure.code() == 403 && !failure.is_terminating(),
    };
    if is_final { Answer::Refused(chain(failure)) } else { Answer::Unknown }
}

fn propagation(of: Propagation) -> &'static str {
    match of {
        Propagation::Background => "Background",
        Propagation::Foreground => "Foreground",
        Propagation::Orphan => "Orphan",
    }
}
