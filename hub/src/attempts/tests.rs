//! Processes that die over an input, and what those after them do.

use std::path::Path;
use std::process::{Command, Output};

use flotilla_core::{Digest, UnitId};

use super::{FOLDER, MARK};
use crate::fleet::fake::{FakeHub, FakeRepo, Fault, config_map, unit};

/// Where the hub of a child keeps its marks; what kills it, and what it does.
const DATA: &str = "FLOTILLA_TEST_DATA";
const DEADLY: &str = "FLOTILLA_TEST_DEADLY";
const CONTENT: &str = "FLOTILLA_TEST_CONTENT";
const RETRY: &str = "FLOTILLA_TEST_RETRY";

/// The hub that dies: one round over a fleet of two clusters.
#[tokio::test]
#[ignore = "is started by the tests below"]
async fn child() {
    let var = |name: &str| std::env::var(name).unwrap_or_default();
    let repo = FakeRepo::default();
    repo.commit(&[
        ("clusters/one/bad.yaml", &unit("bad", "bad")),
        ("clusters/one/beside.yaml", &unit("beside", "good")),
        ("clusters/two/good.yaml", &unit("good", "good")),
        ("clusters/two/same.yaml", &unit("bad", "bad")),
        ("bad/kustomization.yaml", "resources: [../base]\n"),
        ("base/kustomization.yaml", "resources: [a.yaml]\n"),
        ("base/a.yaml", &config_map(&format!("a{}", var(CONTENT)))),
        ("good/a.yaml", &config_map("b")),
    ]);
    let mut hub = FakeHub::new(repo);
    hub.data = var(DATA).into();
    if !var(DEADLY).is_empty() {
        hub.repo.files.set(&var(DEADLY), Fault::Aborts);
    }
    let mut worker = hub.worker();
    let mut view = worker.fetch_and_round();
    if !var(RETRY).is_empty() {
        let one = "one".parse().unwrap();
        assert!(
            worker.attempts().retry(Some(&one), Some(&UnitId::kustomization("flux-system", "bad"))).unwrap()
        );
        view = worker.round();
    }
    for cluster in ["one", "two"] {
        println!("{cluster}: {}", hub.shown(cluster));
    }
    for problem in &view.problems {
        println!("fleet: {problem}");
    }
    for (cluster, facts) in &view.clusters {
        let of_units = facts.units.iter().flat_map(|(id, unit)| unit.problems.iter().map(move |it| (id, it)));
        for (id, problem) in of_units {
            println!("{cluster} {id}: {problem}");
        }
        for problem in &facts.problems {
            println!("{cluster}: {problem}");
        }
    }
    worker.attempts().close();
}

/// The hub that dies over what a source sent: it decodes two archives, as often as it is asked.
#[test]
#[ignore = "is started by the tests below"]
fn child_that_decodes() {
    let var = |name: &str| std::env::var(name).unwrap_or_default();
    let attempts = super::Attempts::open(Path::new(&var(DATA))).unwrap();
    let decode = |content: &str| {
        let mut work = || {
            if content == var(DEADLY) {
                std::process::abort();
            }
            println!("{content}: decoded");
        };
        let done = attempts.decode("oci://example.com/app", Digest::of(content.as_bytes()), &mut work);
        done.unwrap_or_else(|reason| println!("{content}: {reason}"));
    };
    if !var(RETRY).is_empty() {
        decode("bad");
        assert!(attempts.retry(None, None).unwrap());
    }
    decode("bad");
    decode("good");
    attempts.close();
}

fn run(data: &Path, env: &[(&str, &str)]) -> Output {
    run_as("child", data, env)
}

fn run_as(test: &str, data: &Path, env: &[(&str, &str)]) -> Output {
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args([&format!("attempts::tests::{test}"), "--exact", "--ignored", "--nocapture"]);
    child.env(DATA, data).envs(env.iter().copied()).output().unwrap()
}

fn dies(data: &Path, env: &[(&str, &str)]) {
    let output = run(data, env);
    assert!(!output.status.success(), "it lived: {}", said(&output));
    assert_eq!(output.status.code(), None, "it ended by itself: {}", String::from_utf8_lossy(&output.stderr));
}

fn lives(data: &Path, env: &[(&str, &str)]) -> String {
    let output = run(data, env);
    assert!(output.status.success(), "{}{}", said(&output), String::from_utf8_lossy(&output.stderr));
    let left = std::fs::read_dir(data.join(FOLDER)).unwrap();
    let left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().starts_with(MARK)), "{left:?}");
    said(&output)
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

const ALL: [&str; 2] = ["one: root 0, bad 1, beside 1", "two: root 0, bad 1, good 1"];
const OTHERS: [&str; 2] = ["one: root 0, bad held, beside 1", "two: root 0, bad held, good 1"];

#[track_caller]
fn holds(said: &str, lines: &[&str]) {
    for line in lines {
        assert!(said.contains(line), "{line:?} is not in {said}");
    }
}

#[test]
fn a_unit_that_the_hub_dies_over_is_set_aside_and_everything_else_is_served() {
    let data = tempfile::tempdir().unwrap();
    let deadly = (DEADLY, "base/a.yaml");
    dies(data.path(), &[deadly]);
    dies(data.path(), &[deadly]);
    let said = lives(data.path(), &[deadly]);
    holds(&said, &OTHERS);
    // Wherever the same is built it is set aside.
    holds(
        &said,
        &[
            "one kustomization/flux-system/bad: bad: set aside: the hub died twice",
            "`flotilla reconcile one kustomization/flux-system/bad`",
        ],
    );
    holds(&said, &["two kustomization/flux-system/bad: bad: set aside"]);
    // For good, as long as it is the same.
    holds(&lives(data.path(), &[]), &OTHERS);
    // A file that it read is another one: it is built again, though it is not of its own folder.
    holds(&lives(data.path(), &[(CONTENT, "2")]), &ALL);
    // Going back is going back to what kills.
    holds(&lives(data.path(), &[]), &OTHERS);
    // A person asks: one attempt.
    dies(data.path(), &[deadly, (RETRY, "yes")]);
    holds(&lives(data.path(), &[deadly]), &OTHERS);
    holds(&lives(data.path(), &[(RETRY, "yes")]), &ALL);
    holds(&lives(data.path(), &[]), &ALL);
}

#[test]
fn what_a_source_sent_is_set_aside_where_the_hub_dies_over_it_twice() {
    let data = tempfile::tempdir().unwrap();
    let said = |env: &[(&str, &str)]| said(&run_as("child_that_decodes", data.path(), env));
    let deadly = (DEADLY, "bad");
    for _ in 0..2 {
        let output = run_as("child_that_decodes", data.path(), &[deadly]);
        assert_eq!(output.status.code(), None, "{output:?}");
    }
    let third = said(&[deadly]);
    holds(&third, &["bad: set aside: the hub died twice", "`flotilla reconcile`", "good: decoded"]);
    // A person asks for another attempt, and it is well.
    holds(&said(&[(RETRY, "yes")]), &["bad: decoded", "good: decoded"]);
    holds(&said(&[]), &["bad: decoded"]);
}

#[test]
fn a_process_that_is_killed_from_outside_leaves_suspicions_only() {
    let data = tempfile::tempdir().unwrap();
    let deadly = (DEADLY, "base/a.yaml");
    for _ in 0..3 {
        // What killed it once is well the next time: a kill, a power cut, a machine without memory.
        dies(data.path(), &[deadly]);
        holds(&lives(data.path(), &[]), &ALL);
    }
}

#[test]
fn definitions_that_the_hub_dies_over_keep_what_runs_until_they_change() {
    let data = tempfile::tempdir().unwrap();
    // Before any unit: what is looked for there is who the clusters are.
    let deadly = (DEADLY, "clusters");
    dies(data.path(), &[deadly]);
    dies(data.path(), &[deadly]);
    let said = lives(data.path(), &[deadly]);
    holds(
        &said,
        &["one: nothing", "two: nothing", "fleet: ", "the definitions of the clusters are set aside"],
    );
    // A change of something else is none of them.
    holds(&lives(data.path(), &[(CONTENT, "2")]), &["one: nothing"]);
}

#[test]
fn marks_that_cannot_be_read_set_nothing_aside() {
    let data = tempfile::tempdir().unwrap();
    let folder = data.path().join(FOLDER);
    std::fs::create_dir(&folder).unwrap();
    for (name, text) in [("mark-0", &b"{\"version\":"[..]), ("mark-1", b"\xff\n"), ("inputs.json", b"[]")] {
        std::fs::write(folder.join(name), text).unwrap();
    }
    holds(&lives(data.path(), &[]), &ALL);
}
