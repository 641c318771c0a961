//! What follows for each cluster and each stage, and why: the sentences that people read.

use std::sync::Arc;

use flotilla_core::ClusterName;

use crate::fleet::{Fleet, Lack};
use crate::outcome::{Counts, Decision, Question, Reason, StagePhase, StageStatus};
use crate::run::{Phase, Run};
use crate::spec::Gates;
use crate::state::{Failure, Status};
use crate::text::time;
use crate::world::Link;

impl Fleet<'_> {
    pub(crate) fn decide(&self) -> (Vec<Decision>, Vec<StageStatus>, Vec<ClusterName>, Option<i64>) {
        let stages: Vec<StageStatus> =
            (0..self.pipeline.stages.len()).map(|stage| self.stage_status(stage)).collect();
        let waits: Vec<Reason> =
            (0..self.pipeline.stages.len()).map(|stage| self.wait(stage, &stages)).collect();
        let mut unmatched = Vec::new();
        let mut decisions = Vec::with_capacity(self.state.parts.len());
        for at in 0..self.state.parts.len() {
            let has_units = self.cluster(at).newest.as_ref().is_none_or(|newest| !newest.units().is_empty());
            if self.stage_of[at].is_none() && has_units {
                unmatched.push(self.part(at).name.clone());
            }
            decisions.push(self.decision(at, &waits));
        }
        let next = self.next(&stages);
        (decisions, stages, unmatched, next)
    }

    fn decision(&self, at: usize, waits: &[Reason]) -> Decision {
        let part = self.part(at);
        let stage = self.stage_of[at];
        Decision { choice: part.choice(), stage, reason: self.reason(at, waits) }
    }

    /// Why a cluster does not run the newest, healthy.
    fn reason(&self, at: usize, waits: &[Reason]) -> Option<Reason> {
        let part = self.part(at);
        part.stage.as_ref()?;
        let say = |text: String, next: Option<i64>| Some(Reason { text: text.into(), next });
        let Some(stage) = self.stage_of[at] else {
            return say(
                format!("is in no stage of pipeline {} any more, and keeps what it has", self.pipeline.name),
                None,
            );
        };
        let seq = self.state.head.newest.map_or(0, |newest| self.state.seq(newest));
        let want = part.want(seq);
        let is_on = want.as_ref().is_ok_and(|want| part.is_on(want));
        let has_pins = !part.pins.is_empty();
        if is_on && !has_pins && matches!(part.status, Status::Healthy { .. }) {
            return None;
        }
        let strategy = self.strategy(stage);
        match self.cluster(at).link {
            Link::NeverEnrolled => return say("has never connected".to_owned(), None),
            Link::Offline { since } => {
                let end = since + strategy.offline.after;
                let (then, next) = match (&part.status, end > self.now) {
                    (Status::WrittenOff, _) => (": the stage goes on without it".to_owned(), None),
                    (_, true) => (format!(", and is waited for until {}", time(end)), Some(end)),
                    (_, false) => match strategy.offline.then {
                        crate::spec::WhenOffline::Wait => (", and is waited for".to_owned(), None),
                        crate::spec::WhenOffline::Skip => (": the stage goes on without it".to_owned(), None),
                        crate::spec::WhenOffline::Fail => (": it counts as failed".to_owned(), None),
                    },
                };
                return say(format!("is not connected since {}{then}", time(since)), next);
            }
            Link::Online { .. } => {}
        }
        if let Some(back) = &part.back {
            return say(format!("goes back to {} in its turn", back.base.candidate), None);
        }
        let has = part.assignment.as_ref().map(|given| given.base.candidate.to_string()).unwrap_or_default();
        match &part.status {
            Status::InFlight => {
                let next = strategy.progress_deadline.map(|deadline| part.given_at + deadline);
                let deadline = next.map(|at| format!(", and has until {}", time(at))).unwrap_or_default();
                return say(
                    format!(
                        "was given {has} at {} and is not healthy on it yet{deadline}",
                        time(part.given_at)
                    ),
                    next,
                );
            }
            Status::Failed { since, why } => {
                let why = match why {
                    Failure::Reported(units) if units.is_empty() => String::new(),
                    Failure::Reported(units) => format!(": {}", crate::align::names(units)),
                    Failure::Deadline => ": not healthy before the deadline".to_owned(),
                    Failure::Offline => ": away for too long".to_owned(),
                };
                let wait = if is_on { String::new() } else { format!("; {}", waits[stage].text) };
                return say(format!("failed on {has} at {}{why}{wait}", time(*since)), None);
            }
            Status::Unsettled { since } if is_on => {
                let next = strategy.progress_deadline.map(|deadline| since + deadline);
                return say(format!("is not healthy on {has} any more since {}", time(*since)), next);
            }
            _ => {}
        }
        if let Some(hold) = self.hold(at) {
            return say(format!("held{}", hold.said()), hold.until);
        }
        if want == Err(Lack::NotRendered) {
            return say(
                "cannot be rendered by the newest commit: see the problems of its units".to_owned(),
                None,
            );
        }
        if is_on && has_pins || part.has_held_pins() {
            let units: Vec<String> =
                part.pins.iter().map(|pin| format!("{} of {}", pin.unit, pin.pick.candidate)).collect();
            return say(format!("has {} apart from the rest", units.join(", ")), None);
        }
        Some(waits[stage].clone())
    }

    fn strategy(&self, stage: usize) -> &crate::spec::Strategy {
        let run = self.state.head.stages[stage].run.as_ref();
        run.map_or(&self.pipeline.stages[stage].strategy, |run| &run.spec.strategy)
    }

    /// What the clusters of a stage wait for that do not have the newest.
    fn wait(&self, stage: usize, stages: &[StageStatus]) -> Reason {
        let say = |text: String, next: Option<i64>| Reason { text: text.into(), next };
        let Some(newest) = self.state.head.newest else {
            return say("there is no candidate yet".to_owned(), None);
        };
        // The first stage that did not let it through.
        let at = (0..stage).find(|before| !self.is_cleared(before + 1, newest)).unwrap_or(stage);
        let name = &self.pipeline.stages[at].name;
        let status = &stages[at];
        if status.candidate == Some(newest) {
            return Reason { text: status.text.clone(), next: status.next };
        }
        if let Some(bar) = self.barred(at, newest) {
            return say(format!("{newest} is barred from {name}{}", bar.said()), bar.until);
        }
        if let Some(hold) = self.stage_hold(at) {
            return say(format!("{newest} waits before {name}: held{}", hold.said()), hold.until);
        }
        if let Some(pause) = self.pause(at) {
            return say(format!("{newest} waits before {name}: paused{}", pause.said()), pause.until);
        }
        say(format!("{newest} waits before {name}: {}", status.text), status.next)
    }

    fn stage_status(&self, stage: usize) -> StageStatus {
        let state = &self.state.head.stages[stage];
        let run = state.run.as_ref();
        let (text, next) = match run {
            Some(run) => self.stage_text(stage, run),
            None => (format!("{} has no candidate yet", state.name), None),
        };
        let waiting = self.cleared(stage).filter(|next| {
            let seq = run.map_or(0, |run| run.seq);
            self.state.seq(*next) > seq
        });
        let is_asked = run.filter(|run| !run.phase.is_over());
        let never_enrolled =
            |at: &usize| self.stage_of[*at] == Some(stage) && self.cluster(*at).link == Link::NeverEnrolled;
        StageStatus {
            name: state.name.clone(),
            phase: phase(run),
            candidate: run.map(|run| run.candidate),
            passed: state.passed().map(|passage| passage.candidate),
            waiting,
            counts: run.map(|run| self.counts(stage, run)).unwrap_or_default(),
            text: Arc::from(text),
            next,
            question: is_asked.and_then(|run| self.asked(run)),
            window: self.window_status(stage, run),
            never_enrolled: (0..self.state.parts.len())
                .filter(never_enrolled)
                .map(|at| self.part(at).name.clone())
                .collect(),
        }
    }

    fn counts(&self, stage: usize, run: &Run) -> Counts {
        let tally = self.tally(stage, run);
        Counts {
            all: tally.inside,
            healthy: tally.healthy,
            in_flight: self.in_flight(stage),
            failed: tally.failed,
            skipped: tally.skipped,
            held: tally.held,
            pending: tally.pending,
        }
    }

    fn asked(&self, run: &Run) -> Option<Question> {
        let before = run.phase == Phase::Before;
        let gates: &Gates = if before { &run.spec.before } else { &run.spec.after };
        let (approval, asked) = (gates.approval.as_ref()?, run.question.as_ref()?);
        if run.phase == Phase::Rolling {
            return None;
        }
        Some(Question {
            digest: asked.digest,
            candidate: run.candidate,
            before,
            approved_by: self.approved_by(run, approval),
            needs: approval.count,
            diffs: asked.diffs.clone(),
        })
    }

    /// When something may change by itself.
    fn next(&self, stages: &[StageStatus]) -> Option<i64> {
        let mut times: Vec<i64> = stages.iter().filter_map(|stage| stage.next).collect();
        times.extend(stages.iter().filter_map(|stage| stage.window.as_ref().and_then(|window| window.next)));
        times.extend(self.state.head.standing.iter().filter_map(|standing| standing.until));
        for run in self.state.head.stages.iter().filter_map(|stage| stage.run.as_ref()) {
            let gates = match run.phase {
                Phase::Before => &run.spec.before,
                Phase::After => &run.spec.after,
                _ => continue,
            };
            for check in &gates.checks {
                times.extend(
                    run.checks.get(&check.name).and_then(|streak| streak.asked).map(|at| at + check.every),
                );
            }
        }
        for (stage, members) in self.members.iter().enumerate() {
            let strategy = self.strategy(stage);
            for at in members {
                let part = self.part(*at);
                let deadline = strategy.progress_deadline;
                match (self.cluster(*at).link, &part.status) {
                    (Link::Offline { since }, _) => times.push(since + strategy.offline.after),
                    (Link::Online { since }, Status::InFlight) => {
                        times.extend(deadline.map(|deadline| part.given_at.max(since) + deadline));
                    }
                    (Link::Online { since }, Status::Unsettled { since: unsettled }) => {
                        times.extend(deadline.map(|deadline| since.max(*unsettled) + deadline));
                    }
                    _ => {}
                }
            }
        }
        times.into_iter().filter(|at| *at > self.now).min()
    }
}

fn phase(run: Option<&Run>) -> StagePhase {
    match run.map(|run| &run.phase) {
        None => StagePhase::Idle,
        Some(Phase::Before) => StagePhase::Waiting,
        Some(Phase::Rolling) => StagePhase::Rolling,
        Some(Phase::After) => StagePhase::Soaking,
        Some(Phase::Passed) => StagePhase::Passed,
        Some(Phase::Failed { .. }) => StagePhase::Failed,
        Some(Phase::Aborted { .. }) => StagePhase::Aborted,
    }
}
