//! The inventory: which objects in the cluster belong to which unit. An explicit list, kept in the cluster
//! itself, and the only thing that ever makes an object a candidate for deletion.

use std::collections::BTreeMap;
use std::fmt;

use smol_str::SmolStr;
use uuid::Uuid;

use crate::object::{ObjectId, ObjectRef};
use crate::order::Links;
use crate::unit::UnitId;

/// The uid that the API server gave an object. Small, as an agent keeps three of each object: 16 bytes where it is a UUID
/// as API servers write them, any other text as it is.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Uid(Repr);

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Repr {
    Uuid(Uuid),
    Text(Box<str>),
}

impl Uid {
    /// Whether this is its text.
    pub fn is(&self, text: &str) -> bool {
        *self == Self::from(text)
    }
}

impl From<&str> for Uid {
    fn from(text: &str) -> Self {
        let uuid = Uuid::try_parse(text).ok();
        let is_whole = |uuid: &Uuid| uuid.hyphenated().encode_lower(&mut Uuid::encode_buffer()) == text;
        Self(uuid.filter(is_whole).map_or_else(|| Repr::Text(text.into()), Repr::Uuid))
    }
}

impl From<String> for Uid {
    fn from(text: String) -> Self {
        text.as_str().into()
    }
}

impl fmt::Display for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Repr::Uuid(uuid) => uuid.hyphenated().fmt(f),
            Repr::Text(text) => f.write_str(text),
        }
    }
}

impl fmt::Debug for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.to_string())
    }
}

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
    pub version: SmolStr,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uid_is_its_text() {
        for text in [
            "0aa5e8c0-8f0c-4b3a-9d52-1c9e6f0e7a11",
            "0AA5E8C0-8F0C-4B3A-9D52-1C9E6F0E7A11",
            "{0aa5e8c0-8f0c-4b3a-9d52-1c9e6f0e7a11}",
            "0aa5e8c08f0c4b3a9d521c9e6f0e7a11",
            "a",
            "",
        ] {
            let uid = Uid::from(text);
            assert_eq!(uid.to_string(), text);
            assert!(uid.is(text));
            assert!(!uid.is("0aa5e8c0-8f0c-4b3a-9d52-1c9e6f0e7a12"));
        }
        let [small, large] = ["0aa5e8c0-8f0c-4b3a-9d52-1c9e6f0e7a11", "0AA5E8C0-8F0C-4B3A-9D52-1C9E6F0E7A11"];
        assert_ne!(Uid::from(small), Uid::from(large), "another text is another object");
    }
}
