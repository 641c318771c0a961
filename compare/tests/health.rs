//! How healthy random objects of every built-in kind are, by our rules and by kstatus as Flux uses it.

use std::collections::BTreeMap;
use std::ops::Range;

use flotilla_compare::flux::{Flux, flux_or_skip};
use flotilla_compare::random::health::object;
use flotilla_core::health::{Health, Status};
use flotilla_core::live::Live;
use serde_json::Value;

const SEEDS: Range<u64> = 0..60_000;
const AT_ONCE: usize = 2_000;

/// What kstatus says in our words. Where it gives an error Flux waits.
fn expected(theirs: &str) -> Status {
    match theirs {
        "Current" => Status::Current,
        "InProgress" | "Unknown" => Status::InProgress,
        "Failed" => Status::Failed,
        "Terminating" => Status::Terminating,
        other => panic!("kstatus has no status {other}"),
    }
}

/// The one difference: see `core::health`.
fn waits_for_a_node(object: &Value) -> bool {
    let conditions = object["status"]["conditions"].as_array();
    let mut unscheduled =
        conditions.into_iter().flatten().filter(|it| it["type"] == "PodScheduled" && it["status"] == "False");
    object["apiVersion"] == "v1"
        && object["kind"] == "Pod"
        && object["status"]["phase"] == "Pending"
        && unscheduled.next().is_some_and(|it| it["reason"] == "Unschedulable")
}

#[test]
fn every_built_in_kind_is_as_healthy_as_kstatus_finds_it() {
    let Some(program) = flux_or_skip() else { return };
    let mut flux = Flux::start(&program).expect("it starts");
    let (mut wrong, mut seen) = (Vec::new(), BTreeMap::<String, usize>::new());
    for from in SEEDS.step_by(AT_ONCE) {
        let objects: Vec<Value> = (from..from + AT_ONCE as u64).map(object).collect();
        let theirs = flux.health(&objects).unwrap_or_else(|error| panic!("{error:#}"));
        for (seed, (object, theirs)) in (from..).zip(objects.iter().zip(theirs)) {
            let ours = Health::of(&Live::from(object));
            let waits = ours.status == Status::InProgress && theirs == "Failed" && waits_for_a_node(object);
            if ours.status != expected(&theirs) && !waits {
                let why = &ours.message;
                wrong.push(format!("{seed}: {:?} ({why}), kstatus {theirs}: {object}", ours.status));
            }
            *seen.entry(theirs).or_default() += 1;
        }
    }
    wrong.truncate(20);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // A generator whose objects are all alike compares little.
    for status in ["Current", "InProgress", "Failed", "Terminating", "Unknown"] {
        let count = seen.get(status).copied().unwrap_or_default();
        assert!(count > 1_000, "{count} of the objects are {status}: {seen:?}");
    }
}
