//! What becomes of objects that left their unit: where they may have moved to, which keeps them, and who may say so.

use crate::authority::{Authority, Rank};
use crate::desired::{DesiredState, Hold, UnitEntry};
use crate::inventory::Inventory;
use crate::object::ObjectId;
use crate::plan::{Declaration, Leaving, Situation, Target, UnitMemory, UnitPlan, gates};
use crate::unit::UnitId;

/// What stands against pruning in a cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PruneStop {
    /// Why nothing may be pruned at all.
    pub everything: Option<String>,
    /// Units of which it is not known what they want, and how far they reach.
    pub held: Vec<(UnitId, Authority)>,
}

/// Looks for units that are held, or listed and not named, so that objects may have moved into them unseen; and whether the
/// inventory itself is not whole (`damage`).
pub fn prune_stop(
    desired: &DesiredState,
    inventory: &Inventory,
    unit_memories: &std::collections::BTreeMap<UnitId, UnitMemory>,
    damage: Option<&str>,
) -> PruneStop {
    let held = desired.units().iter().filter_map(|(id, entry)| match entry {
        UnitEntry::Hold(Hold { authority, .. }) => Some((id.clone(), authority.clone())),
        UnitEntry::Present(_) | UnitEntry::Removed(_) => None,
    });
    let is_unnamed = |id: &UnitId| !desired.units().contains_key(id);
    let unnamed = inventory.units.iter().filter(|(id, unit)| !unit.members.is_empty() && is_unnamed(id));
    let unnamed = unnamed.map(|(id, _)| {
        let last = unit_memories.get(id).and_then(|unit_memory| unit_memory.last.as_ref());
        (id.clone(), last.map_or(Authority::Fleet, |last| last.spec.authority.clone()))
    });
    let everything = damage.map(|damage| format!("the inventory is not whole: {damage}"));
    PruneStop { everything, held: held.chain(unnamed).collect() }
}

impl PruneStop {
    /// Why nothing may be pruned from a unit of this authority (`None`: not known), if so.
    pub fn why(&self, authority: Option<&Authority>) -> Option<String> {
        if let Some(why) = &self.everything {
            return Some(why.clone());
        }
        let takes = |held: &Authority| authority.is_none_or(|mine| held.takes_from(mine));
        let (held, _) = self.held.iter().find(|(_, held)| takes(held))?;
        Some(format!("{held} is held, and objects may have moved into it"))
    }
}

/// Says what becomes of each member of a unit that it does not want.
pub(super) fn plan_departures(
    plan: &mut UnitPlan,
    situation: &Situation,
    is_wanted: impl Fn(&ObjectId) -> bool,
    deletes: bool,
) {
    let Some(unit) = situation.inventory.units.get(&plan.unit) else { return };
    let authority = authority_of(&plan.unit, situation);
    let stop = situation.prune_stop.why(authority.as_ref());
    for object in unit.members.keys().filter(|object| !is_wanted(object)) {
        let declaring = |other: &&Declaration| {
            other.unit != plan.unit && may_have(other, object, authority.as_ref(), situation)
        };
        let to = situation.declared.all(object).find(declaring).map(|other| &other.unit);
        // A stranger's intent to apply it is not enough: that it did is.
        let shares = |other: &&UnitId| {
            let listed = situation.inventory.units.get(*other).and_then(|unit| unit.members.get(object));
            let rank = authority_of(other, situation).map_or(Rank::Fleet, |theirs| theirs.rank(object));
            rank != Rank::Stranger || listed.is_some_and(|listed| listed.uid.is_some())
        };
        let mut others = situation.inventory.owners(object).filter(|owner| **owner != plan.unit);
        let leaving = match (to, others.find(shares)) {
            // Everything goes: the last unit to list an object deletes it.
            (_, Some(other)) => Leaving::Shared(other.clone()),
            (Some(to), None) if !situation.remove_all => Leaving::Stay(format!("moves to {to}")),
            (None, None)
                if !situation.remove_all
                    && let Some(other) = suspended_on(object, &plan.unit, situation) =>
            {
                Leaving::Stay(format!("{other} is suspended, and was applied with it"))
            }
            (_, None) if !deletes && stop.is_none() => Leaving::Forget("the unit does not prune".into()),
            (_, None) => match &stop {
                Some(why) if !situation.remove_all => Leaving::Stay(why.clone()),
                _ => Leaving::Judge,
            },
        };
        plan.leaving.extend(unit.get(object).map(|member| (member, leaving)));
    }
}

/// A suspended unit that was last applied with an object: what it runs stays, whatever is said of it now.
fn suspended_on<'a>(object: &ObjectId, leaving: &UnitId, situation: &Situation<'a>) -> Option<&'a UnitId> {
    let from = authority_of(leaving, situation);
    situation.unit_memories.iter().find_map(|(id, memory)| {
        let is_suspended = match situation.desired.units().get(id) {
            Some(UnitEntry::Present(unit)) => unit.spec.suspend,
            Some(UnitEntry::Removed(removal)) => removal.suspended,
            Some(UnitEntry::Hold(_)) | None => false,
        };
        let last = memory.last.as_ref().filter(|_| is_suspended && id != leaving)?;
        let entry = last.objects.iter().find(|entry| (situation.resolve)(&entry.object.id) == *object)?;
        let rank = last.spec.authority.rank(object);
        let declaration = Declaration { rank, unit: id.clone(), digest: entry.digest };
        may_have(&declaration, object, from.as_ref(), situation).then_some(id)
    })
}

/// Whether an object may move to who declares it. To a stranger it does if the cluster lets it: that is tried as long as
/// nothing else stands before the unit, and known once the API server refused it.
fn may_have(other: &Declaration, object: &ObjectId, from: Option<&Authority>, situation: &Situation) -> bool {
    let equals = || {
        let theirs = authority_of(&other.unit, situation);
        from.is_none_or(|from| theirs.is_some_and(|theirs| theirs.takes_from(from)))
    };
    other.rank != Rank::Stranger
        || equals()
        || (matches!(gates::target(&other.unit, situation), Target::Desired(_))
            && !(situation.forbidden)(&other.unit, object))
}

/// How far a unit reaches, as it is desired or as it last ran.
fn authority_of(id: &UnitId, situation: &Situation) -> Option<Authority> {
    let last = || situation.unit_memories.get(id).and_then(|unit_memory| unit_memory.last.as_ref());
    match situation.desired.units().get(id) {
        Some(UnitEntry::Present(unit)) => Some(unit.spec.authority.clone()),
        Some(UnitEntry::Hold(Hold { authority, .. })) => Some(authority.clone()),
        Some(UnitEntry::Removed(_)) | None => last().map(|last| last.spec.authority.clone()),
    }
}
