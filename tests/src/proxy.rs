//! Between a client under test and its API server: sees every request, fails some on demand.
//!
//! ```text
//!   agent ──http──► ApiProxy ──https──► kube-apiserver
//!                     │ log of requests, faults (single answers), troubles (`harm`: a bad network for a while)
//! ```
//!
//! Who the client is stays as it says: its Authorization and Impersonate headers go through.

mod harm;

use std::convert::Infallible;
use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result};
use axum::Json;
use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use kube::Client;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

pub use self::harm::{Harm, Trouble};

use crate::cluster::Cluster;
use crate::components;

/// The API server takes no more than 3 MiB of an object.
const LONGEST_REQUEST: usize = 16 << 20;

/// A request as it arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub method: Method,
    /// The path with its query.
    pub path: String,
    /// The client did not act as itself but in another's name.
    pub impersonates: bool,
}

impl Seen {
    /// Whether it meant to change something. Dry runs and reviews of access do not.
    #[must_use]
    pub fn is_write(&self) -> bool {
        let asks = self.path.contains("dryRun=") || self.path.contains("authorization.k8s.io/");
        self.method != Method::GET && self.method != Method::HEAD && !asks
    }
}

/// Requests that are not forwarded but answered with an error, in the API server's form.
#[derive(Debug, Clone)]
pub struct Fault {
    /// `None` for every method.
    pub method: Option<Method>,
    /// What the path with its query must contain; `""` for every path.
    pub path: String,
    /// The answer. 429 asks the client to come back after a second, as the API server does.
    pub status: StatusCode,
    /// After so many answers the fault is over; `None` for never.
    pub times: Option<u32>,
}

impl Fault {
    fn applies(&self, seen: &Seen) -> bool {
        self.times != Some(0)
            && self.method.as_ref().is_none_or(|method| *method == seen.method)
            && seen.path.contains(&self.path)
    }
}

#[derive(Debug, Default)]
struct Shared {
    seen: Vec<Seen>,
    faults: Vec<Fault>,
    troubles: watch::Sender<Vec<Trouble>>,
}

/// A running proxy. Ends on drop.
#[derive(Debug)]
pub struct ApiProxy {
    url: String,
    kubeconfig: PathBuf,
    shared: Arc<Mutex<Shared>>,
    serving: JoinHandle<Infallible>,
}

impl ApiProxy {
    /// Starts a proxy before a cluster of the harness.
    ///
    /// # Errors
    /// For an existing context, or if no port is free.
    pub async fn start(cluster: &Cluster) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("listen for the proxy")?;
        let port = listener.local_addr().context("ask for the proxy's port")?.port();
        let url = format!("http://127.0.0.1:{port}");
        let kubeconfig = cluster.folder().join(format!("kubeconfig-proxy-{port}"));
        let content = components::kubeconfig(cluster.name(), &url, None, cluster.token()?).to_string();
        fs::write(&kubeconfig, content).with_context(|| format!("write {}", kubeconfig.display()))?;
        let shared = Arc::<Mutex<Shared>>::default();
        let upstream = cluster.anonymous_client().await?;
        // It ends when it is aborted, and its connections with it.
        let serving = tokio::spawn(serve(listener, upstream, shared.clone()));
        Ok(Self { url, kubeconfig, shared, serving })
    }

    /// The address to use in place of the API server's: plain HTTP.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// As [`Cluster::kubeconfig_path`], through the proxy.
    #[must_use]
    pub fn kubeconfig_path(&self) -> &Path {
        &self.kubeconfig
    }

    /// Fails requests from now on. Several faults may stand; the oldest that applies is taken.
    pub fn fail(&self, fault: Fault) {
        self.shared().faults.push(fault);
    }

    /// Begins a trouble beside those that stand; watches that are open have it too.
    pub fn trouble(&self, trouble: Trouble) {
        self.shared().troubles.send_modify(|troubles| troubles.push(trouble));
    }

    /// Ends all faults and troubles.
    pub fn heal(&self) {
        self.shared().faults.clear();
        self.shared().troubles.send_modify(Vec::clear);
    }

    /// The requests since the last call, failed ones included, in the order of their arrival.
    #[must_use]
    pub fn take_seen(&self) -> Vec<Seen> {
        std::mem::take(&mut self.shared().seen)
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        lock(&self.shared)
    }
}

impl Drop for ApiProxy {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn serve(listener: TcpListener, upstream: Client, shared: Arc<Mutex<Shared>>) -> Infallible {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                // A caller that is gone already calls again.
                let Ok((stream, _)) = accepted else { continue };
                let (upstream, shared) = (upstream.clone(), shared.clone());
                let service = hyper::service::service_fn(move |request: http::Request<hyper::body::Incoming>| {
                    forward(upstream.clone(), shared.clone(), request.map(Body::new))
                });
                connections.spawn(async move {
                    let server = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                    // An error is a caller that went away, or a connection that was ended on demand.
                    drop(server.serve_connection(TokioIo::new(stream), service).await);
                });
            }
            Some(ended) = connections.join_next() => {
                if let Err(error) = ended {
                    eprintln!("proxy: {error}");
                }
            }
        }
    }
}

/// An error ends the connection without an answer.
async fn forward(upstream: Client, shared: Arc<Mutex<Shared>>, request: Request) -> io::Result<Response> {
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str()).to_owned();
    let impersonates = request.headers().contains_key("impersonate-user");
    let seen = Seen { method: request.method().clone(), path, impersonates };
    if let Some(status) = fault(&mut lock(&shared), &seen) {
        return Ok(refusal(status, "a fault on demand"));
    }
    let troubles = lock(&shared).troubles.subscribe();
    let harm = drawn(&troubles.borrow(), &seen);
    match harm {
        Some(Harm::Drop) => return Err(io::Error::other("dropped on demand")),
        Some(Harm::Refuse(status)) => return Ok(refusal(status, "a trouble on demand")),
        Some(Harm::Delay(time)) => tokio::time::sleep(time).await,
        _ => {}
    }
    let is_watch = seen.method == Method::GET && seen.path.contains("watch=");
    let answer = answer(&upstream, request).await;
    match harm {
        Some(Harm::LoseAnswer) => Err(io::Error::other("its answer was lost on demand")),
        Some(Harm::CutAnswer) if !is_watch => Ok(answer.map(harm::cut)),
        _ if is_watch && answer.status().is_success() => {
            Ok(answer.map(|body| harm::watch(body, seen.path, troubles)))
        }
        _ => Ok(answer),
    }
}

/// The trouble of requests that hits this one.
fn drawn(troubles: &[Trouble], seen: &Seen) -> Option<Harm> {
    let hits = |trouble: &&Trouble| {
        !trouble.harm.is_to_watches()
            && seen.path.contains(&trouble.path)
            && rand::random::<f64>() < trouble.share
    };
    troubles.iter().find(hits).map(|trouble| trouble.harm)
}

async fn answer(upstream: &Client, request: Request) -> Response {
    let (mut parts, body) = request.into_parts();
    // They concern the connection to the proxy.
    for name in [header::HOST, header::CONNECTION, header::UPGRADE] {
        parts.headers.remove(name);
    }
    let body = match to_bytes(body, LONGEST_REQUEST).await {
        Ok(body) => kube::client::Body::from(body),
        Err(error) => return refusal(StatusCode::BAD_REQUEST, &error.to_string()),
    };
    match upstream.send(http::Request::from_parts(parts, body)).await {
        Ok(response) => response.map(Body::new),
        Err(error) => refusal(StatusCode::BAD_GATEWAY, &error.to_string()),
    }
}

/// The answer if the request is to fail, noting that it came.
fn fault(shared: &mut Shared, seen: &Seen) -> Option<StatusCode> {
    shared.seen.push(seen.clone());
    let fault = shared.faults.iter_mut().find(|fault| fault.applies(seen))?;
    fault.times = fault.times.map(|times| times - 1);
    Some(fault.status)
}

fn refusal(status: StatusCode, message: &str) -> Response {
    let reason = match status.as_u16() {
        403 => "Forbidden",
        409 => "Conflict",
        422 => "Invalid",
        429 => "TooManyRequests",
        503 => "ServiceUnavailable",
        _ => "InternalError",
    };
    let body = json!({
        "apiVersion": "v1", "kind": "Status", "status": "Failure",
        "code": status.as_u16(), "reason": reason, "message": message,
    });
    let mut response = (status, Json(body)).into_response();
    if status == StatusCode::TOO_MANY_REQUESTS {
        response.headers_mut().insert(header::RETRY_AFTER, header::HeaderValue::from_static("1"));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(method: Method, path: &str) -> Seen {
        Seen { method, path: path.to_owned(), impersonates: false }
    }

    #[test]
    fn a_fault_hits_what_it_names_and_ends() {
        let mut shared = Shared::default();
        let conflict = Fault {
            method: Some(Method::PATCH),
            path: "/deployments/".into(),
            status: StatusCode::CONFLICT,
            times: Some(2),
        };
        let broken = Fault {
            method: None,
            path: "/secrets".into(),
            status: StatusCode::INTERNAL_SERVER_ERROR,
            times: None,
        };
        shared.faults = vec![conflict, broken];
        let web = "/apis/apps/v1/namespaces/shop/deployments/web";
        let cases = [
            (Method::GET, web, None),
            (Method::PATCH, web, Some(409)),
            (Method::PATCH, web, Some(409)),
            (Method::PATCH, web, None),
            (Method::GET, "/api/v1/secrets", Some(500)),
            (Method::GET, "/api/v1/secrets", Some(500)),
        ];
        for (index, (method, path, expected)) in cases.into_iter().enumerate() {
            let answer = fault(&mut shared, &seen(method, path)).map(|status| status.as_u16());
            assert_eq!(answer, expected, "request {index}");
        }
        assert_eq!(shared.seen.len(), 6);
    }

    #[test]
    fn what_changes_nothing_is_no_write() {
        let web = "/apis/apps/v1/namespaces/shop/deployments/web";
        let cases = [
            (Method::GET, web.to_owned(), false),
            (Method::PATCH, web.to_owned(), true),
            (Method::PATCH, format!("{web}?fieldManager=flotilla&dryRun=All"), false),
            (Method::DELETE, web.to_owned(), true),
            (Method::POST, "/apis/authorization.k8s.io/v1/subjectaccessreviews".to_owned(), false),
        ];
        for (method, path, write) in cases {
            assert_eq!(seen(method.clone(), &path).is_write(), write, "{method} {path}");
        }
    }
}
