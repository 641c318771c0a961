//! Which change each object left in. An agent may have to let go of what many changes left behind at once, as when its API
//! server was in trouble for an hour; the guards judge each change by itself all the same.
//!
//! ```text
//!   state 7: a b c d e f          state 8: a b c d e         state 9: a b c d
//!                                   f left at 8: 1 of 6         e left at 9: 1 of 5
//! ```
//!
//! What left between two states that the agent saw left with the later one.

use std::collections::{BTreeMap, BTreeSet};

use crate::desired::Generation;
use crate::object::ObjectId;

/// The change that an object left in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Departure {
    /// The first state that the agent saw without it.
    pub generation: Generation,
    /// How many objects that state wants of the unit.
    pub wanted: usize,
    /// The cluster's root, source or branch changed with it.
    pub moved: bool,
}

/// What left a unit and may not be gone yet.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Departures {
    noted: BTreeMap<ObjectId, Departure>,
}

impl Departures {
    /// The change that the object left in, if it was noted.
    pub fn get(&self, object: &ObjectId) -> Option<Departure> {
        self.noted.get(object).copied()
    }

    pub fn iter(&self) -> impl Iterator<Item = (&ObjectId, Departure)> {
        self.noted.iter().map(|(id, departure)| (id, *departure))
    }

    /// Takes note of a state: of what is listed for the unit, or may be by what is under way, nothing declares `absent`. Of
    /// these leaves now what had not left before. What is not among them is back, or gone, and forgotten. True if that
    /// changed anything.
    pub fn note(&mut self, now: Departure, absent: BTreeSet<ObjectId>) -> bool {
        let before = self.noted.len();
        self.noted.retain(|id, _| absent.contains(id));
        let kept = self.noted.len();
        for id in absent {
            self.noted.entry(id).or_insert(now);
        }
        kept != before || kept != self.noted.len()
    }
}

impl FromIterator<(ObjectId, Departure)> for Departures {
    fn from_iter<I: IntoIterator<Item = (ObjectId, Departure)>>(all: I) -> Self {
        Self { noted: all.into_iter().collect() }
    }
}
