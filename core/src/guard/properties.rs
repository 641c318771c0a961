//! The guard on one unit under random commits, with an agent that applies, fails, prunes and is killed at random.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::object::ObjectRef;

const LIMITS: Limits = Limits { share: 0.5, floor: 5, unit: 10 };
const OBJECTS: u8 = 24;

type Names = BTreeSet<u8>;

#[derive(Debug, Clone)]
enum Step {
    /// A commit that would like the unit to be so, as far as that is within the limits.
    Commit(Names),
    /// The agent begins to apply what is desired …
    Begin,
    /// … lists it, and is done with it but for these.
    End(Names),
    /// What can be pruned is, but for these.
    Prune(Names),
    /// Killed and started again: work under way is lost, or was listed at least.
    Kill { listed: bool },
}

fn names() -> impl Strategy<Value = Names> {
    proptest::collection::btree_set(0..OBJECTS, 0..usize::from(OBJECTS))
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => names().prop_map(Step::Commit),
        2 => Just(Step::Begin),
        2 => names().prop_map(Step::End),
        2 => names().prop_map(Step::Prune),
        1 => any::<bool>().prop_map(|listed| Step::Kill { listed }),
    ]
}

fn id(name: u8) -> ObjectId {
    ObjectId::new("", "ConfigMap", "n", format!("c{name:02}"))
}

/// What is next if this was, and that is wished for: something, and no more gone than needs no approval.
fn within_limits(now: &Names, wish: &Names) -> Names {
    let mut next = wish.clone();
    if next.is_empty() {
        next.extend(now.first().copied().or(Some(0)));
    }
    for back in now - wish {
        let gone = (now - &next).len();
        if gone < LIMITS.floor || gone as f64 <= LIMITS.share * (now | &next).len() as f64 {
            break;
        }
        next.insert(back);
    }
    next
}

struct Agent {
    unit: UnitId,
    generation: u64,
    desired: Names,
    /// What is being applied.
    running: Option<Names>,
    listed: Names,
    there: Names,
    departures: Departures,
    approvals: Approvals,
    asked: BTreeMap<Digest, Subject>,
}

impl Agent {
    fn new() -> Self {
        Self {
            unit: UnitId::kustomization("f", "x"),
            generation: 0,
            desired: [0].into(),
            running: None,
            listed: Names::new(),
            there: Names::new(),
            departures: Departures::default(),
            approvals: Approvals::default(),
            asked: BTreeMap::new(),
        }
    }

    /// As the coordinator does it when it takes a state in.
    fn take(&mut self, next: Names) {
        let before = std::mem::replace(&mut self.desired, next);
        self.generation += u64::from(before != self.desired);
        let mut absent: BTreeSet<ObjectId> = self.listed.iter().copied().map(id).collect();
        if self.running.is_some() {
            absent.extend(before.into_iter().map(id));
            absent.extend(self.departures.iter().map(|(id, _)| id.clone()));
        }
        let declared: BTreeSet<ObjectId> = self.desired.iter().copied().map(id).collect();
        absent.retain(|absent| !declared.contains(absent));
        let (generation, wanted) = (Generation(self.generation), self.desired.len());
        let now = Departure { generation, wanted, moved: false };
        self.departures.note(now, absent);
    }

    fn end(&mut self, failing: &Names) {
        if let Some(running) = self.running.take() {
            self.listed.extend(&running);
            self.there.extend(&running - failing);
        }
    }

    /// What waits for an approval.
    fn prune(&mut self, failing: &Names) -> Names {
        if self.running.is_some() || !self.desired.is_subset(&self.there) {
            return Names::new();
        }
        let leaving: Vec<u8> = self.listed.difference(&self.desired).copied().collect();
        let candidate = |name: &u8| {
            let found = if self.there.contains(name) {
                let uid = Uid::from("u");
                let (applied_by_us, controlled, opted_out) = (true, false, None);
                Found::There(There { uid, applied_by_us, controlled, opted_out, inside: Inside::NoContainer })
            } else {
                Found::Gone
            };
            let object = ObjectRef { id: id(*name), version: "v1".into() };
            let departure = self.departures.get(&object.id).expect("it was noted");
            Candidate { member: Member { object, uid: None }, departure, found }
        };
        let candidates: Vec<Candidate> = leaving.iter().map(candidate).collect();
        let scope = Scope {
            unit: &self.unit,
            wanted: self.desired.len(),
            extent: PruneExtent::Objects,
            allow_empty: false,
            cluster_empties: false,
        };
        let Judgement { verdicts, asked } = judge(&scope, &candidates, &self.approvals, LIMITS);
        self.asked = asked.into_iter().collect();
        let mut waits = Names::new();
        for (name, verdict) in leaving.into_iter().zip(verdicts) {
            match verdict {
                Verdict::Delete(_) if failing.contains(&name) => {}
                Verdict::Delete(_) | Verdict::Forget(_) => {
                    self.listed.remove(&name);
                    self.there.remove(&name);
                }
                Verdict::Keep(_) | Verdict::Later(_) => _ = waits.insert(name),
            }
        }
        waits
    }

    /// What waits for an approval after the step.
    fn step(&mut self, step: &Step, never: &Names) -> Names {
        match step {
            Step::Commit(wish) => self.take(within_limits(&self.desired, &(wish - never))),
            Step::Begin => _ = self.running.get_or_insert_with(|| self.desired.clone()),
            Step::End(failing) => self.end(failing),
            Step::Prune(failing) => return self.prune(failing),
            Step::Kill { listed } => {
                let running = self.running.take();
                if *listed {
                    self.listed.extend(running.into_iter().flatten());
                }
                self.take(self.desired.clone());
            }
        }
        Names::new()
    }

    /// Nothing fails any more.
    fn settle(&mut self) -> Names {
        self.end(&Names::new());
        self.running = Some(self.desired.clone());
        self.end(&Names::new());
        self.prune(&Names::new())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn commits_within_the_limits_never_wait_whatever_fails(
        steps in proptest::collection::vec(step(), 1..60)
    ) {
        let mut agent = Agent::new();
        for step in &steps {
            let waits = agent.step(step, &Names::new());
            prop_assert!(waits.is_empty(), "{waits:?} wait for {:?}", agent.asked);
        }
        let waits = agent.settle();
        prop_assert!(waits.is_empty(), "{waits:?} wait for {:?}", agent.asked);
        prop_assert_eq!((&agent.listed, &agent.there), (&agent.desired, &agent.desired));
    }

    #[test]
    fn one_commit_beyond_the_limits_waits_whatever_comes_before_and_after(
        before in proptest::collection::vec(step(), 0..20),
        wide in proptest::collection::btree_set(0..OBJECTS, 10..usize::from(OBJECTS)),
        stay in 1..4_usize,
        after in proptest::collection::vec(step(), 0..60),
    ) {
        let mut agent = Agent::new();
        for step in &before {
            agent.step(step, &Names::new());
        }
        agent.take(&agent.desired | &wide);
        agent.settle();
        let few: Names = agent.desired.iter().copied().take(stay).collect();
        let large = &agent.desired - &few;
        agent.take(few);
        for step in &after {
            agent.step(step, &large);
            prop_assert!(large.is_subset(&agent.there), "{:?} are left of {large:?}", agent.there);
        }
        prop_assert_eq!(&agent.settle(), &large, "it waits, and nothing else does");
        let (digest, subject) = agent.asked.clone().pop_first().expect("one is asked for");
        prop_assert_eq!(&subject.objects, &large.iter().copied().map(id).collect::<BTreeSet<_>>());
        agent.approvals.give(digest, Some(subject));
        prop_assert!(agent.prune(&large).is_empty(), "approved");
        prop_assert!(agent.settle().is_empty());
        prop_assert_eq!(&agent.there, &agent.desired);
    }
}
