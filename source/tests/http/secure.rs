//! Servers with TLS by a CA of their own that ask for a certificate, as `certSecretRef` serves them.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::Result;
use flotilla_core::source::{OciReference, SourceSpec};
use flotilla_source::Reach;
use flotilla_source::flux::{Fetcher, Policy, Secret, Wanted};
use rustls::pki_types::PrivateKeyDer;

use crate::support::{Front, Gate, Registry, archive};
use crate::{bucket, helm, oci};

/// A CA with a server's and a client's certificate by it.
struct Authority {
    server: rustls::ServerConfig,
    ca: String,
    certificate: String,
    key: String,
}

impl Authority {
    fn new() -> Result<Self> {
        let ca_key = rcgen::KeyPair::generate()?;
        let mut ca = rcgen::CertificateParams::new(Vec::new())?;
        ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let ca_certificate = ca.self_signed(&ca_key)?;
        let issuer = rcgen::Issuer::new(ca, ca_key);
        let issue = |name: &str| -> Result<_> {
            let key = rcgen::KeyPair::generate()?;
            let certificate =
                rcgen::CertificateParams::new(vec![name.to_owned()])?.signed_by(&key, &issuer)?;
            Ok((certificate, key))
        };
        let ((own, own_key), (client, client_key)) = (issue("localhost")?, issue("hub")?);
        let mut roots = rustls::RootCertStore::empty();
        roots.add(ca_certificate.der().clone())?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier =
            rustls::server::WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone());
        let server = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_client_cert_verifier(verifier.build()?)
            .with_single_cert(
                vec![own.der().clone()],
                PrivateKeyDer::Pkcs8(own_key.serialize_der().into()),
            )?;
        Ok(Self {
            server,
            ca: ca_certificate.pem(),
            certificate: client.pem(),
            key: client_key.serialize_pem(),
        })
    }

    fn secret(&self, keys: &[&str]) -> Secret {
        let all = [("ca.crt", &self.ca), ("tls.crt", &self.certificate), ("tls.key", &self.key)];
        let data = all.iter().filter(|(key, _)| keys.contains(key));
        let data = data.map(|(key, value)| ((*key).to_owned(), value.as_bytes().to_vec()));
        Secret { name: "ns/tls".into(), data: data.collect() }
    }
}

/// Passes on to `behind` what comes by TLS; `localhost:PORT`.
fn front(authority: &Authority, behind: &str) -> Result<String> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let host = format!("localhost:{}", listener.local_addr()?.port());
    let (config, behind) = (Arc::new(authority.server.clone()), behind.to_owned());
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (config, behind) = (config.clone(), behind.clone());
            // Who comes without a certificate is turned away: that is tested.
            std::thread::spawn(move || drop(pass(stream, config, &behind)));
        }
    });
    Ok(host)
}

fn pass(stream: TcpStream, config: Arc<rustls::ServerConfig>, behind: &str) -> Result<()> {
    let mut stream = BufReader::new(rustls::StreamOwned::new(rustls::ServerConnection::new(config)?, stream));
    let mut head = String::new();
    while stream.read_line(&mut head)? > 2 {}
    let lines =
        head.lines().filter(|line| !line.to_ascii_lowercase().starts_with("connection:") && !line.is_empty());
    let request = lines.collect::<Vec<_>>().join("\r\n");
    let mut behind = TcpStream::connect(behind)?;
    write!(behind, "{request}\r\nConnection: close\r\n\r\n")?;
    let stream = stream.get_mut();
    std::io::copy(&mut behind, stream)?;
    stream.conn.send_close_notify();
    Ok(stream.flush()?)
}

#[test]
fn a_ca_and_a_certificate_of_their_own() -> Result<()> {
    let tmp = tempfile::tempdir()?;
    let (authority, other) = (Authority::new()?, Authority::new()?);
    let web = helm::Web::start()?;
    helm::publish(&web, &["1.0.0"]);
    let registry = Registry::start()?;
    registry.push("app", "v1", &[(oci::LAYER, &archive(&[("a.yaml", "1")]))])?;
    let chart = [("application/vnd.cncf.helm.chart.content.v1.tar+gzip", &*helm::chart("1.0.0"))];
    registry.push("charts/web", "1.0.0", &chart)?;
    let s3 = bucket::S3::start()?;
    s3.send("PUT", "a.yaml", "1")?;

    let charts = front(&authority, &web.host)?;
    let images = front(&authority, &registry.host)?;
    let objects = front(&authority, &s3.host)?;
    let mut from_index = helm::wanted(&format!("https://{charts}/repo"), "1.x");
    let mut from_registry = helm::wanted(&format!("oci://{images}/charts"), "1.x");
    for wanted in [&mut from_index, &mut from_registry] {
        wanted.repository.as_mut().unwrap().insecure = false;
    }
    let artifact = oci::spec(&images, "app", OciReference::Tag("v1".into()));
    let mut bucket = bucket::wanted(&objects);
    if let SourceSpec::Bucket(spec) = &mut bucket.spec {
        spec.insecure = false;
    }
    let artifact = oci::wanted(flotilla_core::source::OciRepository { insecure: false, ..artifact });

    let all = ["ca.crt", "tls.crt", "tls.key"];
    for (name, wanted) in
        [("index", from_index), ("registry", from_registry), ("artifact", artifact), ("bucket", bucket)]
    {
        for (n, (cert, good)) in [
            (Some(authority.secret(&all)), true),
            (Some(authority.secret(&["ca.crt"])), false),
            (Some(other.secret(&all)), false),
            (Some(authority.secret(&["tls.crt", "tls.key"])), false),
            (None, false),
        ]
        .into_iter()
        .enumerate()
        {
            let mut wanted: Wanted = wanted.clone();
            wanted.secrets.cert = cert;
            let dir = tmp.path().join(format!("{name}-{n}"));
            let mut fetcher = Fetcher::open(dir, wanted, &Policy::new(Reach::Anything))?;
            let fetched = fetcher.fetch(&AtomicBool::new(false)).map(|fetched| fetched.revision);
            match fetched {
                Ok(revision) => assert!(good, "{name} {n}: {revision}"),
                Err(error) => {
                    let said = error.to_string();
                    assert!(!good && said.contains("cannot reach https://localhost"), "{name} {n}: {said}");
                }
            }
        }
    }
    Ok(())
}

#[test]
fn a_proxy_is_asked_for_a_bucket() -> Result<()> {
    let tmp = tempfile::tempdir()?;
    let s3 = bucket::S3::start()?;
    s3.send("PUT", "a.yaml", "1")?;
    let proxy = Front::start(&s3.host, Gate::Open)?;
    // Nobody but the proxy knows this name.
    let mut wanted = bucket::wanted("s3.invalid");
    let fetch = |name: &str, wanted: &Wanted| {
        let mut fetcher =
            Fetcher::open(tmp.path().join(name), wanted.clone(), &Policy::new(Reach::Anything))?;
        fetcher.fetch(&AtomicBool::new(false)).map(|fetched| fetched.revision)
    };
    assert!(fetch("direct", &wanted).is_err());
    let data = [("address".to_owned(), format!("http://{}", proxy.host).into_bytes())].into();
    wanted.secrets.proxy = Some(Secret { name: "ns/proxy".into(), data });
    assert!(fetch("proxied", &wanted)?.starts_with("sha256:"));
    let requests = proxy.requests();
    assert!(
        !requests.is_empty() && requests.iter().all(|request| request.contains("http://s3.invalid/")),
        "{requests:?}"
    );
    Ok(())
}
