//! Promotion by whole rounds: whatever fails, no cluster of a later stage gets what did not pass the one before, and nothing goes
//! that what was chosen for it has.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};

use flotilla_core::report::{Phase, UnitReport};
use flotilla_core::selector::Selector;
use flotilla_core::{ClusterName, Generation, UnitEntry, UnitId};
use flotilla_rollout::spec::{self, Gates, OnChange, Stage, UnitSelection};
use flotilla_rollout::{Actor, Pipeline, Request, Scope, Verb};
use proptest::prelude::*;

use super::Worker;
use super::fake::{FakeHub, FakeRepo, Fault, Tree, config_map, unit};
use crate::clock::unix_now;
use crate::rollout::{Agents, AskError, Definitions, Rollouts, Unread};
use crate::session::{ClusterView, Units};
use crate::store::AuditRecord;

#[derive(Default)]
struct FakeAgents(Mutex<BTreeMap<ClusterName, Arc<ClusterView>>>);

impl Agents for FakeAgents {
    fn view(&self, cluster: &ClusterName) -> Option<Arc<ClusterView>> {
        self.0.lock().unwrap().get(cluster).cloned()
    }
}

const CLUSTERS: [&str; 2] = ["s", "p"];

pub(super) fn name(cluster: &str) -> ClusterName {
    cluster.parse().unwrap()
}

fn app() -> UnitId {
    UnitId::kustomization("flux-system", "app")
}

pub(super) fn pipeline() -> Pipeline {
    let stage = |name: &str| {
        let text = format!("matchLabels: {{stage: {name}}}\n");
        let clusters = Selector::read(&flotilla_yaml::parse(&text).unwrap()[0]).unwrap();
        let (before, after) = (Gates::default(), Gates::default());
        let (strategy, windows) = (spec::Strategy::default(), Vec::new());
        Stage { name: name.to_owned(), clusters, strategy, before, after, windows }
    };
    let units = UnitSelection { include: vec!["flux-system/app".parse().unwrap()], except: Vec::new() };
    Pipeline {
        name: "apps".to_owned(),
        units,
        stages: vec![stage("staging"), stage("production")],
        windows: Vec::new(),
        on_change: OnChange::default(),
    }
}

/// A commit in which the app has this version; `None`: it has no app.
fn tree(version: Option<&str>) -> Tree {
    let mut tree = Tree::new();
    let mut put = |path: &str, text: String| drop(tree.insert(path.to_owned(), text));
    for (cluster, stage) in CLUSTERS.into_iter().zip(["staging", "production"]) {
        put(
            &format!("clusters/{cluster}.yaml"),
            format!(
                "apiVersion: flotilla.dev/v1alpha1\nkind: Cluster\nmetadata: {{name: {cluster}}}\nspec: {{path: \
                 fleets/all, labels: {{stage: {stage}}}}}\n"
            ),
        );
    }
    put("fleets/all/own.yaml", config_map("own"));
    if let Some(version) = version {
        put("fleets/all/app.yaml", unit("app", "apps/app"));
        put("apps/app/a.yaml", config_map(version));
    }
    tree
}

pub(super) struct Case {
    hub: FakeHub,
    agents: Arc<FakeAgents>,
    pub(super) worker: Worker,
    pub(super) rollouts: Arc<Rollouts>,
    tries: AtomicI64,
}

impl Case {
    pub(super) fn new(version: Option<&str>) -> Self {
        Self::joined(version, &CLUSTERS)
    }

    /// Only these clusters have joined.
    fn joined(version: Option<&str>, clusters: &[&str]) -> Self {
        let repo = FakeRepo::default();
        repo.commit_tree(tree(version));
        let hub = FakeHub::new(repo);
        clusters.iter().for_each(|cluster| hub.enrol(cluster));
        let agents = Arc::<FakeAgents>::default();
        let rollouts = rollouts(&hub, &agents);
        let worker = worker(hub.worker(), &rollouts);
        Self { hub, agents, worker, rollouts, tries: AtomicI64::new(2) }
    }

    pub(super) fn restart(&mut self) {
        self.agents.0.lock().unwrap().clear();
        let fresh = self.hub.restart();
        self.rollouts = rollouts(&self.hub, &self.agents);
        self.worker = worker(fresh, &self.rollouts);
    }

    /// What the app of a cluster is by what was published: its version, "held", "removed" or "".
    fn app(&self, cluster: &str) -> String {
        let Some(published) = self.hub.board.current(&name(cluster)) else { return String::new() };
        match published.state.units().get(&app()) {
            Some(UnitEntry::Present(unit)) => unit.objects[0].object.id.name.clone(),
            Some(UnitEntry::Hold(_)) => "held".to_owned(),
            Some(UnitEntry::Removed(_)) => "removed".to_owned(),
            None => String::new(),
        }
    }

    /// The agent of a cluster has what was published, and says how that is.
    fn run(&self, cluster: &str) {
        let Some(published) = self.hub.board.current(&name(cluster)) else { return };
        let phase = if self.app(cluster).starts_with("broken") { Phase::Failed } else { Phase::Ready };
        let units = published.state.all_present().map(|unit| {
            // One that failed tries again and again.
            let tries = self.tries.fetch_add(1, Ordering::Relaxed);
            let since = if phase == Phase::Failed { tries } else { 1 };
            let mut report = UnitReport::new(unit.id.clone(), phase, "", since);
            (report.desired, report.applied) = (Some(unit.digest()), Some(unit.digest()));
            report
        });
        let view = ClusterView::of(Some(1), Units::of(units));
        self.agents.0.lock().unwrap().insert(name(cluster), Arc::new(view));
    }

    fn round(&mut self) {
        self.worker.fetch_and_round();
    }

    /// Rounds in which agents do what they are told.
    pub(super) fn settle(&mut self) -> [String; 2] {
        for _ in 0..6 {
            self.round();
            CLUSTERS.iter().for_each(|cluster| self.run(cluster));
        }
        CLUSTERS.map(|cluster| self.app(cluster))
    }

    pub(super) fn commit(&self, version: Option<&str>) {
        self.hub.repo.commit_tree(tree(version));
    }

    fn ask(&self, verb: Verb) -> Result<String, AskError> {
        let actor = Actor { name: "ada".into(), roles: vec!["operator".into()], aliases: Vec::new() };
        let request = Request { actor, reason: "because".into(), until: None, verb };
        let audit = AuditRecord::new(1, "ada", "rollout", "apps");
        self.rollouts.ask("apps", request, &audit, unix_now())
    }
}

fn rollouts(hub: &FakeHub, agents: &Arc<FakeAgents>) -> Arc<Rollouts> {
    Arc::new(Rollouts::new(hub.records.clone(), agents.clone(), Arc::default(), unix_now()))
}

fn worker(worker: Worker, rollouts: &Arc<Rollouts>) -> Worker {
    let mut worker = worker.with_rollouts(rollouts.clone());
    let read = [("apps".to_owned(), Arc::new(pipeline()))].into();
    worker.definitions = Some(Definitions { read, unread: Vec::new() });
    worker
}

#[test]
fn a_version_goes_through_the_stages_and_a_broken_one_stops_at_the_first() {
    let mut case = Case::new(Some("v1"));
    case.round();
    assert_eq!(case.app("p"), "", "nothing begins before staging has proved it");
    assert_eq!(case.settle(), ["v1", "v1"]);
    case.commit(Some("v2"));
    case.round();
    assert_eq!([case.app("s"), case.app("p")], ["v2", "v1"]);
    case.round();
    assert_eq!(case.app("p"), "v1", "staging did not say yet that it is healthy");
    case.restart();
    case.round();
    assert_eq!([case.app("s"), case.app("p")], ["v2", "v1"], "what was decided stays so over a restart");
    assert_eq!(case.settle(), ["v2", "v2"]);
    case.commit(Some("broken3"));
    assert_eq!(case.settle(), ["broken3", "v2"]);
    case.restart();
    assert_eq!(case.settle(), ["broken3", "v2"]);
    let reasons = case.rollouts.reasons(&name("p"));
    assert!(reasons[0].text.contains("staging"), "{reasons:?}");
    case.commit(Some("v4"));
    assert_eq!(case.settle(), ["v4", "v4"]);
    assert!(case.rollouts.reasons(&name("p")).is_empty(), "{:?}", case.rollouts.reasons(&name("p")));
    // What the newest does not have any more goes stage by stage too.
    case.commit(None);
    case.round();
    assert_eq!([case.app("s"), case.app("p")], ["removed", "v4"]);
    case.settle();
    assert_eq!(case.app("p"), "removed");
}

#[test]
fn people_hold_take_back_and_release() {
    let mut case = Case::new(Some("v1"));
    case.settle();
    case.commit(Some("v2"));
    assert_eq!(case.settle(), ["v2", "v2"]);
    let production = Scope { stage: Some("production".into()), ..Scope::default() };
    let said = case.ask(Verb::Rollback(production.clone())).unwrap();
    assert!(said.contains("go back"), "{said}");
    assert_eq!(case.settle(), ["v2", "v1"]);
    case.commit(Some("v3"));
    assert_eq!(case.settle(), ["v3", "v1"], "a rollback stays");
    case.restart();
    assert_eq!(case.settle(), ["v3", "v1"]);
    case.ask(Verb::Release(production)).unwrap();
    assert_eq!(case.settle(), ["v3", "v3"]);
    let refused = case.ask(Verb::Abort { stage: "prod".into() }).unwrap_err().to_string();
    assert!(refused.contains("it has staging, production"), "{refused}");
    let log = case.hub.records.audit_log().unwrap();
    assert!(log.iter().any(|(_, line)| line.action == "rollout"), "{log:?}");
}

/// A stage that lost its clusters by a slip would pass at once, with nothing tried.
#[test]
fn a_cluster_whose_definition_cannot_be_read_is_in_its_stage_all_the_same() {
    let tree = |version: &str, staging: Option<&str>| {
        let mut tree = tree(Some(version));
        tree.extend(staging.map(|text| ("clusters/s.yaml".to_owned(), text.to_owned())));
        tree
    };
    let head = "apiVersion: flotilla.dev/v1alpha1\nkind: Cluster\nmetadata: {name: s}\n";
    for slip in
        ["spec: {labels: {stage: staging}, pth: x}\n", "spec: {labels: {stage: staging}\n", "spec: [\n"]
    {
        let mut case = Case::new(Some("v1"));
        assert_eq!(case.settle(), ["v1", "v1"]);
        let broken = format!("{head}{slip}");
        case.hub.repo.commit_tree(tree("v2", Some(&broken)));
        assert_eq!(case.settle(), ["v1", "v1"], "{slip}");
        case.restart();
        case.settle();
        assert_eq!(case.app("p"), "v1", "{slip}");
        case.hub.repo.commit_tree(tree("v3", None));
        case.settle();
        // What could not be rendered when it was the newest is waited for until somebody ends that.
        case.ask(Verb::Abort { stage: "staging".into() }).unwrap();
        assert_eq!(case.settle(), ["v3", "v3"], "{slip}");
    }
}

/// A pipeline that cannot be read, or is gone, lets nothing go on; one that comes back goes on where it was.
#[test]
fn what_cannot_be_read_freezes_what_it_promotes() {
    let unread = |name: Option<&str>| Unread {
        name: name.map(str::to_owned),
        units: None,
        clusters: None,
        why: "line 3".into(),
    };
    for definitions in [
        Definitions::default(),
        Definitions { unread: vec![unread(Some("apps"))], ..Definitions::default() },
        Definitions { unread: vec![unread(None)], ..Definitions::default() },
    ] {
        let mut case = Case::new(Some("v1"));
        case.settle();
        let whole = case.worker.definitions.replace(definitions.clone());
        case.commit(Some("v2"));
        assert_eq!(case.settle(), ["v1", "v1"], "{definitions:?}");
        let waiting = case.rollouts.waiting();
        for cluster in CLUSTERS {
            let why: Vec<&str> = waiting[&name(cluster)].iter().map(|one| &*one.reason.text).collect();
            assert!(why.len() == 1 && why[0].starts_with("pipeline apps is frozen: "), "{why:?}");
            assert_eq!(case.rollouts.reasons(&name(cluster))[0].text, why[0]);
        }
        let worker = case.hub.restart();
        case.rollouts = rollouts(&case.hub, &case.agents);
        case.worker = self::worker(worker, &case.rollouts);
        case.worker.definitions = Some(definitions.clone());
        assert_eq!(case.settle(), ["v1", "v1"], "{definitions:?}");
        let refused = case.ask(Verb::Pause { stage: None }).unwrap_err();
        assert!(matches!(refused, AskError::Frozen(..)), "{refused}");
        let audit = AuditRecord::new(1, "ada", "rollout.forget", "apps");
        let forgotten = case.rollouts.forget("apps", &audit);
        if definitions.unread.is_empty() {
            forgotten.unwrap();
            assert_eq!(case.settle(), ["v2", "v2"], "nobody promotes it any more");
        } else {
            assert!(matches!(forgotten, Err(AskError::Defined(_))));
            case.worker.definitions = whole;
            assert_eq!(case.settle(), ["v2", "v2"]);
        }
    }
}

/// What could not be written when a pipeline came is done before anything is published.
#[test]
fn a_store_that_fails_when_a_pipeline_comes_lets_nobody_have_the_newest() {
    for seed in 0..24 {
        let mut case = Case::new(Some("v1"));
        case.hub.store.fail(seed, 30);
        case.round();
        assert_eq!(case.app("p"), "", "seed {seed}");
        case.hub.store.fail(1, 0);
        case.round();
        assert_eq!(case.app("p"), "", "seed {seed}");
        assert_eq!(case.settle(), ["v1", "v1"], "seed {seed}");
    }
}

/// The pipeline as people write it, of whole clusters with their roots.
#[test]
fn a_pipeline_of_the_fleet_repo_is_acted_on() {
    let written = |kind: &str, version: &str| {
        let mut tree = tree(Some(version));
        let stages = ["staging", "production"].map(|stage| {
            format!("  - name: {stage}\n    clusters:\n      matchLabels: {{stage: {stage}}}\n")
        });
        let text = format!(
            "apiVersion: flotilla.dev/v1alpha1\nkind: {kind}\nmetadata:\n  name: fleet\nspec:\n  stages:\n{}",
            stages.concat()
        );
        tree.insert("clusters/pipeline.yaml".to_owned(), text);
        tree
    };
    let mut case = Case::new(None);
    case.worker.definitions = None;
    case.hub.repo.commit_tree(written("Pipeline", "v1"));
    case.round();
    assert_eq!(case.app("p"), "", "not before staging");
    assert_eq!(case.settle(), ["v1", "v1"]);
    case.hub.repo.commit_tree(written("Pipeline", "broken2"));
    assert_eq!(case.settle(), ["broken2", "v1"]);
    case.hub.repo.commit_tree(written("Pipelin", "v3"));
    assert_eq!(case.settle(), ["broken2", "v1"], "what may be a pipeline freezes all");
    case.hub.repo.commit_tree(written("Pipeline", "v3"));
    assert_eq!(case.settle(), ["v3", "v3"]);
}

#[derive(Debug, Clone)]
enum Step {
    Commit(Option<bool>),
    Store(u64, u32),
    Files(&'static str),
    Heal,
    Restart,
    /// The agent of a cluster does what it was told.
    Run(usize),
    Retry,
    Round,
}

fn step() -> impl Strategy<Value = Step> {
    const PATHS: &[&str] = &["", "clusters", "fleets", "apps"];
    prop_oneof![
        3 => prop::option::weighted(0.8, prop::bool::weighted(0.3)).prop_map(Step::Commit),
        2 => (any::<u64>(), 0u32..30).prop_map(|(seed, percent)| Step::Store(seed, percent)),
        1 => prop::sample::select(PATHS).prop_map(Step::Files),
        2 => Just(Step::Heal),
        1 => Just(Step::Restart),
        5 => (0..2usize).prop_map(Step::Run),
        1 => Just(Step::Retry),
        6 => Just(Step::Round),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 1000, ..ProptestConfig::default() })]

    #[test]
    fn whatever_fails_no_stage_gets_what_did_not_pass(steps in prop::collection::vec(step(), 1..50)) {
        let mut case = Case::new(Some("v0"));
        // What staging said that it is healthy on; "gone" is to have no app.
        let mut passed = BTreeSet::new();
        let mut seen: Option<Generation> = None;
        let gone = |app: &str| if ["", "removed"].contains(&app) { "gone".to_owned() } else { app.to_owned() };
        for (at, step) in steps.into_iter().enumerate() {
            match step {
                Step::Commit(Some(broken)) => {
                    case.commit(Some(&format!("{}{at}", if broken { "broken" } else { "v" })));
                }
                Step::Commit(None) => case.commit(None),
                Step::Store(seed, percent) => case.hub.store.fail(seed, percent),
                Step::Files(path) => case.hub.repo.files.set(path, Fault::Fails),
                Step::Heal => {
                    case.hub.store.fail(1, 0);
                    case.hub.repo.files.heal();
                }
                Step::Restart => case.restart(),
                Step::Run(at) => case.run(CLUSTERS[at]),
                Step::Retry => drop(case.ask(Verb::Retry { stage: "staging".into() })),
                Step::Round => case.round(),
            }
            // What runs in staging now, and is not broken, may go on from the next step on.
            let staging = case.app("s");
            let production = case.app("p");
            let published = case.hub.board.current(&name("p"));
            let generation = published.map(|published| published.state.generation);
            let is_new = generation.is_some() && seen != generation;
            seen = generation.or(seen);
            if is_new && production != "held" && !production.is_empty() {
                prop_assert!(
                    passed.contains(&gone(&production)),
                    "production has {production}, and only {passed:?} were in staging"
                );
            }
            prop_assert!(!production.starts_with("broken"), "{production}");
            if !staging.starts_with("broken") && staging != "held" && case.hub.board.current(&name("s")).is_some() {
                passed.insert(gone(&staging));
            }
        }
        case.hub.store.fail(1, 0);
        case.hub.repo.files.heal();
        case.commit(Some("last"));
        case.settle();
        let _ = case.ask(Verb::Retry { stage: "staging".into() });
        if case.settle() != ["last", "last"] {
            // A commit that could not be rendered when it was the newest is waited for until somebody ends that.
            for stage in ["staging", "production"] {
                let _ = case.ask(Verb::Abort { stage: stage.into() });
            }
        }
        let reasons = case.rollouts.reasons(&name("s"));
        prop_assert_eq!(case.settle(), ["last", "last"], "{:?}", reasons);
    }
}

/// A cluster of production that came later, or has folders of its own.
fn production(cluster: &str, path: &str) -> (String, String) {
    let text = format!(
        "apiVersion: flotilla.dev/v1alpha1\nkind: Cluster\nmetadata: {{name: {cluster}}}\nspec: {{path: {path}, labels: \
         {{stage: production}}}}\n"
    );
    (format!("clusters/{cluster}.yaml"), text)
}

#[test]
fn a_stage_of_which_no_cluster_has_joined_lets_nothing_pass() {
    let mut case = Case::joined(Some("v1"), &["p"]);
    for _ in 0..4 {
        case.round();
        case.run("p");
    }
    assert_eq!(case.app("p"), "", "nobody has tested it");
    let reasons = case.rollouts.reasons(&name("p"));
    assert!(reasons[0].text.contains("none of its clusters has joined (s)"), "{reasons:?}");
    case.hub.enrol("s");
    assert_eq!(case.settle(), ["v1", "v1"]);
}

#[test]
fn a_cluster_that_joins_gets_what_passed_its_stage_though_it_was_not_there_then() {
    let mut case = Case::new(Some("v1"));
    assert_eq!(case.settle(), ["v1", "v1"]);
    case.commit(Some("broken2"));
    assert_eq!(case.settle(), ["broken2", "v1"]);
    case.hub.enrol("n");
    let mut later = tree(Some("broken2"));
    later.extend([production("n", "fleets/all")]);
    case.hub.repo.commit_tree(later.clone());
    let unknown = ClusterView::of(Some(1), Units::default());
    case.agents.0.lock().unwrap().insert(name("n"), Arc::new(unknown));
    case.settle();
    assert_eq!(case.app("n"), "v1");
    case.run("n");
    case.restart();
    case.settle();
    assert_eq!(case.app("n"), "v1", "it is read again from there");
    // What did not exist then is waited for, with the reason.
    case.hub.enrol("m");
    later.extend([production("m", "fleets/m")]);
    later.insert("fleets/m/app.yaml".into(), unit("app", "apps/app"));
    case.hub.repo.commit_tree(later);
    let unknown = ClusterView::of(Some(1), Units::default());
    case.agents.0.lock().unwrap().insert(name("m"), Arc::new(unknown));
    case.settle();
    assert_eq!(case.app("m"), "");
    let reasons = case.rollouts.reasons(&name("m"));
    assert!(
        reasons[0].text.contains("cannot be rendered for it") && reasons[0].text.contains("no such folder"),
        "{reasons:?}"
    );
}
