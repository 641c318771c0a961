//! A cluster as a tree of units and objects.

use std::collections::{BTreeMap, BTreeSet};

use flotilla_api::{self as api, Health, Tree, TreeObject, TreeUnit, Unit};
use flotilla_core::{ClusterName, UnitId, UnitManifest};

use super::{Known, cluster, unit, unit_ids};
use crate::rollout::ClusterRollout;

/// A cluster's units, parents before their children, with their objects.
pub(crate) fn tree(name: &ClusterName, known: &Known, waiting: &[ClusterRollout]) -> Tree {
    let units: Vec<Unit> = unit_ids(known).into_iter().map(|id| unit(name, id, known)).collect();
    let mut order: Vec<usize> = Vec::with_capacity(units.len());
    let mut children: BTreeMap<Option<&str>, Vec<usize>> = BTreeMap::new();
    let names: BTreeSet<&str> = units.iter().map(|unit| unit.unit.as_str()).collect();
    for (at, unit) in units.iter().enumerate() {
        // A parent that is not there leaves its children at the top.
        let parent = unit.parent.as_deref().filter(|parent| names.contains(parent));
        children.entry(parent).or_default().push(at);
    }
    let mut open = children.remove(&None).unwrap_or_default();
    open.reverse();
    while let Some(at) = open.pop() {
        order.push(at);
        open.extend(children.remove(&Some(units[at].unit.as_str())).unwrap_or_default().into_iter().rev());
    }
    // Parents in a circle are a problem of theirs; they are shown all the same.
    let mut rest: Vec<usize> = children.into_values().flatten().collect();
    rest.sort_unstable();
    order.extend(rest);
    let manifest = |unit: &Unit| {
        let id: UnitId = unit.unit.parse().ok()?;
        known.published.as_ref()?.state.present(&id).cloned()
    };
    let shown = order.into_iter().map(|at| {
        let unit = units[at].clone();
        TreeUnit { objects: objects(&unit, manifest(&unit).as_deref()), unit }
    });
    Tree { cluster: cluster(name, known, waiting), units: shown.collect() }
}

fn objects(unit: &Unit, manifest: Option<&UnitManifest>) -> Vec<TreeObject> {
    let findings: BTreeMap<&api::ObjectId, &api::Finding> =
        unit.findings.iter().map(|finding| (&finding.object, finding)).collect();
    let calm = match unit.phase.as_str() {
        "Ready" | "Suspended" => Health::Healthy,
        "Applying" | "Progressing" | "Failed" => Health::Progressing,
        _ => Health::Unknown,
    };
    let healthy = unit.live && unit.healthy.is_some() && unit.healthy == unit.desired;
    let entries = manifest.map(|manifest| &manifest.objects[..]).unwrap_or_default();
    let mut shown: Vec<TreeObject> = entries
        .iter()
        .map(|entry| {
            let object = api::ObjectId::from(&entry.object.id);
            let (health, message) = match findings.get(&object) {
                Some(finding) if finding.reason == "NotHealthy" => {
                    (Health::Progressing, finding.message.clone())
                }
                Some(finding) => (Health::Failing, format!("{}: {}", finding.reason, finding.message)),
                None if healthy => (Health::Healthy, String::new()),
                None => (calm, String::new()),
            };
            TreeObject { object, version: entry.object.version.to_string(), health, message }
        })
        .collect();
    shown.extend(unit.kept.iter().map(|kept| TreeObject {
        object: kept.object.clone(),
        version: String::new(),
        health: Health::Kept,
        message: kept.why.clone(),
    }));
    shown
}
