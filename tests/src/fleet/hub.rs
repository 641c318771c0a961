//! The hub as a program: started, killed, brought back at the same addresses.

use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::SOON;
use crate::Port;
use crate::process::{Process, Recipe, tail};
use crate::wait::eventually;

/// How the hub is run.
#[derive(Debug, Clone)]
pub struct HubOptions {
    /// How often it looks at the repository by itself.
    pub poll_interval: Duration,
    /// Where agents are told to call; `None`: where it listens.
    pub advertise: Option<String>,
    /// Arguments after those that the fixture gives.
    pub args: Vec<String>,
}

impl Default for HubOptions {
    /// Looks when it is told to, so that a scenario decides what is seen when.
    fn default() -> Self {
        Self { poll_interval: Duration::from_secs(3600), advertise: None, args: Vec::new() }
    }
}

/// A hub. Killed on drop.
#[derive(Debug)]
pub struct Hub {
    process: Process,
    data: PathBuf,
    repository: String,
    options: HubOptions,
    grpc: Port,
    api: Port,
}

fn address(port: &Port) -> String {
    format!("127.0.0.1:{}", port.number())
}

fn recipe(
    data: &Path,
    repository: &str,
    options: &HubOptions,
    grpc: &str,
    api: &str,
    advertise: &[&str],
) -> Result<Recipe> {
    let recipe = Recipe::own("flotilla-hub")?
        .arg("run")
        .arg("--data")
        .arg(data)
        .args(["--repo", repository, "--branch", crate::git::BRANCH])
        .args(["--poll-interval", &options.poll_interval.as_secs().to_string()])
        .args(["--grpc-listen", grpc, "--api-listen", api])
        .args(advertise.iter().flat_map(|address| ["--advertise", address]));
    Ok(recipe.args(&options.args))
}

impl Hub {
    /// Starts a hub with a store in `folder`, for a repository, and waits until it answers.
    ///
    /// # Errors
    /// If it ends, or does not answer: with the end of its log.
    pub async fn start(folder: &Path, repository: &str, options: &HubOptions) -> Result<Self> {
        let data = folder.join("hub");
        let (grpc, api) = (Port::reserve()?, Port::reserve()?);
        let at = address(&grpc);
        let advertise = options.advertise.as_deref().unwrap_or(&at);
        let process = recipe(&data, repository, options, &at, &address(&api), &[advertise])?;
        let process = process.start(folder.join("hub.log"))?;
        let (repository, options) = (repository.to_owned(), options.clone());
        let mut hub = Self { process, data, repository, options, grpc, api };
        hub.answers().await?;
        Ok(hub)
    }

    /// Where agents call.
    #[must_use]
    pub fn address(&self) -> String {
        address(&self.grpc)
    }

    /// Restarts it so that agents hear of another port, where nobody listens yet.
    ///
    /// # Errors
    /// If it ends, or does not answer.
    pub async fn announce(&mut self, port: &Port) -> Result<()> {
        self.process.kill();
        let (at, other) = (self.address(), address(port));
        self.run_as(&at, &[&at, &other]).await
    }

    /// Restarts it at another port for agents, and no longer at the old one.
    ///
    /// # Errors
    /// If it ends, or does not answer.
    pub async fn move_to(&mut self, port: Port) -> Result<()> {
        self.process.kill();
        self.grpc = port;
        let at = self.address();
        self.run_as(&at, &[&at]).await
    }

    async fn run_as(&mut self, grpc: &str, advertise: &[&str]) -> Result<()> {
        let api = address(&self.api);
        let recipe = recipe(&self.data, &self.repository, &self.options, grpc, &api, advertise)?;
        self.process.change(|_| recipe);
        self.restart().await
    }

    /// Runs another command of the hub's program upon its data folder, such as `backup` with a file or `ca` with
    /// `rotate`, and gives what it wrote to stdout.
    ///
    /// # Errors
    /// If it fails: with its exit code and what it wrote to stderr.
    pub async fn command(&self, command: &str, arg: &str) -> Result<String> {
        Recipe::own("flotilla-hub")?.arg(command).arg("--data").arg(&self.data).arg(arg).stdout(SOON).await
    }

    /// The folder with its store, its CA and the first token for the API.
    #[must_use]
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// The program, to kill it or to change its arguments.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// What it has printed so far.
    ///
    /// # Errors
    /// If the log cannot be read.
    pub fn log(&self) -> Result<String> {
        self.process.log()
    }

    /// Starts it again after it was killed or stopped, and waits until it answers.
    ///
    /// # Errors
    /// If it ends, or does not answer.
    pub async fn restart(&mut self) -> Result<()> {
        self.process.start()?;
        self.answers().await
    }

    /// Runs the CLI against it to its end, whatever its exit code.
    ///
    /// # Errors
    /// If the CLI does not start or does not end.
    pub async fn cli(&self, args: &[&str]) -> Result<Output> {
        cli(&self.data, args, SOON).await
    }

    /// Runs the CLI as [`Hub::cli`] does, for a command that waits for what a cluster does.
    ///
    /// # Errors
    /// If the CLI does not start or does not end within the limit.
    pub async fn cli_within(&self, limit: Duration, args: &[&str]) -> Result<Output> {
        cli(&self.data, args, limit).await
    }

    async fn answers(&mut self) -> Result<()> {
        let data = self.data.clone();
        let answers = eventually(SOON, || {
            let ended = self.process.ended();
            let data = data.clone();
            async move {
                if let Some(status) = ended? {
                    return Ok(Some(status));
                }
                stdout(&["status"], cli(&data, &["status"], SOON).await?)?;
                anyhow::Ok(None)
            }
        });
        let log = |process: &Process| tail(&process.log().unwrap_or_default(), 20);
        match answers.await {
            Ok(None) => Ok(()),
            Ok(Some(status)) => bail!("flotilla-hub ended ({status}):\n{}", log(&self.process)),
            Err(error) => {
                let log = log(&self.process);
                Err(error).with_context(|| format!("wait for flotilla-hub, which says:\n{log}"))
            }
        }
    }
}

/// Runs the CLI with what it needs to know of the hub in `data`.
async fn cli(data: &Path, args: &[&str], limit: Duration) -> Result<Output> {
    Recipe::own("flotilla")?.arg("--data").arg(data).args(args).output(limit).await
}

/// What a command wrote to stdout, or what it says went wrong.
pub(super) fn stdout(args: &[&str], output: Output) -> Result<String> {
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "flotilla {}: {}: {}", args.join(" "), output.status, stderr.trim_end());
    String::from_utf8(output.stdout).context("the CLI's output is not UTF-8")
}
