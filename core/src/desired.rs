//! The desired state of one cluster: every unit as present, held or removed, with a Merkle digest.
//!
//! ```text
//!   root digest ─┬─ root                          present(digest)
//!                ├─ kustomization/flux-system/apps present(digest) ─┬─ spec
//!                │                                                  └─ object digests
//!                ├─ kustomization/flux-system/db   hold(reason)      keep what you run
//!                └─ kustomization/flux-system/old  removed(policy)   the parent rendered without it
//! ```
//!
//! A unit that is not named is held: nothing follows from silence.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use crate::authority::Authority;
use crate::digest::Digest;
use crate::names::ClusterName;
use crate::unit::{DeletionPolicy, Render, UnitId, UnitManifest, UnitSpec};

/// A number that rises with every published desired state of the fleet; an agent refuses a lower one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Generation(pub u64);

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A unit that an agent has, or may have received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownUnit {
    pub id: UnitId,
    pub parent: Option<UnitId>,
    pub removal: Removal,
    /// Of a Helm release: what helm rendered for it.
    pub render: Option<Render>,
}

/// How a unit goes: as the definition that the agent last ran says, or as the hub last knew it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Removal {
    pub policy: DeletionPolicy,
    /// The unit's last `prune`, which [`DeletionPolicy::MirrorPrune`] follows.
    pub prune: bool,
    /// The unit was suspended when it left Git: its objects stay as they are until it is resumed or back in Git.
    pub suspended: bool,
    /// The cluster's root, source or branch changed in the commit without the unit: its objects stay until somebody
    /// approves that.
    pub moved: bool,
}

impl Removal {
    /// The removal that a unit's own definition asks for.
    pub fn of(spec: &UnitSpec) -> Self {
        Self { policy: spec.deletion_policy, prune: spec.prune, suspended: spec.suspend, moved: false }
    }

    /// Whether the unit's objects are deleted.
    pub fn deletes(self) -> bool {
        !self.suspended && self.policy_deletes()
    }

    fn policy_deletes(self) -> bool {
        match self.policy {
            DeletionPolicy::MirrorPrune => self.prune,
            DeletionPolicy::Delete | DeletionPolicy::WaitForTermination => true,
            DeletionPolicy::Orphan => false,
        }
    }
}

/// What should become of a unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UnitEntry {
    Present(Arc<UnitManifest>),
    /// Keep what you run.
    Hold(Hold),
    Removed(Removal),
}

/// What kind of reason holds a unit. Its words stand in the state's digest, so they never change; the agents of a version
/// that knows no texts show them to people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HoldCode {
    /// Its definition or content cannot be rendered.
    NotRendered,
    /// Nobody knows which unit defined it.
    NoParent,
    /// The unit that defined it is suspended, held or not rendered.
    ParentHeld,
    /// The change that removes it is held until somebody approves that.
    ChangeHeld,
    /// The change by which it loses objects is held until somebody approves that.
    LossHeld,
    /// The cluster's agent is too old for what it requires.
    AgentTooOld,
    /// A reason of another version.
    Other(Arc<str>),
}

impl HoldCode {
    const KNOWN: [Self; 6] = [
        Self::NotRendered,
        Self::NoParent,
        Self::ParentHeld,
        Self::ChangeHeld,
        Self::LossHeld,
        Self::AgentTooOld,
    ];

    pub fn as_str(&self) -> &str {
        match self {
            Self::NotRendered => "cannot be rendered",
            Self::NoParent => "nothing says which unit defined it",
            Self::ParentHeld => "the unit that defined it is held",
            Self::ChangeHeld => "its removal waits for an approval of the change",
            Self::LossHeld => "losing objects waits for an approval of the change",
            Self::AgentTooOld => "needs a newer agent: upgrade the agent",
            Self::Other(words) => words,
        }
    }
}

impl From<&str> for HoldCode {
    fn from(words: &str) -> Self {
        Self::KNOWN
            .into_iter()
            .find(|code| code.as_str() == words)
            .unwrap_or_else(|| Self::Other(words.into()))
    }
}

/// Why a unit is held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    pub code: HoldCode,
    /// For people: where and what. It is in no digest, so that other words (another line number, another wording of a
    /// network error) are no other state. Empty: nothing more than the code is known.
    pub text: String,
    /// How far the unit reaches, as far as is known: objects of units that it [takes
    /// from](Authority::takes_from) may have moved to it.
    pub authority: Authority,
    /// At an agent: how the entry that this stands for counts in the state's digest, where this version does not understand
    /// that entry.
    pub stands_for: Option<Bytes>,
}

impl Hold {
    /// Of a unit of which the hub says what this version does not understand.
    pub fn not_understood(part: Bytes, what: &str) -> Self {
        let text = format!("{what} is unknown to this agent: upgrade the agent");
        Self { stands_for: Some(part), ..Self::from(text) }
    }

    /// What people are told.
    pub fn message(&self) -> &str {
        if self.text.is_empty() { self.code.as_str() } else { &self.text }
    }
}

impl<T: Into<String>> From<T> for Hold {
    /// Of a unit that is not rendered, and may take from all.
    fn from(text: T) -> Self {
        Self { code: HoldCode::NotRendered, text: text.into(), authority: Authority::Fleet, stands_for: None }
    }
}

impl fmt::Display for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message())
    }
}

/// What one cluster should run. Immutable; its digest covers the units, not the generation, the snapshot or the texts of
/// holds, so a commit that changes nothing for a cluster changes nothing on the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DesiredState {
    pub cluster: ClusterName,
    pub generation: Generation,
    /// The fleet commit this came from, for people.
    pub snapshot: String,
    units: BTreeMap<UnitId, UnitEntry>,
    digest: Digest,
}

impl DesiredState {
    pub fn new(
        cluster: ClusterName,
        generation: Generation,
        snapshot: impl Into<String>,
        units: BTreeMap<UnitId, UnitEntry>,
    ) -> Self {
        let digest = root_digest(&units);
        Self { cluster, generation, snapshot: snapshot.into(), units, digest }
    }

    /// The same state under another number.
    pub fn at(self, generation: Generation) -> Self {
        Self { generation, ..self }
    }

    pub fn units(&self) -> &BTreeMap<UnitId, UnitEntry> {
        &self.units
    }

    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The unit's manifest if it is present.
    pub fn present(&self, id: &UnitId) -> Option<&Arc<UnitManifest>> {
        match self.units.get(id)? {
            UnitEntry::Present(unit) => Some(unit),
            UnitEntry::Hold(_) | UnitEntry::Removed(_) => None,
        }
    }

    /// Every unit that is present.
    pub fn all_present(&self) -> impl Iterator<Item = &Arc<UnitManifest>> {
        self.units.values().filter_map(|entry| match entry {
            UnitEntry::Present(unit) => Some(unit),
            UnitEntry::Hold(_) | UnitEntry::Removed(_) => None,
        })
    }

    /// Whether it has entries that this version does not understand.
    pub fn has_foreign(&self) -> bool {
        let is_foreign =
            |entry: &UnitEntry| matches!(entry, UnitEntry::Hold(hold) if hold.stands_for.is_some());
        self.units.values().any(is_foreign)
    }

    /// What an agent has to know, so that it passes over nothing in this state that forbids something.
    pub fn requires(&self) -> BTreeSet<&str> {
        self.units.values().flat_map(UnitEntry::requires).collect()
    }

    /// Whether any unit is held. While one is, objects that left other units may have moved into it, and
    /// nothing is pruned from those.
    pub fn holds(&self) -> bool {
        self.units.values().any(|entry| matches!(entry, UnitEntry::Hold(_)))
    }

    /// The same state with the texts of `newer`, which has the same digest; `None` where they are the same.
    pub fn with_texts_of(&self, newer: &Self) -> Option<Self> {
        let is_other = self.digest == newer.digest && !newer.changes_since(self).changed.is_empty();
        is_other.then(|| Self { units: newer.units.clone(), ..self.clone() })
    }

    /// The entries that differ from `base`, and the units that it names and this does not.
    pub fn changes_since<'a>(&'a self, base: &'a DesiredState) -> Changes<'a> {
        let changed = self.units.iter().filter(|&(id, entry)| match (base.units.get(id), entry) {
            (Some(UnitEntry::Present(old)), UnitEntry::Present(new)) => old.digest() != new.digest(),
            (Some(old), new) => old != new,
            (None, _) => true,
        });
        let unnamed = base.units.keys().filter(|id| !self.units.contains_key(*id));
        Changes { changed: changed.collect(), unnamed: unnamed.collect() }
    }
}

/// The difference between two desired states.
#[derive(Debug)]
pub struct Changes<'a> {
    pub changed: Vec<(&'a UnitId, &'a UnitEntry)>,
    pub unnamed: Vec<&'a UnitId>,
}

/// Units count in the order of their ids: the root, Kustomizations, HelmReleases, then whatever kinds there are later, by
/// the texts of their ids. So a version that does not know a kind gets the same digest.
fn root_digest(units: &BTreeMap<UnitId, UnitEntry>) -> Digest {
    let mut parts: Vec<Vec<u8>> = Vec::with_capacity(units.len() * 2);
    for (id, entry) in units {
        parts.push(id.to_string().into_bytes());
        parts.push(entry.digest_part());
    }
    Digest::of_parts(parts.iter().map(Vec::as_slice))
}

impl UnitEntry {
    /// How a unit that is present counts in the digest of its state.
    pub fn present_part(digest: Digest) -> Vec<u8> {
        [b"present ", &digest.as_bytes()[..]].concat()
    }

    /// How the entry counts in the digest of its state. It travels beside what a receiver may not understand.
    pub fn digest_part(&self) -> Vec<u8> {
        match self {
            Self::Present(unit) => Self::present_part(unit.digest()),
            Self::Hold(Hold { stands_for: Some(part), .. }) => part.to_vec(),
            Self::Hold(Hold { code, authority: Authority::Fleet, .. }) => {
                format!("hold {}", code.as_str()).into_bytes()
            }
            Self::Hold(Hold { code, authority, .. }) => {
                format!("hold {} in {authority}", code.as_str()).into_bytes()
            }
            Self::Removed(Removal { policy, prune, suspended, moved }) => {
                let suspended = if *suspended { " suspended" } else { "" };
                let moved = if *moved { " moved" } else { "" };
                format!("removed {policy:?} {prune}{suspended}{moved}").into_bytes()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(units: impl IntoIterator<Item = (UnitId, UnitEntry)>) -> DesiredState {
        DesiredState::new("staging".parse().unwrap(), Generation(1), "c0ffee", units.into_iter().collect())
    }

    fn present(name: &str, wait: bool) -> (UnitId, UnitEntry) {
        let id = UnitId::kustomization("flux-system", name);
        let spec = UnitSpec { wait, ..UnitSpec::default() };
        (id.clone(), UnitEntry::Present(Arc::new(UnitManifest::new(id, spec, vec![]))))
    }

    #[test]
    fn a_state_differs_from_its_base_by_units_only() {
        let base = state([present("a", false), present("b", false), present("c", false)]);
        let held = UnitId::kustomization("flux-system", "b");
        let next = state([
            present("a", false),
            (held.clone(), UnitEntry::Hold("b.yaml: bad".into())),
            present("d", true),
        ]);
        let changes = next.changes_since(&base);
        let changed: Vec<_> = changes.changed.iter().map(|(id, _)| id.name.as_str()).collect();
        assert_eq!(changed, ["b", "d"]);
        assert_eq!(changes.unnamed, [&UnitId::kustomization("flux-system", "c")]);
        assert!(next.holds() && !base.holds());
        assert_ne!(next.digest(), base.digest());

        let later = DesiredState::new(base.cluster.clone(), Generation(9), "other", base.units().clone());
        assert_eq!(later.digest(), base.digest());
    }

    #[test]
    fn other_words_are_no_other_state_and_another_reason_is() {
        let id = UnitId::kustomization("flux-system", "b");
        let held = |code: HoldCode, text: &str| {
            let hold = Hold { code, ..Hold::from(text) };
            state([present("a", false), (id.clone(), UnitEntry::Hold(hold))])
        };
        let first = held(HoldCode::NotRendered, "b.yaml:3: bad");
        let moved = held(HoldCode::NotRendered, "b.yaml:4: bad");
        assert_eq!(first.digest(), moved.digest());
        assert_ne!(first.digest(), held(HoldCode::ParentHeld, "b.yaml:3: bad").digest());
        assert_ne!(first.digest(), held("later".into(), "b.yaml:3: bad").digest());
        let newer = DesiredState::new(first.cluster.clone(), Generation(9), "other", moved.units().clone());
        assert_eq!(first.with_texts_of(&newer), Some(moved), "the text alone is taken over");
        assert_eq!(first.with_texts_of(&first), None);
        assert_eq!(first.with_texts_of(&state([present("a", false)])), None, "another state");
    }

    #[test]
    fn codes_read_back() {
        for code in HoldCode::KNOWN {
            assert_eq!(HoldCode::from(code.as_str()), code);
        }
        assert_eq!(HoldCode::from("of tomorrow"), HoldCode::Other("of tomorrow".into()));
    }
}
