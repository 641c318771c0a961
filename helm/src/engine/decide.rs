//! What is to be done for a release next, by its history and what is wanted of it. It follows helm-controller 1.6 (its states and
//! remediation), apart from what says otherwise here.

use std::fmt;

use flotilla_core::Digest;
use jiff::{SignedDuration, Timestamp};

use super::memo::{Attempt, Cause, Failures, Memo, Release};
use super::{ChartNameChange, OnFailure, Options, Remedy};
use crate::record::Status;

/// So many rollbacks or uninstalls in a row may fail. helm-controller goes on for ever, with hooks that run each time.
const MAX_REMEDIES: u32 = 3;
/// An uninstall that failed is tried again after this time.
const UNINSTALL_PAUSE: u32 = 60;
/// What somebody else has begun may take at least this long, which is Helm's own limit for an action. helm-controller does not wait.
const LEAST_PATIENCE: u32 = 300;

/// What decisions need to know of a revision.
#[derive(Debug, Clone, PartialEq)]
pub struct Revision {
    /// From 1 on.
    pub number: u64,
    pub status: Status,
    /// When it was begun, as its record says.
    pub begun: Option<Timestamp>,
    /// The chart's name.
    pub chart: String,
    /// It, or one before it, was made by the engine.
    pub is_managed: bool,
    /// `None` where somebody else wrote it last.
    pub memo: Option<Memo>,
}

/// What is wanted of a release.
#[derive(Debug, Clone, Copy)]
pub enum Goal<'a> {
    Run {
        /// [`super::Wanted::digest`] and [`super::Wanted::spec`].
        content: Digest,
        spec: Digest,
        chart: &'a str,
        options: &'a Options,
    },
    Gone {
        options: &'a Options,
    },
}

#[derive(Debug, Clone, PartialEq)]
pub enum Decision {
    /// The latest revision's attempt, or its test, is unfinished.
    Resume,
    Begin(Begin),
    /// The latest revision's tests are to run.
    Test,
    /// The latest revision's attempt, or its test, is not finished any more.
    GiveUp {
        why: &'static str,
    },
    Rest(Rest),
}

#[derive(Debug, Clone, PartialEq)]
pub struct Begin {
    pub attempt: Attempt,
    pub cause: Cause,
    pub of: Release,
    /// Those before it.
    pub failures: Failures,
    pub failed_remedies: u32,
}

/// Nothing is to be done.
#[derive(Debug, Clone, PartialEq)]
pub enum Rest {
    InSync,
    Gone,
    Stuck(Stuck),
    /// Until a time.
    Wait {
        until: Timestamp,
        why: Waits,
    },
}

/// Why nothing more is tried until the definition changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stuck {
    Exhausted { of: Release, failures: u32 },
    NoRollbackTarget,
    RemedyFailed,
    NameTaken,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waits {
    /// For somebody else's attempt.
    ForOther,
    /// To try again.
    ToRetry,
}

/// `history` has the oldest revision first.
pub fn decide(history: &[Revision], goal: &Goal<'_>, now: Timestamp) -> Decision {
    let Some(latest) = history.last() else {
        return match goal {
            Goal::Run { .. } => begin(Attempt::Install, Cause::Absent, Failures::default()),
            Goal::Gone { .. } => Decision::Rest(Rest::Gone),
        };
    };
    let options = match goal {
        Goal::Run { options, .. } | Goal::Gone { options } => options,
    };
    let is_managed = history.iter().any(|revision| revision.is_managed || revision.memo.is_some());
    if matches!(goal, Goal::Gone { .. }) && !is_managed {
        // Somebody else's, which was never taken over.
        return Decision::Rest(Rest::Gone);
    }
    if latest.memo.is_none() {
        if let Some(until) = latest.busy_until(options).filter(|until| now < *until) {
            return Decision::Rest(Rest::Wait { until, why: Waits::ForOther });
        }
        if latest.status.is_pending() {
            return Decision::GiveUp { why: "somebody else began it and did not finish it in time" };
        }
    }
    match *goal {
        Goal::Gone { options } => gone(latest, options, now),
        Goal::Run { content, spec, chart, options } => {
            let wanted = Wanted { content, spec, chart, options };
            match &latest.memo {
                None if latest.status == Status::Uninstalled => wanted.after_uninstall(None),
                None => {
                    let cause = if is_managed { Cause::Foreign } else { Cause::Adopted };
                    begin(Attempt::Upgrade, cause, Failures::default())
                }
                Some(memo) => wanted.after(history, latest, memo, now),
            }
        }
    }
}

fn gone(latest: &Revision, options: &Options, now: Timestamp) -> Decision {
    let uninstall = begin(Attempt::Uninstall, Cause::Removed, Failures::default());
    let Some(memo) = &latest.memo else {
        // Somebody uninstalled it and kept the records.
        let is_done = latest.status == Status::Uninstalled;
        return if is_done { Decision::Rest(Rest::Gone) } else { uninstall };
    };
    if memo.attempt != Attempt::Uninstall {
        return uninstall;
    }
    match latest.status {
        _ if memo.progress.is_some() => Decision::Resume,
        Status::Uninstalled if options.uninstall.keep_history => Decision::Rest(Rest::Gone),
        Status::Failed => retry(memo, UNINSTALL_PAUSE, now, uninstall),
        _ => uninstall,
    }
}

struct Wanted<'a> {
    content: Digest,
    spec: Digest,
    chart: &'a str,
    options: &'a Options,
}

impl Wanted<'_> {
    fn after(&self, history: &[Revision], latest: &Revision, memo: &Memo, now: Timestamp) -> Decision {
        let is_same = memo.spec == self.spec;
        if memo.progress.is_some() {
            return self.unfinished(latest, memo);
        }
        let on_failure = self.on_failure(memo.of);
        let has_failed_tests =
            self.options.test.enable && memo.tested == Some(false) && !on_failure.ignore_test_failures;
        match latest.status {
            Status::Uninstalled => self.after_uninstall(Some(memo)),
            Status::Deployed if memo.content == Some(self.content) && !has_failed_tests => {
                let is_untested = self.options.test.enable && memo.tested.is_none();
                if is_untested { Decision::Test } else { Decision::Rest(Rest::InSync) }
            }
            Status::Deployed | Status::Failed if memo.cause == Cause::Removed => {
                begin(Attempt::Upgrade, Cause::Changed, Failures::default())
            }
            Status::Deployed | Status::Failed if !is_same => self.change(latest),
            Status::Failed if memo.cause == Cause::Replaced => match self.change(latest) {
                _ if memo.failed_remedies >= MAX_REMEDIES => stuck(Stuck::RemedyFailed),
                Decision::Begin(begin) => {
                    Decision::Begin(Begin { failed_remedies: memo.failed_remedies, ..begin })
                }
                other => other,
            },
            Status::Deployed if !has_failed_tests => {
                // It was rolled back.
                let failures = memo.failures.of(memo.of);
                if on_failure.is_exhausted(failures) {
                    stuck(Stuck::Exhausted { of: memo.of, failures })
                } else {
                    begin(Attempt::Upgrade, Cause::Retry, memo.failures)
                }
            }
            Status::Deployed | Status::Failed => self.after_failure(history, latest, memo, now),
            // Nothing that the engine leaves.
            _ => begin(Attempt::Upgrade, Cause::Foreign, Failures::default()),
        }
    }

    fn unfinished(&self, latest: &Revision, memo: &Memo) -> Decision {
        let is_test = latest.status == Status::Deployed;
        let is_wanted = if is_test {
            self.options.test.enable && memo.content == Some(self.content)
        } else {
            // Half of it is deleted: there is no way but on.
            memo.spec == self.spec || memo.attempt == Attempt::Uninstall
        };
        if is_wanted {
            Decision::Resume
        } else {
            Decision::GiveUp { why: "another definition is wanted now" }
        }
    }

    /// Of what runs, to what is wanted.
    fn change(&self, latest: &Revision) -> Decision {
        let replaces = self.options.chart_name_change == ChartNameChange::Reinstall;
        if replaces && latest.chart != self.chart {
            return begin(Attempt::Uninstall, Cause::Replaced, Failures::default());
        }
        begin(Attempt::Upgrade, Cause::Changed, Failures::default())
    }

    fn after_uninstall(&self, memo: Option<&Memo>) -> Decision {
        // Helm refuses a name whose records were kept, unless it is told to take it.
        let is_on_the_way = memo.is_some_and(|memo| matches!(memo.cause, Cause::Remedy | Cause::Replaced));
        if !is_on_the_way && !self.options.replace {
            return stuck(Stuck::NameTaken);
        }
        let failures =
            memo.filter(|memo| memo.spec == self.spec).map(|memo| memo.failures).unwrap_or_default();
        if self.options.on_install_failure.is_exhausted(failures.install) {
            return stuck(Stuck::Exhausted { of: Release::Install, failures: failures.install });
        }
        let cause = if failures == Failures::default() { Cause::Absent } else { Cause::Retry };
        begin(Attempt::Install, cause, failures)
    }

    fn after_failure(
        &self,
        history: &[Revision],
        latest: &Revision,
        memo: &Memo,
        now: Timestamp,
    ) -> Decision {
        let on_failure = self.on_failure(memo.of);
        let again = begin(Attempt::Upgrade, Cause::Retry, memo.failures);
        if let Some(interval) = on_failure.retry_interval {
            return retry(memo, interval, now, again);
        }
        let failures = memo.failures.of(memo.of);
        if failures == 0 {
            // It was given up, and is wanted again.
            return again;
        }
        if on_failure.is_exhausted(failures) && !on_failure.remediate_last_failure {
            return stuck(Stuck::Exhausted { of: memo.of, failures });
        }
        if memo.failed_remedies >= MAX_REMEDIES {
            return stuck(Stuck::RemedyFailed);
        }
        let attempt = match on_failure.remedy {
            Remedy::Uninstall => Attempt::Uninstall,
            Remedy::Rollback => match rollback_target(history, latest, on_failure) {
                Some(to) => Attempt::Rollback { to },
                None => return stuck(Stuck::NoRollbackTarget),
            },
        };
        Decision::Begin(Begin {
            attempt,
            cause: Cause::Remedy,
            of: memo.of,
            failures: memo.failures,
            failed_remedies: memo.failed_remedies,
        })
    }

    fn on_failure(&self, of: Release) -> &OnFailure {
        match of {
            Release::Install => &self.options.on_install_failure,
            Release::Upgrade => &self.options.on_upgrade_failure,
        }
    }
}

/// The last revision that ran well. helm-controller takes those only that it made itself; here what somebody else deployed before
/// the release was taken over counts too.
fn rollback_target(history: &[Revision], latest: &Revision, on_failure: &OnFailure) -> Option<u64> {
    let ran_well = |revision: &&Revision| {
        let has_failed_tests = revision.memo.as_ref().is_some_and(|memo| memo.tested == Some(false));
        revision.number < latest.number
            && matches!(revision.status, Status::Deployed | Status::Superseded)
            && (on_failure.ignore_test_failures || !has_failed_tests)
    };
    history.iter().rev().find(ran_well).map(|revision| revision.number)
}

/// What is to be tried again, so many seconds after it failed.
fn retry(memo: &Memo, pause: u32, now: Timestamp, again: Decision) -> Decision {
    match memo.ended.and_then(|ended| after(ended, pause)) {
        Some(until) if now < until => Decision::Rest(Rest::Wait { until, why: Waits::ToRetry }),
        _ => again,
    }
}

/// `None` beyond the end of time, where only a damaged record can be.
fn after(time: Timestamp, seconds: u32) -> Option<Timestamp> {
    time.checked_add(SignedDuration::from_secs(seconds.into())).ok()
}

fn begin(attempt: Attempt, cause: Cause, failures: Failures) -> Decision {
    let of = match attempt {
        Attempt::Install => Release::Install,
        Attempt::Upgrade | Attempt::Rollback { .. } | Attempt::Uninstall => Release::Upgrade,
    };
    Decision::Begin(Begin { attempt, cause, of, failures, failed_remedies: 0 })
}

fn stuck(why: Stuck) -> Decision {
    Decision::Rest(Rest::Stuck(why))
}

impl Revision {
    /// Until when somebody may be at work on it; `None` if nobody is.
    fn busy_until(&self, options: &Options) -> Option<Timestamp> {
        let is_busy = self.status.is_pending() || self.status == Status::Uninstalling;
        let patience = options.install.timeout.max(options.upgrade.timeout).max(LEAST_PATIENCE);
        let begun = self.begun.filter(|_| is_busy)?;
        after(begun, patience)
    }
}

impl fmt::Display for Stuck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exhausted { of, failures } => {
                let what = match of {
                    Release::Install => "install",
                    Release::Upgrade => "upgrade",
                };
                let times = if *failures == 1 { "attempt" } else { "attempts" };
                write!(f, "the {what} failed after {failures} {times}; it is tried again when its definition changes")
            }
            Self::NoRollbackTarget => f.write_str(
                "the upgrade failed, and no revision that was deployed before it is left to roll back to; change the definition, or \
                 set upgrade.remediation.strategy to uninstall",
            ),
            Self::RemedyFailed => write!(
                f,
                "what should put the release right after a failure failed {MAX_REMEDIES} times itself; change the definition"
            ),
            Self::NameTaken => f.write_str(
                "the name is taken by a release that was uninstalled with its records kept; delete those records, or set \
                 install.replace",
            ),
        }
    }
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
