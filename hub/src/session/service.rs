//! The gRPC services on one TLS port: Enrolment for everybody, Fleet for agents with a certificate.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use flotilla_core::{Digest, Generation};
use flotilla_proto::MAX_MESSAGE;
use flotilla_proto::convert;
use flotilla_proto::v1::enrolment_server::{Enrolment, EnrolmentServer};
use flotilla_proto::v1::fleet_server::{Fleet, FleetServer};
use flotilla_proto::v1::{self, agent_message::Message};
use flotilla_runtime::limits::Rates;
use flotilla_runtime::tasks::{OnShutdown, Policy, Reaction};
use flotilla_runtime::tls::{ALPN_HTTP1, Acceptor, PeerIdentity, ServerStream};
use futures::StreamExt;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::codec::CompressionEncoding;
use tonic::transport::Server;
use tonic::transport::server::Connected;
use tonic::{Request, Response, Status, Streaming};

use super::door::{Door, Peer};
use super::driver::{OUTBOX, Session};
use super::enrolment::{self, Refusal};
use super::machine::AgentState;
use super::wrong_port;
use crate::state::{Hub, blocking};

/// How long an agent may take to say Hello.
const HELLO_LIMIT: Duration = Duration::from_secs(10);
/// The most calls that one connection may have open.
const MAX_CALLS: u32 = 4;
/// Bytes of a call's headers.
const MAX_HEADERS: u32 = 16 << 10;
/// Bytes of one connection that the hub has not looked at yet.
const WINDOW: u32 = 256 << 10;
/// Streams of one cluster: so many at once, and so many a second.
const STREAMS_BURST: u32 = 30;
const STREAMS_PER_SECOND: f64 = 1.0;

/// The server failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot serve agents")]
pub struct ServeError(#[from] tonic::transport::Error);

/// A session is one agent's; what ends it is noted where it happens.
const SESSION: Policy =
    Policy { on_error: Reaction::Log, on_end: Reaction::Log, on_shutdown: OnShutdown::Drop };

/// Serves agents until shutdown.
pub async fn serve(hub: Arc<Hub>, acceptor: Acceptor) -> Result<(), ServeError> {
    let service = Service {
        hub: hub.clone(),
        door: Arc::new(Door::default()),
        streams: Arc::new(Rates::new(STREAMS_BURST, STREAMS_PER_SECOND)),
    };
    let enrolment = EnrolmentServer::new(service.clone())
        .max_decoding_message_size(64 << 10)
        .accept_compressed(CompressionEncoding::Gzip)
        .send_compressed(CompressionEncoding::Gzip);
    let fleet = FleetServer::new(service)
        .max_decoding_message_size(MAX_MESSAGE + 1024)
        .accept_compressed(CompressionEncoding::Gzip)
        .send_compressed(CompressionEncoding::Gzip);
    let shutdown = hub.tasks.shutdown().clone();
    Server::builder()
        .max_concurrent_streams(MAX_CALLS)
        .http2_keepalive_interval(Some(Duration::from_secs(30)))
        .http2_keepalive_timeout(Some(Duration::from_secs(20)))
        .http2_max_header_list_size(MAX_HEADERS)
        .http2_max_pending_accept_reset_streams(Some(20))
        .http2_max_local_error_reset_streams(Some(20))
        .initial_stream_window_size(WINDOW / 2)
        .initial_connection_window_size(WINDOW)
        .add_service(enrolment)
        .add_service(fleet)
        .serve_with_incoming_shutdown(
            acceptor.into_stream().filter_map(move |stream| std::future::ready(grpc(&hub, stream))).boxed(),
            shutdown.cancelled_owned(),
        )
        .await?;
    Ok(())
}

#[derive(Clone)]
struct Service {
    hub: Arc<Hub>,
    door: Arc<Door>,
    streams: Arc<Rates<flotilla_core::ClusterName>>,
}

fn peer_of<T>(request: &Request<T>) -> Result<Peer, Status> {
    let peer = request.extensions().get::<Peer>().cloned();
    peer.ok_or_else(|| Status::internal("the hub does not know where this call comes from"))
}

#[tonic::async_trait]
impl Enrolment for Service {
    async fn enrol(&self, request: Request<v1::EnrolRequest>) -> Result<Response<v1::Credentials>, Status> {
        let peer = peer_of(&request)?;
        self.door.enrol(&self.hub, &peer, request.into_inner()).await.map(Response::new)
    }

    async fn renew(&self, request: Request<v1::RenewRequest>) -> Result<Response<v1::Credentials>, Status> {
        let peer = peer_of(&request)?;
        self.door.renew(&self.hub, &peer, request.into_inner()).await.map(Response::new)
    }
}

#[tonic::async_trait]
impl Fleet for Service {
    type SyncStream = ReceiverStream<Result<v1::HubMessage, Status>>;

    async fn sync(
        &self,
        request: Request<Streaming<v1::AgentMessage>>,
    ) -> Result<Response<Self::SyncStream>, Status> {
        let peer = peer_of(&request)?;
        let Some(peer) = peer.identity.clone() else {
            return Err(self.door.refused("stream", &peer, &Refusal::NoCertificate));
        };
        let cluster: flotilla_core::ClusterName =
            peer.cluster.parse().map_err(|_| Status::invalid_argument("the certificate names no cluster"))?;
        if !self.streams.try_take(cluster) {
            return Err(Status::resource_exhausted(
                "this cluster opens too many streams; try again in a moment",
            ));
        }
        let inbound = request.into_inner();
        let (outbox, messages) = mpsc::channel(OUTBOX);
        // The answer's headers go out before the Hello comes in: some clients wait for them.
        let hub = self.hub.clone();
        let name = format!("session {}", peer.cluster);
        self.hub.tasks.spawn(name, SESSION, open(hub, peer, inbound, outbox));
        Ok(Response::new(ReceiverStream::new(messages)))
    }
}

async fn open(
    hub: Arc<Hub>,
    peer: Arc<PeerIdentity>,
    mut inbound: Streaming<v1::AgentMessage>,
    outbox: mpsc::Sender<Result<v1::HubMessage, Status>>,
) -> Result<(), super::driver::SessionError> {
    let session = match greet(&hub, &peer, &mut inbound).await {
        Ok(greeted) => greeted,
        Err(status) => {
            tracing::warn!(cluster = peer.cluster, "stream refused: {}", status.message());
            // The first message of an empty channel; an agent that has gone does not hear it.
            let _ = outbox.try_send(Err(status));
            return Ok(());
        }
    };
    let Greeted { cluster, seat, hello, agent } = session;
    Session { hub, cluster, peer, seat, hello, agent, inbound, outbox }.run().await
}

struct Greeted {
    cluster: flotilla_core::ClusterName,
    seat: super::registry::Seat,
    hello: v1::Hello,
    agent: AgentState,
}

async fn greet(
    hub: &Arc<Hub>,
    peer: &Arc<PeerIdentity>,
    inbound: &mut Streaming<v1::AgentMessage>,
) -> Result<Greeted, Status> {
    let first = tokio::time::timeout(HELLO_LIMIT, inbound.message())
        .await
        .map_err(|_| Status::deadline_exceeded("no Hello came"))??;
    let Some(v1::AgentMessage { message: Some(Message::Hello(hello)) }) = first else {
        return Err(Status::invalid_argument("the first message must be Hello"));
    };
    flotilla_proto::check_protocol(hello.protocol.as_ref(), "agent")
        .map_err(|invalid| Status::failed_precondition(invalid.to_string()))?;
    if [&hello.agent_version, &hello.kubernetes_version, &hello.instance].iter().any(|text| text.len() > 100)
    {
        return Err(Status::invalid_argument(
            "Hello: a version or the instance has more than 100 characters",
        ));
    }
    let root: Option<Digest> = convert::optional_digest("hello.root_digest", &hello.root_digest)
        .map_err(|invalid| Status::invalid_argument(invalid.to_string()))?;
    let capabilities = flotilla_core::Capabilities::read(hello.capabilities.clone())
        .map_err(|error| Status::invalid_argument(format!("Hello: {error}")))?;
    let agent = AgentState { root, generation: Generation(hello.generation), capabilities };
    let admit = |uid: String| {
        let (hub, peer) = (hub.clone(), peer.clone());
        blocking(move || enrolment::admit(&hub, &peer, &uid))
    };
    let cluster = admit(hello.cluster_uid.clone()).await.map_err(|refusal| refusal.status())?;
    let seat = hub
        .sessions
        .enter(&cluster, &hello.instance, hub.now())
        .map_err(|second| Status::failed_precondition(second.to_string()))?;
    // Once more: a revocation between the first look and the seat would have found nobody to cut off.
    if let Err(refusal) = admit(hello.cluster_uid.clone()).await {
        hub.sessions.leave(&cluster, seat.id, seat.recent, "refused");
        return Err(refusal.status());
    }
    Ok(Greeted { cluster, seat, hello, agent })
}

/// The connection, if it speaks what gRPC needs. A client of HTTP/1 is a person's: it is told which port this is.
fn grpc(hub: &Hub, stream: std::io::Result<ServerStream>) -> Option<std::io::Result<Connection>> {
    match stream {
        Ok(stream) if stream.alpn() == Some(ALPN_HTTP1) => {
            hub.tasks.spawn("a person at the agents' port", SESSION, wrong_port::answer(stream));
            None
        }
        stream => Some(stream.map(Connection)),
    }
}

/// A TLS connection, for tonic.
struct Connection(ServerStream);

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        Peer { identity: self.0.identity(), address: self.0.peer_addr().ip() }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
