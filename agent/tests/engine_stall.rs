//! A disk that stalls holds up what needs it, and nothing else: the agent has one thread for all the rest.
#![allow(unreachable_pub, reason = "the parts of this one test")]

mod engine_common;
mod fake;

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use bytes::Bytes;
use engine_common::{Disk, LIMIT, config, unit};
use fake::FakeApi;
use flotilla_agent::sync::{Bodies, BodyError, Engine, Memory, MemoryError, Options};
use flotilla_core::report::Phase;
use flotilla_core::{DesiredState, Digest, Generation, Object, UnitEntry, UnitManifest, UnitSpec};
use flotilla_tests::wait::eventually;
use tokio_util::sync::CancellationToken;

/// Stalls give up after this, so that a test whose only thread they hold fails instead of hanging.
const GIVE_UP: Duration = Duration::from_secs(10);

/// Where a stalled disk keeps whoever uses it.
#[derive(Default)]
struct Gate {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    closed: bool,
    waiting: usize,
    gave_up: bool,
}

impl Gate {
    fn pass(&self) {
        let mut state = self.state.lock().unwrap();
        state.waiting += 1;
        let (mut state, timeout) =
            self.changed.wait_timeout_while(state, GIVE_UP, |state| state.closed).unwrap();
        state.waiting -= 1;
        state.gave_up |= timeout.timed_out();
    }

    fn close(&self, closed: bool) {
        self.state.lock().unwrap().closed = closed;
        self.changed.notify_all();
    }

    /// Somebody is held up, and this thread is not.
    async fn holds_somebody_up(&self) {
        let is_waited_for = || async {
            if self.state.lock().unwrap().waiting > 0 { Ok(()) } else { Err("nobody uses the disk") }
        };
        eventually(LIMIT, is_waited_for).await.unwrap();
        assert!(!self.state.lock().unwrap().gave_up, "the engine's thread was held up");
    }
}

#[derive(Default)]
struct Stalling {
    disk: Arc<Disk>,
    reads: Gate,
    writes: Gate,
}

impl Bodies for Stalling {
    fn body(&self, digest: Digest) -> Result<Bytes, BodyError> {
        self.reads.pass();
        self.disk.body(digest)
    }
}

impl Memory for Stalling {
    fn load(&self) -> Result<Vec<(String, Bytes)>, MemoryError> {
        self.disk.load()
    }
    fn store(&self, key: &str, value: Bytes) -> Result<(), MemoryError> {
        self.writes.pass();
        self.disk.store(key, value)
    }
    fn remove(&self, key: &str) -> Result<(), MemoryError> {
        self.writes.pass();
        self.disk.remove(key)
    }
}

#[tokio::test]
async fn a_stalled_disk_holds_up_no_other_work() {
    let api = FakeApi::new(|_, _| None);
    let disk = Arc::new(Stalling::default());
    let engine = Engine::new(api.client(), disk.clone(), disk.clone(), Options::default());
    let stop = CancellationToken::new();
    let run = tokio::spawn(engine.clone().run(stop.clone()));
    let publish = |generation: u64| {
        let value = generation.to_string();
        let objects: Vec<Object> = ["x", "y"].map(|name| Object::new(&config(name, &value)).unwrap()).into();
        disk.disk.keep(&objects);
        let entries = objects.iter().map(Into::into).collect();
        let manifest = UnitManifest::new(unit("a"), UnitSpec::default(), entries);
        let digest = manifest.digest();
        let units = BTreeMap::from([(unit("a"), UnitEntry::Present(Arc::new(manifest)))]);
        let state = DesiredState::new("engine".parse().unwrap(), Generation(generation), "c0ffee", units);
        engine.set_desired(Arc::new(state));
        digest
    };
    let is_ready = async |digest: Digest| {
        let report = || async {
            let report = engine.changes(0).reports.into_iter().find(|report| report.unit == unit("a"));
            let is_ready = |phase, applied| phase == Phase::Ready && applied == Some(digest);
            match report {
                Some(report) if is_ready(report.phase, report.applied) => Ok(()),
                other => Err(format!("{other:?}")),
            }
        };
        eventually(LIMIT, report).await.unwrap();
    };

    disk.reads.close(true);
    let digest = publish(1);
    disk.reads.holds_somebody_up().await;
    disk.reads.close(false);
    is_ready(digest).await;

    // What is to be remembered waits for the disk; the cluster does not.
    disk.writes.close(true);
    let digest = publish(2);
    disk.writes.holds_somebody_up().await;
    is_ready(digest).await;
    disk.writes.close(false);
    stop.cancel();
    run.await.unwrap().unwrap();
    assert!(disk.disk.remembers(&unit("a").to_string()), "what waits is written before the end");
}
