//! How large the fleet was before a change began. Shares are of that: what the same change adds would make its losses look
//! small, and let go what is held.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{FleetSize, Losses};
use crate::names::ClusterName;

/// The smallest sizes seen since the change began, or since something of it waits.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Sizes {
    #[serde(skip_serializing_if = "Option::is_none")]
    fleet: Option<FleetSize>,
    /// Objects of the clusters of which something waits.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    clusters: BTreeMap<ClusterName, usize>,
}

impl Sizes {
    pub fn is_empty(&self) -> bool {
        self.fleet.is_none() && self.clusters.is_empty()
    }

    /// What counts for the next change: all of it while something waits, else nothing.
    #[must_use]
    pub fn next(self) -> Self {
        if self.clusters.is_empty() { Self::default() } else { self }
    }

    /// The size that the fleet is judged by, where it is `now`; those of clusters are put into their losses.
    pub fn judging(&self, now: FleetSize, losses: &mut Losses) -> FleetSize {
        for (name, loss) in losses {
            loss.of = self.clusters.get(name).map_or(loss.of, |of| loss.of.min(*of));
        }
        self.fleet.map_or(now, |then| FleetSize {
            units: now.units.min(then.units),
            objects: now.objects.min(then.objects),
        })
    }

    /// Keeps what was judged by while the change goes on or something of it waits.
    pub fn settle(&mut self, judged_by: FleetSize, goes_on: bool, held: &Losses) {
        self.fleet = (goes_on || !held.is_empty()).then_some(judged_by);
        self.clusters = held.iter().map(|(name, loss)| (name.clone(), loss.of)).collect();
    }
}
