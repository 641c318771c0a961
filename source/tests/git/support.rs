//! Real repositories made by the `git` program, and a server that gives them out by `git http-backend`.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result, bail, ensure};
use base64::Engine;
use flotilla_source::{CommitId, GitRepo, GitSpec};

/// A repository with a work tree; it serves as the remote.
pub(crate) struct Remote {
    pub(crate) dir: PathBuf,
}

fn git_command(dir: &Path) -> Command {
    let mut command = Command::new("git");
    command.current_dir(dir).env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
    for (who, name) in [("AUTHOR", "Ada"), ("COMMITTER", "Bo")] {
        command
            .env(format!("GIT_{who}_NAME"), name)
            .env(format!("GIT_{who}_EMAIL"), "x@example.org")
            .env(format!("GIT_{who}_DATE"), "1700000000 +0100");
    }
    command
}

impl Remote {
    pub(crate) fn empty(dir: PathBuf) -> Result<Self> {
        std::fs::create_dir_all(&dir)?;
        let remote = Self { dir };
        remote.git(&["init", "-q", "-b", "main"])?;
        Ok(remote)
    }

    /// What it prints, without the last line break.
    pub(crate) fn git(&self, arguments: &[&str]) -> Result<String> {
        let output = git_command(&self.dir).args(arguments).output().context("git is needed")?;
        ensure!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8(output.stdout)?.trim_end().to_owned())
    }

    pub(crate) fn write(&self, path: &str, content: impl AsRef<[u8]>) -> Result<()> {
        let path = self.dir.join(path);
        std::fs::create_dir_all(path.parent().context("a file has a folder")?)?;
        Ok(std::fs::write(path, content)?)
    }

    pub(crate) fn commit(&self, message: &str) -> Result<CommitId> {
        self.git(&["add", "-A"])?;
        self.git(&["commit", "-q", "--allow-empty", "-m", message])?;
        Ok(self.git(&["rev-parse", "HEAD"])?.parse()?)
    }

    /// A commit with one file changed.
    pub(crate) fn put(&self, path: &str, content: &str) -> Result<CommitId> {
        self.write(path, content)?;
        self.commit(&format!("{path}: {content}"))
    }

    /// With the URL by its path.
    pub(crate) fn spec(&self) -> GitSpec {
        spec(&format!("file://{}", self.dir.display()))
    }
}

pub(crate) fn spec(url: &str) -> GitSpec {
    GitSpec::new(url.parse().unwrap(), "main".parse().unwrap())
}

pub(crate) fn fetch(repo: &mut GitRepo) -> Result<CommitId, flotilla_source::FetchError> {
    repo.fetch(&AtomicBool::new(false)).map(|commit| commit.id).inspect_err(|error| eprintln!("{error}"))
}

/// How the server behaves.
#[derive(Default)]
pub(crate) struct Behaviour {
    pub(crate) password: Option<(&'static str, &'static str)>,
    /// Takes connections and says nothing.
    pub(crate) silent: AtomicBool,
    /// Sends half of each pack, then closes.
    pub(crate) breaks_off: AtomicBool,
    /// Answers with this status line.
    pub(crate) status: Mutex<Option<&'static str>>,
    /// Requests for packs that it answered.
    pub(crate) packs: Mutex<usize>,
    /// It is spoken to as a proxy, by whoever knows this.
    pub(crate) proxy: Option<(&'static str, &'static str)>,
    /// All requests, by method and path.
    pub(crate) requests: Mutex<Vec<String>>,
}

/// Serves the repositories below a folder over smart HTTP(S) until it is dropped.
pub(crate) struct GitServer {
    address: SocketAddr,
    tls: bool,
    pub(crate) behaviour: Arc<Behaviour>,
    stopped: Arc<AtomicBool>,
}

impl GitServer {
    /// With `tls` over https, for the host `localhost`.
    pub(crate) fn start(
        root: &Path,
        tls: Option<rustls::ServerConfig>,
        behaviour: Behaviour,
    ) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let (root, behaviour) = (root.to_owned(), Arc::new(behaviour));
        let stopped = Arc::new(AtomicBool::new(false));
        let server =
            Self { address, tls: tls.is_some(), behaviour: behaviour.clone(), stopped: stopped.clone() };
        let tls = tls.map(Arc::new);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stopped.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                let (root, tls, behaviour) = (root.clone(), tls.clone(), behaviour.clone());
                // A client that goes away is part of the tests.
                std::thread::spawn(move || {
                    if behaviour.silent.load(Ordering::SeqCst) {
                        return hold(stream);
                    }
                    match tls {
                        None => answer(stream, &root, &behaviour).ok(),
                        Some(tls) => rustls::ServerConnection::new(tls).ok().and_then(|connection| {
                            answer(rustls::StreamOwned::new(connection, stream), &root, &behaviour).ok()
                        }),
                    };
                });
            }
        });
        Ok(server)
    }

    pub(crate) fn url(&self, userinfo: &str, path: &str) -> String {
        let scheme = if self.tls { "https" } else { "http" };
        format!("{scheme}://{userinfo}localhost:{}/{path}", self.address.port())
    }
}

impl Drop for GitServer {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        TcpStream::connect(self.address).ok();
    }
}

/// Until the client goes.
fn hold(mut stream: TcpStream) {
    let mut ignored = [0; 1024];
    while stream.read(&mut ignored).is_ok_and(|n| n > 0) {}
}

fn answer(stream: impl Read + Write, root: &Path, behaviour: &Behaviour) -> Result<()> {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    stream.read_line(&mut line)?;
    let mut words = line.split_whitespace();
    let (method, target) =
        (words.next().context("method")?.to_owned(), words.next().context("target")?.to_owned());
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line)?;
        let Some((name, value)) = line.split_once(':') else { break };
        headers.push((name.trim().to_lowercase(), value.trim().to_owned()));
    }
    let header = |name: &str| headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str());
    let body = read_body(&mut stream, header("content-length"), header("transfer-encoding"))?;
    let mut reply = |head: &str, body: &[u8]| -> Result<()> {
        let stream = stream.get_mut();
        write!(stream, "HTTP/1.1 {head}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len())?;
        let broken = behaviour.breaks_off.load(Ordering::SeqCst) && body.len() > 1000;
        stream.write_all(if broken { &body[..body.len() / 2] } else { body })?;
        Ok(stream.flush()?)
    };
    if let Some(status) = *behaviour.status.lock().unwrap() {
        return reply(status, b"");
    }
    if let Some((user, password)) = behaviour.password {
        let wanted = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
        if header("authorization") != Some(&format!("Basic {wanted}")) {
            return reply("401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"git\"", b"");
        }
    }
    if let Some((user, password)) = behaviour.proxy {
        let wanted = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
        if header("proxy-authorization") != Some(&format!("Basic {wanted}")) {
            return reply(
                "407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm=\"git\"",
                b"",
            );
        }
    }
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    behaviour.requests.lock().unwrap().push(format!("{method} {path}"));
    // A proxy is told the whole address.
    let path = path.strip_prefix("http://").map_or(path, |rest| &rest[rest.find('/').unwrap_or_default()..]);
    let mut backend = git_command(root)
        .args(["http-backend"])
        .env("GIT_PROJECT_ROOT", root)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("REQUEST_METHOD", &method)
        .env("PATH_INFO", path)
        .env("QUERY_STRING", query)
        .env("CONTENT_TYPE", header("content-type").unwrap_or_default())
        .env("CONTENT_LENGTH", body.len().to_string())
        .env("HTTP_CONTENT_ENCODING", header("content-encoding").unwrap_or_default())
        .env("GIT_PROTOCOL", header("git-protocol").unwrap_or_default())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    backend.stdin.take().context("stdin")?.write_all(&body)?;
    let output = backend.wait_with_output()?.stdout;
    let end = output.windows(4).position(|four| four == b"\r\n\r\n").context("an end of headers")?;
    let head = std::str::from_utf8(&output[..end])?;
    let status = head.lines().find_map(|line| line.strip_prefix("Status: ")).unwrap_or("200 OK");
    let others: Vec<&str> = head.lines().filter(|line| !line.starts_with("Status: ")).collect();
    let content = &output[end + 4..];
    if content.windows(4).any(|four| four == b"PACK") {
        *behaviour.packs.lock().unwrap() += 1;
    }
    reply(&format!("{status}\r\n{}", others.join("\r\n")), content)
}

fn read_body(stream: &mut impl BufRead, length: Option<&str>, encoding: Option<&str>) -> Result<Vec<u8>> {
    let mut body = Vec::new();
    if encoding == Some("chunked") {
        loop {
            let mut line = String::new();
            stream.read_line(&mut line)?;
            let size = u64::from_str_radix(line.trim(), 16)?;
            stream.take(size).read_to_end(&mut body)?;
            stream.read_line(&mut line)?;
            if size == 0 {
                return Ok(body);
            }
        }
    }
    stream.take(length.unwrap_or("0").parse()?).read_to_end(&mut body)?;
    if body.len().to_string() != length.unwrap_or("0") {
        bail!("the client broke off");
    }
    Ok(body)
}

/// A CA (PEM) and the configuration of a server for `localhost` with a certificate by it.
pub(crate) fn tls() -> Result<(String, rustls::ServerConfig)> {
    let ca_key = rcgen::KeyPair::generate()?;
    let mut ca = rcgen::CertificateParams::new(Vec::new())?;
    ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    ca.distinguished_name.push(rcgen::DnType::CommonName, "a CA of the tests");
    let ca_certificate = ca.self_signed(&ca_key)?;
    let issuer = rcgen::Issuer::new(ca, ca_key);
    let key = rcgen::KeyPair::generate()?;
    let certificate = rcgen::CertificateParams::new(vec!["localhost".into()])?.signed_by(&key, &issuer)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            rustls::pki_types::PrivateKeyDer::Pkcs8(key.serialize_der().into()),
        )?;
    Ok((ca_certificate.pem(), config))
}
