//! A running agent: opens its disk, finds out which cluster this is, joins the hub where it has not, and starts
//! the engine and the link.
//!
//! ```text
//!   disk ─► cluster's uid ─► (enrol) ─► engine with what the disk had ─► link
//! ```
//! The uid comes before the engine: a copy of an agent's disk in another cluster must not touch anything there. An
//! agent that has joined does not wait for it before it calls the hub.

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use flotilla_core::ClusterName;
use flotilla_core::nodes::NodeFacts;
use flotilla_runtime::chain;
use flotilla_runtime::files::FileError;
use flotilla_runtime::tasks::{OnShutdown, Policy, Reaction, Report};
use flotilla_runtime::tls::Clock;
use flotilla_runtime::token::{JoinToken, TokenError};
use flotilla_runtime::{Backoff, CancellationToken, Signals, Tasks};
use flotilla_sops::service::{Server, Servers};

use crate::cluster::{self, ConnectError, Identity};
use crate::disk::{Disk, DiskError, Enrolment, IdentityError};
use crate::link::{self, AgentInfo, Credentials, CredentialsError, Shared};
use crate::problems::Problems;
use crate::sync::{Engine, EngineError, Options};

/// How long tasks get to end what they are at.
const GRACE: Duration = Duration::from_secs(10);
const RETRY: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(10));
/// A cluster that does not answer within this time is reported to the hub first.
const FIRST_LOOK: Duration = Duration::from_secs(2);
/// What a cluster that is away is reported under.
const CLUSTER: &str = "cluster";

/// Options of `flotilla-agent run`.
#[derive(Clone, Debug, clap::Args)]
pub struct RunArgs {
    /// Folder for the agent's keys and state; nobody else may use it
    #[arg(long, env = "FLOTILLA_STATE", default_value = "/var/lib/flotilla-agent", value_name = "DIR")]
    pub state: PathBuf,
    /// Token to join the hub with (flotilla cluster token NAME). It is used once; a new token at a later start joins again
    #[arg(long, env = "FLOTILLA_JOIN_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    pub join_token: Option<String>,
    /// File with the token, so that it is not on the command line
    #[arg(long, env = "FLOTILLA_JOIN_TOKEN_FILE", value_name = "FILE", conflicts_with = "join_token")]
    pub join_token_file: Option<PathBuf>,
    /// Name of the node that the agent runs on, for join tokens by which nodes name themselves; on a machine without it the
    /// hostname is used
    #[arg(long, env = "FLOTILLA_NODE_NAME", value_name = "NAME")]
    pub node_name: Option<String>,
    /// Kubeconfig of the cluster; without it KUBECONFIG, ~/.kube/config or the pod's service account is used
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig to use instead of its current one
    #[arg(long, env = "FLOTILLA_CONTEXT", value_name = "NAME")]
    pub context: Option<String>,
    /// Address of a key service (Vault, OpenBao, AWS KMS) that may be asked to open what SOPS encrypted, as
    /// https://vault.example.com:8200 or https://kms.eu-west-1.amazonaws.com; may be repeated. It is asked with the token or the
    /// credentials in the unit's Secret
    #[arg(long, env = "FLOTILLA_ALLOW_KEY_SERVICE", value_delimiter = ',', value_name = "URL")]
    pub allow_key_service: Vec<Server>,
}

/// Why the agent cannot run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error(transparent)]
    Disk(#[from] DiskError),
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error("cannot reach the cluster")]
    Cluster(#[from] ConnectError),
    #[error("cannot read the join token from {}", path.display())]
    TokenFile { path: PathBuf, source: std::io::Error },
    #[error(transparent)]
    Token(#[from] TokenError),
    #[error("this agent has not joined a hub yet and has no join token")]
    NoToken,
    #[error("cannot join the hub")]
    Join(#[source] CredentialsError),
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    #[error(
        "the state folder belongs to cluster {cluster} whose kube-system namespace has uid {enrolled}, and this one's \
         has {found}: nothing is touched"
    )]
    OtherCluster { cluster: String, enrolled: String, found: String },
    #[error("the enrolment names cluster '{0}', which is not a name of a cluster")]
    Name(String),
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error("cannot catch signals")]
    Signals(#[source] std::io::Error),
    #[error("stopped before the cluster or the hub answered")]
    Stopped,
}

impl RunError {
    /// What to do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NoToken => {
                Some("make one with `flotilla cluster token NAME` and give it by --join-token-file")
            }
            Self::OtherCluster { .. } => Some(
                "this is a copy of another agent's disk, or the cluster was recreated: use an empty --state folder \
                 and join with a new token",
            ),
            Self::Join(error) if error.is_refusal() => Some(
                "a token works once and for a limited time: make a new one with `flotilla cluster token NAME`",
            ),
            _ => None,
        }
    }
}

/// Runs the agent until a signal ends it, or a part of it that it lives for.
pub async fn run(args: RunArgs) -> Result<Report, RunError> {
    let signals = Signals::install().map_err(RunError::Signals)?;
    let tasks = Tasks::new();
    let stop = tasks.shutdown().clone();
    let started = start(&args, &tasks, &stop);
    tokio::pin!(started);
    let mut signals = signals;
    tokio::select! {
        result = &mut started => result?,
        signal = signals.recv() => {
            tracing::info!("{}, ending", signal.name());
            return Err(RunError::Stopped);
        }
    };
    Ok(tasks.run(signals, GRACE).await)
}

async fn start(args: &RunArgs, tasks: &Tasks, stop: &CancellationToken) -> Result<(), RunError> {
    let problems = Problems::default();
    let disk = Arc::new(Disk::open(&args.state, problems.clone())?);
    let enrolment = disk.identity.enrolment()?;
    // Before anything is waited for: what is wrong with the options is told at once.
    let token = match &enrolment {
        Some(enrolment) => new_token(args, &disk, enrolment),
        None => Some(join_token(args)?),
    };
    let client = cluster::connect(args.kubeconfig.as_deref(), args.context.as_deref()).await?;
    let clock = Clock::system();
    let (enrolment, identity) = match (enrolment, token) {
        (Some(enrolment), token) => {
            let identity = tokio::time::timeout(FIRST_LOOK, cluster::identity(&client)).await;
            let identity = identity.ok().and_then(Result::ok);
            let enrolment = match token {
                Some(token) => join_anew(&disk, &token, identity.as_ref(), enrolment, &clock).await?,
                None => enrolment,
            };
            (enrolment, identity)
        }
        (None, Some(token)) => {
            let identity = cluster_identity(&client, |_| ()).await;
            let node = cluster::node(&client, args.node_name.as_deref(), &identity).await;
            let enrolment = join(&disk, &token, &node, &clock).await?;
            note_token(&disk, &token);
            disk.take_up_again()?;
            (enrolment, Some(identity))
        }
        (None, None) => return Err(RunError::NoToken),
    };
    if let Some(identity) = &identity {
        same_cluster(&enrolment, identity)?;
    }
    let name: ClusterName =
        enrolment.cluster.parse().map_err(|_| RunError::Name(enrolment.cluster.clone()))?;
    let key_services = Servers::new(args.allow_key_service.iter().cloned());
    let options = Options { key_services, ..Options::default() };
    let engine = Engine::new(client.clone(), disk.bodies.clone(), disk.memory.clone(), options);
    // A state of another cluster is nothing to this one.
    let desired = disk.desired().filter(|state| state.cluster == name).map(Arc::new);
    let kubernetes_version = identity.as_ref().map(|it| it.version.clone()).unwrap_or_default();
    tracing::info!(cluster = %name, kubernetes = kubernetes_version, desired = desired.is_some(), "starting");
    let cluster_uid = enrolment.cluster_uid.clone();
    let instance = format!("{:032x}", rand::random::<u128>());
    let info =
        AgentInfo { cluster: name, cluster_uid, agent_version: crate::VERSION, kubernetes_version, instance };
    let credentials =
        Credentials::new(disk.identity.clone(), enrolment.clone(), clock.clone(), problems.clone())?;
    let link = Shared::new(
        info,
        disk.clone(),
        engine.clone(),
        Arc::new(credentials),
        clock,
        problems.clone(),
        desired,
    );
    let link = Arc::new(link);
    link.look_for_removal();

    // Until shutdown, or until somebody deletes the cluster at the hub: then nobody works here any more.
    let work = stop.child_token();
    if link.is_deleted() {
        work.cancel();
    }
    // The cluster is what the agent is for: without the engine the process ends and is started anew.
    let run = run_engine(client, identity, enrolment, engine, link.clone(), problems, work.clone());
    tasks.spawn("engine", Policy::ESSENTIAL, then_wait(run, stop.clone()));
    // These go on by themselves whatever the hub does; an end would be a fault of ours.
    let essential = Policy { on_shutdown: OnShutdown::Wait, ..Policy::ESSENTIAL };
    let spawn = |name, task: Work| tasks.spawn(name, essential, then_wait(task, stop.clone()));
    spawn("link", Box::pin(link::run(link.clone(), work.clone())));
    spawn("renewal", Box::pin(link::keep_renewed(link.clone(), work.clone())));
    spawn("removal", Box::pin(link::keep_looking_for_removal(link.clone(), work.clone())));
    spawn("adoptions", Box::pin(link::serve_adoptions(link.clone(), work.clone())));
    spawn("queries", Box::pin(link::serve_queries(link.clone(), work.clone())));
    spawn("persist-state", Box::pin(link::keep_saved(link.clone(), work.clone())));
    spawn("deletion", Box::pin(link::end_when_deleted(link, work)));
    // What was applied last is worth a sync at the end; a failure costs an apply at the next start.
    let at_end = Policy { on_error: Reaction::Log, on_end: Reaction::Log, on_shutdown: OnShutdown::Wait };
    let stop = stop.clone();
    tasks.spawn("disk", at_end, async move {
        stop.cancelled().await;
        disk.memory.flush()
    });
    Ok(())
}

type Work = Pin<Box<dyn Future<Output = Result<(), Infallible>> + Send>>;

/// A task that ends well before shutdown has nothing to do any more.
async fn then_wait<E>(task: impl Future<Output = Result<(), E>>, stop: CancellationToken) -> Result<(), E> {
    task.await?;
    stop.cancelled().await;
    Ok(())
}

fn join_token(args: &RunArgs) -> Result<JoinToken, RunError> {
    let text = match (&args.join_token, &args.join_token_file) {
        (Some(text), _) => text.clone(),
        (None, Some(path)) => read_token(path)?,
        (None, None) => return Err(RunError::NoToken),
    };
    Ok(text.parse()?)
}

/// A token to join anew with, though there is an enrolment: one of this cluster that was not tried yet. One that cannot be
/// read keeps nobody from going on.
fn new_token(args: &RunArgs, disk: &Disk, enrolment: &Enrolment) -> Option<JoinToken> {
    if args.join_token.is_none() && args.join_token_file.is_none() {
        return None;
    }
    let token = match join_token(args) {
        Ok(token) => token,
        Err(error) => {
            tracing::info!("the join token is ignored, as this agent has joined already: {}", chain(&error));
            return None;
        }
    };
    if !disk.identity.is_new_token(&token).unwrap_or(false) {
        return None;
    }
    // One that many nodes share is none to join anew with: it would take this agent's own place.
    if token.cluster.is_empty() {
        return None;
    }
    if token.cluster != enrolment.cluster {
        tracing::warn!(
            "the join token is for cluster {}, and the state folder is of cluster {}: the token is not used; to join under \
             the other name start with an empty state folder",
            token.cluster,
            enrolment.cluster
        );
        return None;
    }
    Some(token)
}

/// Joins with a new token. Where that does not work, the agent goes on as it was: the cluster is kept right all the same.
async fn join_anew(
    disk: &Disk,
    token: &JoinToken,
    cluster: Option<&Identity>,
    old: Enrolment,
    clock: &Clock,
) -> Result<Enrolment, RunError> {
    let Some(cluster) = cluster else {
        tracing::warn!(
            "there is a new join token, and the cluster cannot be asked who it is: the token is used at the next start"
        );
        return Ok(old);
    };
    same_cluster(&old, cluster)?;
    let node = NodeFacts { cluster_uid: cluster.uid.clone(), ..NodeFacts::default() };
    match link::enrol(&disk.identity, token, &node, clock, true).await {
        Ok(enrolment) => {
            tracing::info!(cluster = enrolment.cluster, "joined the hub again, with a new token");
            note_token(disk, token);
            disk.take_up_again()?;
            Ok(enrolment)
        }
        Err(error) => {
            if error.is_refusal() {
                note_token(disk, token);
            }
            tracing::warn!(
                "the new join token cannot be used, and the agent goes on as before: {}",
                chain(&error)
            );
            Ok(old)
        }
    }
}

/// Where this is not remembered, the token is tried once more at the next start.
fn note_token(disk: &Disk, token: &JoinToken) {
    if let Err(error) = disk.identity.note_token(token) {
        tracing::warn!("cannot remember that the join token was used: {}", chain(&error));
    }
}

fn read_token(path: &Path) -> Result<String, RunError> {
    std::fs::read_to_string(path).map_err(|source| RunError::TokenFile { path: path.to_owned(), source })
}

/// Waits until the cluster says who it is, if it has not yet, then keeps it right until `stop`.
async fn run_engine(
    client: kube::Client,
    identity: Option<Identity>,
    enrolment: Enrolment,
    engine: Engine,
    link: Arc<Shared>,
    problems: Problems,
    stop: CancellationToken,
) -> Result<(), RunError> {
    if identity.is_none() {
        let told = |why: &str| {
            let line = format!("the cluster cannot be reached: {why}");
            engine.pending(&line);
            problems.set(CLUSTER, line);
        };
        let asked = stop.run_until_cancelled(cluster_identity(&client, told)).await;
        let Some(identity) = asked else { return Ok(()) };
        same_cluster(&enrolment, &identity)?;
        problems.clear(CLUSTER);
        link.cluster_is_known(identity.version);
    }
    let mut away = engine.away();
    let tell = async {
        loop {
            match &*away.borrow_and_update() {
                Some(why) => problems.set(CLUSTER, format!("the cluster cannot be reached: {why}")),
                None => problems.clear(CLUSTER),
            }
            if away.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    };
    tokio::select! {
        result = engine.run(stop) => Ok(result?),
        () = tell => Ok(()),
    }
}

/// A copy of an agent's disk must not touch another cluster.
fn same_cluster(enrolment: &Enrolment, identity: &Identity) -> Result<(), RunError> {
    if enrolment.cluster_uid == identity.uid {
        return Ok(());
    }
    Err(RunError::OtherCluster {
        cluster: enrolment.cluster.clone(),
        enrolled: enrolment.cluster_uid.clone(),
        found: identity.uid.clone(),
    })
}

/// Asks the API server who it is until it answers.
async fn cluster_identity(client: &kube::Client, mut told: impl FnMut(&str)) -> Identity {
    let mut backoff = RETRY;
    loop {
        match cluster::identity(client).await {
            Ok(identity) => return identity,
            Err(error) => {
                let why = chain(&error);
                tracing::warn!("the cluster cannot be asked who it is, trying again: {why}");
                told(&why);
            }
        }
        backoff.wait().await;
    }
}

/// Joins the hub; one that is away is tried again, one that refuses is not.
async fn join(
    disk: &Disk,
    token: &JoinToken,
    node: &NodeFacts,
    clock: &Clock,
) -> Result<Enrolment, RunError> {
    let mut backoff = RETRY;
    loop {
        match link::enrol(&disk.identity, token, node, clock, false).await {
            Ok(enrolment) => {
                tracing::info!(cluster = enrolment.cluster, "joined the hub");
                return Ok(enrolment);
            }
            Err(error @ (CredentialsError::Channel(_) | CredentialsError::Call(_))) => {
                tracing::warn!("cannot join the hub yet: {}", chain(&error));
            }
            Err(error) => return Err(RunError::Join(error)),
        }
        backoff.wait().await;
    }
}
