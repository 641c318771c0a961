//! One stage's way with candidates: which one it admits, when its run begins, fails and has passed.

use flotilla_core::{Digest, UnitId};

use crate::fleet::{Fleet, Place};
use crate::gates::Blocked;
use crate::outcome::{EventKind, Measure};
use crate::request::Barred;
use crate::run::{Passage, Passed, Phase, Run};
use crate::spec::OnFailure;
use crate::state::{CandidateId, Failure, Shape, Standing, StandingKind, Status};
use crate::text::time;
use crate::window::Overrun;

/// How many rejections are remembered. Those of people are counted apart, and refused when there are too many.
const MAX_REJECTED: usize = 512;
/// How many of the units that failed are rejected by their digests.
const MAX_REJECTED_UNITS: usize = 32;
/// How many begins of runs are remembered for windows.
const MAX_STARTS: usize = 1000;

/// How the clusters of a stage stand on its candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Tally {
    pub(crate) inside: usize,
    pub(crate) healthy: usize,
    pub(crate) unsettled: usize,
    pub(crate) in_flight: usize,
    pub(crate) failed: usize,
    pub(crate) skipped: usize,
    pub(crate) held: usize,
    pub(crate) away: usize,
    pub(crate) not_rendered: usize,
    pub(crate) pending: usize,
    /// Since when the last of them is healthy.
    pub(crate) since: Option<i64>,
}

impl Fleet<'_> {
    pub(crate) fn tally(&self, stage: usize, run: &Run) -> Tally {
        let mut tally = Tally::default();
        for at in &self.members[stage] {
            let place = self.place(*at, run.seq, &run.spec.strategy.offline);
            tally.inside += usize::from(place != Place::Outside);
            match place {
                Place::Outside => {}
                Place::NotRendered => tally.not_rendered += 1,
                Place::Held => tally.held += 1,
                Place::Healthy { since, away } => {
                    tally.healthy += 1;
                    tally.away += usize::from(away);
                    tally.since = tally.since.max(Some(since));
                }
                Place::Unsettled => tally.unsettled += 1,
                Place::InFlight => tally.in_flight += 1,
                Place::Failed => tally.failed += 1,
                Place::Skipped => tally.skipped += 1,
                Place::Away => tally.away += 1,
                Place::Pending => tally.pending += 1,
            }
        }
        tally
    }

    /// The newest candidate that may enter a stage: what passed the stage before it, or was let past it by name.
    pub(crate) fn cleared(&self, stage: usize) -> Option<CandidateId> {
        if stage == 0 {
            return self.state.head.newest;
        }
        let before = &self.state.head.stages[stage - 1];
        let passed = before.passed().map(|passage| passage.candidate);
        let overridden = self.state.head.standing.iter().filter_map(|standing| match &standing.what {
            StandingKind::Override { stage: name, candidate } if *name == before.name => Some(*candidate),
            _ => None,
        });
        let overridden = overridden.filter(|candidate| self.is_cleared(stage - 1, *candidate));
        passed.into_iter().chain(overridden).max_by_key(|candidate| self.state.seq(*candidate))
    }

    /// Whether a candidate passed every stage before this one, or was let past it by name.
    pub(crate) fn is_cleared(&self, stage: usize, candidate: CandidateId) -> bool {
        self.state.head.stages[..stage].iter().all(|before| {
            before.has_passed(candidate)
                || self.state.head.standing.iter().any(|standing| {
                    matches!(&standing.what, StandingKind::Override { stage, candidate: of }
                        if *stage == before.name && *of == candidate)
                })
        })
    }

    /// What bars a candidate from a stage.
    pub(crate) fn barred(&self, stage: usize, candidate: CandidateId) -> Option<&Standing> {
        let seq = self.state.seq(candidate);
        let name = &self.pipeline.stages[stage].name;
        self.state.head.standing.iter().find(|standing| {
            let StandingKind::Bar { what, stage: of } = &standing.what else { return false };
            let is_here = of.as_ref().is_none_or(|of| of == name);
            is_here
                && match what {
                    Barred::Candidate(id) => *id == candidate,
                    what => self.members[stage].iter().any(|at| self.part(*at).has_barred(seq, what)),
                }
        })
    }

    /// Brings a stage as far as it comes.
    pub(crate) fn advance(&mut self, stage: usize, measure: &mut Vec<Measure>) {
        // A pass lets the next candidate in, which may pass at once.
        for _ in 0..4 {
            let admitted = self.admit(stage);
            let Some(mut run) = self.state.head.stages[stage].run.take() else { return };
            let before = run.clone();
            self.run(stage, &mut run, measure);
            let is_changed = run != before;
            let has_passed = run.phase == Phase::Passed && before.phase != Phase::Passed;
            self.head_changed |= admitted || is_changed;
            self.state.head.stages[stage].run = Some(run);
            if !admitted && !has_passed {
                return;
            }
        }
    }

    /// Begins a run of the newest candidate that is cleared, if the stage is free for it.
    fn admit(&mut self, stage: usize) -> bool {
        let last = self.state.head.stages[stage].run.as_ref();
        let (last_seq, is_free) = match last {
            Some(run) => (run.seq, run.phase.is_over()),
            None => (0, true),
        };
        let passed = self.state.head.stages[stage].passed().map(|passage| self.state.seq(passage.candidate));
        let after = last_seq.max(passed.unwrap_or(0));
        let Some(next) = self.cleared(stage).filter(|id| self.state.seq(*id) > after) else {
            self.note_waiting(stage, None);
            return false;
        };
        let supersedes = last.is_some_and(|run| run.spec.strategy.supersede);
        let is_blocked = self.stage_hold(stage).is_some() || self.pause(stage).is_some();
        if !is_free && !supersedes || is_blocked || self.barred(stage, next).is_some() {
            self.note_waiting(stage, Some(next));
            return false;
        }
        if let Some(run) = last.filter(|run| !run.phase.is_over()) {
            let old = run.candidate;
            self.event(
                EventKind::Superseded,
                Some(stage),
                Some(old),
                format!("{next} takes the place of {old}"),
            );
        }
        self.note_waiting(stage, None);
        self.begin(stage, next);
        true
    }

    /// Names a candidate whose place in the queue another one took.
    fn note_waiting(&mut self, stage: usize, next: Option<CandidateId>) {
        let was = self.state.head.stages[stage].waiting;
        if was == next {
            return;
        }
        let entered = self.state.head.stages[stage].run.as_ref().map(|run| run.candidate);
        if let (Some(was), Some(next)) = (was, next)
            && entered != Some(was)
        {
            let text = format!("{next} takes the place of {was}, which waited");
            self.event(EventKind::Superseded, Some(stage), Some(was), text);
        }
        self.state.head.stages[stage].waiting = next;
        self.head_changed = true;
    }

    fn begin(&mut self, stage: usize, candidate: CandidateId) {
        let seq = self.state.seq(candidate);
        self.state.head.runs += 1;
        let of = self.inside(stage, seq);
        let mut run = Run {
            number: self.state.head.runs,
            candidate,
            seq,
            spec: self.pipeline.stages[stage].clone(),
            begun: self.now,
            of,
            phase: Phase::Before,
            at: self.now,
            question: None,
            approvals: Vec::new(),
            checks: Default::default(),
            sent_back: false,
        };
        run.question = self.question(stage, &run, true);
        if self.joined(stage).is_err() {
            // It waits, and is looked at again when a cluster joins.
        } else if of == 0 {
            self.pass(stage, &mut run, Passed::Empty);
        } else if self.is_unchanged(stage, seq) {
            self.pass(stage, &mut run, Passed::Unchanged);
        }
        self.state.head.stages[stage].run = Some(run);
    }

    /// How many clusters of a stage a candidate is for.
    fn inside(&self, stage: usize, seq: u64) -> usize {
        self.members[stage].iter().filter(|at| self.part(**at).shape(seq).is_some()).count()
    }

    /// Whether every cluster of a stage would run what it ran when the stage last passed.
    fn is_unchanged(&self, stage: usize, seq: u64) -> bool {
        self.members[stage].iter().all(|at| {
            let part = self.part(*at);
            match part.shape(seq) {
                None => true,
                Some(shape) => part.passed.is_some() && shape.digest() == part.passed,
            }
        })
    }

    fn run(&mut self, stage: usize, run: &mut Run, measure: &mut Vec<Measure>) {
        match run.phase {
            Phase::Before => {
                // People agreed to what they were shown: clusters that came since, or could not be rendered, may get something else.
                if run.question.is_some() {
                    run.question = self.question(stage, run, true);
                }
                self.measure(run, true, measure);
                if self.barred(stage, run.candidate).is_some() {
                    self.fail_barred(stage, run);
                } else if self.before(stage, run).is_ok() {
                    self.start(stage, run);
                    self.rolling(stage, run, measure);
                }
            }
            Phase::Rolling | Phase::After => self.rolling(stage, run, measure),
            Phase::Passed | Phase::Failed { .. } | Phase::Aborted { .. } => {}
        }
    }

    /// What a run waits for before the first cluster gets its candidate.
    pub(crate) fn before(&self, stage: usize, run: &Run) -> Result<(), Blocked> {
        if let Some(hold) = self.stage_hold(stage) {
            return Err(Blocked::new(format!("held{}", hold.said()), hold.until));
        }
        if let Some(pause) = self.pause(stage) {
            return Err(Blocked::new(format!("paused{}", pause.said()), pause.until));
        }
        self.joined(stage)?;
        self.windows(stage, run).map_err(|(blocked, _)| blocked)?;
        let since = match stage.checked_sub(1) {
            Some(before) => self.healthy_since(before),
            None => Some(i64::MIN / 2),
        };
        self.gates(run, &run.spec.before, since)
    }

    fn start(&mut self, stage: usize, run: &mut Run) {
        run.phase = Phase::Rolling;
        run.at = self.now;
        // Clusters may have joined while it waited.
        run.of = self.inside(stage, run.seq);
        let starts = &mut self.state.head.stages[stage].starts;
        if !run.sent_back {
            starts.push(self.now);
            let surplus = starts.len().saturating_sub(MAX_STARTS);
            starts.drain(..surplus);
        }
        let text = format!("{} begins in stage {}", run.candidate, run.spec.name);
        self.event(EventKind::Started, Some(stage), Some(run.candidate), text);
    }

    fn rolling(&mut self, stage: usize, run: &mut Run, measure: &mut Vec<Measure>) {
        if self.barred(stage, run.candidate).is_some() {
            return self.fail_barred(stage, run);
        }
        let tally = self.tally(stage, run);
        let tolerated = run.spec.strategy.max_failed.at_most_of(run.of);
        if tally.failed > tolerated {
            let text = format!("{} of {} clusters failed, and {tolerated} may", tally.failed, run.of);
            return self.fail(stage, run, text);
        }
        if let Err((_, Overrun::Rollback)) = self.windows(stage, run) {
            return self.send_back(stage, run);
        }
        let is_settled = tally.pending + tally.in_flight + tally.unsettled + tally.away == 0
            && tally.failed + tally.not_rendered <= tolerated;
        if !is_settled {
            if tally.pending > 0 && run.phase == Phase::After {
                run.phase = Phase::Rolling;
            }
            return;
        }
        if self.joined(stage).is_err() {
            return;
        }
        if tally.inside == 0 {
            return self.pass(stage, run, Passed::Empty);
        }
        if tally.healthy == 0 {
            if tally.failed > 0 && tally.skipped + tally.held == 0 {
                self.fail(stage, run, format!("all {} clusters failed", tally.failed));
            }
            return;
        }
        if run.phase == Phase::Rolling {
            run.phase = Phase::After;
            run.at = self.now;
            run.question = self.question(stage, run, false);
        }
        self.measure(run, false, measure);
        match self.gates(run, &run.spec.after, tally.since) {
            Ok(()) if self.pause(stage).is_none() && self.stage_hold(stage).is_none() => {
                let without = tally.inside - tally.healthy;
                self.pass(stage, run, Passed::Tested { healthy: tally.healthy, without });
            }
            Ok(()) => {}
            Err(blocked) if blocked.is_final => self.fail(stage, run, blocked.text),
            Err(_) => {}
        }
    }

    pub(crate) fn pass(&mut self, stage: usize, run: &mut Run, how: Passed) {
        run.phase = Phase::Passed;
        run.at = self.now;
        let name = &run.spec.name;
        let text = match how {
            Passed::Tested { healthy, without: 0 } => {
                format!("{} passed {name} on {healthy} clusters", run.candidate)
            }
            Passed::Tested { healthy, without } => {
                format!(
                    "{} passed {name} on {healthy} clusters, without {without} that failed, are held or away",
                    run.candidate
                )
            }
            Passed::Unchanged => {
                format!("{} changes nothing in {name}: it passed and was not tested there", run.candidate)
            }
            Passed::Empty => {
                format!("{name} has no clusters: {} passed and was not tested there", run.candidate)
            }
            Passed::Adopted => format!("the clusters of {name} run {} already", run.candidate),
        };
        self.event(EventKind::Passed, Some(stage), Some(run.candidate), text);
        let passage = Passage { candidate: run.candidate, at: self.now, how };
        let state = &mut self.state.head.stages[stage];
        state.history.retain(|passage| passage.candidate != run.candidate);
        state.history.push(passage);
        for at in self.members[stage].clone() {
            let part = &mut self.state.parts[at];
            let digest = part.shape(run.seq).and_then(Shape::digest);
            if digest.is_some() && part.passed != digest {
                part.passed = digest;
                part.dirty = true;
            }
        }
    }

    /// Somebody barred what is under way.
    fn fail_barred(&mut self, stage: usize, run: &mut Run) {
        let text =
            self.barred(stage, run.candidate).map(|bar| format!("{} is barred{}", run.candidate, bar.said()));
        let text = text.unwrap_or_default();
        self.over(stage, run, text, false);
    }

    /// The candidate has failed: it is remembered, and what the stage says happens.
    fn fail(&mut self, stage: usize, run: &mut Run, text: String) {
        self.reject(stage, run, &text);
        let goes_on = run.spec.strategy.on_failure == OnFailure::Continue;
        self.over(stage, run, text, goes_on);
        if run.spec.strategy.on_failure == OnFailure::Rollback {
            self.go_back(stage, run.number);
        }
    }

    fn over(&mut self, stage: usize, run: &mut Run, text: String, goes_on: bool) {
        let event = format!("{} failed in {}: {text}", run.candidate, run.spec.name);
        self.event(EventKind::Failed, Some(stage), Some(run.candidate), event);
        run.phase = Phase::Failed { text, goes_on };
        run.at = self.now;
    }

    /// Remembers what failed: the candidate, and the units that failed with what it changed in them.
    fn reject(&mut self, stage: usize, run: &Run, text: &str) {
        let mut units: Vec<(UnitId, Digest)> = Vec::new();
        for at in &self.members[stage] {
            let part = self.part(*at);
            let Status::Failed { why: Failure::Reported(failed), .. } = &part.status else { continue };
            if part.run != run.number {
                continue;
            }
            // What failed and was so before is no reason to bar what comes.
            for (unit, digest) in failed {
                let is_changed = part.unit(run.seq, unit) == Some(*digest)
                    && part.assignment.as_ref().is_some_and(|given| given.base.candidate == run.candidate);
                if is_changed && !units.contains(&(unit.clone(), *digest)) && units.len() < MAX_REJECTED_UNITS
                {
                    units.push((unit.clone(), *digest));
                }
            }
        }
        let name = run.spec.name.clone();
        let barred = units.into_iter().map(|(unit, digest)| Barred::Unit(unit, digest));
        for what in [Barred::Candidate(run.candidate)].into_iter().chain(barred) {
            let what = StandingKind::Bar { what, stage: Some(name.clone()) };
            if !self.state.head.standing.iter().any(|standing| standing.what == what) {
                let standing =
                    Standing { what, by: None, reason: text.to_owned(), at: self.now, until: None };
                self.state.head.standing.push(standing);
            }
        }
        let is_rejection = |standing: &Standing| standing.by.is_none();
        let surplus = self.state.head.standing.iter().filter(|one| is_rejection(one)).count();
        let mut surplus = surplus.saturating_sub(MAX_REJECTED);
        self.state.head.standing.retain(|standing| {
            let goes = surplus > 0 && is_rejection(standing);
            surplus -= usize::from(goes);
            !goes
        });
    }

    /// A window closed that wants what is unfinished gone until it opens again.
    fn send_back(&mut self, stage: usize, run: &mut Run) {
        run.phase = Phase::Before;
        run.at = self.now;
        run.sent_back = true;
        run.question = self.question(stage, run, true);
        let text = format!(
            "the window closed on {} in {}: its clusters go back until it opens",
            run.candidate, run.spec.name
        );
        self.event(EventKind::RolledBack, Some(stage), Some(run.candidate), text);
        self.go_back(stage, run.number);
    }

    /// Sends every cluster back to what it was healthy on before, that was given something in this run.
    fn go_back(&mut self, stage: usize, run: u64) {
        for at in self.members[stage].clone() {
            // What somebody holds stays, whatever fails.
            let is_of_run = self.part(at).run == run && self.part(at).assignment.is_some();
            if is_of_run && self.hold(at).is_none() {
                let back = self.part(at).last_healthy();
                let part = &mut self.state.parts[at];
                part.back = back;
                part.dirty = true;
            }
        }
    }

    /// What a stage waits for, or how its run ended, in a sentence.
    pub(crate) fn stage_text(&self, stage: usize, run: &Run) -> (String, Option<i64>) {
        let (candidate, name) = (run.candidate, &run.spec.name);
        match &run.phase {
            Phase::Before => match self.before(stage, run) {
                Ok(()) => (format!("{candidate} begins in {name}"), Some(self.now)),
                Err(blocked) => (format!("{candidate} waits before {name}: {}", blocked.text), blocked.next),
            },
            Phase::Passed => {
                let how = self.state.head.stages[stage].passed().map(|passage| passage.how);
                let text = match how {
                    Some(Passed::Unchanged) => "; it changes nothing there, and was not tested",
                    Some(Passed::Empty) => "; there is no cluster in it, and nothing was tested",
                    Some(Passed::Adopted) => "; all of it ran there already",
                    _ => "",
                };
                (format!("{candidate} passed {name} at {}{text}", time(run.at)), None)
            }
            Phase::Failed { text, .. } => {
                let barred =
                    format!("{candidate} failed in {name}: {text}; a newer candidate, or `retry`, goes on");
                (barred, None)
            }
            Phase::Aborted { text } => (format!("{candidate} was aborted in {name}{text}"), None),
            Phase::Rolling | Phase::After => self.rolling_text(stage, run),
        }
    }

    fn rolling_text(&self, stage: usize, run: &Run) -> (String, Option<i64>) {
        let tally = self.tally(stage, run);
        let (candidate, name) = (run.candidate, &run.spec.name);
        let head = format!(
            "{candidate} rolls out in {name}: {} of {} clusters are healthy",
            tally.healthy, tally.inside
        );
        if let Some(hold) = self.stage_hold(stage) {
            return (format!("{head}; held{}", hold.said()), hold.until);
        }
        if let Some(pause) = self.pause(stage) {
            return (format!("{head}; paused{}", pause.said()), pause.until);
        }
        if let Err(blocked) = self.joined(stage) {
            return (format!("{head}; {}", blocked.text), blocked.next);
        }
        if tally.pending > 0
            && let Err((blocked, Overrun::Pause)) = self.windows(stage, run)
        {
            return (format!("{head}; {}", blocked.text), blocked.next);
        }
        let waits = [
            (tally.pending, "wait their turn"),
            (tally.in_flight, "are in flight"),
            (tally.unsettled, "are not healthy any more"),
            (tally.away, "are not connected"),
            (tally.not_rendered, "cannot be rendered"),
            (tally.failed, "failed"),
            (tally.skipped, "are written off"),
            (tally.held, "are held"),
        ];
        let waits: Vec<String> = waits
            .iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, what)| format!("{count} {what}"))
            .collect();
        if run.phase == Phase::After
            && let Err(blocked) = self.gates(run, &run.spec.after, tally.since)
        {
            return (format!("{candidate} runs in {name} and {}", blocked.text), blocked.next);
        }
        let text = if waits.is_empty() { head } else { format!("{head}; {}", waits.join(", ")) };
        (text, None)
    }
}
