//! Which release is rendered after which. A chart asks for APIs that another one brings, and draws its passwords only
//! once: so helm is asked for it after those that come before. One of those that does not render holds nobody: the others
//! are rendered without what it would bring, and again when it does render, as none of them is applied before it.

use std::collections::{BTreeMap, BTreeSet};

use flotilla_core::UnitId;

use super::{Pending, Walk};
use crate::content::Definition;

impl Walk<'_> {
    /// Takes the releases whose turn it is: those that come after none of the others, or all where they go in circles.
    /// None while all of them come after a release that waits for its chart.
    pub(super) fn next_releases(&mut self) -> Vec<Pending> {
        let all = std::mem::take(&mut self.releases);
        let waiting = self.waiting.iter().map(|(pending, _)| pending);
        let waiting = waiting.filter(|pending| pending.definition.release.is_some());
        let others = all.iter().chain(waiting);
        let others: Vec<(UnitId, Option<UnitId>)> =
            others.map(|pending| (pending.definition.id.clone(), pending.parent.clone())).collect();
        let are_all = others.len() == all.len();
        // How many of the releases are a unit or below it.
        let mut below: BTreeMap<UnitId, usize> = BTreeMap::new();
        for (id, parent) in &others {
            self.lineage_of(id, parent.as_ref()).for_each(|id| *below.entry(id.clone()).or_default() += 1);
        }
        let is_later = |pending: &Pending| {
            let Definition { id, .. } = &*pending.definition;
            let own: BTreeSet<&UnitId> = self.lineage_of(id, pending.parent.as_ref()).collect();
            let others =
                |id: &UnitId| below.get(id).copied().unwrap_or_default() > usize::from(own.contains(id));
            self.before(pending).iter().any(others)
        };
        let (later, now): (Vec<Pending>, Vec<Pending>) = all.into_iter().partition(is_later);
        if now.is_empty() && are_all {
            return later;
        }
        self.releases = later.into();
        now
    }

    /// A unit and those above it.
    fn lineage_of<'a>(
        &'a self,
        id: &'a UnitId,
        parent: Option<&'a UnitId>,
    ) -> impl Iterator<Item = &'a UnitId> {
        let above = |id: &&'a UnitId| self.units.get(*id).and_then(|unit| unit.parent.as_ref());
        std::iter::once(id).chain(std::iter::successors(parent, above))
    }

    /// A release that comes before this one and that helm is still at work on: a moment later it is known which APIs it
    /// brings.
    pub(super) fn waits_for(&self, pending: &Pending) -> Option<&UnitId> {
        let own = &pending.definition.id;
        let of_each = self.before(pending).into_iter().filter_map(|top| self.with_helm.get(&top));
        of_each.filter_map(|below| below.iter().find(|id| *id != own)).min()
    }

    /// Notes a release that helm is at work on.
    pub(super) fn is_with_helm(&mut self, release: &UnitId, parent: Option<&UnitId>) {
        let above: Vec<UnitId> = self.lineage_of(release, parent).cloned().collect();
        for id in above {
            self.with_helm.entry(id).or_default().insert(release.clone());
        }
    }

    /// What comes before this release and has put out nothing yet, whatever holds it. What it brings is not known, and the
    /// release is not applied before it.
    pub(super) fn missing_before(&self, pending: &Pending) -> BTreeSet<UnitId> {
        let before = self.before(pending);
        if before.is_empty() {
            return BTreeSet::new();
        }
        let held = self.units.iter().filter(|(_, unit)| unit.unit.is_none()).map(|(id, _)| id);
        let missing = held
            .filter(|id| self.comes_before(id, pending, &before) && (self.inputs.last_good)(id).is_none());
        missing.cloned().collect()
    }

    fn comes_before(&self, id: &UnitId, pending: &Pending, before: &BTreeSet<UnitId>) -> bool {
        let parent = self.units.get(id).and_then(|unit| unit.parent.as_ref());
        *id != pending.definition.id && (before.contains(id) || self.is_below(parent, before))
    }

    /// All units that have to be ready before this one: what it and the units above it depend on, and so on.
    fn before(&self, pending: &Pending) -> BTreeSet<UnitId> {
        let mut before = BTreeSet::new();
        let mut open = pending.definition.spec.depends_on.clone();
        let mut above = pending.parent.clone();
        loop {
            while let Some((id, unit)) = above.and_then(|id| Some((id.clone(), self.units.get(&id)?))) {
                open.extend(
                    unit.definition.spec.depends_on.iter().filter(|dependency| **dependency != id).cloned(),
                );
                above = unit.parent.clone();
            }
            let Some(next) = open.pop() else { return before };
            above = None;
            if before.insert(next.clone()) {
                above = Some(next);
            }
        }
    }

    fn is_below(&self, parent: Option<&UnitId>, tops: &BTreeSet<UnitId>) -> bool {
        let mut above = parent;
        while let Some(id) = above {
            if tops.contains(id) {
                return true;
            }
            above = self.units.get(id).and_then(|unit| unit.parent.as_ref());
        }
        false
    }
}
