//! Many seeds through both builds, on all processors.

use std::ops::Range;
use std::time::Instant;

use anyhow::{Context, Result};
use flotilla_kustomize::Options;

use crate::real::{Builder, Real};
use crate::tree::Tree;
use crate::verdict::{Outcome, Verdict};
use crate::{ours, random, seeds, shrink};

/// What came of one tree.
#[derive(Debug, Clone)]
pub struct Compared {
    pub seed: u64,
    pub tree: Tree,
    pub ours: Outcome,
    pub real: Outcome,
}

impl Compared {
    pub fn verdict(&self) -> Verdict {
        Verdict::of(&self.ours, &self.real)
    }
}

/// Compares the trees of the seeds, until the deadline if there is one. `each` is called from several threads, in no
/// order. Returns how many seeds were done: all those from the first.
///
/// # Errors
/// If the real kustomize cannot be run, or a tree cannot be written.
pub fn run(
    real: &Real,
    seeds: Range<u64>,
    deadline: Option<Instant>,
    each: &(dyn Fn(Compared) -> Result<()> + Sync),
) -> Result<u64> {
    let each = |workshop: &mut Workshop, seed| each(workshop.compare(seed, random::tree(seed))?);
    seeds::run(seeds, deadline, &|| Workshop::new(real), &each)
}

/// A folder and a process in which trees are built, one after another.
#[derive(Debug)]
pub struct Workshop {
    folder: tempfile::TempDir,
    real: Real,
    builder: Builder,
    count: u64,
}

impl Workshop {
    /// # Errors
    /// If the folder cannot be made.
    pub fn new(real: &Real) -> Result<Self> {
        let folder = tempfile::tempdir().context("make a folder for trees")?;
        Ok(Self { folder, real: real.clone(), builder: real.builder(), count: 0 })
    }

    /// Builds a tree with both.
    ///
    /// # Errors
    /// If the real kustomize cannot be run, or the tree cannot be written.
    pub fn compare(&mut self, seed: u64, tree: Tree) -> Result<Compared> {
        let ours = self.ours(&tree);
        let mut real = self.real(&tree, false)?;
        if !Verdict::of(&ours, &real).agrees() {
            // Nothing that a process remembers of earlier builds may make a difference.
            real = self.real(&tree, true)?;
        }
        Ok(Compared { seed, tree, ours, real })
    }

    fn ours(&self, tree: &Tree) -> Outcome {
        if tree.has_charts() {
            ours::outcome_with_charts(tree, &self.real.helm())
        } else {
            ours::outcome(tree, &Options::default())
        }
    }

    /// What kustomize makes of a tree: the process that runs on, or the command.
    fn real(&mut self, tree: &Tree, command: bool) -> Result<Outcome> {
        // A folder of its own for each: nothing is left of the last one.
        self.count += 1;
        let folder = self.folder.path().join(self.count.to_string());
        // Made smaller, a tree may have no file left.
        std::fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
        tree.write(&folder)?;
        let root = folder.join(&tree.root);
        let (root, helm) = (root.to_string_lossy(), self.real.helm());
        let helm = helm.to_string_lossy();
        let with_charts = ["--enable-helm", "--helm-command", &helm, &root];
        let arguments = if tree.has_charts() { &with_charts[..] } else { &with_charts[3..] };
        let outcome =
            if command { self.real.run_command(arguments)? } else { self.builder.build(arguments)? };
        if random::used_fields(tree).contains("openapi") {
            // kustomize keeps a schema that it has loaded for the builds after it.
            self.builder.forget();
        }
        std::fs::remove_dir_all(&folder).with_context(|| format!("remove {}", folder.display()))?;
        let here = format!("{}/", folder.display());
        Ok(outcome.map_err(|error| error.replace(&here, "")))
    }

    /// A smaller tree that differs in the same way: the smallest that is found until the deadline.
    ///
    /// # Errors
    /// As [`Workshop::compare`].
    pub fn shrink(&mut self, found: &Compared, deadline: Instant) -> Result<Compared> {
        let kind = |outcome: &Outcome| outcome.as_ref().err().map(|error| kind_of_error(error));
        let (ours, real) = (kind(&found.ours), kind(&found.real));
        let small = shrink::shrink(&found.tree, &mut |tree| {
            if Instant::now() >= deadline {
                return Ok(false);
            }
            // Ours first: it takes much less time.
            let mine = self.ours(tree);
            if kind(&mine) != ours {
                return Ok(false);
            }
            let other = self.real(tree, false)?;
            Ok(Verdict::of(&mine, &other) == found.verdict() && kind(&other) == real)
        })?;
        self.compare(found.seed, small)
    }
}

/// What kind of error it is: its last words without names, numbers and places.
pub fn kind_of_error(error: &str) -> String {
    let last = error.rsplit(": ").next().unwrap_or_default();
    let words = last.split_whitespace().filter(|word| word.chars().all(|c| c.is_ascii_lowercase()));
    words.take(4).collect::<Vec<_>>().join(" ")
}
