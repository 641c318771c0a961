//! Processes that never outlive their owner.
//!
//! ```text
//!   we ──pipe──► guard (a shell, waits for the pipe's end, then kills the group)   ┐ one process
//!                └ the program itself, which the shell became                      ┘ group
//! ```
//!
//! Dropping a [`Process`] kills its group, in a panic too. Where we get no chance to (`kill -9`), the pipe ends with
//! us and the guard does it.

use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process, kill_process_group, test_kill_process};

use crate::wait::eventually;

/// Names the folder with `flotilla-hub`, `flotilla-agent` and `flotilla`. Default: beside the running test binary.
pub const BIN_DIR_VARIABLE: &str = "FLOTILLA_BIN_DIR";

/// `$1` is a folder to remove when the owner dies, or empty; the rest is the program with its arguments. `$$` is the
/// shell that becomes the program, within the subshell too.
const GUARD: &str = r#"exec 3<&0 </dev/null
{ read -r _ <&3; kill -KILL $$; [ -z "$1" ] || rm -rf -- "$1"; kill -KILL 0; } &
exec 3<&-
shift
exec "$@""#;

/// What to run: a program, its arguments and what its environment has beyond ours.
#[derive(Debug, Clone)]
pub struct Recipe {
    program: PathBuf,
    args: Vec<OsString>,
    envs: Vec<(OsString, Option<OsString>)>,
    owned_folder: OsString,
}

impl Recipe {
    /// A program by its path, without arguments.
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self { program: program.into(), args: Vec::new(), envs: Vec::new(), owned_folder: OsString::new() }
    }

    /// One of our own binaries: `flotilla-hub`, `flotilla-agent` or `flotilla`.
    ///
    /// # Errors
    /// If it has not been built.
    pub fn own(binary: &str) -> Result<Self> {
        let folder = match std::env::var_os(BIN_DIR_VARIABLE) {
            Some(folder) => PathBuf::from(folder),
            None => {
                let mut folder = std::env::current_exe().context("find the running binary")?;
                folder.pop();
                // Test binaries stand in target/PROFILE/deps, the others in target/PROFILE.
                if folder.ends_with("deps") {
                    folder.pop();
                }
                folder
            }
        };
        let program = folder.join(binary);
        ensure!(
            program.is_file(),
            "{} is not there: run `cargo build --workspace --bins`, or set {BIN_DIR_VARIABLE}",
            program.display()
        );
        Ok(Self::new(program))
    }

    /// Another program, with the same arguments and environment.
    #[must_use]
    pub fn with_program(mut self, program: impl Into<PathBuf>) -> Self {
        self.program = program.into();
        self
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<A: Into<OsString>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// The same program, started by another with these arguments before its own.
    #[must_use]
    pub fn wrapped<A: Into<OsString>>(self, by: &str, first: impl IntoIterator<Item = A>) -> Self {
        let Self { program, args, envs, owned_folder } = self;
        let all = first.into_iter().map(Into::into).chain([program.into_os_string()]).chain(args);
        Self { program: by.into(), args: all.collect(), envs, owned_folder }
    }

    /// Sets a variable in the program's environment.
    #[must_use]
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.envs.push((name.into(), Some(value.into())));
        self
    }

    /// Takes a variable of ours out of the program's environment.
    #[must_use]
    pub fn without_env(mut self, name: impl Into<OsString>) -> Self {
        self.envs.push((name.into(), None));
        self
    }

    /// A folder that goes with the program when its owner is killed without a chance to remove it.
    pub(crate) fn owning(mut self, folder: &Path) -> Self {
        self.owned_folder = folder.into();
        self
    }

    /// Runs the program to its end and gives its output, whatever its exit code.
    ///
    /// # Errors
    /// If it does not start, or runs longer than `limit`; it is killed then.
    pub async fn output(&self, limit: Duration) -> Result<Output> {
        let mut command = tokio::process::Command::new(&self.program);
        command.args(&self.args).stdin(Stdio::null()).kill_on_drop(true);
        for (name, value) in &self.envs {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        tokio::time::timeout(limit, command.output())
            .await
            .with_context(|| format!("{} ran longer than {limit:?}", self.describe()))?
            .with_context(|| format!("run {}", self.describe()))
    }

    /// Runs the program to its end and gives what it wrote to stdout.
    ///
    /// # Errors
    /// As [`Recipe::output`], and where it fails: with its exit code and what it wrote to stderr.
    pub async fn stdout(&self, limit: Duration) -> Result<String> {
        let output = self.output(limit).await?;
        ensure!(
            output.status.success(),
            "{}: {}\n{}",
            self.describe(),
            output.status,
            String::from_utf8_lossy(&output.stderr).trim_end()
        );
        String::from_utf8(output.stdout).with_context(|| format!("{}: stdout is not UTF-8", self.describe()))
    }

    /// Starts the program in the background; what it prints is appended to the file `log`.
    ///
    /// # Errors
    /// If the program is not there or the log cannot be written.
    pub fn start(self, log: impl Into<PathBuf>) -> Result<Process> {
        let mut process = Process { recipe: self, log: log.into(), child: None, print_log_on_panic: true };
        process.start()?;
        Ok(process)
    }

    fn describe(&self) -> String {
        let program = self.program.file_name().unwrap_or(self.program.as_os_str()).to_string_lossy();
        let first = self.args.first().map(|arg| format!(" {}", arg.to_string_lossy())).unwrap_or_default();
        format!("{program}{first}")
    }
}

/// A program in the background, in a process group of its own. Killed on drop; if that is in a panic, its log is
/// printed in full.
#[derive(Debug)]
pub struct Process {
    recipe: Recipe,
    log: PathBuf,
    child: Option<Child>,
    print_log_on_panic: bool,
}

impl Process {
    /// Starts the program again, as it was, after a [`Process::kill`] or [`Process::stop`]; its log goes on.
    ///
    /// # Errors
    /// If it runs already, is not there, or the log cannot be written.
    pub fn start(&mut self) -> Result<()> {
        ensure!(self.child.is_none(), "{} runs already", self.recipe.describe());
        ensure!(self.recipe.program.is_file(), "{} is not there", self.recipe.program.display());
        let log = File::options()
            .create(true)
            .append(true)
            .open(&self.log)
            .with_context(|| format!("open the log {}", self.log.display()))?;
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", GUARD, "guard"])
            .arg(&self.recipe.owned_folder)
            .arg(&self.recipe.program)
            .args(&self.recipe.args)
            .stdin(Stdio::piped())
            .stdout(log.try_clone().context("share the log")?)
            .stderr(log)
            .process_group(0);
        for (name, value) in &self.recipe.envs {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        self.child = Some(command.spawn().with_context(|| format!("start {}", self.recipe.describe()))?);
        Ok(())
    }

    /// Changes the arguments that the next [`Process::start`] uses.
    pub fn change(&mut self, change: impl FnOnce(Recipe) -> Recipe) {
        self.recipe = change(self.recipe.clone());
    }

    /// The program's process id, while we have not ended it.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// How the program ended, if it did so by itself. It counts as running until [`Process::kill`].
    ///
    /// # Errors
    /// If the system does not tell.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        match &mut self.child {
            Some(child) => child.try_wait().with_context(|| format!("ask for {}", self.recipe.describe())),
            None => Ok(None),
        }
    }

    /// Kills the program and whatever it started with SIGKILL, and waits for its end. Does nothing if it is not running.
    pub fn kill(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        // The group lasts at least as long as the guard, so its number cannot have become somebody else's. The guard
        // dies before the pipe ends, and so leaves the folder alone.
        let killed = kill_process_group(pid(&child), Signal::KILL);
        if killed.is_err() {
            eprintln!("kill the group of {}: {killed:?}", self.recipe.describe());
        }
        if let Err(error) = child.wait() {
            eprintln!("wait for {}: {error}", self.recipe.describe());
        }
    }

    /// Sends a signal to the program alone.
    ///
    /// # Errors
    /// If it is not running.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let Some(child) = &self.child else { bail!("{} is not running", self.recipe.describe()) };
        kill_process(pid(child), signal).with_context(|| format!("signal {}", self.recipe.describe()))
    }

    /// Sends SIGTERM and waits for the end. A program that needs longer than `limit` is killed.
    ///
    /// # Errors
    /// If it was not running or needed longer; it is gone in any case.
    pub async fn stop(&mut self, limit: Duration) -> Result<ExitStatus> {
        let ended = match self.signal(Signal::TERM) {
            Ok(()) => self.wait(limit).await.context("after SIGTERM"),
            Err(error) => Err(error),
        };
        self.kill();
        ended
    }

    /// Waits until the program ends by itself.
    ///
    /// # Errors
    /// If it has not after `limit`.
    pub async fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let name = self.recipe.describe();
        let ended = eventually(limit, || {
            let ended = self.ended();
            async move { ended?.context("still running") }
        });
        ended.await.with_context(|| format!("wait for the end of {name}"))
    }

    /// What the program has printed so far, all starts together.
    ///
    /// # Errors
    /// If the log cannot be read.
    pub fn log(&self) -> Result<String> {
        let bytes = fs::read(&self.log).with_context(|| format!("read the log {}", self.log.display()))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The resident memory of the program, in bytes (`VmRSS` of Linux's `/proc`).
    ///
    /// # Errors
    /// If it is not running, or the system has no `/proc`.
    pub fn resident_bytes(&self) -> Result<u64> {
        let pid = self.pid().with_context(|| format!("{} is not running", self.recipe.describe()))?;
        let path = format!("/proc/{pid}/status");
        let status = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
        let kibibytes: u64 = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB"))
            .with_context(|| format!("{path} has no VmRSS"))?
            .parse()?;
        Ok(kibibytes * 1024)
    }

    /// For programs that are not ours, whose logs are long and seldom to the point.
    pub(crate) fn quiet_on_panic(mut self) -> Self {
        self.print_log_on_panic = false;
        self
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if self.print_log_on_panic && std::thread::panicking() {
            let log = self.log().unwrap_or_else(|error| format!("{error:#}"));
            eprintln!("──── log of {} ────\n{log}────", self.recipe.describe());
        }
    }
}

/// Whether a process of this id exists and is not just waiting to be reaped.
#[must_use]
pub fn is_alive(pid: u32) -> bool {
    let Some(id) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return false };
    let zombie = fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('Z')));
    test_kill_process(id).is_ok() && !zombie
}

/// The last lines of a log, for error messages.
pub(crate) fn tail(log: &str, lines: usize) -> String {
    let all: Vec<&str> = log.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

fn pid(child: &Child) -> Pid {
    Pid::from_child(child)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Recipe {
        Recipe::new("/bin/sh").args(["-c", script])
    }

    async fn printed(process: &Process, wanted: &str) -> String {
        eventually(Duration::from_secs(10), || async {
            let log = process.log()?;
            if log.contains(wanted) { Ok(log) } else { bail!("printed {log:?}") }
        })
        .await
        .unwrap()
    }

    async fn gone(pid: u32) {
        eventually(Duration::from_secs(10), || async move {
            if is_alive(pid) { Err(format!("{pid} is alive")) } else { Ok(()) }
        })
        .await
        .unwrap();
    }

    #[tokio::test]
    async fn a_kill_takes_the_whole_group() {
        let folder = tempfile::tempdir().unwrap();
        let mut process = shell("sleep 1000 & echo child $!; wait").start(folder.path().join("log")).unwrap();
        let log = printed(&process, "child ").await;
        let child = log.trim().rsplit(' ').next().unwrap().parse().unwrap();
        let pid = process.pid().unwrap();
        assert!(is_alive(pid) && is_alive(child));
        process.kill();
        gone(pid).await;
        gone(child).await;
    }

    #[tokio::test]
    async fn stop_is_gentle_and_start_appends() {
        let folder = tempfile::tempdir().unwrap();
        let mut process = shell("trap 'echo bye; exit 3' TERM; echo up; while :; do sleep 0.01; done")
            .start(folder.path().join("log"))
            .unwrap();
        printed(&process, "up").await;
        assert_eq!(process.stop(Duration::from_secs(10)).await.unwrap().code(), Some(3));
        process.start().unwrap();
        printed(&process, "up\nbye\nup").await;
        assert!(process.start().is_err(), "twice");
    }

    #[tokio::test]
    async fn who_ignores_sigterm_is_killed() {
        let folder = tempfile::tempdir().unwrap();
        let mut process = shell("trap '' TERM; echo up; while :; do sleep 0.01; done")
            .start(folder.path().join("log"))
            .unwrap();
        printed(&process, "up").await;
        let pid = process.pid().unwrap();
        assert!(process.stop(Duration::from_millis(50)).await.is_err());
        gone(pid).await;
    }

    #[tokio::test]
    async fn the_guard_acts_when_the_owner_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let owned = folder.path().join("owned");
        fs::create_dir(&owned).unwrap();
        let mut process = shell("sleep 1000 & echo child $!; wait")
            .owning(&owned)
            .start(folder.path().join("log"))
            .unwrap();
        let log = printed(&process, "child ").await;
        let child = log.trim().rsplit(' ').next().unwrap().parse().unwrap();
        let pid = process.pid().unwrap();
        // The end of the pipe is what our death would look like to the guard.
        drop(process.child.as_mut().unwrap().stdin.take());
        gone(pid).await;
        gone(child).await;
        assert!(!owned.exists());
    }

    #[tokio::test]
    async fn a_failure_tells_the_exit_code_and_stderr() {
        let error = shell("echo sorry >&2; exit 7").stdout(Duration::from_secs(10)).await.unwrap_err();
        assert_eq!(error.to_string(), "sh -c: exit status: 7\nsorry");
        let slow = shell("sleep 1000").stdout(Duration::from_millis(20)).await.unwrap_err();
        assert_eq!(slow.to_string(), "sh -c ran longer than 20ms");
    }
}
