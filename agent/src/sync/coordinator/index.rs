//! Whose objects are whose, what is watched for them, and what is known of each.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use flotilla_core::plan::{Access, Declared, Seen, Sight};
use flotilla_core::{ObjectId, ObjectRef, ServiceAccount, UnitId};

use super::Coordinator;
use crate::cluster::members::Known;
use crate::cluster::watch::Subject;
use crate::sync::memory::Manner;

impl Coordinator {
    /// The manifests that say what the unit's objects are: the desired one, and the last one while they differ.
    pub(super) fn manifests<'a>(
        &'a self,
        unit: &UnitId,
    ) -> impl Iterator<Item = &'a Arc<flotilla_core::UnitManifest>> {
        let desired = self.desired.as_ref().and_then(|desired| desired.present(unit));
        let last = self.standings.get(unit).and_then(|standing| standing.last.as_ref());
        desired.into_iter().chain(last)
    }

    /// After a change of the desired state or of the kinds known: whose objects are whose, and what to watch.
    pub(super) fn index(&mut self) {
        let Some(desired) = self.desired.clone() else { return };
        let discovery = self.tools.cluster.discovery();
        self.discovery = discovery.generation();
        let complete = |id: &ObjectId| discovery.complete(id);
        self.declared = Declared::of(&desired, &self.standings, &complete);
        self.by_object.clear();
        let mut subjects = BTreeMap::new();
        let mut checks = Vec::new();
        for unit in self.all_units() {
            let mut objects: BTreeMap<ObjectId, ObjectRef> = BTreeMap::new();
            for manifest in self.manifests(&unit) {
                objects.extend(
                    manifest.objects.iter().map(|entry| (complete(&entry.object.id), entry.object.clone())),
                );
            }
            for (id, object) in objects {
                if let Some(resource) = discovery.any_version(&object) {
                    subjects.insert(Subject::Kind((id.group.clone(), id.kind.clone())), resource);
                }
                self.by_object.entry(id).or_insert_with(|| Vec::with_capacity(1)).push(unit.clone());
            }
            for check in desired.present(&unit).into_iter().flat_map(|unit| &unit.spec.health_checks) {
                let object = crate::sync::health::checked(check);
                checks.push((unit.clone(), complete(&object.id), object));
            }
        }
        let mut foreign = HashSet::new();
        for (unit, id, object) in checks {
            // Our own objects are seen by the watch of their kind.
            if (!self.by_object.contains_key(&id) || foreign.contains(&id))
                && let Some(resource) = discovery.any_version(&object)
            {
                subjects.insert(Subject::Object(id.clone()), resource);
                foreign.insert(id.clone());
            }
            self.by_object.entry(id).or_default().push(unit);
        }
        let wanted: HashSet<ObjectId> = self.by_object.keys().cloned().collect();
        // What was read from disk and from the cluster shares the text of its names with the desired state.
        let marks = std::mem::take(&mut self.marks);
        self.marks =
            marks.into_iter().filter_map(|(id, mark)| Some((wanted.get(&id)?.clone(), mark))).collect();
        self.tools.book.share(&wanted);
        self.tools.members.want(wanted, foreign);
        self.watches.set(subjects);
    }

    /// Kinds became known: identities may be complete now, and watches possible.
    pub(super) fn complete_identities(&mut self) {
        if self.discovery != self.tools.cluster.discovery().generation() {
            self.index();
            let failed = self.units.iter_mut().filter(|(_, state)| state.has_failed());
            self.dirty.extend(failed.map(|(id, _)| id.clone()));
        }
    }

    pub(super) fn look(&self, id: &ObjectId) -> Sight {
        let Some(mark) = self.marks.get(id) else {
            return Sight { applied: None, seen: Seen::Unknown, drift: None };
        };
        let seen = match self.tools.members.get(id) {
            _ if mark.manner == Manner::Never => Seen::There { uid: mark.uid.clone(), touched: false },
            // What cannot be watched is applied once, and the answer shows how it is.
            Known::Unknown if self.tools.members.problem_of(id).is_some_and(|(_, lasting)| lasting) => {
                return Sight { applied: None, seen: Seen::Unknown, drift: mark.drift };
            }
            Known::Unknown => Seen::Unknown,
            // Left alone since it was there, it may never have got our label.
            Known::Absent if mark.manner == Manner::Once && mark.entry.is_none() => {
                Seen::There { uid: mark.uid.clone(), touched: false }
            }
            Known::Absent => Seen::Absent,
            Known::There(observed) => {
                let as_left = observed.entry == mark.entry && observed.uid == mark.uid;
                let added = observed.folded && mark.manner == Manner::Override;
                let free = observed.paused || mark.manner == Manner::Once;
                Seen::There { uid: observed.uid, touched: !free && (!as_left || added) }
            }
        };
        Sight { applied: Some(mark.stamp), seen, drift: mark.drift }
    }

    /// What is known of an account that asks to define a unit.
    pub(super) fn access(&self, unit: &UnitId, account: &ServiceAccount) -> Access {
        let known = self.units.get(unit).and_then(|state| state.access.as_ref());
        match known {
            Some((asked, access, _)) if asked == account => access.clone(),
            _ => Access::Unknown,
        }
    }
}
