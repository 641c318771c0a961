//! What each of our objects looked like last: by the answers to our own applies and by watches. Of an object no more
//! than this is kept.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard};

use flotilla_core::health::{Health, Rule};
use flotilla_core::inventory::Uid;
use flotilla_core::live::{Live, Metadata};
use flotilla_core::{Digest, ObjectId, drift};
use flotilla_runtime::lock;

/// An object as last seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Observed {
    pub(crate) uid: Uid,
    /// Where the API server's versions are no numbers this is 0, and what comes later counts as newer.
    pub(crate) version: u64,
    /// 0 for kinds without one.
    pub(crate) generation: i64,
    /// Of our own `managedFields` entry.
    pub(crate) entry: Option<Digest>,
    /// Whether kubectl or a former tool holds fields that are to become ours.
    pub(crate) folded: bool,
    /// Whether somebody in the cluster said that it is to be left alone.
    pub(crate) paused: bool,
    pub(crate) health: Health,
}

impl Observed {
    fn of(live: &Live, rule: Option<&Rule>) -> Self {
        Self {
            uid: Uid::from(live.metadata.uid.clone()),
            version: live.metadata.resource_version.parse().unwrap_or_default(),
            generation: live.metadata.generation,
            entry: drift::own_digest(&live.metadata.managed_fields),
            folded: is_to_fold(&live.metadata),
            paused: is_paused(&live.metadata),
            health: Health::by(live, rule),
        }
    }
}

/// Whether an object says a word of Flux's by an annotation or a label, be it that kubectl put it there.
pub(crate) fn says(metadata: &Metadata, word: &str, value: &str) -> bool {
    let name = format!("kustomize.toolkit.fluxcd.io/{word}");
    let found =
        |all: &BTreeMap<String, String>| all.get(&name).is_some_and(|v| v.eq_ignore_ascii_case(value));
    found(&metadata.annotations) || found(&metadata.labels)
}

/// Whether an object says that it is to be left alone.
pub(crate) fn is_paused(metadata: &Metadata) -> bool {
    says(metadata, "reconcile", "disabled") || says(metadata, "ssa", "ignore")
}

/// Whether kubectl or a former tool holds fields that are to become ours: not where the object itself says that they are
/// to be merged with.
pub(crate) fn is_to_fold(metadata: &Metadata) -> bool {
    drift::has_folded(&metadata.managed_fields) && !says(metadata, "ssa", "merge")
}

/// What is known of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Presence {
    /// Its kind is not listed yet.
    Unknown,
    Absent,
    There(Observed),
}

/// A kind, its version aside.
pub(crate) type Kind = (String, String);

/// All that is known, and what changed since anybody asked.
#[derive(Default)]
pub(crate) struct Members {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    /// The objects that anybody cares about; others are not kept.
    wanted: HashSet<ObjectId>,
    /// How the health of some is told, where their unit says so.
    rules: HashMap<ObjectId, Arc<Rule>>,
    seen: HashMap<ObjectId, Observed>,
    /// Kinds whose watch has listed them.
    listed: HashSet<Kind>,
    changed: HashSet<ObjectId>,
    /// Why a kind cannot be watched, and whether that will last.
    problems: HashMap<Kind, (String, bool)>,
    /// Why an object with a watch of its own cannot be watched.
    hidden: HashMap<ObjectId, String>,
    /// Objects of others, with a watch of their own name.
    foreign: HashSet<ObjectId>,
    /// Jobs that ended, and how. Kept when they are gone, which those with a TTL soon are.
    ended: HashMap<ObjectId, (Uid, Health)>,
}

impl Members {
    /// Sets which objects matter.
    pub(crate) fn want(
        &self,
        wanted: HashSet<ObjectId>,
        foreign: HashSet<ObjectId>,
        rules: HashMap<ObjectId, Arc<Rule>>,
    ) {
        let mut inner = self.lock();
        inner.rules = rules;
        inner.foreign = foreign;
        inner.seen.retain(|id, _| wanted.contains(id));
        inner.seen.shrink_to_fit();
        inner.ended.retain(|id, _| wanted.contains(id));
        inner.wanted = wanted;
    }

    pub(crate) fn get(&self, id: &ObjectId) -> Presence {
        let inner = self.lock();
        match inner.seen.get(id) {
            Some(observed) => Presence::There(observed.clone()),
            None if inner.listed.contains(&(id.group.clone(), id.kind.clone())) => Presence::Absent,
            None => Presence::Unknown,
        }
    }

    /// Takes what an answer or a watch shows. True if that says something new.
    pub(crate) fn observe(&self, id: &ObjectId, live: &Live) -> bool {
        let mut inner = self.lock();
        // One text for each name: that of the desired state.
        let Some(id) = inner.wanted.get(id).cloned() else { return false };
        inner.note_end(&id, live);
        let rule = inner.rules.get(&id).cloned();
        let mut observed = Observed::of(live, rule.as_deref());
        // An answer to a request of ours shows no more than it had to; the watch shows all of it in a moment.
        if live.whole.is_none()
            && rule.is_some_and(|rule| rule.needs_whole())
            && let Some(old) = inner.seen.get(&id)
        {
            observed.health = old.health.clone();
        }
        match inner.seen.get(&id) {
            // A watch may lag behind the answers to our own requests.
            Some(old)
                if old.uid == observed.uid && old.version > observed.version && observed.version != 0 =>
            {
                return false;
            }
            Some(old) if same(old, &observed) && !is_rewritten(old, &observed) => {
                inner.seen.insert(id, observed);
                return false;
            }
            _ => {}
        }
        inner.seen.insert(id.clone(), observed);
        inner.changed.insert(id);
        true
    }

    /// How a Job ended, and which one that was.
    pub(crate) fn ended(&self, id: &ObjectId) -> Option<(Uid, Health)> {
        self.lock().ended.get(id).cloned()
    }

    /// Something else that is told of an object is new.
    pub(crate) fn touch(&self, id: &ObjectId) {
        self.lock().changed.insert(id.clone());
    }

    /// A watch says that it is gone, or lost its label, and shows how it was. True if that is new.
    pub(crate) fn gone(&self, id: &ObjectId, last: Option<&Live>, version: u64) -> bool {
        let mut inner = self.lock();
        if let (Some(id), Some(last)) = (inner.wanted.get(id).cloned(), last) {
            inner.note_end(&id, last);
        }
        if inner.seen.get(id).is_none_or(|old| version != 0 && old.version > version) {
            return false;
        }
        inner.seen.remove(id);
        inner.changed.insert(id.clone());
        true
    }

    /// A kind was listed whole at this version; what is not in `found` and not newer is gone.
    pub(crate) fn listed(&self, kind: &Kind, version: u64, found: &BTreeSet<ObjectId>) {
        let mut inner = self.lock();
        // Foreign objects do not carry our label, and have a watch of their own.
        let stale = |(id, old): &(&ObjectId, &Observed)| {
            let of_kind = id.group == kind.0 && id.kind == kind.1 && !inner.foreign.contains(*id);
            of_kind && !found.contains(id) && (version == 0 || old.version <= version)
        };
        let stale: Vec<ObjectId> = inner.seen.iter().filter(stale).map(|(id, _)| id.clone()).collect();
        for id in stale {
            inner.seen.remove(&id);
            inner.changed.insert(id);
        }
        inner.problems.remove(kind);
        if inner.listed.insert(kind.clone()) {
            // What was unknown is known now, absent things included.
            let ids: Vec<ObjectId> =
                inner.wanted.iter().filter(|id| id.group == kind.0 && id.kind == kind.1).cloned().collect();
            inner.changed.extend(ids);
        }
    }

    /// A kind is no longer watched: nothing is known of it any more.
    pub(crate) fn unlisted(&self, kind: &Kind) {
        let mut inner = self.lock();
        inner.listed.remove(kind);
        inner.problems.remove(kind);
        inner.seen.retain(|id, _| id.group != kind.0 || id.kind != kind.1);
    }

    pub(crate) fn problem(&self, kind: &Kind, problem: String, lasting: bool) {
        let mut inner = self.lock();
        let old = inner.problems.insert(kind.clone(), (problem, lasting));
        if old.is_none_or(|(_, before)| before != lasting) {
            let ids: Vec<ObjectId> =
                inner.wanted.iter().filter(|id| id.group == kind.0 && id.kind == kind.1).cloned().collect();
            inner.changed.extend(ids);
        }
    }

    /// An object with a watch of its own cannot be watched, for this reason; or can again.
    pub(crate) fn hidden(&self, id: &ObjectId, problem: Option<String>) {
        let mut inner = self.lock();
        let old = match problem {
            Some(problem) => inner.hidden.insert(id.clone(), problem),
            None => inner.hidden.remove(id),
        };
        if old != inner.hidden.get(id).cloned() {
            inner.changed.insert(id.clone());
        }
    }

    /// Why a kind or an object cannot be watched, and whether that will last, if so.
    pub(crate) fn problem_of(&self, id: &ObjectId) -> Option<(String, bool)> {
        let inner = self.lock();
        if let Some(problem) = inner.hidden.get(id) {
            return Some((problem.clone(), false));
        }
        inner.problems.get(&(id.group.clone(), id.kind.clone())).cloned()
    }

    /// What changed since the last call.
    pub(crate) fn take_changed(&self) -> HashSet<ObjectId> {
        std::mem::take(&mut self.lock().changed)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        lock(&self.inner)
    }
}

impl Inner {
    fn note_end(&mut self, id: &ObjectId, live: &Live) {
        if let Some(end) = Health::of_ended_job(live) {
            self.ended.insert(id.clone(), (Uid::from(live.metadata.uid.clone()), end));
        }
    }
}

/// Whether more than the status may be another, as far as kinds have a generation that tells.
fn is_rewritten(old: &Observed, new: &Observed) -> bool {
    new.version != old.version && (new.generation == 0 || new.generation != old.generation)
}

fn same(a: &Observed, b: &Observed) -> bool {
    a.uid == b.uid
        && a.entry == b.entry
        && a.folded == b.folded
        && a.paused == b.paused
        && a.health == b.health
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn id(name: &str) -> ObjectId {
        ObjectId::new("", "ConfigMap", "n", name)
    }

    fn live(version: &str, fields: &str) -> Live {
        Live::from(
            &json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"uid": "u", "resourceVersion": version,
            "managedFields": [{"manager": "flotilla", "operation": "Apply", "fieldsV1": {fields: {}}}]}}),
        )
    }

    #[test]
    fn an_older_view_changes_nothing_and_only_news_are_news() {
        let members = Members::default();
        let kind: Kind = (String::new(), "ConfigMap".into());
        members.want(HashSet::from([id("a")]), HashSet::new(), HashMap::new());
        assert_eq!(members.get(&id("a")), Presence::Unknown);
        assert!(!members.observe(&id("other"), &live("1", "f:a")), "nobody wants it");
        members.listed(&kind, 1, &BTreeSet::new());
        assert_eq!(members.get(&id("a")), Presence::Absent);
        assert_eq!(members.take_changed(), HashSet::from([id("a")]));

        assert!(members.observe(&id("a"), &live("10", "f:a")));
        assert!(!members.observe(&id("a"), &live("9", "f:b")), "it lags");
        assert!(members.observe(&id("a"), &live("11", "f:a")), "there is no generation to tell what changed");
        let with_generation = |version: &str, generation: i64| {
            let mut live = live(version, "f:a");
            live.metadata.generation = generation;
            live
        };
        assert!(members.observe(&id("a"), &with_generation("12", 1)));
        assert!(!members.observe(&id("a"), &with_generation("13", 1)), "no more than the status changed");
        assert!(!members.gone(&id("a"), None, 10), "an old deletion");
        members.listed(&kind, 10, &BTreeSet::new());
        assert!(matches!(members.get(&id("a")), Presence::There(_)), "the list is older than what we know");
        assert!(members.observe(&id("a"), &live("14", "f:b")));
        assert!(members.gone(&id("a"), None, 15));
        assert_eq!(members.get(&id("a")), Presence::Absent);
        members.unlisted(&kind);
        assert_eq!(members.get(&id("a")), Presence::Unknown);
    }
}
