//! What people let go, and for how long that holds.

use std::collections::{BTreeMap, BTreeSet};

use crate::digest::Digest;
use crate::object::ObjectId;
use crate::unit::UnitId;

/// What an approval is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    pub unit: UnitId,
    pub what: What,
    pub objects: BTreeSet<ObjectId>,
}

/// What is let go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// One object by itself.
    Object,
    /// All that leaves a unit at once.
    Objects,
    /// A unit that left Git, with the data in it.
    Unit,
    /// Units that left Git together, as far as it is only that they are many. The subject names one of them and no objects.
    Units,
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
    pub fn close(&mut self, unit: &UnitId, leaving: &BTreeSet<ObjectId>) -> Vec<Digest> {
        self.drop_where(|_, subject| {
            subject.what != What::Units && subject.unit == *unit && subject.objects.is_disjoint(leaving)
        })
    }

    /// Drops the approvals for units that left together where none of them is about to go any more. Those that were
    /// dropped.
    pub fn close_units(&mut self, is_open: impl Fn(Digest) -> bool) -> Vec<Digest> {
        self.drop_where(|digest, subject| subject.what == What::Units && !is_open(digest))
    }

    fn drop_where(&mut self, is_over: impl Fn(Digest, &Subject) -> bool) -> Vec<Digest> {
        let known = self.given.iter().filter_map(|(digest, subject)| Some((*digest, subject.as_ref()?)));
        let over: Vec<Digest> =
            known.filter(|(digest, subject)| is_over(*digest, subject)).map(|(digest, _)| digest).collect();
        for digest in &over {
            self.given.remove(digest);
        }
        over
    }

    /// Whether this may go: it was approved by its digest, or is what is left of more that was approved together.
    pub(super) fn allow(&self, digest: Digest, subject: &Subject) -> bool {
        let covers = |given: &Subject| {
            matches!(subject.what, What::Objects | What::Unit)
                && given.what == subject.what
                && given.unit == subject.unit
                && subject.objects.is_subset(&given.objects)
        };
        self.contains(digest) || self.given.values().flatten().any(covers)
    }
}
