//! Counts what passes between an agent and its hub: a TCP proxy that agents are told to be the hub.
//!
//! It sees TLS from outside. The records' headers tell how much of it is TLS: in TLS 1.3 a record is 5 bytes of
//! header, the content, a byte of its type and 16 bytes of authentication.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

const RECORD_HEADER: usize = 5;
/// Of each record, what is not content.
const RECORD_OVERHEAD: u64 = 22;

/// What has passed, both ways together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Count {
    pub(crate) to_agent: u64,
    pub(crate) to_hub: u64,
    /// TLS records.
    pub(crate) records: u64,
}

impl Count {
    pub(crate) fn total(self) -> u64 {
        self.to_agent + self.to_hub
    }

    /// Without TLS, if no handshake is among it.
    pub(crate) fn content(self) -> u64 {
        self.total() - self.records * RECORD_OVERHEAD
    }

    pub(crate) fn since(self, before: Self) -> Self {
        Self {
            to_agent: self.to_agent - before.to_agent,
            to_hub: self.to_hub - before.to_hub,
            records: self.records - before.records,
        }
    }
}

#[derive(Debug, Default)]
struct Shared {
    to_agent: AtomicU64,
    to_hub: AtomicU64,
    records: AtomicU64,
}

/// A running proxy. Ends on drop, with its connections.
#[derive(Debug)]
pub(crate) struct Meter {
    address: SocketAddr,
    shared: Arc<Shared>,
    hub: watch::Sender<Option<String>>,
    serving: JoinHandle<()>,
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Meter {
    /// Listens. Connections wait until [`Meter::forward_to`] says where to.
    ///
    /// # Errors
    /// If no port is free.
    pub(crate) async fn start() -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("listen for the meter")?;
        let address = listener.local_addr().context("ask for the meter's port")?;
        let shared = Arc::<Shared>::default();
        let (hub, target) = watch::channel(None);
        let serving = tokio::spawn(serve(listener, shared.clone(), target));
        Ok(Self { address, shared, hub, serving })
    }

    /// The address that agents are to call.
    pub(crate) fn address(&self) -> String {
        self.address.to_string()
    }

    /// Says where the hub listens.
    pub(crate) fn forward_to(&self, hub: String) {
        self.hub.send_replace(Some(hub));
    }

    pub(crate) fn count(&self) -> Count {
        Count {
            to_agent: self.shared.to_agent.load(Relaxed),
            to_hub: self.shared.to_hub.load(Relaxed),
            records: self.shared.records.load(Relaxed),
        }
    }
}

/// Runs until it is aborted, and its connections with it: they are in its set.
async fn serve(listener: TcpListener, shared: Arc<Shared>, target: watch::Receiver<Option<String>>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                // A caller that is gone already calls again.
                let Ok((agent, _)) = accepted else { continue };
                connections.spawn(forward(agent, shared.clone(), target.clone()));
            }
            Some(ended) = connections.join_next() => {
                if let Ok(Err(error)) = ended {
                    eprintln!("meter: {error:#}");
                }
            }
        }
    }
}

async fn forward(
    agent: TcpStream,
    shared: Arc<Shared>,
    mut target: watch::Receiver<Option<String>>,
) -> Result<()> {
    let address = target.wait_for(Option::is_some).await.context("the meter was dropped")?.clone();
    let hub = TcpStream::connect(address.unwrap_or_default()).await.context("call the hub")?;
    // Waiting for more to send would show in what is measured elsewhere.
    agent.set_nodelay(true).context("set up the agent's side")?;
    hub.set_nodelay(true).context("set up the hub's side")?;
    let (mut from_agent, mut to_agent) = agent.into_split();
    let (mut from_hub, mut to_hub) = hub.into_split();
    // Whichever side ends first takes the other along.
    tokio::select! {
        ended = copy(&mut from_agent, &mut to_hub, &shared.to_hub, &shared.records) => ended,
        ended = copy(&mut from_hub, &mut to_agent, &shared.to_agent, &shared.records) => ended,
    }
}

async fn copy(
    from: &mut (impl AsyncReadExt + Unpin),
    to: &mut (impl AsyncWriteExt + Unpin),
    bytes: &AtomicU64,
    records: &AtomicU64,
) -> Result<()> {
    let mut buffer = vec![0; 16 * 1024];
    let mut framing = Framing::default();
    loop {
        let length = from.read(&mut buffer).await?;
        if length == 0 {
            return Ok(());
        }
        to.write_all(&buffer[..length]).await?;
        bytes.fetch_add(length as u64, Relaxed);
        records.fetch_add(framing.begun_in(&buffer[..length]), Relaxed);
    }
}

/// Where records begin in a stream that comes in pieces.
#[derive(Debug, Default)]
struct Framing {
    header: Vec<u8>,
    /// Bytes of the present record that are still to come.
    rest: usize,
}

impl Framing {
    /// How many records' headers end in this piece.
    fn begun_in(&mut self, mut piece: &[u8]) -> u64 {
        let mut begun = 0;
        while !piece.is_empty() {
            let skipped = self.rest.min(piece.len());
            self.rest -= skipped;
            piece = &piece[skipped..];
            let taken = piece.len().min(RECORD_HEADER - self.header.len());
            self.header.extend_from_slice(&piece[..taken]);
            piece = &piece[taken..];
            if let [_, _, _, high, low] = self.header[..] {
                self.rest = usize::from(u16::from_be_bytes([high, low]));
                self.header.clear();
                begun += 1;
            }
        }
        begun
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_counted_however_the_stream_is_cut() {
        let mut stream = Vec::new();
        for length in [0_u16, 1, 300, 16_401] {
            stream.extend([23, 3, 3]);
            stream.extend(length.to_be_bytes());
            stream.extend(vec![7; length.into()]);
        }
        for size in [1, 2, 3, 5, 7, 64, 5000, stream.len()] {
            let mut framing = Framing::default();
            let records: u64 = stream.chunks(size).map(|piece| framing.begun_in(piece)).sum();
            assert_eq!((records, framing.rest, framing.header.len()), (4, 0, 0), "in pieces of {size}");
        }
    }
}
