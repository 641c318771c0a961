use flotilla_core::ClusterName;
use flotilla_proto::PROTOCOL_MINOR;
use flotilla_proto::v1::fleet_server::{Fleet, FleetServer};
use futures::stream::BoxStream;
use tokio::net::TcpListener;
use tonic::transport::{Endpoint, Server};
use tonic::{Request as Call, Response};

use super::*;
use crate::disk::Disk;
use crate::link::testing::{enrolment, state};
use crate::link::{AgentInfo, Credentials};
use crate::manifest;
use crate::problems::Problems;
use crate::sync::{Engine, Options};

const LIMIT: Duration = Duration::from_secs(20);

/// A hub that passes on what it hears, and says what it is told to.
struct Hub {
    heard: mpsc::Sender<Message>,
    says: Mutex<Option<mpsc::Receiver<v1::HubMessage>>>,
}

#[tonic::async_trait]
impl Fleet for Hub {
    type SyncStream = BoxStream<'static, Result<v1::HubMessage, Status>>;

    async fn sync(
        &self,
        request: Call<Streaming<v1::AgentMessage>>,
    ) -> Result<Response<Self::SyncStream>, Status> {
        let mut says = lock(&self.says).take().ok_or_else(|| Status::aborted("one stream only"))?;
        let (mut inbound, heard) = (request.into_inner(), self.heard.clone());
        tokio::spawn(async move {
            while let Ok(Some(v1::AgentMessage { message: Some(message) })) = inbound.message().await {
                if heard.send(message).await.is_err() {
                    break;
                }
            }
        });
        let answers =
            futures::stream::poll_fn(move |context| says.poll_recv(context).map(|said| said.map(Ok)));
        Ok(Response::new(answers.boxed()))
    }
}

/// A stream with nothing behind it: no cluster and no state.
fn shared(folder: &std::path::Path) -> Arc<Shared> {
    let problems = Problems::default();
    let disk = Arc::new(Disk::open(folder, problems.clone()).unwrap());
    let nowhere = tower::service_fn(|_: http::Request<kube::client::Body>| async {
        Err::<http::Response<kube::client::Body>, _>(std::io::Error::other("no cluster"))
    });
    let client = kube::Client::new(nowhere, "default");
    let engine = Engine::new(client, disk.bodies.clone(), disk.memory.clone(), Options::default());
    let clock = Clock::system();
    let enrolment = enrolment(&disk.identity.key().unwrap());
    let credentials =
        Credentials::new(disk.identity.clone(), enrolment, clock.clone(), problems.clone()).unwrap();
    let info = AgentInfo {
        cluster: "staging".parse::<ClusterName>().unwrap(),
        cluster_uid: "uid".into(),
        agent_version: "1",
        kubernetes_version: String::new(),
        instance: "i".into(),
    };
    let shared = Shared::new(info, disk, engine, Arc::new(credentials), clock, problems, None);
    assert!(shared.look_for_removal(), "states are taken");
    Arc::new(shared)
}

#[tokio::test]
async fn heartbeats_go_on_while_the_disk_stalls() {
    flotilla_runtime::tls::install_crypto();
    let (heard, mut hears) = mpsc::channel(64);
    let (say, says) = mpsc::channel(8);
    let hub = FleetServer::new(Hub { heard, says: Mutex::new(Some(says)) })
        .accept_compressed(CompressionEncoding::Gzip)
        .send_compressed(CompressionEncoding::Gzip);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let connections = futures::stream::unfold(listener, |listener| async {
        Some((listener.accept().await.map(|(connection, _)| connection), listener))
    });
    let server = tokio::spawn(Server::builder().add_service(hub).serve_with_incoming(connections));

    let folder = tempfile::tempdir().unwrap();
    let shared = shared(folder.path());
    let channel = Endpoint::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
    let stop = CancellationToken::new();
    let mut welcomed = false;
    let stream = run(&shared, channel, &mut welcomed, &stop);
    let conversation = async {
        let protocol = Some(v1::Protocol { minor: PROTOCOL_MINOR });
        let welcome = v1::Welcome { protocol, heartbeat_seconds: 1, ..v1::Welcome::default() };
        let send = |message| say.send(v1::HubMessage { message: Some(message) });
        send(v1::hub_message::Message::Welcome(welcome)).await.unwrap();
        next(&mut hears, |message| matches!(message, Message::Heartbeat(_))).await;

        let stall = shared.disk.bodies.stall();
        // Which of its contents are here stands on the disk.
        let manifest = manifest::whole(&state(1, &[("root", &["a", "b"])]));
        send(v1::hub_message::Message::Manifest(manifest)).await.unwrap();
        for _ in 0..2 {
            next(&mut hears, |message| matches!(message, Message::Heartbeat(_))).await;
        }
        drop(stall);
        next(&mut hears, |message| matches!(message, Message::Need(_))).await;
    };
    tokio::select! {
        result = stream => panic!("the stream ended: {result:?}"),
        () = conversation => {}
    }
    server.abort();
}

/// Waits for such a message.
async fn next(hears: &mut mpsc::Receiver<Message>, is_it: impl Fn(&Message) -> bool) {
    let mut others = Vec::new();
    let wait = async {
        while let Some(message) = hears.recv().await {
            if is_it(&message) {
                return true;
            }
            others.push(message);
        }
        false
    };
    let came = tokio::time::timeout(LIMIT, wait).await;
    assert_eq!(came, Ok(true), "it did not come, but {others:?}");
}
