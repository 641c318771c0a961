//! What a change of the fleet would remove, judged before anything of that is published.
//!
//! ```text
//!   for each cluster: units that it has and that the change removes ─┐
//!   units of the whole fleet ────────────────────────────────────────┴─► within the budget, or an approval is needed
//! ```
//!
//! The guards of an agent see one cluster. A merge that goes wrong takes a part of every cluster, and little enough of each to
//! pass them all.

use std::collections::{BTreeMap, BTreeSet};

use crate::digest::Digest;
use crate::names::ClusterName;
use crate::unit::UnitId;

/// By cluster, the units that a change removes with their objects.
pub type Losses = BTreeMap<ClusterName, BTreeSet<UnitId>>;

/// How much of the fleet a change may remove without an approval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ChangeBudget {
    /// More than this share of the fleet's units needs one …
    pub share: f64,
    /// … if it is at least so many. What one cluster loses alone is left to its agent's guards.
    pub units: usize,
}

impl Default for ChangeBudget {
    fn default() -> Self {
        Self { share: 0.2, units: 20 }
    }
}

/// What a change removes beyond the budget.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Excess {
    pub units: usize,
    pub clusters: usize,
    /// The units of the fleet.
    pub of: usize,
}

/// Judges a change that removes `losses`. `before` are units that the same change removed already, as some clusters come
/// later than others; `of` are the units of the whole fleet.
pub fn judge(losses: &Losses, before: &Losses, of: usize, budget: ChangeBudget) -> Option<Excess> {
    let mut all: BTreeMap<&ClusterName, BTreeSet<&UnitId>> = BTreeMap::new();
    for (cluster, units) in losses.iter().chain(before) {
        all.entry(cluster).or_default().extend(units);
    }
    all.retain(|_, units| !units.is_empty());
    let units = all.values().map(BTreeSet::len).sum::<usize>();
    let is_beyond = all.len() > 1 && units >= budget.units && units as f64 > budget.share * of as f64;
    is_beyond.then_some(Excess { units, clusters: all.len(), of })
}

/// What is approved: exactly these units of these clusters.
pub fn digest(losses: &Losses) -> Digest {
    let units = losses.iter().flat_map(|(cluster, units)| units.iter().map(move |unit| (cluster, unit)));
    let texts: Vec<String> =
        units.flat_map(|(cluster, unit)| [cluster.to_string(), unit.to_string()]).collect();
    Digest::of_parts(texts.iter().map(String::as_bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn losses(each: &[usize]) -> Losses {
        let units = |n: usize| (0..n).map(|n| UnitId::kustomization("x", format!("u{n}"))).collect();
        each.iter().enumerate().map(|(n, count)| (format!("c{n}").parse().unwrap(), units(*count))).collect()
    }

    #[test]
    fn what_is_much_of_the_fleet_needs_an_approval() {
        let budget = ChangeBudget::default();
        for (each, of, is_beyond) in [
            (&[10, 10][..], 40, true),
            (&[10, 10], 100, false),
            (&[10, 9], 40, false),
            (&[1; 500], 25_000, false),
            (&[20; 500], 25_000, true),
            // One cluster that is given up, and the others go on.
            (&[50], 60, false),
            (&[50, 0, 0], 60, false),
            (&[], 0, false),
        ] {
            let judged = judge(&losses(each), &Losses::new(), of, budget);
            assert_eq!(judged.is_some(), is_beyond, "{each:?} of {of}");
        }
    }

    proptest! {
        /// However a change is cut into parts: once the whole is beyond the budget, so is its last part.
        #[test]
        fn parts_come_to_the_same_as_the_whole(each in prop::collection::vec(0_usize..30, 1..12), cut in 0_usize..12, of in 0_usize..500) {
            let budget = ChangeBudget::default();
            let all = losses(&each);
            let (mut first, mut second) = (Losses::new(), Losses::new());
            for (n, (cluster, units)) in all.clone().into_iter().enumerate() {
                if n < cut { first.insert(cluster, units); } else { second.insert(cluster, units); }
            }
            prop_assert_eq!(judge(&second, &first, of, budget), judge(&all, &Losses::new(), of, budget));
        }
    }

    #[test]
    fn a_digest_names_the_units_and_their_clusters() {
        let all = [losses(&[1, 2]), losses(&[2, 1]), losses(&[3]), losses(&[1, 1])];
        let digests: BTreeSet<Digest> = all.iter().map(digest).collect();
        assert_eq!(digests.len(), all.len());
    }
}
