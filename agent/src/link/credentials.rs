//! Who the agent is, and how that is got and kept: enrolment by token, renewal, and the hub's word on trust.
//!
//! ```text
//!   JoinToken ─ pins the CA ─► Enrol(CSR) ─► certificate, trust, addresses ─► disk
//!   at 2/3 of its life, when asked, or when refused ─► Renew(CSR) ─► certificate … ─► disk
//! ```
//!
//! Renewal works over a connection without client certificate too, so an agent that was away past its certificate's end
//! comes back by its key.

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use flotilla_core::nodes::NodeFacts;
use flotilla_proto::v1::enrolment_client::EnrolmentClient;
use flotilla_proto::{MAX_MESSAGE, v1};
use flotilla_runtime::chain;
use flotilla_runtime::files::FileError;
use flotilla_runtime::lock;
use flotilla_runtime::tls::{
    ALPN_H2, AgentKey, ClientTls, Clock, HubAddress, Identity, TlsError, Trust, TrustBundle, build_time,
};
use tokio::sync::{Notify, watch};

use super::channel::{self, ChannelError};
use super::stream::says_deleted;
use crate::disk::{Enrolment, IdentityError, IdentityFiles};
use crate::problems::Problems;

const CALL: Duration = Duration::from_secs(30);
const SUBJECT: &str = "identity";
/// How stale the time on disk may be.
const HEARD_EVERY: i64 = 600;

/// No certificate.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    #[error(transparent)]
    Channel(#[from] ChannelError),
    /// The hub says no: a used or expired token, a revoked cluster, another cluster under this name.
    #[error("the hub refuses: {0}")]
    Refused(String),
    /// Somebody deleted the cluster at the hub.
    #[error("the hub refuses: {0}")]
    Deleted(String),
    #[error("the hub does not answer as it should: {0}")]
    Call(String),
    #[error("what the hub answered cannot be used: {0}")]
    Answer(String),
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error(transparent)]
    File(#[from] FileError),
}

impl CredentialsError {
    /// Whether asking again soon is in vain.
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Refused(_) | Self::Deleted(_))
    }

    fn of(status: &tonic::Status) -> Self {
        use tonic::Code;
        let message = status.message().to_owned();
        if says_deleted(status) {
            return Self::Deleted(message);
        }
        match status.code() {
            Code::PermissionDenied
            | Code::Unauthenticated
            | Code::InvalidArgument
            | Code::NotFound
            | Code::AlreadyExists
            | Code::FailedPrecondition => Self::Refused(message),
            _ => Self::Call(message),
        }
    }
}

/// The agent's credentials, shared by the stream and the renewal.
pub struct Credentials {
    files: IdentityFiles,
    key: AgentKey,
    clock: Clock,
    problems: Problems,
    current: Mutex<Current>,
    /// With the agent's certificate: for the stream.
    tls: Arc<ClientTls>,
    /// Without: for renewal where the certificate does not serve.
    anonymous: Arc<ClientTls>,
    /// One renewal at a time.
    renewing: tokio::sync::Mutex<()>,
    asked: Notify,
    renewals: watch::Sender<u64>,
}

struct Current {
    enrolment: Enrolment,
    renew_at: SystemTime,
    not_before: SystemTime,
    not_after: SystemTime,
    /// The time on disk, in seconds since 1970.
    heard: i64,
}

/// Trades a join token for a certificate, and keeps what comes. A token works once, so the key is on disk before it
/// is used: an attempt whose answer was lost can be repeated with the same key. `anew`: with a key that was not used before,
/// which replaces the one that there is.
pub async fn enrol(
    files: &IdentityFiles,
    token: &flotilla_runtime::token::JoinToken,
    node: &NodeFacts,
    clock: &Clock,
    anew: bool,
) -> Result<Enrolment, CredentialsError> {
    let key = if anew { files.next_key()? } else { files.key()? };
    let request = v1::EnrolRequest {
        secret: token.secret.as_bytes().to_vec().into(),
        csr: key.request()?.into(),
        sealing_key: files.sealing_key()?.to_vec().into(),
        cluster_uid: node.cluster_uid.clone(),
        agent_version: crate::VERSION.to_owned(),
        hostname: node.hostname.clone(),
        machine_id: node.machine_id.clone(),
    };
    let tls = Arc::new(ClientTls::new(Trust::Pins(token.cas.clone()), None, &[ALPN_H2], clock.clone())?);
    let mut client = client(tls, token.hubs.clone()).await?;
    let answer = call(client.enrol(request)).await?;
    hear(clock, answer.now);
    let enrolment = read(answer, &node.cluster_uid, &key, &token.hubs)?;
    if anew {
        files.save_next(&enrolment)?;
    } else {
        files.save(&enrolment)?;
    }
    Ok(enrolment)
}

async fn client(
    tls: Arc<ClientTls>,
    addresses: Vec<HubAddress>,
) -> Result<EnrolmentClient<tonic::transport::Channel>, CredentialsError> {
    let channel = channel::connect(tls, addresses).await?;
    Ok(EnrolmentClient::new(channel).max_decoding_message_size(MAX_MESSAGE))
}

async fn call<T>(
    call: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
) -> Result<T, CredentialsError> {
    match tokio::time::timeout(CALL, call).await {
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(status)) => Err(CredentialsError::of(&status)),
        Err(_) => Err(CredentialsError::Call(format!("no answer within {CALL:?}"))),
    }
}

/// Checks what the hub gave: a certificate for our key, CAs, addresses.
fn read(
    answer: v1::Credentials,
    cluster_uid: &str,
    key: &AgentKey,
    fallback: &[HubAddress],
) -> Result<Enrolment, CredentialsError> {
    let invalid = |what: &str, error: &dyn std::error::Error| {
        CredentialsError::Answer(format!("{what}: {}", chain(error)))
    };
    Identity::from_pem(&answer.certificate, key).map_err(|e| invalid("its certificate", &e))?;
    answer.cluster.parse::<flotilla_core::ClusterName>().map_err(|e| invalid("the cluster's name", &e))?;
    let trust = answer.trust.unwrap_or_default();
    Ok(Enrolment {
        cluster: answer.cluster,
        certificate: answer.certificate,
        bundle: TrustBundle::from_pem(&trust.bundle).map_err(|e| invalid("its CAs", &e))?,
        addresses: addresses(&trust.addresses).unwrap_or_else(|| fallback.to_vec()),
        cluster_uid: cluster_uid.to_owned(),
    })
}

/// The addresses that are valid; none if there is none, since without any the hub could never be found again.
fn addresses(texts: &[String]) -> Option<Vec<HubAddress>> {
    let parsed = texts.iter().filter_map(|text| match text.parse::<HubAddress>() {
        Ok(address) => Some(address),
        Err(error) => {
            tracing::warn!("the hub named an address that is not valid: {error}");
            None
        }
    });
    Some(parsed.collect::<Vec<_>>()).filter(|addresses| !addresses.is_empty())
}

/// A moment that the hub said; none for what cannot be one.
fn moment(seconds: i64) -> Option<SystemTime> {
    let seconds = u64::try_from(seconds).ok().filter(|seconds| *seconds > 0)?;
    UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}

fn hear(clock: &Clock, seconds: i64) {
    if let Some(moment) = moment(seconds) {
        clock.hear(moment);
    }
}

/// What a moment that is on the disk is held against. A hub whose clock was wrong for an hour would lock its agents out for
/// as long as it was ahead otherwise: with that time every certificate has ended, the hub's as well.
struct KnownTimes {
    system: SystemTime,
    built: SystemTime,
    certificate_ends: SystemTime,
}

impl KnownTimes {
    /// A hub is heard while its certificates are good, but for what a stream lasts beyond.
    const BEYOND_CERTIFICATE: Duration = Duration::from_secs(2 * 24 * 3600);
    /// A clock that runs at all is not further behind than this.
    const BEHIND: Duration = Duration::from_secs(365 * 24 * 3600);
    /// Where there is no clock: no build is used longer.
    const SINCE_BUILD: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

    fn may_be(&self, heard: SystemTime) -> bool {
        let latest = if self.system < self.built {
            self.built + Self::SINCE_BUILD
        } else {
            self.system + Self::BEHIND
        };
        heard <= latest && heard <= self.certificate_ends + Self::BEYOND_CERTIFICATE
    }
}

impl Credentials {
    /// Of an enrolment on disk.
    pub fn new(
        files: IdentityFiles,
        enrolment: Enrolment,
        clock: Clock,
        problems: Problems,
    ) -> Result<Self, CredentialsError> {
        let key = files.key()?;
        let identity = Identity::from_pem(&enrolment.certificate, &key)?;
        let mut heard = files.heard().unwrap_or(0);
        if let Some(moment) = moment(heard) {
            let known = KnownTimes {
                system: SystemTime::now(),
                built: build_time(),
                certificate_ends: identity.info().not_after,
            };
            if known.may_be(moment) {
                clock.recall(moment);
            } else {
                tracing::warn!(
                    "the hub once reported a time far in the future ({heard} s since 1970); that time is ignored from now on"
                );
                heard = 0;
            }
        }
        let trust = Trust::Bundle(enrolment.bundle.clone());
        let tls = ClientTls::new(trust.clone(), Some(&identity), &[ALPN_H2], clock.clone())?;
        let anonymous = ClientTls::new(trust, None, &[ALPN_H2], clock.clone())?;
        let renew_at = identity.renew_at();
        let (not_before, not_after) = (identity.info().not_before, identity.info().not_after);
        Ok(Self {
            files,
            key,
            clock,
            problems,
            current: Mutex::new(Current { enrolment, renew_at, not_before, not_after, heard }),
            tls: Arc::new(tls),
            anonymous: Arc::new(anonymous),
            renewing: tokio::sync::Mutex::new(()),
            asked: Notify::new(),
            renewals: watch::Sender::new(0),
        })
    }

    /// What the agent goes by now.
    pub fn enrolment(&self) -> Enrolment {
        lock(&self.current).enrolment.clone()
    }

    /// For connections that show the certificate.
    pub fn tls(&self) -> Arc<ClientTls> {
        self.tls.clone()
    }

    /// Whether the certificate's end has come, as far as the time is known.
    pub fn expired(&self) -> bool {
        self.clock.now() >= lock(&self.current).not_after
    }

    /// How long the certificate is still good.
    pub fn remaining(&self) -> Duration {
        lock(&self.current).not_after.duration_since(self.clock.now()).unwrap_or_default()
    }

    /// Asks for a renewal now.
    pub fn renew_now(&self) {
        self.asked.notify_one();
    }

    /// Waits until a renewal is due or asked for. Cancel-safe.
    pub async fn renewal_due(&self) {
        // Looks again from time to time: the clock may jump when the hub is heard.
        const LOOK: Duration = Duration::from_secs(30);
        loop {
            let now = self.clock.now();
            let (until, is_early) = {
                let current = lock(&self.current);
                (current.renew_at.duration_since(now).unwrap_or_default(), now < current.not_before)
            };
            if until.is_zero() {
                return;
            }
            tokio::select! {
                () = self.asked.notified() => return,
                () = tokio::time::sleep(until.min(LOOK)) => {}
            }
            // The hub's clock was ahead when it made this certificate: it is good for nothing until then.
            if is_early {
                return;
            }
        }
    }

    /// Changes with each new certificate.
    pub fn renewals(&self) -> watch::Receiver<u64> {
        self.renewals.subscribe()
    }

    /// Asks with the certificate as long as it is good: the hub keeps room for who shows one. It may be of a CA that the hub
    /// has dropped, or ended by the hub's clock; the key alone is enough then.
    async fn ask_for_renewal(
        &self,
        old: &Enrolment,
        request: v1::RenewRequest,
    ) -> Result<v1::Credentials, CredentialsError> {
        if !self.expired() {
            let shown = async {
                let mut client = client(self.tls.clone(), old.addresses.clone()).await?;
                call(client.renew(request.clone())).await
            };
            match shown.await {
                Err(error) if !error.is_refusal() => {
                    tracing::debug!("no renewal with the certificate shown: {}", chain(&error));
                }
                answered => return answered,
            }
        }
        let mut client = client(self.anonymous.clone(), old.addresses.clone()).await?;
        call(client.renew(request)).await
    }

    /// Gets a new certificate for the agent's key. Connections go on with the old one.
    pub async fn renew(&self) -> Result<(), CredentialsError> {
        let before = *self.renewals.borrow();
        let _turn = self.renewing.lock().await;
        if *self.renewals.borrow() != before {
            // Somebody else just did.
            return Ok(());
        }
        let old = self.enrolment();
        let request = v1::RenewRequest {
            cluster: old.cluster.clone(),
            csr: self.key.request()?.into(),
            cluster_uid: old.cluster_uid.clone(),
        };
        let answer = self.ask_for_renewal(&old, request).await?;
        self.heard(answer.now);
        let new = read(answer, &old.cluster_uid, &self.key, &old.addresses)?;
        if new.cluster != old.cluster {
            return Err(CredentialsError::Answer(format!(
                "the certificate is for cluster {}, this is {}",
                new.cluster, old.cluster
            )));
        }
        self.take(new)?;
        self.renewals.send_modify(|renewals| *renewals += 1);
        tracing::info!("the certificate was renewed");
        Ok(())
    }

    /// Takes the hub's word on whom to trust and where to call; CAs that do not parse are refused.
    pub fn trust(&self, trust: &v1::Trust) -> Result<(), CredentialsError> {
        let mut enrolment = self.enrolment();
        let before = enrolment.clone();
        enrolment.bundle = TrustBundle::from_pem(&trust.bundle)?;
        enrolment.addresses = addresses(&trust.addresses).unwrap_or(enrolment.addresses);
        if enrolment != before {
            tracing::info!(addresses = ?trust.addresses, cas = enrolment.bundle.hashes().len(), "trust was replaced");
            self.take(enrolment)?;
        }
        Ok(())
    }

    /// Takes the hub's time; writes it down now and then, for a start without a clock.
    pub fn heard(&self, seconds: i64) {
        hear(&self.clock, seconds);
        {
            let mut current = lock(&self.current);
            if (seconds - current.heard).abs() < HEARD_EVERY {
                return;
            }
            current.heard = seconds;
        }
        if let Err(error) = self.files.save_heard(seconds) {
            tracing::debug!("cannot write down the hub's time: {}", chain(&error));
        }
    }

    /// Uses an enrolment from now on. Where the disk does not take it, it is used all the same.
    fn take(&self, enrolment: Enrolment) -> Result<(), CredentialsError> {
        let identity = Identity::from_pem(&enrolment.certificate, &self.key)?;
        let trust = Trust::Bundle(enrolment.bundle.clone());
        self.tls.replace(trust.clone(), Some(&identity))?;
        self.anonymous.replace(trust, None)?;
        match self.files.save(&enrolment) {
            Ok(()) => self.problems.clear(SUBJECT),
            Err(error) => {
                self.problems.set(SUBJECT, format!("a new certificate cannot be stored: {}", chain(&error)));
            }
        }
        let mut current = lock(&self.current);
        if enrolment.certificate != current.enrolment.certificate {
            // From now on, not from its beginning: that lies before its issue, for late clocks, and one with a
            // short life would be due at once.
            let (now, not_after) = (self.clock.now(), identity.info().not_after);
            current.renew_at = now + not_after.duration_since(now).unwrap_or_default() * 2 / 3;
            current.not_before = identity.info().not_before;
            current.not_after = not_after;
        }
        current.enrolment = enrolment;
        Ok(())
    }
}

#[cfg(test)]
#[path = "credentials_tests.rs"]
mod tests;
