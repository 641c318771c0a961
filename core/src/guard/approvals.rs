//! What people let go, and for how long that holds.

use std::collections::{BTreeMap, BTreeSet};

use crate::digest::Digest;
use crate::object::ObjectId;
use crate::unit::UnitId;

/// What an approval is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    pub unit: UnitId,
    /// All that leaves at once, or one object by itself.
    pub many: bool,
    pub objects: BTreeSet<ObjectId>,
}

/// What people let go, by the digest that they were shown.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Approvals {
    /// None while it is not known yet what it is about.
    given: BTreeMap<Digest, Option<Subject>>,
}

impl Approvals {
    /// Takes an approval. One that is known already keeps what is known of it.
    pub fn give(&mut self, digest: Digest, subject: Option<Subject>) {
        let known = self.given.entry(digest).or_default();
        if subject.is_some() {
            *known = subject;
        }
    }

    pub fn contains(&self, digest: Digest) -> bool {
        self.given.contains_key(&digest)
    }

    /// What it is about, if it was given and that is known.
    pub fn subject(&self, digest: Digest) -> Option<&Subject> {
        self.given.get(&digest)?.as_ref()
    }

    /// Learns what approvals are about; those for which that is new.
    pub fn learn(&mut self, asked: &[(Digest, Subject)]) -> Vec<Digest> {
        let mut learnt = Vec::new();
        for (digest, subject) in asked {
            if let Some(known @ None) = self.given.get_mut(digest) {
                *known = Some(subject.clone());
                learnt.push(*digest);
            }
        }
        learnt
    }

    /// Drops the approvals for a unit of which no object is about to leave any more: they were used, or what they
    /// were given for is wanted again. Those that were dropped.
    pub fn settle(&mut self, unit: &UnitId, leaving: &BTreeSet<ObjectId>) -> Vec<Digest> {
        let is_over = |subject: &Subject| subject.unit == *unit && subject.objects.is_disjoint(leaving);
        let over: Vec<Digest> = self
            .given
            .iter()
            .filter(|(_, subject)| subject.as_ref().is_some_and(is_over))
            .map(|(digest, _)| *digest)
            .collect();
        for digest in &over {
            self.given.remove(digest);
        }
        over
    }

    /// Whether this may go: it was approved by its digest, or is what is left of more that was approved together.
    pub(super) fn allow(&self, digest: Digest, subject: &Subject) -> bool {
        let covers = |given: &Subject| {
            given.many
                && subject.many
                && given.unit == subject.unit
                && subject.objects.is_subset(&given.objects)
        };
        self.contains(digest) || self.given.values().flatten().any(covers)
    }
}
