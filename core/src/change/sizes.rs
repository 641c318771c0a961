//! How large the fleet was before a change began. Shares are of that: what the same change adds would make its losses look
//! small, and let go what is held.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::loss::pairs;
use super::{FleetSize, Losses};
use crate::authority::Authority;
use crate::names::ClusterName;

/// The smallest sizes seen since the change began, and since something waits of somebody's word. What waits of a tenant's makes
/// nobody else's limits narrower.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Sizes {
    #[serde(skip_serializing_if = "Option::is_none")]
    change: Option<FleetSize>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty", with = "pairs")]
    waiting: BTreeMap<Authority, Waiting>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Waiting {
    fleet: FleetSize,
    /// Objects of the clusters of which something waits.
    clusters: BTreeMap<ClusterName, usize>,
}

impl Sizes {
    pub fn is_empty(&self) -> bool {
        self.change.is_none() && self.waiting.is_empty()
    }

    /// What counts for the next change: what waits is of the same one.
    #[must_use]
    pub fn next(self) -> Self {
        Self { change: None, ..self }
    }

    /// The size that somebody's losses are judged by, where the fleet is of the size `now`.
    pub(super) fn fleet(&self, word: &Authority, now: FleetSize) -> FleetSize {
        let then = self.waiting.get(word).map(|waiting| waiting.fleet);
        self.change.into_iter().chain(then).fold(now, FleetSize::smaller)
    }

    /// How many objects a cluster counts for, of which `of` are known.
    pub(super) fn cluster(&self, word: &Authority, name: &ClusterName, of: usize) -> usize {
        let then = self.waiting.get(word).and_then(|waiting| waiting.clusters.get(name));
        then.map_or(of, |then| of.min(*then))
    }

    /// Keeps what was judged by while the change goes on, and for those of whose word something waits.
    pub fn settle(&mut self, now: FleetSize, goes_on: bool, held: &BTreeMap<Authority, Losses>) {
        let waits = |(word, losses): (&Authority, &Losses)| {
            let cluster = |(name, loss): (&ClusterName, &super::Loss)| {
                (name.clone(), self.cluster(word, name, loss.of))
            };
            let clusters = losses.iter().map(cluster).collect();
            (word.clone(), Waiting { fleet: self.fleet(word, now), clusters })
        };
        let waiting = held.iter().map(waits).collect();
        let change = goes_on.then(|| self.change.map_or(now, |then| then.smaller(now)));
        *self = Self { change, waiting };
    }
}

impl FleetSize {
    fn smaller(self, other: Self) -> Self {
        Self { units: self.units.min(other.units), objects: self.objects.min(other.objects) }
    }
}
