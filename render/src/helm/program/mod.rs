//! The `helm` program (3 or 4), run for one template at a time: the only part of this crate that touches the machine.
//!
//! It sees a folder with the chart and one of its own with the values, an empty environment, no cluster and no network,
//! has the rights that [`confine`] leaves it, and is ended when it takes too long, too much memory, or says too
//! much. Runs that follow each other share the chart's folder: many releases have few charts, and making a chart's files
//! anew for each takes a tenth of the time.

mod chart;
mod confine;
pub(super) mod notes;

use std::fs;
use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, mpsc};
use std::time::{Duration, Instant};

use crate::lock::lock;
use flotilla_core::Digest;
use flotilla_kustomize::files::{Files, TreePath};
use semver::Version;
use serde_json::{Map, Value};
use tempfile::TempDir;

use super::request::{ChartFiles, Helm, HelmError, Manifests, TemplateRequest};
use super::{draws, lookup, said, version};
use chart::Pass;
pub use confine::InForce;
use confine::Reach;

/// What one run may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    pub time: Duration,
    /// Bytes of memory that a run may write to. Its address space is limited to four times that, as Go reserves more than
    /// it uses.
    pub memory: u64,
    /// Bytes of manifests.
    pub output: u64,
    /// Bytes of a chart's files together, unpacked.
    pub chart: u64,
    /// Files of a chart, those in archives included.
    pub files: u64,
}

impl Default for Limits {
    /// A minute, 1 GiB, 64 MiB of manifests, 64 MiB of chart in 10,000 files.
    fn default() -> Self {
        Self {
            time: Duration::from_secs(60),
            memory: 1 << 30,
            output: 64 << 20,
            chart: 64 << 20,
            files: 10_000,
        }
    }
}

/// A `helm` that can be run.
#[derive(Debug, Clone)]
pub struct Program {
    path: PathBuf,
    limits: Limits,
    stopped: Arc<AtomicBool>,
    /// Whether a version with known faults is not run.
    safe_only: bool,
    version: Arc<OnceLock<Version>>,
    in_force: Arc<OnceLock<InForce>>,
    /// The charts of the last runs, the newest last, each with what it was made from.
    charts: Arc<Mutex<Charts>>,
}

type Charts = Vec<(Digest, Arc<Unpacked>)>;

/// A chart on disk.
#[derive(Debug)]
struct Unpacked {
    folder: TempDir,
    /// Whether its templates could draw at random or look at the clock.
    draws: bool,
}

/// Writes the chart in the folder `from` to `to`, which is made, as helm is given it: looked through and written anew.
/// Whether its templates could draw at random or look at the clock.
///
/// # Errors
/// What of the chart is refused or goes beyond the limits, and what cannot be read or written.
pub fn write_chart(
    files: &dyn Files,
    from: &TreePath,
    to: &Path,
    limits: &Limits,
) -> Result<bool, HelmError> {
    let mut pass = Pass::new(limits.chart, limits.files);
    pass.write(files, from, to)?;
    Ok(pass.draws)
}

/// So many charts stay unpacked while there is work.
const CHARTS: usize = 8;
/// How soon a run hears that it is to end.
const LOOK: Duration = Duration::from_millis(50);

impl Program {
    /// The program at `path`, or of that name in `PATH`; it is not run yet.
    pub fn new(path: impl Into<PathBuf>, limits: Limits) -> Self {
        Self {
            path: resolved(&path.into()),
            limits,
            stopped: Arc::default(),
            safe_only: false,
            version: Arc::default(),
            in_force: Arc::default(),
            charts: Arc::default(),
        }
    }

    /// Refuses to render with a version that is known to have faults.
    #[must_use]
    pub fn safe_only(self) -> Self {
        Self { safe_only: true, ..self }
    }

    /// What of its fences this machine enforces.
    pub fn in_force(&self) -> InForce {
        *self.in_force.get_or_init(|| InForce::on_this_machine(&self.path))
    }

    /// The program's version, asked once.
    ///
    /// # Errors
    /// Where it does not run, or says none.
    pub fn version(&self) -> Result<Version, HelmError> {
        if let Some(version) = self.version.get() {
            return Ok(version.clone());
        }
        let folder = own_folder()?;
        let home = folder.path().join("home");
        let mut command = self.limited();
        command.args(["version", "--template", "{{.Version}}"]);
        let said = self.answer(&mut command, folder.path(), &home, &[])?;
        let version = version::read(&said).ok_or_else(|| {
            let said: String = said.chars().take(100).collect();
            HelmError::Machine(format!(
                "'{}' does not say which version it is: {said:?}",
                self.path.display()
            ))
        })?;
        Ok(self.version.get_or_init(|| version).clone())
    }

    /// What is known to be wrong with the program's version, and what to do. `None`: nothing, or the version is not known.
    pub fn faults(&self) -> Option<String> {
        version::faults(&self.version().ok()?)
    }

    fn failed(&self, attempt: &str, error: &io::Error) -> HelmError {
        let hint = match error.kind() {
            io::ErrorKind::NotFound => "; install helm 3 or 4",
            _ => "",
        };
        HelmError::Machine(format!("cannot {attempt} '{}': {error}{hint}", self.path.display()))
    }

    fn run(&self, folder: &Path, request: &TemplateRequest) -> Result<Manifests, HelmError> {
        if self.safe_only
            && let Some(faults) = version::faults(&self.version()?)
        {
            return Err(HelmError::Machine(faults));
        }
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
        ] {
            if wanted {
                command.arg(flag);
            }
        }
        // What follows is no flag, whatever it is.
        command.arg("--").arg(request.name.as_str()).arg(chart.folder.path().join(CHART));
        let text = self.answer(&mut command, folder, &folder.join("home"), &[chart.folder.path(), folder])?;
        let draws = chart.draws || request.values.values().any(draws::in_value);
        Ok(Manifests { text, draws })
    }

    /// A folder with the chart in [`CHART`].
    fn chart(&self, chart: &ChartFiles) -> Result<Arc<Unpacked>, HelmError> {
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
        let mut draws = write_chart(&*chart.files, &chart.path, &target, &self.limits)?;
        if let Some(defaults) = defaults {
            let file = target.join("values.yaml");
            draws |= draws::in_text(&defaults);
            fs::write(&file, defaults).map_err(|error| at("write", &file, &error))?;
        }
        let chart = Arc::new(Unpacked { folder, draws });
        let mut charts = self.charts();
        charts.push((key, chart.clone()));
        let excess = charts.len().saturating_sub(CHARTS);
        // Who still uses one holds on to it.
        charts.drain(..excess);
        Ok(chart)
    }

    fn charts(&self) -> MutexGuard<'_, Charts> {
        lock(&self.charts)
    }

    /// The program below limits on its memory, its processor time and what it writes. `exec` leaves nothing but itself to
    /// be ended.
    fn limited(&self) -> Command {
        let mut command = Command::new("/bin/sh");
        let kilobytes = self.limits.memory / 1024;
        let script =
            "ulimit -c 0; ulimit -v \"$1\"; ulimit -d \"$2\"; ulimit -t \"$3\"; shift 3; exec \"$@\"";
        command.args(["-c", script, "sh"]);
        command.arg(kilobytes.saturating_mul(4).to_string());
        command.arg(kilobytes.saturating_add(RUNTIME >> 10).to_string());
        // Of all processors together; whoever only sleeps meets the deadline.
        let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get() as u64);
        command.arg(self.limits.time.as_secs().max(1).saturating_mul(cores).to_string());
        command.arg(&self.path);
        command
    }

    /// Runs a command within a folder of ours, of which it may write to `home` and read `read`, and gives what it says.
    fn answer(
        &self,
        command: &mut Command,
        folder: &Path,
        home: &Path,
        reads: &[&Path],
    ) -> Result<String, HelmError> {
        fs::create_dir(home).map_err(|error| at("make", home, &error))?;
        let in_force = self.in_force();
        for folder in reads.iter().copied().chain([folder]) {
            in_force.hand_over(folder, home).map_err(|error| at("hand over", folder, &error))?;
        }
        command.env_clear().env("HOME", home).env("TZ", "UTC");
        // Most of what helm allocates lives as long as it does: collected at Go's usual pace it takes a fifth more time.
        command.env("GOMEMLIMIT", self.limits.memory.to_string()).env("GOGC", "400");
        for variable in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME", "HELM_PLUGINS", "TMPDIR"] {
            command.env(variable, home);
        }
        let null = fs::File::open("/dev/null").map_err(|error| at("open", Path::new("/dev/null"), &error))?;
        command.current_dir(folder).process_group(0);
        command.stdin(null).stdout(Stdio::piped()).stderr(Stdio::piped());
        let reach = Reach { read: reads, write: &[home] };
        let started = in_force.spawn(command, &self.path, &reach);
        let mut child = Running(started.map_err(|error| self.failed("run", &error))?.0);
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
                    let said = said::reason(&String::from_utf8_lossy(&said), self.limits.memory);
                    lookup::explained(&said).map_or(HelmError::Template(said), HelmError::Lookup)
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

    fn template(&self, request: &TemplateRequest) -> Result<Manifests, HelmError> {
        let folder = own_folder()?;
        let answer = self.run(folder.path(), request);
        answer.map_err(|error| if request.from_secrets { error.without_values() } else { error })
    }
}

/// Bytes that Go writes to beside what it counts as its memory.
const RUNTIME: u64 = 256 << 20;

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
        // It has ended already where all went well. A script may have started others.
        if let Some(group) = i32::try_from(self.0.id()).ok().and_then(rustix::process::Pid::from_raw)
            && matches!(self.0.try_wait(), Ok(None))
        {
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
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
