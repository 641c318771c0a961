//! Manifests: a desired state as the difference from what the agent has, in messages of bounded size.
//!
//! ```text
//!   base known to both (by root digest)      changed units, each against its old version
//!   only the agent's units known (by digest) every unit; equal ones by digest, others whole or against a version
//!                                            that we still hold
//!   nothing known                            everything
//! ```

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use flotilla_core::unit::ObjectEntry;
use flotilla_core::{DesiredState, Digest, Generation, ObjectId, UnitEntry, UnitId, UnitManifest};
use flotilla_proto::MAX_MESSAGE;
use flotilla_proto::convert::{digest_bytes, hold, object_entry};
use flotilla_proto::v1::{self, unit_change::Entry};
use prost::Message;

/// Room for the fields of a Manifest that are not units.
const HEAD: usize = 4 << 10;
/// The largest part of one unit in a message.
const MAX_PART: usize = MAX_MESSAGE - 2 * HEAD;

/// What the agent has, as far as we know.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Base<'a> {
    /// A state that we hold too.
    State(&'a DesiredState),
    /// Its units by digest, and those versions of them that we still hold.
    Units {
        have: &'a BTreeMap<UnitId, Digest>,
        held: &'a HashMap<Digest, Arc<UnitManifest>>,
    },
    Nothing,
}

/// Writes a state with this generation as messages that follow each other.
pub(crate) fn manifests(state: &DesiredState, generation: Generation, base: Base<'_>) -> Vec<v1::Manifest> {
    let mut changes = Vec::new();
    let mut unnamed = Vec::new();
    let mut base_root = None;
    match base {
        Base::State(old) => {
            base_root = Some(old.digest());
            let difference = state.changes_since(old);
            for (id, entry) in difference.changed {
                push_unit(&mut changes, id, entry, old.present(id).map(|unit| &**unit));
            }
            unnamed = difference.unnamed.into_iter().map(ToString::to_string).collect();
        }
        Base::Units { have, held } => {
            for (id, entry) in state.units() {
                match (entry, have.get(id)) {
                    (UnitEntry::Present(unit), Some(digest)) if unit.digest() == *digest => {
                        push_unit(&mut changes, id, entry, Some(unit));
                    }
                    (_, Some(digest)) => push_unit(&mut changes, id, entry, held.get(digest).map(|u| &**u)),
                    (_, None) => push_unit(&mut changes, id, entry, None),
                }
            }
        }
        Base::Nothing => {
            for (id, entry) in state.units() {
                push_unit(&mut changes, id, entry, None);
            }
        }
    }
    let head = v1::Manifest {
        generation: generation.0,
        root_digest: digest_bytes(Some(state.digest())),
        snapshot: state.snapshot.clone(),
        base_root_digest: digest_bytes(base_root),
        ..Default::default()
    };
    pack(&head, changes, unnamed)
}

/// Fills messages in order; every one repeats the head.
fn pack(head: &v1::Manifest, changes: Vec<v1::UnitChange>, unnamed: Vec<String>) -> Vec<v1::Manifest> {
    let mut messages = vec![head.clone()];
    let mut size = HEAD;
    // Takes the message that has room for `more` bytes.
    let mut room = |messages: &mut Vec<v1::Manifest>, more: usize| {
        if size + more > MAX_MESSAGE {
            messages.push(head.clone());
            size = HEAD;
        }
        size += more;
        messages.len() - 1
    };
    for change in changes {
        let at = room(&mut messages, change.encoded_len() + 8);
        messages[at].units.push(change);
    }
    for id in unnamed {
        let at = room(&mut messages, id.len() + 8);
        messages[at].unnamed.push(id);
    }
    if let Some(last) = messages.last_mut() {
        last.last = true;
    }
    messages
}

/// Writes one unit; one with very many objects in several changes, which the receiver takes as one.
fn push_unit(changes: &mut Vec<v1::UnitChange>, id: &UnitId, entry: &UnitEntry, base: Option<&UnitManifest>) {
    let id = id.to_string();
    let unit = match entry {
        UnitEntry::Present(unit) => unit,
        UnitEntry::Hold(held) => return changes.push(hold(id, held)),
        UnitEntry::Removed(removal) => {
            let digest_part = entry.digest_part().into();
            let change = change(id, Entry::Removed(removal.into()));
            return changes.push(v1::UnitChange { digest_part, ..change });
        }
    };
    let mut present = v1::UnitPresent { digest: digest_bytes(Some(unit.digest())), ..Default::default() };
    let delta = base.and_then(|base| Some((base, list_delta(&base.objects, &unit.objects)?)));
    let upserts: Vec<v1::ObjectEntry> = match delta {
        Some((base, delta)) => {
            present.base_digest = digest_bytes(Some(base.digest()));
            if base.spec_bytes() != unit.spec_bytes() {
                present.spec = unit.spec_bytes().clone();
            }
            present.removes = delta.removes;
            delta.upserts.into_iter().map(|at| object_entry(at, &unit.objects[at])).collect()
        }
        None => {
            present.spec = unit.spec_bytes().clone();
            unit.objects.iter().enumerate().map(|(at, entry)| object_entry(at, entry)).collect()
        }
    };
    // The first change has what is there once; those after it only more upserts.
    let head = v1::UnitPresent {
        digest: present.digest.clone(),
        base_digest: present.base_digest.clone(),
        ..Default::default()
    };
    let mut size = present.encoded_len();
    let mut current = present;
    for upsert in upserts {
        let more = upsert.encoded_len() + 8;
        if size + more > MAX_PART && !current.upserts.is_empty() {
            let full = std::mem::replace(&mut current, head.clone());
            changes.push(change(id.clone(), Entry::Present(full)));
            size = current.encoded_len();
        }
        size += more;
        current.upserts.push(upsert);
    }
    changes.push(change(id, Entry::Present(current)));
}

fn change(id: String, entry: Entry) -> v1::UnitChange {
    v1::UnitChange { id, entry: Some(entry), ..Default::default() }
}

struct ListDelta {
    /// Indices in the new list.
    upserts: Vec<usize>,
    /// Indices in the base of objects that are gone.
    removes: Vec<u32>,
}

/// The difference between two lists: what stays keeps its order and fills the places between the upserts. `None`
/// where an object is listed twice, which positions alone cannot express.
fn list_delta(base: &[ObjectEntry], new: &[ObjectEntry]) -> Option<ListDelta> {
    let mut places: HashMap<&ObjectId, usize> = HashMap::with_capacity(base.len());
    for (at, entry) in base.iter().enumerate() {
        if places.insert(&entry.object.id, at).is_some() {
            return None;
        }
    }
    let mut named: HashSet<&ObjectId> = HashSet::with_capacity(new.len());
    // Objects that are the same in both: (index in the new list, index in the base).
    let mut same = Vec::new();
    for (at, entry) in new.iter().enumerate() {
        if !named.insert(&entry.object.id) {
            return None;
        }
        if let Some(&old) = places.get(&entry.object.id)
            && base[old] == *entry
        {
            same.push((at, old));
        }
    }
    let kept: HashSet<usize> = longest_rising(&same).into_iter().collect();
    let upserts = (0..new.len()).filter(|at| !kept.contains(at)).collect();
    let gone = base.iter().enumerate().filter(|(_, entry)| !named.contains(&entry.object.id));
    Some(ListDelta { upserts, removes: gone.map(|(at, _)| at as u32).collect() })
}

/// The first halves of a longest run of pairs whose second halves rise.
fn longest_rising(pairs: &[(usize, usize)]) -> Vec<usize> {
    // `ends[n]`: the pair with the lowest end among the runs of length n + 1; `before`: each pair's predecessor.
    let mut ends: Vec<usize> = Vec::new();
    let mut before = vec![None; pairs.len()];
    for (index, &(_, old)) in pairs.iter().enumerate() {
        let length = ends.partition_point(|&end| pairs[end].1 < old);
        before[index] = length.checked_sub(1).map(|shorter| ends[shorter]);
        if length == ends.len() {
            ends.push(index);
        } else {
            ends[length] = index;
        }
    }
    let mut run = Vec::with_capacity(ends.len());
    let mut at = ends.last().copied();
    while let Some(index) = at {
        run.push(pairs[index].0);
        at = before[index];
    }
    run
}
