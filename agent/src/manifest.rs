//! Desired states from manifests: whole ones, and differences against a state that is here already.
//!
//! ```text
//!   base state + Manifest … Manifest(last) ──► DesiredState, if its digest is the one that the hub named
//! ```
//!
//! Pure. Every digest is computed from the content, so a manifest that leads elsewhere is noticed here.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use crate::sync::{Has, HasUnit};
use bytes::Bytes;
use flotilla_core::desired::{Generation, Hold, Removal};
use flotilla_core::unit::ObjectEntry;
use flotilla_core::{
    Capabilities, ClusterName, DesiredState, Digest, ObjectId, UnitEntry, UnitId, UnitKind, UnitManifest,
};
use flotilla_proto::convert::{
    Invalid, cut, digest, digest_bytes, hold, object_entry, read_hold, read_object_entry,
};
use flotilla_proto::v1::{self, unit_change::Entry};

/// More units or objects than this are not taken for one cluster.
const MAX_UNITS: usize = 20_000;
const MAX_OBJECTS: usize = 200_000;

/// A manifest that leads to no state.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ManifestError {
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// Asking for everything helps.
    #[error("the changes are against {0}, which is not here")]
    NoBase(String),
    /// Asking for everything helps, once.
    #[error("the changes lead to {found} and not to {named}")]
    OtherDigest { named: Digest, found: Digest },
    #[error("it has more than {MAX_UNITS} units or {MAX_OBJECTS} objects")]
    TooLarge,
}

/// Where changes may start from: the state that runs, and one that is being fetched.
#[derive(Clone, Copy)]
pub(crate) struct Bases<'a>(pub(crate) &'a [&'a DesiredState]);

impl Bases<'_> {
    fn state(&self, digest: Digest) -> Option<&DesiredState> {
        self.0.iter().copied().find(|state| state.digest() == digest)
    }

    fn unit(&self, id: &UnitId, digest: Digest) -> Option<&Arc<UnitManifest>> {
        self.0.iter().filter_map(|state| state.present(id)).find(|unit| unit.digest() == digest)
    }
}

/// A manifest that is arriving.
#[derive(Debug)]
pub(crate) struct Assembly {
    pub(crate) generation: Generation,
    pub(crate) root: Digest,
    snapshot: String,
    units: BTreeMap<UnitId, UnitEntry>,
    /// Units that are present, as they come: one with very many objects comes in several changes.
    present: BTreeMap<UnitId, v1::UnitPresent>,
    objects: usize,
}

impl Assembly {
    /// Begins with the first message of a manifest, whose changes are not yet made.
    pub(crate) fn begin(manifest: &v1::Manifest, bases: Bases<'_>) -> Result<Self, ManifestError> {
        let units = match &manifest.base_root_digest[..] {
            [] => BTreeMap::new(),
            base => {
                let base = digest("manifest.base_root_digest", base)?;
                bases
                    .state(base)
                    .ok_or_else(|| ManifestError::NoBase(format!("state {base}")))?
                    .units()
                    .clone()
            }
        };
        Ok(Self {
            generation: Generation(manifest.generation),
            root: digest("manifest.root_digest", &manifest.root_digest)?,
            snapshot: manifest.snapshot.clone(),
            units,
            present: BTreeMap::new(),
            objects: 0,
        })
    }

    /// Takes the changes of one message.
    pub(crate) fn take(&mut self, manifest: v1::Manifest) -> Result<(), ManifestError> {
        for id in &manifest.unnamed {
            self.units.remove(&unit_id("manifest.unnamed", id)?);
        }
        for change in manifest.units {
            let id = unit_id("unit.id", &change.id)?;
            // What is not understood is held; the state's digest is still to be made.
            let foreign = |what: &str| match &change.digest_part[..] {
                [] => Err(Invalid::new("unit", format!("{what} of {id} is unknown; upgrade the agent"))),
                part => Ok(UnitEntry::Hold(Hold::not_understood(Bytes::copy_from_slice(part), what))),
            };
            let entry = match change.entry {
                _ if id.kind == UnitKind::Other => foreign("the kind of unit")?,
                Some(Entry::Present(present)) => {
                    self.objects += present.upserts.len();
                    self.take_present(id, present);
                    continue;
                }
                Some(Entry::Hold(code)) => UnitEntry::Hold(read_hold(&code, change.hold_text, change.bound)),
                Some(Entry::Removed(removal)) => match Removal::try_from(&removal) {
                    Ok(removal) => UnitEntry::Removed(removal),
                    Err(_) if removal.policy > 0 => foreign("the way to remove the unit")?,
                    Err(invalid) => return Err(invalid.into()),
                },
                None => foreign("what the hub says of the unit")?,
            };
            self.present.remove(&id);
            self.units.insert(id, entry);
        }
        if self.units.len() + self.present.len() > MAX_UNITS || self.objects > MAX_OBJECTS {
            return Err(ManifestError::TooLarge);
        }
        Ok(())
    }

    fn take_present(&mut self, id: UnitId, part: v1::UnitPresent) {
        match self.present.get_mut(&id) {
            Some(present) if present.digest == part.digest => {
                if present.spec.is_empty() {
                    present.spec = part.spec;
                }
                present.upserts.extend(part.upserts);
                present.removes.extend(part.removes);
            }
            _ => {
                self.present.insert(id, part);
            }
        }
    }

    /// The state, after the last message.
    pub(crate) fn finish(
        mut self,
        cluster: ClusterName,
        bases: Bases<'_>,
    ) -> Result<DesiredState, ManifestError> {
        for (id, present) in self.present {
            let entry = read_present(&id, present, bases)?;
            self.units.insert(id, entry);
        }
        let state = DesiredState::new(cluster, self.generation, self.snapshot, self.units);
        if state.digest() == self.root {
            Ok(state)
        } else {
            Err(ManifestError::OtherDigest { named: self.root, found: state.digest() })
        }
    }
}

fn unit_id(field: &'static str, text: &str) -> Result<UnitId, Invalid> {
    UnitId::read_any(text).map_err(|error| Invalid::new(field, error))
}

fn read_present(id: &UnitId, present: v1::UnitPresent, bases: Bases<'_>) -> Result<UnitEntry, ManifestError> {
    let named = digest("unit.digest", &present.digest)?;
    let base = match &present.base_digest[..] {
        [] => None,
        base => {
            let base = digest("unit.base_digest", base)?;
            let unit = bases.unit(id, base);
            Some(unit.ok_or_else(|| ManifestError::NoBase(format!("version {} of unit {id}", base.short())))?)
        }
    };
    if let Some(base) = base
        && base.digest() == named
    {
        return Ok(UnitEntry::Present(base.clone()));
    }
    let spec = match (present.spec.is_empty(), base) {
        (false, _) => present.spec,
        (true, Some(base)) => base.spec_bytes().clone(),
        (true, None) => {
            return Err(Invalid::new("unit.spec", format!("missing for {id}, which has no base")).into());
        }
    };
    let objects = merged(base.map_or(&[], |base| &base.objects), present.upserts, &present.removes)?;
    let found = UnitManifest::digest_of(id, &spec, &objects);
    if found != named {
        return Err(ManifestError::OtherDigest { named, found });
    }
    let foreign =
        |what: String| UnitEntry::Hold(Hold::not_understood(UnitEntry::present_part(named).into(), &what));
    Ok(match UnitManifest::from_digested(id.clone(), spec, objects, found) {
        Ok(unit) => {
            let lacking = Capabilities::ours().lacks(unit.spec.requires.iter().map(String::as_str));
            let first = lacking.into_iter().next().map(str::to_owned);
            match first {
                None => UnitEntry::Present(Arc::new(unit)),
                Some(name) => foreign(cut(format!("'{name}', which the unit requires,"))),
            }
        }
        Err(error) => foreign(cut(format!("the policy of the unit ({error})"))),
    })
}

/// The new list: upserts at their positions, between them what remains of the base in its order.
fn merged(
    base: &[ObjectEntry],
    upserts: Vec<v1::ObjectEntry>,
    removes: &[u32],
) -> Result<Vec<ObjectEntry>, ManifestError> {
    let removes: HashSet<usize> = removes.iter().map(|index| *index as usize).collect();
    let mut placed: Vec<(usize, ObjectEntry)> =
        upserts.into_iter().map(read_object_entry).collect::<Result<_, _>>()?;
    placed.sort_by_key(|(position, _)| *position);
    let replaced: HashSet<ObjectId> = placed.iter().map(|(_, entry)| entry.object.id.clone()).collect();
    let mut remaining = base
        .iter()
        .enumerate()
        .filter(|(index, entry)| !removes.contains(index) && !replaced.contains(&entry.object.id))
        .map(|(_, entry)| entry);
    let mut objects = Vec::with_capacity(base.len() + placed.len());
    for (position, entry) in placed {
        let before = position.saturating_sub(objects.len());
        objects.extend(remaining.by_ref().take(before).cloned());
        if objects.len() != position {
            return Err(Invalid::new("object.position", format!("{position} leaves a gap")).into());
        }
        objects.push(entry);
    }
    objects.extend(remaining.cloned());
    Ok(objects)
}

/// A whole state as one manifest, of any length.
pub(crate) fn whole(state: &DesiredState) -> v1::Manifest {
    let units = state.units().iter().map(|(id, entry)| {
        let entry = match entry {
            UnitEntry::Present(unit) => Entry::Present(v1::UnitPresent {
                digest: digest_bytes(Some(unit.digest())),
                spec: unit.spec_bytes().clone(),
                upserts: unit.objects.iter().enumerate().map(|(at, entry)| object_entry(at, entry)).collect(),
                ..Default::default()
            }),
            UnitEntry::Hold(Hold { stands_for: Some(part), .. }) => {
                let (id, digest_part) = (id.to_string(), part.clone());
                return v1::UnitChange { id, digest_part, ..Default::default() };
            }
            UnitEntry::Hold(held) => return hold(id.to_string(), held),
            UnitEntry::Removed(removal) => Entry::Removed(removal.into()),
        };
        v1::UnitChange { id: id.to_string(), entry: Some(entry), ..Default::default() }
    });
    v1::Manifest {
        generation: state.generation.0,
        root_digest: digest_bytes(Some(state.digest())),
        snapshot: state.snapshot.clone(),
        units: units.collect(),
        last: true,
        ..Default::default()
    }
}

/// Everything that the agent has: the units that a state names, with the digests of those that are present, and those that
/// run or are listed in the cluster though the state says nothing more of them. A unit of which neither the engine nor the
/// cluster has anything is not had, if the engine has looked.
pub(crate) fn units(state: Option<&DesiredState>, has: &Has) -> v1::Units {
    let mut all: BTreeMap<&UnitId, v1::HaveUnit> = BTreeMap::new();
    for (id, unit) in &has.units {
        let HasUnit { parent, removal, render } = unit;
        let unit = v1::HaveUnit {
            id: id.to_string(),
            parent: parent.as_ref().map(ToString::to_string).unwrap_or_default(),
            removal: removal.as_ref().map(Into::into),
            render_key: digest_bytes(render.map(|render| render.key)),
            render_content: digest_bytes(render.map(|render| render.content)),
            ..Default::default()
        };
        all.insert(id, unit);
    }
    for (id, entry) in state.iter().flat_map(|state| state.units()) {
        match entry {
            UnitEntry::Present(unit) => {
                let unit = v1::HaveUnit {
                    id: id.to_string(),
                    digest: digest_bytes(Some(unit.digest())),
                    parent: unit.spec.parent.as_ref().map(ToString::to_string).unwrap_or_default(),
                    removal: Some((&Removal::of(&unit.spec)).into()),
                    render_key: digest_bytes(unit.spec.render.map(|render| render.key)),
                    render_content: digest_bytes(unit.spec.render.map(|render| render.content)),
                };
                all.insert(id, unit);
            }
            UnitEntry::Hold(_) | UnitEntry::Removed(_) => {
                if !has.is_whole {
                    all.entry(id)
                        .or_insert_with(|| v1::HaveUnit { id: id.to_string(), ..Default::default() });
                }
                if let (UnitEntry::Removed(removal), Some(unit)) = (entry, all.get_mut(id)) {
                    unit.removal = Some(removal.into());
                }
            }
        }
    }
    v1::Units { units: all.into_values().collect() }
}

/// The newest version of each object of `wanted` that `base` has, by the wanted digest.
pub(crate) fn earlier_versions(
    base: &DesiredState,
    state: &DesiredState,
    wanted: &HashSet<Digest>,
) -> HashMap<Digest, Digest> {
    let have: HashMap<&ObjectId, Digest> = base
        .all_present()
        .flat_map(|unit| unit.objects.iter().map(|entry| (&entry.object.id, entry.digest)))
        .collect();
    state
        .all_present()
        .flat_map(|unit| &unit.objects)
        .filter(|entry| wanted.contains(&entry.digest))
        .filter_map(|entry| Some((entry.digest, *have.get(&entry.object.id)?)))
        .collect()
}

#[cfg(test)]
#[path = "manifest_tests.rs"]
mod tests;
