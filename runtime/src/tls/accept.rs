//! Accepting connections: each gets a place, many handshakes at once, each with a limit, and none in the way of another.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures::Stream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, Sleep};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::WaitForCancellationFutureOwned;

use super::connect::tune;
use super::server::Refused;
use super::waiting::Waiting;
use super::{PeerIdentity, Place, PlaceLimits, Places, ServerTls};
use crate::tasks::chain;

/// After an accept that failed for want of something (file descriptors), until the next.
const PAUSE: Duration = Duration::from_millis(100);

/// How often it is looked whether somebody who waits may have another's place, and how many get one then.
const LOOK: Duration = Duration::from_millis(20);
const AT_ONCE: usize = 16;
/// How often it is said that connections cannot be accepted.
const WARNED: Duration = Duration::from_secs(10);
/// A connection to which nothing can be written for so long is given up.
const STALLED: Duration = Duration::from_secs(30);

/// Limits on connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AcceptOptions {
    /// How long a handshake may take.
    pub handshake_timeout: Duration,
    pub places: PlaceLimits,
    /// How long a connection may live whose peer showed no certificate; `None`: its server decides.
    pub anonymous_life: Option<Duration>,
}

impl Default for AcceptOptions {
    fn default() -> Self {
        Self {
            handshake_timeout: Duration::from_secs(10),
            places: PlaceLimits::default(),
            anonymous_life: None,
        }
    }
}

/// A listener with TLS. Handshakes that are not finished when it is dropped are ended.
#[derive(Debug)]
pub struct Acceptor {
    listener: TcpListener,
    tls: Arc<ServerTls>,
    options: AcceptOptions,
    places: Arc<Places>,
    /// Without a place yet.
    waiting: Waiting<TcpStream>,
    look_at: Instant,
    handshakes: JoinSet<Result<ServerStream, Failed>>,
    /// When it was last said that connections cannot be accepted.
    warned: Option<Instant>,
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
    #[error("it had to make room for others")]
    Evicted,
    #[error("TLS failed")]
    Tls(#[source] io::Error),
    #[error("the peer was refused")]
    Refused(#[source] Refused),
}

impl Acceptor {
    /// On a listener that is bound already.
    pub fn new(listener: TcpListener, tls: Arc<ServerTls>, options: AcceptOptions) -> Self {
        let places = Places::new(options.places);
        let waiting = Waiting::new(options.places.waiting);
        let (look_at, handshakes) = (Instant::now(), JoinSet::new());
        Self { listener, tls, options, places, waiting, look_at, handshakes, warned: None }
    }

    /// Where it listens.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// The places of its connections.
    pub fn places(&self) -> Arc<Places> {
        self.places.clone()
    }

    /// The next established connection. Failed handshakes are logged at debug with the peer's address and
    /// the reason. Never fails: what goes wrong with one connection, or for a moment with all, is not the
    /// caller's concern. Cancel-safe; handshakes go on while nobody calls.
    pub async fn accept(&mut self) -> ServerStream {
        loop {
            self.give_places();
            tokio::select! {
                Some(finished) = self.handshakes.join_next() => {
                    if let Some(stream) = established(finished) {
                        return stream;
                    }
                }
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, peer)) => self.arrive(stream, peer),
                    Err(error) => {
                        if self.warned.is_none_or(|at| at.elapsed() > WARNED) {
                            self.warned = Some(Instant::now());
                            tracing::warn!("cannot accept connections: {error}");
                        }
                        tokio::time::sleep(PAUSE).await;
                    }
                },
                () = tokio::time::sleep(LOOK), if !self.waiting.is_empty() => {}
            }
        }
    }

    fn arrive(&mut self, stream: TcpStream, peer: SocketAddr) {
        if !self.places.may_open(peer.ip()) {
            return;
        }
        let gone = self.waiting.push(stream, peer);
        self.places.note_refused(gone);
    }

    /// Starts handshakes: of those who wait longest as long as there is room; now and then also of those whose address has
    /// the fewest, in the place of others.
    fn give_places(&mut self) {
        let gone = self.waiting.expire();
        self.places.note_refused(gone);
        while let Some(peer) = self.waiting.first()
            && let Some(place) = self.places.free(peer.ip())
        {
            self.start_next(place, Waiting::pop);
        }
        if self.waiting.is_empty() || Instant::now() < self.look_at {
            return;
        }
        self.look_at = Instant::now() + LOOK;
        for _ in 0..AT_ONCE {
            let Some(origin) = self.places.fewest(self.waiting.origins()) else { return };
            let Some(place) = self.places.enter_by_eviction(origin) else { return };
            self.start_next(place, |waiting| waiting.pop_of(origin));
        }
    }

    /// All established connections, for servers that take a stream. Never ends.
    pub fn into_stream(self) -> impl Stream<Item = io::Result<ServerStream>> + Send {
        futures::stream::unfold(self, |mut acceptor| async move {
            let stream = acceptor.accept().await;
            Some((Ok(stream), acceptor))
        })
    }

    fn start_next(
        &mut self,
        place: Place,
        next: impl FnOnce(&mut Waiting<TcpStream>) -> Option<(TcpStream, SocketAddr)>,
    ) {
        if let Some((stream, peer)) = next(&mut self.waiting) {
            self.start(stream, peer, place);
        }
    }

    fn start(&mut self, stream: TcpStream, peer: SocketAddr, place: Place) {
        let current = self.tls.current();
        let AcceptOptions { handshake_timeout: limit, anonymous_life, .. } = self.options;
        self.handshakes.spawn(async move {
            let end = place.end().clone();
            let handshake = async {
                tune(&stream).map_err(HandshakeError::Tls)?;
                let stream = TlsAcceptor::from(current.config.clone())
                    .accept(stream)
                    .await
                    .map_err(HandshakeError::Tls)?;
                let identity = current.peer(stream.get_ref().1).map_err(HandshakeError::Refused)?;
                if let Some(identity) = &identity {
                    place.prove(&identity.cluster);
                }
                let life = anonymous_life.filter(|_| identity.is_none());
                let end = Ending {
                    place: Box::pin(place.end().clone().cancelled_owned()),
                    life: life.map(|life| Box::pin(tokio::time::sleep(life))),
                    stalled: None,
                };
                Ok(ServerStream {
                    stream,
                    peer,
                    identity: identity.map(Arc::new),
                    place: Arc::new(place),
                    end,
                })
            };
            let result = tokio::select! {
                result = tokio::time::timeout(limit, handshake) => {
                    result.unwrap_or(Err(HandshakeError::Timeout(limit)))
                }
                () = end.cancelled() => Err(HandshakeError::Evicted),
            };
            result.map_err(|reason| Failed { peer, reason })
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

/// An established connection and who is at its other end. Reading fails once it has lost its place or lived too long,
/// writing once the other side has taken nothing for half a minute.
#[derive(Debug)]
pub struct ServerStream {
    stream: TlsStream<TcpStream>,
    peer: SocketAddr,
    identity: Option<Arc<PeerIdentity>>,
    place: Arc<Place>,
    end: Ending,
}

/// What ends a connection whatever is going on in it.
#[derive(Debug)]
struct Ending {
    place: Pin<Box<WaitForCancellationFutureOwned>>,
    life: Option<Pin<Box<Sleep>>>,
    stalled: Option<Pin<Box<Sleep>>>,
}

impl Ending {
    fn check(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let closed = |why| Err(io::Error::new(io::ErrorKind::ConnectionAborted, why));
        if self.place.as_mut().poll(cx).is_ready() {
            return closed("the connection had to make room for others");
        }
        if self.life.as_mut().is_some_and(|life| life.as_mut().poll(cx).is_ready()) {
            return closed("a connection without a certificate lives no longer");
        }
        Ok(())
    }

    /// Passes on what came of a write, unless nothing has come of it for too long.
    fn watch<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(STALLED)));
        ready!(stalled.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the other side reads nothing")))
    }
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

    /// Its place among the port's connections.
    pub fn place(&self) -> Arc<Place> {
        self.place.clone()
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
        self.end.check(cx)?;
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for ServerStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.end.watch(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bytes);
        self.end.watch(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let written = Pin::new(&mut self.stream).poll_flush(cx);
        self.end.watch(cx, written)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
