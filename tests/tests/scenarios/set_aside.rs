//! A unit that the hub dies over: whoever starts the hub again gets everything but that unit.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use flotilla_tests::fleet::{Fleet, SOON, errors};
use flotilla_tests::git::file;
use flotilla_tests::manifests::{app, config_map, unit_id};
use flotilla_tests::process::Recipe;
use flotilla_tests::wait::eventually;

use crate::{VALUE, config};

/// As many objects as take a build some time, and patches that look at each of them.
const OBJECTS: usize = 1500;
const PATCHES: usize = 20;
/// The kill comes from outside, so it may come too late.
const ATTEMPTS: usize = 10;

fn slow() -> [flotilla_tests::git::Change; 2] {
    let objects: String =
        (0..OBJECTS).map(|n| format!("---\n{}", config_map(&format!("slow-{n}"), "1"))).collect();
    let patch = |n: usize| {
        let operation = format!("[{{\"op\": \"add\", \"path\": \"/data/p{n}\", \"value\": \"x\"}}]");
        format!("  - {{target: {{kind: ConfigMap, name: slow-.*}}, patch: '{operation}'}}\n")
    };
    let patches: String = (0..PATCHES).map(patch).collect();
    let kustomization = format!("resources: [objects.yaml]\npatches:\n{patches}");
    [file("apps/slow/objects.yaml", objects), file("apps/slow/kustomization.yaml", kustomization)]
}

/// Whether the hub's marks name the unit, alone or not.
fn is_marked(data: &Path, alone: bool) -> bool {
    let marks = fs::read_dir(data.join("attempts")).into_iter().flatten().flatten();
    let mut marks = marks.filter(|entry| entry.file_name().to_string_lossy().starts_with("mark-"));
    marks.any(|entry| {
        let text = fs::read_to_string(entry.path()).unwrap_or_default();
        let line = text.lines().next().unwrap_or_default();
        line.contains("kustomization/flux-system/slow") && line.contains(&format!("\"alone\":{alone}"))
    })
}

/// Kills the hub while it works on the unit; false where it was quicker.
async fn killed_over_it(fleet: &mut Fleet, alone: bool) -> Result<bool> {
    let data = fleet.data().to_owned();
    let seen = tokio::task::spawn_blocking(move || {
        let end = std::time::Instant::now() + SOON;
        while !is_marked(&data, alone) {
            if std::time::Instant::now() > end {
                return false;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        true
    });
    ensure!(seen.await?, "the hub does not work on it");
    fleet.hub().process().kill();
    Ok(is_marked(fleet.data(), alone))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_unit_that_kills_the_hub_is_set_aside_at_the_next_start() {
    let begin = [
        app("one", "slow", &[]),
        file("apps/slow/objects.yaml", config_map("slow-0", "0")),
        app("one", "good", &[]),
        file("apps/good/good.yaml", config_map("good", "1")),
    ];
    let mut fleet = Fleet::start(["one"], &begin).await.unwrap();
    fleet.in_sync(&["one"]).await.unwrap();
    let runs = fleet.appears("one", &config("slow-0")).await.unwrap();

    let mut changes = slow().to_vec();
    changes.push(file("apps/good/good.yaml", config_map("good", "2")));
    fleet.repo().commit("Something that kills", &changes).unwrap();
    let told = Recipe::own("flotilla").unwrap().arg("--data").arg(fleet.data()).arg("reconcile");
    let told = tokio::spawn(async move { told.output(SOON).await });
    let mut is_killed = false;
    for _ in 0..ATTEMPTS {
        is_killed = killed_over_it(&mut fleet, false).await.unwrap();
        if is_killed {
            break;
        }
        // It reads the newest commit at its start.
        fleet.hub().process().start().unwrap();
    }
    assert!(is_killed, "the build is too quick to be killed");
    drop(told.await);

    // Suspected: built once more, with nothing beside it, and set aside when the hub dies again.
    fleet.hub().process().start().unwrap();
    assert!(killed_over_it(&mut fleet, true).await.unwrap(), "the build is too quick to be killed");
    fleet.hub().restart().await.unwrap();
    fleet.field_becomes("one", &config("good"), VALUE, "2").await.unwrap();
    let held = fleet
        .unit_becomes("one", &unit_id("slow"), |unit| {
            let is_said =
                errors(unit).iter().any(|problem| problem.contains("set aside: the hub died twice"));
            if is_said { Ok(()) } else { Err(format!("{:?}", unit.problems)) }
        })
        .await
        .unwrap();
    assert_eq!(held.phase, "Held");
    assert_eq!(fleet.uid("one", &config("slow-0")).await.unwrap(), Some(runs));

    // Commits go on, and leave it as it is.
    fleet.commit("Something else", &[file("apps/good/good.yaml", config_map("good", "3"))]).await.unwrap();
    fleet.field_becomes("one", &config("good"), VALUE, "3").await.unwrap();
    assert_eq!(fleet.units("one").await.unwrap()[&unit_id("slow")].phase, "Held");

    // A person asks for another attempt, which nobody kills.
    let _ = fleet.cli_output(&["reconcile", "one", &unit_id("slow")]).await.unwrap();
    eventually(SOON, || async {
        let units = fleet.units("one").await?;
        let problems = errors(&units[&unit_id("slow")]);
        ensure!(problems.is_empty(), "{problems:?}");
        anyhow::Ok(())
    })
    .await
    .unwrap();
}
