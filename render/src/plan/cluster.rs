//! One cluster, before and after.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use flotilla_core::change::{Declared, Going, Loss};
use flotilla_core::desired::{Hold, Removal};
use flotilla_core::source::SourceId;
use flotilla_core::{Digest, Object, ObjectId, UnitEntry, UnitId, UnitSpec};
use serde_json::{Value, json};

use super::entries::{Entries, after, before};
use super::fields::{Differ, Fields};
use super::{ClusterChange, ClusterPlan, ObjectChange, ObjectPlan, Side, UnitChange, UnitPlan};
use crate::cluster::ClusterRender;
use crate::source::fleet_source;

/// The annotation by which an object's author keeps it.
const PRUNE: &str = "kustomize.toolkit.fluxcd.io/prune";

/// What becomes of a cluster, with what the guard judges.
#[derive(Debug, Default)]
pub struct Planned {
    pub plan: ClusterPlan,
    /// What it loses.
    pub loss: Loss,
    /// How many units and objects it had.
    pub units: usize,
    pub objects: usize,
    /// Units of which neither side is known, with the reason. What they are defined as does not change.
    pub unknown: BTreeMap<UnitId, String>,
}

/// Compares the two sides of a cluster. Where a source is merely not here, though a hub may have it, the reason of a unit ends with
/// `unfetched`.
pub fn plan(from: Side<'_>, to: Side<'_>, differ: &Differ, unfetched: &str) -> Planned {
    let nothing = ClusterRender::default();
    let mut planned = Planned::default();
    planned.plan.cluster = match (from, to) {
        (Side::Absent, Side::Absent) => ClusterChange::Stays,
        (Side::Defined { .. } | Side::Unclear(_), Side::Absent) => ClusterChange::Unassigned,
        (Side::Absent | Side::Defined { .. }, Side::Unclear(problems)) => {
            let reason = problems.first().map(ToString::to_string).unwrap_or_default();
            ClusterChange::Unclear(reason)
        }
        (Side::Unclear(_), Side::Unclear(_)) => ClusterChange::Stays,
        (Side::Absent, Side::Defined { render, .. }) => {
            compare(&mut planned, &nothing, render, false, differ, unfetched);
            ClusterChange::Added
        }
        (Side::Unclear(_), Side::Defined { .. }) => ClusterChange::WasUnclear,
        (Side::Defined { root: old, render: from }, Side::Defined { root: new, render: to }) => {
            compare(&mut planned, from, to, old != new, differ, unfetched);
            if old == new {
                ClusterChange::Stays
            } else {
                ClusterChange::RootMoved { from: old.clone(), to: new.clone() }
            }
        }
    };
    if let Side::Defined { render, .. } = from {
        planned.units = render.units.len();
        let present = render.units.values().filter_map(|unit| unit.unit.as_ref());
        planned.objects = present.map(|unit| unit.content.objects.len()).sum();
    }
    let digest = digest(&planned.plan);
    planned.plan.digest = Some(digest);
    planned
}

struct Sides<'a> {
    from: &'a ClusterRender,
    to: &'a ClusterRender,
    /// As desired states name their units.
    before: Entries,
    after: Entries,
    differ: &'a Differ,
    unfetched: &'a str,
}

/// Units that may have what others lost.
#[derive(Clone, Copy)]
struct Stops<'a> {
    /// One that keeps what it runs, and so does the cluster.
    held: Option<&'a UnitId>,
    /// One that is only not known here.
    unfetched: Option<&'a UnitId>,
}

fn compare(
    planned: &mut Planned,
    from: &ClusterRender,
    to: &ClusterRender,
    moved: bool,
    differ: &Differ,
    unfetched: &str,
) {
    let sides = Sides { from, to, before: before(from), after: after(from, to, moved), differ, unfetched };
    // Where it was is of no matter here: only whether that is elsewhere.
    let place = |moved| if moved { "elsewhere" } else { "here" };
    let declared = Arc::new(Declared::default()).after(&sides.before, place(moved));
    let mut loss = declared.lost(&sides.after, place(false), &Going::default());
    loss.note_lifted(&sides.after, |id| sides.before.get(id).and_then(spec).map(Removal::of));
    let of_fleet = |id: &UnitId| {
        to.units
            .get(id)
            .or_else(|| from.units.get(id))
            .is_some_and(|unit| unit.definition.source == fleet_source())
    };
    loss.note_words(&sides.after, |id| from.units.get(id)?.parent.clone(), of_fleet);
    for id in sides.before.keys().chain(sides.after.keys()).collect::<BTreeSet<_>>() {
        sides.unit(id, planned);
    }
    planned.plan.sources = sides.sources();
    planned.plan.objects = sides.objects(&loss);
    planned.loss = loss;
}

fn spec(entry: &UnitEntry) -> Option<&UnitSpec> {
    match entry {
        UnitEntry::Present(unit) => Some(&unit.spec),
        UnitEntry::Hold(_) | UnitEntry::Removed(_) => None,
    }
}

/// What a unit says of itself, without what follows from its content: nothing on which a guess at a secret could be tried.
pub fn settings(spec: &UnitSpec) -> Value {
    let own = UnitSpec {
        render: None,
        templates: Vec::new(),
        requires: BTreeSet::new(),
        place: None,
        ..spec.clone()
    };
    let mut settings = serde_json::to_value(own).unwrap_or_default();
    // A guess at values that are secret could be tried on these digests.
    if let Some(release) = settings.get_mut("release").and_then(Value::as_object_mut) {
        release.retain(|field, _| !matches!(field.as_str(), "content" | "chart"));
    }
    settings
}

/// Whether a Helm release gets another revision, which its objects need not show: other values, hooks, notes or files of its chart.
fn revises(old: &UnitSpec, new: &UnitSpec) -> bool {
    matches!((&old.release, &new.release), (Some(old), Some(new)) if old.blobs() != new.blobs())
}

impl Sides<'_> {
    fn unit(&self, id: &UnitId, planned: &mut Planned) {
        let object =
            |render: &ClusterRender| render.units.get(id).and_then(|unit| unit.definition.object.clone());
        let defined = || match (object(self.from), object(self.to)) {
            (Some(from), Some(to)) => self.differ.objects(&from, &to),
            _ => Arc::default(),
        };
        let plan = |change, reason: String| Some(UnitPlan { change, reason, fields: Arc::default() });
        let change = match (self.before.get(id), self.after.get(id)) {
            (None | Some(UnitEntry::Removed(_)), Some(UnitEntry::Present(_))) => {
                plan(UnitChange::Added, String::new())
            }
            (Some(UnitEntry::Hold(_)), Some(UnitEntry::Present(_))) => plan(
                UnitChange::Released,
                "what it ran before is not known here: its objects are not compared".to_owned(),
            ),
            (Some(UnitEntry::Present(old)), Some(UnitEntry::Present(new))) => {
                let is_same = old.spec_digest() == new.spec_digest();
                let fields = if is_same {
                    Fields::default()
                } else {
                    self.differ.values(settings(&old.spec), settings(&new.spec))
                };
                let revises = revises(&old.spec, &new.spec);
                let reason = if new.spec.suspend {
                    "is suspended: nothing of it is applied until it is resumed".to_owned()
                } else if revises {
                    "its Helm release is upgraded to another revision".to_owned()
                } else {
                    String::new()
                };
                let is_touched = old.digest() != new.digest();
                let is_shown = !fields.fields.is_empty() || revises || is_touched && new.spec.suspend;
                is_shown.then(|| UnitPlan { change: UnitChange::Changed, reason, fields: Arc::new(fields) })
            }
            (Some(UnitEntry::Hold(_)), Some(UnitEntry::Hold(hold))) => {
                let fields = defined();
                if fields.fields.is_empty() {
                    planned.unknown.insert(id.clone(), hold.to_string());
                    None
                } else {
                    Some(UnitPlan { change: UnitChange::Unknown, reason: hold.to_string(), fields })
                }
            }
            (None, Some(UnitEntry::Hold(hold))) if self.is_unfetched(hold) => {
                plan(UnitChange::Added, format!("what it brings is not known here: {hold}"))
            }
            (_, Some(UnitEntry::Hold(hold))) if self.is_unfetched(hold) => {
                Some(UnitPlan { change: UnitChange::Unknown, reason: hold.to_string(), fields: defined() })
            }
            (_, Some(UnitEntry::Hold(hold))) => {
                Some(UnitPlan { change: UnitChange::Held, reason: hold.to_string(), fields: defined() })
            }
            (before, Some(UnitEntry::Removed(removal))) => {
                let change = match removal {
                    Removal { suspended: true, .. } | Removal { moved: true, .. } => UnitChange::Waits,
                    removal if removal.deletes() => UnitChange::Removed,
                    _ => UnitChange::Orphaned,
                };
                let reason = match before {
                    Some(UnitEntry::Hold(_)) => "what it runs is not known here",
                    _ if removal.suspended => "it was suspended: its objects stay until it is resumed",
                    _ if removal.moved => "the root moves: its objects stay until somebody approves that",
                    _ => "",
                };
                plan(change, reason.to_owned())
            }
            (_, None) => None,
        };
        planned.plan.units.extend(change.map(|change| (id.clone(), change)));
    }

    fn is_unfetched(&self, hold: &Hold) -> bool {
        hold.message().ends_with(self.unfetched)
    }

    fn sources(&self) -> BTreeMap<SourceId, UnitPlan> {
        let mut plans = BTreeMap::new();
        let ids: BTreeSet<&SourceId> = self.from.sources.keys().chain(self.to.sources.keys()).collect();
        for id in ids {
            let (from, to) = (self.from.sources.get(id), self.to.sources.get(id));
            let fields = match (from.and_then(|it| it.object.as_ref()), to.and_then(|it| it.object.as_ref()))
            {
                (Some(from), Some(to)) => self.differ.objects(from, to),
                _ => Arc::default(),
            };
            let (change, reason) = match (from, to) {
                (None, Some(_)) => (UnitChange::Added, ""),
                // Nobody says that it goes where what defined it does not render.
                (Some(source), None) if self.is_known(&source.defined_by) => (UnitChange::Removed, ""),
                (Some(_), None) => (UnitChange::Held, "what defines it is held"),
                (Some(_), Some(_)) if !fields.fields.is_empty() => (UnitChange::Changed, ""),
                _ => continue,
            };
            plans.insert(id.clone(), UnitPlan { change, reason: reason.to_owned(), fields });
        }
        plans
    }

    fn is_known(&self, unit: &UnitId) -> bool {
        matches!(self.after.get(unit), Some(UnitEntry::Present(_) | UnitEntry::Removed(_)) | None)
    }

    fn objects(&self, loss: &Loss) -> Vec<ObjectPlan> {
        let (from, to) = (declared(self.from), declared(self.to));
        let held = |is_unfetched: bool| {
            let is_such = |hold: &Hold| self.is_unfetched(hold) == is_unfetched;
            self.after.iter().find(|(_, entry)| matches!(entry, UnitEntry::Hold(hold) if is_such(hold)))
        };
        let stops = Stops { held: held(false).map(|(id, _)| id), unfetched: held(true).map(|(id, _)| id) };
        let ids: BTreeSet<&ObjectId> = from.keys().chain(to.keys()).copied().collect();
        let mut plans = Vec::new();
        for id in ids {
            let (old, new) = (from.get(id), to.get(id));
            let held =
                |entries: &Entries, unit: &UnitId| matches!(entries.get(unit), Some(UnitEntry::Hold(_)));
            let mut plan = ObjectPlan {
                object: id.clone(),
                change: ObjectChange::Added,
                from: old.map(|(unit, _)| (*unit).clone()),
                to: new.map(|(unit, _)| (*unit).clone()),
                fields: Arc::default(),
                content: None,
                note: String::new(),
            };
            match (old, new) {
                (Some((unit, old)), Some((owner, new))) => {
                    plan.fields = self.differ.objects(old, new);
                    plan.change = match old.digest() == new.digest() {
                        true if unit == owner => continue,
                        true => ObjectChange::Moved,
                        false => ObjectChange::Changed,
                    };
                }
                // What the unit ran is not known on that side.
                (None, Some((owner, _))) if held(&self.before, owner) => continue,
                (None, Some((_, new))) => {
                    plan.content = (new.id().kind != "Secret").then(|| new.digest());
                    plan.fields =
                        Arc::new(Fields { digest: Some(self.differ.content(new)), ..Fields::default() });
                }
                (Some((unit, _)), None) if held(&self.after, unit) => continue,
                (Some((unit, old)), None) => {
                    (plan.change, plan.note) = self.leaving(unit, old, loss, stops);
                }
                (None, None) => continue,
            }
            plans.push(plan);
        }
        plans
    }

    /// What becomes of an object that no unit declares any more.
    fn leaving(
        &self,
        unit: &UnitId,
        object: &Object,
        loss: &Loss,
        stops: Stops<'_>,
    ) -> (ObjectChange, String) {
        let is_lost = loss.units.get(unit).is_some_and(|unit| unit.objects.contains(object.id()));
        let opted_out =
            object.value().pointer("/metadata/annotations").and_then(|all| all.get(PRUNE).cloned());
        match self.after.get(unit) {
            _ if opted_out == Some(json!("disabled")) => {
                (ObjectChange::Orphaned, "its author keeps it".to_owned())
            }
            Some(UnitEntry::Removed(Removal { suspended: true, .. })) => {
                (ObjectChange::Kept, "its unit is suspended".to_owned())
            }
            Some(UnitEntry::Removed(Removal { moved: true, .. })) => {
                (ObjectChange::Kept, "the root moves: until somebody approves that".to_owned())
            }
            Some(UnitEntry::Present(unit)) if unit.spec.suspend => {
                (ObjectChange::Kept, "its unit is suspended".to_owned())
            }
            _ if !is_lost => (ObjectChange::Orphaned, "its unit does not prune".to_owned()),
            _ => match stops {
                // It may have moved into what is held.
                Stops { held: Some(held), .. } => (ObjectChange::Kept, format!("while {held} is held")),
                _ if matches!(&*object.id().kind, "PersistentVolumeClaim" | "PersistentVolume") => {
                    (ObjectChange::Pruned, "its cluster asks before it deletes data".to_owned())
                }
                Stops { unfetched: Some(unit), .. } => {
                    (ObjectChange::Pruned, format!("unless it moves to {unit}, which is not known here"))
                }
                _ => (ObjectChange::Pruned, String::new()),
            },
        }
    }
}

/// Objects by identity, with their unit: the first owner keeps an object that several declare.
fn declared(render: &ClusterRender) -> BTreeMap<&ObjectId, (&UnitId, &Object)> {
    let mut objects = BTreeMap::new();
    for (id, unit) in render.units.iter().filter_map(|(id, unit)| Some((id, unit.unit.as_ref()?))) {
        for object in &unit.content.objects {
            objects.entry(object.id()).or_insert((id, object));
        }
    }
    objects
}

/// Of all that a plan says.
fn digest(plan: &ClusterPlan) -> Digest {
    let mut parts: Vec<String> = vec![format!("{:?}", plan.cluster)];
    let of = |fields: &Fields| fields.digest.map(|digest| digest.to_string()).unwrap_or_default();
    let unit = |name: String, unit: &UnitPlan| {
        [name, format!("{:?}", unit.change), unit.reason.clone(), of(&unit.fields)]
    };
    parts.extend(plan.units.iter().flat_map(|(id, plan)| unit(id.to_string(), plan)));
    parts.extend(plan.sources.iter().flat_map(|(id, plan)| unit(id.to_string(), plan)));
    for object in &plan.objects {
        let unit = |unit: &Option<UnitId>| unit.as_ref().map(ToString::to_string).unwrap_or_default();
        parts.push(format!("{} {:?}", object.object, object.change));
        parts.extend([unit(&object.from), unit(&object.to), of(&object.fields), object.note.clone()]);
    }
    Digest::of_parts(parts.iter().map(String::as_bytes))
}
