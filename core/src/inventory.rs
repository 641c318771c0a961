//! The inventory: which objects in the cluster belong to which unit. An explicit list, kept in the cluster
//! itself, and the only thing that ever makes an object a candidate for deletion.

use std::collections::BTreeMap;

use crate::object::ObjectRef;
use crate::order::Links;
use crate::unit::UnitId;

/// The uid that the API server gave an object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Uid(pub String);

/// An object that the agent applied, or is about to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    pub object: ObjectRef,
    /// Unknown between the moment the intent is written and the moment the API server answered.
    pub uid: Option<Uid>,
}

/// What the cluster is known to hold for every unit.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Inventory {
    pub units: BTreeMap<UnitId, UnitInventory>,
}

/// One unit's members, and how the unit is to go should nobody be there to say so any more.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UnitInventory {
    pub members: Vec<Member>,
    /// The unit's parent and dependencies as last applied: they order its removal.
    pub links: Links,
}

impl Inventory {
    /// The units that list this object.
    pub fn owners<'a>(&'a self, object: &'a crate::ObjectId) -> impl Iterator<Item = &'a UnitId> {
        self.units
            .iter()
            .filter(move |(_, unit)| unit.members.iter().any(|member| member.object.id == *object))
            .map(|(id, _)| id)
    }
}
