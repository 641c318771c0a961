//! Which candidates there are, and what each cluster would run of each.

use std::collections::BTreeSet;

use flotilla_core::{Digest, UnitId};

use crate::outcome::{Event, EventKind, Pick};
use crate::request::Barred;
use crate::run::MAX_HISTORY;
use crate::state::{Candidate, CandidateId, Part, PinKind, Shape, State};
use crate::world::{Projection, World};

/// The units of a change that a record names at most; of more, only that there are more is of interest.
const MAX_CHANGED: usize = 256;

/// Takes what Git has now: a new candidate where a cluster would run something else than of the newest one; what the newest
/// one is for a cluster of which it was not known. `members` says which clusters are in a stage.
pub(crate) fn observe(
    state: &mut State,
    world: &World,
    members: &[Option<usize>],
    now: i64,
    events: &mut Vec<Event>,
) {
    for (part, cluster) in state.parts.iter_mut().zip(&world.clusters) {
        for (id, projection) in &cluster.older {
            if let Some(candidate) = state.candidates.get(id) {
                learn_older(part, candidate, projection);
            }
        }
    }
    let Some(commit) = &world.newest else { return };
    let claimed = || members.iter().zip(&world.clusters).filter(|(member, _)| member.is_some());
    let differs = state.parts.iter().zip(&world.clusters).zip(members).any(|((part, cluster), member)| {
        let has = part.shapes.last().and_then(Shape::digest);
        member.is_some()
            && has.zip(cluster.newest.as_ref()).is_some_and(|(has, newest)| has != newest.digest())
    });
    let is_first = state.head.newest.is_none() && claimed().any(|(_, cluster)| cluster.newest.is_some());
    if differs || is_first {
        let mut parts = vec![commit.id.as_bytes().to_vec(), state.head.seq.to_be_bytes().to_vec()];
        for (_, cluster) in claimed() {
            if let Some(newest) = &cluster.newest {
                parts.push(cluster.name.as_str().as_bytes().to_vec());
                parts.push(newest.digest().to_vec());
            }
        }
        let id = CandidateId(Digest::of_parts(parts.iter().map(Vec::as_slice)));
        state.head.seq += 1;
        state.head.newest = Some(id);
        let candidate = Candidate { id, seq: state.head.seq, commit: commit.clone(), at: now };
        events.push(Event {
            kind: EventKind::Candidate,
            stage: None,
            cluster: None,
            candidate: Some(id),
            text: format!("candidate {id} is commit {}: {}", commit.id, commit.subject),
        });
        state.candidates.insert(id, candidate);
    }
    let Some(newest) = state.head.newest.and_then(|id| state.candidates.get(&id)) else { return };
    let is_new = differs || is_first;
    for ((part, cluster), member) in state.parts.iter_mut().zip(&world.clusters).zip(members) {
        if member.is_some() {
            learn_newest(part, newest, cluster.newest.as_deref(), is_new);
        }
    }
}

fn learn_newest(part: &mut Part, newest: &Candidate, projection: Option<&Projection>, is_new: bool) {
    let last = part.shapes.last();
    let shape = |content, changed| Shape { seq: newest.seq, candidate: newest.id, content, changed };
    match (projection, last.and_then(Shape::digest)) {
        // What a cluster is by a commit that does not render for it is not known: not what it was before.
        (None, _) => {
            if is_new || last.is_none() {
                part.shapes.push(shape(None, Vec::new()));
                part.dirty = true;
            }
        }
        (Some(projection), Some(has)) if has == projection.digest() => {}
        (Some(projection), _) => {
            let mut prints = fingerprints(projection);
            let changed = match &part.known {
                Some(known) => changes(known, &part.shapes, projection, &prints),
                None => Vec::new(),
            };
            prints.sort_unstable();
            part.known = Some(prints);
            if last.is_some_and(|last| last.seq == newest.seq) {
                part.shapes.pop();
            }
            let content = Some((projection.snapshot, projection.digest()));
            part.shapes.push(shape(content, changed));
            part.dirty = true;
        }
    }
}

/// What an older candidate is for a cluster that came after it. What is known stays.
fn learn_older(part: &mut Part, candidate: &Candidate, projection: &Projection) {
    if part.shape(candidate.seq).is_some_and(|shape| shape.content.is_some()) {
        return;
    }
    let at = part.shapes.partition_point(|shape| shape.seq < candidate.seq);
    let content = Some((projection.snapshot, projection.digest()));
    let shape = Shape { seq: candidate.seq, candidate: candidate.id, content, changed: Vec::new() };
    if part.shapes.get(at).is_some_and(|there| there.seq == candidate.seq) {
        part.shapes[at] = shape;
    } else {
        // What comes after it is compared with it: all of its units may be new.
        if let Some(next) = part.shapes.get_mut(at)
            && next.digest() == Some(projection.digest())
        {
            next.changed.clear();
        }
        part.shapes.insert(at, shape);
    }
    part.dirty = true;
}

fn fingerprint(unit: &UnitId, digest: &Digest) -> u64 {
    let text = unit.to_string();
    let digest = Digest::of_parts([text.as_bytes(), digest.as_bytes()]);
    u64::from_be_bytes(std::array::from_fn(|at| digest.as_bytes()[at]))
}

/// In the order of the units.
fn fingerprints(projection: &Projection) -> Vec<u64> {
    projection.units().iter().map(|(unit, digest)| fingerprint(unit, digest)).collect()
}

/// What is not as it was, and what is gone of that which changes in play name.
fn changes(
    known: &[u64],
    shapes: &[Shape],
    projection: &Projection,
    prints: &[u64],
) -> Vec<(UnitId, Option<Digest>)> {
    let units = projection.units();
    let is_new = |(_, print): &(&(UnitId, Digest), &u64)| known.binary_search(print).is_err();
    let new = units.iter().zip(prints).filter(is_new);
    let new = new.map(|((unit, digest), _)| (unit.clone(), Some(*digest)));
    let there: BTreeSet<&UnitId> = units.iter().map(|(unit, _)| unit).collect();
    let named: BTreeSet<&UnitId> =
        shapes.iter().flat_map(|shape| shape.changed.iter().map(|(unit, _)| unit)).collect();
    let gone = named.difference(&there).map(|unit| ((*unit).clone(), None));
    // Of too many changes none may be forgotten that says that a unit is gone: what was barred of it would bar this.
    gone.chain(new).take(MAX_CHANGED).collect()
}

impl Part {
    /// What a unit is in the candidate of this number, if a change in play says so.
    pub(crate) fn unit(&self, seq: u64, unit: &UnitId) -> Option<Digest> {
        let shapes = self.shapes.iter().rev().filter(|shape| shape.seq <= seq);
        shapes
            .flat_map(|shape| &shape.changed)
            .find(|(changed, _)| changed == unit)
            .and_then(|(_, digest)| *digest)
    }

    /// Whether the candidate of this number has for it what is barred.
    pub(crate) fn has_barred(&self, seq: u64, what: &Barred) -> bool {
        match what {
            Barred::Candidate(_) => false,
            Barred::Digest(digest) => self.shape(seq).and_then(Shape::digest) == Some(*digest),
            Barred::Unit(unit, digest) => self.unit(seq, unit) == Some(*digest),
        }
    }
}

/// Forgets candidates that nothing names any more, and what clusters would run of them.
pub(crate) fn forget(state: &mut State) {
    let head = &mut state.head;
    let mut shared: BTreeSet<CandidateId> = head.newest.into_iter().collect();
    for stage in &head.stages {
        shared.extend(stage.run.iter().map(|run| run.candidate));
        shared.extend(stage.passed().map(|passage| passage.candidate));
        shared.extend(stage.waiting);
    }
    shared.extend(head.standing.iter().filter_map(|standing| match &standing.what {
        crate::state::StandingKind::Override { candidate, .. } => Some(*candidate),
        _ => None,
    }));
    let seq = |id: &CandidateId| state.candidates.get(id).map(|candidate| candidate.seq);
    let in_play: BTreeSet<u64> = shared.iter().filter_map(seq).collect();
    let mut kept = shared;
    for part in &mut state.parts {
        kept.extend(part.own());
        if part.shapes.len() > 1 {
            let own: BTreeSet<u64> = part.own().iter().filter_map(seq).collect();
            part.forget(&in_play, &own);
        }
    }
    for stage in &mut head.stages {
        let surplus = stage.history.len().saturating_sub(MAX_HISTORY);
        let mut at = 0;
        stage.history.retain(|passage| {
            at += 1;
            at > surplus || kept.contains(&passage.candidate)
        });
        kept.extend(stage.history.iter().map(|passage| passage.candidate));
    }
    state.candidates.retain(|id, _| kept.contains(id));
}

impl Part {
    /// The candidates that its own record names.
    fn own(&self) -> Vec<CandidateId> {
        let given = self.assignment.iter().chain(self.healthy.iter().map(|healthy| &healthy.assignment));
        let picks = given.chain(&self.back).flat_map(|assignment| {
            [assignment.base].into_iter().chain(assignment.units.iter().map(|(_, pick)| *pick))
        });
        let pins = self.pins.iter().map(|pin| pin.pick);
        picks.chain(pins).map(|pick: Pick| pick.candidate).collect()
    }

    /// Drops the shapes that no candidate in play has; what they changed goes to the one that follows.
    fn forget(&mut self, in_play: &BTreeSet<u64>, own: &BTreeSet<u64>) {
        let mut at = 0;
        while at + 1 < self.shapes.len() {
            let range = self.shapes[at].seq..self.shapes[at + 1].seq;
            if in_play.range(range.clone()).next().is_some() || own.range(range).next().is_some() {
                at += 1;
                continue;
            }
            let gone = self.shapes.remove(at);
            let next = &mut self.shapes[at];
            for (unit, digest) in gone.changed {
                if next.changed.len() < MAX_CHANGED && !next.changed.iter().any(|(there, _)| *there == unit) {
                    next.changed.push((unit, digest));
                }
            }
            self.dirty = true;
        }
    }

    /// Whether a hotfix is in the candidate of this number, or was overtaken by it.
    pub(crate) fn outlives(&self, why: PinKind, seq: u64) -> bool {
        match why {
            PinKind::Hotfix { seq: of, .. } => of > seq,
            PinKind::Held => true,
        }
    }
}
