//! Which release is rendered after which. A chart asks for APIs that another one brings, and draws its passwords only
//! once: so it is not asked before what its unit waits for is there.

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
            let Definition { id, .. } = &pending.definition;
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

    /// A release that comes before this one and is not rendered.
    pub(super) fn waits_for(&self, pending: &Pending) -> Option<&UnitId> {
        let before = self.before(pending);
        if before.is_empty() {
            return None;
        }
        let releases = self.units.iter().filter(|(id, unit)| {
            id.kind == flotilla_core::UnitKind::HelmRelease
                && unit.unit.is_none()
                && **id != pending.definition.id
        });
        let mut missing =
            releases.filter(|(id, unit)| before.contains(id) || self.is_below(unit.parent.as_ref(), &before));
        missing.next().map(|(id, _)| id)
    }

    /// All units that have to be ready before this one: what it and the units above it depend on, and so on.
    fn before(&self, pending: &Pending) -> BTreeSet<UnitId> {
        let mut before = BTreeSet::new();
        let mut open = pending.definition.spec.depends_on.clone();
        let mut above = pending.parent.clone();
        loop {
            while let Some((id, unit)) = above.and_then(|id| Some((id.clone(), self.units.get(&id)?))) {
                open.extend(unit.depends_on.iter().filter(|dependency| **dependency != id).cloned());
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
