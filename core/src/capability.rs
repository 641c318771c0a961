//! What agents of different versions can do, so that hub and agents of any two versions go on together.
//!
//! ```text
//!   agent ── Hello: capabilities ──► hub ── units whose `requires` it has: as they are
//!                                       └── others: held, "upgrade the agent"
//!   agent ◄── a unit that requires what it does not know: held, whatever sent it (a newer hub, its own disk)
//! ```
//!
//! A field that asks for more is passed over by whoever does not know it. One that *restricts* must not be: an agent that
//! passes it over does what was forbidden. So each restriction has a name here from its first version on, and whatever uses
//! it says so.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::desired::{Removal, UnitEntry};
use crate::unit::UnitSpec;

/// It knows [`UnitSpec::authority`]: what a tenant's unit may not take from others.
pub const AUTHORITY: &str = "authority";
/// It knows [`Removal::moved`]: nothing of the unit is deleted without an approval.
pub const MOVED: &str = "moved";
/// It knows [`Removal::suspended`]: nothing of the unit is deleted.
pub const LEFT_SUSPENDED: &str = "left-suspended";
/// It knows [`UnitSpec::place`]: what leaves together with another place of the root waits for an approval. Required where the
/// hub sees that the root has moved, and not by every root that has a place.
pub const PLACE: &str = "place";

/// It knows [`UnitSpec::decryption`]: without, it would apply what is encrypted as it is.
pub const SOPS: &str = "sops";

/// It answers questions about its cluster: see [`crate::question`]. One that cannot is asked nothing, and what only the
/// cluster knows stays unknown.
pub const QUESTIONS: &str = "questions";

/// It knows [`UnitSpec::release`]: without, it would apply the objects and run no hook, and `helm` would know of no release. No
/// agent of this version does yet.
pub const HELM_RELEASE: &str = "helm-release";

/// All of this version.
const OURS: [&str; 6] = [AUTHORITY, MOVED, LEFT_SUSPENDED, PLACE, SOPS, QUESTIONS];

/// More names, or longer ones, are no agent's.
const MAX_NAMES: usize = 256;
const MAX_NAME: usize = 64;

/// The names of what somebody can do. An agent that says nothing of it can do none of these.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Capabilities(BTreeSet<String>);

/// A list that no agent sends.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("more than {MAX_NAMES} capabilities, or one of more than {MAX_NAME} bytes")]
pub struct TooMany;

impl Capabilities {
    /// Those of this version.
    pub fn ours() -> Self {
        Self(OURS.map(str::to_owned).into())
    }

    /// As somebody lists them; names that this version does not know are kept.
    pub fn read(names: Vec<String>) -> Result<Self, TooMany> {
        if names.len() > MAX_NAMES || names.iter().any(|name| name.len() > MAX_NAME) {
            return Err(TooMany);
        }
        Ok(Self(names.into_iter().collect()))
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }

    /// Whether this is among them.
    pub fn has(&self, name: &str) -> bool {
        self.0.contains(name)
    }

    /// What is required and not among these.
    pub fn lacks<'a>(&self, required: impl IntoIterator<Item = &'a str>) -> BTreeSet<&'a str> {
        required.into_iter().filter(|name| !self.0.contains(*name)).collect()
    }
}

/// What a unit's policy requires, by the fields that it uses.
pub(crate) fn required_by(spec: &UnitSpec) -> BTreeSet<String> {
    let by_field = [
        (!spec.authority.is_fleet(), AUTHORITY),
        (spec.decryption.is_some(), SOPS),
        (spec.release.is_some(), HELM_RELEASE),
    ];
    by_field.into_iter().filter(|(is_used, _)| *is_used).map(|(_, name)| name.to_owned()).collect()
}

impl UnitEntry {
    /// What an agent has to know, so that nothing of this entry is passed over that forbids something.
    pub fn requires(&self) -> impl Iterator<Item = &str> {
        let (spec, removal) = match self {
            Self::Present(unit) => (Some(&unit.spec), None),
            Self::Removed(removal) => (None, Some(removal)),
            Self::Hold(_) => (None, None),
        };
        let of_removal = |removal: &Removal| {
            [(removal.moved, MOVED), (removal.suspended, LEFT_SUSPENDED)]
                .into_iter()
                .filter_map(|(is_so, name)| is_so.then_some(name))
        };
        let of_spec = spec.into_iter().flat_map(|spec| spec.requires.iter().map(String::as_str));
        of_spec.chain(removal.into_iter().flat_map(of_removal))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authority::Authority;
    use crate::unit::{UnitId, UnitManifest};
    use std::sync::Arc;

    #[test]
    fn whatever_forbids_something_requires_that_it_is_known() {
        let spec = |authority| UnitSpec { authority, ..UnitSpec::default() };
        let present = |spec| {
            UnitEntry::Present(Arc::new(UnitManifest::new(UnitId::kustomization("a", "b"), spec, vec![])))
        };
        let tenant = Authority::Namespaces(["a".to_owned()].into());
        let removed = |moved, suspended| {
            UnitEntry::Removed(Removal { moved, suspended, prune: true, ..Removal::default() })
        };
        for (entry, expected) in [
            (present(spec(Authority::Fleet)), &[][..]),
            (present(spec(tenant)), &[AUTHORITY]),
            (present(UnitSpec { decryption: Some("age".into()), ..UnitSpec::default() }), &[SOPS]),
            (UnitEntry::Hold("bad".into()), &[]),
            (removed(false, false), &[]),
            (removed(true, false), &[MOVED]),
            (removed(true, true), &[MOVED, LEFT_SUSPENDED]),
        ] {
            assert_eq!(entry.requires().collect::<Vec<_>>(), expected, "{entry:?}");
            assert!(Capabilities::ours().lacks(entry.requires()).is_empty());
            assert_eq!(Capabilities::default().lacks(entry.requires()).len(), expected.len());
        }
    }

    #[test]
    fn a_list_is_bounded_and_keeps_what_is_unknown() {
        let read = Capabilities::read(vec!["of-tomorrow".into(), AUTHORITY.into()]).unwrap();
        assert_eq!(read.names().collect::<Vec<_>>(), [AUTHORITY, "of-tomorrow"]);
        assert_eq!(read.lacks([AUTHORITY, MOVED]), [MOVED].into());
        assert_eq!(Capabilities::read(vec!["x".repeat(MAX_NAME + 1)]), Err(TooMany));
        assert_eq!(Capabilities::read(vec!["x".into(); MAX_NAMES + 1]), Err(TooMany));
    }
}
