//! The HTTP server: TLS connections, each served by a task that ends with the server.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use flotilla_runtime::tls::{Acceptor, ServerStream};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::router;
use crate::state::Hub;

/// The most connections at once; more wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 2_000;
/// How long a client may take to send a request's head.
const HEAD_LIMIT: Duration = Duration::from_secs(15);

/// Serves people until shutdown; requests that are under way then are finished. Never fails.
pub async fn serve(hub: Arc<Hub>, mut acceptor: Acceptor) -> Result<(), Infallible> {
    let service = TowerToHyperService::new(router(hub.clone()));
    let shutdown = hub.tasks.shutdown().clone();
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = shutdown.cancelled() => break,
            stream = acceptor.accept(), if connections.len() < MAX_CONNECTIONS => {
                connections.spawn(connection(stream, service.clone(), shutdown.clone()));
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

async fn connection(
    stream: ServerStream,
    service: TowerToHyperService<axum::Router>,
    shutdown: CancellationToken,
) {
    let peer = stream.peer_addr();
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_LIMIT);
    builder.http2().timer(TokioTimer::new()).max_concurrent_streams(100);
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let result = tokio::select! {
        result = &mut connection => result,
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(%peer, "connection ended: {error}");
    }
}
