//! `flux-diff`: random fleet repositories through our renderer and Flux's own packages for some time; those that differ
//! are kept.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use flotilla_compare::campaign::kind_of_error;
use flotilla_compare::fleet::{self, Compared, Rendered};
use flotilla_compare::flux::{self, Flux};
use flotilla_compare::gobuild::printed;
use flotilla_compare::tree::Tree;
use flotilla_compare::{random, seeds};
use serde_json::{Value, json};

/// How many fleets that differ are kept at most.
const KEPT: usize = 200;

#[derive(Default)]
struct Counts {
    fleets: u64,
    units: usize,
    releases: usize,
    /// Units that fail in Flux, by the kind of its error.
    fail_in_flux: BTreeMap<String, usize>,
    /// Units that only Flux refuses, for reasons that are known.
    refused_there: BTreeMap<&'static str, usize>,
    /// By seed, what differs.
    found: Vec<(u64, Vec<String>)>,
}

impl Counts {
    fn add(&mut self, seed: u64, flux: &Rendered, compared: Compared) {
        self.fleets += 1;
        self.units += flux.units.len();
        self.releases += flux.releases.len();
        for error in flux.units.values().filter_map(|unit| unit.as_ref().err()) {
            *self.fail_in_flux.entry(kind_of_error(error)).or_default() += 1;
        }
        for known in compared.refused_there {
            *self.refused_there.entry(known).or_default() += 1;
        }
        if !compared.differences.is_empty() {
            self.found.push((seed, compared.differences));
        }
    }
}

pub(crate) fn run(seconds: u64, first: u64) -> Result<()> {
    let program = flux::find_or_build(&mut printed(|line: &str| eprintln!("flux: {line}")))?;
    eprintln!("seeds from {first}");
    let deadline = Instant::now() + Duration::from_secs(seconds);
    let counts = Mutex::new(Counts::default());
    let each = |flux: &mut Flux, seed| {
        let (theirs, compared) =
            fleet::compare(flux, &random::fleet::fleet(seed)).with_context(|| format!("seed {seed}"))?;
        counts.lock().unwrap_or_else(std::sync::PoisonError::into_inner).add(seed, &theirs, compared);
        Ok(())
    };
    seeds::run(first..u64::MAX, Some(deadline), &|| Flux::start(&program), &each)?;
    let mut counts = counts.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    counts.found.sort();
    let folder = keep(&counts.found)?;
    println!(
        "{}",
        json!({
            "name": "flux_diff", "value": counts.fleets, "unit": "fleets",
            "details": {
                "first_seed": first, "units": counts.units, "releases": counts.releases,
                "units_that_fail_in_flux": counts.fail_in_flux.values().sum::<usize>(),
                "why": counts.fail_in_flux, "only_flux_refuses": counts.refused_there, "fleets_that_differ": counts.found.len(),
                "kept_in": folder,
            },
        })
    );
    Ok(())
}

/// Compares the cluster `clusters/prod` of each folder, as fleets are kept that differ.
pub(crate) fn run_trees(folders: &[PathBuf]) -> Result<()> {
    let program = flux::find_or_build(&mut printed(|line: &str| eprintln!("flux: {line}")))?;
    let mut flux = Flux::start(&program)?;
    for folder in folders {
        let tree = Tree::read(folder, random::fleet::ROOT)?;
        let (theirs, compared) = fleet::compare(&mut flux, &tree)?;
        for (id, unit) in &theirs.units {
            let outcome = unit.as_ref().map_or_else(Clone::clone, |all| format!("{} objects", all.len()));
            println!("{}: {id}: {outcome}", folder.display());
        }
        for (id, release) in &theirs.releases {
            let outcome = release.as_ref().map_or_else(Clone::clone, Value::to_string);
            println!("{}: release {id}: {outcome}", folder.display());
        }
        compared.differences.iter().for_each(|line| println!("{}: DIFFERS: {line}", folder.display()));
    }
    Ok(())
}

/// Keeps fleets with what differs. Returns the folder, if there was anything to keep.
fn keep(found: &[(u64, Vec<String>)]) -> Result<Option<String>> {
    if found.is_empty() {
        return Ok(None);
    }
    let folder = tempfile::Builder::new().prefix("flux-diff-").tempdir().context("make a folder")?.keep();
    for (seed, differences) in found.iter().take(KEPT) {
        let place = folder.join(seed.to_string());
        random::fleet::fleet(*seed).write(&place.join("tree"))?;
        let text = differences.join("\n");
        eprintln!("{seed}:\n{text}");
        let path = place.join("differences");
        fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
    }
    eprintln!("kept in {}", folder.display());
    Ok(Some(folder.display().to_string()))
}
