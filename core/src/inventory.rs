//! The inventory: which objects in the cluster belong to which unit. An explicit list, kept in the cluster
//! itself, and the only thing that ever makes an object a candidate for deletion.

use std::collections::BTreeMap;

use crate::object::{ObjectId, ObjectRef};
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

/// What is kept of a member under its identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    pub version: String,
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
    pub members: BTreeMap<ObjectId, Held>,
    /// The unit's parent and dependencies as last applied: they order its removal.
    pub links: Links,
}

impl Inventory {
    /// The units that list this object.
    pub fn owners<'a>(&'a self, object: &'a ObjectId) -> impl Iterator<Item = &'a UnitId> {
        self.units.iter().filter(move |(_, unit)| unit.members.contains_key(object)).map(|(id, _)| id)
    }
}

impl UnitInventory {
    /// Lists an object; a uid that is known already is kept where none is given.
    pub fn list(&mut self, member: &Member) {
        let held = Held { version: member.object.version.clone(), uid: member.uid.clone() };
        match self.members.get_mut(&member.object.id) {
            Some(known) => {
                let uid = held.uid.or(known.uid.take());
                *known = Held { uid, ..held };
            }
            None => {
                self.members.insert(member.object.id.clone(), held);
            }
        }
    }

    /// The member as it is listed.
    pub fn get(&self, object: &ObjectId) -> Option<Member> {
        self.members.get_key_value(object).map(member)
    }

    /// All members, in the order of their identities.
    pub fn iter(&self) -> impl Iterator<Item = Member> + '_ {
        self.members.iter().map(member)
    }
}

fn member((id, held): (&ObjectId, &Held)) -> Member {
    Member { object: ObjectRef { id: id.clone(), version: held.version.clone() }, uid: held.uid.clone() }
}
