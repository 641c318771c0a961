//! Flux's own way to apply a revision to a cluster, by its package `ssa` with the options of kustomize-controller: what our
//! agent is compared with. It is the program of [`crate::flux`], asked for something else.

use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::child::Answering;

/// A process that applies one revision after another to a cluster.
#[derive(Debug)]
pub struct FluxApply(Answering);

impl FluxApply {
    /// # Errors
    /// If the program cannot be started.
    pub fn start(program: &Path, kubeconfig: &Path) -> Result<Self> {
        let kubeconfig = kubeconfig.to_str().context("the kubeconfig's path is no text")?;
        Answering::start(program, &["apply", kubeconfig]).map(Self)
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
        let question = json!({"name": name, "force": force, "objects": objects, "before": before});
        let answer = self.0.ask(&question).with_context(|| format!("flux crashed over {name}"))?;
        let Answer { error } = serde_json::from_str(&answer)
            .with_context(|| format!("read what flux answers: {}", answer.trim()))?;
        Ok(if error.is_empty() { Ok(()) } else { Err(error) })
    }
}
