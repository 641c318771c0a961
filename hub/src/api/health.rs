//! Liveness and readiness on a port of their own, without TLS and tokens: for a kubelet's probes and load balancers. What
//! the other ports have to bear does not reach it.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::routing::get;
use flotilla_runtime::tls::{Place, PlaceLimits, Places};
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tower::ServiceExt;

use super::system;
use crate::state::Hub;

/// A probe is one short request.
const LIFE: Duration = Duration::from_secs(5);
const LIMITS: PlaceLimits =
    PlaceLimits { connections: 128, unproven: 128, per_identity: 1, waiting: 1, burst: 200, per_second: 50 };
/// After an accept that failed, until the next.
const PAUSE: Duration = Duration::from_millis(100);

/// Answers `/healthz` and `/readyz` until shutdown. Never fails.
pub async fn serve_health(hub: Arc<Hub>, listener: TcpListener) -> Result<(), Infallible> {
    let shutdown = hub.tasks.shutdown().clone();
    let router = Router::new()
        .route("/healthz", get(system::healthz))
        .route("/readyz", get(system::readyz))
        .with_state(hub);
    let places = Places::new(LIMITS);
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    if let Some(place) = places.enter(peer.ip()) {
                        connections.spawn(answer(stream, place, router.clone()));
                    }
                }
                Err(_) => tokio::time::sleep(PAUSE).await,
            },
        }
    }
}

async fn answer(stream: TcpStream, place: Place, router: Router) {
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        router.clone().oneshot(request.map(Body::new))
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(LIFE).keep_alive(false).max_buf_size(8 << 10);
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        // Who asks has gone; there is nobody to tell.
        _ = connection => {}
        () = place.end().cancelled() => {}
        () = tokio::time::sleep(LIFE) => {}
    }
}
