//! The HTTP server: TLS connections, each served by a task that ends with the server. What a client can hold is
//! bounded: connections ([`flotilla_runtime::tls::Places`]), how long one is idle, streams, headers and buffers.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use flotilla_runtime::tls::{ALPN_H2, Acceptor, Place, ServerStream};
use http::Request;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::activity::{Activity, Held};
use super::router;
use crate::state::Hub;

/// How long a client may take to send a request's head, and how long a connection may be without a request.
const IDLE: Duration = Duration::from_secs(15);
/// How long an idle connection may take to end when it is told to.
const LINGER: Duration = Duration::from_secs(2);
/// Requests of one connection at once.
const MAX_STREAMS: u32 = 32;
/// Bytes of a request's headers, and how many there may be.
const MAX_HEADERS: usize = 16 << 10;
const MAX_HEADER_COUNT: usize = 64;
/// Bytes that one connection's HTTP/2 may have on their way in and out.
const WINDOW: u32 = 128 << 10;
const SEND_BUFFER: usize = 128 << 10;

/// Who is at the other end of the connection that a request came by.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    pub(crate) address: std::net::IpAddr,
    pub(crate) place: Arc<Place>,
}

/// Serves people until shutdown; requests that are under way then are finished. Never fails.
pub async fn serve(hub: Arc<Hub>, mut acceptor: Acceptor) -> Result<(), Infallible> {
    let router = router(hub.clone());
    let shutdown = hub.tasks.shutdown().clone();
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = shutdown.cancelled() => break,
            stream = acceptor.accept() => {
                connections.spawn(connection(stream, router.clone(), shutdown.clone()));
            }
            Some(ended) = connections.join_next() => log(ended),
        }
    }
    drop(acceptor);
    while let Some(ended) = connections.join_next().await {
        log(ended);
    }
    Ok(())
}

fn log(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!("a connection's task ended: {error}");
    }
}

async fn connection(stream: ServerStream, router: axum::Router, shutdown: CancellationToken) {
    let address = stream.peer_addr();
    let peer = Peer { address: address.ip(), place: stream.place() };
    let activity = Activity::new();
    let service = hyper::service::service_fn({
        let activity = activity.clone();
        move |request: Request<Incoming>| {
            let (router, open) = (router.clone(), activity.begin());
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(peer.clone());
            async move {
                let response = router.oneshot(request).await?;
                // It is under way until all of its answer has left.
                Ok::<_, Infallible>(response.map(|body| Held::new(body, open)))
            }
        }
    });
    // What both agreed on in the handshake: finding out by the first bytes would wait for them without a limit.
    let builder = Builder::new(TokioExecutor::new());
    let mut builder =
        if stream.alpn() == Some(ALPN_H2) { builder.http2_only() } else { builder.http1_only() };
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE)
        .max_headers(MAX_HEADER_COUNT)
        .max_buf_size(2 * MAX_HEADERS);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(20))
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEADERS as u32)
        .max_pending_accept_reset_streams(MAX_STREAMS as usize)
        .max_local_error_reset_streams(MAX_STREAMS as usize)
        .initial_stream_window_size(WINDOW / 2)
        .initial_connection_window_size(WINDOW)
        .max_send_buf_size(SEND_BUFFER);
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let mut ending = false;
    let mut last: Option<Instant> = None;
    let result = loop {
        tokio::select! {
            result = &mut connection => break result,
            () = shutdown.cancelled(), if !ending => {
                ending = true;
                connection.as_mut().graceful_shutdown();
            }
            () = activity.idle(IDLE), if last.is_none() => {
                ending = true;
                last = Some(Instant::now() + LINGER);
                connection.as_mut().graceful_shutdown();
            }
            () = until(last), if last.is_some() => {
                tracing::debug!(peer = %address, "connection ended: it was idle");
                return;
            }
        }
    };
    if let Err(error) = result {
        tracing::debug!(peer = %address, "connection ended: {error}");
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
