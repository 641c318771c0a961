//! Whose objects are whose, what is watched for them, and what is known of each.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use flotilla_core::health::{HealthExprs, Rule};
use flotilla_core::plan::{Access, Claim, Declared, Observation, ObservedState};
use flotilla_core::template::ValuesRef;
use flotilla_core::unit::HealthCheck;
use flotilla_core::{Authority, Digest, ObjectId, ObjectRef, UnitId};

use super::Coordinator;
use super::health::{self, checked_unit, is_source};
use crate::cluster::applyset;
use crate::cluster::members::Presence;
use crate::cluster::watch::{How, Subject};
use crate::sync::memory::{ApplyMode, Expiry, LastApplied};

/// How the health of objects is told, where their units say so.
#[derive(Default)]
struct Rules {
    read: HashMap<Digest, Option<Arc<Rule>>>,
    by_object: HashMap<ObjectId, Arc<Rule>>,
    texts: BTreeMap<ObjectId, Digest>,
}

impl Rules {
    /// Takes the first expressions for the object's kind. The hub refused what cannot be read.
    fn add(&mut self, id: &ObjectId, exprs: &[HealthExprs]) {
        let Some(exprs) = exprs.iter().find(|exprs| exprs.is_for(id)) else { return };
        let digest = Digest::of(format!("{exprs:?}").as_bytes());
        let rule = self.read.entry(digest).or_insert_with(|| match Rule::new(exprs) {
            Ok(rule) => Some(Arc::new(rule)),
            Err(error) => {
                tracing::warn!(kind = exprs.kind, %error, "health is told without its expressions");
                None
            }
        });
        if let Some(rule) = rule
            && !self.by_object.contains_key(id)
        {
            self.by_object.insert(id.clone(), rule.clone());
            self.texts.insert(id.clone(), digest);
        }
    }

    /// A digest of the rules for what is watched, and whether one reads more than metadata and status.
    fn of(&self, subject: &Subject) -> (Option<Digest>, bool) {
        let is_seen = |id: &ObjectId| match subject {
            Subject::Kind((group, kind)) => id.is(group, kind),
            Subject::Object(object, _) => id == object,
            Subject::Values(_) => false,
        };
        let texts: Vec<(String, Digest)> = self
            .texts
            .iter()
            .filter(|(id, _)| is_seen(id))
            .map(|(id, digest)| (id.to_string(), *digest))
            .collect();
        if texts.is_empty() {
            return (None, false);
        }
        let parts = texts.iter().flat_map(|(id, digest)| [id.as_bytes(), &digest.as_bytes()[..]]);
        let whole = self.by_object.iter().any(|(id, rule)| is_seen(id) && rule.needs_whole());
        (Some(Digest::of_parts(parts)), whole)
    }
}

impl Coordinator {
    /// The manifests that say what the unit's objects are: the desired one, and the last one while they differ.
    pub(super) fn manifests<'a>(
        &'a self,
        unit: &UnitId,
    ) -> impl Iterator<Item = &'a Arc<flotilla_core::UnitManifest>> {
        let desired = self.desired.as_ref().and_then(|desired| desired.present(unit));
        let last = self.unit_memories.get(unit).and_then(|unit_memory| unit_memory.last.as_ref());
        desired.into_iter().chain(last)
    }

    /// After a change of the desired state or of the kinds known: whose objects are whose, and what to watch.
    pub(super) fn index(&mut self) {
        let Some(desired) = self.desired.clone() else { return };
        let discovery = self.tools.cluster.discovery();
        self.discovery = discovery.generation();
        let complete = |id: &ObjectId| discovery.complete(id);
        self.declared = Declared::of(&desired, &self.unit_memories, &complete);
        self.by_object.clear();
        let mut subjects = BTreeMap::new();
        let mut rules = Rules::default();
        let mut checks = Vec::new();
        for unit in self.all_units() {
            let mut objects: BTreeMap<ObjectId, ObjectRef> = BTreeMap::new();
            let spec = desired.present(&unit).map(|manifest| &manifest.spec);
            let exprs = spec.map_or(&[][..], |spec| &spec.health_check_exprs);
            let mine = spec.map_or(&Authority::Fleet, |spec| &spec.authority);
            // How the health of others' objects is told is theirs to say: else a tenant could fail their units, and read
            // their objects by what an expression says of them.
            let may_say = |id: &ObjectId| {
                let owner = self.declared.owner(id).map(|first| &first.unit);
                let theirs =
                    owner.filter(|owner| **owner != unit).and_then(|owner| self.manifests(owner).next());
                mine.is_fleet() || theirs.is_none_or(|theirs| theirs.spec.authority == *mine)
            };
            let mut told = Vec::new();
            for manifest in self.manifests(&unit) {
                objects.extend(
                    manifest.objects.iter().map(|entry| (complete(&entry.object.id), entry.object.clone())),
                );
            }
            for (id, object) in objects {
                if let Some(resource) = discovery.any_version(&object) {
                    let how = How { resource, rules: None, whole: false };
                    subjects.insert(Subject::Kind((id.group.clone(), id.kind.clone())), how);
                }
                told.push(id);
            }
            let checked = spec.into_iter().flat_map(|spec| &spec.health_checks);
            // Sources and units are known without a look at the cluster.
            let foreign = |check: &&HealthCheck| !is_source(check) && checked_unit(check).is_none();
            for check in checked.filter(foreign) {
                let object = health::checked(check);
                let account = spec.and_then(|spec| spec.service_account.clone());
                let id = complete(&object.id);
                if may_say(&id) {
                    rules.add(&id, exprs);
                }
                checks.push((unit.clone(), id, object, account));
            }
            told.iter().filter(|id| may_say(id)).for_each(|id| rules.add(id, exprs));
            for id in told {
                self.by_object.entry(id).or_insert_with(|| Vec::with_capacity(1)).push(unit.clone());
            }
        }
        self.stale = false;
        self.by_values.clear();
        for (id, last_applied) in
            self.last_applied.iter().filter(|(_, last_applied)| !last_applied.taken.is_empty())
        {
            let units = self.by_object.get(id).into_iter().flatten();
            for (reference, _) in &last_applied.taken {
                self.by_values.entry(reference.clone()).or_default().extend(units.clone().cloned());
            }
        }
        self.by_values.retain(|_, units| !units.is_empty());
        for reference in self.by_values.keys().chain(&*self.followed) {
            if let Some(resource) = discovery.any_version(&crate::sync::template::object_of(reference)) {
                let how = How { resource, rules: None, whole: true };
                subjects.insert(Subject::Values(reference.clone()), how);
            }
        }
        let mut foreign = HashSet::new();
        for (unit, id, object, account) in checks {
            // Our own objects are seen by the watch of their kind.
            if (!self.by_object.contains_key(&id) || foreign.contains(&id))
                && let Some(resource) = discovery.any_version(&object)
            {
                let how = How { resource, rules: None, whole: false };
                subjects.insert(Subject::Object(id.clone(), account), how);
                foreign.insert(id.clone());
            }
            self.by_object.entry(id).or_default().push(unit);
        }
        let wanted: HashSet<ObjectId> = self.by_object.keys().cloned().collect();
        // What was read from disk and from the cluster shares the text of its names with the desired state.
        let last_applied = std::mem::take(&mut self.last_applied);
        self.last_applied = last_applied
            .into_iter()
            .filter_map(|(id, last_applied)| Some((wanted.get(&id)?.clone(), last_applied)))
            .collect();
        self.in_doubt.retain(|id| self.last_applied.contains_key(id));
        self.tools.inventory.share(&wanted);
        for (subject, how) in &mut subjects {
            if !matches!(subject, Subject::Values(_)) {
                (how.rules, how.whole) = rules.of(subject);
            }
        }
        let ours = applyset::annotations(wanted.difference(&foreign));
        self.set.send_if_modified(|set| {
            let is_new = *set != ours && !wanted.is_empty();
            if is_new {
                *set = ours;
            }
            is_new
        });
        self.tools.members.want(wanted, foreign, rules.by_object);
        self.watches.set(subjects);
    }

    /// Notes an apply. Values that its template took are followed from now on.
    pub(super) fn note_applied(&mut self, unit: &UnitId, id: ObjectId, mut last_applied: LastApplied) {
        if let Some(before) = self.last_applied.get(&id) {
            last_applied.follow(before);
        }
        self.in_doubt.remove(&id);
        let is_followed = |reference| self.by_values.get(reference).is_some_and(|units| units.contains(unit));
        let old = self.last_applied.get(&id).map_or(&[][..], |old| &old.taken);
        let is_same =
            old.len() == last_applied.taken.len() && last_applied.taken.iter().all(|(at, _)| is_followed(at));
        self.stale |= !is_same;
        self.last_applied.insert(id, last_applied);
    }

    /// Kinds became known: identities may be complete now, and watches possible.
    pub(super) fn complete_identities(&mut self) {
        if self.stale {
            self.index();
        }
        if self.discovery != self.tools.cluster.discovery().generation() {
            self.index();
            self.shared.followed.served();
            if let Some(desired) = self.desired.clone() {
                self.note_departures(&desired, None);
            }
            let failed = self.units.iter_mut().filter(|(_, state)| state.has_failed());
            self.dirty.extend(failed.map(|(id, _)| id.clone()));
        }
    }

    pub(super) fn look(&self, id: &ObjectId) -> Observation {
        let Some(last_applied) = self.last_applied.get(id) else {
            return Observation { applied: None, state: ObservedState::Unknown, drift: None };
        };
        let state = match self.tools.members.get(id) {
            _ if last_applied.apply_mode == ApplyMode::Never => {
                ObservedState::There { uid: last_applied.uid.clone(), touched: false }
            }
            // What cannot be watched is applied once, and the answer shows how it is.
            Presence::Unknown if self.tools.members.problem_of(id).is_some_and(|(_, lasting)| lasting) => {
                return Observation {
                    applied: None,
                    state: ObservedState::Unknown,
                    drift: last_applied.drift,
                };
            }
            Presence::Unknown => ObservedState::Unknown,
            // Left alone since it was there, it may never have got our label.
            Presence::Absent
                if last_applied.apply_mode == ApplyMode::Once && last_applied.entry.is_none() =>
            {
                ObservedState::There { uid: last_applied.uid.clone(), touched: false }
            }
            // It did its work; the cluster tidied up.
            Presence::Absent if last_applied.expiry == Expiry::Once && last_applied.ended.is_some() => {
                ObservedState::There { uid: last_applied.uid.clone(), touched: false }
            }
            Presence::Absent
                if last_applied.expiry == Expiry::Again
                    && last_applied.ended.is_some()
                    && !self.in_doubt.contains(id) =>
            {
                ObservedState::There { uid: last_applied.uid.clone(), touched: false }
            }
            Presence::Absent => ObservedState::Absent,
            Presence::There(observed) => {
                let as_left = observed.entry == last_applied.entry && observed.uid == last_applied.uid;
                let added = observed.folded && last_applied.apply_mode == ApplyMode::Override;
                let free = observed.paused || last_applied.apply_mode == ApplyMode::Once;
                let doubt = last_applied.is_in_doubt(&observed, self.in_doubt.contains(id));
                ObservedState::There { uid: observed.uid, touched: !free && (!as_left || added || doubt) }
            }
        };
        // The values of a template are part of what was applied.
        let seen_values = |at: &ValuesRef| self.tools.values.get(at);
        let is_other = |(at, taken): &(ValuesRef, Digest)| seen_values(at).is_some_and(|seen| seen != *taken);
        let is_stale = last_applied.apply_mode != ApplyMode::Never && last_applied.taken.iter().any(is_other);
        let applied = if is_stale { Digest::of(b"other values") } else { last_applied.fingerprint };
        Observation { applied: Some(applied), state, drift: last_applied.drift }
    }

    /// Has the contents of a unit's objects compared, as far as they may differ though nothing tells so.
    pub(super) fn doubt(&mut self, unit: &UnitId) {
        let complete = |id: &ObjectId| self.tools.cluster.discovery().complete(id);
        let objects: BTreeSet<ObjectId> = self
            .manifests(unit)
            .flat_map(|manifest| manifest.objects.iter().map(|entry| complete(&entry.object.id)))
            .collect();
        let is_open =
            |last_applied: &LastApplied| !last_applied.settled || last_applied.expiry == Expiry::Again;
        self.in_doubt.extend(objects.into_iter().filter(|id| self.last_applied.get(id).is_some_and(is_open)));
    }

    /// Takes note of how Jobs of ours ended, as those with a TTL are gone soon after.
    pub(super) fn note_ends(&mut self, objects: &HashSet<ObjectId>) {
        for id in objects.iter().filter(|id| id.is("batch", "Job")) {
            let Some((uid, end)) = self.tools.members.ended(id) else { continue };
            let Some(last_applied) =
                self.last_applied.get_mut(id).filter(|last_applied| last_applied.uid == uid)
            else {
                continue;
            };
            if last_applied.expiry == Expiry::Never || last_applied.ended.as_ref() == Some(&end.message) {
                continue;
            }
            last_applied.ended = Some(end.message);
            for unit in self.by_object.get(id).cloned().unwrap_or_default() {
                self.store(&unit);
            }
        }
    }

    /// What is known of the claims that stand before a unit.
    pub(super) fn access(&self, unit: &UnitId, claims: &[Claim]) -> Access {
        let known = self.units.get(unit).and_then(|state| state.access.as_ref());
        match known {
            Some(asked) if asked.claims == claims => asked.access.clone(),
            _ => Access::Unknown,
        }
    }
}
