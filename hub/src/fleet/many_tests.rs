//! A fleet of a thousand clusters: what a change costs, counted in builds and in states that are published.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use flotilla_core::Generation;

use super::Worker;
use super::fake::{FakeHub, FakeRepo, Tree, config_map, unit};
use crate::store::{AuditRecord, SuspensionRecord};

const CLUSTERS: usize = 1_000;

fn name(n: usize) -> String {
    format!("c{n:04}")
}

/// Each cluster runs one app that is the same everywhere, and one with a variable of its own; `odd` has an object more.
fn tree(app: &str, odd: Option<usize>) -> Tree {
    let own = "  postBuild: {substitute: {more: none}}\n";
    let mut tree: Tree = [
        ("apps/shared/a.yaml".to_owned(), config_map(app)),
        ("apps/own/a.yaml".to_owned(), config_map("own") + "data:\n  name: ${who}\n"),
    ]
    .into();
    for n in 0..CLUSTERS {
        let folder = format!("clusters/{}", name(n));
        let name = name(n);
        let cluster = format!(
            "apiVersion: flotilla.dev/v1alpha1\nkind: Cluster\nmetadata: {{name: {name}}}\nspec: {{variables: {{who: {name}}}}}\n"
        );
        tree.insert(format!("{folder}/cluster.yaml"), cluster);
        tree.insert(format!("{folder}/shared.yaml"), unit("shared", "apps/shared"));
        tree.insert(format!("{folder}/own.yaml"), unit("own", "apps/own") + own);
    }
    if let Some(n) = odd {
        tree.insert(format!("clusters/{}/more.yaml", name(n)), config_map("more"));
    }
    tree
}

/// How often something that many clusters have may be built once more: renderers that begin it at the same time do not wait
/// for each other.
fn twice() -> u64 {
    std::thread::available_parallelism().map_or(0, |places| places.get() as u64 - 1)
}

/// What goes round, and what it came to.
struct Fleet {
    hub: FakeHub,
    worker: Worker,
    published: BTreeMap<String, Generation>,
    builds: u64,
    renders: u64,
}

impl Fleet {
    /// The clusters that a round publishes a new state for, how many it renders, and how many builds that takes.
    fn round(&mut self) -> (BTreeSet<String>, u64, u64) {
        let view = self.worker.fetch_and_round();
        assert!(view.problems.is_empty(), "{:?}", view.problems);
        assert_eq!(view.clusters.len(), CLUSTERS);
        let mut changed = BTreeSet::new();
        for n in 0..CLUSTERS {
            let published = self.hub.board.current(&name(n).parse().unwrap()).unwrap();
            let generation = published.state.generation;
            if self.published.insert(name(n), generation) != Some(generation) {
                changed.insert(name(n));
            }
        }
        let builds = std::mem::replace(&mut self.builds, self.hub.metrics.builds.get());
        let renders = std::mem::replace(&mut self.renders, self.hub.metrics.renders.get());
        (changed, self.renders - renders, self.builds - builds)
    }
}

#[test]
fn a_change_costs_what_it_touches_in_a_thousand_clusters() {
    let mut hub = FakeHub::new(FakeRepo::default());
    // Nothing is to be given up here, however slow the machine.
    let long = Duration::from_secs(3_600);
    (hub.patience.round, hub.patience.deadline) = (long, long);
    hub.repo.commit_tree(tree("one", None));
    let worker = hub.worker();
    let mut fleet = Fleet { hub, worker, published: BTreeMap::new(), builds: 0, renders: 0 };

    let (changed, _, builds) = fleet.round();
    assert_eq!(changed.len(), CLUSTERS);
    let once = CLUSTERS as u64 + 2;
    assert!((once..=once + 2 * twice()).contains(&builds), "each root, and each app once, not {builds}");
    assert_eq!(fleet.hub.shown("c0007"), "root 0, own 1, shared 1");
    assert_eq!(fleet.round(), (BTreeSet::new(), 0, 0), "nothing changed");
    let mut read =
        fleet.worker.clusters.values().map(|cluster| cluster.from.as_ref().zip(cluster.facts.as_ref()));
    let is_once = read.all(|read| read.is_some_and(|(from, facts)| Arc::ptr_eq(&from.facts, facts)));
    assert!(is_once, "what was noted and read again is in memory once");

    fleet.hub.repo.commit_tree(tree("two", None));
    let (changed, _, builds) = fleet.round();
    assert_eq!(changed.len(), CLUSTERS);
    assert!((1..=1 + twice()).contains(&builds), "an app that all have: {builds}");
    assert_eq!(fleet.hub.metrics.renders_in_part.get(), CLUSTERS as u64, "and nothing else of each cluster");

    fleet.hub.repo.commit_tree(tree("two", Some(7)));
    assert_eq!(fleet.round(), ([name(7)].into(), 1, 1), "one cluster's root");

    let mut labelled = tree("two", Some(7));
    let file = labelled.get_mut(&format!("clusters/{}/cluster.yaml", name(9))).unwrap();
    file.push_str("  labels: {ring: first}\n");
    *file = file.replace("spec: {variables: {who: c0009}}", "spec:\n  variables: {who: c0009}");
    fleet.hub.repo.commit_tree(labelled);
    assert_eq!(fleet.round(), (BTreeSet::new(), 1, 1), "a label, in a file of the cluster's own root");

    let suspension = SuspensionRecord { by: "test".to_owned(), at: 1, reason: String::new() };
    let audit = AuditRecord::new(1, "test", "suspend", "c0500");
    let cluster = name(500).parse().unwrap();
    fleet.hub.records.suspend(&cluster, None, Some(&suspension), &audit).unwrap();
    assert_eq!(fleet.round(), ([name(500)].into(), 1, 0), "one cluster that people suspend");
}
