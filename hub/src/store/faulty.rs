//! A store that fails on purpose, for tests: by a seed, or at the nth operation.
//!
//! ```text
//! Records ──► FaultyStore ──► the store itself
//!                 └─ before: nothing happened     after: it happened, and nobody was told     stall: it took its time
//! ```
//! The tests' question is the same each time: whatever failed, nothing that was acknowledged is lost, and nothing is
//! deleted because something could not be read.

use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use flotilla_runtime::lock;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::sync::watch;

use super::{MemoryStore, Outcome, Store, StoreError, Touched, Txn};

/// What goes wrong with an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It fails, and nothing was read or written.
    Before,
    /// A transaction is made, and its answer is an error all the same: the caller cannot know. A read fails.
    After,
    /// It takes this long, and works.
    Stall(Duration),
}

/// Which operations fail.
#[derive(Debug, Clone, Default)]
pub(crate) struct Plan {
    /// Faults by the number of the operation, counted from 0 since the plan was set.
    pub(crate) at: Vec<(u64, Fault)>,
    /// Of 100 operations, how many fail before and how many after. Which ones, the seed decides.
    pub(crate) percent: u32,
    /// Everything fails, as on a disk that has gone.
    pub(crate) gone: bool,
}

#[derive(Debug)]
struct State {
    plan: Plan,
    random: StdRng,
    operations: u64,
    /// Faults that happened.
    faults: u64,
    meanwhile: Option<Meanwhile>,
}

/// What somebody else does between two reads of a caller.
struct Meanwhile {
    prefix: String,
    skip: usize,
    act: Box<dyn FnOnce() + Send>,
}

impl std::fmt::Debug for Meanwhile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "before {} is read", self.prefix)
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct FaultyStore<S = MemoryStore> {
    inner: S,
    state: Mutex<State>,
}

impl<S: Store> FaultyStore<S> {
    /// Without a fault, until a plan is set.
    pub(crate) fn new(inner: S, seed: u64) -> Self {
        let random = StdRng::seed_from_u64(seed);
        let (plan, operations, faults, meanwhile) = (Plan::default(), 0, 0, None);
        Self { inner, state: Mutex::new(State { plan, random, operations, faults, meanwhile }) }
    }

    /// From now on these operations fail.
    pub(crate) fn plan(&self, plan: Plan) {
        let mut state = self.state();
        state.plan = plan;
        state.operations = 0;
    }

    /// From now on so many of 100 operations fail before they are done, and so many after; which ones, the seed decides.
    pub(crate) fn fail(&self, seed: u64, percent: u32) {
        self.plan(Plan { percent, ..Plan::default() });
        self.state().random = StdRng::seed_from_u64(seed);
    }

    /// Somebody else does this right before a key that begins so is read, once `skip` such reads were made.
    pub(crate) fn meanwhile(&self, prefix: &str, skip: usize, act: impl FnOnce() + Send + 'static) {
        self.state().meanwhile = Some(Meanwhile { prefix: prefix.to_owned(), skip, act: Box::new(act) });
    }

    /// How many operations failed or were slow so far.
    pub(crate) fn faults(&self) -> u64 {
        self.state().faults
    }

    /// The store below, which does not fail: what is really there.
    pub(crate) fn inner(&self) -> &S {
        &self.inner
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Lets others act whose turn it is. They use the store too, so nothing is locked meanwhile.
    fn others(&self, key: &str) {
        let mut state = self.state();
        let Some(meanwhile) = state.meanwhile.as_mut().filter(|it| key.starts_with(&it.prefix)) else {
            return;
        };
        if meanwhile.skip > 0 {
            meanwhile.skip -= 1;
            return;
        }
        let meanwhile = state.meanwhile.take();
        drop(state);
        meanwhile.into_iter().for_each(|meanwhile| (meanwhile.act)());
    }

    fn next(&self) -> Option<Fault> {
        let mut state = self.state();
        let number = state.operations;
        state.operations += 1;
        let fault = if state.plan.gone {
            Some(Fault::Before)
        } else if let Some((_, fault)) = state.plan.at.iter().find(|(at, _)| *at == number) {
            Some(*fault)
        } else if state.plan.percent > 0 {
            let (drawn, percent) = (state.random.random_range(0..100), state.plan.percent);
            match drawn {
                _ if drawn < percent => Some(Fault::Before),
                _ if drawn < 2 * percent => Some(Fault::After),
                _ => None,
            }
        } else {
            None
        };
        state.faults += u64::from(fault.is_some());
        fault
    }

    fn with<T>(
        &self,
        attempt: &'static str,
        work: impl FnOnce(Option<Fault>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let fault = self.next();
        let failed = || StoreError::Injected { attempt };
        match fault {
            None => work(fault),
            Some(Fault::Before) => Err(failed()),
            Some(Fault::After) => work(fault).and_then(|_| Err(failed())),
            Some(Fault::Stall(time)) => {
                std::thread::sleep(time);
                work(fault)
            }
        }
    }
}

impl<S: Store> Store for FaultyStore<S> {
    fn get(&self, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.others(key);
        self.with("read", |_| self.inner.get(key))
    }

    fn scan(&self, prefix: &str) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        self.others(prefix);
        self.with("read", |_| self.inner.scan(prefix))
    }

    fn txn_by(&self, txn: &Txn, writer: Option<&Touched>) -> Result<Outcome, StoreError> {
        // Whoever is not told that it was made does not know what it wrote.
        let told = |fault| writer.filter(|_| fault != Some(Fault::After));
        self.with("write", |fault| self.inner.txn_by(txn, told(fault)))
    }

    fn watch(&self, prefix: &str) -> watch::Receiver<u64> {
        self.inner.watch(prefix)
    }

    fn touched(&self, prefixes: &'static [&'static str]) -> Touched {
        self.inner.touched(prefixes)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use flotilla_core::ClusterName;
    use proptest::prelude::*;

    use super::super::{AuditRecord, Records, SuspensionRecord};
    use super::*;

    fn put(key: &str) -> Txn {
        let mut txn = Txn::default();
        txn.put(key, b"x".to_vec());
        txn
    }

    #[test]
    fn operations_fail_as_planned() {
        let store = FaultyStore::new(MemoryStore::default(), 1);
        store.plan(Plan { at: vec![(1, Fault::Before), (3, Fault::After)], ..Plan::default() });
        let answers: Vec<bool> = ["a", "b", "c", "d", "e"].map(|key| store.txn(&put(key)).is_ok()).into();
        assert_eq!(answers, [true, false, true, false, true]);
        let there: Vec<String> = store.inner().scan("").unwrap().into_iter().map(|(key, _)| key).collect();
        assert_eq!(there, ["a", "c", "d", "e"], "d was written, though nobody was told");
        let slow = Duration::from_millis(30);
        store.plan(Plan { at: vec![(0, Fault::Stall(slow))], ..Plan::default() });
        let begun = std::time::Instant::now();
        assert!(store.get("a").unwrap().is_some() && begun.elapsed() >= slow);
        store.plan(Plan { gone: true, ..Plan::default() });
        assert!(store.get("a").is_err() && store.scan("").is_err() && store.txn(&put("f")).is_err());
        assert_eq!(store.faults(), 6);
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
        /// What was acknowledged is there; what was not is there wholly or not at all; the audit log has a line for each
        /// change that was made, and no line twice.
        #[test]
        fn records_over_a_failing_store_lose_nothing(seed: u64, percent in 1_u32..40, steps in 1_usize..40) {
            let store = Arc::new(FaultyStore::new(MemoryStore::default(), seed));
            let mut records = Records::open(store.clone()).unwrap();
            store.plan(Plan { percent, ..Plan::default() });
            let mut acknowledged = BTreeMap::new();
            for step in 0..steps {
                let cluster: ClusterName = format!("c{step}").parse().unwrap();
                let suspension = SuspensionRecord { by: "ann".into(), at: step as i64, reason: "r".into() };
                let audit = AuditRecord::new(step as i64, "ann", "cluster.suspend", &cluster);
                if records.suspend(&cluster, None, Some(&suspension), &audit).is_ok() {
                    acknowledged.insert(cluster, step as i64);
                }
                // A restart, as a supervisor makes one.
                if step % 7 == 6 && let Ok(again) = Records::open(store.clone()) {
                    records = again;
                }
            }
            store.plan(Plan::default());
            let records = Records::open(store).unwrap();
            let there = records.suspensions().unwrap();
            let there: BTreeMap<_, _> =
                there.into_iter().map(|(name, all)| (name, all.cluster.unwrap().at)).collect();
            for (cluster, at) in &acknowledged {
                prop_assert_eq!(there.get(cluster), Some(at));
            }
            let log = records.audit_log().unwrap();
            let told: BTreeMap<String, i64> = log.iter().map(|(_, line)| (line.target.clone(), line.at)).collect();
            prop_assert_eq!(log.len(), told.len(), "a line for each change");
            let there: BTreeMap<String, i64> = there.into_iter().map(|(name, at)| (name.to_string(), at)).collect();
            prop_assert_eq!(told, there);
        }
    }
}
