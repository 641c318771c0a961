//! Refs of stages by whole rounds: they follow what passed, and a push that fails holds nothing up.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use flotilla_source::{CommitId, FetchError, PushError, Pushed, StageRef};
use tokio_util::sync::CancellationToken;

use super::promotion_tests::Case;
use crate::rollout::Rollouts;
use crate::rollout::refs::{self, Pusher};

type Refs = BTreeMap<StageRef, CommitId>;

/// Answers with these in turn, and then takes everything.
#[derive(Default)]
struct FakePusher {
    answers: Mutex<Vec<Result<Pushed, PushError>>>,
    pushed: Mutex<Vec<Refs>>,
}

impl Pusher for FakePusher {
    fn push(&self, refs: &Refs, _: &AtomicBool) -> Result<Pushed, PushError> {
        self.pushed.lock().unwrap().push(refs.clone());
        self.answers.lock().unwrap().pop().unwrap_or_else(|| Ok(Pushed::default()))
    }
}

/// The number of the commit that each stage's ref names.
fn at(refs: &Refs) -> BTreeMap<String, usize> {
    let number = |id: &CommitId| usize::from_str_radix(id.as_str(), 16).unwrap();
    refs.iter().map(|(name, id)| (name.to_string(), number(id))).collect()
}

fn both(staging: usize, production: usize) -> BTreeMap<String, usize> {
    [("staging", staging), ("production", production)]
        .map(|(stage, at)| (format!("refs/flotilla/apps/{stage}"), at))
        .into()
}

#[test]
fn a_ref_names_what_passed_last_and_nothing_that_failed() {
    let mut case = Case::new(Some("v1"));
    assert_eq!(at(&case.rollouts.passed()), BTreeMap::new());
    case.settle();
    assert_eq!(at(&case.rollouts.passed()), both(0, 0));
    case.commit(Some("broken2"));
    case.settle();
    assert_eq!(at(&case.rollouts.passed()), both(0, 0));
    case.restart();
    case.settle();
    assert_eq!(at(&case.rollouts.passed()), both(0, 0));
    case.commit(Some("v3"));
    case.settle();
    assert_eq!(at(&case.rollouts.passed()), both(2, 2));
}

/// Waits for this problem with the refs.
async fn says(rollouts: &Rollouts, expected: Option<&str>) {
    let mut changes = rollouts.changes();
    let is_said = async {
        while !match (rollouts.refs_problem(), expected) {
            (Some(said), Some(expected)) => said.contains(expected),
            (None, None) => true,
            _ => false,
        } {
            changes.changed().await.unwrap();
        }
    };
    let said = tokio::time::timeout(Duration::from_secs(86_400), is_said).await;
    said.unwrap_or_else(|_| panic!("{expected:?} is not said, but {:?}", rollouts.refs_problem()));
}

/// Pauses between attempts pass at once here.
#[tokio::test(start_paused = true)]
async fn a_push_that_fails_is_said_and_tried_again() {
    let mut case = Case::new(Some("v1"));
    case.settle();
    let production = StageRef::new("apps", "production").unwrap();
    let unreachable = FetchError::Unreachable { url: "https://git".into(), reason: "away".into() };
    let refused = Pushed { moved: 1, refused: [(production, "protected".to_owned())].into() };
    let pusher = Arc::new(FakePusher::default());
    let away = || Err(PushError::Talk(unreachable.clone()));
    *pusher.answers.lock().unwrap() = vec![Ok(refused), away(), away()];
    let shutdown = CancellationToken::new();
    let running = tokio::spawn(refs::run(case.rollouts.clone(), pusher.clone(), shutdown.clone()));
    says(&case.rollouts, Some("https://git")).await;
    says(&case.rollouts, Some("refs/flotilla/apps/production (protected)")).await;
    says(&case.rollouts, None).await;
    assert_eq!(pusher.pushed.lock().unwrap().iter().map(at).collect::<Vec<_>>(), vec![both(0, 0); 4]);
    // Once all is as it should be, only another passage is pushed.
    case.commit(Some("v2"));
    case.settle();
    let last = || pusher.pushed.lock().unwrap().last().map(at);
    let follows = async {
        while last() != Some(both(1, 1)) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(86_400), follows).await.unwrap();
    shutdown.cancel();
    running.await.unwrap().unwrap();
}
