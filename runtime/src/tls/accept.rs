//! Accepting connections: each gets a place, many handshakes at once, each with a limit, and none in the way of another.

use std::collections::{HashMap, VecDeque};
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
use super::places::Entry;
use super::server::Refused;
use super::{PeerIdentity, Place, PlaceLimits, Places, ServerTls};
use crate::limits::Origin;
use crate::tasks::chain;

/// After an accept that failed for want of something (file descriptors), until the next.
const PAUSE: Duration = Duration::from_millis(100);

/// How long a wait for a place takes at most, and how often it is looked whether there is one.
const WAIT: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(20);
/// Connections that wait for a place. They cost a file descriptor each.
const MAX_WAITING: usize = 1_024;
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
    /// Without a place yet, the oldest first.
    waiting: VecDeque<Waiting>,
    handshakes: JoinSet<Result<ServerStream, Failed>>,
    /// When it was last said that connections cannot be accepted.
    warned: Option<Instant>,
}

#[derive(Debug)]
struct Waiting {
    stream: TcpStream,
    peer: SocketAddr,
    since: Instant,
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
        let (waiting, handshakes) = (VecDeque::new(), JoinSet::new());
        Self { listener, tls, options, places, waiting, handshakes, warned: None }
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
                        if self.warned.is_none_or(|at| at.elapsed() > WAIT) {
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
        if self.waiting.len() >= MAX_WAITING {
            self.turn_one_away();
        }
        self.waiting.push_back(Waiting { stream, peer, since: Instant::now() });
    }

    /// The oldest of the address that has the most waiting.
    fn turn_one_away(&mut self) {
        let mut counts: HashMap<Origin, usize> = HashMap::new();
        for waiting in &self.waiting {
            *counts.entry(waiting.peer.ip().into()).or_default() += 1;
        }
        let count = |waiting: &Waiting| counts.get(&waiting.peer.ip().into()).copied();
        let most = self.waiting.iter().filter_map(count).max();
        if let Some(at) = self.waiting.iter().position(|waiting| count(waiting) == most) {
            self.waiting.remove(at);
            self.places.note_refused();
        }
    }

    /// Starts the handshakes of those that get a place: who has the fewest first, then who waits longest.
    fn give_places(&mut self) {
        let now = Instant::now();
        let before = self.waiting.len();
        self.waiting.retain(|waiting| now.duration_since(waiting.since) < WAIT);
        (self.waiting.len()..before).for_each(|_| self.places.note_refused());
        while !self.waiting.is_empty() {
            let fewest = (0..self.waiting.len())
                .min_by_key(|at| self.places.of_origin(self.waiting[*at].peer.ip().into()));
            let Some(at) = fewest else { return };
            match self.places.try_enter(self.waiting[at].peer.ip()) {
                Entry::Full => return,
                Entry::Place(place) => {
                    if let Some(Waiting { stream, peer, .. }) = self.waiting.remove(at) {
                        self.start(stream, peer, place);
                    }
                }
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
