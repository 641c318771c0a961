//! Approvals: what a guard keeps stays until a person with the right lets exactly that go.

use anyhow::ensure;
use flotilla_tests::ClusterOptions;
use flotilla_tests::fleet::{Fleet, SOON};
use flotilla_tests::git::{Change, file, remove};
use flotilla_tests::manifests::{app, config_map, namespace, unit_id};
use flotilla_tests::objects::{ObjectRef, apply};
use flotilla_tests::proxy::Fault;
use flotilla_tests::wait::{always, eventually};
use http::{Method, StatusCode};
use serde_json::json;

use crate::{VALUE, WHILE, config};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_guard_keeps_goes_by_an_approval_of_exactly_that() {
    let team = ObjectRef::global("v1", "Namespace", "team");
    let files = [
        app("one", "team", &[]),
        file("apps/team/config.yaml", config_map("stays", "1")),
        file("apps/team/namespace.yaml", namespace("team")),
    ];
    let fleet = Fleet::start_with(["one"], &files, &ClusterOptions::default()).await.unwrap();
    fleet.in_sync(&["one"]).await.unwrap();
    // Somebody else's object lives in the namespace.
    let foreign = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "foreign", "namespace": "team"}});
    apply(&fleet.client("one"), "somebody", &foreign).await.unwrap();

    fleet.commit("Remove the namespace", &[remove("apps/team/namespace.yaml")]).await.unwrap();
    let unit = unit_id("team");
    let kept = eventually(SOON, || async {
        let units = fleet.units("one").await?;
        let kept = units[&unit].kept.clone();
        ensure!(kept.len() == 1, "kept: {kept:?}");
        anyhow::Ok(kept[0].clone())
    })
    .await
    .unwrap();
    assert!(kept.object.name == "team" && kept.why.contains("foreign"), "{kept:?}");
    let status = fleet.cli(&["status", "one"]).await.unwrap();
    let command = format!("flotilla approve one {}", kept.approval);
    assert!(status.contains(&command), "the way on is not shown:\n{status}");

    // Neither a token without the right nor another digest lets it go.
    let ann = fleet.cli(&["token", "create", "ann", "--role", "operate"]).await.unwrap();
    let other = "0".repeat(kept.approval.len());
    for (args, expected) in [
        (["--token", ann.trim(), "approve", "one", &kept.approval].as_slice(), "needs approve"),
        (&["approve", "one", &other], "asks for the approval"),
        (&["approve", "one", "no-digest"], "digest"),
    ] {
        let refused = fleet.cli_output(args).await.unwrap();
        let said = String::from_utf8_lossy(&refused.stderr);
        assert!(!refused.status.success() && said.contains(expected), "{args:?}: {said}");
    }
    always(WHILE, || async {
        ensure!(fleet.uid("one", &team).await?.is_some(), "the namespace went without an approval");
        anyhow::Ok(())
    })
    .await
    .unwrap();

    fleet.cli(&["approve", "one", &kept.approval[..12]]).await.unwrap();
    fleet.vanishes("one", &team).await.unwrap();
    fleet.in_sync(&["one"]).await.unwrap();
    eventually(SOON, || async {
        let kept = fleet.units("one").await?[&unit].kept.clone();
        ensure!(kept.is_empty(), "still kept: {kept:?}");
        anyhow::Ok(())
    })
    .await
    .unwrap();
    fleet.appears("one", &config("stays")).await.unwrap();
    let events = fleet.cli(&["get", "events"]).await.unwrap();
    assert!(events.contains("approve"), "the audit does not show who approved:\n{events}");
}

/// A commit's number in an object that stays, so that its apply can be seen; files that it adds or removes beside.
fn round(number: u32, changes: impl Iterator<Item = Change>) -> Vec<Change> {
    let round = file("apps/app/round.yaml", config_map("round", &number.to_string()));
    changes.chain([round]).collect()
}

fn made(name: &str) -> Change {
    file(&format!("apps/app/{name}.yaml"), config_map(name, "1"))
}

fn gone(name: &str) -> Change {
    remove(&format!("apps/app/{name}.yaml"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_left_in_small_changes_goes_though_it_piled_up_and_one_large_change_waits() {
    let name = |number: u32| format!("c-{number}");
    let files: Vec<Change> = [app("one", "app", &[])]
        .into_iter()
        .chain(round(0, (0..30).map(|number| made(&name(number)))))
        .collect();
    let mut fleet = Fleet::start(["one"], &files).await.unwrap();
    fleet.in_sync(&["one"]).await.unwrap();
    let unit = unit_id("app");

    // Of 31 objects 12, of 19 nine, of 10 five: 26 of 31 have left when the API server deletes again.
    fleet.member("one").proxy().fail(Fault {
        method: Some(Method::DELETE),
        path: "/configmaps/c-".into(),
        status: StatusCode::INTERNAL_SERVER_ERROR,
        times: None,
    });
    for (number, left) in [(1, 0..12), (2, 12..21), (3, 21..26)] {
        let last = name(left.end - 1);
        let changes = round(number, left.map(|number| gone(&name(number))));
        fleet.commit(&number.to_string(), &changes).await.unwrap();
        fleet.field_becomes("one", &config("round"), VALUE, number.to_string()).await.unwrap();
        let tried = |unit: &flotilla_api::Unit| {
            if unit.findings.iter().any(|finding| finding.object.name == last) && unit.kept.is_empty() {
                Ok(())
            } else {
                Err(format!("the deletion of {last} did not fail; kept: {:?}", unit.kept))
            }
        };
        fleet.unit_becomes("one", &unit, tried).await.unwrap();
        if number == 2 {
            fleet.member("one").agent().restart().unwrap();
            fleet.connected("one").await.unwrap();
        }
    }
    fleet.member("one").proxy().heal();
    for number in 0..26 {
        fleet.vanishes("one", &config(&name(number))).await.unwrap();
    }
    fleet.in_sync(&["one"]).await.unwrap();
    let events = fleet.cli(&["get", "events"]).await.unwrap();
    assert!(!events.contains("Kept"), "{events}");

    // Ten of fifteen in one commit wait, and what leaves after them does not.
    let name = |number: u32| format!("d-{number}");
    fleet.commit("More", &round(4, (0..10).map(|number| made(&name(number))))).await.unwrap();
    fleet.appears("one", &config("d-9")).await.unwrap();
    fleet.in_sync(&["one"]).await.unwrap();
    fleet.commit("Most", &round(5, (0..10).map(|number| gone(&name(number))))).await.unwrap();
    let waits = |unit: &flotilla_api::Unit| {
        let all = unit.kept.iter().filter(|kept| kept.why.contains("10 of the unit's 15 objects would go"));
        if all.count() == 10 { Ok(()) } else { Err(format!("kept: {:?}", unit.kept)) }
    };
    fleet.unit_becomes("one", &unit, waits).await.unwrap();
    fleet.commit("One more", &round(6, [gone("c-26")].into_iter())).await.unwrap();
    fleet.vanishes("one", &config("c-26")).await.unwrap();
    let waiting = fleet.unit_becomes("one", &unit, waits).await.unwrap();
    for number in 0..10 {
        assert!(fleet.uid("one", &config(&name(number))).await.unwrap().is_some(), "{}", name(number));
    }
    fleet.cli(&["approve", "one", &waiting.kept[0].approval]).await.unwrap();
    for number in 0..10 {
        fleet.vanishes("one", &config(&name(number))).await.unwrap();
    }
    fleet.in_sync(&["one"]).await.unwrap();
}
