//! A hub on free ports, agents that speak the protocol by hand, and people with tokens.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::body::{Body, BodyDataStream, to_bytes};
use flotilla_core::desired::Removal;
use flotilla_core::unit::{ObjectEntry, UnitSpec};
use flotilla_core::{DesiredState, Object, UnitEntry, UnitId, UnitManifest};
use flotilla_hub::desired::Published;
use flotilla_hub::serve::{self, Options, Serving};
use flotilla_hub::state::Hub;
use flotilla_proto::v1::{
    self, agent_message, enrolment_client::EnrolmentClient, fleet_client::FleetClient, hub_message,
};
use flotilla_runtime::Tasks;
use flotilla_runtime::tls::{
    ALPN_H2, ALPN_HTTP1, AgentKey, ClientTls, Clock, Connector, HubAddress, Identity, Trust, TrustBundle,
};
use flotilla_runtime::token::JoinToken;
use futures::StreamExt;
use http::{Method, Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_rustls::client::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status, Streaming};

pub(crate) const LIMIT: Duration = Duration::from_secs(20);
const UID: &str = "b5c3ef0e-0000-4000-8000-000000000001";

/// A hub that ends with the test.
pub(crate) struct TestHub {
    pub(crate) folder: Option<tempfile::TempDir>,
    pub(crate) serving: Serving,
    pub(crate) tasks: Tasks,
    pub(crate) clock: Clock,
}

impl TestHub {
    pub(crate) async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut hub = Self::start_in(folder.path(), Clock::fixed(SystemTime::now())).await;
        hub.folder = Some(folder);
        hub
    }

    pub(crate) async fn start_in(data: &Path, clock: Clock) -> Self {
        Self::start_with(data, clock, Options::local()).await
    }

    pub(crate) async fn start_with(data: &Path, clock: Clock, options: Options) -> Self {
        let tasks = Tasks::new();
        let options = Options { health: Some(([127, 0, 0, 1], 0).into()), ..options };
        let serving = serve::start(data, options, tasks.clone(), clock.clone()).await.unwrap();
        Self { folder: None, serving, tasks, clock }
    }

    pub(crate) fn hub(&self) -> &Arc<Hub> {
        &self.serving.hub
    }

    pub(crate) async fn stop(self) -> Option<tempfile::TempDir> {
        let report = self.tasks.join(Duration::from_secs(5)).await;
        assert_eq!(report.exit_code(), 0, "{report:?}");
        let Self { folder, serving, .. } = self;
        let hub = Arc::downgrade(&serving.hub);
        drop(serving);
        // What was just writing has the store open until it is done.
        let closed = async {
            while hub.strong_count() > 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(LIMIT, closed).await.expect("nothing holds the hub after its end");
        folder
    }

    pub(crate) fn admin(&self) -> String {
        std::fs::read_to_string(self.hub().data.join("admin-token")).unwrap().trim().to_owned()
    }

    async fn connect(&self) -> TokioIo<TlsStream<TcpStream>> {
        let pem = std::fs::read_to_string(self.hub().data.join("ca.pem")).unwrap();
        let trust = Trust::Bundle(TrustBundle::from_pem(&pem).unwrap());
        let tls = ClientTls::new(trust, None, &[ALPN_HTTP1], self.clock.clone()).unwrap();
        let address: HubAddress = self.serving.api.to_string().parse().unwrap();
        TokioIo::new(Connector::new(Arc::new(tls), LIMIT).connect(&address).await.unwrap())
    }

    /// A request with this token, over TLS by the CA in the data folder.
    pub(crate) async fn ask(
        &self,
        token: Option<&str>,
        method: Method,
        path: &str,
        body: Value,
    ) -> (StatusCode, Value) {
        let (status, bytes) = self.ask_bytes(token, method, path, body).await;
        (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
    }

    pub(crate) async fn ask_bytes(
        &self,
        token: Option<&str>,
        method: Method,
        path: &str,
        body: Value,
    ) -> (StatusCode, Vec<u8>) {
        let mut request = Request::builder().method(method).uri(path).header(header::HOST, "hub");
        if let Some(token) = token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
        let request = request.header(header::CONTENT_TYPE, "application/json").body(body).unwrap();
        let (head, bytes) = self.send(request).await;
        (head.status, bytes)
    }

    /// The headers of an answer.
    pub(crate) async fn headers(&self, path: &str, token: Option<&str>) -> http::HeaderMap {
        let token = token.map(|token| format!("Bearer {token}")).unwrap_or_default();
        let request = Request::builder().uri(path).header(header::HOST, "hub");
        let request = request.header(header::AUTHORIZATION, token).body(Body::empty()).unwrap();
        self.send(request).await.0.headers
    }

    /// A POST of the admin's with this content type.
    pub(crate) async fn post_as(&self, kind: Option<&str>, path: &str, body: &str) -> (StatusCode, String) {
        let request = Request::builder().method(Method::POST).uri(path).header(header::HOST, "hub");
        let mut request = request.header(header::AUTHORIZATION, format!("Bearer {}", self.admin()));
        if let Some(kind) = kind {
            request = request.header(header::CONTENT_TYPE, kind);
        }
        let (head, bytes) = self.send(request.body(Body::from(body.to_owned())).unwrap()).await;
        (head.status, String::from_utf8_lossy(&bytes).into_owned())
    }

    async fn send(&self, request: Request<Body>) -> (http::response::Parts, Vec<u8>) {
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(self.connect().await).await.unwrap();
        let exchange = async {
            let (head, body) = sender.send_request(request).await.unwrap().into_parts();
            (head, to_bytes(Body::new(body), 1 << 24).await.unwrap().to_vec())
        };
        tokio::pin!(exchange);
        let both = async {
            tokio::select! {
                answer = &mut exchange => answer,
                _ = connection => exchange.await,
            }
        };
        tokio::time::timeout(LIMIT, both).await.expect("the hub answers in time")
    }

    /// Opens a stream of server-sent events.
    pub(crate) async fn events(&self, path: &str, token: Option<&str>) -> (StatusCode, TestEvents) {
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(self.connect().await).await.unwrap();
        let connection = tokio::spawn(connection);
        let request = Request::builder().uri(path).header(header::HOST, "hub");
        let token = token.map(|token| format!("Bearer {token}")).unwrap_or_default();
        let request = request.header(header::AUTHORIZATION, token).body(Body::empty()).unwrap();
        let response = sender.send_request(request).await.unwrap();
        let status = response.status();
        let body = Body::new(response.into_body()).into_data_stream();
        (status, TestEvents { body, buffer: String::new(), _sender: sender, connection })
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Value {
        let (status, answer) = self.ask(Some(&self.admin()), Method::POST, path, body).await;
        assert_eq!(status, StatusCode::OK, "{path}: {answer}");
        answer
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        let (status, answer) = self.ask(Some(&self.admin()), Method::GET, path, Value::Null).await;
        assert_eq!(status, StatusCode::OK, "{path}: {answer}");
        answer
    }

    /// A join token by the API.
    pub(crate) async fn join_token(&self, cluster: &str, replace: bool) -> JoinToken {
        let answer = self.post("/api/v1/join-tokens", json!({"cluster": cluster, "replace": replace})).await;
        answer["token"].as_str().unwrap().parse().unwrap()
    }

    /// An agent that has joined as this cluster.
    pub(crate) async fn join(&self, cluster: &str) -> TestAgent {
        let mut agent = TestAgent::new(&self.join_token(cluster, false).await, self.clock.clone());
        agent.enrol().await.unwrap();
        agent
    }

    /// Publishes a state of one unit with one object.
    pub(crate) fn publish(&self, cluster: &str, text: &str) -> Published {
        self.publish_without(cluster, text, &[])
    }

    /// The same, with units that are to go.
    pub(crate) fn publish_without(&self, cluster: &str, text: &str, removed: &[UnitId]) -> Published {
        let object = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "x", "namespace": "web"},
            "stringData": {"text": text}});
        let object = Object::new(&object).unwrap();
        let unit = UnitManifest::new(UnitId::root(), UnitSpec::default(), vec![ObjectEntry::from(&object)]);
        let mut units = BTreeMap::from([(UnitId::root(), UnitEntry::Present(Arc::new(unit)))]);
        units.extend(removed.iter().map(|unit| (unit.clone(), UnitEntry::Removed(Removal::default()))));
        let generation = self.hub().records.next_generation().unwrap();
        let state = DesiredState::new(cluster.parse().unwrap(), generation, "c0ffee", units);
        let bodies = Arc::new([object].into_iter().collect());
        let published = Published { state: Arc::new(state), bodies };
        self.hub().board.publish(published.clone());
        published
    }
}

/// What an agent keeps: its key, its certificate, whom it trusts.
pub(crate) struct TestAgent {
    pub(crate) token: JoinToken,
    pub(crate) key: AgentKey,
    pub(crate) uid: String,
    pub(crate) hostname: String,
    pub(crate) sealing_key: Vec<u8>,
    pub(crate) identity: Option<Identity>,
    pub(crate) bundle: Option<TrustBundle>,
    pub(crate) clock: Clock,
    /// The minor version that it says it speaks.
    pub(crate) protocol: u32,
    /// Of the process; a copy of the agent has another.
    pub(crate) instance: String,
}

impl TestAgent {
    pub(crate) fn new(token: &JoinToken, clock: Clock) -> Self {
        Self {
            token: token.clone(),
            key: AgentKey::generate().unwrap(),
            uid: format!("{UID}-{}", token.cluster),
            hostname: String::new(),
            sealing_key: vec![7; 32],
            identity: None,
            bundle: None,
            clock,
            protocol: flotilla_proto::PROTOCOL_MINOR,
            instance: "first".into(),
        }
    }

    /// A channel by the bundle or, before that, by the token's pin. An error is one of TLS.
    pub(crate) async fn channel(
        &self,
        identity: Option<&Identity>,
    ) -> Result<Channel, tonic::transport::Error> {
        let trust = match &self.bundle {
            Some(bundle) => Trust::Bundle(bundle.clone()),
            None => Trust::Pins(self.token.cas.clone()),
        };
        let tls = Arc::new(ClientTls::new(trust, identity, &[ALPN_H2], self.clock.clone()).unwrap());
        let connector = Connector::new(tls, LIMIT);
        let address = self.token.hubs[0].clone();
        Endpoint::from_static("http://hub")
            .connect_with_connector(tower::service_fn(move |_| {
                let (connector, address) = (connector.clone(), address.clone());
                async move { connector.connect(&address).await.map(TokioIo::new) }
            }))
            .await
    }

    fn take(&mut self, credentials: v1::Credentials) {
        self.identity = Some(Identity::from_pem(&credentials.certificate, &self.key).unwrap());
        self.bundle = Some(TrustBundle::from_pem(&credentials.trust.unwrap().bundle).unwrap());
    }

    pub(crate) async fn enrol(&mut self) -> Result<(), Status> {
        let request = v1::EnrolRequest {
            secret: secret_bytes(&self.token),
            csr: self.key.request().unwrap().into(),
            sealing_key: self.sealing_key.clone().into(),
            cluster_uid: self.uid.clone(),
            agent_version: "0.1.0".into(),
            hostname: self.hostname.clone(),
            machine_id: String::new(),
        };
        let mut client = EnrolmentClient::new(self.channel(None).await.unwrap());
        self.take(client.enrol(request).await?.into_inner());
        Ok(())
    }

    /// Without a certificate, as after its end.
    pub(crate) async fn renew(&mut self) -> Result<(), Status> {
        let request = v1::RenewRequest {
            cluster: self.token.cluster.clone(),
            csr: self.key.request().unwrap().into(),
            cluster_uid: self.uid.clone(),
        };
        let mut client = EnrolmentClient::new(self.channel(None).await.unwrap());
        self.take(client.renew(request).await?.into_inner());
        Ok(())
    }

    /// Opens a stream and says Hello without any state.
    pub(crate) async fn sync(&self) -> Result<TestStream, Status> {
        let channel = self.channel(self.identity.as_ref()).await.map_err(unavailable)?;
        self.sync_over(channel).await
    }

    pub(crate) async fn sync_over(&self, channel: Channel) -> Result<TestStream, Status> {
        let (sender, messages) = mpsc::channel(16);
        let hello = v1::Hello {
            protocol: Some(v1::Protocol { minor: self.protocol }),
            agent_version: "0.1.0".into(),
            cluster_uid: self.uid.clone(),
            kubernetes_version: "v1.36.3".into(),
            instance: self.instance.clone(),
            ..Default::default()
        };
        let mut stream = TestStream { sender, inbound: None };
        stream.send(agent_message::Message::Hello(hello)).await;
        let inbound = FleetClient::new(channel).sync(ReceiverStream::new(messages)).await?;
        stream.inbound = Some(inbound.into_inner());
        Ok(stream)
    }

    /// The status with which the hub refuses a stream.
    pub(crate) async fn refused(&self) -> Status {
        match self.sync().await {
            Err(status) => status,
            Ok(mut stream) => stream.end().await,
        }
    }
}

fn unavailable(error: tonic::transport::Error) -> Status {
    Status::new(Code::Unavailable, flotilla_runtime::chain(&error))
}

fn secret_bytes(token: &JoinToken) -> bytes::Bytes {
    use base64::Engine;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(token.secret.encode()).unwrap().into()
}

/// An open stream.
pub(crate) struct TestStream {
    sender: mpsc::Sender<v1::AgentMessage>,
    inbound: Option<Streaming<v1::HubMessage>>,
}

impl TestStream {
    pub(crate) async fn send(&mut self, message: agent_message::Message) {
        self.sender.send(v1::AgentMessage { message: Some(message) }).await.unwrap();
    }

    pub(crate) async fn next(&mut self) -> Result<Option<hub_message::Message>, Status> {
        let message = tokio::time::timeout(LIMIT, self.inbound.as_mut().unwrap().message());
        Ok(message.await.expect("the hub speaks in time")?.and_then(|message| message.message))
    }

    /// Reads until a message that `wanted` takes.
    pub(crate) async fn until<T>(&mut self, wanted: impl Fn(hub_message::Message) -> Option<T>) -> T {
        loop {
            let message = self.next().await.unwrap().expect("the stream goes on");
            if let Some(found) = wanted(message) {
                return found;
            }
        }
    }

    pub(crate) async fn manifest(&mut self) -> v1::Manifest {
        self.until(|message| match message {
            hub_message::Message::Manifest(manifest) => Some(manifest),
            _ => None,
        })
        .await
    }

    pub(crate) async fn request(&mut self) -> v1::Request {
        self.until(|message| match message {
            hub_message::Message::Request(request) => Some(request),
            _ => None,
        })
        .await
    }

    /// Reads until the hub ends the stream.
    pub(crate) async fn end(&mut self) -> Status {
        loop {
            match self.next().await {
                Ok(Some(_)) => {}
                Ok(None) => return Status::ok("the end"),
                Err(status) => return status,
            }
        }
    }
}

impl TestStream {
    /// The hub has let the agent in.
    pub(crate) async fn welcome(&mut self) {
        match self.next().await.unwrap() {
            Some(hub_message::Message::Welcome(_)) => {}
            other => panic!("instead of a Welcome came {other:?}"),
        }
    }
}

/// An OpenTelemetry collector that keeps what it is sent.
pub(crate) struct Collector {
    pub(crate) address: String,
    records: Arc<std::sync::Mutex<Vec<Value>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Collector {
    pub(crate) async fn start() -> Self {
        let records = Arc::<std::sync::Mutex<Vec<Value>>>::default();
        let kept = records.clone();
        let take = async move |headers: http::HeaderMap, axum::Json(body): axum::Json<Value>| {
            if headers.get("authorization").is_none_or(|value| value != "Bearer collector") {
                return (StatusCode::UNAUTHORIZED, axum::Json(json!({})));
            }
            let records = body["resourceLogs"][0]["scopeLogs"][0]["logRecords"].as_array().unwrap().clone();
            kept.lock().unwrap().extend(records);
            (StatusCode::OK, axum::Json(json!({})))
        };
        let router = axum::Router::new().route("/v1/logs", axum::routing::post(take));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { address, records, task }
    }

    pub(crate) fn records(&self) -> Vec<Value> {
        self.records.lock().unwrap().clone()
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The data of server-sent events.
pub(crate) struct TestEvents {
    body: BodyDataStream,
    buffer: String,
    _sender: hyper::client::conn::http1::SendRequest<Body>,
    connection: tokio::task::JoinHandle<Result<(), hyper::Error>>,
}

impl TestEvents {
    pub(crate) async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some((event, rest)) = self.buffer.split_once("\n\n") {
                let data = event.lines().find_map(|line| line.strip_prefix("data: ")).map(str::to_owned);
                self.buffer = rest.to_owned();
                if let Some(data) = data {
                    return Some(serde_json::from_str(&data).unwrap());
                }
                continue;
            }
            let more =
                tokio::time::timeout(LIMIT, self.body.next()).await.expect("an event in time")?.ok()?;
            self.buffer.push_str(std::str::from_utf8(&more).unwrap());
        }
    }
}

impl Drop for TestEvents {
    fn drop(&mut self) {
        self.connection.abort();
    }
}
