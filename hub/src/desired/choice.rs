//! From which snapshot each unit of a cluster is taken, and the render that this comes to. Pure.
//!
//! ```text
//!   newest render ─┐
//!   older renders ─┼─► compose ─► one render, each of its units as one snapshot has it
//!   choice ────────┘
//! ```
//!
//! What is defined below a unit is taken with it. Which snapshot it is decides about a unit as a whole: what it says of it, and
//! whether there is such a unit at all.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use flotilla_core::desired::KnownUnit;
use flotilla_core::report::Problem;
use flotilla_core::unit::{DriftMode, UnitManifest};
use flotilla_core::{Digest, ObjectId, UnitEntry, UnitId, UnitSpec};
use flotilla_render::{ClusterRender, Content, RenderedUnit};
use flotilla_rollout::Projection;
use flotilla_rollout::spec::UnitSelection;

/// Which units somebody claims; what they define belongs to them, unless it is named itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claimed {
    All,
    Selected(Arc<UnitSelection>),
}

/// From where claimed units are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Take {
    /// From the newest, as if nobody claimed them.
    Newest,
    /// From where they are taken now: what is not there does not start.
    AsIs,
    /// What is there stays, whatever that is: nobody knows what the cluster has.
    Hold,
    /// From this snapshot. `content` is what all that is claimed comes to there: where the newest one comes to the same, it is as good.
    At { snapshot: Digest, content: Digest },
}

/// What one claim says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Who claims, for people.
    pub by: Arc<str>,
    pub claimed: Claimed,
    pub take: Take,
    /// Units that are not taken from there, with what they define.
    pub units: Vec<(UnitId, Take)>,
    /// Of the assignment that this comes from; 0: of none.
    pub revision: u64,
}

/// Which snapshot each unit of a cluster is taken from: what nobody claims, from the newest.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Choice {
    pub parts: Vec<Part>,
}

impl Part {
    /// All that it takes from, by number: what `says` speaks of.
    fn takes(&self) -> impl Iterator<Item = Take> {
        [self.take].into_iter().chain(self.units.iter().map(|(_, take)| *take))
    }

    /// From which of its takes a unit is by its own name; `Some(None)`: it is not claimed; `None`: what defines it says.
    fn says(&self, id: &UnitId) -> Option<Option<usize>> {
        if self.take == Take::Newest {
            return Some(None);
        }
        if let Some(at) = self.units.iter().position(|(unit, _)| unit == id) {
            return Some(Some(at + 1));
        }
        match &self.claimed {
            Claimed::All => Some(Some(0)),
            Claimed::Selected(selection) => Some(selection.names(id)?.then_some(0)),
        }
    }
}

impl Choice {
    /// Whether all units are taken from the newest snapshot.
    pub fn is_newest(&self) -> bool {
        self.parts.iter().all(|part| part.take == Take::Newest)
    }

    /// The snapshots that it names.
    pub fn snapshots(&self) -> impl Iterator<Item = Digest> {
        self.parts.iter().flat_map(Part::takes).filter_map(|take| match take {
            Take::At { snapshot, .. } => Some(snapshot),
            Take::Newest | Take::AsIs | Take::Hold => None,
        })
    }
}

/// Where a unit is taken from that is not taken from the newest snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Taken {
    At(Digest),
    /// What it should be is not known, and why; it keeps what runs.
    Unknown(String),
}

/// The renders of a cluster that units may be taken from.
pub struct Renders<'a> {
    pub newest: &'a ClusterRender,
    /// By snapshot; an error is why there is none.
    pub older: &'a BTreeMap<Digest, Result<ClusterRender, String>>,
}

/// What a choice comes to.
#[derive(Debug, Clone)]
pub struct Composed {
    /// `None`: all units are taken from the newest render.
    pub render: Option<ClusterRender>,
    /// Where units are taken from, those of the newest render aside.
    pub taken: BTreeMap<UnitId, Taken>,
}

/// Parents above each other that are looked at; what an agent reports may go on for ever.
const GENERATIONS: usize = 64;

/// What each unit belongs to: parts of the choice, by their places, with the number of what it is taken from.
type Claims = BTreeMap<UnitId, Vec<(usize, usize)>>;

/// Finds out who claims what: a unit belongs to whoever names it, or a unit above it in any render.
struct Claiming<'a> {
    choice: &'a Choice,
    renders: Vec<&'a ClusterRender>,
    known: &'a BTreeMap<UnitId, KnownUnit>,
    found: Claims,
}

impl Claiming<'_> {
    fn of(&mut self, id: &UnitId, steps: usize) -> Vec<(usize, usize)> {
        if let Some(found) = self.found.get(id) {
            return found.clone();
        }
        let mut parts: BTreeMap<usize, usize> = BTreeMap::new();
        let mut asking = BTreeSet::new();
        for (at, part) in self.choice.parts.iter().enumerate() {
            match part.says(id) {
                Some(take) => parts.extend(take.map(|take| (at, take))),
                None => drop(asking.insert(at)),
            }
        }
        if steps > 0 && !asking.is_empty() {
            let defined = self.renders.iter().filter_map(|render| render.units.get(id)?.parent.as_ref());
            let known = self.known.get(id).and_then(|unit| unit.parent.as_ref());
            let parents: BTreeSet<UnitId> = defined.chain(known).cloned().collect();
            for parent in &parents {
                for (at, take) in self.of(parent, steps - 1) {
                    if asking.contains(&at) {
                        let taken = parts.entry(at).or_default();
                        *taken = take.max(*taken);
                    }
                }
            }
        }
        let parts: Vec<(usize, usize)> = parts.into_iter().collect();
        self.found.insert(id.clone(), parts.clone());
        parts
    }
}

fn claims(choice: &Choice, renders: Vec<&ClusterRender>, known: &BTreeMap<UnitId, KnownUnit>) -> Claims {
    let mut ids: BTreeSet<UnitId> = known.keys().cloned().collect();
    ids.extend(renders.iter().flat_map(|render| render.units.keys().cloned()));
    let mut claiming = Claiming { choice, renders, known, found: Claims::new() };
    for id in &ids {
        claiming.of(id, GENERATIONS);
    }
    claiming.found.retain(|id, _| ids.contains(id));
    claiming.found
}

/// The claimed units of a render with what they come to; `None`: some of them cannot be rendered, or something that defines them, as
/// far as `known` tells. What people and policies say beside that counts at once, and is no part of it.
pub fn projection(
    render: &ClusterRender,
    claimed: &Claimed,
    known: &BTreeMap<UnitId, KnownUnit>,
    snapshot: Digest,
) -> Option<Projection> {
    let is_held = |id: &UnitId| render.units.get(id).is_some_and(|unit| unit.unit.is_none());
    if render.units.iter().any(|(id, unit)| unit.parent.is_none() && is_held(id)) {
        return None;
    }
    let claimed = claimed.clone();
    let part = Part { by: "".into(), claimed, take: Take::AsIs, units: Vec::new(), revision: 0 };
    let choice = Choice { parts: vec![part] };
    let claims = claims(&choice, vec![render], known);
    let mut units: Vec<(UnitId, Digest)> = Vec::new();
    for (id, _) in claims.into_iter().filter(|(_, parts)| !parts.is_empty()) {
        match render.units.get(&id) {
            Some(unit) => units.push((id, content(&unit.unit.as_ref()?.manifest))),
            // It is no longer there, unless what defines it cannot be rendered.
            None => {
                let above = |id: &UnitId| known.get(id).and_then(|unit| unit.parent.clone());
                let mut parents = std::iter::successors(above(&id), above).take(GENERATIONS);
                if parents.any(|parent| is_held(&parent)) {
                    return None;
                }
            }
        }
    }
    Some(Projection::new(snapshot, units))
}

fn projected(
    render: &ClusterRender,
    claimed: &Claimed,
    known: &BTreeMap<UnitId, KnownUnit>,
) -> Option<Digest> {
    projection(render, claimed, known, Digest::of(b"")).map(|projection| projection.digest())
}

/// A unit's digest, however it is treated.
fn content(manifest: &Arc<UnitManifest>) -> Digest {
    if manifest.spec.drift == DriftMode::default() {
        return manifest.digest();
    }
    let spec = UnitSpec { drift: DriftMode::default(), ..manifest.spec.clone() };
    UnitManifest::new(manifest.id.clone(), spec, manifest.objects.clone()).digest()
}

impl Choice {
    /// The snapshots that have to be rendered for it, beside the newest; `good` are those that the cluster's units are taken from
    /// now, and `known` the units that it has.
    pub fn needs(
        &self,
        newest: &ClusterRender,
        known: &BTreeMap<UnitId, KnownUnit>,
        good: &[Digest],
    ) -> BTreeSet<Digest> {
        let mut needs = BTreeSet::new();
        let claiming = self.parts.iter().filter(|part| part.take != Take::Newest);
        if claiming.clone().nth(1).is_some()
            && claims(self, vec![newest], known).values().any(|parts| parts.len() > 1)
        {
            needs.extend(good);
        }
        for part in claiming {
            let comes_to = projected(newest, &part.claimed, known);
            for take in part.takes() {
                match take {
                    Take::AsIs => needs.extend(good),
                    Take::At { snapshot, content } if comes_to != Some(content) => {
                        needs.insert(snapshot);
                    }
                    Take::At { .. } | Take::Newest | Take::Hold => {}
                }
            }
        }
        needs
    }
}

/// Takes each unit from where the choice says. `good` tells from which snapshot a unit is taken now, `newest_at` is that of the
/// newest render; `last_good` is what a unit last rendered to.
pub fn compose(
    choice: &Choice,
    renders: &Renders<'_>,
    known: &BTreeMap<UnitId, KnownUnit>,
    newest_at: Digest,
    good: &dyn Fn(&UnitId) -> Option<Digest>,
    last_good: &dyn Fn(&UnitId) -> Option<Arc<Content>>,
) -> Composed {
    let Renders { newest, older } = renders;
    let is_newest = |part: &Part| -> Vec<bool> {
        let comes_to = std::cell::OnceCell::new();
        let is_it = |take: Take| match take {
            Take::Newest => true,
            Take::AsIs | Take::Hold => false,
            Take::At { snapshot, content } => {
                let comes_to = || comes_to.get_or_init(|| projected(newest, &part.claimed, known));
                snapshot == newest_at || *comes_to() == Some(content)
            }
        };
        part.takes().map(is_it).collect()
    };
    let is_newest: Vec<Vec<bool>> = choice.parts.iter().map(is_newest).collect();
    let mut taken = BTreeMap::new();
    let claiming = choice.parts.iter().filter(|part| part.take != Take::Newest).count();
    if claiming < 2 && is_newest.iter().flatten().all(|is_newest| *is_newest) {
        return Composed { render: None, taken };
    }
    let all = std::iter::once(*newest).chain(older.values().filter_map(|older| older.as_ref().ok()));
    let mut units: BTreeMap<UnitId, Arc<RenderedUnit>> = BTreeMap::new();
    for (id, parts) in claims(choice, all.collect(), known) {
        let of_newest = newest.units.get(&id);
        let mut clash = None;
        let now = || {
            known.contains_key(&id).then(|| match good(&id) {
                Some(snapshot) => Taken::At(snapshot),
                None => Taken::Unknown("nothing says from which snapshot it was rendered".to_owned()),
            })
        };
        let from = match parts[..] {
            [] => Some(Taken::At(newest_at)),
            [(part, take)] if is_newest[part][take] => Some(Taken::At(newest_at)),
            [(part, take)] => match choice.parts[part].takes().nth(take) {
                Some(Take::Newest) | None => Some(Taken::At(newest_at)),
                Some(Take::AsIs) => now(),
                Some(Take::Hold) => {
                    let by = &choice.parts[part].by;
                    let why = format!(
                        "the cluster was away for too long for the pipeline {by}, which gives it nothing until it is back"
                    );
                    known.contains_key(&id).then_some(Taken::Unknown(why))
                }
                Some(Take::At { snapshot, .. }) => Some(Taken::At(snapshot)),
            },
            _ => {
                let by: Vec<&str> = parts.iter().map(|(part, _)| &*choice.parts[*part].by).collect();
                clash = Some(format!(
                    "the pipelines {} select it; one may, so it stays as it is until only one does",
                    by.join(" and ")
                ));
                now()
            }
        };
        let problem = |message: String| {
            let at = of_newest
                .map(|unit| (unit.definition.file.clone(), unit.definition.line))
                .unwrap_or_default();
            Problem::error(at.0, at.1, message)
        };
        let mut unit = match &from {
            Some(Taken::At(snapshot)) if *snapshot == newest_at => of_newest.cloned(),
            Some(Taken::At(snapshot)) => {
                let lost = match older.get(snapshot) {
                    Some(Ok(render)) => Ok(render.units.get(&id).cloned()),
                    Some(Err(why)) => Err(why.clone()),
                    None => Err("the snapshot that it is to be taken from is lost".to_owned()),
                };
                match lost {
                    Ok(unit) => {
                        taken.insert(id.clone(), Taken::At(*snapshot));
                        unit
                    }
                    Err(why) => {
                        taken.insert(id.clone(), Taken::Unknown(why.clone()));
                        of_newest.map(|unit| held(unit, problem(why)))
                    }
                }
            }
            Some(Taken::Unknown(why)) => {
                taken.insert(id.clone(), Taken::Unknown(why.clone()));
                of_newest.map(|unit| held(unit, problem(why.clone())))
            }
            None => None,
        };
        if let (Some(unit), Some(clash)) = (&mut unit, clash) {
            Arc::make_mut(unit).problems.push(problem(clash));
        }
        units.extend(unit.map(|unit| (id, unit)));
    }
    if taken.is_empty() && units.len() == newest.units.len() && units.keys().eq(newest.units.keys()) {
        let is_said = units.iter().all(|(id, unit)| unit.problems == newest.units[id].problems);
        if is_said {
            return Composed { render: None, taken };
        }
    }
    let mut render = ClusterRender {
        units,
        sources: newest.sources.clone(),
        requests: newest.requests.clone(),
        questions: newest.questions.clone(),
    };
    for older in older.values().filter_map(|older| older.as_ref().ok()) {
        render.questions.extend(older.questions.iter().cloned());
        for (id, source) in &older.sources {
            render.sources.entry(id.clone()).or_insert_with(|| source.clone());
        }
    }
    flotilla_render::settle(&mut render, last_good);
    Composed { render: Some(render), taken }
}

fn held(unit: &RenderedUnit, problem: Problem) -> Arc<RenderedUnit> {
    let mut problems = unit.problems.clone();
    problems.insert(0, problem);
    RenderedUnit { unit: None, problems, ..unit.clone() }.into()
}

/// Units that would lose an object which another unit of one of the renders has, and will have once it is taken from there: they
/// stay as they are until then, as moving is no deletion. `had` is what the cluster was told of each unit's objects.
pub fn moving<'a>(
    units: &BTreeMap<UnitId, UnitEntry>,
    had: impl Iterator<Item = (&'a UnitId, &'a [ObjectId])>,
    renders: &Renders<'_>,
) -> BTreeMap<UnitId, String> {
    let has: BTreeSet<&ObjectId> = units
        .values()
        .filter_map(|entry| match entry {
            UnitEntry::Present(unit) => Some(unit.objects.iter().map(|entry| &entry.object.id)),
            UnitEntry::Hold(_) | UnitEntry::Removed(_) => None,
        })
        .flatten()
        .collect();
    let mut moving = BTreeMap::new();
    for (id, had) in had {
        if matches!(units.get(id), None | Some(UnitEntry::Hold(_))) {
            continue;
        }
        let lost: BTreeSet<&ObjectId> = had.iter().filter(|object| !has.contains(*object)).collect();
        if lost.is_empty() {
            continue;
        }
        let all = std::iter::once(renders.newest)
            .chain(renders.older.values().filter_map(|older| older.as_ref().ok()));
        let to = all.flat_map(|render| &render.units).filter(|(other, _)| *other != id).find_map(
            |(other, unit)| {
                let objects = &unit.unit.as_ref()?.manifest.objects;
                Some((other, objects.iter().map(|entry| &entry.object.id).find(|id| lost.contains(id))?))
            },
        );
        if let Some((other, object)) = to {
            let text = format!(
                "{object} moves to {other}, which does not get it yet; until then this unit stays as it is"
            );
            moving.insert(id.clone(), text);
        }
    }
    moving
}
