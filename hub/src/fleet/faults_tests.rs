//! Promise 2, held by whole rounds: whatever fails, nothing is removed that Git still wants.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use flotilla_core::{ClusterName, Digest, Generation, UnitEntry, UnitId};
use flotilla_rollout::spec::UnitSelection;
use proptest::prelude::*;

use super::Worker;
use super::fake::{FakeHub, FakeRepo, Fault, Tree, config_map, unit};
use crate::clock::fake::set_wrong_by;
use crate::desired::choice::{Choice, Claimed, Part, Take};
use crate::store::{AuditRecord, SuspensionRecord};

/// What a commit does with a unit.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Child {
    There,
    Gone,
    /// It is defined and does not render.
    Broken,
}

/// A commit: three units of the root's, two below the first of these, and whether the root's own folder can be built.
#[derive(Debug, Clone)]
struct CommitPlan {
    top: [Child; 3],
    below: [Child; 2],
    root_is_broken: bool,
}

#[derive(Debug, Clone)]
enum Step {
    Commit(CommitPlan),
    /// Of 100 accesses to the store, so many fail before they are done, and so many after.
    Store(u64, u32),
    Files(&'static str, Fault),
    Git(&'static str),
    /// The clock is wrong by so many seconds.
    Clock(i64),
    Heal,
    Restart,
    Suspend(usize, bool),
    /// One of the units is taken from an older commit, counted back; or from one that is lost.
    Choose(usize, Option<usize>),
    Newest,
    Round,
}

const TOP: [&str; 3] = ["u0", "u1", "u2"];
const BELOW: [&str; 2] = ["n0", "n1"];

fn child() -> impl Strategy<Value = Child> {
    prop_oneof![3 => Just(Child::There), 2 => Just(Child::Gone), 1 => Just(Child::Broken)]
}

fn commit() -> impl Strategy<Value = CommitPlan> {
    ([child(), child(), child()], [child(), child()], prop::bool::weighted(0.15))
        .prop_map(|(top, below, root_is_broken)| CommitPlan { top, below, root_is_broken })
}

fn step() -> impl Strategy<Value = Step> {
    const PATHS: &[&str] = &["", "clusters", "clusters/x", "clusters/x/u0", "apps", "apps/u0", "apps/u1/"];
    // An hour, years, before 1970 and the last year that a kernel knows.
    const CLOCKS: &[i64] = &[-4_000, 4_000, -400_000_000, 400_000_000, -4_000_000_000, 7_400_000_000];
    prop_oneof![
        4 => commit().prop_map(Step::Commit),
        2 => (any::<u64>(), 0u32..24).prop_map(|(seed, percent)| Step::Store(seed, percent)),
        2 => (prop::sample::select(PATHS), prop_oneof![4 => Just(Fault::Fails), 1 => Just(Fault::Panics)])
            .prop_map(|(path, fault)| Step::Files(path, fault)),
        1 => prop::sample::select(&["fetch", "tree"][..]).prop_map(Step::Git),
        1 => prop::sample::select(CLOCKS).prop_map(Step::Clock),
        2 => Just(Step::Heal),
        1 => Just(Step::Restart),
        1 => (0..3usize, any::<bool>()).prop_map(|(n, suspend)| Step::Suspend(n, suspend)),
        2 => (0..3usize, prop::option::weighted(0.9, 0..4usize)).prop_map(|(n, back)| Step::Choose(n, back)),
        1 => Just(Step::Newest),
        4 => Just(Step::Round),
    ]
}

impl CommitPlan {
    fn tree(&self) -> Tree {
        let mut tree = Tree::from([("clusters/x/own.yaml".to_owned(), config_map("own"))]);
        let mut put = |path: String, text: String| {
            tree.insert(path, text);
        };
        for (name, child) in TOP.iter().zip(self.top) {
            let path = if child == Child::Broken { "nowhere" } else { *name };
            if child != Child::Gone {
                put(format!("clusters/x/{name}.yaml"), unit(name, &format!("apps/{path}")));
            }
            put(format!("apps/{name}/map.yaml"), config_map(name));
        }
        for (name, child) in BELOW.iter().zip(self.below) {
            let path = if child == Child::Broken { "nowhere" } else { *name };
            if child != Child::Gone {
                put(format!("apps/u0/{name}.yaml"), unit(name, &format!("apps/{path}")));
            }
            put(format!("apps/{name}/map.yaml"), config_map(name));
        }
        if self.root_is_broken {
            put("clusters/x/z.yaml".to_owned(), "a: [".to_owned());
        }
        tree
    }

    /// The units that Git wants, as far as it can be read: below what is broken it wants what it did.
    fn wants(&self, name: &str) -> bool {
        let of = |names: &[&str], children: &[Child]| {
            names.iter().position(|other| *other == name).map(|n| children[n] != Child::Gone)
        };
        match self.top[0] {
            // What the root last defined stays; what is below that is read anew.
            _ if self.root_is_broken => of(&BELOW, &self.below).unwrap_or(true),
            _ if TOP.contains(&name) => of(&TOP, &self.top).unwrap(),
            Child::Gone => false,
            Child::Broken => true,
            Child::There => of(&BELOW, &self.below).unwrap(),
        }
    }
}

fn id(name: &str) -> UnitId {
    UnitId::kustomization("flux-system", name)
}

struct Run {
    hub: FakeHub,
    worker: Worker,
    plans: Vec<CommitPlan>,
    /// What may have reached the agent.
    sent: BTreeSet<String>,
    /// The snapshots of commits that were rendered.
    snapshots: BTreeMap<usize, Digest>,
    /// The unit that is not of the newest commit, and of which one it is; `None`: of a lost one.
    chosen: Option<(usize, Option<usize>)>,
    seen: Option<Generation>,
}

impl Run {
    fn new(first: CommitPlan) -> Self {
        let repo = FakeRepo::default();
        repo.commit_tree(first.tree());
        let hub = FakeHub::new(repo);
        hub.enrol("x");
        let worker = hub.worker();
        let (sent, snapshots) = (BTreeSet::new(), BTreeMap::new());
        Self { hub, worker, plans: vec![first], sent, snapshots, chosen: None, seen: None }
    }

    fn step(&mut self, step: Step) -> Result<(), TestCaseError> {
        match step {
            Step::Commit(plan) => {
                self.hub.repo.commit_tree(plan.tree());
                self.plans.push(plan);
            }
            Step::Store(seed, percent) => self.hub.store.fail(seed, percent),
            Step::Files(path, fault) => self.hub.repo.files.set(path, fault),
            Step::Clock(wrong_by) => set_wrong_by(wrong_by),
            Step::Git(what) => self.hub.repo.git.set(what, Fault::Fails),
            Step::Heal => self.heal(),
            Step::Restart => {
                let choices = std::mem::take(&mut self.worker.forced);
                self.worker = self.hub.restart();
                self.worker.forced = choices;
            }
            Step::Choose(unit, back) => self.choose(unit, back),
            Step::Newest => self.newest(),
            Step::Suspend(n, suspend) => self.suspend(TOP[n], suspend),
            Step::Round => {
                self.worker.fetch_and_round();
                self.note_snapshot();
                self.check()?;
            }
        }
        Ok(())
    }

    /// What the cluster was rendered from can be chosen later.
    fn note_snapshot(&mut self) {
        let at = self.worker.clusters.get(&cluster()).and_then(|cluster| cluster.remembered.at.clone());
        if let Some(at) = at.filter(|at| self.hub.records.note_snapshot(at).is_ok()) {
            let commit = usize::from_str_radix(at.commit(), 16).unwrap();
            self.snapshots.insert(commit, at.digest());
        }
    }

    fn choose(&mut self, unit: usize, back: Option<usize>) {
        let chosen = match back {
            Some(back) => match self.snapshots.iter().nth_back(back % self.snapshots.len().max(1)) {
                Some((commit, snapshot)) => (Some(*commit), *snapshot),
                None => return,
            },
            None => (None, Digest::of(b"lost")),
        };
        let (commit, snapshot) = chosen;
        let take = Take::At { snapshot, content: Digest::of(b"of no render") };
        let selected = UnitSelection {
            include: vec![format!("flux-system/{}", TOP[unit]).parse().unwrap()],
            except: Vec::new(),
        };
        let claimed = Claimed::Selected(selected.into());
        let part = Part { by: "p".into(), claimed, take, units: Vec::new(), revision: 0 };
        self.worker.forced.insert(cluster(), Arc::new(Choice { parts: vec![part] }));
        self.chosen = Some((unit, commit));
    }

    fn newest(&mut self) {
        self.worker.forced.clear();
        self.chosen = None;
    }

    /// The commit that says whether a unit is wanted; `None`: nobody knows.
    fn decides(&self, commit: usize, name: &str) -> Option<usize> {
        match self.chosen {
            Some((unit, chosen)) if name == TOP[unit] || unit == 0 && BELOW.contains(&name) => chosen,
            _ => Some(commit),
        }
    }

    fn heal(&self) {
        self.hub.store.fail(1, 0);
        self.hub.repo.files.heal();
        self.hub.repo.git.heal();
        set_wrong_by(0);
    }

    fn suspend(&self, name: &str, suspend: bool) {
        let suspension = SuspensionRecord { by: "test".to_owned(), at: 1, reason: String::new() };
        let audit = AuditRecord::new(1, "test", "suspend", name);
        // The store may fail.
        let _ = self.hub.records.suspend(&cluster(), Some(&id(name)), suspend.then_some(&suspension), &audit);
    }

    /// What is published is of some commit: nothing goes that this one wants, and nothing that may be in the cluster is
    /// left out.
    fn check(&mut self) -> Result<(), TestCaseError> {
        let Some(published) = self.hub.board.current(&cluster()) else { return Ok(()) };
        let state = &published.state;
        let commit = usize::from_str_radix(&state.snapshot, 16).unwrap();
        // What was published before was looked at then: other snapshots may be chosen now.
        let is_new = self.seen.replace(state.generation) != Some(state.generation);
        for (id, entry) in state.units() {
            let goes = matches!(entry, UnitEntry::Removed(_));
            let plan = self.decides(commit, &id.name).map(|commit| &self.plans[commit]);
            let is_wanted = || plan.is_none_or(|plan| plan.wants(&id.name));
            prop_assert!(
                !goes || !is_new || !is_wanted(),
                "{id} goes, and commit {commit} wants it: {plan:?}"
            );
            if let UnitEntry::Present(_) = entry {
                self.sent.insert(id.name.clone());
            }
        }
        for name in self.sent.iter().filter(|name| !name.is_empty()) {
            prop_assert!(
                state.units().contains_key(&id(name)),
                "{name} may be in the cluster and is not named"
            );
        }
        Ok(())
    }
}

fn cluster() -> ClusterName {
    "x".parse().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, max_shrink_iters: 2000, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_removed_that_git_still_wants(
        first in commit(),
        steps in prop::collection::vec(step(), 1..40),
    ) {
        let mut run = Run::new(first);
        for step in steps {
            run.step(step)?;
        }
        // Once all is well again, all of Git's will is done.
        run.heal();
        run.newest();
        for name in TOP {
            run.suspend(name, false);
        }
        run.worker.fetch_and_round();
        run.check()?;
        let plan = run.plans.last().unwrap().clone();
        let published = run.hub.board.current(&cluster()).unwrap();
        for (name, child) in TOP.iter().zip(plan.top).filter(|_| !plan.root_is_broken) {
            let entry = published.state.units().get(&id(name));
            let is_as_wanted = match child {
                Child::There => matches!(entry, Some(UnitEntry::Present(_))),
                Child::Broken => matches!(entry, Some(UnitEntry::Hold(_))),
                Child::Gone => matches!(entry, Some(UnitEntry::Removed(_)) | None),
            };
            prop_assert!(is_as_wanted, "{name}: {child:?}, {entry:?}");
        }
        // What was left alone as nothing had changed for it is what it would be rendered to.
        let is_held = |entry: &UnitEntry| matches!(entry, UnitEntry::Hold(_));
        if !published.state.units().values().any(is_held) {
            run.worker = run.hub.restart();
            run.worker.fetch_and_round();
            let anew = run.hub.board.current(&cluster()).unwrap();
            prop_assert_eq!(published.state.units(), anew.state.units());
        }
    }
}
