//! A Git server: smart HTTP(S) by `git http-backend`, with a password if wanted, and failing on demand.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::Port;
use crate::git::{self, Repo};
use crate::pki::ServerIdentity;

/// Requests of clients that fetch are small.
const LONGEST_REQUEST: usize = 16 << 20;
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(5);

/// Serves one repository at `http://127.0.0.1:PORT/NAME.git`, or `https`. Ends on drop.
pub struct GitServer {
    port: Port,
    repo: PathBuf,
    credentials: Option<(String, String)>,
    tls: Option<Tls>,
    failure: Arc<Mutex<Option<StatusCode>>>,
    listening: Option<JoinHandle<()>>,
}

struct Tls {
    acceptor: TlsAcceptor,
    folder: TempDir,
}

#[derive(Clone)]
struct Service {
    repo: PathBuf,
    /// The Authorization header that is asked for.
    authorization: Option<String>,
    failure: Arc<Mutex<Option<StatusCode>>>,
}

impl GitServer {
    /// Serves a repository by HTTP, to everybody or with a user name and password only.
    ///
    /// # Errors
    /// If no port is free.
    pub async fn start(repo: &Repo, credentials: Option<(&str, &str)>) -> Result<Self> {
        Self::start_with(repo, credentials, None).await
    }

    /// Serves a repository by HTTPS, with a certificate by the CA of [`GitServer::ca_path`].
    ///
    /// # Errors
    /// If no port is free.
    pub async fn start_tls(repo: &Repo, credentials: Option<(&str, &str)>) -> Result<Self> {
        Self::start_with(repo, credentials, Some(Tls::new()?)).await
    }

    async fn start_with(repo: &Repo, credentials: Option<(&str, &str)>, tls: Option<Tls>) -> Result<Self> {
        let mut server = Self {
            port: Port::reserve()?,
            repo: repo.path().to_owned(),
            credentials: credentials.map(|(user, password)| (user.to_owned(), password.to_owned())),
            tls,
            failure: Arc::default(),
            listening: None,
        };
        server.listen().await?;
        Ok(server)
    }

    /// The repository's address, without credentials.
    #[must_use]
    pub fn url(&self) -> String {
        let name = self.repo.file_name().unwrap_or_default().to_string_lossy();
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://127.0.0.1:{}/{name}", self.port.number())
    }

    /// The file with the CA's certificate (PEM), for clients that are to trust it; `None` by HTTP.
    #[must_use]
    pub fn ca_path(&self) -> Option<PathBuf> {
        self.tls.as_ref().map(|tls| tls.folder.path().join("ca.crt"))
    }

    /// Refuses connections from now on.
    pub fn stop(&mut self) {
        if let Some(listening) = self.listening.take() {
            listening.abort();
        }
    }

    /// Accepts connections again, at the same address.
    ///
    /// # Errors
    /// If it does already.
    pub async fn listen(&mut self) -> Result<()> {
        ensure!(self.listening.is_none(), "the git server listens already");
        let listener = bind(self.port.number()).await?;
        let authorization = self.credentials.as_ref().map(|(user, password)| {
            let joined = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
            format!("Basic {joined}")
        });
        let service = Service { repo: self.repo.clone(), authorization, failure: self.failure.clone() };
        let router = Router::new().fallback(answer).with_state(service);
        let tls = self.tls.as_ref().map(|tls| tls.acceptor.clone());
        // It ends when it is aborted; serving itself has no error to return.
        self.listening = Some(tokio::spawn(async move {
            match tls {
                None => drop(axum::serve(listener, router).await),
                Some(acceptor) => drop(axum::serve(TlsListener { listener, acceptor }, router).await),
            }
        }));
        Ok(())
    }

    /// Answers every request with this status from now on; `None` serves again.
    pub fn fail(&self, status: Option<StatusCode>) {
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = status;
    }
}

impl Drop for GitServer {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Tls {
    fn new() -> Result<Self> {
        let identity = ServerIdentity::new("git server", &["127.0.0.1", "localhost"])?;
        let folder = tempfile::Builder::new()
            .prefix("flotilla-git-tls-")
            .tempdir()
            .context("make a folder for a CA")?;
        fs::write(folder.path().join("ca.crt"), &identity.ca).context("write the git server's CA")?;
        let certificate = CertificateDer::from_pem_slice(identity.certificate.as_bytes())?;
        let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes())?;
        let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)?;
        Ok(Self { acceptor: TlsAcceptor::from(Arc::new(config)), folder })
    }
}

struct TlsListener {
    listener: TcpListener,
    acceptor: TlsAcceptor,
}

impl axum::serve::Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let (stream, address) = axum::serve::Listener::accept(&mut self.listener).await;
            // A client that does not trust us is not worth a word, one that says nothing does not hold the others up.
            if let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE_WITHIN, self.acceptor.accept(stream)).await
            {
                return (stream, address);
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// An aborted listener closes when its task is next run, so the address may need a moment.
async fn bind(port: u16) -> Result<TcpListener> {
    let bound =
        crate::wait::eventually(Duration::from_secs(10), || TcpListener::bind((Ipv4Addr::LOCALHOST, port)));
    bound.await.with_context(|| format!("listen on 127.0.0.1:{port}"))
}

async fn answer(State(service): State<Service>, request: Request) -> Response {
    let failure = *service.failure.lock().unwrap_or_else(PoisonError::into_inner);
    let given = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let mut response = if let Some(status) = failure {
        (status, "failing on demand").into_response()
    } else if service.authorization.as_deref().is_some_and(|wanted| given != Some(wanted)) {
        let challenge = [(header::WWW_AUTHENTICATE, "Basic realm=\"git\"")];
        (StatusCode::UNAUTHORIZED, challenge, "wrong credentials").into_response()
    } else {
        match backend(&service.repo, request).await {
            Ok(response) => response,
            Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error:#}")).into_response(),
        }
    };
    // So that a stopped server has no connection left on which it would go on answering.
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

/// One request by the CGI program that git brings.
async fn backend(repo: &std::path::Path, request: Request) -> Result<Response> {
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, LONGEST_REQUEST).await.context("read the request")?;
    let header =
        |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let mut command = tokio::process::Command::from(git::command());
    let mut child = command
        .arg("http-backend")
        .env("GIT_PROJECT_ROOT", repo.parent().context("the repository has no parent folder")?)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("REQUEST_METHOD", parts.method.as_str())
        .env("PATH_INFO", parts.uri.path())
        .env("QUERY_STRING", parts.uri.query().unwrap_or_default())
        .env("CONTENT_TYPE", header("content-type"))
        .env("CONTENT_LENGTH", body.len().to_string())
        .env("HTTP_CONTENT_ENCODING", header("content-encoding"))
        .env("GIT_PROTOCOL", header("git-protocol"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .context("start git http-backend")?;
    let mut stdin = child.stdin.take().context("git http-backend has no stdin")?;
    // Written while its output is read, or both would wait for each other.
    let writing = tokio::spawn(async move { stdin.write_all(&body).await });
    let output = child.wait_with_output().await.context("wait for git http-backend")?;
    // It may answer without reading everything; that shows in the answer.
    let _ = writing.await;
    parse(&output.stdout)
}

/// What a CGI program prints: headers, an empty line, the body.
fn parse(output: &[u8]) -> Result<Response> {
    let end = output
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .context("no headers from git http-backend")?;
    let mut headers = HeaderMap::new();
    let mut status = StatusCode::OK;
    for line in std::str::from_utf8(&output[..end]).context("headers are not text")?.split("\r\n") {
        let Some((name, value)) = line.split_once(": ") else { bail!("not a header: {line:?}") };
        if name.eq_ignore_ascii_case("status") {
            status = value.split(' ').next().unwrap_or_default().parse().context("read the status")?;
        } else {
            headers.insert(HeaderName::try_from(name)?, HeaderValue::try_from(value)?);
        }
    }
    Ok((status, headers, Body::from(output[end + 4..].to_vec())).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::git::file;

    /// What a client sees: the ids of the branches, or git's complaint.
    async fn branches(url: String) -> Result<String, String> {
        branches_trusting(url, None).await
    }

    async fn branches_trusting(url: String, ca: Option<PathBuf>) -> Result<String, String> {
        tokio::task::spawn_blocking(move || {
            let mut command = git::command();
            if let Some(ca) = ca {
                command.env("GIT_SSL_CAINFO", ca);
            }
            let output = command.args(["ls-remote", "--heads", &url]).output().unwrap();
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
        })
        .await
        .unwrap()
    }

    #[tokio::test]
    async fn serves_and_fails_on_demand() {
        let repo = Repo::new().unwrap();
        let head = repo.commit("one", &[file("a", "1")]).unwrap();
        let mut server = GitServer::start(&repo, None).await.unwrap();
        let served = format!("{head}\trefs/heads/main\n");
        assert_eq!(branches(server.url()).await, Ok(served.clone()));

        server.fail(Some(StatusCode::INTERNAL_SERVER_ERROR));
        let failed = branches(server.url()).await.unwrap_err();
        assert!(failed.contains("500"), "{failed}");
        server.fail(None);

        server.stop();
        crate::wait::eventually(Duration::from_secs(10), || async {
            match branches(server.url()).await {
                Err(error) if error.contains("Failed to connect") => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await
        .unwrap();
        server.listen().await.unwrap();
        assert_eq!(branches(server.url()).await, Ok(served));
    }

    #[tokio::test]
    async fn asks_for_credentials() {
        let repo = Repo::new().unwrap();
        repo.commit("one", &[file("a", "1")]).unwrap();
        let server = GitServer::start(&repo, Some(("ann", "secret"))).await.unwrap();
        let with = |user: &str| server.url().replace("://", &format!("://{user}@"));
        assert!(branches(server.url()).await.is_err(), "none");
        assert!(branches(with("ann:wrong")).await.is_err(), "wrong");
        assert!(branches(with("ann:secret")).await.is_ok(), "right");
    }

    #[tokio::test]
    async fn serves_whoever_trusts_its_ca() {
        let repo = Repo::new().unwrap();
        repo.commit("one", &[file("a", "1")]).unwrap();
        let server = GitServer::start_tls(&repo, Some(("ann", "secret"))).await.unwrap();
        let url = server.url().replace("://", "://ann:secret@");
        let distrust = branches(url.clone()).await.unwrap_err();
        assert!(distrust.contains("certificate"), "{distrust}");
        let trusted = branches_trusting(url, server.ca_path()).await;
        assert!(trusted.as_ref().is_ok_and(|heads| heads.ends_with("refs/heads/main\n")), "{trusted:?}");
    }

    #[tokio::test]
    async fn a_clone_is_whole() {
        let repo = Repo::new().unwrap();
        repo.commit("one", &[file("a/b", "x".repeat(2_000_000))]).unwrap();
        let server = GitServer::start(&repo, None).await.unwrap();
        let target = tempfile::tempdir().unwrap();
        let (url, path) = (server.url(), target.path().to_owned());
        let cloned = tokio::task::spawn_blocking(move || {
            git::command().args(["clone", "--quiet", &url]).arg(&path).status().unwrap()
        });
        assert!(cloned.await.unwrap().success());
        assert_eq!(std::fs::metadata(target.path().join("a/b")).unwrap().len(), 2_000_000);
    }
}
