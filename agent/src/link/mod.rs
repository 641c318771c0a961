//! The link to the hub: who the agent is, the stream, and what comes of it.
//!
//! ```text
//!   credentials (enrolment, renewal, trust) ──► channel (TLS, gRPC)
//!                                                  │
//!   session (protocol, pure) ◄── stream ───────────┘   reporter (what is told, pure)
//!      │ download, crate::manifest (pure)  │
//!      ▼                            ▼
//!   disk ──── desired state ──► engine
//! ```
//!
//! The engine never waits for any of it: it starts from the disk, and the link joins when it can.

mod answering;
mod asked;
mod channel;
mod credentials;
mod download;
mod errands;
#[cfg(test)]
mod recorded_tests;
mod removal;
mod reporter;
mod session;
mod stream;
#[cfg(test)]
pub(crate) mod testing;

pub use channel::ChannelError;
pub use credentials::{Credentials, CredentialsError, enrol};
pub use errands::{serve_adoptions, serve_queries};
pub use removal::{end_when_deleted, keep_looking_for_removal};
pub use session::AgentInfo;

use std::collections::{BTreeSet, HashSet, VecDeque};
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use flotilla_core::{DesiredState, Digest};
use flotilla_runtime::chain;
use flotilla_runtime::lock;
use flotilla_runtime::tls::Clock;
use flotilla_runtime::{Backoff, CancellationToken};
use rand::Rng;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::disk::Disk;
use crate::problems::Problems;
use crate::sync::Engine;
use removal::Removal;
use stream::StreamError;

/// What the hub being away is reported under.
const SUBJECT: &str = "hub";
/// Attempts to connect: all agents of a hub are back within seconds of its restart.
const RECONNECT: Backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(10));
/// A hub that refuses is asked rarely: somebody has to change something first.
const REFUSED: Backoff = Backoff::new(Duration::from_secs(60), Duration::from_secs(1800));
/// Attempts to write a state that the disk did not take.
const SAVE: Backoff = Backoff::new(Duration::from_secs(4), Duration::from_secs(60));
const RENEW: Backoff = Backoff::new(Duration::from_secs(5), Duration::from_secs(300));
/// After so many connections that the hub did not take in, the certificate may be to blame.
const SUSPICIOUS: u32 = 3;
/// Bodies of states that were current so recently are kept: a unit may be about to hold on to them.
const RECENT: Duration = Duration::from_secs(60);
const COLLECT_EVERY: Duration = Duration::from_secs(300);

/// What the link and its streams share.
pub struct Shared {
    pub info: AgentInfo,
    pub disk: Arc<Disk>,
    pub engine: Engine,
    pub credentials: Arc<Credentials>,
    pub clock: Clock,
    pub problems: Problems,
    state: Mutex<State>,
    /// One write of the state at a time.
    saving: tokio::sync::Mutex<()>,
    /// Whether the state that runs could not be written.
    held: watch::Sender<bool>,
    /// The version of Kubernetes; empty until the cluster was asked who it is.
    kubernetes: watch::Sender<String>,
    errands: errands::Errands,
    /// Whether everything was removed from the cluster on request, or the cluster was deleted at the hub.
    removal: watch::Sender<Removal>,
}

#[derive(Default)]
struct State {
    desired: Option<Arc<DesiredState>>,
    /// States that were replaced, and when.
    replaced: VecDeque<(Instant, Arc<DesiredState>)>,
    /// The number of the first event that was not told yet.
    events: u64,
}

impl Shared {
    /// With the desired state that the disk had, which the engine gets once it is certain that it still holds:
    /// [`Shared::look_for_removal`].
    pub fn new(
        info: AgentInfo,
        disk: Arc<Disk>,
        engine: Engine,
        credentials: Arc<Credentials>,
        clock: Clock,
        problems: Problems,
        desired: Option<Arc<DesiredState>>,
    ) -> Self {
        let state = Mutex::new(State { desired, ..State::default() });
        let kubernetes = watch::Sender::new(info.kubernetes_version.clone());
        let (saving, held) = (tokio::sync::Mutex::default(), watch::Sender::new(false));
        let errands = errands::Errands::default();
        let removal = watch::Sender::default();
        Self {
            info,
            disk,
            engine,
            credentials,
            clock,
            problems,
            state,
            saving,
            held,
            kubernetes,
            errands,
            removal,
        }
    }

    /// The cluster was asked who it is, and is the one that joined.
    pub fn cluster_is_known(&self, kubernetes_version: String) {
        self.kubernetes.send_replace(kubernetes_version);
    }

    fn info(&self) -> AgentInfo {
        AgentInfo { kubernetes_version: self.kubernetes.borrow().clone(), ..self.info.clone() }
    }

    fn desired(&self) -> Option<Arc<DesiredState>> {
        lock(&self.state).desired.clone()
    }

    fn events_told(&self) -> u64 {
        lock(&self.state).events
    }

    fn set_events_told(&self, next: u64) {
        lock(&self.state).events = next;
    }

    /// Makes a state durable and hands it to the engine; where the disk does not take it, why.
    async fn save(&self, desired: Arc<DesiredState>) -> Option<String> {
        let saving = self.saving.lock().await;
        let saved = self.write(desired.clone()).await;
        self.replace(Some(desired.clone()));
        drop(saving);
        self.engine.set_desired(desired);
        saved.err()
    }

    /// Tries again to write the state that runs. True if that is durable now, or there is none any more.
    async fn save_again(&self) -> bool {
        let _saving = self.saving.lock().await;
        match self.desired() {
            Some(desired) => self.write(desired).await.is_ok(),
            None => {
                self.held.send_replace(false);
                true
            }
        }
    }

    async fn write(&self, desired: Arc<DesiredState>) -> Result<(), String> {
        let disk = self.disk.clone();
        let saved = match tokio::task::spawn_blocking(move || disk.save(&desired)).await {
            Ok(saved) => saved.map_err(|error| chain(&error)),
            Err(error) => Err(error.to_string()),
        };
        self.held.send_if_modified(|held| std::mem::replace(held, saved.is_err()) != saved.is_err());
        saved
    }

    fn replace(&self, desired: Option<Arc<DesiredState>>) {
        let mut state = lock(&self.state);
        let old = std::mem::replace(&mut state.desired, desired);
        state.replaced.extend(old.map(|old| (Instant::now(), old)));
    }

    /// The bodies that somebody may still ask for.
    fn kept(&self) -> HashSet<Digest> {
        let needed: BTreeSet<Digest> = self.engine.needed_bodies();
        let mut state = lock(&self.state);
        while state.replaced.front().is_some_and(|(at, _)| at.elapsed() > RECENT) {
            state.replaced.pop_front();
        }
        let states = state.desired.iter().chain(state.replaced.iter().map(|(_, old)| old));
        let named = states.flat_map(|state| state.all_present()).flat_map(|unit| unit.bodies());
        named.map(|body| body.digest).chain(needed).collect()
    }
}

/// Keeps a stream with the hub until shutdown.
pub async fn run(shared: Arc<Shared>, shutdown: CancellationToken) -> Result<(), Infallible> {
    let (mut reconnect, mut refused) = (RECONNECT, REFUSED);
    let mut not_taken_in = 0;
    let mut next_collection = Instant::now() + COLLECT_EVERY;
    while !shutdown.is_cancelled() {
        if Instant::now() >= next_collection {
            next_collection = Instant::now() + COLLECT_EVERY;
            collect(&shared).await;
        }
        let mut welcomed = false;
        let deadline = next_collection;
        let result = tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            result = connect_and_run(&shared, not_taken_in, deadline, &mut welcomed, &shutdown) => result,
        };
        if welcomed {
            (reconnect, refused, not_taken_in) = (RECONNECT, REFUSED, 0);
        } else {
            not_taken_in += 1;
        }
        let wait = match result {
            // Stopped to come back at once: for a new certificate.
            Ok(()) => continue,
            Err(
                LinkError::Stream(StreamError::Deleted(why))
                | LinkError::Renewal(CredentialsError::Deleted(why)),
            ) => {
                shared.end(&why).await;
                return Ok(());
            }
            Err(LinkError::Stream(StreamError::Refused(why))) => {
                shared
                    .problems
                    .set(SUBJECT, format!("the hub refuses this agent: {why}; the cluster is kept as it is"));
                refused.next_delay(&mut rand::rng()) + Duration::from_secs(1)
            }
            Err(LinkError::Renewal(error)) if error.is_refusal() => {
                shared.problems.set(
                    SUBJECT,
                    format!("no new certificate: {}; the cluster is kept as it is", chain(&error)),
                );
                refused.next_delay(&mut rand::rng()) + Duration::from_secs(1)
            }
            Err(error) => {
                let wait = reconnect.next_delay(&mut rand::rng());
                if error.is_unknown_ca() {
                    shared.problems.set(
                        SUBJECT,
                        format!("no hub: {}; {OTHER_HUB}; the cluster is kept as it is", chain(&error)),
                    );
                } else {
                    tracing::info!("no hub: {}; next attempt in {wait:.1?}", chain(&error));
                }
                wait
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = tokio::time::sleep(wait) => {}
        }
    }
    Ok(())
}

/// What to do where a hub answers that is not the one that this agent joined.
const OTHER_HUB: &str = "another hub answers there, or this one was set up anew without its data: restore the hub from \
                         its backup, or make a token with `flotilla cluster token NAME` and start the agent with it";

impl LinkError {
    fn is_unknown_ca(&self) -> bool {
        let of =
            |error: &ChannelError| matches!(error, ChannelError::Connect(error) if error.is_unknown_ca());
        match self {
            Self::Channel(error) | Self::Renewal(CredentialsError::Channel(error)) => of(error),
            Self::Stream(_) | Self::Renewal(_) => false,
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum LinkError {
    #[error(transparent)]
    Channel(#[from] ChannelError),
    #[error(transparent)]
    Stream(#[from] StreamError),
    #[error(transparent)]
    Renewal(CredentialsError),
}

/// One connection. Ends well when it is to be replaced by another.
async fn connect_and_run(
    shared: &Arc<Shared>,
    not_taken_in: u32,
    mut collection: Instant,
    welcomed: &mut bool,
    shutdown: &CancellationToken,
) -> Result<(), LinkError> {
    if shared.credentials.expired() || (not_taken_in > 0 && not_taken_in.is_multiple_of(SUSPICIOUS)) {
        shared.credentials.renew().await.map_err(LinkError::Renewal)?;
    }
    let mut renewals = shared.credentials.renewals();
    renewals.mark_unchanged();
    let mut kubernetes = shared.kubernetes.subscribe();
    let mut removal = shared.removal.subscribe();
    // A removal that is asked for over this stream is answered over it.
    let is_unknown = shared.removal() == Removal::Unknown;
    let remaining = shared.credentials.remaining();
    let channel =
        channel::connect(shared.credentials.tls(), shared.credentials.enrolment().addresses).await?;
    let stop = shutdown.child_token();
    let stream = stream::run(shared, channel, welcomed, &stop);
    tokio::pin!(stream);
    // A new certificate is used well before the end of the one that this connection showed.
    let opened = Instant::now();
    let mut replace_at: Option<Instant> = None;
    loop {
        let replace = async {
            match replace_at {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            result = &mut stream => return Ok(result?),
            Ok(()) = renewals.changed(), if replace_at.is_none() => {
                let left = remaining.saturating_sub(opened.elapsed()) / 2;
                let longest = left.min(Duration::from_secs(600));
                replace_at = Some(Instant::now() + longest.mul_f64(rand::rng().random()));
            }
            () = replace => stop.cancel(),
            // What may run is known now.
            Ok(()) = removal.changed(), if is_unknown => stop.cancel(),
            // The next Hello says who the cluster is.
            Ok(()) = kubernetes.changed() => stop.cancel(),
            () = tokio::time::sleep_until(collection) => {
                collection = Instant::now() + COLLECT_EVERY;
                collect(shared).await;
            }
        }
    }
}

/// Gives back the room of bodies that nobody needs.
async fn collect(shared: &Arc<Shared>) {
    let (shared, kept) = (shared.clone(), shared.kept());
    let disk = shared.disk.clone();
    // It logs its own failures; one that panics leaves the pack as it is, for the next time.
    let _ = tokio::task::spawn_blocking(move || disk.collect(|digest| kept.contains(digest))).await;
}

/// Tries until shutdown to write states that the disk did not take when they came.
pub async fn keep_saved(shared: Arc<Shared>, shutdown: CancellationToken) -> Result<(), Infallible> {
    let mut held = shared.held.subscribe();
    while shutdown.run_until_cancelled(held.wait_for(|held| *held)).await.is_some() {
        let mut retry = SAVE;
        loop {
            let wait = retry.next_delay(&mut rand::rng()) + Duration::from_secs(1);
            if shutdown.run_until_cancelled(tokio::time::sleep(wait)).await.is_none() {
                return Ok(());
            }
            if shared.save_again().await {
                tracing::info!("the desired state is on disk again");
                break;
            }
        }
    }
    Ok(())
}

/// Renews the certificate in time, and when the hub asks for it, until shutdown.
pub async fn keep_renewed(shared: Arc<Shared>, shutdown: CancellationToken) -> Result<(), Infallible> {
    let (mut retry, mut refused) = (RENEW, REFUSED);
    loop {
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return Ok(()),
            () = shared.credentials.renewal_due() => {}
        }
        let wait = match shared.credentials.renew().await {
            Ok(()) => {
                shared.problems.clear("renewal");
                (retry, refused) = (RENEW, REFUSED);
                // A certificate whose renewal is due at once must not make a busy loop.
                Duration::from_secs(1)
            }
            Err(CredentialsError::Deleted(why)) => {
                shared.end(&why).await;
                return Ok(());
            }
            Err(error) => {
                shared
                    .problems
                    .set("renewal", format!("the certificate cannot be renewed: {}", chain(&error)));
                let backoff = if error.is_refusal() { &mut refused } else { &mut retry };
                backoff.next_delay(&mut rand::rng()) + Duration::from_secs(1)
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            () = tokio::time::sleep(wait) => {}
        }
    }
}
