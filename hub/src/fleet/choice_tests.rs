//! Units of one cluster from different snapshots: what is published as commits come, are chosen, and are lost.

use std::collections::BTreeSet;
use std::sync::Arc;

use flotilla_core::{ClusterName, Digest, UnitEntry, UnitId};

use super::Worker;
use super::fake::{FakeHub, FakeRepo, config_map, unit};
use flotilla_rollout::spec::UnitSelection;

use crate::desired::choice::{Choice, Claimed, Part, Take};

fn cluster() -> ClusterName {
    "x".parse().unwrap()
}

fn id(name: &str) -> UnitId {
    UnitId::kustomization("flux-system", name)
}

/// The snapshot that the cluster was rendered from last, kept on record.
fn snapshot(worker: &Worker) -> Digest {
    let at = worker.clusters[&cluster()].remembered.at.clone().unwrap();
    worker.shared.ledger.note_snapshot(&at).unwrap();
    at.digest()
}

fn claims(units: &[&str]) -> Claimed {
    let include = units.iter().map(|name| format!("flux-system/{name}").parse().unwrap()).collect();
    Claimed::Selected(UnitSelection { include, except: Vec::new() }.into())
}

fn at(snapshot: Digest) -> Take {
    Take::At { snapshot, content: Digest::of(b"of no render") }
}

fn choose(worker: &mut Worker, parts: &[(Claimed, Take)]) {
    let part = |(n, (claimed, take)): (usize, &(Claimed, Take))| Part {
        by: format!("p{n}").into(),
        claimed: claimed.clone(),
        take: *take,
        units: Vec::new(),
        revision: 0,
    };
    let parts = parts.iter().enumerate().map(part).collect();
    worker.forced.insert(cluster(), Arc::new(Choice { parts }));
}

struct Case {
    hub: FakeHub,
    worker: Worker,
    snapshots: Vec<Digest>,
}

impl Case {
    fn new(first: &[(&str, &str)]) -> Self {
        let hub = FakeHub::new(FakeRepo::default());
        hub.enrol("x");
        let worker = hub.worker();
        let mut case = Self { hub, worker, snapshots: Vec::new() };
        case.commit(first);
        case
    }

    fn commit(&mut self, files: &[(&str, &str)]) {
        self.hub.repo.commit(files);
        self.worker.fetch_and_round();
        self.snapshots.push(snapshot(&self.worker));
    }

    fn take(&mut self, units: &[&str], take: Take) -> String {
        choose(&mut self.worker, &[(claims(units), take)]);
        self.shown()
    }

    fn shown(&mut self) -> String {
        self.worker.fetch_and_round();
        self.hub.shown("x")
    }

    fn said(&self, name: &str) -> String {
        let published = self.hub.board.current(&cluster()).unwrap();
        match published.state.units().get(&id(name)) {
            Some(UnitEntry::Hold(hold)) => hold.to_string(),
            other => format!("{other:?}"),
        }
    }

    fn restart(&mut self) {
        let choices = self.worker.forced.clone();
        self.worker = self.hub.restart();
        self.worker.forced = choices;
    }
}

fn with_more(path: &str) -> String {
    format!("{}---\n{}", config_map("a"), config_map(path))
}

#[test]
fn a_chosen_unit_is_as_its_snapshot_says_and_what_it_defines_with_it() {
    let (app, other) = (unit("app", "apps/app"), unit("other", "apps/other"));
    let below = unit("below", "apps/below");
    let mut case = Case::new(&[
        ("clusters/x/app.yaml", &app),
        ("clusters/x/other.yaml", &other),
        ("apps/app/a.yaml", &config_map("a")),
        ("apps/app/below.yaml", &below),
        ("apps/below/b.yaml", &config_map("b")),
        ("apps/other/o.yaml", &config_map("o")),
    ]);
    assert_eq!(case.shown(), "root 0, app 1, below 1, other 1");
    let first = at(case.snapshots[0]);
    case.take(&["app"], first);
    let late = unit("late", "apps/late");
    case.commit(&[
        ("clusters/x/app.yaml", &app),
        ("clusters/x/other.yaml", &other),
        ("apps/app/a.yaml", &with_more("a2")),
        ("apps/app/late.yaml", &late),
        ("apps/late/l.yaml", &config_map("l")),
        ("apps/other/o.yaml", &with_more("o2")),
    ]);
    // What is below it is not dropped, and what comes later does not begin.
    assert_eq!(case.shown(), "root 0, app 1, below 1, other 2");
    case.restart();
    assert_eq!(case.shown(), "root 0, app 1, below 1, other 2");
    assert!(case.hub.repo.kept.lock().unwrap().is_empty() || case.hub.repo.kept.lock().unwrap().contains(&0));
    let second = at(case.snapshots[1]);
    assert_eq!(case.take(&["app"], second), "root 0, app 2, below removed, late 1, other 2");
    // Back again: what the chosen snapshot does not define goes, and what it defines comes.
    assert_eq!(case.take(&["app"], first), "root 0, app 1, below 1, late removed, other 2");
}

#[test]
fn a_unit_goes_when_its_chosen_snapshot_no_longer_has_it() {
    let (app, other) = (unit("app", "apps/app"), unit("other", "apps/other"));
    let with = [("clusters/x/app.yaml", app.as_str()), ("clusters/x/other.yaml", other.as_str())];
    let (a, o) = (config_map("a"), config_map("o"));
    let content = [("apps/app/a.yaml", a.as_str()), ("apps/other/o.yaml", o.as_str())];
    let mut case = Case::new(&[with[0], with[1], content[0], content[1]]);
    let first = at(case.snapshots[0]);
    case.take(&["app"], first);
    case.commit(&[with[1], content[0], content[1]]);
    assert_eq!(case.shown(), "root 0, app 1, other 1");
    let second = at(case.snapshots[1]);
    assert_eq!(case.take(&["app"], second), "root 0, app removed, other 1");
}

#[test]
fn a_unit_whose_snapshot_is_lost_is_kept_and_never_the_newest() {
    let app = unit("app", "apps/app");
    let mut case = Case::new(&[("clusters/x/app.yaml", &app), ("apps/app/a.yaml", &config_map("a"))]);
    assert_eq!(case.shown(), "root 0, app 1");
    let lost = at(Digest::of(b"nobody has this"));
    for files in [
        vec![("clusters/x/app.yaml", app.clone()), ("apps/app/a.yaml", with_more("a2"))],
        vec![("clusters/x/own.yaml", config_map("own"))],
    ] {
        choose(&mut case.worker, &[(claims(&["app"]), lost)]);
        let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (*path, text.as_str())).collect();
        case.hub.repo.commit(&files);
        assert!(case.shown().ends_with("app held"), "{}", case.hub.shown("x"));
        assert!(case.said("app").contains("cannot be read any more"), "{}", case.said("app"));
        case.restart();
        assert!(case.shown().ends_with("app held"), "{}", case.hub.shown("x"));
    }
}

#[test]
fn as_it_is_means_what_the_cluster_has_and_nothing_new() {
    let (app, new) = (unit("app", "apps/app"), unit("new", "apps/new"));
    let mut case = Case::new(&[("clusters/x/app.yaml", &app), ("apps/app/a.yaml", &config_map("a"))]);
    choose(&mut case.worker, &[(Claimed::All, Take::AsIs)]);
    let second = [
        ("clusters/x/app.yaml", app.as_str()),
        ("clusters/x/new.yaml", new.as_str()),
        ("apps/app/a.yaml", &with_more("a2")),
        ("apps/new/n.yaml", &config_map("n")),
    ];
    case.commit(&second);
    for _ in 0..2 {
        for _ in 0..2 {
            assert_eq!(case.shown(), "root 0, app 1");
        }
        case.restart();
    }
    // Two who claim a unit leave it alone too, and say so.
    let newest = at(case.snapshots[1]);
    choose(&mut case.worker, &[(claims(&["app"]), newest), (claims(&["app"]), newest)]);
    assert_eq!(case.shown(), "root 0, app 1, new 1");
    let problems = &case.worker.clusters[&cluster()].shown.units[&id("app")].problems;
    assert!(problems[0].message.contains("the pipelines p0 and p1 select it"), "{problems:?}");
}

#[test]
fn an_object_that_moves_to_a_unit_that_waits_stays_where_it_is() {
    let (app, other) = (unit("app", "apps/app"), unit("other", "apps/other"));
    let with = [("clusters/x/app.yaml", app.as_str()), ("clusters/x/other.yaml", other.as_str())];
    let (a, o) = (config_map("a"), config_map("o"));
    let both = format!("{o}---\n{}", config_map("moves"));
    let mut case = Case::new(&[with[0], with[1], ("apps/app/a.yaml", &a), ("apps/other/o.yaml", &both)]);
    let first = at(case.snapshots[0]);
    case.take(&["app"], first);
    case.commit(&[with[0], with[1], ("apps/app/a.yaml", &with_more("moves")), ("apps/other/o.yaml", &o)]);
    assert_eq!(case.shown(), "root 0, app 1, other held");
    assert!(case.said("other").contains("moves to kustomization/flux-system/app"), "{}", case.said("other"));
    let second = at(case.snapshots[1]);
    assert_eq!(case.take(&["app"], second), "root 0, app 2, other 1");
}

#[test]
fn the_whole_cluster_can_be_of_an_older_snapshot_with_its_root_and_variables() {
    let cluster_at = |path: &str, value: &str| {
        format!(
            "apiVersion: flotilla.dev/v1alpha1\nkind: Cluster\nmetadata: {{name: x}}\nspec: {{path: {path}, variables: \
             {{who: {value}}}}}\n"
        )
    };
    let (old, new) = (config_map("old"), with_more("new"));
    let mut case =
        Case::new(&[("clusters/x.yaml", &cluster_at("fleets/old", "v1")), ("fleets/old/a.yaml", &old)]);
    assert_eq!(case.shown(), "root 1");
    let place = |case: &Case| {
        let published = case.hub.board.current(&cluster()).unwrap();
        published.state.present(&UnitId::root()).unwrap().spec.place
    };
    let before = place(&case);
    choose(&mut case.worker, &[(Claimed::All, at(case.snapshots[0]))]);
    case.commit(&[("clusters/x.yaml", &cluster_at("fleets/new", "v2")), ("fleets/new/a.yaml", &new)]);
    assert_eq!(case.shown(), "root 1");
    assert_eq!(place(&case), before);
    let shown = case.worker.clusters[&cluster()].shown.clone();
    assert_eq!((shown.root.as_str(), shown.variables["who"].as_str()), ("fleets/old", "v1"));
    let newest = at(case.snapshots[1]);
    choose(&mut case.worker, &[(Claimed::All, newest)]);
    case.worker.fetch_and_round();
    let shown = case.worker.clusters[&cluster()].shown.clone();
    assert_eq!((shown.root.as_str(), shown.variables["who"].as_str()), ("fleets/new", "v2"));
}

/// What the newest snapshot comes to as well needs no older one.
#[test]
fn where_the_newest_comes_to_the_same_the_older_is_not_rendered() {
    let app = unit("app", "apps/app");
    let with = ("clusters/x/app.yaml", app.as_str());
    let mut case = Case::new(&[with, ("apps/app/a.yaml", &config_map("a"))]);
    let published = case.hub.board.current(&cluster()).unwrap();
    let content = {
        let manifest = published.state.present(&id("app")).unwrap();
        Digest::of_parts([manifest.id.to_string().as_bytes(), manifest.digest().as_bytes()])
    };
    choose(&mut case.worker, &[(claims(&["app"]), Take::At { snapshot: Digest::of(b"lost"), content })]);
    case.commit(&[with, ("apps/app/a.yaml", &config_map("a")), ("clusters/x/own.yaml", &config_map("own"))]);
    assert_eq!(case.shown(), "root 1, app 1");
    assert_eq!(case.worker.clusters[&cluster()].remembered.older.len(), 0);
    let kept: BTreeSet<usize> = case.hub.repo.kept.lock().unwrap().clone();
    assert!(kept.is_empty() || kept.contains(&1), "{kept:?}");
}
