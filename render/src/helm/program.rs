//! The `helm` program (3 or 4), run for one template at a time: the only part of this crate that touches the machine.
//!
//! It sees a folder with the chart and one of its own with the values, an empty environment, no cluster and no network,
//! and is ended when it takes too long, too much memory, or says too much. Runs that follow each other share the chart's
//! folder: many releases have few charts, and making a chart's files anew for each takes a tenth of the time.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::{Duration, Instant};

use flotilla_core::Digest;
use flotilla_kustomize::files::{Files, Kind, TreePath};
use serde_json::{Map, Value};
use tempfile::TempDir;

use super::request::{ChartFiles, Helm, HelmError, TemplateRequest};
use super::{archive, lookup};

/// What one run may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    pub time: Duration,
    /// Bytes of memory. The program's address space is limited to four times that, as Go reserves more than it uses.
    pub memory: u64,
    /// Bytes of manifests.
    pub output: u64,
    /// Bytes of a chart's files together.
    pub chart: u64,
}

impl Default for Limits {
    /// A minute, 1 GiB, 64 MiB of manifests, 64 MiB of chart.
    fn default() -> Self {
        Self { time: Duration::from_secs(60), memory: 1 << 30, output: 64 << 20, chart: 64 << 20 }
    }
}

/// A `helm` that can be run.
#[derive(Debug, Clone)]
pub struct Program {
    path: PathBuf,
    limits: Limits,
    stopped: Arc<AtomicBool>,
    /// The charts of the last runs, the newest last.
    charts: Arc<Mutex<Vec<Unpacked>>>,
}

/// What a chart's folder is made from, and the folder that it is in.
type Unpacked = (Digest, Arc<TempDir>);

/// So many charts stay unpacked while there is work.
const CHARTS: usize = 8;
/// How soon a run hears that it is to end.
const LOOK: Duration = Duration::from_millis(50);

impl Program {
    /// The program at `path`, or of that name in `PATH`; it is not run yet.
    pub fn new(path: impl Into<PathBuf>, limits: Limits) -> Self {
        Self { path: path.into(), limits, stopped: Arc::default(), charts: Arc::default() }
    }

    fn failed(&self, attempt: &str, error: &io::Error) -> HelmError {
        let hint = match error.kind() {
            io::ErrorKind::NotFound => "; install helm 3 or 4",
            _ => "",
        };
        HelmError::Machine(format!("cannot {attempt} '{}': {error}{hint}", self.path.display()))
    }

    fn run(&self, folder: &Path, request: &TemplateRequest) -> Result<String, HelmError> {
        let file = folder.join("values.yaml");
        fs::write(&file, json(&request.values)).map_err(|error| at("write", &file, &error))?;
        let chart = self.chart(&request.chart)?;
        let mut command = self.limited();
        command.arg("template");
        command.arg(format!("--namespace={}", request.namespace)).arg("--values").arg(&file);
        command.arg(format!("--kube-version={}", request.capabilities.kube_version));
        for version in &request.capabilities.api_versions {
            command.arg(format!("--api-versions={version}"));
        }
        for (wanted, flag) in [
            (request.crds, "--include-crds"),
            (!request.crds, "--skip-crds"),
            (request.skip_schema, "--skip-schema-validation"),
            (request.no_hooks, "--no-hooks"),
            (true, "--skip-tests"),
        ] {
            if wanted {
                command.arg(flag);
            }
        }
        // What follows is no flag, whatever it is.
        command.arg("--").arg(request.name.as_str()).arg(chart.path().join(CHART));
        let home = folder.join("home");
        command.env_clear().env("HOME", &home);
        // Most of what helm allocates lives as long as it does: collected at Go's usual pace it takes a fifth more time.
        command.env("GOMEMLIMIT", self.limits.memory.to_string()).env("GOGC", "400");
        for variable in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME", "HELM_PLUGINS", "TMPDIR"] {
            command.env(variable, &home);
        }
        fs::create_dir(&home).map_err(|error| at("make", &home, &error))?;
        self.answer(command.current_dir(folder))
    }

    /// A folder with the chart in [`CHART`].
    fn chart(&self, chart: &ChartFiles) -> Result<Arc<TempDir>, HelmError> {
        let defaults = chart.default_values.as_ref().map(json);
        let defaulted: &[u8] = if defaults.is_some() { b"1" } else { b"0" };
        let parts = [chart.digest.as_bytes().as_slice(), defaulted, defaults.as_deref().unwrap_or_default()];
        let key = Digest::of_parts(parts);
        let mut charts = self.charts();
        if let Some(place) = charts.iter().position(|(known, _)| *known == key) {
            let found = charts.remove(place);
            charts.push(found.clone());
            return Ok(found.1);
        }
        drop(charts);
        let folder = own_folder()?;
        let target = folder.path().join(CHART);
        let mut budget = self.limits.chart;
        unpack(&*chart.files, &chart.path, &target, &mut budget)?;
        if let Some(defaults) = defaults {
            let file = target.join("values.yaml");
            fs::write(&file, defaults).map_err(|error| at("write", &file, &error))?;
        }
        let folder = Arc::new(folder);
        let mut charts = self.charts();
        charts.push((key, folder.clone()));
        let excess = charts.len().saturating_sub(CHARTS);
        // Who still uses one holds on to it.
        charts.drain(..excess);
        Ok(folder)
    }

    fn charts(&self) -> MutexGuard<'_, Vec<Unpacked>> {
        self.charts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The program below a limit on its address space. `exec` leaves nothing but itself to be ended.
    fn limited(&self) -> Command {
        let mut command = Command::new("/bin/sh");
        let kilobytes = (self.limits.memory / 1024).saturating_mul(4);
        command.args(["-c", "ulimit -v \"$1\"; shift; exec \"$@\"", "sh", &kilobytes.to_string()]);
        command.arg(resolved(&self.path));
        command
    }

    fn answer(&self, command: &mut Command) -> Result<String, HelmError> {
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = Running(child.process_group(0).spawn().map_err(|error| self.failed("run", &error))?);
        let deadline = Instant::now() + self.limits.time;
        let limit = self.limits.output;
        let stdout = read(child.0.stdout.take().expect("piped"), limit + 1);
        let stderr = read(child.0.stderr.take().expect("piped"), 64 << 10);
        let output = self.receive(&stdout, deadline)?;
        if output.len() as u64 > limit {
            return Err(HelmError::Limit(format!("rendered more than {limit} bytes")));
        }
        let said = self.receive(&stderr, deadline)?;
        // Its ends are closed: mostly it is ending.
        let status = loop {
            match child.0.try_wait().map_err(|error| self.failed("wait for", &error))? {
                Some(status) => break status,
                None => self.look(deadline)?,
            }
            std::thread::sleep(Duration::from_millis(1));
        };
        if !status.success() {
            return Err(match status.code() {
                Some(126 | 127) => self.failed("run", &io::ErrorKind::NotFound.into()),
                _ => {
                    let said = reason(&String::from_utf8_lossy(&said), self.limits.memory);
                    HelmError::Template(lookup::explained(&said).unwrap_or(said))
                }
            });
        }
        String::from_utf8(output).map_err(|_| HelmError::Template("the manifests are not UTF-8".into()))
    }
}

impl Program {
    fn receive(&self, from: &mpsc::Receiver<Vec<u8>>, deadline: Instant) -> Result<Vec<u8>, HelmError> {
        loop {
            match from.recv_timeout(LOOK) {
                Ok(content) => return Ok(content),
                Err(mpsc::RecvTimeoutError::Timeout) => self.look(deadline)?,
                Err(mpsc::RecvTimeoutError::Disconnected) => {
                    return Err(HelmError::Machine("what helm says was not read to its end".to_owned()));
                }
            }
        }
    }

    /// Whether a run may go on.
    fn look(&self, deadline: Instant) -> Result<(), HelmError> {
        if self.stopped.load(Ordering::Relaxed) {
            return Err(HelmError::Machine("helm was ended: the hub stops".to_owned()));
        }
        if Instant::now() >= deadline {
            return Err(HelmError::Limit(format!("took longer than {} s", self.limits.time.as_secs())));
        }
        Ok(())
    }
}

impl Helm for Program {
    fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
        self.rest();
    }

    fn rest(&self) {
        self.charts().clear();
    }

    fn template(&self, request: &TemplateRequest) -> Result<String, HelmError> {
        let folder = own_folder()?;
        self.run(folder.path(), request).map_err(|error| error.without(&request.hidden))
    }
}

/// The name of a chart's folder within one of ours.
const CHART: &str = "chart";

/// Nobody else reads it: values hold secrets.
fn own_folder() -> Result<TempDir, HelmError> {
    tempfile::tempdir().map_err(|error| HelmError::Machine(format!("cannot make a folder for helm: {error}")))
}

fn at(attempt: &str, path: &Path, error: &io::Error) -> HelmError {
    HelmError::Machine(format!("cannot {attempt} {}: {error}", path.display()))
}

/// JSON is YAML.
fn json(values: &Map<String, Value>) -> Vec<u8> {
    serde_json::to_vec(values).expect("texts and numbers")
}

/// Ended on drop, however the run went.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended already where all went well.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Absolute, as the program runs without `PATH`.
fn resolved(program: &Path) -> PathBuf {
    if program.components().count() > 1 {
        return std::path::absolute(program).unwrap_or_else(|_| program.to_owned());
    }
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let found =
        std::env::split_paths(&folders).map(|folder| folder.join(program)).find(|path| path.is_file());
    found.unwrap_or_else(|| program.to_owned())
}

fn read(from: impl Read + Send + 'static, limit: u64) -> mpsc::Receiver<Vec<u8>> {
    let (send, receive) = mpsc::sync_channel(1);
    // It ends with the pipe, and the pipe with the program.
    std::thread::spawn(move || {
        let mut content = Vec::new();
        drop(from.take(limit).read_to_end(&mut content));
        // Nobody waits any more where the time is up.
        drop(send.send(content));
    });
    receive
}

/// What helm said, without what it says at every failure.
fn reason(said: &str, memory: u64) -> String {
    if said.contains("out of memory") || said.contains("cannot allocate memory") {
        return format!("helm took more than its {} MiB of memory", memory >> 20);
    }
    let said = said.trim();
    let said = said.split_once("\nUse --debug flag").map_or(said, |(before, _)| before);
    let said = said.trim().strip_prefix("Error: ").unwrap_or(said.trim());
    let line = |line: &str| (!line.starts_with("level=") && !line.is_empty()).then(|| line.to_owned());
    said.lines().filter_map(line).collect::<Vec<_>>().join("\n")
}

fn unpack(files: &dyn Files, from: &TreePath, to: &Path, budget: &mut u64) -> Result<(), HelmError> {
    let machine = |error: io::Error| HelmError::Machine(format!("cannot write {}: {error}", to.display()));
    let source = |error: &dyn std::fmt::Display| HelmError::Chart(error.to_string());
    fs::create_dir(to).map_err(machine)?;
    for (name, entry) in files.list(from).map_err(|error| source(&error))? {
        let (path, target) = (from.join(&name).map_err(|error| source(&error))?, to.join(OsStr::new(&name)));
        match entry.kind {
            Kind::Folder => unpack(files, &path, &target, budget)?,
            Kind::File => {
                let content = files.read(&path).map_err(|error| source(&error))?;
                *budget = budget
                    .checked_sub(content.len() as u64)
                    .ok_or_else(|| HelmError::Limit("the chart's files are too large".into()))?;
                fs::write(&target, archive::given(&content, path.as_str(), budget)?).map_err(machine)?;
            }
            // Nothing outside of the chart is followed.
            _ => {}
        }
    }
    Ok(())
}
