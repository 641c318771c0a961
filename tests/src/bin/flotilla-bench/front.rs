//! Stands before an HTTP server, passes everything on and counts the requests.

use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// A request that was passed on, and the status of its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Passed {
    pub(crate) request: String,
    pub(crate) status: u16,
}

/// A running front. Ends on drop.
pub(crate) struct Front {
    port: u16,
    service: Service,
    serving: JoinHandle<()>,
}

#[derive(Clone)]
struct Service {
    /// `HOST:PORT`
    behind: Arc<str>,
    client: Client<HttpConnector, Body>,
    passed: Arc<Mutex<Vec<Passed>>>,
}

impl Drop for Front {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Front {
    /// Before `http://HOST:PORT`, by `HOST:PORT`.
    ///
    /// # Errors
    /// If no port is free.
    pub(crate) async fn start(behind: &str) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("listen before a server")?;
        let port = listener.local_addr().context("ask for the port")?.port();
        let client = Client::builder(TokioExecutor::new()).build_http();
        let service = Service { behind: behind.into(), client, passed: Arc::default() };
        let router = Router::new().fallback(pass).with_state(service.clone());
        // It ends when it is aborted; serving itself has no error to return.
        let serving = tokio::spawn(async move { drop(axum::serve(listener, router).await) });
        Ok(Self { port, service, serving })
    }

    /// `HOST:PORT`
    pub(crate) fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// What was passed on since the last time that this was asked.
    pub(crate) fn take(&self) -> Vec<Passed> {
        std::mem::take(&mut *self.service.passed.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

async fn pass(State(service): State<Service>, mut request: Request) -> Response {
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str()).to_owned();
    let line = format!("{} {path}", request.method());
    let uri = Uri::builder().scheme("http").authority(&*service.behind).path_and_query(path).build();
    let response = match uri {
        Ok(uri) => {
            *request.uri_mut() = uri;
            service.client.request(request).await.map(IntoResponse::into_response).map_err(|e| e.to_string())
        }
        Err(error) => Err(error.to_string()),
    };
    let response = response.unwrap_or_else(|error| (StatusCode::BAD_GATEWAY, error).into_response());
    let passed = Passed { request: line, status: response.status().as_u16() };
    service.passed.lock().unwrap_or_else(PoisonError::into_inner).push(passed);
    response
}
