//! Both ports under load from strangers: idle and slow connections, floods of headers and streams, an agent that lies. What
//! is asserted is that everybody else is served. `FLOTILLA_LOAD=10000` makes it that many connections, and a second the
//! limit for everything that is served meanwhile; see docs/reliability.md.

use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use flotilla_proto::v1::{self, agent_message, hub_message};
use flotilla_runtime::tls::install_crypto;
use http::{Method, StatusCode};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::{CertificateDer, pem::PemObject};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::support::{LIMIT, TestAgent, TestHub, TestStream};

/// Somebody whom the hub does not know.
struct Stranger {
    address: Ipv4Addr,
    h2: TlsConnector,
    http1: TlsConnector,
}

impl Stranger {
    fn new(hub: &TestHub, n: u8) -> Self {
        install_crypto();
        let pem = std::fs::read(hub.hub().data.join("ca.pem")).unwrap();
        let mut roots = RootCertStore::empty();
        CertificateDer::pem_slice_iter(&pem).for_each(|ca| roots.add(ca.unwrap()).unwrap());
        let connector = |alpn: &[u8]| {
            let mut config =
                ClientConfig::builder().with_root_certificates(roots.clone()).with_no_client_auth();
            config.alpn_protocols = vec![alpn.to_vec()];
            TlsConnector::from(Arc::new(config))
        };
        Self { address: Ipv4Addr::new(127, 0, 0, n), h2: connector(b"h2"), http1: connector(b"http/1.1") }
    }

    async fn tcp(&self, to: SocketAddr) -> Option<TcpStream> {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((self.address, 0).into()).unwrap();
        tokio::time::timeout(LIMIT, socket.connect(to)).await.ok()?.ok()
    }

    async fn tls(&self, connector: &TlsConnector, to: SocketAddr) -> Option<TlsStream<TcpStream>> {
        let stream = self.tcp(to).await?;
        let name = "localhost".try_into().unwrap();
        tokio::time::timeout(LIMIT, connector.connect(name, stream)).await.ok()?.ok()
    }
}

/// A thread for strangers: what they do takes no turns of the hub's.
fn elsewhere<T: Send + 'static>(
    work: impl Future<Output = T> + Send + 'static,
) -> tokio::sync::oneshot::Receiver<T> {
    let (done, result) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        // Who waits for it may have given up.
        let _ = done.send(runtime.block_on(work));
    });
    result
}

/// A stranger's connection, held.
enum Idle {
    Tcp(#[allow(dead_code)] TcpStream),
    Tls(#[allow(dead_code)] Box<TlsStream<TcpStream>>),
}

/// Opens a connection that does nothing more: after TCP, after TLS, in the middle of a request's head.
async fn idle(stranger: &Stranger, hub: &TestHub, n: usize) -> Option<Idle> {
    let (grpc, api) = (hub.serving.grpc, hub.serving.api);
    let tls = |stream| Idle::Tls(Box::new(stream));
    match n % 5 {
        0 => stranger.tcp(grpc).await.map(Idle::Tcp),
        1 => stranger.tcp(api).await.map(Idle::Tcp),
        2 => stranger.tls(&stranger.h2, grpc).await.map(tls),
        3 => stranger.tls(&stranger.http1, api).await.map(tls),
        _ => {
            let mut stream = stranger.tls(&stranger.http1, api).await?;
            stream.write_all(b"GET /healthz HTTP/1.1\r\nx-slow: ").await.ok()?;
            Some(tls(stream))
        }
    }
}

fn load() -> (usize, Duration) {
    match std::env::var("FLOTILLA_LOAD").ok().and_then(|load| load.parse().ok()) {
        Some(load) => (load, Duration::from_secs(1)),
        None => (1_500, LIMIT),
    }
}

/// What has to work whatever strangers do.
struct Others {
    agent: TestAgent,
    stream: TestStream,
    renewed: Option<Instant>,
    slowest: Vec<(&'static str, Duration)>,
}

impl Others {
    async fn new(hub: &TestHub) -> Self {
        let agent = hub.join("staging").await;
        let mut stream = agent.sync().await.unwrap();
        stream.welcome().await;
        Self { agent, stream, renewed: None, slowest: Vec::new() }
    }

    fn note(&mut self, what: &'static str, since: Instant, limit: Duration) {
        let took = since.elapsed();
        assert!(took < limit, "{what} took {took:?}");
        match self.slowest.iter_mut().find(|(of, _)| *of == what) {
            Some((_, slowest)) => *slowest = took.max(*slowest),
            None => self.slowest.push((what, took)),
        }
    }

    /// A heartbeat on a stream that is open, a renewal, a person's request, and both probes.
    async fn served(&mut self, hub: &TestHub, limit: Duration) {
        let start = Instant::now();
        self.stream.send(agent_message::Message::Heartbeat(v1::Heartbeat { now: 1 })).await;
        self.stream.until(|m| matches!(m, hub_message::Message::Heartbeat(_)).then_some(())).await;
        self.note("heartbeat", start, limit);
        // More often than this no cluster may.
        if self.renewed.is_none_or(|at| at.elapsed() > Duration::from_millis(1_100)) {
            let start = Instant::now();
            self.agent.renew().await.unwrap();
            self.note("renewal", start, limit);
            self.renewed = Some(Instant::now());
        }
        let start = Instant::now();
        let (status, _) = hub.ask(Some(&hub.admin()), Method::GET, "/api/v1/status", Value::Null).await;
        assert_eq!(status, StatusCode::OK);
        self.note("request", start, limit);
        let start = Instant::now();
        let (status, _) = hub.ask(None, Method::GET, "/healthz", Value::Null).await;
        assert_eq!(status, StatusCode::OK);
        self.note("probe over TLS", start, limit);
        let start = Instant::now();
        let mut probe = TcpStream::connect(hub.serving.health.unwrap()).await.unwrap();
        probe.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        probe.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        self.note("probe", start, limit);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_and_slow_connections_hold_nobody_up() {
    let hub = TestHub::start().await;
    let (load, limit) = load();
    let mut others = Others::new(&hub).await;
    // The first shares the others' address.
    let strangers: Vec<Arc<Stranger>> = (1..=4).map(|n| Arc::new(Stranger::new(&hub, n))).collect();
    let (hub, start) = (Arc::new(hub), Instant::now());
    let mut held: Vec<Idle> = Vec::new();
    let mut failed = 0;
    const AT_ONCE: usize = 250;
    for from in (0..load).step_by(AT_ONCE) {
        let mut opening = tokio::task::JoinSet::new();
        for n in from..load.min(from + AT_ONCE) {
            let (stranger, hub) = (strangers[n % strangers.len()].clone(), hub.clone());
            opening.spawn(async move { idle(&stranger, &hub, n).await });
        }
        while let Some(opened) = opening.join_next().await {
            match opened.unwrap() {
                Some(opened) => held.push(opened),
                None => failed += 1,
            }
        }
        others.served(&hub, limit).await;
    }
    let took = start.elapsed();
    println!("{} held and {failed} refused in {took:.1?}; at most {:?}", held.len(), others.slowest);
    assert!(held.len() >= load / 4, "{} connections are no load", held.len());
    for places in hub.hub().ports.get().unwrap() {
        assert!(places.counts().unproven <= 512, "{:?}", places.counts());
    }
    let metrics = hub.ask_bytes(Some(&hub.admin()), Method::GET, "/metrics", Value::Null).await.1;
    let metrics = String::from_utf8(metrics).unwrap();
    assert!(metrics.contains("flotilla_connections_turned_away_total{port=\"people\"} "), "{metrics}");
    drop(held);
    let Ok(hub) = Arc::try_unwrap(hub) else { panic!("nobody else has it") };
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_asks_nothing_is_closed() {
    let hub = TestHub::start().await;
    let stranger = Stranger::new(&hub, 1);
    let closed = async |connector: &TlsConnector, to: SocketAddr| {
        let mut stream = stranger.tls(connector, to).await.unwrap();
        let mut rest = Vec::new();
        // What counts is that it ends; how, is up to TLS and HTTP.
        let end = tokio::time::timeout(Duration::from_secs(60), stream.read_to_end(&mut rest)).await;
        assert!(end.is_ok(), "{to} keeps it open");
    };
    let (grpc, api) = (hub.serving.grpc, hub.serving.api);
    // It asks and asks, and reads no answer.
    let stuffed = async {
        let mut stream = stranger.tls(&stranger.http1, api).await.unwrap();
        let asks = b"GET /openapi.json HTTP/1.1\r\nhost: x\r\n\r\n".repeat(100);
        let end = async { while stream.write_all(&asks).await.is_ok() {} };
        assert!(tokio::time::timeout(Duration::from_secs(90), end).await.is_ok(), "it is kept open");
    };
    tokio::join!(
        stuffed,
        closed(&stranger.http1, api),
        closed(&stranger.h2, api),
        closed(&stranger.h2, grpc)
    );
    hub.stop().await;
}

/// Who mixes the two ports up is told which one it is at, in its own protocol.
#[tokio::test(flavor = "multi_thread")]
async fn each_port_says_what_it_is_to_who_takes_it_for_the_other() {
    let hub = TestHub::start().await;
    let stranger = Stranger::new(&hub, 1);
    let (grpc, api) = (hub.serving.grpc, hub.serving.api);
    let mut stream = stranger.tls(&stranger.http1, grpc).await.unwrap();
    stream.write_all(b"GET /api/v1/status HTTP/1.1\r\nhost: hub\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    tokio::time::timeout(LIMIT, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
    assert!(answer.starts_with("HTTP/1.1 421 "), "{answer}");
    let body: Value = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
    assert_eq!(body["error"], "this is the hub's port for agents");
    assert!(body["hint"].as_str().unwrap().contains("8444"), "{body}");

    let mut token = hub.join_token("staging", false).await;
    token.hubs = vec![api.to_string().parse().unwrap()];
    let mut agent = TestAgent::new(&token, hub.clock.clone());
    let refused = agent.enrol().await.unwrap_err();
    assert!(
        refused.message().contains("port for people") && refused.message().contains("8443"),
        "{refused:?}"
    );
    // Nothing that says no: the agent tries again, and the token is not used up.
    assert_eq!(refused.code(), tonic::Code::Unavailable);
    token.hubs = vec![grpc.to_string().parse().unwrap()];
    TestAgent::new(&token, hub.clock.clone()).enrol().await.unwrap();
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_lies_fills_nothing_and_holds_nobody_up() {
    let hub = TestHub::start().await;
    let (_, limit) = load();
    let mut others = Others::new(&hub).await;
    let liar = hub.join("liar").await;
    let finding = v1::Finding {
        object: Some(v1::ObjectId { kind: "X".into(), name: "x".into(), ..Default::default() }),
        reason: "Lie".into(),
        message: "x".repeat(900 << 10),
    };
    let of = finding.clone();
    let unit = move |n: usize| v1::UnitReport {
        unit: format!("kustomization/x/unit-{n}"),
        phase: "Failed".into(),
        message: "m".repeat(20 << 10),
        findings: vec![v1::Finding { message: "f".repeat(4 << 10), ..of.clone() }; 5],
        ..Default::default()
    };
    // Texts of 900 KB, 20,000 new units, messages of nothing but empty parts, acknowledgements with a book in them.
    let lies = elsewhere(async move {
        let mut stream = liar.sync().await.unwrap();
        stream.welcome().await;
        for round in 0..12usize {
            let mut report = v1::Report { has_problems: true, ..Default::default() };
            match round % 4 {
                0 => report.units = vec![v1::UnitReport { findings: vec![finding.clone()], ..unit(0) }],
                1 => report.units = (0..20).map(|n| unit(round * 20 + n)).collect(),
                2 if round == 2 => report.units = vec![v1::UnitReport::default(); 400_000],
                _ => report.problems = vec!["p".repeat(900 << 10)],
            }
            stream.send(agent_message::Message::Report(report)).await;
            let ack = v1::Ack {
                level: v1::ack::Level::Refused.into(),
                message: "a".repeat(900 << 10),
                ..Default::default()
            };
            stream.send(agent_message::Message::Ack(ack)).await;
        }
        // Everything it said was taken, at the pace that the hub allows.
        stream.send(agent_message::Message::Heartbeat(v1::Heartbeat { now: 1 })).await;
        stream.until(|m| matches!(m, hub_message::Message::Heartbeat(_)).then_some(())).await;
    });
    let served = async {
        for _ in 0..20 {
            others.served(&hub, limit).await;
        }
    };
    let (told, ()) = tokio::join!(tokio::time::timeout(3 * LIMIT, lies), served);
    // It is slowed down as long as it lies; what it still has to say would change nothing.
    println!("all was taken: {}", told.is_ok());
    let view = hub.hub().sessions.view(&"liar".parse().unwrap()).unwrap();
    let held = format!("{view:?}").len();
    assert!(held < 20 << 20, "the hub keeps {held} bytes of it");
    assert!(view.refused.as_ref().is_some_and(|why| why.len() < 5_000));
    println!("{held} bytes are kept; at most {:?}", others.slowest);
    hub.stop().await;
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// GET https / of HPACK's static table.
const GET: &[u8] = &[0x82, 0x84, 0x87];

/// Streams that are opened and reset, headers without an end, streams that nobody reads, settings and pings.
fn flood(kind: usize, n: u32) -> Vec<u8> {
    const HEADERS: u8 = 1;
    const RESET: u8 = 3;
    const SETTINGS: u8 = 4;
    const PING: u8 = 6;
    const CONTINUATION: u8 = 9;
    const END_STREAM: u8 = 1;
    const END_HEADERS: u8 = 4;
    let id = 2 * n + 1;
    match kind {
        0 => [frame(HEADERS, END_STREAM | END_HEADERS, id, GET), frame(RESET, 0, id, &[0; 4])].concat(),
        1 if n == 0 => frame(HEADERS, END_STREAM, 1, GET),
        1 => frame(CONTINUATION, 0, 1, &[&[0, 1, b'x', 0x7f, 0x81, 0x1f][..], &[b'a'; 288]].concat()),
        2 => frame(HEADERS, END_HEADERS, id, GET),
        3 => frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]),
        _ => frame(PING, 0, 0, &[0; 8]),
    }
}

/// So many frames of one kind, over a connection until the hub ends it, then over the next.
async fn pour(kind: usize, to: SocketAddr, stranger: Stranger, frames: u32) -> u32 {
    let mut sent = 0;
    while sent < frames {
        let Some(mut stream) = stranger.tls(&stranger.h2, to).await else { break };
        let hello = [PREFACE, &frame(4, 0, 0, &[])].concat();
        let mut open = stream.write_all(&hello).await.is_ok();
        let mut n = 0;
        while open && sent < frames {
            let batch: Vec<u8> = (n..n + 100).flat_map(|n| flood(kind, n)).collect();
            let write = tokio::time::timeout(Duration::from_secs(5), stream.write_all(&batch));
            open = matches!(write.await, Ok(Ok(())));
            (n, sent) = (n + 100, sent + 100);
        }
    }
    sent
}

#[tokio::test(flavor = "multi_thread")]
async fn floods_of_headers_and_streams_hold_nobody_up() {
    let hub = TestHub::start().await;
    let (load, limit) = load();
    let mut others = Others::new(&hub).await;
    let mut strangers = Vec::new();
    for kind in 0..5 {
        for to in [hub.serving.api, hub.serving.grpc] {
            strangers.push((kind, to, Stranger::new(&hub, 2)));
        }
    }
    let floods = elsewhere(async move {
        let all = strangers.into_iter().map(|(kind, to, stranger)| pour(kind, to, stranger, load as u32 * 4));
        futures::future::join_all(all).await.into_iter().sum::<u32>()
    });
    tokio::pin!(floods);
    let frames = loop {
        others.served(&hub, limit).await;
        tokio::select! {
            frames = &mut floods => break frames.unwrap(),
            () = tokio::time::sleep(Duration::from_millis(50)) => {}
        }
    };
    println!("{frames} frames; at most {:?}", others.slowest);
    hub.stop().await;
}
