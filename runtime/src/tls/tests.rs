//! Real handshakes over loopback: who gets in, as whom, and who does not.

use std::io::ErrorKind;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{ExtendedKeyUsagePurpose as Usage, SanType};
use rustls::HandshakeKind;
use rustls_pki_types::CertificateDer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::*;
use crate::tasks::chain;

const DAY: Duration = Duration::from_secs(24 * 3600);
const DEADLINE: Duration = Duration::from_secs(20);

fn valid() -> Validity {
    Validity { now: SystemTime::now(), life: DAY }
}

fn ca() -> Ca {
    Ca::create(SystemTime::now()).unwrap()
}

fn bundle(cas: &[&Ca]) -> TrustBundle {
    TrustBundle::from_pem(&cas.iter().map(|ca| ca.certificate_pem()).collect::<String>()).unwrap()
}

fn agent_at(ca: &Ca, cluster: &str, validity: Validity) -> Identity {
    let key = AgentKey::generate().unwrap();
    let csr = Csr::parse(&key.request().unwrap()).unwrap();
    let (pem, _) = ca.issue_agent(&csr, cluster, validity).unwrap();
    Identity::from_pem(&pem, &key).unwrap()
}

fn agent(ca: &Ca, cluster: &str) -> Identity {
    agent_at(ca, cluster, valid())
}

fn hub(ca: &Ca) -> Identity {
    ca.issue_hub(&["localhost".into(), "127.0.0.1".into()], valid()).unwrap()
}

/// A certificate with names and usages that no rule of ours would give.
fn odd(ca: &Ca, uris: &[&str], usages: &[Usage]) -> Identity {
    let key = AgentKey::generate().unwrap();
    let mut names: Vec<SanType> = uris.iter().map(|text| ca::uri(text).unwrap()).collect();
    names.push(SanType::DnsName("localhost".try_into().unwrap()));
    let leaf = ca.issue("odd", names, usages.to_vec(), key.pair(), valid()).unwrap();
    Identity::new(vec![leaf, ca.certificate().clone()], &key).unwrap()
}

fn self_signed(uri: &str, usage: Usage) -> Identity {
    let key = AgentKey::generate().unwrap();
    let mut params = rcgen::CertificateParams::default();
    params.subject_alt_names = vec![ca::uri(uri).unwrap()];
    params.extended_key_usages = vec![usage];
    let certificate: CertificateDer<'static> = params.self_signed(key.pair()).unwrap().into();
    Identity::new(vec![certificate], &key).unwrap()
}

/// A hub that tells everybody who they are.
struct Server {
    tls: Arc<ServerTls>,
    address: HubAddress,
    _tasks: JoinSet<()>,
}

impl Server {
    async fn start(identity: &Identity, trust: &TrustBundle, clock: Clock) -> Self {
        Self::with(identity, trust, clock, AcceptOptions::default()).await
    }

    async fn with(identity: &Identity, trust: &TrustBundle, clock: Clock, options: AcceptOptions) -> Self {
        let tickets = TicketKeys::ephemeral(clock.clone());
        let optional = ClientCertificates::Optional;
        let tls = Arc::new(ServerTls::new(identity, trust, optional, &[ALPN_H2], tickets, clock).unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string().parse().unwrap();
        let mut acceptor = Acceptor::new(listener, tls.clone(), options);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            loop {
                let mut stream = acceptor.accept().await;
                let name = stream.identity().map_or("nobody".into(), |identity| identity.cluster.clone());
                // A client that is gone already is that client's test's concern.
                let _ = stream.write_all(name.as_bytes()).await;
                let _ = stream.shutdown().await;
            }
        });
        Self { tls, address, _tasks: tasks }
    }

    async fn of(ca: &Ca) -> Self {
        Self::start(&hub(ca), &bundle(&[ca]), Clock::system()).await
    }

    /// Whom the hub takes the client for, and whether the session was resumed; or why there was no answer.
    async fn ask(&self, client: &Arc<ClientTls>) -> Result<(String, bool), String> {
        let connector = Connector::new(client.clone(), DEADLINE);
        let mut stream = connector.connect(&self.address).await.map_err(|error| chain(&error))?;
        let mut answer = String::new();
        let read =
            tokio::time::timeout(DEADLINE, stream.read_to_string(&mut answer)).await.expect("an answer");
        read.map_err(|error| error.to_string())?;
        Ok((answer, stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed)))
    }

    async fn who(&self, trust: Trust, identity: Option<&Identity>) -> Result<String, String> {
        self.ask(&client(trust, identity, Clock::system())).await.map(|(name, _)| name)
    }
}

fn client(trust: Trust, identity: Option<&Identity>, clock: Clock) -> Arc<ClientTls> {
    Arc::new(ClientTls::new(trust, identity, &[ALPN_H2], clock).unwrap())
}

fn trust(cas: &[&Ca]) -> Trust {
    Trust::Bundle(bundle(cas))
}

#[track_caller]
fn refused<T: std::fmt::Debug>(result: Result<T, String>, reason: &str) {
    let error = result.expect_err(reason);
    assert!(error.contains(reason), "wanted {reason:?} in {error:?}");
}

#[tokio::test]
async fn everybody_is_whom_their_certificate_names() {
    let ca = ca();
    let server = Server::of(&ca).await;
    for name in ["staging", "production", "edge-0001.eu"] {
        assert_eq!(server.who(trust(&[&ca]), Some(&agent(&ca, name))).await.as_deref(), Ok(name));
    }
    assert_eq!(server.who(trust(&[&ca]), None).await.as_deref(), Ok("nobody"));
}

#[tokio::test]
async fn clients_without_a_right_certificate_are_refused() {
    let (ca, other) = (ca(), ca());
    let server = Server::of(&ca).await;
    let past = Validity { now: SystemTime::now() - 2 * DAY, life: DAY };
    let future = Validity { now: SystemTime::now() + DAY, life: DAY };
    let client_auth = [Usage::ClientAuth];
    for (identity, reason) in [
        (agent_at(&ca, "staging", past), "CertificateExpired"),
        // That is the alert for a certificate of the future, too.
        (agent_at(&ca, "staging", future), "CertificateExpired"),
        (agent(&other, "staging"), "UnknownCA"),
        (self_signed("flotilla://cluster/staging", Usage::ClientAuth), "UnknownCA"),
        (hub(&ca), "UnsupportedCertificate"),
        (odd(&ca, &["flotilla://cluster/staging"], &[Usage::ServerAuth]), "UnsupportedCertificate"),
        // TLS lets these pass; they name no cluster.
        (odd(&ca, &[], &client_auth), ""),
        (odd(&ca, &["flotilla://hub"], &client_auth), ""),
        (odd(&ca, &["flotilla://cluster/a", "flotilla://cluster/b"], &client_auth), ""),
        (odd(&ca, &["flotilla://cluster/"], &client_auth), ""),
        (odd(&ca, &["flotilla://cluster/a/b"], &client_auth), ""),
        (odd(&ca, &["https://cluster/a"], &client_auth), ""),
    ] {
        let answer = server.who(trust(&[&ca]), Some(&identity)).await;
        assert!(answer.is_err(), "{:?} became {answer:?}", identity.info());
        refused(answer, reason);
    }
    assert_eq!(server.who(trust(&[&ca]), None).await.as_deref(), Ok("nobody"), "the server goes on");
}

#[tokio::test]
async fn only_the_hubs_certificate_is_the_hub() {
    let ca = ca();
    let hub_uri = "flotilla://hub";
    for (identity, reason) in [
        (agent(&ca, "staging"), "extended key usage"),
        (odd(&ca, &[hub_uri], &[Usage::ClientAuth]), "extended key usage"),
        (odd(&ca, &["flotilla://cluster/staging"], &[Usage::ServerAuth]), "not for flotilla://hub"),
        (odd(&ca, &[], &[Usage::ServerAuth]), "not for flotilla://hub"),
        (odd(&ca, &[hub_uri, "flotilla://cluster/a"], &[Usage::ServerAuth]), "not for flotilla://hub"),
        (odd(&ca, &["flotilla://hub/"], &[Usage::ServerAuth]), "not for flotilla://hub"),
        (self_signed(hub_uri, Usage::ServerAuth), "UnknownIssuer"),
        (hub(&self::ca()), "UnknownIssuer"),
    ] {
        let impostor = Server::start(&identity, &bundle(&[&ca]), Clock::system()).await;
        refused(impostor.who(trust(&[&ca]), Some(&agent(&ca, "staging"))).await, reason);
        // A pin lets nobody past what a bundle would not.
        assert!(impostor.who(Trust::Pins(vec![ca.hash()]), None).await.is_err());
    }
    // Under any host name: the hub's URI alone is enough.
    let moved = Server::start(&ca.issue_hub(&[], valid()).unwrap(), &bundle(&[&ca]), Clock::system()).await;
    assert_eq!(moved.who(trust(&[&ca]), None).await.as_deref(), Ok("nobody"));
}

#[tokio::test]
async fn a_pin_finds_the_right_hub_only() {
    let (ca, other) = (ca(), ca());
    let server = Server::of(&ca).await;
    assert_eq!(server.who(Trust::Pins(vec![other.hash(), ca.hash()]), None).await.as_deref(), Ok("nobody"));
    refused(server.who(Trust::Pins(vec![other.hash()]), None).await, "join token pins");
    refused(server.who(Trust::Pins(Vec::new()), None).await, "join token pins");

    // Somebody in between who shows the right CA beside a certificate that it did not sign.
    let key = AgentKey::generate().unwrap();
    let names = vec![ca::uri("flotilla://hub").unwrap()];
    let leaf = other.issue("flotilla-hub", names, vec![Usage::ServerAuth], key.pair(), valid()).unwrap();
    let mitm = Identity::new(vec![leaf, ca.certificate().clone()], &key).unwrap();
    let mitm = Server::start(&mitm, &bundle(&[&ca]), Clock::system()).await;
    refused(mitm.who(Trust::Pins(vec![ca.hash()]), None).await, "UnknownIssuer");
}

#[tokio::test]
async fn a_ca_is_replaced_while_the_hub_runs() {
    let (old, new) = (ca(), ca());
    let server = Server::of(&old).await;
    let first = agent(&old, "staging");
    let staging = client(trust(&[&old]), Some(&first), Clock::system());
    assert_eq!(server.ask(&staging).await, Ok(("staging".into(), false)));

    // The bundle of both reaches the agent, then the new CA signs the hub's certificate.
    staging.replace(trust(&[&old, &new]), Some(&first)).unwrap();
    server.tls.replace(&hub(&new), &bundle(&[&new, &old])).unwrap();
    assert_eq!(server.ask(&staging).await, Ok(("staging".into(), false)));
    refused(server.who(trust(&[&old]), Some(&first)).await, "UnknownIssuer");

    // The old CA is dropped: neither a new session by it nor a resumed one.
    assert_eq!(server.ask(&staging).await, Ok(("staging".into(), true)));
    server.tls.replace(&hub(&new), &bundle(&[&new])).unwrap();
    assert!(server.ask(&staging).await.is_err(), "resumed by a CA that is trusted no more");
    refused(server.who(trust(&[&old, &new]), Some(&first)).await, "UnknownCA");

    staging.replace(trust(&[&new]), Some(&agent(&new, "staging"))).unwrap();
    assert_eq!(server.ask(&staging).await, Ok(("staging".into(), false)));
}

#[tokio::test]
async fn a_session_is_resumed_but_not_past_its_certificates_end_nor_under_an_old_name() {
    let ca = ca();
    let clock = Clock::fixed(SystemTime::now());
    let server = Server::start(&hub(&ca), &bundle(&[&ca]), clock.clone()).await;
    let hour = Validity { now: SystemTime::now(), life: DAY / 24 };
    let staging = client(trust(&[&ca]), Some(&agent_at(&ca, "staging", hour)), Clock::system());
    assert_eq!(server.ask(&staging).await, Ok(("staging".into(), false)));
    assert_eq!(server.ask(&staging).await, Ok(("staging".into(), true)));
    clock.set(SystemTime::now() + DAY / 12);
    assert!(server.ask(&staging).await.is_err());

    staging.replace(trust(&[&ca]), Some(&agent(&ca, "renamed"))).unwrap();
    assert_eq!(server.ask(&staging).await, Ok(("renamed".into(), false)));
}

#[tokio::test]
async fn a_clock_in_1970_or_ahead_is_put_right_by_what_the_hub_said() {
    let ca = ca();
    let server = Server::of(&ca).await;
    let clock = Clock::fixed(UNIX_EPOCH + Duration::from_secs(60));
    let staging = client(trust(&[&ca]), Some(&agent(&ca, "staging")), clock.clone());
    refused(server.ask(&staging).await, "not valid yet");
    clock.hear(SystemTime::now());
    assert_eq!(server.ask(&staging).await.map(|(name, _)| name).as_deref(), Ok("staging"));
    // Nor does it matter that it jumps ahead, as long as the hub is heard.
    clock.set(SystemTime::now() + 30 * DAY);
    assert_eq!(server.ask(&staging).await.map(|(name, _)| name).as_deref(), Ok("staging"));
    let ahead = Clock::fixed(SystemTime::now() + 30 * DAY);
    ahead.recall(SystemTime::now());
    refused(server.ask(&client(trust(&[&ca]), None, ahead)).await, "expired");
}

/// Who had heard a hub whose clock was wrong could not connect to it afterwards: for ten minutes where that time was before
/// its certificate, for months where it was after it.
#[tokio::test]
async fn a_hub_whose_clock_was_wrong_is_known_as_soon_as_it_is_right() {
    let ca = ca();
    let server = Server::of(&ca).await;
    for (said, wrong) in
        [(SystemTime::now() - DAY, "not valid yet"), (SystemTime::now() + 400 * DAY, "expired")]
    {
        let clock = Clock::fixed(SystemTime::now());
        for hear in [Clock::hear, Clock::recall] {
            hear(&clock, said);
            let staging = client(trust(&[&ca]), Some(&agent(&ca, "staging")), clock.clone());
            assert_eq!(server.ask(&staging).await.map(|(name, _)| name).as_deref(), Ok("staging"), "{wrong}");
        }
        // By neither clock.
        clock.set(said);
        refused(server.ask(&client(trust(&[&ca]), None, clock)).await, wrong);
    }
}

#[tokio::test]
async fn the_silent_the_slow_and_the_foreign_hold_nobody_up() {
    let ca = ca();
    let places = PlaceLimits { unproven: 10, ..PlaceLimits::default() };
    let handshake_timeout = Duration::from_secs(1);
    let options = AcceptOptions { handshake_timeout, places, ..AcceptOptions::default() };
    let server = Server::with(&hub(&ca), &bundle(&[&ca]), Clock::system(), options).await;
    let mut others = Vec::new();
    for bytes in [b"".as_slice(), b"\x16\x03\x01", b"GET / HTTP/1.1\r\n\r\n"].repeat(5) {
        let mut stream = TcpStream::connect(server.address.to_string()).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        others.push(stream);
    }
    assert_eq!(server.who(trust(&[&ca]), None).await.as_deref(), Ok("nobody"));
    for mut stream in others {
        let mut rest = Vec::new();
        let closed =
            tokio::time::timeout(DEADLINE, stream.read_to_end(&mut rest)).await.expect("it is closed");
        assert!(closed.is_ok() || closed.is_err_and(|error| error.kind() == ErrorKind::ConnectionReset));
    }
}

#[tokio::test]
async fn tls_1_2_is_refused() {
    let ca = ca();
    let server = Server::of(&ca).await;
    let config = rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS12])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verify::HubVerifier::new(trust(&[&ca]), Clock::system())))
        .with_no_client_auth();
    let stream = TcpStream::connect(server.address.to_string()).await.unwrap();
    let result = tokio_rustls::TlsConnector::from(Arc::new(config))
        .connect(server.address.server_name(), stream)
        .await
        .map_err(|error| error.to_string());
    refused(result, "ProtocolVersion");
}

#[tokio::test]
async fn addresses_are_tried_in_turn_and_each_failure_is_told() {
    let ca = ca();
    let (server, stranger) = (Server::of(&ca).await, Server::of(&self::ca()).await);
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string();
    let closed: HubAddress = closed.parse().unwrap();
    let tls = client(trust(&[&ca]), None, Clock::system());
    let connector = Connector::new(tls.clone(), DEADLINE);

    let addresses = [closed.clone(), stranger.address.clone(), server.address.clone()];
    let (used, stream) = connector.connect_any(&addresses).await.unwrap();
    assert_eq!(used, server.address);
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(ALPN_H2));

    let error = connector.connect_any(&addresses[..2]).await.unwrap_err();
    assert!(error.is_unknown_ca());
    assert!(!connector.connect_any(&addresses[..1]).await.unwrap_err().is_unknown_ca());
    let error = chain(&error);
    for part in [closed.to_string(), "refused".into(), stranger.address.to_string(), "UnknownIssuer".into()] {
        assert!(error.contains(&part), "{part} is not in {error}");
    }
    assert!(matches!(connector.connect_any(&[]).await, Err(ConnectError::NoAddress)));

    // A peer that takes the connection and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = silent.local_addr().unwrap().to_string().parse().unwrap();
    let hasty = Connector::new(tls, Duration::from_millis(50));
    assert!(matches!(hasty.connect(&address).await, Err(ConnectError::Timeout { .. })));
}

#[test]
fn certificates_say_what_the_hub_decided_and_end_with_their_ca() {
    let ca = ca();
    let now = SystemTime::now();
    let identity = agent_at(&ca, "staging", Validity { now, life: 90 * DAY });
    let info = identity.info();
    assert_eq!(info.uris, ["flotilla://cluster/staging"]);
    assert_eq!((info.serial.len(), info.fingerprint.len()), (32, 64));
    let early = now.duration_since(info.not_before).unwrap();
    assert!((300..302).contains(&early.as_secs()), "{early:?}");
    let renewal = identity.renew_at().duration_since(now).unwrap();
    assert!(renewal > 59 * DAY && renewal < 61 * DAY, "{renewal:?}");
    let due = [now - DAY, now, now + 59 * DAY, now + 61 * DAY].map(|then| identity.is_due(then));
    assert_eq!(due, [true, false, false, true], "also where the clock was ahead when it was made");
    assert_ne!(agent(&ca, "staging").info().serial, info.serial);

    let long = agent_at(&ca, "staging", Validity { now, life: 20 * 365 * DAY });
    assert_eq!(long.info().not_after, ca.info().not_after);
    let years = ca.info().not_after.duration_since(now).unwrap().as_secs() / (365 * DAY.as_secs());
    assert!((9..=10).contains(&years));
}

#[test]
fn names_that_cannot_stand_in_a_certificate_are_refused() {
    let ca = ca();
    let csr = Csr::parse(&AgentKey::generate().unwrap().request().unwrap()).unwrap();
    for name in ["", "A", "a/b", "a b", "-a", "a-", ".a", "a..b", "a.-b", "ä", &"a".repeat(254)] {
        assert!(matches!(ca.issue_agent(&csr, name, valid()), Err(TlsError::ClusterName { .. })), "{name}");
    }
    for host in ["", "a b", "https://hub", "hub:443"] {
        assert!(matches!(ca.issue_hub(&[host.into()], valid()), Err(TlsError::HostName(_))), "{host}");
    }
}

#[test]
fn keys_fit_their_certificates_and_are_not_shown() {
    let (ca, other) = (ca(), ca());
    let again = Ca::from_pem(&ca.certificate_pem(), &ca.key_pem()).unwrap();
    assert_eq!(again.hash(), ca.hash());
    assert!(matches!(Ca::from_pem(&ca.certificate_pem(), &other.key_pem()), Err(TlsError::KeyMismatch(_))));
    let identity = agent(&ca, "staging");
    let wrong = Identity::from_pem(&identity.chain_pem(), &AgentKey::generate().unwrap());
    assert!(matches!(wrong, Err(TlsError::KeyMismatch(_))));

    let shown = format!("{ca:?} {identity:?} {:?}", client(trust(&[&ca]), Some(&identity), Clock::system()));
    let secret = identity.private_key();
    for hidden in [format!("{:?}", secret.secret_der()), hex(secret.secret_der()), ca.key_pem()] {
        assert!(!shown.contains(&hidden));
    }
    assert_eq!(bundle(&[&ca, &other]).hashes(), [ca.hash(), other.hash()]);
    assert!(TrustBundle::from_pem("").is_err());
}
