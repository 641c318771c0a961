//! The loop over real repositories: what is published as commits come, break and go.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use flotilla_core::{Capabilities, UnitEntry};
use flotilla_kustomize::files::TreePath;
use flotilla_render::helm::{Helm, Limits, Program};
use flotilla_source::{GitRepo, GitSpec};

use super::worker::{FleetConfig, Worker};
use super::{Patience, Releases};
use crate::desired::Board;
use crate::metrics::Metrics;
use crate::sources::{Library, SourceSettings, Vault};
use crate::store::{AuditRecord, ClusterRecord, MemoryStore, Records};

fn git(folder: &Path, args: &[&str]) {
    let output = Command::new("git")
        .args(["-c", "user.name=t", "-c", "user.email=t@example.com", "-c", "init.defaultBranch=main"])
        .args(args)
        .current_dir(folder)
        .output()
        .unwrap();
    assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

pub(super) struct Bench {
    pub(super) folder: tempfile::TempDir,
    pub(super) board: Arc<Board>,
    pub(super) records: Arc<Records>,
}

impl Bench {
    pub(super) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("work")).unwrap();
        git(&folder.path().join("work"), &["init", "-q"]);
        let records = Arc::new(Records::open(Arc::new(MemoryStore::default())).unwrap());
        Self { folder, board: Arc::new(Board::new()), records }
    }

    pub(super) fn commit(&self, files: &[(&str, Option<&str>)]) {
        let work = self.folder.path().join("work");
        for (path, content) in files {
            let path = work.join(path);
            match content {
                Some(content) => {
                    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                    std::fs::write(path, content).unwrap();
                }
                None => std::fs::remove_file(path).unwrap(),
            }
        }
        git(&work, &["add", "-A"]);
        git(&work, &["commit", "-q", "-m", "change"]);
    }

    fn worker(&self) -> Worker {
        let helm = Program::new("helm", Limits::default());
        self.worker_with(self.releases(Box::new(helm)))
    }

    pub(super) fn enrol(&self, cluster: &str) {
        let audit = AuditRecord::new(1, "test", "enrol", cluster);
        let record = ClusterRecord::default();
        assert!(self.records.adopt_cluster(&cluster.parse().unwrap(), &record, &audit).unwrap());
    }

    fn vault(&self) -> Arc<Vault> {
        Arc::new(Vault::open(self.folder.path(), self.records.clone()).unwrap())
    }

    pub(super) fn releases(&self, helm: Box<dyn Helm>) -> Arc<Releases> {
        Arc::new(Releases::open(self.folder.path(), helm, self.vault()).unwrap())
    }

    pub(super) fn worker_with(&self, releases: Arc<Releases>) -> Worker {
        let url = format!("file://{}", self.folder.path().join("work").display());
        let spec = GitSpec::new(url.parse().unwrap(), "main".parse().unwrap());
        let repo = GitRepo::open(self.folder.path().join("clone"), spec).unwrap();
        let config = FleetConfig {
            path: TreePath::root(),
            clusters: TreePath::from_root("clusters").unwrap(),
            poll_interval: Duration::from_secs(60),
            patience: Patience::default(),
            budget: flotilla_render::Budget::default(),
            strict: true,
            change_policy: flotilla_core::change::Policy::default(),
            attempts: crate::attempts::Attempts::open(self.folder.path()).unwrap(),
        };
        let sources = self.folder.path().join("sources");
        let sources = Library::new(sources, SourceSettings::default(), Some(self.vault()));
        Worker::new(
            config,
            repo,
            releases,
            Arc::new(sources),
            self.board.clone(),
            self.records.clone(),
            Metrics::default(),
        )
    }

    fn shown(&self, cluster: &str) -> Vec<String> {
        let Some(published) = self.board.current(&cluster.parse().unwrap()) else {
            return vec!["nothing".into()];
        };
        let show = |(id, entry): (&flotilla_core::UnitId, &UnitEntry)| match entry {
            UnitEntry::Present(unit) => format!("{id} present {}", unit.objects.len()),
            UnitEntry::Hold(_) => format!("{id} hold"),
            UnitEntry::Removed(removal) if removal.moved => format!("{id} moved away"),
            UnitEntry::Removed(_) => format!("{id} removed"),
        };
        published.state.units().iter().map(show).collect()
    }
}

const APPS: &str = "apiVersion: kustomize.toolkit.fluxcd.io/v1\nkind: Kustomization\nmetadata: {name: apps, namespace: \
                    flux-system}\nspec:\n  path: apps\n  prune: true\n  interval: 1m\n  sourceRef: {kind: \
                    GitRepository, name: flux-system}\n";
const MAP: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, namespace: default}\n";

#[test]
fn commits_are_published_and_broken_ones_keep_what_was() {
    let bench = Bench::new();
    bench.enrol("x");
    bench.commit(&[("clusters/x/apps.yaml", Some(APPS)), ("apps/a.yaml", Some(MAP))]);
    let mut worker = bench.worker();
    let view = worker.fetch_and_round();
    assert_eq!(view.problems, []);
    assert_eq!(bench.shown("x"), ["root present 0", "kustomization/flux-system/apps present 1"]);
    let first = bench.board.current(&"x".parse().unwrap()).unwrap().state.clone();

    worker.fetch_and_round();
    let same = bench.board.current(&"x".parse().unwrap()).unwrap().state.clone();
    assert_eq!(same.generation, first.generation, "nothing changed, nothing is published");

    bench.commit(&[("apps/a.yaml", Some("a: ["))]);
    let view = worker.fetch_and_round();
    assert_eq!(bench.shown("x"), ["root present 0", "kustomization/flux-system/apps hold"]);
    let unit = &view.clusters[&"x".parse().unwrap()].units[&"flux-system/apps".parse().unwrap()];
    assert_eq!((unit.problems[0].file.as_str(), unit.problems[0].notice), ("apps/a.yaml", false));

    bench.commit(&[
        ("clusters/x/apps.yaml", None),
        ("clusters/x/b.yaml", Some("a: [")),
        ("apps/a.yaml", Some(MAP)),
    ]);
    worker.fetch_and_round();
    assert_eq!(
        bench.shown("x"),
        ["root hold", "kustomization/flux-system/apps present 1"],
        "as last defined"
    );

    bench.commit(&[("clusters/x/b.yaml", Some(MAP))]);
    worker.fetch_and_round();
    assert_eq!(bench.shown("x"), ["root present 1", "kustomization/flux-system/apps removed"]);
    // The agent said that it has nothing of it any more.
    bench.records.forget_known_units(&"x".parse().unwrap(), &["flux-system/apps".parse().unwrap()]).unwrap();
    worker.round();
    assert_eq!(bench.shown("x"), ["root present 1"]);
}

#[test]
fn without_an_agent_nothing_has_to_be_removed() {
    let bench = Bench::new();
    let (x, y) = ("clusters/x/apps.yaml", "clusters/y/apps.yaml");
    bench.enrol("x");
    bench.commit(&[(x, Some(APPS)), (y, Some(APPS)), ("apps/a.yaml", Some(MAP))]);
    let mut worker = bench.worker();
    worker.fetch_and_round();
    bench.commit(&[(x, None), (y, None), ("clusters/x/b.yaml", Some(MAP)), ("clusters/y/b.yaml", Some(MAP))]);
    worker.fetch_and_round();
    assert_eq!(bench.shown("x"), ["root present 1", "kustomization/flux-system/apps removed"]);
    assert_eq!(bench.shown("y"), ["root present 1"], "nobody ever ran it");
}

#[test]
fn after_a_restart_a_broken_parent_still_has_its_children() {
    let bench = Bench::new();
    bench.commit(&[("clusters/x/apps.yaml", Some(APPS)), ("apps/a.yaml", Some(MAP))]);
    bench.worker().fetch_and_round();
    bench.commit(&[("clusters/x/b.yaml", Some("a: ["))]);
    let restarted = Bench { board: Arc::new(Board::new()), ..bench };
    restarted.worker().fetch_and_round();
    assert_eq!(restarted.shown("x"), ["root hold", "kustomization/flux-system/apps present 1"]);
}

#[test]
fn a_repository_that_is_away_or_without_clusters_takes_nothing_back() {
    let bench = Bench::new();
    bench.enrol("x");
    bench.commit(&[("clusters/x/apps.yaml", Some(APPS)), ("apps/a.yaml", Some(MAP))]);
    let mut worker = bench.worker();
    worker.fetch_and_round();
    let before = bench.shown("x");

    let (work, aside) = (bench.folder.path().join("work"), bench.folder.path().join("aside"));
    std::fs::rename(&work, &aside).unwrap();
    let view = worker.fetch_and_round();
    assert!(!view.sources[0].ready && !view.sources[0].message.is_empty());
    assert_eq!(bench.shown("x"), before);
    std::fs::rename(&aside, &work).unwrap();

    bench.commit(&[("clusters/x/apps.yaml", None), ("README.md", Some("empty"))]);
    let view = worker.fetch_and_round();
    let facts: &BTreeMap<_, _> = &view.clusters;
    assert!(!facts[&"x".parse().unwrap()].assigned);
    assert_eq!(bench.shown("x"), before);

    // Deleted, and not in Git: it is nobody's any more. While Git cannot be read that is not known.
    let audit = AuditRecord::new(2, "test", "delete", "x");
    bench.records.forget_cluster(&"x".parse().unwrap(), &audit).unwrap();
    bench.commit(&[("clusters/x/broken.yaml", Some("a: ["))]);
    assert!(worker.fetch_and_round().clusters.contains_key(&"x".parse().unwrap()));
    bench.commit(&[("clusters/x/broken.yaml", None)]);
    assert!(worker.fetch_and_round().clusters.is_empty());
    assert!(bench.board.current(&"x".parse().unwrap()).is_none());
}

/// A cluster whose root, branch or folder becomes another loses nothing without an approval; one that is changed in the usual
/// way does.
#[test]
fn what_a_new_root_does_not_define_waits_for_an_approval() {
    let bench = Bench::new();
    bench.enrol("x");
    let root = |path: &str| {
        format!(
            "apiVersion: flotilla.dev/v1alpha1\nkind: Cluster\nmetadata: {{name: x}}\nspec: {{path: {path}}}\n"
        )
    };
    let other = APPS.replace("name: apps", "name: other");
    bench.commit(&[
        ("clusters/x.yaml", Some(&root("clusters/one"))),
        ("clusters/one/apps.yaml", Some(APPS)),
        ("clusters/one/other.yaml", Some(&other)),
        ("clusters/one/third.yaml", Some(&APPS.replace("name: apps", "name: third"))),
        ("clusters/two/apps.yaml", Some(APPS)),
        ("clusters/two/bad.yaml", Some("a: [")),
        ("apps/a.yaml", Some(MAP)),
    ]);
    let mut worker = bench.worker();
    worker.fetch_and_round();
    bench.commit(&[("clusters/one/third.yaml", None)]);
    worker.fetch_and_round();
    assert_eq!(bench.shown("x")[3], "kustomization/flux-system/third removed");
    let third = ["flux-system/third".parse().unwrap()];
    bench.records.forget_known_units(&"x".parse().unwrap(), &third).unwrap();

    // At first the new root does not even render, and the hub is started anew meanwhile.
    bench.commit(&[("clusters/x.yaml", Some(&root("clusters/two")))]);
    worker.fetch_and_round();
    assert_eq!(bench.shown("x")[0], "root hold");
    drop(worker);
    let mut worker = bench.worker();
    bench.commit(&[("clusters/two/bad.yaml", None)]);
    // An agent that does not know what leaves with a root does not get to the new one, however often it is rendered.
    let can = |names: &[&str]| {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        let capabilities = Capabilities::read(names).unwrap();
        bench.records.note_agent(&"x".parse().unwrap(), "v1.36.3", &capabilities).unwrap();
    };
    can(&["authority", "moved", "left-suspended"]);
    for _ in 0..2 {
        worker.fetch_and_round();
        assert_eq!(bench.shown("x")[0], "root hold");
    }
    can(&["authority", "moved", "left-suspended", "place"]);
    worker.fetch_and_round();
    assert_eq!(bench.shown("x")[0], "root present 0");
    let line = |name: &str| bench.shown("x").into_iter().find(|line| line.contains(name)).unwrap();
    assert_eq!(line("other"), "kustomization/flux-system/other moved away");
    assert_eq!(line("apps"), "kustomization/flux-system/apps present 1");
    // Back in Git it is as any other.
    bench.commit(&[("clusters/two/other.yaml", Some(&other))]);
    worker.fetch_and_round();
    bench.commit(&[("clusters/two/other.yaml", None)]);
    worker.fetch_and_round();
    assert_eq!(line("other"), "kustomization/flux-system/other removed");
}
