//! The one etcd of this process: it serves all clusters, each under its own prefix.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::sync::Mutex;

use crate::controlplane::{Component, ControlPlane};
use crate::ports::Port;
use crate::process::{Process, tail};
use crate::wait::eventually;

const READY_WITHIN: Duration = Duration::from_secs(60);

/// A running etcd. It ends, and its data with it, when the last cluster lets go of it.
#[derive(Debug)]
pub(crate) struct Etcd {
    // Dropped in this order: the process before its data.
    process: Process,
    client: Port,
    _peer: Port,
    _folder: TempDir,
    prefixes: AtomicU64,
}

static SHARED: Mutex<Weak<Etcd>> = Mutex::const_new(Weak::new());

impl Etcd {
    /// The etcd that runs already for other clusters of this process, or a new one.
    pub(crate) async fn shared(programs: &ControlPlane) -> Result<Arc<Self>> {
        let mut shared = SHARED.lock().await;
        if let Some(etcd) = shared.upgrade() {
            return Ok(etcd);
        }
        let etcd = Arc::new(Self::start(programs).await?);
        *shared = Arc::downgrade(&etcd);
        Ok(etcd)
    }

    async fn start(programs: &ControlPlane) -> Result<Self> {
        let folder =
            tempfile::Builder::new().prefix("flotilla-etcd-").tempdir().context("make a folder for etcd")?;
        let (client, peer) = (Port::reserve()?, Port::reserve()?);
        let peer_url = format!("http://127.0.0.1:{}", peer.number());
        let client_url = format!("http://127.0.0.1:{}", client.number());
        let mut process = programs
            .recipe(Component::Etcd)?
            .owning(folder.path())
            .arg(format!("--data-dir={}", folder.path().join("data").display()))
            .arg(format!("--listen-client-urls={client_url}"))
            .arg(format!("--advertise-client-urls={client_url}"))
            .arg(format!("--listen-peer-urls={peer_url}"))
            .arg(format!("--initial-advertise-peer-urls={peer_url}"))
            .arg(format!("--initial-cluster=default={peer_url}"))
            .args(["--unsafe-no-fsync", "--log-level=warn"])
            .start(folder.path().join("etcd.log"))?
            .quiet_on_panic();
        let ready = eventually(READY_WITHIN, || {
            let ended = process.ended();
            let port = client.number();
            async move {
                if let Some(status) = ended? {
                    return Ok(Some(status));
                }
                TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.context("connect")?;
                anyhow::Ok(None)
            }
        })
        .await;
        match ready {
            Ok(None) => {
                Ok(Self { process, client, _peer: peer, _folder: folder, prefixes: AtomicU64::new(0) })
            }
            Ok(Some(status)) => bail!("etcd ended at once ({status}):\n{}", tail(&process.log()?, 20)),
            Err(error) => Err(error).with_context(|| {
                format!("start etcd; it says:\n{}", tail(&process.log().unwrap_or_default(), 20))
            }),
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.client.number())
    }

    /// A prefix for the keys of one more cluster.
    pub(crate) fn new_prefix(&self) -> String {
        format!("/cluster-{}", self.prefixes.fetch_add(1, Ordering::Relaxed))
    }

    pub(crate) fn process(&self) -> &Process {
        &self.process
    }
}
