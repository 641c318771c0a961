//! Flux's own packages, to compare with: what they make of the units and releases of a fleet repository.
//!
//! The program is made with Go from `compare/flux/`, whose `go.mod` pins every version, and kept in the cache.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, ensure};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::child::Answering;
use crate::fleet::Rendered;
use crate::gobuild::{GoBuild, Progress, has_go};

const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/flux");
const HOW_TO_GET_ONE: &str = "install Go 1.26 or newer (https://go.dev/dl)";

/// The program for a test. Without Go there is nothing to compare with, which in CI is an error.
///
/// # Panics
/// If it cannot be built.
pub fn flux_or_skip() -> Option<PathBuf> {
    if !has_go() {
        flotilla_leftout::note("Go to build Flux's packages with", HOW_TO_GET_ONE);
        return None;
    }
    Some(find_or_build(&mut |_| {}).unwrap_or_else(|error| panic!("{error:#}")))
}

/// Finds the program, or builds it: about a minute.
///
/// # Errors
/// See [`GoBuild::find_or_build`].
pub fn find_or_build(progress: &mut dyn FnMut(Progress)) -> Result<PathBuf> {
    let flags = ["-trimpath", "-buildvcs=false", "-ldflags", "-s -w"].map(str::to_owned);
    let build = GoBuild {
        name: "flux",
        source: Path::new(SOURCE),
        packages: &["."],
        flags: &flags,
        how_to_get_one: HOW_TO_GET_ONE,
    };
    build.find_or_build(progress)
}

/// A process that renders one cluster after another.
#[derive(Debug)]
pub struct Flux(Answering);

#[derive(Deserialize)]
struct Answer {
    units: Option<BTreeMap<String, Unit>>,
    releases: Option<BTreeMap<String, Release>>,
    health: Option<Vec<String>>,
    #[serde(default)]
    error: String,
}

#[derive(Deserialize)]
struct Unit {
    objects: Vec<Value>,
    #[serde(default)]
    error: String,
}

#[derive(Deserialize)]
struct Release {
    #[serde(default)]
    values: Value,
    #[serde(default)]
    error: String,
}

impl Flux {
    /// # Errors
    /// If the program cannot be started.
    pub fn start(program: &Path) -> Result<Self> {
        Answering::start(program, &[]).map(Self)
    }

    /// What the packages make of a cluster, whose root path is below the folder of the fleet repository.
    ///
    /// # Errors
    /// If the process crashes, answers nonsense, or the fleet does not settle.
    pub fn render(&mut self, folder: &Path, root: &str) -> Result<Rendered> {
        let answer = self.ask(&json!({"tree": folder, "path": root}))?;
        let units = answer
            .units
            .unwrap_or_default()
            .into_iter()
            .map(|(id, unit)| (id, result(unit.objects, unit.error)));
        let releases = answer
            .releases
            .unwrap_or_default()
            .into_iter()
            .map(|(id, release)| (id, result(release.values, release.error)));
        Ok(Rendered { units: units.collect(), releases: releases.collect() })
    }

    /// How healthy kstatus finds live objects: `Current` and the like, `Unknown` where it gives an error.
    ///
    /// # Errors
    /// If the process crashes or answers nonsense.
    pub fn health(&mut self, objects: &[Value]) -> Result<Vec<String>> {
        let answer = self.ask(&json!({"objects": objects}))?;
        let health = answer.health.context("flux answers without the health of the objects")?;
        ensure!(
            health.len() == objects.len(),
            "flux answers for {} of {} objects",
            health.len(),
            objects.len()
        );
        Ok(health)
    }

    fn ask(&mut self, question: &Value) -> Result<Answer> {
        let answer = self.0.ask(question).context("flux crashed")?;
        let answer: Answer = serde_json::from_str(&answer)
            .with_context(|| format!("read what flux answers: {}", answer.trim()))?;
        if !answer.error.is_empty() {
            return Err(anyhow!("flux: {}", answer.error));
        }
        Ok(answer)
    }
}

fn result<T>(value: T, error: String) -> Result<T, String> {
    if error.is_empty() { Ok(value) } else { Err(error) }
}
