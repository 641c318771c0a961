//! Which clusters of a stage are given something now: never more at once than its strategy lets be in flight.

use std::sync::Arc;

use flotilla_core::Digest;

use crate::fleet::{Fleet, Lack, Place, Want};
use crate::outcome::{Assignment, EventKind};
use crate::run::Run;
use crate::spec::{Join, Order};
use crate::state::{CandidateId, Part, PinKind, Shape, Status};
use crate::window::Overrun;
use crate::world::{Health, Link};

impl Part {
    /// What it was healthy on last, other than what it has.
    pub(crate) fn last_healthy(&self) -> Option<Arc<Assignment>> {
        let other = self.healthy.iter().rev().find(|healthy| Some(healthy.digest) != self.digest);
        other.map(|healthy| healthy.assignment.clone())
    }

    fn digest_of(&self, assignment: &Assignment) -> Option<Digest> {
        let healthy = self.healthy.iter().find(|healthy| healthy.assignment.revision == assignment.revision);
        healthy.map(|healthy| healthy.digest)
    }
}

impl Fleet<'_> {
    /// Gives the clusters of a stage what is their turn.
    pub(crate) fn give(&mut self, stage: usize, wanted: &mut Vec<(flotilla_core::ClusterName, CandidateId)>) {
        let run = self.state.head.stages[stage].run.clone();
        let of = run.as_ref().map_or(self.members[stage].len(), |run| run.of);
        let strategy = run.as_ref().map_or(&self.pipeline.stages[stage].strategy, |run| &run.spec.strategy);
        let most = strategy.max_concurrent.at_least_one_of(of);
        let mut free = most.saturating_sub(self.in_flight(stage));
        self.give_back(stage, &mut free);
        let run = run.as_ref();
        let tolerated = strategy_failed(self, stage, run);
        if self.pause(stage).is_some() {
            return;
        }
        let is_barred = |fleet: &Self, run: &Run| fleet.barred(stage, run.candidate).is_some();
        let window = run.map_or(Ok(()), |run| self.windows(stage, run));
        let is_open = match window {
            Ok(()) => true,
            // What has begun ends. A run that waits for the window does not begin here.
            Err((_, Overrun::Finish)) => run.is_some_and(|run| run.phase.gives() && !run.phase.is_over()),
            Err(_) => false,
        };
        if !is_open {
            return;
        }
        self.give_pinned(stage, tolerated, &mut free);
        let gives = run.filter(|run| run.phase.gives() && !is_barred(self, run));
        let too_many_failed = gives.is_some_and(|run| {
            let goes_on = matches!(run.phase, crate::run::Phase::Failed { goes_on: true, .. });
            !goes_on && self.tally(stage, run).failed > tolerated
        });
        let mut pending = Vec::new();
        for at in self.members[stage].clone() {
            if self.hold(at).is_some() || self.part(at).back.is_some() {
                continue;
            }
            if let Some(target) = self.catch_up(stage, at, run, gives.is_some(), wanted) {
                if free > 0 && self.part(at).status != Status::InFlight && self.is_online(at) {
                    self.hand(at, target, run.map_or(0, |run| run.number), &mut free);
                }
                continue;
            }
            self.want_run(at, run, wanted);
            let Some(run) = gives.filter(|_| !too_many_failed) else { continue };
            let place = self.place(at, run.seq, &run.spec.strategy.offline);
            if place == Place::Pending && self.part(at).status != Status::InFlight {
                pending.push(at);
            } else if place != Place::Pending && place != Place::Held {
                self.renew(at, run);
            }
        }
        let Some(run) = gives else { return };
        // What is healthy there already costs nobody anything.
        pending.retain(|at| {
            let report = self.cluster(*at).report.as_ref();
            let runs = report.filter(|report| report.health == Health::Healthy).map(|report| report.digest);
            let want = self.part(*at).want(run.seq);
            match want {
                Ok(want) if want.digest.is_some() && want.digest == runs => {
                    self.take_over(*at, want, run);
                    false
                }
                _ => true,
            }
        });
        if free == 0 {
            return;
        }
        self.sort(&mut pending, run);
        for at in pending {
            if free == 0 {
                return;
            }
            if let Ok(want) = self.part(at).want(run.seq) {
                self.hand(at, want, run.number, &mut free);
            }
        }
    }

    fn is_online(&self, at: usize) -> bool {
        matches!(self.cluster(at).link, Link::Online { .. })
    }

    fn hand(&mut self, at: usize, want: Want, run: u64, free: &mut usize) {
        let now = self.now;
        let part = &mut self.state.parts[at];
        part.give(want.base, want.units, want.digest, run, now);
        *free = free.saturating_sub(1);
        let candidate = want.base.candidate;
        // A hotfix that this candidate has, or overtakes, is over.
        let seq = self.seq_at(at, candidate);
        self.end_hotfixes(at, seq);
    }

    /// A cluster that reports this digest already has it: nothing is in flight.
    pub(crate) fn take_over(&mut self, at: usize, want: Want, run: &Run) {
        let now = self.now;
        let part = &mut self.state.parts[at];
        part.give(want.base, want.units, want.digest, run.number, now);
        // How it stands is read from the report that said so.
        crate::align::report(self, at);
        self.end_hotfixes(at, run.seq);
    }

    /// A cluster that is on the candidate by its digest, through another one: its units are named anew.
    fn renew(&mut self, at: usize, run: &Run) {
        let part = &self.state.parts[at];
        let Some(assignment) = part.assignment.as_ref().filter(|given| !given.units.is_empty()) else {
            return;
        };
        let Ok(want) = part.want(run.seq) else { return };
        if !want.units.is_empty() || !part.is_on(&want) {
            return;
        }
        let revision = assignment.revision;
        let assignment = Assignment { revision, base: want.base, units: want.units };
        let part = &mut self.state.parts[at];
        part.assignment = Some(Arc::new(assignment));
        part.dirty = true;
        self.end_hotfixes(at, run.seq);
    }

    fn end_hotfixes(&mut self, at: usize, seq: u64) {
        let part = &self.state.parts[at];
        let over: Vec<_> = part.pins.iter().filter(|pin| !part.outlives(pin.why, seq)).cloned().collect();
        if over.is_empty() {
            return;
        }
        for pin in &over {
            let PinKind::Hotfix { digest, .. } = pin.why else { continue };
            let has = self.part(at).unit(seq, &pin.unit);
            let what = if has.is_some() && has == digest { "has" } else { "overtakes" };
            let text = format!("what it is given {what} the hotfix of {}", pin.unit);
            self.cluster_event(EventKind::Cluster, at, text);
        }
        let part = &mut self.state.parts[at];
        part.pins.retain(|pin| !over.contains(pin));
        part.dirty = true;
    }

    /// Clusters that go back: those that failed first, then the others, the last one first.
    fn give_back(&mut self, stage: usize, free: &mut usize) {
        let mut going: Vec<usize> =
            self.members[stage].iter().copied().filter(|at| self.part(*at).back.is_some()).collect();
        going.sort_by_key(|at| {
            let part = self.part(*at);
            (
                !matches!(part.status, Status::Failed { .. }),
                std::cmp::Reverse(part.given_at),
                std::cmp::Reverse(*at),
            )
        });
        for at in going {
            // One that is in flight has its place already: it goes back within it.
            let is_in_flight = self.part(at).status == Status::InFlight;
            if !self.is_online(at) || *free == 0 && !is_in_flight {
                continue;
            }
            let now = self.now;
            let part = &mut self.state.parts[at];
            let Some(back) = part.back.take() else { continue };
            part.dirty = true;
            // Going back is from a hotfix too.
            part.pins.retain(|pin| {
                pin.why == PinKind::Held
                    || back.units.iter().any(|(unit, pick)| *unit == pin.unit && *pick == pin.pick)
            });
            let is_there = part
                .assignment
                .as_ref()
                .is_some_and(|given| given.base == back.base && given.units == back.units);
            if is_there {
                continue;
            }
            let digest = part.digest_of(&back);
            let run = part.run;
            part.give(back.base, back.units.clone(), digest, run, now);
            if !is_in_flight {
                *free -= 1;
            }
            let text = format!("goes back to {}", back.base.candidate);
            self.cluster_event(EventKind::RolledBack, at, text);
        }
    }

    /// Units that were pinned or let go: the cluster keeps its candidate, and gets them.
    fn give_pinned(&mut self, stage: usize, tolerated: usize, free: &mut usize) {
        let failed = self.members[stage].iter().filter(|at| {
            let part = self.part(**at);
            matches!(part.status, Status::Failed { .. })
                && part.pins.iter().any(|pin| pin.why != PinKind::Held)
        });
        if failed.count() > tolerated {
            return;
        }
        for at in self.members[stage].clone() {
            let part = self.part(at);
            let Some(assignment) = &part.assignment else { continue };
            let units = part.pinned(self.seq_at(at, assignment.base.candidate));
            let is_free = *free > 0 && part.status != Status::InFlight && self.is_online(at);
            if units == assignment.units || !is_free || part.back.is_some() || self.hold(at).is_some() {
                continue;
            }
            let (base, run) = (assignment.base, part.run);
            let seq = self.seq_at(at, base.candidate);
            let digest = if units.is_empty() { part.shape(seq).and_then(Shape::digest) } else { None };
            self.hand(at, Want { base, units, digest }, run, free);
        }
    }

    /// What a cluster is to get before it takes part in its stage's run: what passed the stage last, where it came new, came from
    /// a stage further up, or was away.
    fn catch_up(
        &self,
        stage: usize,
        at: usize,
        run: Option<&Run>,
        gives: bool,
        wanted: &mut Vec<(flotilla_core::ClusterName, CandidateId)>,
    ) -> Option<Want> {
        let passed = self.state.head.stages[stage].passed()?.candidate;
        let part = self.part(at);
        let current = run.map(|run| run.candidate);
        let seq = self.state.seq(passed);
        if current == Some(passed) {
            if part.shape(seq).is_none() {
                wanted.push((part.name.clone(), passed));
            }
            return None;
        }
        let join = run.map_or(self.pipeline.stages[stage].strategy.join, |run| run.spec.strategy.join);
        let is_behind = match &part.assignment {
            None => !gives || join == Join::LastPassed,
            Some(given) => {
                let of = given.base.candidate;
                let seq_of = self.seq_at(at, of);
                let is_ahead = part.moved && seq_of > seq && !self.is_cleared(stage, of);
                is_ahead || !gives && seq_of < seq && Some(of) != current
            }
        };
        let is_lost = part.status == Status::Nothing && part.assignment.is_some() && !gives;
        if !is_behind && !is_lost {
            return None;
        }
        match part.want(seq) {
            Ok(want) if want.digest.is_some_and(|digest| part.failed.contains(&digest)) => None,
            Ok(want) if part.is_on(&want) => None,
            Ok(want) => Some(want),
            Err(lack) => {
                if lack == Lack::NotDefined || self.state.head.newest != Some(passed) {
                    wanted.push((part.name.clone(), passed));
                }
                None
            }
        }
    }

    /// What could not be rendered when it was the newest may be rendered now. The newest itself is, with each change.
    fn want_run(
        &self,
        at: usize,
        run: Option<&Run>,
        wanted: &mut Vec<(flotilla_core::ClusterName, CandidateId)>,
    ) {
        let part = self.part(at);
        let goes_on = |run: &&Run| run.phase.gives() || run.phase == crate::run::Phase::Before;
        let Some(run) = run.filter(goes_on) else { return };
        if self.state.head.newest != Some(run.candidate)
            && part.shape(run.seq).is_some_and(|shape| shape.content.is_none())
        {
            wanted.push((part.name.clone(), run.candidate));
        }
    }

    fn sort(&self, pending: &mut [usize], run: &Run) {
        match &run.spec.strategy.order {
            Order::Name => {}
            Order::Label(label) => pending.sort_by_cached_key(|at| {
                let value = self.cluster(*at).labels.as_ref().and_then(|labels| labels.get(label));
                let number = value.and_then(|value| value.parse::<i64>().ok());
                (value.is_none(), number.is_none(), number, value.cloned(), *at)
            }),
            Order::Spread => pending.sort_by_cached_key(|at| {
                Digest::of_parts([&run.candidate.0.as_bytes()[..], self.part(*at).name.as_str().as_bytes()])
            }),
        }
    }
}

fn strategy_failed(fleet: &Fleet<'_>, stage: usize, run: Option<&Run>) -> usize {
    match run {
        Some(run) => run.spec.strategy.max_failed.at_most_of(run.of),
        None => fleet.pipeline.stages[stage].strategy.max_failed.at_most_of(fleet.members[stage].len()),
    }
}
