//! Puts a hub together: opens its data folder, binds its ports, and starts what serves agents and people. The
//! fleet loop is the caller's.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use flotilla_core::{ClusterName, Digest};
use flotilla_runtime::chain;
use flotilla_runtime::files::{self, FileError};
use flotilla_runtime::tasks::{OnShutdown, Policy};
use flotilla_runtime::tls::{AcceptOptions, Acceptor, AddressError, Clock, HubAddress, TlsError};
use flotilla_runtime::{Backoff, Tasks};
use tokio::net::TcpListener;

use crate::api;
use crate::audit::export::{self, ExportError, ExportOptions};
use crate::authority::{Authority, AuthorityOptions, timestamp};
use crate::journal::Journal;
use crate::ports::{PortLimits, raise_file_limit};
use crate::session;
use crate::sources::{Vault, VaultError};
use crate::state::{Hub, Settings, blocking};
use crate::store::backup::{REFS_FOLDER, REPO_FOLDER, SOURCES_FOLDER, STORE_FOLDER};
use crate::store::{DiskStore, Records, StoreError};
use crate::view::FleetView;

/// How long an agent's certificate lives unless somebody says otherwise.
pub const AGENT_LIFE: Duration = Duration::from_secs(24 * 3600);
/// How long a connection of somebody lives who shows no certificate: enough to join or to renew.
const ANONYMOUS: Duration = Duration::from_secs(30);
/// How often the hub looks whether its own certificate is due: the clock may have jumped.
const UPKEEP: Duration = Duration::from_secs(30);
/// For so long events are gathered that are written together.
const GATHER: Duration = Duration::from_millis(50);
/// Lines of the audit log that end by their age in one go.
const EXPIRED: usize = 10;
/// Session tickets get a new key so often.
const TICKETS: Duration = Duration::from_secs(24 * 3600);

/// Where a hub listens, and what it says of itself.
#[derive(Debug, Clone)]
pub struct Options {
    /// For agents; port 0 picks a free one.
    pub grpc: SocketAddr,
    /// For people; port 0 picks a free one.
    pub api: SocketAddr,
    /// For probes without TLS; none if it is absent.
    pub health: Option<SocketAddr>,
    /// Where agents call; if empty, where it listens.
    pub advertise: Vec<HubAddress>,
    /// Further names in the hub's certificate.
    pub hosts: Vec<String>,
    pub agent_life: Duration,
    /// Where copies of the audit log go.
    pub audit: ExportOptions,
    pub settings: Settings,
}

impl Options {
    /// On free ports of this machine.
    pub fn local() -> Self {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        Self {
            grpc: any,
            api: any,
            health: None,
            advertise: Vec::new(),
            hosts: Vec::new(),
            agent_life: AGENT_LIFE,
            audit: ExportOptions::default(),
            settings: Settings::default(),
        }
    }
}

/// A hub that serves.
pub struct Serving {
    pub hub: Arc<Hub>,
    pub grpc: SocketAddr,
    pub api: SocketAddr,
    pub health: Option<SocketAddr>,
}

/// A hub that could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("the hub's secrets cannot be used")]
    Vault(#[from] VaultError),
    #[error("the audit log cannot be copied")]
    Audit(#[from] ExportError),
    #[error("cannot make the first token")]
    FirstToken(#[from] api::FirstTokenError),
    #[error("cannot listen on {address} for {what}")]
    Listen { address: SocketAddr, what: &'static str, source: std::io::Error },
    #[error("cannot advertise the address that the hub listens on")]
    Advertise(#[source] AddressError),
    #[error(
        "{} holds a store and no CA, or a CA and no store: it is not a whole hub's; restore a backup into an empty \
         folder", .0.display()
    )]
    Half(PathBuf),
}

/// Ends the hub once another one writes to its store: what it serves would be a picture that nobody keeps up.
async fn lease(hub: Arc<Hub>) -> Result<(), StoreError> {
    tokio::select! {
        lost = hub.records.lease_lost() => Err(lost),
        () = hub.tasks.shutdown().cancelled() => Ok(()),
    }
}

/// Starts everything but the fleet loop.
pub async fn start(data: &Path, options: Options, tasks: Tasks, clock: Clock) -> Result<Serving, StartError> {
    let (folder, at) = (data.to_owned(), timestamp(&clock));
    let records = blocking(move || open_records(&folder, at)).await?;
    let grpc = listen(options.grpc, "agents").await?;
    let api = listen(options.api, "people").await?;
    let health = match options.health {
        Some(address) => Some(listen(address, "probes").await?),
        None => None,
    };
    let health_at = match (&health, options.health) {
        (Some(listener), Some(address)) => Some(local(listener, address, "probes")?),
        _ => None,
    };
    let (grpc_at, api_at) = (local(&grpc, options.grpc, "agents")?, local(&api, options.api, "people")?);

    let mut addresses = options.advertise.clone();
    if addresses.is_empty() {
        let own = reachable(grpc_at).to_string().parse().map_err(StartError::Advertise)?;
        if grpc_at.ip().is_unspecified() {
            tracing::warn!(
                "agents are told to call {own}, which only works here: give --advertise HOST:PORT"
            );
        }
        addresses.push(own);
    }
    let authority = AuthorityOptions {
        hosts: hosts(&options, &addresses, [grpc_at, api_at]),
        addresses,
        agent_life: options.agent_life,
    };
    let (folder, ca_clock) = (data.to_owned(), clock.clone());
    let authority = blocking(move || Authority::open(&folder, authority, ca_clock)).await?;
    let agents_tls = authority.agents_tls();
    let people_tls = authority.people_tls();
    let (folder, kept) = (data.to_owned(), records.clone());
    let vault = blocking(move || Vault::open(&folder, kept)).await?;
    let journal = blocking(move || Journal::open(records)).await?;
    let hub = Hub::new(data, journal, vault, authority, tasks.clone(), clock, options.settings);

    let limits = PortLimits::within(raise_file_limit());
    tracing::info!(
        agents = limits.agents.connections,
        people = limits.people.connections,
        "connections that this process may have"
    );
    let accept =
        |places, anonymous_life| AcceptOptions { places, anonymous_life, ..AcceptOptions::default() };
    let agents = Acceptor::new(grpc, agents_tls, accept(limits.agents, Some(ANONYMOUS)));
    let people = Acceptor::new(api, people_tls, accept(limits.people, None));
    hub.ports.get_or_init(|| [agents.places(), people.places()]);
    tasks.spawn("agents", Policy::ESSENTIAL, session::serve(hub.clone(), agents));
    tasks.spawn("api", Policy::ESSENTIAL, api::serve(hub.clone(), people));
    if let Some(listener) = health {
        tasks.spawn("probes", Policy::ESSENTIAL, api::serve_health(hub.clone(), listener));
    }
    export::spawn(&hub, options.audit)?;
    tasks.spawn("lease", Policy::ESSENTIAL, lease(hub.clone()));
    let backoff = || Backoff::new(Duration::from_secs(1), Duration::from_secs(60));
    let shared = hub.clone();
    tasks.spawn_loop("certificates", OnShutdown::Drop, backoff(), move || upkeep(shared.clone()));
    let shared = hub.clone();
    tasks.spawn_loop("journal", OnShutdown::Wait, backoff(), move || journal_events(shared.clone()));
    let shared = hub.clone();
    tasks.spawn_loop("notices", OnShutdown::Drop, backoff(), move || notices(shared.clone()));

    let mut text = serde_json::json!({
        "grpc": reachable(grpc_at).to_string(),
        "api": format!("https://{}", reachable(api_at)),
    });
    if let Some(at) = health_at {
        text["health"] = format!("http://{}", reachable(at)).into();
    }
    let path = data.join("addresses.json");
    blocking(move || files::write_atomic(&path, format!("{text}\n").as_bytes(), files::PUBLIC)).await?;
    tracing::info!(agents = %grpc_at, people = %api_at, "serving");
    Ok(Serving { hub, grpc: grpc_at, api: api_at, health: health_at })
}

/// Opens the store, or makes it at the first start with the first token. Blocking.
fn open_records(data: &Path, now: i64) -> Result<Arc<Records>, StartError> {
    files::private_folder(data)?;
    // Made here, so that what others write into them is closed to other users from the first moment.
    for folder in [STORE_FOLDER, SOURCES_FOLDER, REPO_FOLDER, REFS_FOLDER] {
        files::private_folder(&data.join(folder))?;
    }
    let records = Arc::new(Records::open(Arc::new(DiskStore::open(&data.join(STORE_FOLDER))?))?);
    // A store that served before had a CA: making another one would turn all agents away without a word.
    let has_ca = files::is_there(&data.join(crate::store::backup::CA_FOLDER).join("signing"))?;
    if !has_ca && !records.clusters()?.is_empty() {
        return Err(StartError::Half(data.to_owned()));
    }
    api::first_token(&records, data, now)?;
    Ok(records)
}

async fn listen(address: SocketAddr, what: &'static str) -> Result<TcpListener, StartError> {
    TcpListener::bind(address).await.map_err(|source| StartError::Listen { address, what, source })
}

fn local(listener: &TcpListener, address: SocketAddr, what: &'static str) -> Result<SocketAddr, StartError> {
    listener.local_addr().map_err(|source| StartError::Listen { address, what, source })
}

/// An address that this machine itself can call.
fn reachable(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V4(v4) if v4.ip().is_unspecified() => ([127, 0, 0, 1], v4.port()).into(),
        SocketAddr::V6(v6) if v6.ip().is_unspecified() => (std::net::Ipv6Addr::LOCALHOST, v6.port()).into(),
        address => address,
    }
}

fn hosts(options: &Options, addresses: &[HubAddress], listening: [SocketAddr; 2]) -> Vec<String> {
    let own = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
    let listening = listening.into_iter().map(|address| reachable(address).ip().to_string());
    let called = addresses.iter().map(|address| address.host().to_owned());
    let mut hosts: Vec<String> =
        own.into_iter().chain(listening).chain(called).chain(options.hosts.iter().cloned()).collect();
    hosts.sort();
    hosts.dedup();
    hosts
}

/// Keeps the hub's certificate and the keys of session tickets fresh.
async fn upkeep(hub: Arc<Hub>) -> Result<(), TlsError> {
    let mut since_tickets = Duration::ZERO;
    loop {
        tokio::time::sleep(UPKEEP).await;
        since_tickets += UPKEEP;
        let shared = hub.clone();
        blocking(move || shared.authority.renew_hub()).await?;
        if let Some(keep) = hub.settings.keep_audit {
            let (shared, before) = (hub.clone(), hub.now() - keep.as_secs() as i64);
            // Certificates do not wait for a line that cannot be read.
            if let Err(error) = blocking(move || shared.records.expire_audit(before, EXPIRED)).await {
                tracing::warn!("cannot end old lines of the audit log: {}", chain(&error));
            }
        }
        if since_tickets >= TICKETS {
            since_tickets = Duration::ZERO;
            let shared = hub.clone();
            blocking(move || shared.authority.rotate_tickets()).await?;
        }
    }
}

/// Writes events soon after they are noted, and at the end what waits.
async fn journal_events(hub: Arc<Hub>) -> Result<(), StoreError> {
    let stop = hub.tasks.shutdown().clone();
    loop {
        let shared = hub.clone();
        blocking(move || shared.journal.flush(shared.now())).await?;
        if stop.is_cancelled() {
            return Ok(());
        }
        let next = async {
            hub.journal.inbox().wanted().await;
            // What comes soon after shares the transaction.
            tokio::time::sleep(GATHER).await;
        };
        tokio::select! {
            () = next => {}
            () = stop.cancelled() => {}
        }
    }
}

/// Tells watchers what a round of the fleet loop changed, and where stages of pipelines stand.
async fn notices(hub: Arc<Hub>) -> Result<(), Infallible> {
    let mut changes = hub.fleet.changes();
    let mut sources = hub.sources.events.changes();
    let mut rollouts = hub.rollouts.changes();
    let mut last: Arc<FleetView> = hub.fleet.view();
    let mut digests: BTreeMap<ClusterName, Option<Digest>> = BTreeMap::new();
    loop {
        // The senders live as long as the hub.
        tokio::select! {
            _ = changes.changed() => {}
            _ = sources.changed() => {}
            _ = rollouts.changed() => {}
        }
        let view = hub.fleet.view();
        for (name, facts) in &view.clusters {
            let digest = hub.board.current(name).map(|published| published.state.digest());
            let moved = digests.insert(name.clone(), digest) != Some(digest);
            if moved || last.clusters.get(name) != Some(facts) {
                hub.changes.cluster(name);
            }
        }
        hub.changes.fleet();
        last = view;
    }
}
