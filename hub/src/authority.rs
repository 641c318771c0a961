//! The hub's word on who is who: its CAs, its own certificate, the agents' certificates, and what agents trust.
//!
//! ```text
//! normal      one CA signs the hub's and the agents' certificates
//! rotate()    a new CA signs for agents, both are trusted; the hub still shows the old one, so that an agent that
//!             was away finds it and learns of the new one
//! finish()    the new CA signs for the hub too, the old one is dropped
//! ```

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, UNIX_EPOCH};

use flotilla_api::CaInfo;
use flotilla_core::ClusterName;
use flotilla_core::report::Timestamp;
use flotilla_proto::v1;
use flotilla_runtime::files;
use flotilla_runtime::lock;
use flotilla_runtime::tls::{
    ALPN_H2, ALPN_HTTP1, Ca, CaHash, CaSet, ClientCertificates, Clock, Csr, HubAddress, Identity, ServerTls,
    TicketKeys, TlsError, Validity,
};
use tokio::sync::watch;

use crate::store::Certificate;
use crate::store::backup::CA_FOLDER;

/// How long the hub's own certificate lives; it is made anew when a third of that is left.
const HUB_LIFE: Duration = Duration::from_secs(90 * 24 * 3600);

/// Certificates and trust of a hub.
#[derive(Debug)]
pub struct Authority {
    cas: Mutex<CaSet>,
    data: PathBuf,
    hosts: Vec<String>,
    agent_life: Duration,
    clock: Clock,
    identity: Mutex<Identity>,
    tickets: TicketKeys,
    agents_tls: Arc<ServerTls>,
    people_tls: Arc<ServerTls>,
    addresses: Vec<HubAddress>,
    trust: watch::Sender<v1::Trust>,
}

/// How an [`Authority`] works.
#[derive(Debug, Clone)]
pub struct AuthorityOptions {
    /// DNS names and IP addresses in the hub's certificate, for browsers and other programs.
    pub hosts: Vec<String>,
    /// Where agents call.
    pub addresses: Vec<HubAddress>,
    /// How long an agent's certificate lives.
    pub agent_life: Duration,
}

/// Seconds since 1970 of a clock.
pub fn timestamp(clock: &Clock) -> Timestamp {
    seconds(clock.now())
}

fn seconds(at: std::time::SystemTime) -> Timestamp {
    at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() as Timestamp
}

fn tickets_path(data: &Path) -> PathBuf {
    data.join("tickets")
}

impl Authority {
    /// Opens the CAs in the data folder, or makes the first one, and writes `ca.pem` for people. Blocking.
    pub fn open(data: &Path, options: AuthorityOptions, clock: Clock) -> Result<Self, TlsError> {
        let cas = CaSet::load_or_create(&data.join(CA_FOLDER), clock.now())?;
        let tickets = TicketKeys::load_or_create(&tickets_path(data), clock.clone())?;
        let identity = hub_certificate(&cas, &options.hosts, &clock)?;
        let bundle = cas.bundle()?;
        let tls = |clients, alpn: &[&[u8]]| {
            ServerTls::new(&identity, &bundle, clients, alpn, tickets.clone(), clock.clone()).map(Arc::new)
        };
        // HTTP/1 is answered with what this port is, see `session::wrong_port`.
        let agents_tls = tls(ClientCertificates::Optional, &[ALPN_H2, ALPN_HTTP1])?;
        let people_tls = tls(ClientCertificates::None, &[ALPN_H2, ALPN_HTTP1])?;
        let trust = watch::Sender::new(trust_of(&bundle.to_pem(), &options.addresses));
        files::write_atomic(&data.join("ca.pem"), bundle.to_pem().as_bytes(), files::PUBLIC)?;
        Ok(Self {
            cas: Mutex::new(cas),
            data: data.to_owned(),
            hosts: options.hosts,
            agent_life: options.agent_life,
            clock,
            identity: Mutex::new(identity),
            tickets,
            agents_tls,
            people_tls,
            addresses: options.addresses,
            trust,
        })
    }

    fn cas(&self) -> MutexGuard<'_, CaSet> {
        lock(&self.cas)
    }

    /// TLS for agents: certificates are asked for, and verified when given.
    pub fn agents_tls(&self) -> Arc<ServerTls> {
        self.agents_tls.clone()
    }

    /// TLS for people, who come with tokens.
    pub fn people_tls(&self) -> Arc<ServerTls> {
        self.people_tls.clone()
    }

    /// What agents trust and where they call; ticks when it changes.
    pub fn trust(&self) -> watch::Receiver<v1::Trust> {
        self.trust.subscribe()
    }

    /// The CAs that a join token pins.
    pub fn pins(&self) -> Vec<CaHash> {
        self.cas().all().iter().map(Ca::hash).collect()
    }

    pub fn addresses(&self) -> &[HubAddress] {
        &self.addresses
    }

    /// A certificate for a cluster's agent, as PEM, and what to remember of it.
    pub fn issue_agent(&self, csr: &Csr, cluster: &ClusterName) -> Result<(String, Certificate), TlsError> {
        let cas = self.cas();
        let now = self.clock.now();
        let validity = Validity { now, life: self.agent_life };
        let (pem, info) = cas.signing().issue_agent(csr, cluster.as_str(), validity)?;
        let certificate = Certificate {
            serial: info.serial,
            issued_at: seconds(now),
            expires_at: seconds(info.not_after),
            ca: cas.signing().hash().to_string(),
        };
        Ok((pem, certificate))
    }

    /// The CAs, the one that signs for agents first.
    pub fn status(&self) -> Vec<CaInfo> {
        let cas = self.cas();
        let signing = cas.signing().hash();
        let info = |ca: &Ca| CaInfo {
            hash: ca.hash().to_string(),
            signs: ca.hash() == signing,
            expires_at: seconds(ca.info().not_after),
        };
        cas.all().iter().map(info).collect()
    }

    /// Begins a rotation, or takes one up that was cut short: a new CA signs for agents from now on. Blocking.
    pub fn rotate(&self) -> Result<CaHash, TlsError> {
        let mut cas = self.cas();
        rotate_set(&mut cas, &self.clock)?;
        self.apply(&cas)?;
        Ok(cas.signing().hash())
    }

    /// Ends a rotation: drops every CA but the one that signs. Blocking.
    pub fn finish(&self) -> Result<CaHash, TlsError> {
        let mut cas = self.cas();
        let signing = cas.signing().hash();
        let others: Vec<_> = cas.all().iter().map(Ca::hash).filter(|hash| *hash != signing).collect();
        for other in others {
            cas.remove(other)?;
        }
        self.apply(&cas)?;
        Ok(signing)
    }

    /// Makes the hub's certificate anew if its time has come, by a clock that may have jumped; for once a minute. Blocking.
    pub fn renew_hub(&self) -> Result<(), TlsError> {
        let due = {
            let identity = lock(&self.identity);
            identity.is_due(self.clock.now())
        };
        if due { self.apply(&self.cas()) } else { Ok(()) }
    }

    /// New keys for session tickets; for once a day. Blocking.
    pub fn rotate_tickets(&self) -> Result<(), TlsError> {
        self.tickets.rotate(Some(&tickets_path(&self.data)))
    }

    /// Takes a changed set of CAs into use.
    fn apply(&self, cas: &CaSet) -> Result<(), TlsError> {
        let bundle = cas.bundle()?;
        let identity = hub_certificate(cas, &self.hosts, &self.clock)?;
        self.agents_tls.replace(&identity, &bundle)?;
        self.people_tls.replace(&identity, &bundle)?;
        *lock(&self.identity) = identity;
        files::write_atomic(&self.data.join("ca.pem"), bundle.to_pem().as_bytes(), files::PUBLIC)?;
        let trust = trust_of(&bundle.to_pem(), &self.addresses);
        self.trust.send_if_modified(|current| {
            let differs = *current != trust;
            *current = trust;
            differs
        });
        Ok(())
    }
}

/// Adds a CA that signs, unless a rotation is going on already.
fn rotate_set(cas: &mut CaSet, clock: &Clock) -> Result<(), TlsError> {
    if cas.all().len() == 1 {
        let new = cas.add(clock.now())?;
        cas.sign_with(new)?;
    }
    Ok(())
}

/// The hub's certificate is signed by the old CA as long as there is one: agents that were away trust that.
fn hub_certificate(cas: &CaSet, hosts: &[String], clock: &Clock) -> Result<Identity, TlsError> {
    let signing = cas.signing();
    let old = cas.all().iter().find(|ca| ca.hash() != signing.hash());
    let validity = Validity { now: clock.now(), life: HUB_LIFE };
    old.unwrap_or(signing).issue_hub(hosts, validity)
}

fn trust_of(bundle: &str, addresses: &[HubAddress]) -> v1::Trust {
    v1::Trust { bundle: bundle.to_owned(), addresses: addresses.iter().map(ToString::to_string).collect() }
}
