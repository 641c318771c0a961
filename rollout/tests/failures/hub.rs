//! A hub with clusters that do what they are told, until a test says otherwise.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use flotilla_core::selector::Selector;
use flotilla_core::{ClusterName, Digest, UnitId};
use flotilla_rollout::outcome::StagePhase;
use flotilla_rollout::spec::{Gates, OnChange, Stage, Strategy, UnitSelection, Window};
use flotilla_rollout::world::Author;
use flotilla_rollout::{
    Actor, CandidateId, Choice, Cluster, Commit, Health, Link, Pipeline, Projection, Published, Report,
    Request, Scope, StageStatus, State, Step, Verb, World, step,
};

/// The seconds between two steps.
pub(crate) const TICK: i64 = 10;

pub(crate) struct Machine {
    name: ClusterName,
    labels: Arc<BTreeMap<String, String>>,
    pub(crate) link: Link,
    published: Option<Published>,
    told: Option<Digest>,
    runs: Option<Digest>,
    health: Health,
    since: i64,
    /// Its agent does not report what it was told last.
    pub(crate) slow: bool,
    never: bool,
}

/// The version of each unit, and what a cluster has of its own.
#[derive(Clone, Default)]
struct Version {
    units: BTreeMap<&'static str, u32>,
    own: BTreeMap<String, u32>,
    broken: bool,
}

pub(crate) struct Hub {
    pub(crate) pipeline: Pipeline,
    state: State,
    pub(crate) machines: Vec<Machine>,
    versions: Vec<Version>,
    /// Clusters with versions that cannot be rendered for them while they are the newest.
    pub(crate) unrendered: BTreeSet<(&'static str, usize)>,
    /// Clusters whose definitions cannot be read.
    pub(crate) unread: BTreeSet<&'static str>,
    pub(crate) now: i64,
    pub(crate) last: Step,
    pub(crate) events: Vec<String>,
}

/// A stage of the clusters that have its name as a label.
pub(crate) fn stage(name: &str) -> Stage {
    let text = format!("matchLabels: {{stage: {name}}}\n");
    Stage {
        name: name.to_owned(),
        clusters: Selector::read(&flotilla_yaml::parse(&text).unwrap()[0]).unwrap(),
        strategy: Strategy::default(),
        before: Gates::default(),
        after: Gates::default(),
        windows: Vec::new(),
    }
}

pub(crate) fn unit(name: &str) -> UnitId {
    UnitId::kustomization("flux-system", name)
}

pub(crate) fn of_stage(stage: &str) -> Scope {
    Scope { stage: Some(stage.to_owned()), ..Scope::default() }
}

impl Hub {
    /// Clusters run the first commit, and every stage has passed it. `clusters` are names with the stages that they are in.
    pub(crate) fn new(stages: Vec<Stage>, clusters: &[(&str, &str)]) -> Self {
        let units = UnitSelection { include: vec!["*/*/*".parse().unwrap()], except: Vec::new() };
        let pipeline = Pipeline {
            name: "apps".into(),
            units,
            stages,
            windows: Vec::<Window>::new(),
            on_change: OnChange::Freeze,
        };
        let first = Version { units: [("apps", 1), ("other", 1)].into(), ..Version::default() };
        let mut state = State::default();
        let last = step(&pipeline, &mut state, &World::default(), &[], 0);
        let mut hub = Self {
            pipeline,
            state: State::default(),
            machines: Vec::new(),
            versions: vec![first],
            unrendered: BTreeSet::new(),
            unread: BTreeSet::new(),
            now: 1_000_000,
            last,
            events: Vec::new(),
        };
        clusters.iter().for_each(|(name, stage)| hub.add(name, stage));
        hub.settle();
        for status in hub.last.stages.iter().filter(|status| status.counts.all > 0) {
            assert_eq!(status.phase, StagePhase::Passed, "{status:?}");
        }
        hub
    }

    pub(crate) fn add(&mut self, name: &str, stage: &str) {
        self.machines.push(Machine {
            name: name.parse().unwrap(),
            labels: Arc::new([("stage".to_owned(), stage.to_owned())].into()),
            link: Link::Online { since: 0 },
            published: None,
            told: None,
            runs: None,
            health: Health::Progressing,
            since: self.now,
            slow: false,
            never: false,
        });
        self.machines.sort_by(|a, b| a.name.cmp(&b.name));
    }

    pub(crate) fn remove(&mut self, name: &str) {
        self.machines.retain(|machine| machine.name.as_str() != name);
    }

    pub(crate) fn machine(&mut self, name: &str) -> &mut Machine {
        self.machines.iter_mut().find(|machine| machine.name.as_str() == name).unwrap()
    }

    /// A commit that changes a unit everywhere. `broken`: it fails wherever it runs.
    pub(crate) fn commit(&mut self, unit: &'static str, broken: bool) {
        let mut next = self.versions.last().unwrap().clone();
        next.units.insert(unit, u32::try_from(self.versions.len()).unwrap() + 1);
        next.broken = broken;
        self.versions.push(next);
    }

    /// A commit that drops units everywhere.
    pub(crate) fn commit_without(&mut self, units: &[&str]) {
        let mut next = self.versions.last().unwrap().clone();
        next.units.retain(|unit, _| !units.contains(unit));
        next.broken = false;
        self.versions.push(next);
    }

    /// A commit that changes what one cluster has of its own.
    pub(crate) fn commit_for(&mut self, cluster: &str) {
        let mut next = self.versions.last().unwrap().clone();
        *next.own.entry(cluster.to_owned()).or_default() += 1;
        next.broken = false;
        self.versions.push(next);
    }

    fn projection(&self, version: usize, cluster: &str) -> Projection {
        let of = &self.versions[version];
        let own = of.own.get(cluster).copied().unwrap_or_default();
        let units = of.units.iter().map(|(name, version)| {
            let own = if *name == "apps" { own } else { 0 };
            (unit(name), Digest::of(format!("{name} {version} {own}").as_bytes()))
        });
        Projection::new(Digest::of(format!("commit {version}").as_bytes()), units)
    }

    fn world(&self, wanted: &[(ClusterName, CandidateId)]) -> World {
        let newest = self.versions.len() - 1;
        let author = Author { name: "ada".into(), email: "ada@example.org".into() };
        let commit =
            Commit { id: newest.to_string(), author, subject: format!("commit {newest}"), time: self.now };
        let clusters = self.machines.iter().map(|machine| {
            let name = machine.name.as_str();
            let older = wanted.iter().filter(|(of, _)| *of == machine.name).filter_map(|(_, id)| {
                let version = self.state.candidate(*id)?.commit.id.parse().ok()?;
                Some((*id, Arc::new(self.projection(version, name))))
            });
            let report = machine.runs.map(|digest| Report {
                digest,
                health: machine.health.clone(),
                since: machine.since,
            });
            Cluster {
                name: machine.name.clone(),
                labels: Some(machine.labels.clone()).filter(|_| !self.unread.contains(name)),
                link: machine.link,
                newest: Some(Arc::new(self.projection(newest, name)))
                    .filter(|_| !self.unrendered.contains(&(name, newest))),
                older: older.collect(),
                published: machine.published,
                report,
            }
        });
        World { newest: Some(commit), clusters: clusters.collect(), measured: Vec::new() }
    }

    /// Asks something, and takes the answer.
    pub(crate) fn ask(&mut self, verb: Verb) -> Result<String, String> {
        self.ask_as("ada", verb)
    }

    pub(crate) fn ask_as(&mut self, name: &str, verb: Verb) -> Result<String, String> {
        let actor = Actor { name: name.into(), roles: vec!["operate".into()], aliases: Vec::new() };
        let request = Request { actor, reason: "because".into(), until: None, verb };
        self.step(&[request]);
        self.last.answers[0].clone()
    }

    /// Time goes on a little: agents do what they were told, the hub takes a step and publishes it.
    pub(crate) fn tick(&mut self) {
        self.now += TICK;
        let now = self.now;
        for at in 0..self.machines.len() {
            let name = self.machines[at].name.to_string();
            let versions = (0..self.versions.len()).filter(|version| self.versions[*version].broken);
            let broken: BTreeMap<Digest, Vec<(UnitId, Digest)>> = versions
                .map(|of| self.projection(of, &name))
                .map(|projection| {
                    let apps = projection.units().iter().filter(|(id, _)| *id == unit("apps"));
                    (projection.digest(), apps.cloned().collect())
                })
                .collect();
            let machine = &mut self.machines[at];
            if machine.slow || !matches!(machine.link, Link::Online { .. }) || machine.told.is_none() {
                continue;
            }
            if machine.runs != machine.told {
                (machine.runs, machine.health, machine.since) = (machine.told, Health::Progressing, now);
            } else if machine.health == Health::Progressing && !machine.never {
                let fails = machine.runs.and_then(|runs| broken.get(&runs).cloned());
                let health = fails.map_or(Health::Healthy, |units| Health::Failed { units });
                (machine.health, machine.since) = (health, now);
            }
        }
        self.step(&[]);
    }

    /// A cluster is not healthy for a moment.
    pub(crate) fn flap(&mut self, name: &str) {
        let now = self.now;
        let machine = self.machine(name);
        (machine.health, machine.since) = (Health::Progressing, now);
        self.step(&[]);
    }

    fn step(&mut self, requests: &[Request]) {
        let world = self.world(&[]);
        let mut made = step(&self.pipeline, &mut self.state, &world, requests, self.now);
        self.events.extend(made.events.iter().map(|event| event.text.clone()));
        if !made.wanted.is_empty() {
            let (world, answers) = (self.world(&made.wanted), made.answers);
            made = step(&self.pipeline, &mut self.state, &world, &[], self.now);
            self.events.extend(made.events.iter().map(|event| event.text.clone()));
            made.answers = answers;
        }
        for at in 0..self.machines.len() {
            let name = self.machines[at].name.to_string();
            match &made.decisions[at].choice {
                Choice::Newest => {
                    let newest = self.projection(self.versions.len() - 1, &name).digest();
                    self.machines[at].told = Some(newest);
                }
                Choice::AsIs | Choice::Hold => {}
                Choice::Run(given) => {
                    let version = |snapshot: Digest| {
                        let is_it = |of: &usize| self.projection(*of, &name).snapshot == snapshot;
                        (0..self.versions.len()).find(is_it).unwrap()
                    };
                    let mut units = self.projection(version(given.base.snapshot), &name).units().to_vec();
                    for (id, pick) in &given.units {
                        let of = self.projection(version(pick.snapshot), &name);
                        let digest = of.units().iter().find(|(unit, _)| unit == id).unwrap().1;
                        units.iter_mut().filter(|(unit, _)| unit == id).for_each(|(_, old)| *old = digest);
                    }
                    let digest = Projection::new(given.base.snapshot, units).digest();
                    let published = Some(Published { revision: given.revision, digest });
                    (self.machines[at].published, self.machines[at].told) = (published, Some(digest));
                }
            }
        }
        self.last = made;
    }

    pub(crate) fn ticks(&mut self, count: usize) {
        (0..count).for_each(|_| self.tick());
    }

    /// Goes on for as long as anything that needs no patience takes.
    pub(crate) fn settle(&mut self) {
        self.ticks(60);
    }

    /// The commits that clusters run, as they report, by name: `-` is a mix, or nothing.
    pub(crate) fn runs(&self) -> String {
        let version = |machine: &Machine| {
            let is_it =
                |of: &usize| Some(self.projection(*of, machine.name.as_str()).digest()) == machine.runs;
            (0..self.versions.len()).rev().find(is_it).map_or("-".to_owned(), |of| of.to_string())
        };
        let runs = self.machines.iter().map(|machine| format!("{}:{}", machine.name, version(machine)));
        runs.collect::<Vec<_>>().join(" ")
    }

    pub(crate) fn status(&self, stage: &str) -> &StageStatus {
        self.last.stages.iter().find(|status| status.name == stage).unwrap()
    }

    /// Why a cluster does not run the newest; "" where it does.
    pub(crate) fn reason(&self, cluster: &str) -> String {
        let at = self.machines.iter().position(|machine| machine.name.as_str() == cluster).unwrap();
        self.last.decisions[at].reason.as_ref().map(|reason| reason.text.to_string()).unwrap_or_default()
    }
}
