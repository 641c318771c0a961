//! How far what a unit defines may reach: the boundary between tenants.
//!
//! ```text
//!   root (fleet repo) ──► apps (fleet repo)                     everything
//!                     └─► team-a (its own repo, as team-a/sa)   the namespace team-a
//!                           └─► team-a/x (as team-a/other)      team-a at most, whatever it names
//! ```
//!
//! The hub fetches, reads and renders before any cluster was asked what an account may do. So whoever writes a repository
//! may name there only what is in the namespaces of the account that it is applied as; what is defined below it may name no
//! more than that. The fleet repo, and repositories that are applied as the agent itself, may name everything.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::object::ObjectId;

/// An upper bound on what may be named: units, sources and, with them, their accounts, Secrets and ConfigMaps. As JSON the
/// list of namespaces, and null where there is no bound. There is no default: whoever makes one says how far it reaches.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(from = "Option<BTreeSet<String>>", into = "Option<BTreeSet<String>>")]
pub enum Authority {
    /// Everything, as the fleet repo.
    Fleet,
    Namespaces(BTreeSet<String>),
}

/// Whose an object is by lineage, the first before the others. Units of the same rank are equals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rank {
    Fleet,
    /// It is in a namespace of the unit's account.
    Owner,
    /// The unit's account may have been given rights there; only the cluster knows.
    Stranger,
}

impl Authority {
    pub fn is_fleet(&self) -> bool {
        *self == Self::Fleet
    }

    pub fn covers(&self, namespace: &str) -> bool {
        match self {
            Self::Fleet => true,
            Self::Namespaces(namespaces) => namespaces.contains(namespace),
        }
    }

    /// What is left of this authority for somebody who has these namespaces.
    #[must_use]
    pub fn within(&self, namespaces: BTreeSet<String>) -> Self {
        match self {
            Self::Fleet => Self::Namespaces(namespaces),
            Self::Namespaces(mine) => Self::Namespaces(mine & &namespaces),
        }
    }

    /// The rank of a unit of this authority where it declares an object, by the object's completed identity.
    pub fn rank(&self, object: &ObjectId) -> Rank {
        match self {
            Self::Fleet => Rank::Fleet,
            Self::Namespaces(namespaces) if namespaces.contains(&object.namespace) => Rank::Owner,
            Self::Namespaces(_) => Rank::Stranger,
        }
    }

    /// Whether objects may move between a unit of this authority and one of the other without the fleet repo saying so:
    /// whoever may name everything takes from everybody, others from their equals.
    pub fn takes_from(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Fleet, _) => true,
            (Self::Namespaces(_), Self::Fleet) => false,
            (Self::Namespaces(mine), Self::Namespaces(theirs)) => !mine.is_disjoint(theirs),
        }
    }
}

impl From<Option<BTreeSet<String>>> for Authority {
    fn from(namespaces: Option<BTreeSet<String>>) -> Self {
        namespaces.map_or(Self::Fleet, Self::Namespaces)
    }
}

impl From<Authority> for Option<BTreeSet<String>> {
    fn from(authority: Authority) -> Self {
        match authority {
            Authority::Fleet => None,
            Authority::Namespaces(namespaces) => Some(namespaces),
        }
    }
}

/// For messages: "everything", "the namespace team-a", "the namespaces a, b".
impl fmt::Display for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Namespaces(namespaces) = self else { return f.write_str("everything") };
        let names: Vec<&str> = namespaces.iter().map(String::as_str).collect();
        match names[..] {
            [] => f.write_str("no namespace"),
            [one] => write!(f, "the namespace {one}"),
            _ => write!(f, "the namespaces {}", names.join(", ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(names: &[&str]) -> Authority {
        Authority::Namespaces(set(names))
    }

    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn authority_only_shrinks_on_the_way_down() {
        assert_eq!(Authority::Fleet.within(set(&["a"])), of(&["a"]));
        assert_eq!(of(&["a", "b"]).within(set(&["b", "c"])), of(&["b"]));
        assert_eq!(of(&["a"]).within(set(&["b"])), of(&[]));
        assert!(!of(&[]).covers("") && !of(&["a"]).covers("b") && Authority::Fleet.covers("b"));
        let object = |namespace: &str| ObjectId::new("", "ConfigMap", namespace, "x");
        assert_eq!(of(&["a"]).rank(&object("a")), Rank::Owner);
        assert_eq!(of(&["a"]).rank(&object("b")), Rank::Stranger);
        assert_eq!(of(&["a"]).rank(&object("")), Rank::Stranger, "of the whole cluster");
        assert!(Rank::Fleet < Rank::Owner && Rank::Owner < Rank::Stranger);
    }

    #[test]
    fn what_is_held_takes_from_its_equals() {
        for (mine, theirs, takes) in [
            (Authority::Fleet, Authority::Fleet, true),
            (Authority::Fleet, of(&["a"]), true),
            (of(&["a"]), Authority::Fleet, false),
            (of(&["a"]), of(&["a", "b"]), true),
            (of(&["a"]), of(&["b"]), false),
            (of(&[]), of(&[]), false),
        ] {
            assert_eq!(mine.takes_from(&theirs), takes, "{mine} from {theirs}");
        }
    }

    #[test]
    fn no_bound_is_null_and_nothing_is_an_empty_list() {
        for (authority, text) in
            [(Authority::Fleet, "null"), (of(&[]), "[]"), (of(&["b", "a"]), r#"["a","b"]"#)]
        {
            assert_eq!(serde_json::to_string(&authority).unwrap(), text);
            assert_eq!(serde_json::from_str::<Authority>(text).unwrap(), authority);
        }
    }
}
