//! Random pairs of revisions, applied by our engine and by Flux's own packages to one API server: what is left is the same.
//! More of them: `cargo xtask bench apply-diff`.

mod engine_common;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use engine_common::Bench;
use flotilla_compare::flux::flux_or_skip;
use flotilla_compare::flux_apply::FluxApply;
use flotilla_compare::revisions::{Change, Edit, History, definition, history};
use flotilla_core::UnitSpec;
use flotilla_core::report::{Phase, UnitReport};
use flotilla_tests::objects::{ObjectRef, api, apply};
use flotilla_tests::settled::differences;
use flotilla_tests::wait::eventually;
use flotilla_tests::{ClusterOptions, ControllerManager};
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::{Value, json};

const OURS: &str = "pa-ours";
const THEIRS: &str = "pa-flux";
/// As many as take some seconds.
const SEEDS: u64 = 60;
/// Seeds that once differed.
const DIFFERED: [u64; 1] = [9528];
/// How many units run at once.
const BATCH: u64 = 60;
const LIMIT: Duration = Duration::from_secs(120);
const PRUNED: Duration = Duration::from_secs(20);

/// A number that the benchmark sets.
fn wanted(name: &str) -> Option<u64> {
    std::env::var(name)
        .ok()
        .map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")))
}

#[derive(Debug, Default)]
struct Counts {
    histories: u64,
    objects: usize,
    /// Flux gave up on the unit, so that there is nothing to compare.
    fail_in_flux: usize,
    differ: Vec<String>,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn revisions_leave_what_flux_leaves() {
    let Some(program) = flux_or_skip() else { return };
    let seconds = wanted("FLOTILLA_APPLY_SECONDS");
    let first = wanted("FLOTILLA_APPLY_SEED").unwrap_or(0);
    let end = Instant::now() + Duration::from_secs(seconds.unwrap_or(0));
    let mut counts = Counts::default();
    let mut next = first;
    loop {
        let count = if seconds.is_some() { BATCH } else { SEEDS };
        let mut bench = start().await;
        let mut flux = FluxApply::start(&program, bench.cluster.kubeconfig_path()).unwrap();
        let again = DIFFERED.into_iter().filter(|_| seconds.is_none());
        batch(&mut bench, &mut flux, (next..next + count).chain(again), &mut counts).await;
        bench.stop_engine().await;
        next += count;
        if Instant::now() >= end {
            break;
        }
    }
    println!(
        "{}",
        json!({"name": "apply_diff", "value": counts.histories, "unit": "histories", "details": {
            "first_seed": first, "objects": counts.objects, "fail_in_flux": counts.fail_in_flux,
            "differ": counts.differ.len()}})
    );
    assert!(counts.differ.is_empty(), "{} differ:\n{}", counts.differ.len(), counts.differ.join("\n"));
    // A generator whose units fail compares little.
    assert!(counts.fail_in_flux as u64 * 5 < counts.histories, "{counts:?}");
}

/// A cluster with the namespaces and the CRD of both, and an engine.
async fn start() -> Bench {
    let controllers = ClusterOptions {
        controller_manager: Some(ControllerManager::default()),
        fake_kubelet: false,
        ..ClusterOptions::default()
    };
    let bench = Bench::start(&controllers).await;
    for place in [OURS, THEIRS] {
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": place}});
        apply(&bench.client(), "test", &namespace).await.unwrap();
        apply(&bench.client(), "test", &definition(place)).await.unwrap();
    }
    let probe = |place: &str| {
        json!({"apiVersion": format!("{place}.example.com/v1"), "kind": "Widget",
            "metadata": {"name": "probe", "namespace": place}})
    };
    for place in [OURS, THEIRS] {
        let (client, probe) = (bench.client(), probe(place));
        eventually(LIMIT, || apply(&client, "test", &probe)).await.unwrap();
    }
    bench
}

/// Runs histories side by side, each step of all before the next.
async fn batch(
    bench: &mut Bench,
    flux: &mut FluxApply,
    seeds: impl Iterator<Item = u64> + Clone,
    counts: &mut Counts,
) {
    let ours: Vec<History> = seeds.clone().map(|seed| history(seed, OURS)).collect();
    let theirs: Vec<History> = seeds.map(|seed| history(seed, THEIRS)).collect();
    for history in ours.iter().chain(&theirs) {
        edit(bench, &history.before).await;
    }
    let unit = |history: &History| format!("u{}", history.seed);
    let mut failed: BTreeMap<u64, String> = BTreeMap::new();
    for history in &theirs {
        let done = flux.apply(&unit(history), history.force, &history.first, &[]).unwrap();
        failed.extend(done.err().map(|error| (history.seed, error)));
    }
    let alive = |failed: &BTreeMap<u64, String>, history: &&History| !failed.contains_key(&history.seed);
    let present = |bench: &mut Bench, history: &History, objects: &[Value]| {
        let spec = UnitSpec { force: history.force, ..UnitSpec::default() };
        bench.present(&unit(history), spec, objects);
    };
    for history in ours.iter().filter(|history| alive(&failed, history)) {
        present(bench, history, &history.first);
    }
    bench.publish();
    let mut stuck = settled_units(bench, &ours, &failed).await;
    bench.stop_engine().await;
    for history in ours.iter().chain(&theirs).filter(|history| alive(&failed, history)) {
        edit(bench, &history.edits).await;
    }
    let again = theirs.iter().filter(|history| alive(&failed, history)).map(|history| {
        let once = |flux: &mut FluxApply| {
            flux.apply(&unit(history), history.force, &history.second, &history.first).unwrap().err()
        };
        // Twice, as its interval does: a word that stood on the live object counts once more in the first.
        let done = once(flux).or_else(|| once(flux));
        (history.seed, done)
    });
    let again: Vec<_> = again.collect();
    failed.extend(again.into_iter().filter_map(|(seed, error)| Some((seed, error?))));
    // A unit that is not named is held, and one that is held stops the pruning of others: those that fail stay as they are.
    for history in ours.iter().filter(|history| alive(&failed, history)) {
        present(bench, history, &history.second);
    }
    bench.start_engine();
    stuck.extend(settled_units(bench, &ours, &failed).await);
    for (seed, report) in stuck {
        counts.differ.push(format!("{seed}: {:?} here: {}", report.phase, report.message));
    }
    counts.histories += ours.len() as u64;
    counts.fail_in_flux += failed.len();
    for (seed, error) in &failed {
        eprintln!("{seed} fails in Flux: {error}");
    }
    for (ours, theirs) in ours.iter().zip(&theirs).filter(|(ours, _)| !failed.contains_key(&ours.seed)) {
        for (ours_object, their_object) in ours.objects().iter().zip(&theirs.objects()) {
            counts.objects += 1;
            compare(bench, ours.seed, ours_object, their_object, counts).await;
        }
    }
}

/// Waits until each unit is ready, or says that it will not be: those.
async fn settled_units(
    bench: &Bench,
    histories: &[History],
    failed: &BTreeMap<u64, String>,
) -> Vec<(u64, UnitReport)> {
    let mut stuck = Vec::new();
    for history in histories.iter().filter(|history| !failed.contains_key(&history.seed)) {
        let name = format!("u{}", history.seed);
        let report = eventually(LIMIT, || async {
            let report = bench.report(&name).ok_or_else(|| format!("{name} is not reported"))?;
            let over = report.phase == Phase::Ready && report.applied == report.desired
                || report.phase == Phase::Failed;
            let left = report.desired == bench.desired(&name);
            if over && left { Ok(report) } else { Err(format!("{report:?}")) }
        })
        .await
        .unwrap_or_else(|error| panic!("{name}: {error}"));
        if report.phase == Phase::Failed {
            stuck.push((history.seed, report));
        }
    }
    stuck
}

async fn edit(bench: &Bench, edits: &[Edit]) {
    let client = bench.client();
    for Edit { manager, what } in edits {
        let result = match what {
            Change::Apply(object) => apply(&client, manager, object).await.map(drop),
            Change::Create(object) => {
                let reference = ObjectRef::of(object).unwrap();
                let (version, kind) = (&reference.api_version, &reference.kind);
                let api = api(&client, version, kind, reference.namespace.as_deref());
                let params = PostParams { field_manager: Some((*manager).into()), ..PostParams::default() };
                let object = serde_json::from_value(object.clone()).unwrap();
                api.create(&params, &object).await.map(drop).map_err(Into::into)
            }
            Change::Patch(object, patch) => {
                let reference = ObjectRef::of(object).unwrap();
                let (version, kind) = (&reference.api_version, &reference.kind);
                let api = api(&client, version, kind, reference.namespace.as_deref());
                let params = PatchParams { field_manager: Some((*manager).into()), ..PatchParams::default() };
                // An edit that is refused, or of an object that is not there, happens to neither.
                let _ = api.patch(&reference.name, &params, &Patch::Merge(patch)).await;
                Ok(())
            }
            Change::Delete(object) => ObjectRef::of(object).unwrap().delete(&client).await,
        };
        result.unwrap_or_else(|error| panic!("{manager} {what:?}: {error:#}"));
    }
}

async fn compare(bench: &Bench, seed: u64, ours: &Value, theirs: &Value, counts: &mut Counts) {
    let get = async |object: &Value| {
        let reference = ObjectRef::of(object).unwrap();
        // What is deleted in the background may take a moment.
        let found = eventually(LIMIT, || async {
            let found = reference.get(&bench.client()).await.map_err(|error| format!("{error:#}"))?;
            match found {
                Some(found) if found.metadata.deletion_timestamp.is_some() => {
                    Err("is being deleted".to_owned())
                }
                found => Ok(found),
            }
        });
        let found = found.await.unwrap_or_else(|error| panic!("{reference}: {error}"));
        found.map(|found| settled(&serde_json::to_value(found).unwrap()))
    };
    let right = get(theirs).await;
    // A unit is ready before what left it is pruned.
    let alike = eventually(PRUNED, || async {
        let left = get(ours).await;
        if left.is_some() == right.is_some() { Ok(left) } else { Err("not yet") }
    });
    let left = match alike.await {
        Ok(left) => left,
        Err(_) => get(ours).await,
    };
    let name = format!("{seed}: {} {}", ours["kind"], ours["metadata"]["name"]);
    match (left, right) {
        (Some(left), Some(right)) => {
            let mut found = Vec::new();
            differences(&left, &right, "", &Value::eq, &mut found);
            counts.differ.extend(found.into_iter().map(|line| format!("{name}{line}")));
        }
        (None, None) => {}
        (left, right) => counts.differ.push(format!(
            "{name} is {} here and {} with Flux",
            if left.is_some() { "there" } else { "gone" },
            if right.is_some() { "there" } else { "gone" }
        )),
    }
}

/// [`flotilla_tests::settled::settled`], with one name for the place of both.
fn settled(object: &Value) -> Value {
    let object: Value = serde_json::from_str(&object.to_string().replace(THEIRS, OURS)).unwrap();
    let uid = object["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
    let noted = ["deployment.kubernetes.io/revision", "deprecated.daemonset.template.generation"];
    let left = flotilla_tests::settled::settled(&object, &noted);
    serde_json::from_str(&left.to_string().replace(&uid, "UID")).unwrap()
}
