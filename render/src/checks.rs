//! What only the whole cluster can answer: a dependency that is not there, a cycle.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;

use flotilla_core::UnitId;
use flotilla_core::report::Problem;

use crate::cluster::{ClusterRender, RenderedUnit};

pub(crate) fn hold(render: &mut ClusterRender, id: &UnitId, problem: Problem) {
    if let Some(unit) = render.unit_mut(id) {
        unit.unit = None;
        unit.problems.push(problem);
    }
}

/// Dependencies that nothing defines, and units that wait for themselves.
pub(crate) fn check_dependencies(render: &mut ClusterRender) {
    let mut found: Vec<(UnitId, String)> = Vec::new();
    for (id, unit) in &render.units {
        for dependency in &unit.definition.spec.depends_on {
            if !render.units.contains_key(dependency) {
                found.push((id.clone(), format!("{dependency} is not defined in this cluster")));
            }
        }
    }
    for Circle { units, way } in circles(&render.units) {
        for id in units {
            // Each is shown where the way begins with it; of a long one, as much as can be read.
            let (words, start) = match way.iter().position(|one| *one == id) {
                Some(start) => ("dependencies form a cycle", start),
                None => ("depends on itself by way of other units; a cycle among them", 0),
            };
            let names = way.iter().cycle().skip(start).take(way.len() + 1);
            let shown: Vec<String> = names.take(LONGEST_SHOWN).map(ToString::to_string).collect();
            let rest = if way.len() < LONGEST_SHOWN { "" } else { " → …" };
            found.push((id.clone(), format!("{words}: {}{rest}", shown.join(" → "))));
        }
    }
    for (id, message) in found {
        let place = |unit: &Arc<RenderedUnit>| (unit.definition.file.clone(), unit.definition.line);
        let (file, line) = render.units.get(&id).map(place).unwrap_or_default();
        hold(render, &id, Problem::error(file, line, message).field("spec.dependsOn"));
    }
}

/// Units of a cycle that a message names.
const LONGEST_SHOWN: usize = 12;

/// Units that each depend on all of the others, by way of the others.
struct Circle<'a> {
    units: Vec<&'a UnitId>,
    /// A shortest way from the first of them back to itself.
    way: Vec<&'a UnitId>,
}

/// All circles of dependencies: the strongly connected components of the graph, found by Tarjan's algorithm, with a stack of its
/// own. Linear in units and dependencies.
fn circles(units: &BTreeMap<UnitId, Arc<RenderedUnit>>) -> Vec<Circle<'_>> {
    let ids: Vec<&UnitId> = units.keys().collect();
    let index_of: HashMap<&UnitId, usize> = ids.iter().enumerate().map(|(n, id)| (*id, n)).collect();
    let next: Vec<Vec<usize>> = units
        .values()
        .map(|unit| {
            unit.definition.spec.depends_on.iter().filter_map(|id| index_of.get(id).copied()).collect()
        })
        .collect();
    const UNSEEN: usize = usize::MAX;
    let (mut order, mut low) = (vec![UNSEEN; ids.len()], vec![UNSEEN; ids.len()]);
    let mut is_open = vec![false; ids.len()];
    let (mut open, mut circles, mut seen) = (Vec::new(), Vec::new(), 0);
    for start in 0..ids.len() {
        // Where the search stands: a unit, and how many of its dependencies were followed.
        let mut path = if order[start] == UNSEEN { vec![(start, 0)] } else { Vec::new() };
        while let Some((unit, followed)) = path.last_mut() {
            let unit = *unit;
            if *followed == 0 && order[unit] == UNSEEN {
                (order[unit], low[unit], is_open[unit]) = (seen, seen, true);
                seen += 1;
                open.push(unit);
            }
            if let Some(dependency) = next[unit].get(*followed).copied() {
                *followed += 1;
                if order[dependency] == UNSEEN {
                    path.push((dependency, 0));
                } else if is_open[dependency] {
                    low[unit] = low[unit].min(order[dependency]);
                }
                continue;
            }
            path.pop();
            if let Some((above, _)) = path.last() {
                low[*above] = low[*above].min(low[unit]);
            }
            if low[unit] == order[unit] {
                let first = open.iter().rposition(|other| *other == unit).unwrap_or_default();
                let members = open.split_off(first);
                members.iter().for_each(|member| is_open[*member] = false);
                if members.len() > 1 || next[unit].contains(&unit) {
                    let way = way_back(&next, &members);
                    let named = |places: Vec<usize>| places.into_iter().map(|n| ids[n]).collect();
                    circles.push(Circle { units: named(members), way: named(way) });
                }
            }
        }
    }
    circles
}

/// A shortest way from the first of some units back to it, through these units only.
fn way_back(next: &[Vec<usize>], members: &[usize]) -> Vec<usize> {
    let (inside, start) = (members.iter().copied().collect::<HashSet<usize>>(), members[0]);
    let mut from: HashMap<usize, usize> = HashMap::new();
    let mut queue = VecDeque::from([start]);
    while let Some(unit) = queue.pop_front() {
        for dependency in next[unit].iter().copied().filter(|one| inside.contains(one)) {
            if dependency == start {
                let mut way = vec![unit];
                while let Some(before) = way.last().and_then(|last| from.get(last)) {
                    way.push(*before);
                }
                way.reverse();
                return way;
            }
            if let Entry::Vacant(entry) = from.entry(dependency) {
                entry.insert(unit);
                queue.push_back(dependency);
            }
        }
    }
    vec![start]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::content::Definition;

    fn id(n: usize) -> UnitId {
        UnitId::kustomization("team", format!("u{n:05}"))
    }

    fn render(dependencies: &[Vec<usize>]) -> ClusterRender {
        let definition = |of: usize, depends_on: &Vec<usize>| {
            let mut definition = Definition::unread(id(of), ("a.yaml".to_owned(), 1));
            definition.spec.depends_on = depends_on.iter().map(|n| id(*n)).collect();
            definition
        };
        let unit = |(of, depends_on)| RenderedUnit {
            parent: None,
            definition: definition(of, depends_on).into(),
            revision: None,
            suspended: false,
            authority: flotilla_core::Authority::Fleet,
            unit: None,
            problems: Vec::new(),
        };
        let units =
            dependencies.iter().enumerate().map(|(n, depends_on)| (id(n), unit((n, depends_on)).into()));
        ClusterRender { units: units.collect(), ..ClusterRender::default() }
    }

    /// A chain that comes back to its start, a chain that does not, all upon all, and a deep one that ends in a loop.
    #[test]
    fn thousands_of_dependencies_are_one_walk() {
        const UNITS: usize = 5000;
        let ring = (0..UNITS).map(|n| vec![(n + 1) % UNITS]).collect::<Vec<_>>();
        let mut line = ring.clone();
        line[UNITS - 1].clear();
        let mut lasso = ring.clone();
        lasso[UNITS - 1] = vec![UNITS - 2];
        let dense = (0..500).map(|_| (0..500).collect()).collect::<Vec<Vec<usize>>>();
        for (graph, held) in [(ring, UNITS), (line, 0), (lasso, 2), (dense, 500)] {
            let mut render = render(&graph);
            check_dependencies(&mut render);
            let problems: Vec<&Problem> = render.units.values().flat_map(|unit| &unit.problems).collect();
            assert_eq!(problems.len(), held);
            assert!(problems.iter().all(|problem| problem.message.contains("cycle")));
            assert!(problems.iter().all(|problem| problem.message.len() < 1000));
        }
    }

    proptest! {
        /// A unit is in a circle if it can be reached from itself; the way that is shown is one.
        #[test]
        fn circles_are_what_comes_back_to_itself(
            graph in proptest::collection::vec(proptest::collection::vec(0_usize..8, 0..3), 8),
        ) {
            let reached = |start: usize| {
                let (mut seen, mut open) = (HashSet::new(), graph[start].clone());
                while let Some(unit) = open.pop() {
                    if seen.insert(unit) {
                        open.extend(&graph[unit]);
                    }
                }
                seen
            };
            let render = render(&graph);
            let found = circles(&render.units);
            let held: HashSet<&UnitId> = found.iter().flat_map(|circle| circle.units.iter().copied()).collect();
            for n in 0..graph.len() {
                prop_assert_eq!(held.contains(&id(n)), reached(n).contains(&n), "{}", n);
            }
            for Circle { units, way } in &found {
                for (from, to) in way.iter().zip(way.iter().cycle().skip(1)) {
                    prop_assert!(units.contains(from) && render.units[*from].definition.spec.depends_on.contains(to));
                }
            }
        }
    }
}
