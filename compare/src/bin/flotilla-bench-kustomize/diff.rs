//! `kustomize-diff`: random trees through both builds for some time; those that differ are kept, made small.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use flotilla_compare::campaign::{self, Compared, Workshop};
use flotilla_compare::random;
use flotilla_compare::real::Real;
use flotilla_compare::verdict::{Verdict, first_difference, keep};
use serde_json::json;

/// How many trees that differ are kept at most.
const KEPT: usize = 100;
/// How long making them smaller may take, all together.
const SHRINKING: Duration = Duration::from_secs(60);

/// How often trees fail for one kind of reason, and an example of it.
type Failures = BTreeMap<String, (u64, String)>;

#[derive(Default)]
struct Counts {
    verdicts: BTreeMap<Verdict, u64>,
    /// How often a field was in a tree that builds in both.
    fields: BTreeMap<String, u64>,
    /// Why trees fail in both.
    failures: Failures,
    /// Why trees fail in kustomize alone.
    fails_there: Failures,
    found: Vec<Compared>,
}

pub(crate) fn run(real: &Real, seconds: u64, first: u64) -> Result<()> {
    eprintln!("seeds from {first}");
    let counts = Mutex::new(Counts::default());
    let deadline = Instant::now() + Duration::from_secs(seconds);
    let done = campaign::run(real, first..u64::MAX, Some(deadline), &|compared| {
        let mut counts = counts.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        counts.add(compared);
        Ok(())
    })?;
    let mut counts = counts.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    let mut found = std::mem::take(&mut counts.found);
    found.sort_by_cached_key(|found| (counts.rank(found), found.seed));
    let folder = keep_all(real, &found)?;
    let number = |verdict: Verdict| counts.verdicts.get(&verdict).copied().unwrap_or_default();
    let by_name: BTreeMap<&str, u64> = Verdict::ALL.iter().map(|&v| (v.name(), number(v))).collect();
    println!(
        "{}",
        json!({
            "name": "kustomize_diff", "value": done, "unit": "trees",
            "details": {
                "first_seed": first, "verdicts": by_name, "kept_in": folder, "fields": counts.fields,
                "failures": counts.failures, "fails_only_there": counts.fails_there,
            },
        })
    );
    Ok(())
}

impl Counts {
    /// Not all that is found is kept and made smaller. What builds there and not the same here comes first, then what
    /// fails there alone for a reason that is rare.
    fn rank(&self, found: &Compared) -> u64 {
        match (found.verdict(), &found.real) {
            (Verdict::FailsOnlyThere, Err(error)) => {
                self.fails_there.get(&campaign::kind_of_error(error)).map_or(0, |(count, _)| *count)
            }
            _ => 0,
        }
    }

    fn add(&mut self, compared: Compared) {
        let verdict = compared.verdict();
        *self.verdicts.entry(verdict).or_default() += 1;
        if verdict == Verdict::Same || verdict == Verdict::OtherText {
            for field in random::used_fields(&compared.tree) {
                *self.fields.entry(field).or_default() += 1;
            }
        }
        if let Err(error) = &compared.real {
            let failures =
                if verdict == Verdict::BothFail { &mut self.failures } else { &mut self.fails_there };
            let (count, example) = failures.entry(campaign::kind_of_error(error)).or_default();
            *count += 1;
            *example = format!("{}: {error}", compared.seed);
        }
        if !verdict.agrees() {
            self.found.push(compared);
        }
    }
}

/// Keeps trees with what both made of them. Returns the folder, if there was anything to keep.
fn keep_all(real: &Real, found: &[Compared]) -> Result<Option<String>> {
    if found.is_empty() {
        return Ok(None);
    }
    let folder =
        tempfile::Builder::new().prefix("kustomize-diff-").tempdir().context("make a folder")?.keep();
    let mut workshop = Workshop::new(real)?;
    let deadline = Instant::now() + SHRINKING;
    for compared in found.iter().take(KEPT) {
        let small = workshop.shrink(compared, deadline)?;
        let place = folder.join(compared.seed.to_string());
        keep(&place, &small.tree, &small.ours, &small.real)?;
        keep(&place.join("whole"), &compared.tree, &compared.ours, &compared.real)?;
        let what = first_difference(&small.ours, &small.real);
        eprintln!("{}: {}: {what}", compared.seed, compared.verdict().name());
    }
    eprintln!("kept in {}", folder.display());
    Ok(Some(folder.display().to_string()))
}
