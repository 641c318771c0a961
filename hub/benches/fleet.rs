//! `cargo xtask bench fleet [--clusters N] [--repeats N]`: what a commit costs the fleet loop, without agents. A thousand clusters of
//! fifty units of four objects: twenty units are the same everywhere, thirty have a variable of the cluster. The repository,
//! the store and the loop are the hub's own; figures go to stdout, a JSON object a line.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use flotilla_core::{ClusterName, Digest};
use flotilla_hub::attempts::Attempts;
use flotilla_hub::desired::Board;
use flotilla_hub::fleet::{self, FleetConfig, FleetRepo, Patience, Releases, Ticks, Worker};
use flotilla_hub::metrics::Metrics;
use flotilla_hub::sources::{Library, SourceSettings, Vault};
use flotilla_hub::store::{AuditRecord, ClusterRecord, DiskStore, Records, Store, SuspensionRecord};
use flotilla_hub::view::Fleet;
use flotilla_kustomize::files::{Files, TreePath};
use flotilla_render::helm::{Limits, Program};
use flotilla_source::{Commit, CommitError, CommitId, FetchError, GitRepo, GitSpec, OpenError};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

/// Units that are the same in all clusters.
const SAME: usize = 20;
/// Units with a variable of their cluster.
const OWN: usize = 30;
/// A step that takes longer has failed.
const LIMIT: Duration = Duration::from_secs(600);

struct Options {
    clusters: usize,
    repeats: usize,
}

impl Options {
    fn read(args: impl Iterator<Item = String>) -> Self {
        let mut options = Self { clusters: 1_000, repeats: 5 };
        // Cargo says `--bench` itself.
        let mut args = args.filter(|arg| arg != "--bench");
        while let Some(arg) = args.next() {
            let number = args.next().and_then(|text| text.parse().ok()).filter(|number| *number > 0);
            match (arg.as_str(), number) {
                ("--clusters", Some(number)) => options.clusters = number,
                ("--repeats", Some(number)) => options.repeats = number,
                _ => panic!("'{arg}': there are --clusters N and --repeats N, each with a number from 1"),
            }
        }
        options
    }
}

fn cluster(n: usize) -> String {
    format!("c{n:05}")
}

/// A cluster's definition; all clusters have the same root.
fn definition(n: usize, ring: &str) -> String {
    let name = cluster(n);
    format!(
        "apiVersion: flotilla.dev/v1alpha1\nkind: Cluster\nmetadata: {{name: {name}}}\nspec:\n  path: fleet\n  labels: {{env: edge, \
         ring: '{ring}'}}\n  variables: {{site: {name}, region: eu-{}}}\n",
        n % 7
    )
}

fn unit(n: usize) -> String {
    let own = if n < SAME { "" } else { "  postBuild: {substitute: {tier: web}}\n" };
    format!(
        "apiVersion: kustomize.toolkit.fluxcd.io/v1\nkind: Kustomization\nmetadata: {{name: app-{n:02}, namespace: \
         flux-system}}\nspec:\n  path: apps/app-{n:02}\n  prune: true\n  interval: 10m\n  sourceRef: {{kind: GitRepository, name: \
         flux-system}}\n{own}"
    )
}

/// A ServiceAccount, a ConfigMap, a Service and a Deployment of one pod.
fn app(n: usize, value: &str) -> String {
    let site = if n < SAME { "none" } else { "${site}.${region}" };
    let name = format!("app-{n:02}");
    let metadata =
        format!("metadata: {{name: {name}, namespace: apps, labels: {{app: {name}, part-of: bench}}}}");
    format!(
        "apiVersion: v1\nkind: ServiceAccount\n{metadata}\n---\napiVersion: v1\nkind: ConfigMap\n{metadata}\ndata:\n  value: \
         {value}\n  site: {site}\n  settings.yaml: |\n    log:\n      level: info\n      format: json\n    listen: 0.0.0.0:8080\n    \
         workers: 4\n---\napiVersion: v1\nkind: Service\n{metadata}\nspec:\n  selector: {{app: {name}}}\n  ports: [{{name: http, port: \
         80, targetPort: 8080}}]\n---\napiVersion: apps/v1\nkind: Deployment\n{metadata}\nspec:\n  replicas: 1\n  selector: \
         {{matchLabels: {{app: {name}}}}}\n  template:\n    metadata: {{labels: {{app: {name}, part-of: bench}}}}\n    spec:\n      \
         serviceAccountName: {name}\n      containers:\n        - name: main\n          image: example.com/app:1.2.3\n          ports: \
         [{{name: http, containerPort: 8080}}]\n          env:\n            - name: VALUE\n              valueFrom: {{configMapKeyRef: \
         {{name: {name}, key: value}}}}\n          resources: {{requests: {{cpu: 10m, memory: 16Mi}}, limits: {{memory: 64Mi}}}}\n"
    )
}

fn git(folder: &Path, args: &[&str]) {
    let identity =
        ["-c", "user.name=bench", "-c", "user.email=bench@example.com", "-c", "init.defaultBranch=main"];
    let output =
        Command::new("git").args(identity).args(args).current_dir(folder).output().expect("git runs");
    assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A fleet repo that tells how long its fetches take.
struct Timed {
    repo: GitRepo,
    /// All of them, in microseconds.
    fetching: Arc<AtomicU64>,
}

impl FleetRepo for Timed {
    fn names(&self) -> (String, String) {
        FleetRepo::names(&self.repo)
    }

    fn fetch(&mut self, cancel: &AtomicBool) -> Result<Commit, FetchError> {
        let start = Instant::now();
        let fetched = self.repo.fetch(cancel);
        self.fetching.fetch_add(start.elapsed().as_micros() as u64, Ordering::Relaxed);
        fetched
    }

    fn newest(&self) -> Option<Commit> {
        self.repo.newest()
    }

    fn tree(&self, commit: &CommitId) -> Result<Arc<dyn Files>, CommitError> {
        FleetRepo::tree(&self.repo, commit)
    }

    fn keep(&mut self, commits: &BTreeSet<CommitId>) -> Result<(), OpenError> {
        self.repo.keep(commits)
    }
}

/// A hub's loop, and the repository that it follows.
struct Hub {
    options: Options,
    work: PathBuf,
    fleet: Arc<Fleet>,
    board: Arc<Board>,
    records: Arc<Records>,
    metrics: Metrics,
    fetching: Arc<AtomicU64>,
    digests: Vec<Option<Digest>>,
}

/// What a step cost.
struct Cost {
    /// From the wake to what came of it, without the fetch.
    seconds: f64,
    /// Of the processors, with the fetch.
    processor: f64,
    fetch: f64,
    builds: u64,
    published: usize,
}

impl Hub {
    fn start(options: Options, folder: &Path) -> (Self, Worker) {
        let work = folder.join("work");
        std::fs::create_dir_all(&work).expect("a folder for the repository");
        git(&work, &["init", "-q"]);
        let records = Arc::new(
            Records::open(Arc::new(DiskStore::open(&folder.join("store")).expect("a store")))
                .expect("records"),
        );
        for n in 0..options.clusters {
            let audit = AuditRecord::new(1, "bench", "enrol", cluster(n));
            let name = cluster(n).parse().expect("a name");
            assert!(records.adopt_cluster(&name, &ClusterRecord::default(), &audit).expect("the store"));
            records.note_heard(&name, 1).expect("the store");
        }
        let url = format!("file://{}", work.display()).parse().expect("an address");
        let spec = GitSpec::new(url, "main".parse().expect("a branch"));
        let (board, metrics) = (Arc::new(Board::new()), Metrics::default());
        let vault = Arc::new(Vault::open(folder, records.clone()).expect("a vault"));
        let helm = Box::new(Program::new("helm", Limits::default()));
        let releases = Arc::new(Releases::open(folder, helm, vault.clone()).expect("a folder for releases"));
        let sources = Arc::new(Library::new(folder.join("sources"), SourceSettings::default(), Some(vault)));
        let config = FleetConfig {
            path: TreePath::root(),
            clusters: TreePath::from_root("clusters").expect("a path"),
            poll_interval: Duration::from_secs(36_000),
            patience: Patience::default(),
            budget: flotilla_render::Budget::default(),
            strict: true,
            change_policy: flotilla_core::change::Policy::default(),
            attempts: Attempts::open(folder).expect("a folder for attempts"),
        };
        let fetching = Arc::<AtomicU64>::default();
        let mut hub = Self {
            digests: vec![None; options.clusters],
            options,
            work,
            fleet: Arc::new(Fleet::new()),
            board: board.clone(),
            records: records.clone(),
            metrics: metrics.clone(),
            fetching: fetching.clone(),
        };
        hub.commit_all();
        let repo = GitRepo::open(folder.join("clone"), spec).expect("a clone");
        let worker =
            Worker::new(config, Timed { repo, fetching }, releases, sources, board, records, metrics);
        (hub, worker)
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.work.join(path);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        std::fs::write(path, text).expect("a file");
    }

    fn commit(&self, path: &str, text: &str) {
        self.write(path, text);
        git(&self.work, &["add", "-A"]);
        git(&self.work, &["commit", "-q", "-m", path]);
    }

    fn commit_all(&mut self) {
        for n in 0..self.options.clusters {
            self.write(&format!("clusters/{}.yaml", cluster(n)), &definition(n, "first"));
        }
        let mut listed = String::from("resources:\n");
        for n in 0..SAME + OWN {
            writeln!(listed, "  - app-{n:02}.yaml").expect("text");
            self.write(&format!("fleet/app-{n:02}.yaml"), &unit(n));
            self.write(&format!("apps/app-{n:02}/app.yaml"), &app(n, "first"));
        }
        self.commit("fleet/kustomization.yaml", &listed);
    }

    fn digest(&self, n: usize) -> Option<Digest> {
        Some(self.board.current(&cluster(n).parse().ok()?)?.state.digest())
    }

    /// Does something, has the loop go round for it, and waits until that is `over`.
    async fn step(&mut self, over: impl AsyncFnOnce(&Self)) -> Cost {
        let (builds, fetch) = (self.metrics.builds.get(), self.fetching.load(Ordering::Relaxed));
        let (start, processor) = (Instant::now(), processor());
        tokio::time::timeout(LIMIT, over(self)).await.expect("the step ends in time");
        let (seconds, used) = (start.elapsed().as_secs_f64(), self::processor() - processor);
        let fetch = (self.fetching.load(Ordering::Relaxed) - fetch) as f64 / 1e6;
        let mut published = 0;
        for n in 0..self.options.clusters {
            let digest = self.digest(n);
            published += usize::from(std::mem::replace(&mut self.digests[n], digest) != digest);
        }
        let builds = self.metrics.builds.get() - builds;
        Cost { seconds: seconds - fetch, processor: used, fetch, builds, published }
    }

    async fn round(&mut self) -> Cost {
        self.step(async |hub: &Self| hub.fleet.served(hub.fleet.wake()).await).await
    }

    /// The same several times.
    async fn repeat(&mut self, name: &str, published: usize, change: impl Fn(&Self, usize)) {
        let mut costs = Vec::new();
        for repeat in 0..self.options.repeats {
            change(self, repeat);
            let cost = self.round().await;
            assert_eq!(cost.published, published, "{name}");
            costs.push(cost);
        }
        self.print(name, &costs);
    }

    /// People suspend one cluster, or resume it: what an agent's hello costs as well.
    async fn facts(&mut self) {
        let name: ClusterName = cluster(self.options.clusters / 2).parse().expect("a name");
        let mut costs = Vec::new();
        for repeat in 0..self.options.repeats {
            let suspension = SuspensionRecord { by: "bench".into(), at: 1, reason: String::new() };
            let suspension = (repeat % 2 == 0).then_some(suspension);
            let audit = AuditRecord::new(1, "bench", "suspend", &name);
            let mut published = self.board.subscribe(&name);
            published.borrow_and_update();
            let records = self.records.clone();
            let of = name.clone();
            let cost = self.step(async |_: &Self| {
                let write = move || records.suspend(&of, None, suspension.as_ref(), &audit);
                tokio::task::spawn_blocking(write).await.expect("a thread").expect("the store");
                published.changed().await.expect("the board lives");
            });
            let cost = cost.await;
            assert_eq!(cost.published, 1, "one cluster's facts");
            costs.push(cost);
        }
        self.print("fleet_one_suspended", &costs);
    }

    fn print(&self, name: &str, costs: &[Cost]) {
        let of = |figure: &dyn Fn(&Cost) -> f64| costs.iter().map(figure).collect::<Vec<f64>>();
        let seconds = of(&|cost| cost.seconds);
        let details = json!({
            "clusters": self.options.clusters,
            "units": SAME + OWN,
            "published": costs[0].published,
            "builds": costs.iter().map(|cost| cost.builds).collect::<Vec<_>>(),
            "processor_seconds": rounded(median(&of(&|cost| cost.processor))),
            "fetch_seconds": rounded(median(&of(&|cost| cost.fetch))),
            "samples": seconds.iter().copied().map(rounded).collect::<Vec<_>>(),
        });
        print(&format!("{name}_seconds"), median(&seconds), "s", details);
    }

    fn memory(&self, name: &str) {
        let megabytes = |field: &str| rounded(status(field) as f64 * 1024.0 / 1e6);
        let details = json!({
            "clusters": self.options.clusters,
            "units": SAME + OWN,
            "anonymous_mb": megabytes("RssAnon"),
            "peak_mb": megabytes("VmHWM"),
        });
        print(name, megabytes("VmRSS"), "MB", details);
    }
}

fn median(samples: &[f64]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

fn rounded(value: f64) -> f64 {
    (value * 10_000.0).round() / 10_000.0
}

fn print(name: &str, value: f64, unit: &str, details: Value) {
    println!("{}", json!({"name": name, "value": rounded(value), "unit": unit, "details": details}));
}

/// A field of what the kernel says of this process, in KiB.
fn status(field: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':')).expect("the field");
    line.split_whitespace().next().and_then(|number| number.parse().ok()).expect("a number")
}

/// Seconds of processor time that this process has used.
fn processor() -> f64 {
    let text = std::fs::read_to_string("/proc/self/stat").expect("Linux");
    let fields: Vec<&str> = text.rsplit(") ").next().expect("fields").split(' ').collect();
    let ticks: u64 = fields[11..13].iter().map(|ticks| ticks.parse::<u64>().expect("a number")).sum();
    ticks as f64 / 100.0
}

#[tokio::main]
async fn main() {
    let options = Options::read(std::env::args().skip(1));
    let folder = tempfile::tempdir().expect("a folder");
    let (mut hub, worker) = Hub::start(options, folder.path());
    hub.memory("fleet_memory_before");
    let store: &Arc<dyn Store> = hub.records.store();
    let facts = ["known/", "suspended/", "kubernetes/"].map(|prefix| store.watch(prefix)).to_vec();
    let ticks = Ticks { facts, ..Ticks::default() };
    let shutdown = CancellationToken::new();
    let running = tokio::spawn(fleet::run(worker, hub.fleet.clone(), ticks, shutdown.clone()));

    let first = hub.round().await;
    assert_eq!(first.published, hub.options.clusters, "the first round");
    hub.print("fleet_first", &[first]);
    hub.memory("fleet_memory_first");
    let all = hub.options.clusters;
    hub.repeat("fleet_nothing", 0, |_, _| {}).await;
    hub.repeat("fleet_shared_app", all, |hub, n| {
        hub.commit("apps/app-00/app.yaml", &app(0, &format!("v{n}")))
    })
    .await;
    let own = format!("apps/app-{SAME}/app.yaml");
    hub.repeat("fleet_own_app", all, |hub, n| hub.commit(&own, &app(SAME, &format!("v{n}")))).await;
    let one = format!("clusters/{}.yaml", cluster(7));
    hub.repeat("fleet_label", 0, |hub, n| hub.commit(&one, &definition(7, &format!("r{n}")))).await;
    hub.facts().await;
    hub.memory("fleet_memory");
    shutdown.cancel();
    running.await.expect("the loop's task").expect("the loop");
}
