//! Accepting connections: many handshakes at once, each with a limit, and none in the way of another.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::Stream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinError, JoinSet};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::connect::tune;
use super::server::Refused;
use super::{PeerIdentity, ServerTls};
use crate::tasks::chain;

/// After an accept that failed for want of something (file descriptors), until the next.
const PAUSE: Duration = Duration::from_millis(100);

/// Limits on connections that are not established yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AcceptOptions {
    /// How long a handshake may take.
    pub handshake_timeout: Duration,
    /// How many may go on at once; more connections wait in the kernel's queue.
    pub max_handshakes: usize,
}

impl Default for AcceptOptions {
    fn default() -> Self {
        Self { handshake_timeout: Duration::from_secs(10), max_handshakes: 512 }
    }
}

/// A listener with TLS. Handshakes that are not finished when it is dropped are ended.
#[derive(Debug)]
pub struct Acceptor {
    listener: TcpListener,
    tls: Arc<ServerTls>,
    options: AcceptOptions,
    handshakes: JoinSet<Result<ServerStream, Failed>>,
}

#[derive(Debug)]
struct Failed {
    peer: SocketAddr,
    reason: HandshakeError,
}

#[derive(Debug, thiserror::Error)]
enum HandshakeError {
    #[error("it took longer than {0:?}")]
    Timeout(Duration),
    #[error("TLS failed")]
    Tls(#[source] io::Error),
    #[error("the peer was refused")]
    Refused(#[source] Refused),
}

impl Acceptor {
    /// On a listener that is bound already.
    pub fn new(listener: TcpListener, tls: Arc<ServerTls>, options: AcceptOptions) -> Self {
        Self { listener, tls, options, handshakes: JoinSet::new() }
    }

    /// Where it listens.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// The next established connection. Failed handshakes are logged at debug with the peer's address and
    /// the reason. Never fails: what goes wrong with one connection, or for a moment with all, is not the
    /// caller's concern. Cancel-safe; handshakes go on while nobody calls.
    pub async fn accept(&mut self) -> ServerStream {
        loop {
            let room = self.handshakes.len() < self.options.max_handshakes;
            tokio::select! {
                Some(finished) = self.handshakes.join_next() => {
                    if let Some(stream) = established(finished) {
                        return stream;
                    }
                }
                accepted = self.listener.accept(), if room => match accepted {
                    Ok((stream, peer)) => self.start(stream, peer),
                    Err(error) => {
                        tracing::warn!("cannot accept a connection: {error}");
                        tokio::time::sleep(PAUSE).await;
                    }
                },
            }
        }
    }

    /// All established connections, for servers that take a stream. Never ends.
    pub fn into_stream(self) -> impl Stream<Item = io::Result<ServerStream>> + Send {
        futures::stream::unfold(self, |mut acceptor| async move {
            let stream = acceptor.accept().await;
            Some((Ok(stream), acceptor))
        })
    }

    fn start(&mut self, stream: TcpStream, peer: SocketAddr) {
        let (current, limit) = (self.tls.current(), self.options.handshake_timeout);
        self.handshakes.spawn(async move {
            let handshake = async {
                tune(&stream).map_err(HandshakeError::Tls)?;
                let stream = TlsAcceptor::from(current.config.clone())
                    .accept(stream)
                    .await
                    .map_err(HandshakeError::Tls)?;
                let identity = current.peer(stream.get_ref().1).map_err(HandshakeError::Refused)?;
                Ok(ServerStream { stream, peer, identity: identity.map(Arc::new) })
            };
            tokio::time::timeout(limit, handshake)
                .await
                .unwrap_or(Err(HandshakeError::Timeout(limit)))
                .map_err(|reason| Failed { peer, reason })
        });
    }
}

fn established(finished: Result<Result<ServerStream, Failed>, JoinError>) -> Option<ServerStream> {
    match finished {
        Ok(Ok(stream)) => Some(stream),
        Ok(Err(Failed { peer, reason })) => {
            tracing::debug!(%peer, "handshake failed: {}", chain(&reason));
            None
        }
        Err(error) => {
            tracing::error!("a handshake's task ended: {error}");
            None
        }
    }
}

/// An established connection and who is at its other end.
#[derive(Debug)]
pub struct ServerStream {
    stream: TlsStream<TcpStream>,
    peer: SocketAddr,
    identity: Option<Arc<PeerIdentity>>,
}

impl ServerStream {
    /// The cluster that the peer's certificate names; `None` if it gave none.
    pub fn identity(&self) -> Option<Arc<PeerIdentity>> {
        self.identity.clone()
    }

    /// The peer's address.
    pub fn peer_addr(&self) -> SocketAddr {
        self.peer
    }

    /// The protocol that both agreed on.
    pub fn alpn(&self) -> Option<&[u8]> {
        self.stream.get_ref().1.alpn_protocol()
    }
}

impl AsyncRead for ServerStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for ServerStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
