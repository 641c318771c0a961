//! A hub that answers what a test tells it to, over real TLS, and remembers what it was asked.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use flotilla_runtime::tls::{
    ALPN_HTTP1, AcceptOptions, Acceptor, Ca, ClientCertificates, Clock, ServerTls, TicketKeys, TrustBundle,
    Validity,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;

const TOKEN: &str = "flt_test";

/// The hub; it ends when it is dropped.
pub(crate) struct FakeHub {
    data: tempfile::TempDir,
    state: Arc<Shared>,
    _server: JoinSet<()>,
}

struct Shared {
    /// By method, path and query below `/api/v1/`; the query of paging left out.
    answers: Mutex<BTreeMap<String, (u16, Value)>>,
    asked: Mutex<Vec<(String, Value)>>,
    /// Counts changes; `None` cuts all watches.
    changes: watch::Sender<Option<u64>>,
}

impl FakeHub {
    pub(crate) async fn start() -> anyhow::Result<Self> {
        let now = SystemTime::now();
        let ca = Ca::create(now)?;
        let identity = ca.issue_hub(&[], Validity { now, life: Duration::from_secs(3600) })?;
        let (bundle, clock) = (TrustBundle::from_pem(&ca.certificate_pem())?, Clock::system());
        let tickets = TicketKeys::ephemeral(clock.clone());
        let tls =
            ServerTls::new(&identity, &bundle, ClientCertificates::None, &[ALPN_HTTP1], tickets, clock)?;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;

        let data = tempfile::tempdir()?;
        std::fs::write(data.path().join("ca.pem"), ca.certificate_pem())?;
        std::fs::write(data.path().join("admin-token"), format!("{TOKEN}\n"))?;
        let addresses = json!({"grpc": "127.0.0.1:1", "api": format!("https://{address}")});
        std::fs::write(data.path().join("addresses.json"), addresses.to_string())?;

        let (answers, asked) = (Mutex::default(), Mutex::default());
        let state = Arc::new(Shared { answers, asked, changes: watch::Sender::new(Some(0)) });
        let service = TowerToHyperService::new(Router::new().fallback(answer).with_state(state.clone()));
        let mut acceptor = Acceptor::new(listener, Arc::new(tls), AcceptOptions::default());
        let mut server = JoinSet::new();
        server.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, service) = (TokioIo::new(acceptor.accept().await), service.clone());
                connections.spawn(async move {
                    // A client may go away whenever it likes.
                    let _ = Builder::new(TokioExecutor::new()).serve_connection(stream, service).await;
                });
            }
        });
        Ok(Self { data, state, _server: server })
    }

    /// What `GET` of a path below `/api/v1/` answers from now on.
    pub(crate) fn get(&self, path: &str, body: impl Serialize) -> &Self {
        self.on(&format!("GET {path}"), 200, body)
    }

    /// A page of a list.
    pub(crate) fn list(&self, path: &str, items: impl Serialize) -> &Self {
        self.get(path, json!({"items": serde_json::to_value(items).unwrap()}))
    }

    pub(crate) fn on(&self, request: &str, status: u16, body: impl Serialize) -> &Self {
        let body = serde_json::to_value(body).unwrap();
        self.state.answers.lock().unwrap().insert(request.to_owned(), (status, body));
        self
    }

    /// What was asked with a body since the last call, or asked at all if it was no `GET`.
    pub(crate) fn changes_asked(&self) -> Vec<(String, Value)> {
        let mut asked = std::mem::take(&mut *self.state.asked.lock().unwrap());
        asked.retain(|(request, _)| !request.starts_with("GET "));
        asked
    }

    /// Tells watchers that something changed.
    pub(crate) fn changed(&self) {
        self.state.changes.send_modify(|count| *count = Some(count.unwrap_or_default() + 1));
    }

    /// Cuts the watches that there are.
    pub(crate) fn cut(&self) {
        self.state.changes.send_replace(None);
    }

    pub(crate) fn data(&self) -> &str {
        self.data.path().to_str().unwrap()
    }

    pub(crate) async fn run(&self, args: &[&str]) -> anyhow::Result<super::Ran> {
        super::run(&self.args(args)).await
    }

    /// Arguments with those that name this hub.
    pub(crate) fn args<'a>(&'a self, args: &[&'a str]) -> Vec<&'a str> {
        [args, &["--data", self.data()]].concat()
    }
}

async fn answer(State(state): State<Arc<Shared>>, request: Request) -> Response {
    let authorised =
        request.headers().get("authorization").is_some_and(|value| value == &format!("Bearer {TOKEN}"));
    if !authorised {
        return (axum::http::StatusCode::UNAUTHORIZED, axum::Json(json!({"error": "the token is unknown"})))
            .into_response();
    }
    let path = request.uri().path().trim_start_matches("/api/v1/").to_owned();
    let query = request.uri().query().unwrap_or_default();
    let query: Vec<&str> = query.split('&').filter(|q| !q.is_empty() && !q.starts_with("limit=")).collect();
    let query = if query.is_empty() { String::new() } else { format!("?{}", query.join("&")) };
    let name = format!("{} {path}{query}", request.method());
    if path == "watch" {
        return events(&state);
    }
    let body: Bytes = axum::body::to_bytes(request.into_body(), 1 << 20).await.unwrap();
    let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
    state.asked.lock().unwrap().push((name.clone(), body));
    match state.answers.lock().unwrap().get(&name) {
        Some((status, body)) => {
            (axum::http::StatusCode::from_u16(*status).unwrap(), axum::Json(body)).into_response()
        }
        None => {
            let error = json!({"error": format!("nothing is prepared for {name}")});
            (axum::http::StatusCode::NOT_FOUND, axum::Json(error)).into_response()
        }
    }
}

fn events(state: &Shared) -> Response {
    let mut changes = state.changes.subscribe();
    // A new watch lives although an older one was cut.
    state.changes.send_if_modified(|count| count.is_none().then(|| *count = Some(0)).is_some());
    changes.mark_changed();
    let stream = futures::stream::unfold(changes, |mut changes| async move {
        changes.changed().await.ok()?;
        (*changes.borrow_and_update())?;
        let event = "event: change\ndata: {\"clusters\":[],\"fleet\":true}\n\n";
        Some((Ok::<_, std::convert::Infallible>(event), changes))
    });
    ([("content-type", "text/event-stream")], Body::from_stream(stream)).into_response()
}
