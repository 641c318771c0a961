//! A cluster in memory on which a machine's actions are executed.

use std::collections::{BTreeMap, BTreeSet};

use flotilla_core::unit::release::Options;
use flotilla_core::{Digest, ObjectId};
use serde_json::json;

use super::*;
use crate::content::Content;
use crate::engine::decide::Rest;
use crate::engine::objects::named;
use crate::hook::{Event, Hook, due};
use crate::manifest;
use crate::record::Json;

/// What becomes of a hook's object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Succeeds,
    Fails,
    Hangs,
    /// Somebody deletes it.
    Vanishes,
}

/// What goes wrong with an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    Nothing,
    /// It is done, and the answer is lost.
    Lost,
    /// It is not done, and nobody knows.
    Undone,
    /// It is done, and the agent is killed.
    Killed,
}

struct Object {
    there: There,
    looks: u32,
    fate: Fate,
}

pub(super) struct Cluster {
    pub(super) now: Timestamp,
    pub(super) records: BTreeMap<u64, Record>,
    pub(super) objects: BTreeSet<ObjectId>,
    hooks: BTreeMap<String, Object>,
    count: u64,
    /// By the marks of their runs.
    pub(super) finished: BTreeMap<String, HookState>,
    /// What was done, in order.
    pub(super) log: Vec<String>,
    /// Objects of hooks that are deleted stay.
    pub(super) has_finalizers: bool,
    pub(super) fates: Box<dyn Fn(&str) -> Fate>,
    /// Whether applying the latest revision is refused, by what its chart's version is.
    pub(super) refuses: Box<dyn Fn(&str) -> bool>,
}

pub(super) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

impl Cluster {
    pub(super) fn new() -> Self {
        Self {
            now: at(0),
            records: BTreeMap::new(),
            objects: BTreeSet::new(),
            hooks: BTreeMap::new(),
            count: 0,
            finished: BTreeMap::new(),
            log: Vec::new(),
            has_finalizers: false,
            fates: Box::new(|_| Fate::Succeeds),
            refuses: Box::new(|_| false),
        }
    }

    pub(super) fn machine(&self, want: &Want) -> Machine {
        Machine::new(want.clone(), self.records.values().cloned().collect())
    }

    /// Runs machines until one comes to rest for good.
    pub(super) fn run(&mut self, want: &Want, mut fault: impl FnMut() -> Fault) -> End {
        let mut machine = self.machine(want);
        for _ in 0..5_000 {
            let action = machine.next(self.now);
            match &action {
                Action::End(End::Rest(Rest::Wait { until, .. })) => {
                    self.now = *until;
                    machine = self.machine(want);
                    continue;
                }
                Action::End(end) => return end.clone(),
                Action::Again => {
                    machine = self.machine(want);
                    continue;
                }
                _ => {}
            }
            let answer = match fault() {
                Fault::Nothing => self.execute(&action, &machine),
                Fault::Lost => {
                    self.execute(&action, &machine);
                    Answer::Unknown
                }
                Fault::Undone => Answer::Unknown,
                Fault::Killed => {
                    self.execute(&action, &machine);
                    machine = self.machine(want);
                    continue;
                }
            };
            machine.answer(&action, answer, self.now);
        }
        panic!("it never ends: {:#?}", &self.log[self.log.len().saturating_sub(40)..]);
    }

    fn execute(&mut self, action: &Action, machine: &Machine) -> Answer {
        self.count += 1;
        // No two attempts begin at once.
        self.now = self.now.checked_add(SignedDuration::from_millis(1)).unwrap();
        let latest = machine.latest().map(|latest| latest.release.clone());
        match action {
            Action::Write(record) => {
                let (revision, status) = (record.release.revision, record.release.info.status);
                let old = self.records.get(&revision).and_then(|old| old.resource_version.clone());
                if old != record.resource_version {
                    return Answer::Unknown;
                }
                let resource_version = self.count.to_string();
                let record =
                    Record { resource_version: Some(resource_version.clone()), ..(**record).clone() };
                self.records.insert(revision, record);
                self.log.push(format!("{revision} {}", status.as_str()));
                Answer::Written { resource_version }
            }
            Action::DeleteRecord { revision, resource_version } => {
                if self.records.get(revision).is_some_and(|old| old.resource_version == *resource_version) {
                    self.records.remove(revision);
                    self.log.push(format!("{revision} deleted"));
                }
                Answer::Done
            }
            Action::Look(object) => self.look(object),
            Action::Create(object) => {
                if let Some(old) = self.hooks.get(&object.name) {
                    return Answer::There(old.there.clone());
                }
                assert!(!self.finished.contains_key(&object.mark), "{} ran to its end before", object.mark);
                let uid = self.count.to_string();
                let there =
                    There { uid: uid.clone(), mark: Some(object.mark.clone()), state: HookState::Running };
                let fate = (self.fates)(&object.name);
                self.hooks.insert(object.name.clone(), Object { there, looks: 0, fate });
                self.log.push(format!("hook {}", object.name));
                Answer::Made { uid }
            }
            Action::Delete { object, uid } => {
                let old = self.hooks.get(&object.name).is_some_and(|old| old.there.uid == *uid);
                if old && self.has_finalizers {
                    return Answer::NotYet("waits for a finalizer".to_owned());
                }
                if old {
                    self.hooks.remove(&object.name);
                    self.log.push(format!("clear {}", object.name));
                }
                Answer::Done
            }
            Action::Apply => {
                let release = latest.unwrap();
                if (self.refuses)(&release.metadata().unwrap().version) {
                    return Answer::Refused("it is wrong".to_owned());
                }
                self.objects.extend(
                    named(&release.manifest, &release.namespace).unwrap().into_iter().map(|it| it.id),
                );
                self.log.push(format!("apply {}", release.revision));
                Answer::Done
            }
            Action::DeleteObjects { objects, keep } => {
                let memo = machine.memo().unwrap();
                let is_uninstall = memo.attempt == crate::engine::memo::Attempt::Uninstall;
                let release = latest.unwrap();
                let own = named(&release.manifest, &release.namespace).unwrap();
                assert_eq!(*keep, if is_uninstall { Vec::new() } else { own });
                for object in objects {
                    assert!(!keep.iter().any(|kept| kept.id == object.id), "{} is in both", object.id);
                    assert!(!object.id.name.starts_with("kept"), "{} is kept", object.id);
                    if self.objects.remove(&object.id) {
                        self.log.push(format!("delete {}", object.id.name));
                    }
                }
                Answer::Done
            }
            Action::Ready { .. } | Action::Gone { .. } => Answer::Done,
            Action::Pause { until } => {
                // A minute at once, so that what hangs does not take long.
                self.now = *until + SignedDuration::from_mins(1);
                Answer::Done
            }
            Action::Again | Action::End(_) => unreachable!(),
        }
    }

    fn look(&mut self, object: &HookObject) -> Answer {
        let Some(old) = self.hooks.get_mut(&object.name) else { return Answer::Absent };
        old.looks += 1;
        if old.looks > 2 && old.there.state == HookState::Running {
            let end = match old.fate {
                Fate::Succeeds => HookState::Succeeded,
                Fate::Fails => HookState::Failed("it broke".to_owned()),
                Fate::Hangs => return Answer::There(old.there.clone()),
                Fate::Vanishes => {
                    self.hooks.remove(&object.name);
                    return Answer::Absent;
                }
            };
            old.there.state = end.clone();
            self.finished.insert(old.there.mark.clone().unwrap(), end);
        }
        Answer::There(old.there.clone())
    }

    /// What Helm, and whoever wrote the chart, may rely on where the engine rests.
    pub(super) fn check(&self, want: &Want, end: &End) {
        let of = |status: Status| self.records.values().filter(move |it| it.release.info.status == status);
        assert!(of(Status::Deployed).count() <= 1, "{:#?}", self.log);
        for record in self.records.values() {
            let status = record.release.info.status;
            assert!(!status.is_pending() && status != Status::Uninstalling, "{status:?}: {:#?}", self.log);
        }
        let Some((revision, latest)) = self.records.last_key_value() else {
            assert_eq!(*end, End::Rest(Rest::Gone));
            return;
        };
        if *end != End::Rest(Rest::InSync) {
            return;
        }
        let Want::Run(wanted) = want else { panic!("{end:?}") };
        assert_eq!(latest.release.info.status, Status::Deployed, "{:#?}", self.log);
        assert_eq!(latest.release.manifest, wanted.content.manifest);
        let own: BTreeSet<ObjectId> =
            named(&latest.release.manifest, "apps").unwrap().into_iter().map(|it| it.id).collect();
        let others: Vec<_> = self.objects.difference(&own).collect();
        assert!(own.is_subset(&self.objects), "{own:?} {:#?}", self.log);
        assert!(others.iter().all(|other| other.name.starts_with("kept")), "{others:?}: {:#?}", self.log);
        // Each hook of what was done last ran to its end, none was left out.
        let memo = Memo::read(&latest.annotations[MEMO]).unwrap();
        let events = match memo.attempt {
            crate::engine::memo::Attempt::Install => [Event::PreInstall, Event::PostInstall],
            crate::engine::memo::Attempt::Upgrade => [Event::PreUpgrade, Event::PostUpgrade],
            crate::engine::memo::Attempt::Rollback { .. } => [Event::PreRollback, Event::PostRollback],
            crate::engine::memo::Attempt::Uninstall => panic!("{:#?}", self.log),
        };
        for event in events {
            for place in due(&latest.release.hooks, &event) {
                let mark = format!("{revision}/{event}/{place}/{}", memo.begun.as_millisecond());
                assert_eq!(self.finished.get(&mark), Some(&HookState::Succeeded), "{mark} {:#?}", self.log);
            }
        }
    }
}

/// A release of a chart of some version: objects as named, where `kept` ones are kept, and hooks by `name: annotations`.
pub(super) fn wanted(version: u32, objects: &[&str], hooks: &[(&str, &str)], options: &Options) -> Want {
    let object = |name: &&str| {
        let kept =
            if name.starts_with("kept") { ", annotations: {helm.sh/resource-policy: keep}" } else { "" };
        format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}{kept}}}\n")
    };
    let hook = |(name, annotations): &(&str, &str)| {
        format!(
            "apiVersion: batch/v1\nkind: Job\nmetadata: {{name: {name}, annotations: {{{annotations}}}}}\n"
        )
    };
    let documents: Vec<String> = objects.iter().map(object).chain(hooks.iter().map(hook)).collect();
    let sorted = manifest::sort(documents.iter().map(|it| ("web/templates/all.yaml", it.as_str()))).unwrap();
    let hooks: Vec<Hook> = sorted.hooks;
    let content = Content {
        config: Json::of(&json!({})),
        manifest: manifest::joined(&sorted.objects),
        hooks,
        notes: String::new(),
    };
    let digest = Digest::of(&content.pack());
    let spec = Digest::of(format!("{version} {options:?}").as_bytes());
    Want::Run(Box::new(Wanted {
        target: target(),
        digest: Digest::of_parts([&digest.as_bytes()[..], version.to_string().as_bytes()]),
        spec,
        chart: Json::of(&json!({"metadata": {"name": "web", "version": format!("{version}.0.0")}})),
        content,
        options: options.clone(),
    }))
}

pub(super) fn target() -> Target {
    Target {
        name: "web".parse().unwrap(),
        namespace: "apps".parse().unwrap(),
        storage_namespace: "apps".parse().unwrap(),
    }
}
