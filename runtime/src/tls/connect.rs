//! Connecting to a hub: each address in turn, each of its IP addresses in turn, TCP then TLS, with limits.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::{CertificateError, OtherError};
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::{ClientTls, HubAddress};

/// When the kernel asks a silent peer whether it is there, and how often.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// Makes TLS connections with the settings of the moment. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Connector {
    tls: Arc<ClientTls>,
    timeout: Duration,
}

/// Why a hub cannot be reached.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("cannot resolve {address}")]
    Resolve { address: HubAddress, source: io::Error },
    #[error("cannot connect to {address} at {at}")]
    Connect { address: HubAddress, at: SocketAddr, source: io::Error },
    /// TCP was there; TLS, or who the other side is, was not right.
    #[error("no TLS with {address}")]
    Handshake { address: HubAddress, source: io::Error },
    #[error("no answer from {address} within {limit:?}")]
    Timeout { address: HubAddress, limit: Duration },
    #[error("there is no hub address to connect to")]
    NoAddress,
    /// Each address failed, for its own reason.
    #[error("no hub address can be reached: {}", .0.iter().map(|error| crate::tasks::chain(error)).collect::<Vec<_>>().join("; "))]
    All(Vec<ConnectError>),
}

impl Connector {
    /// `timeout` bounds each IP address's connection and handshake together.
    pub fn new(tls: Arc<ClientTls>, timeout: Duration) -> Self {
        Self { tls, timeout }
    }

    /// Connects to the first of the addresses that works, and says which one that was.
    pub async fn connect_any(
        &self,
        addresses: &[HubAddress],
    ) -> Result<(HubAddress, TlsStream<TcpStream>), ConnectError> {
        let mut errors = Vec::new();
        for address in addresses {
            match self.connect(address).await {
                Ok(stream) => return Ok((address.clone(), stream)),
                Err(error) => errors.push(error),
            }
        }
        Err(one_or_all(errors))
    }

    /// Connects to one address.
    pub async fn connect(&self, address: &HubAddress) -> Result<TlsStream<TcpStream>, ConnectError> {
        let resolve = tokio::net::lookup_host((address.host(), address.port()));
        let resolved = match timeout(self.timeout, resolve).await {
            Err(_) => return Err(self.too_late(address)),
            Ok(Err(source)) => return Err(ConnectError::Resolve { address: address.clone(), source }),
            Ok(Ok(resolved)) => resolved,
        };
        let mut errors = Vec::new();
        for at in resolved {
            match timeout(self.timeout, self.connect_at(address, at)).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => errors.push(error),
                Err(_) => errors.push(self.too_late(address)),
            }
        }
        Err(one_or_all(errors))
    }

    async fn connect_at(
        &self,
        address: &HubAddress,
        at: SocketAddr,
    ) -> Result<TlsStream<TcpStream>, ConnectError> {
        let connected = TcpStream::connect(at).await.and_then(|stream| {
            tune(&stream)?;
            Ok(stream)
        });
        let stream =
            connected.map_err(|source| ConnectError::Connect { address: address.clone(), at, source })?;
        TlsConnector::from(self.tls.config())
            .connect(address.server_name(), stream)
            .await
            .map_err(|error| ConnectError::Handshake { address: address.clone(), source: readable(error) })
    }

    fn too_late(&self, address: &HubAddress) -> ConnectError {
        ConnectError::Timeout { address: address.clone(), limit: self.timeout }
    }
}

/// The other side's certificate is from a CA that is not among the trusted ones.
#[derive(Debug, thiserror::Error)]
#[error("its certificate is from a CA that is not trusted here (UnknownIssuer)")]
struct UnknownCa;

impl ConnectError {
    /// Whether an address was answered by somebody whose CA is not trusted here: another hub, or one that lost its own CA.
    pub fn is_unknown_ca(&self) -> bool {
        match self {
            Self::Handshake { source, .. } => source.get_ref().is_some_and(|inner| inner.is::<UnknownCa>()),
            Self::All(errors) => errors.iter().any(Self::is_unknown_ca),
            Self::Resolve { .. } | Self::Connect { .. } | Self::Timeout { .. } | Self::NoAddress => false,
        }
    }
}

/// rustls shows the reason that a verifier of ours gives in its `Debug` form only.
fn readable(error: io::Error) -> io::Error {
    let reason = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match reason {
        Some(rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(reason)))) => {
            io::Error::new(error.kind(), reason.clone())
        }
        Some(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer)) => {
            io::Error::new(error.kind(), UnknownCa)
        }
        _ => error,
    }
}

fn one_or_all(mut errors: Vec<ConnectError>) -> ConnectError {
    match errors.len() {
        0 => ConnectError::NoAddress,
        1 => errors.swap_remove(0),
        _ => ConnectError::All(errors),
    }
}

/// Small messages leave at once, and a dead peer is noticed.
pub(crate) fn tune(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE);
    SockRef::from(stream).set_tcp_keepalive(&keepalive)
}
