//! Approvals: what a guard keeps stays until a person with the right lets exactly that go.

use anyhow::ensure;
use flotilla_tests::ClusterOptions;
use flotilla_tests::fleet::{Fleet, SOON};
use flotilla_tests::git::{file, remove};
use flotilla_tests::manifests::{app, config_map, namespace, unit_id};
use flotilla_tests::objects::{ObjectRef, apply};
use flotilla_tests::wait::{always, eventually};
use serde_json::json;

use crate::{WHILE, config};

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

    fleet.cli(&["approve", "one", &kept.approval]).await.unwrap();
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
