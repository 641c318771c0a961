//! A real Prometheus that scrapes one metric, whose value a scenario decides.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use crate::Port;
use crate::fleet::SOON;
use crate::process::{Process, Recipe};
use crate::wait::eventually;

/// Names the program; otherwise it is looked for in `PATH`.
pub const PROMETHEUS_VARIABLE: &str = "PROMETHEUS";
/// The metric that it scrapes each second.
pub const METRIC: &str = "errors_share";

/// Killed on drop.
#[derive(Debug)]
pub struct Prometheus {
    port: Port,
    value: Arc<Mutex<String>>,
    _process: Process,
    _folder: TempDir,
}

fn program() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os(PROMETHEUS_VARIABLE).filter(|named| !named.is_empty()) {
        return Some(named.into());
    }
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join("prometheus")).find(|program| program.is_file())
}

impl Prometheus {
    /// Starts one that has no value yet. `None`: the machine has no Prometheus, and the calling test is left out.
    ///
    /// # Errors
    /// If it does not come up.
    pub async fn start() -> Result<Option<Self>> {
        let Some(program) = program() else {
            let remedy = "install it (Debian: prometheus), or name the program in PROMETHEUS";
            flotilla_leftout::note("prometheus", remedy);
            return Ok(None);
        };
        let value = Arc::<Mutex<String>>::default();
        let target = serve(value.clone())?;
        let port = Port::reserve()?;
        let folder = tempfile::Builder::new().prefix("flotilla-prometheus-").tempdir()?;
        let config = folder.path().join("prometheus.yml");
        let text = format!(
            "scrape_configs:\n- job_name: fleet\n  scrape_interval: 1s\n  scrape_timeout: 1s\n  static_configs:\n  - targets: \
             ['127.0.0.1:{target}']\n"
        );
        std::fs::write(&config, text).context("write Prometheus' configuration")?;
        let process = Recipe::new(program)
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{}", port.number()))
            .start(folder.path().join("prometheus.log"))?;
        let started = Self { port, value, _process: process, _folder: folder };
        eventually(SOON, || async {
            let answer = started.get("/-/ready")?;
            ensure!(answer.starts_with("HTTP/1.1 200"), "Prometheus is not ready: {answer}");
            anyhow::Ok(())
        })
        .await?;
        Ok(Some(started))
    }

    /// Where it answers.
    #[must_use]
    pub fn address(&self) -> String {
        format!("http://127.0.0.1:{}", self.port.number())
    }

    /// Sets the value of [`METRIC`], and waits until it has been scraped.
    ///
    /// # Errors
    /// If that takes too long.
    pub async fn becomes(&self, value: &str) -> Result<()> {
        *self.value.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = value.to_owned();
        eventually(SOON, || async {
            let answer = self.get(&format!("/api/v1/query?query={METRIC}"))?;
            ensure!(answer.contains(&format!("\"{value}\"")), "Prometheus has another value: {answer}");
            anyhow::Ok(())
        })
        .await?;
        Ok(())
    }

    fn get(&self, path: &str) -> Result<String> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port.number()))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer.replacen("HTTP/1.0", "HTTP/1.1", 1))
    }
}

/// Serves the metric, without a sample while there is no value; answers with its port.
fn serve(value: Arc<Mutex<String>>) -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("serve a metric")?;
    let port = listener.local_addr()?.port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let value = value.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
            let body = if value.is_empty() { String::new() } else { format!("{METRIC} {value}\n") };
            let mut head = [0; 4096];
            let _ = stream.read(&mut head);
            let _ = write!(
                stream,
                "HTTP/1.0 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            );
        }
    });
    Ok(port)
}
