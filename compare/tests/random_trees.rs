//! Random trees through our build and the real one: the same bytes, or both fail.
//!
//! `known-differences.txt` names the seeds whose trees differ, each with a reason; the test fails when that list is out
//! of date in either direction. More seeds: `cargo xtask bench kustomize-diff`.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Mutex;

use flotilla_compare::real::real_or_skip;
use flotilla_compare::verdict::{Verdict, first_difference};
use flotilla_compare::{campaign, random};

/// As many as take about 20 seconds on two cores.
const SEEDS: Range<u64> = 0..600;

/// `SEED VERDICT: reason` lines.
fn known() -> BTreeMap<u64, String> {
    let text = include_str!("known-differences.txt");
    let lines = text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#'));
    let known = lines.map(|line| {
        let (head, reason) = line.split_once(": ").unwrap_or_default();
        let (seed, verdict) = head.split_once(' ').unwrap_or_default();
        let seed = seed.parse().ok().filter(|seed| SEEDS.contains(seed) && !reason.is_empty());
        (
            seed.unwrap_or_else(|| panic!("known-differences.txt: no seed and reason in '{line}'")),
            verdict.to_owned(),
        )
    });
    known.collect()
}

#[test]
fn random_trees_build_the_same() {
    let Some(real) = real_or_skip() else { return };
    let results = Mutex::new(Vec::new());
    let done = campaign::run(&real, SEEDS, None, &|compared| {
        let verdict = compared.verdict();
        let builds = matches!(verdict, Verdict::Same | Verdict::OtherText);
        let fields = if builds { random::used_fields(&compared.tree) } else { Default::default() };
        let what = first_difference(&compared.ours, &compared.real);
        results.lock().expect("no panic").push((compared.seed, verdict, what, fields));
        Ok(())
    });
    assert_eq!(done.expect("both builds can be run"), SEEDS.end - SEEDS.start);
    let mut results = results.into_inner().expect("no panic");
    results.sort();

    let known = known();
    let mut wrong = Vec::new();
    let (mut verdicts, mut fields) = (BTreeMap::<&str, u64>::new(), BTreeMap::<String, u64>::new());
    for (seed, verdict, what, used) in results {
        *verdicts.entry(verdict.name()).or_default() += 1;
        for field in used {
            *fields.entry(field).or_default() += 1;
        }
        match known.get(&seed) {
            None if verdict.agrees() => {}
            None => wrong.push(format!("{seed} {}: {what}", verdict.name())),
            Some(_) if verdict.agrees() => wrong.push(format!("{seed} agrees: take it out of the list")),
            Some(listed) if listed != verdict.name() => {
                wrong.push(format!("{seed} is listed as {listed} and is {}: {what}", verdict.name()));
            }
            Some(_) => {}
        }
    }
    println!("{verdicts:?}");
    assert!(wrong.is_empty(), "known-differences.txt is out of date:\n{}", wrong.join("\n"));

    // A generator whose trees fail, or leave fields out, compares little.
    let all = SEEDS.end - SEEDS.start;
    let failing = verdicts.get("both_fail").copied().unwrap_or_default();
    assert!(failing * 4 < all, "{failing} of {all} trees fail in both");
    for field in random::FIELDS {
        let count = fields.get(field).copied().unwrap_or_default();
        assert!(count * 200 > all, "{field} is in {count} of {all} trees that build");
    }
}
