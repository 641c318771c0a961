//! The loops over real repositories: what is shared, followed, kept and told.

mod tenants;

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use flotilla_core::source::{HelmChart, ReconcileStrategy, Source, SourceId, SourceKind, SourceSpec};
use flotilla_core::{ClusterName, UnitEntry};
use flotilla_kustomize::files::TreePath;
use flotilla_render::helm::{Limits, Program};
use flotilla_render::{Groups, Sources};
use flotilla_source::flux::Policy;
use flotilla_source::{GitRepo, GitSpec, Reach};

use crate::journal::Event;

use super::{At, ClusterSources, Draft, Library, SourceSettings, run};
use crate::desired::Board;
use crate::fleet::{FleetConfig, Patience, Releases, Worker};
use crate::metrics::Metrics;
use crate::store::{MemoryStore, Records};

fn git(folder: &Path, args: &[&str]) {
    let output = Command::new("git")
        .args(["-c", "user.name=t", "-c", "user.email=t@example.com", "-c", "init.defaultBranch=main"])
        .args(args)
        .current_dir(folder)
        .output()
        .unwrap();
    assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn commit(work: &Path, files: &[(&str, &str)]) {
    if !work.exists() {
        std::fs::create_dir_all(work).unwrap();
        git(work, &["init", "-q"]);
    }
    for (path, content) in files {
        let path = work.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
    git(work, &["add", "-A"]);
    git(work, &["commit", "-q", "--allow-empty", "-m", "change"]);
}

struct Bench {
    folder: tempfile::TempDir,
    board: Arc<Board>,
    records: Arc<Records>,
}

impl Bench {
    fn new() -> Self {
        let records = Arc::new(Records::open(Arc::new(MemoryStore::default())).unwrap());
        Self { folder: tempfile::tempdir().unwrap(), board: Arc::new(Board::new()), records }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    fn library(&self, change: impl FnOnce(&mut SourceSettings)) -> Arc<Library> {
        let allowed = format!("file://{}", self.folder.path().display()).parse().unwrap();
        let policy = Policy::new(Reach::Public(vec![allowed]));
        let mut settings = SourceSettings { policy, ..SourceSettings::default() };
        change(&mut settings);
        Arc::new(Library::new(self.path("sources"), settings, None))
    }

    fn worker(&self, library: &Arc<Library>) -> Worker {
        let spec = GitSpec::new(
            format!("file://{}", self.path("fleet").display()).parse().unwrap(),
            "main".parse().unwrap(),
        );
        let repo = GitRepo::open(self.path("clone"), spec).unwrap();
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
        let helm = Program::new("helm", Limits::default());
        let vault = Arc::new(super::Vault::open(self.folder.path(), self.records.clone()).unwrap());
        let releases = Arc::new(Releases::open(self.folder.path(), Box::new(helm), vault).unwrap());
        Worker::new(
            config,
            repo,
            releases,
            library.clone(),
            self.board.clone(),
            self.records.clone(),
            Metrics::default(),
        )
    }

    fn source(&self, name: &str, more: &str) -> String {
        format!(
            "apiVersion: source.toolkit.fluxcd.io/v1\nkind: GitRepository\nmetadata: {{name: {name}, namespace: \
             team}}\nspec:\n  interval: 1h\n  url: file://{}\n  ref: {{branch: main}}\n{more}",
            self.path(name).display()
        )
    }

    /// The unit `team/app` of a cluster: how many objects it has, or why it has none.
    fn app(&self, cluster: &str) -> String {
        let cluster: ClusterName = cluster.parse().unwrap();
        let Some(published) = self.board.current(&cluster) else { return "nothing".into() };
        match published.state.units().get(&"team/app".parse().unwrap()) {
            Some(UnitEntry::Present(unit)) => unit.objects.len().to_string(),
            Some(UnitEntry::Hold(_)) => "held".into(),
            other => format!("{other:?}"),
        }
    }
}

const APP: &str = "apiVersion: kustomize.toolkit.fluxcd.io/v1\nkind: Kustomization\nmetadata: {name: app, namespace: \
                   team}\nspec:\n  path: deploy\n  prune: true\n  interval: 1m\n  sourceRef: {kind: GitRepository, \
                   name: repo}\n";

fn map(name: &str) -> String {
    format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}, namespace: default}}\n")
}

/// Goes round, and lets the fetch loop work, until `is_done`.
async fn until(worker: &mut Worker, library: &Library, is_done: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut changes = library.changes();
    loop {
        worker.fetch_and_round();
        if is_done() {
            return;
        }
        assert!(Instant::now() < deadline, "{:?}", library.view());
        let _ = tokio::time::timeout(Duration::from_secs(1), changes.changed()).await;
        changes.borrow_and_update();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repository_of_a_team_is_fetched_once_for_all_and_followed() {
    let bench = Bench::new();
    commit(&bench.path("repo"), &[("deploy/a.yaml", &map("a"))]);
    let files = [("source.yaml", bench.source("repo", "")), ("app.yaml", APP.to_owned())];
    for cluster in ["x", "y"] {
        for (name, text) in &files {
            commit(&bench.path("fleet"), &[(&format!("clusters/{cluster}/{name}"), text)]);
        }
    }
    let library = bench.library(|_| {});
    let mut worker = bench.worker(&library);
    worker.fetch_and_round();
    assert_eq!(bench.app("x"), "held", "before anything is fetched");
    let shutdown = tokio_util::sync::CancellationToken::new();
    let fetching = tokio::spawn(run(library.clone(), worker.attempts(), shutdown.clone()));
    until(&mut worker, &library, || bench.app("x") == "1" && bench.app("y") == "1").await;
    let shown = library.view();
    let [source] = &shown[..] else { panic!("{shown:?}") };
    assert_eq!(
        (source.name.as_str(), source.kind.as_str(), source.ready, &source.clusters[..]),
        ("team/repo", "GitRepository", true, &["x".to_owned(), "y".to_owned()][..])
    );
    assert!(source.revision.starts_with("main@sha1:"), "{source:?}");
    assert_eq!(std::fs::read_dir(bench.path("sources")).unwrap().count(), 1, "one clone for both");

    // Its interval is an hour: somebody asks.
    commit(&bench.path("repo"), &[("deploy/b.yaml", &map("b"))]);
    let asked = library.hurry(|_, id| id.name == "repo");
    assert_eq!(asked.len(), 1);
    library.fetched(&asked).await;
    let told = library.events.inbox.take();
    let is_repo = |event: &&Event| event.source.as_ref().is_some_and(|source| source.name == "repo");
    let reasons: Vec<&str> = told.iter().filter(is_repo).map(|event| &*event.reason).collect();
    assert_eq!(reasons, ["Fetched", "Fetched"]);
    until(&mut worker, &library, || bench.app("x") == "2" && bench.app("y") == "2").await;

    // What cannot be fetched stays as it was, and says so.
    std::fs::rename(bench.path("repo"), bench.path("away")).unwrap();
    library.fetched(&library.hurry(|_, _| true)).await;
    let told = library.events.inbox.take();
    let warnings: Vec<_> = told.iter().filter(|event| event.warning).collect();
    assert!(warnings.len() == 1 && is_repo(&warnings[0]), "{told:?}");
    until(&mut worker, &library, || !library.view()[0].ready).await;
    assert_eq!(bench.app("x"), "2");
    assert!(library.view()[0].message.contains("no Git repository"), "{:?}", library.view());
    shutdown.cancel();
    fetching.await.unwrap().unwrap();

    // After a restart what was fetched is there at once, though nothing can be fetched.
    drop((worker, library));
    let library = bench.library(|_| {});
    let mut worker = bench.worker(&library);
    worker.fetch_and_round();
    assert_eq!(bench.app("x"), "2");
    assert!(library.view()[0].revision.starts_with("main@sha1:"));
}

#[tokio::test(flavor = "multi_thread")]
async fn why_a_source_is_not_used() {
    let bench = Bench::new();
    commit(&bench.path("repo"), &[("deploy/a.yaml", &map("a"))]);
    let verify = "  verify: {mode: HEAD, secretRef: {name: keys}}\n";
    for (cluster, more) in [
        ("plain", ""),
        ("signed", verify),
        ("secret", "  secretRef: {name: creds}\n"),
        ("suspended", "  suspend: true\n"),
    ] {
        let source = bench.source("repo", more);
        commit(
            &bench.path("fleet"),
            &[
                (&format!("clusters/{cluster}/source.yaml"), &source),
                (&format!("clusters/{cluster}/app.yaml"), APP),
            ],
        );
    }
    let message = |library: &Library, cluster: &str| {
        let shown = library.view();
        let source = shown.iter().find(|source| source.clusters == [cluster]);
        source.map(|source| source.message.clone()).unwrap_or_default()
    };
    let shutdown = tokio_util::sync::CancellationToken::new();
    // Nothing of this machine is allowed.
    let library = bench.library(|settings| settings.policy.reach = Reach::Public(Vec::new()));
    let mut worker = bench.worker(&library);
    let fetching = tokio::spawn(run(library.clone(), worker.attempts(), shutdown.clone()));
    until(&mut worker, &library, || message(&library, "plain").contains("--allow-source file://")).await;
    assert_eq!(bench.app("plain"), "held");
    assert!(message(&library, "signed").contains("--allow-unverified"), "{:?}", library.view());
    assert!(message(&library, "secret").contains("the secret team/creds"), "{:?}", library.view());
    shutdown.cancel();
    fetching.await.unwrap().unwrap();

    drop((worker, library));

    // The operator allows what is needed; the secret is mounted.
    std::fs::create_dir_all(bench.path("mounted/cluster.secret/team/creds")).unwrap();
    for (key, value) in [("username", "jo"), ("password", "s3cret")] {
        std::fs::write(bench.path("mounted/cluster.secret/team/creds").join(key), value).unwrap();
    }
    let shutdown = tokio_util::sync::CancellationToken::new();
    let library = bench.library(|settings| {
        settings.allow_unverified = vec!["GitRepository/team/repo".parse().unwrap()];
        settings.secrets = Some(bench.path("mounted"));
    });
    let mut worker = bench.worker(&library);
    let fetching = tokio::spawn(run(library.clone(), worker.attempts(), shutdown.clone()));
    until(&mut worker, &library, || ["plain", "signed", "secret"].iter().all(|name| bench.app(name) == "1"))
        .await;
    assert_eq!(bench.app("suspended"), "held", "it was never fetched, and is not to be");
    let shown = library.view();
    let flags: Vec<_> = shown.iter().map(|s| (s.clusters.join(","), s.unverified, s.suspended)).collect();
    assert!(flags.contains(&("signed".into(), true, false)), "{flags:?}");
    assert!(flags.contains(&("suspended".into(), false, true)), "{flags:?}");
    shutdown.cancel();
    fetching.await.unwrap().unwrap();
}

/// Two clusters have the same repository, and one of them suspends it: it stays at what it was while the other goes on, over
/// restarts and a forced push. Where that is lost, nothing is removed.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_suspended_source_was_at_outlives_the_hub() {
    let bench = Bench::new();
    commit(&bench.path("repo"), &[("deploy/a.yaml", &map("a"))]);
    let source = |suspend: bool| bench.source("repo", if suspend { "  suspend: true\n" } else { "" });
    for cluster in ["x", "y"] {
        let files = [("source.yaml", source(false)), ("app.yaml", APP.to_owned())];
        for (name, text) in &files {
            commit(&bench.path("fleet"), &[(&format!("clusters/{cluster}/{name}"), text)]);
        }
    }
    let start = || {
        let library = bench.library(|_| {});
        let shutdown = tokio_util::sync::CancellationToken::new();
        let worker = bench.worker(&library);
        let fetching = tokio::spawn(run(library.clone(), worker.attempts(), shutdown.clone()));
        (worker, library, shutdown, fetching)
    };
    let (mut worker, library, shutdown, fetching) = start();
    until(&mut worker, &library, || bench.app("x") == "1" && bench.app("y") == "1").await;
    commit(&bench.path("fleet"), &[("clusters/x/source.yaml", &source(true))]);
    worker.fetch_and_round();
    for (n, name) in ["b", "c", "d"].into_iter().enumerate() {
        commit(&bench.path("repo"), &[(&format!("deploy/{name}.yaml"), &map(name))]);
        library.fetched(&library.hurry(|_, id| id.name == "repo")).await;
        until(&mut worker, &library, || bench.app("y") == (n + 2).to_string()).await;
        assert_eq!(bench.app("x"), "1");
    }
    shutdown.cancel();
    fetching.await.unwrap().unwrap();
    drop((worker, library));

    let (mut worker, library, shutdown, fetching) = start();
    until(&mut worker, &library, || bench.app("x") == "1" && bench.app("y") == "4").await;
    // The repository has another history, and nothing of the old one.
    let repo = bench.path("repo");
    git(&repo, &["checkout", "-q", "--orphan", "other"]);
    commit(&repo, &[("deploy/e.yaml", &map("e"))]);
    git(&repo, &["branch", "-qM", "other", "main"]);
    git(&repo, &["reflog", "expire", "--expire=now", "--all"]);
    git(&repo, &["gc", "-q", "--prune=now"]);
    library.fetched(&library.hurry(|_, id| id.name == "repo")).await;
    until(&mut worker, &library, || bench.app("x") == "1" && bench.app("y") == "5").await;
    shutdown.cancel();
    fetching.await.unwrap().unwrap();
    drop((worker, library));

    let (mut worker, library, shutdown, fetching) = start();
    until(&mut worker, &library, || bench.app("x") == "1" && bench.app("y") == "5").await;
    shutdown.cancel();
    fetching.await.unwrap().unwrap();
    drop((worker, library));

    std::fs::remove_dir_all(bench.path("sources")).unwrap();
    let (mut worker, library, shutdown, fetching) = start();
    until(&mut worker, &library, || bench.app("x") == "held" && bench.app("y") == "5").await;
    // It goes on when it is not suspended any more.
    commit(&bench.path("fleet"), &[("clusters/x/source.yaml", &source(false))]);
    until(&mut worker, &library, || bench.app("x") == "5").await;
    shutdown.cancel();
    fetching.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repository_includes_folders_of_others() {
    let bench = Bench::new();
    commit(&bench.path("repo"), &[("deploy/kustomization.yaml", "resources: [lib/a.yaml, own.yaml]\n")]);
    commit(&bench.path("repo"), &[("deploy/own.yaml", &map("own"))]);
    commit(&bench.path("other"), &[("shared/a.yaml", &map("a")), ("x.yaml", "x")]);
    let include = "  include:\n  - repository: {name: other}\n    fromPath: shared\n    toPath: deploy/lib\n";
    let (repo, other) = (bench.source("repo", include), bench.source("other", ""));
    commit(
        &bench.path("fleet"),
        &[("clusters/x/repo.yaml", &repo), ("clusters/x/other.yaml", &other), ("clusters/x/app.yaml", APP)],
    );
    let library = bench.library(|_| {});
    let mut worker = bench.worker(&library);
    let shutdown = tokio_util::sync::CancellationToken::new();
    let fetching = tokio::spawn(run(library.clone(), worker.attempts(), shutdown.clone()));
    until(&mut worker, &library, || bench.app("x") == "2").await;
    let first = bench.board.current(&"x".parse().unwrap()).unwrap().state.digest();
    let two = format!("{}---\n{}", map("a"), map("b"));
    commit(&bench.path("other"), &[("shared/a.yaml", &two)]);
    library.hurry(|_, id| id.name == "other");
    until(&mut worker, &library, || bench.app("x") == "3").await;
    assert_ne!(bench.board.current(&"x".parse().unwrap()).unwrap().state.digest(), first);
    shutdown.cancel();
    fetching.await.unwrap().unwrap();
}

#[test]
fn secrets_of_groups_stand_between_those_of_the_cluster_and_of_the_fleet() {
    let bench = Bench::new();
    let vault = Arc::new(super::Vault::open(bench.folder.path(), bench.records.clone()).unwrap());
    let mounted = bench.path("mounted");
    let settings = SourceSettings { secrets: Some(mounted.clone()), ..SourceSettings::default() };
    let library = Library::new(bench.path("sources"), settings, Some(vault.clone()));
    let put = |scope: &str, name: &str| {
        let place = super::SecretPlace::new(scope.parse().unwrap(), "team", name).unwrap();
        let data = [("key".to_owned(), scope.as_bytes().to_vec())].into();
        vault
            .put(&place, "generic", &data, &crate::store::AuditRecord::new(1, "ann", "secret.put", "x"))
            .unwrap();
    };
    for (scope, name) in
        [("fleet", "a"), ("fleet", "b"), ("group.west", "b"), ("group.prod", "b"), ("group.prod", "c")]
    {
        put(scope, name);
    }
    put("cluster.edge", "c");
    let edge: ClusterName = "edge".parse().unwrap();
    let find = |groups: &[&str], unclear: Option<&str>, name: &str| {
        let of = groups.iter().map(|group| (*group).to_owned()).collect();
        let groups = Groups { of, unclear: unclear.map(str::to_owned) };
        let draft = Draft::default();
        let sources =
            ClusterSources::new(&library, At::Newest { draft: &draft, before: None }, &edge, &groups);
        let found = sources.secret("team", name).map_err(|error| error.to_string())?;
        Ok::<_, String>(found.map(|data| String::from_utf8(data["key"].clone()).unwrap()))
    };
    let scope = |text: &str| Ok(Some(text.to_owned()));
    assert_eq!(find(&["west", "prod"], None, "b"), scope("group.prod"), "the first by name");
    assert_eq!(find(&["west"], None, "b"), scope("group.west"));
    assert_eq!(find(&[], None, "b"), scope("fleet"));
    assert_eq!(find(&["prod"], None, "c"), scope("cluster.edge"));
    assert_eq!(find(&["prod"], None, "none"), Ok(None));
    // While a group cannot be read, that of the fleet must not stand in for its own.
    assert_eq!(find(&["west"], Some("x.yaml:1: bad"), "a"), scope("fleet"), "no group has one");
    let error = find(&["west"], Some("x.yaml:1: bad"), "b").unwrap_err();
    assert!(error.contains("for the group prod") && error.ends_with("x.yaml:1: bad"), "{error}");
    assert_eq!(find(&["west", "prod"], Some("x.yaml:1: bad"), "b"), scope("group.prod"));
    let folder = mounted.join("group.west/team/a");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("key"), "mounted").unwrap();
    assert_eq!(find(&["west"], None, "a"), scope("mounted"));
    assert!(find(&[], Some("x.yaml:1: bad"), "a").is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn all_clusters_of_a_round_see_a_source_at_one_revision() {
    let bench = Bench::new();
    commit(&bench.path("repo"), &[("map.yaml", &map("a"))]);
    let defined = bench.source("repo", "");
    commit(&bench.path("fleet"), &[("clusters/x/repo.yaml", &defined), ("clusters/y/repo.yaml", &defined)]);
    let library = bench.library(|_| {});
    let mut worker = bench.worker(&library);
    let shutdown = tokio_util::sync::CancellationToken::new();
    let fetching = tokio::spawn(run(library.clone(), worker.attempts(), shutdown.clone()));
    until(&mut worker, &library, || library.view().iter().any(|source| source.ready)).await;
    let (x, y): (ClusterName, ClusterName) = ("x".parse().unwrap(), "y".parse().unwrap());
    let source = library.defined(&x).into_values().next().unwrap();
    let groups = Groups::default();
    let revision = |draft: &Draft, cluster: &ClusterName| {
        ClusterSources::new(&library, At::Newest { draft, before: None }, cluster, &groups)
            .content(&source)
            .unwrap()
            .revision
    };
    let pinned = Draft::default();
    let before = revision(&pinned, &x);

    commit(&bench.path("repo"), &[("map.yaml", &map("b"))]);
    drop(library.hurry(|_, _| true));
    until(&mut worker, &library, || library.view().iter().all(|source| source.revision != before)).await;
    assert_eq!(revision(&pinned, &y), before, "fetched meanwhile");
    assert_eq!(revision(&pinned, &x), before);
    let next = Draft::default();
    assert_ne!(revision(&next, &y), before);
    assert_eq!(revision(&next, &x), revision(&next, &y));
    shutdown.cancel();
    fetching.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chart_in_a_repository_has_its_version_or_the_revision_too() {
    let bench = Bench::new();
    commit(&bench.path("repo"), &[("charts/web/Chart.yaml", "name: web\nversion: 1.2.0\n")]);
    commit(&bench.path("fleet"), &[("clusters/x/repo.yaml", &bench.source("repo", ""))]);
    let library = bench.library(|_| {});
    let mut worker = bench.worker(&library);
    let shutdown = tokio_util::sync::CancellationToken::new();
    let fetching = tokio::spawn(run(library.clone(), worker.attempts(), shutdown.clone()));
    until(&mut worker, &library, || library.view().iter().any(|source| source.ready)).await;
    let cluster = "x".parse().unwrap();
    let content = |reconcile| {
        let spec = SourceSpec::HelmChart(HelmChart {
            chart: "charts/web".into(),
            version: "*".into(),
            source: SourceId::new(SourceKind::GitRepository, "team", "repo"),
            reconcile,
            values_files: Vec::new(),
            ignore_missing_values_files: false,
            verify: false,
        });
        let id = SourceId::new(SourceKind::HelmChart, "team", "web");
        let source = Source { id, interval: 60, timeout: 60, suspend: false, spec };
        let (pinned, groups) = (Draft::default(), Groups::default());
        ClusterSources::new(&library, At::Newest { draft: &pinned, before: None }, &cluster, &groups)
            .content(&source)
            .unwrap()
    };
    let revision = library.view()[0].revision.clone();
    let commit = revision.split_once("sha1:").unwrap().1;
    let chart = content(ReconcileStrategy::ChartVersion);
    assert_eq!(chart.revision, "1.2.0");
    assert!(chart.files.entry(&TreePath::from_root("web/Chart.yaml").unwrap()).unwrap().is_some());
    assert_eq!(content(ReconcileStrategy::Revision).revision, format!("1.2.0+{}", &commit[..12]));
    shutdown.cancel();
    fetching.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_remote_base_is_followed_and_the_last_good_one_kept() {
    let bench = Bench::new();
    commit(
        &bench.path("base"),
        &[("web/a.yaml", &map("a")), ("web/kustomization.yaml", "resources: [a.yaml]\n")],
    );
    let address = format!("file://{}//web?ref=main", bench.path("base").display());
    let app = APP.replace(
        "{kind: GitRepository, name: repo}",
        "{kind: GitRepository, name: flux-system, namespace: flux-system}",
    );
    commit(
        &bench.path("fleet"),
        &[
            ("clusters/x/app.yaml", &app),
            ("deploy/kustomization.yaml", &format!("resources: ['{address}']\n")),
        ],
    );
    let library = bench.library(|_| {});
    let mut worker = bench.worker(&library);
    worker.fetch_and_round();
    assert_eq!(bench.app("x"), "held", "before it is fetched");
    let shutdown = tokio_util::sync::CancellationToken::new();
    let fetching = tokio::spawn(run(library.clone(), worker.attempts(), shutdown.clone()));
    until(&mut worker, &library, || bench.app("x") == "1").await;
    let [shown] = &library.view()[..] else { panic!("{:?}", library.view()) };
    assert_eq!(
        (shown.kind.as_str(), &shown.name, &shown.clusters[..]),
        ("RemoteBase", &address, &["x".to_owned()][..])
    );
    assert!(shown.ready && shown.revision.starts_with("sha1:"), "{shown:?}");

    let two = format!("{}---\n{}", map("a"), map("b"));
    commit(&bench.path("base"), &[("web/a.yaml", &two)]);
    library.hurry(|_, _| true);
    until(&mut worker, &library, || bench.app("x") == "2").await;
    std::fs::rename(bench.path("base"), bench.path("away")).unwrap();
    library.hurry(|_, _| true);
    until(&mut worker, &library, || library.view().iter().any(|source| !source.ready)).await;
    assert_eq!(bench.app("x"), "2", "the last good one stays");
    shutdown.cancel();
    fetching.await.unwrap().unwrap();
    drop((worker, library));

    // Another start has what was fetched, though the repository is away.
    let library = bench.library(|_| {});
    let mut worker = bench.worker(&library);
    commit(
        &bench.path("fleet"),
        &[("deploy/kustomization.yaml", &format!("namePrefix: x-\nresources: ['{address}']\n"))],
    );
    worker.fetch_and_round();
    assert_eq!(bench.app("x"), "2", "{:?}", library.view());
    let state = bench.board.current(&"x".parse().unwrap()).unwrap();
    let Some(UnitEntry::Present(unit)) = state.state.units().get(&"team/app".parse().unwrap()) else {
        panic!()
    };
    assert_eq!(unit.objects[0].object.id.name, "x-a");

    // A fleet that refers to it no more wants it no more.
    commit(&bench.path("fleet"), &[("deploy/kustomization.yaml", "resources: []\n")]);
    worker.fetch_and_round();
    assert!(library.view().is_empty(), "{:?}", library.view());

    drop((worker, library));

    // The operator's list counts for bases too.
    commit(
        &bench.path("fleet"),
        &[("deploy/kustomization.yaml", &format!("resources: ['{address}', 'file:///srv/x//y']\n"))],
    );
    let library = bench.library(|settings| settings.policy.reach = Reach::Public(Vec::new()));
    let mut worker = bench.worker(&library);
    let shutdown = tokio_util::sync::CancellationToken::new();
    let fetching = tokio::spawn(run(library.clone(), worker.attempts(), shutdown.clone()));
    let refused =
        || library.view().iter().any(|source| source.message.contains("--allow-source file:///srv/x"));
    until(&mut worker, &library, refused).await;
    shutdown.cancel();
    fetching.await.unwrap().unwrap();
}
