//! Adoption: what of another tool Flotilla may take over in a cluster, how each object would look after that, and what
//! has to be known to give it back. Pure.
//!
//! ```text
//!   units, desired objects, Flux's objects ─► plan_flux ─► taken, staying with Flux, left alone
//!   answer of a dry run ─► after_fold ─► how the object would be once the fields of its former tools are ours
//!   live object ─► previous ─► (kept in the cluster) ─► value_patch, manager_patch ─► as it was
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::drift;
use crate::live::{Live, ManagedFields, Metadata};
use crate::object::{InvalidObject, ObjectId, ObjectRef};
use crate::unit::{UnitId, UnitKind};

pub const KUSTOMIZE: &str = "kustomize.toolkit.fluxcd.io";
pub const HELM: &str = "helm.toolkit.fluxcd.io";
/// Groups of sources, which nobody needs any more once all that reads them is taken over.
pub const SOURCES: [&str; 2] = ["source.toolkit.fluxcd.io", "source.extensions.fluxcd.io"];
/// Groups whose objects do what Flotilla does not.
pub const OTHERS: [&str; 2] = ["image.toolkit.fluxcd.io", "notification.toolkit.fluxcd.io"];
/// By these, Helm finds the objects of a release, and refuses those of others.
pub const RELEASE_NAME: &str = "meta.helm.sh/release-name";
pub const RELEASE_NAMESPACE: &str = "meta.helm.sh/release-namespace";
/// What kubectl keeps of its last apply.
pub const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Labels and annotations by which tools keep their books. That they come and go is no change of the object.
const TOOL_METADATA: [&str; 9] = [
    "kustomize.toolkit.fluxcd.io/name",
    "kustomize.toolkit.fluxcd.io/namespace",
    "helm.toolkit.fluxcd.io/name",
    "helm.toolkit.fluxcd.io/namespace",
    RELEASE_NAME,
    RELEASE_NAMESPACE,
    LAST_APPLIED,
    "flotilla.dev/unit",
    "applyset.kubernetes.io/part-of",
];

/// What had the objects before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    Flux,
    /// Releases of the helm program, without Flux.
    Helm,
    Kubectl,
}

impl Origin {
    pub const ALL: [Self; 3] = [Self::Flux, Self::Helm, Self::Kubectl];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Flux => "flux",
            Self::Helm => "helm",
            Self::Kubectl => "kubectl",
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// An object of Flux as the cluster has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FluxObject {
    pub id: ObjectId,
    pub uid: String,
    pub suspended: bool,
    /// It applies to another cluster, so that its inventory says nothing about this one.
    pub remote: bool,
    /// The one that applied it, by its labels. That of `flux bootstrap` applies itself.
    pub parent: Option<ObjectId>,
    /// The objects that it applied.
    pub inventory: Vec<ObjectId>,
}

impl FluxObject {
    /// Reads what the API server has.
    pub fn of(id: ObjectId, value: &Value) -> Self {
        let metadata = Live::from(value).metadata;
        let entries = value.pointer("/status/inventory/entries").and_then(Value::as_array);
        let ids = entries.into_iter().flatten().filter_map(|entry| inventory_id(entry.get("id")?.as_str()?));
        Self {
            remote: value.pointer("/spec/kubeConfig").is_some_and(Value::is_object),
            parent: flux_owner(&metadata),
            uid: metadata.uid,
            suspended: value.pointer("/spec/suspend").and_then(Value::as_bool).unwrap_or_default(),
            inventory: ids.collect(),
            id,
        }
    }

    /// The unit that is made from it, if it stands in Git.
    fn unit(&self) -> Option<UnitId> {
        let kind = match (self.id.group.as_str(), self.id.kind.as_str()) {
            (KUSTOMIZE, "Kustomization") => UnitKind::Kustomization,
            (HELM, "HelmRelease") => UnitKind::HelmRelease,
            _ => return None,
        };
        Some(UnitId::new(kind, &self.id.namespace, &self.id.name))
    }
}

/// The object that an entry of Flux's inventories names: `NAMESPACE_NAME_GROUP_KIND`, where `__` in a name is a colon.
pub fn inventory_id(text: &str) -> Option<ObjectId> {
    let (namespace, rest) = text.split_once('_')?;
    let (rest, kind) = rest.rsplit_once('_')?;
    let (name, group) = rest.rsplit_once('_')?;
    let complete = !name.is_empty() && !kind.is_empty();
    complete.then(|| ObjectId::new(group, kind, namespace, name.replace("__", ":")))
}

/// The entry of Flux's inventories that names an object, as [`inventory_id`] reads it.
pub fn inventory_entry(id: &ObjectId) -> String {
    format!("{}_{}_{}_{}", id.namespace, id.name.replace(':', "__"), id.group, id.kind)
}

/// The Flux object that an object's labels name as its owner.
pub fn flux_owner(object: &Metadata) -> Option<ObjectId> {
    [(KUSTOMIZE, "Kustomization"), (HELM, "HelmRelease")].into_iter().find_map(|(group, kind)| {
        let label = |what: &str| object.labels.get(&format!("{group}/{what}"));
        Some(ObjectId::new(group, kind, label("namespace")?, label("name")?))
    })
}

/// How a unit stands that is made from one of Flux's objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    Present,
    Suspended,
    /// With the reason.
    Held(String),
}

/// What becomes of Flux's objects.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FluxPlan {
    /// Taken over by these units: suspended first, removed in the end.
    pub takes: BTreeMap<ObjectId, UnitId>,
    /// Removed after all of them.
    pub sources: BTreeSet<ObjectId>,
    /// What goes on by Flux, and why.
    pub stays: BTreeMap<ObjectId, String>,
    /// Objects that a taken one applied and that no unit has, with that one: left alone.
    pub left: Vec<(ObjectId, ObjectId)>,
}

/// Decides about each of Flux's objects. `refused`: those with an object that cannot be taken over, and why.
pub fn plan_flux(
    units: &BTreeMap<UnitId, Fate>,
    desired: &BTreeSet<ObjectId>,
    flux: &[FluxObject],
    refused: &BTreeMap<ObjectId, String>,
) -> FluxPlan {
    let mut plan = FluxPlan::default();
    for object in flux {
        let Some(unit) = object.unit() else {
            if !SOURCES.contains(&object.id.group.as_str()) {
                plan.stays
                    .insert(object.id.clone(), "Flotilla does not do this, so Flux goes on with it".into());
            }
            continue;
        };
        if object.remote {
            plan.stays.insert(object.id.clone(), "it applies to another cluster (spec.kubeConfig)".into());
            continue;
        }
        let own = object.parent.as_ref() == Some(&object.id);
        let is_root = object.id.kind == "Kustomization" && (own || is_covered(object, desired));
        let unit = if units.contains_key(&unit) || !is_root { unit } else { UnitId::root() };
        let why = match (units.get(&unit), refused.get(&object.id)) {
            (Some(Fate::Present), None) => {
                plan.takes.insert(object.id.clone(), unit);
                continue;
            }
            (None, _) => "Git has no unit of this name for the cluster".to_owned(),
            (Some(Fate::Suspended), _) => format!("{unit} is suspended"),
            (Some(Fate::Held(why)), _) => format!("{unit} is held: {why}"),
            (Some(Fate::Present), Some(why)) => why.clone(),
        };
        plan.stays.insert(object.id.clone(), why);
    }
    // Whoever applies a Flux object makes it anew when it is gone.
    let at_work = |id: &ObjectId| flux.iter().any(|object| object.id == *id && !object.suspended);
    while let Some((id, parent)) = flux.iter().find_map(|object| {
        let parent = object.parent.as_ref()?;
        let comes_back = plan.takes.contains_key(&object.id) && plan.stays.contains_key(parent);
        (comes_back && at_work(parent)).then(|| (object.id.clone(), parent.clone()))
    }) {
        plan.takes.remove(&id);
        plan.stays.insert(id, format!("{parent} stays, which would recreate it"));
    }
    let reader = plan
        .stays
        .keys()
        .find(|id| [KUSTOMIZE, HELM].contains(&id.group.as_str()) || id.kind == "ImageUpdateAutomation");
    let reader = reader.cloned();
    for object in flux.iter().filter(|object| SOURCES.contains(&object.id.group.as_str())) {
        match &reader {
            Some(reader) => {
                plan.stays.insert(object.id.clone(), format!("{reader} stays, which may read it"));
            }
            None => {
                plan.sources.insert(object.id.clone());
            }
        }
    }
    for object in flux.iter().filter(|object| plan.takes.contains_key(&object.id)) {
        let others = object.inventory.iter().filter(|id| !desired.contains(id) && !is_flux(id));
        plan.left.extend(others.map(|id| (id.clone(), object.id.clone())));
    }
    plan
}

/// Whether all that it applied is wanted, so that the root unit can take its place whatever its name is.
fn is_covered(object: &FluxObject, desired: &BTreeSet<ObjectId>) -> bool {
    object.inventory.iter().any(|id| desired.contains(id))
        && object.inventory.iter().all(|id| desired.contains(id) || is_flux(id))
}

fn is_flux(id: &ObjectId) -> bool {
    let group = id.group.as_str();
    [KUSTOMIZE, HELM].contains(&group) || SOURCES.contains(&group) || OTHERS.contains(&group)
}

/// What of an object its former tools held, beside its content: enough to give it back to them.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Previous {
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub managers: Vec<ManagedFields>,
}

/// What the tools that Flotilla takes over from hold of an object now.
pub fn previous(object: &Metadata) -> Previous {
    let managers: Vec<ManagedFields> =
        object.managed_fields.iter().filter(|entry| drift::is_folded(entry)).cloned().collect();
    let held = |what: &str, all: &BTreeMap<String, String>| {
        let holds = |key: &String| {
            let pointer = format!("/f:metadata/f:{what}/f:{}", key.replace('~', "~0").replace('/', "~1"));
            managers.iter().any(|entry| entry.fields_v1.pointer(&pointer).is_some())
        };
        all.iter().filter(|(key, _)| holds(key)).map(|(key, value)| (key.clone(), value.clone())).collect()
    };
    Previous {
        labels: held("labels", &object.labels),
        annotations: held("annotations", &object.annotations),
        managers: managers.clone(),
    }
}

/// The JSON merge patch that gives an object its former labels and annotations back and takes ours away. What is set
/// otherwise by now stays. None if nothing is to be done.
pub fn value_patch(object: &Metadata, previous: &Previous) -> Option<Value> {
    let missing = |was: &BTreeMap<String, String>, now: &BTreeMap<String, String>| -> Map<String, Value> {
        let missing = was.iter().filter(|(key, _)| !now.contains_key(*key));
        missing.map(|(key, value)| (key.clone(), value.clone().into())).collect()
    };
    let mut labels = missing(&previous.labels, &object.labels);
    let ours = ["flotilla.dev/unit", "applyset.kubernetes.io/part-of"];
    labels.extend(
        ours.iter().filter(|key| object.labels.contains_key(**key)).map(|key| ((*key).into(), Value::Null)),
    );
    let annotations = missing(&previous.annotations, &object.annotations);
    if labels.is_empty() && annotations.is_empty() {
        return None;
    }
    // The version is the precondition.
    Some(
        json!({"metadata": {"labels": labels, "annotations": annotations, "resourceVersion": object.resource_version}}),
    )
}

/// The JSON patch that gives fields back to those who held them. None if nothing is to be done.
pub fn manager_patch(object: &Metadata, previous: &Previous) -> Option<Value> {
    let stays = |entry: &&ManagedFields| {
        !(drift::is_folded(entry) || (entry.manager == drift::MANAGER && entry.subresource.is_empty()))
    };
    let mut entries: Vec<ManagedFields> = object.managed_fields.iter().filter(stays).cloned().collect();
    entries.extend(previous.managers.iter().cloned());
    let same = entries.len() == object.managed_fields.len()
        && entries.iter().all(|entry| object.managed_fields.contains(entry));
    if same {
        return None;
    }
    // An empty list would be read as "leave it as it is".
    let value = if entries.is_empty() { json!([{}]) } else { json!(entries) };
    Some(json!([
        {"op": "replace", "path": "/metadata/managedFields", "value": value},
        {"op": "replace", "path": "/metadata/resourceVersion", "value": object.resource_version},
    ]))
}

/// The object that a dry run answered, as it would be once the fields of its former tools are folded into ours: without
/// those that neither we nor anybody else holds. What the API server would fill in again is missing too.
pub fn after_fold(object: &Value) -> Value {
    let entries = Live::from(object).metadata.managed_fields;
    let set = |wanted: &dyn Fn(&ManagedFields) -> bool| {
        let entries = entries.iter().filter(|entry| wanted(entry));
        entries.fold(json!({}), |all, entry| drift::union(all, &drift::fields_of(entry), true))
    };
    let kept = set(&|entry| !drift::is_folded(entry));
    let folded = set(&drift::is_folded);
    let mut object = object.clone();
    if entries.iter().any(drift::is_ours) {
        strip(&mut object, &folded, &kept);
    }
    object
}

/// Takes away what is in `folded` and not in `kept`.
fn strip(value: &mut Value, folded: &Value, kept: &Value) {
    let (Some(folded), Some(kept)) = (folded.as_object(), kept.as_object()) else { return };
    // Whoever holds a field without naming what is in it holds all of it.
    if kept.is_empty() {
        return;
    }
    for (key, below) in folded {
        match (value.as_object_mut(), key.split_once(':')) {
            (Some(map), Some(("f", name))) => match kept.get(key) {
                None => _ = map.remove(name),
                Some(kept) => _ = map.get_mut(name).map(|value| strip(value, below, kept)),
            },
            (None, Some((how @ ("k" | "v"), text))) => {
                let Ok(wanted) = serde_json::from_str::<Value>(text) else { continue };
                let Some(items) = value.as_array_mut() else { continue };
                let is_it = |item: &Value| match (how, &wanted) {
                    ("k", Value::Object(keys)) => {
                        keys.iter().all(|(name, value)| item.get(name) == Some(value))
                    }
                    (_, wanted) => item == wanted,
                };
                let Some(at) = items.iter().position(is_it) else { continue };
                match kept.get(key) {
                    None => _ = items.remove(at),
                    Some(kept) => strip(&mut items[at], below, kept),
                }
            }
            _ => {}
        }
    }
}

/// Why it is not known what a text of manifests holds.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    #[error("its manifest is not YAML")]
    Yaml(#[from] flotilla_yaml::ParseError),
    #[error("its manifest has a document that is not an object")]
    Json(#[from] flotilla_yaml::JsonError),
    #[error("its manifest has a document that is not an object")]
    Object(#[from] InvalidObject),
}

/// All objects of a text of manifests, those of lists too.
///
/// # Errors
///
/// If any part of it cannot be read: a part of a release is not taken for all of it.
pub fn manifest_objects(text: &str) -> Result<Vec<ObjectRef>, ManifestError> {
    let mut objects = Vec::new();
    for document in flotilla_yaml::parse(text)? {
        let value = document.to_json()?;
        let is_list = value.get("kind").and_then(Value::as_str).is_some_and(|kind| kind.ends_with("List"));
        match value.get("items").and_then(Value::as_array).filter(|_| is_list) {
            _ if value.is_null() => {}
            Some(items) => {
                objects.extend(items.iter().map(ObjectRef::of).collect::<Result<Vec<_>, _>>()?);
            }
            None => objects.push(ObjectRef::of(&value)?),
        }
    }
    Ok(objects)
}

/// Takes the books of tools out of an object, so that only what they are about is compared.
pub fn without_tool_metadata(object: &mut Value) {
    let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) else { return };
    for what in ["labels", "annotations"] {
        if let Some(map) = metadata.get_mut(what).and_then(Value::as_object_mut) {
            map.retain(|key, _| !TOOL_METADATA.contains(&key.as_str()));
            if map.is_empty() {
                metadata.remove(what);
            }
        }
    }
}

#[cfg(test)]
mod tests;
