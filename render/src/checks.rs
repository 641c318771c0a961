//! What only the whole cluster can answer: two owners of one object, a dependency that is not there, a cycle.

use std::collections::{BTreeMap, BTreeSet};

use flotilla_core::report::Problem;
use flotilla_core::{Digest, Object, ObjectId, UnitId};

use crate::cluster::ClusterRender;

/// Two units that give one object differing contents: the first by name has it, the later one is held.
pub(crate) fn check_objects(render: &mut ClusterRender) {
    let mut owners: BTreeMap<ObjectId, (UnitId, Digest)> = BTreeMap::new();
    let mut clashes: Vec<(UnitId, Problem)> = Vec::new();
    for (id, rendered) in &render.units {
        let Some(unit) = &rendered.unit else { continue };
        let mut clash = None;
        for (object, origin) in unit.content.objects.iter().zip(&unit.content.origins) {
            if let Some((owner, digest)) = owners.get(object.id())
                && *digest != object.digest()
            {
                clash = Some(clash_problem(object, owner, id, origin));
                break;
            }
        }
        match clash {
            Some(problem) => clashes.push((id.clone(), problem)),
            None => {
                owners.extend(unit.content.objects.iter().map(|o| (o.id().clone(), (id.clone(), o.digest()))))
            }
        }
    }
    for (id, problem) in clashes {
        hold(render, &id, problem);
    }
}

fn clash_problem(object: &Object, owner: &UnitId, id: &UnitId, origin: &(String, u32)) -> Problem {
    let (file, line) = origin.clone();
    let message = if owner == id {
        format!("{} is declared twice with differing content; keep one of them", object.id())
    } else {
        format!("{} is declared by {owner} with other content; keep it in one unit", object.id())
    };
    Problem::error(file, line, message)
}

fn hold(render: &mut ClusterRender, id: &UnitId, problem: Problem) {
    if let Some(unit) = render.units.get_mut(id) {
        unit.unit = None;
        unit.problems.push(problem);
    }
}

/// Dependencies that nothing defines, and units that wait for themselves.
pub(crate) fn check_dependencies(render: &mut ClusterRender) {
    let mut found: Vec<(UnitId, String)> = Vec::new();
    for (id, unit) in &render.units {
        for dependency in &unit.depends_on {
            if !render.units.contains_key(dependency) {
                found.push((id.clone(), format!("{dependency} is not defined in this cluster")));
            }
        }
        if let Some(cycle) = cycle_through(render, id) {
            let names: Vec<String> = cycle.iter().map(ToString::to_string).collect();
            found.push((id.clone(), format!("dependencies form a cycle: {}", names.join(" → "))));
        }
    }
    for (id, message) in found {
        let (file, line) = render.units.get(&id).map(|unit| unit.defined_at.clone()).unwrap_or_default();
        hold(render, &id, Problem::error(file, line, message).field("spec.dependsOn"));
    }
}

/// A shortest way from a unit back to itself along `dependsOn`.
fn cycle_through(render: &ClusterRender, start: &UnitId) -> Option<Vec<UnitId>> {
    let mut seen = BTreeSet::new();
    let mut paths = vec![vec![start.clone()]];
    while !paths.is_empty() {
        let mut longer = Vec::new();
        for path in paths {
            let last = path.last().expect("a path has a start");
            for next in render.units.get(last).map(|u| u.depends_on.as_slice()).unwrap_or_default() {
                let mut path = path.clone();
                path.push(next.clone());
                if next == start {
                    return Some(path);
                }
                if seen.insert(next.clone()) {
                    longer.push(path);
                }
            }
        }
        paths = longer;
    }
    None
}
