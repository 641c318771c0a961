//! An agent as a program, in front of its cluster.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::process::{Process, Recipe};

/// An agent. Killed on drop.
#[derive(Debug)]
pub struct Agent {
    process: Process,
    state: PathBuf,
}

impl Agent {
    /// Starts an agent that keeps what it knows in `state` and works on the cluster of `kubeconfig`. Without a join
    /// token it has to be enrolled already. It says nothing of whether it gets in: the hub knows.
    ///
    /// # Errors
    /// If the program is not there.
    pub fn start(state: &Path, kubeconfig: &Path, token: Option<&str>) -> Result<Self> {
        let mut recipe = Recipe::own("flotilla-agent")?
            .arg("run")
            .arg("--state")
            .arg(state)
            .arg("--kubeconfig")
            .arg(kubeconfig);
        if let Some(token) = token {
            recipe = recipe.args(["--join-token", token]);
        }
        let process = recipe.start(state.with_extension("log"))?;
        Ok(Self { process, state: state.to_owned() })
    }

    /// Where it keeps its identity and its desired state.
    #[must_use]
    pub fn state(&self) -> &Path {
        &self.state
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

    /// Kills it and starts it again.
    ///
    /// # Errors
    /// If the program is not there any more.
    pub fn restart(&mut self) -> Result<()> {
        self.process.kill();
        self.process.start().context("start the agent again")
    }
}
