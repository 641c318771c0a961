//! A real OCI registry, what is pushed to it, and a gate before it that asks who asks.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use base64::Engine;
use flate2::Compression;
use flate2::write::GzEncoder;

const REGISTRY: &str = "github.com/google/go-containerregistry/cmd/registry@v0.21.2";

/// A program, from the cache or built by Go once a machine. `module` is `PATH@VERSION`.
pub(crate) fn program(name: &str, module: &str) -> Result<PathBuf> {
    let cache = match std::env::var_os("FLOTILLA_CACHE") {
        Some(folder) => PathBuf::from(folder),
        None => match std::env::var_os("XDG_CACHE_HOME") {
            Some(folder) => PathBuf::from(folder).join("flotilla"),
            None => {
                PathBuf::from(std::env::var_os("HOME").context("HOME is not set")?).join(".cache/flotilla")
            }
        },
    };
    let version = module.rsplit('@').next().unwrap_or_default();
    let folder = cache.join(format!("{name}-{version}"));
    let program = folder.join(name);
    if !program.exists() {
        std::fs::create_dir_all(&folder)?;
        // Beside the place that it takes: of two builds at once both do.
        let building = tempfile::tempdir_in(&folder)?;
        let output = Command::new("go")
            .args(["install", module])
            .env("GOBIN", building.path())
            .output()
            .with_context(|| format!("Go is needed to build {name} (https://go.dev/dl)"))?;
        ensure!(output.status.success(), "go install: {}", String::from_utf8_lossy(&output.stderr));
        std::fs::rename(building.path().join(name), &program)?;
    }
    Ok(program)
}

/// A registry at `HOST:PORT`, gone with its value.
pub(crate) struct Registry {
    child: Child,
    pub(crate) host: String,
}

impl Registry {
    pub(crate) fn start() -> Result<Self> {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let child = Command::new(program("registry", REGISTRY)?)
            .args(["-port", &port.to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let registry = Self { child, host: format!("127.0.0.1:{port}") };
        let deadline = Instant::now() + Duration::from_secs(30);
        while TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).is_err() {
            ensure!(Instant::now() < deadline, "the registry does not answer");
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(registry)
    }

    /// Pushes layers (media type, content) as one image; gives the manifest's digest.
    pub(crate) fn push(&self, repository: &str, tag: &str, layers: &[(&str, &[u8])]) -> Result<String> {
        let mut described = Vec::new();
        for (media_type, content) in layers {
            let digest = self.blob(repository, content)?;
            described
                .push(serde_json::json!({"mediaType": media_type, "digest": digest, "size": content.len()}));
        }
        let config = self.blob(repository, b"{}")?;
        let manifest = serde_json::json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config, "size": 2},
            "layers": described,
        });
        self.manifest(repository, tag, "application/vnd.oci.image.manifest.v1+json", &manifest.to_string())
    }

    pub(crate) fn manifest(&self, repository: &str, tag: &str, kind: &str, text: &str) -> Result<String> {
        let path = format!("/v2/{repository}/manifests/{tag}");
        let (status, head, _) = self.send("PUT", &path, kind, text.as_bytes())?;
        ensure!(status == 201, "PUT {path}: {status} {head}");
        Ok(sha256(text.as_bytes()))
    }

    fn blob(&self, repository: &str, content: &[u8]) -> Result<String> {
        let digest = sha256(content);
        let path = format!("/v2/{repository}/blobs/uploads/?digest={digest}");
        let (status, head, _) = self.send("POST", &path, "application/octet-stream", content)?;
        ensure!(status == 201, "POST {path}: {status} {head}");
        Ok(digest)
    }

    fn send(&self, method: &str, path: &str, kind: &str, body: &[u8]) -> Result<(u16, String, Vec<u8>)> {
        let mut stream = TcpStream::connect(&self.host)?;
        let length = body.len();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n",
            self.host
        )?;
        stream.write_all(body)?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        let end = answer.windows(4).position(|part| part == b"\r\n\r\n").context("no headers")?;
        let head = String::from_utf8_lossy(&answer[..end]).into_owned();
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).context("no status")?;
        Ok((status, head, answer[end + 4..].to_vec()))
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    let hex: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

/// A `.tar.gz` with these files.
pub(crate) fn archive(files: &[(&str, &str)]) -> Vec<u8> {
    let mut tar = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    for (path, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, path, content.as_bytes()).unwrap();
    }
    tar.into_inner().unwrap().finish().unwrap()
}

/// How a gate asks.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Gate {
    Open,
    Basic,
    Token,
}

/// Stands before a server: asks for `jo:s3cret` the one way or the other, counts requests, passes them on.
pub(crate) struct Front {
    pub(crate) host: String,
    /// Method and path of each request that was passed on.
    pub(crate) passed: Arc<Mutex<Vec<String>>>,
}

impl Front {
    pub(crate) fn start(behind: &str, gate: Gate) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let host = listener.local_addr()?.to_string();
        let passed = Arc::new(Mutex::new(Vec::new()));
        let (own, behind, noted) = (host.clone(), behind.to_owned(), passed.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (own, behind, noted) = (own.clone(), behind.clone(), noted.clone());
                std::thread::spawn(move || drop(serve(stream, &own, &behind, gate, &noted)));
            }
        });
        Ok(Self { host, passed })
    }

    /// How many requests began so since the last time that this was asked.
    pub(crate) fn requests(&self) -> Vec<String> {
        std::mem::take(&mut self.passed.lock().unwrap())
    }
}

fn serve(stream: TcpStream, own: &str, behind: &str, gate: Gate, passed: &Mutex<Vec<String>>) -> Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut stream = stream;
    let mut head = String::new();
    while reader.read_line(&mut head)? > 2 {}
    let header = |name: &str| {
        head.lines().find_map(|line| line.split_once(':').filter(|(key, _)| key.eq_ignore_ascii_case(name)))
    };
    let given = header("authorization").map(|(_, value)| value.trim().to_owned()).unwrap_or_default();
    let basic = format!("Basic {}", base64::engine::general_purpose::STANDARD.encode("jo:s3cret"));
    let line = head.lines().next().unwrap_or_default().to_owned();
    let mut answer = |status: &str, more: &str, body: &str| -> Result<()> {
        let length = body.len();
        write!(
            stream,
            "HTTP/1.1 {status}\r\n{more}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        )?;
        Ok(())
    };
    if line.starts_with("GET /token?") {
        let is_asked_well = line.contains("service=test") && line.contains("scope=repository%3A");
        return match given == basic && is_asked_well {
            true => answer("200 OK", "", "{\"token\": \"t0ken\"}"),
            false => answer("401 Unauthorized", "", ""),
        };
    }
    let wanted = match gate {
        Gate::Open => given.clone(),
        Gate::Basic => basic,
        Gate::Token => "Bearer t0ken".to_owned(),
    };
    if given != wanted {
        let challenge = match gate {
            Gate::Token => format!("Bearer realm=\"http://{own}/token\",service=\"test\",scope=\"x\""),
            _ => "Basic realm=\"x\"".to_owned(),
        };
        return answer("401 Unauthorized", &format!("WWW-Authenticate: {challenge}\r\n"), "");
    }
    passed
        .lock()
        .unwrap()
        .push(line.rsplit_once(' ').map_or(line.clone(), |(request, _)| request.to_owned()));
    let mut behind = TcpStream::connect(behind)?;
    let lines =
        head.lines().filter(|line| !line.to_ascii_lowercase().starts_with("connection:") && !line.is_empty());
    let request = lines.collect::<Vec<_>>().join("\r\n");
    write!(behind, "{request}\r\nConnection: close\r\n\r\n")?;
    std::io::copy(&mut behind, &mut stream)?;
    Ok(())
}
