//! Where connections of an HTTP client end: looked at when a name is resolved, and again once the connection stands.
//!
//! ```text
//! URL ──► host in one spelling ──► Resolver (names) ──► connect ──► Peers: the address at the other end ──► request
//! ```
//! The last look does not care how the address came about, so that no spelling, redirect, proxy or connector can get
//! around it.

use std::collections::HashSet;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use flotilla_runtime::lock;
use hyper_util::client::legacy::connect::{Connection, HttpInfo};
use reqwest::blocking::ClientBuilder;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tower::{BoxError, Layer, Service};

use crate::reach::{Reach, ReachError};

/// Names that one client resolves before what it knows of them is forgotten.
const REMEMBERED: usize = 1024;

/// A client that talks to nobody whom `reach` does not allow, and to nobody else through the environment's proxy.
pub(crate) fn guarded(builder: ClientBuilder, reach: &Reach) -> ClientBuilder {
    if *reach == Reach::Anything {
        return builder;
    }
    let guard = Guard { reach: reach.clone(), resolved: Arc::default() };
    // A proxy of the environment would be asked for what the operator allowed to be fetched directly.
    builder.no_proxy().dns_resolver(Arc::new(guard.clone())).connector_layer(guard)
}

#[derive(Clone)]
struct Guard {
    reach: Reach,
    /// Addresses that are allowed for the name that led to them.
    resolved: Arc<Mutex<HashSet<IpAddr>>>,
}

impl Guard {
    fn resolve(&self, host: &str) -> Result<Addrs, ReachError> {
        let addresses = self.reach.addresses(host)?;
        let mut resolved = lock(&self.resolved);
        if resolved.len() > REMEMBERED {
            resolved.clear();
        }
        resolved.extend(addresses.iter().map(std::net::SocketAddr::ip));
        Ok(Box::new(addresses.into_iter()))
    }

    fn check(&self, connection: &impl Connection) -> Result<(), ReachError> {
        let mut about = http::Extensions::new();
        connection.connected().get_extras(&mut about);
        let peer = about.get::<HttpInfo>().map(|info| info.remote_addr().ip());
        let Some(peer) = peer else { return Err(ReachError::UnknownPeer) };
        if lock(&self.resolved).contains(&peer) {
            return Ok(());
        }
        self.reach.check_address(&peer.to_string(), peer)
    }
}

impl Resolve for Guard {
    fn resolve(&self, name: Name) -> Resolving {
        let guard = self.clone();
        let host = name.as_str().to_owned();
        // The system's resolver blocks, so it has a thread of its own for as long as it takes.
        let (answer, answered) = futures::channel::oneshot::channel();
        std::thread::spawn(move || drop(answer.send(guard.resolve(&host))));
        Box::pin(async move { Ok(answered.await??) })
    }
}

impl<S> Layer<S> for Guard {
    type Service = Peers<S>;

    fn layer(&self, inner: S) -> Peers<S> {
        Peers { inner, guard: self.clone() }
    }
}

/// A connector whose connections are looked at before anything is sent.
#[derive(Clone)]
struct Peers<S> {
    inner: S,
    guard: Guard,
}

impl<S, R> Service<R> for Peers<S>
where
    S: Service<R, Error = BoxError>,
    S::Response: Connection,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: R) -> Self::Future {
        let (connecting, guard) = (self.inner.call(request), self.guard.clone());
        Box::pin(async move {
            let connection = connecting.await?;
            guard.check(&connection)?;
            Ok(connection)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::time::Duration;

    use super::*;

    /// Answers each connection; its port.
    fn server() -> std::io::Result<u16> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let port = listener.local_addr()?.port();
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                // A client that goes away is what some of the cases are about.
                drop(stream.read(&mut [0; 1024]));
                drop(
                    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"),
                );
            }
        });
        Ok(port)
    }

    #[test]
    fn the_peer_is_looked_at_where_nothing_else_was() -> anyhow::Result<()> {
        let port = server()?;
        for (url, allowed, reached) in [
            // An address is not resolved: only the connection tells where it leads.
            ("http://127.0.0.1", None, false),
            ("http://2130706433", None, false),
            ("http://127.0.0.1", Some("127.0.0.0/8"), true),
            ("http://localhost", None, false),
            ("http://localhost", Some("localhost"), true),
            ("http://127.0.0.1", Some("localhost"), false),
        ] {
            let reach = Reach::Public(allowed.map(|text| text.parse()).transpose()?.into_iter().collect());
            rustls::crypto::ring::default_provider().install_default().ok();
            let client = guarded(ClientBuilder::new().timeout(Duration::from_secs(10)), &reach)
                .tls_certs_only([])
                .build()?;
            let answer = client.get(format!("{url}:{port}/")).send();
            assert_eq!(answer.is_ok(), reached, "{url} {allowed:?}: {answer:?}");
            if let Err(error) = answer {
                let mut cause: Option<&dyn std::error::Error> = Some(&error);
                let refused = std::iter::from_fn(|| {
                    let this = cause?;
                    cause = this.source();
                    Some(this)
                })
                .any(|cause| cause.is::<ReachError>());
                assert!(refused, "{url} {allowed:?}: {error:?}");
            }
        }
        Ok(())
    }
}
