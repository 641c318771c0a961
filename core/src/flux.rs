//! Units in the shape of Flux's objects, for the expressions that people have.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::desired::DesiredState;
use crate::plan::UnitMemory;
use crate::unit::{UnitId, UnitKind};

/// The Flux object that a unit stands for: metadata with labels and generation, spec, and a status with a Ready condition,
/// observedGeneration and lastAppliedRevision. The revision is the snapshot's. None for a unit that nobody knows.
pub fn shape(
    desired: &DesiredState,
    unit_memories: &BTreeMap<UnitId, UnitMemory>,
    unit: &UnitId,
) -> Option<Value> {
    let unit_memory = unit_memories.get(unit);
    let last = unit_memory.and_then(|unit_memory| unit_memory.last.as_ref());
    let wanted = desired.present(unit);
    let manifest = wanted.or(last)?;
    let spec = &manifest.spec;
    let applied = last.is_some_and(|last| last.digest() == manifest.digest());
    let ready = unit_memory.and_then(|unit_memory| unit_memory.ready) == Some(manifest.digest());
    let (api_version, kind) = match unit.kind {
        UnitKind::HelmRelease => ("helm.toolkit.fluxcd.io/v2", "HelmRelease"),
        UnitKind::Root | UnitKind::Kustomization | UnitKind::Other => {
            ("kustomize.toolkit.fluxcd.io/v1", "Kustomization")
        }
    };
    let (status, reason) = match (ready, applied) {
        (true, _) => ("True", "ReconciliationSucceeded"),
        (false, true) => ("Unknown", "Progressing"),
        (false, false) => ("False", "DependencyNotReady"),
    };
    // Generations are counted by nobody here: 2 is wanted, and 2 or 1 was seen.
    let seen = if applied { 2 } else { 1 };
    let mut state = json!({"observedGeneration": seen, "lastAttemptedRevision": desired.snapshot,
        "conditions": [{"type": "Ready", "status": status, "reason": reason, "observedGeneration": seen}]});
    if applied {
        state["lastAppliedRevision"] = desired.snapshot.clone().into();
    }
    let depends_on: Vec<Value> = spec
        .depends_on
        .iter()
        .map(|dependency| json!({"name": dependency.name, "namespace": dependency.namespace}))
        .collect();
    Some(json!({"apiVersion": api_version, "kind": kind,
        "metadata": {"name": unit.name, "namespace": unit.namespace, "generation": 2, "labels": spec.labels, "annotations": {}},
        "spec": {"dependsOn": depends_on, "suspend": spec.suspend, "prune": spec.prune, "wait": spec.wait,
            "force": spec.force, "interval": format!("{}s", spec.interval), "timeout": format!("{}s", spec.timeout)},
        "status": state}))
}
