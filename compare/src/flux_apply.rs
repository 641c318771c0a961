//! Flux's own way to apply a revision to a cluster, by its package `ssa` with the options of kustomize-controller: what our
//! agent is compared with. It is the program of [`crate::flux`], asked for something else.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::{Value, json};

/// A process that applies one revision after another to a cluster.
#[derive(Debug)]
pub struct FluxApply {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl FluxApply {
    /// # Errors
    /// If the program cannot be started.
    pub fn start(program: &Path, kubeconfig: &Path) -> Result<Self> {
        let mut child = Command::new(program)
            .arg("apply")
            .arg(kubeconfig)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .with_context(|| format!("start {}", program.display()))?;
        let stdin = child.stdin.take().context("flux has no stdin")?;
        let stdout = BufReader::new(child.stdout.take().context("flux has no stdout")?);
        Ok(Self { child, stdin, stdout })
    }

    /// Applies a revision of the Kustomization `name` and prunes what `before` has more. The inner error is what the
    /// Kustomization would say.
    ///
    /// # Errors
    /// If the process crashes or answers nonsense.
    pub fn apply(
        &mut self,
        name: &str,
        force: bool,
        objects: &[Value],
        before: &[Value],
    ) -> Result<Result<(), String>> {
        #[derive(Deserialize)]
        struct Answer {
            #[serde(default)]
            error: String,
        }
        let mut line =
            json!({"name": name, "force": force, "objects": objects, "before": before}).to_string();
        line.push('\n');
        self.stdin.write_all(line.as_bytes()).and_then(|()| self.stdin.flush()).context("ask flux")?;
        let mut answer = String::new();
        self.stdout.read_line(&mut answer).context("read what flux answers")?;
        let Answer { error } = serde_json::from_str(&answer)
            .with_context(|| format!("read what flux answers: {}", answer.trim()))?;
        Ok(if error.is_empty() { Ok(()) } else { Err(error) })
    }
}

impl Drop for FluxApply {
    fn drop(&mut self) {
        // It may be gone already, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
