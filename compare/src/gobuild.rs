//! Programs that are built with Go once a machine and kept in a cache, under a digest of what they were made from.

use std::env;
use std::fs::{self, File, TryLockError};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

/// The folder where builds are kept. Default: `flotilla` in `XDG_CACHE_HOME` or `~/.cache`.
pub const CACHE_VARIABLE: &str = "FLOTILLA_CACHE";

/// How many of the last lines that Go printed are worth showing.
const SHOWN_LINES: usize = 20;

/// What is being done about a program, for a progress line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// It is there already.
    Found(PathBuf),
    /// Another process builds it at this moment; we wait for it.
    Waiting,
    /// Go fetches the modules that it does not have yet.
    Downloading,
    /// Go compiles: so many packages of all were begun. Packages that Go has in its own cache are not counted, so
    /// that the end may come early.
    Building { begun: usize, all: usize },
    /// The build is done.
    Built { path: PathBuf, took: Duration },
}

/// How often a build that goes on says so.
const SIGN_OF_LIFE: Duration = Duration::from_secs(15);

/// Tells of progress in lines of words, and not too often.
pub fn printed(mut print: impl FnMut(&str)) -> impl FnMut(Progress) {
    let mut said: Option<Instant> = None;
    move |progress| match progress {
        Progress::Found(path) => print(&format!("found {}", path.display())),
        Progress::Waiting => print("another process is building it, waiting"),
        Progress::Downloading => print("fetching Go modules"),
        Progress::Building { begun, all } => {
            if said.is_none_or(|said| said.elapsed() >= SIGN_OF_LIFE) {
                print(&format!("building: {begun} of {all} packages"));
                said = Some(Instant::now());
            }
        }
        Progress::Built { path, took } => print(&format!("built {} in {} s", path.display(), took.as_secs())),
    }
}

/// What is to be built.
#[derive(Debug, Clone)]
pub struct GoBuild<'a> {
    /// Of the entry in the cache: `controlplane`.
    pub name: &'a str,
    /// The folder of the Go module.
    pub source: &'a Path,
    /// The main packages, `.` among them. Several make a folder of programs, one makes a program.
    pub packages: &'a [&'a str],
    pub flags: &'a [String],
    /// For the error where there is no Go.
    pub how_to_get_one: &'a str,
}

impl GoBuild<'_> {
    /// Finds the program or folder of programs, or builds it. Blocks for minutes in the latter case.
    ///
    /// # Errors
    /// In one line where Go is missing; else with the last lines that Go printed.
    pub fn find_or_build(&self, progress: &mut dyn FnMut(Progress)) -> Result<PathBuf> {
        let cache = cache_folder()?;
        fs::create_dir_all(&cache).with_context(|| format!("make the cache {}", cache.display()))?;
        let path = cache.join(format!("{}-{}", self.name, self.digest()?));
        if path.exists() {
            progress(Progress::Found(path.clone()));
            return Ok(path);
        }
        let _lock = lock(&cache.join(format!("{}.lock", self.name)), progress)?;
        // Whoever held the lock may have built it.
        if path.exists() {
            progress(Progress::Found(path.clone()));
            return Ok(path);
        }
        let start = Instant::now();
        self.build(&path, progress)?;
        progress(Progress::Built { path: path.clone(), took: start.elapsed() });
        Ok(path)
    }

    /// A digest of everything that the program is made from.
    fn digest(&self) -> Result<String> {
        let list = |what: &str| format!("{what} {}", self.source.display());
        let mut files = Vec::new();
        for entry in fs::read_dir(self.source).with_context(|| list("list"))? {
            let path = entry.with_context(|| list("list"))?.path();
            if path.extension().is_some_and(|end| ["mod", "sum", "go"].iter().any(|wanted| end == *wanted)) {
                files.push(path);
            }
        }
        files.sort();
        let mut hasher = blake3::Hasher::new();
        for path in files {
            hasher.update(&fs::read(&path).with_context(|| format!("read {}", path.display()))?);
        }
        let others = self.packages.iter().copied().filter(|package| *package != ".");
        for part in
            self.flags.iter().map(String::as_str).chain(others).chain([env::consts::OS, env::consts::ARCH])
        {
            hasher.update(part.as_bytes());
        }
        Ok(hasher.finalize().to_hex()[..16].to_owned())
    }

    fn go(&self) -> Command {
        let mut go = Command::new("go");
        go.current_dir(self.source).env("CGO_ENABLED", "0").stdin(Stdio::null());
        go
    }

    fn build(&self, path: &Path, progress: &mut dyn FnMut(Progress)) -> Result<()> {
        let (name, hint) = (self.name, self.how_to_get_one);
        progress(Progress::Downloading);
        let list = match self.go().args(["list", "-deps"]).args(self.packages).output() {
            Ok(list) => list,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                bail!("the tests' {name} needs Go: {hint}")
            }
            Err(error) => return Err(error).context("start go"),
        };
        let words = String::from_utf8_lossy(&list.stderr);
        ensure!(list.status.success(), "go list for {name} failed: {hint}\n{}", tail(&words));
        let all = list.stdout.lines().count();
        let mut begun = 0;
        progress(Progress::Building { begun, all });

        // Renamed when whole, so that nobody ever finds half of it.
        let partial = path.with_extension("partial");
        if self.packages.len() > 1 {
            // Go writes several programs into a folder that is there.
            fs::create_dir_all(&partial).with_context(|| format!("make {}", partial.display()))?;
        }
        let mut child = self
            .go()
            .args(["build", "-v"])
            .args(self.flags)
            .arg("-o")
            .arg(&partial)
            .args(self.packages)
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
        ensure!(status.success(), "go build for {name} failed ({status}):\n{}", tail(&words.join("\n")));
        fs::rename(&partial, path).with_context(|| format!("move the build to {}", path.display()))
    }
}

fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(SHOWN_LINES)..].join("\n")
}

/// Whether there is a Go to build with.
pub fn has_go() -> bool {
    let mut version = Command::new("go");
    let quiet = version.arg("version").stdout(Stdio::null()).stderr(Stdio::null());
    quiet.status().is_ok_and(|status| status.success())
}

/// The folder where builds are kept: see [`CACHE_VARIABLE`].
///
/// # Errors
/// If neither that nor `HOME` is set.
pub fn cache_folder() -> Result<PathBuf> {
    let set = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set(CACHE_VARIABLE)
        .or_else(|| Some(set("XDG_CACHE_HOME")?.join("flotilla")))
        .or_else(|| Some(set("HOME")?.join(".cache/flotilla")))
        .with_context(|| format!("no cache folder: set {CACHE_VARIABLE} or HOME"))
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
