//! An agent as a program, in front of its cluster.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::process::{Process, Recipe};

/// An agent. Killed on drop.
#[derive(Debug)]
pub struct Agent {
    process: Process,
    state: PathBuf,
    kubeconfig: PathBuf,
}

fn recipe(state: &Path, kubeconfig: &Path, token: Option<&str>) -> Result<Recipe> {
    let recipe = Recipe::own("flotilla-agent")?;
    let recipe = recipe.arg("run").arg("--state").arg(state).arg("--kubeconfig").arg(kubeconfig);
    Ok(match token {
        Some(token) => recipe.args(["--join-token", token]),
        None => recipe,
    })
}

impl Agent {
    /// Starts an agent that keeps what it knows in `state` and works on the cluster of `kubeconfig`. Without a join
    /// token it has to be enrolled already. It says nothing of whether it gets in: the hub knows.
    ///
    /// # Errors
    /// If the program is not there.
    pub fn start(state: &Path, kubeconfig: &Path, token: Option<&str>) -> Result<Self> {
        let process = recipe(state, kubeconfig, token)?.start(state.with_extension("log"))?;
        Ok(Self { process, state: state.to_owned(), kubeconfig: kubeconfig.to_owned() })
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

    /// Kills it and starts it with another join token, on the state folder that it has. What it runs it remembers.
    ///
    /// # Errors
    /// If the program is no longer there.
    pub fn rejoin(&mut self, token: &str) -> Result<()> {
        self.process.kill();
        let anew = recipe(&self.state, &self.kubeconfig, Some(token))?;
        self.process.change(|_| anew);
        self.process.start().context("start the agent again")
    }

    /// Kills it and starts it again.
    ///
    /// # Errors
    /// If the program is no longer there.
    pub fn restart(&mut self) -> Result<()> {
        self.process.kill();
        self.process.start().context("start the agent again")
    }
}
