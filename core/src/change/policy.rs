//! How much a change may take away without an approval, and since when that counts.
//!
//! ```text
//!   commit 1: policy A          judged by A
//!   commit 2: policy B          judged by the stricter of A and B in each field
//!   commit 3: policy B          judged by B, if nothing of commit 2 waits for an approval
//! ```
//!
//! So a commit that loosens the policy and takes things away is judged by the policy before it.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::KindName;
use crate::names::ClusterName;

/// More than `max`, and more than `share` percent of all that there is, needs an approval.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limit {
    pub max: usize,
    /// In percent.
    pub share: u8,
}

impl Limit {
    /// Whether so many of so many are beyond it.
    pub fn is_beyond(self, count: usize, of: usize) -> bool {
        count > self.max && count as u128 * 100 > u128::from(self.share) * of as u128
    }

    fn stricter(self, other: Self) -> Self {
        Self { max: self.max.min(other.max), share: self.share.min(other.share) }
    }
}

/// How much a change may take away, of all clusters together, without an approval.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Policy {
    pub units: Limit,
    pub objects: Limit,
    /// Of the objects of one cluster. Clusters that lose more than this need an approval as soon as there are two.
    pub cluster: Limit,
    /// Of these kinds so many objects, whatever the other limits say.
    pub protected: BTreeMap<KindName, usize>,
    /// Clusters of which nothing counts.
    pub exempt: BTreeSet<ClusterName>,
}

impl Default for Policy {
    fn default() -> Self {
        // What holds data, or takes other objects with it.
        let protected = [
            ("", "Namespace"),
            ("", "PersistentVolume"),
            ("", "PersistentVolumeClaim"),
            ("apiextensions.k8s.io", "CustomResourceDefinition"),
            ("apps", "StatefulSet"),
        ];
        Self {
            units: Limit { max: 20, share: 20 },
            objects: Limit { max: 50, share: 20 },
            cluster: Limit { max: 10, share: 50 },
            protected: protected.map(|(group, kind)| (KindName::new(group, kind), 0)).into(),
            exempt: BTreeSet::new(),
        }
    }
}

impl Policy {
    /// What holds where both do.
    #[must_use]
    pub fn stricter(&self, other: &Self) -> Self {
        let mut protected = self.protected.clone();
        for (kind, max) in &other.protected {
            let limit = protected.entry(kind.clone()).or_insert(*max);
            *limit = (*limit).min(*max);
        }
        Self {
            units: self.units.stricter(other.units),
            objects: self.objects.stricter(other.objects),
            cluster: self.cluster.stricter(other.cluster),
            protected,
            exempt: self.exempt.intersection(&other.exempt).cloned().collect(),
        }
    }
}

/// The policy that counts, and the one that is to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InForce {
    pub policy: Policy,
    /// Comes into force with the next commit after the one that brought it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<Next>,
}

/// A policy that is not in force yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Next {
    pub commit: String,
    pub policy: Policy,
}

impl InForce {
    pub fn new(policy: Policy) -> Self {
        Self { policy, next: None }
    }

    /// The policy that a commit is judged by. `read` is what the commit says; `None`: that cannot be read.
    pub fn judging(&mut self, commit: &str, read: Option<&Policy>) -> Policy {
        if let Some(next) = self.next.take_if(|next| next.commit != commit) {
            self.policy = next.policy;
        }
        read.map_or_else(|| self.policy.clone(), |read| self.policy.stricter(read))
    }

    /// Notes what a commit says once it was judged. While something waits for an approval nothing gets looser.
    pub fn settle(&mut self, commit: &str, read: Option<&Policy>, waits: bool) {
        let read = read.filter(|read| !waits && **read != self.policy);
        self.next = read.map(|policy| Next { commit: commit.to_owned(), policy: policy.clone() });
    }
}
