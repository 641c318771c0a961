//! An agent's disk that is full, read-only, or remembers that everything was removed: the cluster is kept right.

use std::time::Duration;

use anyhow::ensure;
use flotilla_tests::fleet::{Fleet, SOON};
use flotilla_tests::git::{Change, file};
use flotilla_tests::limits::{limit_files, read_only, survives_limits, writable};
use flotilla_tests::manifests::{app, config_map, unit_id};
use flotilla_tests::objects::{apply, resource_versions};
use flotilla_tests::process::Recipe;
use flotilla_tests::wait::{always, eventually};
use http::Method;
use serde_json::json;

use crate::{VALUE, WHILE, config};

/// Longer than everything else that an agent of this size writes into one file.
const LARGE: usize = 300 << 10;

fn files(value: &str) -> Vec<Change> {
    vec![
        app("one", "app", &[]),
        file("apps/app/app.yaml", config_map("app", value)),
        file("apps/app/large.yaml", config_map("large", &value.repeat(LARGE / value.len()))),
    ]
}

async fn says(fleet: &Fleet, what: &str, wanted: bool) {
    let told = eventually(SOON, || async {
        let problems = fleet.cluster("one").await?.agent_problems;
        let says = problems.iter().any(|problem| problem.contains(what));
        ensure!(says == wanted, "{what:?}: {problems:?}");
        anyhow::Ok(())
    });
    told.await.unwrap();
}

/// What is changed in the cluster is put back.
async fn corrects(fleet: &Fleet, value: &str) {
    let client = fleet.client("one");
    let uid = fleet.appears("one", &config("app")).await.unwrap();
    config("app").delete(&client).await.unwrap();
    fleet.appears_anew("one", &config("app"), &uid).await.unwrap();
    config("app").edit(&client, json!({"data": {"value": "by hand"}})).await.unwrap();
    fleet.field_becomes("one", &config("app"), VALUE, value).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_holds_up_nothing_and_takes_the_state_when_there_is_room() {
    let mut fleet = Fleet::start(["one"], &files("1")).await.unwrap();
    fleet.in_sync(&["one"]).await.unwrap();
    let process = fleet.member("one").agent().process();
    process.kill();
    process.change(survives_limits);
    process.start().unwrap();
    fleet.in_sync(&["one"]).await.unwrap();
    limit_files(fleet.member("one").agent().process(), Some(LARGE as u64)).unwrap();

    fleet.commit("2", &files("2")).await.unwrap();
    fleet.field_becomes("one", &config("app"), VALUE, "2").await.unwrap();
    fleet.in_sync(&["one"]).await.unwrap();
    says(&fleet, "a restart goes back to the last one", true).await;
    corrects(&fleet, "2").await;

    // Now it is written, without another commit.
    limit_files(fleet.member("one").agent().process(), None).unwrap();
    says(&fleet, "a restart goes back to the last one", false).await;
    fleet.hub().process().kill();
    fleet.member("one").agent().process().kill();
    config("large").delete(&fleet.client("one")).await.unwrap();
    fleet.member("one").agent().process().start().unwrap();
    fleet.field_becomes("one", &config("large"), VALUE, "2".repeat(LARGE)).await.unwrap();
    corrects(&fleet, "2").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_only_disk_holds_up_nothing_and_is_told() {
    let mut fleet = Fleet::start(["one"], &files("1")).await.unwrap();
    fleet.in_sync(&["one"]).await.unwrap();
    let state = fleet.agent_folder("one");
    let agent = fleet.member("one").agent().process();
    agent.kill();
    let mut before: Option<Recipe> = None;
    agent.change(|recipe| {
        before = Some(recipe.clone());
        read_only(recipe, &state).unwrap()
    });
    agent.start().unwrap();
    says(&fleet, "cannot", true).await;
    corrects(&fleet, "1").await;
    fleet.commit("2", &files("2")).await.unwrap();
    fleet.field_becomes("one", &config("app"), VALUE, "2").await.unwrap();
    says(&fleet, "a restart goes back to the last one", true).await;
    corrects(&fleet, "2").await;

    let agent = fleet.member("one").agent().process();
    agent.kill();
    agent.change(|_| before.unwrap());
    writable(&state).unwrap();
    agent.start().unwrap();
    fleet.in_sync(&["one"]).await.unwrap();
    says(&fleet, "cannot", false).await;
    corrects(&fleet, "2").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_removed_on_request_stays_away_whoever_is_restarted() {
    let files = [
        app("one", "app", &[]),
        file("apps/app/app.yaml", config_map("app", "1")),
        app("one", "slow", &[]),
        file("apps/slow/slow.yaml", config_map("slow", "1")),
    ];
    let mut fleet = Fleet::start(["one"], &files).await.unwrap();
    fleet.in_sync(&["one"]).await.unwrap();
    let client = fleet.client("one");
    let slow = json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "slow", "namespace": "default", "finalizers": ["test.flotilla.dev/slow"]},
    });
    apply(&client, "tester", &slow).await.unwrap();

    // Somebody asks for it and does not wait for the end, so the cluster is not deleted at the hub.
    let delete = ["cluster", "delete", "one", "--prune", "--confirm", "one"];
    let cli = Recipe::own("flotilla").unwrap().arg("--data").arg(fleet.data()).args(delete);
    let (asked, gone) =
        futures::future::join(cli.output(Duration::from_secs(8)), fleet.vanishes("one", &config("app")))
            .await;
    gone.unwrap();
    assert!(asked.is_err(), "it waits for what is slow: {asked:?}");

    for restart in ["agent", "hub", "nobody"] {
        match restart {
            "agent" => fleet.member("one").agent().restart().unwrap(),
            "hub" => {
                fleet.hub().process().kill();
                fleet.hub().restart().await.unwrap();
            }
            _ => drop(
                fleet
                    .commit("Another", &[file("apps/app/other.yaml", config_map("other", "1"))])
                    .await
                    .unwrap(),
            ),
        }
        fleet.connected("one").await.unwrap();
        always(WHILE, || async {
            for name in ["app", "other"] {
                ensure!(config(name).get(&client).await?.is_none(), "{name} is back after: {restart}");
            }
            anyhow::Ok(())
        })
        .await
        .unwrap();
    }
    // A restart went on with the removal.
    config("slow").edit(&client, json!({"metadata": {"finalizers": null}})).await.unwrap();
    fleet.vanishes("one", &config("slow")).await.unwrap();
    fleet.cli(&delete).await.unwrap();

    // Who joins anew takes it up again.
    let token = fleet.join_token("one", &[]).await.unwrap();
    fleet.member("one").agent().rejoin(&token).unwrap();
    fleet.in_sync(&["one"]).await.unwrap();
    fleet.appears("one", &config("app")).await.unwrap();
    fleet.phase_becomes("one", &unit_id("slow"), "Ready").await.unwrap();
}

/// The files of the agent's state that begin with a line `flotilla KIND 1`.
const KINDS: [&str; 3] = ["desired", "bodies", "memory"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_state_that_a_newer_agent_wrote_is_set_aside_whole_and_nothing_is_deleted() {
    let mut fleet = Fleet::start(["one"], &files("1")).await.unwrap();
    fleet.in_sync(&["one"]).await.unwrap();
    let (client, state) = (fleet.client("one"), fleet.agent_folder("one"));
    let objects = [config("app"), config("large")];
    let before = resource_versions(&client, &objects).await.unwrap();
    fleet.hub().process().kill();
    fleet.member("one").agent().process().kill();
    drop(fleet.member("one").proxy().take_seen());

    // The identity is not set aside: without it the agent would need a token. It says what to do and ends.
    let enrolment = state.join("enrolment.json");
    let text = std::fs::read_to_string(&enrolment).unwrap();
    let newer = text.replace("\"version\": 1", "\"version\": 2");
    assert_ne!(newer, text);
    std::fs::write(&enrolment, &newer).unwrap();
    let agent = fleet.member("one").agent();
    agent.process().start().unwrap();
    eventually(SOON, || async {
        let log = agent.log()?;
        ensure!(log.contains("written by a newer version") && log.contains("upgrade the agent"), "{log}");
        anyhow::Ok(())
    })
    .await
    .unwrap();
    fleet.member("one").agent().process().kill();
    assert_eq!(std::fs::read_to_string(&enrolment).unwrap(), newer);
    std::fs::write(&enrolment, text).unwrap();

    let mut written = Vec::new();
    for kind in KINDS {
        let mut bytes = std::fs::read(state.join(kind)).unwrap();
        let version = format!("flotilla {kind} ").len();
        assert!(bytes[version].is_ascii_digit(), "{kind}");
        bytes[version] += 1;
        std::fs::write(state.join(kind), &bytes).unwrap();
        written.push((kind, bytes));
    }
    // Without the hub nobody knows what should run, so all stays as it is.
    fleet.member("one").agent().process().start().unwrap();
    eventually(SOON, || async {
        for (kind, bytes) in &written {
            let aside = std::fs::read(state.join(format!("{kind}.unreadable")))?;
            ensure!(aside == *bytes, "{kind} was changed");
        }
        anyhow::Ok(())
    })
    .await
    .unwrap();
    always(WHILE, || async {
        ensure!(resource_versions(&client, &objects).await? == before, "somebody wrote");
        anyhow::Ok(())
    })
    .await
    .unwrap();

    // The hub says it again, and it goes on where it was: what is the same is not even written.
    fleet.hub().restart().await.unwrap();
    fleet.in_sync(&["one"]).await.unwrap();
    corrects(&fleet, "1").await;
    assert_eq!(
        resource_versions(&client, &objects[1..]).await.unwrap(),
        before.into_iter().filter(|(object, _)| object.name == "large").collect()
    );
    fleet.commit("2", &files("2")).await.unwrap();
    fleet.field_becomes("one", &config("app"), VALUE, "2").await.unwrap();
    let seen = fleet.member("one").proxy().take_seen();
    let deleted: Vec<_> = seen.iter().filter(|seen| seen.method == Method::DELETE).collect();
    assert!(deleted.is_empty(), "{deleted:?}");
    for kind in KINDS {
        let text = std::fs::read(state.join(kind)).unwrap();
        let format = if kind == "memory" { 1 } else { 2 };
        assert!(text.starts_with(format!("flotilla {kind} {format}\n").as_bytes()), "{kind}");
    }
}
