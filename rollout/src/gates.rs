//! What has to hold before a stage begins and before it has passed.

use flotilla_core::Digest;

use crate::fleet::Fleet;
use crate::outcome::Measure;
use crate::request::Actor;
use crate::run::{Approved, Asked, Run};
use crate::spec::{Approval, Gates, Window, WindowKind};
use crate::state::{StandingKind, Status};
use crate::text::time;
use crate::window::{Overrun, Verdict, verdict};
use crate::world::{Author, Link, Measurement, Outcome};

/// Whether something holds; if not, what is waited for and until when at least.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Blocked {
    pub(crate) text: String,
    pub(crate) next: Option<i64>,
    /// It will not hold any more for this candidate.
    pub(crate) is_final: bool,
}

impl Blocked {
    pub(crate) fn new(text: impl Into<String>, next: Option<i64>) -> Self {
        Self { text: text.into(), next, is_final: false }
    }
}

/// How many distinct digests a question names.
const MAX_DIFFS: usize = 100;

impl Fleet<'_> {
    /// Whether the windows of a stage let its clusters be given something; with what becomes of a run where they do not.
    pub(crate) fn windows(&self, stage: usize, run: &Run) -> Result<(), (Blocked, Overrun)> {
        let windows: Vec<&Window> = self.pipeline.windows.iter().chain(&run.spec.windows).collect();
        match verdict(&windows, self.now, |window| self.is_overridden(stage, window)) {
            Verdict::Open { allowed, .. } => {
                // How many runs may begin is a question for one that did not.
                let starts = &self.state.head.stages[stage].starts;
                let has_begun = run.sent_back || run.phase != crate::run::Phase::Before;
                let full = |(window, since): &(&Window, i64)| {
                    let begun = starts.iter().filter(|at| **at >= *since).count();
                    window.max_starts.is_some_and(|most| begun >= most as usize)
                };
                if !has_begun && !allowed.is_empty() && allowed.iter().all(full) {
                    let (window, _) = allowed[0];
                    let next = window.opening(self.now).map(|(_, end)| end);
                    let text = format!("window {} lets no more runs begin until it opens again", window.name);
                    return Err((Blocked::new(text, next), Overrun::Pause));
                }
                Ok(())
            }
            Verdict::Closed { by, opens, overrun } => {
                let until = opens.map(|at| format!(" until {}", time(at))).unwrap_or_default();
                let text = match by {
                    Some(window) => format!("window {} bars it{until}", window.name),
                    None => format!("no window that allows it is open{until}"),
                };
                Err((Blocked::new(text, opens), overrun))
            }
        }
    }

    fn is_overridden(&self, stage: usize, window: &Window) -> bool {
        let name = &self.pipeline.stages[stage].name;
        self.state.head.standing.iter().any(|standing| match &standing.what {
            StandingKind::Window { window: named, stage } => {
                *named == window.name && stage.as_ref().is_none_or(|stage| stage == name)
            }
            _ => false,
        })
    }

    /// When the windows of a stage close that are open, or open that are closed.
    pub(crate) fn window_status(
        &self,
        stage: usize,
        run: Option<&Run>,
    ) -> Option<crate::outcome::WindowStatus> {
        let own = run.map_or(&self.pipeline.stages[stage].windows, |run| &run.spec.windows);
        let windows: Vec<&Window> = self.pipeline.windows.iter().chain(own).collect();
        if windows.is_empty() {
            return None;
        }
        Some(match verdict(&windows, self.now, |window| self.is_overridden(stage, window)) {
            Verdict::Open { closes, .. } => {
                crate::outcome::WindowStatus { open: true, by: None, next: closes }
            }
            Verdict::Closed { by, opens, .. } => crate::outcome::WindowStatus {
                open: false,
                by: by.filter(|by| by.kind == WindowKind::Deny).map(|by| by.name.clone()),
                next: opens,
            },
        })
    }

    /// Whether all gates hold, before or after a stage. `since` is since when the clusters that count have been healthy.
    pub(crate) fn gates(&self, run: &Run, gates: &Gates, since: Option<i64>) -> Result<(), Blocked> {
        if let Some(least) = gates.healthy_for {
            let Some(since) = since else {
                return Err(Blocked::new("not all of its clusters are healthy", None));
            };
            if self.now - since < least {
                let end = since + least;
                return Err(Blocked::new(format!("has to stay healthy until {}", time(end)), Some(end)));
            }
        }
        for check in &gates.checks {
            let streak = run.checks.get(&check.name);
            let (right, wrong) = streak.map_or((0, 0), |streak| (streak.right, streak.wrong));
            let seen = streak.map(|streak| streak.text.as_str()).filter(|text| !text.is_empty());
            let seen = seen.map(|text| format!(" ({text})")).unwrap_or_default();
            let next = streak.and_then(|streak| streak.asked).map_or(self.now, |at| at + check.every);
            if wrong >= check.failures {
                let text = format!("check {} was wrong {wrong} times on end{seen}", check.name);
                return Err(Blocked { text, next: Some(next), is_final: true });
            }
            if right < check.successes {
                let needs = check.successes;
                let text = format!("check {} was right {right} of {needs} times on end{seen}", check.name);
                return Err(Blocked::new(text, Some(next)));
            }
        }
        if let Some(approval) = &gates.approval {
            let by = self.approved_by(run, approval);
            if by.len() < approval.count as usize {
                let from = match approval.from.is_empty() {
                    true => String::new(),
                    false => format!(" of {}", approval.from.join(", ")),
                };
                let question = run.question.as_ref().map_or(String::new(), |asked| asked.digest.short());
                let have = by.len();
                let text = format!(
                    "waits for approval{from}: {have} of {} given for question {question}",
                    approval.count
                );
                let ends =
                    self.valid(run, approval).filter_map(|given| Some(given.at + approval.expires?)).min();
                return Err(Blocked::new(text, ends));
            }
        }
        Ok(())
    }

    fn valid<'r>(&self, run: &'r Run, approval: &Approval) -> impl Iterator<Item = &'r Approved> {
        let (now, expires) = (self.now, approval.expires);
        let asked = run.question.as_ref().map(|asked| asked.digest);
        run.approvals.iter().filter(move |given| {
            Some(given.question) == asked && expires.is_none_or(|expires| now - given.at < expires)
        })
    }

    /// Whose approvals count now.
    pub(crate) fn approved_by(&self, run: &Run, approval: &Approval) -> Vec<String> {
        let mut by: Vec<String> = self.valid(run, approval).map(|given| given.by.clone()).collect();
        by.sort();
        by.dedup();
        by
    }

    /// What people are asked: what the stage's clusters would run of the candidate, each distinct digest once.
    pub(crate) fn question(&self, stage: usize, run: &Run, before: bool) -> Option<Asked> {
        let gates = if before { &run.spec.before } else { &run.spec.after };
        gates.approval.as_ref()?;
        let mut all: Vec<Digest> = self.members[stage]
            .iter()
            .filter_map(|at| self.part(*at).shape(run.seq).and_then(crate::state::Shape::digest))
            .collect();
        all.sort_unstable();
        let mut diffs: Vec<(Digest, usize)> = Vec::new();
        for digest in all {
            match diffs.last_mut() {
                Some((last, count)) if *last == digest => *count += 1,
                _ => diffs.push((digest, 1)),
            }
        }
        let place: &[u8] = if before { b"before" } else { b"after" };
        let head = [run.spec.name.as_bytes(), place, run.candidate.0.as_bytes()];
        let parts = head.into_iter().chain(diffs.iter().map(|(digest, _)| &digest.as_bytes()[..]));
        let digest = Digest::of_parts(parts);
        diffs.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        diffs.truncate(MAX_DIFFS);
        Some(Asked { digest, diffs })
    }

    /// Since when every cluster of a stage has been healthy that is there. `None`: not all of them are.
    pub(crate) fn healthy_since(&self, stage: usize) -> Option<i64> {
        let mut since = i64::MIN;
        for at in &self.members[stage] {
            match (&self.part(*at).status, self.cluster(*at).link) {
                (Status::Healthy { since: of }, _) => since = since.max(*of),
                (_, Link::Offline { .. }) => {}
                _ => return None,
            }
        }
        Some(since)
    }

    /// Notes what was measured.
    pub(crate) fn measured(&mut self, measured: &[Measurement]) {
        for one in measured {
            let stages = &mut self.state.head.stages;
            let run =
                stages.iter_mut().find(|stage| stage.name == one.stage).and_then(|stage| stage.run.as_mut());
            let Some(run) = run.filter(|run| run.candidate == one.candidate && one.at >= run.at) else {
                continue;
            };
            let known = run.spec.before.checks.iter().chain(&run.spec.after.checks);
            if !known.into_iter().any(|check| check.name == one.check) {
                continue;
            }
            let streak = run.checks.entry(one.check.clone()).or_default();
            if streak.last.is_some_and(|last| last >= one.at) {
                continue;
            }
            streak.last = Some(one.at);
            match &one.outcome {
                Outcome::Right => {
                    streak.right += 1;
                    streak.wrong = 0;
                    streak.text.clear();
                }
                Outcome::Wrong(text) => {
                    streak.right = 0;
                    streak.wrong += 1;
                    streak.text = text.chars().take(200).collect();
                }
                // Neither right nor wrong, and what comes on end begins anew.
                Outcome::Unknown(text) => {
                    streak.right = 0;
                    streak.text = text.chars().take(200).collect();
                }
            }
            self.head_changed = true;
        }
    }

    /// What is to be measured now for a run that waits for these gates.
    pub(crate) fn measure(&mut self, run: &mut Run, before: bool, measure: &mut Vec<Measure>) {
        let now = self.now;
        let gates = if before { run.spec.before.clone() } else { run.spec.after.clone() };
        for check in gates.checks {
            let streak = run.checks.entry(check.name.clone()).or_default();
            let is_done =
                streak.right >= check.successes && streak.last.is_some_and(|last| now - last < check.every);
            let is_due = streak.asked.is_none_or(|asked| now - asked >= check.every.max(1));
            if is_due && !is_done {
                streak.asked = Some(now);
                self.head_changed = true;
                measure.push(Measure {
                    stage: run.spec.name.clone(),
                    candidate: run.candidate,
                    check: check.name,
                    probe: check.probe,
                });
            }
        }
    }
}

/// Whether somebody's approval counts, and if not, why.
pub(crate) fn may_approve(actor: &Actor, approval: &Approval, author: &Author) -> Result<(), String> {
    let is_named = |name: &String| *name == actor.name || actor.roles.contains(name);
    if !approval.from.is_empty() && !approval.from.iter().any(is_named) {
        return Err(format!(
            "an approval of {} does not count here: it is for {}",
            actor.name,
            approval.from.join(", ")
        ));
    }
    let local = author.email.split('@').next().unwrap_or_default();
    let names = [actor.name.as_str()].into_iter().chain(actor.aliases.iter().map(String::as_str));
    let is_author = names.into_iter().any(|name| {
        [author.name.as_str(), author.email.as_str(), local]
            .iter()
            .any(|of| !of.is_empty() && name.eq_ignore_ascii_case(of))
    });
    if approval.not_author && is_author {
        return Err(format!("{} is the author of the commit: somebody else has to approve it", actor.name));
    }
    Ok(())
}
