//! Whose objects are whose, what is watched for them, and what is known of each.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use flotilla_core::health::{HealthExprs, Rule};
use flotilla_core::plan::Declared;
use flotilla_core::unit::HealthCheck;
use flotilla_core::{Digest, ObjectId, ObjectRef};

use super::Coordinator;
use super::health::{self, checked_unit, is_source};
use crate::cluster::applyset;
use crate::cluster::watch::{How, Subject};
use crate::sync::memory::Expiry;

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
                tracing::warn!(kind = exprs.kind, %error, "health is judged without its expressions");
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
    /// After a change of the desired state or of the kinds known: whose objects are whose, and what to watch.
    pub(super) fn index(&mut self) {
        let Some(desired) = self.state.desired.clone() else { return };
        let discovery = self.state.tools.cluster.discovery();
        self.state.discovery = discovery.generation();
        let complete = |id: &ObjectId| discovery.complete(id);
        self.state.declared = Declared::of(&desired, &self.state.unit_memories, &complete);
        self.state.by_object.clear();
        let mut subjects = BTreeMap::new();
        let mut rules = Rules::default();
        let mut checks = Vec::new();
        for unit in self.state.all_units() {
            let mut objects: BTreeMap<ObjectId, ObjectRef> = BTreeMap::new();
            let spec = desired.present(&unit).map(|manifest| &manifest.spec);
            let exprs = spec.map_or(&[][..], |spec| &spec.health_check_exprs);
            // How the health of others' objects is told is theirs to say: else a tenant could fail their units, and read
            // their objects by what an expression says of them.
            let may_say = |id: &ObjectId| {
                let Some(mine) = spec.map(|spec| &spec.authority) else { return false };
                let owner = self.state.declared.owner(id).map(|first| &first.unit);
                mine.is_fleet()
                    || owner.filter(|owner| **owner != unit).is_none_or(|owner| {
                        self.state
                            .manifests(owner)
                            .next()
                            .is_some_and(|theirs| theirs.spec.authority == *mine)
                    })
            };
            let mut told = Vec::new();
            for manifest in self.state.manifests(&unit) {
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
                self.state.by_object.entry(id).or_insert_with(|| Vec::with_capacity(1)).push(unit.clone());
            }
        }
        self.state.stale = false;
        self.state.by_values.clear();
        for (id, last_applied) in
            self.state.last_applied.iter().filter(|(_, last_applied)| !last_applied.taken.is_empty())
        {
            let units = self.state.by_object.get(id).into_iter().flatten();
            for (reference, _) in &last_applied.taken {
                self.state.by_values.entry(reference.clone()).or_default().extend(units.clone().cloned());
            }
        }
        self.state.by_values.retain(|_, units| !units.is_empty());
        for reference in self.state.by_values.keys().chain(&*self.followed) {
            if let Some(resource) = discovery.any_version(&crate::sync::template::object_of(reference)) {
                let how = How { resource, rules: None, whole: true };
                subjects.insert(Subject::Values(reference.clone()), how);
            }
        }
        let mut foreign = HashSet::new();
        for (unit, id, object, account) in checks {
            // Our own objects are seen by the watch of their kind.
            if (!self.state.by_object.contains_key(&id) || foreign.contains(&id))
                && let Some(resource) = discovery.any_version(&object)
            {
                let how = How { resource, rules: None, whole: false };
                subjects.insert(Subject::Object(id.clone(), account), how);
                foreign.insert(id.clone());
            }
            self.state.by_object.entry(id).or_default().push(unit);
        }
        let wanted: HashSet<ObjectId> = self.state.by_object.keys().cloned().collect();
        // What was read from disk and from the cluster shares the text of its names with the desired state.
        let last_applied = std::mem::take(&mut self.state.last_applied);
        self.state.last_applied = last_applied
            .into_iter()
            .filter_map(|(id, last_applied)| Some((wanted.get(&id)?.clone(), last_applied)))
            .collect();
        self.state.in_doubt.retain(|id| self.state.last_applied.contains_key(id));
        self.state.tools.inventory.share(&wanted);
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
        self.state.tools.members.want(wanted, foreign, rules.by_object);
        self.watches.set(subjects);
    }

    /// Kinds became known: identities may be complete now, and watches possible.
    pub(super) fn complete_identities(&mut self) {
        if self.state.stale {
            self.index();
        }
        if self.state.discovery != self.state.tools.cluster.discovery().generation() {
            self.index();
            self.shared.followed.served();
            if let Some(desired) = self.state.desired.clone() {
                self.note_departures(&desired, None);
            }
            let failed = self.state.units.iter_mut().filter(|(_, state)| state.has_failed());
            self.dirty.extend(failed.map(|(id, _)| id.clone()));
        }
    }

    /// Takes note of how Jobs of ours ended, as those with a TTL are gone soon after.
    pub(super) fn note_ends(&mut self, objects: &HashSet<ObjectId>) {
        for id in objects.iter().filter(|id| id.is("batch", "Job")) {
            let Some((uid, end)) = self.state.tools.members.ended(id) else { continue };
            let Some(last_applied) =
                self.state.last_applied.get_mut(id).filter(|last_applied| last_applied.uid == uid)
            else {
                continue;
            };
            if last_applied.expiry == Expiry::Never || last_applied.ended.as_ref() == Some(&end.message) {
                continue;
            }
            last_applied.ended = Some(end.message);
            for unit in self.state.by_object.get(id).cloned().unwrap_or_default() {
                self.store(&unit);
            }
        }
    }
}
