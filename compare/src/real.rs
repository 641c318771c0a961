//! The real kustomize: the unmodified command, and the program that builds many trees in one process.
//!
//! Both are made with Go from `compare/kustomize/`, whose `go.mod` pins every version, and kept in the cache.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::child::Answering;
use crate::gobuild::{GoBuild, Progress, has_go};
use crate::verdict::Outcome;

const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/kustomize");
const HOW_TO_GET_ONE: &str = "install Go 1.24 or newer (https://go.dev/dl)";
const COMMAND_PACKAGE: &str = "sigs.k8s.io/kustomize/kustomize/v5";

/// The real kustomize for a test. Without Go there is nothing to compare with, which in CI is an error.
///
/// # Panics
/// If it cannot be built.
pub fn real_or_skip() -> Option<Real> {
    if !has_go() {
        flotilla_leftout::note("Go to build kustomize with", HOW_TO_GET_ONE);
        return None;
    }
    Some(Real::find_or_build(&mut |_| {}).unwrap_or_else(|error| panic!("{error:#}")))
}

/// Where the programs are.
#[derive(Debug, Clone)]
pub struct Real(PathBuf);

impl Real {
    /// Finds the programs, or builds them: about a minute.
    ///
    /// # Errors
    /// See [`GoBuild::find_or_build`].
    pub fn find_or_build(progress: &mut dyn FnMut(Progress)) -> Result<Self> {
        let flags = ["-trimpath", "-buildvcs=false", "-ldflags", "-s -w"].map(str::to_owned);
        let build = GoBuild {
            name: "kustomize",
            source: Path::new(SOURCE),
            packages: &[".", COMMAND_PACKAGE],
            flags: &flags,
            how_to_get_one: HOW_TO_GET_ONE,
        };
        Ok(Self(build.find_or_build(progress)?))
    }

    /// The unmodified `kustomize`.
    pub fn command(&self) -> PathBuf {
        self.0.join("kustomize")
    }

    /// A program in place of helm: it prints the values that it is given, as helm reads them.
    pub fn helm(&self) -> PathBuf {
        self.0.join("kustomize-measure")
    }

    /// Runs the unmodified command: `kustomize build ARGUMENTS`.
    ///
    /// # Errors
    /// If it cannot be run; what it says about the tree is the outcome.
    pub fn run_command(&self, arguments: &[&str]) -> Result<Outcome> {
        let mut command = Command::new(self.command());
        let output = command.arg("build").args(arguments).output().context("run kustomize build")?;
        Ok(if output.status.success() {
            Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        } else {
            let said = String::from_utf8_lossy(&output.stderr);
            // Warnings come first.
            Err(said.rsplit_once("Error: ").map_or(&*said, |(_, error)| error).trim().to_owned())
        })
    }

    /// Runs one of the measurements of `compare/kustomize/measure.go` and returns the JSON that it prints.
    ///
    /// # Errors
    /// If the program fails: with what it says.
    pub fn measure(&self, arguments: &[&str]) -> Result<Value> {
        let mut command = Command::new(self.0.join("kustomize-measure"));
        let output = command.args(arguments).output().context("run kustomize-measure")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "kustomize-measure {}: {}", arguments.join(" "), said.trim());
        serde_json::from_slice(&output.stdout).context("read what kustomize-measure prints")
    }

    /// A process that builds one folder after another; it starts with the first.
    pub fn builder(&self) -> Builder {
        Builder { program: self.0.join("kustomize-measure"), running: None }
    }
}

/// A process that builds folders with the real build command, without a start for each.
#[derive(Debug)]
pub struct Builder {
    program: PathBuf,
    running: Option<Answering>,
}

impl Builder {
    /// Ends the process, and with it all that it remembers; the next build starts another.
    pub fn forget(&mut self) {
        self.running = None;
    }

    /// What `kustomize build ARGUMENTS` prints, or why it fails. A crash of the process is a failure of the build.
    ///
    /// # Errors
    /// If the process cannot be started or answers nonsense.
    pub fn build(&mut self, arguments: &[&str]) -> Result<Outcome> {
        let running = match &mut self.running {
            Some(running) => running,
            none => none.insert(Answering::start(&self.program, &["builds"])?),
        };
        let Some(answer) = running.ask(&arguments.into()) else {
            self.running = None;
            return Ok(Err("the process crashed".to_owned()));
        };
        let answer: Value = serde_json::from_str(&answer).context("read an answer of kustomize-measure")?;
        match (answer["text"].as_str(), answer["error"].as_str()) {
            (Some(text), None) => Ok(Ok(text.to_owned())),
            (None, Some(error)) => Ok(Err(error.to_owned())),
            _ => bail!("kustomize-measure answered {answer}"),
        }
    }
}
