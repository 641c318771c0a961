//! The control plane's binaries: taken from `KUBEBUILDER_ASSETS`, from the cache, or built with Go.
//!
//! The build (`tests/controlplane/`, some minutes) happens once a machine: its result stands in the cache under a
//! digest of what it was made from.

use std::env;
use std::fs::{self, File, TryLockError};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::process::{Recipe, tail};

/// A folder with `etcd`, `kube-apiserver` and, for clusters with a controller-manager, `kube-controller-manager`.
pub const ASSETS_VARIABLE: &str = "KUBEBUILDER_ASSETS";
/// The folder where builds are kept. Default: `flotilla` in `XDG_CACHE_HOME` or `~/.cache`.
pub const CACHE_VARIABLE: &str = "FLOTILLA_CACHE";

const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/controlplane");
/// Also what the API server reports as its version.
const KUBERNETES_VERSION: &str = "v1.36.3";
const HOW_TO_GET_ONE: &str = "install Go 1.26 or newer (https://go.dev/dl), \
    or set KUBEBUILDER_ASSETS to a folder with etcd, kube-apiserver and kube-controller-manager";

/// What is being done about the binaries, for a progress line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// They are there already.
    Found(PathBuf),
    /// Another process builds them at this moment; we wait for it.
    Waiting,
    /// Go fetches the modules that it does not have yet.
    Downloading,
    /// Go compiles: so many packages of all were begun. Packages that Go has in its own cache are not counted, so
    /// that the end may come early.
    Building { begun: usize, all: usize },
    /// The build is done.
    Built { path: PathBuf, took: Duration },
}

/// One of the programs that make a control plane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Component {
    Etcd,
    ApiServer,
    ControllerManager,
}

impl Component {
    fn name(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::ApiServer => "kube-apiserver",
            Self::ControllerManager => "kube-controller-manager",
        }
    }
}

/// Where the control plane's programs are.
#[derive(Debug, Clone)]
pub struct ControlPlane(Programs);

#[derive(Debug, Clone)]
enum Programs {
    /// A folder with one binary for each component.
    Assets(PathBuf),
    /// Our own binary with a sub-command for each component.
    Built(PathBuf),
}

impl ControlPlane {
    /// Finds the binaries, or builds them. Blocks for minutes in the latter case.
    ///
    /// # Errors
    /// In one line where Go is missing; else with the last lines that Go printed.
    pub fn find_or_build(progress: &mut dyn FnMut(Progress)) -> Result<Self> {
        if let Some(folder) = env::var_os(ASSETS_VARIABLE).filter(|folder| !folder.is_empty()) {
            let folder = PathBuf::from(folder);
            for component in [Component::Etcd, Component::ApiServer] {
                let program = folder.join(component.name());
                ensure!(program.is_file(), "{ASSETS_VARIABLE}: {} is not there", program.display());
            }
            progress(Progress::Found(folder.clone()));
            return Ok(Self(Programs::Assets(folder)));
        }
        let source = Path::new(SOURCE);
        let cache = cache_folder()?;
        fs::create_dir_all(&cache).with_context(|| format!("make the cache {}", cache.display()))?;
        let binary = cache.join(format!("controlplane-{}", digest(source)?));
        if binary.is_file() {
            progress(Progress::Found(binary.clone()));
            return Ok(Self(Programs::Built(binary)));
        }
        let _lock = lock(&cache.join("controlplane.lock"), progress)?;
        // Whoever held the lock may have built it.
        if binary.is_file() {
            progress(Progress::Found(binary.clone()));
            return Ok(Self(Programs::Built(binary)));
        }
        let start = Instant::now();
        build(source, &binary, progress)?;
        progress(Progress::Built { path: binary.clone(), took: start.elapsed() });
        Ok(Self(Programs::Built(binary)))
    }

    pub(crate) fn recipe(&self, component: Component) -> Result<Recipe> {
        match &self.0 {
            Programs::Built(binary) => Ok(Recipe::new(binary).arg(component.name())),
            Programs::Assets(folder) => {
                let program = folder.join(component.name());
                ensure!(
                    program.is_file(),
                    "{} is not there: put it beside kube-apiserver, or unset {ASSETS_VARIABLE}",
                    program.display()
                );
                Ok(Recipe::new(program))
            }
        }
    }
}

fn cache_folder() -> Result<PathBuf> {
    let set = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set(CACHE_VARIABLE)
        .or_else(|| Some(set("XDG_CACHE_HOME")?.join("flotilla")))
        .or_else(|| Some(set("HOME")?.join(".cache/flotilla")))
        .with_context(|| format!("no cache folder: set {CACHE_VARIABLE} or HOME"))
}

/// A digest of everything that the binary is made from.
fn digest(source: &Path) -> Result<String> {
    let mut hasher = blake3::Hasher::new();
    for name in ["go.mod", "go.sum", "main.go"] {
        let path = source.join(name);
        hasher.update(&fs::read(&path).with_context(|| format!("read {}", path.display()))?);
    }
    for part in build_flags().iter().map(String::as_str).chain([env::consts::OS, env::consts::ARCH]) {
        hasher.update(part.as_bytes());
    }
    Ok(hasher.finalize().to_hex()[..16].to_owned())
}

fn build_flags() -> [String; 4] {
    let minor = KUBERNETES_VERSION.split('.').nth(1).unwrap_or_default();
    let version = "k8s.io/component-base/version";
    // Outside a release checkout the components take their version from here.
    let link = format!(
        "-s -w -X {version}.gitMajor=1 -X {version}.gitMinor={minor} -X {version}.gitVersion={KUBERNETES_VERSION} \
         -X {version}.gitTreeState=clean"
    );
    ["-trimpath".into(), "-buildvcs=false".into(), "-ldflags".into(), link]
}

fn lock(path: &Path, progress: &mut dyn FnMut(Progress)) -> Result<File> {
    let file = File::create(path).with_context(|| format!("make {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            progress(Progress::Waiting);
            file.lock().with_context(|| format!("lock {}", path.display()))?;
        }
        Err(TryLockError::Error(error)) => {
            return Err(error).with_context(|| format!("lock {}", path.display()));
        }
    }
    Ok(file)
}

fn go(source: &Path) -> Command {
    let mut go = Command::new("go");
    go.current_dir(source).env("CGO_ENABLED", "0").stdin(Stdio::null());
    go
}

fn build(source: &Path, binary: &Path, progress: &mut dyn FnMut(Progress)) -> Result<()> {
    progress(Progress::Downloading);
    let list = match go(source).args(["list", "-deps", "."]).output() {
        Ok(list) => list,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            bail!("the test control plane needs Go: {HOW_TO_GET_ONE}")
        }
        Err(error) => return Err(error).context("start go"),
    };
    let words = String::from_utf8_lossy(&list.stderr);
    ensure!(
        list.status.success(),
        "go list in tests/controlplane failed: {HOW_TO_GET_ONE}\n{}",
        tail(&words, 20)
    );
    let all = list.stdout.lines().count();
    let mut begun = 0;
    progress(Progress::Building { begun, all });

    // Renamed when whole, so that nobody ever finds half of it.
    let partial = binary.with_extension("partial");
    let mut child = go(source)
        .arg("build")
        .arg("-v")
        .args(build_flags())
        .arg("-o")
        .arg(&partial)
        .arg(".")
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("start go build")?;
    let mut words = Vec::new();
    // With -v Go names each package on a line of stderr, where its errors go too.
    if let Some(stderr) = child.stderr.take() {
        for line in BufReader::new(stderr).lines() {
            let line = line.context("read what go build prints")?;
            if !line.contains(' ') && begun < all {
                begun += 1;
                progress(Progress::Building { begun, all });
            }
            words.push(line);
        }
    }
    let status = child.wait().context("wait for go build")?;
    ensure!(
        status.success(),
        "go build in tests/controlplane failed ({status}):\n{}",
        tail(&words.join("\n"), 20)
    );
    fs::rename(&partial, binary).with_context(|| format!("move the build to {}", binary.display()))
}
