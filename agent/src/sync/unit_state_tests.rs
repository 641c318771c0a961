use super::*;

const FINGERPRINT: &[u8] = b"content";

fn object(name: &str) -> ObjectId {
    ObjectId::new("", "ConfigMap", "default", name)
}

/// One object fails; how long the unit waits then.
fn fail(state: &mut UnitState, longest: Option<u32>) -> Duration {
    let why = finding(&object("bad"), "ApplyFailed", "no");
    let failed = FailedObject {
        fingerprint: Digest::of(FINGERPRINT),
        reason: FailureReason::ApplyFailed,
        finding: why,
    };
    state.failed([(object("bad"), failed)].into(), None, None, longest);
    state.due().unwrap() - Instant::now()
}

#[tokio::test(start_paused = true)]
async fn pauses_grow_up_to_a_limit_and_a_change_ends_them() {
    let mut state = UnitState::default();
    assert!(fail(&mut state, None) <= PAUSE);
    let bad =
        |state: &UnitState, fingerprint: &[u8]| state.may_try(&object("bad"), Digest::of(fingerprint), false);
    assert!(!bad(&state, FINGERPRINT), "it failed a moment ago");
    assert!(bad(&state, b"other content"));
    assert!(state.may_try(&object("good"), Digest::of(FINGERPRINT), false), "the others of the unit go on");

    let pauses: Vec<Duration> = (0..60).map(|_| fail(&mut state, None)).collect();
    assert!(pauses.iter().all(|pause| (PAUSE / 4..=LONGEST_PAUSE).contains(pause)), "{pauses:?}");
    assert!(pauses.iter().any(|pause| *pause > 5 * PAUSE), "{pauses:?}");
    assert!(fail(&mut state, Some(2)) <= Duration::from_secs(2), "the unit's own limit");

    tokio::time::advance(LONGEST_PAUSE).await;
    state.pass(Instant::now());
    assert!(bad(&state, FINGERPRINT), "the pause is over");
    fail(&mut state, None);
    state.reset();
    assert!(bad(&state, FINGERPRINT) && state.due().is_none(), "something changed");
    assert!(fail(&mut state, None) <= PAUSE, "and pauses begin anew");
    state.failed(BTreeMap::new(), None, None, None);
    assert!(!state.has_failed() && state.due().is_none());
}
