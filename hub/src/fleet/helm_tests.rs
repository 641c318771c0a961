//! Releases through whole rounds: what one slow chart holds, and what lost renders and old backups do.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

use flotilla_core::desired::{KnownUnit, Removal};
use flotilla_core::question::{Apis, Question, Reply};
use flotilla_core::template::ValuesKind;
use flotilla_core::unit::Render;
use flotilla_core::{Capabilities, Digest, UnitEntry, UnitId};
use flotilla_render::helm::{Helm, HelmError, Manifests, TemplateRequest};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::tests::Bench;
use super::{Worker, helm};
use crate::desired::Board;
use crate::store::RestoreRecord;

/// Draws another password at each run. A release named `slow` waits until it may go on.
#[derive(Default)]
struct Fake {
    runs: AtomicUsize,
    may_end: Mutex<bool>,
    changed: Condvar,
}

impl Fake {
    fn let_go(&self) {
        *self.may_end.lock().unwrap() = true;
        self.changed.notify_all();
    }
}

struct Shared(Arc<Fake>);

impl Helm for Shared {
    fn template(&self, request: &TemplateRequest) -> Result<Manifests, HelmError> {
        let run = self.0.runs.fetch_add(1, Ordering::SeqCst);
        if request.name.as_str() == "slow" {
            let may_end = self.0.may_end.lock().unwrap();
            drop(self.0.changed.wait_while(may_end, |may_end| !*may_end).unwrap());
        }
        let values = serde_json::Value::Object(request.values.clone());
        let text = format!(
            "---\n# Source: own/templates/a.yaml\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {}}}\ndata: \
             {{password: '{run}', values: '{values}'}}\n",
            request.name
        );
        Ok(Manifests { text, draws: true })
    }

    fn stop(&self) {
        self.0.let_go();
    }
}

fn release(name: &str, more: &str) -> String {
    format!(
        "apiVersion: helm.toolkit.fluxcd.io/v2\nkind: HelmRelease\nmetadata: {{name: {name}, namespace: apps}}\nspec:\n  \
         interval: 1m\n  chart:\n    spec: {{chart: ./charts/own, sourceRef: {{kind: GitRepository, name: flux-system, \
         namespace: flux-system}}}}\n{more}"
    )
}

struct World {
    bench: Bench,
    fake: Arc<Fake>,
    worker: Worker,
    stop: CancellationToken,
    running: JoinHandle<()>,
}

impl World {
    fn new(bench: Bench) -> Self {
        let fake = Arc::new(Fake::default());
        let releases = bench.releases(Box::new(Shared(fake.clone())));
        let (worker, stop) = (bench.worker_with(releases.clone()), CancellationToken::new());
        let until = stop.clone();
        let running = tokio::spawn(async move { helm::run(releases, until).await.unwrap() });
        Self { bench, fake, worker, stop, running }
    }

    /// Stops the hub; what it left on disk, but for its memory, stays.
    async fn end(self) -> Bench {
        self.stop.cancel();
        self.running.await.unwrap();
        Bench { board: Arc::new(Board::new()), ..self.bench }
    }

    fn round(&mut self) {
        self.worker.fetch_and_round();
    }

    fn entry(&self, unit: &UnitId) -> Option<UnitEntry> {
        self.bench.board.current(&cluster())?.state.units().get(unit).cloned()
    }

    /// The digest of a release's only object, or why it is held.
    fn shown(&self, name: &str) -> Result<Digest, String> {
        match self.entry(&UnitId::helm_release("apps", name)) {
            Some(UnitEntry::Present(unit)) => Ok(unit.objects[0].digest),
            Some(UnitEntry::Hold(hold)) => Err(hold.to_string()),
            other => Err(format!("{other:?}")),
        }
    }

    fn until(&mut self, what: impl Fn(&Self) -> bool) {
        let end = Instant::now() + Duration::from_secs(20);
        while !what(self) {
            assert!(Instant::now() < end, "web: {:?}, slow: {:?}", self.shown("web"), self.shown("slow"));
            self.round();
        }
    }
}

fn cluster() -> flotilla_core::ClusterName {
    "x".parse().unwrap()
}

fn bench(releases: &[&str]) -> Bench {
    let bench = Bench::new();
    bench.commit(&[("charts/own/Chart.yaml", Some("name: own\n"))]);
    for name in releases {
        bench.commit(&[(&format!("clusters/x/{name}.yaml"), Some(&release(name, "")))]);
    }
    bench.records.note_agent(&cluster(), "v1.36.3", &Capabilities::ours()).unwrap();
    let apis = Reply::Apis(Apis::default());
    bench.records.note_reply(&cluster(), &Question::apis(), &apis, 1).unwrap();
    bench.enrol("x");
    bench.records.note_heard(&cluster(), 1).unwrap();
    bench
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_chart_holds_its_own_unit_only() {
    let mut world = World::new(bench(&["slow", "web"]));
    let began = Instant::now();
    world.round();
    assert!(began.elapsed() < Duration::from_secs(10), "the round did not wait for it");
    assert!(world.shown("web").is_ok());
    assert_eq!(world.shown("slow"), Err("clusters/x/slow.yaml:1: helm is rendering the release".into()));
    let began = Instant::now();
    world.round();
    assert!(began.elapsed() < super::round::PATIENCE, "later rounds wait for new requests only");
    world.fake.let_go();
    world.until(|world| world.shown("slow").is_ok());
    assert_eq!(world.fake.runs.load(Ordering::SeqCst), 2);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_render_holds_what_runs_until_the_author_asks_for_another() {
    let mut world = World::new(bench(&["web"]));
    world.until(|world| world.shown("web").is_ok());
    let first = world.shown("web").unwrap();
    let bench = world.end().await;
    std::fs::rename(bench.folder.path().join("helm"), bench.folder.path().join("aside")).unwrap();

    let mut world = World::new(bench);
    world.round();
    let why = world.shown("web").unwrap_err();
    assert!(why.contains("is lost") && why.contains("flotilla.dev/render"), "{why}");
    assert_eq!(world.fake.runs.load(Ordering::SeqCst), 0, "it is not made anew");
    // A release of other values is another one.
    world.bench.commit(&[("clusters/x/new.yaml", Some(&release("new", "  values: {a: 1}\n")))]);
    world.until(|world| world.shown("new").is_ok());
    let bench = world.end().await;

    // The folder comes back as it was.
    let (folder, aside) = (bench.folder.path().join("helm"), bench.folder.path().join("aside"));
    for file in std::fs::read_dir(&aside).unwrap() {
        let file = file.unwrap();
        std::fs::rename(file.path(), folder.join(file.file_name())).unwrap();
    }
    let mut world = World::new(bench);
    world.round();
    assert_eq!(world.shown("web"), Ok(first));
    let bench = world.end().await;

    for file in std::fs::read_dir(&folder).unwrap() {
        std::fs::remove_file(file.unwrap().path()).unwrap();
    }
    let again = release("web", "")
        .replace("namespace: apps}", "namespace: apps, annotations: {flotilla.dev/render: '2'}}");
    bench.commit(&[("clusters/x/web.yaml", Some(&again))]);
    let mut world = World::new(bench);
    world.fake.runs.store(100, Ordering::SeqCst);
    world.until(|world| world.shown("web").is_ok());
    assert_ne!(world.shown("web"), Ok(first));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_restore_helm_waits_for_what_the_agent_says() {
    let bench = bench(&["web"]);
    let restored = RestoreRecord { backup_at: 10, restored_at: 20 };
    bench.records.note_restored(&restored).unwrap();
    let mut world = World::new(bench);
    world.round();
    assert!(world.shown("web").unwrap_err().contains("has not said yet what it runs"));
    // The agent runs what the backup does not have.
    assert_eq!(world.fake.runs.load(Ordering::SeqCst), 0);
    let known = |render| KnownUnit {
        id: UnitId::helm_release("apps", "web"),
        parent: Some(UnitId::root()),
        removal: Removal::default(),
        render,
    };
    let records = world.bench.records.clone();
    let other = Digest::of(b"other values");
    let render = Some(Render { key: other, content: other });
    records.set_known_units(&cluster(), &[known(render)], Some(30)).unwrap();
    world.until(|world| world.shown("web").is_ok());
    let Some(UnitEntry::Present(unit)) = world.entry(&UnitId::helm_release("apps", "web")) else {
        unreachable!()
    };
    let bench = world.end().await;

    // It runs what was rendered for the same, another time: nothing comes in its place.
    let run = unit.spec.render.unwrap();
    let another = known(Some(Render { content: other, ..run }));
    bench.records.set_known_units(&cluster(), &[another], Some(35)).unwrap();
    let mut world = World::new(bench);
    world.round();
    assert!(world.shown("web").unwrap_err().contains("is lost"), "{:?}", world.shown("web"));
    let bench = world.end().await;

    // And where it runs just that and it is gone: it is held as it runs.
    for file in std::fs::read_dir(bench.folder.path().join("helm")).unwrap() {
        std::fs::remove_file(file.unwrap().path()).unwrap();
    }
    bench.records.set_known_units(&cluster(), &[known(Some(run))], Some(40)).unwrap();
    let mut world = World::new(bench);
    world.round();
    assert!(world.shown("web").unwrap_err().contains("is lost"), "{:?}", world.shown("web"));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_only_the_cluster_has_is_asked_of_its_agent_and_stays_known_while_that_is_away() {
    let from = "  valuesFrom: [{kind: ConfigMap, name: local, valuesKey: v, optional: true}]\n";
    let files = bench(&[]);
    files.commit(&[("clusters/x/web.yaml", Some(&release("web", from)))]);
    let asked = Question::of(ValuesKind::ConfigMap, "apps", "local", None);
    let mut world = World::new(files);
    world.round();
    assert!(world.shown("web").unwrap_err().contains("until its agent answers"), "{:?}", world.shown("web"));
    let questions = world.bench.board.questions(&cluster()).borrow().clone().unwrap();
    assert_eq!(*questions, [asked.clone(), Question::apis()].into());

    let tell =
        |world: &World, reply: Reply| world.bench.records.note_reply(&cluster(), &asked, &reply, 2).unwrap();
    tell(&world, Reply::Absent);
    world.until(|world| world.shown("web").is_ok());
    let without = world.shown("web");
    tell(&world, Reply::Data([("v".to_owned(), "a: 1".to_owned())].into()));
    world.until(|world| world.shown("web").is_ok() && world.shown("web") != without);
    let with = world.shown("web");
    tell(&world, Reply::Failed("500".into()));
    world.round();
    assert_eq!(world.shown("web"), with, "a failure takes nothing away");
    tell(&world, Reply::Refused("no rights".into()));
    world.round();
    assert!(world.shown("web").unwrap_err().contains("no rights"), "{:?}", world.shown("web"));
    tell(&world, Reply::Data([("v".to_owned(), "a: 1".to_owned())].into()));

    // The hub is started anew, and no agent is there.
    let mut world = World::new(world.end().await);
    world.until(|world| world.shown("web") == with);
    // What nobody asks about any more is forgotten.
    world.bench.commit(&[("clusters/x/web.yaml", Some(&release("web", "")))]);
    world.until(|world| world.shown("web") == without);
    let kept: Vec<Digest> = world.bench.records.replies(&cluster()).unwrap().into_keys().collect();
    assert_eq!(kept, [Question::apis().digest()]);
    world.end().await;
}
