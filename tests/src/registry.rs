//! Where charts and artifacts come from: a real OCI registry, and a folder served by HTTP with a Helm index.
//!
//! ```text
//!   tests/charts/NAME ── helm package --version V ──► NAME-V.tgz ──┬─ helm push ──────► Registry  HOST/REPOSITORY/NAME:V
//!                                                                  └─ helm repo index ► Site      http://HOST/index.yaml
//!   files ── tar, gzip ──► an artifact of Flux's ── PUT ──────────────────────────────► Registry  HOST/REPOSITORY:TAG
//! ```

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use flate2::Compression;
use flate2::write::GzEncoder;
use flotilla_compare::gobuild::cache_folder;
use serde_json::json;
use tempfile::TempDir;
use tokio::task::JoinHandle;

use crate::process::{Process, Recipe};
use crate::wait::eventually;
use crate::{Port, helm};

const MODULE: &str = "github.com/google/go-containerregistry/cmd/registry";
const VERSION: &str = "v0.21.2";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const LAYER: &str = "application/vnd.cncf.flux.content.v1.tar+gzip";

/// The registry's program, from the cache or built by Go once a machine.
fn program() -> Result<PathBuf> {
    let folder = cache_folder()?.join(format!("registry-{VERSION}"));
    let program = folder.join("registry");
    if !program.exists() {
        std::fs::create_dir_all(&folder)?;
        // Beside the place that it takes: of two builds at once both do.
        let building = tempfile::tempdir_in(&folder)?;
        let output = Command::new("go")
            .args(["install", &format!("{MODULE}@{VERSION}")])
            .env("GOBIN", building.path())
            .output();
        let output = output.context("Go is needed to build a registry (https://go.dev/dl)")?;
        ensure!(output.status.success(), "go install: {}", String::from_utf8_lossy(&output.stderr));
        std::fs::rename(building.path().join("registry"), &program)?;
    }
    Ok(program)
}

/// A registry without TLS, empty at first. Killed on drop.
#[derive(Debug)]
pub struct Registry {
    port: Port,
    _process: Process,
    _folder: TempDir,
}

impl Registry {
    /// # Errors
    /// Where it cannot be built or does not answer.
    pub async fn start() -> Result<Self> {
        let program = tokio::task::spawn_blocking(program).await??;
        let (port, folder) = (Port::reserve()?, tempfile::tempdir()?);
        let recipe = Recipe::new(program).args(["-port", &port.number().to_string()]);
        let process = recipe.start(folder.path().join("registry.log"))?;
        let registry = Self { port, _process: process, _folder: folder };
        let host = registry.host();
        eventually(Duration::from_secs(30), || async { tokio::net::TcpStream::connect(&host).await }).await?;
        Ok(registry)
    }

    /// `HOST:PORT`
    #[must_use]
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port.number())
    }

    /// Pushes files as an artifact like `flux push artifact` makes, at `REPOSITORY:TAG`. Blocks.
    ///
    /// # Errors
    /// If the registry refuses.
    pub fn push(&self, repository: &str, tag: &str, files: &[(&str, &str)]) -> Result<()> {
        let mut tar = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
        for (path, content) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            tar.append_data(&mut header, path, content.as_bytes())?;
        }
        let archive = tar.into_inner()?.finish()?;
        let layer = self.blob(repository, &archive)?;
        let config = self.blob(repository, b"{}")?;
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST,
            "config": {"mediaType": "application/vnd.cncf.flux.config.v1+json", "digest": config, "size": 2},
            "layers": [{"mediaType": LAYER, "digest": layer, "size": archive.len()}],
        });
        let path = format!("/v2/{repository}/manifests/{tag}");
        self.send("PUT", &path, MANIFEST, manifest.to_string().as_bytes())
    }

    fn blob(&self, repository: &str, content: &[u8]) -> Result<String> {
        let digest = ring::digest::digest(&ring::digest::SHA256, content);
        let hex: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        let digest = format!("sha256:{hex}");
        let path = format!("/v2/{repository}/blobs/uploads/?digest={digest}");
        self.send("POST", &path, "application/octet-stream", content)?;
        Ok(digest)
    }

    fn send(&self, method: &str, path: &str, kind: &str, body: &[u8]) -> Result<()> {
        let (host, length) = (self.host(), body.len());
        let mut stream = TcpStream::connect(&host)?;
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: \
             close\r\n\r\n"
        )?;
        stream.write_all(body)?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        ensure!(answer.starts_with("HTTP/1.1 201"), "{method} {path}: {answer}");
        Ok(())
    }
}

/// The charts of `tests/charts`, as people who publish charts handle them.
#[derive(Debug)]
pub struct Charts {
    helm: PathBuf,
    folder: TempDir,
}

impl Charts {
    /// With the real helm, which is built if need be.
    ///
    /// # Errors
    /// Where it cannot be built.
    pub async fn new() -> Result<Self> {
        let helm = tokio::task::spawn_blocking(|| helm::find_or_build(&mut |_| {})).await??;
        Ok(Self { helm, folder: tempfile::tempdir()? })
    }

    /// The helm program.
    #[must_use]
    pub fn helm(&self) -> &Path {
        &self.helm
    }

    /// A chart's archive at a version. Blocks.
    ///
    /// # Errors
    /// If helm refuses.
    pub fn package(&self, name: &str, version: &str) -> Result<PathBuf> {
        let chart = Path::new(env!("CARGO_MANIFEST_DIR")).join("charts").join(name);
        let mut command = self.command(&["package", "--version", version, "--destination"]);
        run(command.arg(self.folder.path()).arg(chart))?;
        Ok(self.folder.path().join(format!("{name}-{version}.tgz")))
    }

    /// Pushes a chart to `REPOSITORY/NAME:VERSION`. Blocks.
    ///
    /// # Errors
    /// If helm or the registry refuses.
    pub fn push(&self, registry: &Registry, repository: &str, name: &str, version: &str) -> Result<()> {
        let archive = self.package(name, version)?;
        let mut command = self.command(&["push", "--plain-http"]);
        run(command.arg(archive).arg(format!("oci://{}/{repository}", registry.host()))).map(drop)
    }

    /// Serves a chart's versions with an index that names them at `url`, as if it was published there.
    ///
    /// # Errors
    /// If helm refuses or no port is free.
    pub async fn publish(&self, name: &str, versions: &[&str], url: &str) -> Result<Site> {
        let folder = tempfile::tempdir()?;
        for version in versions {
            let archive = self.package(name, version)?;
            std::fs::copy(&archive, folder.path().join(archive.file_name().unwrap_or_default()))?;
        }
        let mut command = self.command(&["repo", "index", "--url", url]);
        run(command.arg(folder.path()))?;
        Site::start(folder).await
    }

    /// The objects that `helm template` gives, as one text. Blocks.
    ///
    /// # Errors
    /// If helm refuses.
    pub fn template(&self, release: &str, namespace: &str, chart: &Path, more: &[&str]) -> Result<String> {
        let mut command = self.command(&["template", release]);
        run(command.arg(chart).args(["--namespace", namespace, "--include-crds", "--no-hooks"]).args(more))
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.helm);
        // Nobody's configuration, and none left behind.
        command.args(args).env("HOME", self.folder.path()).stdin(Stdio::null());
        for variable in
            ["HELM_CONFIG_HOME", "HELM_CACHE_HOME", "HELM_DATA_HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME"]
        {
            command.env_remove(variable);
        }
        command
    }
}

fn run(command: &mut Command) -> Result<String> {
    let output = command.output().context("run helm")?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).context("helm's output is not UTF-8")
}

/// A folder served by HTTP. Ends on drop.
#[derive(Debug)]
pub struct Site {
    port: u16,
    serving: JoinHandle<()>,
    folder: TempDir,
}

impl Site {
    /// # Errors
    /// If no port is free.
    pub async fn start(folder: TempDir) -> Result<Self> {
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let port = listener.local_addr()?.port();
        let router = Router::new().fallback(file).with_state(folder.path().to_owned());
        // It ends when it is aborted; serving itself has no error to return.
        let serving = tokio::spawn(async move { drop(axum::serve(listener, router).await) });
        Ok(Self { port, serving, folder })
    }

    /// `http://HOST:PORT`
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// What is served.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn file(State(folder): State<PathBuf>, request: Request) -> Result<Vec<u8>, StatusCode> {
    let path = request.uri().path().trim_start_matches('/').to_owned();
    if path.split('/').any(|part| part == "..") {
        return Err(StatusCode::BAD_REQUEST);
    }
    tokio::fs::read(folder.join(path)).await.map_err(|_| StatusCode::NOT_FOUND)
}
