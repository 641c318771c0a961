//! The hooks of a stage, one after the other, and what is deleted of them afterwards. As Helm: the first that fails ends the attempt.

use flotilla_core::text::shorten;
use jiff::Timestamp;
use serde_json::Value;

use super::{Action, Answer, HookObject, HookState, Machine, Seen, Step, There, is_over};
use crate::engine::memo::{Attempt, Run, Stage};
use crate::hook::{DeletePolicy, Event, Hook, Phase, due};

/// Of what an object says of its failure, in bytes.
const MAX_WHY: usize = 500;

impl Machine {
    /// The next step of a stage with hooks.
    pub(super) fn hooks(&mut self, now: Timestamp) -> Step {
        let (Some(progress), Some(latest)) = (self.progress().cloned(), self.latest()) else {
            return Step::On;
        };
        let due = self.due(progress.stage);
        let Some(place) = due.get(progress.hooks).copied().filter(|_| self.failed.is_none()) else {
            return self.clear(&due, progress.hooks, now);
        };
        let hook = latest.release.hooks[place].clone();
        let object = self.object(place);
        let since = *self.hook_since.get_or_insert(now);
        let limit = self.action_options().timeout;
        let is_late = is_over(progress.run.as_ref().map_or(since, |run| run.started.min(since)), limit, now);
        let late = format!("was not done after {limit} s");
        match (&self.seen, &progress.run) {
            (None, _) => Step::Do(Action::Look(object)),
            (Some(Seen::Absent), None) => Step::Do(Action::Create(object)),
            (Some(Seen::Absent), Some(_)) => self.hook_failed(&hook, "was deleted before it was done"),
            (Some(Seen::There(there)), run) if !there.is(&object) => {
                if is_late {
                    return self.hook_failed(&hook, &late);
                }
                // One that is made and replaced by another is deleted by whoever did that.
                if run.is_none() && hook.deletes(&DeletePolicy::BeforeHookCreation) {
                    return Step::Do(Action::Delete { object, uid: there.uid.clone() });
                }
                self.hook_failed(
                    &hook,
                    "cannot be made: an object of its name is there, which its hook-delete-policy leaves",
                )
            }
            (Some(Seen::There(there)), None) => {
                let made = there.uid.clone();
                self.hook_is(place, now, Phase::Running, |progress| {
                    progress.run = Some(Run { started: now, made });
                })
            }
            (Some(Seen::There(there)), Some(_)) => match &there.state {
                HookState::Succeeded => {
                    self.hook_since = None;
                    self.hook_is(place, now, Phase::Succeeded, |progress| {
                        progress.hooks += 1;
                        progress.run = None;
                    })
                }
                HookState::Failed(why) => {
                    let why = format!("failed: {why}");
                    self.hook_failed(&hook, &why)
                }
                HookState::Running if is_late => self.hook_failed(&hook, &late),
                HookState::Running => {
                    self.seen = None;
                    self.pause(now);
                    Step::On
                }
            },
        }
    }

    /// Takes what is known of the hook's object.
    pub(super) fn hook_answered(&mut self, answer: Answer, now: Timestamp) {
        let is_clearing = self.is_clearing();
        match answer {
            Answer::Absent => self.seen = Some(Seen::Absent),
            Answer::There(there) => self.seen = Some(Seen::There(there)),
            Answer::Made { .. } | Answer::Done => self.seen = None,
            // What is cleared away may take as long as its finalizers do.
            Answer::NotYet(_) if is_clearing => self.seen = Some(Seen::Absent),
            Answer::NotYet(_) => {
                self.seen = None;
                self.pause(now);
            }
            // What cannot be cleared away stays.
            Answer::Refused(_) if is_clearing => self.seen = Some(Seen::Absent),
            Answer::Refused(why) => self.failed = Some(format!("a hook cannot be run: {why}")),
            Answer::Written { .. } | Answer::Unknown => self.pause(now),
        }
    }

    /// After the hooks, or after one that failed: deletes those whose policy asks for it.
    fn clear(&mut self, due: &[usize], done: usize, now: Timestamp) -> Step {
        let ran = due.len().min(if self.failed.is_some() { done + 1 } else { done });
        while self.cleared < ran {
            let place = due[self.cleared];
            let policy = if self.cleared < done { DeletePolicy::Succeeded } else { DeletePolicy::Failed };
            let deletes = self.latest().is_some_and(|latest| latest.release.hooks[place].deletes(&policy));
            let object = self.object(place);
            match &self.seen {
                _ if !deletes => {}
                None => return Step::Do(Action::Look(object)),
                Some(Seen::There(there)) if there.is(&object) => {
                    return Step::Do(Action::Delete { uid: there.uid.clone(), object });
                }
                Some(_) => {}
            }
            self.cleared += 1;
            self.seen = None;
        }
        if self.failed.is_some() {
            return self.finish(now);
        }
        self.advance(now);
        Step::On
    }

    fn is_clearing(&self) -> bool {
        let all = self.progress().map(|progress| (self.due(progress.stage).len(), progress.hooks));
        self.failed.is_some() || all.is_some_and(|(all, done)| done >= all)
    }

    /// The hooks of a stage, by their place in the record.
    pub(super) fn due(&self, stage: Stage) -> Vec<usize> {
        let (Some(memo), Some(latest)) = (self.memo(), self.latest()) else { return Vec::new() };
        let Some(event) = event(memo.attempt, stage).filter(|_| !self.action_options().disable_hooks) else {
            return Vec::new();
        };
        let hooks = &latest.release.hooks;
        let mut due = due(hooks, &event);
        due.retain(|place| event != Event::Test || self.options().test.runs(&hooks[*place].name));
        due
    }

    fn object(&self, place: usize) -> HookObject {
        let latest = self.entries.last().expect("a revision is at work");
        let memo = latest.memo.as_ref().expect("a revision at work has a memo");
        let progress = memo.progress.as_ref().expect("it is at work");
        let hook = &latest.record.release.hooks[place];
        let begun = if progress.stage == Stage::Test { progress.since } else { memo.begun };
        let event = event(memo.attempt, progress.stage);
        let event = event.as_ref().map_or("", Event::as_str);
        HookObject {
            kind: hook.kind.clone(),
            name: hook.name.clone(),
            manifest: hook.manifest.clone(),
            mark: format!("{}/{event}/{place}/{}", latest.record.release.revision, begun.as_millisecond()),
        }
    }

    fn hook_failed(&mut self, hook: &Hook, why: &str) -> Step {
        self.failed = Some(format!("the hook {} ({}) {why}", hook.name, hook.kind));
        self.seen = None;
        Step::On
    }

    /// Writes how far the hook is.
    fn hook_is(
        &mut self,
        place: usize,
        now: Timestamp,
        phase: Phase,
        change: impl FnOnce(&mut super::Progress),
    ) -> Step {
        let entry = self.entries.last().expect("a revision is at work");
        let mut memo = entry.memo.clone().expect("a revision at work has a memo");
        if let Some(progress) = &mut memo.progress {
            change(progress);
        }
        Step::write(entry.changed(&memo, |record| {
            let run = &mut record.release.hooks[place].last_run;
            match phase {
                Phase::Running => (run.started_at, run.completed_at) = (Some(now), None),
                _ => run.completed_at = Some(now),
            }
            run.phase = phase;
        }))
    }
}

impl HookState {
    /// How far the object of a hook is, as Helm waits for it: Jobs and Pods are done when they ended, anything else once it is there.
    pub fn of(object: &Value) -> Self {
        let text = |path: &str| object.pointer(path).and_then(Value::as_str).unwrap_or_default();
        let told =
            |text: &str| if text.is_empty() { "it says not why".to_owned() } else { shorten(text, MAX_WHY) };
        match (text("/apiVersion"), text("/kind")) {
            ("v1", "Pod") => match text("/status/phase") {
                "Succeeded" => Self::Succeeded,
                "Failed" => Self::Failed(told(text("/status/message"))),
                _ => Self::Running,
            },
            (group, "Job") if group.starts_with("batch/") => {
                let conditions = object.pointer("/status/conditions").and_then(Value::as_array);
                let holds = |kind: &str| {
                    let mut all = conditions.into_iter().flatten();
                    all.find(|condition| condition["type"] == kind && condition["status"] == "True")
                };
                match (holds("Complete"), holds("Failed")) {
                    (Some(_), _) => Self::Succeeded,
                    (None, Some(failed)) => {
                        Self::Failed(told(failed["message"].as_str().unwrap_or_default()))
                    }
                    (None, None) => Self::Running,
                }
            }
            _ => Self::Succeeded,
        }
    }
}

impl There {
    /// Whether it is of this run.
    fn is(&self, object: &HookObject) -> bool {
        self.mark.as_deref() == Some(object.mark.as_str())
    }
}

/// The moment at which a stage's hooks run.
fn event(attempt: Attempt, stage: Stage) -> Option<Event> {
    Some(match (stage, attempt) {
        (Stage::Test, _) => Event::Test,
        (Stage::Before, Attempt::Install) => Event::PreInstall,
        (Stage::Before, Attempt::Upgrade) => Event::PreUpgrade,
        (Stage::Before, Attempt::Rollback { .. }) => Event::PreRollback,
        (Stage::Before, Attempt::Uninstall) => Event::PreDelete,
        (Stage::After, Attempt::Install) => Event::PostInstall,
        (Stage::After, Attempt::Upgrade) => Event::PostUpgrade,
        (Stage::After, Attempt::Rollback { .. }) => Event::PostRollback,
        (Stage::After, Attempt::Uninstall) => Event::PostDelete,
        _ => return None,
    })
}
