//! Which objects a cluster was told to run, and what it loses by other units.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use super::{Going, Loss, UnitLoss};
use crate::desired::{Removal, UnitEntry};
use crate::object::ObjectId;
use crate::unit::UnitId;

/// By unit, the objects that a cluster was told to run and may have. It outlives the state that said so: a unit that is held
/// or suspended has what it had.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Declared {
    units: BTreeMap<UnitId, Arc<[ObjectId]>>,
    /// Where its root is: repository, branch and folder.
    root: String,
    /// How many objects these are.
    objects: usize,
}

impl Declared {
    /// As it was kept. The lists need no order.
    pub fn new(root: String, units: BTreeMap<UnitId, Vec<ObjectId>>) -> Self {
        let units: BTreeMap<UnitId, Arc<[ObjectId]>> =
            units.into_iter().map(|(id, objects)| (id, objects.into())).collect();
        let objects = units.values().flat_map(|objects| objects.iter()).collect::<HashSet<_>>().len();
        Self { units, root, objects }
    }

    pub fn units(&self) -> impl Iterator<Item = (&UnitId, &[ObjectId])> {
        self.units.iter().map(|(id, objects)| (id, &**objects))
    }

    pub fn root(&self) -> &str {
        &self.root
    }

    /// How many objects the cluster was told to run.
    pub fn objects(&self) -> usize {
        self.objects
    }

    /// What the cluster would lose by these units, with its root there, apart from what may go anyway. What a unit that
    /// leaves its objects alone no longer has is not lost, nor what another unit declares.
    pub fn lost(&self, units: &BTreeMap<UnitId, UnitEntry>, root: &str, going: &Going) -> Loss {
        let mut leaving: Vec<(&UnitId, Vec<&ObjectId>)> = Vec::new();
        for (id, had) in &self.units {
            let left = match units.get(id).map(Fate::of) {
                Some(Fate::Runs(has)) => difference(had, &has),
                Some(Fate::Goes) => had.iter().collect(),
                Some(Fate::Keeps | Fate::Leaves(_) | Fate::Orphans) | None => continue,
            };
            if !left.is_empty() {
                leaving.push((id, left));
            }
        }
        let mut loss =
            Loss { of: self.objects, moved: !self.root.is_empty() && self.root != root, ..Loss::default() };
        if !leaving.is_empty() {
            let declared = self.declared(units);
            for (id, left) in leaving {
                let is_lost =
                    |object: &&ObjectId| !declared.contains(*object) && !going.objects.contains(*object);
                let objects: BTreeSet<ObjectId> = left.into_iter().filter(is_lost).cloned().collect();
                if objects.is_empty() {
                    continue;
                }
                let emptied = match &units[id] {
                    UnitEntry::Present(unit) => unit.objects.is_empty() && !unit.spec.allow_empty,
                    UnitEntry::Hold(_) | UnitEntry::Removed(_) => false,
                };
                loss.units.insert(id.clone(), UnitLoss { emptied, objects, ..UnitLoss::unsaid() });
            }
        }
        for (id, entry) in units {
            let is_removed = matches!(Fate::of(entry), Fate::Goes) && !going.units.contains(id);
            if is_removed {
                loss.units.entry(id.clone()).or_insert_with(UnitLoss::unsaid).removed = true;
            }
        }
        loss
    }

    /// What the cluster is told to run by a state with these units. While a unit is held nothing is pruned from others, so
    /// that what they no longer have is still there.
    #[must_use]
    pub fn after(self: &Arc<Self>, units: &BTreeMap<UnitId, UnitEntry>, root: &str) -> Arc<Self> {
        if self.is_same_after(units, root) { self.clone() } else { Arc::new(self.counted_after(units, root)) }
    }

    /// Whether all of it is certain to be the same after that: most commits change what objects are like, and not which.
    fn is_same_after(&self, units: &BTreeMap<UnitId, UnitEntry>, root: &str) -> bool {
        self.root == root
            && units.iter().all(|(id, entry)| {
                let had = self.units.get(id).map_or(&[][..], |objects| objects);
                match Fate::of(entry) {
                    _ if matches!(entry, UnitEntry::Hold(_)) => false,
                    Fate::Runs(has) | Fate::Leaves(has) => is_same(had, &has),
                    Fate::Keeps => true,
                    Fate::Goes | Fate::Orphans => had.is_empty(),
                }
            })
    }

    pub(super) fn counted_after(&self, units: &BTreeMap<UnitId, UnitEntry>, root: &str) -> Self {
        let holds = units.values().any(|entry| matches!(entry, UnitEntry::Hold(_)));
        let declared = if holds { self.declared(units) } else { HashSet::new() };
        let had = |id: &UnitId| self.units.get(id).map(|objects| objects.iter()).into_iter().flatten();
        let stays = |id: &UnitId| had(id).filter(|object| holds && !declared.contains(object)).cloned();
        let mut all: BTreeMap<UnitId, Vec<ObjectId>> = BTreeMap::new();
        for (id, entry) in units {
            let objects: Vec<ObjectId> = match Fate::of(entry) {
                Fate::Runs(has) => has.into_iter().cloned().chain(stays(id)).collect(),
                Fate::Leaves(has) => has.into_iter().cloned().collect(),
                Fate::Keeps => had(id).cloned().collect(),
                Fate::Goes => stays(id).collect(),
                Fate::Orphans => Vec::new(),
            };
            if !objects.is_empty() {
                all.insert(id.clone(), objects);
            }
        }
        // What is not named is held.
        for (id, objects) in self.units.iter().filter(|(id, _)| !units.contains_key(*id)) {
            all.insert(id.clone(), objects.to_vec());
        }
        // A part of the cluster may still be as its old root had it.
        let root = if holds && !self.root.is_empty() { &self.root } else { root };
        Self::new(root.to_owned(), all)
    }

    /// Settles what may go, when these units are published and this is what they leave: what is removed goes, what is back
    /// does not, and what is gone needs no word any more.
    pub fn settle(&self, units: &BTreeMap<UnitId, UnitEntry>, going: &mut Going) {
        going.units.retain(|id| matches!(units.get(id), Some(UnitEntry::Hold(_))));
        let removed = units.iter().filter(|(_, entry)| matches!(entry, UnitEntry::Removed(_)));
        going.units.extend(removed.map(|(id, _)| id.clone()));
        if going.objects.is_empty() {
            return;
        }
        let present = units.values().filter_map(|entry| match entry {
            UnitEntry::Present(unit) => Some(&unit.objects),
            UnitEntry::Hold(_) | UnitEntry::Removed(_) => None,
        });
        let declared: HashSet<&ObjectId> = present.flatten().map(|entry| &entry.object.id).collect();
        let listed: HashSet<&ObjectId> = self.units.values().flat_map(|objects| objects.iter()).collect();
        going.objects.retain(|object| listed.contains(object) && !declared.contains(object));
    }

    /// What these units declare, held and suspended ones what they had.
    fn declared<'a>(&'a self, units: &'a BTreeMap<UnitId, UnitEntry>) -> HashSet<&'a ObjectId> {
        let mut declared = HashSet::new();
        for (id, entry) in units {
            if matches!(Fate::of(entry), Fate::Keeps) {
                declared.extend(self.units.get(id).into_iter().flat_map(|objects| objects.iter()));
            }
            // As the agent has it: what a suspended unit declares is its own, though it is not applied.
            if let UnitEntry::Present(unit) = entry {
                declared.extend(unit.objects.iter().map(|entry| &entry.object.id));
            }
        }
        let unnamed = self.units.iter().filter(|(id, _)| !units.contains_key(*id));
        declared.extend(unnamed.flat_map(|(_, objects)| objects.iter()));
        declared
    }
}

/// What becomes of a unit's objects.
enum Fate<'a> {
    /// It runs these, and what it had beside them is deleted.
    Runs(Vec<&'a ObjectId>),
    /// It runs these, and leaves alone what it had beside them.
    Leaves(Vec<&'a ObjectId>),
    /// It is not touched.
    Keeps,
    /// Its objects are deleted.
    Goes,
    /// It goes, and its objects are nobody's from now on; or its cluster asks before it goes.
    Orphans,
}

impl<'a> Fate<'a> {
    fn of(entry: &'a UnitEntry) -> Self {
        match entry {
            UnitEntry::Present(unit) if unit.spec.suspend => Self::Keeps,
            UnitEntry::Present(unit) => {
                let has = unit.objects.iter().map(|entry| &entry.object.id).collect();
                if unit.spec.prune { Self::Runs(has) } else { Self::Leaves(has) }
            }
            UnitEntry::Hold(_) | UnitEntry::Removed(Removal { suspended: true, .. }) => Self::Keeps,
            UnitEntry::Removed(removal) if removal.deletes() && !removal.moved => Self::Goes,
            UnitEntry::Removed(_) => Self::Orphans,
        }
    }
}

/// What is in `had` and not in `has`.
fn difference<'a>(had: &'a [ObjectId], has: &[&ObjectId]) -> Vec<&'a ObjectId> {
    if is_same(had, has) {
        return Vec::new();
    }
    let has: HashSet<&ObjectId> = has.iter().copied().collect();
    had.iter().filter(|object| !has.contains(object)).collect()
}

/// Most units have what they had, in the same order.
fn is_same(had: &[ObjectId], has: &[&ObjectId]) -> bool {
    had.len() == has.len() && had.iter().zip(has).all(|(had, has)| had == *has)
}
