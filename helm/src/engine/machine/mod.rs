//! Carries out what [`decide`](super::decide::decide) says, one action at a time: the caller executes each on the cluster and gives the
//! answer back.
//!
//! ```text
//! install             Before ► Objects ► Wait ► After
//! upgrade, rollback   Before ► Objects ► Leaving ► Wait ► After
//! uninstall           Before ► Objects ► Wait ► After ► Records, where those are deleted
//! test                Test
//! ```
//!
//! The record is written when an attempt begins and ends, when the object of a hook is made, and when that hook is done. Whatever is
//! between two writes can be done twice without harm, so a machine that is made of the records alone goes on where another was killed.
//! An answer that never came is no answer: the same is asked again, or the records are read anew.

mod action;
mod attempt;
mod hooks;

use jiff::{SignedDuration, Timestamp};

pub use action::{Action, Answer, End, HOOK_RUN, HookObject, HookState, There};

use super::decide::{Decision, Goal, Revision, decide};
use super::memo::{MANAGED, MEMO, Memo, Progress, Stage};
use super::{ActionOptions, Options, Target, Wanted};
use crate::record::{Record, Status};

/// What is not done yet is looked at again after this time.
const PAUSE: SignedDuration = SignedDuration::from_secs(1);

/// What is wanted.
#[derive(Debug, Clone)]
pub enum Want {
    Run(Box<Wanted>),
    Gone { target: Target, options: Box<Options> },
}

/// See the module.
#[derive(Debug)]
pub struct Machine {
    want: Want,
    /// The name of the chart that is wanted.
    chart: String,
    /// The oldest revision first.
    entries: Vec<Entry>,
    /// The latest revision's attempt is under way.
    is_busy: bool,
    /// What is to be written before anything else.
    write: Option<Box<Record>>,
    /// The object of the hook that is looked at.
    seen: Option<Seen>,
    /// Since when that hook is at work.
    hook_since: Option<Timestamp>,
    /// So many of the stage's hooks were cleared away.
    cleared: usize,
    /// Why the attempt failed.
    failed: Option<String>,
    /// The attempt's last stage is over.
    is_done: bool,
    pause: Option<Timestamp>,
    /// What `entries` say may not be so any more.
    is_stale: bool,
    blocked: Option<String>,
}

#[derive(Debug)]
struct Entry {
    record: Record,
    memo: Option<Memo>,
}

#[derive(Debug)]
enum Seen {
    Absent,
    There(There),
}

/// What comes next.
enum Step {
    Do(Action),
    Write(Box<Record>),
    /// The machine changed; look again.
    On,
}

impl Step {
    fn write(record: Record) -> Self {
        Self::Write(Box::new(record))
    }
}

impl Machine {
    /// A machine for a release with these records, in any order.
    pub fn new(want: Want, records: Vec<Record>) -> Self {
        let mut entries: Vec<Entry> = records.into_iter().map(Entry::new).collect();
        entries.sort_by_key(|entry| entry.record.release.revision);
        let chart = match &want {
            Want::Run(wanted) => crate::record::metadata(&wanted.chart).map(|chart| chart.name),
            Want::Gone { .. } => Ok(String::new()),
        };
        let (chart, blocked) = match chart {
            Ok(chart) => (chart, None),
            Err(error) => (String::new(), Some(format!("the chart cannot be put on record: {error}"))),
        };
        Self {
            want,
            chart,
            entries,
            is_busy: false,
            write: None,
            seen: None,
            hook_since: None,
            cleared: 0,
            failed: None,
            is_done: false,
            pause: None,
            is_stale: false,
            blocked,
        }
    }

    /// The latest revision.
    pub fn latest(&self) -> Option<&Record> {
        self.entries.last().map(|entry| &entry.record)
    }

    /// What the engine knows of the latest revision.
    pub fn memo(&self) -> Option<&Memo> {
        self.entries.last().and_then(|entry| entry.memo.as_ref())
    }

    /// How what is under way is to be done.
    pub fn action_options(&self) -> &ActionOptions {
        use super::memo::Attempt::{Install, Rollback, Uninstall, Upgrade};
        let options = self.options();
        let memo = self.memo();
        if memo.and_then(|memo| memo.progress.as_ref()).is_some_and(|it| it.stage == Stage::Test) {
            return &options.test.action;
        }
        match memo.map(|memo| memo.attempt) {
            Some(Install) | None => &options.install,
            Some(Upgrade) => &options.upgrade,
            Some(Rollback { .. }) => &options.rollback,
            Some(Uninstall) => &options.uninstall.action,
        }
    }

    /// What is to be done now. Until it is answered, the same is said again.
    pub fn next(&mut self, now: Timestamp) -> Action {
        loop {
            if self.is_stale {
                return Action::Again;
            }
            if let Some(why) = &self.blocked {
                return Action::End(End::Blocked(why.clone()));
            }
            if let Some(record) = &self.write {
                return Action::Write(record.clone());
            }
            if let Some(until) = self.pause.filter(|until| now < *until) {
                return Action::Pause { until };
            }
            self.pause = None;
            match if self.is_busy { self.work(now) } else { self.choose(now) } {
                Step::Do(action) => return action,
                Step::Write(record) => self.write = Some(record),
                Step::On => {}
            }
        }
    }

    /// Takes the answer to what [`Machine::next`] said.
    pub fn answer(&mut self, action: &Action, answer: Answer, now: Timestamp) {
        match (action, answer) {
            (Action::Write(record), Answer::Written { resource_version }) => {
                self.write = None;
                self.written(Record { resource_version: Some(resource_version), ..(**record).clone() });
            }
            (Action::Write(_), Answer::Refused(why)) => self.blocked = Some(why),
            (Action::DeleteRecord { revision, .. }, Answer::Done) => {
                self.entries.retain(|entry| entry.record.release.revision != *revision);
                self.is_busy &= !self.entries.is_empty();
            }
            // What is on record now is for another reading to tell.
            (Action::Write(_) | Action::DeleteRecord { .. }, _) => self.is_stale = true,
            (_, Answer::Unknown) => self.pause(now),
            (Action::Look(_) | Action::Create(_) | Action::Delete { .. }, answer) => {
                self.hook_answered(answer, now);
            }
            (
                Action::Apply | Action::DeleteObjects { .. } | Action::Ready { .. } | Action::Gone { .. },
                answer,
            ) => match answer {
                Answer::Done => self.advance(now),
                Answer::Refused(why) => self.failed = Some(why),
                Answer::NotYet(why) => self.not_yet(&why, now),
                _ => self.pause(now),
            },
            (Action::Pause { .. } | Action::Again | Action::End(_), _) => {}
        }
    }

    fn pause(&mut self, now: Timestamp) {
        self.pause = now.checked_add(PAUSE).ok();
    }

    fn not_yet(&mut self, why: &str, now: Timestamp) {
        let limit = self.action_options().timeout;
        let since = self.progress().map(|progress| progress.since);
        if since.is_some_and(|since| is_over(since, limit, now)) {
            self.failed = Some(format!("not done after {limit} s: {why}"));
        } else {
            self.pause(now);
        }
    }

    fn written(&mut self, record: Record) {
        let entry = Entry::new(record);
        let revision = entry.record.release.revision;
        match self.entries.iter_mut().find(|it| it.record.release.revision == revision) {
            Some(old) => *old = entry,
            None => self.entries.push(entry),
        }
        if self.latest().is_some_and(|latest| latest.release.revision != revision) {
            return;
        }
        self.seen = None;
        self.is_done = false;
        self.is_busy = self.progress().is_some();
        if !self.is_busy {
            (self.failed, self.hook_since, self.cleared) = (None, None, 0);
        }
    }

    fn choose(&mut self, now: Timestamp) -> Step {
        if let Some(surplus) = self.surplus() {
            return Step::Do(surplus);
        }
        let goal = match &self.want {
            Want::Run(wanted) => Goal::Run {
                content: wanted.digest,
                spec: wanted.spec,
                chart: &self.chart,
                options: &wanted.options,
            },
            Want::Gone { options, .. } => Goal::Gone { options },
        };
        let history: Vec<Revision> = self.entries.iter().map(Entry::revision).collect();
        match decide(&history, &goal, now) {
            Decision::Rest(rest) => Step::Do(Action::End(End::Rest(rest))),
            Decision::Resume => {
                self.is_busy = true;
                Step::On
            }
            Decision::GiveUp { why } => self.given_up(why, now),
            Decision::Test => self.tested(now),
            Decision::Begin(begin) => self.begin(&begin, now),
        }
    }

    /// The record that is to be deleted, as there are more than its author wants: not the last that ran well.
    fn surplus(&self) -> Option<Action> {
        let most = self.options().max_history as usize;
        if most == 0 || self.entries.len() <= most {
            return None;
        }
        let last_of = |status| self.entries.iter().rposition(|entry| entry.status() == status);
        let kept = last_of(Status::Deployed).or_else(|| last_of(Status::Superseded));
        let place = (0..self.entries.len() - 1).find(|place| kept != Some(*place))?;
        Some(self.entries[place].deletion())
    }

    fn work(&mut self, now: Timestamp) -> Step {
        let Some(progress) = self.progress() else {
            self.is_busy = false;
            return Step::On;
        };
        match progress.stage {
            _ if self.is_done => self.finish(now),
            Stage::Before | Stage::After | Stage::Test => self.hooks(now),
            _ if self.failed.is_some() => self.finish(now),
            Stage::Objects | Stage::Leaving | Stage::Wait => self.objects(now),
            Stage::Records => match self.entries.first() {
                Some(oldest) => Step::Do(oldest.deletion()),
                None => Step::On,
            },
        }
    }

    fn options(&self) -> &Options {
        match &self.want {
            Want::Run(wanted) => &wanted.options,
            Want::Gone { options, .. } => options,
        }
    }

    fn progress(&self) -> Option<&Progress> {
        self.memo().and_then(|memo| memo.progress.as_ref())
    }

    fn progress_mut(&mut self) -> Option<&mut Progress> {
        self.entries.last_mut().and_then(|entry| entry.memo.as_mut()).and_then(|memo| memo.progress.as_mut())
    }
}

/// Whether so many seconds are over.
fn is_over(since: Timestamp, seconds: u32, now: Timestamp) -> bool {
    now.duration_since(since) >= SignedDuration::from_secs(seconds.into())
}

impl Entry {
    fn new(record: Record) -> Self {
        let memo = record.annotations.get(MEMO).and_then(|text| Memo::read(text));
        Self { record, memo }
    }

    fn status(&self) -> Status {
        self.record.release.info.status
    }

    fn deletion(&self) -> Action {
        Action::DeleteRecord {
            revision: self.record.release.revision,
            resource_version: self.record.resource_version.clone(),
        }
    }

    fn revision(&self) -> Revision {
        let release = &self.record.release;
        Revision {
            number: release.revision,
            status: release.info.status,
            begun: release.info.last_deployed,
            // Records without one are not read.
            chart: release.metadata().map(|chart| chart.name).unwrap_or_default(),
            is_managed: self.record.labels.contains_key(MANAGED),
            memo: self.memo.clone(),
        }
    }

    /// Its record, with what is to be written.
    fn changed(&self, memo: &Memo, change: impl FnOnce(&mut Record)) -> Record {
        let mut record = self.record.clone();
        change(&mut record);
        record.labels.insert(MANAGED.to_owned(), "true".to_owned());
        record.annotations.insert(MEMO.to_owned(), memo.write());
        record
    }
}

#[cfg(test)]
mod sim_tests;
#[cfg(test)]
#[path = "machine_tests.rs"]
mod tests;
