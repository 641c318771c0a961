//! How attempts begin, go from stage to stage, and end: what is written of them, and what they do to the objects.

use std::collections::BTreeMap;

use flotilla_core::Digest;
use flotilla_core::text::shorten;
use jiff::Timestamp;

use super::{Action, Machine, Progress, Step, Want};
use crate::engine::decide::Begin;
use crate::engine::memo::{Attempt, Cause, MANAGED, MEMO, Memo, Stage};
use crate::engine::objects::{Named, left, named};
use crate::hook::{Execution, Hook, Phase};
use crate::record::{Info, Record, Release, Status};

/// Of a description in a record, in bytes.
const MAX_DESCRIPTION: usize = 1 << 10;

impl Machine {
    pub(super) fn begin(&mut self, begin: &Begin, now: Timestamp) -> Step {
        let old = self.entries.last();
        let old_memo = old.and_then(|entry| entry.memo.as_ref());
        let spec = match &self.want {
            Want::Run(wanted) => wanted.spec,
            Want::Gone { .. } => old_memo.map_or_else(|| Digest::of(b""), |memo| memo.spec),
        };
        let mut memo = Memo {
            attempt: begin.attempt,
            cause: begin.cause,
            of: begin.of,
            spec,
            content: old_memo.and_then(|memo| memo.content),
            begun: now,
            ended: None,
            failures: begin.failures,
            failed_remedies: begin.failed_remedies,
            tested: None,
            progress: Some(Progress { stage: Stage::Before, since: now, hooks: 0, run: None }),
        };
        match begin.attempt {
            Attempt::Uninstall => {
                let Some(old) = old else { return Step::On };
                memo.tested = old_memo.and_then(|memo| memo.tested);
                let is_done = old.status() == Status::Uninstalled;
                if let Some(progress) = memo.progress.as_mut().filter(|_| is_done) {
                    progress.stage = Stage::Records;
                }
                Step::write(old.changed(&memo, |record| {
                    if !is_done {
                        record.release.info.status = Status::Uninstalling;
                        record.release.info.deleted = Some(now);
                        record.release.info.description =
                            "Deletion in progress (or silently failed)".to_owned();
                    }
                }))
            }
            Attempt::Install | Attempt::Upgrade => {
                let Want::Run(wanted) = &self.want else { return Step::On };
                memo.content = Some(wanted.digest);
                let is_install = begin.attempt == Attempt::Install;
                let mut info = self.info(now);
                (info.status, info.description) = if is_install {
                    (Status::PendingInstall, "Initial install underway".to_owned())
                } else {
                    (Status::PendingUpgrade, "Preparing upgrade".to_owned())
                };
                info.notes = wanted.content.notes.clone();
                let release = Release {
                    name: wanted.target.name.as_str().to_owned(),
                    namespace: wanted.target.namespace.as_str().to_owned(),
                    revision: self.next_revision(),
                    info,
                    chart: wanted.chart.clone(),
                    config: wanted.content.config.clone(),
                    manifest: wanted.content.manifest.clone(),
                    hooks: never_ran(&wanted.content.hooks),
                    apply_method: Some("ssa".to_owned()),
                    rest: BTreeMap::new(),
                };
                let labels = old.map(|old| old.record.labels.clone()).unwrap_or_default();
                let storage = wanted.target.storage_namespace.as_str();
                Step::write(record(release, storage, labels, &memo))
            }
            Attempt::Rollback { to } => {
                let Some(target) = self.entries.iter().find(|it| it.record.release.revision == to) else {
                    return Step::On;
                };
                memo.content = target.memo.as_ref().and_then(|memo| memo.content);
                let of = &target.record.release;
                let info = Info {
                    status: Status::PendingRollback,
                    description: format!("Rollback to {to}"),
                    rollback_revision: to,
                    notes: of.info.notes.clone(),
                    ..self.info(now)
                };
                let release = Release {
                    revision: self.next_revision(),
                    info,
                    hooks: never_ran(&of.hooks),
                    apply_method: Some("ssa".to_owned()),
                    ..of.clone()
                };
                let storage = &target.record.storage_namespace;
                Step::write(record(release, storage, target.record.labels.clone(), &memo))
            }
        }
    }

    /// Of a new revision.
    fn info(&self, now: Timestamp) -> Info {
        let first = self.entries.last().filter(|it| it.status() != Status::Uninstalled);
        Info {
            first_deployed: Some(first.and_then(|it| it.record.release.info.first_deployed).unwrap_or(now)),
            last_deployed: Some(now),
            deleted: None,
            description: String::new(),
            status: Status::Unknown,
            rollback_revision: 0,
            notes: String::new(),
            rest: serde_json::Map::new(),
        }
    }

    fn next_revision(&self) -> u64 {
        self.latest().map_or(0, |latest| latest.release.revision).saturating_add(1)
    }

    pub(super) fn given_up(&mut self, why: &str, now: Timestamp) -> Step {
        let Some(latest) = self.entries.last() else { return Step::On };
        let failed = |record: &mut Record| {
            let info = &mut record.release.info;
            if info.status.is_pending() {
                info.status = Status::Failed;
                info.description = format!("Given up: {why}");
            }
        };
        let Some(memo) = &latest.memo else {
            // It stays somebody else's.
            let mut record = latest.record.clone();
            failed(&mut record);
            return Step::write(record);
        };
        Step::write(latest.changed(&Memo { ended: Some(now), progress: None, ..memo.clone() }, failed))
    }

    /// Begins the tests.
    pub(super) fn tested(&mut self, now: Timestamp) -> Step {
        let Some((latest, memo)) = self.entries.last().and_then(|it| Some((it, it.memo.clone()?))) else {
            return Step::On;
        };
        let progress = Progress { stage: Stage::Test, since: now, hooks: 0, run: None };
        Step::write(latest.changed(&Memo { progress: Some(progress), ..memo }, |_| ()))
    }

    /// Goes on to the next stage. It is written with the next thing that has to be.
    pub(super) fn advance(&mut self, now: Timestamp) {
        let Some(memo) = self.memo() else { return };
        let Some(stage) = self.progress().map(|progress| progress.stage) else { return };
        let order: &[Stage] = match memo.attempt {
            _ if stage == Stage::Test => &[],
            Attempt::Install | Attempt::Uninstall => {
                &[Stage::Before, Stage::Objects, Stage::Wait, Stage::After]
            }
            Attempt::Upgrade | Attempt::Rollback { .. } => {
                &[Stage::Before, Stage::Objects, Stage::Leaving, Stage::Wait, Stage::After]
            }
        };
        let following = order
            .iter()
            .copied()
            .find(|next| *next > stage && !(*next == Stage::Wait && self.action_options().disable_wait));
        (self.cleared, self.seen, self.hook_since) = (0, None, None);
        match following {
            Some(stage) => {
                if let Some(progress) = self.progress_mut() {
                    *progress = Progress { stage, since: now, hooks: 0, run: None };
                }
            }
            None => self.is_done = true,
        }
    }

    /// What is done to the objects.
    pub(super) fn objects(&mut self, now: Timestamp) -> Step {
        let (Some(memo), Some(stage)) = (self.memo(), self.progress().map(|it| it.stage)) else {
            return Step::On;
        };
        let is_uninstall = memo.attempt == Attempt::Uninstall;
        let jobs = !self.action_options().disable_wait_for_jobs;
        match stage {
            Stage::Objects if !is_uninstall => return Step::Do(Action::Apply),
            Stage::Wait if !is_uninstall => return Step::Do(Action::Ready { jobs }),
            _ => {}
        }
        let latest = match self.named_latest() {
            Ok(latest) => latest,
            Err(why) => {
                self.failed = Some(why);
                return Step::On;
            }
        };
        let mut earlier = self.named_earlier();
        if is_uninstall {
            earlier.extend(latest);
            let objects = left(earlier, &[]);
            return Step::Do(match stage {
                Stage::Wait => Action::Gone { objects },
                _ => Action::DeleteObjects { objects, keep: Vec::new() },
            });
        }
        let objects = left(earlier, &latest);
        if objects.is_empty() {
            self.advance(now);
            return Step::On;
        }
        Step::Do(Action::DeleteObjects { objects, keep: latest })
    }

    fn named_latest(&self) -> Result<Vec<Named>, String> {
        let release = self.latest().map(|latest| &latest.release);
        release.map_or(Ok(Vec::new()), |release| named(&release.manifest, &release.namespace))
    }

    /// What the revisions since the last that ran well have, the latest aside: Helm looks at that one only, and leaves behind what
    /// attempts made that failed. Of a revision that cannot be read nothing is deleted.
    fn named_earlier(&self) -> Vec<Named> {
        let earlier = &self.entries[..self.entries.len().saturating_sub(1)];
        let ran = |status| matches!(status, Status::Deployed | Status::Superseded);
        let since = earlier.iter().rposition(|it| ran(it.status())).unwrap_or(0);
        let manifests = earlier[since..].iter().map(|it| &it.record.release);
        manifests.flat_map(|it| named(&it.manifest, &it.namespace).unwrap_or_default()).collect()
    }

    /// Writes how the attempt ended.
    pub(super) fn finish(&mut self, now: Timestamp) -> Step {
        let Some((place, progress)) = self.entries.len().checked_sub(1).zip(self.progress().cloned()) else {
            return Step::On;
        };
        let Some(mut memo) = self.entries[place].memo.clone() else { return Step::On };
        let is_test = progress.stage == Stage::Test;
        let failed = self.failed.clone();
        if failed.is_none() && !is_test && memo.attempt != Attempt::Uninstall {
            let older = self.entries[..place].iter().find(|it| it.status() == Status::Deployed);
            if let Some(older) = older {
                let mut record = older.record.clone();
                record.release.info.status = Status::Superseded;
                return Step::write(record);
            }
        }
        (memo.ended, memo.progress) = (Some(now), None);
        if is_test {
            memo.tested = Some(failed.is_none());
        }
        match (&failed, memo.attempt) {
            (Some(_), _) if is_test && self.ignores_tests(&memo) => {}
            (Some(_), Attempt::Install | Attempt::Upgrade) => {
                memo.failures = memo.failures.and_one_more(memo.of);
            }
            // The tests of what was gone back to.
            (Some(_), Attempt::Rollback { .. }) if is_test => {
                memo.failures = memo.failures.and_one_more(memo.of);
            }
            (Some(_), Attempt::Rollback { .. } | Attempt::Uninstall) => memo.failed_remedies += 1,
            (None, Attempt::Uninstall) => {
                let options = self.options();
                if memo.cause == Cause::Removed && !options.uninstall.keep_history {
                    memo.progress = Some(Progress { stage: Stage::Records, since: now, hooks: 0, run: None });
                }
            }
            (None, _) => memo.failed_remedies = 0,
        }
        let failed_hook = failed
            .is_some()
            .then(|| self.due(progress.stage))
            .and_then(|due| due.get(progress.hooks).copied());
        let (status, description) = match (&failed, memo.attempt) {
            _ if is_test => (Status::Deployed, None),
            (Some(why), _) => (Status::Failed, Some(shorten(why, MAX_DESCRIPTION))),
            (None, Attempt::Install) => (Status::Deployed, Some("Install complete".to_owned())),
            (None, Attempt::Upgrade) => (Status::Deployed, Some("Upgrade complete".to_owned())),
            (None, Attempt::Rollback { to }) => (Status::Deployed, Some(format!("Rollback to {to}"))),
            (None, Attempt::Uninstall) => (Status::Uninstalled, Some("Uninstallation complete".to_owned())),
        };
        Step::write(self.entries[place].changed(&memo, |record| {
            if let Some(hook) = failed_hook.and_then(|place| record.release.hooks.get_mut(place)) {
                (hook.last_run.phase, hook.last_run.completed_at) = (Phase::Failed, Some(now));
            }
            let info = &mut record.release.info;
            info.status = status;
            info.description = description.unwrap_or_else(|| info.description.clone());
        }))
    }

    fn ignores_tests(&self, memo: &Memo) -> bool {
        use crate::engine::memo::Release::{Install, Upgrade};
        let options = self.options();
        match memo.of {
            Install => options.on_install_failure.ignore_test_failures,
            Upgrade => options.on_upgrade_failure.ignore_test_failures,
        }
    }
}

fn record(release: Release, storage: &str, mut labels: BTreeMap<String, String>, memo: &Memo) -> Record {
    labels.insert(MANAGED.to_owned(), "true".to_owned());
    Record {
        release,
        storage_namespace: storage.to_owned(),
        labels,
        annotations: [(MEMO.to_owned(), memo.write())].into(),
        resource_version: None,
    }
}

fn never_ran(hooks: &[Hook]) -> Vec<Hook> {
    hooks.iter().map(|hook| Hook { last_run: Execution::default(), ..hook.clone() }).collect()
}
