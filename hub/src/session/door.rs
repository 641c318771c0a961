//! How often somebody may try to join or to renew. Who has shown a right to it (a token that the hub made, the enrolled
//! key) takes from buckets that nobody else can empty; joining and renewing have one each. Failed attempts count by
//! address, those of agents with a certificate by cluster. Refusals are logged at a bounded rate.

use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use flotilla_core::ClusterName;
use flotilla_proto::v1;
use flotilla_runtime::chain;
use flotilla_runtime::limits::{Bucket, LogLimit, Origin, Rates};
use flotilla_runtime::lock;
use flotilla_runtime::tls::PeerIdentity;
use tokio::sync::Semaphore;
use tonic::Status;

use super::enrolment::{self, Refusal};
use crate::state::{Hub, blocking};

/// Enrolments, and renewals, of all agents together: so many at once, and so many a second.
const BURST: u32 = 500;
const PER_SECOND: u32 = 200;
/// Renewals of one cluster.
const CLUSTER_BURST: u32 = 20;
const CLUSTER_PER_SECOND: f64 = 1.0;
/// Failed attempts of one address.
const FAILURES: u32 = 60;
const FAILURES_PER_SECOND: f64 = 2.0;
/// Attempts that are looked at at once.
const AT_ONCE: usize = 32;
/// How long an attempt waits for its turn.
const TURN: Duration = Duration::from_secs(5);
/// Refusals in the log.
const LOGGED: u32 = 20;
const LOGGED_PER_SECOND: f64 = 0.2;

/// Who is at the other end of the connection that a call came by.
#[derive(Debug, Clone)]
pub(super) struct Peer {
    /// As its certificate says; `None` if it showed none.
    pub identity: Option<Arc<PeerIdentity>>,
    pub address: IpAddr,
}

#[derive(Debug)]
pub(super) struct Door {
    enrolments: Mutex<Bucket>,
    renewals: Mutex<Bucket>,
    clusters: Rates<ClusterName>,
    failures: Rates<Origin>,
    turns: Semaphore,
    log: LogLimit,
}

impl Default for Door {
    fn default() -> Self {
        let all = || Mutex::new(Bucket::new(BURST, PER_SECOND));
        Self {
            enrolments: all(),
            renewals: all(),
            clusters: Rates::new(CLUSTER_BURST, CLUSTER_PER_SECOND),
            failures: Rates::new(FAILURES, FAILURES_PER_SECOND),
            turns: Semaphore::new(AT_ONCE),
            log: LogLimit::new(LOGGED, LOGGED_PER_SECOND),
        }
    }
}

fn busy() -> Status {
    Status::resource_exhausted("too many agents are joining or renewing at once; try again in a moment")
}

fn take(bucket: &Mutex<Bucket>) -> Result<(), Status> {
    let taken = lock(bucket).try_take();
    taken.then_some(()).ok_or_else(busy)
}

impl Door {
    pub(super) async fn enrol(
        &self,
        hub: &Arc<Hub>,
        peer: &Peer,
        request: v1::EnrolRequest,
    ) -> Result<v1::Credentials, Status> {
        let _turn = self.turn(peer).await?;
        let (shared, request) = (hub.clone(), Arc::new(request));
        let asked = request.clone();
        let known = blocking(move || enrolment::known_token(&shared, &asked)).await;
        known.map_err(|refusal| self.failed("enrolment", peer, &refusal))?;
        take(&self.enrolments)?;
        let shared = hub.clone();
        let result = blocking(move || enrolment::enrol(&shared, &request)).await;
        result.map_err(|refusal| self.failed("enrolment", peer, &refusal))
    }

    pub(super) async fn renew(
        &self,
        hub: &Arc<Hub>,
        peer: &Peer,
        request: v1::RenewRequest,
    ) -> Result<v1::Credentials, Status> {
        let is_own = |identity: &PeerIdentity| identity.cluster == request.cluster;
        let own = peer.identity.as_ref().filter(|identity| is_own(identity));
        // An agent that shows its certificate is held up by nobody else.
        let _turn = match own {
            Some(_) => None,
            None => Some(self.turn(peer).await?),
        };
        if let Ok(cluster) = request.cluster.parse::<ClusterName>()
            && own.is_some()
            && !self.clusters.try_take(cluster)
        {
            return Err(busy());
        }
        let shared = hub.clone();
        let proof = blocking(move || enrolment::prove(&shared, &request)).await;
        let proof = proof.map_err(|refusal| self.failed("renewal", peer, &refusal))?;
        if own.is_none() && !self.clusters.try_take(proof.cluster.clone()) {
            return Err(busy());
        }
        take(&self.renewals)?;
        let shared = hub.clone();
        let result = blocking(move || enrolment::renew(&shared, &proof)).await;
        result.map_err(|refusal| self.refused("renewal", peer, &refusal))
    }

    /// Waits until an attempt of this peer may be looked at.
    async fn turn(&self, peer: &Peer) -> Result<tokio::sync::SemaphorePermit<'_>, Status> {
        if !self.failures.has_one(peer.address.into()) {
            return Err(Status::resource_exhausted(
                "too many attempts from this address failed; try again in some seconds",
            ));
        }
        match tokio::time::timeout(TURN, self.turns.acquire()).await {
            Ok(Ok(turn)) => Ok(turn),
            _ => Err(busy()),
        }
    }

    fn failed(&self, what: &str, peer: &Peer, refusal: &Refusal) -> Status {
        if !refusal.is_ours() {
            self.failures.try_take(peer.address.into());
        }
        self.refused(what, peer, refusal)
    }

    /// Logs a refusal, unless there are too many, and makes it the call's status.
    pub(super) fn refused(&self, what: &str, peer: &Peer, refusal: &Refusal) -> Status {
        if let Some(left_out) = self.log.take() {
            tracing::warn!(peer = %peer.address, left_out, "{what} refused: {}", chain(refusal));
        }
        refusal.status()
    }
}
