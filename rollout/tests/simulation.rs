//! The engine in a hub without sockets: clusters that fail, go away and come back, commits, people, restarts. After every step the
//! promises hold, and in the end all is promoted. What disturbs a run is counted, so that of a seed that fails as much is left out as can
//! be, and what is left is printed as a scenario. More seeds, or one that failed:
//!
//! ```sh
//! cargo xtask simulate 1..100001
//! SEEDS=7..8 cargo test -p flotilla-rollout --test simulation
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use flotilla_core::selector::Selector;
use flotilla_core::{ClusterName, Digest, UnitId};
use flotilla_rollout::request::{Actor, Request, Scope, Verb};
use flotilla_rollout::spec::{
    Amount, Gates, Offline, OnChange, OnFailure, Order, Stage, Strategy, UnitSelection, WhenOffline,
};
use flotilla_rollout::state::StandingKind;
use flotilla_rollout::world::Author;
use flotilla_rollout::{
    CandidateId, Choice, Cluster, Commit, Health, Key, Link, Pipeline, Projection, Published, Record, Report,
    State, Step, World, step,
};

/// Numbers that are the same for a seed everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, most: u64) -> u64 {
        (self.next() >> 11) % most.max(1)
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

const STAGES: [&str; 3] = ["staging", "canary", "production"];
const CLUSTERS: usize = 9;
const UNITS: usize = 3;

/// A cluster as it is, whatever the hub knows of it.
struct Machine {
    name: ClusterName,
    labels: Arc<BTreeMap<String, String>>,
    link: Link,
    published: Option<Published>,
    /// What it was told last, and what it runs.
    told: Option<Digest>,
    runs: Option<Digest>,
    health: Health,
    since: i64,
    /// When it is done with what it runs.
    settles: i64,
}

/// One commit: the versions of the units, and what clusters have of their own in their first unit.
#[derive(Clone)]
struct Version {
    units: [u64; UNITS],
    own: [u64; CLUSTERS],
    /// It fails wherever it runs.
    broken: bool,
}

struct Simulation {
    random: Random,
    pipeline: Pipeline,
    state: State,
    machines: Vec<Machine>,
    versions: Vec<Version>,
    now: i64,
    /// The commits of what passed each stage.
    done: Vec<BTreeSet<usize>>,
    requests: Vec<Request>,
    holds: BTreeSet<ClusterName>,
    log: Vec<String>,
    /// Nothing fails any more.
    calm: bool,
    /// How many disturbances there were, and which of them are left out.
    disturbed: usize,
    without: BTreeSet<usize>,
}

fn unit(n: usize) -> UnitId {
    UnitId::kustomization("flux-system", format!("u{n}"))
}

fn selector(stage: &str) -> Selector {
    let text = format!("matchLabels: {{stage: {stage}}}\n");
    Selector::read(&flotilla_yaml::parse(&text).unwrap()[0]).unwrap()
}

fn stage(name: &str, random: &mut Random) -> Stage {
    let strategy = Strategy {
        max_concurrent: [Amount::Count(1), Amount::Count(2), Amount::Percent(50)][random.below(3) as usize],
        max_failed: Amount::Count(random.below(2) as u32),
        progress_deadline: Some(600),
        on_failure: if random.one_in(2) { OnFailure::Pause } else { OnFailure::Rollback },
        offline: Offline {
            after: 300,
            then: [WhenOffline::Wait, WhenOffline::Skip, WhenOffline::Fail][random.below(3) as usize],
        },
        order: if random.one_in(2) { Order::Name } else { Order::Spread },
        supersede: random.one_in(4),
        ..Strategy::default()
    };
    let healthy = random.one_in(2).then(|| 60 + random.below(200) as i64);
    let after = Gates { healthy_for: healthy, ..Gates::default() };
    let (before, windows) = (Gates::default(), Vec::new());
    Stage { name: name.into(), clusters: selector(name), strategy, before, after, windows }
}

impl Simulation {
    fn new(seed: u64, without: &BTreeSet<usize>) -> Self {
        let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        let stages = STAGES.map(|name| stage(name, &mut random));
        let on_change = [OnChange::Freeze, OnChange::Restart, OnChange::Unstarted][random.below(3) as usize];
        let units = UnitSelection { include: vec!["*/*/*".parse().unwrap()], except: Vec::new() };
        let pipeline =
            Pipeline { name: "apps".into(), units, stages: stages.into(), windows: Vec::new(), on_change };
        // The clusters of a stage, or single ones, join later.
        let late_stage = random.below(6) as usize;
        let joins_late: Vec<bool> = (0..CLUSTERS).map(|n| n % 3 == late_stage || random.one_in(6)).collect();
        let machines = (0..CLUSTERS).map(|n| Machine {
            name: format!("c{n}").parse().unwrap(),
            labels: Arc::new([("stage".to_owned(), STAGES[n % 3].to_owned())].into()),
            link: if joins_late[n] { Link::NeverEnrolled } else { Link::Online { since: 0 } },
            published: None,
            told: None,
            runs: None,
            health: Health::Progressing,
            since: 0,
            settles: 0,
        });
        Self {
            random,
            pipeline,
            state: State::default(),
            machines: machines.collect(),
            versions: vec![Version { units: [1; UNITS], own: [0; CLUSTERS], broken: false }],
            now: 1_000_000,
            done: vec![BTreeSet::new(); STAGES.len()],
            requests: Vec::new(),
            holds: BTreeSet::new(),
            log: Vec::new(),
            calm: false,
            disturbed: 0,
            without: without.clone(),
        }
    }

    /// Whether there is a disturbance now, with numbers of its own: leaving one out changes none of the others.
    fn disturbance(&mut self, one_in: u64) -> Option<Random> {
        if !self.random.one_in(one_in) {
            return None;
        }
        let own = Random(self.random.next() | 1);
        self.disturbed += 1;
        (!self.without.contains(&self.disturbed)).then_some(own)
    }

    fn newest(&self) -> usize {
        self.versions.len() - 1
    }

    fn projection(&self, version: usize, cluster: usize) -> Projection {
        let commit = &self.versions[version];
        let units = (0..UNITS).map(|n| {
            let own = if n == 0 { commit.own[cluster] } else { 0 };
            (unit(n), Digest::of(format!("u{n} {} {own}", commit.units[n]).as_bytes()))
        });
        Projection::new(Digest::of(format!("commit {version}").as_bytes()), units)
    }

    fn version_of(&self, snapshot: Digest) -> usize {
        let is_it = |version: &usize| Digest::of(format!("commit {version}").as_bytes()) == snapshot;
        (0..self.versions.len()).find(is_it).expect("a pick names a snapshot that there was")
    }

    fn commit(&mut self, mut random: Random) {
        let mut next = self.versions[self.newest()].clone();
        let version = self.versions.len() as u64 + 1;
        if random.one_in(4) {
            next.own[random.below(CLUSTERS as u64) as usize] = version;
        } else {
            next.units[random.below(UNITS as u64) as usize] = version;
        }
        next.broken = random.one_in(4);
        self.log.push(format!("{}: commit {}, broken: {}", self.now, self.versions.len(), next.broken));
        self.versions.push(next);
    }

    fn world(&self, wanted: &[(ClusterName, CandidateId)]) -> World {
        let newest = self.newest();
        let commit = Commit {
            id: newest.to_string(),
            author: Author { name: "ada".into(), email: "ada@example.org".into() },
            subject: format!("commit {newest}"),
            time: self.now,
        };
        let clusters = self.machines.iter().enumerate().map(|(at, machine)| {
            let of_it = wanted.iter().filter(|(name, _)| *name == machine.name);
            let older = of_it.filter_map(|(_, id)| {
                let version = self.state.candidate(*id)?.commit.id.parse().ok()?;
                Some((*id, Arc::new(self.projection(version, at))))
            });
            let (health, since) = (&machine.health, machine.since);
            Cluster {
                name: machine.name.clone(),
                labels: Some(machine.labels.clone()),
                link: machine.link,
                newest: Some(Arc::new(self.projection(newest, at))),
                older: older.collect(),
                published: machine.published,
                report: machine.runs.map(|digest| Report { digest, health: health.clone(), since }),
            }
        });
        World { newest: Some(commit), clusters: clusters.collect(), measured: Vec::new() }
    }

    fn ask(&mut self, verb: Verb) {
        self.log.push(format!("{}: {verb:?}", self.now));
        let actor = Actor { name: "ada".into(), roles: vec!["operate".into()], aliases: Vec::new() };
        self.requests.push(Request { actor, reason: "because".into(), until: None, verb });
    }

    /// What people do.
    fn people(&mut self, mut random: Random) {
        let stage = STAGES[random.below(3) as usize].to_owned();
        let cluster = self.machines[random.below(CLUSTERS as u64) as usize].name.clone();
        let of_cluster = Scope { cluster: Some(cluster.clone()), ..Scope::default() };
        let verb = match random.below(9) {
            0 => {
                self.holds.insert(cluster);
                Verb::Hold(of_cluster)
            }
            1 => {
                self.holds.remove(&cluster);
                Verb::Release(of_cluster)
            }
            2 => Verb::Pause { stage: Some(stage) },
            3 | 4 => Verb::Resume { stage: Some(stage) },
            5 | 6 => Verb::Retry { stage },
            7 => Verb::Abort { stage },
            _ => Verb::Promote { unit: unit(0), stage, candidate: None },
        };
        self.ask(verb);
    }

    /// What happens in the world until the next step.
    fn live(&mut self) {
        self.now += 1 + self.random.below(90) as i64;
        if !self.calm {
            if let Some(random) = self.disturbance(12) {
                self.commit(random);
            }
            if let Some(random) = self.disturbance(10) {
                self.people(random);
            }
            if self.disturbance(15).is_some() {
                self.log.push(format!("{}: the hub is killed and starts again", self.now));
                self.restart();
            }
        }
        for at in 0..CLUSTERS {
            let broken: BTreeSet<Digest> = (0..self.versions.len())
                .filter(|version| self.versions[*version].broken)
                .map(|version| self.projection(version, at).digest())
                .collect();
            let [flips, fails, flaps, joins] =
                [25, 20, 60, 40].map(|n| self.disturbance(n).is_some() && !self.calm);
            let (now, calm) = (self.now, self.calm);
            let (machine, log) = (&mut self.machines[at], &mut self.log);
            let mut say = |what: &str, name: &ClusterName| log.push(format!("{now}: {name} {what}"));
            match machine.link {
                Link::Online { .. } if flips => {
                    say("goes away", &machine.name);
                    machine.link = Link::Offline { since: now };
                }
                Link::NeverEnrolled if calm || joins => {
                    say("joins", &machine.name);
                    machine.link = Link::Online { since: now };
                }
                Link::Offline { .. } if calm || now % 7 == 0 => machine.link = Link::Online { since: now },
                _ => {}
            }
            if !matches!(machine.link, Link::Online { .. }) {
                continue;
            }
            if machine.told.is_some() && machine.runs != machine.told {
                (machine.runs, machine.health, machine.since) = (machine.told, Health::Progressing, now);
                machine.settles = now + 20;
            }
            let Some(runs) = machine.runs else { continue };
            let health = match &machine.health {
                Health::Progressing if now >= machine.settles && (broken.contains(&runs) || fails) => {
                    Health::Failed { units: vec![(unit(0), runs)] }
                }
                Health::Progressing if now >= machine.settles => Health::Healthy,
                // One that failed by chance comes round.
                Health::Failed { .. } if !broken.contains(&runs) && (calm || now % 5 == 0) => Health::Healthy,
                Health::Healthy if flaps => {
                    machine.settles = now + 30;
                    Health::Progressing
                }
                other => other.clone(),
            };
            if health != machine.health {
                say(&format!("is {health:?}"), &machine.name);
                (machine.health, machine.since) = (health, now);
            }
        }
    }

    /// The hub ends, and begins again with what was written.
    fn restart(&mut self) {
        let records = self.state.keys().into_iter().filter_map(|key| self.state.record(&key));
        let texts: Vec<String> = records.map(|record| serde_json::to_string(&record).unwrap()).collect();
        assert!(texts.iter().all(|text| text.len() < 1 << 20));
        let records = texts.iter().map(|text| serde_json::from_str::<Record>(text).unwrap());
        self.state = State::from_records(records).unwrap();
    }

    fn go(&mut self) -> Step {
        self.live();
        let requests = std::mem::take(&mut self.requests);
        let world = self.world(&[]);
        let mut again = self.state.clone();
        let mut made = step(&self.pipeline, &mut self.state, &world, &requests, self.now);
        let other = step(&self.pipeline, &mut again, &world, &requests, self.now);
        assert_eq!(made.decisions, other.decisions, "the same inputs give the same step");
        assert_eq!(self.state, again, "and the same state");
        self.check(&made);
        if !made.wanted.is_empty() {
            let world = self.world(&made.wanted);
            made = step(&self.pipeline, &mut self.state, &world, &[], self.now);
            self.check(&made);
        }
        self.publish(&made);
        made
    }

    /// What has to hold after each step.
    fn check(&mut self, made: &Step) {
        for (index, status) in made.stages.iter().enumerate() {
            let passed = status.passed.and_then(|id| self.state.candidate(id));
            if let Some(candidate) = passed
                && self.done[index].insert(candidate.commit.id.parse().unwrap())
            {
                let mut members = self.machines.iter().skip(index).step_by(STAGES.len());
                let has_joined = members.any(|machine| machine.link != Link::NeverEnrolled);
                assert!(has_joined, "{} passed, of which no cluster has joined", status.name);
            }
            assert!(!status.text.is_empty(), "stage {} says nothing", status.name);
        }
        for event in &made.events {
            self.log.push(format!("{}: {:?} {}", self.now, event.kind, event.text));
        }
        for (at, decision) in made.decisions.iter().enumerate() {
            let machine = &self.machines[at];
            let is_newest = machine.told == Some(self.projection(self.newest(), at).digest());
            if !is_newest && matches!(decision.choice, Choice::AsIs | Choice::Hold) {
                assert!(decision.reason.is_some(), "{} waits without a reason: {decision:?}", machine.name);
            }
            let Choice::Run(assignment) = &decision.choice else { continue };
            if machine.published.is_some_and(|published| published.revision == assignment.revision) {
                let is_newest = machine.published.map(|published| published.digest)
                    == Some(self.projection(self.newest(), at).digest());
                assert!(is_newest || decision.reason.is_some(), "{} waits without a reason", machine.name);
                continue;
            }
            let stage = decision.stage.expect("a cluster of a stage");
            let candidate = assignment.base.candidate;
            if stage > 0 {
                // By what it comes to: a candidate may be for a cluster what the one before was.
                let digest = self.projection(self.version_of(assignment.base.snapshot), at).digest();
                let mut passed = self.done[stage - 1].iter().chain(&self.done[stage]);
                assert!(
                    passed.any(|version| self.projection(*version, at).digest() == digest),
                    "{} in {} is given {candidate}, which did not pass {}",
                    machine.name,
                    STAGES[stage],
                    STAGES[stage - 1]
                );
            }
            let is_held = self.holds.contains(&machine.name) && machine.published.is_some();
            assert!(!is_held, "{} is held, and is given something: {decision:?}", machine.name);
            let status = &made.stages[stage];
            let most = self.pipeline.stages[stage].strategy.max_concurrent.at_least_one_of(CLUSTERS / 3);
            let is_of_run = status.candidate == Some(candidate) && assignment.units.is_empty();
            assert!(
                !is_of_run || status.counts.in_flight <= most,
                "{} of at most {most}: {status:?}",
                STAGES[stage]
            );
        }
    }

    /// What the hub makes of it.
    fn publish(&mut self, made: &Step) {
        for at in 0..CLUSTERS {
            let assignment = match &made.decisions[at].choice {
                Choice::Newest => {
                    self.machines[at].told = Some(self.projection(self.newest(), at).digest());
                    continue;
                }
                Choice::AsIs | Choice::Hold => continue,
                Choice::Run(assignment) => assignment.clone(),
            };
            let revision = assignment.revision;
            if self.machines[at].published.is_some_and(|published| published.revision == revision) {
                continue;
            }
            let snapshot = assignment.base.snapshot;
            let base = self.version_of(snapshot);
            let mut units: Vec<(UnitId, Digest)> = self.projection(base, at).units().to_vec();
            for (id, pick) in &assignment.units {
                let of = self.projection(self.version_of(pick.snapshot), at);
                let own = of.units().iter().find(|(unit, _)| unit == id).expect("it has that unit").1;
                units.iter_mut().filter(|(unit, _)| unit == id).for_each(|(_, digest)| *digest = own);
            }
            let digest = Projection::new(snapshot, units).digest();
            let machine = &mut self.machines[at];
            self.log.push(format!(
                "{}: {} gets commit {base} ({})",
                self.now, machine.name, assignment.base.candidate
            ));
            machine.published = Some(Published { revision, digest });
            machine.told = Some(digest);
        }
    }

    /// Nothing fails any more, nobody holds anything, and a last commit is right: it ends up everywhere.
    fn settle(&mut self) -> Result<(), String> {
        self.calm = true;
        self.versions.push(Version { units: [1_000_000; UNITS], own: [0; CLUSTERS], broken: false });
        self.log.push(format!("{}: calm, commit {}", self.now, self.newest()));
        self.holds.clear();
        let mut last = None;
        for turn in 0..600 {
            if turn % 50 == 0 {
                for standing in self.state.standing() {
                    if let StandingKind::Hold { scope, .. } = standing.what {
                        self.ask(Verb::Release(scope));
                    }
                }
                for stage in STAGES {
                    self.ask(Verb::Resume { stage: Some(stage.into()) });
                    self.ask(Verb::Retry { stage: stage.into() });
                }
            }
            let made = self.go();
            let newest = self.newest();
            if (0..CLUSTERS).all(|at| self.machines[at].runs == Some(self.projection(newest, at).digest())) {
                return Ok(());
            }
            last = Some(made);
        }
        let last = last.expect("it went on");
        let reasons =
            last.decisions.iter().map(|decision| format!("{:?} {:?}", decision.choice, decision.reason));
        let records = self.machines.iter().filter_map(|machine| {
            let record = self.state.record(&Key::Cluster(machine.name.clone()))?;
            let machine = (&machine.name, machine.runs, machine.told, &machine.health);
            Some(format!("{machine:?} {}", serde_json::to_string(&record).unwrap()))
        });
        let lines: Vec<String> = reasons.chain(records).collect();
        Err(format!("it does not end: {:#?}\n{}", last.stages, lines.join("\n")))
    }
}

/// What went wrong, with what happened until then and how many disturbances there were.
struct Failure {
    what: String,
    log: Vec<String>,
    disturbed: usize,
}

fn run(seed: u64, without: &BTreeSet<usize>) -> Result<(), Failure> {
    let mut simulation = Simulation::new(seed, without);
    let result = catch_unwind(AssertUnwindSafe(|| {
        (0..120).for_each(|_| drop(simulation.go()));
        simulation.settle()
    }));
    let what = match result {
        Ok(Ok(())) => return Ok(()),
        Ok(Err(error)) => error,
        Err(panic) => panic.downcast_ref::<String>().cloned().unwrap_or_else(|| "it panicked".into()),
    };
    Err(Failure { what, log: simulation.log, disturbed: simulation.disturbed })
}

/// The disturbances of `all` without which it fails still: halves, quarters, and so on, and in the end single ones are left out.
fn needless(all: usize, fails: impl Fn(&BTreeSet<usize>) -> bool) -> BTreeSet<usize> {
    let mut without = BTreeSet::new();
    let mut size = all.div_ceil(2);
    while size > 0 {
        let mut is_smaller = false;
        for from in (1..=all).step_by(size) {
            let part = (from..from + size).filter(|n| *n <= all && !without.contains(n));
            let more: BTreeSet<usize> = without.iter().copied().chain(part).collect();
            if more.len() > without.len() && fails(&more) {
                without = more;
                is_smaller = true;
            }
        }
        // Single ones again and again: without one, another may be needless.
        if size > 1 || !is_smaller {
            size = if size == 1 { 0 } else { size.div_ceil(2) };
        }
    }
    without
}

/// The scenario of a seed that fails, with as little in it as can be.
fn scenario(seed: u64, failure: Failure) -> String {
    let without = needless(failure.disturbed, |without| run(seed, without).is_err());
    let small = run(seed, &without).err().unwrap_or(failure);
    let needs = small.disturbed - without.range(..=small.disturbed).count();
    format!(
        "seed {seed}: {}\nIt takes {needs} of {} disturbances:\n{}",
        small.what,
        small.disturbed,
        small.log.join("\n")
    )
}

#[test]
fn promises_hold_whatever_happens() {
    let seeds = std::env::var("SEEDS").unwrap_or_else(|_| "1..41".to_owned());
    let (from, to) = seeds.split_once("..").expect("SEEDS is FROM..TO");
    let (next, to) = (AtomicU64::new(from.parse().unwrap()), to.parse::<u64>().unwrap());
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= to {
                return None;
            }
            if let Err(failure) = run(seed, &BTreeSet::new()) {
                next.store(to, Ordering::Relaxed);
                return Some(scenario(seed, failure));
            }
        }
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let failed: Vec<String> = std::thread::scope(|scope| {
        let all: Vec<_> = (0..cores).map(|_| scope.spawn(work)).collect();
        all.into_iter().filter_map(|one| one.join().expect("a simulation ends")).collect()
    });
    assert!(failed.is_empty(), "{}", failed.join("\n\n"));
}

#[test]
fn a_failure_is_made_as_small_as_it_can_be() {
    for needed in [vec![], vec![7], vec![1, 100], vec![3, 4, 50]] {
        let fails = |without: &BTreeSet<usize>| needed.iter().all(|one| !without.contains(one));
        let left: Vec<usize> = (1..=100).filter(|one| !needless(100, fails).contains(one)).collect();
        assert_eq!(left, needed);
    }
    // One of these two, whichever.
    let fails = |without: &BTreeSet<usize>| !(without.contains(&2) && without.contains(&9));
    assert_eq!(needless(10, fails).len(), 9);
}
