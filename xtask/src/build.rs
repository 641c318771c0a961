//! Builds our binaries with one line of progress.
//!
//! Cargo's own output is hundreds of lines the first time. Here its status lines move one line on a terminal (or
//! give a sign of life now and then in a log), and what else it says is printed when the build fails.

use std::io::{BufRead, BufReader, IsTerminal, Write};
use std::process::{Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::workspace;

/// The packages whose binaries people run.
pub(crate) const SHIPPED: [&str; 3] = ["flotilla-hub", "flotilla-agent", "flotilla-cli"];
/// The package of the demo and the benchmarks.
pub(crate) const TESTS: &str = "flotilla-tests";
/// The package that holds our kustomize build against the real one.
pub(crate) const COMPARE: &str = "flotilla-compare";

/// How often a log that is no terminal hears of a build that goes on.
const SIGN_OF_LIFE: Duration = Duration::from_secs(30);

/// `cargo build` of the binaries of some packages; `flags` say the profile, the target and, where not all are wanted, which.
pub(crate) fn command(packages: &[&str], flags: &[&str]) -> Command {
    let mut command = workspace::cargo();
    command.args(["build", "--locked"]).args(flags);
    if !flags.contains(&"--bin") {
        command.arg("--bins");
    }
    for package in packages {
        command.args(["--package", package]);
    }
    command
}

/// Runs a cargo command to its end and shows how far it is; `what` names it to people.
pub(crate) fn with_progress(what: &str, mut command: Command) -> anyhow::Result<()> {
    let shown = workspace::shown(&command);
    let started = Instant::now();
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .env("CARGO_TERM_COLOR", "never");
    let mut child = command.spawn().with_context(|| format!("cannot run `{shown}`"))?;
    let stderr = child.stderr.take().context("cargo has no stderr")?;

    let (sender, lines) = sync_channel(64);
    let reader = std::thread::spawn(move || {
        for line in BufReader::new(stderr).split(b'\n').map_while(Result::ok) {
            if sender.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                break;
            }
        }
    });

    let mut progress = Progress::new(what, started);
    let mut said = Vec::new();
    loop {
        match lines.recv_timeout(Duration::from_secs(1)) {
            Ok(line) => match Status::read(&line) {
                Some(status) => progress.take(status),
                None => said.push(line),
            },
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
        progress.show();
    }
    let status = child.wait().with_context(|| format!("cannot wait for `{shown}`"))?;
    if reader.join().is_err() {
        bail!("the reader of cargo's output panicked");
    }
    progress.end(status.success());
    if !status.success() {
        for line in said {
            eprintln!("{line}");
        }
        bail!("`{shown}` failed ({status})");
    }
    Ok(())
}

/// A status line of cargo's: a right-aligned verb and what it is about.
#[derive(Debug, PartialEq)]
struct Status<'a> {
    verb: &'a str,
    about: &'a str,
}

impl<'a> Status<'a> {
    fn read(line: &'a str) -> Option<Self> {
        let (verb, about) = line.trim_start().split_once(' ')?;
        let known = matches!(
            verb,
            "Compiling"
                | "Checking"
                | "Downloading"
                | "Downloaded"
                | "Updating"
                | "Locking"
                | "Blocking"
                | "Finished"
                | "Fresh"
                | "Dirty"
        );
        (known && line.starts_with(' ')).then_some(Self { verb, about })
    }
}

/// The one line that moves.
struct Progress {
    what: String,
    started: Instant,
    terminal: bool,
    shown: Instant,
    crates: u32,
    doing: String,
}

impl Progress {
    fn new(what: &str, started: Instant) -> Self {
        let terminal = std::io::stderr().is_terminal();
        if !terminal {
            eprintln!("{what} ...");
        }
        Self { what: what.to_owned(), started, terminal, shown: started, crates: 0, doing: String::new() }
    }

    fn take(&mut self, status: Status) {
        if matches!(status.verb, "Compiling" | "Checking") {
            self.crates += 1;
        }
        // The path of a crate of ours follows its version.
        let about = status.about.split(" (").next().unwrap_or_default();
        self.doing =
            if status.verb == "Finished" { String::new() } else { format!("{} {about}", status.verb) };
    }

    fn show(&mut self) {
        let every = if self.terminal { Duration::from_millis(100) } else { SIGN_OF_LIFE };
        if self.shown.elapsed() < every {
            return;
        }
        self.shown = Instant::now();
        let line = self.line();
        if self.terminal {
            eprint!("\r\x1b[2K{line}");
            // A terminal that has gone away is no reason to stop building.
            let _ = std::io::stderr().flush();
        } else {
            eprintln!("{line}");
        }
    }

    fn line(&self) -> String {
        let line = format!(
            "{}  {} s  {} crates compiled  {}",
            self.what,
            self.started.elapsed().as_secs(),
            self.crates,
            self.doing
        );
        line.trim_end().chars().take(78).collect()
    }

    fn end(&self, ok: bool) {
        let clear = if self.terminal { "\r\x1b[2K" } else { "" };
        let end = if ok { "done" } else { "FAILED" };
        eprintln!("{clear}{}  {end} in {:.1} s", self.what, self.started.elapsed().as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_lines_are_told_from_what_people_must_read() {
        let status = |verb, about| Some(Status { verb, about });
        for (line, expected) in [
            ("   Compiling serde v1.0.0", status("Compiling", "serde v1.0.0")),
            ("    Blocking waiting for file lock", status("Blocking", "waiting for file lock")),
            ("    Finished `dev` profile in 1s", status("Finished", "`dev` profile in 1s")),
            ("error[E0308]: mismatched types", None),
            ("Compiling is what failed", None),
            ("  --> src/main.rs:1:1", None),
            ("", None),
        ] {
            assert_eq!(Status::read(line), expected, "{line}");
        }
    }

    #[test]
    fn progress_counts_crates_and_keeps_paths_out() {
        let mut progress = Progress {
            what: "building".to_owned(),
            started: Instant::now(),
            terminal: true,
            shown: Instant::now(),
            crates: 0,
            doing: String::new(),
        };
        progress.take(Status { verb: "Compiling", about: "serde v1.0.0" });
        progress.take(Status { verb: "Compiling", about: "flotilla-hub v0.1.0 (/somewhere/hub)" });
        assert_eq!(progress.line(), "building  0 s  2 crates compiled  Compiling flotilla-hub v0.1.0");
        progress.take(Status { verb: "Finished", about: "`dev` profile" });
        assert_eq!(progress.line(), "building  0 s  2 crates compiled");
    }

    #[test]
    fn a_failed_command_is_an_error() {
        let mut command = workspace::cargo();
        command.arg("no-such-command");
        let error = with_progress("trying", command).unwrap_err().to_string();
        assert!(error.contains("`cargo no-such-command` failed"), "{error}");
    }
}
