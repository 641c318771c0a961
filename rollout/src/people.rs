//! What people ask: each is done at once, or refused with what to do instead, and answered with what happens next.

use std::sync::Arc;

use crate::fleet::Fleet;
use crate::gates::may_approve;
use crate::outcome::{Assignment, EventKind, Pick};
use crate::request::{Barred, Request, Scope, Verb};
use crate::run::{Approved, Phase};
use crate::state::{CandidateId, Part, Pin, PinKind, Standing, StandingKind, Status};
use crate::text::time;

/// How many holds, vetoes, pauses and overrides of people there may be.
const MAX_STANDING: usize = 512;
/// How many approvals of a run are remembered.
const MAX_APPROVALS: usize = 100;
/// How much of a person's reason is kept.
const MAX_REASON: usize = 500;

impl Fleet<'_> {
    pub(crate) fn request(&mut self, request: &Request) -> Result<String, String> {
        if request.until.is_some_and(|until| until <= self.now) {
            return Err("its end is in the past: name one that is to come, or none".to_owned());
        }
        let answer = self.apply(request)?;
        self.head_changed = true;
        let reason: String = request.reason.chars().take(MAX_REASON).collect();
        let why = if reason.is_empty() { String::new() } else { format!(" ({reason})") };
        self.event(EventKind::Request, None, None, format!("{}{why}: {answer}", request.actor.name));
        Ok(answer)
    }

    fn apply(&mut self, request: &Request) -> Result<String, String> {
        match &request.verb {
            Verb::Hold(scope) => self.hold_as_is(request, scope),
            Verb::Release(scope) => self.release(scope),
            Verb::Veto { what, stage } => self.veto(request, what, stage.as_ref()),
            Verb::Unveto { what, stage } => {
                let bar = StandingKind::Bar { what: what.clone(), stage: stage.clone() };
                self.lift(&bar, true)?;
                Ok(format!("{what} may go on again where it is its turn"))
            }
            Verb::Rollback(scope) => self.rollback(request, scope),
            Verb::Promote { unit, stage, candidate } => self.promote(unit, stage, *candidate),
            Verb::Override { stage, candidate } => {
                self.stage_named(stage)?;
                self.known(*candidate)?;
                let what = StandingKind::Override { stage: stage.clone(), candidate: *candidate };
                self.stand(request, what)?;
                Ok(format!(
                    "{candidate} may go on past stage {stage} without having passed it; {stage} catches up by itself"
                ))
            }
            Verb::OverrideWindow { window, stage } => self.override_window(request, window, stage.as_ref()),
            Verb::Pause { stage } => {
                self.stage_if_named(stage.as_ref())?;
                self.stand(request, StandingKind::Pause { stage: stage.clone() })?;
                Ok("nothing new is given until it is resumed; what is in flight goes on".to_owned())
            }
            Verb::Resume { stage } => {
                self.lift(&StandingKind::Pause { stage: stage.clone() }, true)?;
                Ok("it goes on where it was".to_owned())
            }
            Verb::Retry { stage } => self.retry(stage),
            Verb::Abort { stage } => self.abort(request, stage),
            Verb::Approve { stage, question } => self.approve(request, stage, *question),
            Verb::Withdraw { stage, question } => {
                let at = self.stage_named(stage)?;
                let run = self.state.head.stages[at].run.as_mut().filter(|run| !run.phase.is_over());
                let run = run.ok_or_else(|| format!("stage {stage} asks nothing now"))?;
                let before = run.approvals.len();
                run.approvals.retain(|given| given.by != request.actor.name || given.question != *question);
                if run.approvals.len() == before {
                    return Err(format!("{} gave no approval to this question", request.actor.name));
                }
                if run.phase == Phase::Rolling {
                    return Ok(
                        "the approval is taken back; it was used, and the stage goes on: `abort` ends it"
                            .to_owned(),
                    );
                }
                Ok("the approval is taken back".to_owned())
            }
        }
    }

    fn stage_named(&self, name: &str) -> Result<usize, String> {
        let found = self.pipeline.stages.iter().position(|stage| stage.name == name);
        found.ok_or_else(|| {
            let known: Vec<&str> = self.pipeline.stages.iter().map(|stage| stage.name.as_str()).collect();
            format!("pipeline {} has no stage '{name}': it has {}", self.pipeline.name, known.join(", "))
        })
    }

    fn stage_if_named(&self, name: Option<&String>) -> Result<(), String> {
        name.map_or(Ok(()), |name| self.stage_named(name).map(drop))
    }

    fn known(&self, candidate: CandidateId) -> Result<(), String> {
        let is_known = self.state.candidates.contains_key(&candidate);
        is_known.then_some(()).ok_or_else(|| format!("no candidate {candidate} is in play"))
    }

    fn scope_known(&self, scope: &Scope) -> Result<(), String> {
        self.stage_if_named(scope.stage.as_ref())?;
        if let Some(cluster) = &scope.cluster {
            let is_there = self.state.parts.iter().any(|part| part.name == *cluster && part.stage.is_some());
            if !is_there {
                return Err(format!("no stage of pipeline {} has a cluster '{cluster}'", self.pipeline.name));
            }
        }
        Ok(())
    }

    /// Notes something that holds from now on, in the place of the same thing said before.
    fn stand(&mut self, request: &Request, what: StandingKind) -> Result<(), String> {
        let is_same = |there: &StandingKind| match (there, &what) {
            (StandingKind::Hold { scope: a, .. }, StandingKind::Hold { scope: b, .. }) => a == b,
            (a, b) => a == b,
        };
        self.state.head.standing.retain(|standing| !is_same(&standing.what));
        let of_people = self.state.head.standing.iter().filter(|standing| standing.by.is_some()).count();
        if of_people >= MAX_STANDING {
            return Err(format!(
                "there are {of_people} holds, vetoes, pauses and overrides: end some that are not needed any more"
            ));
        }
        self.state.head.standing.push(Standing {
            what,
            by: Some(request.actor.name.clone()),
            reason: request.reason.chars().take(MAX_REASON).collect(),
            at: self.now,
            until: request.until,
        });
        Ok(())
    }

    fn lift(&mut self, what: &StandingKind, must_be: bool) -> Result<(), String> {
        let before = self.state.head.standing.len();
        self.state.head.standing.retain(|standing| standing.what != *what);
        if must_be && self.state.head.standing.len() == before {
            return Err(format!("there is not {what}"));
        }
        Ok(())
    }

    fn scoped(&self, scope: &Scope) -> Vec<usize> {
        (0..self.state.parts.len())
            .filter(|at| self.part(*at).stage.is_some() && self.is_in(scope, *at))
            .collect()
    }

    /// What runs stays: also what was to go back to something else and did not yet.
    fn hold_as_is(&mut self, request: &Request, scope: &Scope) -> Result<String, String> {
        let said = self.hold_scope(request, scope, false)?;
        if scope.unit.is_none() {
            for at in self.scoped(scope) {
                let part = &mut self.state.parts[at];
                part.dirty |= part.back.take().is_some();
            }
        }
        Ok(said)
    }

    fn hold_scope(&mut self, request: &Request, scope: &Scope, is_rollback: bool) -> Result<String, String> {
        self.scope_known(scope)?;
        self.stand(request, StandingKind::Hold { scope: scope.clone(), is_rollback })?;
        if let Some(unit) = &scope.unit {
            for at in self.scoped(scope) {
                let part = &mut self.state.parts[at];
                if let Some(pick) = part.pick_of(unit) {
                    part.pin(Pin { unit: unit.clone(), pick, why: PinKind::Held });
                }
            }
        }
        let clusters = self.scoped(scope).len();
        let until = request
            .until
            .map_or("it is released".to_owned(), |until| format!("{} or a release", time(until)));
        Ok(format!("{scope} stays as it is on {clusters} clusters until {until}; newer candidates wait"))
    }

    fn release(&mut self, scope: &Scope) -> Result<String, String> {
        let before = self.state.head.standing.len();
        self.state.head.standing.retain(
            |standing| !matches!(&standing.what, StandingKind::Hold { scope: held, .. } if held == scope),
        );
        if self.state.head.standing.len() == before {
            return Err(format!("nothing holds {scope}: name the hold as it was made"));
        }
        self.unpin(scope);
        for at in self.scoped(scope) {
            let part = &mut self.state.parts[at];
            part.dirty |= part.back.take().is_some();
        }
        Ok(format!("{scope} is free: it gets what its stage has for it, in turn"))
    }

    /// Lets the units go that a hold of this scope pinned, but for those that another hold has.
    pub(crate) fn unpin(&mut self, scope: &Scope) {
        let Some(unit) = &scope.unit else { return };
        for at in self.scoped(scope) {
            let is_held = self.state.head.standing.iter().any(|standing| match &standing.what {
                StandingKind::Hold { scope, .. } => {
                    scope.unit.as_ref() == Some(unit) && self.is_in(scope, at)
                }
                _ => false,
            });
            if !is_held {
                let part = &mut self.state.parts[at];
                let before = part.pins.len();
                part.pins.retain(|pin| pin.unit != *unit || pin.why != PinKind::Held);
                part.dirty |= part.pins.len() != before;
            }
        }
    }

    fn veto(&mut self, request: &Request, what: &Barred, stage: Option<&String>) -> Result<String, String> {
        self.stage_if_named(stage)?;
        if let Barred::Candidate(candidate) = what {
            self.known(*candidate)?;
        }
        self.stand(request, StandingKind::Bar { what: what.clone(), stage: stage.cloned() })?;
        let place = stage.map_or("no cluster".to_owned(), |stage| format!("no cluster of stage {stage}"));
        Ok(format!("{place} is given {what}; what runs it keeps it: `rollback` takes it back"))
    }

    fn rollback(&mut self, request: &Request, scope: &Scope) -> Result<String, String> {
        self.scope_known(scope)?;
        let clusters = self.scoped(scope);
        let going: Vec<(usize, Arc<Assignment>)> =
            clusters.iter().filter_map(|at| Some((*at, self.part(*at).way_back(scope)?))).collect();
        if going.is_empty() {
            return Err(format!(
                "no cluster of {scope} was healthy on anything before: there is nothing to go back to"
            ));
        }
        self.hold_scope(request, scope, true)?;
        let staying = clusters.len() - going.len();
        let count = going.len();
        for (at, target) in going {
            let part = &mut self.state.parts[at];
            if let Some(unit) = &scope.unit {
                let pick = target.pick(unit);
                part.pin(Pin { unit: unit.clone(), pick, why: PinKind::Held });
            }
            part.back = Some(target);
            part.dirty = true;
        }
        let rest = match staying {
            0 => String::new(),
            staying => format!("; {staying} have nothing to go back to and stay"),
        };
        Ok(format!(
            "{count} clusters go back to what they were healthy on before{rest}; {scope} is held until it is released; data \
             stays: claims, volumes, namespaces and resource definitions are never taken back"
        ))
    }

    fn promote(
        &mut self,
        unit: &flotilla_core::UnitId,
        stage: &str,
        candidate: Option<CandidateId>,
    ) -> Result<String, String> {
        let at_stage = self.stage_named(stage)?;
        let newest = self.state.head.newest.ok_or("there is no candidate yet")?;
        let id = candidate.unwrap_or(newest);
        self.known(id)?;
        let seq = self.state.seq(id);
        if let Some(bar) = self.barred(at_stage, id) {
            return Err(format!("{id} is barred from stage {stage}{}", bar.said()));
        }
        let (mut given, mut without, mut held) = (0, 0, 0);
        for at in self.members[at_stage].clone() {
            if self.hold(at).is_some() {
                held += 1;
                continue;
            }
            let part = &self.state.parts[at];
            let pick = part.shape(seq).and_then(crate::state::Shape::pick);
            let base = part.assignment.as_ref().map(|given| self.seq_at(at, given.base.candidate));
            let is_newer = base.is_some_and(|base| base < seq);
            match pick.filter(|_| is_newer) {
                Some(pick) => {
                    let digest = part.unit(seq, unit);
                    let pin = Pin { unit: unit.clone(), pick, why: PinKind::Hotfix { seq, digest } };
                    self.state.parts[at].pin(pin);
                    given += 1;
                }
                None => without += 1,
            }
        }
        if given == 0 {
            let why = if held > 0 {
                "its clusters are held: release them first"
            } else {
                "each has it, or cannot be given it"
            };
            return Err(format!("no cluster of stage {stage} would get {unit} of {id}: {why}"));
        }
        let rest =
            if without + held == 0 { String::new() } else { format!(", {} others do not", without + held) };
        Ok(format!(
            "{given} clusters of {stage} get {unit} of {id} past the queue{rest}; an older candidate that comes gets it added, \
             {id} and newer ones take its place; other stages get it in their turn"
        ))
    }

    fn override_window(
        &mut self,
        request: &Request,
        window: &str,
        stage: Option<&String>,
    ) -> Result<String, String> {
        self.stage_if_named(stage)?;
        let stages = self.pipeline.stages.iter().filter(|one| stage.is_none_or(|stage| one.name == *stage));
        let all = self.pipeline.windows.iter().chain(stages.flat_map(|stage| &stage.windows));
        let named: Vec<&crate::spec::Window> = all.filter(|one| one.name == window).collect();
        if named.is_empty() {
            return Err(format!("there is no window '{window}' there"));
        }
        for window in named {
            let may = window.override_roles.is_empty()
                || window
                    .override_roles
                    .iter()
                    .any(|role| request.actor.roles.contains(role) || *role == request.actor.name);
            if !may {
                let who = window.override_roles.join(", ");
                return Err(format!(
                    "{} may not override window {}: {who} may",
                    request.actor.name, window.name
                ));
            }
        }
        self.stand(request, StandingKind::Window { window: window.to_owned(), stage: stage.cloned() })?;
        Ok(format!("window {window} does not count; other windows, gates and holds do"))
    }

    fn retry(&mut self, name: &str) -> Result<String, String> {
        let stage = self.stage_named(name)?;
        let run = self.state.head.stages[stage].run.as_ref();
        let run = run.filter(|run| matches!(run.phase, Phase::Failed { .. } | Phase::Aborted { .. }));
        let Some(run) = run else {
            // What it rejects may be a newer candidate that never began.
            let before = self.state.head.standing.len();
            self.state.head.standing.retain(|standing| {
                !matches!(&standing.what, StandingKind::Bar { stage: Some(of), .. } if of == name && standing.by.is_none())
            });
            if self.state.head.standing.len() == before {
                return Err(format!("nothing failed in stage {name} that could be tried again"));
            }
            return Ok(format!("what stage {name} rejected may be tried again"));
        };
        let (candidate, number, seq) = (run.candidate, run.number, run.seq);
        self.state.head.standing.retain(|standing| {
            !matches!(&standing.what, StandingKind::Bar { stage: Some(of), .. } if of == name && standing.by.is_none())
        });
        if let Some(bar) = self.barred(stage, candidate) {
            return Err(format!("{candidate} is barred{}: end the veto first", bar.said()));
        }
        for at in self.members[stage].clone() {
            let part = &mut self.state.parts[at];
            let digest = part.shape(seq).and_then(crate::state::Shape::digest);
            part.failed.retain(|failed| Some(*failed) != digest && Some(*failed) != part.digest);
            let is_of_run = part.run == number && matches!(part.status, Status::Failed { .. });
            // It is given the same again, in its turn.
            part.back = None;
            if is_of_run {
                part.set(Status::Nothing);
            }
            part.dirty = true;
        }
        let (now, spec) = (self.now, self.pipeline.stages[stage].clone());
        if let Some(run) = &mut self.state.head.stages[stage].run {
            run.phase = Phase::Rolling;
            run.at = now;
            run.spec = spec;
            run.checks.clear();
        }
        Ok(format!("{candidate} is given to the clusters of {name} again that failed or did not get it"))
    }

    fn abort(&mut self, request: &Request, name: &str) -> Result<String, String> {
        let stage = self.stage_named(name)?;
        let now = self.now;
        let run = self.state.head.stages[stage].run.as_mut().filter(|run| !run.phase.is_over());
        let run = run.ok_or_else(|| format!("nothing is under way in stage {name}"))?;
        run.phase = Phase::Aborted { text: format!(" by {} at {}", request.actor.name, time(now)) };
        run.at = now;
        let candidate = run.candidate;
        Ok(format!(
            "{candidate} ends in {name}: clusters that have it keep it, no other gets it, and it does not pass; the next candidate, \
             or `retry`, goes on"
        ))
    }

    fn approve(
        &mut self,
        request: &Request,
        name: &str,
        question: flotilla_core::Digest,
    ) -> Result<String, String> {
        let stage = self.stage_named(name)?;
        let run = self.state.head.stages[stage].run.as_ref().filter(|run| !run.phase.is_over());
        let run = run.ok_or_else(|| format!("stage {name} asks nothing now"))?;
        let gates = match run.phase {
            Phase::Before => &run.spec.before,
            _ => &run.spec.after,
        };
        let (Some(approval), Some(asked)) = (&gates.approval, &run.question) else {
            return Err(format!("stage {name} asks nobody now"));
        };
        if asked.digest != question {
            return Err(format!(
                "stage {name} asks something else than {}: look at question {} and approve that",
                question.short(),
                asked.digest.short()
            ));
        }
        let candidate = self.state.candidates.get(&run.candidate).ok_or("its candidate is not known")?;
        may_approve(&request.actor, approval, &candidate.commit.author)?;
        let needs = approval.count as usize;
        let given = Approved { by: request.actor.name.clone(), at: self.now, question };
        let Some(run) = self.state.head.stages[stage].run.as_mut() else { return Err("no run".to_owned()) };
        run.approvals.retain(|one| one.by != given.by);
        if run.approvals.len() >= MAX_APPROVALS {
            return Err(format!("{MAX_APPROVALS} people approved already"));
        }
        run.approvals.push(given);
        let run = run.clone();
        let gates = if run.phase == Phase::Before { &run.spec.before } else { &run.spec.after };
        let have = gates.approval.as_ref().map_or(0, |approval| self.approved_by(&run, approval).len());
        Ok(match have >= needs {
            true => format!("{have} of {needs} approvals are there: {name} goes on when all else holds"),
            false => format!("{have} of {needs} approvals are there"),
        })
    }
}

impl Assignment {
    /// Of which candidate a unit is.
    pub(crate) fn pick(&self, unit: &flotilla_core::UnitId) -> Pick {
        self.units.iter().find(|(named, _)| named == unit).map_or(self.base, |(_, pick)| *pick)
    }
}

impl Part {
    /// What it goes back to within a scope: all of it, or one unit.
    fn way_back(&self, scope: &Scope) -> Option<Arc<Assignment>> {
        let (given, target) = (self.assignment.as_ref()?, self.last_healthy()?);
        let Some(unit) = &scope.unit else { return Some(target) };
        let pick = target.pick(unit);
        if given.pick(unit) == pick {
            return None;
        }
        let mut units = given.units.clone();
        units.retain(|(named, _)| named != unit);
        units.push((unit.clone(), pick));
        units.sort_by(|a, b| a.0.cmp(&b.0));
        Some(Arc::new(Assignment { revision: 0, base: given.base, units }))
    }

    fn pick_of(&self, unit: &flotilla_core::UnitId) -> Option<Pick> {
        Some(self.assignment.as_ref()?.pick(unit))
    }

    /// Pins a unit, in the place of a pin of the same kind.
    fn pin(&mut self, pin: Pin) {
        let is_held = pin.why == PinKind::Held;
        self.pins.retain(|there| there.unit != pin.unit || (there.why == PinKind::Held) != is_held);
        self.pins.push(pin);
        self.dirty = true;
    }
}
