//! One step's view of the fleet: which cluster is in which stage, how each stands on a candidate, and giving it something.

use std::sync::Arc;

use flotilla_core::{Digest, UnitId};

use crate::outcome::{Assignment, Event, EventKind, Pick};
use crate::request::Scope;
use crate::spec::{Offline, Pipeline, WhenOffline};
use crate::state::{CandidateId, Part, PinKind, Standing, StandingKind, State, Status};
use crate::world::{Cluster, Link, World};

/// What a step works on.
pub(crate) struct Fleet<'a> {
    pub(crate) pipeline: &'a Pipeline,
    pub(crate) world: &'a World,
    pub(crate) state: &'a mut State,
    pub(crate) now: i64,
    /// For each cluster, the index of its stage.
    pub(crate) stage_of: Vec<Option<usize>>,
    /// For each stage, its clusters that enrolled.
    pub(crate) members: Vec<Vec<usize>>,
    /// For each stage, its clusters that never enrolled.
    pub(crate) absent: Vec<Vec<usize>>,
    pub(crate) events: Vec<Event>,
    pub(crate) head_changed: bool,
    /// The holds that there are, apart from all that stands.
    pub(crate) holds: Vec<Standing>,
}

/// How a cluster stands on a candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// The candidate is from before the cluster came: it is not part of the run.
    Outside,
    /// What it would run is not known.
    NotRendered,
    /// Held on something else, or with a unit of something else.
    Held,
    Healthy {
        since: i64,
        /// It is not connected now.
        away: bool,
    },
    /// On it, was healthy, is not now.
    Unsettled,
    /// On it, and did not say what became of it.
    InFlight,
    Failed,
    Skipped,
    /// Not on it, and not connected.
    Away,
    /// Not on it yet.
    Pending,
}

/// What a cluster would be given of a candidate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Want {
    pub(crate) base: Pick,
    pub(crate) units: Vec<(UnitId, Pick)>,
    /// Not known where units are of other candidates.
    pub(crate) digest: Option<Digest>,
}

/// Why there is nothing to be given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lack {
    NotDefined,
    NotRendered,
}

impl Part {
    pub(crate) fn want(&self, seq: u64) -> Result<Want, Lack> {
        let shape = self.shape(seq).ok_or(Lack::NotDefined)?;
        let base = shape.pick().ok_or(Lack::NotRendered)?;
        let units = self.pinned(seq);
        let digest = if units.is_empty() { shape.digest() } else { None };
        Ok(Want { base, units, digest })
    }

    /// The units of other candidates that stay so on the candidate of this number.
    pub(crate) fn pinned(&self, seq: u64) -> Vec<(UnitId, Pick)> {
        let mut units: Vec<(UnitId, Pick)> = Vec::new();
        // One that is held is so whatever else is said of it.
        for held in [true, false] {
            for pin in self.pins.iter().filter(|pin| (pin.why == PinKind::Held) == held) {
                if self.outlives(pin.why, seq) && !units.iter().any(|(unit, _)| *unit == pin.unit) {
                    units.push((pin.unit.clone(), pin.pick));
                }
            }
        }
        units.sort_by(|a, b| a.0.cmp(&b.0));
        units
    }

    /// Whether it was given this, and did not lose it since.
    pub(crate) fn is_on(&self, want: &Want) -> bool {
        let Some(assignment) = self.assignment.as_ref().filter(|_| self.status != Status::Nothing) else {
            return false;
        };
        let is_same = assignment.base == want.base && assignment.units == want.units;
        is_same || want.digest.is_some() && want.digest == self.digest
    }

    /// Gives it something. The digest is `None` where the hub has to say what it comes to.
    pub(crate) fn give(
        &mut self,
        base: Pick,
        units: Vec<(UnitId, Pick)>,
        digest: Option<Digest>,
        run: u64,
        now: i64,
    ) {
        let revision = self.assignment.as_ref().map_or(1, |assignment| assignment.revision + 1);
        self.assignment = Some(Arc::new(Assignment { revision, base, units }));
        self.digest = digest;
        self.given_at = now;
        self.run = run;
        self.status = Status::InFlight;
        self.moved = false;
        self.dirty = true;
    }

    pub(crate) fn has_held_pins(&self) -> bool {
        self.pins.iter().any(|pin| pin.why == PinKind::Held)
    }
}

impl Fleet<'_> {
    pub(crate) fn part(&self, at: usize) -> &Part {
        &self.state.parts[at]
    }

    pub(crate) fn cluster(&self, at: usize) -> &Cluster {
        &self.world.clusters[at]
    }

    pub(crate) fn event(
        &mut self,
        kind: EventKind,
        stage: Option<usize>,
        candidate: Option<CandidateId>,
        text: impl Into<String>,
    ) {
        let stage = stage.map(|stage| self.pipeline.stages[stage].name.clone());
        self.events.push(Event { kind, stage, cluster: None, candidate, text: text.into() });
    }

    pub(crate) fn cluster_event(&mut self, kind: EventKind, at: usize, text: impl Into<String>) {
        let stage = self.stage_of[at].map(|stage| self.pipeline.stages[stage].name.clone());
        let part = self.part(at);
        let candidate = part.assignment.as_ref().map(|assignment| assignment.base.candidate);
        let cluster = Some(part.name.clone());
        self.events.push(Event { kind, stage, cluster, candidate, text: text.into() });
    }

    /// Whether a scope names this cluster.
    pub(crate) fn is_in(&self, scope: &Scope, at: usize) -> bool {
        let part = self.part(at);
        scope.stage.as_ref().is_none_or(|stage| part.stage.as_ref() == Some(stage))
            && scope.cluster.as_ref().is_none_or(|cluster| part.name == *cluster)
    }

    /// Takes the holds from all that stands: to be called where some came or went.
    pub(crate) fn index_holds(&mut self) {
        let is_hold = |standing: &&Standing| matches!(standing.what, StandingKind::Hold { .. });
        self.holds = self.state.head.standing.iter().filter(is_hold).cloned().collect();
    }

    /// What holds this cluster where it is.
    pub(crate) fn hold(&self, at: usize) -> Option<&Standing> {
        self.holds.iter().find(|standing| match &standing.what {
            StandingKind::Hold { scope, .. } => {
                // A hold of a unit is a pin; where there is nothing to pin it to, all is held.
                (scope.unit.is_none() || self.part(at).assignment.is_none()) && self.is_in(scope, at)
            }
            _ => false,
        })
    }

    /// What holds a whole stage.
    pub(crate) fn stage_hold(&self, stage: usize) -> Option<&Standing> {
        let name = &self.pipeline.stages[stage].name;
        self.holds.iter().find(|standing| match &standing.what {
            StandingKind::Hold { scope, .. } => {
                scope.unit.is_none()
                    && scope.cluster.is_none()
                    && scope.stage.as_ref().is_none_or(|stage| stage == name)
            }
            _ => false,
        })
    }

    pub(crate) fn pause(&self, stage: usize) -> Option<&Standing> {
        let name = &self.pipeline.stages[stage].name;
        self.state.head.standing.iter().find(|standing| match &standing.what {
            StandingKind::Pause { stage } => stage.as_ref().is_none_or(|stage| stage == name),
            _ => false,
        })
    }

    /// Since when a cluster is away, if it has been for as long as its stage waits.
    pub(crate) fn is_written_off(&self, at: usize, offline: &Offline) -> bool {
        matches!(self.cluster(at).link, Link::Offline { since } if self.now - since >= offline.after)
    }

    /// How a cluster stands on the candidate of this number.
    pub(crate) fn place(&self, at: usize, seq: u64, offline: &Offline) -> Place {
        let part = self.part(at);
        let want = match part.want(seq) {
            Ok(want) => want,
            Err(Lack::NotDefined) => return Place::Outside,
            Err(Lack::NotRendered) => return Place::NotRendered,
        };
        let is_away = !matches!(self.cluster(at).link, Link::Online { .. });
        let is_long_away = self.is_written_off(at, offline);
        let by_absence = || match offline.then {
            WhenOffline::Wait => Place::Away,
            WhenOffline::Skip => Place::Skipped,
            WhenOffline::Fail => Place::Failed,
        };
        if part.is_on(&want) {
            return match &part.status {
                Status::Failed { .. } => Place::Failed,
                Status::WrittenOff => Place::Skipped,
                _ if part.has_held_pins() => Place::Held,
                Status::InFlight => Place::InFlight,
                _ if is_long_away => by_absence(),
                Status::Healthy { since } => Place::Healthy { since: *since, away: is_away },
                Status::Unsettled { .. } | Status::Nothing => Place::Unsettled,
            };
        }
        if self.hold(at).is_some() {
            Place::Held
        } else if part.status == Status::WrittenOff {
            Place::Skipped
        } else if want.digest.is_some_and(|digest| part.failed.contains(&digest)) {
            Place::Failed
        } else if is_long_away {
            by_absence()
        } else if is_away {
            Place::Away
        } else {
            Place::Pending
        }
    }

    /// The number of a candidate that a cluster was given: one that is not in play any more is known by what it was there.
    pub(crate) fn seq_at(&self, at: usize, id: CandidateId) -> u64 {
        let of_shape =
            || self.part(at).shapes.iter().find(|shape| shape.candidate == id).map(|shape| shape.seq);
        self.state.candidates.get(&id).map(|candidate| candidate.seq).or_else(of_shape).unwrap_or(0)
    }

    /// How many clusters of a stage may have been given something and did not say yet what became of it.
    pub(crate) fn in_flight(&self, stage: usize) -> usize {
        self.members[stage].iter().filter(|at| self.part(**at).status == Status::InFlight).count()
    }
}
